"""Attention for recurrent networks: a decoder's state asks which of the encoder's states matter now.

Both layers here score every pair of a query and a key, turn a query's scores into weights with a softmax, and return
the weighted average of the keys, the *context*. They differ in the score. Here keys are values too; there is one head.
"""

import math

import torch
from torch import Tensor
from torch.nn import Module

from lmcore.nn.functional import softmax
from lmcore.nn.layers import Linear
from lmcore.nn.masks import refuse_empty_rows


def _check(query: Tensor, keys: Tensor, mask: Tensor | None, query_dim: int, key_dim: int) -> None:
    """Refuse queries, keys and a mask that do not fit together."""
    for name, x, shape, dim in [("query", query, "(B, T, a)", query_dim), ("keys", keys, "(B, S, b)", key_dim)]:
        if x.ndim != 3 or x.shape[2] != dim or 0 in x.shape:
            raise ValueError(f"{name} has shape {tuple(x.shape)}, must be {shape}, none of them 0, ending in {dim}")
    if len(query) != len(keys):
        raise ValueError(f"query has {len(query)} rows, keys {len(keys)}; they must be equal")
    if mask is not None:
        if mask.dtype != torch.bool or mask.shape != keys.shape[:2]:
            raise ValueError(
                f"mask is {tuple(mask.shape)} of {mask.dtype}, must be (B, S) = {tuple(keys.shape[:2])} of torch.bool, "
                "True = a real key"
            )
        refuse_empty_rows(mask)


class _Alignment(Module):
    """What both layers share; their own are two methods, and with them the score.

    project(keys): the part that depends on the keys alone, the same for all steps of a decoder.
    scores(query, projected): (B, T, S), of all pairs.
    """

    def forward(
        self, query: Tensor, keys: Tensor, *, mask: Tensor | None = None, projected: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Average the keys for each query.

        Args:
            query: (B, T, a); T = 1 in a decoder that goes step by step.   keys: (B, S, b).
            mask: (B, S) bool, True = a real key, False = padding.
            projected: `project(keys)`, if it was computed before.
        Returns:
            The context (B, T, b), and the weights (B, T, S), which sum to 1 over the keys.
        Raises:
            ValueError: shapes or dtypes that do not fit, or a row whose mask is False everywhere.
        """
        _check(query, keys, mask, self.query_dim, self.key_dim)
        scores = self.scores(query, self.project(keys) if projected is None else projected)  # (B, T, S)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, :], -math.inf)
        weights = softmax(scores)
        return weights @ keys, weights


class AdditiveAttention(_Alignment):
    """Score vᵀ tanh(W q + U k): a small network with one hidden layer judges each pair.

    Args:
        query_dim: a, the length of a query q.   key_dim: b, the length of a key k.   hidden: units of the network.
        generator: draws the first parameters; torch's global one if None.
    Attributes:
        query: W.   key: U.   score: v, a row.
    Raises:
        ValueError: a size below 1; in `forward`, see there.
    Cost: O(B·T·S·hidden) time and memory: the hidden layer exists for every pair. U k is computed once per key.
    Source: Bahdanau et al. 2015.

    >>> layer = AdditiveAttention(3, 5, 7)
    >>> context, weights = layer(torch.ones(2, 1, 3), torch.ones(2, 4, 5))
    >>> context.shape, weights[0]   # equal keys have equal weights
    (torch.Size([2, 1, 5]), tensor([[0.2500, 0.2500, 0.2500, 0.2500]], grad_fn=<SelectBackward0>))
    """

    def __init__(self, query_dim: int, key_dim: int, hidden: int, *, generator: torch.Generator | None = None):
        super().__init__()
        self.query_dim, self.key_dim = query_dim, key_dim
        self.query = Linear(query_dim, hidden, bias=False, generator=generator)
        self.key = Linear(key_dim, hidden, bias=False, generator=generator)
        self.score = Linear(hidden, 1, bias=False, generator=generator)

    def project(self, keys: Tensor) -> Tensor:
        """U k for all keys, (B, S, hidden)."""
        return self.key(keys)

    def scores(self, query: Tensor, projected: Tensor) -> Tensor:
        """(B, T, a), (B, S, hidden) → (B, T, S)."""
        pairs = self.query(query)[:, :, None] + projected[:, None]  # (B, T, S, hidden)
        return self.score(torch.tanh(pairs)).squeeze(-1)  # (B, T, S)


class MultiplicativeAttention(_Alignment):
    """Score qᵀ k ("dot"), qᵀ k / √a ("scaled_dot") or qᵀ W k ("general"): one matrix product for all pairs.

    Args:
        query_dim: a, the length of a query q.   key_dim: b, the length of a key k; a, unless the score is "general".
        score: its name.   generator: draws the first W; torch's global one if None.
    Attributes:
        key: W, or None.
    Raises:
        ValueError: another score, lengths that differ where there is no W, a size below 1; in `forward`, see there.
    Cost: O(B·T·S·a) time, O(B·T·S) memory.
    Source: Luong et al. 2015; the scale, Vaswani et al. 2017.

    >>> layer = MultiplicativeAttention(1, 1, score="dot")
    >>> context, weights = layer(torch.ones(1, 1, 1), torch.tensor([[[0.0], [math.log(3)]]]))
    >>> weights   # e⁰ : e^log 3
    tensor([[[0.2500, 0.7500]]])
    """

    def __init__(
        self, query_dim: int, key_dim: int, *, score: str = "general", generator: torch.Generator | None = None
    ):
        super().__init__()
        if score not in ("dot", "scaled_dot", "general"):
            raise ValueError(f'score must be "dot", "scaled_dot" or "general", got {score!r}')
        if score != "general" and query_dim != key_dim:
            raise ValueError(
                f'score "{score}" needs queries and keys of one length, got query_dim = {query_dim}, '
                f'key_dim = {key_dim}; "general" has a matrix between them'
            )
        self.query_dim, self.key_dim = query_dim, key_dim
        self.key = Linear(key_dim, query_dim, bias=False, generator=generator) if score == "general" else None
        self.scale = 1 / math.sqrt(query_dim) if score == "scaled_dot" else 1.0

    def project(self, keys: Tensor) -> Tensor:
        """W k for all keys, (B, S, a)."""
        return keys if self.key is None else self.key(keys)

    def scores(self, query: Tensor, projected: Tensor) -> Tensor:
        """(B, T, a), (B, S, a) → (B, T, S)."""
        return query @ projected.transpose(1, 2) * self.scale  # (B, T, S)
