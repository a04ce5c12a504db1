"""Checks of the exercises on word embeddings; the inputs are drawn anew from each seed."""

from collections import Counter
from functools import partial
from numbers import Real

import numpy as np

from lmcore.checking import Tasks, require, same

tasks = Tasks()
check = tasks.check
_same = partial(same, rtol=1e-4, atol=1e-5)


def _judge(got, expected, wrong, message):
    """Require the expected numbers; an answer that looks like a known mistake gets the mistake's message."""
    if _same(got, expected):
        return
    for value, why in wrong:
        require(np.shape(got) != np.shape(value) or not np.allclose(got, value, rtol=1e-7, atol=1e-10), why)
    require(False, message)


def _array(got, shape, what):
    """Require that an answer is an array, or nested lists, of numbers with that shape, and return it."""
    try:
        got = np.asarray(got, dtype=float)
    except (TypeError, ValueError):
        require(False, f"Return {what} as an array of numbers, got {type(got).__name__}.")
    require(got.shape == shape, f"Return {what} with the shape {shape}, got the shape {got.shape}.")
    return got


def _number(got, what):
    """Require that an answer is one number."""
    one = isinstance(got, Real) or (isinstance(got, np.ndarray) and got.shape == () and got.dtype.kind in "iuf")
    require(one, f"Return {what} as one number, got {type(got).__name__} {got}.")
    return float(got)


def _pair(got, first, second):
    """Require that an answer is a pair."""
    two = isinstance(got, tuple | list) and len(got) == 2
    require(two, f"Return two things, {first} and {second}, separated by a comma.")
    return got


def _idf(holds, N):
    """The idf of the chapter."""
    return np.log((1 + N) / (1 + holds)) + 1


