"""How the ranks of an algorithm talk: send, receive, and both at once. What carries the messages is another matter.

An algorithm that is written for a `Channel` runs on real processes (`ProcessChannel`) and on a simulated network inside
one process (`lmcore.parallel.simulate`), where eight ranks take milliseconds. Every channel counts what it sends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor

from lmcore.parallel.device import Context


@dataclass(frozen=True)
class Pending:
    """A message on its way; ``wait`` returns when its tensor may be used again."""

    wait: Callable[[], None]


class Channel(ABC):
    """One rank's end of the connections to all others.

    Args:
        rank: number of this end.   world_size: how many there are.

    Attributes: ``messages`` and ``bytes`` count what this rank has sent so far.
    """

    def __init__(self, rank: int, world_size: int):
        self.rank, self.world_size = rank, world_size
        self.messages = self.bytes = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of rank {self.rank} of {self.world_size}>"

    def isend(self, tensor: Tensor, to: int) -> Pending:
        """Begin to send a tensor, which must not change before ``wait`` of the result has returned."""
        self._check("to", to)
        self.messages += 1
        self.bytes += tensor.numel() * tensor.element_size()
        return self._isend(tensor.contiguous(), to)

    def send(self, tensor: Tensor, to: int) -> None:
        """Send a tensor and wait until it is on its way: in general, until the other side receives it."""
        self.isend(tensor, to).wait()

    def recv(self, into: Tensor, source: int) -> Tensor:
        """Wait for a message and write it into a contiguous tensor of its size and dtype, which is also returned."""
        self._check("source", source)
        if not into.is_contiguous():
            raise ValueError("into must be contiguous: receive into a tensor of its own and copy")
        self._recv(into, source)
        return into

    def exchange(self, tensor: Tensor, to: int, into: Tensor, source: int) -> Tensor:
        """Send and receive at the same time. If all ranks sent first and received then, all would wait for ever."""
        pending = self.isend(tensor, to)
        self.recv(into, source)
        pending.wait()
        return into

    @abstractmethod
    def _isend(self, tensor: Tensor, to: int) -> Pending:
        """Begin to send."""

    @abstractmethod
    def _recv(self, into: Tensor, source: int) -> None:
        """Receive."""

    def _check(self, name: str, peer: int) -> None:
        """Require that a peer is another rank."""
        if not 0 <= peer < self.world_size or peer == self.rank:
            raise ValueError(f"{name} must be a rank in 0 … {self.world_size - 1} other than {self.rank}, got {peer}")


class ProcessChannel(Channel):
    """A channel between processes, over torch.distributed's point-to-point messages.

    Args:
        context: what `lmcore.parallel.launch.run` gives a worker.
        group: talk inside this group only, with ranks counted in it; None: the context's group of all.

    >>> from lmcore.parallel.launch import run
    >>> def swap(context):
    ...     channel, other = ProcessChannel(context), 1 - context.rank
    ...     mine = torch.full((3,), context.rank)
    ...     return channel.exchange(mine, other, torch.empty_like(mine), other).tolist()
    >>> import torch
    >>> run(swap, 2)
    [[1, 1, 1], [0, 0, 0]]
    """

    def __init__(self, context: Context, group: dist.ProcessGroup | None = None):
        self.group = context.group if group is None else group
        super().__init__(dist.get_rank(self.group), dist.get_world_size(self.group))

    def _isend(self, tensor: Tensor, to: int) -> Pending:
        return Pending(dist.isend(tensor, group=self.group, group_dst=to).wait)

    def _recv(self, into: Tensor, source: int) -> None:
        dist.recv(into, group=self.group, group_src=source)

    def exchange(self, tensor: Tensor, to: int, into: Tensor, source: int) -> Tensor:
        """Send and receive at the same time, as one batch: NCCL runs separate ones in order, and would hang."""
        self._check("to", to)
        self._check("source", source)
        self.messages += 1
        self.bytes += tensor.numel() * tensor.element_size()
        send = dist.P2POp(dist.isend, tensor.contiguous(), group=self.group, group_peer=to)
        receive = dist.P2POp(dist.irecv, into, group=self.group, group_peer=source)
        for work in dist.batch_isend_irecv([send, receive]):
            work.wait()
        return into
