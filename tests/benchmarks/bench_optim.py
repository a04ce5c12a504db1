"""Optimizer steps next to torch.optim's (foreach=False, the version that does one tensor after another, as ours does).

Two sets of parameters: a few large ones, where memory decides, and many small ones, where the Python around them does.
Both optimizers are timed alternately on the same gradients and end with equal weights.
"""

import statistics
import time

import torch

from lmcore.train.optim import SGD, Adadelta, Adagrad, Adam, AdamW, RMSProp

SETS = {"4 of 1,000,000": [(1000, 1000)] * 4, "200 of 1,000": [(1000,)] * 200}
PAIRS = [
    ("SGD", SGD, torch.optim.SGD, {"lr": 1e-3}),
    ("SGD, momentum", SGD, torch.optim.SGD, {"lr": 1e-3, "momentum": 0.9}),
    ("Adagrad", Adagrad, torch.optim.Adagrad, {}),
    ("RMSProp", RMSProp, torch.optim.RMSprop, {}),
    ("Adadelta", Adadelta, torch.optim.Adadelta, {}),
    ("Adam", Adam, torch.optim.Adam, {}),
    ("AdamW", AdamW, torch.optim.AdamW, {}),
]
ROUNDS, STEPS = 15, 4


def parameters(shapes):
    """Parameters with gradients, the same each time."""
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    for tensor in tensors:
        tensor.grad = torch.randn(tensor.shape, generator=generator)
    return tensors


def seconds(optimizer):
    """Time of a few steps."""
    start = time.perf_counter()
    for _ in range(STEPS):
        optimizer.step()
    return (time.perf_counter() - start) / STEPS


def main():
    """Print milliseconds per step (medians) and the ratio, torch's time divided by ours."""
    for name, shapes in SETS.items():
        print(f"{name} numbers: ms per step    lmcore     torch   torch / lmcore")
        for rule, ours, theirs, settings in PAIRS:
            mine, other = parameters(shapes), parameters(shapes)
            pair = ours(mine, **settings), theirs(other, foreach=False, **settings)
            times = [(seconds(pair[0]), seconds(pair[1])) for _ in range(ROUNDS)][2:]
            assert all(torch.equal(a, b) for a, b in zip(mine, other, strict=True))
            a, b = (1000 * statistics.median(column) for column in zip(*times, strict=True))
            print(f"    {rule:22} {a:10.2f} {b:9.2f} {b / a:12.2f}")


if __name__ == "__main__":
    main()