def _unit(rows):
    """Rows of length one."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


@tasks.add(points=2, minutes=10)
def tfidf_rows(student, rng):
    """tf–idf rows that can be compared."""
    counts = rng.integers(1, 9, size=(7, 5))
    counts[rng.permutation(7)[:4], 0] = counts[rng.permutation(7)[:2], 1] = 0
    counts[:6, 2] = 0
    holds = (counts > 0).sum(axis=0)
    expected = _unit(counts * _idf(holds, 7))
    got = _array(student(counts), (7, 5), "the rows")
    columns = np.linalg.norm(counts * _idf(holds, 7), axis=0)
    wrong = (
        (counts * _idf(holds, 7), "The rows are not divided by their lengths."),
        (_unit(counts.astype(float)), "Those are the counts divided by their lengths; the idf is missing."),
        (
            _unit(counts * _idf(counts.sum(axis=0), 7)),
            "You counted occurrences; n_w is the number of documents that hold the word, however often.",
        ),
        (_unit(counts * (_idf(holds, 7) - 1)), "The 1 that is added to the logarithm is missing."),
        (
            _unit(counts * (np.log(7 / holds) + 1)),
            "The smoothing is missing: 1 is added to N and to n_w, as if one more document held every word.",
        ),
        (_unit(counts * _idf(holds, 5)), "N is the number of documents, the rows; you took the number of words."),
        (
            _unit(counts * (np.log2(8 / (1 + holds)) + 1)),
            "The logarithm is natural; you took the one to the base 2.",
        ),
        (
            _unit(counts * (np.log10(8 / (1 + holds)) + 1)),
            "The logarithm is natural; you took the one to the base 10.",
        ),
        (
            _unit((counts > 0) * _idf(holds, 7)),
            "You used only whether a word occurs; each count matters.",
        ),
        (counts * _idf(holds, 7) / columns, "You divided the columns by their lengths; documents are rows."),
        (
            counts * _idf(holds, 7) / (counts * _idf(holds, 7)).sum(axis=1, keepdims=True),
            "You divided by the sum of the row; its length is the root of the sum of squares.",
        ),
    )
    _judge(got, expected, wrong, f"Wrong: the first row should be {expected[0].round(4)}, got {got[0].round(4)}.")
    counts[3] = 0
    expected = _unit(counts * _idf((counts > 0).sum(axis=0), 7))
    with np.errstate(all="ignore"):
        got = _array(student(counts), (7, 5), "the rows")
    require(not np.isnan(got).any(), "A document without a word gave 'not a number': its row of zeros has length 0.")
    require(_same(got, expected), "Wrong when one document has no word at all: its row stays zero, N still counts it.")
    counts[:, 4] = 0
    expected = _unit(counts * _idf((counts > 0).sum(axis=0), 7))
    with np.errstate(all="ignore"):
        got = _array(student(counts), (7, 5), "the rows")
    require(_same(got, expected), "Wrong when a word is in no document: its column is zero, and that is no error.")


@tasks.add(points=2, minutes=10)
def ppmi_table(student, rng):
    """Pairs compared with chance."""
    counts = rng.integers(1, 30, size=(5, 7)) ** 2
    p = counts / counts.sum()
    pmi = np.log(p / (p.sum(axis=1, keepdims=True) * p.sum(axis=0)))
    expected = np.maximum(pmi, 0)
    got = _array(student(counts), (5, 7), "the table")
    words, contexts = counts.sum(axis=1, keepdims=True), counts.sum(axis=0)
    wrong = (
        (pmi, "That is PMI; negative values must become zero."),
        (expected / np.log(2), "That is in bits; the answer is wanted in nats."),
        (np.abs(pmi), "You took absolute values; rarer than by chance means zero."),
        (np.maximum(p * pmi, 0), "You weighed each cell with its probability: that sums to mutual information."),
        (np.exp(pmi), "The logarithm is missing."),
        (np.maximum(-pmi, 0), "The fraction is upside down: the observed share belongs above the one by chance."),
        (
            np.maximum(np.log(counts / (words * contexts)), 0),
            "You divided counts by products of counts: make all three of them shares of the total first.",
        ),
        (
            np.maximum(np.log(p / contexts * counts.sum()), 0),
            "The share of the word, the sum of its row, is missing below.",
        ),
        (
            np.maximum(np.log(p / words * counts.sum()), 0),
            "The share of the context, the sum of its column, is missing below.",
        ),
    )
    _judge(got, expected, wrong, f"Wrong: the first row should be {expected[0].round(4)}, got {got[0].round(4)}.")
    counts = counts.copy()
    counts[2], counts[:, 4], counts[0, 0] = 0, 0, 0
    p = counts / counts.sum()
    chance = p.sum(axis=1, keepdims=True) * p.sum(axis=0)
    expected = np.zeros((5, 7))
    expected[p > 0] = np.maximum(np.log(p[p > 0] / chance[p > 0]), 0)
    with np.errstate(all="ignore"):
        got = _array(student(counts), (5, 7), "the table")
    require(not np.isnan(got).any(), "An empty row or column gave 'not a number': what never occurs has 0.")
    require(np.isfinite(got).all(), "A cell that is zero gave an infinite value: what never occurs has 0.")
    require(_same(got, expected), "Wrong when some cells, a row and a column are zero: they must change nothing else.")


def _examples(sentence, window, method, *, left=True, right=True, wrap=False, self_too=False):
    """The examples, each as (sorted given, asked); with the given mistakes."""
    found = []
    for i, middle in enumerate(sentence):
        places = [i + m for m in range(-window, window + 1) if (m < 0 and left) or (m > 0 and right)]
        places += [i] if self_too else []
        size = len(sentence)
        around = [sentence[j % size if wrap else j] for j in places if wrap or 0 <= j < size]
        if method == "skip-gram":
            found += [((middle,), word) for word in around]
        elif around:
            found.append((tuple(sorted(around)), middle))
    return Counter(found)


def _read(got, sentence):
    """Require that an answer is a list of examples, and count them."""
    try:
        pairs = [(given, asked) for given, asked in got]
    except (TypeError, ValueError):
        require(False, f"Return a list of pairs (given, asked), got {str(got)[:100]}.")
    for given, asked in pairs:
        require(
            isinstance(given, list | tuple | np.ndarray),
            f"What is given is a list of words, also for skip-gram: ['{given}'] rather than {given!r}.",
        )
        require(
            isinstance(asked, str),
            f"What is asked for is one word, got {asked!r}: an example asks one question.",
        )
    return Counter((tuple(sorted(map(str, given))), str(asked)) for given, asked in pairs)


@tasks.add(points=2, minutes=10)
def training_examples(student, rng):
    """Examples of CBOW and skip-gram."""
    letters = [str(letter) for letter in rng.permutation(list("abcdefghijklm"))]
    for size, window, method in ((9, 2, "skip-gram"), (9, 2, "cbow"), (11, 3, "cbow"), (7, 3, "skip-gram")):
        sentence = letters[:size]
        other = "cbow" if method == "skip-gram" else "skip-gram"
        expected = _examples(sentence, window, method)
        got = _read(student(list(sentence), window, method), sentence)
        require(got != _examples(sentence, window, other), "You swapped CBOW and skip-gram.")
        wrong = (
            ({"right": False}, "You looked only at the words before; the window reaches to both sides."),
            ({"left": False}, "You looked only at the words after; the window reaches to both sides."),
            ({"wrap": True}, "Your window runs past an end of the sentence and comes in again at the other end."),
            ({"self_too": True}, "The word in the middle is not its own neighbour."),
        )
        for mistake, message in wrong:
            require(got != _examples(sentence, window, method, **mistake), message)
        for reach in (window - 1, window + 1):
            if reach:
                require(
                    got != _examples(sentence, reach, method),
                    f"Your window reaches {reach} words to either side; window = {window} means {window}.",
                )
        full = Counter({key: n for key, n in expected.items() if len(key[0]) == 2 * window})
        require(
            method == "skip-gram" or got != full,
            "You left out the words near the ends: a window that the sentence cuts off still gives an example.",
        )
        require(
            method == "cbow" or got != _inner(sentence, window),
            "You left out the words near the ends: a window that the sentence cuts off still gives examples.",
        )
        require(
            got == expected,
            f"Wrong for {sentence}, window {window}, {method}: expected {expected.total()} examples, got "
            f"{got.total()}; missing {list(expected - got)[:3]}, too many {list(got - expected)[:3]}.",
        )
    twice = [letters[0], letters[1], letters[0], letters[1]]
    for method in ("skip-gram", "cbow"):
        got = _read(student(list(twice), 2, method), twice)
        require(
            got == _examples(twice, 2, method),
            f"Wrong for {twice}, window 2, {method}: a word that occurs twice is two neighbours. Go by places, not by "
            "the words themselves, and keep examples that are equal.",
        )
        got = _read(student([letters[3]], 2, method), [letters[3]])
        require(not got, f"A sentence of one word has no neighbours and gives no example; got {list(got)}.")


def _inner(sentence, window):
    """Skip-gram's examples of the words with a whole window only."""
    found = Counter()
    for i in range(window, len(sentence) - window):
        for m in range(-window, window + 1):
            if m:
                found[(sentence[i],), sentence[i + m]] += 1
    return found


