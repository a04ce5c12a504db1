"""How sure a score is, and whether one system is better than another or only luckier with this test set.

Most metrics are a function of *sums* over the test items: BLEU of summed n-gram counts, accuracy of (right, 1),
perplexity of (nats, tokens), macro F1 of a summed confusion matrix. So a metric is given here as an (N, S) table of
numbers per item and a ``statistic`` that turns S sums into a score. Another test set is then another choice of rows,
and costs no more than an addition.

    bootstrap        draw N items with replacement, again and again: how far does the score spread?
    paired           draw the same items for both systems: how far does the *difference* spread?
    randomization    swap the two systems' outputs item by item, by a coin: is the difference ever as large by luck?
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

Statistic = Callable[[np.ndarray], float]
_CELLS = 1 << 22  # size of the pieces in which random numbers are drawn
# Differences that agree but for rounding are equal: swapping items that both systems did alike changes nothing.
_ROUNDING = 1e-9


class Interval(NamedTuple):
    """A score with its percentile interval, and the resampled scores from which that was read."""

    estimate: float
    low: float
    high: float
    samples: np.ndarray


class Comparison(NamedTuple):
    """How much the first system's score exceeds the second's, how probable that is by luck, and the resampled values.

    ``p_value`` is two-sided: the chance of a difference at least as large in either direction, if there were none.
    """

    difference: float
    p_value: float
    samples: np.ndarray


def _table(counts: ArrayLike, name: str) -> np.ndarray:
    """Return a metric's numbers per item as a float table."""
    table = np.asarray(counts, dtype=float)
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"{name} must have the shape (items, numbers per item), got {table.shape}")
    if len(table) < 2:
        raise ValueError(f"{name} has a single item: from one item nobody can tell how much items differ")
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        raise ValueError(f"{name}[{row}, {column}] = {table[row, column]} is not a finite number")
    return table


