"""Multinomial naive Bayes: numbers from paper, scikit-learn, properties, errors."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.naive_bayes import MultinomialNB

from lmcore.classical.naive_bayes import MultinomialNaiveBayes

# Two documents about space, one about the sea; the words are moon and ship.
TOY, ABOUT = [[2, 0], [1, 1], [0, 3]], ["space", "space", "sea"]
COUNTS = arrays(np.int64, (7, 5), elements=st.integers(0, 9))
LABELS = st.lists(st.sampled_from("abc"), min_size=7, max_size=7)


def random_problem(seed, documents=53, words=31, kinds=5):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(kinds), rng.integers(kinds, size=documents - kinds)])
    rates = rng.gamma(0.5, size=(kinds, words))
    return rng.poisson(rates[labels]), labels, rng.poisson(3 * rates[rng.integers(kinds, size=11)])


class TestByHand:
    def test_frequencies(self):
        model = MultinomialNaiveBayes(alpha=1).fit(TOY, ABOUT)
        assert model.classes_.tolist() == ["sea", "space"]
        assert np.exp(model.class_log_prior_) == pytest.approx([1 / 3, 2 / 3])
        assert np.exp(model.feature_log_prob_) == pytest.approx(np.array([[1 / 5, 4 / 5], [4 / 6, 2 / 6]]))

    def test_alpha(self):
        model = MultinomialNaiveBayes(alpha=0.5).fit(TOY, ABOUT)
        assert np.exp(model.feature_log_prob_[0]) == pytest.approx([0.5 / 4, 3.5 / 4])

    def test_posterior(self):
        """Ship ship: at sea 1/3 · (4/5)² = 16/75, in space 2/3 · (1/3)² = 2/27."""
        model = MultinomialNaiveBayes().fit(TOY, ABOUT)
        assert np.exp(model.log_joint([[0, 2]])) == pytest.approx(np.array([[16 / 75, 2 / 27]]))
        sea = Fraction(16, 75) / (Fraction(16, 75) + Fraction(2, 27))
        assert np.exp(model.predict_log_proba([[0, 2]]))[0] == pytest.approx([float(sea), float(1 - sea)])
        assert model.predict([[0, 2], [1, 0]]).tolist() == ["sea", "space"]

    def test_without_words_only_the_prior_speaks(self):
        model = MultinomialNaiveBayes().fit(TOY, ABOUT)
        assert np.exp(model.predict_log_proba([[0, 0]])[0]) == pytest.approx([1 / 3, 2 / 3])

    def test_a_tie_goes_to_the_first_class(self):
        assert MultinomialNaiveBayes().fit([[1, 0], [0, 1]], ["b", "a"]).predict([[1, 1]]).tolist() == ["a"]

    def test_one_class_is_certain(self):
        assert MultinomialNaiveBayes().fit(TOY, [3, 3, 3]).predict_log_proba([[1, 2]]).tolist() == [[0.0]]


class TestAgainstScikitLearn:
    @pytest.mark.parametrize("alpha", [1e-10, 0.01, 0.5, 1, 3.7])
    @pytest.mark.parametrize("seed", [0, 1])
    def test_everything_is_equal(self, alpha, seed):
        counts, labels, new = random_problem(seed)
        ours = MultinomialNaiveBayes(alpha=alpha).fit(counts, labels)
        oracle = MultinomialNB(alpha=alpha).fit(counts, labels)
        same = {"rtol": 1e-12, "atol": 1e-12}
        np.testing.assert_array_equal(ours.classes_, oracle.classes_)
        np.testing.assert_allclose(ours.class_log_prior_, oracle.class_log_prior_, **same)
        np.testing.assert_allclose(ours.feature_log_prob_, oracle.feature_log_prob_, **same)
        np.testing.assert_allclose(ours.log_joint(new), oracle.predict_joint_log_proba(new), **same)
        np.testing.assert_allclose(ours.predict_log_proba(new), oracle.predict_log_proba(new), **same)
        np.testing.assert_array_equal(ours.predict(new), oracle.predict(new))

    def test_fractions_and_strings(self):
        counts, labels, new = random_problem(2)
        names = np.array(["law", "history", "wisdom", "gospels", "letters"])[labels]
        oracle = MultinomialNB(alpha=0.3).fit(counts / 7, names)
        ours = MultinomialNaiveBayes(alpha=0.3).fit(counts / 7, names)
        np.testing.assert_allclose(ours.predict_log_proba(new / 7), oracle.predict_log_proba(new / 7), rtol=1e-12)
        assert ours.predict(new).tolist() == oracle.predict(new).tolist()

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.float16])
    def test_small_types_do_not_overflow(self, dtype):
        counts = np.full((701, 3), 200).astype(dtype)
        counts[::2, 0] = 0
        labels = np.arange(701) % 2
        oracle = MultinomialNB().fit(counts.astype(float), labels)
        ours = MultinomialNaiveBayes().fit(counts, labels)
        np.testing.assert_allclose(ours.feature_log_prob_, oracle.feature_log_prob_, rtol=1e-12)


class TestProperties:
    @given(COUNTS, LABELS, st.floats(1e-3, 10))
    def test_distributions_add_up_to_one(self, counts, labels, alpha):
        model = MultinomialNaiveBayes(alpha=alpha).fit(counts, labels)
        for logs in (model.feature_log_prob_, model.class_log_prior_[None], model.predict_log_proba(counts)):
            assert (logs <= 1e-12).all()
            np.testing.assert_allclose(np.exp(logs).sum(axis=1), 1)

    @given(COUNTS, LABELS, st.permutations(range(7)), st.permutations(range(5)))
    def test_the_order_of_documents_and_of_words_does_not_matter(self, counts, labels, rows, columns):
        model = MultinomialNaiveBayes().fit(counts, labels)
        mixed = MultinomialNaiveBayes().fit(counts[rows][:, columns], np.array(labels)[rows])
        np.testing.assert_allclose(mixed.log_joint(counts[:, columns]), model.log_joint(counts), rtol=1e-9)

    @given(COUNTS, LABELS)
    def test_a_document_twice_as_long_is_twice_as_decided(self, counts, labels):
        """The log-likelihood ratio of two classes doubles: that is what independence means, and why it is too sure."""
        model = MultinomialNaiveBayes().fit(counts, labels)
        likelihood = [model.log_joint(times * counts) - model.class_log_prior_ for times in (1, 2)]
        np.testing.assert_allclose(likelihood[1], 2 * likelihood[0], rtol=1e-9, atol=1e-9)

    @given(COUNTS, LABELS)
    def test_predict_takes_the_most_probable(self, counts, labels):
        model = MultinomialNaiveBayes().fit(counts, labels)
        best = model.log_joint(counts).max(axis=1)
        chosen = np.searchsorted(model.classes_, model.predict(counts))
        np.testing.assert_array_equal(model.log_joint(counts)[np.arange(7), chosen], best)

    @pytest.mark.parametrize("length", [10**3, 10**6, 10**12])
    def test_long_documents_neither_underflow_nor_become_nan(self, length):
        model = MultinomialNaiveBayes().fit(TOY, ABOUT)
        logs = model.predict_log_proba([[length, 0], [0, length]])
        assert np.isfinite(logs).all()
        assert logs[0] == pytest.approx([length * math.log(1 / 5 / (4 / 6)) - math.log(2), 0])
        assert logs[1] == pytest.approx([0, length * math.log(2 / 6 / (4 / 5)) + math.log(2)])

    def test_the_callers_arrays_stay_as_they_are(self):
        counts, labels = np.array(TOY, dtype=float), np.array(ABOUT)
        MultinomialNaiveBayes().fit(counts, labels).predict_log_proba(counts)
        np.testing.assert_array_equal(counts, TOY)

    def test_fit_returns_self_and_forgets_what_was_before(self):
        model = MultinomialNaiveBayes()
        assert model.fit(TOY, ABOUT) is model
        assert model.fit([[1], [2]], [0, 1]).feature_log_prob_.shape == (2, 1)


class TestErrors:
    @pytest.mark.parametrize("alpha", [0, -1, math.nan, math.inf])
    def test_alpha(self, alpha):
        with pytest.raises(ValueError, match=f"alpha must be a finite number above zero, got {alpha}"):
            MultinomialNaiveBayes(alpha=alpha)

    @pytest.mark.parametrize(
        ("counts", "message"),
        [
            ([[1, 2], [3, -1]], r"counts\[1, 1\] is negative: -1; a count is a number ≥ 0"),
            ([[1, 2], [math.nan, 1]], r"counts\[1, 0\] is NaN"),
            ([[1, math.inf], [2, 1]], r"counts\[0, 1\] is infinite"),
            ([], r"counts must have the shape \(documents, words\), got \(0,\)"),
            ([[], []], r"counts is empty: its shape is \(2, 0\)"),
            ([1, 2], r"counts must have the shape \(documents, words\), got \(2,\)"),
            ([["a", "b"], ["c", "d"]], r"counts must hold numbers, got dtype <U1"),
        ],
    )
    def test_counts_in_fit_and_after(self, counts, message):
        with pytest.raises(ValueError, match=message):
            MultinomialNaiveBayes().fit(counts, [0, 1])
        model = MultinomialNaiveBayes().fit([[1, 2], [3, 1]], [0, 1])
        for method in (model.log_joint, model.predict_log_proba, model.predict):
            with pytest.raises(ValueError, match=message):
                method(counts)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (["space", "sea"], r"labels has the shape \(2,\), but there are 3 documents: one label each"),
            ([["space"], ["sea"], ["sea"]], r"labels has the shape \(3, 1\)"),
            ([], r"labels has the shape \(0,\)"),
            (["space", None, "sea"], r"labels\[1\] is None: every document needs a label"),
            ([0, 1, math.nan], r"labels\[2\] is nan"),
        ],
    )
    def test_labels(self, labels, message):
        with pytest.raises(ValueError, match=message):
            MultinomialNaiveBayes().fit(TOY, labels)

    def test_not_fitted_and_another_vocabulary(self):
        model = MultinomialNaiveBayes()
        for method in (model.log_joint, model.predict_log_proba, model.predict):
            with pytest.raises(ValueError, match=r"MultinomialNaiveBayes has counted nothing yet: call fit\(counts"):
                method(TOY)
        with pytest.raises(ValueError, match="counts has 3 columns; fit saw 2 words"):
            model.fit(TOY, ABOUT).predict([[1, 2, 3]])
