"""Checks of the exercises on data parallelism; the inputs are drawn anew from each seed."""

from collections.abc import Iterator
from functools import partial
from itertools import chain

import numpy as np

from lmcore.checking import Tasks, refuse, require, same

tasks = Tasks()
check = tasks.check
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}
_same, _refuse = partial(same, **TOLERANCE), partial(refuse, **TOLERANCE)

# The harness hands over deep copies; an array that is its own deep copy shows whether the student wrote into it.
_Shared = type("array", (np.ndarray,), {"__deepcopy__": lambda self, memo: self})


def _lists(got, what):
    """An answer as a list of lists of ints; tuples, arrays and iterators will do."""
    require(not np.isscalar(got) and got is not None, f"Return a list of lists: one per {what}.")
    got = [list(part) if isinstance(part, Iterator) else part for part in got]
    require(all(np.ndim(part) == 1 for part in got), f"Return a list of lists: one per {what}.")
    return [[int(number) for number in part] for part in got]


@tasks.add(points=1, minutes=5)
def batch_gradient(student, rng):
    """The gradient of a batch from the means of unequal parts."""
    for empty in (False, True):
        counts = rng.permutation([2, 3, 7, 11])
        means = rng.normal(size=(4, 5)) + 1
        if empty:
            counts[1], means[1] = 0, np.nan
        known = np.nan_to_num(means)
        expected = counts @ known / counts.sum()
        got = student(means, counts)
        if empty:
            require(
                np.isfinite(np.asarray(got, dtype=float)).all(),
                "A rank without examples has NaN as its mean, and 0 · NaN is NaN: leave that rank out.",
            )
        _refuse(
            got,
            expected,
            [
                (known.mean(0), "You averaged the ranks' means: a rank with few examples then counts too much."),
                (counts @ known, "You added up the gradients of all examples; the batch's gradient is their mean."),
                (counts @ known / 4, "You divided by the number of ranks; divide by the number of examples."),
                (
                    (1 / np.maximum(counts, 1)) @ known / (1 / np.maximum(counts, 1)).sum(),
                    "You weighted by 1 / count: a rank with *more* examples must count more.",
                ),
                (known.sum(0), "You added up the means without their counts."),
            ],
        )
        require(_same(got, expected), f"Expected {expected.round(4)} for the counts {counts}, got {got}.")


