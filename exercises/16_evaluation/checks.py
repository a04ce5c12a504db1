"""Checks of the exercises on evaluation; the inputs are drawn anew from each seed."""

from collections import Counter
from functools import partial
from itertools import product
from numbers import Real

import numpy as np

from lmcore.checking import Tasks, require, same

tasks = Tasks()
check = tasks.check
_same = partial(same, rtol=1e-5, atol=1e-9)


def _number(got):
    """Require that an answer is one number."""
    one = isinstance(got, Real) or (isinstance(got, np.ndarray) and got.shape == () and got.dtype.kind in "iuf")
    require(one, f"Return one number, got {type(got).__name__} {got}.")
    return got


def _several(got, *names):
    """Require that an answer is so many numbers."""
    listed = f"{', '.join(names[:-1])} and {names[-1]}"
    require(isinstance(got, (tuple, list, np.ndarray)) and len(got) == len(names), f"Return {listed}, in this order.")
    return [_number(value) for value in got]


def _differs(got, wrong):
    """Reject an answer that is one of the wrong ones, each with its message."""
    for value, message in wrong:
        require(not _same(got, value), message)


def _apart(*values):
    """Whether all numbers differ clearly, so that each wrong answer gets its own message."""
    ordered = np.sort(values)
    return (np.diff(ordered) > 1e-3 * ordered[1:]).all()


@tasks.add(points=1, minutes=5)
def f1(student, rng):
    """F1 from three counts."""
    fp, fn = rng.choice(np.arange(2, 30), size=2, replace=False).tolist()
    tp = int(rng.integers(31, 60))
    p, r = tp / (tp + fp), tp / (tp + fn)
    got, expected = _number(student(tp, fp, fn)), 2 * p * r / (p + r)
    _differs(
        got,
        [
            ((p + r) / 2, "That is the arithmetic mean of precision and recall; F1 is their harmonic mean."),
            (np.sqrt(p * r), "That is the geometric mean of precision and recall; F1 is their harmonic mean."),
            (tp / (tp + fp + fn), "You divided TP by TP + FP + FN; in F1 the hits count twice, above and below."),
            (p, "That is the precision alone."),
            (r, "That is the recall alone."),
            (100 * expected, "Return a share between 0 and 1, not percent."),
        ],
    )
    require(_same(got, expected), f"For TP {tp}, FP {fp}, FN {fn} expected {expected:.6f}, got {got}.")
    try:
        got = _number(student(0, 0, fn))
    except ZeroDivisionError:
        got = np.nan
    require(
        not np.isnan(got),
        "A class that was never predicted: its precision is 0/0, but F1 = 2 TP / (2 TP + FP + FN) is a plain 0.",
    )
    require(_same(got, 0), f"A class that was missed {fn} times and never predicted has F1 = 0, got {got}.")
    require(_same(_number(student(0, fp, fn)), 0), "Without a hit F1 is 0.")
    try:
        got = _number(student(0, 0, 0))
    except ZeroDivisionError:
        got = 0.0
    require(
        np.isnan(got), "A class that neither occurs nor was predicted has no F1: return nan, not a number, for 0/0."
    )


def _f1s(table):
    """F1 of each class of a confusion matrix."""
    return 2 * np.diag(table) / (table.sum(axis=0) + table.sum(axis=1))


