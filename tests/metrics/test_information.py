import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import mutual_info_score

from lmcore.metrics import perplexity
from lmcore.metrics.information import (
    conditional_entropy,
    cross_entropy,
    entropy,
    information_gain,
    js_divergence,
    kl_divergence,
    mutual_information,
)

DICE = [1 / 2, 1 / 4, 1 / 8, 1 / 8]
TWO = (cross_entropy, kl_divergence, js_divergence)
TABLES = (mutual_information, conditional_entropy)


def normalised(counts):
    return counts / counts.sum()


def distributions(shape, smallest=0):
    """Probabilities of a shape, some of them zero."""
    return arrays(int, shape, elements=st.integers(smallest, 99)).filter(lambda a: a.sum() > 0).map(normalised)


def test_by_hand():
    assert entropy(DICE, unit="bits") == pytest.approx(1.75)  # 1/2 + 2/4 + 3/8 + 3/8
    assert entropy(DICE) == pytest.approx(1.75 * math.log(2))
    assert entropy([1.0]) == 0.0
    assert math.copysign(1, entropy([1.0])) == 1
    assert cross_entropy(DICE, [1 / 4] * 4, unit="bits") == pytest.approx(2)
    assert cross_entropy([1 / 4] * 4, DICE, unit="bits") == pytest.approx(9 / 4)
    assert kl_divergence(DICE, [1 / 4] * 4, unit="bits") == pytest.approx(1 / 4)
    assert kl_divergence([1 / 4] * 4, DICE, unit="bits") == pytest.approx(1 / 4)  # the same by chance, as 3/4 and 1/4
    assert kl_divergence([3 / 4, 1 / 4], [1 / 2, 1 / 2], unit="bits") == pytest.approx(0.75 * math.log2(3) - 1)
    half = kl_divergence([1, 0], [3 / 4, 1 / 4]) + kl_divergence([1 / 2, 1 / 2], [3 / 4, 1 / 4])
    assert js_divergence([1, 0], [1 / 2, 1 / 2]) == pytest.approx(half / 2)
    assert js_divergence([1, 0], [1 / 2, 1 / 2], unit="bits") == pytest.approx(1.5 - 0.75 * math.log2(3))
    weather = [[1 / 2, 0], [1 / 4, 1 / 4]]
    assert conditional_entropy(weather, unit="bits") == pytest.approx(1 / 2)
    assert mutual_information(weather, unit="bits") == pytest.approx(entropy([3 / 4, 1 / 4], unit="bits") - 1 / 2)
    assert information_gain(list("aabb"), list("xxyy"), unit="bits") == pytest.approx(1)
    assert information_gain(list("abab"), list("xxyy"), unit="bits") == 0


def test_zero_probabilities():
    assert entropy([0, 1 / 2, 0, 1 / 2], unit="bits") == pytest.approx(1)
    assert cross_entropy([1 / 2, 1 / 2, 0], [1, 0, 0]) == math.inf
    assert kl_divergence([1 / 2, 1 / 2, 0], [1, 0, 0]) == math.inf
    assert kl_divergence([1, 0, 0], [1 / 2, 1 / 2, 0], unit="bits") == pytest.approx(1)
    assert cross_entropy([1, 0], [1, 0]) == kl_divergence([1, 0], [1, 0]) == 0
    assert js_divergence([1, 0, 0], [0, 0, 1], unit="bits") == pytest.approx(1)
    tiny = 5e-324
    assert math.isfinite(kl_divergence([1, 0], [tiny, 1]))
    assert math.isfinite(js_divergence([tiny, 1], [0, 1]))
    assert mutual_information([[tiny, 0], [0, 1]]) == pytest.approx(0, abs=1e-300)


@given(distributions(7), distributions(7), st.sampled_from(["nats", "bits"]))
def test_as_scipy(p, q, unit):
    base = {"nats": math.e, "bits": 2}[unit]
    assert entropy(p, unit=unit) == pytest.approx(scipy_entropy(p, base=base), abs=1e-12)
    divergence = rel_entr(p, q).sum() / math.log(base)
    assert kl_divergence(p, q, unit=unit) == pytest.approx(divergence, abs=1e-12)
    assert cross_entropy(p, q, unit=unit) == pytest.approx(scipy_entropy(p, base=base) + divergence, abs=1e-12)
    assert js_divergence(p, q, unit=unit) == pytest.approx(np.nan_to_num(jensenshannon(p, q, base=base)) ** 2, abs=1e-9)


