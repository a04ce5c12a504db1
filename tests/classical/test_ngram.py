"""Maximum likelihood, add-k, interpolation, Kneser–Ney: numbers from paper, nltk, properties, errors."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.lm import MLE, KneserNeyInterpolated, Lidstone
from scipy.optimize import minimize

from lmcore.classical.interpolation import Interpolated
from lmcore.classical.kneser_ney import KneserNey, KneserNeyArrays, resolve_discounts
from lmcore.classical.ngram import AddK, MaximumLikelihood
from lmcore.text.vocab import BOS, EOS, UNK

TOY = [s.split() for s in ("the cat sat", "the cat ran", "the dog sat", "a cat slept")]
ALL = [MaximumLikelihood, AddK, Interpolated, KneserNey, KneserNeyArrays]
SENTENCES = st.lists(st.lists(st.sampled_from("abcde"), max_size=7), min_size=1, max_size=11)
HISTORIES = st.lists(st.sampled_from(["a", "b", "zebra", BOS]), max_size=5)


def random_sentences(seed, n=47, words=11):
    rng = np.random.default_rng(seed)
    return [[f"w{int(i)}" for i in rng.zipf(1.6, size=rng.integers(1, 13)) % words] for _ in range(n)]


def nltk_ngrams(sentences, order):
    """The n-grams that end in a predicted word: the convention of this book, in the form that nltk takes."""
    for sentence in sentences:
        words = [BOS] * (order - 1) + sentence + [EOS]
        yield [tuple(words[i - m + 1 : i + 1]) for i in range(order - 1, len(words)) for m in range(1, order + 1)]


def fit_nltk(model, sentences, order):
    model.fit(nltk_ngrams(sentences, order), vocabulary_text=[w for s in sentences for w in [*s, BOS, EOS]])
    return model


def events(sentences, order):
    for sentence in sentences:
        words = [BOS] * (order - 1) + sentence + [EOS]
        for i in range(order - 1, len(words)):
            yield words[i - order + 1 : i], words[i]


# ---- hand-worked ----


def test_maximum_likelihood_by_hand():
    model = MaximumLikelihood(2).fit(TOY)
    assert model.prob("cat", ["the"]) == pytest.approx(2 / 3)
    assert model.prob("the", [BOS]) == pytest.approx(3 / 4)
    assert np.exp(model.logprobs("a cat sat".split())).prod() == pytest.approx(1 / 12)
    assert model.logprobs("a dog sat".split())[1] == -math.inf
    assert model.prob("cat", ["zebra"]) == 0


def test_add_k_by_hand():
    model = AddK(2, k=0.5).fit(TOY)
    assert len(model.vocabulary_) == 9  # seven words, <unk>, </s>
    assert model.prob("cat", ["the"]) == pytest.approx((2 + 0.5) / (3 + 4.5))
    assert model.prob("cat", ["zebra"]) == pytest.approx(1 / 9)
    assert model.prob("zebra", ["the"]) == pytest.approx(0.5 / 7.5)


def test_interpolation_by_hand():
    model = Interpolated(2, weights=[0.8, 0.6]).fit(TOY)
    unigram = 0.8 * 3 / 16 + 0.2 / 9  # "cat" is 3 of 16 words, ends included
    assert model.prob("cat", ["the"]) == pytest.approx(0.6 * 2 / 3 + 0.4 * unigram)
    assert model.prob("cat", ["zebra"]) == pytest.approx(unigram)


@pytest.mark.parametrize("kind", [KneserNey, KneserNeyArrays])
def test_kneser_ney_by_hand(kind):
    model = kind(2, discount=(0, 0.75)).fit(TOY)
    # 12 different bigrams: <s> the/a, the cat/dog, a cat, cat sat/ran/slept, dog sat, sat/ran/slept </s>
    cat = 2 / 12  # seen after "the" and "a"
    assert model.prob("cat", []) == pytest.approx(cat)
    assert model.prob("cat", ["the"]) == pytest.approx((2 - 0.75) / 3 + 0.75 * 2 / 3 * cat)
    assert model.prob("sat", ["the"]) == pytest.approx(0.75 * 2 / 3 * 2 / 12)
    assert model.prob("cat", ["zebra"]) == pytest.approx(cat)


def test_discounts_by_hand():
    counts = Counter({1: 10, 2: 4, 3: 3, 4: 2, 5: 9})
    y = 10 / 18
    expected = [1 - 2 * y * 4 / 10, 2 - 3 * y * 3 / 4, 3 - 4 * y * 2 / 3]
    assert resolve_discounts(None, [counts])[0] == pytest.approx(expected)
    assert resolve_discounts(None, [Counter({1: 3})])[0] == pytest.approx([0.5, 1.0, 1.5])
    # Y = 1/3: D₁ = 1 − 2/3, D₂ = 2 − 2/10, but D₃ = 3 − 40/6 is below zero and would leave nothing to unseen words
    rough = Counter({1: 10, 2: 10, 3: 2, 4: 10})
    assert resolve_discounts(None, [rough])[0] == pytest.approx([1 / 3, 1.8, 1.5])
    assert resolve_discounts(0.4, [counts, counts]) == pytest.approx(np.full((2, 3), 0.4))
    assert resolve_discounts((0, 0.5), [counts, counts]) == pytest.approx(np.array([[0] * 3, [0.5] * 3]))


def test_explain_is_the_probability_taken_apart():
    model = KneserNey(3, discount=0.75).fit(TOY)
    steps = model.explain("cat", ["saw", "the"])
    assert [step.history for step in steps] == [(UNK, "the"), ("the",), (), None]
    assert steps[0][1:] == (0.0, 1.0, 0.0)  # never seen: leaves everything
    assert sum(step.contribution for step in steps) == pytest.approx(model.prob("cat", ["saw", "the"]))
    assert steps[-1].own == pytest.approx(1 / 9)


@pytest.mark.parametrize("kind", [MaximumLikelihood, AddK, Interpolated, KneserNey])
def test_shared_counts_are_as_good_as_own(kind):
    sentences = random_sentences(9)
    counted = AddK(3, min_count=2).fit(sentences)
    own, shared = kind(3, min_count=2).fit(sentences), kind(3, min_count=2).share_counts(counted)
    np.testing.assert_array_equal(own.score(sentences), shared.score(sentences))
    with pytest.raises(ValueError, match="order is 2 here and 3 in the fitted model"):
        kind(2, min_count=2).share_counts(counted)
    with pytest.raises(ValueError, match="min_count is 1 here and 2 in the fitted model"):
        kind(3).share_counts(counted)
    with pytest.raises(ValueError, match="has counted nothing yet"):
        kind(3).share_counts(AddK(3))


def test_rare_words_become_unknown():
    for kind in ALL:
        model = kind(2, min_count=2).fit(TOY)
        assert model.vocabulary_ == sorted(["the", "cat", "sat", UNK, EOS])
        assert model.prob("dog", ["the"]) == model.prob("zebra", ["the"]) > 0


# ---- oracles ----


@pytest.mark.parametrize("order", [1, 2, 3])
def test_maximum_likelihood_and_add_k_equal_nltk(order):
    sentences, new = random_sentences(0), random_sentences(1, n=7)
    ml, oracle = MaximumLikelihood(order).fit(sentences), fit_nltk(MLE(order), sentences, order)
    smooth, lidstone = AddK(order, k=0.3).fit(sentences), fit_nltk(Lidstone(0.3, order), sentences, order)
    # nltk counts <s> among the words that can be predicted: make both divide by the same V
    extra = len(lidstone.vocab) - len(smooth.vocabulary_)
    for history, word in events(new, order):
        assert ml.prob(word, history) == pytest.approx(oracle.score(word, history))
        n = sum(smooth._counts_after(tuple(history)).values())
        v = len(smooth.vocabulary_)
        assert smooth.prob(word, history) * (n + 0.3 * v) / (n + 0.3 * (v + extra)) == pytest.approx(
            lidstone.score(word, history)
        )


@pytest.mark.parametrize("kind", [KneserNey, KneserNeyArrays])
@pytest.mark.parametrize("order", [2, 3, 5])
def test_kneser_ney_equals_nltk(kind, order):
    sentences, new = random_sentences(2), random_sentences(3, n=5)
    ours = kind(order, discount=(0, *[0.7] * (order - 1))).fit(sentences)
    theirs = fit_nltk(KneserNeyInterpolated(order, discount=0.7), sentences, order)
    pairs = [
        (ours.prob(word, history), theirs.score(word, history)) for history, word in events(sentences[:5] + new, order)
    ]
    assert len(pairs) > 50
    np.testing.assert_allclose(*zip(*pairs, strict=True), rtol=1e-12)


@pytest.mark.parametrize("discount", [None, 0.6, (0.0, 0.3, 0.6, 0.9, 1.0)])
@pytest.mark.parametrize("min_count", [1, 3])
def test_arrays_equal_dictionaries(discount, min_count):
    sentences, new = random_sentences(4, n=211, words=29), random_sentences(5, n=31, words=37)
    slow = KneserNey(5, discount=discount, min_count=min_count).fit(sentences)
    fast = KneserNeyArrays(5, discount=discount, min_count=min_count).fit(sentences)
    assert fast.vocabulary_ == slow.vocabulary_
    np.testing.assert_allclose(fast.discounts_, slow.discounts_, rtol=1e-12)
    for part in (sentences, new):
        np.testing.assert_allclose(fast.score(part), slow.score(part), rtol=1e-10)
    for history in ([], [BOS], [BOS] * 4, ["w1"], ["zebra", "w1"], ["w1", "w2", "w3", "w1", "w2", "w1"]):
        np.testing.assert_allclose(fast.distribution(history), slow.distribution(history), rtol=1e-10)


# ---- properties ----


@pytest.mark.parametrize("kind", ALL)
@given(sentences=SENTENCES, history=HISTORIES, order=st.integers(1, 4))
def test_probabilities_add_up_to_one(kind, sentences, history, order):
    model = kind(order).fit(sentences)
    total = sum(model.prob(word, history) for word in model.vocabulary_)
    if kind is MaximumLikelihood:
        assert total == pytest.approx(0) or total == pytest.approx(1)
    else:
        assert total == pytest.approx(1)
    assert model.distribution(history) == pytest.approx([model.prob(word, history) for word in model.vocabulary_])


@pytest.mark.parametrize("kind", ALL)
@given(sentences=SENTENCES, order=st.integers(1, 4))
def test_score_is_the_log_of_prob(kind, sentences, order):
    model = kind(order).fit(sentences)
    new = [["a", "zebra", "c"], []]
    with np.errstate(divide="ignore"):
        expected = np.log([model.prob(word, history) for history, word in events(new, order)])
    np.testing.assert_allclose(model.score(new), expected, rtol=1e-9)
    np.testing.assert_allclose(np.concatenate([model.logprobs(sentence) for sentence in new]), expected, rtol=1e-9)


@given(sentences=SENTENCES, heldout=SENTENCES)
def test_each_round_of_em_helps(sentences, heldout):
    model = Interpolated(3).fit(sentences)
    before = model.score(heldout).sum()
    for _ in range(4):
        after = model.fit_weights(heldout, rounds=1).score(heldout).sum()
        assert after >= before - 1e-9
        before = after


def test_em_finds_the_weights_that_scipy_finds():
    sentences, heldout = random_sentences(6, n=97), random_sentences(7)
    model = Interpolated(3).fit(sentences).fit_weights(heldout, rounds=2000)

    def loss(weights):
        model.weights = list(weights)
        return -model.score(heldout).mean()

    found, at_found = list(model.weights), loss(model.weights)
    best = minimize(loss, [0.5] * 3, method="L-BFGS-B", bounds=[(1e-6, 1 - 1e-6)] * 3)
    assert at_found == pytest.approx(best.fun, abs=1e-7)
    assert found == pytest.approx(best.x, abs=0.01)


def test_em_finds_the_best_weight():
    sentences, heldout = random_sentences(6), random_sentences(7)
    model = Interpolated(1).fit(sentences).fit_weights(heldout, rounds=200)
    grid = np.linspace(0.001, 0.999, 999)
    likelihood = [Interpolated(1, weights=[w]).fit(sentences).score(heldout).sum() for w in grid[::37]]
    assert model.score(heldout).sum() >= max(likelihood)


@pytest.mark.parametrize("kind", ALL)
def test_samples_follow_the_distribution(kind):
    model = kind(2).fit([["a", "b"], ["a"], ["b", "a"]])
    rng = np.random.default_rng(0)
    first = Counter((model.sample(rng, max_words=1) or [EOS])[0] for _ in range(4000))
    probs = model.distribution([BOS])
    probs = dict(zip(model.vocabulary_, probs, strict=True))
    for word in ("a", "b", EOS):
        expected = probs[word] / (1 - probs[UNK])  # <unk> is drawn again
        assert first[word] / 4000 == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("kind", ALL)
def test_sampling_is_repeatable_and_keeps_the_beginning(kind):
    model = kind(3).fit(random_sentences(8))
    one, two = (model.sample(np.random.default_rng(3), ["w1", "w2"], max_words=20) for _ in range(2))
    assert one == two
    assert one[:2] == ["w1", "w2"]
    assert len(one) <= 20
    assert not {UNK, BOS, EOS} & set(one)


# ---- errors ----


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda kind: kind(0), ValueError, "order must be a whole number of at least 1, got 0"),
        (lambda kind: kind(2.5), ValueError, "order must be a whole number of at least 1, got 2.5"),
        (lambda kind: kind(2, min_count=0), ValueError, "min_count must be a whole number of at least 1, got 0"),
        (lambda kind: kind(2).fit([]), ValueError, "sentences is empty"),
        (lambda kind: kind(2).fit(["a b"]), TypeError, "got the string 'a b'; split it first"),
        (lambda kind: kind(2).fit([[BOS, "a"]]), ValueError, "the model adds these marks itself"),
        (lambda kind: kind(2).fit([["a"]]).score(["a b"]), TypeError, "split it first"),
        (lambda kind: kind(2).prob("a"), ValueError, "has counted nothing yet: call fit"),
        (lambda kind: kind(2).score([["a"]]), ValueError, "has counted nothing yet: call fit"),
        (lambda kind: kind(2).sample(np.random.default_rng(0)), ValueError, "has counted nothing yet: call fit"),
    ],
)
def test_errors(kind, call, error, message):
    with pytest.raises(error, match=message):
        call(kind)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AddK(2, k=0), "k must be above zero, got 0; for k = 0 use MaximumLikelihood"),
        (lambda: AddK(2, k=float("nan")), "k must be above zero, got nan"),
        (lambda: Interpolated(2, weights=[0.5]), r"weights must be 2 numbers in \[0, 1\]"),
        (lambda: Interpolated(2, weights=[0.5, 1.5]), r"weights must be 2 numbers in \[0, 1\]"),
        (lambda: Interpolated(2).fit([["a"]]).fit_weights([]), "heldout is empty"),
        (lambda: KneserNey(3, discount=2), r"discount must be None, a number in \[0, 1\], or 3 such numbers; got 2"),
        (lambda: KneserNeyArrays(3, discount=(0.5, 0.5)), "or 3 such numbers"),
        (lambda: KneserNey(2, discount=float("nan")), "discount must be None"),
    ],
)
def test_errors_of_settings(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_scoring_nothing_gives_nothing():
    for kind in ALL:
        assert kind(2).fit(TOY).score([]).shape == (0,)
