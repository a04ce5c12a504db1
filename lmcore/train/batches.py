"""Batches in a random order that can be stopped anywhere and continued, because it is computed and not remembered."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmcore.sizes import check_sizes


class Batches:
    """Endless batches of rows: all rows in one order, then all in another, and so on.

    Args:
        tensors: one or more, with equally many rows (first axis).
        batch_size: rows per batch, ≥ 1.
        seed: with the number of the epoch it determines the order of the rows.
        shuffle: False: the given order, in every epoch.
        drop_last: leave out the last batch of an epoch if it is smaller.
    Raises:
        ValueError: no tensor, no row, different numbers of rows, or a batch_size that leaves no batch.

    ``next(batches)`` is a tuple of tensors, ``len(batches)`` the number of batches in an epoch. The order of an epoch
    is a function of ``(seed, epoch)``; the state is two numbers.
    Unlike torch's DataLoader: no workers, nothing for data that does not fit into memory.

    >>> batches = Batches(torch.arange(5), batch_size=2, shuffle=False)
    >>> [next(batches)[0].tolist() for _ in range(4)]
    [[0, 1], [2, 3], [4], [0, 1]]
    """

    def __init__(self, *tensors: Tensor, batch_size: int, seed: int = 0, shuffle: bool = True, drop_last: bool = False):
        rows = [len(tensor) for tensor in tensors]
        if not rows or rows[0] == 0 or len(set(rows)) > 1:
            raise ValueError(f"tensors must have equally many rows, at least one; got {rows or 'no tensor'}")
        check_sizes(batch_size=batch_size)
        if drop_last and batch_size > rows[0]:
            raise ValueError(f"batch_size {batch_size} with drop_last leaves no batch of {rows[0]} rows")
        if not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed must be a whole number of at least 0, got {seed!r}")
        self.tensors, self.batch_size, self.seed = tensors, batch_size, seed
        self.shuffle, self.drop_last = shuffle, drop_last
        self.epoch = self.position = 0  # the next batch is number `position` of this epoch
        self._order: tuple[int, Tensor] | None = None

    def __len__(self) -> int:
        rows = len(self.tensors[0])
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        return self

    def __next__(self) -> tuple[Tensor, ...]:
        chosen = self._rows(self.epoch)[self.position * self.batch_size : (self.position + 1) * self.batch_size]
        self.position += 1
        if self.position == len(self):
            self.epoch, self.position = self.epoch + 1, 0
        return tuple(tensor[chosen.to(tensor.device)] for tensor in self.tensors)

    def _rows(self, epoch: int) -> Tensor:
        """Return the order of the rows in an epoch."""
        if self._order is None or self._order[0] != epoch:
            rows = len(self.tensors[0])
            order = np.random.default_rng([self.seed, epoch]).permutation(rows) if self.shuffle else np.arange(rows)
            self._order = epoch, torch.from_numpy(order)
        return self._order[1]

    def _kind(self) -> dict[str, Any]:
        """What must be equal for a saved place to mean the same batches."""
        names = ("batch_size", "seed", "shuffle", "drop_last")
        return {"rows": len(self.tensors[0]), **{name: getattr(self, name) for name in names}}

    def state_dict(self) -> dict[str, Any]:
        """The place, and what it is a place in."""
        return {"epoch": self.epoch, "position": self.position, **self._kind()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on from a saved place.

        Raises:
            ValueError: it was saved for other data, or another seed, batch size or order.
        """
        for name, value in self._kind().items():
            if saved[name] != value:
                raise ValueError(
                    f"the saved batches have {name} {saved[name]!r}, these {value!r}: other data or settings"
                )
        self.epoch, self.position = saved["epoch"], saved["position"]
