"""Calibration: the range that a grid is to represent, chosen from numbers seen.

The whole range, from minimum to maximum, cuts nothing off, but one outlier makes all steps wide. A shorter range cuts
outliers off and has narrower steps for all others. Four ways to choose: take everything (*min–max*), cut off a share
(*percentile*), or weigh cutting against rounding, by the squared error (*MSE*) or by what the distribution loses
(*entropy*). They look at a histogram, which batches are counted into one after another.
"""

import math
import warnings
from dataclasses import replace

import torch
from torch import Tensor

from lmcore.compress.affine import Scheme, check_finite, find_grid, grouped

METHODS = ("min-max", "percentile", "mse", "entropy")
HALF = 2048  # bins on either side of zero
_SMALLEST = 2.0**-100  # reach of a histogram that has seen only zeros


class Histogram:
    """Counts of numbers in even bins from −reach to reach, where reach is a power of two that grows with the data.

    A reach that doubles makes pairs of bins one, and no count has to be guessed: the order of batches does not matter.

    Attributes:
        counts: (2 · HALF,) int64; bin i holds what lies from (i − HALF) w on, with w = reach / HALF.
        reach: above all sizes seen, and at most twice the largest.
        low, high: smallest and largest number seen.   count, batches: how many numbers, and calls of `add`.

    >>> histogram = Histogram()
    >>> histogram.add(torch.tensor([0.75, -1.0]))
    >>> histogram.add(torch.tensor([7.0, 0.5]))
    >>> histogram.reach, histogram.low, histogram.high, int(histogram.counts[HALF:].sum())
    (8.0, -1.0, 7.0, 3)
    """

    def __init__(self):
        self.counts = torch.zeros(2 * HALF, dtype=torch.int64)
        self.reach, self.low, self.high = _SMALLEST, math.inf, -math.inf
        self.count = self.batches = 0

    def add(self, x: Tensor) -> None:
        """Count more numbers.

        Raises:
            TypeError, ValueError: numbers of another kind, none, or some that are not finite.
        """
        check_finite(x)
        x = x.detach().float().flatten()
        low, high = (end.item() for end in torch.aminmax(x))
        self.low, self.high = min(self.low, low), max(self.high, high)
        while max(-low, high) >= self.reach:
            self._double()
        places = (x * (HALF / self.reach)).floor().long() + HALF  # exact: the factor is a power of two
        self.counts += torch.bincount(places, minlength=2 * HALF).cpu()
        self.count, self.batches = self.count + len(x), self.batches + 1

    def _double(self) -> None:
        """Let the bins be twice as wide."""
        self.counts = torch.nn.functional.pad(self.counts.view(HALF, 2).sum(1), (HALF // 2, HALF // 2))
        self.reach *= 2

    @property
    def width(self) -> float:
        """Of a bin."""
        return self.reach / HALF

    @property
    def centres(self) -> Tensor:
        """(2 · HALF,) the middles of the bins."""
        return (torch.arange(-HALF, HALF) + 0.5) * self.width


def _bin_of(counts: Tensor, share: float) -> int:
    """The bin in which the counts, added up, reach a share of all."""
    total = counts.double().cumsum(0)
    return int(torch.searchsorted(total, share * total[-1]).clamp_max(len(total) - 1))


def _folded(histogram: Histogram) -> Tensor:
    """(HALF,) counts of absolute values."""
    return histogram.counts[HALF:] + histogram.counts[:HALF].flip(0)


def percentile_range(histogram: Histogram, scheme: Scheme, *, share: float = 0.9999) -> tuple[float, float]:
    """The range that holds a share of the numbers: of absolute values if symmetric, else with as many off either end.

    Args:
        share: in (0, 1].
    Raises:
        ValueError: share out of range.
    Cost: O(bins). The ends are rounded outwards to those of a bin.

    >>> histogram = Histogram()
    >>> histogram.add(torch.cat([torch.linspace(-1, 1, 9_999), torch.tensor([100.0])]))
    >>> [round(end) for end in percentile_range(histogram, Scheme(), share=0.999)]
    [-1, 1]
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], got {share!r}")
    if scheme.symmetric:
        end = (_bin_of(_folded(histogram), share) + 1) * histogram.width
        return max(histogram.low, -end), min(histogram.high, end)
    first, last = (_bin_of(histogram.counts, q) - HALF for q in ((1 - share) / 2, (1 + share) / 2))
    return max(histogram.low, first * histogram.width), min(histogram.high, (last + 1) * histogram.width)


def mse_range(
    x: Tensor, scheme: Scheme, *, weights: Tensor | None = None, candidates: int = 100
) -> tuple[Tensor, Tensor]:
    """The ranges with the least squared error of rounding and cutting off, among `candidates` shortened ones.

    Candidate i reaches i / candidates of the way from zero to both ends; on a free grid, which need not hold zero, from
    the point of the range that is nearest to it.

    Args:
        x: (…, n) numbers, such as a weight.   weights: how often each is there; the shape of x; once if None.
    Returns:
        low and high, which `quantize` takes: the shape of the scales.
    Raises:
        ValueError: candidates below 1, or as `find_grid`.
    Cost: `candidates` times that of `quantize`.

    >>> x = torch.tensor([[1.0] * 99 + [8.0]])                   # codes −3 … 3
    >>> [round(mse_range(x, Scheme(bits=3))[1].item(), 2), x.max().item()]
    [3.44, 8.0]
    """
    if candidates < 1:
        raise ValueError(f"candidates must be at least 1, got {candidates!r}")
    check_finite(x)
    view = grouped(x.float(), scheme)
    keep = scheme.per != "tensor"
    axes = (-1,) if keep else tuple(range(view.ndim))
    low, high = view.amin(axes, keepdim=keep), view.amax(axes, keepdim=keep)
    middle = torch.zeros_like(low) if scheme.exact_zero else low.clamp_min(0.0).minimum(high)
    frequency = 1.0 if weights is None else grouped(weights.float(), scheme)
    least, best = torch.full_like(low, math.inf), (low, high)
    for i in range(candidates, 0, -1):
        ends = tuple(middle + (end - middle) * (i / candidates) for end in (low, high))
        grid = find_grid(x, scheme, low=ends[0], high=ends[1])
        error = ((grid.decode(grid.encode(view)) - view).square() * frequency).sum(axes, keepdim=keep)
        better = error < least
        least = torch.where(better, error, least)
        best = tuple(torch.where(better, new, old) for new, old in zip(ends, best, strict=True))
    return best


def _divergence(counts: Tensor, reach: int, levels: int) -> float:
    """KL divergence in nats from the counts, cut off at a bin, to what is left of them on so many levels."""
    kept = counts[:reach].double()
    reference = kept.clone()
    reference[-1] += counts[reach:].sum()  # what is cut off becomes the largest number
    filled = reference > 0
    level = torch.arange(reach) * levels // reach
    mass = torch.zeros(levels, dtype=torch.float64).index_add_(0, level, kept)
    bins = torch.zeros(levels, dtype=torch.float64).index_add_(0, level, filled.double())
    rounded = (mass / bins.clamp_min(1))[level][filled]  # a level's counts, spread evenly over its bins
    p, q = reference[filled] / reference.sum(), rounded / rounded.sum()
    return float((p * (p / q).log()).sum())  # infinite if q is 0 somewhere


def entropy_range(histogram: Histogram, scheme: Scheme, *, stride: int = 8) -> tuple[float, float]:
    """The range in which the distribution of absolute values loses least by rounding, in nats.

    For each end T the histogram up to T, with all counts beyond it in its last bin, is compared with one on as many
    levels as the grid has on one side; the T with the smallest Kullback–Leibler divergence wins. Zeros, of which there
    are many after a ReLU, lie on every grid and have no say: the first bin gets the count of the second.

    Args:
        stride: candidates for T are so many bins apart.
    Cost: O(bins² / stride).
    Source: the calibration of TensorRT.   Differs: bins are shared out among the levels evenly; in onnxruntime's
        version the last level takes what is left over.
    """
    levels = 2 ** (scheme.bits - 1)
    counts = _folded(histogram)
    counts[0] = counts[1]
    if not counts.any():  # nothing but zeros, or one bin next to them
        return histogram.low, histogram.high
    last = int(counts.nonzero().max()) + 1
    ends = sorted({*range(levels, last, stride), max(last, levels)})
    best = min(ends, key=lambda end: _divergence(counts, end, levels))
    end = best * histogram.width
    return max(histogram.low, -end), min(histogram.high, end)


def numbers_wanted(scheme: Scheme, method: str, share: float) -> int:
    """How many numbers a calibration should see: 16 per code, and ten that a percentile cuts off."""
    per_code = 16 * 2**scheme.bits
    return max(per_code, round(10 / (1 - share))) if method == "percentile" and share < 1 else per_code


def choose_range(
    histogram: Histogram, scheme: Scheme, method: str = "min-max", *, share: float = 0.9999, warn: bool = True
) -> tuple[float, float]:
    """The range for a grid per tensor, from all numbers that a histogram has seen.

    Args:
        method: "min-max", "percentile" (with share), "mse" or "entropy".
        warn: whether too few numbers are warned of.
    Returns:
        low and high, which `find_grid` takes.
    Raises:
        ValueError: another method, or an empty histogram.
    Warns:
        UserWarning: fewer numbers than `numbers_wanted` says.

    >>> histogram = Histogram()
    >>> histogram.add(torch.linspace(-1, 3, 5_001))
    >>> choose_range(histogram, Scheme())
    (-1.0, 3.0)
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if histogram.count == 0:
        raise ValueError("the histogram has seen no numbers: calibration needs at least one batch")
    wanted = numbers_wanted(scheme, method, share)
    if warn and histogram.count < wanted:
        warnings.warn(
            f"calibrated on {histogram.count:,} numbers in {histogram.batches} batches; "
            f"{method} with {scheme.bits} bits should see {wanted:,}",
            stacklevel=2,
        )
    if method == "min-max":
        return histogram.low, histogram.high
    if method == "percentile":
        return percentile_range(histogram, scheme, share=share)
    if method == "entropy":
        return entropy_range(histogram, scheme)
    filled = histogram.counts > 0
    centres = histogram.centres[filled].clamp(histogram.low, histogram.high)
    alone = replace(scheme, per="tensor", group_size=None)
    low, high = mse_range(centres, alone, weights=histogram.counts[filled])
    return low.item(), high.item()
