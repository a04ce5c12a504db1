"""Byte-level BPE next to Hugging Face tokenizers and tiktoken: training on a megabyte, encoding, near-duplicates.

Training: 4,000 merges of one megabyte, cutting into pieces included, all merges asserted equal; recounting every merge
is timed on a few merges and scaled up, since it would take many minutes. Encoding: GPT-2's tokenizer on a megabyte that
it has not seen, its cache empty.
"""

import json
import statistics
import time

import tiktoken
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from lmcore import data
from lmcore.text.bpe import ByteLevelBPE
from lmcore.text.bpe_training import count_pieces, learn, learn_by_recounting, learn_compiled
from lmcore.text.minhash import near_groups
from lmcore.text.pretokenize import to_bytes

MERGES, ROUNDS, FEW = 4000, 5, 10
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def timed(function):
    """Call a function; return its result and the seconds it took."""
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def megabyte(name):
    """Texts of a corpus, about a million characters."""
    texts, size = [], 0
    for record in data.load(name):
        texts.append(record.text + "\n")
        size += len(texts[-1])
        if size > 1_000_000:
            return texts


def hugging_face(texts):
    """Merges as the Rust trainer learns them."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=256 + MERGES, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]


def training():
    """Print seconds and ratios for two texts."""
    learn_compiled({"warm": 1, "up": 1}, 1)
    for name in ("encyclopedia", "king-james"):
        texts = megabyte(name)
        kinds = {
            "Hugging Face tokenizers": lambda texts=texts: hugging_face(texts),
            "incremental, readable": lambda texts=texts: learn(count_pieces(texts), MERGES),
            "incremental, compiled": lambda texts=texts: learn_compiled(count_pieces(texts), MERGES),
        }
        runs = [{kind: timed(function) for kind, function in kinds.items()} for _ in range(ROUNDS)]
        expected = runs[0]["Hugging Face tokenizers"][0]
        assert all(result == expected for run in runs for result, _ in run.values())
        seconds = {kind: statistics.median(run[kind][1] for run in runs) for kind in kinds}
        counts = count_pieces(texts)
        few, spent = timed(lambda counts=counts: learn_by_recounting(counts, FEW))
        assert few == expected[:FEW]
        seconds["recounting every merge"] = spent / FEW * MERGES
        print(f"training on {name}, {len(counts):,} different pieces, {MERGES:,} equal merges")
        for kind, spent in seconds.items():
            ratio = seconds["Hugging Face tokenizers"] / spent
            print(f"    {kind:26} {spent:8.2f} s   {ratio:8.3f} × Hugging Face's speed")


def encoding():
    """Print the speed of GPT-2's tokenizer in three libraries."""
    with data.open_member("gpt2-tokenizer", "vocab.bpe") as file:
        merges = [tuple(line.split(" ")) for line in file.read().decode("utf-8").split("\n")[1:] if line]
    with data.open_member("gpt2-tokenizer", "encoder.json") as file:
        ids = json.load(file)
    tokens = sorted(ids, key=ids.get)
    ranks = {to_bytes(token): number for token, number in ids.items() if token != "<|endoftext|>"}
    openai = tiktoken.Encoding("gpt2", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    ours = ByteLevelBPE(merges, specials=["<|endoftext|>"], tokens=tokens)
    theirs = tokenizers.Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for name in ("encyclopedia", "chinese-reviews"):
        texts = megabyte(name)
        size = len("".join(texts).encode())
        rounds = []
        for _ in range(ROUNDS):
            ours._cache.clear()
            theirs.model.clear_cache() if hasattr(theirs.model, "clear_cache") else None
            rounds.append(
                {
                    "ours": timed(lambda texts=texts: [ours.encode(text) for text in texts]),
                    "tiktoken": timed(lambda texts=texts: [openai.encode_ordinary(text) for text in texts]),
                    "Hugging Face": timed(lambda texts=texts: [theirs.encode(text).ids for text in texts]),
                    "Hugging Face, batch": timed(lambda texts=texts: [e.ids for e in theirs.encode_batch(texts)]),
                }
            )
        assert all(result == rounds[0]["tiktoken"][0] for run in rounds for result, _ in run.values())
        print(f"encoding {name} with GPT-2's tokenizer, equal ids")
        median = {kind: statistics.median(run[kind][1] for run in rounds) for kind in rounds[0]}
        for kind, spent in median.items():
            print(f"    {kind:26} {size / spent / 1e6:8.2f} MB/s   {spent / median['ours']:8.2f} × our time")


def near_duplicates():
    """Print the time for all corpora together."""
    names = ("king-james", "world-english", "chinese-reviews", "peoples-daily")
    texts = [record.text for name in names for record in data.load(name)]
    texts += [line for article in data.load("encyclopedia") for line in article.text.split("\n")]
    near_groups(texts[:10], compiled=True)
    groups, spent = timed(lambda: near_groups(texts, compiled=True))
    print(f"near-duplicates among {len(texts):,} texts of {sum(map(len, texts)):,} characters: {spent:.1f} s,")
    print(f"    {len(set(groups)):,} groups")


def main():
    """Run the three parts."""
    training()
    encoding()
    near_duplicates()


if __name__ == "__main__":
    main()
