"""Checks of the exercises on tensor parallelism; the inputs are drawn anew from each seed."""

from functools import partial
from itertools import product

import numpy as np

from lmcore.checking import Tasks, require, same

tasks = Tasks()
check = tasks.check
_same = partial(same, rtol=1e-4, atol=1e-5)


def _array(value):
    """An answer as an array of floats; nested lists will do."""
    return np.asarray(value, dtype=float)


def _ndim(value):
    """Number of axes; arrays of unequal shapes in a list count as one axis more than the first has."""
    try:
        return np.ndim(value)
    except ValueError:
        return 1 + np.ndim(value[0])


def _list(got, n, what):
    """Require a list with one entry per rank."""
    require(isinstance(got, list | tuple | np.ndarray), f"Return a list with {what} of each rank.")
    require(len(got) == n, f"Return a list with {what} of each rank: {n} entries, yours has {len(got)}.")
    return list(got)


@tasks.add(points=1, minutes=5)
def resplit(student, rng):
    """Column shards for another number of ranks."""
    for n, m in ((2, 3), (3, 2), (4, 1)):
        whole = rng.normal(size=(6, 12))
        expected = np.split(whole, m, axis=1)
        got = _list(student(np.split(whole, n, axis=1), m), m, "the shard")
        shapes = [np.shape(shard) for shard in got]
        require(
            m == 1 or shapes[0] != (6 // m, 12),
            "You split the rows; here a rank has all rows and some of the columns.",
        )
        require(
            all(shape == (6, 12 // m) for shape in shapes),
            f"Each of {m} shards of a 6 × 12 matrix has the shape {(6, 12 // m)}; yours have {shapes}.",
        )
        strided = all(_same(got[r], whole[:, r::m]) for r in range(m)) and m > 1
        require(not strided, "You dealt the columns out in turn; a rank's columns stand side by side.")
        joined = np.concatenate([_array(shard) for shard in got], axis=1)
        require(
            _same(np.sort(joined, axis=1), np.sort(whole, axis=1)),
            "The shards hold other numbers than the matrix: each column belongs to exactly one rank.",
        )
        require(
            all(_same(a, b) for a, b in zip(got, expected, strict=True)),
            "The columns are there, but in another order: rank 0 has the first ones of the whole matrix.",
        )


@tasks.add(points=2, minutes=10)
def row_parallel(student, rng):
    """The output of a row-parallel layer."""
    n, T, out = int(rng.integers(3, 5)), 5, 7
    sizes = rng.permutation([2, 3, 4, 6])[:n]
    xs = [rng.normal(size=(T, k)) + 0.3 for k in sizes]
    weights, bias = [rng.normal(size=(k, out)) for k in sizes], rng.normal(size=out) + 2
    summands = [x @ weight for x, weight in zip(xs, weights, strict=True)]
    total = sum(summands)
    got = student(xs, weights, bias)
    require(
        _ndim(got) != 3,
        "Return the output once: after the all-reduce all ranks have the same.",
    )
    got = _array(got)
    require(
        got.shape != (T, n * out),
        "You joined the results side by side, as after a column split; after a row split they are summands.",
    )
    require(got.shape == (T, out), f"The output has the shape {(T, out)}; yours has {got.shape}.")
    wrongs = [
        (total + n * bias, "The bias counts once for every rank: add it after the sum."),
        (total, "The bias is missing."),
        (total / n + bias, "You averaged the summands; an all-reduce adds them."),
        (summands[0] + bias, "That is what rank 0 alone computes; the summands of the other ranks are missing."),
        (total + bias / n, "You divided the bias by the number of ranks; it is added once, as it is."),
    ]
    for wrong, message in wrongs:
        require(not _same(got, wrong), message)
    require(_same(got, total + bias), f"Expected in the first row {(total + bias)[0].round(4)}, got {got[0].round(4)}.")


@tasks.add(points=2, minutes=10)
def input_gradients(student, rng):
    """Gradients by the input of a column-parallel layer."""
    n, T, d = int(rng.integers(2, 5)), 5, 6
    sizes = rng.permutation([2, 3, 4, 7])[:n]
    weights = [rng.normal(size=(d, k)) for k in sizes]
    gradients = [rng.normal(size=(T, k)) + 0.3 for k in sizes]
    parts = [g @ w.T for g, w in zip(gradients, weights, strict=True)]
    total = sum(parts)
    got = student(weights, gradients)
    require(
        not (_ndim(got) == 2 and _same(got, total)),
        "The sum is right; return a list with it for each rank, for every rank goes on with it.",
    )
    got = [_array(x) for x in _list(got, n, "the gradient")]
    require(
        all(x.shape == (T, d) for x in got),
        f"A gradient by X has the shape of X, {(T, d)}; yours have {[x.shape for x in got]}.",
    )
    require(
        not all(_same(a, b) for a, b in zip(got, parts, strict=True)),
        "Each rank has only its part: the input was used by all ranks, so f adds the gradients of all of them.",
    )
    require(
        not all(_same(x, total / n) for x in got),
        "You averaged. Ranks here are no copies that see other data: their gradients are summed.",
    )
    require(
        not (_same(got[0], total) and not _same(got[-1], total)),
        "Only rank 0 has the sum: that is a reduce. After an all-reduce all ranks have it.",
    )
    require(not all(_same(x, n * total) for x in got), "You summed twice: the gradient is n times too large.")
    require(
        all(_same(x, total) for x in got),
        f"Expected on each rank, in the first row, {total[0].round(4)}, got on rank 0 {got[0][0].round(4)}.",
    )


_PAIRS = {
    ("whole", "own use"): ("nothing", "all-reduce"),
    ("summands", "whole"): ("all-reduce", "nothing"),
    ("parts", "own use"): ("all-gather", "reduce-scatter"),
    ("summands", "parts"): ("reduce-scatter", "all-gather"),
}


@tasks.add(points=2, minutes=10)
def collectives(student, rng):
    """The collectives of the four operators."""
    cases = list(_PAIRS)
    answers = {cases[i]: student(*cases[i]) for i in rng.permutation(4)}
    words = {word for pair in _PAIRS.values() for word in pair}
    for (have, want), got in answers.items():
        pair = tuple(str(word).lower().replace("_", "-") for word in got) if isinstance(got, list | tuple) else ()
        require(
            len(pair) == 2 and set(pair) <= words,
            f"Return two of the words {', '.join(sorted(words))} for {have!r} → {want!r}; got {got!r}.",
        )
        answers[have, want] = pair
    require(
        any(answers[case] != _PAIRS[case][::-1] for case in cases),
        "Forward and backward are exchanged in all of them.",
    )
    require(
        not all(forward == backward for forward, backward in answers.values()),
        "The way back is not the same collective as the way forward: it is that of the conjugate operator.",
    )
    require(
        not (
            answers["whole", "own use"][1] == "nothing" and all(answers[case][0] == _PAIRS[case][0] for case in cases)
        ),
        "If each rank makes its own use of a whole tensor, its gradients must be summed on the way back: all-reduce.",
    )
    require(
        answers["summands", "parts"][0] != "all-gather" and answers["summands", "whole"][0] != "all-gather",
        "Summands are not joined, they are added: only a reduce-scatter or an all-reduce does that.",
    )
    require(
        answers["summands", "whole"][0] != "nothing" and answers["summands", "parts"][0] != "nothing",
        "Each rank has only a summand: somebody must add them on the way forward.",
    )
    require(
        answers["summands", "parts"][0] != "all-reduce",
        "An all-reduce gives every rank the whole sum; where each needs only its part, a reduce-scatter sends half.",
    )
    require(
        answers["parts", "own use"][1] != "nothing",
        "Gathered parts that each rank uses in its own way get a gradient from every rank: a reduce-scatter adds them.",
    )
    require(
        answers["parts", "own use"][1] != "all-reduce",
        "Each rank needs only the gradient of its own positions: not an all-reduce, but a reduce-scatter.",
    )
    require(
        answers["summands", "whole"][1] != "all-reduce",
        "After the sum all ranks go on alike and have the same gradient: another all-reduce would count it n times.",
    )
    for case in cases:
        require(answers[case] == _PAIRS[case], f"Wrong for {case[0]!r} → {case[1]!r}: {answers[case]!r}.")


def _ranges(V, n):
    """The right answer."""
    length = -(-V // n)
    ends = [(min(r * length, V), min((r + 1) * length, V)) for r in range(n)]
    return [(start, stop, length - (stop - start)) for start, stop in ends]


@tasks.add(points=2, minutes=15)
def vocabulary_ranges(student, rng):
    """Ranges of a vocabulary that need not divide."""
    n = int(rng.integers(4, 7))
    few = n + 1  # of n ranks some own nothing
    for V in (n * int(rng.integers(2, 9)) + int(rng.integers(1, n - 1)), n * int(rng.integers(2, 9)), few):
        expected, floor = _ranges(V, n), V // n
        got = [tuple(triple) for triple in _list(student(V, n), n, "the triple")]
        case = f"for V = {V}, n = {n}"
        require(all(len(triple) == 3 for triple in got), "Each entry has three numbers: start, stop and filling.")
        require(all(x == int(x) for triple in got for x in triple), f"Ids are whole numbers {case}; got {got}.")
        got = [tuple(int(x) for x in triple) for triple in got]
        ends = np.cumsum([floor + (r < V % n) for r in range(n)]).tolist()
        require(
            V % n == 0 or [stop for _, stop, _ in got] != ends,
            f"You gave some ranks a word less {case}: fill each table before the next.",
        )
        require(
            V % n == 0 or got[0][1] != floor,
            f"You rounded down, {case}: then words are left over, or the last rank's table is longer than the others.",
        )
        require(
            V % n != 0 or got[0][1] != floor + 1,
            f"V / n rounded up is {floor} {case}, for it divides; V // n + 1 is one too many.",
        )
        require(
            got[-1][1] <= V and all(stop <= V for _, stop, _ in got),
            f"There are ids beyond the vocabulary {case}: cut the ranges at V.",
        )
        require(
            all(start <= stop for start, stop, _ in got),
            f"A range ends before it begins {case}: a rank without words has start = stop = V.",
        )
        require(
            all((start, stop) == (V, V) for start, stop, _ in got if start == stop),
            f"A rank without words has start = stop = V {case}, so that the ranges follow each other; got {got}.",
        )
        require(
            got[0] != (0, expected[0][1], 0) or [t[:2] for t in got] == [t[:2] for t in expected],
            f"Expected {expected} {case}, got {got}.",
        )
        require(
            [t[:2] for t in got] != [t[:2] for t in expected] or sum(t[2] for t in got) == n * expected[0][1] - V,
            f"The ranges are right, the filling is not {case}: all tables have {expected[0][1]} rows.",
        )
        require(got == expected, f"Expected {expected} {case}, got {got}.")


_LENGTH = 7  # of a rank's table; no maxima, sums or targets' scores of six rows have an axis of this length
_JOINING = (np.concatenate, np.stack, np.hstack, np.vstack, np.dstack, np.column_stack)


class _Scores(np.ndarray):
    """Scores that refuse to be joined with those of other ranks; their maxima and sums do not."""

    def __array_function__(self, function, types, args, kwargs):
        require(
            function not in _JOINING or not any(_LENGTH in np.shape(piece) for piece in args[0]),
            "You joined the scores of the ranks: of each part use only maxima, sums and the target's score.",
        )
        return super().__array_function__(function, types, args, kwargs)


_HIGH = {  # where scores are high, and what was overlooked by an answer that is not finite then
    "nowhere": "A rank's words may all be filling: do not subtract −∞ from −∞, nor take the logarithm of its own sum.",
    "everywhere": "Scores around a thousand: subtract the largest score of the row, of all ranks.",
    "low": "Scores around minus a thousand: subtract the largest score of the row, of all ranks.",
    "by row": "One row's scores may be far from another's: m is the largest score of each row, not of all rows.",
    "by rank": "One rank's scores may be far above the others': m is the largest score over all ranks.",
}


def _offset(high, rng, N, size, length):
    """What is added to the scores."""
    if high == "by row":
        return rng.permutation([1000.0, -1000.0] * (N // 2))[:, None]
    if high == "by rank":
        return np.where(np.arange(size) // length == 1, 1500.0, 0.0)
    return {"nowhere": 0.0, "everywhere": 1000.0, "low": -1000.0}[high]


@tasks.add(points=3, minutes=20)
def log_probabilities(student, rng):
    """Log-probabilities of targets from scores in parts."""
    N, n, length = 6, 3, _LENGTH
    highs = "nowhere", "nowhere", "everywhere", "low", "nowhere", "by row", "by rank"
    for size, high in zip((17, 21, 17, 17, 13, 17, 17), highs, strict=True):
        scores = rng.normal(size=(N, size)) * 2 + _offset(high, rng, N, size, length)
        targets = rng.permutation(np.concatenate([[0, length, length + 1], rng.integers(size, size=3)]))
        filled = np.concatenate([scores, np.full((N, n * length - size), -np.inf)], axis=1)
        parts = np.split(filled, n, axis=1)
        if size == 13:  # the last rank has no word
            require(np.isinf(parts[2]).all(), "the last rank has no word")
        m = scores.max(axis=1, keepdims=True)
        whole = scores - m - np.log(np.exp(scores - m).sum(axis=1, keepdims=True))
        rows = np.arange(N)
        expected = whole[rows, targets]
        with np.errstate(all="ignore"):
            got = _array(student([part.view(_Scores) for part in parts], targets))
            require(got.shape == (N,), f"Return one number for each of the {N} rows; yours has the shape {got.shape}.")
            own = [part.max(axis=1, keepdims=True) for part in parts]
            sums = [np.exp(part - top).sum(axis=1) for part, top in zip(parts, own, strict=True)]
            owner = targets // length
            top = np.concatenate(own, axis=1)[rows, owner]
            local = filled[rows, targets] - top - np.log(np.stack(sums)[owner, rows])
            mixed = filled[rows, targets] - m[:, 0] - np.log(np.nansum(sums, axis=0))
            unshifted = filled[rows, targets] - np.log(np.exp(scores - m).sum(axis=1))
        wrongs = [
            (-expected, "That is the loss; the logarithm of a probability is at most zero."),
            (np.exp(expected), "Those are the probabilities; their logarithm is asked for."),
            (local, "You normalised over the owner's words alone: the sum runs over the words of all ranks."),
            (
                mixed,
                "Each rank subtracted its own largest score and the sums were added: all must subtract the same m.",
            ),
            (unshifted, "m was subtracted in the sum, but not from the target's score."),
            (
                whole[rows, targets % length],
                "You took the target's place within its rank as its id: add the rank's first id.",
            ),
            (whole[:, 0], "You took the first word of each row, not the target."),
        ]
        for wrong, message in wrongs:
            differs = not _same(wrong, expected, rtol=1e-2)
            require(not (differs and _same(got, wrong)), message)
        require(np.isfinite(got).all(), _HIGH[high])
        atol = 1e-5 if high == "nowhere" else 2e-3  # float32 is coarse around a thousand
        require(_same(got, expected, rtol=1e-3, atol=atol), f"Expected {expected.round(4)}, got {got.round(4)}.")


_WAYS = ("whole", "columns", "rows")


def _numbers(ways, shapes, n):
    """Numbers in memory of a rank."""
    return sum(a * b / (1 if way == "whole" else n) for (a, b), way in zip(shapes, ways, strict=True))


def _counts(ways, shapes):
    """What goes through all-reduces, through all-gathers on the way, and through the one at the end."""
    reduced, joined, split = 0, 0, False
    for (inputs, outputs), way in zip(shapes, ways, strict=True):
        joined += inputs * (split and way != "rows")
        reduced += outputs * (way == "rows")
        split = way == "columns"
    return reduced, joined, shapes[-1][1] * split


def _sent(ways, shapes):
    """Numbers that a rank sends, in units of (n − 1)/n."""
    reduced, joined, last = _counts(ways, shapes)
    return 2 * reduced + joined + last


_TWICE = "An all-reduce costs twice what an all-gather of the same vector does, no less and no more."
_ONCE = "An all-gather counts once, half of an all-reduce, in the middle and at the end."
_MISTAKES = (  # weights of an all-reduce, an all-gather on the way, one at the end; 2, 1, 1 are right
    ((1, 1, 1), _TWICE),
    ((2, 1, 0), "Did you join the output at the end? It must be whole."),
    ((2, 0, 1), "Did you count the all-gather where a vector in parts meets a matrix that needs it whole?"),
    ((2, 2, 1), _ONCE),
    ((2, 1, 2), _ONCE),
    ((3, 1, 1), _TWICE),
)


@tasks.add(points=4, minutes=35)
def place(student, rng):
    """The cheapest placement within the memory."""
    for length, target in ((4, 0), (5, 1), (3, 2), (4, 3), (3, 4), (4, 5)):
        while True:  # until the target, one of the mistakes, makes a difference, and no two hints fit the same list
            n = int(rng.choice([2, 4]))
            sizes = [int(x) for x in rng.permutation([4, 8, 12, 16, 20, 24, 28, 40])[: length + 1]]
            shapes = list(zip(sizes[:-1], sizes[1:], strict=True))
            total = sum(a * b for a, b in shapes)
            memory = float(rng.uniform(*{2: (0.55, 0.95), 4: (0.3, 0.8)}[n])) * total
            fits = [ways for ways in product(_WAYS, repeat=length) if _numbers(ways, shapes, n) <= memory]
            counts = np.array([_counts(ways, shapes) for ways in fits])
            cost = (counts @ (2, 1, 1)).min()
            others = [fits[np.argmin(counts @ weights)] for weights, _ in _MISTAKES]
            hints = {
                (ways, hint) for ways, (_, hint) in zip(others, _MISTAKES, strict=True) if _sent(ways, shapes) > cost
            }
            dearer = [ways for ways, _ in hints]
            fixed = [("columns", "rows")[i % 2] for i in range(length)]
            simple = [tuple(fixed), ("columns",) * length, ("rows",) * length]
            wrongs = [others[target], *simple]
            apart = len({*dearer, *simple}) == len(dearer) + 3
            if apart and all(_sent(ways, shapes) > cost for ways in wrongs):
                break
        got = student(shapes, n, memory)
        got = [str(way) for way in got]
        require(
            len(got) == length and set(got) <= set(_WAYS),
            f"Return one of the words {', '.join(_WAYS)} for each of {length} matrices; got {got}.",
        )
        case = f"for shapes {shapes}, n = {n}, memory {memory:.0f}"
        require(
            set(got) != {"whole"},
            f"Everything whole needs {total} numbers on each rank, more than the memory {case}.",
        )
        needs = _numbers(got, shapes, n)
        require(needs <= memory + 1e-6, f"Your placement needs {needs:.0f} numbers on each rank {case}.")
        unit = (n - 1) / n
        mine = _sent(got, shapes)
        text = f"Yours sends {mine * unit:g} numbers, {cost * unit:g} are enough {case}. "
        same = [
            ({"columns"}, "Columns after columns join the vector in parts each time: rows can read the parts."),
            ({"rows"}, "Rows after rows cost an all-reduce each time: what columns leave in parts, rows need."),
        ]
        for only, hint in same:
            require(mine == cost or set(got) != only, text + hint)
        require(
            mine == cost or got != fixed, text + "Columns and rows in turn is no law: sizes and free memory matter."
        )
        for other, hint in hints:
            require(mine == cost or tuple(got) != other, text + hint)
        require(mine == cost, text)
