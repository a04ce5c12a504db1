"""Plausible wrong answers to the exercises on word embeddings, each with the message that must reject it."""

import numpy as np

from lmcore.checking import mutant


def _rows(counts, idf):
    """Weighted rows of length one."""
    rows = counts * idf
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


@mutant("tfidf_rows", rejected_with="not divided by their lengths")
def forgets_the_length(counts):
    return counts * (np.log((1 + len(counts)) / (1 + (counts > 0).sum(axis=0))) + 1)


@mutant("tfidf_rows", rejected_with="You counted occurrences")
def counts_occurrences(counts):
    return _rows(counts, np.log((1 + len(counts)) / (1 + counts.sum(axis=0))) + 1)


@mutant("tfidf_rows", rejected_with="The 1 that is added to the logarithm")
def forgets_to_add_one(counts):
    return _rows(counts, np.log((1 + len(counts)) / (1 + (counts > 0).sum(axis=0))))


@mutant("tfidf_rows", rejected_with="The smoothing is missing")
def does_not_smooth(counts):
    return _rows(counts, np.log(len(counts) / (counts > 0).sum(axis=0)) + 1)


@mutant("tfidf_rows", rejected_with="you took the number of words")
def takes_the_number_of_words(counts):
    return _rows(counts, np.log((1 + counts.shape[1]) / (1 + (counts > 0).sum(axis=0))) + 1)


@mutant("tfidf_rows", rejected_with="to the base 2")
def takes_bits(counts):
    return _rows(counts, np.log2((1 + len(counts)) / (1 + (counts > 0).sum(axis=0))) + 1)


@mutant("tfidf_rows", rejected_with="divided the columns")
def divides_columns(counts):
    rows = counts * (np.log((1 + len(counts)) / (1 + (counts > 0).sum(axis=0))) + 1)
    return rows / np.linalg.norm(rows, axis=0)


@mutant("tfidf_rows", rejected_with="root of the sum of squares")
def divides_by_the_sum(counts):
    rows = counts * (np.log((1 + len(counts)) / (1 + (counts > 0).sum(axis=0))) + 1)
    return rows / rows.sum(axis=1, keepdims=True)


@mutant("tfidf_rows", rejected_with="its row of zeros has length 0")
def divides_by_zero(counts):
    rows = counts * (np.log((1 + len(counts)) / (1 + (counts > 0).sum(axis=0))) + 1)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@mutant("tfidf_rows", rejected_with="N still counts it")
def does_not_count_empty_documents(counts):
    N = (counts.sum(axis=1) > 0).sum()
    return _rows(counts, np.log((1 + N) / (1 + (counts > 0).sum(axis=0))) + 1)


def _pmi(counts):
    """PMI, with −∞ and NaN."""
    p = counts / counts.sum()
    with np.errstate(all="ignore"):
        return np.log(p / (p.sum(axis=1, keepdims=True) * p.sum(axis=0)))


@mutant("ppmi_table", rejected_with="negative values must become zero")
def keeps_negative_values(counts):
    return np.where(counts > 0, _pmi(counts), 0)


@mutant("ppmi_table", rejected_with="in bits")
def measures_in_bits(counts):
    return np.where(counts > 0, np.maximum(_pmi(counts), 0), 0) / np.log(2)


@mutant("ppmi_table", rejected_with="The logarithm is missing")
def forgets_the_logarithm(counts):
    return np.exp(_pmi(counts))


@mutant("ppmi_table", rejected_with="upside down")
def divides_the_wrong_way(counts):
    return np.maximum(-_pmi(counts), 0)


@mutant("ppmi_table", rejected_with="sums to mutual information")
def weighs_the_cells(counts):
    return np.maximum(counts / counts.sum() * _pmi(counts), 0)


@mutant("ppmi_table", rejected_with="shares of the total first")
def works_with_counts(counts):
    return np.maximum(np.log(counts / (counts.sum(axis=1, keepdims=True) * counts.sum(axis=0))), 0)


@mutant("ppmi_table", rejected_with="what never occurs has 0")
def does_not_look_for_zeros(counts):
    return np.maximum(_pmi(counts), 0)


@mutant("ppmi_table", rejected_with="must change nothing else")
def smooths_zeros_away(counts):
    return np.maximum(_pmi(counts + (counts == 0)), 0)


@mutant("ppmi_table", rejected_with="You took absolute values")
def takes_absolute_values(counts):
    return np.abs(_pmi(counts))


def _pairs(sentence, window, method, around):
    """Examples from a function that finds the words around a place."""
    pairs = []
    for i, middle in enumerate(sentence):
        found = around(i)
        if method == "skip-gram":
            pairs += [([middle], word) for word in found]
        elif found:
            pairs.append((found, middle))
    return pairs


