"""Counting what a process communicates: how many messages, and how many bytes."""

from collections import Counter
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_NAMES = {  # torch's names inside → the functions of torch.distributed
    "allreduce_": "all_reduce",
    "allgather_": "all_gather",
    "_allgather_base_": "all_gather",
    "reduce_scatter_": "reduce_scatter",
    "_reduce_scatter_base_": "reduce_scatter",
    "alltoall_": "all_to_all",
    "alltoall_base_": "all_to_all",
    "broadcast_": "broadcast",
    "reduce_": "reduce",
    "gather_": "gather",
    "scatter_": "scatter",
    "send": "send",
    "recv_": "recv",
    "recv_any_source_": "recv",
    "barrier": "barrier",
}
_OUTPUT_FIRST = {"all_gather", "reduce_scatter", "all_to_all", "gather", "scatter"}


class Traffic(TorchDispatchMode):
    """Counts the calls of torch.distributed inside a ``with`` block, those of torch's own wrappers too.

    It listens where all calls pass, below Python: what it counts is what happened, not what somebody meant to send.

    Attributes:
        calls: a (name, bytes) per call, in order: "all_reduce", "broadcast", …, with the bytes of the tensors that this
            rank handed over (of a broadcast or a receive, those that it gets).
        messages: calls by name.   bytes: bytes by name.

    Differs: `ring_bytes` says what such calls put on the wire; `calls` is what the program asked for.

    >>> import torch
    >>> with Traffic() as traffic:
    ...     _ = torch.ones(3) + 1   # no communication
    >>> traffic.calls
    []
    """

    def __init__(self):
        super().__init__()
        self.calls: list[tuple[str, int]] = []

    def __torch_dispatch__(
        self, func: Any, types: tuple, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        """Note the call if it communicates, and let it pass."""
        if func.namespace == "c10d":
            inside = func.overloadpacket.__name__
            name = _NAMES.get(inside, inside)
            what = args[1 if name in _OUTPUT_FIRST else 0] if args else None
            self.calls.append((name, _bytes(what)))
        return func(*args, **(kwargs or {}))

    @property
    def messages(self) -> Counter[str]:
        """How many calls of each name."""
        return Counter(name for name, _ in self.calls)

    @property
    def bytes(self) -> Counter[str]:
        """How many bytes were handed over to the calls of each name."""
        total: Counter[str] = Counter()
        for name, size in self.calls:
            total[name] += size
        return total

    def ring_bytes(self, world_size: int) -> float:
        """Bytes that a rank sends if these calls are carried out by rings: the sum of `ring_bytes`."""
        return sum(ring_bytes(name, size, world_size) for name, size in self.calls)


def _bytes(value: object) -> int:
    """The size of a tensor, or of all tensors in a list."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else 0


def ring_bytes(name: str, size: int, world_size: int) -> float:
    """Bytes that each rank sends in a collective whose ranks stand in a ring.

    Args:
        name: "all_reduce", "all_gather" or "reduce_scatter".
        size: bytes that each rank hands over.
        world_size: number of ranks p.
    Returns:
        2 (p − 1)/p · size for an all-reduce, which is a reduce-scatter and an all-gather of its pieces;
        (p − 1) · size for an all-gather, since every rank's part passes through all others; (p − 1)/p · size for a
        reduce-scatter.
    Raises:
        ValueError: another name, or a world_size below 1.
    Source: Patarasuk and Yuan 2009.

    >>> ring_bytes("all_reduce", 100, 4), ring_bytes("all_gather", 25, 4)
    (150.0, 75.0)
    """
    if world_size < 1:
        raise ValueError(f"world_size must be at least 1, got {world_size}")
    others = world_size - 1
    shares = {"all_reduce": 2 * others / world_size, "all_gather": others, "reduce_scatter": others / world_size}
    if name not in shares:
        raise ValueError(f"name must be one of {', '.join(shares)}, got {name!r}")
    return float(shares[name] * size)
