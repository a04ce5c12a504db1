"""MiniLM with products of 8-bit codes: how much faster, how near to float32, and whether a search finds less.

The peers are Hugging Face's `BertModel` in float32 and onnxruntime, in float32 and with its own 8 bits (dynamic
quantisation, weights per channel), after its optimizer for BERT has joined attention, GELU and norms. All read the same
ids, with as many threads as torch has. They take turns; between two of them is a pause, in which threads that wait for
work by trying again and again give up. Ratios are of medians, and of the best times.

The search: which of the encyclopedia's articles, known by their first 1,000 characters, does a sentence from further
down belong to? The interval is that of the difference to float32, from the same questions drawn again and again.
"""

import logging
import os
import random
import statistics
import tempfile
import time
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.optimizer import optimize_model

from lmcore import data
from lmcore.metrics.bootstrap import bootstrap_interval, paired_bootstrap
from lmcore.models.bert_packed import PackedBERT, cut
from lmcore.models.sentence_encoder import has_bfloat16, has_int8
from lmcore.text.sentences import split_sentences
from tests.benchmarks.bench_sentences import ours, theirs

BATCH, LENGTH, MIXED, QUESTIONS, ROUNDS, PAUSE, OPENING = 32, 128, 256, 1000, 7, 0.1, 1000
BASE = "Hugging Face, float32"


# ---- who takes part: each is a function of texts as ids, and returns (N, 384) vectors of length 1 ----


def _pooled(hidden, real):
    """The mean over real tokens, at length 1."""
    real = real[..., None]
    return torch.nn.functional.normalize((hidden * real).sum(1) / real.sum(1), dim=1).numpy()


def padded(read):
    """Batches of 32 texts in their order, each padded to its longest."""

    def encode(rows):
        vectors = []
        for start in range(0, len(rows), BATCH):
            batch = [torch.tensor(row) for row in rows[start : start + BATCH]]
            ids = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)
            real = torch.arange(ids.shape[1]) < torch.tensor([[len(row)] for row in batch])
            vectors.append(_pooled(read(ids, real.long()), real))
        return np.concatenate(vectors)

    return encode


def packed(model, dtype):
    """Ours, 4,096 tokens at a time."""
    read = PackedBERT(model, dtype=dtype)

    def encode(rows):
        vectors = []
        for batch in cut(rows, BATCH * LENGTH):
            means = [part.float().mean(0) for part in read(batch).split([len(row) for row in batch])]
            vectors.append(torch.nn.functional.normalize(torch.stack(means), dim=1))
        return torch.cat(vectors).numpy()

    return encode


class _Hidden(torch.nn.Module):
    """A BertModel that returns its last hidden states only."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.eval()  # or the exporter would put back the dropout, too

    def forward(self, ids, real):
        return self.model(input_ids=ids, attention_mask=real).last_hidden_state


def export(model, folder):
    """Write the model for onnxruntime, in float32 and in 8 bits; their paths."""
    plain, fused, small = (os.path.join(folder, f"{name}.onnx") for name in ("plain", "fused", "small"))
    model.set_attn_implementation("eager")
    example = torch.ones(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.long)
    sizes = {0: "texts", 1: "tokens"}
    names = {"input_names": ["ids", "real"], "output_names": ["hidden"]}
    dynamic = {"dynamic_axes": {"ids": sizes, "real": sizes, "hidden": sizes}, "dynamo": False}
    torch.onnx.export(_Hidden(model), example, plain, **names, **dynamic)
    model.set_attn_implementation("sdpa")
    optimize_model(plain, model_type="bert", num_heads=12, hidden_size=384).save_model_to_file(fused)
    types = {"DefaultTensorType": onnx.TensorProto.FLOAT}  # of what the optimizer's own operators return
    quantize_dynamic(fused, small, per_channel=True, weight_type=QuantType.QInt8, extra_options=types)
    return fused, small


def onnx_reader(path):
    """Hidden states by onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda ids, real: torch.from_numpy(session.run(None, {"ids": ids.numpy(), "real": real.numpy()})[0])


def contenders(model, peer, folder):
    """All that are compared, by name."""
    full, small = export(peer, folder)
    found = {BASE: padded(torch.inference_mode()(_Hidden(peer)))}
    found["onnxruntime, float32"], found["onnxruntime, int8"] = (padded(onnx_reader(p)) for p in (full, small))
    found["ours, float32"] = packed(model, torch.float32)
    if has_bfloat16():
        found["ours, bfloat16"] = packed(model, torch.bfloat16)
    found["ours, int8"] = packed(model, torch.int8)
    return found


# ---- what is measured ----