@tasks.add(points=2, minutes=10)
def noise_and_keep(student, rng):
    """Noise words, and thinned frequent words."""
    counts = rng.permutation([int(rng.integers(4, 9)), 97, 1009, 10_007, 100_003]) + rng.integers(3, size=5)
    t = float(rng.choice([1e-3, 2e-3]))
    f = counts / counts.sum()
    noise = counts**0.75 / (counts**0.75).sum()
    keep = np.minimum(1, np.sqrt(t / f) + t / f)
    first, second = _pair(student(counts, t), "the noise probabilities", "the probabilities of being kept")
    first, second = (_array(got, (5,), "each") for got in (first, second))
    swapped = _same(first, keep) and _same(second, noise)
    require(not swapped, "You returned the two in the wrong order: the noise comes first.")
    wrong = (
        (f, "That is each word's share of the text; noise is drawn in proportion to count to the power 0.75."),
        (np.full(5, 0.2), "You draw all words alike as noise."),
        (counts**0.75, "The noise probabilities must add up to one."),
        (f**0.75, "You raised the shares to 0.75 but did not divide by their new sum: they must add up to one."),
        (counts**1.75 / (counts**1.75).sum(), "The power is 0.75, not 1.75: rare words are drawn more, not less."),
        (counts**-0.75 / (counts**-0.75).sum(), "The power is positive: frequent words still are drawn most."),
    )
    _judge(first, noise, wrong, f"Expected the noise {noise.round(5)} for {counts}, got {first.round(5)}.")
    raw = np.sqrt(t / f) + t / f
    wrong = (
        (1 - keep, "That is the probability of being dropped; return that of being kept."),
        (np.maximum(0, 1 - np.sqrt(t / f)), "That is the paper's probability of being dropped."),
        (raw, "A probability is at most one: cut it off there."),
        (np.minimum(1, np.sqrt(t / f)), "That is the paper's formula; the programs add t/f to it."),
        (np.minimum(1, t / f), "The root is missing: √(t/f) + t/f."),
        (np.minimum(1, np.sqrt(t / f + t / f)), "Only the first t/f stands under the root."),
        (
            np.minimum(1, np.sqrt(t / counts) + t / counts),
            "f is the word's share of the text; you took its count.",
        ),
        (np.minimum(1, np.sqrt(f / t) + f / t), "The fraction is upside down: frequent words are dropped most."),
        (
            np.minimum(1, np.sqrt(t / noise) + t / noise),
            "f is the word's share of the text; you took its share of the noise.",
        ),
    )
    _judge(second, keep, wrong, f"Expected {keep.round(5)} kept for {counts}, t = {t}, got {second.round(5)}.")


