"""Pairs of sentences: numbers from paper, halves and equal chances, the form of Hugging Face's tokenizer, errors."""

import math
import warnings

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from lmcore.train.sentence_pairs import TruncationWarning, assemble, pair_batch, sentence_pairs, shortened

CLS, SEP, PAD = 2, 3, 0
SENTENCE = st.lists(st.integers(5, 99), min_size=1, max_size=13)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def documents(*counts):
    """Documents of so many sentences; a sentence is (document, its number there)."""
    return [[[d, i] for i in range(n)] for d, n in enumerate(counts)]


# ---- which sentences go together ----


@given(st.lists(st.integers(0, 7), min_size=2, max_size=7), st.integers(0, 999))
def test_every_sentence_with_a_next_one_is_first_once(counts, seed):
    if sum(n > 0 for n in counts) < 2 or max(counts) < 2:
        return
    pairs = sentence_pairs(documents(*counts), generator=generator(seed))
    assert [list(pair.first) for pair in pairs] == [[d, i] for d, n in enumerate(counts) for i in range(n - 1)]
    for (d, i), (other, j), label in pairs:
        assert (other, j) == (d, i + 1) if label == 0 else other != d
    assert sum(pair.label for pair in pairs) == len(pairs) // 2


def test_all_other_sentences_are_as_likely():
    counts = torch.zeros(3, 5)
    for seed in range(400):
        for (d, _), (other, j), label in sentence_pairs(documents(5, 2, 3), generator=generator(seed)):
            if label and d == 1:
                counts[other, j] += 1
    drawn, p = counts.sum().item(), 1 / 8
    assert drawn > 150
    assert counts[1].sum() == counts[2, 3:].sum() == 0
    for other, n in ((0, 5), (2, 3)):
        assert ((counts[other, :n] - drawn * p).abs() <= 5 * math.sqrt(drawn * p * (1 - p))).all()


def test_the_generator_decides():
    these = [sentence_pairs(documents(7, 5, 3), generator=generator(seed)) for seed in (0, 0, 1)]
    assert these[0] == these[1] != these[2]


# ---- how they are put together ----


def test_by_hand():
    assert assemble([21, 22], [31], cls=CLS, sep=SEP) == ([2, 21, 22, 3, 31, 3], [0, 0, 0, 0, 1, 1])
    assert assemble([21], cls=CLS, sep=SEP) == ([2, 21, 3], [0, 0, 0])
    assert shortened([1, 2, 3, 4, 5], [6, 7, 8, 9], 5) == ([1, 2, 3], [6, 7])
    assert shortened([6], [1, 2, 3, 4, 5], 3) == ([6], [1, 2])
    assert shortened([1, 2, 3], None, 2) == ([1, 2], None)


@given(SENTENCE, SENTENCE, st.integers(2, 30))
def test_the_longer_one_is_cut_first(first, second, room):
    a, b = list(first), list(second)
    while len(a) + len(b) > room:  # token by token, as the paper's program does it
        (a if len(a) > len(b) else b).pop()
    assert shortened(first, second, room) == (a, b)


def test_hugging_faces_tokenizer_assembles_the_same():
    vocab = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4} | {f"w{i}": i for i in range(5, 100)}
    peer = transformers.BertTokenizer(vocab=vocab)
    pairs = [([5, 7, 11], [13, 17]), ([19], [23, 29, 31, 37, 41]), ([43, 47], [53])]
    words = [[" ".join(f"w{i}" for i in part) for part in pair] for pair in pairs]
    theirs = peer([a for a, _ in words], [b for _, b in words], padding=True, return_tensors="pt")
    ours = pair_batch(pairs, cls=CLS, sep=SEP, pad=PAD, max_length=9)
    assert torch.equal(ours.ids, theirs["input_ids"])
    assert torch.equal(ours.segments, theirs["token_type_ids"])
    assert torch.equal(ours.lengths, theirs["attention_mask"].sum(dim=1))
    with pytest.warns(TruncationWarning, match="3 tokens were cut off, in 2 of 3 pairs"):
        ours = pair_batch(pairs, cls=CLS, sep=SEP, pad=PAD, max_length=7, truncate=True)
    theirs = peer([a for a, _ in words], [b for _, b in words], max_length=7, truncation=True, padding=True,
                  return_tensors="pt")  # fmt: skip
    assert torch.equal(ours.ids, theirs["input_ids"])


def test_nothing_is_cut_unasked_or_in_silence():
    pairs = [([5], [7]), ([11] * 9, None), ([13] * 4, [17] * 6)]
    with pytest.raises(ValueError, match=r"pair 1 has 11 tokens with \[CLS\] and \[SEP\], 1 more than max_length = 10"):
        pair_batch(pairs, cls=CLS, sep=SEP, pad=PAD, max_length=10)
    with pytest.warns(TruncationWarning, match="4 tokens were cut off, in 2 of 3 pairs"):
        batch = pair_batch(pairs, cls=CLS, sep=SEP, pad=PAD, max_length=10, truncate=True)
    assert batch.lengths.tolist() == [5, 10, 10]
    assert batch.segments.sum(dim=1).tolist() == [2, 0, 4]  # 17 17 17 [SEP]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pair_batch(pairs, cls=CLS, sep=SEP, pad=PAD, max_length=13, truncate=True)


def test_errors():
    for few in ([], documents(3), documents(3, 0)):
        with pytest.raises(ValueError, match="needs at least two documents"):
            sentence_pairs(few)
    with pytest.raises(ValueError, match="no document has two sentences"):
        sentence_pairs(documents(1, 1, 1))
    with pytest.raises(ValueError, match="sentence 2, counted through all documents, is empty"):
        sentence_pairs([[[1], [2]], [[]]])
    with pytest.raises(ValueError, match="there are no pairs"):
        pair_batch([], cls=CLS, sep=SEP, pad=PAD, max_length=9)
    with pytest.raises(ValueError, match="max_length 4 has no room for"):
        pair_batch([([5], [7])], cls=CLS, sep=SEP, pad=PAD, max_length=4)