@tasks.add(points=2, minutes=15)
def macro_and_micro(student, rng):
    """Two averages of F1 from a confusion matrix."""
    for _ in range(500):
        table = rng.integers(1, 9, size=(4, 4)) * np.array([[1], [4], [2], [7]])
        table[np.diag_indices(4)] += rng.integers(5, 40, size=4)
        each = _f1s(table)
        macro, micro = each.mean(), np.trace(table) / table.sum()
        p, r = np.diag(table) / table.sum(axis=0), np.diag(table) / table.sum(axis=1)
        of_means = 2 * p.mean() * r.mean() / (p.mean() + r.mean())
        weighted = (each * table.sum(axis=1)).sum() / table.sum()
        if _apart(macro, micro, of_means, weighted, p.mean(), r.mean()):
            break
    got = _several(student(table.copy()), "macro F1", "micro F1")
    require(not (_same(got[0], micro) and _same(got[1], macro)), "Right numbers, wrong order: first macro, then micro.")
    _differs(
        got[0],
        [
            (
                of_means,
                "You averaged precision and recall first; macro F1 is the mean of the classes' F1.",
            ),
            (
                weighted,
                "That is the weighted average; for macro every class counts alike, however rare.",
            ),
            (r.mean(), "That is the mean recall, not the mean F1."),
            (p.mean(), "That is the mean precision, not the mean F1."),
        ],
    )
    require(_same(got[0], macro), f"Macro F1 of\n{table}\nis {macro:.6f}, got {got[0]}.")
    _differs(
        got[1],
        [
            (
                np.trace(table) / (2 * table.sum() - np.trace(table)),
                "For micro F1 each wrong answer is one FP and one FN: divide 2 TP by 2 TP + FP + FN.",
            ),
            (r.mean(), "That is the mean recall of the classes; micro adds up all counts before it divides."),
        ],
    )
    require(_same(got[1], micro), f"Micro F1 of\n{table}\nis {micro:.6f}, got {got[1]}.")
    table[:, 2] = 0  # never predicted
    each = _f1s(table)
    with np.errstate(all="ignore"):
        got = _several(student(table.copy()), "macro F1", "micro F1")
    require(
        not np.isnan(got[0]),
        "One class was never predicted, and your macro F1 is not a number: its precision is 0/0, its F1 is 0.",
    )
    require(
        not _same(got[0], np.delete(each, 2).mean()),
        "You left the class that was never predicted out of the macro average; its F1 is 0, and it counts.",
    )
    require(_same(got[0], each.mean()), f"With a class never predicted, macro F1 is {each.mean():.6f}, got {got[0]}.")


@tasks.add(points=2, minutes=10)
def perplexity_per_word(student, rng):
    """Perplexity of words from the log-probabilities of other tokens."""
    for _ in range(500):
        n_words = int(rng.integers(5, 9))
        logprobs = np.log(rng.uniform(0.05, 0.9, size=n_words + int(rng.integers(7, 20))))
        total, n_tokens = -logprobs.sum(), len(logprobs)
        expected, per_token = np.exp(total / n_words), np.exp(total / n_tokens)
        nats = total / n_words
        wrong = [
            (per_token, "That is the perplexity per token; spread the total surprise over the words."),
            (np.exp(-nats), "The sign is wrong: a surprise is minus the log-probability."),
            (nats, "Those are nats per word; perplexity is the exponential of them."),
            (nats / np.log(2), "Those are bits per word; perplexity is 2 to that."),
            (2**nats, "The log-probabilities are natural ones, so raise e, not 2, to their mean."),
            (
                per_token ** (n_words / n_tokens),
                "Upside down: a word has several tokens, so per word the perplexity is higher than per token.",
            ),
            (
                per_token * n_tokens / n_words,
                "Perplexities do not scale like lengths: it is the surprise, their logarithm, that adds up.",
            ),
        ]
        if _apart(expected, *(value for value, _ in wrong)):
            break
    got = _number(student(logprobs.copy(), n_words))
    _differs(got, wrong)
    require(_same(got, expected), f"Expected {expected:.6f}, got {got}.")
    require(_same(student(logprobs.tolist(), n_words), expected), "Take a plain list of numbers as well as an array.")


def _grams(tokens, n):
    """Count n-grams."""
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def _clipped(hypothesis, references, n):
    """Matches, clipped by the most that one reference has."""
    allowed = Counter()
    for reference in references:
        allowed |= _grams(reference, n)
    return (_grams(hypothesis, n) & allowed).total()


