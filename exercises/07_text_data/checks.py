"""Checks of the exercises on text data; the inputs are drawn anew from each seed."""

import unicodedata
from collections import Counter
from functools import partial
from itertools import product
from numbers import Integral, Real

import numpy as np

from lmcore.checking import Tasks, require, same

tasks = Tasks()
check = tasks.check
_same = partial(same, rtol=1e-5, atol=1e-6)

LATIN = list("abcdefghij")
HAN = list("天地人山水火木日月云雨风花鸟鱼虫")


def _number(got):
    """Require that an answer is one number."""
    one = isinstance(got, Real) or (isinstance(got, (np.ndarray, np.generic)) and got.shape == ())
    require(one, f"Return one number, got {type(got).__name__} {got}.")
    return got


def _strings(got):
    """Require that an answer is a sequence of strings."""
    require(
        not isinstance(got, str) and hasattr(got, "__iter__"), f"Return a list of strings, got {type(got).__name__}."
    )
    got = list(got)
    require(all(isinstance(word, str) for word in got), f"Return a list of strings, got {got}.")
    return [str(word) for word in got]


def _word(rng, alphabet=LATIN, low=2, high=6):
    """A random word."""
    return "".join(rng.choice(alphabet, size=int(rng.integers(low, high + 1))))


@tasks.add(points=1, minutes=5)
def letter_runs(student, rng):
    """Runs of letters in any script."""
    latin, han, cyrillic = _word(rng), _word(rng, HAN), _word(rng, list("бгджзлпфцшюя"))
    number = str(rng.integers(10, 99))
    got = _strings(student(f"{latin}, {han}"))
    require(got != [latin + han], f"You glued the runs together, {got}: what is no letter ends a run.")
    require(
        got == [latin, han] or got != list(latin + han),
        f"You return single letters, {got}; neighbours belong to one run.",
    )
    require(han in got, f"The Chinese is gone: of {latin!r} and {han!r} you return {got}. [A-Za-z] knows 52 letters.")
    require(got == [latin, han], f"Expected {[latin, han]}, got {got}.")
    got = _strings(student(f"{latin} {cyrillic}!"))
    require(got == [latin, cyrillic], f"Letters may be of any script: expected {[latin, cyrillic]}, got {got}.")
    got = _strings(student(f"{latin}{number}{han} {number}"))
    require(not any(number in run for run in got), rf"Digits are no letters; \w takes them for such: got {got}.")
    require(got == [latin, han], f"A digit separates runs: expected {[latin, han]}, got {got}.")
    got = _strings(student(f"{latin}_{han}"))
    require(got == [latin, han], f"The underscore is no letter: expected {[latin, han]}, got {got}.")
    got = _strings(student(f"{latin}-{han}。{latin}"))
    require(got == [latin, han, latin], f"Punctuation separates runs: expected {[latin, han, latin]}, got {got}.")
    got = _strings(student(latin.capitalize()))
    require(got == [latin.capitalize()], f"Keep capitals: expected {[latin.capitalize()]}, got {got}.")
    word = latin + str(rng.choice(list("éüñçå"))) + latin
    got = _strings(student(word))
    require(
        not got or "".join(got).isascii() is False, f"Keep the accents: {word!r} is not the same word as {got[:1]}."
    )
    require(got == [word], f"Expected {[word]}, got {got}.")
    apart = unicodedata.normalize("NFD", word)
    got = _strings(student(apart))
    require(
        [unicodedata.normalize("NFC", run) for run in got] == [word],
        f"An accent written as a mark of its own cuts the word {word!r} into {got}: normalise to NFC first.",
    )
    require(got == [word], f"The letter and its mark should become one character: expected NFC, got {got!a}.")
    ligature = "ﬁ" + latin
    got = _strings(student(ligature))
    require(got == [ligature], f"{ligature!r} became {got}: that is NFKC, which replaces characters. NFC does not.")
    require(_strings(student("12 _ !")) == [], "A text without letters has no runs: return an empty list.")


def _shingles(text, n):
    """All shingles in order, repetitions too."""
    return [text[i : i + n] for i in range(max(1, len(text) - n + 1))] if text else []


