"""Plausible wrong answers, and what must be said to each."""

from lmcore.checking import mutant


@mutant("idle_share", rejected_with="divided by the useful time")
def share_of_the_useful_time(p, m, v):
    return (p - 1) / (v * m)


@mutant("idle_share", rejected_with="not p: the first rank")
def fills_with_p(p, m, v):
    return p / (v * m + p)


@mutant("idle_share", rejected_with="share in which a rank works")
def the_busy_share(p, m, v):
    return 1 - (p - 1) / (v * m + p - 1)


@mutant("idle_share", rejected_with="You ignored v")
def knows_no_chunks(p, m, v):
    return (p - 1) / (m + p - 1)


@mutant("idle_share", rejected_with="smaller, not larger")
def chunks_on_the_wrong_side(p, m, v):
    return (p - 1) * v / (m + (p - 1) * v)


@mutant("idle_share", rejected_with="below the fraction line")
def divides_only_above(p, m, v):
    return (p - 1) / v / (m + p - 1)


@mutant("idle_share", rejected_with="count them once")
def counts_filling_and_draining_apart(p, m, v):
    return 2 * (p - 1) / (v * m + 2 * (p - 1))


@mutant("idle_share", rejected_with="in percent")
def in_percent(p, m, v):
    return 100 * (p - 1) / (v * m + p - 1)


@mutant("most_held", rejected_with="number of all microbatches")
def counts_forward_passes(actions):
    return sum(kind == "F" for kind, _ in actions)


@mutant("most_held", rejected_with="stopped at the first backward")
def counts_the_first_run(actions):
    count = 0
    for kind, _ in actions:
        if kind == "B":
            break
        count += 1
    return count


@mutant("most_held", rejected_with="In the end nothing is held")
def returns_what_is_left(actions):
    return sum(1 if kind == "F" else -1 for kind, _ in actions)


@mutant("most_held", rejected_with="One too few")
def counts_before_the_forward_pass(actions):
    held = most = 0
    for kind, _ in actions:
        most = max(most, held) if kind == "F" else most
        held += 1 if kind == "F" else -1
    return most


@mutant("most_held", rejected_with="One too many")
def frees_too_late(actions):
    held = most = 0
    for kind, _ in actions:
        held += kind == "F"
        most = max(most, held + 1)
        held -= kind == "B"
    return most


def _one_by_one(p, m):
    """A backward pass after each forward pass, on all ranks."""
    return [[(kind, i) for i in range(m) for kind in "FB"] for _ in range(p)]


def _gpipe(p, m):
    return [[("F", i) for i in range(m)] + [("B", i) for i in range(m)] for _ in range(p)]


def _ahead(m, ahead):
    """Ranks that begin with so many forward passes and then alternate."""
    ranks = []
    for first in (min(a, m) for a in ahead):
        own = [("F", i) for i in range(first)]
        for i in range(m):
            own += [("B", i)] + ([("F", first + i)] if first + i < m else [])
        ranks.append(own)
    return ranks


@mutant("gpipe", rejected_with="only one microbatch is under way")
def one_after_the_other(p, m):
    return _one_by_one(p, m)


@mutant("gpipe", rejected_with="a forward pass after a backward pass")
def is_1f1b(p, m):
    return _ahead(m, [p - rank for rank in range(p)])


@mutant("gpipe", rejected_with="never does")
def forgets_the_last_microbatch(p, m):
    return [[("F", i) for i in range(m - 1)] + [("B", i) for i in range(m - 1)] for _ in range(p)]


@mutant("gpipe", rejected_with="but microbatches are")
def counts_from_one(p, m):
    return [[(kind, i + 1) for kind, i in own] for own in _gpipe(p, m)]


@mutant("gpipe", rejected_with="one for each rank")
def one_list_for_all(p, m):
    return _gpipe(p, m)[0] if 2 * m != p else [_gpipe(p, m)[0]]