@given(distributions((3, 5)))
def test_identities(joint):
    """I = H(X) + H(Y) − H(X, Y) = H(Y) − H(Y|X), whichever way round."""
    x, y = joint.sum(axis=1), joint.sum(axis=0)
    information = mutual_information(joint)
    assert information == pytest.approx(entropy(x) + entropy(y) - entropy(joint), abs=1e-12)
    assert information == pytest.approx(entropy(y) - conditional_entropy(joint), abs=1e-12)
    assert information == pytest.approx(mutual_information(joint.T), abs=1e-12)
    assert information == pytest.approx(kl_divergence(joint, np.outer(x, y)), abs=1e-12)
    assert -1e-12 < conditional_entropy(joint) <= entropy(y) + 1e-12


@given(distributions(5), distributions(5))
def test_bounds(p, q):
    assert 0 <= entropy(p) <= math.log(5) + 1e-12
    assert 0 <= js_divergence(p, q) <= math.log(2) + 1e-12
    assert js_divergence(p, q) == pytest.approx(js_divergence(q, p), abs=1e-12)
    assert (kl_divergence(p, q) < 1e-12) == np.allclose(p, q, rtol=0, atol=1e-9)
    assert cross_entropy(p, q) >= entropy(p) - 1e-12


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("xyz")), min_size=1, max_size=41))
def test_information_gain_as_scikit_learn(pairs):
    labels, feature = zip(*pairs, strict=True)
    assert information_gain(labels, feature) == pytest.approx(mutual_info_score(labels, feature), abs=1e-12)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=31), distributions(5, smallest=1))
def test_a_text_and_its_frequencies_have_one_cross_entropy(text, q):
    """One concept, two places: tokens and their log-probabilities, or frequencies and probabilities."""
    frequencies = np.bincount(text, minlength=5) / len(text)
    assert cross_entropy(frequencies, q) == pytest.approx(perplexity.cross_entropy(np.log(q[text])))


@pytest.mark.parametrize(
    ("p", "message"),
    [
        ([], "{} is empty"),
        ([0.5, 0.6, -0.1], r"{}\[2\] = -0.1 is below zero"),
        ([0.5, math.nan], r"{}\[1\] = nan is not a finite number"),
        ([math.inf, 0.5], r"{}\[0\] = inf is not a finite number"),
        ([3, 4], "{} sums to 7, not to 1; divide counts by their sum"),
        ([0.5, 0.5 + 3e-6], "{} sums to 1.000003, not to 1"),
        (["a", "b"], "{} must be an array of numbers"),
        ([[0.5], [0.2, 0.3]], "{} must be an array of numbers"),
    ],
)
def test_what_is_not_a_distribution(p, message):
    with pytest.raises(ValueError, match=message.format("p", "p")):
        entropy(p)
    for function in TWO:
        with pytest.raises(ValueError, match=message.format("p", "p")):
            function(p, [0.5, 0.5])
        with pytest.raises(ValueError, match=message.format("q", "q")):
            function([0.5, 0.5], p)
    for function in TABLES:
        with pytest.raises(ValueError, match=message.format("joint", "joint")):
            function(p)


def test_a_sum_within_the_tolerance_is_taken():
    assert entropy([0.5, 0.5 + 5e-7]) == pytest.approx(math.log(2), abs=1e-6)


def test_other_errors():
    for function in TWO:
        with pytest.raises(ValueError, match=r"p has shape \(2,\) and q \(3,\): both must list the same outcomes"):
            function([0.5, 0.5], [0.5, 0.5, 0])
        with pytest.raises(ValueError, match="unit must be one of 'nats', 'bits', got 'bit'"):
            function([0.5, 0.5], [0.5, 0.5], unit="bit")
    for function in TABLES:
        with pytest.raises(ValueError, match=r"joint must be a table of two dimensions.*\(2,\)"):
            function([0.5, 0.5])
        with pytest.raises(ValueError, match="unit must be one of"):
            function([[0.5, 0.5]], unit=2)
    with pytest.raises(ValueError, match="unit must be one of"):
        entropy([1], unit="shannons")
    with pytest.raises(ValueError, match="there are 3 labels and 2 values of the feature"):
        information_gain([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match=r"labels must be a list of at least one value, got shape \(0,\)"):
        information_gain([], [])
    with pytest.raises(ValueError, match=r"feature\[1\] is NaN"):
        information_gain([1, 2], [1, math.nan])
    with pytest.raises(ValueError, match="unit must be one of"):
        information_gain([1, 2], [1, 2], unit="dits")
