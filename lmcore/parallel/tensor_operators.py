"""The operators of tensor parallelism: where tensors pass from "the same on all ranks" to "split", and back.

Each is a pair of contracts, one for the way forward and one for the way back, and the way back of each is the way
forward of another, its *conjugate*:

    operator          forward                           backward                          symbol in the papers
    copy_to_ranks     nothing                           sum over the ranks                f
    sum_over_ranks    sum over the ranks (all-reduce)   nothing                           g, or f with a bar
    gather_parts      join the parts (all-gather)       sum, keep the own part            g of sequence parallelism
    scatter_sum       sum, keep the own part            join the parts (all-gather)       g with a bar
                      (reduce-scatter)
    keep_part         keep the own part                 join the parts (all-gather)       –
    join_parts        join the parts (all-gather)       keep the own part                 –

Which of two operators with the same way forward is right depends on what the ranks do next. If each makes *another*
use of the tensor, its gradients must be summed on the way back: copy_to_ranks, gather_parts. If all do the same, each
has the whole gradient already, and a sum would count it n times: join_parts.

Source: Shoeybi et al. 2019, section 3; Korthikanti et al. 2022, section 4.
"""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx

from lmcore.parallel.collectives import all_gather_single, reduce_scatter_single

Move = Callable[[Tensor, dist.ProcessGroup, int | None], Tensor]


def _ranks(group: dist.ProcessGroup) -> int:
    """How many ranks share the tensor."""
    return dist.get_world_size(group)


def _check_axis(x: Tensor, axis: int, n: int) -> None:
    """Refuse a tensor that cannot be cut into n equal parts."""
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis must be one of the {x.ndim} axes of x, which has shape {tuple(x.shape)}; got {axis}")
    if x.shape[axis] % n:
        raise ValueError(
            f"axis {axis} of x, shape {tuple(x.shape)}, has length {x.shape[axis]}, which {n} ranks cannot share "
            f"equally: make it a multiple of {n}"
        )


def _as_it_is(x: Tensor, group: dist.ProcessGroup, axis: None) -> Tensor:
    """The tensor, without any message."""
    return x.view_as(x)


def _all_reduce(x: Tensor, group: dist.ProcessGroup, axis: None) -> Tensor:
    """The sum over the ranks, in a new tensor."""
    y = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(y, group=group)
    return y


def _all_gather(x: Tensor, group: dist.ProcessGroup, axis: int) -> Tensor:
    """The parts of all ranks, joined along an axis."""
    x = x.movedim(axis, 0).contiguous()  # the collective joins along the first axis
    y = x.new_empty(_ranks(group) * x.shape[0], *x.shape[1:])
    all_gather_single(y, x, group=group)
    return y.movedim(0, axis)


def _reduce_scatter(x: Tensor, group: dist.ProcessGroup, axis: int) -> Tensor:
    """The sum over the ranks, of which each rank gets its part along an axis."""
    _check_axis(x, axis, _ranks(group))
    x = x.movedim(axis, 0).contiguous()
    y = x.new_empty(x.shape[0] // _ranks(group), *x.shape[1:])
    reduce_scatter_single(y, x, group=group)
    return y.movedim(0, axis)


def _own_part(x: Tensor, group: dist.ProcessGroup, axis: int) -> Tensor:
    """What this rank keeps of a tensor that all ranks have."""
    _check_axis(x, axis, _ranks(group))
    return x.chunk(_ranks(group), axis)[dist.get_rank(group)].contiguous()


class _Operator(Function):
    """One function on the way forward, and another on the way back: swapped, they are its conjugate."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, there: Move, back: Move, group: dist.ProcessGroup, axis: int | None
    ) -> Tensor:
        ctx.conjugate = back, there, group, axis
        return there(x, group, axis)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _Operator.apply(gradient, *ctx.conjugate), None, None, None, None


def copy_to_ranks(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """f: let each rank make its own use of a tensor that all ranks have.

    Forward: nothing. Backward: the gradients of the ranks' uses are summed, by all-reduce, for x is used n times.
    """
    return _Operator.apply(x, _as_it_is, _all_reduce, group, None)


def sum_over_ranks(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """g: from summands, one per rank, to their sum, which all ranks have.

    Forward: all-reduce. Backward: nothing; the derivative of a sum by each summand is 1.
    """
    return _Operator.apply(x, _all_reduce, _as_it_is, group, None)


def gather_parts(x: Tensor, group: dist.ProcessGroup, axis: int = 1) -> Tensor:
    """From parts to the whole tensor, of which each rank makes its own use: `copy_to_ranks` for a tensor in parts.

    Forward: all-gather along the axis. Backward: reduce-scatter, the sum over the ranks' uses, each rank its part.
    """
    return _Operator.apply(x, _all_gather, _reduce_scatter, group, axis)


def scatter_sum(x: Tensor, group: dist.ProcessGroup, axis: int = 1) -> Tensor:
    """From summands to this rank's part of their sum: `sum_over_ranks` for a tensor that goes on in parts.

    Forward: reduce-scatter along the axis. Backward: all-gather.
    Raises:
        ValueError: the ranks cannot share the axis equally.
    """
    return _Operator.apply(x, _reduce_scatter, _all_gather, group, axis)


def keep_part(x: Tensor, group: dist.ProcessGroup, axis: int = 1) -> Tensor:
    """From a tensor that all ranks have to this rank's part of it.

    Forward: no message. Backward: all-gather; each rank knows the gradient of its part only.
    Raises:
        ValueError: the ranks cannot share the axis equally.
    """
    return _Operator.apply(x, _own_part, _all_gather, group, axis)


def join_parts(x: Tensor, group: dist.ProcessGroup, axis: int = 1) -> Tensor:
    """From parts to the whole tensor, with which all ranks do the *same*.

    Forward: all-gather along the axis. Backward: each rank keeps its part of a gradient that all of them have.
    """
    return _Operator.apply(x, _all_gather, _own_part, group, axis)