@mutant("gpipe", rejected_with="in the same order")
def the_last_rank_goes_back_in_another_order(p, m):
    ranks = _gpipe(p, m)
    ranks[-1] = [("F", i) for i in range(m)] + [("B", i) for i in reversed(range(m))]
    return ranks


@mutant("gpipe", rejected_with="go forward first")
def backward_first(p, m):
    return [[("B", i) for i in range(m)] + [("F", i) for i in range(m)] for _ in range(p)]


@mutant("one_f_one_b", rejected_with="that is GPipe")
def all_forward_first(p, m):
    return _gpipe(p, m)


@mutant("one_f_one_b", rejected_with="fill the pipeline first")
def never_fills_the_pipeline(p, m):
    return _one_by_one(p, m)


@mutant("one_f_one_b", rejected_with="same number of forward passes")
def the_same_on_all_ranks(p, m):
    return _ahead(m, [p] * p)


@mutant("one_f_one_b", rejected_with="from the wrong end")
def fills_from_the_wrong_end(p, m):
    return _ahead(m, [rank + 1 for rank in range(p)])


@mutant("one_f_one_b", rejected_with="of rank")
def the_last_rank_begins_with_the_last_microbatch(p, m):
    ranks = _ahead(m, [p - rank for rank in range(p)])
    return [*ranks[:-1], [(kind, m - 1 - i) for kind, i in ranks[-1]]]


@mutant("one_f_one_b", rejected_with="more than")
def gpipe_if_there_are_few(p, m):
    return _gpipe(p, m) if m < p else _ahead(m, [p - rank for rank in range(p)])


@mutant("one_f_one_b", rejected_with="fill the pipeline first")
def one_by_one_if_there_are_few(p, m):
    return _one_by_one(p, m) if m < p else _ahead(m, [p - rank for rank in range(p)])


@mutant("one_f_one_b", rejected_with="more than")
def holds_one_more(p, m):
    return _ahead(m, [p - rank + 1 for rank in range(p)])


@mutant("one_f_one_b", rejected_with="but microbatches are")
def forgets_the_case_of_few_microbatches(p, m):
    ranks = []
    for rank in range(p):
        ahead = p - rank - 1
        own = [("F", i) for i in range(ahead)]
        for i in range(m - ahead):
            own += [("F", ahead + i), ("B", i)]
        ranks.append(own + [("B", i) for i in range(max(m - ahead, 0), m)])
    return ranks


@mutant("batch_loss", rejected_with="summed the microbatches' means")
def sums_the_means(losses, tokens):
    return sum(losses)


@mutant("batch_loss", rejected_with="averaged the means")
def averages_the_means(losses, tokens):
    return sum(losses) / len(losses)


@mutant("batch_loss", rejected_with="sum over all tokens")
def sums_over_tokens(losses, tokens):
    return sum(n * loss for n, loss in zip(tokens, losses, strict=True))


@mutant("batch_loss", rejected_with="not of microbatches")
def divides_by_the_microbatches(losses, tokens):
    return sum(n * loss for n, loss in zip(tokens, losses, strict=True)) / len(losses)


@mutant("batch_loss", rejected_with="weight each by its tokens")
def takes_means_for_sums(losses, tokens):
    return sum(losses) / sum(tokens)


