"""Truncated backpropagation through time: a long text in pieces, the state carried on, the gradient not.

Backpropagation through a whole book would have to keep every step of it. So the book is cut into pieces: the state at
the end of a piece is the start of the next, as if there were no cut, but the gradient stops there.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lmcore.sizes import check_sizes


def detach(state: Any) -> Any:
    """The same state without its history, so that no gradient flows further back; any nesting of tuples and lists.

    >>> h = torch.ones(2, requires_grad=True) * 3
    >>> detach((h, [h, None]))
    (tensor([3., 3.]), [tensor([3., 3.]), None])
    """
    if isinstance(state, Tensor):
        return state.detach()
    return type(state)(detach(part) for part in state) if isinstance(state, tuple | list) else state


class ContiguousBatches:
    """Pieces of a long text such that each piece continues the one before it, in batch_size places at once.

    The ids are cut into batch_size tracks of equal length, and every batch holds the next `steps` ids of each track and
    what follows each of them. After the last piece, which may be shorter, it begins anew.

    Args:
        ids: (N,) whole numbers: the text.   batch_size: tracks.   steps: ids of a track in one batch.
    Attributes:
        state: what the model remembers at this place, for the loss to read and to write; None where the tracks begin.
            Saved and restored with the place, so that a resumed run goes on exactly.
    Raises:
        ValueError: a number below 1, or fewer than batch_size + 1 ids.   TypeError: ids that are no whole numbers.

    Up to batch_size − 1 ids at the end are left out. Takes the place of `lmcore.train.batches.Batches` in a `Trainer`.

    >>> batches = ContiguousBatches(torch.arange(10, 18), batch_size=2, steps=2)   # 17 is only predicted
    >>> for _ in range(2):
    ...     x, y = next(batches)
    ...     print(x.tolist(), y.tolist())
    [[10, 11], [13, 14]] [[11, 12], [14, 15]]
    [[12], [15]] [[13], [16]]
    """

    def __init__(self, ids: Tensor | Sequence[int], *, batch_size: int, steps: int):
        check_sizes(batch_size=batch_size, steps=steps)
        ids = torch.as_tensor(ids)
        if ids.ndim != 1 or len(ids) <= batch_size:
            raise ValueError(f"ids has shape {tuple(ids.shape)}, must be (N,) with N > batch_size = {batch_size}")
        if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
            raise TypeError(f"ids must be whole numbers, got {ids.dtype}")
        self.batch_size, self.steps = batch_size, steps
        length = (len(ids) - 1) // batch_size
        self._x = ids[: batch_size * length].view(batch_size, length)
        self._y = ids[1 : batch_size * length + 1].view(batch_size, length)
        self.epoch = self.position = 0  # the next batch is number `position` of this epoch
        self.state: Any = None

    def __len__(self) -> int:
        return -(-self._x.shape[1] // self.steps)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        if self.position == 0:
            self.state = None
        piece = slice(self.position * self.steps, (self.position + 1) * self.steps)
        self.position += 1
        if self.position == len(self):
            self.epoch, self.position = self.epoch + 1, 0
        return self._x[:, piece], self._y[:, piece]

    def _kind(self) -> dict[str, Any]:
        """What must be equal for a saved place to mean the same batches."""
        return {"ids": self._x.numel(), "batch_size": self.batch_size, "steps": self.steps}

    def state_dict(self) -> dict[str, Any]:
        """The place, what it is a place in, and the state there."""
        return {"epoch": self.epoch, "position": self.position, "state": detach(self.state), **self._kind()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on from a saved place.

        Raises:
            ValueError: it was saved for another text, batch size or number of steps.
        """
        for name, value in self._kind().items():
            if saved.get(name) != value:
                raise ValueError(f"the saved batches have {name} {saved.get(name)!r}, these {value!r}: other data?")
        self.epoch, self.position, self.state = saved["epoch"], saved["position"], _tuples(saved["state"])


def _tuples(state: Any) -> Any:
    """Make lists tuples again: a file knows only lists."""
    return tuple(map(_tuples, state)) if isinstance(state, tuple | list) else state