@tasks.add(points=2, minutes=10)
def similarity(student, rng):
    """Jaccard similarity of shingles."""
    n = int(rng.integers(2, 5))
    while True:  # with repetitions, and so that the usual wrong answers differ
        a, shared, b = (_word(rng, LATIN[:4], 6, 9) for _ in range(3))
        a, b = a + shared + a, shared + b
        A, B = set(_shingles(a, n)), set(_shingles(b, n))
        both = len(A & B)
        bags = Counter(_shingles(a, n)), Counter(_shingles(b, n))
        answers = {
            "right": both / len(A | B),
            "dice": 2 * both / (len(A) + len(B)),
            "smaller": both / min(len(A), len(B)),
            "larger": both / max(len(A), len(B)),
            "sum": both / (len(A) + len(B)),
            "bags": (bags[0] & bags[1]).total() / (bags[0] | bags[1]).total(),
            "letters": len(set(a) & set(b)) / len(set(a) | set(b)),
            "distance": 1 - both / len(A | B),
            "short": len(A2 & B2) / len(A2 | B2)
            if (A2 := set(_shingles(a, n)[:-1])) and (B2 := set(_shingles(b, n)[:-1]))
            else 0.0,
            "blocks": len(A3 & B3) / len(A3 | B3)
            if (A3 := {a[i : i + n] for i in range(0, len(a) - n + 1, n)})
            and (B3 := {b[i : i + n] for i in range(0, len(b) - n + 1, n)})
            else 0.0,
            "count": float(both),
        }
        if both and np.diff(sorted(answers.values())).min() > 1e-4:
            break
    got, back = _number(student(a, b, n)), _number(student(b, a, n))
    require(
        _same(got, back) or not _same(got, both / len(A)),
        "You divided by the first text's set, which says how much of it the other contains. Jaccard is symmetric: "
        "swapping the texts must change nothing. Divide by the union.",
    )
    for name, message in (
        (
            "dice",
            "You divided twice the common shingles by the sum of both counts (Dice); Jaccard divides by the union.",
        ),
        ("smaller", "You divided by the smaller set; Jaccard divides by the union."),
        ("larger", "You divided by the larger set; Jaccard divides by the union."),
        ("sum", "You added the sizes of both sets: the common shingles are then counted twice. Divide by the union."),
        ("bags", "You counted repetitions: a shingle that occurs twice is in the set once."),
        ("letters", "You compared single characters; a shingle is a run of n."),
        ("distance", "That is the distance, 1 − J; equal texts should give 1."),
        ("short", "The last shingle of each text is missing: a text of length L has L − n + 1."),
        ("blocks", "You cut the texts into blocks; shingles overlap, one begins at every character."),
        ("count", "That is the number of common shingles; divide it by the size of the union."),
    ):
        require(not _same(got, answers[name]), message)
    require(_same(got, answers["right"]), f"J of {a!r} and {b!r} with n = {n} is {answers['right']:.6f}, got {got}.")
    short = _word(rng, LATIN[:4], 1, 2)[:n]
    got = _number(student(short, short, n + 3))
    require(_same(got, 1), f"A text shorter than n is one shingle, so {short!r} is like itself: expected 1, got {got}.")
    got = _number(student(short, short + "z" * (n + 5), n + 3))
    require(_same(got, 0), f"{short!r} as a single shingle is not in the longer text: expected 0, got {got}.")
    got = _number(student(short, short + "z", n + 3))
    require(
        _same(got, 0),
        f"Two different texts that are both shorter than n are one shingle each, and share none: {short!r} and "
        f"{short + 'z'!r} with n = {n + 3} must give 0, got {got}.",
    )
    got = _number(student("", a, n))
    require(_same(got, 0), f"An empty text has no shingle and shares none: expected 0, got {got}.")
    got = _number(student("", "", n))
    require(_same(got, 1), f"Two empty texts are alike: expected 1, got {got}.")