def timed(work, rows):
    """Seconds of each, in turns."""
    times = {name: [] for name in work}
    for encode in work.values():
        encode(rows)
    for _ in range(ROUNDS):
        for name, encode in work.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            encode(rows)
            times[name].append(time.perf_counter() - start)
    return times


def table(title, times, vectors=None):
    """Print milliseconds, speed as multiples of three others', and the cosines to Hugging Face's vectors."""
    print(f"{title}; ms best / median; times as fast as {BASE}, ours in float32, onnxruntime's int8")
    for name, seconds in times.items():
        ratios = [
            f"{min(times[o]) / min(seconds):5.2f} / {statistics.median(times[o]) / statistics.median(seconds):4.2f}"
            for o in (BASE, "ours, float32", "onnxruntime, int8")
        ]
        cosines = ""
        if vectors is not None:
            cosine = np.einsum("nd,nd->n", vectors[name], vectors[BASE])
            cosines = f"   cosine {cosine.mean():.5f}, least {cosine.min():.5f}"
        best, median = 1000 * min(seconds), 1000 * statistics.median(seconds)
        print(f"    {name:24}{best:7.1f} /{median:7.1f}  ×{'   ×'.join(ratios)}{cosines}", flush=True)


def questions(articles):
    """(sentence, number of its article) from behind the articles' openings."""
    found = [
        (sentence, number)
        for number, article in enumerate(articles)
        for line in article.text[OPENING:].split("\n")
        for sentence in split_sentences(line)
        if 8 <= len(sentence.split()) <= 60
    ]
    return random.Random(0).sample(found, QUESTIONS)


def search(work, ids_of):
    """Print how often the right article comes first, and the difference to float32 with its interval."""
    articles = data.load("encyclopedia")
    asked = questions(articles)
    rows = sorted(((ids_of(text)[:LENGTH], number) for text, number in asked), key=lambda row: len(row[0]))
    openings = [ids_of(article.text[:OPENING])[:512] for article in articles]
    right = np.array([number for _, number in rows])
    print(f"search: {len(rows)} questions, {len(articles)} articles; share with the right one on top")
    base, ones, rng = None, np.ones(len(rows)), np.random.default_rng(0)
    for name, encode in work.items():
        hits = (encode([ids for ids, _ in rows]) @ encode(openings).T).argmax(1) == right
        counts = np.column_stack([hits, ones])
        base = counts if base is None else base
        share = bootstrap_interval(lambda s: s[0] / s[1], counts, rng=rng)
        change = paired_bootstrap(lambda s: s[0] / s[1], counts, base, rng=rng)
        low, high = np.quantile(change.samples, [0.025, 0.975])
        print(
            f"    {name:24}{share.estimate:.3f} ({share.low:.3f} … {share.high:.3f})   difference "
            f"{change.difference:+.3f} ({low:+.3f} … {high:+.3f})",
            flush=True,
        )


def neighbours(work, rows):
    """Print how much a vector depends on what stands in the same batch."""
    print("a text read alone and among others: least cosine of the two vectors")
    for name, encode in work.items():
        alone = np.concatenate([encode([row]) for row in rows[:BATCH:2]])
        print(f"    {name:24}{np.einsum('nd,nd->n', alone, encode(rows)[:BATCH:2]).min():.6f}", flush=True)


def main():
    """Print times, ratios, cosines and what is found."""
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")  # the exporter's and the optimizer's
    (model, tokenizer), (peer, _) = ours(), theirs()
    begin, end = tokenizer.id("[CLS]"), tokenizer.id("[SEP]")

    def ids_of(text):
        return [begin, *tokenizer.encode(text)[:510], end]

    articles = data.load("encyclopedia")
    full = [ids_of(article.text[:1500])[:LENGTH] for article in articles[:BATCH]]
    mixed = [ids_of(sentence) for sentence, _ in questions(articles)[:MIXED]]
    print(f"{torch.get_num_threads()} threads, instructions for int8: {has_int8()}, bfloat16: {has_bfloat16()}")
    with tempfile.TemporaryDirectory() as folder:
        work = contenders(model, peer, folder)
        vectors = {name: encode(full) for name, encode in work.items()}
        table(f"{BATCH} texts of {LENGTH} tokens", timed(work, full), vectors)
        table("1 text of 128 tokens", timed(work, full[:1]))
        by_length = sorted(mixed, key=len)
        vectors = {name: encode(by_length) for name, encode in work.items()}
        table(f"{MIXED} sentences, {sum(map(len, mixed)):,} tokens, sorted by length", timed(work, by_length), vectors)
        neighbours(work, full)
        search(work, ids_of)


if __name__ == "__main__":
    main()
