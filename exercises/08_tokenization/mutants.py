"""Plausible wrong answers to the exercises on tokenization, each with the message that must reject it."""

import math
import re
from collections import Counter
from itertools import pairwise

import numpy as np

from lmcore.checking import mutant


@mutant("bytes_per_token", rejected_with="encode each text by itself")
def joins_the_texts(texts, encode):
    return sum(len(text.encode()) for text in texts) / len(encode("".join(texts)))


@mutant("bytes_per_token", rejected_with="tokens per byte")
def turns_the_fraction(texts, encode):
    return sum(len(encode(text)) for text in texts) / sum(len(text.encode()) for text in texts)


@mutant("bytes_per_token", rejected_with="characters per token")
def counts_characters(texts, encode):
    return sum(map(len, texts)) / sum(len(encode(text)) for text in texts)


@mutant("bytes_per_token", rejected_with="averaged the texts' ratios")
def averages_ratios(texts, encode):
    return np.mean([len(text.encode()) / len(encode(text)) for text in texts if text])


@mutant("bytes_per_token", rejected_with="words per token")
def counts_words(texts, encode):
    return sum(len(text.split()) for text in texts) / sum(len(encode(text)) for text in texts)


@mutant("bytes_per_token", rejected_with="UTF-16")
def takes_another_encoding(texts, encode):
    return sum(len(text.encode("utf-16")) for text in texts) / sum(len(encode(text)) for text in texts)


@mutant("bytes_per_token", rejected_with="one of the texts only")
def returns_in_the_loop(texts, encode):
    for text in texts:
        return len(text.encode()) / len(encode(text))


@mutant("bits_per_byte", rejected_with="sign is wrong")
def forgets_the_minus(logprobs, text):
    return np.sum(logprobs) / np.log(2) / len(text.encode())


@mutant("bits_per_byte", rejected_with="nats per byte")
def stays_in_nats(logprobs, text):
    return -np.sum(logprobs) / len(text.encode())


@mutant("bits_per_byte", rejected_with="bits per character")
def divides_by_characters(logprobs, text):
    return -np.sum(logprobs) / np.log(2) / len(text)


@mutant("bits_per_byte", rejected_with="bits per token")
def divides_by_tokens(logprobs, text):
    return -np.mean(logprobs) / np.log(2)


@mutant("bits_per_byte", rejected_with="You multiplied by log 2")
def multiplies_by_log_two(logprobs, text):
    return -np.sum(logprobs) * np.log(2) / len(text.encode())


@mutant("bits_per_byte", rejected_with="perplexity per token")
def returns_the_perplexity(logprobs, text):
    return np.exp(-np.mean(logprobs))


def _ranked(train):
    """Words, the most frequent first, in alphabetical order among equals."""
    counts = Counter(train)
    return sorted(counts, key=lambda word: (-counts[word], word))


@mutant("oov_rate", rejected_with="*are* kept")
def returns_the_known(train, test, size):
    kept = _ranked(train)[:size]
    return sum(word in kept for word in test) / len(test)


@mutant("oov_rate", rejected_with="each different word")
def counts_types(train, test, size):
    return len(set(test) - set(_ranked(train)[:size])) / len(set(test))


@mutant("oov_rate", rejected_with="kept all training words")
def forgets_the_size(train, test, size):
    return sum(word not in set(train) for word in test) / len(test)


@mutant("oov_rate", rejected_with="not the one that was seen first")
def leaves_ties_to_the_counter(train, test, size):
    kept = {word for word, _ in Counter(train).most_common(size)}
    return sum(word not in kept for word in test) / len(test)


@mutant("oov_rate", rejected_with="which is peeking")
def learns_from_the_test(train, test, size):
    kept = [word for word, _ in Counter(test).most_common(size)]
    return sum(word not in kept for word in test) / len(test)


@mutant("oov_rate", rejected_with="rarest words")
def keeps_the_rarest(train, test, size):
    kept = _ranked(train)[-size:]
    return sum(word not in kept for word in test) / len(test)


@mutant("oov_rate", rejected_with="in percent")
def returns_percent(train, test, size):
    kept = _ranked(train)[:size]
    return 100 * sum(word not in kept for word in test) / len(test)


def _by_pattern(text, specials, escape=re.escape, order=lambda s: -len(s)):
    """Parts by a regular expression."""
    if not specials:
        return [(text, False)] if text else []
    pattern = "|".join(map(escape, sorted(specials, key=order)))
    return [(part, part in specials) for part in re.split(f"({pattern})", text) if part]


@mutant("split_specials", rejected_with="must be escaped")
def escapes_nothing(text, specials):
    if not specials:
        return [(text, False)]
    parts, done = [], 0
    for found in re.finditer("|".join(sorted(specials, key=len, reverse=True)), text):
        if found.start() > done:
            parts.append((text[done : found.start()], False))
        parts.append((found.group(), True))
        done = found.end()
    return parts + [(text[done:], False)] * (done < len(text))


