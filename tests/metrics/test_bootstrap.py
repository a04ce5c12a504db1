import logging
import math

import numpy as np
import pytest
import scipy.stats
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

from lmcore.metrics import bootstrap
from lmcore.metrics.bleu import bleu_counts, bleu_from_counts
from lmcore.metrics.bootstrap import bootstrap_interval, paired_bootstrap, paired_randomization

logging.getLogger("sacrebleu").setLevel(logging.ERROR)
WORDS = "the a cat dog sat on mat rug and slept".split()


def mean(sums):
    return sums[0] / sums[1]


def bleu(sums):
    return bleu_from_counts(sums).score


def with_ones(values):
    return np.column_stack([values, np.ones(len(values))])


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def systems():
    """References, a system that errs in every fourth word, and one that errs in every third."""
    rng = generator(37)
    references = [[str(w) for w in rng.choice(WORDS, size=rng.integers(5, 17))] for _ in range(101)]

    def worsened(share):
        return [" ".join(str(rng.choice(WORDS)) if rng.random() < share else w for w in r) for r in references]

    return [" ".join(r) for r in references], worsened(0.25), worsened(0.3)


def test_randomization_by_hand():
    """Differences 1, 1, 1, −1: of the 16 sums of ±1 ±1 ±1 ±1, ten are at least 2 or at most −2."""
    first, second = with_ones([1, 1, 1, 0]), with_ones([0, 0, 0, 1])
    found = paired_randomization(mean, first, second, rng=generator())
    assert found.difference == 0.5
    assert set(found.samples) == {-1, -0.5, 0, 0.5, 1}
    assert found.p_value == pytest.approx(10 / 16, abs=0.02)
    assert found.p_value == (np.sum(abs(found.samples) >= 0.5) + 1) / 10_001


def test_interval_by_hand():
    """Two items, 0 and 1: a resampled mean is 0, ½ or 1 with probability ¼, ½, ¼."""
    found = bootstrap_interval(mean, with_ones([0, 1]), rng=generator(), n_samples=4000)
    assert found.estimate == 0.5
    assert (found.low, found.high) == (0, 1)
    assert [np.mean(found.samples == x) for x in (0, 0.5, 1)] == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    narrow = bootstrap_interval(mean, with_ones([0, 1]), rng=generator(), n_samples=4000, level=0.4)
    assert (narrow.low, narrow.high) == (0.5, 0.5)


def test_paired_bootstrap_by_hand():
    """Differences 1 and 3: resampled means are 1, 2, 3; both ends lie as far from 2 as half the difference."""
    found = paired_bootstrap(mean, with_ones([1, 4]), with_ones([0, 1]), rng=generator(), n_samples=4000)
    assert found.difference == 2
    assert set(found.samples) == {1, 2, 3}
    assert found.p_value == 1 / 4001
    found = paired_bootstrap(mean, with_ones([1, 2]), with_ones([0, 3]), rng=generator(), n_samples=4000)
    assert (found.difference, found.p_value) == (0, 1)


def test_the_same_system_twice_differs_by_nothing(systems):
    counts = bleu_counts(systems[1], systems[0])
    for test in (paired_bootstrap, paired_randomization):
        found = test(bleu, counts, counts, rng=generator(), n_samples=100)
        assert (found.difference, found.p_value) == (0, 1)
    rng = generator(5)
    noisy = with_ones(rng.normal(size=53))
    same_but_one = noisy + np.eye(53)[:, :1] @ [[1e-3, 0]]  # one item differs, so any swap gives ± the same
    assert paired_randomization(mean, noisy, same_but_one, rng=rng, n_samples=200).p_value == 1


