"""Checks of the exercises on probability; the inputs are drawn anew from each seed."""

from functools import partial
from itertools import groupby
from unittest import mock

import numpy as np
from sklearn.naive_bayes import MultinomialNB

from lmcore.checking import CheckFailed, Tasks, require, same
from lmcore.classical.naive_bayes import MultinomialNaiveBayes

tasks = Tasks()
check = tasks.check
_same = partial(same, rtol=1e-6, atol=1e-9)


def _pair(got, first, second):
    """Require that an answer is a pair."""
    pair = len(got) == 2 if isinstance(got, tuple | list) else isinstance(got, np.ndarray) and got.shape[:1] == (2,)
    require(pair, f"Return two things, {first} and {second}, separated by a comma.")
    return got


def _reject(got, expected, mistakes):
    """Refuse a wrong answer that equals the result of a known mistake."""
    if not _same(got, expected):
        for wrong, message in mistakes:
            require(not _same(got, wrong), message)


@tasks.add(points=1, minutes=5)
def expectation_and_variance(student, rng):
    """Expectation and variance of a discrete variable."""
    values, p = rng.integers(2, 20, size=5).astype(float), rng.dirichlet(np.arange(1, 6))
    values[0] += 30  # so that the spread is large, whatever was drawn
    mean = p @ values
    variance = p @ (values - mean) ** 2
    got_mean, got_variance = _pair(student(values, p), "the expectation", "the variance")
    _reject(
        got_mean,
        mean,
        [
            (values.mean(), "Your expectation is the plain mean of the values: weight each with its probability."),
            ((p * values).mean(), "You averaged the products p · x: the probabilities are the weights, so only sum."),
        ],
    )
    require(_same(got_mean, mean), f"The expectation should be {mean:.4f}, got {got_mean}.")
    _reject(
        got_variance,
        variance,
        [
            (np.sqrt(variance), "That is the standard deviation; the variance is its square."),
            (p @ values**2, "That is the expectation of the square: subtract the square of the expectation."),
            (values.var(), "Your variance treats all values as equally probable: weight the squares with p."),
            (np.sum((values - mean) ** 2), "You summed the squared distances without their probabilities."),
            (variance * 5 / 4, "n/(n − 1) is for a variance estimated from draws; here the probabilities are known."),
        ],
    )
    require(_same(got_variance, variance), f"The variance should be {variance:.4f}, got {got_variance}.")


@tasks.add(points=2, minutes=10)
def draw_words(student, rng):
    """Drawing by inverse CDF."""
    p, u = rng.dirichlet(np.full(5, 3.0)), rng.random(301)
    p[[0, -1]] = p[[-1, 0]] if p[0] > p[-1] else p[[0, -1]]  # not sorted downwards
    ends = np.cumsum(p)
    expected = (u[:, None] >= ends[:-1]).sum(axis=1)
    got = np.asarray(student(u, p))
    require(got.shape == u.shape, f"One index for each number of u: the shape should be {u.shape}, got {got.shape}.")
    order = np.argsort(-p)
    by_size = order[(u[:, None] >= np.cumsum(p[order])[:-1]).sum(axis=1)]
    _reject(
        got,
        expected,
        [
            (np.full(u.shape, p.argmax()), "You always take the most probable word, whatever u is: that is no draw."),
            (
                np.searchsorted(p, u, side="right").clip(max=4),
                "You compared u with the probabilities themselves; compare it with the ends of the pieces, their "
                "cumulative sums.",
            ),
            (np.searchsorted(p, u, side="right"), "You compared u with the probabilities; add them up first."),
            (4 - expected, "You count the words from the wrong end of the stick."),
            (by_size, "You laid the words in another order: piece number i must belong to word i."),
            (expected + 1, "Your indices start at 1; the first word has index 0."),
            ((expected - 1).clip(0), "Off by one: u belongs to the first piece that ends beyond it."),
            (np.floor(u * 5), "All words get the same share: the pieces are as long as the probabilities."),
        ],
    )
    similar = np.abs(np.bincount(got.astype(int).clip(0, 4), minlength=5) / 301 - p).max() < 0.15
    both = "The shares look right, but these are not the words that u hits: do not draw other random numbers."
    require(_same(got, expected) or not similar, both)
    wrong = np.flatnonzero(got != expected)
    require(
        len(wrong) == 0,
        f"For p = {p.round(3)} the number {u[wrong[:1]].round(3)} hits word {expected[wrong[:1]]}, "
        f"you have {got[wrong[:1]]}.",
    )

    quarter = np.array([0, 1, 2, 0, 1]) / 4  # ends at 0, 1/4, 3/4, 3/4, 1, exactly
    got = np.asarray(student(np.array([0, 0.25, 0.75, 0.5]), quarter))
    require(
        _same(got, [1, 2, 4, 2]),
        f"For p = {quarter} the numbers 0, 0.25, 0.75, 0.5 hit the words 1, 2, 4, 2, but you have {got}: a number that "
        "falls on an end belongs to the next piece of positive length.",
    )
    last = np.nextafter(1, 0)
    got = np.asarray(student(np.array([last]), np.full(10, 0.1)))
    require(
        _same(got, [9]),
        f"Ten times 0.1 adds up to {np.cumsum(np.full(10, 0.1))[-1]}, and u = {last} fell off the stick: you returned "
        f"{got} instead of 9. Let rounding shorten no stick.",
    )
    got = np.asarray(student(np.array([last]), np.append(np.full(10, 0.1), 0)))
    require(
        _same(got, [9]),
        f"Ten times 0.1 and then 0: u = {last} hits word 9, the last of positive length, but you returned {got}. Do "
        "not lengthen the last piece; divide all ends by the last.",
    )