def _sampled(x, C, targets, y):
    """Loss and gradient for the targets."""
    scores = C[targets] @ x
    loss = np.logaddexp(0, np.where(y == 1, -scores, scores)).sum()
    return loss, (np.exp(-np.logaddexp(0, -scores)) - y) @ C[targets]


def _ask(student, x, C, word, noise):
    """Call the student's function and require a number and a vector."""
    with np.errstate(all="ignore"):
        loss, gradient = _pair(student(x, C, word, list(noise)), "the loss", "the gradient")
    return _number(loss, "the loss"), _array(gradient, x.shape, "the gradient")


@tasks.add(points=3, minutes=20)
def sampled_loss(student, rng):
    """Loss and gradient of negative sampling."""
    x, C = rng.uniform(0.3, 0.9, size=5), rng.uniform(-1, 1, size=(11, 5))
    word, *others = rng.permutation(11)[:4].tolist()
    y = np.array([1.0, 0, 0, 0])
    loss, slope = _sampled(x, C, [word, *others], y)
    got, gradient = _ask(student, x, C, word, others)
    scores = C[[word, *others]] @ x
    wrong = (
        (-loss, "The loss is negative: the logarithm of a probability is below zero, so a minus sign belongs before."),
        (
            np.logaddexp(0, -scores).sum(),
            "The noise has the wrong sign: its answer should be no, log σ(−s), and you trained it towards yes.",
        ),
        (np.logaddexp(0, scores).sum(), "You asked for no everywhere; the word itself is a yes."),
        (np.logaddexp(0, scores)[0] + np.logaddexp(0, -scores)[1:].sum(), "Yes and no are exchanged."),
        (loss / 4, "You averaged over the questions; the loss is their sum."),
        (np.logaddexp(0, -scores[0]), "Only the true word counts in your loss; the noise is missing."),
        (np.logaddexp(0, scores[1:]).sum(), "Only the noise counts in your loss; the true word is missing."),
        (
            np.logaddexp(0, -scores[0]) + np.logaddexp(0, scores[1:]).mean(),
            "You averaged over the noise; each noise word is a question of its own.",
        ),
        (loss / np.log(2), "That is in bits; the answer is wanted in nats."),
        (-scores[0] + np.log(np.exp(C @ x).sum()), "That is the full softmax over all words."),
        (-scores[0] + np.log(np.exp(scores).sum()), "That is a softmax over the word and its noise, not yes or no."),
    )
    _judge(got, loss, wrong, f"Expected the loss {loss:.6f} for word {word}, noise {others}, got {got}.")
    sigma = np.exp(-np.logaddexp(0, -scores))
    wrong = (
        (-slope, "That is the direction to go, minus the gradient; the gradient has (σ − y)."),
        (slope / 4, "The loss is a sum, but your gradient is a mean."),
        ((sigma - 1) @ C[[word, *others]], "Your gradient takes the noise for a yes: y is 0 there."),
        (sigma @ C[[word, *others]], "Your gradient lacks the y: σ − 1 for the word itself."),
        ((sigma[0] - 1) * C[word], "Your gradient has only the true word's part."),
        (sigma[1:] @ C[others], "Your gradient has only the noise's part."),
        ((sigma - y).sum() * x, "You took the gradient by C; by x each (σ − y) multiplies its row of C."),
        (
            ((sigma - y) * sigma * (1 - sigma)) @ C[[word, *others]],
            "σ(1 − σ) is too much: it has cancelled against the derivative of the logarithm.",
        ),
    )
    _judge(gradient, slope, wrong, f"Expected the gradient {slope.round(4)}, got {gradient.round(4)}.")
    noise = [others[0], word, others[1], others[0]]
    got, gradient = _ask(student, x, C, word, noise)
    expected = _sampled(x, C, [word, others[0], others[1], others[0]], y)
    with_word = _sampled(x, C, [word, *noise], np.array([1.0, 0, 0, 0, 0]))
    once = _sampled(x, C, [word, others[0], others[1]], y[:3])
    with_word_once = _sampled(x, C, [word, others[0], word, others[1]], y)
    for value in (with_word, with_word_once):
        wrong = _same(got, value[0]) and not _same(got, expected[0])
        require(not wrong, f"Word {word} was drawn as noise although it is asked for: pass over it.")
    require(not _same(got, once[0]), f"Noise word {others[0]} was drawn twice: it counts twice.")
    right = _same(got, expected[0]) and _same(gradient, expected[1])
    require(right, f"Wrong for word {word} and noise {noise}: expected {expected[0]:.6f} and {expected[1].round(4)}.")
    for sign in (1, -1):
        x, C = np.array([1000.0 * sign, 0.0, 1.0]), np.array([[1.0, 2, 0], [-1, 3, 0], [1, 0, 1]])
        got, gradient = _ask(student, x, C, 0, [1, 2])
        expected = _sampled(x, C, [0, 1, 2], y[:3])
        finite = np.isfinite(got) and np.isfinite(gradient).all()
        require(finite, "With scores of ±1,000 something overflowed: use np.logaddexp(0, …).")
        right = _same(got, expected[0]) and _same(gradient, expected[1])
        require(right, f"With scores of ±1,000 expected {expected[0]:.2f} and {expected[1]}, got {got} and {gradient}.")


