"""Cutting models into stages: partitions against brute force, costs, and which parameters stages share."""

from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lmcore.models.gpt import GPT, GPTConfig
from lmcore.nn.transformer import TransformerConfig
from lmcore.parallel.gpt_layers import gpt_layers
from lmcore.parallel.stages import cut, forward_flops, parameter_counts, part_costs, partition, tied_parameters


def brute_force(costs, parts):
    """The smallest largest part over all ways to cut."""
    n = len(costs)
    ways = ([0, *inner, n] for inner in combinations(range(1, n), parts - 1))
    return min(max(sum(costs[a:b]) for a, b in zip(way[:-1], way[1:], strict=True)) for way in ways)


class TestPartition:
    @given(st.lists(st.integers(0, 50), min_size=1, max_size=9), st.data())
    def test_optimal_contiguous_complete_and_without_an_empty_part(self, costs, data):
        parts = data.draw(st.integers(1, len(costs)))
        ranges = partition(costs, parts)
        assert [i for part in ranges for i in part] == list(range(len(costs)))
        assert len(ranges) == parts
        assert all(ranges)
        assert max(part_costs(costs, ranges)) == brute_force(costs, parts)

    def test_by_hand(self):
        # An expensive last layer stands alone; halves by number would cost 4 and 12.
        assert partition([1, 1, 1, 1, 1, 1, 10], 2) == [range(6), range(6, 7)]
        assert part_costs([1, 1, 1, 1, 1, 1, 10], [range(4), range(4, 7)]) == [4, 12]
        assert partition([5.5], 1) == [range(1)]

    @pytest.mark.parametrize("parts", [0, 4])
    def test_wrong_number_of_parts(self, parts):
        with pytest.raises(ValueError, match=f"{parts} stages cannot be cut from 3 layers: .* so 1 … 3 are allowed"):
            partition([1, 2, 3], parts)

    def test_negative_cost(self):
        with pytest.raises(ValueError, match="costs must be at least 0, got -2"):
            partition([1, -2], 1)


def gpt(**changes):
    """A small GPT."""
    torch.manual_seed(0)
    stack = TransformerConfig(d_model=12, heads=3, d_ff=19, layers=5, order=changes.pop("order", "pre"))
    return GPT(GPTConfig(vocabulary_size=23, context=7, transformer=stack, **changes))


class TestCosts:
    def test_parameters(self):
        assert parameter_counts([nn.Linear(3, 5), nn.Tanh(), nn.Embedding(7, 2)]) == [20, 0, 14]

    def test_flops_by_hand(self):
        layers = gpt_layers(gpt())
        flops = forward_flops(layers, torch.zeros(2, 7, dtype=torch.long))
        tokens, pairs = 2 * 7, 2 * 7 * 7
        attention = 2 * 2 * pairs * 12  # scores and weighted sums
        block = 2 * tokens * (4 * 12 * 12 + 2 * 12 * 19) + attention
        assert flops == [0, *[block] * 5, 2 * tokens * 12 * 23]

    def test_costs_must_fit(self):
        with pytest.raises(ValueError, match="there are 2 costs for 3 layers"):
            cut([nn.Tanh()] * 3, 2, [1, 2])


class TestCut:
    @pytest.mark.parametrize("changes", [{}, {"positions": "rotary"}, {"order": "post"}, {"tied": False}], ids=str)
    def test_the_stages_are_the_model(self, changes):
        model = gpt(**changes)
        stages = cut(gpt_layers(model), 3)
        ids = torch.randint(23, (2, 7))
        assert torch.equal(nn.Sequential(*stages)(ids), model(ids))
        assert {p for stage in stages for p in stage.parameters()} == set(model.parameters())

    def test_by_costs(self):
        layers = [nn.Tanh() for _ in range(5)]
        assert [len(stage) for stage in cut(layers, 2)] == [1, 4]  # no parameters: any cut is as good
        assert [len(stage) for stage in cut(layers, 2, [1, 1, 1, 1, 4])] == [4, 1]
        assert cut(layers, 2, [1] * 5)[1][0] is layers[2]

    def test_too_long_a_text(self):
        with pytest.raises(ValueError, match=r"ids has shape \(2, 8\), must be \(B, T\) with T at most 7"):
            gpt_layers(gpt())[0](torch.zeros(2, 8, dtype=torch.long))

    def test_tied(self):
        model = gpt()
        ((parameter, where),) = tied_parameters(cut(gpt_layers(model), 4))
        assert parameter is model.embedding.weight
        assert where == [0, 3]
        assert tied_parameters(cut(gpt_layers(model), 1)) == []
        assert tied_parameters(cut(gpt_layers(gpt(tied=False)), 4)) == []