@tasks.add(points=2, minutes=10)
def mean_interval(student, rng):
    """Interval of 1.96 standard errors."""
    n = int(rng.choice([5, 7, 11]))
    x = rng.normal(10, 3, size=n) + rng.exponential(4, size=n)
    mean, s = x.mean(), x.std(ddof=1)
    low, high = (float(end) for end in _pair(student(x), "the lower end", "the upper end"))
    require(low < high, f"The lower end comes first, and they differ: got {low} and {high}.")
    require(np.isclose((low + high) / 2, mean), f"The interval should lie around the mean, {mean:.4f}.")
    half = 1.96 * s / np.sqrt(n)
    if np.isclose((high - low) / 2, half, rtol=1e-4):  # or with 1.959964, as exact as you please
        return
    _reject(
        (high - low) / 2,
        half,
        [
            (1.96 * s, "Standard deviation for standard error: this is where single draws lie, not the mean."),
            (1.96 * x.std() / np.sqrt(n), "Your standard deviation divides by n, too small on average: use n − 1."),
            (1.96 * x.std(), "You took 1.96 standard deviations of the draws, but forgot the root of n (and n − 1)."),
            (1.96 * s / n, "You divided by n; the standard error divides by its root."),
            (s / np.sqrt(n), "That is one standard error on each side, an interval for 68 %; take 1.96."),
            (half / 2, "Your interval has the width of 1.96 standard errors in all; it goes 1.96 to each side."),
            (1.96 * s**2 / np.sqrt(n), "You took the variance where the standard deviation belongs."),
            (1.96 * np.sqrt(s / n), "The root is over the wrong thing: s/√n, not √(s/n)."),
        ],
    )
    raise CheckFailed(f"Expected {mean - half:.4f}, {mean + half:.4f} for {x.round(2)}, got {(low, high)}.")


@tasks.add(points=2, minutes=10)
def posterior(student, rng):
    """Bayes' rule for a whole table."""
    for shape in ((4, 4), (3, 5), (5, 2)):  # the square first: there the mistakes are silent
        prior, likelihood = rng.dirichlet(np.arange(1, shape[0] + 1)), rng.dirichlet(np.ones(shape[1]), size=shape[0])
        joint = prior[:, None] * likelihood
        expected = joint / joint.sum(axis=0)
        got = student(prior, likelihood)
        mistakes = [
            (
                likelihood,
                "That is p(e | k), the condition the wrong way round. (Dividing p(k, e) by the sums of its rows leads "
                "back to it.) For each observation the causes must add up to one.",
            ),
            (joint, "That is the joint probability p(k, e): divide by p(e), the sum over the causes."),
            (
                likelihood / likelihood.sum(axis=0),
                "The prior is without effect: you left it out, or it multiplies the columns and cancels when each is "
                "divided by its sum. It belongs to the rows; make it a column, (K, 1).",
            ),
            (expected.T, "Right numbers in the wrong places: keep causes in rows and observations in columns."),
        ]
        if shape[0] == shape[1]:
            turned = prior * likelihood
            advice = "In a square table broadcasting hides it: the prior belongs to the rows; make it a column, (K, 1)."
            mistakes += [
                (turned / turned.sum(axis=1, keepdims=True), advice),
                (joint / joint.sum(axis=1), "The sums of the rows, lined up with the columns: sum over the causes."),
            ]
        _reject(got, expected, mistakes)
        require(np.shape(got) == shape, f"The result should have the shape {shape}, got {np.shape(got)}.")
        require(
            _same(got, expected),
            f"For each e the causes add up to one; expected {expected.round(3)}, got {got}.",
        )