def _tables(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return two systems' numbers on the same items."""
    first, second = _table(first, "first"), _table(second, "second")
    if first.shape != second.shape:
        raise ValueError(f"first has shape {first.shape} and second {second.shape}: both must judge the same items")
    return first, second


def _check(rng: np.random.Generator, n: int, name: str) -> None:
    """Refuse a source of randomness that is none, and too few samples."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, got {type(rng).__name__}; try np.random.default_rng(0)")
    if n < 1:
        raise ValueError(f"{name} must be at least 1, got {n}")


def _pieces(n_samples: int, n_items: int) -> Iterator[int]:
    """How many samples to draw at once, until all are drawn; by 32, so that random bits are used up evenly."""
    step = max(_CELLS // n_items // 32, 1) * 32
    for done in range(0, n_samples, step):
        yield min(step, n_samples - done)


def _resampled_sums(tables: list[np.ndarray], n_samples: int, rng: np.random.Generator) -> Iterator[list[np.ndarray]]:
    """For each bootstrap sample, the sums of each table over the same items, drawn with replacement."""
    n = len(tables[0])
    for size in _pieces(n_samples, n):
        items = rng.integers(n, size=(size, n))
        times = np.stack([np.bincount(row, minlength=n) for row in items]).astype(float)  # how often each was drawn
        yield from zip(*(times @ table for table in tables), strict=True)


def bootstrap_interval(
    statistic: Statistic, counts: ArrayLike, *, rng: np.random.Generator, level: float = 0.95, n_samples: int = 1000
) -> Interval:
    """Percentile interval of a score: where it falls on test sets drawn like this one.

    Args:
        statistic: from (S,) sums to a score.
        counts: (N, S) numbers per item.
        rng: the source of randomness.
        level: the share of resampled scores that the interval holds, between 0 and 1.
        n_samples: how many test sets to draw.
    Returns:
        An ``Interval``. It holds the true score somewhat less often than ``level`` if N is small or the score biased.
    Raises:
        ValueError: counts of another shape or not finite, one item only, level outside 0 … 1, n_samples < 1.
        TypeError: rng is no Generator.
    Cost: O(n_samples · N · S) and n_samples calls of the statistic.
    Source: Efron 1979; for BLEU, Koehn 2004.

    >>> right = np.array([1] * 80 + [0] * 20)   # accuracy 0.8 on 100 items: standard error 0.04
    >>> found = bootstrap_interval(lambda s: s[0] / s[1], np.column_stack([right, np.ones(100)]),
    ...                            rng=np.random.default_rng(0))
    >>> found.estimate, round(found.low, 1), round(found.high, 1)
    (0.8, 0.7, 0.9)
    """
    table = _table(counts, "counts")
    _check(rng, n_samples, "n_samples")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    samples = np.array([statistic(sums) for (sums,) in _resampled_sums([table], n_samples, rng)], dtype=float)
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(table.sum(axis=0))), float(low), float(high), samples)


def paired_bootstrap(
    statistic: Statistic,
    first: ArrayLike,
    second: ArrayLike,
    *,
    rng: np.random.Generator,
    n_samples: int = 1000,
) -> Comparison:
    """Is the first system better than the second? Draw items, the same for both, and see how the difference spreads.

    Args:
        statistic: from (S,) sums to a score.
        first, second: (N, S) numbers of two systems on the same items.
        rng, n_samples: as ``bootstrap_interval``.
    Returns:
        A ``Comparison``; ``samples`` are the differences. The share of them above 0 is what Koehn 2004 reports. The
        p-value is the share that lie as far from the observed difference as that lies from 0, the observed one counted.
    Raises:
        ValueError, TypeError: as ``bootstrap_interval``; tables of different shapes.
    Source: Koehn 2004.  Differs: sacrebleu centres the differences' absolute values, which makes its p-value one-sided,
        about half of this one, where one system is clearly better.

    >>> first, second = np.ones((20, 1)), np.zeros((20, 1))
    >>> found = paired_bootstrap(lambda s: s[0] / 20, first, second, rng=np.random.default_rng(0), n_samples=99)
    >>> found.difference, found.p_value
    (1.0, 0.01)
    """
    first, second = _tables(first, second)
    _check(rng, n_samples, "n_samples")
    difference = float(statistic(first.sum(axis=0)) - statistic(second.sum(axis=0)))
    sums = _resampled_sums([first, second], n_samples, rng)
    samples = np.array([statistic(a) - statistic(b) for a, b in sums], dtype=float)
    return Comparison(difference, _p_value(samples - difference, difference), samples)


def _p_value(by_luck: np.ndarray, difference: float) -> float:
    """Share of differences at least as large as the observed one, which counts as one of them."""
    extreme = np.abs(by_luck) >= abs(difference) * (1 - _ROUNDING)
    return float((extreme.sum() + 1) / (len(by_luck) + 1))


def paired_randomization(
    statistic: Statistic,
    first: ArrayLike,
    second: ArrayLike,
    *,
    rng: np.random.Generator,
    n_samples: int = 10_000,
) -> Comparison:
    """Approximate randomization: if the systems were equally good, their outputs could be swapped, item by item.

    Args:
        statistic: from (S,) sums to a score.
        first, second: (N, S) numbers of two systems on the same items.
        rng: the source of randomness.
        n_samples: how many of the 2ᴺ ways to swap are tried.
    Returns:
        A ``Comparison``; ``samples`` are the differences after swapping. The p-value is the share of them that is at
        least as large as the observed one, in either direction, the observed one counted; so it is at least
        1 / (n_samples + 1), and 1 for two systems with the same outputs.
    Raises:
        ValueError, TypeError: as ``paired_bootstrap``.
    Cost: O(n_samples · N · S) and 2 · n_samples calls of the statistic.
    Differs: sacrebleu counts only larger differences, and calls a system significantly different from itself.

    >>> first, second = np.array([[1], [1], [1], [0]]), np.array([[0], [0], [0], [1]])
    >>> found = paired_randomization(lambda s: s[0], first, second, rng=np.random.default_rng(0))
    >>> found.difference, round(found.p_value, 1)   # of 16 ways to swap, 10 give 2 or 4
    (2.0, 0.6)
    """
    first, second = _tables(first, second)
    _check(rng, n_samples, "n_samples")
    difference = float(statistic(first.sum(axis=0)) - statistic(second.sum(axis=0)))
    samples = []
    for size in _pieces(n_samples, len(first)):
        keep = rng.integers(2, size=(size, len(first)), dtype=bool).astype(float)
        ours = second.sum(axis=0) + keep @ (first - second)
        theirs = first.sum(axis=0) + second.sum(axis=0) - ours
        samples += [statistic(a) - statistic(b) for a, b in zip(ours, theirs, strict=True)]
    samples = np.array(samples, dtype=float)
    return Comparison(difference, _p_value(samples, difference), samples)