@tasks.add(points=2, minutes=10)
def shards(student, rng):
    """The examples of each rank, equally many for all."""
    for ranks, n in ((3, 3 * int(rng.integers(3, 6))), (4, 4 * int(rng.integers(3, 6)) - 3)):
        order = [int(i) for i in rng.permutation(n)]
        missing = -n % ranks
        full = order + order[:missing]
        expected = [full[r::ranks] for r in range(ranks)]
        got = _lists(student(order, ranks), "rank")
        require(len(got) == ranks, f"Expected {ranks} lists, one per rank, got {len(got)}.")
        for wrong, message in [
            ([order[r::ranks] for r in range(ranks)], "Some ranks have one example more than others: repeat some."),
            (
                [order[: n - n % ranks][r::ranks] for r in range(ranks)],
                "You dropped the last examples; repeat the first ones instead.",
            ),
            (
                [[*full][r * len(full) // ranks : (r + 1) * len(full) // ranks] for r in range(ranks)],
                "You gave each rank a block of neighbours; rank r takes every ranks-th, from the r-th on.",
            ),
            (
                [(order + order[-missing:] if missing else order)[r::ranks] for r in range(ranks)],
                "You repeated the last examples; repeat those at the beginning of the order.",
            ),
            (
                [(order + [order[0]] * missing)[r::ranks] for r in range(ranks)],
                "You repeated one example several times; repeat as many different ones as are missing.",
            ),
            (
                [(order + list(range(missing)))[r::ranks] for r in range(ranks)],
                "You repeated the examples 0, 1, …; the beginning *of the order* holds other numbers.",
            ),
            (
                [full[0::ranks] for _ in range(ranks)],
                "All ranks read the same examples, as if each were rank 0.",
            ),
        ]:
            require(got != wrong or wrong == expected, message)
        require(got == expected, f"Expected {expected} for the order {order}, got {got}.")


def _buckets(sizes, limit, *, forward=False, reached=False, first_fit=False, unsorted=False, aside=False):
    """Buckets, with what can be wrong about them."""
    if aside:
        small = [i for i in reversed(range(len(sizes))) if sizes[i] <= limit]
        parts = _buckets([sizes[i] for i in small], limit, forward=True)
        alone = [[i] for i in range(len(sizes)) if sizes[i] > limit]
        return sorted([[small[i] for i in part] for part in parts] + alone, reverse=True)
    result = []
    for number in range(len(sizes)) if forward else reversed(range(len(sizes))):
        fits = [b for b in result if sum(sizes[i] for i in b) + sizes[number] <= limit]
        if reached:
            fits = [b for b in result[-1:] if sum(sizes[i] for i in b) < limit]
        elif not first_fit:
            fits = [b for b in result[-1:] if b in fits]
        if fits:
            fits[0].append(number)
        else:
            result.append([number])
    return [sorted(b) for b in result] if unsorted else result


@tasks.add(points=2, minutes=15)
def buckets(student, rng):
    """Buckets of parameters under a limit."""
    limit = 50
    drawn = rng.integers(5, 35, size=(4, 9)).tolist()
    drawn[1][4] = drawn[2][-1] = 90  # larger than a bucket
    fixed = [[10, 45, 30], [10, 30, 20, 25, 25], [20, 90, 20]]  # to go back to, full, and not to go on with
    for sizes in (drawn[0], *fixed, *drawn[1:]):
        expected = _buckets(sizes, limit)
        got = _lists(student(sizes, limit), "bucket")
        require(all(got), "There is an empty bucket; open one only with a parameter to put into it.")
        require(
            sorted(chain(*got)) == list(range(len(sizes))),
            f"Each of the {len(sizes)} parameters belongs into exactly one bucket, got {got}.",
        )
        for settings, message in [
            ({"forward": True}, "You began with the first parameter; the last one's gradient is ready first."),
            (
                {"reached": True},
                "Some bucket is above the limit: open a new one *before* it is exceeded, not after.",
            ),
            (
                {"aside": True},
                "A parameter above the limit closes the open bucket too: nothing joins that one afterwards.",
            ),
            (
                {"first_fit": True},
                "You went back to a closed bucket. It may have left already: only the open one takes parameters.",
            ),
            ({"unsorted": True}, "Within a bucket the parameters stand in the order in which they came, last first."),
        ]:
            wrong = _buckets(sizes, limit, **settings)
            require(got != wrong or wrong == expected, message)
        tight = [[]]
        for number in reversed(range(len(sizes))):
            if tight[-1] and sum(sizes[i] for i in tight[-1]) + sizes[number] >= limit:
                tight.append([])
            tight[-1].append(number)
        require(got != tight or tight == expected, "A bucket may be exactly as large as the limit.")
        require(got != expected[::-1] or got == expected, "Return the buckets in the order in which they were opened.")
        require(got == expected, f"Expected {expected} for the sizes {sizes} and limit {limit}, got {got}.")


@tasks.add(points=2, minutes=15)
def bytes_sent(student, rng):
    """Bytes that a rank sends in a step."""
    ranks, columns = int(rng.integers(3, 9)), int(rng.integers(2, 4))
    n, m, v = (int(size) for size in rng.integers([50, 70, 11], [60, 90, 23]))
    v += (2 * n * m + v + 105) % 256 == 0  # the last block is not to be full
    shapes = [(n, m), (v,), (m, n), (3, 5, 7)]
    numbers = 2 * n * m + v + 105
    thin = 2 * columns * (n + m) + v + 105
    ring = 2 * (ranks - 1) / ranks
    blocks = -(-numbers // 256)

    got, exact = student(shapes, ranks, "exact", columns), ring * 4 * numbers
    _refuse(
        got,
        exact,
        [
            (4 * numbers, "That is the size of the gradient; an all-reduce by rings sends 2 (p − 1)/p of it."),
            (exact / 4, "You counted numbers, not bytes: float32 has four."),
            (exact / 2, "Half of it: a ring all-reduce is a reduce-scatter *and* an all-gather."),
            ((ranks - 1) * 4 * numbers, "That is an all-gather of whole gradients; all-reduce sends less."),
            (ranks * exact, "These are the bytes of all ranks together; asked is what one of them sends."),
            (2 * 4 * numbers, "You left out (p − 1)/p: nobody sends a part of the gradient to itself."),
        ],
    )
    require(_same(got, exact), f"Expected {exact:.1f} for 'exact' and {ranks} ranks, got {got}.")

    got, expected = student(shapes, ranks, "int8", columns), (ranks - 1) * (numbers + 4 * blocks)
    _refuse(
        got,
        expected,
        [
            (ring * (numbers + 4 * blocks), "int8 codes cannot be added on the way: they are gathered, not reduced."),
            ((ranks - 1) * numbers, "The scales are missing: four bytes for every 256 numbers."),
            ((ranks - 1) * (numbers + blocks), "A scale is a float32, four bytes."),
            (
                (ranks - 1) * (numbers + 4 * (numbers // 256)),
                "The last block is not full, but it needs a scale as well.",
            ),
            (
                (ranks - 1) * sum(size + 4 * -(-size // 256) for size in (n * m, v, m * n, 105)),
                "You cut blocks from each parameter; they are cut from the flat gradient, all parameters in a row.",
            ),
            (ranks * (numbers + 4 * blocks), "A rank does not send its message to itself: p − 1, not p."),
        ],
    )
    require(_same(got, expected), f"Expected {expected} for 'int8' and {ranks} ranks, got {got}.")

    got, expected = student(shapes, ranks, "powersgd", columns), ring * 4 * thin
    _refuse(
        got,
        expected,
        [
            ((ranks - 1) * 4 * thin, "The factors can be added: they are all-reduced, not gathered."),
            (
                ring * 4 * 2 * columns * (n + m),
                "What is no matrix is sent as it is; you left it out.",
            ),
            (ring * 4 * (2 * (n + m) + v + 105), "Each factor has `columns` columns, not one."),
            (ring * 4 * (columns * (n + m) + v + 105), "There are two factors for each matrix, and two matrices."),
            (ring * 4 * (2 * columns * (n + m) + columns * v + 105 * columns), "Only matrices have factors."),
            (
                ring * 4 * (2 * columns * (n + m) + v + columns * (3 + 35)),
                "You made a matrix of the three axes; here only what has two axes is a matrix.",
            ),
        ],
    )
    require(_same(got, expected), f"Expected {expected:.1f} for 'powersgd' and {ranks} ranks, got {got}.")


def _top_k(gradients, k, *, feedback=True, signed=False, by_gradient=False, keep=None, send=None):
    """Top-k with error feedback, with what can be wrong about it."""
    sent, error = np.zeros_like(gradients), np.zeros(gradients.shape[1])
    for step, gradient in enumerate(gradients):
        x = gradient + error if feedback else gradient
        size = x if signed else np.abs(gradient if by_gradient else x)
        chosen = np.argsort(-size)[:k]
        sent[step, chosen] = (gradient if send == "gradient" else x)[chosen]
        if keep == "gradient":
            error = gradient - sent[step]
        elif keep == "sum":
            error = error + x - sent[step]
        else:
            error = x - sent[step]
    return sent, error


@tasks.add(points=3, minutes=20)
def top_k_with_feedback(student, rng):
    """Top-k with error feedback over several steps."""
    steps, n, k = 9, 7, 2
    scale = rng.permutation(np.linspace(0.3, 2.0, n))
    gradients = np.where(rng.random((steps, n)) < 0.8, 1, -1) * scale * rng.uniform(0.6, 1.4, size=(steps, n))
    largest = np.abs(gradients[0]).argmax()
    gradients[0, largest] = -np.abs(gradients[0, largest])
    shared = gradients.copy().view(_Shared)
    got = student(shared, k)
    require(
        isinstance(got, tuple | list) and len(got) == 2, "Return what was sent and what is owed, separated by a comma."
    )
    require(np.array_equal(shared, gradients), "You wrote into the given array: make a new one for what is sent.")
    sent, owed = (np.asarray(part, dtype=float) for part in got)
    expected, rest = _top_k(gradients, k)
    require(sent.shape == (steps, n), f"What was sent should have the shape {(steps, n)}, got {sent.shape}.")
    require(
        (np.count_nonzero(sent, axis=1) <= k).all(),
        f"In some step more than k = {k} numbers were sent; all others are 0.",
    )
    _refuse(
        sent,
        expected,
        [
            (
                _top_k(gradients, k, feedback=False)[0],
                "Nothing of what was left out comes back: add the error to the next gradient *before* choosing.",
            ),
            (
                _top_k(gradients, k, signed=True)[0],
                "You chose the largest numbers, but a large negative one matters as much: use the absolute value.",
            ),
            (
                _top_k(gradients, k, by_gradient=True)[0],
                "You chose by the gradient alone; choose by gradient plus error, or small ones never have their turn.",
            ),
            (
                _top_k(gradients, k, keep="gradient")[0],
                "Your error forgets older errors: it is x − C(x) with x = gradient + error.",
            ),
            (
                _top_k(gradients, k, keep="sum")[0],
                "You counted the old error twice: x holds it already, so the new error is just x − C(x).",
            ),
            (
                _top_k(gradients, k, send="gradient")[0],
                "At the chosen places you sent the gradient alone; the debt at these places is to be paid as well.",
            ),
        ],
    )
    require(_same(sent, expected), f"Expected {expected.round(3).tolist()} to be sent, got {sent.round(3).tolist()}.")
    require(not _same(owed, np.zeros(n)), "What is owed at the end is not zero: the last error was not sent.")
    require(
        _same(owed, rest),
        f"Sent and owed together must be the sum of all gradients: expected {rest.round(3)} to be owed, got {owed}.",
    )


def _staleness(durations, updates, *, same=False, shift=0, version_at_start=False, others=None, ties=1, ages=False):
    """Staleness, with what can be wrong about it."""
    done, fetched, result = list(durations), [0] * len(durations), []
    for version in range(updates):
        worker = min(range(len(done)), key=lambda w: (done[w], ties * w))
        result.append(version - (0 if version_at_start else fetched[worker]) + shift)
        fetched[worker] = version if same else version + 1
        done[worker] += durations[worker]
    return result


def _turns(durations, updates):
    """The workers take turns whatever their speed."""
    return [min(version, len(durations) - 1) for version in range(updates)]


@tasks.add(points=3, minutes=20)
def staleness(student, rng):
    """Staleness from the workers' durations."""
    for workers in (4, 3):
        durations = [int(d) for d in rng.permutation([2, 3, 5, 8])[:workers]]
        updates = 20
        expected = _staleness(durations, updates)
        got = student(durations, updates)
        require(np.ndim(got) == 1, "Return a list of numbers, one per update.")
        got = [int(number) for number in got]
        require(len(got) == updates, f"Expected {updates} numbers, one per update, got {len(got)}.")
        for wrong, message in [
            (
                _staleness(durations, updates, same=True),
                "You count a worker's own update: it fetches the weights *after* its update, so start one later.",
            ),
            (_staleness(durations, updates, shift=1), "All are one too many: a gradient that meets no other has 0."),
            (
                _staleness(durations, updates, version_at_start=True),
                "You compare with version 0 always; each worker fetches new weights after handing in.",
            ),
            (_turns(durations, updates), "Your workers take turns; a quick one hands in more often than a slow one."),
            (
                _staleness(durations, updates, ties=-1),
                "When two are done at the same time, the lower number comes first.",
            ),
            (
                _staleness([durations[0]] * workers, updates),
                "You gave all workers the speed of the first.",
            ),
        ]:
            require(got != wrong or wrong == expected, message)
        require(got == expected, f"Expected {expected} for durations {durations}, got {got}.")


def _end(plan, seconds, sizes, alpha, beta):
    """When a step with these buckets ends."""
    clock, over = 0.0, 0.0
    for bucket in plan:
        clock += sum(seconds[i] for i in bucket)
        over = max(clock, over) + alpha + beta * sum(sizes[i] for i in bucket)
    return over


def _best_end(seconds, sizes, alpha, beta):
    """The earliest end of all plans."""
    n = len(seconds)
    ready = np.concatenate([[0], np.cumsum(seconds[::-1])])
    total = np.concatenate([[0], np.cumsum(sizes[::-1])])
    end = [0.0]
    for j in range(1, n + 1):
        end.append(min(max(ready[j], end[i]) + alpha + beta * (total[j] - total[i]) for i in range(j)))
    return float(end[n])


@tasks.add(points=5, minutes=45)
def best_plan(student, rng):
    """Buckets whose messages hide behind the backward pass."""
    for n in (5, 11, 40):
        seconds = [float(s) for s in rng.uniform(0.5, 1.5, size=n)]
        sizes = [int(s) for s in rng.integers(10, 100, size=n)]
        beta = float(0.9 * sum(seconds) / sum(sizes))
        alpha = float(rng.uniform(0.8, 1.2) * sum(seconds) / n)
        numbers = list(reversed(range(n)))
        expected = _best_end(seconds, sizes, alpha, beta)
        got = student(seconds, sizes, alpha, beta)
        require(
            isinstance(got, tuple | list) and len(got) == 2, "Return the buckets and the end, separated by a comma."
        )
        plan, end = _lists(got[0], "bucket"), float(got[1])
        flat = [number for bucket in plan for number in bucket]
        require(all(plan), "There is an empty bucket; its message would cost α for nothing.")
        require(flat != numbers[::-1], "The first parameter comes first in your plan; the last one is ready first.")
        require(
            flat == numbers,
            f"Each parameter belongs into one bucket, neighbours together, from {n - 1} down to 0; got {plan}.",
        )
        true = _end(plan, seconds, sizes, alpha, beta)
        late = sum(seconds) + alpha * len(plan) + beta * sum(sizes)
        no_queue = max(sum(seconds[bucket[-1] :]) + alpha + beta * sum(sizes[i] for i in bucket) for bucket in plan)
        _refuse(
            end,
            true,
            [
                (
                    late,
                    "The end you return has all messages after the backward pass; they may begin before it is over.",
                ),
                (no_queue, "Your messages do not wait for each other: one begins when the one before is over."),
                (sum(seconds), "You return the end of the backward pass; the step ends when the last message is over."),
                (
                    true - alpha * len(plan),
                    "Your end lacks the α of every message.",
                ),
            ],
        )
        require(_same(end, true), f"With your buckets {plan} the step ends at {true:.4f}, not at {end:.4f}.")
        for wrong, message in [
            ([numbers], "One bucket for all cannot hide behind anything: it leaves when the backward pass is over."),
            ([[i] for i in numbers], "A message per parameter pays α each time: the messages queue up."),
        ]:
            require(plan != wrong or true <= expected * (1 + 1e-5), message)
        require(
            true <= expected * (1 + 1e-5),
            f"Your plan ends at {true:.4f}, but {expected:.4f} can be had: for the last j parameters, compare *all* "
            "places of the last cut.",
        )
