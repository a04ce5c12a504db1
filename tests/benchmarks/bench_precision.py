"""Precision: encoding and decoding of 8-bit floats against ml_dtypes, and training and reading in bfloat16.

Ours and its peer run in turns, and each ratio is the median, over the turns, of the peer's time over ours: above 1 ours
is faster. The results are asserted to be equal before anything is timed. Torch's own casts, vectorised for each format,
are named as well: they are faster than a table can be. bfloat16 is timed only where the CPU multiplies it.
"""

import math
import statistics
import time
from contextlib import nullcontext

import ml_dtypes
import numpy as np
import torch
from torch.nn.functional import cross_entropy

from lmcore.floats.codec import decode, encode
from lmcore.floats.formats import E4M3, E5M2
from lmcore.floats.table import encode_by_table
from lmcore.models.gpt import GPT, GPTConfig
from lmcore.models.sentence_encoder import has_bfloat16
from lmcore.train.optim import AdamW
from lmcore.train.precision_autocast import Autocast

TURNS = 15
NUMBERS = 1_000_003
V, T, B, D, LAYERS, HEADS = 4096, 128, 16, 256, 4, 4


def compare(name, ours, theirs, peer, turns=TURNS):
    """Time both in turns, and print the line."""
    times = {ours: [], theirs: []}
    for turn in range(turns + 2):
        for function in (ours, theirs) if turn % 2 else (theirs, ours):
            start = time.perf_counter()
            function()
            times[function].append(time.perf_counter() - start)
    mine, other = times[ours][2:], times[theirs][2:]  # the first turns warm up
    ratio = statistics.median(b / a for a, b in zip(mine, other, strict=True))
    a, b = 1e3 * statistics.median(mine), 1e3 * statistics.median(other)
    print(f"{name:42} {a:8.2f} ms, {peer} {b:8.2f} ms: {ratio:5.2f} times as fast", flush=True)


def codecs():
    """Patterns of 8 bits."""
    x = np.random.default_rng(1).normal(size=NUMBERS).astype(np.float32)
    tensor = torch.from_numpy(x)
    for fmt, kind, dtype in (
        (E4M3, ml_dtypes.float8_e4m3fn, torch.float8_e4m3fn),
        (E5M2, ml_dtypes.float8_e5m2, torch.float8_e5m2),
    ):
        theirs = x.astype(kind)
        codes = theirs.view(np.uint8)
        assert np.array_equal(encode_by_table(x, fmt), codes)
        assert np.array_equal(decode(codes, fmt), theirs.astype(np.float64))
        to_peer = lambda kind=kind: x.astype(kind)  # noqa: E731
        compare(f"encode {fmt.name}, table", lambda fmt=fmt: encode_by_table(x, fmt), to_peer, "ml_dtypes")
        compare(f"encode {fmt.name}, any format", lambda fmt=fmt: encode(x, fmt), to_peer, "ml_dtypes")
        from_peer = lambda theirs=theirs: theirs.astype(np.float64)  # noqa: E731
        compare(f"decode {fmt.name}", lambda fmt=fmt, codes=codes: decode(codes, fmt), from_peer, "ml_dtypes")
        to_torch = lambda dtype=dtype: tensor.to(dtype)  # noqa: E731
        compare(f"encode {fmt.name}, table", lambda fmt=fmt: encode_by_table(x, fmt), to_torch, "torch")


def model_and_batches():
    """A GPT, and batches of random ids."""
    draw = torch.Generator().manual_seed(1)
    config = GPTConfig.gpt2(vocabulary_size=V, context=T, d_model=D, layers=LAYERS, heads=HEADS)
    return GPT(config, generator=draw), torch.randint(V, (4, B, T + 1), generator=draw)


def trainer(context):
    """One training step, as a function that returns the loss."""
    model, batches = model_and_batches()
    optimizer, turn = AdamW(model.parameters(), 1e-3), iter(range(10**9))

    def step():
        rows = batches[next(turn) % len(batches)]
        optimizer.zero_grad()
        with context():
            logits = model(rows[:, :-1])
            loss = cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def reader(context):
    """One pass without gradients, as a function that returns the logits."""
    model, batches = model_and_batches()

    def read():
        with torch.no_grad(), context():
            return model(batches[0][:, :-1])

    return read


def bfloat16():
    """Training and reading under our autocast against float32, and against torch's autocast."""
    if not has_bfloat16():
        print("this CPU does not multiply bfloat16: not run")
        return
    full, theirs = nullcontext, lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    step, other = trainer(Autocast), trainer(full)
    assert math.isclose(step(), other(), rel_tol=1e-3)
    compare("training step, bfloat16", step, other, "float32", turns=7)
    read, other = reader(Autocast), reader(full)
    assert (read().float() - other()).norm() < 0.02 * other().norm()
    compare("reading, bfloat16", read, other, "float32", turns=7)
    compare("reading, bfloat16", read, reader(theirs), "torch's autocast", turns=7)


def main():
    """Print all lines."""
    print(f"{torch.get_num_threads()} threads")
    codecs()
    bfloat16()


if __name__ == "__main__":
    main()
