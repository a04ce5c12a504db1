"""Plausible wrong answers to the exercises on probability, each with the message that must reject it."""

from itertools import groupby

import numpy as np
from sklearn.naive_bayes import MultinomialNB

from lmcore.checking import mutant
from lmcore.classical.naive_bayes import MultinomialNaiveBayes


def _moments(values, p):
    """The right expectation and variance."""
    mean = p @ values
    return mean, p @ (values - mean) ** 2


@mutant("expectation_and_variance", rejected_with="plain mean of the values")
def forgets_the_probabilities(values, p):
    return values.mean(), values.var()


@mutant("expectation_and_variance", rejected_with="averaged the products")
def averages_the_products(values, p):
    return (p * values).mean(), _moments(values, p)[1]


@mutant("expectation_and_variance", rejected_with="That is the standard deviation")
def takes_the_root(values, p):
    mean, variance = _moments(values, p)
    return mean, np.sqrt(variance)


@mutant("expectation_and_variance", rejected_with="subtract the square of the expectation")
def stops_at_the_mean_square(values, p):
    return p @ values, p @ values**2


@mutant("expectation_and_variance", rejected_with="treats all values as equally probable")
def weights_only_the_mean(values, p):
    return p @ values, values.var()


@mutant("expectation_and_variance", rejected_with="probabilities are known")
def corrects_what_needs_no_correction(values, p):
    mean, variance = _moments(values, p)
    return mean, variance * len(p) / (len(p) - 1)


@mutant("expectation_and_variance", rejected_with="without their probabilities")
def sums_the_squares(values, p):
    return p @ values, np.sum((values - p @ values) ** 2)


@mutant("draw_words", rejected_with="always take the most probable word")
def is_greedy(u, p):
    return np.full(len(u), np.argmax(p))


@mutant("draw_words", rejected_with="with the probabilities themselves")
def forgets_to_add_up(u, p):
    return np.searchsorted(p, u, side="right").clip(max=len(p) - 1)


@mutant("draw_words", rejected_with="these are not the words that u hits")
def draws_numbers_of_its_own(u, p):
    return np.random.default_rng(0).choice(len(p), size=len(u), p=p)


@mutant("draw_words", rejected_with="in another order")
def sorts_the_words(u, p):
    order = np.argsort(-p)
    return order[np.searchsorted(np.cumsum(p[order]), u, side="right")]


@mutant("draw_words", rejected_with="Off by one")
def takes_the_piece_before(u, p):
    return (np.searchsorted(np.cumsum(p), u, side="right") - 1).clip(0)


@mutant("draw_words", rejected_with="All words get the same share")
def draws_uniformly(u, p):
    return np.floor(u * len(p)).astype(int)


@mutant("draw_words", rejected_with="falls on an end belongs to the next piece")
def searches_from_the_left(u, p):
    ends = np.cumsum(p)
    return np.searchsorted(ends / ends[-1], u)


@mutant("draw_words", rejected_with="fell off the stick")
def trusts_the_last_end(u, p):
    return np.searchsorted(np.cumsum(p), u, side="right")


@mutant("draw_words", rejected_with="Do not lengthen the last piece")
def clips_to_the_last_word(u, p):
    return np.searchsorted(np.cumsum(p), u, side="right").clip(max=len(p) - 1)


@mutant("draw_words", rejected_with="Do not lengthen the last piece")
def sets_the_last_end_to_one(u, p):
    ends = np.cumsum(p)
    ends[-1] = 1
    return np.searchsorted(ends, u, side="right")


def _around(x, half):
    """An interval around the mean."""
    return x.mean() - half, x.mean() + half


@mutant("mean_interval", rejected_with="Standard deviation for standard error")
def takes_the_standard_deviation(x):
    return _around(x, 1.96 * x.std(ddof=1))


@mutant("mean_interval", rejected_with="forgot the root of n (and n − 1)")
def takes_numpys_standard_deviation(x):
    return _around(x, 1.96 * x.std())


