"""Attention: each query takes an average of the values, weighted by how well their keys match it.

One formula, softmax(q kᵀ / √d) v, in four versions that a test holds equal, gradients too:

* `attention_loop`: one score after another, to be read beside the formula;
* `attention_matrix`: all scores as one matrix product, with the weights to look at;
* `attention_tiled`: block by block, see `lmcore.nn.online_softmax`; the matrix of scores never exists as a whole;
* `attention`: torch's fused kernel, which tiles too; this is the one to use.

All take q (B, H, T, d), k (B, G, S, d), v (B, G, S, e): H heads of queries share G heads of keys and values, H / G
neighbours each (G = H is the usual case, G = 1 multi-query, between them grouped-query attention). Self-attention has
S = T; in cross-attention the keys come from another sequence.
"""

import math
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from lmcore.nn.functional import softmax
from lmcore.nn.masks import causal_mask, check_mask
from lmcore.nn.online_softmax import _TiledAttention

# ---- what goes in ----


def _check(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, bias: Tensor | None, causal: bool) -> None:
    """Refuse queries, keys, values, a mask and a bias that do not fit together."""
    shapes = {name: tuple(x.shape) for name, x in {"q": q, "k": k, "v": v}.items()}
    for name, shape in shapes.items():
        if len(shape) != 4 or 0 in shape:
            raise ValueError(f"{name} has shape {shape}, must be (batch, heads, length, dimension), none of them 0")
    (B, H, T, d), (_, G, S, _) = q.shape, k.shape
    if k.shape[0] != B or k.shape[3] != d or v.shape[:3] != k.shape[:3]:
        raise ValueError(f"q (B, H, T, d), k (B, G, S, d) and v (B, G, S, e) must share B, d, G and S; got {shapes}")
    if H % G:
        raise ValueError(f"the {H} heads of q cannot be shared out evenly among the {G} heads of k and v")
    if causal and S < T:
        raise ValueError(f"causal: the S = {S} keys must include the positions of the T = {T} queries")
    if mask is not None:
        check_mask(mask, q, k, causal=causal)
    if bias is not None:
        pairs = zip(reversed(bias.shape), (S, T, H, B), strict=False)
        if bias.ndim > 4 or any(n not in (1, full) for n, full in pairs):
            raise ValueError(f"bias has shape {tuple(bias.shape)}, must broadcast to (B, H, T, S) = {(B, H, T, S)}")
        if not bias.is_floating_point():
            raise ValueError(f"bias must be of floating point, got {bias.dtype}; a bool condition is the mask")


def _with_causal(mask: Tensor | None, causal: bool, q: Tensor, k: Tensor) -> Tensor | None:
    """The mask, and the causal one if that is asked for."""
    if not causal:
        return mask
    below = causal_mask(q.shape[-2], k.shape[-2], device=q.device)  # (T, S)
    return below if mask is None else mask & below


def share_heads(x: Tensor, heads: int) -> Tensor:
    """Repeat each head of keys or values for the heads of queries that share it: (B, G, S, d) → (B, H, S, d).

    >>> share_heads(torch.tensor([5.0, 7.0]).view(1, 2, 1, 1), 4).flatten()
    tensor([5., 5., 7., 7.])
    """
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


# ---- scores ----


def dot_scores(q: Tensor, k: Tensor) -> Tensor:
    """How well keys match queries: q · k for each pair.

    Args:
        q: (…, T, d).   k: (…, S, d).
    Returns:
        (…, T, S). With independent entries of variance 1, a score has variance d.

    >>> dot_scores(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 0.0]]))
    tensor([[11.,  5.]])
    """
    return q @ k.transpose(-2, -1)


def _scale(q: Tensor, scale: float | None) -> float:
    """What scores are multiplied by."""
    return 1 / math.sqrt(q.shape[-1]) if scale is None else scale


def scaled_dot_scores(q: Tensor, k: Tensor, *, scale: float | None = None) -> Tensor:
    """Dot scores times the scale, 1 / √d if None: then their variance does not grow with d.

    >>> scaled_dot_scores(torch.ones(1, 4), torch.tensor([[3.0, 3, 3, 3]]))   # 12 / √4
    tensor([[6.]])
    """
    return dot_scores(q, k) * _scale(q, scale)


# ---- the versions ----


