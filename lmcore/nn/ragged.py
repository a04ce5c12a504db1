"""A batch of sequences as the rows of one matrix, step after step, and without padding.

Row after row of a padded batch would be (B, T, d); a recurrent network wants all first steps, then all second steps,
and nothing beyond a sequence's end. `Ragged` sorts the sequences, the longest first, so that those that are still
running at a step are always the first ones; `Full` is the simple case in which all are equally long.

Unlike torch's `PackedSequence`, the rows can also be mirrored: read from each sequence's own end to its beginning.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class Full:
    """Sequences that all have n_steps steps.

    Attributes:
        sizes: how many sequences are running at each step: always all.

    >>> full = Full(batch=2, n_steps=3)
    >>> full.pack(torch.tensor([[[1], [2], [3]], [[4], [5], [6]]])).T, full.sizes
    (tensor([[1, 4, 2, 5, 3, 6]]), [2, 2, 2])
    """

    def __init__(self, *, batch: int, n_steps: int):
        self.batch, self.n_steps = batch, n_steps
        self.sizes = [batch] * n_steps

    def pack(self, x: Tensor) -> Tensor:
        """(B, T, d) → (T · B, d)."""
        return x.transpose(0, 1).reshape(-1, x.shape[-1])

    def unpack(self, rows: Tensor) -> Tensor:
        """(T · B, d) → (B, T, d)."""
        return rows.view(self.n_steps, self.batch, -1).transpose(0, 1)

    def mirrored(self, rows: Tensor) -> Tensor:
        """The same rows with the last step first; done twice, nothing has happened."""
        return rows.view(self.n_steps, self.batch, -1).flip(0).view_as(rows)

    def sort(self, state: Tensor) -> Tensor:
        """(…, B, d) states in the order in which the sequences are packed."""
        return state

    unsort = sort


class Ragged:
    """Sequences of different lengths.

    Args:
        lengths: (B,) whole numbers, 1 … n_steps.   n_steps: steps of the padded batch.
    Attributes:
        sizes: how many sequences are running at each step, until the longest ends.

    >>> ragged = Ragged(torch.tensor([1, 3]), n_steps=4)
    >>> x = torch.tensor([[[1], [0], [0], [0]], [[4], [5], [6], [0]]])
    >>> rows = ragged.pack(x)
    >>> rows.T, ragged.mirrored(rows).T, ragged.sizes   # the second sequence comes first
    (tensor([[4, 1, 5, 6]]), tensor([[6, 1, 5, 4]]), [2, 1, 1])
    >>> torch.equal(ragged.unpack(rows), x)
    True
    """

    def __init__(self, lengths: Tensor, *, n_steps: int):
        self._n_steps = n_steps
        steps = torch.arange(n_steps, device=lengths.device)[:, None]
        self._order = lengths.argsort(descending=True, stable=True)
        self._rank = self._order.argsort()
        ordered = lengths[self._order]
        running = steps < ordered  # (T, B)
        self.sizes = [size for size in running.sum(dim=1).tolist() if size]
        # Where row number k of the packed matrix is found in the padded one, as (T, B) numbered from 0.
        self._places = running.flatten().nonzero()[:, 0]
        numbers = running.flatten().cumsum(0).view_as(running) - 1
        self._mirror = numbers.gather(0, (ordered - 1 - steps).clamp(min=0))[running]

    def pack(self, x: Tensor) -> Tensor:
        """(B, T, d) → (sum of the lengths, d)."""
        by_step = x.transpose(0, 1).index_select(1, self._order)
        return by_step.reshape(-1, x.shape[-1]).index_select(0, self._places)

    def unpack(self, rows: Tensor) -> Tensor:
        """(sum of the lengths, d) → (B, T, d), zero beyond each sequence's end."""
        batch = len(self._order)
        padded = rows.new_zeros(self._n_steps * batch, rows.shape[1]).index_copy(0, self._places, rows)
        return padded.view(self._n_steps, batch, -1).index_select(1, self._rank).transpose(0, 1)

    def mirrored(self, rows: Tensor) -> Tensor:
        """Each sequence from its own last step to its first; done twice, nothing has happened."""
        return rows.index_select(0, self._mirror)

    def sort(self, state: Tensor) -> Tensor:
        """(…, B, d) states in the order in which the sequences are packed."""
        return state.index_select(-2, self._order)

    def unsort(self, state: Tensor) -> Tensor:
        """Undo `sort`."""
        return state.index_select(-2, self._rank)


def layout(x: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Full | Ragged:
    """How the sequences of a padded batch are to be packed.

    Args:
        x: (B, T, d), at least one sequence and one step.
        lengths: (B,) how many steps of each sequence are real; None: all.
    Raises:
        ValueError: an empty batch, lengths of another shape or type, an empty sequence, or one of more than T steps.

    >>> layout(torch.zeros(2, 3, 5), [3, 0])
    Traceback (most recent call last):
    ...
    ValueError: lengths[1] is 0: empty sequences have no last state; leave them out of the batch
    """
    batch, n_steps = x.shape[:2]
    if not batch or not n_steps:
        raise ValueError(f"x has shape {tuple(x.shape)}: there must be at least one sequence and one step")
    if lengths is None:
        return Full(batch=batch, n_steps=n_steps)
    lengths = torch.as_tensor(lengths, device=x.device)
    if lengths.shape != (batch,) or lengths.is_floating_point() or lengths.dtype == torch.bool:
        kind = f"{tuple(lengths.shape)} of {lengths.dtype}"
        raise ValueError(f"lengths must be {batch} whole numbers, one for each sequence, got shape {kind}")
    for wrong, why in (
        (lengths < 1, "empty sequences have no last state; leave them out of the batch"),
        (lengths > n_steps, f"x has {n_steps} steps"),
    ):
        if wrong.any():
            row = wrong.nonzero()[0].item()
            raise ValueError(f"lengths[{row}] is {lengths[row]}: {why}")
    if (lengths == n_steps).all():
        return Full(batch=batch, n_steps=n_steps)
    return Ragged(lengths.long(), n_steps=n_steps)