@mutant("mean_interval", rejected_with="too small on average: use n − 1")
def divides_by_n(x):
    return _around(x, 1.96 * x.std() / np.sqrt(len(x)))


@mutant("mean_interval", rejected_with="the standard error divides by its root")
def forgets_the_root(x):
    return _around(x, 1.96 * x.std(ddof=1) / len(x))


@mutant("mean_interval", rejected_with="an interval for 68 %")
def takes_one_standard_error(x):
    return _around(x, x.std(ddof=1) / np.sqrt(len(x)))


@mutant("mean_interval", rejected_with="goes 1.96 to each side")
def halves_the_width(x):
    return _around(x, 0.98 * x.std(ddof=1) / np.sqrt(len(x)))


@mutant("mean_interval", rejected_with="You took the variance")
def takes_the_variance(x):
    return _around(x, 1.96 * x.var(ddof=1) / np.sqrt(len(x)))


@mutant("mean_interval", rejected_with="around the mean")
def centres_on_the_median(x):
    half = 1.96 * x.std(ddof=1) / np.sqrt(len(x))
    return np.median(x) - half, np.median(x) + half


@mutant("posterior", rejected_with="the condition the wrong way round")
def takes_one_condition_for_the_other(prior, likelihood):
    return likelihood


@mutant("posterior", rejected_with="you left it out")
def forgets_the_prior(prior, likelihood):
    return likelihood / likelihood.sum(axis=0)


@mutant("posterior", rejected_with="That is the joint probability")
def forgets_to_divide(prior, likelihood):
    return prior[:, None] * likelihood


@mutant("posterior", rejected_with="leads back to it")
def divides_by_the_rows(prior, likelihood):
    joint = prior[:, None] * likelihood
    return joint / joint.sum(axis=1, keepdims=True)


@mutant("posterior", rejected_with="cancels when each is divided by its sum")
def gives_the_prior_to_the_columns(prior, likelihood):
    joint = prior * likelihood
    return joint / joint.sum(axis=0)


@mutant("posterior", rejected_with="broadcasting hides it")
def mixes_up_both_axes(prior, likelihood):
    joint = prior * likelihood
    return joint / joint.sum(axis=1, keepdims=True)


@mutant("posterior", rejected_with="lined up with the columns")
def sums_over_the_observations(prior, likelihood):
    joint = prior[:, None] * likelihood
    return joint / joint.sum(axis=1)


@mutant("posterior", rejected_with="in the wrong places")
def turns_the_table(prior, likelihood):
    joint = prior[:, None] * likelihood
    return (joint / joint.sum(axis=0)).T


def _sums(right, chapter):
    """The deviations, summed within each chapter."""
    return np.array([(right - right.mean())[chapter == label].sum() for label in np.unique(chapter)])


@mutant("error_by_chapter", rejected_with="takes all verses for independent")
def believes_in_independence(right, chapter):
    return np.sqrt(right.mean() * (1 - right.mean()) / len(right))


@mutant("error_by_chapter", rejected_with="takes all verses for independent")
def believes_in_independence_with_n_minus_one(right, chapter):
    return right.std(ddof=1) / np.sqrt(len(right))


@mutant("error_by_chapter", rejected_with="subtract the accuracy from each verse")
def sums_the_right_answers(right, chapter):
    return np.sqrt(sum(right[chapter == label].sum() ** 2 for label in np.unique(chapter))) / len(right)


@mutant("error_by_chapter", rejected_with="as if all chapters were of one length")
def takes_the_spread_of_the_accuracies(right, chapter):
    means = [right[chapter == label].mean() for label in np.unique(chapter)]
    return np.std(means, ddof=1) / np.sqrt(len(means))


@mutant("error_by_chapter", rejected_with="Take them from the overall accuracy")
def subtracts_each_chapters_own_mean(right, chapter):
    parts = [right[chapter == label] for label in np.unique(chapter)]
    return np.sqrt(sum((part - part.mean()).sum() ** 2 for part in parts)) / len(right)


