"""Plausible wrong answers to the exercises on tensor parallelism, and the message that must reject each."""

from itertools import product

import numpy as np

from lmcore.checking import mutant

# ---- resplit ----


@mutant("resplit", rejected_with="You split the rows")
def splits_rows(shards, m):
    return np.split(np.concatenate(shards, axis=1), m, axis=0)


@mutant("resplit", rejected_with="in turn")
def deals_out(shards, m):
    whole = np.concatenate(shards, axis=1)
    return [whole[:, r::m] for r in range(m)]


@mutant("resplit", rejected_with="in another order")
def from_the_end(shards, m):
    return np.split(np.concatenate(shards[::-1], axis=1), m, axis=1)


@mutant("resplit", rejected_with="exactly one rank")
def first_shard_again(shards, m):
    whole = np.concatenate(shards, axis=1)
    return [whole[:, : whole.shape[1] // m]] * m if m > 1 else [whole]


@mutant("resplit", rejected_with="entries")
def splits_each(shards, m):
    return [part for shard in shards for part in np.array_split(shard, m, axis=1)]


# ---- row_parallel ----


@mutant("row_parallel", rejected_with="once for every rank")
def bias_on_every_rank(xs, weights, bias):
    return sum(x @ w + bias for x, w in zip(xs, weights, strict=True))


@mutant("row_parallel", rejected_with="The bias is missing")
def no_bias(xs, weights, bias):
    return sum(x @ w for x, w in zip(xs, weights, strict=True))


@mutant("row_parallel", rejected_with="side by side")
def joins(xs, weights, bias):
    return np.concatenate([x @ w + bias for x, w in zip(xs, weights, strict=True)], axis=1)


@mutant("row_parallel", rejected_with="You averaged the summands")
def averages(xs, weights, bias):
    return np.mean([x @ w for x, w in zip(xs, weights, strict=True)], axis=0) + bias


@mutant("row_parallel", rejected_with="rank 0 alone")
def rank_zero(xs, weights, bias):
    return xs[0] @ weights[0] + bias


@mutant("row_parallel", rejected_with="Return the output once")
def list_of_summands(xs, weights, bias):
    return [x @ w + bias for x, w in zip(xs, weights, strict=True)]


# ---- input_gradients ----


def _parts(weights, gradients):
    return [g @ w.T for w, g in zip(weights, gradients, strict=True)]


@mutant("input_gradients", rejected_with="only its part")
def without_f(weights, gradients):
    return _parts(weights, gradients)


@mutant("input_gradients", rejected_with="You averaged")
def mean_of_parts(weights, gradients):
    return [np.mean(_parts(weights, gradients), axis=0)] * len(weights)


@mutant("input_gradients", rejected_with="Only rank 0")
def reduce_to_rank_zero(weights, gradients):
    parts = _parts(weights, gradients)
    return [sum(parts), *parts[1:]]


@mutant("input_gradients", rejected_with="return a list with it for each rank")
def just_the_sum(weights, gradients):
    return sum(_parts(weights, gradients))


@mutant("input_gradients", rejected_with="n times too large")
def sums_twice(weights, gradients):
    return [len(weights) * sum(_parts(weights, gradients))] * len(weights)


@mutant("input_gradients", rejected_with="has the shape of X")
def the_gradients_again(weights, gradients):
    return gradients


# ---- collectives ----

_RIGHT = {
    ("whole", "own use"): ("nothing", "all-reduce"),
    ("summands", "whole"): ("all-reduce", "nothing"),
    ("parts", "own use"): ("all-gather", "reduce-scatter"),
    ("summands", "parts"): ("reduce-scatter", "all-gather"),
}


@mutant("collectives", rejected_with="exchanged in all")
def exchanged(have, want):
    return _RIGHT[have, want][::-1]


@mutant("collectives", rejected_with="not the same collective")
def same_way_back(have, want):
    return (_RIGHT[have, want][0],) * 2


@mutant("collectives", rejected_with="must be summed on the way back")
def no_f(have, want):
    return ("nothing", "nothing") if have == "whole" else _RIGHT[have, want]


@mutant("collectives", rejected_with="they are added")
def joins_summands(have, want):
    return ("all-gather", "reduce-scatter") if (have, want) == ("summands", "parts") else _RIGHT[have, want]


@mutant("collectives", rejected_with="sends half")
def reduces_all(have, want):
    return ("all-reduce", "all-gather") if (have, want) == ("summands", "parts") else _RIGHT[have, want]


@mutant("collectives", rejected_with="would count it n times")
def all_reduce_in_both(have, want):
    return ("all-reduce", "all-reduce") if (have, want) == ("summands", "whole") else _RIGHT[have, want]


@mutant("collectives", rejected_with="a gradient from every rank")
def slices_back(have, want):
    return ("all-gather", "nothing") if have == "parts" else _RIGHT[have, want]


@mutant("collectives", rejected_with="somebody must add them")
def f_and_g_exchanged(have, want):
    other = {("whole", "own use"): ("summands", "whole"), ("summands", "whole"): ("whole", "own use")}
    return _RIGHT[other.get((have, want), (have, want))]


@mutant("collectives", rejected_with="not an all-reduce, but")
def all_reduces_the_parts(have, want):
    return ("all-gather", "all-reduce") if have == "parts" else _RIGHT[have, want]


# ---- vocabulary_ranges ----


@mutant("vocabulary_ranges", rejected_with="You rounded down")
def rest_to_the_last(V, n):
    length = V // n
    return [(r * length, V if r == n - 1 else (r + 1) * length, 0) for r in range(n)]


@mutant("vocabulary_ranges", rejected_with="one too many")
def always_one_more(V, n):
    length = V // n + 1
    ends = [(min(r * length, V), min((r + 1) * length, V)) for r in range(n)]
    return [(a, b, length - (b - a)) for a, b in ends]


@mutant("vocabulary_ranges", rejected_with="beyond the vocabulary")
def not_cut(V, n):
    length = -(-V // n)
    return [(r * length, (r + 1) * length, max(0, (r + 1) * length - V)) for r in range(n)]


@mutant("vocabulary_ranges", rejected_with="ends before it begins")
def start_not_cut(V, n):
    length = -(-V // n)
    ends = [(r * length, min((r + 1) * length, V)) for r in range(n)]
    return [(a, b, length - max(0, b - a)) for a, b in ends]


@mutant("vocabulary_ranges", rejected_with="the filling is not")
def filling_of_the_last_only(V, n):
    length = -(-V // n)
    ends = [(min(r * length, V), min((r + 1) * length, V)) for r in range(n)]
    return [(a, b, (-V % n) if r == n - 1 and b > a else 0) for r, (a, b) in enumerate(ends)]


def _right_ranges(V, n):
    length = -(-V // n)
    ends = [(min(r * length, V), min((r + 1) * length, V)) for r in range(n)]
    return [(a, b, length - (b - a)) for a, b in ends]


@mutant("vocabulary_ranges", rejected_with="fill each table before the next")
def balanced(V, n):
    lengths = [V // n + (r < V % n) for r in range(n)]
    ends = [(sum(lengths[:r]), sum(lengths[: r + 1])) for r in range(n)]
    return [(a, b, -(-V // n) - (b - a)) for a, b in ends]


@mutant("vocabulary_ranges", rejected_with="follow each other")
def empty_at_zero(V, n):
    return [(a, b, filling) if a < b else (0, 0, filling) for a, b, filling in _right_ranges(V, n)]


@mutant("vocabulary_ranges", rejected_with="whole numbers")
def fractions(V, n):
    return [(min(r * V / n, V), min((r + 1) * V / n, V), 0) for r in range(n)]


# ---- log_probabilities ----


def _pick(parts, targets):
    length = parts[0].shape[1]
    return np.array([parts[t // length][i, t % length] for i, t in enumerate(targets)])


def _highest(parts):
    return np.max([part.max(axis=1) for part in parts], axis=0)


@mutant("log_probabilities", rejected_with="the owner's words alone")
def local_softmax(parts, targets):
    result = []
    for i, t in enumerate(targets):
        row = parts[t // parts[0].shape[1]][i]
        m = row.max()
        result.append(row[t % len(row)] - m - np.log(np.exp(row - m).sum()))
    return np.array(result)


@mutant("log_probabilities", rejected_with="all must subtract the same m")
def own_maxima(parts, targets):
    s = np.nansum([np.exp(part - part.max(axis=1, keepdims=True)).sum(axis=1) for part in parts], axis=0)
    return _pick(parts, targets) - _highest(parts) - np.log(s)


@mutant("log_probabilities", rejected_with="around a thousand")
def without_maximum(parts, targets):
    return _pick(parts, targets) - np.log(sum(np.exp(part).sum(axis=1) for part in parts))


@mutant("log_probabilities", rejected_with="not from the target's score")
def target_not_shifted(parts, targets):
    m = _highest(parts)
    return _pick(parts, targets) - np.log(sum(np.exp(part - m[:, None]).sum(axis=1) for part in parts))


@mutant("log_probabilities", rejected_with="That is the loss")
def loss(parts, targets):
    m = _highest(parts)
    s = sum(np.exp(part - m[:, None]).sum(axis=1) for part in parts)
    return np.log(s) + m - _pick(parts, targets)


@mutant("log_probabilities", rejected_with="add the rank's first id")
def place_as_id(parts, targets):
    m = _highest(parts)
    s = sum(np.exp(part - m[:, None]).sum(axis=1) for part in parts)
    found = parts[0][np.arange(len(targets)), np.asarray(targets) % parts[0].shape[1]]
    return found - m - np.log(s)


def _with_maxima(parts, targets, m):
    s = sum(np.exp(part - m[:, None]).sum(axis=1) for part in parts)
    return _pick(parts, targets) - m - np.log(s)


@mutant("log_probabilities", rejected_with="of each row, not of all rows")
def one_maximum_for_all_rows(parts, targets):
    return _with_maxima(parts, targets, np.full(len(targets), max(part.max() for part in parts)))


@mutant("log_probabilities", rejected_with="the largest score over all ranks")
def maximum_of_rank_zero(parts, targets):
    return _with_maxima(parts, targets, parts[0].max(axis=1))


@mutant("log_probabilities", rejected_with="the largest score over all ranks")
def mean_of_rank_zero(parts, targets):
    return _with_maxima(parts, targets, parts[0].mean(axis=1))


@mutant("log_probabilities", rejected_with="You joined the scores")
def joins_the_scores(parts, targets):
    scores = np.concatenate(parts, axis=1)
    m = scores.max(axis=1, keepdims=True)
    return (scores - m - np.log(np.exp(scores - m).sum(axis=1, keepdims=True)))[np.arange(len(targets)), targets]


# ---- place ----

_WAYS = ("whole", "columns", "rows")


def _numbers(ways, shapes, n):
    return sum(a * b / (1 if way == "whole" else n) for (a, b), way in zip(shapes, ways, strict=True))


def _search(shapes, n, memory, *, reduce=2, join=1, last=1):
    def sent(ways):
        total, split = 0, False
        for (inputs, outputs), way in zip(shapes, ways, strict=True):
            total += join * inputs * (split and way != "rows") + reduce * outputs * (way == "rows")
            split = way == "columns"
        return total + last * shapes[-1][1] * split

    every = product(_WAYS, repeat=len(shapes))
    return list(min((ways for ways in every if _numbers(ways, shapes, n) <= memory), key=sent))


@mutant("place", rejected_with="Everything whole needs")
def all_whole(shapes, n, memory):
    return ["whole"] * len(shapes)


@mutant("place", rejected_with="rows can read the parts")
def all_columns(shapes, n, memory):
    return ["columns"] * len(shapes)


@mutant("place", rejected_with="what columns leave in parts")
def all_rows(shapes, n, memory):
    return ["rows"] * len(shapes)


@mutant("place", rejected_with="is no law")
def in_turn(shapes, n, memory):
    return [("columns", "rows")[i % 2] for i in range(len(shapes))]


@mutant("place", rejected_with="An all-reduce costs twice")
def all_reduce_counts_once(shapes, n, memory):
    return _search(shapes, n, memory, reduce=1)


@mutant("place", rejected_with="Did you join the output at the end")
def forgets_the_end(shapes, n, memory):
    return _search(shapes, n, memory, last=0)


@mutant("place", rejected_with="meets a matrix that needs it whole")
def forgets_all_gathers(shapes, n, memory):
    return _search(shapes, n, memory, join=0)


@mutant("place", rejected_with="An all-gather counts once")
def all_gather_counts_twice(shapes, n, memory):
    return _search(shapes, n, memory, join=2)


@mutant("place", rejected_with="An all-gather counts once")
def the_end_counts_twice(shapes, n, memory):
    return _search(shapes, n, memory, last=2)


@mutant("place", rejected_with="An all-reduce costs twice")
def all_gathers_like_all_reduces(shapes, n, memory):
    return _search(shapes, n, memory, join=2, last=2)


@mutant("place", rejected_with="An all-reduce costs twice")
def all_reduce_counts_three_times(shapes, n, memory):
    return _search(shapes, n, memory, reduce=3)
