"""Sentence vectors of MiniLM: 2,000 sentences of an encyclopedia, against Hugging Face and sentence-transformers.

There are two baselines, and they are far apart. Hugging Face's `BertModel` over batches of 32 in the order of the file
pads each batch to its longest sentence. `SentenceTransformer.encode` sorts first, and pads little. Both run in float32
and include their tokenizers, as ours does. Everything is timed alternately; the ratios are of the medians, and of the
best times behind them.
"""

import logging
import random
import statistics
import tempfile
import time

import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

from lmcore import data
from lmcore.models.bert import BERT, BERTConfig
from lmcore.models.bert_weights import from_bert
from lmcore.models.loading import load_weights
from lmcore.models.sentence_encoder import SentenceEncoder, has_bfloat16
from lmcore.text.sentences import split_sentences
from lmcore.text.wordpiece import WordPiece

SENTENCES, ROUNDS, BATCH = 2000, 3, 32


def sentences(count):
    """Sentences of at least three words, drawn from all articles."""
    lines = [line for article in data.load("encyclopedia") for line in article.text.split("\n")]
    found = [s for line in lines for s in split_sentences(line) if len(s.split()) >= 3]
    return random.Random(0).sample(found, count)


def ours():
    """MiniLM in our BERT, and its tokenizer."""
    sizes = {"vocabulary_size": 30_522, "d_model": 384, "layers": 6, "heads": 12, "d_ff": 1536}
    model = BERT(BERTConfig.standard(**sizes), device="meta").eval()
    load_weights(model, from_bert(load_file(data.member_path("minilm", "model.safetensors"))))
    return model, WordPiece.from_vocab_file(data.member_path("minilm", "vocab.txt"))


def theirs():
    """The same in Hugging Face's BertModel, and its tokenizer."""
    config = transformers.BertConfig(
        vocab_size=30_522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    model = transformers.BertModel(config).eval()
    model.load_state_dict(load_file(data.member_path("minilm", "model.safetensors")), strict=False)
    return model, transformers.BertTokenizer(str(data.member_path("minilm", "vocab.txt")))


def sentence_transformer(model, tokenizer):
    """The same as a SentenceTransformer: the model, the mean over tokens, length 1."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        modules = [Transformer(folder), Pooling(model.config.hidden_size, "mean"), Normalize()]
        return SentenceTransformer(modules=modules, device="cpu")


@torch.inference_mode()
def in_file_order(model, tokenizer, texts):
    """Batches in the order of the texts, each padded to its longest."""
    vectors = []
    for start in range(0, len(texts), BATCH):
        batch = tokenizer(texts[start : start + BATCH], padding=True, return_tensors="pt")
        hidden, real = model(**batch).last_hidden_state, batch["attention_mask"][..., None]
        vectors.append(torch.nn.functional.normalize((hidden * real).sum(1) / real.sum(1), dim=1))
    return torch.cat(vectors).numpy()


def main():
    """Print sentences per second (best and median), our speed as multiples of the baselines', and the agreement."""
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    texts, mine, peer = sentences(SENTENCES), ours(), theirs()
    st = sentence_transformer(*peer)
    work = {
        "Hugging Face, file order": lambda: in_file_order(*peer, texts),
        "SentenceTransformer.encode": lambda: st.encode(texts, batch_size=BATCH, show_progress_bar=False),
        "ours, float32": SentenceEncoder(*mine).encode,
    }
    if has_bfloat16():
        work["ours, bfloat16"] = SentenceEncoder(*mine, dtype=torch.bfloat16).encode
    times, vectors = {name: [] for name in work}, {}
    for _ in range(ROUNDS):
        for name, encode in work.items():
            start = time.perf_counter()
            vectors[name] = encode(texts) if name.startswith("ours") else encode()
            times[name].append(time.perf_counter() - start)
    base, st_base = ((min(times[n]), statistics.median(times[n])) for n in list(work)[:2])
    expected = vectors["Hugging Face, file order"]
    print(
        f"{SENTENCES:,} sentences, {torch.get_num_threads()} threads; per second best / median; × file order, × sorted"
    )
    for name, seconds in times.items():
        best, median = min(seconds), statistics.median(seconds)
        ratios = [f"{b / best:4.2f} / {m / median:4.2f}" for b, m in (base, st_base)]
        cosine = np.einsum("nd,nd->n", vectors[name], expected).min()
        speed = f"{SENTENCES / best:5.0f} / {SENTENCES / median:5.0f}"
        print(f"    {name:28} {speed}   × {ratios[0]}   × {ratios[1]}   least cosine {cosine:.5f}")


if __name__ == "__main__":
    main()
