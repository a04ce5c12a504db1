"""Checks of the exercises on pipeline parallelism; the inputs are drawn anew from each seed."""

import re
from functools import partial

import numpy as np

from lmcore.checking import Tasks, refuse, require, same
from lmcore.parallel import schedules, timeline
from lmcore.parallel.stages import part_costs, partition

tasks = Tasks()
check = tasks.check
TOLERANCE = {"rtol": 1e-5, "atol": 1e-12}
_same, _refuse = partial(same, **TOLERANCE), partial(refuse, **TOLERANCE)


@tasks.add(points=1, minutes=5)
def idle_share(student, rng):
    """The idle share of a pipeline."""
    for v in (1, int(rng.integers(2, 5))):
        while True:
            p, m = int(rng.integers(3, 9)), int(rng.integers(10, 30))
            expected = (p - 1) / (v * m + p - 1)
            wrongs = [
                ((p - 1) / (v * m), "You divided by the useful time; the share is of all the time, bubble included."),
                (p / (v * m + p), "Filling takes p − 1 steps, not p: the first rank starts at once."),
                ((p - 1) / (v * m + p), "The whole time is m + p − 1 steps, not m + p (for v = 1)."),
                (v * m / (v * m + p - 1), "That is the share in which a rank works."),
                (100 * expected, "That is in percent; a share is a number from 0 to 1."),
            ]
            twice = 2 * (p - 1) / (m + 2 * (p - 1))
            chunks = [
                ((p - 1) / (m + p - 1), "You ignored v: with v stages per rank filling takes a v-th of the time."),
                ((p - 1) * v / (m + (p - 1) * v), "More stages per rank make the bubble smaller, not larger."),
                ((p * v - 1) / (m + p * v - 1), "There are p·v stages, but only p − 1 ranks to wait for."),
                ((p - 1) / v / (m + p - 1), "v must divide the bubble below the fraction line, too: T shrinks."),
            ]
            once = "Filling and draining together cost p − 1 passes forward and back: count them once."
            wrongs += chunks if v > 1 else [(twice, once)]
            if len({round(value, 9) for value, _ in wrongs} | {round(expected, 9)}) == len(wrongs) + 1:
                break  # all mistakes can be told from each other
        got = student(p, m, v)
        _refuse(got, expected, wrongs)
        require(_same(got, expected), f"For p = {p}, m = {m}, v = {v} expected {expected:.4f}, got {got}.")


def _walk(rng, m):
    """What a rank might do: forward passes in order, backward passes in order, at random."""
    actions, forward, backward = [], 0, 0
    while backward < m:
        if forward < m and (forward == backward or rng.random() < 0.55):
            actions.append(("F", forward))
            forward += 1
        else:
            actions.append(("B", backward))
            backward += 1
    return actions


@tasks.add(points=1, minutes=10)
def most_held(student, rng):
    """How many microbatches a rank holds."""
    for _ in range(3):
        while True:  # until all mistakes can be told from each other
            m = int(rng.integers(7, 12))
            actions = _walk(rng, m)
            ahead = next(i for i, action in enumerate(actions) if action[0] == "B")
            held = np.cumsum([1 if kind == "F" else -1 for kind, _ in actions])
            peak = int(held.max())
            if ahead + 2 <= peak <= m - 2:
                break
        got = student(actions)
        _refuse(
            got,
            peak,
            [
                (m, "That is the number of all microbatches: a backward pass frees what its forward pass has kept."),
                (ahead, "You stopped at the first backward pass. The most may be held later."),
                (0, "In the end nothing is held: keep the largest number on the way."),
                (peak - 1, "One too few: a rank holds a microbatch as soon as its forward pass is done."),
                (peak + 1, "One too many: a backward pass frees its microbatch before the next one comes."),
            ],
        )
        require(_same(got, peak), f"Expected {peak} for {actions}, got {got}.")


def _schedule(got, p, m):
    """A student's lists as a schedule, or say what is wrong with them."""
    require(isinstance(got, list | tuple) and len(got) == p, f"Return a list of {p} lists, one for each rank.")
    ranks = []
    for rank, own in enumerate(got):
        actions = []
        for pair in own:
            good = isinstance(pair, list | tuple) and len(pair) == 2 and pair[0] in ("F", "B")
            require(good, f'An action is a pair such as ("F", 0) or ("B", 0), not {pair!r}.')
            actions.append(schedules.Action(pair[0], int(pair[1]), rank))
        everything = {schedules.Action(kind, i, rank) for kind in "FB" for i in range(m)}
        missing, extra = everything - set(actions), set(actions) - everything
        require(not extra, f"Rank {rank} does {_names(extra)}, but microbatches are 0 … {m - 1}.")
        require(not missing, f"Rank {rank} never does {_names(missing)}.")
        require(len(actions) == len(everything), f"Rank {rank} does an action twice.")
        ranks.append(tuple(actions))
    return schedules.Schedule(ranks=p, stages=p, microbatches=m, actions=tuple(ranks))


