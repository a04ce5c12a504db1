"""How many bits each matrix gets, if all together may take so many bytes.

Each matrix has a few options, numbers of bits, each with a size in bytes and a damage, such as the rise of the loss
when this matrix alone is rounded. Damages are taken to add up. To choose one option for each matrix, so that the sizes
fit into a budget and the damage is least, is a knapsack problem: greedy steps are fast and near, dynamic programming is
exact.
"""

from collections.abc import Hashable, Mapping
from typing import NamedTuple

Options = Mapping[str, Mapping[Hashable, float]]  # by matrix, then by option


class Allocation(NamedTuple):
    """An option for each matrix, the bytes of all together, and the sum of the damages."""

    options: dict[str, Hashable]
    nbytes: int
    damage: float


def _check(sizes: Options, damages: Options) -> None:
    """Refuse tables that do not name the same matrices and options."""
    if not sizes:
        raise ValueError("sizes is empty: there is nothing to allocate")
    if sizes.keys() != damages.keys():
        raise ValueError(
            f"sizes and damages must name the same matrices; {sorted(sizes.keys() ^ damages.keys())} differ"
        )
    for name in sizes:
        if not sizes[name] or sizes[name].keys() != damages[name].keys():
            raise ValueError(
                f"{name} has the options {list(sizes[name])} in sizes and {list(damages[name])} in damages; they must "
                "be the same, and one at least"
            )
        for option, damage in damages[name].items():
            if damage != damage:
                raise ValueError(f"the damage of {name} with {option} is NaN")


def _check_budget(least: int, budget: int) -> None:
    """Refuse a budget that nothing fits into."""
    if least > budget:
        raise ValueError(f"budget = {budget} bytes is too small: with the smallest options it takes {least}")


def frontier(sizes: Options, damages: Options) -> list[Allocation]:
    """All allocations that no other one beats in both bytes and damage, by rising size.

    After each matrix, of all ways to choose for the matrices so far only those are kept which no smaller way equals in
    damage: whatever the other matrices get, nothing else can become best.

    Args:
        sizes: bytes of each matrix with each option.   damages: of the same.
    Returns:
        At least one; sizes rise and damages fall from one to the next.
    Raises:
        ValueError: tables that do not fit together, or a damage that is NaN.
    Cost: matrices · options · F, with F the largest number of ways kept: at most as many as there are different sums of
        sizes, few if many matrices are of one shape.

    >>> sizes = {"a": {2: 20, 4: 40}, "b": {2: 10, 4: 20}}
    >>> [(way.options, way.nbytes) for way in frontier(sizes, {"a": {2: 5.0, 4: 1.0}, "b": {2: 0.5, 4: 0.0}})]
    ... # doctest: +NORMALIZE_WHITESPACE
    [({'a': 2, 'b': 2}, 30), ({'a': 2, 'b': 4}, 40), ({'a': 4, 'b': 2}, 50), ({'a': 4, 'b': 4}, 60)]
    """
    _check(sizes, damages)
    ways: list[tuple] = [(0, 0.0, None)]  # bytes, damage, and the choices: (the choices before, option)
    for name, options in sizes.items():
        longer = [
            (size + own, damage + damages[name][option], (before, option))
            for size, damage, before in ways
            for option, own in options.items()
        ]
        longer.sort(key=lambda way: way[:2])
        ways, best = [], float("inf")
        for way in longer:
            if way[1] < best or not ways:
                ways.append(way)
                best = way[1]
    return [Allocation(_chosen(list(sizes), before), size, damage) for size, damage, before in ways]


def _chosen(names: list[str], choices: tuple | None) -> dict[str, Hashable]:
    """The options by name, from the last to the first."""
    options = []
    while choices is not None:
        choices, option = choices
        options.append(option)
    return dict(zip(names, reversed(options), strict=True))


def allocate(sizes: Options, damages: Options, budget: int) -> Allocation:
    """The least damage that fits into a budget.

    Args:
        sizes, damages: see `frontier`.   budget: bytes.
    Raises:
        ValueError: as `frontier`, or a budget too small for the smallest options (says what they take).
    Cost: as `frontier`.

    >>> sizes = {"a": {2: 20, 4: 40}, "b": {2: 10, 4: 20}}
    >>> allocate(sizes, {"a": {2: 5.0, 4: 1.0}, "b": {2: 0.5, 4: 0.0}}, 50)     # a gains 4 from its 20 bytes, b 0.5
    Allocation(options={'a': 4, 'b': 2}, nbytes=50, damage=1.5)
    """
    ways = frontier(sizes, damages)
    _check_budget(ways[0].nbytes, budget)
    return [way for way in ways if way.nbytes <= budget][-1]


def allocate_greedily(sizes: Options, damages: Options, budget: int) -> Allocation:
    """From the smallest options on, take again and again the step that saves most damage per byte and still fits.

    Args, raises: as `allocate`.
    Returns:
        An `Allocation` that fits; its damage is never below that of `allocate`, and mostly close to it.
    Cost: O(steps · matrices · options), whatever the sizes.

    >>> sizes, damages = {"a": {2: 0, 4: 2}, "b": {2: 0, 4: 3}}, {"a": {2: 3.0, 4: 0.0}, "b": {2: 4.0, 4: 0.0}}
    >>> allocate_greedily(sizes, damages, 3).options, allocate(sizes, damages, 3).options   # 1.5 per byte; 1.33, but 4
    ({'a': 4, 'b': 2}, {'a': 2, 'b': 4})
    """
    _check(sizes, damages)
    now = {name: min(own, key=lambda option: (own[option], damages[name][option])) for name, own in sizes.items()}
    spent = sum(sizes[name][option] for name, option in now.items())
    _check_budget(spent, budget)
    while True:
        best, step = 0.0, None
        for name, option in now.items():
            for other, size in sizes[name].items():
                more, saved = size - sizes[name][option], damages[name][option] - damages[name][other]
                if saved > 0 and spent + more <= budget and saved / max(more, 1e-9) > best:
                    best, step = saved / max(more, 1e-9), (name, other, more)
        if step is None:
            return Allocation(now, spent, sum(damages[name][option] for name, option in now.items()))
        now[step[0]], spent = step[1], spent + step[2]
