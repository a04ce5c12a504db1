"""Unigram: a vocabulary whose pieces have probabilities, and the most probable way to cut a text into them.

Where byte-pair encoding builds a vocabulary up, merge by merge, this one is cut down: begin with very many pieces, give
them the probabilities that make the training text most likely (expectation–maximisation over all ways to cut it), drop
those that the text would miss least, and repeat.
"""

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lmcore.text.subword import SubwordTokenizer, expect, read_tokenizer_json, strings

SPACE = "▁"  # how a space is written in pieces, U+2581; every word begins with one
UNKNOWN = "<unk>"
_UNKNOWN_PENALTY = 10.0  # nats below the least probable piece
Edges = list[tuple[int, int, str]]  # start, end, piece: where in a word a piece could stand


def split_at_spaces(text: str) -> list[str]:
    """Write spaces as ▁, put one before the text, and cut before each.

    >>> split_at_spaces("to be")
    ['▁to', '▁be']
    """
    if not text:
        return []
    text = text.replace(" ", SPACE)
    text = text if text.startswith(SPACE) else SPACE + text
    return [SPACE + part for part in text.split(SPACE)[1:]]


def _edges(word: str, pieces: Mapping[str, float], longest: int) -> Edges:
    """All places where a piece stands in a word, by their start, short ones first."""
    size = len(word)
    return [
        (start, end, word[start:end])
        for start in range(size)
        for end in range(start + 1, min(size, start + longest) + 1)
        if word[start:end] in pieces
    ]


def best_cut(word: str, edges: Edges, logprobs: Mapping[str, float]) -> tuple[float, list[str]]:
    """Find the most probable way to cut a word, by Viterbi's algorithm.

    Args:
        word: n characters, each of which some edge must reach.
        edges: where pieces may stand, ordered by their start.
        logprobs: natural log-probability of each piece.
    Returns:
        The log-probability of the best cut, and its pieces. Of equally good cuts the one whose last piece is longest.
    Cost: O(number of edges).

    >>> logprobs = {"a": -2.0, "b": -2.0, "ab": -3.0, "ba": -4.5}
    >>> best_cut("aba", _edges("aba", logprobs, 2), logprobs)   # ab + a, not a + ba or a + b + a
    (-5.0, ['ab', 'a'])
    """
    best, back = [0.0] + [-math.inf] * len(word), [0] * (len(word) + 1)
    for start, end, piece in edges:
        score = best[start] + logprobs[piece]
        if score > best[end]:
            best[end], back[end] = score, start
    cut, end = [], len(word)
    while end > 0:
        cut.append(word[back[end] : end])
        end = back[end]
    return best[-1], cut[::-1]


def expected_counts(word: str, edges: Edges, logprobs: Mapping[str, float]) -> tuple[float, list[tuple[str, float]]]:
    """Average over all ways to cut a word, by the forward–backward algorithm.

    Args and Cost as `best_cut`.
    Returns:
        The log-probability of the word, and for each edge its piece and the probability that the cut uses it.

    >>> logprobs = {"a": math.log(0.5), "aa": math.log(0.25)}   # aa: 1/4 as one piece, 1/4 as two
    >>> logprob, uses = expected_counts("aa", _edges("aa", logprobs, 2), logprobs)
    >>> math.exp(logprob), uses
    (0.5, [('a', 0.5), ('aa', 0.5), ('a', 0.5)])
    """
    ways = [(start, end, math.exp(logprobs[piece])) for start, end, piece in edges]
    forward, backward = [1.0] + [0.0] * len(word), [0.0] * len(word) + [1.0]
    for start, end, p in ways:
        forward[end] += forward[start] * p
    for start, end, p in reversed(ways):
        backward[start] += p * backward[end]
    total = forward[-1]
    uses = [(edge[2], forward[s] * p * backward[e] / total) for edge, (s, e, p) in zip(edges, ways, strict=True)]
    return math.log(total), uses


def seed_pieces(counts: Mapping[str, int], size: int, longest: int) -> dict[str, int]:
    """The substrings that cover most characters, count times length, and every single character.

    Returns:
        The pieces with their counts.
    """
    substrings = Counter()
    for word, count in counts.items():
        for start in range(len(word)):
            for end in range(start + 1, min(len(word), start + longest) + 1):
                substrings[word[start:end]] += count
    single = {piece: n for piece, n in substrings.items() if len(piece) == 1}
    longer = [piece for piece, n in substrings.items() if len(piece) > 1 and n > 1]
    longer.sort(key=lambda piece: (-substrings[piece] * len(piece), piece))
    return single | {piece: substrings[piece] for piece in longer[: max(0, size - len(single))]}


