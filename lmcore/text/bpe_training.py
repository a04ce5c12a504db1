"""How byte-pair encoding learns its merges: the same merges by recounting, incrementally, and compiled.

Start with the 256 bytes as tokens. Again and again take the pair of neighbouring tokens that occurs most often in the
training pieces, and make it a token. All three versions resolve ties as Hugging Face's trainer does: the pair with the
lower ids wins, bytes are numbered in the order of their letters, and "aaa" is merged from the left.

`learn_by_recounting` is the definition. `learn` notices that one merge changes few counts: only pieces that hold the
pair, and there only the pairs beside it. `learn_compiled` is `learn` on arrays, compiled by numba.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import pairwise

import numpy as np

from lmcore.optional import need
from lmcore.text.pretokenize import byte_letters, pretokenize
from lmcore.text.subword import strings

Merge = tuple[str, str]  # two tokens, as letters, that become one


def count_pieces(texts: Iterable[str], pattern: str = "gpt2") -> Counter[str]:
    """Count the pieces of some texts: merges are learnt from the different ones, each with its count.

    Raises:
        TypeError: texts is one string, or one of them is no string.
    """
    counts = Counter()
    for text in strings(texts):
        counts.update(pretokenize(text, pattern))
    return counts


class _Start:
    """What all versions begin with: the bytes as numbered tokens, and the pieces as lists of numbers."""

    def __init__(self, counts: Mapping[str, int], merges: int):
        if merges < 0:
            raise ValueError(f"merges must be at least 0, got {merges}")
        wrong = [piece for piece, count in counts.items() if count < 1]
        if wrong:
            raise ValueError(f"counts must be at least 1, got {counts[wrong[0]]} for {wrong[0]!r}")
        self.tokens = sorted(byte_letters())
        number = {letter: i for i, letter in enumerate(self.tokens)}
        of_byte = [number[letter] for letter in byte_letters()]
        self.words = [[of_byte[byte] for byte in piece.encode("utf-8", "surrogatepass")] for piece in counts]
        self.counts = list(counts.values())
        self.ids = number

    def add(self, a: int, b: int) -> int:
        """Number of the token that a and b become; two ways to the same letters are one token."""
        token = self.tokens[a] + self.tokens[b]
        if token not in self.ids:
            self.ids[token] = len(self.tokens)
            self.tokens.append(token)
        return self.ids[token]


def learn_by_recounting(counts: Mapping[str, int], merges: int) -> list[Merge]:
    """Learn merges, counting all pairs anew for each: the definition, and hundreds of times slower than `learn`.

    Args and Returns as `learn`.
    """
    start, learnt = _Start(counts, merges), []
    while len(learnt) < merges:
        pairs = Counter()
        for word, count in zip(start.words, start.counts, strict=True):
            for pair in pairwise(word):
                pairs[pair] += count
        if not pairs:
            break
        a, b = min(pairs, key=lambda pair: (-pairs[pair], pair))
        learnt.append((start.tokens[a], start.tokens[b]))
        new = start.add(a, b)
        start.words = [_merged(word, a, b, new) for word in start.words]
    return learnt


def _merged(word: list[int], a: int, b: int, new: int) -> list[int]:
    """Replace a b by the new token, from the left."""
    result, i = [], 0
    while i < len(word):
        found = word[i] == a and i + 1 < len(word) and word[i + 1] == b
        result.append(new if found else word[i])
        i += 2 if found else 1
    return result


def learn(counts: Mapping[str, int], merges: int) -> list[Merge]:
    """Learn merges, keeping the counts of all pairs up to date.

    Args:
        counts: how often each piece of text occurs, ≥ 1; see `count_pieces`.
        merges: how many to learn, ≥ 0; fewer are found if no pair is left.
    Returns:
        The merges in order, tokens written as letters.
    Raises:
        ValueError: a count below 1, or merges < 0.
    Cost: each merge touches only pieces that hold its pair; a heap finds the most frequent pair.
    Source: Sennrich, Haddow and Birch 2016, algorithm 1, with incremental counts.

    >>> learn({"low": 5, "lower": 2, "newest": 6, "widest": 3}, 3)   # es: 9 times, est 9, lo 7
    [('e', 's'), ('es', 't'), ('l', 'o')]
    """
    start, learnt = _Start(counts, merges), []
    total, where = defaultdict(int), defaultdict(set)  # of a pair: how often it occurs, and in which words
    for n, (word, count) in enumerate(zip(start.words, start.counts, strict=True)):
        for pair in pairwise(word):
            total[pair] += count
            where[pair].add(n)
    heap = [(-count, pair) for pair, count in total.items()]
    heapq.heapify(heap)
    while heap and len(learnt) < merges:
        count, pair = heapq.heappop(heap)
        if -count != total[pair]:  # other merges have changed it since it was pushed
            if total[pair] > 0:
                heapq.heappush(heap, (-total[pair], pair))
            continue
        learnt.append((start.tokens[pair[0]], start.tokens[pair[1]]))
        new = start.add(*pair)
        formed = set()
        for n in where.pop(pair):
            start.words[n] = _merge_and_count(start.words[n], start.counts[n], pair, new, total, formed_here := set())
            for fresh in formed_here:
                where[fresh].add(n)
            formed |= formed_here
        for fresh in formed:
            if total[fresh] > 0:
                heapq.heappush(heap, (-total[fresh], fresh))
    return learnt


def _merge_and_count(
    word: list[int], count: int, pair: tuple[int, int], new: int, total: dict[tuple[int, int], int], formed: set
) -> list[int]:
    """`_merged`, and what it does to the counts: pairs beside each merged one end, new ones form."""
    (a, b), result, i, last = pair, [], 0, len(word) - 1
    while i <= last:
        if word[i] == a and i < last and word[i + 1] == b:
            if result:
                left = result[-1]
                total[left, a] -= count
                total[left, new] += count
                formed.add((left, new))
            if i + 2 <= last:
                right = word[i + 2]
                total[b, right] -= count
                total[new, right] += count
                formed.add((new, right))
            result.append(new)
            i += 2
        else:
            result.append(word[i])
            i += 1
    return result


def learn_compiled(counts: Mapping[str, int], merges: int) -> list[Merge]:
    """`learn` on arrays, compiled by numba: the same merges.

    Args, Returns and Raises as `learn`; ModuleNotFoundError without numba.
    Cost: the first call in an environment compiles for some seconds; the result is cached on disk.
    """
    need("numba", group="text", by="learn_compiled")
    start = _Start(counts, merges)
    if not start.words:
        return []
    lengths = np.array([len(word) for word in start.words])
    symbols = np.fromiter((symbol for word in start.words for symbol in word), np.int64, lengths.sum())
    weights = np.repeat(np.array(start.counts, np.int64), lengths)
    ends = np.cumsum(lengths)
    pairs = _compiled_loop()(symbols, weights, ends[lengths > 0] - 1, len(start.tokens), merges)
    learnt = []
    for a, b, new in pairs.tolist():
        learnt.append((start.tokens[a], start.tokens[b]))
        if start.add(a, b) != new:
            raise AssertionError("two tokens have the same hash: use learn")  # about one chance in 2**40
    return learnt


@cache
def _compiled_loop():  # noqa: ANN202 (a function that numba made)
    """Compile the merge loop on first use, so that importing this file stays light."""
    from lmcore.text import bpe_compiled

    return bpe_compiled.merge_loop