@tasks.add(points=3, minutes=20)
def glove_loss(student, rng):
    """The right loss of GloVe."""
    V, d = 7, 3
    W, C = rng.normal(size=(2, V, d))
    b, b_context = rng.normal(size=(2, V))
    X = rng.integers(1, 40, size=(V, V)).astype(float)
    X[rng.random((V, V)) < 0.4] = 0
    X[0, 1], X[1, 0], X[2, 2] = 37, 3, 0
    x_max = float(rng.integers(11, 18))

    def J(
        *, log=np.log, f=True, cap=True, power=0.75, left=True, right=True, table=X, context=C, biases=(b, b_context),
        inside=False,
    ):  # fmt: skip
        i, j = np.nonzero(table)
        count = table[i, j]
        difference = (W[i] * context[j]).sum(axis=1) + left * biases[0][i] + right * biases[1][j] - log(count)
        weights = (count / x_max) ** power if f else np.ones_like(count)
        weights = np.minimum(weights, 1) if cap else weights
        return ((weights * difference) ** 2).sum() if inside else weights @ difference**2

    expected = J()
    with np.errstate(all="ignore"):
        got = _number(student(W, C, b, b_context, X, x_max), "J")
    require(not np.isnan(got) and np.isfinite(got), "Counts of zero have no logarithm: sum over the pairs that occur.")
    everywhere = (W @ C.T + b[:, None] + b_context) ** 2
    wrong = (
        (J(log=lambda count: count), "The logarithm of the count is missing."),
        (
            J(log=lambda c: c, f=False, cap=False, left=False, right=False),
            "That is the loss that is often misprinted: without logarithm, biases and weights.",
        ),
        (J(f=False), "The weights f(X) are missing."),
        (J(left=False, right=False), "The biases are missing."),
        (J(right=False), "The second bias, of the word that is asked for, is missing."),
        (J(left=False), "The first bias, of the word that is given, is missing."),
        (J(inside=True), "You squared the weights, too: f(X) multiplies the squared difference from outside."),
        (J(cap=False), "The weights must not exceed one: counts above x_max all have the weight 1."),
        (J(power=1), "The power ¾ of the weights is missing."),
        (J(log=np.log1p), "Do not add 1 to the counts; leave out those that are zero."),
        (J(log=np.log2), "The logarithm is natural."),
        (J(context=W), "You multiplied W with itself; rows of W meet rows of C."),
        (J(table=X.T), "Rows and columns of X are exchanged: X[i, j] belongs to W[i] and C[j]."),
        (J(biases=(b_context, b)), "The two biases are exchanged: b belongs to the rows, b_context to the columns."),
        (expected / (X > 0).sum(), "You averaged; J is a sum."),
        (expected / X.size, "You averaged; J is a sum."),
        (J(f=False) + everywhere[X == 0].sum(), "You counted pairs that never occur, as if log 0 were 0."),
    )
    _judge(got, expected, wrong, f"Expected J = {expected:.6f}, got {got}.")


