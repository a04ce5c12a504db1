"""Evaluation of word vectors: ranks and correlations against scipy, analogies in a plane, GloVe on real questions."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st

from lmcore import data
from lmcore.classical.word_evaluation import AnalogyScore, SimilarityScore, WordVectorEvaluation, ranks, spearman

VALUES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=20)


@given(VALUES)
def test_ranks_and_correlation_are_scipys(pairs):
    a, b = zip(*pairs, strict=True)
    np.testing.assert_allclose(ranks(a), scipy.stats.rankdata(a))
    assume(len(set(a)) > 1 and len(set(b)) > 1)
    assert spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)


def test_correlation_errors():
    for a, b in (([1], [1]), ([1, 2], [1, 2, 3])):
        with pytest.raises(ValueError, match="same length, at least 2"):
            spearman(a, b)
    with pytest.raises(ValueError, match="all values of one list are equal"):
        spearman([1, 1], [1, 2])


@pytest.fixture
def plane():
    """Rows: young and old, columns: man and woman; and a word far away."""
    words = ["man", "woman", "boy", "girl", "stone"]
    return WordVectorEvaluation(words, [[2, 5, 0], [5, 2, 0], [2, 5, 4], [5, 2, 4], [-1, -1, -9]])


class TestByHand:
    def test_analogies(self, plane):
        questions = [("man", "woman", "boy", "girl"), ("man", "boy", "woman", "girl"), ("man", "boy", "woman", "stone")]
        questions += [("man", "king", "woman", "queen")]
        score = plane.analogies(questions, batch=2)
        assert score == AnalogyScore(right=2, used=3, total=4)
        assert score.accuracy == pytest.approx(2 / 3)
        assert score.accuracy_of_all == pytest.approx(1 / 2)

    def test_the_given_words_are_not_answers(self):
        evaluation = WordVectorEvaluation(["a", "b", "c", "d"], [[1, 0], [1, 0.1], [0, 1], [-1, 0]])
        assert evaluation.analogies([("a", "b", "c", "d")]).right == 1, "nearest to b − a + c is c itself"

    def test_no_question_known(self, plane):
        score = plane.analogies([("x", "y", "z", "w")])
        assert score == AnalogyScore(0, 0, 1)
        assert score.accuracy == score.accuracy_of_all == 0
        assert plane.analogies([]).accuracy_of_all == 0

    def test_similarity_counts_what_it_could_not_use(self, plane):
        score = plane.similarity(
            [("man", "woman", 6.0), ("man", "stone", 0.1), ("boy", "girl", 8.0), ("man", "x", 1.0)]
        )
        assert score == SimilarityScore(correlation=1.0, used=3, total=4)
        assert score.coverage == 0.75

    def test_neighbours(self, plane):
        (first, cosine), (second, _) = plane.neighbours("man", 2)
        assert (first, second) == ("boy", "woman")
        assert cosine == pytest.approx(29 / np.sqrt(29 * 45))


def test_glove_solves_analogies_and_knows_similarity():
    """The published vectors, on the 20,000 most frequent words."""
    vectors = data.load("glove-50d")
    evaluation = WordVectorEvaluation(vectors.words[:20_000], vectors.vectors[:20_000])
    pairs = [(pair.first.lower(), pair.second.lower(), pair.score) for pair in data.load("wordsim353")]
    score = evaluation.similarity(pairs)
    assert 0.45 < score.correlation < 0.6
    assert 300 < score.used < score.total == 353
    questions = [(q.a, q.b, q.c, q.d) for q in data.load("analogies") if q.section == "family"]
    family = evaluation.analogies(questions)
    assert family.accuracy > 0.7
    assert family.total == 506


class TestErrors:
    def test_vectors(self):
        for words, vectors in ((["a", "b"], [[1.0]]), (["a", "a"], [[1.0], [2.0]]), (["a"], [1.0])):
            with pytest.raises(ValueError, match="all different, need as many vectors"):
                WordVectorEvaluation(words, vectors)
        for wrong in (0.0, np.nan):
            with pytest.raises(ValueError, match="the vector of 'b' has norm"):
                WordVectorEvaluation(["a", "b"], [[1.0], [wrong]])

    def test_use(self, plane):
        with pytest.raises(ValueError, match="only 1 of 2 pairs have vectors"):
            plane.similarity([("man", "boy", 1.0), ("man", "x", 1.0)])
        with pytest.raises(KeyError, match="'x' has no vector"):
            plane.neighbours("x")
