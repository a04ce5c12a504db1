"""Plausible wrong answers, and what must be said to each."""

import numpy as np

from lmcore.checking import mutant


@mutant("batch_gradient", rejected_with="a rank with few examples then counts too much")
def averages_the_means(means, counts):
    return np.nanmean(means, axis=0)


@mutant("batch_gradient", rejected_with="the batch's gradient is their mean")
def forgets_to_divide(means, counts):
    return sum(count * mean for mean, count in zip(means, counts, strict=True) if count)


@mutant("batch_gradient", rejected_with="divide by the number of examples")
def divides_by_the_ranks(means, counts):
    return forgets_to_divide(means, counts) / len(counts)


@mutant("batch_gradient", rejected_with="0 · NaN is NaN")
def multiplies_nan_by_zero(means, counts):
    return counts @ means / counts.sum()


@mutant("batch_gradient", rejected_with="must count more")
def weights_the_wrong_way(means, counts):
    weights = 1 / np.maximum(counts, 1)
    return weights @ np.nan_to_num(means) / weights.sum()


@mutant("batch_gradient", rejected_with="without their counts")
def adds_the_means(means, counts):
    return np.nansum(means, axis=0)


@mutant("shards", rejected_with="one example more than others")
def leaves_them_uneven(order, ranks):
    return [order[r::ranks] for r in range(ranks)]


@mutant("shards", rejected_with="You dropped the last examples")
def drops_the_rest(order, ranks):
    order = order[: len(order) - len(order) % ranks]
    return [order[r::ranks] for r in range(ranks)]


@mutant("shards", rejected_with="a block of neighbours")
def cuts_into_blocks(order, ranks):
    order = order + order[: -len(order) % ranks]
    each = len(order) // ranks
    return [order[r * each : (r + 1) * each] for r in range(ranks)]


@mutant("shards", rejected_with="You repeated the last examples")
def repeats_the_end(order, ranks):
    missing = -len(order) % ranks
    order = order + order[len(order) - missing :]
    return [order[r::ranks] for r in range(ranks)]


@mutant("shards", rejected_with="one example several times")
def repeats_the_first_again_and_again(order, ranks):
    order = order + [order[0]] * (-len(order) % ranks)
    return [order[r::ranks] for r in range(ranks)]


@mutant("shards", rejected_with="as if each were rank 0")
def gives_all_the_same(order, ranks):
    order = order + order[: -len(order) % ranks]
    return [order[0::ranks] for _ in range(ranks)]


@mutant("shards", rejected_with="holds other numbers")
def repeats_the_smallest_numbers(order, ranks):
    order = order + list(range(-len(order) % ranks))
    return [order[r::ranks] for r in range(ranks)]


def _fill(sizes, numbers, full):
    """Buckets; `full` says whether the open one takes no more."""
    result = []
    for number in numbers:
        if not result or full(sum(sizes[i] for i in result[-1]), sizes[number]):
            result.append([])
        result[-1].append(number)
    return result


@mutant("buckets", rejected_with="the last one's gradient is ready first")
def begins_with_the_first(sizes, limit):
    return _fill(sizes, range(len(sizes)), lambda filled, new: filled + new > limit)


@mutant("buckets", rejected_with="*before* it is exceeded")
def closes_when_the_limit_is_reached(sizes, limit):
    return _fill(sizes, reversed(range(len(sizes))), lambda filled, new: filled >= limit)


@mutant("buckets", rejected_with="exactly as large as the limit")
def never_fills_a_bucket(sizes, limit):
    return _fill(sizes, reversed(range(len(sizes))), lambda filled, new: filled + new >= limit)


@mutant("buckets", rejected_with="You went back to a closed bucket")
def packs_as_well_as_it_can(sizes, limit):
    result = []
    for number in reversed(range(len(sizes))):
        for bucket in result:
            if sum(sizes[i] for i in bucket) + sizes[number] <= limit:
                bucket.append(number)
                break
        else:
            result.append([number])
    return result


