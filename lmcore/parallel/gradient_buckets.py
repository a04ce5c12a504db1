"""Putting gradients into a few large buckets, so that few messages carry them, and the first can leave early."""

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch.nn import Parameter


def assign_buckets(sizes: Sequence[int], limit: int, kinds: Sequence[Hashable] | None = None) -> list[list[int]]:
    """Fill buckets with parameters, the last parameter first: its gradient is there first.

    Args:
        sizes: bytes of each parameter, in the order of the model.
        limit: most bytes in a bucket; a parameter larger than that gets one for itself.
        kinds: what must be equal in a bucket, as dtype and device; None: all are of one kind.
    Returns:
        For each bucket the numbers of its parameters, in the order in which the buckets are closed.
    Raises:
        ValueError: a limit below 1, or not as many kinds as sizes.
    Cost: one pass.
    Differs: torch's DistributedDataParallel closes a bucket when it has *reached* the limit, begins with a small one,
        and orders the buckets anew after it has seen one backward pass.

    >>> assign_buckets([40, 20, 30, 10], limit=50)
    [[3, 2], [1], [0]]
    """
    if limit < 1:
        raise ValueError(f"limit must be at least 1 byte, got {limit}")
    kinds = [None] * len(sizes) if kinds is None else kinds
    if len(kinds) != len(sizes):
        raise ValueError(f"kinds must be as many as sizes, got {len(kinds)} and {len(sizes)}")
    closed: list[list[int]] = []
    opened: dict[Hashable, list[int]] = {}
    filled: dict[Hashable, int] = {}
    for number in reversed(range(len(sizes))):
        kind, size = kinds[number], sizes[number]
        if kind in opened and filled[kind] + size > limit:
            closed.append(opened.pop(kind))
        if kind not in opened:
            opened[kind], filled[kind] = [], 0
        opened[kind].append(number)
        filled[kind] += size
    return closed + list(opened.values())


class Bucket:
    """One flat tensor with a window for each of several gradients.

    Args:
        index: the bucket's number.   parameters: of one dtype and device.
    Attributes:
        flat: (n,), what is sent.
        views: for each parameter the part of `flat` in its shape; writing to one writes to the other.
        waiting: numbers of the parameters whose gradient is not complete yet.

    >>> bucket = Bucket(0, [Parameter(torch.zeros(1, 2)), Parameter(torch.zeros(3))])
    >>> bucket.parameters[1].grad = torch.tensor([5.0, 7.0, 11.0])
    >>> bucket.fill()
    >>> bucket.flat.tolist()
    [0.0, 0.0, 5.0, 7.0, 11.0]
    """

    def __init__(self, index: int, parameters: Sequence[Parameter]):
        self.index, self.parameters = index, list(parameters)
        sizes, first = [p.numel() for p in self.parameters], self.parameters[0]
        self.flat = torch.zeros(sum(sizes), dtype=first.dtype, device=first.device)
        parts = self.flat.split(sizes)
        self.views = [part.view(p.shape) for part, p in zip(parts, self.parameters, strict=True)]
        self.empty()

    def empty(self) -> None:
        """Wait for all gradients again."""
        self.waiting = set(range(len(self.parameters)))

    @torch.no_grad()
    def fill(self) -> None:
        """Copy the parameters' gradients into `flat`; zeros for one without."""
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        torch.cat([gradient.flatten() for gradient in gradients], out=self.flat)


def make_buckets(parameters: Iterable[Parameter], limit: int) -> list[Bucket]:
    """Buckets for parameters, as `assign_buckets` says."""
    parameters = list(parameters)
    sizes = [p.numel() * p.element_size() for p in parameters]
    groups = assign_buckets(sizes, limit, [(p.dtype, p.device) for p in parameters])
    return [Bucket(index, [parameters[n] for n in group]) for index, group in enumerate(groups)]


class StepTraffic(NamedTuple):
    """How many all-reduces a step of training makes, and how many bytes they are given."""

    messages: int
    bytes: int


def predict_traffic(parameters: Iterable[Parameter], *, bucket_bytes: int | None = None) -> StepTraffic:
    """What the gradients of one step cost in communication, before it is tried.

    Args:
        parameters: of a model; a tied one counts once, a frozen one not at all.
        bucket_bytes: limit of a bucket; None: a message for each parameter.

    >>> predict_traffic(torch.nn.Linear(3, 5).parameters())   # a weight of 15 numbers, a bias of 5
    StepTraffic(messages=2, bytes=80)
    """
    trained = [p for p in {id(p): p for p in parameters}.values() if p.requires_grad]
    sizes = [p.numel() * p.element_size() for p in trained]
    if bucket_bytes is None:
        return StepTraffic(len(sizes), sum(sizes))
    groups = assign_buckets(sizes, bucket_bytes, [(p.dtype, p.device) for p in trained])
    return StepTraffic(len(groups), sum(sizes))