def _one_query(q: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Attention of one query (d,) to its keys (n, d) and values (n, e), score by score."""
    scores = [q @ key * scale for key in keys]
    if bias is not None:
        scores = [score + b for score, b in zip(scores, bias, strict=True)]
    weights = softmax(torch.stack(scores))
    return sum(weight * value for weight, value in zip(weights, values, strict=True))


def attention_loop(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """What `attention` computes, query by query and key by key.

    >>> q, k, v = torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0], [3.0]]]])
    >>> attention_loop(q, k, v)   # equal scores: the plain average
    tensor([[[[2.]]]])
    """
    _check(q, k, v, mask, bias, causal)
    (B, H, T, _), (_, G, S, e) = q.shape, v.shape
    allowed = _with_causal(mask, causal, q, k)
    allowed = torch.ones(1, dtype=torch.bool, device=q.device) if allowed is None else allowed
    allowed = allowed.expand(B, H, T, S)
    bias = None if bias is None else bias.expand(B, H, T, S)
    rows = []
    for b, h, t in product(range(B), range(H), range(T)):
        g, s = h // (H // G), allowed[b, h, t]  # the head of keys for this head of queries; which keys
        one_bias = None if bias is None else bias[b, h, t, s]
        rows.append(_one_query(q[b, h, t], k[b, g, s], v[b, g, s], one_bias, _scale(q, scale)))
    return torch.stack(rows).view(B, H, T, e)


def attention_matrix(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout: Callable[[Tensor], Tensor] | None = None,
    need_weights: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """What `attention` computes, with the scores of all pairs in one matrix.

    Args:
        q, k, v, mask, bias, causal, scale: see `attention`.
        dropout: a function of the weights, applied before the values are averaged.
        need_weights: whether the weights are returned too.
    Returns:
        (B, H, T, e); with need_weights a pair, the second (B, H, T, S), rows of non-negative weights that sum to 1
        (before dropout).
    Cost: O(B·H·T·S·(d+e)) time, O(B·H·T·S) memory.

    >>> q, k, v = torch.ones(1, 1, 1, 1), torch.tensor([[[[0.0], [math.log(3)]]]]), torch.tensor([[[[0.0], [8.0]]]])
    >>> y, weights = attention_matrix(q, k, v, need_weights=True)
    >>> y.round(decimals=4), weights
    (tensor([[[[6.]]]]), tensor([[[[0.2500, 0.7500]]]]))
    """
    _check(q, k, v, mask, bias, causal)
    k, v = share_heads(k, q.shape[1]), share_heads(v, q.shape[1])
    scores = scaled_dot_scores(q, k, scale=scale)  # (B, H, T, S)
    if bias is not None:
        scores = scores + bias
    mask = _with_causal(mask, causal, q, k)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)  # before the softmax: e^−∞ = 0 takes no share
    weights = softmax(scores)
    y = (weights if dropout is None else dropout(weights)) @ v
    return (y, weights) if need_weights else y


def attention_tiled(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    block: int = 128,
) -> Tensor:
    """What `attention` computes, taking in the keys block by block.

    Args:
        q, k, v, mask, bias, causal, scale: see `attention`.   block: number of keys in a block.
    Raises:
        ValueError: block < 1, or as `attention`.
    Cost: time as `attention_matrix`, and once more the scores on the way back; O(B·H·T·block) memory.

    >>> q, k, v = torch.ones(1, 1, 1, 1), torch.tensor([[[[0.0], [math.log(3)]]]]), torch.tensor([[[[0.0], [8.0]]]])
    >>> attention_tiled(q, k, v, block=1).round(decimals=4)
    tensor([[[[6.]]]])
    """
    _check(q, k, v, mask, bias, causal)
    if block < 1:
        raise ValueError(f"block must be at least 1, got {block}")
    k, v = share_heads(k, q.shape[1]), share_heads(v, q.shape[1])
    return _TiledAttention.apply(q, k, v, mask, bias, causal, _scale(q, scale), block)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Average values by query–key similarity: softmax(q kᵀ / √d + bias) v, by torch's fused kernel.

    Args:
        q: (B, H, T, d) queries.   k: (B, G, S, d) keys.   v: (B, G, S, e) values; H is a multiple of G.
        mask: (T, S) or (B, H, T, S), where axes may be 1; bool, True = may attend. See `lmcore.nn.masks`.
        bias: broadcasts to (B, H, T, S), added to the scores, as in ALiBi.
        causal: whether a query sees its own position and those before only; the queries are the last T of S positions.
            As `mask=causal_mask(T, S)`, but quicker for S = T; a mask may come on top.
        scale: what q kᵀ is multiplied by; 1 / √d if None.
    Returns:
        (B, H, T, e), dtype of q.
    Raises:
        ValueError: shapes or dtypes that do not fit together, or a query that may attend to nothing.
    Cost: O(B·H·T·S·(d+e)) time; O(B·H·T·e) memory, if the kernel tiles. Checking the mask: see `lmcore.nn.masks`.
    Source: Vaswani et al. 2017, eq. 1.   Differs: torch's is_causal takes the queries for the *first* T positions.

    >>> q, k, v = torch.ones(1, 1, 1, 1), torch.tensor([[[[0.0], [math.log(3)]]]]), torch.tensor([[[[0.0], [8.0]]]])
    >>> attention(q, k, v).round(decimals=4)   # weights 1/4 and 3/4
    tensor([[[[6.]]]])
    """
    _check(q, k, v, mask, bias, causal)
    square = q.shape[2] == k.shape[2]
    whole = causal and mask is None and bias is None and square  # the kernel then skips what lies above the diagonal
    if causal and not whole and q.shape[2] > 1:  # one query, the last of all, sees everything
        mask = _with_causal(mask, causal, q, k)
    if bias is not None:
        bias = bias.to(q.dtype)
        mask = bias if mask is None else torch.where(mask, bias, -math.inf)  # the kernel takes one, of either type
    grouped = k.shape[1] != q.shape[1]
    return torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=whole, scale=scale, enable_gqa=grouped
    )