@tasks.add(points=2, minutes=15)
def clipped_precision(student, rng):
    """The precision inside BLEU, with several references."""
    a, b, c, d, e, f = rng.permutation(["the", "cat", "sat", "on", "mat", "dog", "ran"])[:6].tolist()
    hypothesis = [[a, a, a, a, b, b, c, d, f][i] for i in rng.permutation(9)]
    references = [[a, c, e, e, e], [a, a, b, b, e, e]]  # allow a twice, b twice, c once
    got = _number(student(list(hypothesis), [list(r) for r in references], 1))
    recalls = [(5 / n, "You divided by the length of the reference: that is a recall.") for n in (5, 6, 11)]
    single = "You looked at one reference at a time; an n-gram may be found in any of them."
    _differs(
        got,
        [
            (7 / 9, "You did not clip: an n-gram counts as found at most as often as one reference has it."),
            (6 / 9, "You added up the references' counts; clip by the most that a single reference has."),
            (3 / 5, "You counted different n-grams; each occurrence counts, up to what a reference allows."),
            (3 / 9, "You counted different n-grams; each occurrence counts, up to what a reference allows."),
            (2 / 9, single),
            (4 / 9, single),
            (5, "Return the share: the matches divided by the n-grams of the hypothesis."),
            *recalls,
        ],
    )
    expected = _clipped(hypothesis, references, 1) / 9
    require(_same(got, expected), f"1-grams of {hypothesis} against {references}: expected {expected:.4f}, got {got}.")
    hypothesis, references = [a, b, c, d], [[a, b], [c, d]]
    got = _number(student(list(hypothesis), [list(r) for r in references], 2))
    require(
        not _same(got, 1),
        f"You joined the references: the pair {(b, c)} stands in neither of {references}, only across their border.",
    )
    require(not _same(got, 2 / 4), "You divided by the number of tokens; four tokens have three pairs.")
    require(_same(got, 2 / 3), f"2-grams of {hypothesis} against {references}: expected 0.6667, got {got}.")
    try:
        got = _number(student([a, b], [[a, b, c]], 3))
    except ZeroDivisionError:
        got = np.nan
    require(_same(got, 0), f"Two tokens have no 3-gram at all: return 0, got {got}.")


@tasks.add(points=2, minutes=15)
def brevity_penalty(student, rng):
    """BP of a corpus with several references."""
    for _ in range(2000):
        hypotheses = rng.integers(6, 15, size=5)
        references = [sorted(rng.choice(np.arange(5, 24), size=2, replace=False).tolist()) for _ in hypotheses]
        low, high = (hypotheses[0] - 2, hypotheses[0] + 2)
        references[0] = [int(high), int(low)]  # equally near
        nearest = [min((abs(n - h), n) for n in pair)[1] for h, pair in zip(hypotheses, references, strict=True)]
        c, r = hypotheses.sum(), sum(nearest)
        longer = r - low + high
        each = np.mean([min(1, np.exp(1 - n / h)) for h, n in zip(hypotheses, nearest, strict=True)])
        most, least, mean = (sum(f(pair) for pair in references) for f in (max, min, np.mean))
        capped = [1 if total <= c else np.exp(1 - total / c) for total in (r, longer, most, least, mean)]
        values = np.array([*capped, each, np.exp(1 - c / r), c / r])
        if c < r and least != r and (abs(values[:, None] - values)[np.triu_indices(8, 1)] > 1e-4).all():
            break
    got = _number(student(hypotheses.tolist(), [list(pair) for pair in references]))
    _differs(
        got,
        [
            (values[5], "You averaged the sentences' penalties; add up the lengths of the corpus first."),
            (values[6], "Upside down: the exponent is 1 − r/c, with the reference length above."),
            (values[7], "That is the ratio of the lengths; the penalty is its exponential form, exp(1 − r/c)."),
            (values[3], "You took the shortest reference of each sentence; the nearest in length counts."),
            (values[2], "You took the longest reference of each sentence; the nearest in length counts."),
            (values[4], "You took the references' mean length; the nearest in length counts."),
            (values[1], "Of two references that are equally near, the shorter one counts."),
        ],
    )
    require(_same(got, capped[0]), f"c = {c}, r = {r}: expected {capped[0]:.6f}, got {got}.")
    got = _number(student([12, 9], [[10, 4], [8]]))
    require(got <= 1, f"Longer than the references: the penalty is 1, never a reward; got {got}.")
    require(_same(got, 1), f"Longer than the references: the penalty is 1, got {got}.")
    got = _number(student([12, 3], [[8], [6]]))
    require(_same(got, 1), f"15 tokens against 14: over the whole corpus nothing is too short, so BP is 1; got {got}.")


def _lcs(a, b):
    """Length of the longest common subsequence."""
    table = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            table[i, j] = table[i - 1, j - 1] + 1 if x == y else max(table[i - 1, j], table[i, j - 1])
    return table[-1, -1]


