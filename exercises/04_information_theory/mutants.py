"""Plausible wrong answers to the exercises on information theory, each with the message that must reject it."""

import heapq
from fractions import Fraction

import numpy as np

from lmcore.checking import mutant


def _entropy(p):
    """The right entropy in bits."""
    p = np.asarray(p, dtype=float)
    p = p[p > 0]
    return -(p * np.log2(p)).sum()


@mutant("entropy_bits", rejected_with="entropy is negative")
def forgets_the_minus(p):
    return -_entropy(p)


@mutant("entropy_bits", rejected_with="in nats")
def takes_the_natural_logarithm(p):
    p = p[p > 0]
    return -(p * np.log(p)).sum()


@mutant("entropy_bits", rejected_with="weigh each with its probability")
def sums_the_surprises(p):
    return -np.log2(p).sum()


@mutant("entropy_bits", rejected_with="averaged all surprises alike")
def averages_the_surprises(p):
    return -np.log2(p).mean()


@mutant("entropy_bits", rejected_with="0 · log 0 counts as 0")
def multiplies_zero_by_minus_infinity(p):
    return -(p * np.log2(p)).sum()


@mutant("entropy_bits", rejected_with="do not add a small number")
def adds_a_little_to_be_safe(p):
    return -(p * np.log2(p + 1e-6)).sum()


@mutant("entropy_bits", rejected_with="has entropy 0 exactly")
def adds_very_little_to_be_safe(p):
    return -(p * np.log2(p + 1e-12)).sum()


@mutant("entropy_bits", rejected_with="Return one number")
def returns_an_array(p):
    return np.array([_entropy(p)])


@mutant("entropy_bits", rejected_with="the perplexity")
def returns_the_perplexity(p):
    return 2 ** _entropy(p)


def _kl(p, q):
    """The right divergence in bits."""
    if (q[p > 0] == 0).any():
        return np.inf
    p, q = p[p > 0], q[p > 0]
    return (p * np.log2(p / q)).sum()


@mutant("wasted_bits", rejected_with="You swapped the two")
def swaps_truth_and_belief(p, q):
    return _kl(q, p)


@mutant("wasted_bits", rejected_with="That is in nats")
def measures_in_nats(p, q):
    return _kl(p, q) * np.log(2)


@mutant("wasted_bits", rejected_with="That is the cross-entropy")
def returns_the_cross_entropy(p, q):
    return -(p * np.log2(q)).sum()


@mutant("wasted_bits", rejected_with="You subtracted the entropies")
def subtracts_the_entropies(p, q):
    return _entropy(q) - _entropy(p)


@mutant("wasted_bits", rejected_with="never negative")
def divides_the_wrong_way(p, q):
    return (p * np.log2(q / p)).sum()


@mutant("wasted_bits", rejected_with="what never happens (p = 0)")
def does_not_look_for_zeros(p, q):
    return (p * np.log2(p / q)).sum()


@mutant("wasted_bits", rejected_with="although only p is zero")
def infinite_for_every_zero_of_q(p, q):
    return np.inf if (q == 0).any() else _kl(p, q)


@mutant("wasted_bits", rejected_with="infinitely long")
def leaves_out_zeros_of_both(p, q):
    both = (p > 0) & (q > 0)
    return (p[both] * np.log2(p[both] / q[both])).sum()


def _kraft(words):
    """The right sum."""
    return sum(2.0 ** -len(word) for word in words)


def _free(words):
    """The right judgement."""
    return not any(b.startswith(a) for i, a in enumerate(words) for j, b in enumerate(words) if i != j)


@mutant("judge_code", rejected_with="Kraft says that some code")
def trusts_kraft(words):
    return _kraft(words), _kraft(words) <= 1


@mutant("judge_code", rejected_with="A word begins itself")
def compares_words_with_themselves(words):
    return _kraft(words), not any(b.startswith(a) for a in words for b in words)


@mutant("judge_code", rejected_with="in both orders")
def compares_in_one_order_only(words):
    return _kraft(words), not any(b.startswith(a) for i, a in enumerate(words) for b in words[i + 1 :])


@mutant("judge_code", rejected_with="not at its start")
def looks_anywhere_in_the_word(words):
    return _kraft(words), not any(a in b for i, a in enumerate(words) for j, b in enumerate(words) if i != j)


@mutant("judge_code", rejected_with="do not compare only neighbours")
def compares_neighbours_by_length(words):
    words = sorted(words, key=len)
    return _kraft(words), not any(b.startswith(a) for a, b in zip(words, words[1:], strict=False))


@mutant("judge_code", rejected_with="not only the shortest of all")
def compares_the_shortest_only(words):
    first, *others = sorted(words, key=len)
    return _kraft(words), not any(other.startswith(first) for other in others)


@mutant("judge_code", rejected_with="has a word twice")
def skips_equal_words(words):
    return _kraft(words), not any(a != b and b.startswith(a) for a in words for b in words)