@mutant("split_specials", rejected_with="the longer one counts")
def takes_the_shorter(text, specials):
    return _by_pattern(text, specials, order=len)


@mutant("split_specials", rejected_with="the longer one counts")
def takes_them_as_they_come(text, specials):
    return _by_pattern(text, specials, order=lambda s: 0)


@mutant("split_specials", rejected_with="further left counts")
def splits_by_the_longest_first(text, specials):
    parts = [(text, False)] if text else []
    for special in sorted(specials, key=len, reverse=True):
        new = []
        for part, marked in parts:
            if marked:
                new.append((part, marked))
                continue
            for i, piece in enumerate(part.split(special)):
                new += [(special, True)] * (i > 0) + [(piece, False)] * bool(piece)
        parts = new
    return parts


@mutant("split_specials", rejected_with="No part may be empty")
def keeps_empty_parts(text, specials):
    if not specials:
        return [(text, False)]
    pattern = "|".join(map(re.escape, sorted(specials, key=len, reverse=True)))
    return [(part, part in specials) for part in re.split(f"({pattern})", text)]


@mutant("split_specials", rejected_with="not only the first")
def finds_the_first(text, specials):
    parts = _by_pattern(text, specials)
    first = next((i for i, part in enumerate(parts) if part[1]), len(parts))
    rest = "".join(part for part, _ in parts[first + 1 :])
    return [*parts[: first + 1], (rest, False)] if rest else parts


@mutant("split_specials", rejected_with="wrong way round")
def turns_the_marks(text, specials):
    return [(part, not special) for part, special in _by_pattern(text, specials)]


@mutant("split_specials", rejected_with="dropped the special tokens")
def drops_the_special_tokens(text, specials):
    return [pair for pair in _by_pattern(text, specials) if not pair[1]]


@mutant("split_specials", rejected_with="special tokens only")
def returns_special_tokens_only(text, specials):
    return [pair for pair in _by_pattern(text, specials) if pair[1]]


def _match(word, tokens, *, inside="##", written="##", ends=lambda ends: ends[-1], stuck=lambda pieces: ["[UNK]"]):
    """Greedy search with choices to make wrong."""
    pieces, start = [], 0
    while start < len(word):
        look = inside if start else ""
        fits = [end for end in range(start + 1, len(word) + 1) if look + word[start:end] in tokens]
        if not fits:
            return stuck(pieces)
        end = ends(fits)
        pieces.append((written if start else "") + word[start:end])
        start = end
    return pieces


@mutant("wordpiece_encode", rejected_with="with ## before it")
def looks_up_without_marks(word, tokens):
    return _match(word, tokens, inside="", written="")


@mutant("wordpiece_encode", rejected_with="with ## before it")
def writes_without_marks(word, tokens):
    return _match(word, tokens, written="")


@mutant("wordpiece_encode", rejected_with="take the longest one")
def takes_the_shortest(word, tokens):
    return _match(word, tokens, ends=lambda ends: ends[0])


@mutant("wordpiece_encode", rejected_with="the *whole* word")
def marks_only_the_rest(word, tokens):
    return _match(word, tokens, stuck=lambda pieces: [*pieces, "[UNK]"])


@mutant("wordpiece_encode", rejected_with="dropped the rest")
def drops_the_rest(word, tokens):
    return _match(word, tokens, stuck=lambda pieces: pieces)


@mutant("wordpiece_encode", rejected_with="does not: after")
def goes_back(word, tokens, start=0):
    if start == len(word):
        return []
    prefix = "##" if start else ""
    for end in range(len(word), start, -1):
        if prefix + word[start:end] in tokens:
            rest = goes_back(word, tokens, end)
            if rest != ["[UNK]"]:
                return [prefix + word[start:end], *rest]
    return ["[UNK]"]


@mutant("wordpiece_encode", rejected_with="can only stand inside")
def ignores_the_marks(word, tokens):
    if "##" + word in tokens:
        return ["##" + word]
    return _match(word, tokens)


def _merge(word, pair):
    """A word with the pair merged from the left."""
    result, i = [], 0
    while i < len(word):
        found = tuple(word[i : i + 2]) == tuple(pair)
        result.append(pair[0] + pair[1] if found else word[i])
        i += 2 if found else 1
    return result


def _difference(word, merged, count):
    """Changes, zeros included."""
    changes = Counter()
    for after in pairwise(merged):
        changes[after] += count
    for before in pairwise(word):
        changes[before] -= count
    return changes


def _nonzero(changes):
    """Without zeros."""
    return {pair: change for pair, change in changes.items() if change}


