"""When things happen: a simulator of pipeline schedules, and what can be read off its events or off measured ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lmcore.parallel.schedules import Action, Schedule


@dataclass(frozen=True, order=True)
class Event:
    """One action of one rank, from start to end, in any unit of time."""

    start: float
    end: float
    rank: int
    action: Action


def simulate(
    schedule: Schedule,
    *,
    forward: float | Sequence[float] = 1,
    backward: float | Sequence[float] = 2,
    message: float = 0,
) -> list[Event]:
    """Let every rank do its actions in order, each as soon as what it needs is there.

    Args:
        forward, backward: how long a pass of one microbatch takes: one number, or one for each stage.
        message: how long it takes from the end of a pass to where its result is on another rank. Sending does not
            keep the sender from its work.
    Returns:
        All events, by their start. Whole numbers (or fractions) in give exact numbers out.
    Raises:
        ValueError: a negative time, the wrong number of them, or a schedule in which ranks wait for each other for
            ever; it says what each of them waits for.
    Cost: O(actions · ranks).

    >>> from lmcore.parallel.schedules import naive
    >>> [(str(e.action), e.start, e.end) for e in simulate(naive(2), forward=1, backward=2)]
    [('F0@0', 0, 1), ('F0@1', 1, 2), ('B0@1', 2, 4), ('B0@0', 4, 6)]
    """
    time = {"F": _per_stage("forward", forward, schedule), "B": _per_stage("backward", backward, schedule)}
    if message < 0:
        raise ValueError(f"message must be at least 0, got {message}")
    done: dict[Action, Any] = {}
    events, position, free = [], [0] * schedule.ranks, [0] * schedule.ranks
    progress = True
    while progress:
        progress = False
        for rank, own in enumerate(schedule.actions):
            while position[rank] < len(own):
                action = own[position[rank]]
                needs = action.needs(schedule.stages)
                if any(need not in done for need in needs):
                    break
                elsewhere = [need for need in needs if need.stage % schedule.ranks != rank]
                start = max([free[rank], *(done[need] + (message if need in elsewhere else 0) for need in needs)])
                done[action] = free[rank] = start + time[action.kind][action.stage]
                events.append(Event(start, done[action], rank, action))
                position[rank] += 1
                progress = True
    _check_done(schedule, position, done)
    return sorted(events)


def _per_stage(name: str, times: float | Sequence[float], schedule: Schedule) -> Sequence[float]:
    """One time for each stage."""
    times = list(times) if isinstance(times, Sequence) else [times] * schedule.stages
    if len(times) != schedule.stages or min(times) < 0:
        raise ValueError(f"{name} must be one time ≥ 0 or {schedule.stages}, one for each stage, got {times}")
    return times


def _check_done(schedule: Schedule, position: list[int], done: dict) -> None:
    """Raise if some rank has not come to its end: it waits for ever."""
    stuck = []
    for rank, own in enumerate(schedule.actions):
        if position[rank] < len(own):
            action = own[position[rank]]
            missing = [str(need) for need in action.needs(schedule.stages) if need not in done]
            stuck.append(f"rank {rank} at {action} waits for {' and '.join(missing)}")
    if stuck:
        raise ValueError(f"deadlock: {'; '.join(stuck)}")


def makespan(events: Sequence[Event]) -> float:
    """The time from the first start to the last end."""
    return max(event.end for event in events) - min(event.start for event in events)


def idle_share(events: Sequence[Event], ranks: int) -> float:
    """The share of all ranks' time, from the first start to the last end, in which nothing was computed.

    >>> from lmcore.parallel.schedules import gpipe
    >>> idle_share(simulate(gpipe(2, 4)), 2)      # (p − 1) / (m + p − 1)
    0.2
    """
    busy, total = sum(event.end - event.start for event in events), ranks * makespan(events)
    return (total - busy) / total


def in_flight(schedule: Schedule) -> list[int]:
    """For each rank, the most microbatches at a time whose activations it keeps; with chunks, of all its stages.

    >>> from lmcore.parallel.schedules import gpipe, one_forward_one_backward
    >>> in_flight(gpipe(3, 7)), in_flight(one_forward_one_backward(3, 7))
    ([7, 7, 7], [3, 2, 1])
    """
    peaks = []
    for own in schedule.actions:
        held = peak = 0
        for action in own:
            held += 1 if action.kind == "F" else -1
            peak = max(peak, held)
        peaks.append(peak)
    return peaks


def messages(schedule: Schedule) -> int:
    """How many activations and gradients pass from one rank to another.

    >>> from lmcore.parallel.schedules import gpipe, interleaved
    >>> messages(gpipe(2, 4)), messages(interleaved(2, 4, 3))
    (8, 40)
    """
    moved = 0
    for own in schedule.actions:
        for action in own:
            to = action.stage + (1 if action.kind == "F" else -1)
            moved += 0 <= to < schedule.stages and to % schedule.ranks != action.stage % schedule.ranks
    return moved


def diagram(events: Sequence[Event], ranks: int) -> str:
    """The well-known picture as text: a line per rank, a column per unit of time.

    Args:
        events: whose starts and ends are whole numbers, as `simulate` gives for whole numbers.
    Returns:
        ``F2`` is the forward pass of microbatch 2; a pass that takes longer is continued by ``--``. With several stages
        on a rank, these are told apart by letters: ``F2a``, ``F2b``.
    Raises:
        ValueError: a time that is no whole number.

    >>> from lmcore.parallel.schedules import naive
    >>> print(diagram(simulate(naive(2), forward=1, backward=2), 2))
    rank 0 | F0 .  .  .  B0 --
    rank 1 | .  F0 B0 -- .  .
    """
    chunks = 1 + max(event.action.stage for event in events) // ranks
    if any(time != int(time) for event in events for time in (event.start, event.end)):
        raise ValueError("a diagram needs times that are whole numbers: give simulate whole numbers")
    length = int(max(event.end for event in events))
    grid = [["."] * length for _ in range(ranks)]
    for event in events:
        chunk = "abcdefghijklmnopqrstuvwxyz"[event.action.stage // ranks] if chunks > 1 else ""
        start, end = int(event.start), int(event.end)
        if start < end:
            label = f"{event.action.kind}{event.action.microbatch}{chunk}"
            grid[event.rank][start:end] = [label] + ["-" * len(label)] * (end - start - 1)
    width = max(len(cell) for row in grid for cell in row)
    rows = (" ".join(cell.ljust(width) for cell in row).rstrip() for row in grid)
    return "\n".join(f"rank {rank} | {row}" for rank, row in enumerate(rows))
