"""The vocabulary shared among the ranks: each knows the vectors of some words, and scores these words only.

The scores of all words, (B, T, V), are often the largest tensor of all. They are never brought together: the loss
needs, of each row, the largest score, the sum of exponentials and the target's score, three numbers.

A vocabulary that n does not divide is filled up with words that do not exist: rows of zeros, whose score is −∞.
"""

import math

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx
from torch.nn import Module
from torch.nn.functional import embedding, linear

from lmcore.models.bert import MaskedLMHead
from lmcore.nn.functional import gelu
from lmcore.nn.layers import Embedding, Linear
from lmcore.parallel.tensor_linear import take_part
from lmcore.parallel.tensor_operators import copy_to_ranks, join_parts, sum_over_ranks
from lmcore.parallel.tensor_split import vocabulary_split


def vocabulary_range(size: int, rank: int, n: int) -> range:
    """The ids that a rank owns: V / n of them, rounded up; the last ranks may have fewer, or none.

    Raises:
        ValueError: a size or a number of ranks below 1, or a rank outside 0 … n − 1.

    >>> [vocabulary_range(11, rank, 4) for rank in range(4)]
    [range(0, 3), range(3, 6), range(6, 9), range(9, 11)]
    """
    if size < 1 or n < 1 or not 0 <= rank < n:
        raise ValueError(f"size and n must be at least 1, and rank in 0 … n − 1; got {size}, {n} and {rank}")
    length = -(-size // n)
    return range(min(rank * length, size), min((rank + 1) * length, size))


def _own(size: int, group: dist.ProcessGroup) -> range:
    """The ids of this rank."""
    return vocabulary_range(size, dist.get_rank(group), dist.get_world_size(group))


class VocabularyParallelEmbedding(Embedding):
    """`Embedding` of which each rank has the rows of its ids.

    A rank looks up the ids that it owns, and has zeros for the others; the sum over the ranks is the whole lookup.

    Args:
        whole: the table that is shared out.   group: the ranks.
    Attributes:
        weight: (V / n rounded up, embedding_dim).
    Source: Shoeybi et al. 2019, section 3.
    """

    def __init__(self, whole: Embedding, group: dist.ProcessGroup):
        Module.__init__(self)
        self.num_embeddings, self.embedding_dim = whole.num_embeddings, whole.embedding_dim
        self.weight = take_part(whole.weight, vocabulary_split(whole.num_embeddings), group)
        self.group, self.own = group, _own(whole.num_embeddings, group)

    def forward(self, ids: Tensor) -> Tensor:
        """(…) whole numbers → (…, embedding_dim), the same on all ranks."""
        if ids.is_floating_point() or ids.dtype == torch.bool:
            raise ValueError(f"ids must be whole numbers, got {ids.dtype}")
        if ((ids < 0) | (ids >= self.num_embeddings)).any():
            raise ValueError(f"ids must be in 0 … {self.num_embeddings - 1}, got {ids.min()} … {ids.max()}")
        mine = (ids >= self.own.start) & (ids < self.own.stop)
        rows = embedding(torch.where(mine, ids - self.own.start, 0).long(), self.weight)
        return sum_over_ranks(rows * mine[..., None], self.group)


def _scores(x: Tensor, weight: Tensor, bias: Tensor | None, own: range, group: dist.ProcessGroup) -> Tensor:
    """Scores of a rank's words, −∞ for those that do not exist."""
    y = linear(copy_to_ranks(x, group), weight, bias)
    return y.masked_fill(torch.arange(y.shape[-1], device=y.device) >= len(own), -math.inf)


class VocabularyParallelLinear(Module):
    """The map to scores, `Linear` to V words, of which each rank scores its words.

    Args:
        whole: the layer that is shared out.   group: the ranks.
    Attributes:
        weight: (V / n rounded up, in_features).   bias: (V / n rounded up,), or None.
    """

    def __init__(self, whole: Linear, group: dist.ProcessGroup):
        super().__init__()
        rows = vocabulary_split(whole.out_features)
        self.weight = take_part(whole.weight, rows, group)
        self.register_parameter("bias", take_part(whole.bias, rows, group))
        self.group, self.own = group, _own(whole.out_features, group)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features) → (…, V / n rounded up)."""
        return _scores(x, self.weight, self.bias, self.own, self.group)


class ParallelMaskedLMHead(MaskedLMHead):
    """`MaskedLMHead` of which each rank scores its words; the dense layer and the norm are whole.

    Args:
        whole: the head that is shared out.   group: the ranks.
    """

    def __init__(self, whole: MaskedLMHead, group: dist.ProcessGroup):
        Module.__init__(self)
        rows = vocabulary_split(len(whole.bias))
        self.dense, self.norm = whole.dense, whole.norm
        self.table, self.bias = take_part(whole.table, rows, group), take_part(whole.bias, rows, group)
        self.group, self.own = group, _own(len(whole.bias), group)

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, d) → (…, V / n rounded up)."""
        x = self.norm(gelu(self.dense(hidden)))
        return _scores(x, self.table, self.bias, self.own, self.group)


