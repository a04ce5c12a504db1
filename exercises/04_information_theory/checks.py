"""Checks of the exercises on information theory; the inputs are drawn anew from each seed."""

import warnings
from fractions import Fraction
from functools import partial
from numbers import Real

import numpy as np

from lmcore.checking import Tasks, require, same

tasks = Tasks()
check = tasks.check
_same = partial(same, rtol=1e-9, atol=1e-9)

LOG2 = np.log(2)


def _number(got):
    """Require that an answer is one number."""
    one = isinstance(got, Real) or (isinstance(got, np.ndarray) and got.shape == () and got.dtype.kind in "iuf")
    require(one, f"Return one number, got {type(got).__name__} {got}.")
    return got


def _pair(got, first, second):
    """Require that an answer is a pair."""
    require(isinstance(got, tuple) and len(got) == 2, f"Return two things, {first} and {second}, separated by a comma.")
    return got


def _probabilities(rng, n):
    """Uneven probabilities above zero, without ties."""
    p = rng.uniform(0.05, 1, size=n) ** 2
    return p / p.sum()


def _entropy(p):
    """Entropy in bits."""
    p = np.asarray(p, dtype=float)
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


@tasks.add(points=1, minutes=5)
def entropy_bits(student, rng):
    """Entropy, also of what never happens."""
    p = _probabilities(rng, 7)
    expected = _entropy(p)
    got = _number(student(p))
    require(not _same(got, -expected), "Your entropy is negative: log p is below zero, so a minus sign belongs before.")
    require(not _same(got, expected * LOG2), "That is the entropy in nats: the natural logarithm. Bits need log2.")
    require(not _same(got, -np.log2(p).sum()), "You added the surprises; weigh each with its probability.")
    require(not _same(got, -np.log2(p).mean()), "You averaged all surprises alike; weigh each with its probability.")
    require(not _same(got, 2**expected), "That is 2 to the entropy, the perplexity.")
    require(
        _same(got, expected) or not np.isclose(got, expected, rtol=0, atol=1e-3),
        "Nearly right: do not add a small number before the logarithm (or round); leave the zeros out instead.",
    )
    require(_same(got, expected), f"Expected {expected:.6f} bits for {p.round(3)}, got {got}.")
    holes = np.insert(p, [0, 3, 7], 0.0)
    with np.errstate(all="ignore"):
        got = _number(student(holes))
    require(not np.isnan(got), "A probability of zero gave 'not a number': 0 · log 0 counts as 0, so leave it out.")
    require(_same(got, expected), f"Zero probabilities must change nothing: expected {expected:.9f}, got {got:.9f}.")
    got = student(np.array([1.0, 0.0]))
    require(_same(got, 0), f"What is certain has entropy 0, got {got}.")
    require(
        got == 0,
        f"What is certain has entropy 0 exactly, got {got}: however small a number you add before the logarithm, the "
        "result is off. Leave the zeros out instead.",
    )


@tasks.add(points=2, minutes=10)
def wasted_bits(student, rng):
    """The cost of a wrong belief."""
    p, q = _probabilities(rng, 5), _probabilities(rng, 5)
    expected = float((p * np.log2(p / q)).sum())
    got = _number(student(p, q))
    require(
        not _same(got, (q * np.log2(q / p)).sum()),
        "You swapped the two: the outcomes come from p, so p must do the weighing, and D(p‖q) is not D(q‖p).",
    )
    require(not _same(got, expected * LOG2), "That is in nats; bits need log2.")
    require(not _same(got, -expected), "The sign is wrong: a divergence is never negative.")
    require(
        not _same(got, -(p * np.log2(q)).sum()),
        "That is the cross-entropy, all that an outcome costs; subtract what the best code costs, the entropy of p.",
    )
    require(
        not _same(got, _entropy(q) - _entropy(p)),
        "You subtracted the entropies: the outcomes still come from p, not q.",
    )
    require(_same(got, expected), f"Expected {expected:.6f} bits for p = {p.round(3)} and q = {q.round(3)}, got {got}.")
    holes_p, holes_q = np.insert(p, [1, 4], 0.0), np.insert(q * 0.75, [1, 4], [0.25, 0.0])
    expected = float((p * np.log2(p / (q * 0.75))).sum())
    with np.errstate(all="ignore"):
        got = student(holes_p, holes_q)
    require(not np.isnan(got), "Zeros gave 'not a number': what never happens (p = 0) costs nothing, whatever q is.")
    require(np.isfinite(got), "Infinite although only p is zero there: what never happens costs nothing.")
    require(_same(got, expected), f"With zeros in p expected {expected:.6f}, got {got}.")
    impossible = np.array([0.0, *q[:-1] / q[:-1].sum()])
    with np.errstate(all="ignore"):
        got = student(p, impossible)
    require(
        not np.isnan(got) and got == np.inf,
        f"q is zero for an outcome that happens: its code word would be infinitely long. Expected inf, got {got}.",
    )


