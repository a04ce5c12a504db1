"""Attention and feed-forward networks of which each rank computes some heads, or some hidden units.

Both are two linear layers with something in between that never looks at two heads, or two hidden units, at once. Split
the first by columns and the second by rows, and nothing need be sent in between: one operator where the part begins,
one where it ends.
"""

from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.nn import Module

from lmcore.nn.layers import Dropout
from lmcore.nn.multihead import MultiHeadAttention
from lmcore.nn.transformer_block import FeedForward
from lmcore.parallel.tensor_linear import RowParallelLinear, enter, local_linear, take_part
from lmcore.parallel.tensor_operators import copy_to_ranks
from lmcore.parallel.tensor_split import attention_splits, feed_forward_splits


class ParallelAttention(MultiHeadAttention):
    """`MultiHeadAttention` with H / n of the heads, and G / n of those of keys and values, on each of n ranks.

    Args:
        whole: the layer whose heads are shared out.   group: the ranks.
        sequence_parallel: x and the result are in parts along axis 1, (B, T / n, d_model); masks and biases, as well as
            memory, are whole.
    Raises:
        ValueError: ranks that cannot share the heads, or those of keys and values: a head is never split.
    Source: Shoeybi et al. 2019, section 3.

    Caches hold this rank's heads only, and weights that are asked for are those of its heads.
    """

    def __init__(self, whole: MultiHeadAttention, group: dist.ProcessGroup, *, sequence_parallel: bool = False):
        Module.__init__(self)  # the parameters are the whole's: there are none to draw
        splits, n = attention_splits(whole), dist.get_world_size(group)
        self.d_model, self.head_dim = whole.d_model, whole.head_dim
        self.in_proj_weight = take_part(whole.in_proj_weight, splits["in_proj_weight"], group)
        self.register_parameter("in_proj_bias", take_part(whole.in_proj_bias, splits["in_proj_weight"], group))
        self.heads, self.kv_heads = whole.heads // n, whole.kv_heads // n
        columns = splits["out_proj.weight"]
        self.out_proj = RowParallelLinear(whole.out_proj, group, columns=columns, sequence_parallel=sequence_parallel)
        self.dropout = Dropout(whole.dropout.p)
        self.group, self.enter = group, enter(group, sequence_parallel=sequence_parallel)

    def forward(self, x: Tensor, memory: Tensor | None = None, **options: Any) -> Tensor | tuple[Tensor, Tensor]:
        """As `MultiHeadAttention.forward`: one operator before the projections, one after them."""
        memory = None if memory is None else copy_to_ranks(memory, self.group)
        return super().forward(self.enter(x), memory, **options)


class ParallelFeedForward(FeedForward):
    """`FeedForward` with d_ff / n of the hidden units on each of n ranks.

    Args:
        whole: the network whose hidden units are shared out.   group: the ranks.
        sequence_parallel: x and the result are in parts along axis 1.
    Raises:
        ValueError: ranks that cannot share the hidden units.
    Source: Shoeybi et al. 2019, section 3.

    up and gate read the same input, so one operator serves both: on the way back, one message.
    """

    def __init__(self, whole: FeedForward, group: dist.ProcessGroup, *, sequence_parallel: bool = False):
        Module.__init__(self)
        splits = feed_forward_splits(whole)
        columns, rows = splits["down.weight"], splits["up.weight"]
        self.up = local_linear(whole.up, rows, group)
        self.gate = None if whole.gate is None else local_linear(whole.gate, rows, group)
        self.down = RowParallelLinear(whole.down, group, columns=columns, sequence_parallel=sequence_parallel)
        self.activation, self.dropout = whole.activation, Dropout(whole.dropout.p)
        self.enter = enter(group, sequence_parallel=sequence_parallel)

    def forward(self, x: Tensor) -> Tensor:
        """(…, d_model) → (…, d_model)."""
        return super().forward(self.enter(x))
