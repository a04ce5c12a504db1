import itertools
import logging
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction
from nltk.translate.bleu_score import corpus_bleu as nltk_bleu
from sacrebleu.metrics import BLEU
from sacrebleu.metrics.bleu import _get_tokenizer

from lmcore.metrics.bleu import SMOOTHING, bleu_counts, bleu_from_counts, corpus_bleu, sentence_bleu
from lmcore.metrics.bleu_tokenize import TOKENIZERS, bleu_tokenize
from lmcore.metrics.clipped_matches import all_clipped_matches, clipped_matches, ngrams

logging.getLogger("sacrebleu").setLevel(logging.ERROR)
# Everything that some rule of a tokenizer treats in its own way, and white space of all kinds.
PIECES = [
    *"aab09  .,,--'\"&;!/<>~{“”—中文。，\n\t\r",
    "&quot;",
    "&amp;",
    "&lt;",
    "&amp;lt;",
    "<skipped>",
    "-\n",
    "3,000.5",
]
PIECES += ["\u3000", "\xa0", "\x1c", "\u2028", "ß", "İ", "\U00020000", "é"]
WORDS = "the cat sat on mat a . , of 中 文".split()
SENTENCES = st.lists(st.sampled_from(WORDS), max_size=13).map(" ".join)


def noise(rng, length):
    return "".join(rng.choices(PIECES, k=rng.randrange(length)))


def sentence(rng):
    return " ".join(rng.choices(WORDS, k=rng.choice([0, 1, 2, 3, 4, 5, 8, 13])))


def test_by_hand():
    """Of 6 words 5 are found, of 5 pairs 3, of 4 triples 1 and of 3 fours none; the reference is longer by one."""
    hypothesis, reference = "the cat sat on the rug", "the cat sat calmly on the mat"
    assert bleu_counts([hypothesis], [reference]).tolist() == [[6, 7, 5, 3, 1, 0, 6, 5, 4, 3]]
    penalty = math.exp(1 - 7 / 6)
    three = 5 / 6 * 3 / 5 * 1 / 4
    expected = {"none": 0, "exp": 1 / 6, "floor": 0.1 / 3}
    for smoothing, fourth in expected.items():
        found = sentence_bleu(hypothesis, reference, smoothing=smoothing)
        assert found.score == pytest.approx(100 * penalty * (three * fourth) ** 0.25)
        assert found.precisions == pytest.approx([500 / 6, 60, 25, 100 * fourth])
        assert found.brevity_penalty == pytest.approx(penalty)
    added = sentence_bleu(hypothesis, reference, smoothing="add-k", value=2).precisions
    assert added == pytest.approx([500 / 6, 500 / 7, 300 / 6, 200 / 5])
    assert sentence_bleu(hypothesis, reference, max_order=3).score == pytest.approx(100 * penalty * three ** (1 / 3))


def test_clipping_several_references_and_the_nearest_length():
    found = corpus_bleu(["the the the the"], [["the cat the", "the mat of the the house"]])
    assert found.matches == (3, 1, 0, 0)
    assert (found.hypothesis_length, found.reference_length) == (4, 3)
    assert corpus_bleu(["a b c d"], [["a b", "a b c d e f"]]).reference_length == 2  # equally near: the shorter
    assert corpus_bleu(["a b c d"], [["a b c d e f", "a b"]]).reference_length == 2


def test_of_a_corpus_it_is_no_average_of_sentences():
    hypotheses, references = ["a b c d", "x"], ["a b c d", "y z"]
    both = [sentence_bleu(h, r).score for h, r in zip(hypotheses, references, strict=True)]
    assert both == [100, 0]
    assert corpus_bleu(hypotheses, references).score == pytest.approx(100 * math.exp(-1 / 5) * (4 / 5) ** 0.25)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokens_as_sacrebleu(name):
    rng, peer = random.Random(3), _get_tokenizer(name)()
    lines = [noise(rng, 17) for _ in range(4000)]
    expected = [peer(line.rstrip()).split() for line in lines]
    assert bleu_tokenize(lines, name) == expected
    assert [bleu_tokenize([line], name)[0] for line in lines[:500]] == expected[:500]  # lines do not see each other


def test_every_character_is_chinese_or_not_as_sacrebleu():
    peer = _get_tokenizer("zh")
    characters = [chr(c) for c in itertools.chain(range(0x3400), range(0x4D00, 0x4F00), range(0x9F00, 0x30000, 7))]
    for start in (0x9FA0, 0xF8F0, 0xFA20, 0xFA60, 0xFAD0, 0xFE00, 0xFE40, 0xFEF0, 0xFFE0):
        characters += [chr(c) for c in range(start, start + 48)]
    found = bleu_tokenize([f"a{c}b" for c in characters], "zh")
    for character, tokens in zip(characters, found, strict=True):
        expected = not character.isspace() and peer._is_chinese_char.__wrapped__(character)
        assert (len(tokens) == 3) == (
            expected or (character.isascii() and len(bleu_tokenize([f"a{character}b"])[0]) == 3)
        )


