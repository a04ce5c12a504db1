import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import CHRF

from lmcore.metrics.chrf import chrf_counts, chrf_from_counts, corpus_chrf, sentence_chrf

CHARACTERS = [*"abc  A.,!(ß中文\n", "\u3000"]
WORDS = "the cats sat (hi) mat a . , 中文 x! .a".split()
TEXTS = st.text(alphabet="ab c.", max_size=17)


def text(rng):
    if rng.random() < 0.5:
        return "".join(rng.choices(CHARACTERS, k=rng.choice([0, 1, 2, 3, 5, 8, 13, 30])))
    return " ".join(rng.choices(WORDS, k=rng.randrange(9)))


def test_by_hand():
    """cats against cat: characters 3 of 4 and all 3; pairs 2 of 3 and both."""
    assert chrf_counts(["cats"], ["cat"], char_order=2).tolist() == [[4, 3, 3, 3, 2, 2]]
    found = corpus_chrf(["cats"], ["cat"], char_order=2)
    precision, recall = (3 / 4 + 2 / 3) / 2, 1
    assert found == pytest.approx((100 * 5 * precision * recall / (4 * precision + recall), 100 * precision, 100))
    both = corpus_chrf(["cats"], ["cat"], char_order=2, smooth=True).score
    assert both == pytest.approx(100 * (5 * 0.75 / (4 * 0.75 + 1) + 5 * (2 / 3) / (4 * (2 / 3) + 1)) / 2)
    # with words: (hi) is split into "(hi" and ")" only, and neither is "hi"
    assert chrf_counts(["(hi)"], ["hi"], char_order=1, word_order=1).tolist() == [[4, 2, 2, 2, 1, 0]]


def test_longer_ngrams_than_the_reference_has_are_not_counted():
    assert chrf_counts(["abc"], ["a"], char_order=3).tolist() == [[3, 1, 1, 0, 0, 0, 0, 0, 0]]


def test_as_sacrebleu():
    rng = random.Random(31)
    for _ in range(2000):
        size, several = rng.randrange(1, 4), rng.randrange(1, 4)
        hypotheses = [text(rng) for _ in range(size)]
        references = [[text(rng) if rng.random() < 0.7 else h for _ in range(several)] for h in hypotheses]
        options = {"char_order": rng.choice([6, 6, 1, 3]), "word_order": rng.choice([0, 1, 2])}
        options |= {"beta": rng.choice([1, 2, 3]), "lowercase": rng.random() < 0.5, "whitespace": rng.random() < 0.5}
        smooth = rng.random() < 0.5
        peer = CHRF(**options, eps_smoothing=smooth)
        ours = corpus_chrf(hypotheses, references, **options, smooth=smooth).score
        assert ours == pytest.approx(
            peer.corpus_score(hypotheses, list(zip(*references, strict=True))).score, abs=1e-10
        )
        ours = sentence_chrf(hypotheses[0], references[0], **options, smooth=smooth).score
        assert ours == pytest.approx(peer.sentence_score(hypotheses[0], references[0]).score, abs=1e-10)


@given(TEXTS, TEXTS)
def test_properties(hypothesis, reference):
    found, swapped = sentence_chrf(hypothesis, reference), sentence_chrf(reference, hypothesis)
    assert 0 <= min(found) <= max(found) <= 100 + 1e-9
    assert sentence_chrf(hypothesis, reference, beta=1).score == pytest.approx(
        sentence_chrf(reference, hypothesis, beta=1).score
    )
    assert (found.precision, found.recall) == pytest.approx((swapped.recall, swapped.precision))
    assert sentence_chrf(hypothesis.replace(" ", ""), reference).score == found.score  # blind to spaces
    if reference.strip():
        assert sentence_chrf(reference, [hypothesis, reference]).score == pytest.approx(100)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
def test_counts_add_up(pairs):
    hypotheses, references = map(list, zip(*pairs, strict=True))
    rows = chrf_counts(hypotheses, references, word_order=2)
    assert rows.shape == (len(pairs), 24)
    assert (rows == np.vstack([chrf_counts([h], [r], word_order=2) for h, r in pairs])).all()
    assert chrf_from_counts(rows.sum(axis=0)) == corpus_chrf(hypotheses, references, word_order=2)


def test_errors():
    for options in ({"char_order": 0}, {"word_order": -1}):
        with pytest.raises(ValueError, match="char_order must be at least 1 and word_order at least 0, got"):
            corpus_chrf(["a"], ["a"], **options)
    for beta in (0, -1, math.inf):
        with pytest.raises(ValueError, match=f"beta must be a finite number above zero, got {beta}"):
            corpus_chrf(["a"], ["a"], beta=beta)
        with pytest.raises(ValueError, match="beta must be a finite number above zero"):
            chrf_from_counts([1, 1, 1], beta=beta)
    for counts in ([], [1, 2], [[1, 2, 1]]):
        with pytest.raises(ValueError, match="counts must be one row of three numbers per order"):
            chrf_from_counts(counts)
