"""Which examples each rank reads: disjoint, together all of them, in a new order every epoch."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lmcore.train.batches import Batches

UNEVEN = ("keep", "repeat", "drop")


def _check_rank(rank: int, world_size: int) -> None:
    """Refuse a rank that is not one."""
    if world_size < 1 or not 0 <= rank < world_size:
        raise ValueError(f"rank must be in 0 … world_size − 1, got rank {rank} of {world_size}")


def shard_indices(
    n: int, *, rank: int, world_size: int, epoch: int, seed: int = 0, shuffle: bool = True, uneven: str = "keep"
) -> list[int]:
    """The examples that a rank reads in an epoch: every world_size-th of an order that all ranks agree on.

    Args:
        n: number of examples.
        epoch: with the seed it determines the order: pass the number of the epoch, or every epoch has the same order.
        seed: equal on all ranks.   shuffle: False: the given order.
        uneven: what becomes of the rest if world_size does not divide n. "keep": some ranks read one more; "repeat":
            the first of the order are read twice; "drop": the last ones are not read.
    Raises:
        ValueError: rank outside 0 … world_size − 1, n below 1, or another word for uneven.
    Differs: torch's DistributedSampler knows only repeat and drop; indices are equal to its then.

    >>> [shard_indices(5, rank=r, world_size=2, epoch=0, shuffle=False) for r in (0, 1)]
    [[0, 2, 4], [1, 3]]
    >>> [shard_indices(5, rank=r, world_size=2, epoch=0, shuffle=False, uneven="repeat") for r in (0, 1)]
    [[0, 2, 4], [1, 3, 0]]
    """
    _check_rank(rank, world_size)
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    if uneven not in UNEVEN:
        raise ValueError(f"uneven must be one of {', '.join(UNEVEN)}, got {uneven!r}")
    order = list(range(n))
    if shuffle:
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed + epoch)).tolist()
    if uneven == "drop":
        order = order[: n - n % world_size]
    elif uneven == "repeat":
        order = [order[i % n] for i in range(n + -n % world_size)]
    return order[rank::world_size]


class ShardedBatches(Batches):
    """A rank's part of each batch of `Batches`: together the ranks read what one process would, batch by batch.

    Args:
        tensors, seed, shuffle, drop_last: as in `Batches`, and equal on all ranks.
        batch_size: of all ranks together.
        rank, world_size: which part.
    Raises:
        ValueError: rank outside 0 … world_size − 1; and what `Batches` refuses.

    Parts of a batch differ by at most one row. The last batch of an epoch may be smaller than world_size: some ranks
    get no row then. Use `lmcore.parallel.data_parallel.global_mean`, which counts.

    >>> both = [ShardedBatches(torch.arange(7), batch_size=4, rank=r, world_size=2, shuffle=False) for r in (0, 1)]
    >>> [[next(batches)[0].tolist() for batches in both] for _ in range(2)]
    [[[0, 2], [1, 3]], [[4, 6], [5]]]
    """

    def __init__(
        self,
        *tensors: Tensor,
        batch_size: int,
        rank: int,
        world_size: int,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
    ):
        super().__init__(*tensors, batch_size=batch_size, seed=seed, shuffle=shuffle, drop_last=drop_last)
        _check_rank(rank, world_size)
        self.rank, self.world_size = rank, world_size

    def __next__(self) -> tuple[Tensor, ...]:
        start = self.position * self.batch_size
        chosen = self._rows(self.epoch)[start : start + self.batch_size][self.rank :: self.world_size]
        self.position += 1
        if self.position == len(self):
            self.epoch, self.position = self.epoch + 1, 0
        return tuple(tensor[chosen.to(tensor.device)] for tensor in self.tensors)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        return self