def _around(sentence, window):
    """The right words around a place."""
    return lambda i: [*sentence[max(0, i - window) : i], *sentence[i + 1 : i + 1 + window]]


@mutant("training_examples", rejected_with="You swapped CBOW and skip-gram")
def swaps_the_methods(sentence, window, method):
    other = "cbow" if method == "skip-gram" else "skip-gram"
    return _pairs(sentence, window, other, _around(sentence, window))


@mutant("training_examples", rejected_with="only at the words before")
def looks_back_only(sentence, window, method):
    return _pairs(sentence, window, method, lambda i: sentence[max(0, i - window) : i])


@mutant("training_examples", rejected_with="only at the words after")
def looks_ahead_only(sentence, window, method):
    return _pairs(sentence, window, method, lambda i: sentence[i + 1 : i + 1 + window])


@mutant("training_examples", rejected_with="comes in again at the other end")
def runs_past_the_ends(sentence, window, method):
    reach = [m for m in range(-window, window + 1) if m]
    return _pairs(sentence, window, method, lambda i: [sentence[(i + m) % len(sentence)] for m in reach])


@mutant("training_examples", rejected_with="not its own neighbour")
def takes_the_middle_too(sentence, window, method):
    return _pairs(sentence, window, method, lambda i: sentence[max(0, i - window) : i + 1 + window])


@mutant("training_examples", rejected_with="Your window reaches 1 words")
def ends_a_word_early(sentence, window, method):
    return _pairs(sentence, window, method, _around(sentence, window - 1))


@mutant("training_examples", rejected_with="You left out the words near the ends")
def wants_whole_windows(sentence, window, method):
    inside = range(window, len(sentence) - window)
    return _pairs(sentence, window, method, lambda i: _around(sentence, window)(i) if i in inside else [])


@mutant("training_examples", rejected_with="also for skip-gram")
def gives_a_bare_word(sentence, window, method):
    pairs = _pairs(sentence, window, method, _around(sentence, window))
    return [(given[0], asked) for given, asked in pairs] if method == "skip-gram" else pairs


@mutant("training_examples", rejected_with="an example asks one question")
def asks_for_all_around(sentence, window, method):
    return [([word], _around(sentence, window)(i)) for i, word in enumerate(sentence)]


@mutant("training_examples", rejected_with="a word that occurs twice is two neighbours")
def finds_places_by_words(sentence, window, method):
    return _pairs(sentence, window, method, lambda i: _around(sentence, window)(sentence.index(sentence[i])))


@mutant("training_examples", rejected_with="gives no example")
def gives_nothing_and_asks(sentence, window, method):
    around = _around(sentence, window)
    if method == "skip-gram":
        return _pairs(sentence, window, method, around)
    return [(around(i), word) for i, word in enumerate(sentence)]


def _noise(counts):
    """The right noise."""
    return counts**0.75 / (counts**0.75).sum()


def _keep(counts, t):
    """The right probabilities of being kept."""
    ratio = t * counts.sum() / counts
    return np.minimum(1, np.sqrt(ratio) + ratio)


@mutant("noise_and_keep", rejected_with="wrong order")
def returns_them_the_other_way_round(counts, t):
    return _keep(counts, t), _noise(counts)


@mutant("noise_and_keep", rejected_with="each word's share of the text; noise")
def draws_from_the_text(counts, t):
    return counts / counts.sum(), _keep(counts, t)


@mutant("noise_and_keep", rejected_with="did not divide by their new sum")
def does_not_normalise_again(counts, t):
    return (counts / counts.sum()) ** 0.75, _keep(counts, t)


@mutant("noise_and_keep", rejected_with="You draw all words alike")
def draws_evenly(counts, t):
    return np.full(len(counts), 1 / len(counts)), _keep(counts, t)


@mutant("noise_and_keep", rejected_with="probability of being dropped; return")
def returns_what_is_dropped(counts, t):
    return _noise(counts), 1 - _keep(counts, t)


@mutant("noise_and_keep", rejected_with="the programs add t/f")
def takes_the_papers_formula(counts, t):
    return _noise(counts), np.minimum(1, np.sqrt(t * counts.sum() / counts))


@mutant("noise_and_keep", rejected_with="A probability is at most one")
def does_not_cut_off(counts, t):
    ratio = t * counts.sum() / counts
    return _noise(counts), np.sqrt(ratio) + ratio


@mutant("noise_and_keep", rejected_with="you took its count")
def takes_the_count_for_the_share(counts, t):
    return _noise(counts), np.minimum(1, np.sqrt(t / counts) + t / counts)