def _run(a, b):
    """Length of the longest common run without gaps."""
    return max(
        (k for i in range(len(a)) for k in range(len(a) - i + 1) if tuple(a[i : i + k]) in _grams(b, k)), default=0
    )


def _greedy(a, b):
    """Common words found by always taking the next place."""
    position = found = 0
    for token in a:
        if token in b[position:]:
            position, found = b.index(token, position) + 1, found + 1
    return found


@tasks.add(points=3, minutes=20)
def rouge_l(student, rng):
    """Precision, recall and F1 of the longest common subsequence."""
    for _ in range(500):
        hypothesis, reference = (rng.choice(list("abcdefg"), size=n).tolist() for n in (9, 13))
        common = _lcs(hypothesis, reference)
        bag = (Counter(hypothesis) & Counter(reference)).total()
        others = _run(hypothesis, reference), _greedy(hypothesis, reference), _greedy(reference, hypothesis), bag
        if len({common, others[0], others[1], bag}) == 4 and common not in others:
            break
    p, r = common / 9, common / 13
    got = _several(student(list(hypothesis), list(reference)), "precision", "recall", "F1")
    require(
        not (_same(got[0], r) and _same(got[1], p)), "Precision divides by the hypothesis, recall by the reference."
    )
    _differs(
        got[0],
        [
            (others[0] / 9, "You took the longest common run; a subsequence may have gaps."),
            (
                others[1] / 9,
                "You matched greedily: to take the next equal token can block better ones. Fill the table.",
            ),
            (
                others[2] / 9,
                "You matched greedily: to take the next equal token can block better ones. Fill the table.",
            ),
            (bag / 9, "You counted common words in any order; a subsequence keeps the order."),
            (common, "Return shares: divide the common length by the lengths of the texts."),
        ],
    )
    require(
        _same(got[0], p) and _same(got[1], r),
        f"{hypothesis} and {reference} have {common} in common: expected {p:.4f} and {r:.4f}, got {got[0]}, {got[1]}.",
    )
    require(not _same(got[2], (p + r) / 2), "F1 is the harmonic mean of precision and recall, not the arithmetic one.")
    require(_same(got[2], 2 * p * r / (p + r)), f"F1 should be {2 * p * r / (p + r):.4f}, got {got[2]}.")
    for pair in ((["a", "b"], ["c"]), ([], ["c"])):
        try:
            with np.errstate(all="ignore"):
                got = _several(student(*pair), "precision", "recall", "F1")
        except ZeroDivisionError:
            got = [np.nan]
        require(all(_same(value, 0) for value in got), f"Nothing in common in {pair}: all three are 0, got {got}.")


def _unit(x):
    """The rows of x at length 1."""
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _each_once(cosines):
    """Sum of the cosines of pairs, the best first, in which no token stands twice."""
    left, total = cosines.copy(), 0.0
    while np.isfinite(left).any():
        i, j = np.unravel_index(left.argmax(), left.shape)
        total += left[i, j]
        left[i], left[:, j] = -np.inf, -np.inf
    return total