def _names(actions):
    """Actions as a student writes them."""
    return ", ".join(f'("{a.kind}", {a.microbatch})' for a in sorted(actions))


def _simulate(schedule, **times):
    """Simulate; a deadlock is told to the student, in pairs as in the tasks."""
    try:
        return timeline.simulate(schedule, **times)
    except ValueError as error:
        told = re.sub(r"at ([FB])(\d+)@\d+", r'at ("\1", \2)', str(error).removeprefix("deadlock: "))
        told = re.sub(r"([FB])(\d+)@(\d+)", r'("\1", \2) of rank \3', told)
        require(False, f"Your ranks wait for each other for ever: {told}.")


@tasks.add(points=2, minutes=10)
def gpipe(student, rng):
    """GPipe as lists."""
    p, m = int(rng.integers(3, 6)), int(rng.integers(3, 8))
    got = student(p, m)
    schedule = _schedule(got, p, m)
    for rank, own in enumerate(schedule.actions):
        kinds = "".join(action.kind for action in own)
        require(
            kinds != "FB" * m,
            f"Rank {rank} does the backward pass right after the forward pass: then only one microbatch is under way.",
        )
        require(kinds[0] == "F", f"Rank {rank} begins with a backward pass: go forward first.")
        require(
            "BF" not in kinds,
            f"Rank {rank} has a forward pass after a backward pass; GPipe does all forward passes first.",
        )
    events = _simulate(schedule, forward=1, backward=2)
    expected = 3 * (m + p - 1)
    length = timeline.makespan(events)
    require(
        length == expected,
        f"The batch takes {length} units of time and should take {expected}: do the ranks take the microbatches in the "
        "same order?",
    )


@tasks.add(points=3, minutes=20)
def one_f_one_b(student, rng):
    """1F1B as lists."""
    p = int(rng.integers(4, 7))
    for m in (int(rng.integers(p + 2, p + 6)), p - 2):
        schedule = _schedule(student(p, m), p, m)
        held = timeline.in_flight(schedule)
        if m > p:
            require(
                held != [m] * p,
                f"Every rank holds all {m} microbatches: that is GPipe. Go back as soon as the pipeline is full.",
            )
            require(
                held != [p] * p,
                f"Every rank begins with the same number of forward passes. Rank r needs p − r = {p}, {p - 1}, … only.",
            )
            require(
                held != [min(rank + 1, m) for rank in range(p)],
                "You numbered the ranks from the wrong end: rank 0 holds most, the last rank one.",
            )
        for rank in range(p):
            limit = min(p - rank, m)
            require(held[rank] <= limit, f"With p = {p} and m = {m} rank {rank} holds {held[rank]}, more than {limit}.")
        length, best = timeline.makespan(_simulate(schedule, forward=1, backward=2)), 3 * (m + p - 1)
        require(
            held != [1] * p or length == best,
            f"With p = {p} and m = {m} each rank does a backward pass after each forward pass from the beginning: fill "
            "the pipeline first.",
        )
        require(length == best, f"With p = {p} and m = {m} the batch takes {length} units and should take {best}.")


@tasks.add(points=1, minutes=5)
def batch_loss(student, rng):
    """The loss of a batch from those of its microbatches."""
    m = int(rng.integers(3, 6))
    losses = [round(float(loss), 2) for loss in rng.uniform(2, 9, size=m)]
    tokens = [int(n) for n in np.sort(rng.choice(np.arange(20, 60), size=m, replace=False))]
    losses.sort()  # the longer the microbatch, the larger its loss: so no two mistakes agree
    total = float(np.dot(losses, tokens))
    expected, got = total / sum(tokens), student(losses, tokens)
    _refuse(
        got,
        expected,
        [
            (sum(losses), "You summed the microbatches' means: m times too much, even if all are equally large."),
            (sum(losses) / m, "You averaged the means as if all microbatches had equally many tokens."),
            (total, "That is the sum over all tokens; the batch's loss is their mean."),
            (total / m, "The weights must add up to 1: divide by the number of all tokens, not of microbatches."),
            (
                sum(losses) / sum(tokens),
                "These losses are means already: before you divide, weight each by its tokens.",
            ),
        ],
    )
    require(_same(got, expected), f"For losses {losses} and tokens {tokens} expected {expected:.4f}, got {got}.")


def _greedy(costs, p):
    """Fill each stage until it has its share."""
    sizes, size, load, goal = [], 0, 0, sum(costs) / p
    for i, cost in enumerate(costs):
        left = len(costs) - i
        if size and len(sizes) < p - 1 and (load + cost > goal or left <= p - 1 - len(sizes)):
            sizes.append(size)
            size, load = 0, 0
        size, load = size + 1, load + cost
    return [*sizes, size]


