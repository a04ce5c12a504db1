"""Tensors from rank to rank whose shape the receiver does not know: what passes between the stages of a pipeline."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
LONGEST = 8  # most axes of a tensor


class Mail:
    """Sends without waiting, receives by tag.

    A sender that waited for the receiver would wait for ever as soon as two ranks send to each other at the same time,
    as in 1F1B. Each tensor is preceded by a small message with its dtype and shape.

    Args:
        group: of the ranks; ranks below are ranks in the group.
        device: where received tensors are put. Messages go through the CPU's memory.
    Attributes:
        messages, bytes: how many tensors were sent, and their size; the headers are not counted.
    Raises:
        ValueError: the group's backend is not gloo. NCCL ignores tags and pairs messages by their order; make another
            group: ``dist.new_group(backend="gloo")``.
    """

    def __init__(self, group: dist.ProcessGroup, device: torch.device | str = "cpu"):
        if (backend := dist.get_backend(group)) != "gloo":
            raise ValueError(f"group has the backend {backend}, must be gloo: dist.new_group(backend='gloo')")
        self.group, self.device, self.rank = group, torch.device(device), dist.get_rank(group)
        self.messages = self.bytes = 0
        self._sent: list[tuple[dist.Work, Tensor]] = []
        self._own: dict[int, Tensor] = {}

    def send(self, tensor: Tensor, to: int, tag: int) -> None:
        """Send to a rank, also to this one, and do not wait.

        Args:
            tag: a number that no other message to the same rank has that is under way.
        Raises:
            TypeError: another dtype than a floating one of 16 to 64 bits.
        """
        if tensor.dtype not in DTYPES:
            raise TypeError(f"stages pass tensors of {', '.join(map(str, DTYPES))} to each other, not {tensor.dtype}")
        if to == self.rank:
            self._own[tag] = tensor
            return
        tensor = tensor.cpu().contiguous()
        shape = [*tensor.shape] + [0] * (LONGEST - tensor.ndim)
        header = torch.tensor([DTYPES.index(tensor.dtype), tensor.ndim, *shape])
        for message, number in ((header, 2 * tag), (tensor, 2 * tag + 1)):
            work = dist.isend(message, group=self.group, group_dst=to, tag=number)
            self._sent.append((work, message))  # its memory must not be freed before it is sent
        self.messages += 1
        self.bytes += tensor.nbytes

    def receive(self, source: int, tag: int) -> Tensor:
        """Wait for the tensor with this tag from a rank."""
        if source == self.rank:
            return self._own.pop(tag)
        header = torch.empty(2 + LONGEST, dtype=torch.int64)
        dist.recv(header, group=self.group, group_src=source, tag=2 * tag)
        dtype, ndim, *shape = header.tolist()
        tensor = torch.empty(shape[:ndim], dtype=DTYPES[dtype])
        dist.recv(tensor, group=self.group, group_src=source, tag=2 * tag + 1)
        return tensor.to(self.device)

    def wait(self) -> None:
        """Wait until everything is sent."""
        for work, _ in self._sent:
            work.wait()
        self._sent.clear()