@tasks.add(points=2, minutes=10)
def signature(student, rng):
    """Minima of a text in given orders."""
    size, count = int(rng.integers(11, 17)), int(rng.integers(5, 9))
    while True:
        ranks = np.array([rng.permutation(size) for _ in range(count)])
        numbers = rng.choice(size, size=int(rng.integers(4, 7)), replace=False)
        part = ranks[:, numbers]
        expected = part.min(axis=1)
        places = np.array([[list(row).index(i) for i in numbers] for row in ranks]).min(axis=1)
        wrong = {
            "numbers": numbers[part.argmin(axis=1)],
            "positions": part.argmin(axis=1),
            "largest": part.max(axis=1),
            "first": ranks[:, numbers[0]],
            "order": places,
            "all": ranks.min(axis=1),
        }
        if all((value != expected).any() for value in wrong.values()) and len(numbers) != count:
            break
    got = np.asarray(student(numbers.tolist(), ranks))
    require(
        got.shape != (len(numbers),), "One minimum for each shingle: take it for each order, over the text's shingles."
    )
    require(
        got.shape == (count,), f"Return one number for each of the {count} orders, got an array of shape {got.shape}."
    )
    for name, message in (
        ("numbers", "You return which shingle comes first; the signature holds its place in the order, its rank."),
        ("positions", "You return where in the text's list the minimum stands (argmin); return the minimum."),
        ("largest", "You took the last shingle of each order, the maximum; MinHash takes the minimum."),
        ("first", "You took the rank of the text's first shingle in the list; find the smallest rank of all of them."),
        ("order", "You read a row as the list of shingles in order; ranks[k, i] is the place of shingle i."),
        ("all", "You took the minimum over all shingles of the collection; only those of this text count."),
    ):
        require(not np.array_equal(got, wrong[name]), message)
    require(
        np.array_equal(got, expected), f"Expected {expected.tolist()} for the shingles {numbers}, got {got.tolist()}."
    )
    again = rng.permutation(np.concatenate([numbers, numbers[:2]]))
    got = np.asarray(student(again.tolist(), ranks))
    require(
        np.array_equal(got, expected),
        f"A signature is of a set: order and repetitions must not change it, but {again.tolist()} gave {got.tolist()}.",
    )
    got = np.asarray(student([int(numbers[0])], ranks))
    require(
        np.array_equal(got, wrong["first"]), f"A text of one shingle has its ranks as signature, got {got.tolist()}."
    )


