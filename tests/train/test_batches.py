"""Batches: every row once per epoch, in an order that depends on seed and epoch alone, from any place onwards."""

import json
from itertools import chain, islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.train.batches import Batches


def rows(batches, count):
    return [batch[0].tolist() for batch in islice(batches, count)]


def test_by_hand():
    batches = Batches(torch.arange(5), torch.arange(5) * 10, batch_size=2, shuffle=False)
    assert len(batches) == 3
    assert [(a.tolist(), b.tolist()) for a, b in islice(batches, 4)] == [
        ([0, 1], [0, 10]),
        ([2, 3], [20, 30]),
        ([4], [40]),
        ([0, 1], [0, 10]),
    ]
    assert (batches.epoch, batches.position) == (1, 1)
    assert rows(Batches(torch.arange(5), batch_size=2, shuffle=False, drop_last=True), 3) == [[0, 1], [2, 3], [0, 1]]


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 9), st.integers(0, 60))
def test_each_epoch_is_a_permutation_and_any_place_can_be_continued(n, size, seed, stop):
    tensor = torch.arange(n)
    batches = Batches(tensor, batch_size=size, seed=seed)
    per_epoch = len(batches)
    epochs = [sorted(chain.from_iterable(rows(batches, per_epoch))) for _ in range(2)]
    assert epochs == [list(range(n))] * 2

    first = Batches(tensor, batch_size=size, seed=seed)
    rows(first, stop)
    place = json.loads(json.dumps(first.state_dict()))
    again = Batches(tensor, batch_size=size, seed=seed)
    again.load_state_dict(place)
    assert rows(again, 7) == rows(first, 7)


def test_orders_differ_between_seeds_and_between_epochs_and_repeat_for_the_same_seed():
    def epochs(seed):
        batches = Batches(torch.arange(97), batch_size=97, seed=seed)
        return rows(batches, 2)

    assert epochs(1) == epochs(1)
    assert epochs(1)[0] != epochs(1)[1]
    assert epochs(1)[0] != epochs(2)[0]
    assert epochs(0)[0] != list(range(97))


def test_nobody_elses_random_numbers_are_touched():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    rows(Batches(torch.arange(97), batch_size=10), 20)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("tensors", "settings", "message"),
    [
        ([], {"batch_size": 1}, "equally many rows, at least one; got no tensor"),
        ([torch.empty(0, 3)], {"batch_size": 1}, r"got \[0\]"),
        ([torch.zeros(3), torch.zeros(5)], {"batch_size": 1}, r"got \[3, 5\]"),
        ([torch.zeros(3)], {"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ([torch.zeros(3)], {"batch_size": 2.0}, "batch_size must be a whole number"),
        ([torch.zeros(3)], {"batch_size": 5, "drop_last": True}, "batch_size 5 with drop_last leaves no batch of 3"),
        ([torch.zeros(3)], {"batch_size": 1, "seed": -1}, "seed must be a whole number of at least 0, got -1"),
    ],
)
def test_errors(tensors, settings, message):
    with pytest.raises(ValueError, match=message):
        Batches(*tensors, **settings)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"batch_size": 3}, "batch_size 2, these 3"),
        ({"batch_size": 2, "seed": 1}, "seed 0, these 1"),
        ({"batch_size": 2, "shuffle": False}, "shuffle True, these False"),
        ({"batch_size": 2, "drop_last": True}, "drop_last False, these True"),
    ],
)
def test_a_place_in_other_batches(other, message):
    place = Batches(torch.arange(5), batch_size=2).state_dict()
    with pytest.raises(ValueError, match=message):
        Batches(torch.arange(5), **other).load_state_dict(place)
    with pytest.raises(ValueError, match="rows 5, these 6"):
        Batches(torch.arange(6), batch_size=2).load_state_dict(place)