@mutant("error_by_chapter", rejected_with="divide by the number of verses")
def divides_by_the_chapters(right, chapter):
    return np.sqrt((_sums(right, chapter) ** 2).sum()) / len(np.unique(chapter))


@mutant("error_by_chapter", rejected_with="after the root, not under it")
def divides_under_the_root(right, chapter):
    return np.sqrt((_sums(right, chapter) ** 2).sum() / len(right))


@mutant("error_by_chapter", rejected_with="groupby joins neighbours only")
def groups_without_sorting(right, chapter):
    a, pairs = right.mean(), zip(chapter, right, strict=True)
    sums = [sum(x - a for _, x in run) for _, run in groupby(pairs, key=lambda pair: pair[0])]
    return np.sqrt(np.square(sums).sum()) / len(right)


@mutant("error_by_chapter", rejected_with="The root is missing")
def forgets_to_take_the_root(right, chapter):
    return (_sums(right, chapter) ** 2).sum() / len(right)


@mutant("error_by_chapter", rejected_with="all deviations together cancel")
def squares_after_adding(right, chapter):
    return np.sqrt(_sums(right, chapter).sum() ** 2) / len(right)


@mutant("error_by_chapter", rejected_with="labels are strings")
def counts_with_the_labels(right, chapter):
    sums = np.bincount(
        chapter.astype(int) if chapter.dtype.kind in "iu" else np.zeros(len(chapter), int), right - right.mean()
    )
    return np.sqrt((sums**2).sum()) / len(right)


def _count(counts, labels, alpha, smooth=None, prior=None):
    """Kinds, prior and word probabilities, right unless told otherwise."""
    kinds = np.unique(labels)
    p_kind = np.array([np.mean(labels == kind) for kind in kinds])
    seen = np.array([counts[labels == kind].sum(axis=0) for kind in kinds]).astype(float)
    smooth = smooth or (lambda seen, a: (seen + a) / (seen + a).sum(axis=1, keepdims=True))
    return kinds, p_kind if prior is None else prior(seen), smooth(seen, alpha)


def _normalise(joint):
    """The right normalisation."""
    joint = joint - joint.max(axis=1, keepdims=True)
    return joint - np.log(np.exp(joint).sum(axis=1, keepdims=True))


def _classify(counts, labels, new_counts, alpha, **switches):
    """The right algorithm with switches for the wrong ones."""
    kinds, p_kind, p_word = _count(counts, labels, alpha, **switches)
    return kinds, _normalise(np.log(p_kind) + new_counts @ np.log(p_word).T)


@mutant("naive_bayes", rejected_with="You left out the prior")
def all_kinds_are_equally_probable(counts, labels, new_counts, alpha):
    return _classify(counts, labels, new_counts, alpha, prior=lambda seen: np.full(len(seen), 1 / len(seen)))


@mutant("naive_bayes", rejected_with="share of the documents")
def the_prior_counts_words(counts, labels, new_counts, alpha):
    return _classify(counts, labels, new_counts, alpha, prior=lambda seen: seen.sum(axis=1) / seen.sum())


@mutant("naive_bayes", rejected_with="needs its alpha")
def forgets_alpha(counts, labels, new_counts, alpha):
    return _classify(counts, labels, new_counts, 0)


@mutant("naive_bayes", rejected_with="above the line only")
def smooths_above_the_line_only(counts, labels, new_counts, alpha):
    return _classify(
        counts, labels, new_counts, alpha, smooth=lambda seen, a: (seen + a) / seen.sum(axis=1, keepdims=True)
    )


@mutant("naive_bayes", rejected_with="it is alpha · V")
def adds_alpha_once_below_the_line(counts, labels, new_counts, alpha):
    return _classify(
        counts, labels, new_counts, alpha, smooth=lambda seen, a: (seen + a) / (seen.sum(axis=1, keepdims=True) + a)
    )


@mutant("naive_bayes", rejected_with="whatever alpha is")
def always_adds_one(counts, labels, new_counts, alpha):
    return _classify(counts, labels, new_counts, 1)