@mutant("noise_and_keep", rejected_with="The fraction is upside down")
def turns_the_fraction(counts, t):
    ratio = counts / counts.sum() / t
    return _noise(counts), np.minimum(1, np.sqrt(ratio) + ratio)


def _step(x, C, targets, *, labels=None, noise_sign=-1):
    """Loss and gradient by x for targets whose first is true."""
    y = np.eye(len(targets))[0] if labels is None else labels
    s = C[targets] @ x
    signs = np.array([1, *[noise_sign] * (len(targets) - 1)])
    return np.logaddexp(0, -signs * s).sum(), (np.exp(-np.logaddexp(0, -s)) - y) @ C[targets]


def _targets(word, noise):
    """The right targets."""
    return [word, *(n for n in noise if n != word)]


@mutant("sampled_loss", rejected_with="The loss is negative")
def forgets_the_minus(x, C, word, noise):
    loss, gradient = _step(x, C, _targets(word, noise))
    return -loss, gradient


@mutant("sampled_loss", rejected_with="trained it towards yes")
def takes_noise_for_true(x, C, word, noise):
    return _step(x, C, _targets(word, noise), noise_sign=1)


@mutant("sampled_loss", rejected_with="the loss is their sum")
def averages(x, C, word, noise):
    loss, gradient = _step(x, C, _targets(word, noise))
    return loss / (1 + len(noise)), gradient / (1 + len(noise))


@mutant("sampled_loss", rejected_with="That is the full softmax")
def takes_the_softmax(x, C, word, noise):
    p = np.exp(C @ x) / np.exp(C @ x).sum()
    return -np.log(p[word]), p @ C - C[word]


@mutant("sampled_loss", rejected_with="not yes or no")
def takes_a_small_softmax(x, C, word, noise):
    targets = _targets(word, noise)
    p = np.exp(C[targets] @ x) / np.exp(C[targets] @ x).sum()
    return -np.log(p[0]), p @ C[targets] - C[word]


@mutant("sampled_loss", rejected_with="the direction to go")
def returns_the_step(x, C, word, noise):
    loss, gradient = _step(x, C, _targets(word, noise))
    return loss, -gradient


@mutant("sampled_loss", rejected_with="gradient by C")
def differentiates_by_the_wrong_thing(x, C, word, noise):
    targets = _targets(word, noise)
    sigma = 1 / (1 + np.exp(-C[targets] @ x))
    return _step(x, C, targets)[0], (sigma - np.eye(len(targets))[0]).sum() * x


@mutant("sampled_loss", rejected_with="pass over it")
def takes_the_word_as_noise_too(x, C, word, noise):
    return _step(x, C, [word, *noise])


@mutant("sampled_loss", rejected_with="it counts twice")
def counts_noise_once(x, C, word, noise):
    return _step(x, C, list(dict.fromkeys(_targets(word, noise))))


@mutant("sampled_loss", rejected_with="something overflowed")
def overflows(x, C, word, noise):
    targets = _targets(word, noise)
    y, s = np.eye(len(targets))[0], C[targets] @ x
    sigma = 1 / (1 + np.exp(-s))
    return -np.log(np.where(y == 1, sigma, 1 - sigma)).sum(), (sigma - y) @ C[targets]


def _glove(W, C, b, b_context, X, x_max, *, log=np.log, cap=1.0, power=0.75):
    """J, with options for mistakes."""
    i, j = np.nonzero(X)
    difference = (W[i] * C[j]).sum(axis=1) + b[i] + b_context[j] - log(X[i, j])
    return (np.minimum(cap, (X[i, j] / x_max) ** power) * difference**2).sum()


@mutant("glove_loss", rejected_with="The logarithm of the count is missing")
def fits_the_counts(W, C, b, b_context, X, x_max):
    return _glove(W, C, b, b_context, X, x_max, log=lambda count: count)


@mutant("glove_loss", rejected_with="often misprinted")
def takes_the_misprinted_loss(W, C, b, b_context, X, x_max):
    return ((W @ C.T - X)[X > 0] ** 2).sum()


@mutant("glove_loss", rejected_with="The weights f(X) are missing")
def forgets_the_weights(W, C, b, b_context, X, x_max):
    return _glove(W, C, b, b_context, X, x_max, power=0)


@mutant("glove_loss", rejected_with="The biases are missing")
def forgets_the_biases(W, C, b, b_context, X, x_max):
    return _glove(W, C, 0 * b, 0 * b_context, X, x_max)


@mutant("glove_loss", rejected_with="must not exceed one")
def does_not_cap_the_weights(W, C, b, b_context, X, x_max):
    return _glove(W, C, b, b_context, X, x_max, cap=np.inf)


