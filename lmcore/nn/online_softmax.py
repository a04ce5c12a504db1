"""Attention block by block: the matrix of scores, T × S numbers per head, never exists as a whole.

A softmax seems to need all scores of a row, for the largest and for the sum. But both can be kept up to date. After
some blocks of keys we hold, per query, the largest score m so far, the sum l = Σ eˢ⁻ᵐ and the average's numerator
y = Σ eˢ⁻ᵐ v. A block with a larger score makes m grow to m′; everything summed before is then multiplied by eᵐ⁻ᵐ′, and
the block's own terms are added. In the end the result is y / l.

The way back needs the weights again. They are not stored but computed a second time, block by block, from the scores
and log Σ eˢ = m + log l.

Source: Milakov and Gimelshein 2018 for the sum, Dao et al. 2022 for attention with its gradient.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def _blocks(length: int, size: int) -> Iterator[slice]:
    """The slices of an axis, the last one perhaps shorter."""
    return (slice(start, min(start + size, length)) for start in range(0, length, size))


def _part(x: Tensor, block: slice) -> Tensor:
    """A block of keys of a mask or bias; an axis of length 1 stands for all of them."""
    return x if x.shape[-1] == 1 else x[..., block]


def _scores(
    q: Tensor, k: Tensor, mask: Tensor | None, bias: Tensor | None, causal: bool, scale: float, block: slice
) -> Tensor:
    """Scores of all queries with one block of keys, (B, H, T, block); −∞ where a query may not attend."""
    scores = q @ k[:, :, block].transpose(-2, -1) * scale
    if bias is not None:
        scores = scores + _part(bias, block)
    if mask is not None:
        scores = scores.masked_fill(~_part(mask, block), -math.inf)
    if causal:
        (T, S), start = (q.shape[2], k.shape[2]), block.start
        allowed = torch.ones(T, block.stop - start, dtype=torch.bool, device=q.device).tril(S - T - start)
        scores = scores.masked_fill(~allowed, -math.inf)
    return scores


def absorb(m: Tensor, l: Tensor, y: Tensor, scores: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One step of the online softmax: take in a block of scores and their values.

    Args:
        m: (…, 1) largest score so far, −∞ before the first block.   l: (…, 1) Σ eˢ⁻ᵐ.   y: (…, e) Σ eˢ⁻ᵐ v.
        scores: (…, n) of the next n keys.   v: (…, n, e) their values.
    Returns:
        m, l, y with the block in them.

    >>> start = torch.tensor([[-math.inf]]), torch.zeros(1, 1), torch.zeros(1, 1)
    >>> one = absorb(*start, torch.zeros(1, 1), torch.tensor([[0.0]]))
    >>> m, l, y = absorb(*one, torch.tensor([[math.log(3)]]), torch.tensor([[8.0]]))
    >>> (y / l).round(decimals=4)   # weights 1/4 and 3/4, as if both had come together
    tensor([[6.]])
    """
    larger = torch.maximum(m, scores.amax(-1, keepdim=True))
    zero = larger.masked_fill(larger == -math.inf, 0)  # nothing allowed so far: −∞ − (−∞) is not a number
    shrink, powers = torch.exp(m - zero), torch.exp(scores - zero)
    return larger, l * shrink + powers.sum(-1, keepdim=True), y * shrink + powers @ v


class _TiledAttention(torch.autograd.Function):
    """y = P v with P = softmax(scores); for its gradient g, dv = Pᵀ g and dscores = P ∘ (g vᵀ − rowsum(g ∘ y))."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        bias: Tensor | None,
        causal: bool,
        scale: float,
        size: int,
    ) -> Tensor:
        m, l = q.new_full((*q.shape[:-1], 1), -math.inf), q.new_zeros((*q.shape[:-1], 1))
        y = q.new_zeros((*q.shape[:-1], v.shape[-1]))
        for block in _blocks(k.shape[2], size):
            m, l, y = absorb(m, l, y, _scores(q, k, mask, bias, causal, scale, block), v[:, :, block])
        y = y / l
        ctx.save_for_backward(q, k, v, mask, bias, y, m + l.log())
        ctx.causal, ctx.scale, ctx.size = causal, scale, size
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, g: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, bias, y, logsumexp = ctx.saved_tensors
        dq, dk, dv = torch.zeros_like(q), torch.empty_like(k), torch.empty_like(v)
        dbias = torch.zeros_like(bias) if ctx.needs_input_grad[4] else None
        through_sum = (g * y).sum(-1, keepdim=True)  # (B, H, T, 1)
        for block in _blocks(k.shape[2], ctx.size):
            weights = torch.exp(_scores(q, k, mask, bias, ctx.causal, ctx.scale, block) - logsumexp)
            dv[:, :, block] = weights.transpose(-2, -1) @ g
            dscores = weights * (g @ v[:, :, block].transpose(-2, -1) - through_sum)  # (B, H, T, block)
            dq += dscores @ k[:, :, block] * ctx.scale
            dk[:, :, block] = dscores.transpose(-2, -1) @ q * ctx.scale
            if dbias is not None:
                part = _part(dbias, block)
                part += dscores.sum_to_size(part.shape)  # a view: it adds to dbias
        return dq, dk, dv, None, dbias, None, None, None
