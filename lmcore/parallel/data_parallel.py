"""Data parallelism: every rank has the whole model and a part of the batch, and all ranks take the same step.

What is added up over the ranks is always a *sum*; the division by the number of examples stands in the loss, where the
number is that of all ranks together (`global_mean`). So ranks may have different numbers of examples, and the gradient
is still the one of a single process that has them all.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Module, Parameter

from lmcore.parallel.gradient_buckets import Bucket, make_buckets

Finish = Callable[[], None]
Reduce = Callable[[Bucket, dist.ProcessGroup], Finish]


@torch.no_grad()
def broadcast_state(module: Module, group: dist.ProcessGroup) -> None:
    """Give all ranks the parameters and buffers of the group's rank 0, frozen ones too.

    Cost: a broadcast for each tensor, once before training.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)


def total_over_ranks(value: Tensor, group: dist.ProcessGroup) -> Tensor:
    """The sum of a tensor over the ranks, on all of them, outside the graph; the given one stays as it is."""
    total = value.detach().clone()
    dist.all_reduce(total, group=group)
    return total


def global_mean(loss_sum: Tensor, count: int, group: dist.ProcessGroup) -> Tensor:
    """A rank's share of the mean loss: its own sum, divided by the number of examples of all ranks.

    The shares of the ranks add up to the mean over all examples, and so do their gradients.

    Args:
        loss_sum: the *sum* of the losses of this rank's examples (or tokens), one number.
        count: how many they are; may differ between ranks, and be 0 on some.
    Returns:
        loss_sum / Σ count, one number to call ``backward()`` on.
    Raises:
        ValueError: loss_sum is not one number, a count below 0, or no rank has an example.
    Cost: one all-reduce of 8 bytes.
    Differs: DistributedDataParallel takes the mean of the ranks' means, which is another number when counts differ.
    """
    if loss_sum.numel() != 1 or count < 0:
        raise ValueError(f"loss_sum must be one number and count ≥ 0, got shape {tuple(loss_sum.shape)} and {count}")
    total = total_over_ranks(torch.tensor(count, device=loss_sum.device), group)
    if total == 0:
        raise ValueError("count is 0 on every rank: there is no example to take a mean over")
    return loss_sum / total


def all_reduce_gradients(module: Module, group: dist.ProcessGroup, *, find_unused: bool = False) -> None:
    """The naive way: when the backward pass is over, add up each gradient over the ranks with a message of its own.

    Args:
        module: after ``backward()`` of this rank's share of the loss.
        find_unused: parameters may have no gradient, see `DataParallel`.
    Raises:
        RuntimeError: a parameter without a gradient, unless find_unused.
    Cost: as many all-reduces as parameters, and nothing is computed meanwhile.
    """
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    used = used_anywhere(named, group, find_unused=find_unused)
    for p, anywhere in zip(named.values(), used, strict=True):
        if anywhere:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            dist.all_reduce(p.grad, group=group)


def used_anywhere(named: dict[str, Parameter], group: dist.ProcessGroup, *, find_unused: bool) -> list[bool]:
    """Which parameters have a gradient on some rank; without find_unused nobody is asked, and all must here."""
    here = [p.grad is not None for p in named.values()]
    if find_unused:
        flags = torch.tensor(here, dtype=torch.uint8, device=next(iter(named.values())).device)
        dist.all_reduce(flags, op=dist.ReduceOp.MAX, group=group)
        return [bool(flag) for flag in flags.tolist()]
    if not all(here):
        missing = [name for name, has in zip(named, here, strict=True) if not has]
        raise RuntimeError(
            f"no gradient on this rank for {', '.join(missing)}: freeze what is never used "
            "(requires_grad_(False)), or allow it with find_unused=True"
        )
    return here


def all_reduce(bucket: Bucket, group: dist.ProcessGroup) -> Finish:
    """Begin to replace a bucket by its sum over the ranks; what is returned waits for the end."""
    return dist.all_reduce(bucket.flat, group=group, async_op=True).wait


