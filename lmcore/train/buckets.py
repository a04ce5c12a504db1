"""Batches of sequences of different lengths: padded to one length, and made of sequences that are about equally long.

What is padded is computed and thrown away. A batch of random sequences is as long as its longest one; if sequences of
like lengths are put together, hardly anything is padding.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor


def pad(sequences: Sequence[Sequence[int]], value: int, *, length: int | None = None) -> tuple[Tensor, Tensor]:
    """Put sequences of ids one below the other, and fill up the rows.

    Args:
        sequences: B lists of ids.   value: what rows are filled with.
        length: T; None: that of the longest.
    Returns:
        (B, T) ids, and (B,) how many of each row are real.
    Raises:
        ValueError: no sequence, or one longer than length.   TypeError: something that is no id.

    >>> ids, lengths = pad([[5, 7, 2], [3]], 0)
    >>> ids.tolist(), lengths.tolist()
    ([[5, 7, 2], [3, 0, 0]], [3, 1])
    """
    if not len(sequences):
        raise ValueError("there are no sequences to pad")
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    longest = int(lengths.max())
    length = longest if length is None else length
    if longest > length:
        row = int(lengths.argmax())
        raise ValueError(f"sequence {row} has {longest} ids, which do not fit into length = {length}")
    ids = np.array(list(chain.from_iterable(sequences)))
    if ids.size and not np.issubdtype(ids.dtype, np.integer):
        raise TypeError(f"sequences must hold ids, whole numbers, got {ids.dtype}")
    padded = torch.full((len(sequences), length), value)
    padded[torch.arange(length) < lengths[:, None]] = torch.from_numpy(ids.astype(np.int64))
    return padded, lengths


class BucketedBatches:
    """Endless padded batches of sequences that are about equally long, such as pairs of a sentence and its translation.

    Args:
        lists: one or more lists of N sequences of ids each; those with the same number belong together.
        tokens: the most ids in one padded tensor: rows · longest sequence of the row's lists.
        pad: the id that fills up rows.
        seed: with the number of the epoch it determines the batches and their order.
    Raises:
        ValueError: no list, different lengths of the lists, an empty sequence, or one longer than tokens.

    ``next(batches)`` is (ids, lengths) for each list in a row: with two lists (ids, lengths, ids, lengths), as `pad`
    makes them. In each epoch the sequences are shuffled, sorted by the longest of each number's lists, cut into
    batches, and the batches are shuffled. The state is two numbers, as that of `lmcore.train.batches.Batches`; the
    number of batches in an epoch, ``len(batches)``, is always the same.

    >>> batches = BucketedBatches([[1], [2, 3, 4], [5]], [[6], [7], [8]], tokens=4, pad=0)
    >>> sorted(sorted(next(batches)[0].tolist()) for _ in range(2))
    [[[1], [5]], [[2, 3, 4]]]
    """

    def __init__(self, *lists: Sequence[Sequence[int]], tokens: int, pad: int, seed: int = 0):
        counts = [len(sequences) for sequences in lists]
        if not counts or counts[0] == 0 or len(set(counts)) > 1:
            raise ValueError(f"lists must hold equally many sequences, at least one; got {counts or 'no list'}")
        if not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed must be a whole number of at least 0, got {seed!r}")
        sizes = np.array([[len(sequence) for sequence in sequences] for sequences in lists])
        for number, row in np.argwhere(sizes == 0)[:1]:
            raise ValueError(f"sequence {row} of list {number} is empty")
        self.longest = sizes.max(axis=0)
        if self.longest.max() > tokens:
            row = int(self.longest.argmax())
            raise ValueError(f"tokens = {tokens} is too small: sequence {row} has {self.longest[row]} ids")
        self.lists, self.tokens, self.pad, self.seed = lists, tokens, pad, seed
        self.epoch = self.position = 0  # the next batch is number `position` of this epoch
        self._cuts = self._cut(np.sort(self.longest))
        self._batches: tuple[int, list[np.ndarray]] | None = None

    def _cut(self, lengths: np.ndarray) -> list[int]:
        """Where, among sequences sorted by rising length, each batch but the first begins."""
        cuts, start = [], 0
        for place, length in enumerate(lengths.tolist()):
            if (place + 1 - start) * length > self.tokens:
                cuts.append(place)
                start = place
        return cuts

    def __len__(self) -> int:
        return len(self._cuts) + 1

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        return self

    def __next__(self) -> tuple[Tensor, ...]:
        rows = self._epoch(self.epoch)[self.position].tolist()
        self.position += 1
        if self.position == len(self):
            self.epoch, self.position = self.epoch + 1, 0
        return tuple(chain.from_iterable(pad([part[row] for row in rows], self.pad) for part in self.lists))

    def _epoch(self, epoch: int) -> list[np.ndarray]:
        """Return the rows of each batch in an epoch."""
        if self._batches is None or self._batches[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            order = rng.permutation(len(self.longest))
            order = order[np.argsort(self.longest[order], kind="stable")]  # equally long ones stay shuffled
            batches = np.split(order, self._cuts)
            self._batches = epoch, [batches[number] for number in rng.permutation(len(batches))]
        return self._batches[1]

    def _kind(self) -> dict[str, Any]:
        """What must be equal for a saved place to mean the same batches."""
        return {"rows": len(self.longest), "tokens": self.tokens, "seed": self.seed, "batches": len(self)}

    def state_dict(self) -> dict[str, Any]:
        """The place, and what it is a place in."""
        return {"epoch": self.epoch, "position": self.position, **self._kind()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on from a saved place.

        Raises:
            ValueError: it was saved for other data, or another seed or number of tokens.
        """
        for name, value in self._kind().items():
            if saved[name] != value:
                raise ValueError(
                    f"the saved batches have {name} {saved[name]!r}, these {value!r}: other data or settings"
                )
        self.epoch, self.position = saved["epoch"], saved["position"]