@pytest.mark.parametrize("make", [sentence, lambda rng: noise(rng, 23)], ids=["words", "noise"])
def test_scores_as_sacrebleu(make):
    rng = random.Random(13)
    for _ in range(1500):
        size, several = rng.randrange(1, 6), rng.randrange(1, 4)
        hypotheses = [make(rng) for _ in range(size)]
        references = [[make(rng) if rng.random() < 0.8 else h for _ in range(several)] for h in hypotheses]
        name, smoothing = rng.choice(list(TOKENIZERS)), rng.choice(list(SMOOTHING))
        value = rng.choice([None, 0.3, 2]) if SMOOTHING[smoothing] else None
        lowercase, effective, order = rng.random() < 0.5, rng.random() < 0.5, rng.choice([4, 4, 1, 2, 6])
        ours = {"tokenizer": name, "smoothing": smoothing, "value": value, "effective_order": effective}
        ours |= {"lowercase": lowercase, "max_order": order}
        theirs = {"tokenize": name, "smooth_method": smoothing, "smooth_value": value, "effective_order": effective}
        peer = BLEU(**theirs, lowercase=lowercase, max_ngram_order=order)
        same(
            corpus_bleu(hypotheses, references, **ours),
            peer.corpus_score(hypotheses, list(zip(*references, strict=True))),
        )
        same(sentence_bleu(hypotheses[0], references[0], **ours), peer.sentence_score(hypotheses[0], references[0]))


def same(ours, theirs):
    assert ours.score == pytest.approx(theirs.score, abs=1e-10)
    assert ours.precisions == pytest.approx(theirs.precisions, abs=1e-10)
    assert ours.brevity_penalty == pytest.approx(theirs.bp, abs=1e-12)
    assert (ours.hypothesis_length, ours.reference_length) == (theirs.sys_len, theirs.ref_len)


def test_as_nltk_where_it_defines_the_same():
    rng = random.Random(17)
    for _ in range(100):
        hypotheses = [[rng.choice("abcd") for _ in range(rng.randrange(4, 12))] for _ in range(3)]
        references = [[[rng.choice("abcd") for _ in range(rng.randrange(4, 12))] for _ in range(2)] for _ in range(3)]
        lines = [" ".join(h) for h in hypotheses], [[" ".join(r) for r in several] for several in references]
        ours = corpus_bleu(*lines, smoothing="floor", tokenizer="none")
        if ours.matches[0]:
            theirs = nltk_bleu(references, hypotheses, smoothing_function=SmoothingFunction(epsilon=0.1).method1)
            assert ours.score == pytest.approx(100 * theirs)


@given(st.lists(SENTENCES, min_size=1, max_size=4), st.data())
def test_matches_of_a_corpus_are_those_of_the_definition(lines, data):
    hypotheses = [line.split() for line in lines]
    references = [[data.draw(SENTENCES).split() for _ in range(data.draw(st.integers(1, 3)))] for _ in lines]
    expected = [[clipped_matches(h, r, n) for n in range(1, 6)] for h, r in zip(hypotheses, references, strict=True)]
    assert all_clipped_matches(hypotheses, references, 5).tolist() == expected


@given(SENTENCES, st.lists(SENTENCES, min_size=1, max_size=3))
def test_properties(hypothesis, references):
    found = sentence_bleu(hypothesis, references)
    assert 0 <= found.score <= 100 + 1e-9
    assert found.score == pytest.approx(sentence_bleu(hypothesis, references[::-1]).score)
    alone = max(sentence_bleu(hypothesis, r).matches[0] for r in references)
    assert found.matches[0] >= alone  # another reference can only help to find n-grams
    if hypothesis:
        assert sentence_bleu(hypothesis, [*references, hypothesis]).score == pytest.approx(100)


@given(st.lists(st.tuples(SENTENCES, SENTENCES), min_size=1, max_size=5))
def test_counts_add_up(pairs):
    hypotheses, references = map(list, zip(*pairs, strict=True))
    rows = bleu_counts(hypotheses, references)
    assert bleu_from_counts(rows.sum(axis=0)) == corpus_bleu(hypotheses, references)
    assert (rows == np.vstack([bleu_counts([h], [r]) for h, r in pairs])).all()


def test_ngrams():
    assert list(ngrams("abc", 1)) == [("a",), ("b",), ("c",)]
    assert list(ngrams("abc", 4)) == []


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("smoothing must be one of 'none', 'floor', 'add-k', 'exp', got 'chen'", {"smoothing": "chen"}),
        ("smoothing 'exp' takes no value, got 0.5", {"value": 0.5}),
        ("value must be a finite number above zero, got 0", {"smoothing": "floor", "value": 0}),
        ("value must be a finite number above zero, got nan", {"smoothing": "add-k", "value": math.nan}),
        ("max_order must be at least 1, got 0", {"max_order": 0}),
        ("tokenizer must be one of '13a', 'zh', 'char', 'none', got 'intl'", {"tokenizer": "intl"}),
    ],
)
def test_errors(message, options):
    with pytest.raises(ValueError, match=message):
        corpus_bleu(["a cat"], ["a cat"], **options)
    with pytest.raises(ValueError, match=message):
        sentence_bleu("a cat", "a cat", **options)


def test_more_errors():
    with pytest.raises(TypeError, match="lines must be a list of strings, got one string"):
        bleu_tokenize("a cat")
    for counts in ([[3, 4, 2, 3]], [3, 4, 2], [3, 4]):
        with pytest.raises(ValueError, match=r"counts must be one row of 2 \+ 2·max_order numbers"):
            bleu_from_counts(counts)