def _unit_rows(vectors):
    """Vectors of length one."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _closest(vectors, target, excluded):
    """Row with the largest dot product that is not excluded."""
    closeness = vectors @ target
    closeness[list(excluded)] = -np.inf
    return int(closeness.argmax())


def _answers(vectors, a, b, c):
    """The right answer's row and those of usual mistakes."""
    unit = _unit_rows(vectors)
    target, three = unit[b] - unit[a] + unit[c], {a, b, c}
    return {
        "right": _closest(unit, target, three),
        "raw": _closest(vectors, vectors[b] - vectors[a] + vectors[c], three),
        "half raw": _closest(unit, vectors[b] - vectors[a] + vectors[c], three),
        "a minus b": _closest(unit, unit[a] - unit[b] + unit[c], three),
        "minus c": _closest(unit, unit[b] - unit[a] - unit[c], three),
        "all added": _closest(unit, unit[a] + unit[b] + unit[c], three),
        "only c": _closest(unit, unit[c], three),
        "farthest": _closest(-unit, target, three),
    }


_MESSAGES = {
    "raw": "You took the vectors as they are: bring every one to length one first.",
    "half raw": "You made only one side of the comparison length one: a, b and c must be so before they are added.",
    "a minus b": "You computed a − b + c; the step from a to b is b − a.",
    "minus c": "You subtracted c; the step from a to b starts at c.",
    "all added": "You added all three; a is subtracted.",
    "only c": "You looked for the word nearest to c alone.",
    "farthest": "That is the farthest word: the largest dot product is wanted, not the smallest.",
}


def _question(rng, trap):
    """Vectors and a question whose answer no usual mistake finds; without exclusion it is question[trap]."""
    while True:
        vectors = rng.normal(size=(23, 5)) * rng.uniform(0.3, 3.0, size=(23, 1)) + 0.3
        a, b, c = question = rng.permutation(23)[:3].tolist()
        answers, unit = _answers(vectors, a, b, c), _unit_rows(vectors)
        distinct = len(set(answers.values())) == len(answers)
        if distinct and _closest(unit, unit[b] - unit[a] + unit[c], ()) == question[trap]:
            return vectors, question, answers.pop("right"), answers


@tasks.add(points=3, minutes=15)
def analogy(student, rng):
    """Analogies, with the words of the question excluded."""
    words = [f"{x}{y}" for x in "bdfgk" for y in "aeiou"][:23]
    words = [str(word) for word in rng.permutation(words)]
    for trap in (1, 2):
        vectors, question, right, answers = _question(rng, trap)
        named = [words[i] for i in question]
        got = student(list(words), vectors, *named)
        require(isinstance(got, str), f"Return the word itself, one of the list, got {type(got).__name__} {got}.")
        about = f" The question was {named[0]} : {named[1]} = {named[2]} : ?, the answer {words[right]}, not {got}."
        require(got != named[0], f"You answered {got!r}, the first word of the question: it may not be." + about)
        require(
            got not in named,
            f"{got!r} is a word of the question: without exclusion the answer is mostly b or c.{about}",
        )
        for name, message in _MESSAGES.items():
            require(got != words[answers[name]], message + about)
        require(got == words[right], "Wrong." + about)
    vectors = np.array([[1.0, 0.05, 0], [1, 0.3, 0], [1, -0.2, 0], [0.6, 0, 0.9], [-1, 0, 0.2]])
    a, b, c = (words[i] for i in (0, 1, 2))
    got = student(words[:5], vectors, a, b, c)
    require(got != a, f"You answered with a, {a!r}, the first word of the question: it may not be the answer either.")
    require(
        got == words[3], f"Expected {words[3]!r}, the nearest that is left when a, b and c are excluded, got {got!r}."
    )
    vectors[3, 0] = -0.6
    got = student(words[:5], vectors, a, b, c)
    require(
        got == words[3],
        f"All words but a, b and c have negative dot products here; the largest of them still wins: expected "
        f"{words[3]!r}, got {got!r}. Exclude a word with −∞, not with 0.",
    )
    unknown = ["x-ray", "a"]
    for place in range(3):
        question = [words[i] for i in (4, 7, 11)]
        question[place] = unknown[place % 2]
        vectors = rng.normal(size=(23, 5))
        try:
            got = student(list(words), vectors, *question)
        except (KeyError, ValueError, IndexError):
            require(False, f"{question[place]!r} has no vector: return None, so that the question can be counted.")
        require(got is None, f"{question[place]!r} has no vector: expected None, got {got!r}.")