@tasks.add(points=3, minutes=15)
def error_by_chapter(student, rng):
    """Standard error of an accuracy when chapters are independent."""
    sizes = np.array([2, 3, 5, 8, 13]) + rng.integers(0, 2, size=5)
    number = np.repeat([7, 3, 11, 2, 5], sizes)
    share = np.repeat([*rng.permutation([0.15, 0.4, 0.6, 0.8]), rng.choice([0.0, 1.0])], sizes)
    right = (rng.random(len(number)) < share).astype(float)
    right[[0, 1]] = 0.0, 1.0  # both occur
    mixed = rng.permutation(len(right))
    right, number = right[mixed], number[mixed]
    name = np.array([f"Psalm {i}" for i in number])
    n, a = len(right), right.mean()
    members = [right[number == i] for i in np.unique(number)]
    sums = np.array([(x - a).sum() for x in members])
    expected = np.sqrt((sums**2).sum()) / n
    means = np.array([x.mean() for x in members])
    runs = [sum(x - a for x, _ in run) for _, run in groupby(zip(right, number, strict=True), key=lambda pair: pair[1])]
    got = student(right, number)
    _reject(
        got,
        expected,
        [
            (
                np.sqrt(a * (1 - a) / n),
                "That takes all verses for independent: sum within each chapter first.",
            ),
            (right.std(ddof=1) / np.sqrt(n), "That takes all verses for independent: sum within each chapter first."),
            (
                np.sqrt(np.sum([x.sum() ** 2 for x in members])) / n,
                "You summed right itself: subtract the accuracy from each verse first.",
            ),
            (
                0.0,
                "Zero: all deviations together cancel, and those from a chapter's own mean do within the chapter. Take "
                "them from the overall accuracy, and square each chapter's sum before adding.",
            ),
            (np.abs(sums).sum() / n, "You added the sums' absolute values, as if no two chapters could cancel."),
            ((sums**2).sum() / n, "The root is missing."),
            (np.sqrt((sums**2).sum() / n), "Divide by n after the root, not under it."),
            (
                np.sqrt(np.square(runs).sum()) / n,
                "groupby joins neighbours only, and the verses of a chapter lie scattered: sort by chapter first.",
            ),
            (np.sqrt((sums**2).sum()) / 5, "You divided by the number of chapters; divide by the number of verses."),
            (
                means.std(ddof=1) / np.sqrt(5),
                "You took the spread of the chapters' accuracies, as if all chapters were of one length.",
            ),
            (means.std() / np.sqrt(5), "You took the spread of the chapters' accuracies, as if all had one length."),
        ],
    )
    require(_same(got, expected), f"Expected {expected:.5f}, got {got}.")
    require(_same(student(right, name), expected), "Wrong when the chapters' labels are strings.")
    alone = student(right, np.arange(n))
    require(_same(alone, np.sqrt(a * (1 - a) / n)), f"With one verse in each chapter it is √(a(1 − a)/n), got {alone}.")


def _naive_bayes(counts, labels, new, alpha):
    """The right answer, and what it is made of."""
    kinds = np.unique(labels)
    prior = np.array([np.mean(labels == kind) for kind in kinds])
    seen = np.array([counts[labels == kind].sum(axis=0) for kind in kinds]).astype(float)
    return kinds, prior, seen, _normalised(np.log(prior) + new @ _log_frequencies(seen + alpha).T)


def _log_frequencies(words):
    """Logarithms of each row's shares."""
    return np.log(words / words.sum(axis=1, keepdims=True))


def _normalised(joint):
    """Subtract the log-sum-exp of each row."""
    return joint - np.logaddexp.reduce(joint, axis=1, keepdims=True)


def _problem(rng):
    """Counts, labels and new documents, in which every mistake shows."""
    labels = np.append(["wisdom"], rng.permutation(np.repeat(["law", "gospels", "wisdom"], [7, 2, 3])))
    rates = {kind: rng.gamma(0.7, size=11) * size for kind, size in (("law", 2), ("gospels", 5), ("wisdom", 3))}
    counts = np.array([rng.poisson(rates[kind]) for kind in labels])
    counts[labels == "law", 0], counts[labels == "gospels", 1] = 0, 0
    counts[:, 2] += 1  # no document is empty
    new = rng.integers(0, 4, size=(5, 11))
    new[:, :2] += 1  # words that one kind has not seen
    return counts, labels, new, float(rng.uniform(0.3, 0.8))