def _normalized(weights: Mapping[str, float]) -> dict[str, float]:
    """Natural log-probabilities in proportion to weights above zero."""
    total = sum(weights.values())
    return {piece: math.log(weight / total) for piece, weight in weights.items()}


def _maximise(counts: Mapping[str, int], logprobs: dict[str, float], longest: int) -> dict[str, float]:
    """One step of expectation–maximisation; pieces that are hardly used fall away, single characters never."""
    used: dict[str, float] = defaultdict(float)
    for word, count in counts.items():
        for piece, probability in expected_counts(word, _edges(word, logprobs, longest), logprobs)[1]:
            used[piece] += count * probability
    kept = {piece: max(n, 1e-3) for piece, n in used.items() if n >= 0.5 or len(piece) == 1}
    return _normalized(kept)


def _prune(counts: Mapping[str, int], logprobs: dict[str, float], size: int, longest: int) -> dict[str, float]:
    """Keep the pieces whose absence would cost most: uses times (surprise of its best cut without it − its own)."""
    used = Counter()
    for word, count in counts.items():
        for piece in best_cut(word, _edges(word, logprobs, longest), logprobs)[1]:
            used[piece] += count
    loss = {}
    for piece in logprobs:
        if len(piece) > 1:
            edges = [edge for edge in _edges(piece, logprobs, longest) if edge[2] != piece]
            loss[piece] = used[piece] * (logprobs[piece] - best_cut(piece, edges, logprobs)[0])
    ranked = sorted(loss, key=lambda piece: (-loss[piece], piece))
    kept = [piece for piece in logprobs if len(piece) == 1] + ranked
    return _normalized({piece: math.exp(logprobs[piece]) for piece in kept[:size]})


def learn_pieces(
    counts: Mapping[str, int], size: int, *, seeds: int | None = None, longest: int = 16, shrink: float = 0.75
) -> dict[str, float]:
    """Learn pieces and their probabilities.

    Args:
        counts: how often each word occurs, ≥ 1.
        size: pieces wanted; single characters are always kept, even if there are more.
        seeds: how many pieces to begin with; None: ten times size.
        longest: characters in a piece.
        shrink: share of the pieces that each round keeps, in (0, 1).
    Returns:
        Natural log-probabilities of the pieces, the most probable first.
    Raises:
        ValueError: a setting outside its range, or a count below 1.
    Cost: per round three passes over all places where a piece could stand, in plain Python: about 10 µs for each word
        and round.
    Source: Kudo 2018, section 3.2.
    Differs: SentencePiece takes its seeds from a suffix array and smooths the counts by a digamma function.
    """
    if size < 1 or longest < 1 or not 0 < shrink < 1:
        raise ValueError(f"size and longest must be at least 1, shrink in (0, 1); got {size}, {longest}, {shrink}")
    wrong = [word for word, count in counts.items() if count < 1]
    if wrong:
        raise ValueError(f"counts must be at least 1, got {counts[wrong[0]]} for {wrong[0]!r}")
    counts = {word: count for word, count in counts.items() if word}
    if not counts:
        return {}
    logprobs = _normalized(seed_pieces(counts, 10 * size if seeds is None else seeds, longest))
    singles = sum(len(piece) == 1 for piece in logprobs)
    while True:
        for _ in range(2):
            logprobs = _maximise(counts, logprobs, longest)
        if len(logprobs) <= max(size, singles):
            break
        logprobs = _prune(counts, logprobs, max(size, singles, int(shrink * len(logprobs))), longest)
    return dict(sorted(logprobs.items(), key=lambda item: (-item[1], item[0])))