@tasks.add(points=2, minutes=15)
def bertscore(student, rng):
    """Greedy matching of token vectors."""
    for _ in range(500):
        meaning = rng.uniform(0.5, 2, size=(3, 4)) * np.eye(3, 4) * 3  # three words, and tokens that are near them
        h = (meaning[[0, 0, 1, 2, 1]] + rng.normal(size=(5, 4))) * rng.uniform(0.3, 3, size=(5, 1))
        r = (meaning[[0, 1, 2]] + rng.normal(size=(3, 4))) * rng.uniform(0.3, 3, size=(3, 1))
        c, dots, once = _unit(h) @ _unit(r).T, h @ r.T, _each_once(_unit(h) @ _unit(r).T)
        gaps = np.linalg.norm(_unit(h)[:, None] - _unit(r), axis=2)
        precision, recall = c.max(axis=1).mean(), c.max(axis=0).mean()
        wrong = [
            (dots.max(axis=1).mean(), "You took plain products: divide each vector by its length, else long ones win."),
            (once / 5, "You let each token be taken once; in greedy matching one may be the partner of several."),
            (once / 3, "You let each token be taken once; in greedy matching one may be the partner of several."),
            (c.mean(), "You averaged over all pairs; each token counts with its most similar partner alone."),
            (c.max(axis=1).sum(), "You added up the tokens' best cosines; precision is their mean."),
            (c.max(axis=1).sum() / 3, "You divided by the tokens of the other text; precision is a mean over its own."),
            (gaps.min(axis=1).mean(), "Those are distances, of which a small one is good; compare by cosines."),
            (
                c.diagonal().mean(),
                "You paired tokens by their places; each takes its most similar, wherever it stands.",
            ),
            (c.max(), "That is the best pair alone; precision is a mean over all tokens of the hypothesis."),
        ]
        clear = min(precision, recall) > 0.3 and abs(precision - recall) > 0.1  # or F1 is nearly the plain mean
        if clear and _apart(precision, recall, *(value for value, _ in wrong)):
            break
    got = _several(student(h.copy(), r.copy()), "precision", "recall", "F1")
    require(
        not (_same(got[0], recall) and _same(got[1], precision)),
        "Right numbers, wrong order: precision is the mean over the hypothesis' tokens, recall over the reference's.",
    )
    _differs(got[0], wrong)
    for name, value, answer in (("Precision", precision, got[0]), ("Recall", recall, got[1])):
        require(_same(answer, value), f"{name} from the cosines\n{c.round(3)}\nis {value:.6f}, got {answer}.")
    f1 = 2 * precision * recall / (precision + recall)
    require(
        not _same(got[2], (precision + recall) / 2),
        "F1 is the harmonic mean of precision and recall, not the arithmetic one.",
    )
    require(_same(got[2], f1), f"F1 should be {f1:.6f}, got {got[2]}.")


def _swaps(first, second):
    """Differences of the means under all ways to swap."""
    differences = np.subtract(first, second)
    return np.array([np.mean(differences * signs) for signs in product((1, -1), repeat=len(differences))])


@tasks.add(points=3, minutes=20)
def swap_test(student, rng):
    """The exact p-value of a paired difference."""
    for _ in range(500):
        hard = rng.integers(0, 40, size=7)
        first, second = hard + rng.integers(2, 12, size=7), hard + rng.integers(0, 10, size=7)
        if rng.random() < 0.5:
            first, second = second, first
        observed, all_swaps = np.mean(first) - np.mean(second), _swaps(first, second)
        expected = np.mean(abs(all_swaps) >= abs(observed) - 1e-9)
        above, below = np.mean(all_swaps >= observed - 1e-9), np.mean(all_swaps <= observed + 1e-9)
        strict = np.mean(abs(all_swaps) > abs(observed) + 1e-9)
        if 0.02 < expected < 0.5 and len({round(x, 9) for x in (expected, above, below, strict)}) == 4:
            break
    got = _number(student(first.tolist(), second.tolist()))
    _differs(
        got,
        [
            (above, "You counted one side only; a difference as large in the other direction counts, too."),
            (below, "You counted one side only; a difference as large in the other direction counts, too."),
            (strict, "You counted only larger differences; those just as large count, the observed one among them."),
            (1 - expected, "That is the share of smaller differences; the p-value is the share at least as large."),
            (1 - strict, "That is the share of differences not larger; the p-value is the share at least as large."),
            (expected * 128, "That is the number of ways to swap; divide it by all 2 to the N."),
        ],
    )
    require(
        _same(got, expected),
        f"first {first.tolist()}, second {second.tolist()}: of 128 swaps {round(expected * 128)} give "
        f"a difference at least as large, so p = {expected:.6f}; got {got}. Swap item by item: pairs stay pairs.",
    )
    twin = rng.integers(0, 9, size=5).tolist()
    require(
        _same(_number(student(twin, list(twin))), 1), "A system against itself: every swap is as extreme, so p = 1."
    )
    for signs in ([1, 1, -1, 1], [-1, -1, 1, 1]):
        for _ in range(4):
            differences = rng.permutation(np.array([0.1, 0.2, 0.3, 0.1]) * signs)
            better, worse = np.maximum(differences, 0).tolist(), np.maximum(-differences, 0).tolist()
            got = _number(student(better, worse))
            require(
                _same(got, 1),
                f"first {better}, second {worse}: no way to swap gives a sum nearer to zero than 0.1, so p = 1; got "
                f"{got}. Sums of such numbers are off in the last digit: allow for rounding when you compare.",
            )
