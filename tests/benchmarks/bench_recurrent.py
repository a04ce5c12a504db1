"""Our recurrent layers against torch's, forward and forward with backward, fused and in steps, in one run.

All start from the same weights and are asserted to agree, gradients too. They run in turns, and each ratio is the
median, over the turns, of torch's time over ours: above 1 ours is faster. `fused` runs torch's kernel inside our
stacking, packing and mirroring, so it should be near 1; `steps` is what Python and separate operations cost.

On a CPU torch's LSTM is oneDNN's, which keeps gates and weights close; its GRU and RNN, and its LSTM on packed
sequences, are loops of the same operations as ours, only in C++. So for these the steps cost little more, for the LSTM
two to three times as much, and most for a single sequence, where a step has hardly any arithmetic. The last lines say
where the time of the LSTM's steps goes: products, which the kernel has as well; other operations, each of which reads
and writes memory; and what is left, the interpreter and the recording of the graph. On a busy machine, run it with
OMP_NUM_THREADS=1.
"""

import itertools
import statistics
import time

import torch
from torch.profiler import ProfilerActivity, profile

from lmcore.nn.recurrent import GRU, LSTM, RNN

PAIRS = {"LSTM": (LSTM, torch.nn.LSTM), "GRU": (GRU, torch.nn.GRU), "RNN": (RNN, torch.nn.RNN)}
SIZES = [(1, 128, 64, 128), (32, 64, 64, 128), (16, 100, 128, 256), (64, 32, 256, 512)]  # B, T, input, hidden
OTHERS = [("GRU", (16, 100, 128, 256)), ("RNN", (16, 100, 128, 256))]
TURNS = 21


def in_turns(functions):
    """Median over the turns of the first function's time over each one's, and all medians; the order rotates."""
    times = [[] for _ in functions]
    for turn in range(TURNS + 3):
        for k in range(len(functions)):
            number = (turn + k) % len(functions)
            start = time.perf_counter()
            functions[number]()
            times[number].append(time.perf_counter() - start)
    times = [values[3:] for values in times]  # the first turns warm up
    ratios = [statistics.median(a / b for a, b in zip(times[0], other, strict=True)) for other in times]
    return [statistics.median(values) for values in times], ratios


def training(layer, x, factors, **options):
    """Forward and backward as a function that returns outputs and gradients."""

    def run():
        layer.zero_grad()
        outputs = layer(x, **options)[0]
        outputs.backward(factors)
        return [outputs.detach(), *(p.grad for p in layer.parameters())]

    return run


@torch.no_grad()
def inference(layer, x, **options):
    """The forward pass alone."""
    return layer(x, **options)[0]


def compare(name, size, *, lengths=None):
    """Print the line of one kind of layer and one size."""
    batch, n_steps, n_in, hidden = size
    generator = torch.Generator().manual_seed(0)
    ours, theirs = PAIRS[name]
    theirs = theirs(n_in, hidden, batch_first=True)
    fused, steps = (ours(n_in, hidden, fused=flag) for flag in (True, False))
    x = torch.randn(batch, n_steps, n_in, generator=generator)
    factors = torch.randn(batch, n_steps, hidden, generator=generator)
    runs = [training(theirs, x, factors)]
    for layer in (fused, steps):
        layer.load_state_dict(theirs.state_dict())
        runs.append(training(layer, x, factors))
    for mine in (runs[1](), runs[2]()):
        for a, b in zip(mine, runs[0](), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4 * b.abs().max().item(), rtol=1e-4)
    forward, f = in_turns([lambda layer=layer: inference(layer, x) for layer in (theirs, fused, steps)])
    both, r = in_turns(runs)
    size = "B {:3} T {:3} in {:3} hidden {:3}".format(*size)
    line = f"{1e3 * forward[0]:9.2f} {f[1]:6.2f} {f[2]:6.2f} {1e3 * both[0]:11.2f} {r[1]:6.2f} {r[2]:6.2f}"
    print(f"{name:4} {size} {line}", flush=True)


def compare_ragged():
    """Padding: lengths spread evenly from 1 to T, against torch's packed sequences and against running over it."""
    batch, n_steps, n_in, hidden = 32, 64, 64, 128
    theirs = torch.nn.LSTM(n_in, hidden, batch_first=True)
    x = torch.randn(batch, n_steps, n_in, generator=torch.Generator().manual_seed(0))
    lengths = torch.linspace(1, n_steps, batch).long()

    def packed():
        theirs.zero_grad()
        rows = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
        outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(theirs(rows)[0], True, total_length=n_steps)
        outputs.sum().backward()

    runs = [packed]
    for flag in (True, False):
        layer = LSTM(n_in, hidden, fused=flag)
        layer.load_state_dict(theirs.state_dict())
        runs.append(training(layer, x, torch.ones(batch, n_steps, hidden), lengths=lengths))
    runs.append(training(theirs, x, torch.ones(batch, n_steps, hidden)))
    times, ratios = in_turns(runs)
    names = ("fused", "steps", "torch over the padding")
    text = ", ".join(f"{name} {ratio:.2f}" for name, ratio in zip(names, ratios[1:], strict=True))
    print(f"LSTM with lengths 1 … 64: torch packed {1e3 * times[0]:.2f} ms; ratios: {text}")


def where_the_time_goes(size):
    """Profile the steps' forward and backward pass: shares of products, of other operations, and of the rest."""
    batch, n_steps, n_in, hidden = size
    layer, x = LSTM(n_in, hidden, fused=False), torch.randn(batch, n_steps, n_in)
    run = training(layer, x, torch.ones(batch, n_steps, hidden))
    run()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        run()
    start = time.perf_counter()
    for _ in range(5):
        run()
    wall = (time.perf_counter() - start) / 5
    events = found.key_averages()
    products = sum(e.self_cpu_time_total for e in events if e.key in ("aten::addmm", "aten::mm"))
    operations = sum(e.self_cpu_time_total for e in events if e.key.startswith("aten::")) - products
    count = sum(e.count for e in events if e.key.startswith("aten::"))
    print(
        f"B {batch:2} hidden {hidden}: {1e3 * wall:.1f} ms; under the profiler products {products / 1e3:.1f} ms, "
        f"other operations {operations / 1e3:.1f} ms ({count / n_steps:.0f} calls per step)"
    )


def main():
    """Print the tables."""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians of {TURNS} turns")
    print(f"{'':40} {'forward':>9} {'ratio':>6} {'ratio':>6} {'training':>11} {'ratio':>6} {'ratio':>6}")
    print(f"{'':40} {'torch, ms':>9} {'fused':>6} {'steps':>6} {'torch, ms':>11} {'fused':>6} {'steps':>6}")
    for name, size in itertools.chain((("LSTM", size) for size in SIZES), OTHERS):
        compare(name, size)
    compare_ragged()
    for size in SIZES:
        where_the_time_goes(size)


if __name__ == "__main__":
    main()