class Unigram(SubwordTokenizer):
    """Unigram tokenizer with given pieces; ``fit`` learns them.

    Args:
        logprobs: natural log-probability of each piece, in the order of their ids after the special tokens.
        specials: special tokens, first in the order of ids; ``<unk>`` must be among them. A run of characters that
            no piece holds is one ``<unk>``.
    Raises:
        ValueError: no ``<unk>``, no piece, or a log-probability that is above zero or no number.
    Source: Kudo 2018; Differs from SentencePiece: no normalisation of the text, and a ▁ in it is taken for a space.

    >>> unigram = Unigram({"▁": -3.0, "▁the": -1.0, "re": -2.0, "t": -4.0, "h": -4.0, "e": -4.0, "r": -4.0})
    >>> unigram.split("there the x")
    ['▁the', 're', '▁the', '▁', '<unk>']
    """

    def __init__(self, logprobs: Mapping[str, float], *, specials: Sequence[str] = (UNKNOWN,)):
        if UNKNOWN not in specials:
            raise ValueError(f"specials {tuple(specials)} lacks {UNKNOWN!r}, which stands for unknown characters")
        wrong = [piece for piece, logprob in logprobs.items() if not logprob <= 0]
        if not logprobs or wrong:
            what = f"got {logprobs[wrong[0]]} for {wrong[0]!r}" if wrong else "got no piece at all"
            raise ValueError(f"logprobs must be numbers of at most 0, one for each piece; {what}")
        super().__init__([*specials, *logprobs], specials=specials)
        self.logprobs = dict(logprobs)
        self._longest = max(map(len, logprobs))
        self._unknown = min(logprobs.values()) - _UNKNOWN_PENALTY

    @classmethod
    def fit(
        cls, texts: Iterable[str], *, size: int, specials: Sequence[str] = (UNKNOWN,), longest: int = 16
    ) -> "Unigram":
        """Learn a tokenizer of so many tokens, special ones included.

        Raises:
            TypeError: texts is one string, or one of them is no string.
            ValueError: size has no room for the special tokens and the characters of the texts.
        """
        counts = Counter(word for text in strings(texts) for word in split_at_spaces(text))
        single = len(set().union(*counts))
        if len(specials) + single > size:
            raise ValueError(
                f"size {size} is below {len(specials)} special tokens and {single} characters of the texts"
            )
        return cls(learn_pieces(counts, size - len(specials), longest=longest), specials=specials)

    def _pieces(self, text: str) -> list[str]:
        return split_at_spaces(text)

    def _encode_piece(self, piece: str) -> list[int]:
        edges, known = _edges(piece, self.logprobs, self._longest), dict(self.logprobs)
        lonely = set(range(len(piece))) - {start for start, end, _ in edges if end == start + 1}
        for start in lonely:  # a character that is no piece: unknown, at a price
            edges.append((start, start + 1, piece[start]))
            known[piece[start]] = self._unknown
        edges.sort(key=lambda edge: edge[:2])
        ids = [self._ids[part if part in self.logprobs else UNKNOWN] for part in best_cut(piece, edges, known)[1]]
        unknown = self._ids[UNKNOWN]
        return [n for i, n in enumerate(ids) if n != unknown or i == 0 or ids[i - 1] != unknown]

    def _join(self, tokens: Sequence[str]) -> str:
        """Put pieces together; the space before the first word is dropped."""
        return "".join(tokens).replace(SPACE, " ").removeprefix(" ")

    def _parts(self) -> dict[str, Any]:
        meta = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True}
        vocab = [[token, self.logprobs.get(token, 0.0)] for token in self.tokens]
        model = {"type": "Unigram", "unk_id": self.id(UNKNOWN), "vocab": vocab, "byte_fallback": False}
        return {"pre_tokenizer": meta, "decoder": meta, "model": model}

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Unigram":
        """Read a ``tokenizer.json``, written here or by Hugging Face's library, whose special tokens come first.

        Raises:
            ValueError: another kind of tokenizer, or a setting that this one does not have; named.
        """
        content = read_tokenizer_json(path, "Unigram")
        model, meta = content["model"], content.get("pre_tokenizer") or {}
        expect(path, "normalizer", content.get("normalizer"), None)
        expect(path, "model.byte_fallback", model.get("byte_fallback", False), False)
        expect(path, "pre_tokenizer.type", meta.get("type"), "Metaspace")
        expect(path, "pre_tokenizer.replacement", meta.get("replacement"), SPACE)
        expect(path, "pre_tokenizer.prepend_scheme", meta.get("prepend_scheme"), "always")
        expect(path, "pre_tokenizer.split", meta.get("split", True), True)
        specials = [entry["content"] for entry in content.get("added_tokens") or []]
        expect(path, "the token of unk_id", model["vocab"][model["unk_id"]][0], UNKNOWN)
        specials = specials if UNKNOWN in specials else [UNKNOWN, *specials]
        first = [token for token, _ in model["vocab"][: len(specials)]]
        expect(path, "the first tokens", sorted(first), sorted(specials))
        return cls(dict(model["vocab"][len(specials) :]), specials=first)
