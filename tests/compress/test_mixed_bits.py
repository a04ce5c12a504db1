"""Bits under a budget: dynamic programming against brute force and against greedy steps."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore.compress.mixed_bits import allocate, allocate_greedily, frontier


def tables(draw_list):
    sizes = {
        f"m{k}": {bits: size for bits, (size, _) in zip((2, 4, 8), row, strict=False)}
        for k, row in enumerate(draw_list)
    }
    damages = {
        f"m{k}": {bits: d for bits, (_, d) in zip((2, 4, 8), row, strict=False)} for k, row in enumerate(draw_list)
    }
    return sizes, damages


def brute_force(sizes, damages, budget):
    """The least damage of all ways that fit."""
    ways = itertools.product(*(options.items() for options in sizes.values()))
    best = math.inf
    for way in ways:
        if sum(size for _, size in way) <= budget:
            total = sum(damages[name][option] for name, (option, _) in zip(sizes, way, strict=True))
            best = min(best, total)
    return best


ROWS = st.lists(
    st.lists(st.tuples(st.integers(0, 20), st.integers(-3, 30)), min_size=1, max_size=3), min_size=1, max_size=5
)


@given(ROWS, st.integers(0, 90))
def test_exact_is_brute_force_and_greedy_is_never_better(rows, budget):
    sizes, damages = tables(rows)
    least = sum(min(options.values()) for options in sizes.values())
    if budget < least:
        for method in (allocate, allocate_greedily):
            with pytest.raises(ValueError, match=f"budget = {budget} bytes is too small.*takes {least}"):
                method(sizes, damages, budget)
        return
    exact, greedy = allocate(sizes, damages, budget), allocate_greedily(sizes, damages, budget)
    assert exact.damage == brute_force(sizes, damages, budget)
    assert greedy.damage >= exact.damage
    for found in (exact, greedy):
        assert found.nbytes == sum(sizes[name][option] for name, option in found.options.items()) <= budget
        assert found.damage == sum(damages[name][option] for name, option in found.options.items())
        assert list(found.options) == list(sizes)


@given(ROWS)
def test_frontier_rises_in_size_and_falls_in_damage(rows):
    sizes, damages = tables(rows)
    ways = frontier(sizes, damages)
    for smaller, larger in itertools.pairwise(ways):
        assert smaller.nbytes < larger.nbytes
        assert smaller.damage > larger.damage
    assert ways[0].nbytes == sum(min(options.values()) for options in sizes.values())
    assert ways[-1].damage == sum(min(options.values()) for options in damages.values())


def test_greedy_can_be_beaten():
    sizes, damages = {"a": {2: 0, 4: 2}, "b": {2: 0, 4: 3}}, {"a": {2: 3.0, 4: 0.0}, "b": {2: 4.0, 4: 0.0}}
    assert allocate_greedily(sizes, damages, 3).damage == 4
    assert allocate(sizes, damages, 3).damage == 3


def test_many_matrices_of_a_few_shapes_are_quick():
    sizes = {f"m{k}": {bits: bits * (1000 if k % 3 else 2700) for bits in (2, 3, 4, 8)} for k in range(200)}
    damages = {name: {bits: (1 + k % 17) / 4**bits for bits in own} for k, (name, own) in enumerate(sizes.items())}
    budget = sum(own[4] for own in sizes.values())
    exact, greedy = allocate(sizes, damages, budget), allocate_greedily(sizes, damages, budget)
    assert greedy.damage * 0.98 <= exact.damage <= greedy.damage
    assert exact.damage < sum(own[4] for own in damages.values())  # than four bits for all


def test_errors():
    with pytest.raises(ValueError, match="sizes is empty"):
        allocate({}, {}, 5)
    with pytest.raises(ValueError, match=r"must name the same matrices; \['b'\] differ"):
        allocate({"a": {2: 1}}, {"a": {2: 1.0}, "b": {2: 1.0}}, 5)
    with pytest.raises(ValueError, match=r"a has the options \[2\] in sizes and \[4\] in damages"):
        allocate_greedily({"a": {2: 1}}, {"a": {4: 1.0}}, 5)
    with pytest.raises(ValueError, match="the damage of a with 2 is NaN"):
        frontier({"a": {2: 1}}, {"a": {2: math.nan}})
