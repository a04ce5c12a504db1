"""BERTScore: by hand, the paper's formula as a slow loop, what a swap, an identity and an order change, errors."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore.metrics.bertscore import bertscore, idf_weights, similarities

SQRT = math.sqrt(0.5)


def vectors(rng, tokens, d=5):
    return rng.normal(size=(tokens, d)) * rng.uniform(0.1, 9, size=(tokens, 1))


# ---- hand-worked ----


def test_by_hand():
    """Directions at 0 and 90 degrees against 0, 45 and 180: who matches whom can be seen on paper."""
    hypothesis, reference = [[2, 0], [0, 3]], [[1, 0], [5, 5], [-1, 0]]
    np.testing.assert_allclose(similarities(hypothesis, reference), [[1, SQRT, -1], [0, SQRT, 0]], atol=1e-15)
    found = bertscore([hypothesis], [reference])
    p, r = (1 + SQRT) / 2, (1 + SQRT + 0) / 3
    np.testing.assert_allclose(np.array(found)[:, 0], [p, r, 2 * p * r / (p + r)])
    weighted = bertscore([hypothesis], [reference], weights=([[3, 1]], [[0, 2, 2]]))
    p, r = (3 + SQRT) / 4, SQRT / 2
    np.testing.assert_allclose(np.array(weighted)[:, 0], [p, r, 2 * p * r / (p + r)])


def test_one_token_may_be_the_partner_of_many():
    found = bertscore([[[1, 0], [1, 0], [1, 0]]], [[[1, 0], [0, 1]]])
    assert (found.precision[0], found.recall[0]) == (1, 0.5)


def test_rescaling_by_hand():
    plain, pair = bertscore([[[1, 0]]], [[[3, 4]]]), ([[[1, 0]]], [[[3, 4]]])
    assert plain.f1[0] == pytest.approx(0.6)
    assert bertscore(*pair, baseline=0.2).f1[0] == pytest.approx(0.5)
    three = bertscore(*pair, baseline=(0.2, -1, 0.5))
    np.testing.assert_allclose(np.array(three)[:, 0], [0.5, 0.8, 0.2])  # F1 is rescaled itself, by its own baseline


def test_opposite_vectors_have_no_harmonic_mean():
    found = bertscore([[[1, 0]]], [[[-1, 0]]])
    assert (found.precision[0], found.recall[0], found.f1[0]) == (-1, -1, 0)


def test_idf_by_hand():
    references = [["the", "cat", "cat"], ["the", "mat"], ["the", "cat"]]
    first, empty = idf_weights([["cat", "the", "dog", "cat"], []], references)
    np.testing.assert_allclose(first, np.log([4 / 3, 1, 4, 4 / 3]))
    assert empty.shape == (0,)


# ---- oracle ----


def paper(x, y, idf_x, idf_y):
    """Precision, recall and F1 of reference x and candidate y as section 3 of the paper writes them."""

    def cosine(a, b):
        return sum(i * j for i, j in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)

    recall = sum(w * max(cosine(a, b) for b in y) for a, w in zip(x, idf_x, strict=True)) / sum(idf_x)
    precision = sum(w * max(cosine(a, b) for a in x) for b, w in zip(y, idf_y, strict=True)) / sum(idf_y)
    return precision, recall, 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("weighted", [False, True])
def test_as_the_formula_of_the_paper(weighted):
    rng = np.random.default_rng(0)
    hypotheses = [vectors(rng, n) for n in (3, 7, 1, 11)]
    references = [vectors(rng, n) for n in (5, 2, 13, 11)]
    weights = [[rng.uniform(0, 3, size=len(x)) for x in side] for side in (hypotheses, references)]
    found = bertscore(hypotheses, references, weights=tuple(weights) if weighted else None)
    for i, (h, r) in enumerate(zip(hypotheses, references, strict=True)):
        w_h, w_r = (side[i] if weighted else np.ones(len(x)) for side, x in zip(weights, (h, r), strict=True))
        np.testing.assert_allclose([score[i] for score in found], paper(r, h, w_r, w_h), rtol=1e-12)


# ---- property ----

SIZES = st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=5)


@given(SIZES, st.integers(0, 999))
def test_swap_bounds_and_order(sizes, seed):
    rng = np.random.default_rng(seed)
    a, b = ([vectors(rng, n) for n in side] for side in zip(*sizes, strict=True))
    there, back = bertscore(a, b), bertscore(b, a)
    np.testing.assert_allclose(there.precision, back.recall)
    np.testing.assert_allclose(there.f1, back.f1)
    assert all((score >= -1 - 1e-12).all() and (score <= 1 + 1e-12).all() for score in there[:2])
    positive = np.minimum(there.precision, there.recall) > 0
    between = (np.minimum(*there[:2]) <= there.f1 + 1e-12) & (there.f1 <= np.maximum(*there[:2]) + 1e-12)
    assert between[positive].all()
    shuffled = [rng.permutation(x) * 7 for x in a]  # neither the order nor the length of vectors counts
    np.testing.assert_allclose(bertscore(shuffled, b), there)
    np.testing.assert_allclose(bertscore(a, a), 1)


@given(st.integers(0, 999), st.integers(1, 5))
def test_whole_weights_are_repetitions(seed, times):
    rng = np.random.default_rng(seed)
    a, b = vectors(rng, 3), vectors(rng, 4)
    weighted = bertscore([a], [b], weights=([[1, times, 2]], [[1, 1, 1, times]]))
    repeated = bertscore([np.repeat(a, [1, times, 2], axis=0)], [np.repeat(b, [1, 1, 1, times], axis=0)])
    np.testing.assert_allclose(weighted, repeated)


# ---- errors ----


@pytest.mark.parametrize(
    ("pair", "options", "message"),
    [
        (([], []), {}, "there are 0 hypotheses and 0 references: one each, at least one"),
        (([[[1]]], []), {}, "there are 1 hypotheses and 0 references"),
        (([np.empty((0, 2))], [[[1, 0]]]), {}, r"pair 0: hypothesis must be \(tokens, dimension\).*got shape \(0, 2\)"),
        (([[[1]], [[1]]], [[[1]], [1, 0]]), {}, r"pair 1: reference must be .*got shape \(2,\)"),
        (([[[1, 0, 0]]], [[[1, 0]]]), {}, "pair 0: the vectors of hypothesis have length 3, those of reference 2"),
        (([[[1, 0]]], [[[1, 0], [0, 0]]]), {}, "pair 0: reference: the vector of token 1 is 0 or not finite"),
        (([[[1, math.nan]]], [[[1, 0]]]), {}, "pair 0: hypothesis: the vector of token 0 is 0 or not finite"),
        (([[[1, math.inf]]], [[[1, 0]]]), {}, "token 0 is 0 or not finite"),
        (([[[1]]], [[[1]]]), {"baseline": 1}, "baseline must be one number below 1, or three, got 1"),
        (([[[1]]], [[[1]]]), {"baseline": (0, 0)}, r"baseline must be .*got \(0, 0\)"),
        (([[[1]]], [[[1]]]), {"weights": ([[1]], [])}, "there are 1 references, but weights for 0"),
        (([[[1]]], [[[1]]]), {"weights": ([[1, 1]], [[1]])}, r"s\[0\] has 1 tokens, but weights of shape \(2,\)"),
        (([[[1]]], [[[1]]]), {"weights": ([[1]], [[0]])}, r"references\[0\] must be at least 0 and not all 0"),
        (([[[1]]], [[[1]]]), {"weights": ([[-1]], [[1]])}, r"weights of hypotheses\[0\] must be at least 0"),
    ],
)  # fmt: skip
def test_errors(pair, options, message):
    with pytest.raises(ValueError, match=message):
        bertscore(*pair, **options)


def test_idf_needs_references():
    with pytest.raises(ValueError, match="references is empty"):
        idf_weights([["a"]], [])
