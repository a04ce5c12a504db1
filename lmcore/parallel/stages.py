"""Cutting a model into stages of equal cost: contiguous runs of its layers, the dearest of them as cheap as can be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import Module, Parameter, Sequential
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def partition(costs: Sequence[float], parts: int) -> list[range]:
    """Cut a row of costs into contiguous parts so that the largest part is as small as possible.

    Dynamic programming: the best way to cut the first n costs into k parts ends with some last part; what stands before
    it is cut in the best way into k − 1.

    Args:
        costs: of the layers, in order; at least 0.   parts: how many; none of them is empty.
    Returns:
        The parts as ranges of indices.
    Raises:
        ValueError: more parts than costs, fewer than one, or a negative cost.
    Cost: O(parts · n²).

    >>> partition([1, 2, 3, 4, 5, 6], 2)     # 10 and 11; three layers each would be 6 and 15
    [range(0, 4), range(4, 6)]
    """
    n = len(costs)
    if not 1 <= parts <= n:
        raise ValueError(
            f"{parts} stages cannot be cut from {n} layers: each needs at least one, so 1 … {n} are allowed"
        )
    if min(costs) < 0:
        raise ValueError(f"costs must be at least 0, got {min(costs)}")
    before = [0]  # before[i] = the sum of the first i costs
    for cost in costs:
        before.append(before[-1] + cost)
    best = [[before[end] for end in range(n + 1)]]  # best[k][end]: the largest of k + 1 parts of the first `end` costs
    cuts: list[list[int]] = [[0] * (n + 1)]  # where its last part begins
    for k in range(1, parts):
        row, cut = [float("inf")] * (n + 1), [0] * (n + 1)
        for end in range(k + 1, n + 1):
            row[end], cut[end] = min(
                (max(best[k - 1][start], before[end] - before[start]), start) for start in range(k, end)
            )
        best.append(row)
        cuts.append(cut)
    ranges, end = [], n
    for k in reversed(range(parts)):
        ranges.append(range(cuts[k][end], end))
        end = cuts[k][end]
    return ranges[::-1]


def part_costs(costs: Sequence[float], parts: Iterable[range]) -> list[float]:
    """The cost of each part.

    >>> part_costs([1, 2, 3, 4, 5, 6], [range(0, 4), range(4, 6)])
    [10, 11]
    """
    return [sum(costs[i] for i in part) for part in parts]


def parameter_counts(layers: Sequence[Module]) -> list[int]:
    """How many parameters each layer has: its memory, not its time. An embedding has many and computes nothing.

    >>> parameter_counts([torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2, bias=False)])
    [20, 0, 10]
    """
    return [sum(p.numel() for p in layer.parameters()) for layer in layers]


@torch.no_grad()
def forward_flops(layers: Sequence[Module], x: Tensor) -> list[int]:
    """How many floating-point operations of matrix products each layer needs for an example: a measure of time.

    Args:
        x: what the first layer gets.
    Differs: only matrix products count, those of attention included; a backward pass needs about twice as many.

    >>> forward_flops([torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2)], torch.ones(7, 3))
    [210, 0, 140]
    """
    flops = []
    for layer in layers:
        # The counter does not know the CPU's fused attention; two matrix products it knows.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            x = layer(x)
        flops.append(counter.get_total_flops())
    return flops


def cut(layers: Sequence[Module], stages: int, costs: Sequence[float] | None = None) -> list[Sequential]:
    """Stages made of a model's layers, which keep their parameters: what trains a stage trains the model.

    Args:
        layers: a Sequential, or a list such as `lmcore.parallel.gpt_layers.gpt_layers` gives.
        costs: of the layers; the number of their parameters if None.
    Raises:
        ValueError: more stages than layers, or not one cost for each layer.

    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 7))
    >>> [len(stage) for stage in cut(model, 2)]     # 20 and 42 parameters
    [1, 2]
    """
    layers = list(layers)
    costs = parameter_counts(layers) if costs is None else list(costs)
    if len(costs) != len(layers):
        raise ValueError(f"there are {len(costs)} costs for {len(layers)} layers")
    return [Sequential(*(layers[i] for i in part)) for part in partition(costs, stages)]


def tied_parameters(stages: Sequence[Module]) -> list[tuple[Parameter, list[int]]]:
    """Parameters that several stages share, and which stages these are.

    >>> first, last = torch.nn.Embedding(5, 3), torch.nn.Linear(3, 5, bias=False)
    >>> last.weight = first.weight
    >>> [(tuple(parameter.shape), where) for parameter, where in tied_parameters([first, torch.nn.ReLU(), last])]
    [((5, 3), [0, 2])]
    """
    where: dict[Parameter, list[int]] = {}
    for number, stage in enumerate(stages):
        for parameter in stage.parameters():
            where.setdefault(parameter, []).append(number)
    return [(parameter, numbers) for parameter, numbers in where.items() if len(numbers) > 1]