class DataParallel(Module):
    """A model whose gradients are added up over the ranks while the backward pass is still under way.

        loss = global_mean(losses.sum(), len(losses), group)   # losses of replica(x), with this rank's x
        loss.backward()                                        # buckets leave as they fill
        replica.synchronize()                                  # now every .grad is that of one process
        optimizer.step()

    Args:
        module: on every rank; begins with the parameters and buffers of rank 0.
        group: the ranks.
        bucket_bytes: limit of a bucket. Small: many messages. Large: the first leaves late.
        find_unused: some parameters may get no gradient, on some ranks or all; costs one message more per step. One
            that no rank has used keeps ``grad = None``, so that the optimizer leaves it alone.
        reduce: how a bucket becomes its sum; see `lmcore.parallel.compression` for cheaper ways that are not exact.
    Raises:
        ValueError: nothing to train.
        RuntimeError: a second backward pass before `synchronize`, outside `no_sync`; gradients of the last step still
            there; a model called between the two; or a parameter without a gradient, unless find_unused.

    Buffers are not kept equal: batch norm's averages drift apart.
    Cost: one all-reduce per bucket. Memory: a second copy of the gradients until the next ``zero_grad``.
    Source: Li et al. 2020.   Differs: `synchronize` is called, not hidden at the end of the backward pass, and
        gradients are added, not averaged: see `global_mean`.
    """

    def __init__(
        self,
        module: Module,
        group: dist.ProcessGroup,
        *,
        bucket_bytes: int = 25 * 2**20,
        find_unused: bool = False,
        reduce: Reduce = all_reduce,
    ):
        super().__init__()
        self.module, self.group, self.find_unused, self.reduce = module, group, find_unused, reduce
        self._named = {name: p for name, p in module.named_parameters() if p.requires_grad}  # a tied one once
        if not self._named:
            raise ValueError("module has no parameter that requires a gradient: there is nothing to train")
        broadcast_state(module, group)
        self.buckets = make_buckets(self._named.values(), bucket_bytes)
        self._places: dict[Parameter, tuple[Bucket, int]] = {}
        self._finish: list[Finish] = []  # of the buckets that have left
        self._accumulating = False
        for bucket in self.buckets:
            for number, p in enumerate(bucket.parameters):
                self._places[p] = bucket, number
                p.register_post_accumulate_grad_hook(self._ready)

    def forward(self, *args: Any, **kwargs: Any) -> object:
        """What the module returns."""
        if any(len(bucket.waiting) < len(bucket.parameters) for bucket in self.buckets):
            raise RuntimeError("the model is called before synchronize(), which must follow the backward pass")
        return self.module(*args, **kwargs)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Within this block backward passes add up gradients and send nothing: for all but the last micro-batch."""
        before, self._accumulating = self._accumulating, True
        try:
            yield
        finally:
            self._accumulating = before

    def _ready(self, p: Parameter) -> None:
        """Called by the backward pass when a parameter's gradient is complete."""
        bucket, number = self._places[p]
        if p.grad is bucket.views[number]:
            raise RuntimeError(
                "a gradient was added to that of the last step, which is a sum over ranks already: call zero_grad() "
                "(which sets gradients to None) before the next backward pass"
            )
        if self._accumulating:
            return
        if number not in bucket.waiting:
            raise RuntimeError(
                "a second backward pass before synchronize(): the first sum is on its way. To accumulate gradients, "
                "put all backward passes but the last into `with replica.no_sync():`"
            )
        bucket.waiting.remove(number)
        self._send_full_buckets()

    def _send_full_buckets(self) -> None:
        """Start what can be started, in the order of the buckets: it must be the same on all ranks."""
        for bucket in self.buckets[len(self._finish) :]:
            if bucket.waiting:
                break
            bucket.fill()
            self._finish.append(self.reduce(bucket, self.group))

    def synchronize(self) -> None:
        """Wait until all sums are there, and make them the parameters' gradients."""
        used = used_anywhere(self._named, self.group, find_unused=self.find_unused)
        for bucket in self.buckets:
            bucket.waiting.clear()  # those that the last backward pass did not reach
        self._send_full_buckets()
        for finish in self._finish:
            finish()
        self._finish = []
        for p, anywhere in zip(self._named.values(), used, strict=True):
            bucket, number = self._places[p]
            p.grad = bucket.views[number] if anywhere else None
        for bucket in self.buckets:
            bucket.empty()
