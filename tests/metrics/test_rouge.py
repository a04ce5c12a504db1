import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.stem.porter import PorterStemmer
from rouge_score import rouge_scorer

from lmcore import data
from lmcore.metrics.lcs import lcs_length, lcs_positions, lcs_table
from lmcore.metrics.porter import _STEP_2, _STEP_3, _STEP_4, porter_stem
from lmcore.metrics.rouge import rouge_l, rouge_lsum, rouge_n, rouge_tokens

KINDS = ["rouge1", "rouge2", "rouge3", "rougeL", "rougeLsum"]
WORDS = "the cats sat sitting on mats relational skies A. , of 中文 naïve 3.5 \n \n x's".split(" ")
STRINGS = st.text(alphabet="abcd", max_size=29)


def all_scores(hypothesis, references, stem):
    scores = [rouge_n(hypothesis, references, n, stem=stem) for n in (1, 2, 3)]
    scores += [rouge_l(hypothesis, references, stem=stem), rouge_lsum(hypothesis, references, stem=stem)]
    return dict(zip(KINDS, scores, strict=True))


def test_by_hand():
    hypothesis, reference = "the cat was found under the bed", "the cat was under the bed"
    assert rouge_n(hypothesis, reference, 1) == pytest.approx((6 / 7, 1, 12 / 13))
    assert rouge_n(hypothesis, reference, 2) == pytest.approx((4 / 6, 4 / 5, 8 / 11))
    assert rouge_l(hypothesis, reference) == pytest.approx((6 / 7, 1, 12 / 13))
    assert rouge_n("the the the", "the cat", 1) == pytest.approx((1 / 3, 1 / 2, 2 / 5))  # clipped
    assert rouge_n("cats sitting", "a cat sits", 1) == (0, 0, 0)
    assert rouge_n("cats sitting", "a cat sits", 1, stem=True) == pytest.approx((1, 2 / 3, 4 / 5))


def test_short_words_keep_their_endings():
    assert rouge_tokens("The was sits' 2nd", stem=True) == ["the", "was", "sit", "2nd"]


def test_lsum_by_hand():
    """The example of section 3.2 of Lin's paper: w1 w2 from the one sentence and w1 w3 w5 from the other."""
    reference, hypothesis = "w1 w2 w3 w4 w5", "w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5"
    assert rouge_lsum(hypothesis, reference) == pytest.approx((4 / 10, 4 / 5, 8 / 15))
    assert rouge_l(hypothesis, reference).recall == 4 / 5  # w1 w2 w3 w5 is a subsequence of the joined text, too
    assert rouge_lsum("c d\na b", "a b\nc d").f1 == 1
    assert rouge_l("c d\na b", "a b\nc d").f1 == 1 / 2


@pytest.mark.parametrize("stem", [False, True])
def test_as_rouge_score(stem):
    rng, peer = random.Random(19), rouge_scorer.RougeScorer(KINDS, use_stemmer=stem)
    for _ in range(1500):
        hypothesis, *references = (
            " ".join(rng.choices(WORDS, k=rng.choice([0, 1, 2, 3, 5, 8, 13, 29]))) for _ in "hrrr"
        )
        references = references[: rng.randrange(1, 4)]
        if rng.random() < 0.2:
            references[0] = hypothesis
        expected = peer.score_multi(references, hypothesis)
        for kind, score in all_scores(hypothesis, references, stem).items():
            assert score == pytest.approx(expected[kind], abs=1e-12)


def test_as_rouge_score_on_real_sentences():
    peer = rouge_scorer.RougeScorer(KINDS, use_stemmer=True)
    for ours, theirs in list(data.align(data.load("king-james"), data.load("world-english")))[::311]:
        expected = peer.score(theirs.text, ours.text)
        for kind, score in all_scores(ours.text, theirs.text, True).items():
            assert score == pytest.approx(expected[kind], abs=1e-12)


@given(STRINGS, STRINGS)
def test_longest_common_subsequence(first, second):
    table = lcs_table(first, second)
    assert lcs_length(first, second) == table[-1][-1] == lcs_length(second, first)
    positions = lcs_positions(first, second)
    assert len(positions) == table[-1][-1]
    assert positions == sorted(set(positions))
    rest = iter(second)
    assert all(first[i] in rest for i in positions)  # each is found after the one before


@given(STRINGS, STRINGS)
def test_positions_as_in_rouge_score(first, second):
    expected = rouge_scorer.lcs_ind(first, second)
    assert lcs_positions(first, second) == list(expected)


def test_lcs_of_long_lists():
    rng = random.Random(23)
    first, second = ([rng.randrange(31) for _ in range(n)] for n in (211, 307))
    assert lcs_length(first, second) == lcs_table(first, second)[-1][-1]


@given(st.lists(st.sampled_from(WORDS), max_size=17).map(" ".join), st.lists(st.sampled_from(WORDS), max_size=17))
def test_properties(hypothesis, words):
    reference = " ".join(words)
    for kind, score in all_scores(hypothesis, reference, False).items():
        swapped = all_scores(reference, hypothesis, False)[kind]
        assert 0 <= min(score) <= max(score) <= 1
        if kind != "rougeLsum":  # which of several longest subsequences it takes depends on the side
            assert score == pytest.approx((swapped.recall, swapped.precision, swapped.f1))
    assert rouge_l(hypothesis, reference).recall <= rouge_n(hypothesis, reference, 1).recall + 1e-12


def test_stems_as_nltk():
    peer = PorterStemmer()
    texts = (verse.text.lower() for name in ("king-james", "world-english") for verse in data.load(name))
    words = {word for text in texts for word in re.findall("[a-z0-9]+", text)}
    assert len(words) > 15_000
    rng = random.Random(29)
    endings = [ending for ending, _ in _STEP_2 + _STEP_3] + [*_STEP_4, *"ed ing eed ied ies s y logi ll e sses".split()]
    for _ in range(20_000):
        start = "".join(rng.choices("aeiouybclstzwx7é", k=rng.randrange(7)))
        words.add(start + rng.choice(endings) + rng.choice([*endings, *[""] * 20]))
    assert {word: porter_stem(word) for word in words} == {word: peer.stem(word) for word in words}


def test_another_tokenizer():
    assert rouge_tokens("我爱语言") == []
    assert rouge_n("我爱语言", "我爱说话", 1) == (0, 0, 0)  # the usual tokenizer sees nothing
    assert rouge_n("我爱语言", "我爱说话", 1, tokenize=list) == (0.5, 0.5, 0.5)
    assert rouge_l("我爱语言", "我爱说话", tokenize=list).f1 == 0.5
    assert rouge_lsum("我爱语言", "我爱说话", tokenize=list).f1 == 0.5


def test_the_best_reference_counts():
    assert rouge_n("a b", ["c d", "a b c", "a d"], 1) == rouge_n("a b", "a b c", 1)


def test_errors():
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        rouge_n("a", "a", 0)
    with pytest.raises(ValueError, match="stem belongs to the default tokenizer"):
        rouge_l("a", "a", stem=True, tokenize=list)
    with pytest.raises(TypeError, match="word must be a string, got list"):
        porter_stem.__wrapped__(["cats"])
