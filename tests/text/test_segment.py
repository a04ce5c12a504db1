"""Word segmentation: ambiguous phrases by hand, Viterbi against all tag sequences, word F1 beside jieba's."""

import math
from itertools import product

import jieba
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore import data
from lmcore.text.segment import _ALLOWED, TAGS, HiddenMarkovSegmenter, MaximumMatching, tags_of, word_scores

SENTENCES = [["研究", "生命", "的", "起源"], ["研究生", "的", "命"], ["生命", "起源"]]


@pytest.fixture(scope="module")
def split():
    """People's Daily: nine lines of ten to learn from, the others to judge by."""
    news = data.load("peoples-daily")
    return [line.words for i, line in enumerate(news) if i % 10], [line.words for line in news[::10]]


class TestMaximumMatching:
    def test_by_hand(self):
        words = ["北京", "大学", "北京大学", "大学生", "学生"]
        assert MaximumMatching(words).split("北京大学生") == ["北京大学", "生"]
        assert MaximumMatching(words, backward=True).split("北京大学生") == ["北京", "大学生"]
        assert MaximumMatching(words).split("去北京!") == ["去", "北京", "!"]
        assert MaximumMatching(words).split("") == []

    @given(st.lists(st.text("abc", min_size=1, max_size=4), min_size=1), st.text("abcd", max_size=20), st.booleans())
    def test_the_words_are_the_text_and_no_longer_one_fits(self, words, text, backward):
        found = MaximumMatching(words, backward=backward).split(text)
        assert "".join(found) == text
        assert all(len(word) == 1 or word in words for word in found)
        if text:
            ends = [text[-size:] if backward else text[:size] for size in range(1, len(text) + 1)]
            longest = max((end for end in ends if end in words), key=len, default=ends[0])
            assert found[-1 if backward else 0] == longest

    def test_errors(self):
        with pytest.raises(TypeError, match="words is one string"):
            MaximumMatching("北京")
        with pytest.raises(ValueError, match="words is empty"):
            MaximumMatching([""])


class TestHiddenMarkov:
    def test_counts_by_hand(self):
        hmm = HiddenMarkovSegmenter(alpha=1.0).fit(SENTENCES)  # tags: bebesbe, bmess, bebe
        assert [tags_of(sentence) for sentence in SENTENCES] == ["bebesbe", "bmess", "bebe"]
        assert math.exp(hmm.start_["b"]) == pytest.approx((3 + 1) / (3 + 2))
        assert math.exp(hmm.transition_["b", "e"]) == pytest.approx((5 + 1) / (6 + 2))
        assert math.exp(hmm.transition_["e", "s"]) == pytest.approx((2 + 1) / (4 + 2))
        # seven different characters: 研究生命的起源; under s stand 的, 的 and 命
        assert math.exp(hmm.emission_["s"]["的"]) == pytest.approx((2 + 1) / (3 + 8))
        assert math.exp(hmm._emission("s", "龘")) == pytest.approx(1 / (3 + 8))

    def test_probabilities_add_up(self):
        hmm = HiddenMarkovSegmenter().fit(SENTENCES)
        assert sum(map(math.exp, hmm.start_.values())) == pytest.approx(1)
        for tag in TAGS:
            assert sum(math.exp(hmm.transition_[tag, other]) for other in _ALLOWED[tag]) == pytest.approx(1)
            unseen = math.exp(hmm._emission(tag, "龘"))
            assert sum(map(math.exp, hmm.emission_[tag].values())) + unseen == pytest.approx(1)

    @given(st.text("研究生命的起源龘", min_size=1, max_size=6))
    def test_viterbi_finds_the_best_of_all_tag_sequences(self, text):
        hmm = HiddenMarkovSegmenter().fit(SENTENCES)

        def score(tags):
            steps = list(zip(tags, tags[1:], strict=False))
            if tags[0] not in "bs" or tags[-1] not in "es" or any(b not in _ALLOWED[a] for a, b in steps):
                return -math.inf
            emitted = sum(hmm._emission(tag, c) for tag, c in zip(tags, text, strict=True))
            return hmm.start_[tags[0]] + sum(hmm.transition_[step] for step in steps) + emitted

        best = max(score(tags) for tags in product(TAGS, repeat=len(text)))
        assert score(hmm.tag(text)) == pytest.approx(best)
        assert "".join(hmm.split(text)) == text

    def test_nothing_is_cut_into_nothing(self):
        assert HiddenMarkovSegmenter().fit(SENTENCES).split("") == []

    def test_errors(self):
        with pytest.raises(ValueError, match="has counted nothing yet"):
            HiddenMarkovSegmenter().tag("研")
        with pytest.raises(ValueError, match="sentences holds no word"):
            HiddenMarkovSegmenter().fit([[]])
        with pytest.raises(TypeError, match="got the string '研究'"):
            HiddenMarkovSegmenter().fit(["研究"])
        for alpha in (0, -1, math.inf, math.nan):
            with pytest.raises(ValueError, match="alpha must be a finite number above zero"):
                HiddenMarkovSegmenter(alpha=alpha)


class TestScores:
    def test_by_hand(self):
        truth = [["研究", "生命", "的"], ["起源"]]
        assert word_scores(truth, truth) == (1, 1, 1)
        assert word_scores(truth, [["研", "究", "生命", "的"], ["起", "源"]]) == pytest.approx((2 / 6, 2 / 4, 0.4))
        assert word_scores([["研究"]], [["研", "究"]]) == (0, 0, 0)
        assert word_scores([[]], [[]]) == (0, 0, 0)

    def test_errors(self):
        with pytest.raises(ValueError, match="sentence 1 has the text '生命' and '生'"):
            word_scores([["研"], ["生命"]], [["研"], ["生"]])
        with pytest.raises(ValueError, match="zip"):
            word_scores([["研"]], [])


def test_on_held_out_news_beside_jieba(split):
    """Measured 0.933 for the dictionary of the training lines, 0.816 for the model, 0.806 for jieba's words."""
    training, hidden = split
    texts = ["".join(words) for words in hidden]
    known = MaximumMatching({word for words in training for word in words}, backward=True)
    hmm = HiddenMarkovSegmenter().fit(training)
    jieba.setLogLevel(60)  # it reports how long loading took
    f1 = {
        name: word_scores(hidden, map(function, texts))[2]
        for name, function in (("matching", known.split), ("hmm", hmm.split), ("jieba", jieba.lcut))
    }
    assert 0.92 < f1["matching"] < 0.95
    assert 0.80 < f1["hmm"] < 0.83
    assert f1["hmm"] > f1["jieba"] > 0.79, "jieba follows another convention of what a word is"
