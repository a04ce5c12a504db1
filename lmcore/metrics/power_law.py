"""Scaling laws: y = floor + a x^−α, fitted as a straight line between logarithms, and how sure its exponent is.

Losses of language models fall with the size of the model, the text and the computation in such a way that a power law
describes them over many orders of magnitude. A line through a few runs is quickly drawn; what is to be known beside it
is how far it moves when the runs are repeated, and that is what `bootstrap_exponent` asks.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lmcore.metrics.bootstrap import Interval


class PowerLaw(NamedTuple):
    """y = floor + a x^−alpha."""

    a: float
    alpha: float
    floor: float = 0.0

    def __call__(self, x: ArrayLike) -> np.ndarray:
        """The law's value at each x."""
        return self.floor + self.a * np.asarray(x, dtype=float) ** -self.alpha


def training_operations(parameters: ArrayLike, tokens: ArrayLike) -> np.ndarray:
    """Floating-point operations of a training run, 6 N D: each weight two per token forward and four back.

    Args:
        parameters: N, those of matrices that every token is multiplied with.   tokens: D, read in all.
    Returns:
        Operations; attention's products of queries and keys come on top.
    Source: Kaplan et al. 2020.

    >>> float(training_operations(10, 7))
    420.0
    """
    return 6.0 * np.asarray(parameters, dtype=float) * np.asarray(tokens, dtype=float)


def _checked(x: ArrayLike, y: ArrayLike, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Return x (n,) and y, whose first axis is n, after checks."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.ndim != 1 or y.shape[:1] != x.shape:
        raise ValueError(f"x has shape {x.shape} and y {y.shape}: x must be (n,), and y must have n rows")
    if len(np.unique(x)) < 2:
        raise ValueError(f"x has {len(np.unique(x))} different values; a line needs at least two")
    if not (np.isfinite(x).all() and x.min() > 0):
        raise ValueError("x must be above zero and finite: its logarithm is taken")
    if not (np.isfinite(y).all() and y.min() > floor):
        raise ValueError(f"y must be finite and above the floor of {floor}, its smallest is {y.min()}: lower the floor")
    return x, y


def fit_power_law(x: ArrayLike, y: ArrayLike, *, floor: float = 0.0) -> PowerLaw:
    """Fit y = floor + a x^−α by least squares between the logarithms of x and of y − floor.

    Args:
        x: (n,) sizes, > 0.   y: (n,) losses, > floor.
        floor: what no model gets below. It is assumed, not fitted: few points cannot tell it from the exponent.
    Raises:
        ValueError: other shapes, less than two different x, or numbers that have no logarithm.
    Source: Kaplan et al. 2020 have no floor.   Differs: Hoffmann et al. 2022 fit the floor too, with a robust loss.

    >>> law = fit_power_law([1, 4, 16], [6, 4, 3], floor=2.0)   # 2 + 4 / √x
    >>> round(law.a, 9), round(law.alpha, 9), float(law(64).round(9))
    (4.0, 0.5, 2.5)
    """
    x, y = _checked(x, y, floor)
    if y.ndim != 1:
        raise ValueError(f"y has shape {y.shape}, must be (n,); average the runs of a size before")
    slope, constant = np.polyfit(np.log(x), np.log(y - floor), 1)
    return PowerLaw(float(np.exp(constant)), float(-slope), floor)


def bootstrap_exponent(
    x: ArrayLike,
    runs: ArrayLike,
    *,
    rng: np.random.Generator,
    floor: float = 0.0,
    level: float = 0.95,
    n_samples: int = 1000,
) -> Interval:
    """Percentile interval of the exponent: for each size draw as many of its runs with replacement, average, fit.

    Args:
        x: (n,) sizes.   runs: (n, r) losses of r runs of each size, with different seeds.
        rng: the source of randomness.   floor: see `fit_power_law`.
        level: the share of resampled exponents that the interval holds, between 0 and 1.
        n_samples: how often to draw.
    Returns:
        An `Interval` of α. With few runs it is too narrow: of r runs, their spread is seen as √(1 − 1/r) of itself.
        It knows nothing of what all runs have in common: the data, the learning rate, the form of the law.
    Raises:
        ValueError: as `fit_power_law`, less than two runs, level outside 0 … 1 or n_samples < 1.
        TypeError: rng is no Generator.
    Source: the bootstrap is Efron 1979.

    >>> runs = [[6.0, 6.0], [4.0, 4.0], [3.0, 3.0]]   # runs that do not differ
    >>> found = bootstrap_exponent([1, 4, 16], runs, rng=np.random.default_rng(0), floor=2.0, n_samples=10)
    >>> [round(value, 9) for value in found[:3]]
    [0.5, 0.5, 0.5]
    """
    x, runs = _checked(x, runs, floor)
    if runs.ndim != 2 or runs.shape[1] < 2:
        raise ValueError(f"runs has shape {runs.shape}, must be (n, r) with r ≥ 2: from one run nobody sees the spread")
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, got {type(rng).__name__}; try np.random.default_rng(0)")
    if not 0 < level < 1 or n_samples < 1:
        raise ValueError(f"level must lie between 0 and 1 and n_samples be at least 1, got {level} and {n_samples}")
    chosen = rng.integers(runs.shape[1], size=(n_samples, *runs.shape))
    means = np.take_along_axis(runs[None], chosen, axis=2).mean(axis=2)  # (samples, n)
    slopes, _ = np.polyfit(np.log(x), np.log(means - floor).T, 1)
    low, high = np.quantile(-slopes, [(1 - level) / 2, (1 + level) / 2])
    estimate = fit_power_law(x, runs.mean(axis=1), floor=floor).alpha
    return Interval(estimate, float(low), float(high), -slopes)