@tasks.add(points=5, minutes=25)
def naive_bayes(student, rng):
    """A multinomial naive Bayes classifier."""

    def ask(*args):
        told = "A ready-made classifier may check your answer, but not give it: count yourself."
        banned = mock.Mock(side_effect=CheckFailed(told))
        ours, theirs = (mock.patch.object(model, "fit", banned) for model in (MultinomialNaiveBayes, MultinomialNB))
        with ours, theirs, np.errstate(all="ignore"):
            names, logs = _pair(student(*args), "the kinds", "the log-posteriors")
        require(list(names) == sorted(set(args[1])), f"The kinds, sorted, are {sorted(set(args[1]))}, got {names}.")
        require(np.shape(logs) == (len(args[2]), 3), f"Expected the shape {(len(args[2]), 3)}, got {np.shape(logs)}.")
        return np.asarray(logs, dtype=float)

    counts, labels, new, alpha = _problem(rng)
    _, prior, seen, expected = _naive_bayes(counts, labels, new, alpha)
    words = seen + alpha
    log_p, V = _log_frequencies(words), seen.shape[1]
    got = ask(counts, labels, new, alpha)
    with np.errstate(divide="ignore"):
        bare = _log_frequencies(seen)
    by_words = seen.sum(axis=1) / seen.sum()
    require(np.isfinite(got).all(), "A number is not finite: a word unseen in a kind needs its alpha, in every kind.")
    _reject(
        got,
        expected,
        [
            (np.exp(expected), "These are the probabilities; return their logarithms."),
            (
                np.log(prior) + new @ log_p.T,
                "That is the log-joint: subtract its log-sum-exp, so that each row's exponentials add up to one.",
            ),
            (new @ log_p.T, "That is log p(d | k) alone: the prior is missing, and the normalisation too."),
            (_normalised(new @ log_p.T), "You left out the prior p(k)."),
            (
                _normalised(np.log(by_words) + new @ log_p.T),
                "Your prior is the kinds' share of the words; it should be their share of the documents.",
            ),
            (
                _normalised(np.log(prior) + new @ np.log(words / words.sum(axis=0)).T),
                "You divided by each word's total over the kinds, which gives p(k | w); p(w | k) adds up over words.",
            ),
            (
                _normalised(np.log(prior) + new @ np.log(words / seen.sum(axis=1, keepdims=True)).T),
                "You added alpha above the line only: below it the words' pretended counts add up to alpha · V.",
            ),
            (
                _normalised(np.log(prior) + new @ np.log(words / (seen.sum(axis=1, keepdims=True) + alpha)).T),
                "Below the line you added alpha once; all V words got it, so it is alpha · V.",
            ),
            (
                _normalised(np.log(prior) + new @ _log_frequencies(seen + 1).T),
                "You added 1 whatever alpha is.",
            ),
            (
                _normalised(np.log(prior) + (new > 0) @ log_p.T),
                "You used each word once, however often it occurs: multiply by the new document's counts.",
            ),
            (
                _normalised(np.log(prior) + new @ np.where(seen > 0, bare, 0).T),
                "You skip the words that a kind has not seen, which makes it look good where it should look bad.",
            ),
            (
                _normalised(np.log(prior) + new @ _log_frequencies(np.where(seen > 0, seen, alpha)).T),
                "You gave alpha to unseen words only: every word gets it, seen or not.",
            ),
        ],
    )
    require(
        np.allclose(np.exp(got).sum(axis=1), 1),
        f"The exponentials of a row should add up to one; yours add up to {np.exp(got).sum(axis=1).round(4)}.",
    )
    require(_same(got, expected), f"Expected {expected.round(4)} for V = {V} words, got {got.round(4)}.")

    tall = 10_000 * new
    got = ask(counts, labels, tall, alpha)
    lost = np.isneginf(got).any() and (got <= 0).all()  # no NaN: the largest was subtracted
    require(not lost, "log p = −∞: that is the log of a probability that had become 0. Subtract the log-sum-exp.")
    require(
        np.isfinite(got).all(),
        "A long document gives numbers that are not finite: do not multiply probabilities, nor exponentiate the "
        "log-joint before its largest number is subtracted.",
    )
    require(np.allclose(got, _naive_bayes(counts, labels, tall, alpha)[-1], rtol=1e-6), "Wrong for long documents.")


def _confidence(logits):
    """The mean of each row's largest probability."""
    return np.exp(_normalised(logits)).max(axis=1).mean()


