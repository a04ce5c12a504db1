"""Linear layers of which each rank holds a part: columns first, then rows, with one message for both.

The papers write Y = X A; a *column* of A makes one output. torch stores Aᵀ, where it is a row: out_features first.
"""

from collections.abc import Callable

import torch.distributed as dist
from torch import Tensor
from torch.nn import Module, Parameter
from torch.nn.functional import linear

from lmcore.nn.layers import Linear
from lmcore.parallel.tensor_operators import copy_to_ranks, gather_parts, scatter_sum, sum_over_ranks
from lmcore.parallel.tensor_split import Split


def take_part(whole: Parameter | None, split: Split, group: dist.ProcessGroup) -> Parameter | None:
    """A parameter that holds what this rank gets of another; frozen if that one is."""
    if whole is None:
        return None
    part = split.part(whole.detach(), dist.get_rank(group), dist.get_world_size(group))
    return Parameter(part, requires_grad=whole.requires_grad)


def local_linear(whole: Linear, rows: Split, group: dist.ProcessGroup) -> Linear:
    """An ordinary layer with this rank's outputs of another; it knows of no other rank."""
    layer = Linear.__new__(Linear)
    Module.__init__(layer)
    layer.weight = take_part(whole.weight, rows, group)
    layer.register_parameter("bias", take_part(whole.bias, rows, group))
    layer.out_features, layer.in_features = layer.weight.shape
    return layer


def enter(group: dist.ProcessGroup, *, sequence_parallel: bool) -> Callable[[Tensor], Tensor]:
    """The operator before layers that are split by columns: each rank makes its own use of the whole input."""
    return (lambda x: gather_parts(x, group)) if sequence_parallel else (lambda x: copy_to_ranks(x, group))


class ColumnParallelLinear(Module):
    """A linear layer of which each rank computes some outputs, from the whole input.

        forward: y_r = f(x) W_rᵀ + b_r, no message.     backward: the gradients by x are summed over the ranks.

    Args:
        whole: the layer whose outputs are shared out.   group: the ranks.
        rows: how; equal parts in order if None.
        sequence_parallel: x comes in parts along axis 1, and is gathered.
    Attributes:
        weight: (out_features / n, in_features).   bias: (out_features / n,), or None.
    Raises:
        ValueError: ranks that cannot share the outputs.
    Source: Shoeybi et al. 2019, section 3.
    """

    def __init__(
        self, whole: Linear, group: dist.ProcessGroup, *, rows: Split | None = None, sequence_parallel: bool = False
    ):
        super().__init__()
        rows = Split(axis=0, sections=(whole.out_features,), what="outputs") if rows is None else rows
        self.weight = take_part(whole.weight, rows, group)
        self.register_parameter("bias", take_part(whole.bias, rows, group))
        self.in_features, self.enter = whole.in_features, enter(group, sequence_parallel=sequence_parallel)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features) → (…, out_features / n), this rank's outputs."""
        _check_last(x, self.in_features)
        return linear(self.enter(x), self.weight, self.bias)


class RowParallelLinear(Module):
    """A linear layer of which each rank reads some inputs; the ranks' products are summands of the output.

        forward: y = g(x_r W_rᵀ) + b, one all-reduce.       backward: no message.

    Args:
        whole: the layer whose inputs are shared out.   group: the ranks.
        columns: how; equal parts in order if None.
        sequence_parallel: y leaves in parts along axis 1: a reduce-scatter in place of the all-reduce.
    Attributes:
        weight: (out_features, in_features / n).
        bias: (out_features,), whole on every rank, and added after the sum: before it, it would count n times.
    Raises:
        ValueError: ranks that cannot share the inputs; in `forward` an x of another length.
    Source: Shoeybi et al. 2019, section 3.
    """

    def __init__(
        self, whole: Linear, group: dist.ProcessGroup, *, columns: Split | None = None, sequence_parallel: bool = False
    ):
        super().__init__()
        columns = Split(axis=1, sections=(whole.in_features,), what="inputs") if columns is None else columns
        self.weight = take_part(whole.weight, columns, group)
        self.register_parameter("bias", whole.bias)
        self.group, self.sequence_parallel = group, sequence_parallel

    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features / n), this rank's inputs → (…, out_features)."""
        _check_last(x, self.weight.shape[1])
        summand = linear(x, self.weight)
        y = scatter_sum(summand, self.group) if self.sequence_parallel else sum_over_ranks(summand, self.group)
        return y if self.bias is None else y + self.bias


def _check_last(x: Tensor, size: int) -> None:
    """Refuse vectors of another length than this rank's layer reads."""
    if x.shape[-1:] != (size,):
        raise ValueError(f"x has shape {tuple(x.shape)}, but on this rank must end in {size}")
