"""Tf–idf against scikit-learn, PPMI against its definition, co-occurrences against two loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.feature_extraction.text import TfidfTransformer

from lmcore.classical.ppmi import cooccurrences, ppmi, svd_vectors
from lmcore.classical.tfidf import Tfidf

TABLES = hnp.arrays(np.int64, st.tuples(st.integers(1, 7), st.integers(1, 5)), elements=st.integers(0, 4))


class TestTfidf:
    def test_by_hand(self):
        weights = Tfidf(smooth=False, normalize=False).fit([[1, 1], [1, 0]]).transform([[3, 2]])
        assert weights == pytest.approx(np.array([[3.0, 2 * (np.log(2) + 1)]]))
        unit = Tfidf().fit([[1, 1], [1, 0]]).transform([[3, 2], [0, 0]])
        assert np.linalg.norm(unit, axis=1) == pytest.approx([1, 0])

    @given(TABLES, TABLES, st.booleans(), st.booleans(), st.booleans())
    def test_scikit_learn_agrees(self, counts, others, sublinear, smooth, normalize):
        if not smooth and not counts.any(axis=0).all():
            return
        others = np.resize(others, (len(others), counts.shape[1]))
        theirs = TfidfTransformer(norm="l2" if normalize else None, smooth_idf=smooth, sublinear_tf=sublinear)
        ours = Tfidf(sublinear=sublinear, smooth=smooth, normalize=normalize).fit(counts)
        expected = theirs.fit(counts).transform(others).toarray()
        np.testing.assert_allclose(ours.transform(others), expected, atol=1e-12)

    def test_errors(self):
        with pytest.raises(ValueError, match="has counted nothing yet"):
            Tfidf().transform([[1]])
        with pytest.raises(ValueError, match="counts has 1 columns; fit saw 2 words"):
            Tfidf().fit([[1, 0]]).transform([[1]])
        with pytest.raises(ValueError, match="word 1 is in no document"):
            Tfidf(smooth=False).fit([[1, 0]])
        with pytest.raises(ValueError, match=r"counts\[0, 1\] is -1"):
            Tfidf().fit([[1, -1]])
        with pytest.raises(ValueError, match=r"counts\[0, 0\] is nan"):
            Tfidf().fit([[np.nan, 1]])
        for wrong in ([1, 2], [[]], [["a"]]):
            with pytest.raises(ValueError, match="counts must be numbers of the shape"):
                Tfidf().fit(wrong)


SENTENCES = st.lists(st.lists(st.integers(-1, 4), max_size=8), max_size=4)


class TestCooccurrences:
    @given(SENTENCES, st.integers(1, 4), st.booleans())
    def test_two_loops_agree(self, sentences, window, weighted):
        expected = np.zeros((5, 5))
        for sentence in sentences:
            for i, word in enumerate(sentence):
                for j, other in enumerate(sentence):
                    if i != j and abs(i - j) <= window and min(word, other) >= 0:
                        expected[word, other] += 1 / abs(i - j) if weighted else 1
        found = cooccurrences(sentences, 5, window=window, weighted=weighted)
        np.testing.assert_allclose(found, expected)
        np.testing.assert_array_equal(found, found.T)

    def test_errors(self):
        with pytest.raises(ValueError, match="window and size must be at least 1, got 0 and 5"):
            cooccurrences([[1]], 5, window=0)
        with pytest.raises(ValueError, match="id 5 is outside 0 … 4"):
            cooccurrences([[5]], 5)


class TestPpmi:
    def test_by_hand(self):
        table = ppmi([[3, 1], [1, 3]])  # p(1,1) = 3/8 against 1/4: log 1.5; the others are below zero
        assert table == pytest.approx(np.array([[np.log(1.5), 0], [0, np.log(1.5)]]))
        assert ppmi([[3, 1], [1, 3]], shift=np.log(1.5)).max() == pytest.approx(0, abs=1e-12)

    @given(TABLES.filter(lambda t: t.sum() > 0), st.sampled_from([0.5, 0.75, 1.0]))
    def test_is_the_definition(self, counts, smoothing):
        found = ppmi(counts, smoothing=smoothing)
        contexts = counts.sum(axis=0) ** smoothing
        for w, c in np.ndindex(counts.shape):
            if counts[w, c]:
                joint = counts[w, c] / counts.sum()
                apart = counts[w].sum() / counts.sum() * contexts[c] / contexts.sum()
                assert found[w, c] == pytest.approx(max(0, np.log(joint / apart)))
            else:
                assert found[w, c] == 0

    def test_rare_contexts_lose_by_smoothing(self):
        counts = np.array([[100, 1], [100, 0]])
        assert ppmi(counts, smoothing=0.75)[0, 1] < ppmi(counts)[0, 1]

    def test_errors(self):
        for wrong in ([[-1, 2]], [[0, 0]], [[np.nan]], [1, 2]):
            with pytest.raises(ValueError, match="counts must be a table of numbers ≥ 0, not all zero"):
                ppmi(wrong)
        with pytest.raises(ValueError, match="shift must be at least 0"):
            ppmi([[1]], shift=-1)
        with pytest.raises(ValueError, match=r"smoothing in \(0, 1\], got 0\.0 and 0"):
            ppmi([[1]], smoothing=0)


class TestSvd:
    def test_all_directions_keep_the_dot_products(self):
        table = np.random.default_rng(0).normal(size=(7, 5))
        vectors = svd_vectors(table, 5, power=1)
        np.testing.assert_allclose(vectors @ vectors.T, table @ table.T, atol=1e-12)

    def test_power_and_sign(self):
        table = np.diag([4.0, 9.0, 1.0])
        np.testing.assert_allclose(svd_vectors(table, 2), [[0, 2], [3, 0], [0, 0]], atol=1e-12)
        np.testing.assert_allclose(svd_vectors(-table, 2, power=0), [[0, 1], [1, 0], [0, 0]], atol=1e-12)

    def test_errors(self):
        for dim in (0, 4):
            with pytest.raises(ValueError, match=f"dim must be in 1 … 3, got {dim}"):
                svd_vectors(np.eye(3), dim)