@mutant("judge_code", rejected_with="lacks its minus")
def forgets_the_minus_in_the_exponent(words):
    return sum(2 ** len(word) for word in words), _free(words)


@mutant("judge_code", rejected_with="You summed the lengths")
def sums_the_lengths(words):
    return sum(map(len, words)), _free(words)


def _right_cost(p):
    """The right cost."""
    heap, cost = list(map(float, p)), 0.0
    heapq.heapify(heap)
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        cost += merged
        heapq.heappush(heap, merged)
    return cost


@mutant("huffman_cost", rejected_with="That is the entropy")
def returns_the_entropy(p):
    return _entropy(p)


@mutant("huffman_cost", rejected_with="You rounded up each")
def rounds_up(p):
    return (p * np.ceil(-np.log2(p))).sum()


@mutant("huffman_cost", rejected_with="without sorting again")
def sorts_only_once(p):
    queue, cost = sorted(p), 0.0
    while len(queue) > 1:
        merged = queue[0] + queue[1]
        cost, queue = cost + merged, [*queue[2:], merged]
    return cost


@mutant("huffman_cost", rejected_with="one growing heap")
def grows_one_heap(p):
    heap, *others = sorted(p)
    cost = 0.0
    for weight in others:
        heap += weight
        cost += heap
    return cost


@mutant("huffman_cost", rejected_with="The last merge is missing")
def stops_one_merge_early(p):
    return _right_cost(p) - 1


@mutant("huffman_cost", rejected_with="two most frequent")
def merges_the_most_frequent(p):
    weights, cost = sorted(p, reverse=True), 0.0
    while len(weights) > 1:
        merged = weights[0] + weights[1]
        cost, weights = cost + merged, sorted([*weights[2:], merged], reverse=True)
    return cost


@mutant("huffman_cost", rejected_with="already are an average")
def averages_an_average(p):
    return _right_cost(p) / len(p)


def _steps(message, model):
    """What lies below each symbol of a message, and its share."""
    for i, symbol in enumerate(message):
        shares = model(message[:i])
        order = list(shares)
        yield sum((shares[c] for c in order[: order.index(symbol)]), Fraction(0)), shares[symbol]


def _narrow(steps):
    """The interval after some steps."""
    low, length = Fraction(0), Fraction(1)
    for below, share in steps:
        low, length = low + length * below, length * share
    return low, length


@mutant("message_interval", rejected_with="asked the model only once")
def asks_once(message, model):
    shares = model("")
    return _narrow(_steps(message, lambda history: shares))


@mutant("message_interval", rejected_with="holds the symbol to be coded already")
def shows_the_model_the_symbol(message, model):
    return _narrow(
        step for i in range(len(message)) for step in _steps(message[i], lambda history, i=i: model(message[: i + 1]))
    )


@mutant("message_interval", rejected_with="only the last symbol")
def shows_the_model_the_last_symbol(message, model):
    return _narrow(_steps(message, lambda history: model(history[-1:])))


@mutant("message_interval", rejected_with="You stepped over the symbol itself")
def steps_over_the_symbol(message, model):
    return _narrow((below + share, share) for below, share in _steps(message, model))


@mutant("message_interval", rejected_with="in the dictionary's order")
def goes_by_the_alphabet(message, model):
    return _narrow(_steps(message, lambda history: dict(sorted(model(history).items()))))


@mutant("message_interval", rejected_with="must be scaled")
def forgets_to_scale(message, model):
    low, length = Fraction(0), Fraction(1)
    for below, share in _steps(message, model):
        low, length = low + below, length * share
    return low, length


@mutant("message_interval", rejected_with="The second thing is the interval's end")
def returns_both_ends(message, model):
    low, length = _narrow(_steps(message, model))
    return low, low + length


@mutant("message_interval", rejected_with="keep fractions")
def works_with_floats(message, model):
    low, length = 0.0, 1.0
    for below, share in _steps(message, model):
        low, length = low + length * float(below), length * float(share)
    return low, length


def _information(table, correction=lambda counts, n, N: (n - 1) / (2 * N) / np.log(2), which=(True, True, True)):
    """Mutual information with a correction for each of the three entropies that are chosen."""
    table = np.asarray(table)
    N, total = table.sum(), 0.0
    parts = (table.sum(axis=1), 1), (table.sum(axis=0), 1), (table, -1)
    for (counts, sign), corrected in zip(parts, which, strict=True):
        n = np.count_nonzero(counts)
        total += sign * (_entropy(counts / N) + (correction(counts, n, N) if corrected else 0))
    return total


@mutant("corrected_information", rejected_with="plug-in estimate")
def corrects_nothing(table):
    return _information(table, which=(False, False, False))


@mutant("corrected_information", rejected_with="convert it to bits")
def adds_nats_to_bits(table):
    return _information(table, lambda counts, n, N: (n - 1) / (2 * N))


@mutant("corrected_information", rejected_with="so divide by it")
def multiplies_by_log_2(table):
    return _information(table, lambda counts, n, N: (n - 1) / (2 * N) * np.log(2))


