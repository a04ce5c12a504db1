"""Pairs of sentences as BERT reads them: ``[CLS] first [SEP] second [SEP]``, and the pairs of next sentence prediction.

Nothing is cut off unless it is asked for, and then a warning says how much was lost.
"""

import warnings
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

Ids = Sequence[int]


class TruncationWarning(UserWarning):
    """Tokens were cut off, as asked; the message says how many."""


class Pair(NamedTuple):
    """Two sentences, and whether the second followed the first (0) or is of another document (1), as `nsp` counts."""

    first: Ids
    second: Ids
    label: int


class PairBatch(NamedTuple):
    """What `BERT` reads: ids and segments, (B, T) each, and lengths, (B,)."""

    ids: Tensor
    lengths: Tensor
    segments: Tensor


def sentence_pairs(documents: Sequence[Sequence[Ids]], *, generator: torch.Generator | None = None) -> list[Pair]:
    """Pair each sentence with the next one, or with one of another document; half of the pairs are of each kind.

    Args:
        documents: sentences in their order, each a list of ids.
        generator: draws which half, and the other sentences, all of them equally probable.
    Returns:
        A pair for each sentence that has a next one. Of an odd number, the larger half is true.
    Raises:
        ValueError: fewer than two documents that have sentences, an empty sentence, or no document with two sentences.
    Source: Devlin et al. 2019, section 3.1.
    Differs: the paper's segments are as long as fits, several sentences each; and chance decides on each pair alone.

    >>> documents = [[[1], [2], [3]], [[7], [8]]]
    >>> for pair in sentence_pairs(documents, generator=torch.Generator().manual_seed(1)):
    ...     print(*pair)
    [1] [7] 1
    [2] [3] 0
    [7] [8] 0
    """
    if sum(map(bool, map(len, documents))) < 2:
        raise ValueError("a sentence of another document needs at least two documents that have any")
    sentences = [sentence for document in documents for sentence in document]
    if not all(map(len, sentences)):
        raise ValueError(f"sentence {[len(s) for s in sentences].index(0)}, counted through all documents, is empty")
    ends = list(accumulate(map(len, documents)))
    spans = list(zip([0, *ends[:-1]], ends, strict=True))
    firsts = [(i, start, end) for start, end in spans for i in range(start, end - 1)]
    if not firsts:
        raise ValueError("no document has two sentences, so that none follows another")
    labels = torch.arange(len(firsts))[torch.randperm(len(firsts), generator=generator)] % 2
    return [_pair(sentences, *first, label, generator) for first, label in zip(firsts, labels.tolist(), strict=True)]


def _pair(sentences: list[Ids], i: int, start: int, end: int, label: int, generator: torch.Generator | None) -> Pair:
    """Pair sentence i with the next, or with one outside its document, which has the sentences start … end − 1."""
    if label == 0:
        return Pair(sentences[i], sentences[i + 1], 0)
    drawn = int(torch.randint(len(sentences) - (end - start), (), generator=generator))  # among all the others
    return Pair(sentences[i], sentences[drawn if drawn < start else drawn + end - start], 1)


def assemble(first: Ids, second: Ids | None = None, *, cls: int, sep: int) -> tuple[list[int], list[int]]:
    """Put one sentence or two together: (ids, segments), with the first ``[SEP]`` in segment 0.

    >>> assemble([21, 22], [31], cls=2, sep=3)
    ([2, 21, 22, 3, 31, 3], [0, 0, 0, 0, 1, 1])
    >>> assemble([21, 22], cls=2, sep=3)
    ([2, 21, 22, 3], [0, 0, 0, 0])
    """
    front, back = [cls, *first, sep], [] if second is None else [*second, sep]
    return front + back, [0] * len(front) + [1] * len(back)


def shortened(first: Ids, second: Ids | None, room: int) -> tuple[Ids, Ids | None]:
    """Cut ends off until both together fit into a room of so many tokens: always off the longer one.

    >>> shortened([1, 2, 3, 4, 5], [6, 7], 4)
    ([1, 2], [6, 7])
    """
    if second is None:
        return first[:room], None
    a, b = len(first), len(second)
    if a + b > room:
        a = min(a, max(room - b, (room + 1) // 2))  # what token by token would come to
        b = room - a
    return first[:a], second[:b]


def pair_batch(
    pairs: Sequence[tuple[Ids, Ids | None]], *, cls: int, sep: int, pad: int, max_length: int, truncate: bool = False
) -> PairBatch:
    """Assemble and pad a batch.

    Args:
        pairs: first and second sentences; None where there is no second.
        cls, sep, pad: ids of the special tokens.
        max_length: the most tokens of a row, special ones included, such as the positions of a model.
        truncate: cut what is too long, with a warning; False: refuse it.
    Returns:
        ids and segments, (B, T) with T the longest row's length, and lengths (B,).
    Raises:
        ValueError: no pair, a pair too long when truncate is False, or max_length without room for a token of each.
    Differs: the paper cuts at either end by chance; here always the ends of the sentences are lost.

    >>> batch = pair_batch([([21, 22], [31]), ([23], None)], cls=2, sep=3, pad=0, max_length=8)
    >>> batch.ids.tolist(), batch.lengths.tolist()
    ([[2, 21, 22, 3, 31, 3], [2, 23, 3, 0, 0, 0]], [6, 3])
    """
    if not len(pairs):
        raise ValueError("there are no pairs")
    if max_length < 5:
        raise ValueError(f"max_length {max_length} has no room for [CLS], a token, [SEP], a token, [SEP]")
    rows, lost, cut = [], 0, 0
    for number, (first, second) in enumerate(pairs):
        room = max_length - (2 if second is None else 3)
        too_many = len(first) + len(second or ()) - room
        if too_many > 0:
            if not truncate:
                raise ValueError(
                    f"pair {number} has {max_length + too_many} tokens with [CLS] and [SEP], {too_many} more than "
                    f"max_length = {max_length}: shorten it, or pass truncate=True to lose the ends"
                )
            first, second = shortened(first, second, room)
            lost, cut = lost + too_many, cut + 1
        rows.append(assemble(first, second, cls=cls, sep=sep))
    if cut:
        warnings.warn(f"{lost} tokens were cut off, in {cut} of {len(pairs)} pairs", TruncationWarning, stacklevel=2)
    return _padded(rows, pad)


def _padded(rows: list[tuple[list[int], list[int]]], pad: int) -> PairBatch:
    """Put rows one below the other; beyond a row's end stand pad and segment 0."""
    lengths = torch.tensor([len(ids) for ids, _ in rows])
    ids = torch.full((len(rows), int(lengths.max())), pad)
    segments = torch.zeros_like(ids)
    for row, (tokens, kinds) in enumerate(rows):
        ids[row, : len(tokens)], segments[row, : len(tokens)] = torch.tensor(tokens), torch.tensor(kinds)
    return PairBatch(ids, lengths, segments)
