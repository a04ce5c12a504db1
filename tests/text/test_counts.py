"""Count matrices: numbers from paper, scikit-learn, properties, errors."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from lmcore.text.counts import count_matrix
from lmcore.text.vocab import UNK, Vocabulary

WORDS = ["a", "rose", "is", "it", "no"]
DOCUMENTS = st.lists(st.lists(st.sampled_from([*WORDS, "zebra"]), max_size=11), max_size=7)


def test_by_hand():
    documents = ["a rose is a rose".split(), [], "is it no rose".split()]
    counts = count_matrix(documents, ["rose", "a", "never", "is"])
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, [[2, 2, 0, 1], [0, 0, 0, 0], [1, 0, 0, 1]])


def test_tokens_outside_are_unknown_if_the_vocabulary_can_say_so():
    vocabulary = Vocabulary(["rose"], specials=("<s>", UNK))
    np.testing.assert_array_equal(count_matrix([["rose", "is", "rose", "a"]], vocabulary), [[0, 2, 2]])
    np.testing.assert_array_equal(count_matrix([["rose", "is", "rose", "a"]], ["<s>", "rose"]), [[0, 2]])


def test_documents_may_come_from_a_generator_and_be_tuples():
    np.testing.assert_array_equal(count_matrix(((w, w) for w in "ab"), ["b", "a"]), [[0, 2], [2, 0]])


def test_no_documents():
    assert count_matrix([], ["a", "b", "c"]).shape == (0, 3)


@given(DOCUMENTS, st.permutations(WORDS).map(lambda words: words[:3]))
def test_every_number_is_a_count(documents, vocabulary):
    counts = count_matrix(documents, vocabulary)
    expected = [[Counter(document)[word] for word in vocabulary] for document in documents]
    np.testing.assert_array_equal(counts, np.reshape(expected, (len(documents), 3)))


@given(DOCUMENTS)
def test_with_an_unknown_column_no_token_is_lost(documents):
    counts = count_matrix(documents, Vocabulary(["a", "is"]))
    assert counts.sum(axis=1).tolist() == [len(document) for document in documents]


def test_against_scikit_learn():
    rng = np.random.default_rng(7)
    documents = [rng.choice([*WORDS, "zebra"], size=n).tolist() for n in rng.integers(0, 31, size=53)]
    oracle = CountVectorizer(vocabulary=WORDS, analyzer=lambda document: document)
    np.testing.assert_array_equal(count_matrix(documents, WORDS), oracle.transform(documents).toarray())


@pytest.mark.parametrize(
    ("documents", "vocabulary", "error", "message"),
    [
        ([["a"], "a rose"], ["a"], TypeError, r"documents\[1\] is the string 'a rose'; split it into tokens"),
        ("a rose", ["a"], TypeError, r"documents\[0\] is the string 'a'"),
        ([["a"]], "rose", TypeError, "vocabulary is a sequence of tokens, got the string 'rose'"),
        ([["a"]], [], ValueError, "vocabulary is empty"),
        ([["a"]], ["a", "is", "a"], ValueError, "vocabulary lists 'a' twice"),
    ],
)
def test_errors(documents, vocabulary, error, message):
    with pytest.raises(error, match=message):
        count_matrix(documents, vocabulary)
