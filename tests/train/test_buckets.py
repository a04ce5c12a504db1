"""Padding and batches of like lengths: numbers from paper, nothing lost and nothing twice, places saved, errors."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.train.buckets import BucketedBatches, pad

SEQUENCES = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=11), min_size=1, max_size=31)


# ---- pad ----


def test_pad_by_hand():
    ids, lengths = pad([[5], [7, 2, 3], []], -1)
    assert ids.tolist() == [[5, -1, -1], [7, 2, 3], [-1, -1, -1]]
    assert lengths.tolist() == [1, 3, 0]
    assert ids.dtype == lengths.dtype == torch.int64
    assert pad([[5]], 0, length=3)[0].tolist() == [[5, 0, 0]]


@given(SEQUENCES, st.integers(-5, 5))
def test_pad_equals_torch(sequences, value):
    expected = torch.nn.utils.rnn.pad_sequence(list(map(torch.tensor, sequences)), True, value)
    ids, lengths = pad(sequences, value)
    assert torch.equal(ids, expected)
    assert [row[:n].tolist() for row, n in zip(ids, lengths, strict=True)] == sequences


# ---- batches ----


def test_batches_by_hand():
    # the longest of each pair: 3, 1, 2, 3, 1; sorted 1 1 2 3 3: two of 1 and then 2 · 2, 3 + 3
    lists = [[[1, 1, 1], [2], [3], [4], [5]], [[6], [7], [8, 8], [9, 9, 9], [10]]]
    batches = BucketedBatches(*lists, tokens=6, pad=0)
    assert len(batches) == 2
    rows = []
    for _ in range(2):
        source, source_lengths, target, target_lengths = next(batches)
        rows.append(sorted(source[:, 0].tolist()))
        if rows[-1] == [1, 4]:
            assert sorted(source.tolist()) == [[1, 1, 1], [4, 0, 0]]
            assert sorted(target.tolist()) == [[6, 0, 0], [9, 9, 9]]
            assert sorted(source_lengths.tolist()) == sorted(target_lengths.tolist()) == [1, 3]
    assert sorted(rows) == [[1, 4], [2, 3, 5]]


@given(SEQUENCES, st.integers(11, 50), st.integers(0, 9))
def test_each_epoch_has_every_sequence_once_in_batches_that_fit(sequences, tokens, seed):
    numbered = [[number] for number in range(len(sequences))]  # the pair's other half says which it is
    batches = BucketedBatches(sequences, numbered, tokens=tokens, pad=0, seed=seed)
    for _ in range(2):
        found = []
        for _ in range(len(batches)):
            ids, lengths, numbers, _ = next(batches)
            assert ids.shape[0] * max(ids.shape[1], 1) <= tokens
            for row, n, number in zip(ids, lengths, numbers, strict=True):
                assert row[:n].tolist() == sequences[number]
            found += numbers[:, 0].tolist()
        assert sorted(found) == list(range(len(sequences)))


def test_hardly_any_padding():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 60, (1009,), generator=generator).tolist()
    batches = BucketedBatches([[1] * n for n in lengths], tokens=600, pad=0)
    computed = sum(next(batches)[0].numel() for _ in range(len(batches)))
    assert sum(lengths) / computed > 0.95
    random = [lengths[i : i + 20] for i in range(0, 1009, 20)]
    assert sum(lengths) / sum(len(batch) * max(batch) for batch in random) < 0.6


def test_epochs_differ_and_seeds_decide():
    lists = [[[i] * (1 + i % 7) for i in range(101)]]

    def epochs(seed, count=2):
        batches = BucketedBatches(*lists, tokens=20, pad=0, seed=seed)
        return [[next(batches)[0].tolist() for _ in range(len(batches))] for _ in range(count)]

    assert epochs(3) == epochs(3)
    assert epochs(3) != epochs(4)
    first, second = epochs(3)
    assert first != second
    lengths = [len(batch[0]) for batch in first]
    assert lengths != sorted(lengths)  # short ones do not come first


def test_a_saved_place_goes_on():
    lists = [[[i] * (1 + i % 7) for i in range(101)], [[i] for i in range(101)]]
    whole = BucketedBatches(*lists, tokens=20, pad=0, seed=5)
    for _ in range(len(whole) + 3):
        next(whole)
    again = BucketedBatches(*lists, tokens=20, pad=0, seed=5)
    again.load_state_dict(whole.state_dict())
    for _ in range(2 * len(whole)):
        for a, b in zip(next(whole), next(again), strict=True):
            assert torch.equal(a, b)


# ---- errors ----


def test_errors():
    with pytest.raises(ValueError, match="there are no sequences to pad"):
        pad([], 0)
    with pytest.raises(ValueError, match="sequence 1 has 3 ids, which do not fit into length = 2"):
        pad([[1], [1, 2, 3]], 0, length=2)
    with pytest.raises(TypeError, match="sequences must hold ids, whole numbers, got float64"):
        pad([[1.5]], 0)
    for lists, got in (([], "no list"), ([[]], r"\[0\]"), ([[[1]], [[1], [2]]], r"\[1, 2\]")):
        with pytest.raises(ValueError, match=f"equally many sequences, at least one; got {got}"):
            BucketedBatches(*lists, tokens=5, pad=0)
    with pytest.raises(ValueError, match="sequence 1 of list 0 is empty"):
        BucketedBatches([[1], []], [[1], [2]], tokens=5, pad=0)
    with pytest.raises(ValueError, match="tokens = 2 is too small: sequence 1 has 3 ids"):
        BucketedBatches([[1], [1, 2, 3]], tokens=2, pad=0)
    with pytest.raises(ValueError, match="seed must be a whole number of at least 0, got -1"):
        BucketedBatches([[1]], tokens=2, pad=0, seed=-1)
    saved = BucketedBatches([[1], [2]], tokens=2, pad=0).state_dict()
    with pytest.raises(ValueError, match="the saved batches have rows 2, these 1"):
        BucketedBatches([[1]], tokens=2, pad=0).load_state_dict(saved)