@mutant("naive_bayes", rejected_with="to unseen words only")
def gives_alpha_to_the_unseen(counts, labels, new_counts, alpha):
    def smooth(seen, a):
        words = np.where(seen == 0, a, seen)
        return words / words.sum(axis=1, keepdims=True)

    return _classify(counts, labels, new_counts, alpha, smooth=smooth)


@mutant("naive_bayes", rejected_with="which gives p(k | w)")
def divides_by_the_words_total(counts, labels, new_counts, alpha):
    return _classify(counts, labels, new_counts, alpha, smooth=lambda seen, a: (seen + a) / (seen + a).sum(axis=0))


@mutant("naive_bayes", rejected_with="used each word once")
def counts_every_word_once(counts, labels, new_counts, alpha):
    return _classify(counts, labels, np.minimum(new_counts, 1), alpha)


@mutant("naive_bayes", rejected_with="That is the log-joint")
def forgets_to_normalise(counts, labels, new_counts, alpha):
    kinds, p_kind, p_word = _count(counts, labels, alpha)
    return kinds, np.log(p_kind) + new_counts @ np.log(p_word).T


@mutant("naive_bayes", rejected_with="return their logarithms")
def returns_probabilities(counts, labels, new_counts, alpha):
    kinds, logs = _classify(counts, labels, new_counts, alpha)
    return kinds, np.exp(logs)


@mutant("naive_bayes", rejected_with="A long document gives numbers that are not finite")
def multiplies_probabilities(counts, labels, new_counts, alpha):
    kinds, p_kind, p_word = _count(counts, labels, alpha)
    joint = p_kind * np.prod(p_word ** new_counts[:, None, :], axis=2)
    return kinds, np.log(joint / joint.sum(axis=1, keepdims=True))


@mutant("naive_bayes", rejected_with="A long document gives numbers that are not finite")
def exponentiates_too_early(counts, labels, new_counts, alpha):
    kinds, p_kind, p_word = _count(counts, labels, alpha)
    joint = np.log(p_kind) + new_counts @ np.log(p_word).T
    return kinds, joint - np.log(np.exp(joint).sum(axis=1, keepdims=True))


@mutant("naive_bayes", rejected_with="a probability that had become 0")
def takes_the_logarithm_of_a_softmax(counts, labels, new_counts, alpha):
    kinds, logs = _classify(counts, labels, new_counts, alpha)
    return kinds, np.log(np.exp(logs))


@mutant("naive_bayes", rejected_with="The kinds, sorted, are")
def keeps_the_order_of_appearance(counts, labels, new_counts, alpha):
    kinds, logs = _classify(counts, labels, new_counts, alpha)
    order = [kinds.tolist().index(kind) for kind in dict.fromkeys(labels.tolist())]
    return kinds[order], logs[:, order]


@mutant("naive_bayes", rejected_with="count yourself")
def asks_the_package(counts, labels, new_counts, alpha):
    model = MultinomialNaiveBayes(alpha=alpha).fit(counts, labels)
    return model.classes_, model.predict_log_proba(new_counts)


@mutant("naive_bayes", rejected_with="count yourself")
def asks_scikit_learn(counts, labels, new_counts, alpha):
    model = MultinomialNB(alpha=alpha).fit(counts, labels)
    return model.classes_, model.predict_log_proba(new_counts)


def _surprise(z, truth):
    """The mean of −log p of the true kinds."""
    return -_normalise(z)[np.arange(len(z)), truth].mean()


def _calibrate(logits, truth, temperatures, surprise=None):
    """The right answer, or with another measure of a temperature."""
    measure = surprise or (lambda T: _surprise(logits / T, truth))
    T = min(temperatures, key=measure)
    return T, _confidence(logits / T) - (logits.argmax(axis=1) == truth).mean()


def _confidence(z):
    """The mean of each row's largest probability."""
    return np.exp(_normalise(z).max(axis=1)).mean()