@tasks.add(points=2, minutes=10)
def judge_code(student, rng):
    """Kraft's sum and the prefix property."""

    def ask(words):
        kraft, free = _pair(student(list(words)), "Kraft's sum", "whether the code is prefix-free")
        lengths = np.array([len(word) for word in words])
        require(not _same(kraft, lengths.sum()), "You summed the lengths; Kraft's sum is of 2 to the minus length.")
        if not _same((2.0**lengths).sum(), (2.0**-lengths).sum()):
            require(not _same(kraft, (2.0**lengths).sum()), "The exponent lacks its minus: long words spend little.")
        require(_same(kraft, (2.0**-lengths).sum()), f"Kraft's sum of {words} is {(2.0**-lengths).sum()}, got {kraft}.")
        require(free in (True, False), f"The second thing should be True or False, got {free}.")
        return bool(free)

    fixed = [f"{number:03b}" for number in rng.choice(8, size=5, replace=False)]
    require(ask(fixed), f"{fixed} is prefix-free. A word begins itself; that does not count.")
    inside = ["010", "10", "1101" if rng.random() < 0.5 else "1100"]
    require(
        ask(inside), f"{inside} is prefix-free: a word may occur inside or at the end of another, not at its start."
    )
    depth = int(rng.integers(3, 6))
    good = ["1" * i + "0" for i in range(depth)] + ["1" * depth]  # 0, 10, 110, …, 11…1
    flip = str.maketrans("01", "10") if rng.random() < 0.5 else {}
    good = [good[i].translate(flip) for i in rng.permutation(len(good))]
    require(ask(good), f"{good} is prefix-free: no word begins another one.")
    short = "".join(rng.choice(["0", "1"], size=2))
    other = short.translate(str.maketrans("01", "10"))
    loose = [short, short + "0101", other + "0110"]
    require(
        not ask(loose),
        f"{loose} has a Kraft sum below 1, and is not prefix-free all the same: the first word begins the second. "
        "Kraft says that some code with such lengths is possible, not that this is one.",
    )
    backwards = [short + "0101", other + "01101", short]
    require(not ask(backwards), f"In {backwards} the last word begins the first: compare all pairs, in both orders.")
    between = [short + "0101", other + "0", short]
    require(
        not ask(between),
        f"In {between} the shortest word begins the longest, though a word of another length comes between them when "
        "they are sorted by length: do not compare only neighbours.",
    )
    one, zero = short[0], other[0]
    middle = [one, zero + "0", zero + "01" + short]
    require(
        not ask(middle),
        f"In {middle} the second word begins the third: not only the shortest of all can begin another one.",
    )
    twins = [short, other + "0", short]
    require(not ask(twins), f"{twins} has a word twice, and a reader could not tell the two symbols apart.")


def _huffman(p, pick=lambda weights: sorted(weights)):
    """Sum of the merged weights."""
    weights, cost = list(pick(p)), 0.0
    while len(weights) > 1:
        merged = weights[0] + weights[1]
        cost, weights = cost + merged, list(pick([*weights[2:], merged]))
    return cost