def _nearest_borders(costs, p):
    """Put each border where the sum so far comes nearest to its share."""
    sums = np.cumsum(costs)
    ends = [0, *(int(np.argmin(abs(sums - sums[-1] * k / p))) + 1 for k in range(1, p)), len(costs)]
    return np.diff(ends).tolist()


def _nearest_stages(costs, p):
    """Bring each stage as near to the average as possible, one after the other."""
    if p == 1:
        return [len(costs)]
    first = min(range(1, len(costs) - p + 2), key=lambda size: abs(sum(costs[:size]) - sum(costs) / p))
    return [first, *_nearest_stages(costs[first:], p - 1)]


def _ranges(sizes):
    """Stages from their sizes."""
    ends = np.cumsum(sizes)
    return [range(end - size, end) for size, end in zip(sizes, ends, strict=True)]


@tasks.add(points=3, minutes=25)
def balance(student, rng):
    """The best cut into stages."""
    while True:  # until no rule of thumb gives a best cut, and all give different ones
        p, n = int(rng.integers(3, 5)), int(rng.integers(10, 14))
        costs = [int(cost) for cost in rng.integers(1, 20, size=n)]
        costs[-1] = int(rng.integers(15, 40))
        best = max(part_costs(costs, partition(costs, p)))
        even = [len(part) for part in np.array_split(range(n), p)]
        thumbs = [
            (even, "You gave all stages the same number of layers"),
            (even[::-1], "You gave all stages the same number of layers"),
            (_greedy(costs, p), "You filled each stage until it had its share, and the last stage got what was left"),
            (_greedy(costs[::-1], p)[::-1], "You filled the stages from the end, and the first one got what was left"),
            (_nearest_borders(costs, p), "You put each border where the sum comes nearest to its share, each alone"),
            (
                _nearest_stages(costs, p),
                "You brought one stage after the other near to the average, and never went back",
            ),
        ]
        valid = all(len(sizes) == p and min(sizes) > 0 for sizes, _ in thumbs)
        different = len({tuple(sizes) for sizes, _ in thumbs[1:]} - {tuple(even)}) == len(thumbs) - 1 - (
            even == even[::-1]
        )
        if valid and different and min(max(part_costs(costs, _ranges(sizes))) for sizes, _ in thumbs) > best:
            break
    got = student(costs, p)
    got = got.tolist() if hasattr(got, "tolist") else got
    require(isinstance(got, list | tuple), "Return the stages' numbers of layers, as a list.")
    require(
        not any(isinstance(size, list | tuple | range) or np.ndim(size) for size in got),
        "Return how many layers each stage has, not which.",
    )
    sizes = [int(size) for size in got]
    require(len(sizes) == p, f"There must be {p} stages, you return {len(sizes)}.")
    require(min(sizes) >= 1, f"A stage has no layer: {sizes}.")
    require(sum(sizes) == n, f"The {n} layers must all be used once; your stages have {sum(sizes)}.")
    slowest = max(part_costs(costs, _ranges(sizes)))
    message = f"for costs {costs} and {p} stages your slowest stage takes {slowest}, the best cut has {best}."
    for thumb, rule in thumbs:
        require(sizes != thumb, f"{rule}; {message}")
    require(slowest == best, f"Not the best cut: {message}")


@tasks.add(points=2, minutes=15)
def memory(student, rng):
    """Bytes kept without and with recomputation."""
    for _ in range(2):
        group, groups, held = (int(x) for x in rng.integers(2, 5, size=3))
        blocks = group * groups
        boundary = int(rng.integers(10, 30))
        inside = boundary * int(rng.integers(8, 14)) + 1
        got = student(blocks, held, inside, boundary, group)
        require(isinstance(got, list | tuple | np.ndarray) and len(got) == 2, "Return two numbers of bytes.")
        without, with_ = got
        case = f"for {blocks} blocks, {held} microbatches, inside {inside}, boundary {boundary}, groups of {group}"
        _refuse(
            without,
            held * blocks * inside,
            [
                (blocks * inside, "Without recomputation: the rank holds several microbatches at a time."),
                (held * inside, "Without recomputation: every block keeps what is inside."),
                (held * blocks * (inside + boundary), "The input is among the `inside` bytes already."),
                (held * blocks * (inside - boundary), "The input belongs to what a block keeps."),
            ],
        )
        plain = held * blocks * inside
        require(_same(without, plain), f"Without: expected {plain} {case}, got {without}.")
        kept = held * groups * boundary
        expected = kept + group * inside - boundary
        _refuse(
            with_,
            expected,
            [
                (kept, "You forgot the group that is computed again: for a while all of it is there."),
                (kept + group * inside, "The group's own input is counted twice: it is kept already."),
                (kept + held * (group * inside - boundary), "Only one microbatch at a time is computed again."),
                (kept + inside - boundary, "A whole group is computed again at a time, not one block."),
                (kept + blocks * inside - boundary, "Only one group at a time is computed again, not all blocks."),
                (held * blocks * boundary + group * inside - boundary, "Only a group's first block keeps its input."),
                (held * blocks * boundary + inside - boundary, "That is for groups of one block."),
                (groups * boundary + group * inside - boundary, "Inputs are kept for each of the microbatches."),
            ],
        )  # fmt: skip
        require(_same(with_, expected), f"With recomputation: expected {expected} {case}, got {with_}.")