@mutant("count_changes", rejected_with="and so does each change")
def forgets_the_count(word, count, pair):
    return _nonzero(_difference(word, _merge(word, pair), 1))


@mutant("count_changes", rejected_with="Leave out pairs")
def keeps_zeros(word, count, pair):
    return _difference(word, _merge(word, pair), count)


@mutant("count_changes", rejected_with="only what becomes more frequent")
def subtracts_counters(word, count, pair):
    after, before = Counter(pairwise(_merge(word, pair))), Counter(pairwise(word))
    return {key: n * count for key, n in (after - before).items()}


@mutant("count_changes", rejected_with="are gone too")
def forgets_the_old_neighbours(word, count, pair):
    changes = _nonzero(_difference(word, _merge(word, pair), count))
    return {key: n for key, n in changes.items() if n > 0 or key == tuple(pair)}


@mutant("count_changes", rejected_with="merged it once")
def merges_once(word, count, pair):
    for i in range(len(word) - 1):
        if tuple(word[i : i + 2]) == tuple(pair):
            merged = [*word[:i], pair[0] + pair[1], *word[i + 2 :]]
            return _nonzero(_difference(word, merged, count))
    return {}


@mutant("count_changes", rejected_with="Merge from the left")
def merges_from_the_right(word, count, pair):
    merged = [token[::-1] for token in _merge([t[::-1] for t in word[::-1]], [t[::-1] for t in pair[::-1]])][::-1]
    return _nonzero(_difference(word, merged, count))


@mutant("count_changes", rejected_with="signs are the wrong way round")
def turns_the_signs(word, count, pair):
    return {key: -n for key, n in _nonzero(_difference(word, _merge(word, pair), count)).items()}


@mutant("count_changes", rejected_with="on the left is forgotten")
def looks_only_to_the_right(word, count, pair):
    changes = Counter()
    for i, found in enumerate(pairwise(word)):
        if found == tuple(pair):
            changes[found] -= count
            if i + 2 < len(word):
                changes[word[i + 1], word[i + 2]] -= count
                changes[pair[0] + pair[1], word[i + 2]] += count
    return dict(changes)


def _all_cuts(word, logprobs):
    """Every way to cut a word, with its weight."""
    if not word:
        return [([], 1.0)]
    return [
        ([word[:end], *rest], math.exp(logprobs[word[:end]]) * weight)
        for end in range(1, len(word) + 1)
        if word[:end] in logprobs
        for rest, weight in _all_cuts(word[end:], logprobs)
    ]


def _sum_of_uses(cuts, *, once=False):
    """Weighted uses."""
    uses = Counter()
    for cut, weight in cuts:
        for piece in set(cut) if once else cut:
            uses[piece] += weight
    return dict(uses)


def _fair(cuts):
    """Weights that sum to one."""
    total = sum(weight for _, weight in cuts)
    return [(cut, weight / total) for cut, weight in cuts]


@mutant("expected_uses", rejected_with="best cut only")
def counts_the_best_cut(word, logprobs):
    return dict(Counter(max(_all_cuts(word, logprobs), key=lambda cut: cut[1])[0]))


@mutant("expected_uses", rejected_with="all cuts alike")
def averages_alike(word, logprobs):
    return _sum_of_uses(_fair([(cut, 1.0) for cut, _ in _all_cuts(word, logprobs)]))


@mutant("expected_uses", rejected_with="do not sum to one")
def forgets_to_normalise(word, logprobs):
    return _sum_of_uses(_all_cuts(word, logprobs))


@mutant("expected_uses", rejected_with="stands twice")
def counts_a_piece_once(word, logprobs):
    return _sum_of_uses(_fair(_all_cuts(word, logprobs)), once=True)


@mutant("expected_uses", rejected_with="These are the new probabilities")
def goes_one_step_too_far(word, logprobs):
    uses = _sum_of_uses(_fair(_all_cuts(word, logprobs)))
    total = sum(uses.values())
    return {piece: n / total for piece, n in uses.items()}


@mutant("expected_uses", rejected_with="log-probabilities; take the exponential")
def weighs_with_logarithms(word, logprobs):
    cuts = [(cut, -math.log(weight)) for cut, weight in _all_cuts(word, logprobs)]
    return _sum_of_uses(_fair(cuts))


@mutant("expected_uses", rejected_with="Σ length · uses")
def forgets_the_way_back(word, logprobs):
    forward, uses = [1.0] + [0.0] * len(word), Counter()
    for start in range(len(word)):
        for end in range(start + 1, len(word) + 1):
            if (piece := word[start:end]) in logprobs:
                forward[end] += forward[start] * math.exp(logprobs[piece])
                uses[piece] += forward[start] * math.exp(logprobs[piece])
    return {piece: n / forward[-1] for piece, n in uses.items()}
