"""The Chinese corpora and the trained vectors: counted, read by hand, and what their cards say of them checked."""

import io
from collections import Counter

import numpy as np
import pytest

from lmcore import data
from lmcore.data import chinese
from lmcore.data.vectors import WordVectors


@pytest.fixture(scope="module")
def news():
    return data.load("peoples-daily")


@pytest.fixture(scope="module")
def reviews():
    return data.load("chinese-reviews")


def test_news(news):
    assert len(news) == 19_484
    assert sum(len(line.words) for line in news) == 1_121_447
    assert all(len(line.words) == len(line.tags) > 0 for line in news)
    tags = Counter(tag for line in news for tag in line.tags)
    assert len(tags) == 44
    assert sum(count == 1 for count in tags.values()) == 3
    first = news[1]
    assert first.text == "中共中央总书记、国家主席江泽民"
    assert first.words[-2:] == ("江", "泽民")
    assert first.tags[-2:] == ("nr", "nr")
    assert repr(news) == "<ChineseCorpus peoples-daily: 19,484 × TaggedSentence, 1,841,657 characters>"
    assert not any(word.isspace() or not word for line in news for word in line.words)


def test_reviews(reviews):
    assert Counter(review.positive for review in reviews) == {True: 16_548, False: 18_575}
    assert reviews[-1] == chinese.Review("唯一的不足，对于像我这样对电脑不大精通的人来说，就是它没装XP系统！", False)
    different = {review.text for review in reviews}
    assert len(different) < 0.52 * len(reviews), "half are repetitions, the card says"


def test_dictionary():
    entries = data.load("jieba-dictionary")
    assert len(entries) == 349_046
    assert len({entry.word for entry in entries}) == 349_045
    by_word = {entry.word: entry for entry in entries}
    assert by_word["AT&T"] == chinese.DictionaryEntry("AT&T", 3, "nz")
    assert by_word["中国"].tag == "ns"
    assert by_word["的"].frequency == 318_825


def test_slashes_spaces_and_line_ends_inside_the_files():
    card = data.card("peoples-daily")
    (line,) = chinese.read_tagged(card, io.BytesIO("１/２/m  ，/w\r\n\n".encode()))
    assert (line.words, line.tags) == (("１/２", "，"), ("m", "w"))
    (entry,) = chinese.read_dictionary(card, io.BytesIO(b"New York 5 ns\n"))
    assert entry == ("New York", 5, "ns")


def test_glove():
    vectors = data.load("glove-50d")
    assert len(vectors) == 400_000
    assert vectors.vectors.shape == (400_000, 50)
    np.testing.assert_allclose(vectors["the"][:3], [0.418, 0.24968, -0.41242], atol=1e-6)
    assert "The" not in vectors
    with pytest.raises(KeyError, match="'The' has no vector"):
        vectors["The"]
    assert repr(vectors) == "<WordVectors: 400,000 words, 50 dimensions>"

    def cosine(a, b):
        return vectors[a] @ vectors[b] / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b])

    assert cosine("frog", "toad") > 0.7 > cosine("frog", "parliament")
    with pytest.raises(ValueError, match="read-only"):
        vectors["the"][0] = 1.0


def test_word_vectors_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match=r"2 words need a matrix with as many rows, got the shape \(3, 5\)"):
        WordVectors(["a", "b"], np.zeros((3, 5)))
    with pytest.raises(ValueError, match="1 words are listed twice"):
        WordVectors(["a", "a"], np.zeros((2, 5)))


def test_gpt2s_merges_and_ids():
    with data.open_member("gpt2-tokenizer", "vocab.bpe") as file:
        lines = file.read().decode("utf-8").splitlines()
    assert lines[:2] == ["#version: 0.2", "Ġ t"]
    assert len([line for line in lines if line]) == 50_001