@pytest.mark.parametrize("cells", [bootstrap._CELLS, 1, 7000])
def test_as_sacrebleu(systems, monkeypatch, cells):
    """The same random numbers choose the same sentences, in one piece or many, so the numbers are equal."""
    monkeypatch.setattr(bootstrap, "_CELLS", cells)
    references, first, second = systems
    table = [bleu_counts(lines, references) for lines in (first, second)]
    named = [("first", first), ("second", second)]
    n = 331
    theirs = {
        kind: PairedTest(named, {"BLEU": BLEU()}, [references], test_type=kind, n_samples=n)()[1]["BLEU"]
        for kind in ("ar", "bs")
    }
    ours = paired_randomization(bleu, *table, rng=generator(12345), n_samples=n)
    assert ours.p_value == pytest.approx(theirs["ar"][1].p_value)
    assert bleu(table[0].sum(axis=0)) - theirs["ar"][1].score == pytest.approx(ours.difference)

    for counts, result in zip(table, theirs["bs"], strict=True):
        interval = bootstrap_interval(bleu, counts, rng=generator(12345), n_samples=n)
        assert interval.estimate == pytest.approx(result.score)
        assert interval.samples.mean() == pytest.approx(result.mean)
        ends = np.sort(interval.samples)[[n // 40, n - n // 40 - 1]]
        assert (ends[1] - ends[0]) / 2 == pytest.approx(result.ci)
        assert (interval.low, interval.high) == pytest.approx(tuple(ends), abs=0.3)
    ours = paired_bootstrap(bleu, *table, rng=generator(12345), n_samples=n)
    absolute = abs(ours.samples)  # what sacrebleu makes of the same differences
    one_sided = (np.sum(absolute - absolute.mean() > ours.difference) + 1) / (n + 1)
    assert one_sided == pytest.approx(theirs["bs"][1].p_value)


def test_as_scipy():
    rng = generator(41)
    first, second = rng.gamma(2, size=(2, 11)) + np.array([[0.9], [0]])
    exact = scipy.stats.permutation_test(
        (first, second), lambda a, b: np.mean(a) - np.mean(b), permutation_type="samples", n_resamples=np.inf
    )
    found = paired_randomization(mean, with_ones(first), with_ones(second), rng=rng, n_samples=20_000)
    assert found.p_value == pytest.approx(exact.pvalue, abs=0.01)
    assert found.difference == pytest.approx(exact.statistic)
    peer = scipy.stats.bootstrap((first,), np.mean, method="percentile", rng=rng, confidence_level=0.9)
    ours = bootstrap_interval(mean, with_ones(first), rng=rng, level=0.9, n_samples=9999)
    assert (ours.low, ours.high) == pytest.approx(tuple(peer.confidence_interval), abs=0.05)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng, covered = generator(43), []
    for _ in range(400):
        found = bootstrap_interval(mean, with_ones(rng.random(101) < 0.8), rng=rng, n_samples=200, level=0.9)
        covered.append(found.low <= 0.8 <= found.high)
    assert 0.85 < np.mean(covered) < 0.94
    widths = []
    for n in (101, 1616):
        found = bootstrap_interval(mean, with_ones(np.arange(n) % 5 > 0), rng=rng, n_samples=2000)
        widths.append(found.high - found.low)
        assert widths[-1] == pytest.approx(2 * 1.96 * math.sqrt(0.16 / n), rel=0.15)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.15)  # sixteen times the items, a quarter of the width


@pytest.mark.parametrize("test", [paired_bootstrap, paired_randomization])
def test_equal_systems_are_called_different_as_often_as_the_level_says(test):
    rng = generator(47)
    null, real = [], []
    for _ in range(300):
        hard = rng.normal(size=(67, 1))  # hard items are hard for both
        scores = hard + rng.normal(size=(67, 2))
        null.append(test(mean, with_ones(scores[:, 0]), with_ones(scores[:, 1]), rng=rng, n_samples=199).p_value)
        better = with_ones(scores[:, 0] + 0.6)
        real.append(test(mean, better, with_ones(scores[:, 1]), rng=rng, n_samples=199).p_value)
    assert 0.01 < np.mean(np.array(null) <= 0.05) < 0.1
    assert 0.4 < np.mean(null) < 0.6
    assert np.mean(np.array(real) <= 0.05) > 0.85


def test_seeds():
    counts = with_ones(np.arange(13))
    one, two, other = (bootstrap_interval(mean, counts, rng=generator(seed)).samples for seed in (1, 1, 2))
    assert (one == two).all()
    assert (one != other).any()


def test_errors():
    good = with_ones([0, 1, 1])
    rng = generator()
    for function in (
        lambda table, **more: bootstrap_interval(mean, table, **{"rng": rng, **more}),
        lambda table, **more: paired_bootstrap(mean, table, good, **{"rng": rng, **more}),
        lambda table, **more: paired_randomization(mean, table, good, **{"rng": rng, **more}),
    ):
        with pytest.raises(ValueError, match=r"must have the shape \(items, numbers per item\), got \(3,\)"):
            function([1, 2, 3])
        with pytest.raises(ValueError, match="has a single item"):
            function([[1, 2]])
        with pytest.raises(ValueError, match=r"\[1, 0\] = nan is not a finite number"):
            function([[1, 1], [math.nan, 1], [1, 1]])
        with pytest.raises(ValueError, match="n_samples must be at least 1, got 0"):
            function(good, n_samples=0)
        with pytest.raises(TypeError, match=r"rng must be a numpy\.random\.Generator, got int"):
            function(good, rng=0)
    for test in (paired_bootstrap, paired_randomization):
        with pytest.raises(ValueError, match=r"first has shape \(2, 2\) and second \(3, 2\)"):
            test(mean, good[:2], good, rng=rng)
    for level in (0, 1, 95):
        with pytest.raises(ValueError, match=f"level must lie between 0 and 1, got {level}"):
            bootstrap_interval(mean, good, rng=rng, level=level)
