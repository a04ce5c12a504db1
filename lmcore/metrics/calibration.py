"""Do a classifier's probabilities mean what they say? Of all answers given with 70 % confidence, 70 % should be right.

The confidence of an answer is the largest of its probabilities. Answers are put into bins of equal width by confidence;
the expected calibration error is the gap between mean confidence and accuracy, averaged over the answers. The Brier
score needs no bins, and mixes calibration with how much the classifier knows.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

TOLERANCE = 1e-6  # by how much a row's sum may miss one


class Reliability(NamedTuple):
    """What ``reliability`` finds in each bin; empty bins hold NaN."""

    edges: np.ndarray  # (n_bins + 1,)
    confidence: np.ndarray  # (n_bins,) mean of the answers' largest probabilities
    accuracy: np.ndarray  # (n_bins,) share of right answers
    count: np.ndarray  # (n_bins,) number of answers


def _checked(probabilities: ArrayLike, truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, C) probabilities and (N,) numbers of the true classes."""
    probabilities, truth = np.asarray(probabilities, dtype=float), np.asarray(truth)
    if probabilities.ndim != 2 or probabilities.size == 0:
        raise ValueError(f"probabilities must have the shape (examples, classes), got {probabilities.shape}")
    wrong = ~((probabilities >= 0) & (probabilities <= 1 + TOLERANCE))  # NaN fails both
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(f"probabilities[{row}, {column}] = {probabilities[row, column]} does not lie in 0 … 1")
    sums = probabilities.sum(axis=1)
    if (abs(sums - 1) > TOLERANCE).any():
        row = int(abs(sums - 1).argmax())
        raise ValueError(f"row {row} of probabilities sums to {sums[row]:.6g}, not to 1")
    if truth.shape != probabilities.shape[:1] or truth.dtype.kind not in "iu":
        raise ValueError(
            f"truth must be {len(probabilities)} whole numbers, the true columns, not {truth.shape}, {truth.dtype}"
        )
    if truth.min() < 0 or truth.max() >= probabilities.shape[1]:
        raise ValueError(f"truth must lie in 0 … {probabilities.shape[1] - 1}, got {truth.min()} … {truth.max()}")
    return probabilities, truth


def reliability(probabilities: ArrayLike, truth: ArrayLike, *, n_bins: int = 10) -> Reliability:
    """Confidence and accuracy of the answers, bin by bin.

    Args:
        probabilities: (N, C), rows that sum to one.
        truth: (N,) columns of the true classes, whole numbers from 0.
        n_bins: how many bins of equal width divide 0 … 1; each holds its upper edge.
    Returns:
        A ``Reliability``; drawn, accuracy against confidence, it is the reliability diagram.
    Raises:
        ValueError: rows that are no distributions, truth of another shape or range, n_bins < 1.
    Source: Guo et al. 2017, section 2.

    >>> bins = reliability([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], [0, 1, 1], n_bins=2)
    >>> bins.count.tolist(), bins.confidence[1].round(3).item(), bins.accuracy[1].round(3).item()
    ([0, 3], 0.8, 0.667)
    """
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, got {n_bins}")
    probabilities, truth = _checked(probabilities, truth)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    edges = np.linspace(0, 1, n_bins + 1)
    bins = np.searchsorted(edges[1:-1], confidence)  # left: an answer on an edge belongs to the bin below
    count = np.bincount(bins, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(bins, confidence, n_bins) / count
        accuracy = np.bincount(bins, right, n_bins) / count
    return Reliability(edges, mean_confidence, accuracy, count)


def expected_calibration_error(probabilities: ArrayLike, truth: ArrayLike, *, n_bins: int = 10) -> float:
    """Average gap between confidence and accuracy, Σ (count / N) · |accuracy − confidence| over the bins.

    Args, raises: as ``reliability``.
    Returns:
        Between 0 (calibrated) and 1. It depends on ``n_bins``: with one bin, errors on both sides cancel; with very
        many, each bin holds one answer, whose accuracy is 0 or 1.
    Source: Guo et al. 2017, eq. 3.

    >>> round(expected_calibration_error([[0.9, 0.1], [0.9, 0.1]], [0, 1]), 9)   # sure to 0.9, right in 0.5
    0.4
    """
    bins = reliability(probabilities, truth, n_bins=n_bins)
    filled = bins.count > 0
    gaps = abs(bins.accuracy - bins.confidence)[filled]
    return float((bins.count[filled] * gaps).sum() / bins.count.sum())


def brier_score(probabilities: ArrayLike, truth: ArrayLike) -> float:
    """Mean squared distance of the probabilities from the truth: the average of Σ_c (p_c − [c is true])².

    Args, raises: as ``reliability``.
    Returns:
        Between 0 (certain and right) and 2 (certain and wrong). No other probabilities have a lower expected score than
        the true ones.
    Differs: for two classes scikit-learn's brier_score_loss is half of it.

    >>> round(brier_score([[0.7, 0.3]], [0]), 9)   # 0.3² + 0.3²
    0.18
    """
    probabilities, truth = _checked(probabilities, truth)
    probabilities = probabilities.copy()
    probabilities[np.arange(len(truth)), truth] -= 1
    return float((probabilities**2).sum(axis=1).mean())
