"""What a collective costs: messages, bytes and steps by formula, and seconds on a network with a given α and β.

p ranks, n elements of s bytes. Totals count what all ranks send together; the path is the longest chain of messages
that wait for each other, which is what takes time: every one of its messages costs α, every one of its bytes β.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Link:
    """A connection on which a message of b bytes takes alpha + beta · b seconds.

    Raises:
        ValueError: a negative number.

    >>> Link(alpha=1e-3, beta=1e-9).seconds(1_000_000)
    0.002
    """

    alpha: float
    beta: float

    def __post_init__(self):
        for name in ("alpha", "beta"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")

    def seconds(self, size: float) -> float:
        """Time for one message of that many bytes."""
        return self.alpha + self.beta * size


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What a collective sends.

    Args:
        messages, bytes: of all ranks together.
        steps: messages on the longest path.   path: bytes on it.
    """

    messages: int
    bytes: int
    steps: int
    path: int

    def seconds(self, link: Link) -> float:
        """Time on a network all of whose links are alike; arithmetic counts as free."""
        return self.steps * link.alpha + self.path * link.beta

    def __add__(self, other: Traffic) -> Traffic:
        """One after the other."""
        return Traffic(
            messages=self.messages + other.messages,
            bytes=self.bytes + other.bytes,
            steps=self.steps + other.steps,
            path=self.path + other.path,
        )


def _check(p: int, n: int, itemsize: int) -> None:
    """Require sizes that can be."""
    for name, value, low in (("p", p, 1), ("n", n, 0), ("itemsize", itemsize, 1)):
        if value < low:
            raise ValueError(f"{name} must be at least {low}, got {value}")


def tree(p: int, n: int, itemsize: int = 4) -> Traffic:
    """A broadcast or a reduction along a binomial tree.

    Args:
        p: ranks, ≥ 1.   n: elements of the tensor.   itemsize: bytes of an element.

    >>> tree(8, 1000)
    Traffic(messages=7, bytes=28000, steps=3, path=12000)
    """
    _check(p, n, itemsize)
    steps = ceil(log2(p))
    return Traffic(messages=p - 1, bytes=(p - 1) * n * itemsize, steps=steps, path=steps * n * itemsize)


def linear(p: int, n: int, itemsize: int = 4) -> Traffic:
    """A gather or a scatter of n elements per rank: one rank sends or receives everything, in turn.

    >>> linear(8, 1000)
    Traffic(messages=7, bytes=28000, steps=7, path=28000)
    """
    _check(p, n, itemsize)
    return Traffic(messages=p - 1, bytes=(p - 1) * n * itemsize, steps=p - 1, path=(p - 1) * n * itemsize)


def ring(p: int, n: int, itemsize: int = 4) -> Traffic:
    """A reduce-scatter of n elements, or an all-gather to n elements in all, on a ring.

    The path is exact where p divides n; else it takes every chunk as large as the largest, and is an upper bound.

    >>> ring(8, 1000)
    Traffic(messages=56, bytes=28000, steps=7, path=3500)
    """
    _check(p, n, itemsize)
    return Traffic(
        messages=p * (p - 1), bytes=(p - 1) * n * itemsize, steps=p - 1, path=(p - 1) * ceil(n / p) * itemsize
    )


def all_to_all(p: int, n: int, itemsize: int = 4) -> Traffic:
    """All-to-all with n elements from each rank to each other one.

    >>> all_to_all(4, 10)
    Traffic(messages=12, bytes=480, steps=3, path=120)
    """
    _check(p, n, itemsize)
    return Traffic(messages=p * (p - 1), bytes=p * (p - 1) * n * itemsize, steps=p - 1, path=(p - 1) * n * itemsize)


def all_reduce(algorithm: str, p: int, n: int, itemsize: int = 4) -> Traffic:
    """An all-reduce of n elements.

    Args:
        algorithm: ``"naive"``, ``"tree"`` or ``"ring"``.
    Raises:
        ValueError: another algorithm, or a size that cannot be.

    >>> for name in ("naive", "tree", "ring"):
    ...     print(name, all_reduce(name, 8, 1000))
    naive Traffic(messages=14, bytes=56000, steps=14, path=56000)
    tree Traffic(messages=14, bytes=56000, steps=6, path=24000)
    ring Traffic(messages=112, bytes=56000, steps=14, path=7000)
    """
    phases = {"naive": linear, "tree": tree, "ring": ring}
    if algorithm not in phases:
        raise ValueError(f"algorithm must be one of {', '.join(phases)}, got {algorithm!r}")
    return phases[algorithm](p, n, itemsize) + phases[algorithm](p, n, itemsize)


def fit_link(sizes: Sequence[float], seconds: Sequence[float]) -> Link:
    """Estimate α and β from measured messages by least squares of the relative errors.

    Args:
        sizes: bytes, at least two different ones.   seconds: measured, above zero.
    Returns:
        The Link with the least Σ ((α + β·size − seconds) / seconds)²; a negative α or β is set to zero and the other
        one fitted alone. Absolute errors would let the largest message decide alone.
    Raises:
        ValueError: sequences of different lengths, fewer than two sizes, or times that are not positive.

    >>> link = fit_link([0, 1000, 3000], [2.0, 3.0, 5.0])
    >>> round(link.alpha, 9), round(link.beta, 9)
    (2.0, 0.001)
    """
    size, time = np.asarray(sizes, dtype=float), np.asarray(seconds, dtype=float)
    if size.shape != time.shape or np.unique(size).size < 2 or not (time > 0).all():
        raise ValueError("sizes and seconds must be of one length, with two different sizes and times above 0")
    columns = np.stack([1 / time, size / time], axis=1)
    solution = np.linalg.lstsq(columns, np.ones_like(time), rcond=None)[0]
    if solution.min() < 0:
        keep = int(solution.argmax())
        column = columns[:, keep]
        solution = np.zeros(2)
        solution[keep] = column.sum() / (column @ column)
    return Link(alpha=float(solution[0]), beta=float(solution[1]))