@mutant("buckets", rejected_with="in the order in which they came")
def sorts_the_numbers(sizes, limit):
    filled = _fill(sizes, reversed(range(len(sizes))), lambda filled, new: filled + new > limit)
    return [sorted(bucket) for bucket in filled]


@mutant("buckets", rejected_with="in the order in which they were opened")
def turns_the_buckets_round(sizes, limit):
    return _fill(sizes, reversed(range(len(sizes))), lambda filled, new: filled + new > limit)[::-1]


@mutant("buckets", rejected_with="There is an empty bucket")
def opens_one_before_it_looks(sizes, limit):
    result = [[]]
    for number in reversed(range(len(sizes))):
        if sum(sizes[i] for i in result[-1]) + sizes[number] > limit:
            result.append([])
        result[-1].append(number)
    return result


@mutant("buckets", rejected_with="closes the open bucket too")
def puts_large_ones_aside(sizes, limit):
    result, current = [], None
    for number in reversed(range(len(sizes))):
        if sizes[number] > limit:
            result.append([number])
        elif current is None or sum(sizes[i] for i in current) + sizes[number] > limit:
            current = [number]
            result.append(current)
        else:
            current.append(number)
    return result


@mutant("buckets", rejected_with="There is an empty bucket")
def opens_one_too_early(sizes, limit):
    return [*_fill(sizes, reversed(range(len(sizes))), lambda filled, new: filled + new > limit), []]