def _with_ahead(m, ahead):
    """A schedule whose ranks begin with so many forward passes and then alternate."""
    ranks = []
    for rank, first in enumerate(ahead):
        kinds = [("F", i) for i in range(min(first, m))]
        for i in range(m):
            kinds += [("B", i)] + ([("F", first + i)] if first + i < m else [])
        ranks.append(tuple(schedules.Action(kind, i, rank) for kind, i in kinds))
    return schedules.Schedule(ranks=len(ahead), stages=len(ahead), microbatches=m, actions=tuple(ranks))


def _backward_first(m, forward, backward, message, limits):
    """Whenever a rank is free: a backward pass if one can be done, or else a forward pass if its memory allows one."""
    p, never = len(limits), float("inf")
    took, done = {"F": forward, "B": backward}, {"F": [0] * p, "B": [0] * p}
    end, free, ranks = {}, [0] * p, [[] for _ in limits]

    def start(kind, rank):
        i, held = done[kind][rank], done["F"][rank] - done["B"][rank]
        if (kind == "B" and held == 0) or (kind == "F" and (i == m or held == limits[rank])):
            return never
        sender = rank + (1 if kind == "B" else -1)
        return max(free[rank], end.get((kind, i, sender), never) + message if 0 <= sender < p else 0)

    for _ in range(2 * m * p):
        when, kind, rank = min((start(kind, rank), kind, rank) for rank in range(p) for kind in "BF")
        ranks[rank].append(schedules.Action(kind, done[kind][rank], rank))
        end[kind, done[kind][rank], rank] = free[rank] = when + took[kind]
        done[kind][rank] += 1
    return schedules.Schedule(ranks=p, stages=p, microbatches=m, actions=tuple(map(tuple, ranks)))


@tasks.add(points=4, minutes=40)
def plan(student, rng):
    """A schedule below a limit of time and limits of memory."""
    p = int(rng.integers(3, 5))
    forward = int(rng.integers(2, 5))
    backward = 2 * forward
    roomy = [2 * (p - rank) + int(rng.integers(0, 2)) for rank in range(p)]
    tight = [2, *rng.integers(3, 5, size=p - 1).tolist()]  # less on the first rank than 1F1B needs
    for limits, message in ((roomy, 2 * forward), (tight, int(rng.integers(1, 3)))):
        m = int(rng.integers(max(roomy) + 3, max(roomy) + 7))
        times = {"forward": forward, "backward": backward, "message": message}
        schedule = _schedule(student(m, forward, backward, message, list(limits)), p, m)
        for rank, (held, limit) in enumerate(zip(timeline.in_flight(schedule), limits, strict=True)):
            require(
                held != m,
                f"Rank {rank} does all {m} forward passes first, as GPipe does, but it may hold only {limit}.",
            )
            require(
                held <= limit, f"Rank {rank} holds {held} microbatches at a time, its limit is {limit} of {limits}."
            )
        length = timeline.makespan(_simulate(schedule, **times))
        good = timeline.makespan(_simulate(_backward_first(m, **times, limits=limits), **times))
        case = f"with m = {m}, forward {forward}, backward {backward}, message {message}, limits {limits}"
        require(
            timeline.in_flight(schedule) != [1] * p,
            f"Each microbatch comes back before the next one starts: {length} units of time {case}; {good} would do.",
        )
        slow = length > 1.1 * good
        require(
            not slow or schedule.actions != _with_ahead(m, [p - rank for rank in range(p)]).actions,
            f"Plain 1F1B takes {length} units of time {case}: it waits for messages although there is memory to send "
            "more microbatches ahead.",
        )
        kinds = [action.kind for action in schedule.actions[-1][:2]]
        require(
            not slow or kinds != ["F", "F"],
            f"{length} units of time {case}, the limit is {1.1 * good:.0f}: the last rank has its gradient at once, so "
            "why does it go forward again first?",
        )
        require(
            not slow,
            f"Your schedule keeps the limits of memory, but takes {length} units of time {case}; the limit is "
            f"{1.1 * good:.0f}.",
        )