@mutant("corrected_information", rejected_with="H(X) + H(Y) − H(X, Y)")
def subtracts_the_margins(table):
    return -_information(table)


@mutant("corrected_information", rejected_with="That is in nats")
def stays_in_nats(table):
    return _information(table) * np.log(2)


@mutant("corrected_information", rejected_with="never observed")
def counts_empty_fields(table):
    return _information(table, lambda counts, n, N: (counts.size - 1) / (2 * N) / np.log(2))


@mutant("corrected_information", rejected_with="The entropy of the pairs needs")
def corrects_the_margins_only(table):
    return _information(table, which=(True, True, False))


@mutant("corrected_information", rejected_with="The entropies of X and Y need")
def corrects_the_pairs_only(table):
    return _information(table, which=(False, False, True))


@mutant("corrected_information", rejected_with="The sign of the correction")
def subtracts_the_correction(table):
    return _information(table, lambda counts, n, N: -(n - 1) / (2 * N) / np.log(2))


@mutant("corrected_information", rejected_with="not m/2N")
def forgets_the_minus_one(table):
    return _information(table, lambda counts, n, N: n / (2 * N) / np.log(2))


@mutant("corrected_information", rejected_with="Leave a negative result")
def cuts_off_at_zero(table):
    return max(_information(table), 0.0)


def _left(labels, answer, weigh=True):
    """Entropy that is left after a question."""
    left = 0.0
    for part in (labels[answer], labels[~answer]):
        if len(part):
            left += (len(part) / len(labels) if weigh else 0.5) * _entropy(np.bincount(part) / len(part))
    return left


def _before(labels):
    """Entropy before any question."""
    return _entropy(np.bincount(labels) / len(labels))


def _gains(labels, features):
    """The right gains."""
    return np.array([_before(labels) - _left(labels, answer) for answer in features.T])


@mutant("best_question", rejected_with="averaged the entropies of the two parts alike")
def averages_the_parts_alike(labels, features):
    gains = [_before(labels) - _left(labels, answer, weigh=False) for answer in features.T]
    return int(np.argmax(gains)), max(gains)


@mutant("best_question", rejected_with="entropy that is left")
def returns_what_is_left(labels, features):
    best = int(np.argmax(_gains(labels, features)))
    return best, _left(labels, features[:, best])


@mutant("best_question", rejected_with="The best question is number")
def takes_the_worst(labels, features):
    gains = _gains(labels, features)
    return int(np.argmin(gains)), gains.min()


@mutant("best_question", rejected_with="most yes")
def takes_the_most_frequent(labels, features):
    varied = features.sum(axis=0) * (features.sum(axis=0) < len(labels))
    best = int(np.argmax(varied))
    return best, _gains(labels, features)[best]


@mutant("best_question", rejected_with="in nats")
def gains_nats(labels, features):
    gains = _gains(labels, features)
    return int(np.argmax(gains)), gains.max() * np.log(2)


@mutant("best_question", rejected_with="'not a number'")
def divides_by_nothing(labels, features):
    left = []
    for answer in features.T:
        parts = labels[answer], labels[~answer]
        left.append(
            sum(
                len(part) / len(labels) * _entropy(np.bincount(part) / np.float64(len(part)))
                if len(part)
                else np.float64(0) / np.float64(0)
                for part in parts
            )
        )
    gains = _before(labels) - np.array(left)
    return int(np.argmax(gains)), gains.max()


@mutant("best_question", rejected_with="Your code warned")
def replaces_what_is_no_number(labels, features):
    left = []
    for answer in features.T:
        parts = labels[answer], labels[~answer]
        shares = np.array([len(part) / len(labels) for part in parts])
        counts = np.array([np.bincount(part, minlength=3) for part in parts])
        p = counts / counts.sum(axis=1, keepdims=True)
        left.append(shares @ -np.nan_to_num(p * np.log2(p)).sum(axis=1))
    gains = _before(labels) - np.array(left)
    return int(np.argmax(gains)), gains.max()


@mutant("best_question", rejected_with="numbered from 0")
def counts_from_one(labels, features):
    gains = _gains(labels, features)
    return int(np.argmax(gains)) + 1, gains.max()


@mutant("best_question", rejected_with="You swapped the two")
def swaps_number_and_gain(labels, features):
    gains = _gains(labels, features)
    return gains.max(), int(np.argmax(gains))


@mutant("best_question", rejected_with="only at the examples that say yes")
def looks_at_yes_only(labels, features):
    best = int(np.argmax(_gains(labels, features)))
    yes = labels[features[:, best]]
    return best, _before(labels) - _entropy(np.bincount(yes) / len(yes))


@mutant("best_question", rejected_with="return the first")
def takes_the_last_of_equals(labels, features):
    gains = _gains(labels, features)
    return len(gains) - 1 - int(np.argmax(gains[::-1])), gains.max()