@mutant("calibrate", rejected_with="You multiplied the logits by T")
def multiplies_by_the_temperature(logits, truth, temperatures):
    T, _ = _calibrate(logits, truth, temperatures, surprise=lambda T: _surprise(logits * T, truth))
    return T, _confidence(logits * T) - (logits.argmax(axis=1) == truth).mean()


@mutant("calibrate", rejected_with="surest of its own answers")
def chooses_by_accuracy(logits, truth, temperatures):
    return _calibrate(logits, truth, temperatures, surprise=lambda T: -((logits / T).argmax(axis=1) == truth).mean())


@mutant("calibrate", rejected_with="surest of its own answers")
def admires_confidence(logits, truth, temperatures):
    return _calibrate(logits, truth, temperatures, surprise=lambda T: -_confidence(logits / T))


@mutant("calibrate", rejected_with="most surprised by the true kinds")
def takes_the_largest_surprise(logits, truth, temperatures):
    return _calibrate(logits, truth, temperatures, surprise=lambda T: -_surprise(logits / T, truth))


@mutant("calibrate", rejected_with="least sure of anything")
def avoids_confidence(logits, truth, temperatures):
    return _calibrate(logits, truth, temperatures, surprise=lambda T: _confidence(logits / T))


@mutant("calibrate", rejected_with="place in the list")
def returns_the_index(logits, truth, temperatures):
    T, gap = _calibrate(logits, truth, temperatures)
    return int(np.flatnonzero(temperatures == T)[0]), gap


@mutant("calibrate", rejected_with="The sign")
def subtracts_the_wrong_way(logits, truth, temperatures):
    T, gap = _calibrate(logits, truth, temperatures)
    return T, -gap


@mutant("calibrate", rejected_with="That is the gap at T = 1")
def measures_before_scaling(logits, truth, temperatures):
    T, _ = _calibrate(logits, truth, temperatures)
    return T, _confidence(logits) - (logits.argmax(axis=1) == truth).mean()


@mutant("calibrate", rejected_with="not that of the true kind")
def takes_the_confidence_in_the_truth(logits, truth, temperatures):
    T, _ = _calibrate(logits, truth, temperatures)
    p = np.exp(_normalise(logits / T))[np.arange(len(truth)), truth]
    return T, p.mean() - (logits.argmax(axis=1) == truth).mean()


@mutant("calibrate", rejected_with="hides the comparison")
def takes_logarithms_of_probabilities(logits, truth, temperatures):
    def surprise(T):
        return -np.log(np.exp(_normalise(logits / T)))[np.arange(len(truth)), truth].mean()

    return _calibrate(logits, truth, temperatures, surprise=surprise)


@mutant("calibrate", rejected_with="makes all such mistakes cost the same")
def adds_a_small_number(logits, truth, temperatures):
    def surprise(T):
        return -np.log(np.exp(_normalise(logits / T))[np.arange(len(truth)), truth] + 1e-12).mean()

    return _calibrate(logits, truth, temperatures, surprise=surprise)


@mutant("calibrate", rejected_with="There mean confidence comes closest to the accuracy")
def closes_the_gap(logits, truth, temperatures):
    accuracy = (logits.argmax(axis=1) == truth).mean()
    return _calibrate(logits, truth, temperatures, surprise=lambda T: abs(_confidence(logits / T) - accuracy))


@mutant("calibrate", rejected_with="the squared error is smallest")
def takes_the_squared_error(logits, truth, temperatures):
    true = np.eye(logits.shape[1])[truth]
    return _calibrate(
        logits, truth, temperatures, surprise=lambda T: np.square(np.exp(_normalise(logits / T)) - true).sum()
    )


@mutant("calibrate", rejected_with="Subtract it yourself")
def exponentiates_the_logits_as_they_are(logits, truth, temperatures):
    def surprise(T):
        p = np.exp(logits / T) / np.exp(logits / T).sum(axis=1, keepdims=True)
        return -np.log(p[np.arange(len(truth)), truth]).mean()

    return _calibrate(logits, truth, temperatures, surprise=surprise)
