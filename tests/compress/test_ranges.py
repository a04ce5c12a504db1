"""Ranges from histograms: by hand, against numpy, brute force and onnxruntime, independence of order, errors."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.compress.affine import Scheme, fake_quantize
from lmcore.compress.calibration import (
    HALF,
    METHODS,
    Histogram,
    choose_range,
    entropy_range,
    mse_range,
    percentile_range,
)

ASYMMETRIC = Scheme(symmetric=False)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def histogram(*batches):
    result = Histogram()
    for batch in batches:
        result.add(batch)
    return result


# ---- the histogram ----


def test_bins_by_hand():
    h = histogram(torch.tensor([0.0, 0.5, -0.5, 0.99, -1e-9]))  # reach 1, bins of 1 / 2048
    assert (h.reach, h.width, h.count, h.batches) == (1.0, 1 / 2048, 5, 1)
    filled = {int(i) - HALF: int(h.counts[i]) for i in h.counts.nonzero()}
    assert filled == {0: 1, 1024: 1, -1024: 1, 2027: 1, -1: 1}
    h.add(torch.tensor([2.5]))  # reach 4: four bins become one
    filled = {int(i) - HALF: int(h.counts[i]) for i in h.counts.nonzero()}
    assert filled == {0: 1, 256: 1, -256: 1, 506: 1, -1: 1, 1280: 1}


@given(st.permutations(range(4)), st.integers(0, 100))
def test_the_order_of_batches_does_not_matter(order, seed):
    batches = [normal(7, seed=seed + i) * 10.0**i for i in range(-2, 2)]
    one, other = histogram(*batches), histogram(*(batches[i] for i in order))
    assert torch.equal(one.counts, other.counts)
    assert (one.reach, one.low, one.high) == (other.reach, other.low, other.high)
    assert torch.equal(one.counts, histogram(torch.cat(batches)).counts)


@given(st.integers(0, 100), st.integers(-40, 40))
def test_counts_are_numpys(seed, power):
    x = normal(97, seed=seed) * 2.0**power
    h = histogram(x)
    edges = np.linspace(-h.reach, h.reach, 2 * HALF + 1)
    assert np.array_equal(h.counts.numpy(), np.histogram(x.double().numpy(), edges)[0])
    assert h.reach / 2 <= x.abs().max() < h.reach


def test_only_zeros():
    h = histogram(torch.zeros(5), torch.zeros(3))
    assert h.counts[HALF] == h.count == 8
    for method in METHODS:
        assert choose_range(h, Scheme(), method, warn=False) == (0.0, 0.0)
    h.add(torch.tensor([3.0]))
    assert h.counts[HALF] == 8


# ---- ways to choose ----


def test_min_max():
    h = histogram(torch.tensor([1.0, -2.0]), torch.tensor([5.0]))
    assert choose_range(h, Scheme(), warn=False) == (-2.0, 5.0)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999, 1.0])
def test_percentiles_are_numpys_to_a_bin(share):
    x = normal(5_003) + 0.5
    h = histogram(x)
    low, high = percentile_range(h, ASYMMETRIC, share=share)
    expected = np.quantile(x, [(1 - share) / 2, (1 + share) / 2], method="inverted_cdf")
    np.testing.assert_allclose([low, high], expected, atol=h.width)
    end = np.quantile(x.abs(), share, method="inverted_cdf")
    low, high = percentile_range(h, Scheme(), share=share)
    assert end <= max(-low, high) <= end + h.width


def test_percentile_of_a_one_sided_distribution():
    low, high = percentile_range(histogram(normal(5_003).relu()), ASYMMETRIC, share=0.99)
    assert low == 0.0
    assert high == pytest.approx(2.576, abs=0.15)  # the 0.995 quantile of the normal distribution


def brute_force(x, scheme, low, high):
    """The best of the same candidates, one after another."""
    candidates = [i / 100 for i in range(1, 101)]
    errors = [float((fake_quantize(x, scheme, low=low * c, high=high * c) - x).square().sum()) for c in candidates]
    return candidates[int(np.argmin(errors))], min(errors)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_mse_is_the_best_of_all_candidates(bits, symmetric):
    x = normal(3, 83) * torch.tensor([[1.0], [0.1], [30.0]])
    scheme = Scheme(bits=bits, symmetric=symmetric)
    low, high = mse_range(x, scheme)
    assert low.shape == (3, 1)
    for row in range(3):
        share, least = brute_force(x[row : row + 1], scheme, x[row].min(), x[row].max())
        ours = fake_quantize(x[row : row + 1], scheme, low=low[row], high=high[row])
        assert float((ours - x[row]).square().sum()) == pytest.approx(least, rel=1e-4)
        assert high[row].item() == pytest.approx(x[row].max().item() * share, rel=1e-4)


def test_mse_of_a_histogram_is_that_of_its_numbers():
    x = normal(20_011)
    for bits in (3, 8):
        scheme = Scheme(bits=bits, per="tensor")
        _, high = choose_range(histogram(x), scheme, "mse", warn=False)
        share, _ = brute_force(x, scheme, x.min(), x.max())
        assert high == pytest.approx(x.max().item() * share, rel=0.03)


def test_mse_for_the_normal_distribution():
    # 4 bits, symmetric: the best step of a uniform quantiser with 15 levels lies near 0.33 standard deviations
    _, high = choose_range(histogram(normal(200_003)), Scheme(bits=4), "mse", warn=False)
    assert 2.2 < high < 2.6


def test_mse_with_groups_and_weights():
    x = torch.tensor([[1.0, 1.0, 1.0, 8.0, 1.0, 1.0, 1.0, 8.0]])
    often = torch.tensor([[99.0 / 3] * 3 + [1.0] + [1.0] * 3 + [1e6]])
    _, high = mse_range(x, Scheme(bits=3, per="group", group_size=4), weights=often)
    assert high[0, :, 0].tolist() == pytest.approx([3.44, 8.0], abs=0.01)  # the first as in the docstring


def test_free_ranges_need_not_hold_zero():
    x = torch.tensor([[5.0, 5.5, 6.0, 6.5]])
    low, high = mse_range(x, Scheme(bits=2, symmetric=False, exact_zero=False))
    assert (low.item(), high.item()) == (5.0, 6.5)


def by_definition(counts, bins, levels):
    """KL divergence with loops, after Migacz's slides."""
    reference = [float(c) for c in counts[:bins]]
    kept = list(reference)
    reference[-1] += float(counts[bins:].sum())
    rounded = [0.0] * bins
    for level in range(levels):
        members = [b for b in range(bins) if b * levels // bins == level]
        filled = [b for b in members if reference[b] > 0]
        for b in filled:
            rounded[b] = sum(kept[m] for m in members) / len(filled)
    p, q = np.array(reference) / sum(reference), np.array(rounded) / sum(rounded)
    return sum(a * math.log(a / b) if b else math.inf for a, b in zip(p, q, strict=True) if a)


def test_entropy_is_the_least_divergence_by_definition():
    x = torch.cat([normal(3_001), torch.tensor([12.0, -11.0])])
    h, scheme = histogram(x), Scheme(bits=4)
    counts = h.counts[HALF:] + h.counts[:HALF].flip(0)
    counts[0] = counts[1]
    ends = [*range(8, int(counts.nonzero().max()), 64), int(counts.nonzero().max()) + 1]
    best = min(ends, key=lambda end: by_definition(counts.numpy(), end, 8))
    assert entropy_range(h, scheme, stride=64) == (-best * h.width, best * h.width)
    assert best * h.width < 6.0  # the two outliers are cut off


def test_entropy_does_not_count_zeros():
    x = normal(20_011).relu()
    with_zeros, without = (choose_range(histogram(part), ASYMMETRIC, "entropy") for part in (x, x[x > 0]))
    assert with_zeros[1] == without[1] > 3.0
    assert with_zeros[0] == 0.0


@pytest.mark.parametrize("outliers", [0, 31])
def test_entropy_is_near_onnxruntimes(outliers):
    from onnxruntime.quantization.calibrate import HistogramCollector

    x = torch.cat([2 * normal(50_021), 24 * normal(outliers, seed=1)])
    h, bits, coarse = histogram(x), 5, 8  # theirs loops over bins in Python: an eighth as many of them
    collector = HistogramCollector("entropy", True, 2 * HALF // coarse, 2**bits, 99.99, "same")
    edges = np.linspace(-h.reach, h.reach, 2 * HALF + 1, dtype=np.float32)[::coarse]
    counts = h.counts.view(-1, coarse).sum(1).numpy()
    theirs = collector.get_entropy_threshold((counts, edges, -h.reach, h.reach), 2**bits)
    _, high = choose_range(h, Scheme(bits=bits), "entropy")
    assert high == pytest.approx(float(theirs[1]), rel=0.15)
    assert not outliers or h.high > 40


@pytest.mark.parametrize("method", METHODS[1:])
def test_an_outlier_widens_min_max_and_not_the_others(method):
    x, outlier = normal(100_003), torch.tensor([100.0])
    before = choose_range(histogram(x), Scheme(bits=4), method, share=0.999)
    after = choose_range(histogram(x, outlier), Scheme(bits=4), method, share=0.999)
    assert after[1] < 8
    assert after[1] == pytest.approx(before[1], rel=0.25)
    assert choose_range(histogram(x, outlier), Scheme())[1] == 100


@pytest.mark.parametrize("method", METHODS)
@given(st.integers(0, 1000), st.integers(2, 8), st.booleans(), st.integers(-10, 10))
def test_ranges_lie_inside_the_numbers_seen(method, seed, bits, symmetric, power):
    x = normal(301, seed=seed) * 2.0**power + (seed % 3) * 2.0**power
    low, high = choose_range(histogram(x), Scheme(bits=bits, symmetric=symmetric), method, share=0.95, warn=False)
    assert x.min() <= low <= high <= x.max()


# ---- warnings and errors ----


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("min-max", "calibrated on 7 numbers in 2 batches; min-max with 8 bits should see 4,096"),
        ("percentile", "percentile with 8 bits should see 10,000"),
    ],
)
def test_too_few_numbers(method, message):
    with pytest.warns(UserWarning, match=message):
        choose_range(histogram(normal(3), normal(4)), Scheme(), method, share=0.999)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choose_range(histogram(normal(10_001)), Scheme(), method, share=0.999)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="method must be one of min-max, percentile, mse, entropy, got 'max'"):
        choose_range(histogram(normal(3)), Scheme(), "max")
    with pytest.raises(ValueError, match="the histogram has seen no numbers"):
        choose_range(Histogram(), Scheme())
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\], got 99.9"):
        choose_range(histogram(normal(3)), Scheme(), "percentile", share=99.9, warn=False)
    with pytest.raises(ValueError, match="1 of 2 numbers of x are NaN"):
        Histogram().add(torch.tensor([1.0, torch.nan]))
    with pytest.raises(ValueError, match="candidates must be at least 1, got 0"):
        mse_range(normal(2, 3), Scheme(), candidates=0)
