"""Checks of the exercises on tokenization; the inputs are drawn anew from each seed."""

import math
import string
from collections import Counter
from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from numbers import Real

import numpy as np

from lmcore.checking import Tasks, require, same

tasks = Tasks()
check = tasks.check
_same = partial(same, rtol=2e-5, atol=1e-7)

LETTERS = list(string.ascii_lowercase)
SIGNS = ["é", "ß", "中", "文", "字", "😀", "ü", "学"]


def _number(got):
    """Require that an answer is one number."""
    one = isinstance(got, Real) or (isinstance(got, np.ndarray) and got.shape == () and got.dtype.kind in "iuf")
    require(one, f"Return one number, got {type(got).__name__} {got}.")
    return got


def _word(rng, low=2, high=7):
    """A word of random letters."""
    return "".join(rng.choice(LETTERS, size=int(rng.integers(low, high))))


def _words(rng, n):
    """So many different words."""
    words = {}
    while len(words) < n:
        words[_word(rng)] = None
    return list(words)


def _text(rng, n_words, n_signs):
    """Words, and characters of more than one byte, with spaces between."""
    parts = [_word(rng) for _ in range(n_words)] + list(rng.choice(SIGNS, size=n_signs))
    return " ".join(parts[i] for i in rng.permutation(len(parts)))


