"""Who computes what, and in which order: the schedules of pipeline parallelism, as data.

A model is cut into *stages*, a batch into *microbatches*. Every microbatch goes forward through all stages and then
backward through all of them. A schedule says in which order a rank does its share; when it does it follows from what it
must wait for, see `lmcore.parallel.timeline`. With more stages than ranks, stage s lives on rank s % ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from lmcore.sizes import check_sizes


@dataclass(frozen=True, order=True)
class Action:
    """One stage's forward ("F") or backward ("B") pass of one microbatch.

    >>> str(Action("B", 3, 1))    # microbatch 3, stage 1
    'B3@1'
    """

    kind: str
    microbatch: int
    stage: int

    def __str__(self) -> str:
        return f"{self.kind}{self.microbatch}@{self.stage}"

    def needs(self, stages: int) -> list[Action]:
        """What must be done before: here, or on the rank of the stage before (F) or after (B)."""
        if self.kind == "F":
            return [Action("F", self.microbatch, self.stage - 1)] if self.stage else []
        own = [Action("F", self.microbatch, self.stage)]
        return own if self.stage == stages - 1 else [*own, Action("B", self.microbatch, self.stage + 1)]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The order of work of every rank.

    Args:
        ranks, stages, microbatches: how many; stages is a multiple of ranks.
        actions: for each rank its actions in order.
    Raises:
        ValueError: a rank does not do just the forward and the backward passes of its stages, each of them once.
    """

    ranks: int
    stages: int
    microbatches: int
    actions: tuple[tuple[Action, ...], ...]

    def __post_init__(self):
        check_sizes(ranks=self.ranks, microbatches=self.microbatches, stages=self.stages)
        if self.stages % self.ranks:
            raise ValueError(f"stages = {self.stages} must be a multiple of ranks = {self.ranks}")
        if len(self.actions) != self.ranks:
            raise ValueError(f"actions are of {len(self.actions)} ranks, must be of {self.ranks}")
        for rank, own in enumerate(self.actions):
            stages, batches = range(rank, self.stages, self.ranks), range(self.microbatches)
            wanted = {Action(kind, m, s) for kind in "FB" for m in batches for s in stages}
            twice = {str(action) for action in own if own.count(action) > 1} if len(own) != len(set(own)) else set()
            for what, wrong in (
                ("misses", wanted - set(own)),
                ("has no business with", set(own) - wanted),
                ("repeats", twice),
            ):
                if wrong:
                    raise ValueError(f"rank {rank} {what} {', '.join(sorted(map(str, wrong)))}")


def idle_formula(ranks: int, microbatches: int, chunks: int = 1) -> Fraction:
    """The share of time that ranks are idle if all stages take equally long and messages no time.

    Filling and draining the pipeline costs each rank (p − 1) / v of a microbatch's time, and its work is m of them:
    (p − 1) / (v m + p − 1).

    Args:
        ranks: p.   microbatches: m.   chunks: v, the stages of each rank.
    Source: Huang et al. 2019; with chunks Narayanan et al. 2021.
    Differs: Narayanan et al. divide by the useful time, (p − 1) / (v m).

    >>> idle_formula(2, 4), idle_formula(4, 1), idle_formula(4, 8, chunks=2)
    (Fraction(1, 5), Fraction(3, 4), Fraction(3, 19))
    """
    check_sizes(ranks=ranks, microbatches=microbatches, chunks=chunks)
    return Fraction(ranks - 1, chunks * microbatches + ranks - 1)


def gpipe(ranks: int, microbatches: int) -> Schedule:
    """All forward passes, then all backward passes.

    Source: Huang et al. 2019.

    >>> print(*gpipe(2, 3).actions[1])
    F0@1 F1@1 F2@1 B0@1 B1@1 B2@1
    """
    check_sizes(ranks=ranks, microbatches=microbatches)
    order = [(kind, m) for kind in "FB" for m in range(microbatches)]
    return _schedule(ranks, 1, microbatches, [[Action(kind, m, rank) for kind, m in order] for rank in range(ranks)])


def naive(ranks: int) -> Schedule:
    """The model is spread over the ranks, but the batch is in one piece: one rank works at a time.

    >>> [list(map(str, own)) for own in naive(2).actions]
    [['F0@0', 'B0@0'], ['F0@1', 'B0@1']]
    """
    return gpipe(ranks, 1)


def one_forward_one_backward(ranks: int, microbatches: int) -> Schedule:
    """Enough forward passes to fill the pipeline, then one backward after each forward pass: 1F1B.

    Rank r begins with p − r − 1 forward passes, so that it never holds more than p − r microbatches.

    Source: Narayanan et al. 2019, with a flush after each batch as in Narayanan et al. 2021.

    >>> print(*one_forward_one_backward(2, 3).actions[0])
    F0@0 F1@0 B0@0 F2@0 B1@0 B2@0
    """
    return interleaved(ranks, microbatches, 1)


def interleaved(ranks: int, microbatches: int, chunks: int) -> Schedule:
    """1F1B with several stages per rank, stage s on rank s % ranks: a shorter way into and out of the pipeline.

    A rank takes its stages in turn, with as many microbatches at a time as there are ranks.

    Args:
        chunks: stages per rank; with 1 it is 1F1B.
    Raises:
        ValueError: a count below 1; with several chunks, microbatches that are no multiple of ranks.
    Source: Narayanan et al. 2021.

    >>> print(*interleaved(2, 2, 2).actions[1])
    F0@1 F1@1 F0@3 B0@3 F1@3 B1@3 B0@1 B1@1
    """
    check_sizes(ranks=ranks, microbatches=microbatches, chunks=chunks)
    if chunks > 1 and microbatches % ranks:
        raise ValueError(f"with chunks, microbatches = {microbatches} must be a multiple of ranks = {ranks}")
    total = microbatches * chunks
    together = ranks if chunks > 1 else microbatches  # microbatches that pass a chunk before the next chunk's turn

    def place(k: int) -> tuple[int, int]:
        """Microbatch and chunk of the k-th forward pass; for a backward pass the chunks are counted from the last."""
        round_, k = divmod(k, together * chunks)
        return round_ * together + k % together, k // together

    actions = []
    for rank in range(ranks):
        ahead = (ranks - rank - 1) * (2 if chunks > 1 else 1) + (chunks - 1) * ranks
        forward = [Action("F", m, c * ranks + rank) for m, c in map(place, range(total))]
        backward = [Action("B", m, (chunks - 1 - c) * ranks + rank) for m, c in map(place, range(total))]
        actions.append(_alternate(forward, backward, min(ahead, total)))
    return _schedule(ranks, chunks, microbatches, actions)


def _alternate(forward: list[Action], backward: list[Action], ahead: int) -> list[Action]:
    """Some forward passes, then forward and backward in turn, then the backward passes that are left."""
    steady = len(forward) - ahead
    pairs = zip(forward[ahead:], backward[:steady], strict=True)
    return [*forward[:ahead], *(action for pair in pairs for action in pair), *backward[steady:]]


def _schedule(ranks: int, chunks: int, microbatches: int, actions: list[list[Action]]) -> Schedule:
    """A schedule from lists."""
    return Schedule(ranks=ranks, stages=ranks * chunks, microbatches=microbatches, actions=tuple(map(tuple, actions)))