def _most_rows(total, found):
    """Largest divisor of total whose bands satisfy a condition on (rows, bands); or 0."""
    return max((r for r in range(1, total + 1) if total % r == 0 and found(r, total // r)), default=0)


WRONG_ROWS = (  # what one may believe that (similarity, rows, bands) must fulfil, and what to say to it
    (lambda s, r, b, recall: s**r >= recall,
     "You asked that one certain band agrees; it is enough that any of the b bands does."),
    (lambda s, r, b, recall: s ** (r * b) >= recall,
     "You asked that all minima agree; it is enough that those of one band do."),
    (lambda s, r, b, recall: (1 / b) ** (1 / r) <= s,
     "You compared s with the middle of the curve, (1/b)^(1/r), where about two thirds are found."),
)  # fmt: skip


EASIER = (  # conditions that get easier with more rows, so that the answer is total nearly always
    lambda s, r, b, recall: 1 - (1 - s**b) ** r >= recall,  # rows and bands swapped
    lambda s, r, b, recall: (1 - s**r) ** b >= recall,  # the probability to be missed
    lambda s, r, b, recall: (1 - (1 - s) ** r) ** b >= recall,  # some agreement in each band
)


def _enough(s, r, b, recall):
    """Whether such a pair is found often enough."""
    return 1 - (1 - s**r) ** b >= recall


@tasks.add(points=2, minutes=15)
def most_rows(student, rng):
    """Rows in a band for a wanted recall."""

    def solve(question, condition=_enough):
        total, s, recall = question
        return _most_rows(total, lambda r, b: condition(s, r, b, recall))

    while True:  # several questions, so that every wrong idea shows itself
        totals, similar = rng.choice([24, 36, 48, 60, 72, 96, 120, 144], size=9), rng.uniform(0.3, 0.98, size=9)
        wanted = rng.uniform(0.05, 0.97, size=9)
        questions = list(zip(totals.tolist(), similar.tolist(), wanted.tolist(), strict=True))
        right = [solve(question) for question in questions]
        wrong = [[solve(question, condition) for question in questions] for condition, _ in WRONG_ROWS]
        bands = [total // rows if rows else 0 for (total, _, _), rows in zip(questions, right, strict=True)]
        easier = [totals.tolist(), *([solve(question, condition) for question in questions] for condition in EASIER)]
        uneven = [max(r for r in range(1, t + 1) if _enough(s, r, t // r, recall)) for t, s, recall in questions]
        vectors = [right, bands, [1] * 9, uneven, *wrong]
        if (
            0 not in right
            and not any(vector in easier for vector in vectors)
            and len(set(map(tuple, vectors))) == len(vectors)
        ):
            break
    got = [_number(student(*question)) for question in questions]
    for answers, (_, message) in zip(wrong, WRONG_ROWS, strict=True):
        require(got != answers, message)
    require(
        got not in easier,
        "You return total nearly always: what you ask for gets easier with more rows. In truth a band agrees with "
        "probability s to the number of ROWS, any of b bands is enough, and (1 − s^r)^b is the share of MISSED pairs.",
    )
    require(got != bands, "That is the number of bands; return the number of rows in a band.")
    require(
        got != [1] * 9, "That is the smallest number of rows; more mean fewer useless candidates: find the largest."
    )
    for (total, s, recall), rows, expected in zip(questions, got, right, strict=True):
        require(not rows or total % rows == 0, f"{rows} does not divide {total}: there would be part of a band.")
        require(
            rows == expected,
            f"Expected {expected} rows for total {total}, similarity {s:.3f}, recall {recall:.3f}; got {rows}.",
        )
    hopeless = student(24, 0.01, 0.999)
    require(
        hopeless is not None and hopeless == 0, f"Where no number of rows is enough the answer is 0, got {hopeless}."
    )
    got = student(24, 1.0, 1.0)
    require(got == 24, f"Equal texts agree in everything: one band of 24 rows finds them surely. Got {got}.")


def _maximum_matching(text, words, backward):
    """Words by maximum matching."""
    found = []
    while text:
        sizes = range(len(text), 0, -1)
        size = next(n for n in sizes if n == 1 or (text[-n:] if backward else text[:n]) in words)
        piece, text = (text[-size:], text[:-size]) if backward else (text[:size], text[size:])
        found.append(piece)
    return found[::-1] if backward else found


@tasks.add(points=2, minutes=15)
def cut_from_the_right(student, rng):
    """Backward maximum matching."""
    a, b, c, d, e, f = (str(x) for x in rng.choice(HAN, size=6, replace=False))
    words = [a + b, a + b + c, c + d, e + f + a + b, f, d + e]
    text = a + b + c + d
    got = _strings(student(text, words))
    require(
        "".join(got) != text[::-1] or text == text[::-1], "You return the words from right to left; turn them round."
    )
    require(got != [c + d, a + b], "You return the words from right to left; turn the list round at the end.")
    require(
        got != [a + b + c, d], f"You matched from the left: {got}. From the right the last word comes first, {c + d!r}."
    )
    require(got == [a + b, c + d], f"Expected {[a + b, c + d]} for {text!r} and the words {words}, got {got}.")
    text = d + e + f + a + b
    got = _strings(student(text, words))
    require(
        got != [d + e, f, a + b],
        f"You took the shortest word that fits, {a + b!r}; the longest at the end of {text!r} is {e + f + a + b!r}.",
    )
    require("".join(got) == text, f"Characters are lost: {text!r} became {got}. Unknown ones stand alone.")
    require(got == [d, e + f + a + b], f"Expected {[d, e + f + a + b]} for {text!r}, got {got}.")
    unknown = b + d + b
    got = _strings(student(unknown, words))
    require(
        got != [unknown], f"No word fits in {unknown!r}: unknown characters stand alone, one by one. You return {got}."
    )
    require("".join(got) == unknown, f"Characters are lost: {unknown!r} became {got}.")
    require(got == [b, d, b], f"Expected {[b, d, b]}, got {got}.")
    tail = c + d + b
    got = _strings(student(tail, words))
    require(
        got == [c + d, b],
        f"After an unknown character go on as before: expected {[c + d, b]} for {tail!r}, got {got}.",
    )
    for _ in range(5):
        text = "".join(rng.choice([a, b, c, d, e, f], size=int(rng.integers(8, 14))))
        expected = _maximum_matching(text, set(words), backward=True)
        got = _strings(student(text, words))
        require("".join(got) == text, f"The words must be the text: {text!r} became {got}.")
        require(got == expected, f"Expected {expected} for {text!r} and the words {words}, got {got}.")
    require(_strings(student("", words)) == [], "An empty text has no words.")
    whole = a + b + c
    require(_strings(student(whole, words)) == [whole], f"A word may be the whole text: {whole!r}.")


def _viterbi(start, follow, emit):
    """The most probable tags."""
    best, back = start + emit[0], []
    for emitted in emit[1:]:
        ways = best[:, None] + follow
        back.append(ways.argmax(axis=0))
        best = ways.max(axis=0) + emitted
    path = [int(best.argmax())]
    for came_from in reversed(back):
        path.append(int(came_from[path[-1]]))
    return path[::-1]


def _score(path, start, follow, emit):
    """Log-probability of a sequence of tags."""
    steps = sum(follow[a, b] for a, b in zip(path, path[1:], strict=False))
    return start[path[0]] + steps + sum(emit[t, y] for t, y in enumerate(path))


def _greedy(start, follow, emit):
    """The best tag at each place, given only the one before."""
    path = [int((start + emit[0]).argmax())]
    for emitted in emit[1:]:
        path.append(int((follow[path[-1]] + emitted).argmax()))
    return path


def _forward_peaks(start, follow, emit):
    """The best end at each place, without going back."""
    best, path = start + emit[0], []
    path.append(int(best.argmax()))
    for emitted in emit[1:]:
        best = (best[:, None] + follow).max(axis=0) + emitted
        path.append(int(best.argmax()))
    return path


def _hmm(rng, K, T):
    """Log-probabilities of a random model and line."""
    start, follow = rng.dirichlet(np.ones(K)), rng.dirichlet(np.ones(K) * 0.6, size=K)
    return np.log(start), np.log(follow + 1e-9), np.log(rng.uniform(0.02, 1, size=(T, K)))


@tasks.add(points=3, minutes=20)
def best_tags(student, rng):
    """Viterbi's algorithm."""
    K, T = 3, 11
    while True:
        start, follow, emit = _hmm(rng, K, T)
        start = start[rng.permutation(K)] * 4  # a start that matters
        expected = _viterbi(start, follow, emit)
        wrong = {
            "greedy": _greedy(start, follow, emit),
            "peaks": _forward_peaks(start, follow, emit),
            "emissions": emit.argmax(axis=1).tolist(),
            "no start": _viterbi(np.zeros(K), follow, emit),
            "transposed": _viterbi(start, follow.T, emit),
            "no steps": [int((start + emit[0]).argmax()), *emit[1:].argmax(axis=1).tolist()],
            "reversed": expected[::-1],
            "late": _viterbi(start, follow, np.vstack([np.zeros(K), emit[1:]])),
            "worst": _viterbi(-start, -follow, -emit),
        }
        paths = [expected, *wrong.values()]
        if len(set(map(tuple, paths))) == len(paths):
            break
    got = student(start, follow, emit)
    require(hasattr(got, "__len__"), f"Return a list of tags' numbers, got {type(got).__name__}.")
    require(len(got) == T, f"Return one tag for each of the {T} places, got {len(got)}.")
    require(
        all(isinstance(tag, (Integral, np.integer)) for tag in np.asarray(got).ravel().tolist()),
        f"Return the tags' numbers, 0 … {K - 1}, got {list(got)}.",
    )
    got = [int(tag) for tag in got]
    for name, message in (
        ("emissions", "You took the tag that emits each character best, and forgot which tags may follow each other."),
        ("greedy", "You decided each tag at once, from the one before it; a worse beginning may have the better end."),
        (
            "peaks",
            "You took the best end at every place; the best way need not go through them: remember where each "
            "maximum came from, and walk back from the last.",
        ),
        ("reversed", "The tags are right and in the wrong order: walking back finds the last one first."),
        ("no start", "The probabilities of the first tag, start, are missing."),
        ("transposed", "follow[a, b] is the step from a to b; you use it from b to a."),
        ("no steps", "The steps from tag to tag are missing."),
        ("late", "The emission of the first character is missing."),
        (
            "worst",
            "You found the least probable tags: take the maximum of log-probabilities, though they are negative.",
        ),
    ):
        require(got != wrong[name], message)
    require(
        got == expected,
        f"Your tags {got} have log-probability {_score(got, start, follow, emit):.4f}, the best, {expected}, have "
        f"{_score(expected, start, follow, emit):.4f}.",
    )
    for _ in range(10):  # against all sequences
        start, follow, emit = _hmm(rng, 2, int(rng.integers(1, 5)))
        follow[int(rng.integers(2)), int(rng.integers(2))] = -np.inf
        with np.errstate(all="ignore"):
            got = [int(tag) for tag in student(start, follow, emit)]
            ways = [_score(path, start, follow, emit) for path in product(range(2), repeat=len(emit))]
            score = _score(got, start, follow, emit) if len(got) == len(emit) else np.nan
        require(len(got) == len(emit), f"A line of {len(emit)} characters got {len(got)} tags.")
        require(score > -np.inf, "You chose a step that cannot be: its log-probability is −∞.")
        require(np.isclose(score, max(ways)), f"Of all ways the best has {max(ways):.4f}, yours {score:.4f}.")
    start, follow, emit = _hmm(rng, 3, 3001)
    got = [int(tag) for tag in student(start, follow, emit)]
    score, best = _score(got, start, follow, emit), _score(_viterbi(start, follow, emit), start, follow, emit)
    require(
        np.isclose(score, best, rtol=1e-4),
        f"On a line of 3,001 characters your tags have {score:.1f}, the best {best:.1f}: add logarithms, since the "
        "product of so many probabilities is 0 for a computer.",
    )


@tasks.add(points=3, minutes=15)
def choose_test(student, rng):
    """A test set that cuts no group."""
    sizes = rng.permutation([1] * 9 + [2] * 5 + [3] * 4 + [7] * 3 + [11] * 2)  # so that groups are no measure of texts
    labels = rng.choice(1000, size=23, replace=False)
    groups = rng.permutation(np.repeat(labels, sizes))
    N, share = len(groups), float(rng.uniform(0.2, 0.4))

    def ask(generator, share=share, groups=groups):
        got = np.asarray(student(groups.tolist(), share, generator))
        require(
            got.dtype.kind not in "iu" or got.shape == (len(groups),),
            "Return a bool for each text, not the numbers of the texts.",
        )
        require(
            got.shape == (len(groups),), f"Return a bool for each of the {len(groups)} texts, got shape {got.shape}."
        )
        require(
            got.dtype.kind == "b" or set(got.tolist()) <= {0, 1}, "Return bools: True where a text is in the test set."
        )
        return got.astype(bool)

    seen = [ask(np.random.default_rng(seed)) for seed in rng.integers(1 << 30, size=12)]
    inside = [Counter(groups[test].tolist()) for test in seen]
    cut = [[group for group in test if test[group] < (groups == group).sum()] for test in inside]
    require(
        not any(cut) or any(max(test.values(), default=0) > 1 for test in inside),
        "Your test set has texts of different groups, one of each, and their near-duplicates stay in training: take "
        "all members of a group.",
    )
    require(
        not any(cut) or max(map(len, cut)) > 1,
        f"Group {max(cut, key=len)} is cut: its last members stay in training. Take whole groups, even if the test "
        "set gets a little larger than asked.",
    )
    require(
        not any(cut),
        f"{max(map(len, cut))} groups are cut: copies of test texts stay in training. Shuffle groups, not texts.",
    )
    require(
        len({test.tobytes() for test in seen}) > 1, "Every call gives the same test set: shuffle the groups with rng."
    )
    require(
        len(set(map(len, inside))) > 1,
        f"Every test set has {len(inside[0])} groups; share is of the texts, and groups differ in size.",
    )
    sizes_seen = [int(test.sum()) for test in seen]
    most = max(test.total() - max(test.values(), default=0) - share * N for test in inside)
    require(
        min(sizes_seen) >= share * N - 1e-9,
        f"A test set has {min(sizes_seen)} of {N} texts, less than the share {share:.2f}: go on until it is reached.",
    )
    require(most < 0, f"You took more groups than needed: {max(sizes_seen)} of {N} texts for a share of {share:.2f}.")
    again = [ask(np.random.default_rng(5)) for _ in range(2)]
    require(
        np.array_equal(*again),
        "The same generator gives different splits: draw from rng only, not from a seed of your own.",
    )
    chosen = Counter()
    for seed in rng.integers(1 << 30, size=60):
        chosen.update(set(groups[ask(np.random.default_rng(seed))].tolist()))
    never = set(labels.tolist()) - set(chosen)
    require(
        not never,
        f"In 60 random splits {len(never)} of 23 groups never came into the test set: shuffle all groups alike.",
    )
    got = ask(rng, share=0.0)
    require(not got.any(), f"A share of 0 needs no test set, got {got.sum()} texts.")
    require(ask(rng, share=1.0).all(), "A share of 1 is everything.")
    single = rng.permutation(17)
    got = ask(rng, share=0.5, groups=single)
    require(got.sum() == 9, f"17 groups of one text and a share of 0.5 make a test set of 9, got {got.sum()}.")