@tasks.add(points=1, minutes=5)
def bytes_per_token(student, rng):
    """How tightly a tokenizer packs."""
    step = int(rng.integers(2, 5))

    def encode(text):
        """A toy tokenizer: ASCII in runs of some letters, every other character in two tokens."""
        plain = sum(character.isascii() for character in text)
        return list(range(-(-plain // step) + 2 * (len(text) - plain)))

    while True:  # until it matters whether the texts are encoded one by one
        texts = [_text(rng, 9, 0), _text(rng, 2, 9), _text(rng, 4, 1)]
        if len(encode("".join(texts))) != sum(len(encode(text)) for text in texts):
            break
    tokens = [len(encode(text)) for text in texts]
    size, characters = [len(text.encode()) for text in texts], [len(text) for text in texts]
    expected = sum(size) / sum(tokens)
    got = _number(student(texts, encode))
    if _same(got, expected):  # in a few draws a wrong idea gives the right number, too
        return
    require(not _same(got, 1 / expected), "That is tokens per byte; turn the fraction round.")
    require(
        not _same(got, sum(characters) / sum(tokens)),
        "That is characters per token. len of a string counts characters; its bytes are in text.encode().",
    )
    require(
        not _same(got, sum(len(text.split()) for text in texts) / sum(tokens)), "That is words per token, not bytes."
    )
    require(
        not _same(got, np.mean(np.divide(size, tokens))),
        "You averaged the texts' ratios: a short text would count as much as a long one. Divide the sums.",
    )
    require(
        not _same(got, sum(len(text.encode("utf-16")) for text in texts) / sum(tokens)),
        "These are the bytes of UTF-16; the task asks for UTF-8.",
    )
    require(
        not _same(got, sum(size) / len(encode("".join(texts)))),
        "You joined the texts before you encoded them; encode each text by itself.",
    )
    require(
        not _same(got, size[0] / tokens[0]) and not _same(got, size[-1] / tokens[-1]),
        "You looked at one of the texts only; take all of them together.",
    )
    require(False, f"Expected {expected:.4f} bytes per token, got {got}.")
    got = _number(student([*texts, ""], encode))
    require(_same(got, expected), f"An empty text must change nothing: expected {expected:.4f}, got {got}.")


@tasks.add(points=1, minutes=5)
def bits_per_byte(student, rng):
    """A fair comparison across tokenizers."""
    text = _text(rng, 6, 7)
    logprobs = -rng.uniform(0.2, 5, size=int(rng.integers(14, 19)))
    nats, size = -logprobs.sum(), len(text.encode())
    bits = nats / math.log(2)
    expected = bits / size
    got = _number(student(logprobs, text))
    require(not _same(got, -expected), "The sign is wrong: log-probabilities are negative, bits are not.")
    require(not _same(got, nats / size), "That is nats per byte: divide by log 2 to get bits.")
    require(
        not _same(got, nats * math.log(2) / size), "You multiplied by log 2; one nat is *more* than one bit: divide."
    )
    require(
        not _same(got, bits / len(text)),
        "That is bits per character; a character has one to four bytes in UTF-8: use text.encode().",
    )
    require(not _same(got, bits / len(logprobs)), "That is bits per token, which depends on the tokenizer.")
    require(not _same(got, 2**expected), "That is two to the bits per byte, a perplexity; stop before the power.")
    require(not _same(got, math.exp(nats / len(logprobs))), "That is the perplexity per token.")
    require(not _same(got, bits), "These are the bits of the whole text; divide by its bytes.")
    require(_same(got, expected), f"Expected {expected:.5f} bits per byte, got {got}.")


def _oov(train, test, size):
    """Share of running words that are not kept."""
    counts = Counter(train)
    kept = set(sorted(counts, key=lambda word: (-counts[word], word))[:size])
    return sum(word not in kept for word in test) / len(test)


def _shuffled(rng, counts):
    """A text with these counts of words, in random order."""
    tokens = [word for word, count in counts.items() for _ in range(count)]
    return [tokens[i] for i in rng.permutation(len(tokens))]


def _texts_without_ties(rng):
    """Training and test words for which the usual mistakes give other shares than the right answer."""
    while True:
        words, size = _words(rng, 10), int(rng.integers(3, 5))
        train = _shuffled(rng, dict(zip(words, [15, 12, 10, 7, 5, 3, 1], strict=False)))
        test = _shuffled(rng, {word: int(rng.integers(1, 7)) for word in words})
        new = set(test) - set(words[:size])
        test_top = [word for word, _ in Counter(test).most_common(size)]
        expected = _oov(train, test, size)
        wrong = {
            "types": len(new) / len(set(test)),
            "known": 1 - expected,
            "all": _oov(train, test, 99),
            "test": sum(word not in test_top for word in test) / len(test),
            "rare": sum(word not in words[7 - size : 7] for word in test) / len(test),
            "per train": sum(word in new for word in test) / len(train),
        }
        values = [expected, *wrong.values()]
        if min(abs(a - b) for i, a in enumerate(values) for b in values[:i]) > 1e-3:
            return train, test, size, expected, wrong


@tasks.add(points=2, minutes=10)
def oov_rate(student, rng):
    """The words that are missing."""
    train, test, size, expected, wrong = _texts_without_ties(rng)
    got = _number(student(train, test, size))
    require(not _same(got, wrong["known"]), "That is the share of words that *are* kept.")
    require(
        not _same(got, wrong["types"]),
        "You counted each different word of the test text once; count running words, repetitions included.",
    )
    require(not _same(got, 100 * expected), "That is in percent; return the share, between 0 and 1.")
    require(not _same(got, expected * len(test)), "That is the number of missing words; divide by the length of test.")
    require(not _same(got, wrong["all"]), "You kept all training words: only the size most frequent ones are known.")
    require(not _same(got, wrong["test"]), "You took the most frequent words of the test text, which is peeking.")
    require(not _same(got, wrong["rare"]), "You kept the rarest words instead of the most frequent ones.")
    require(not _same(got, wrong["per train"]), "You divided by the length of train; the share is of the test text.")
    require(_same(got, expected), f"Expected {expected:.4f} with size {size}, got {got}.")
    first, late, early = sorted(_words(rng, 3), reverse=True)
    tied = [*[first] * 3, late, early, late, early]
    got = student(tied, [early, late, late, first], 2)
    require(
        not _same(got, 0.25),
        f"{late!r} and {early!r} occur equally often, and one place is left: the first in the alphabet gets it, not "
        "the one that was seen first.",
    )
    require(_same(got, 0.5), f"Of equally frequent words keep those first in the alphabet: expected 0.5, got {got}.")
    got = student(tied, [early, late, first, _word(rng, 8, 12)], 99)
    require(_same(got, 0.25), f"With room for more words than there are, expected 0.25, got {got}.")


def _split(text, specials):
    """Parts of a text, and whether each is special."""
    parts, plain, i = [], "", 0
    while i < len(text):
        token = max((s for s in specials if text.startswith(s, i)), key=len, default=None)
        if token is None:
            plain, i = plain + text[i], i + 1
            continue
        parts += [(plain, False)] * bool(plain) + [(token, True)]
        plain, i = "", i + len(token)
    return parts + [(plain, False)] * bool(plain)


def _pairs(got):
    """Require a list of pairs (str, bool)."""
    require(isinstance(got, (list, tuple)), f"Return a list of pairs, got {type(got).__name__}.")
    for pair in got:
        right = isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], str)
        require(right, f"Each entry is a pair (part, is_special), the part first; got {pair!r}.")
        require(pair[1] in (True, False, None), f"is_special must be True or False, got {pair[1]!r}.")
    return [(part, bool(special)) for part, special in got]


@tasks.add(points=2, minutes=15)
def split_specials(student, rng):
    """Where the special tokens stand."""
    name, other = _words(rng, 2)
    end, double, sep = f"<|{name}|>", f"<|{name}|><|{name}|>", f"[{other.upper()}]"
    specials = [[end, double, sep][i] for i in rng.permutation(3)]
    one, two, three, four = (_word(rng) + " " for _ in range(4))

    def ask(text, given, why):
        got, expected = _pairs(student(text, given)), _split(text, given)
        require(
            got == expected or [(part, not special) for part, special in got] != expected,
            "The marks are the wrong way round: True means special.",
        )
        require(
            not [part for part, special in got if special and part not in given],
            f"In {text!r} you marked something as special that is not in specials {given}, got {got}: signs such as | "
            "and [ have a meaning in regular expressions and must be escaped.",
        )
        require(("", False) not in got, f"No part may be empty; for {text!r} you returned {got}.")
        require(
            got == expected or got != [pair for pair in expected if pair[1]],
            "You returned the special tokens only; the ordinary text between them is wanted too.",
        )
        require(
            got == expected or got != [pair for pair in expected if not pair[1]],
            "You dropped the special tokens; they are parts of the result, marked True.",
        )
        require(got == expected, f"{why}: for {text!r} and {given} expected {expected}, got {got}.")

    ask(one + sep + two, [end, sep], "A special token in the middle")
    ask(one + end + two + sep + three + end + four, [end, sep], "Every special token counts, not only the first")
    ask(f"{one}{name}|{other.upper()}<|{two}", [end, sep], "Pieces of a special token are ordinary text")
    ask(end + one + end + sep, [end, sep], "Special tokens at the ends and side by side")
    ask(one + double + two + end, specials, "Of two that begin at the same place the longer one counts")
    ask(one + double + two + end, specials[::-1], "Of two that begin at the same place the longer one counts")
    first, second = f"<{name}", f"{name}|{other}>"
    ask(f"{one}<{name}|{other}>{two}", [second, first], "What begins further left counts, even if it is shorter")
    ask(one + end, [], "Without special tokens all is one part")
    ask("", [end], "An empty text has no parts")


def _greedy(word, tokens):
    """Pieces by longest match."""
    pieces, start = [], 0
    while start < len(word):
        prefix = "##" if start else ""
        fits = [end for end in range(start + 1, len(word) + 1) if prefix + word[start:end] in tokens]
        if not fits:
            return ["[UNK]"]
        pieces.append(prefix + word[start : fits[-1]])
        start = fits[-1]
    return pieces


@tasks.add(points=2, minutes=15)
def wordpiece_encode(student, rng):
    """Longest match, or nothing."""
    table = dict(zip("abcdefg", rng.choice(LETTERS, size=7, replace=False), strict=True))

    def spell(text):
        return "".join(table.get(letter, letter) for letter in text)

    def ask(word, tokens):
        word, tokens = spell(word), {"[UNK]", *map(spell, tokens)}
        got = student(word, tokens)
        require(isinstance(got, (list, tuple)), f"Return a list of pieces, got {type(got).__name__}.")
        return word, list(got), _greedy(word, tokens), sorted(tokens)

    word, got, expected, tokens = ask(
        "abcde", ["a", "ab", "abc", "##b", "##c", "##d", "##de", "##e", "de", "d", "e", "cde"]
    )
    bare = [piece.removeprefix("##") for piece in got]
    require(
        got == expected or bare != [piece.removeprefix("##") for piece in expected],
        f"A piece inside the word is looked up and written with ## before it: expected {expected}, got {got}.",
    )
    require(len(got) < 5, f"You took short pieces; take the longest one that fits: expected {expected}, got {got}.")
    require(got == expected, f"For {word!r} and {tokens} expected {expected}, got {got}.")
    word, got, expected, tokens = ask("abc", ["a", "ab", "##c", "##abc", "##bc"])
    require(
        got != [f"##{word}"],
        f"{got[0]!r} can only stand inside a word; at its beginning pieces have no ##. Expected {expected}.",
    )
    require(got == expected, f"For {word!r} and {tokens} expected {expected}, got {got}.")
    word, got, expected, tokens = ask("abcf", ["abc", "a", "##b", "##c", "f"])
    require(
        not (len(got) > 1 and got[-1] == "[UNK]"),
        f"When nothing fits, the *whole* word is one [UNK], also what was cut before; got {got}.",
    )
    require(
        got != [spell("abc")], f"You dropped the rest that does not fit: {word!r} as a whole is ['[UNK]'], got {got}."
    )
    require(
        got == expected, f"Nothing in {tokens} goes on with the last letter of {word!r}: expected ['[UNK]'], got {got}."
    )
    word, got, expected, tokens = ask("abd", ["ab", "a", "##bd"])
    require(
        got != [spell("a"), spell("##bd")],
        f"You went back to a shorter piece. WordPiece is greedy and does not: after {spell('ab')!r} it is stuck, and "
        "the word is ['[UNK]'].",
    )
    require(got == expected, f"For {word!r} and {tokens} expected {expected}, got {got}.")
    word, got, expected, tokens = ask("gfedcba", ["gfedcba", "g", "##fedcba"])
    require(got == expected, f"The word {word!r} is a token itself: expected {expected}, got {got}.")


def _merged(word, pair):
    """A word with the pair merged from the left."""
    result, i = [], 0
    while i < len(word):
        found = tuple(word[i : i + 2]) == pair
        result.append("".join(pair) if found else word[i])
        i += 2 if found else 1
    return result


def _changes(word, count, pair):
    """Changes without zeros."""
    changes = Counter()
    for after in pairwise(_merged(word, pair)):
        changes[after] += count
    for before in pairwise(word):
        changes[before] -= count
    return {pair: change for pair, change in changes.items() if change}


@tasks.add(points=3, minutes=20)
def count_changes(student, rng):
    """What one merge changes."""
    a, b, x, y, z = rng.choice(LETTERS, size=5, replace=False).tolist()
    count = int(rng.integers(2, 30))

    def ask(word, pair):
        got = student(tuple(word), count, pair)
        require(isinstance(got, Mapping), f"Return a dictionary from pairs to changes, got {type(got).__name__}.")
        got, expected = dict(got), _changes(word, count, pair)
        for key in got:
            require(
                isinstance(key, tuple) and len(key) == 2, f"The keys are pairs of tokens, tuples of two; got {key!r}."
            )
        text = f"merging {' '.join(pair)!r} in {' '.join(word)!r}, which occurs {count} times"
        require(0 not in got.values(), f"Leave out pairs whose count stays the same; {text}, you returned {got}.")
        single = {key: change // count for key, change in expected.items()}
        require(not expected or got != single, f"The word occurs {count} times, and so does each change in it.")
        require(
            not expected or got != {key: -change for key, change in expected.items()},
            "The signs are the wrong way round: a pair that becomes rarer has a negative change.",
        )
        return got, expected, f"{text}: expected {expected}, got {got}."

    got, expected, what = ask([x, a, b, y, z], (a, b))
    gained = {key: change for key, change in expected.items() if change > 0}
    require(
        got != gained, "You returned only what becomes more frequent. (The difference of two Counters drops the rest.)"
    )
    require(
        got != {key: change for key, change in expected.items() if change < 0},
        "You returned only what becomes rarer; the new token forms pairs with its neighbours.",
    )
    require(
        got != {(a, b): -count, **gained},
        f"The old pairs {x} {a} and {b} {y} are gone too, not only the merged one.",
    )
    require((x, a + b) in got and (x, a) in got, f"The neighbour on the left is forgotten: {what}")
    require((a + b, y) in got and (b, y) in got, f"The neighbour on the right is forgotten: {what}")
    require(got == expected, what[0].upper() + what[1:])
    got, expected, what = ask([a, b, x, a, b], (a, b))
    require(got.get((a, b)) != -count, f"The pair stands in the word twice, and you merged it once: {what}")
    require(got == expected, what[0].upper() + what[1:])
    got, expected, what = ask([a, b, a, b], (a, b))
    require(got.get((a + b, b)) is None and got.get((a + b, a)) is None, f"Both neighbours were merged as well: {what}")
    require(got == expected, what[0].upper() + what[1:])
    got, expected, what = ask([a, a, a], (a, a))
    require((a, a + a) not in got, f"Merge from the left; {what}")
    require((a + a, a + a) not in got, f"A token can be merged only once, and {a} {a} {a} has one merge; {what}")
    require(got == expected, what[0].upper() + what[1:])
    got, expected, what = ask([x, b, a, y], (a, b))
    require(got == expected, f"The pair is not in the word, so nothing changes; {what}")


def _cuts(word, logprobs):
    """Every way to cut a word."""
    if not word:
        return [[]]
    return [
        [word[:end], *rest]
        for end in range(1, len(word) + 1)
        if word[:end] in logprobs
        for rest in _cuts(word[end:], logprobs)
    ]


def _uses(cuts, weights, *, once=False):
    """Weighted sum of the uses of each piece."""
    uses = Counter()
    for cut, weight in zip(cuts, weights, strict=True):
        for piece in set(cut) if once else cut:
            uses[piece] += float(weight)
    return uses


def _equal_uses(got, expected):
    """Whether two dictionaries hold the same numbers; what is absent is zero."""
    return all(_same(got.get(piece, 0), expected.get(piece, 0)) for piece in {*got, *expected})


@tasks.add(points=4, minutes=25)
def expected_uses(student, rng):
    """One step of expectation–maximisation, for one word."""
    a, b, c = rng.choice(LETTERS, size=3, replace=False).tolist()
    word = a + b + a + c + b + a
    pieces = [a, b, c, a + b, b + a, a + c, c + b, a + b + a, c + b + a, b + c]
    p = rng.uniform(0.2, 1, size=len(pieces)) ** 2
    logprobs = dict(zip(pieces, np.log(p / p.sum()).tolist(), strict=True))
    cuts = _cuts(word, logprobs)
    weights = np.array([math.exp(sum(logprobs[piece] for piece in cut)) for cut in cuts])
    expected = _uses(cuts, weights / weights.sum())
    best = np.arange(len(cuts)) == weights.argmax()
    got = student(word, logprobs)
    require(isinstance(got, Mapping), f"Return a dictionary from pieces to numbers, got {type(got).__name__}.")
    got = dict(got)
    require(not set(got) - set(pieces), f"These are no pieces: {sorted(map(str, set(got) - set(pieces)))}.")
    require(
        not _equal_uses(got, _uses(cuts, best)),
        "You counted the pieces of the best cut only; average over all cuts, each with its probability.",
    )
    require(
        not _equal_uses(got, _uses(cuts, np.full(len(cuts), 1 / len(cuts)))),
        "You averaged all cuts alike; a cut counts as much as it is probable.",
    )
    require(
        not _equal_uses(got, _uses(cuts, np.ones(len(cuts)))),
        "You counted the cuts in which a piece stands; weigh each cut with its probability among all cuts.",
    )
    require(
        not _equal_uses(got, _uses(cuts, weights)),
        "The probabilities of the cuts do not sum to one yet: divide by their sum.",
    )
    require(
        not _equal_uses(got, _uses(cuts, weights / weights.sum(), once=True)),
        f"In some cuts {a!r} stands twice, and then it is used twice; you counted it once.",
    )
    total = expected.total()
    require(
        not _equal_uses(got, {piece: n / total for piece, n in expected.items()}),
        "These are the new probabilities (the maximisation); the task asks for the expected uses before that division.",
    )
    logs = np.array([-sum(logprobs[piece] for piece in cut) for cut in cuts])
    require(
        not _equal_uses(got, _uses(cuts, logs / logs.sum())),
        "You weighed the cuts with their log-probabilities; take the exponential first.",
    )
    covered = sum(len(piece) * n for piece, n in got.items())
    require(
        _same(covered, len(word)),
        f"Every cut covers {len(word)} letters, so Σ length · uses must be {len(word)}; yours is {covered}.",
    )
    wrong = next((piece for piece in pieces if not _same(got.get(piece, 0), expected[piece])), "")
    require(not wrong, f"Expected {expected[wrong]:.5f} uses of {wrong!r} in {word!r}, got {got.get(wrong, 0)}.")
    got = dict(student(a + b, {a + b: math.log(0.5), a: math.log(0.25)}))
    require(
        _equal_uses(got, {a + b: 1.0}),
        f"{a + b!r} can be cut in one way only if {b!r} is no piece: expected 1 use, got {got}.",
    )