@mutant("glove_loss", rejected_with="You squared the weights, too")
def weighs_inside_the_square(W, C, b, b_context, X, x_max):
    i, j = np.nonzero(X)
    difference = (W[i] * C[j]).sum(axis=1) + b[i] + b_context[j] - np.log(X[i, j])
    return ((np.minimum(1, (X[i, j] / x_max) ** 0.75) * difference) ** 2).sum()


@mutant("glove_loss", rejected_with="The power ¾")
def forgets_the_power(W, C, b, b_context, X, x_max):
    return _glove(W, C, b, b_context, X, x_max, power=1)


@mutant("glove_loss", rejected_with="Do not add 1 to the counts")
def adds_one_to_the_counts(W, C, b, b_context, X, x_max):
    return _glove(W, C, b, b_context, X, x_max, log=np.log1p)


@mutant("glove_loss", rejected_with="Rows and columns of X are exchanged")
def exchanges_rows_and_columns(W, C, b, b_context, X, x_max):
    return _glove(W, C, b, b_context, X.T, x_max)


@mutant("glove_loss", rejected_with="You averaged")
def averages_the_loss(W, C, b, b_context, X, x_max):
    return _glove(W, C, b, b_context, X, x_max) / np.count_nonzero(X)


@mutant("glove_loss", rejected_with="sum over the pairs that occur")
def takes_the_logarithm_of_zero(W, C, b, b_context, X, x_max):
    difference = W @ C.T + b[:, None] + b_context - np.log(X)
    return (np.minimum(1, (X / x_max) ** 0.75) * difference**2).sum()


def _solve(words, vectors, a, b, c, *, excluded="abc", unit=True, signs=(-1, 1, 1)):
    """The answer, with options for mistakes."""
    if not {a, b, c} <= set(words):
        return None
    place = {"a": words.index(a), "b": words.index(b), "c": words.index(c)}
    if unit:
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    target = sum(sign * vectors[place[name]] for sign, name in zip(signs, "abc", strict=True))
    closeness = vectors @ target
    closeness[[place[name] for name in excluded]] = -np.inf
    return words[int(closeness.argmax())]


@mutant("analogy", rejected_with="without exclusion the answer is mostly b or c")
def excludes_nothing(words, vectors, a, b, c):
    return _solve(words, vectors, a, b, c, excluded="")


@mutant("analogy", rejected_with="without exclusion the answer is mostly b or c")
def excludes_only_c(words, vectors, a, b, c):
    return _solve(words, vectors, a, b, c, excluded="c")


@mutant("analogy", rejected_with="the first word of the question: it may not be")
def excludes_only_b_and_c(words, vectors, a, b, c):
    return _solve(words, vectors, a, b, c, excluded="bc")


@mutant("analogy", rejected_with="You took the vectors as they are")
def does_not_normalise(words, vectors, a, b, c):
    return _solve(words, vectors, a, b, c, unit=False)


@mutant("analogy", rejected_with="only one side of the comparison")
def normalises_too_late(words, vectors, a, b, c):
    if not {a, b, c} <= set(words):
        return None
    a, b, c = map(words.index, (a, b, c))
    closeness = vectors @ (vectors[b] - vectors[a] + vectors[c]) / np.linalg.norm(vectors, axis=1)
    closeness[[a, b, c]] = -np.inf
    return words[int(closeness.argmax())]


@mutant("analogy", rejected_with="the step from a to b is b − a")
def walks_back(words, vectors, a, b, c):
    return _solve(words, vectors, a, b, c, signs=(1, -1, 1))


@mutant("analogy", rejected_with="You added all three")
def adds_everything(words, vectors, a, b, c):
    return _solve(words, vectors, a, b, c, signs=(1, 1, 1))


@mutant("analogy", rejected_with="You subtracted c")
def subtracts_c(words, vectors, a, b, c):
    return _solve(words, vectors, a, b, c, signs=(-1, 1, -1))


@mutant("analogy", rejected_with="return None, so that the question can be counted")
def stumbles_over_unknown_words(words, vectors, a, b, c):
    words.index(a), words.index(b), words.index(c)
    return _solve(words, vectors, a, b, c)


@mutant("analogy", rejected_with="expected None")
def answers_without_knowing(words, vectors, a, b, c):
    known = [word if word in words else words[0] for word in (a, b, c)]
    return _solve(words, vectors, *known)


@mutant("analogy", rejected_with="not with 0")
def excludes_with_zero(words, vectors, a, b, c):
    place = {word: i for i, word in enumerate(words)}
    if not {a, b, c} <= set(place):
        return None
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    closeness = unit @ (unit[place[b]] - unit[place[a]] + unit[place[c]])
    closeness[[place[a], place[b], place[c]]] = 0
    return words[int(closeness.argmax())]