@tasks.add(points=3, minutes=15)
def huffman_cost(student, rng):
    """The average length of Huffman's words."""
    for n in (5, 7, 11):
        # Two nearly equal groups, so that a merged pair must take its place among the others.
        p = rng.uniform(0.9, 1.1, size=n)
        p[: n // 3] *= 6
        p = rng.permutation(p / p.sum())
        expected = _huffman(p)
        got = _number(student(p))
        wrong = (
            (
                _entropy(p),
                "That is the entropy, which no prefix-free code beats; Huffman's words of whole lengths cost more.",
            ),
            ((p * np.ceil(-np.log2(p))).sum(), "You rounded up each −log2 p; merging the rarest two is never worse."),
            (np.ceil(np.log2(n)), "Those are words of equal length."),
            (expected - 1, "The last merge is missing: it joins all symbols, has weight 1, and adds a bit to each."),
            (_huffman(p, lambda weights: sorted(weights, reverse=True)), "You merged the two most frequent symbols."),
            (
                _huffman(sorted(p), list),
                "You put merged symbols at the end without sorting again: a merged pair competes by its weight.",
            ),
            (
                _chain(p),
                "You merged everything into one growing heap. A merged pair has no right to be merged next: take the "
                "two smallest of all.",
            ),
            (expected * n, "You multiplied by the number of symbols; the merged weights already are an average."),
            (expected / n, "You divided by the number of symbols; the merged weights already are an average."),
        )
        for value, message in wrong:
            require(_same(value, expected) or not _same(got, value), message)
        require(_same(got, expected), f"Expected {expected:.6f} bits for {p.round(3)}, got {got}.")
    got = student(np.array([0.99, 0.01]))
    require(_same(got, 1), f"Of two symbols each has a word of one bit, however rare one is; got {got}.")


def _chain(p):
    """Cost when the merged pair is always merged again."""
    heap, *others = sorted(p)
    cost = 0.0
    for weight in others:
        heap += weight
        cost += heap
    return cost


@tasks.add(points=3, minutes=15)
def message_interval(student, rng):
    """The interval of a message under a model with a history."""
    letters = "abc"
    tables = {}

    def model(history):
        # Shares, and their order, depend on the whole history: a table for each one that is asked for.
        require(isinstance(history, str), f"model takes the symbols so far as a string, got {history!r}.")
        key = sum(ord(c) * 31**i for i, c in enumerate(history)) * 7919 + len(history)
        own = np.random.default_rng([seed, key])
        weights = own.integers(1, 9, size=3).tolist()
        order = own.permutation(list(letters)).tolist()
        tables[history] = {c: Fraction(w, sum(weights)) for c, w in zip(order, weights, strict=True)}
        return dict(tables[history])

    seed = int(rng.integers(2**31))
    for n in (60, 1, 2, 5):  # the long one first: there no mistake looks like another
        message = "c" + "".join(rng.choice(list(letters), size=n - 1)) if n > 1 else "b"
        expected = _interval(message, model)
        low, length = _pair(student(message, model), "the start", "the length")
        exact = isinstance(low, Fraction | int) and isinstance(length, Fraction | int)
        require(exact, f"Floats run out of digits in a long message: keep fractions. Got {type(low).__name__}.")
        wrong = (
            (
                _interval(message, lambda history: model(""))[0],
                "You asked the model only once; its shares change with the history.",
            ),
            (
                _interval(message, model, after=True)[0],
                "You asked the model with a history that holds the symbol to be coded already; the decoder does not "
                "know it yet.",
            ),
            (
                _interval(message, model, window=1)[0],
                "You gave the model only the last symbol; the history is everything so far.",
            ),
            (
                _interval(message, model, inclusive=True)[0],
                "You stepped over the symbol itself; step over the symbols that stand before it.",
            ),
            (
                _interval(message, lambda history: dict(sorted(model(history).items())))[0],
                "You laid the shares side by side in alphabetical order; they lie in the dictionary's order.",
            ),
            (sum(expected), "The first thing is the interval's end; return where it starts."),
            (
                _unscaled(message, model),
                "The part below the symbol must be scaled by the length of the interval so far before it is added.",
            ),
        )
        for value, looks_like in wrong:
            require(value == expected[0] or low != value, looks_like)
        both_ends = length == sum(expected) != expected[1]
        require(not both_ends, "The second thing is the interval's end; return its length.")
        require(
            (low, length) == expected,
            f"Wrong for {message!r}: expected start {float(expected[0]):.6f} and length {float(expected[1]):.3g}, got "
            f"{float(low):.6f} and {float(length):.3g}.",
        )
    low, length = _pair(student("", model), "the start", "the length")
    require(
        (low, length) == (0, 1), f"The empty message has the whole interval, start 0 and length 1; got {low}, {length}."
    )


def _interval(message, model, *, after=False, window=None, inclusive=False):
    """The interval; with the given mistakes."""
    low, length = Fraction(0), Fraction(1)
    for i, symbol in enumerate(message):
        history = message[: i + 1] if after else message[:i]
        shares = model(history[-window:] if window else history)
        order = list(shares)
        low += length * sum((shares[c] for c in order[: order.index(symbol) + inclusive]), Fraction(0))
        length *= shares[symbol]
    return low, length


def _unscaled(message, model):
    """Where the interval would start if parts were added without scaling."""
    low = Fraction(0)
    for i, symbol in enumerate(message):
        shares = model(message[:i])
        order = list(shares)
        low += sum((shares[c] for c in order[: order.index(symbol)]), Fraction(0))
    return low


@tasks.add(points=3, minutes=15)
def corrected_information(student, rng):
    """Mutual information without its bias."""
    table = rng.integers(1, 9, size=(5, 7))
    table[:, 2] = table[3] = 0  # an empty column and an empty row
    table[0, 0] = table[1, 1] = 0
    table[4, 4] = 30
    N = table.sum()
    x, y = table.sum(axis=1), table.sum(axis=0)
    plug_in = _entropy(x / N) + _entropy(y / N) - _entropy(table / N)
    seen = [np.count_nonzero(counts) - 1 for counts in (x, y, table)]
    nats = 1 / (2 * N)
    expected = plug_in + (seen[0] + seen[1] - seen[2]) * nats / LOG2
    with np.errstate(all="ignore"):
        got = _number(student(table))
    wrong = (
        (plug_in, "That is the plug-in estimate; the corrections are missing."),
        (expected * LOG2, "That is in nats; the answer is wanted in bits."),
        (
            plug_in + (seen[0] + seen[1] - seen[2]) * nats,
            "(m − 1)/2N is in nats: convert it to bits before you add it.",
        ),
        (
            plug_in + (seen[0] + seen[1] - seen[2]) * nats * LOG2,
            "You multiplied (m − 1)/2N by log 2; a nat is more than a bit, so divide by it.",
        ),
        (
            plug_in - (seen[0] + seen[1] - seen[2]) * nats / LOG2,
            "The sign of the correction is wrong: each of the three entropies grows by it.",
        ),
        (
            plug_in + (4 + 6 - 34) * nats / LOG2,
            "You counted outcomes that were never observed: m counts rows, columns and fields with a count above zero.",
        ),
        (plug_in + (seen[0] + seen[1]) * nats / LOG2, "The entropy of the pairs needs its correction, too."),
        (plug_in - seen[2] * nats / LOG2, "The entropies of X and Y need their corrections, too."),
        (plug_in + (seen[0] + seen[1] - seen[2] + 1) * nats / LOG2, "Each correction is (m − 1)/2N, not m/2N."),
        (-plug_in, "The sign is wrong: H(X) + H(Y) − H(X, Y)."),
        (-expected, "The sign is wrong: H(X) + H(Y) − H(X, Y)."),
    )
    require(not np.isnan(got), "Empty fields gave 'not a number': 0 · log 0 counts as 0.")
    for value, message in wrong:
        require(not _same(got, value), message)
    require(_same(got, expected), f"Expected {expected:.6f} bits, got {got}.")
    # Independent features in a small sample: the corrected value falls below zero about as often as above.
    table = np.array([[3, 3], [3, 3]]) * int(rng.integers(1, 5))
    got = student(table)
    expected = -1 / (2 * table.sum()) / LOG2
    require(not _same(got, 0), "Leave a negative result as it is: cut off at zero, the average would be biased again.")
    require(_same(got, expected), f"Expected {expected:.6f} bits for the even table {table.tolist()}, got {got}.")


def _gain(labels, answer, weigh=True):
    """Information gain in bits; or with the parts' entropies averaged alike."""
    parts = [labels[answer], labels[~answer]]
    shares = [len(part) / len(labels) if weigh else 0.5 for part in parts]
    entropies = [_entropy(np.bincount(part) / len(part)) if len(part) else 0.0 for part in parts]
    return _entropy(np.bincount(labels) / len(labels)) - float(np.dot(shares, entropies))


@tasks.add(points=4, minutes=25)
def best_question(student, rng):
    """The first question of a decision tree."""
    n = 240
    labels = rng.permutation(np.arange(n) % 3)
    features = np.zeros((n, 7), dtype=bool)
    features[:, 0] = rng.random(n) < 0.9  # the most frequent answer, and worth nothing
    features[:, 1] = True  # the same answer by all
    features[:, 3] = labels == 0  # the best: tells one class exactly
    features[:, 3] ^= rng.random(n) < 0.08  # or nearly
    features[np.flatnonzero(labels == 1)[:4], 4] = True  # certain, but rare
    features[:, 5] = rng.random(n) < np.where(labels == 2, 0.7, 0.2)
    features[:, 6] = rng.random(n) < 0.5
    order = rng.permutation(7)
    features = features[:, order]
    gains = [_gain(labels, answer) for answer in features.T]
    best = int(np.argmax(gains))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        got, gain = _pair(student(labels, features), "the number of the question", "its gain")
    whole = isinstance(got, int | np.integer) and not isinstance(got, bool)
    require(whole or not isinstance(gain, int | np.integer), "You swapped the two: first the number, then the gain.")
    require(whole, f"The number of a question is a whole number, got {type(got).__name__} {got}.")
    _number(gain)
    require(not np.isnan(gain), "A question that all answer alike leaves an empty part, and 0/0 gave 'not a number'.")
    warned = [str(warning.message) for warning in warned if issubclass(warning.category, RuntimeWarning)]
    require(not warned, f"Your code warned: {warned[:1]}. Do not divide by, or take the logarithm of, nothing.")
    shifted = got == best + 1 and _same(gain, gains[best])
    require(not shifted, f"Questions are numbered from 0: the best is column {best}, not {got}.")
    require(0 <= got < len(order), f"There are the questions 0 to {len(order) - 1}, got {got}.")
    require(order[got] != 0, "You took the question with the most yes; an answer that everybody gives tells nothing.")
    unweighted = [_gain(labels, answer, weigh=False) for answer in features.T]
    require(
        not _same(gain, max(unweighted)) or _same(max(unweighted), max(gains)),
        "You averaged the entropies of the two parts alike; weigh each with its share of the examples.",
    )
    left = _entropy(np.bincount(labels) / n) - gains[best]
    require(
        not _same(gain, left), "That is the entropy that is left after the question; the gain is what it takes away."
    )
    require(
        got == best, f"The best question is number {best} with {gains[best]:.4f} bits, not {got} with {gains[got]:.4f}."
    )
    require(not _same(gain, gains[best] * LOG2), "The gain is in nats; bits need log2.")
    yes = _entropy(np.bincount(labels) / n) - _entropy(np.bincount(labels[features[:, best]]) / features[:, best].sum())
    require(not _same(gain, yes), "You looked only at the examples that say yes; those that say no count as well.")
    require(_same(gain, gains[best]), f"The gain of question {best} is {gains[best]:.6f} bits, got {gain}.")
    # No certainty counts by itself: the rare certain answer against a frequent good one; and ties go to the first.
    twice = np.column_stack([features[:, best], features[:, best]])
    got, _ = _pair(student(labels, twice), "the number of the question", "its gain")
    require(got == 0, f"Two questions are equally good: return the first, 0, not {got}.")