@tasks.add(points=4, minutes=20)
def calibrate(student, rng):
    """The temperature with the least surprise, and the gap that it leaves."""
    temperatures = np.array([0.05, 0.15, 0.6, 1, 1.5, 2.5, 4, 6, 9, 16.5])
    rows, true_T = np.arange(2000), rng.choice([1.5, 2.5])
    logits = rng.normal(0, 2, size=(2000, 4))
    p = np.exp(_normalised(logits))
    truth = (p.cumsum(axis=1) < rng.random((2000, 1))).sum(axis=1).clip(max=3)
    # Far too sure, and most of all in some rows: no temperature undoes that, so each measure makes its own compromise.
    logits *= true_T * np.where(rng.random((2000, 1)) < 0.3, 6, 1)
    logits += rng.normal(-50, 20, size=(2000, 1))  # a row's offset means nothing

    surprise = {T: -_normalised(logits / T)[rows, truth].mean() for T in temperatures}
    best = min(surprise, key=surprise.get)
    confidence = np.exp(_normalised(logits / best))
    accuracy = (logits.argmax(axis=1) == truth).mean()
    gap = confidence.max(axis=1).mean() - accuracy
    with np.errstate(all="ignore"):
        T, got_gap = _pair(student(logits, truth, temperatures), "the temperature", "the gap")
        again = logits - logits.max(axis=1, keepdims=True)
        no_offset = T if _same(T, best) else _pair(student(again, truth, temperatures), "the temperature", "the gap")[0]
    require(
        _same(T, best) or not _same(no_offset, best),
        f"You have {T}, but {best} when the largest number of each row is subtracted before the call: without that, "
        "exponentials overflow, or all become 0. Subtract it yourself.",
    )
    by_product = min(temperatures, key=lambda T: -_normalised(logits * T)[rows, truth].mean())
    by_gap = min(temperatures, key=lambda T: abs(_confidence(logits / T) - accuracy))
    by_squares = min(temperatures, key=lambda T: np.square(np.exp(_normalised(logits / T)) - np.eye(4)[truth]).sum())
    for wrong, message in (
        (by_product, "You multiplied the logits by T: a temperature above 1 should flatten, so divide."),
        (
            temperatures[0],
            "There the classifier is surest of its own answers and most surprised by the true kinds. Compare the mean "
            "of −log p of the true kinds, and take the smallest.",
        ),
        (
            by_gap,
            "There mean confidence comes closest to the accuracy, or the squared error is smallest. The task asks for "
            "the least mean of −log p, which punishes sure mistakes more.",
        ),
        (by_squares, "There the squared error is smallest; the task asks for the least mean of −log p."),
        (temperatures[-1], "There it is least sure of anything. Compare −log p of the true kinds."),
        (np.flatnonzero(temperatures == best)[0], "That is the temperature's place in the list, not the temperature."),
    ):
        require(not _same(T, wrong), message)
    require(_same(T, best), f"The best temperature is {best}, you have {T}.")
    right_p = confidence[rows, truth].mean()
    raw = np.exp(_normalised(logits)).max(axis=1).mean() - accuracy
    _reject(
        got_gap,
        gap,
        [
            (-gap, "The sign: mean confidence minus accuracy, positive for one who is too sure."),
            (raw, "That is the gap at T = 1; take it at the temperature that you chose."),
            (right_p - accuracy, "Confidence is the largest probability of each row, not that of the true kind."),
            (gap + accuracy, "That is the mean confidence; subtract the share of right answers."),
        ],
    )
    require(_same(got_gap, gap), f"At T = {best} mean confidence minus accuracy is {gap:.4f}, got {got_gap}.")

    # Hopelessly unlikely truths: probabilities underflow, their logarithms do not.
    # Seven right answers by a small margin lure whoever takes all those truths for equally unlikely.
    wild = np.array([[0.0, -1e5, -3.0], [-2.0, 0.0, -9e4], [-1e5, -9.9e4, 0.0]] + 7 * [[0.0, -3.0, -4.0]])
    answers = np.array([1, 2, 0] + 7 * [0])
    surprise = {T: -_normalised(wild / T)[np.arange(10), answers].mean() for T in (0.05, 5.0, 50.0)}
    with np.errstate(all="ignore"):
        T, _ = student(wild, answers, np.array([0.05, 5.0, 50.0]))
    require(
        _same(T, min(surprise, key=surprise.get)),
        f"With logits down to −10⁵ you chose T = {T}, but 50 is less surprised by far. A probability that is 0 in "
        "floating point has −log p = ∞ and hides the comparison, and a small number added to it makes all such "
        "mistakes cost the same: compute log p as z − logsumexp(z).",
    )