@mutant("balance", rejected_with="the same number of layers")
def the_same_number_of_layers(costs, p):
    n = len(costs)
    return [n // p + (i < n % p) for i in range(p)]


@mutant("balance", rejected_with="until it had its share")
def fills_up_to_the_average(costs, p):
    sizes, size, load, goal = [], 0, 0, sum(costs) / p
    for i, cost in enumerate(costs):
        left = len(costs) - i
        if size and len(sizes) < p - 1 and (load + cost > goal or left <= p - 1 - len(sizes)):
            sizes.append(size)
            size, load = 0, 0
        size, load = size + 1, load + cost
    return [*sizes, size]


@mutant("balance", rejected_with="from the end")
def fills_from_the_end(costs, p):
    return fills_up_to_the_average(costs[::-1], p)[::-1]


@mutant("balance", rejected_with="each alone")
def borders_nearest_to_their_share(costs, p):
    sums, ends = [sum(costs[: i + 1]) for i in range(len(costs))], [0]
    for k in range(1, p):
        ends.append(1 + min(range(len(costs)), key=lambda i: abs(sums[i] - sums[-1] * k / p)))
    return [end - begin for begin, end in zip(ends, [*ends[1:], len(costs)], strict=True)]


@mutant("balance", rejected_with="never went back")
def one_stage_after_the_other(costs, p):
    sizes = []
    for left in range(p, 1, -1):
        goal = sum(costs) / left
        sizes.append(min(range(1, len(costs) - left + 2), key=lambda n: abs(sum(costs[:n]) - goal)))
        costs = costs[sizes[-1] :]
    return [*sizes, len(costs)]


@mutant("balance", rejected_with="not which")
def returns_the_layers(costs, p):
    return [list(range(i, len(costs), p)) for i in range(p)]


@mutant("balance", rejected_with="A stage has no layer")
def leaves_a_stage_empty(costs, p):
    return [len(costs) - p + 2] + [1] * (p - 2) + [0]


@mutant("balance", rejected_with="must all be used once")
def returns_the_borders(costs, p):
    return [(i + 1) * (len(costs) // p) for i in range(p)]


@mutant("balance", rejected_with="Not the best cut")
def everything_to_the_last_stage(costs, p):
    return [1] * (p - 1) + [len(costs) - p + 1]


@mutant("memory", rejected_with="forgot the group")
def forgets_what_is_computed_again(blocks, held, inside, boundary, group):
    return held * blocks * inside, held * (blocks // group) * boundary


@mutant("memory", rejected_with="counted twice")
def counts_the_input_twice(blocks, held, inside, boundary, group):
    return held * blocks * inside, held * (blocks // group) * boundary + group * inside


@mutant("memory", rejected_with="one microbatch at a time")
def computes_all_microbatches_again_at_once(blocks, held, inside, boundary, group):
    return held * blocks * inside, held * (blocks // group * boundary + group * inside - boundary)


@mutant("memory", rejected_with="A whole group")
def computes_one_block_again(blocks, held, inside, boundary, group):
    return held * blocks * inside, held * (blocks // group) * boundary + inside - boundary


@mutant("memory", rejected_with="first block keeps")
def keeps_all_inputs(blocks, held, inside, boundary, group):
    return held * blocks * inside, held * blocks * boundary + group * inside - boundary


@mutant("memory", rejected_with="several microbatches at a time")
def holds_one_microbatch(blocks, held, inside, boundary, group):
    return blocks * inside, blocks // group * boundary + group * inside - boundary


@mutant("plan", rejected_with="as GPipe does")
def all_forward_passes_first(m, forward, backward, message, limits):
    return _gpipe(len(limits), m)


@mutant("plan", rejected_with="Plain 1F1B")
def plain_1f1b(m, forward, backward, message, limits):
    return _ahead(m, [len(limits) - rank for rank in range(len(limits))])


@mutant("plan", rejected_with="comes back before the next one starts")
def one_at_a_time(m, forward, backward, message, limits):
    return _one_by_one(len(limits), m)


@mutant("plan", rejected_with="its limit is")
def one_more_than_allowed(m, forward, backward, message, limits):
    return _ahead(m, [limit + 1 for limit in limits])


@mutant("plan", rejected_with="wait for each other for ever")
def goes_further_ahead_than_the_rank_before(m, forward, backward, message, limits):
    return _ahead(m, [1, *limits[1:]])


@mutant("plan", rejected_with="has its gradient at once")
def all_memory_that_the_ranks_before_allow(m, forward, backward, message, limits):
    return _ahead(m, [min(limits[: rank + 1]) for rank in range(len(limits))])


@mutant("plan", rejected_with="keeps the limits of memory, but")
def two_ahead_at_most(m, forward, backward, message, limits):
    return _ahead(m, [2] * (len(limits) - 1) + [1])