def _bytes(shapes, ranks, way, columns, *, reduce=None, gather=None, int8=None, power=None):
    """Bytes of a step, of which one part can be wrong."""
    numbers = sum(int(np.prod(shape)) for shape in shapes)
    reduce = reduce or (lambda p, size: 2 * (p - 1) / p * size)
    gather = gather or (lambda p, size: (p - 1) * size)
    if way == "exact":
        return reduce(ranks, 4 * numbers)
    if way == "int8":
        return (int8 or (lambda p, n: gather(p, n + 4 * -(-n // 256))))(ranks, numbers)
    thin = sum(columns * sum(s) if len(s) == 2 else int(np.prod(s)) for s in shapes)
    return power(ranks, shapes) if power else reduce(ranks, 4 * thin)


@mutant("bytes_sent", rejected_with="That is the size of the gradient")
def counts_the_payload(shapes, ranks, way, columns):
    return _bytes(shapes, ranks, way, columns, reduce=lambda p, size: size)


@mutant("bytes_sent", rejected_with="a reduce-scatter *and* an all-gather")
def forgets_the_second_half(shapes, ranks, way, columns):
    return _bytes(shapes, ranks, way, columns, reduce=lambda p, size: (p - 1) / p * size)


@mutant("bytes_sent", rejected_with="You counted numbers, not bytes")
def counts_numbers(shapes, ranks, way, columns):
    return _bytes(shapes, ranks, way, columns, reduce=lambda p, size: 2 * (p - 1) / p * size / 4)


@mutant("bytes_sent", rejected_with="of all ranks together")
def adds_up_all_ranks(shapes, ranks, way, columns):
    return ranks * _bytes(shapes, ranks, way, columns)


@mutant("bytes_sent", rejected_with="all parameters in a row")
def cuts_blocks_from_each_parameter(shapes, ranks, way, columns):
    sizes = [int(np.prod(shape)) for shape in shapes]
    codes = sum(size + 4 * -(-size // 256) for size in sizes)
    return _bytes(shapes, ranks, way, columns, int8=lambda p, n: (p - 1) * codes)


@mutant("bytes_sent", rejected_with="only what has two axes is a matrix")
def makes_matrices_of_all(shapes, ranks, way, columns):
    flat = [shape if len(shape) < 2 else (shape[0], int(np.prod(shape[1:]))) for shape in shapes]
    thin = sum(columns * sum(s) if len(s) == 2 else s[0] for s in flat)
    return _bytes(shapes, ranks, way, columns, power=lambda p, shapes: 2 * (p - 1) / p * 4 * thin)


@mutant("bytes_sent", rejected_with="to itself")
def sends_to_itself(shapes, ranks, way, columns):
    return _bytes(shapes, ranks, way, columns, gather=lambda p, size: p * size)


@mutant("bytes_sent", rejected_with="they are gathered, not reduced")
def reduces_codes(shapes, ranks, way, columns):
    return _bytes(shapes, ranks, way, columns, gather=lambda p, size: 2 * (p - 1) / p * size)


@mutant("bytes_sent", rejected_with="The scales are missing")
def forgets_the_scales(shapes, ranks, way, columns):
    return _bytes(shapes, ranks, way, columns, int8=lambda p, n: (p - 1) * n)


@mutant("bytes_sent", rejected_with="it needs a scale as well")
def forgets_the_last_block(shapes, ranks, way, columns):
    return _bytes(shapes, ranks, way, columns, int8=lambda p, n: (p - 1) * (n + 4 * (n // 256)))


@mutant("bytes_sent", rejected_with="they are all-reduced, not gathered")
def gathers_factors(shapes, ranks, way, columns):
    thin = sum(columns * sum(s) if len(s) == 2 else int(np.prod(s)) for s in shapes)
    return _bytes(shapes, ranks, way, columns, power=lambda p, shapes: (p - 1) * 4 * thin)


@mutant("bytes_sent", rejected_with="What is no matrix is sent as it is")
def forgets_the_vectors(shapes, ranks, way, columns):
    thin = sum(columns * sum(s) for s in shapes if len(s) == 2)
    return _bytes(shapes, ranks, way, columns, power=lambda p, shapes: 2 * (p - 1) / p * 4 * thin)


def _feedback(gradients, k, *, choose=None, new_error=None, pay=None):
    """Error feedback, of which one part can be wrong."""
    sent, error = np.zeros(gradients.shape), np.zeros(gradients.shape[1])
    for step, g in enumerate(np.asarray(gradients)):
        x = g + error
        chosen = np.argsort(-(choose(g, x) if choose else np.abs(x)))[:k]
        sent[step, chosen] = (pay(g, x) if pay else x)[chosen]
        error = new_error(g, x, error, sent[step]) if new_error else x - sent[step]
    return sent, error


@mutant("top_k_with_feedback", rejected_with="Nothing of what was left out comes back")
def keeps_no_books(gradients, k):
    return _feedback(gradients, k, new_error=lambda g, x, error, sent: 0 * g)


@mutant("top_k_with_feedback", rejected_with="use the absolute value")
def takes_the_largest(gradients, k):
    return _feedback(gradients, k, choose=lambda g, x: x)


@mutant("top_k_with_feedback", rejected_with="small ones never have their turn")
def chooses_by_the_gradient(gradients, k):
    return _feedback(gradients, k, choose=lambda g, x: np.abs(g))


@mutant("top_k_with_feedback", rejected_with="Your error forgets older errors")
def forgets_old_debts(gradients, k):
    return _feedback(gradients, k, new_error=lambda g, x, error, sent: g - sent)


@mutant("top_k_with_feedback", rejected_with="You counted the old error twice")
def counts_debts_twice(gradients, k):
    return _feedback(gradients, k, new_error=lambda g, x, error, sent: error + x - sent)


@mutant("top_k_with_feedback", rejected_with="to be paid as well")
def sends_the_gradient_alone(gradients, k):
    return _feedback(gradients, k, pay=lambda g, x: g)


@mutant("top_k_with_feedback", rejected_with="You wrote into the given array")
def writes_into_it(gradients, k):
    error = np.zeros(gradients.shape[1])
    for row in gradients:
        row += error
        small = np.argsort(-np.abs(row))[k:]
        error = np.zeros(len(row))
        error[small] = row[small]
        row[small] = 0
    return gradients, error


@mutant("top_k_with_feedback", rejected_with="the last error was not sent")
def owes_nothing_at_the_end(gradients, k):
    sent, error = _feedback(gradients, k)
    return sent, 0 * error


def _simulate(durations, updates, own=1, first=None, lowest=True):
    """Staleness by a list of events."""
    events = [(duration, worker, 0) for worker, duration in enumerate(durations)]
    result = []
    for version in range(updates):
        event = min(events, key=lambda e: (e[0], e[1] if lowest else -e[1]))
        events.remove(event)
        time, worker, fetched = event
        result.append(version - (fetched if first is None else first))
        events.append((time + durations[worker], worker, version + own))
    return result


@mutant("staleness", rejected_with="You count a worker's own update")
def counts_its_own_update(durations, updates):
    return _simulate(durations, updates, own=0)


@mutant("staleness", rejected_with="You compare with version 0 always")
def never_fetches_again(durations, updates):
    return _simulate(durations, updates, first=0)


@mutant("staleness", rejected_with="All are one too many")
def counts_from_one(durations, updates):
    return [number + 1 for number in _simulate(durations, updates)]


@mutant("staleness", rejected_with="Your workers take turns")
def lets_them_take_turns(durations, updates):
    return [min(version, len(durations) - 1) for version in range(updates)]


@mutant("staleness", rejected_with="the lower number comes first")
def prefers_the_higher_number(durations, updates):
    return _simulate(durations, updates, lowest=False)


def _plan(seconds, sizes, alpha, beta):
    """The best plan and its end."""
    n = len(seconds)
    ready = np.concatenate([[0], np.cumsum(seconds[::-1])])
    total = np.concatenate([[0], np.cumsum(sizes[::-1])])
    end, cut = [0.0], [0]
    for j in range(1, n + 1):
        ends = [max(ready[j], end[i]) + alpha + beta * (total[j] - total[i]) for i in range(j)]
        cut.append(int(np.argmin(ends)))
        end.append(min(ends))
    buckets, j = [], n
    while j > 0:
        buckets.append([n - 1 - position for position in range(cut[j], j)])
        j = cut[j]
    return buckets[::-1], float(end[n])


def _end_of(buckets, seconds, sizes, alpha, beta):
    """When a plan ends."""
    clock = over = 0.0
    for bucket in buckets:
        clock += sum(seconds[i] for i in bucket)
        over = max(clock, over) + alpha + beta * sum(sizes[i] for i in bucket)
    return over


@mutant("best_plan", rejected_with="One bucket for all cannot hide")
def sends_all_at_the_end(seconds, sizes, alpha, beta):
    buckets = [list(reversed(range(len(seconds))))]
    return buckets, _end_of(buckets, seconds, sizes, alpha, beta)


@mutant("best_plan", rejected_with="A message per parameter pays α each time")
def sends_each_alone(seconds, sizes, alpha, beta):
    buckets = [[i] for i in reversed(range(len(seconds)))]
    return buckets, _end_of(buckets, seconds, sizes, alpha, beta)


@mutant("best_plan", rejected_with="can be had")
def always_takes_two(seconds, sizes, alpha, beta):
    numbers = list(reversed(range(len(seconds))))
    buckets = [numbers[i : i + 2] for i in range(0, len(numbers), 2)]
    return buckets, _end_of(buckets, seconds, sizes, alpha, beta)


@mutant("best_plan", rejected_with="The first parameter comes first")
def plans_from_the_front(seconds, sizes, alpha, beta):
    buckets, end = _plan(seconds, sizes, alpha, beta)
    return [sorted(bucket) for bucket in reversed(buckets)], end


@mutant("best_plan", rejected_with="do not wait for each other")
def lets_messages_overlap(seconds, sizes, alpha, beta):
    buckets, _ = _plan(seconds, sizes, alpha, beta)
    clock, ends = 0.0, []
    for bucket in buckets:
        clock += sum(seconds[i] for i in bucket)
        ends.append(clock + alpha + beta * sum(sizes[i] for i in bucket))
    return buckets, max(ends)


@mutant("best_plan", rejected_with="they may begin before it is over")
def adds_it_all_up(seconds, sizes, alpha, beta):
    buckets, _ = _plan(seconds, sizes, alpha, beta)
    return buckets, sum(seconds) + alpha * len(buckets) + beta * sum(sizes)