class _CrossEntropy(Function):
    """Mean of log Σ e^z − z_target over rows whose scores lie on many ranks; its gradient, (p − q) / N, needs none."""

    @staticmethod
    def forward(ctx: FunctionCtx, scores: Tensor, targets: Tensor, start: int, group: dist.ProcessGroup) -> Tensor:
        highest = scores.amax(-1)
        dist.all_reduce(highest, dist.ReduceOp.MAX, group=group)
        shifted = scores - highest[:, None]
        mine = (targets >= start) & (targets < start + scores.shape[-1])
        places = torch.where(mine, targets - start, 0)[:, None]
        found = shifted.gather(1, places)[:, 0].masked_fill(~mine, 0)  # after the shift: small numbers, exact sums
        powers = shifted.exp_()
        sums = torch.stack([powers.sum(-1), found])  # two numbers per row in one message
        dist.all_reduce(sums, group=group)
        ctx.save_for_backward(powers.div_(sums[0][:, None]), places, mine)
        return (sums[0].log() - sums[1]).mean()

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        p, places, mine = ctx.saved_tensors
        difference = p.scatter_add(1, places, -mine[:, None].to(p.dtype))  # p − q
        return difference * (gradient / len(p)), None, None, None


def vocabulary_parallel_cross_entropy(
    scores: Tensor, targets: Tensor, group: dist.ProcessGroup, *, ignore_index: int | None = None
) -> Tensor:
    """`lmcore.nn.functional.cross_entropy` of scores that lie on many ranks; the scores stay where they are.

    Args:
        scores: (…, V / n rounded up) of this rank's words.
        targets: (…) ids in 0 … V − 1, the same on all ranks.   group: the ranks.
        ignore_index: rows with this target do not count.
    Returns:
        Nats per row that counts, the same on all ranks.
    Raises:
        ValueError: shapes that do not fit, a target that no rank scores, or no row that counts.
    Cost: two all-reduces, of one and of two numbers per row; on the way back none.
    Source: Shoeybi et al. 2019, section 3; Milakov and Gimelshein 2018 for maxima and sums in parts.
    """
    if targets.shape != scores.shape[:-1]:
        raise ValueError(f"targets has shape {tuple(targets.shape)}, but scores {tuple(scores.shape)}")
    scores, targets = scores.reshape(-1, scores.shape[-1]), targets.reshape(-1).long()
    if ignore_index is not None:
        kept = targets != ignore_index
        scores, targets = scores[kept], targets[kept]
    if not len(targets):
        raise ValueError(f"no row counts: scores is empty, or all targets are ignore_index = {ignore_index}")
    length, n = scores.shape[-1], dist.get_world_size(group)
    if ((targets < 0) | (targets >= n * length)).any():
        raise ValueError(f"targets must be in 0 … {n * length - 1}, got {targets.min()} … {targets.max()}")
    return _CrossEntropy.apply(scores, targets, dist.get_rank(group) * length, group)


def gather_scores(scores: Tensor, size: int, group: dist.ProcessGroup) -> Tensor:
    """The scores of all V = size words on every rank, for sampling: (…, V / n rounded up) → (…, V)."""
    return join_parts(scores, group, -1)[..., :size]
