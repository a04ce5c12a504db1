"""Multi-head attention: several attentions side by side, each on its own small projections of the vectors."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch.nn.functional import linear

from lmcore.nn import init
from lmcore.nn.attention import attention, attention_matrix
from lmcore.nn.kv_cache import KVCache
from lmcore.nn.layers import Dropout, Linear
from lmcore.sizes import check_sizes


def _check_heads(d_model: int, heads: int, kv_heads: int) -> None:
    """Refuse heads that d_model, or the heads of keys, cannot be shared out among."""
    check_sizes(d_model=d_model, heads=heads, kv_heads=kv_heads)
    if d_model % heads:
        raise ValueError(f"d_model = {d_model} must be a multiple of heads = {heads}: each head has d_model / heads")
    if heads % kv_heads:
        raise ValueError(f"heads = {heads} must be a multiple of kv_heads = {kv_heads}: each serves heads / kv_heads")


class MultiHeadAttention(Module):
    """Attention in H heads: projections of the queries' and the keys' vectors, attention in each, one projection back.

    One head gives a query one average: it cannot take the subject from here and the tense from there. H heads of
    length d = d_model / H can, at the cost of one head of length d_model. With kv_heads = G < H, neighbouring heads
    share their keys and values, and a cache is smaller by H / G.

    Args:
        d_model: length of the vectors, a multiple of heads.   heads: H.   kv_heads: G, which divides H; H if None.
        bias: whether the projections have one.
        dropout: of the weights, in [0, 1).
        generator: draws the first parameters, and what dropout drops; torch's global one if None.
    Attributes:
        in_proj_weight: ((H + 2G) d, d_model): the rows for queries, keys, values, each head after head.
        in_proj_bias: ((H + 2G) d,), or None.   out_proj: a `Linear`.
        Names, shapes for G = H, and first parameters are those of torch.nn.MultiheadAttention.
    Raises:
        ValueError: sizes that do not divide, dropout outside [0, 1); in `forward`, see there.
    Source: Vaswani et al. 2017, section 3.2.2; G < H: Ainslie et al. 2023.

    >>> layer = MultiHeadAttention(6, 3)
    >>> x, memory = torch.ones(2, 5, 6), torch.ones(2, 7, 6)
    >>> layer(x).shape, layer(x, memory).shape
    (torch.Size([2, 5, 6]), torch.Size([2, 5, 6]))
    """

    def __init__(
        self,
        d_model: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        kv_heads = heads if kv_heads is None else kv_heads
        _check_heads(d_model, heads, kv_heads)
        self.d_model, self.heads, self.kv_heads, self.head_dim = d_model, heads, kv_heads, d_model // heads
        rows = (heads + 2 * kv_heads) * self.head_dim
        self.in_proj_weight = Parameter(torch.empty(rows, d_model))
        self.register_parameter("in_proj_bias", Parameter(torch.empty(rows)) if bias else None)
        self.out_proj = Linear(d_model, d_model, bias=bias, generator=generator)
        self.dropout = Dropout(dropout, generator=generator)
        self._reset_rest(generator)

    def _reset_rest(self, generator: torch.Generator | None) -> None:
        """All parameters but the weight of out_proj, as torch does: biases are zero."""
        init.xavier_uniform_(self.in_proj_weight, generator=generator)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the parameters anew."""
        self.out_proj.reset_parameters(generator)
        self._reset_rest(generator)

    def _project(self, x: Tensor, rows: slice) -> Tensor:
        """Multiply by some rows of in_proj, (B, T, d_model) → (B, T, rows). Quantised layers override it."""
        bias = None if self.in_proj_bias is None else self.in_proj_bias[rows]
        return linear(x, self.in_proj_weight[rows], bias)

    def _heads(self, x: Tensor, rows: slice) -> Tensor:
        """Project to heads: (B, T, d_model) → (B, rows / d, T, d)."""
        return self._project(x, rows).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def _from_x(self, x: Tensor, rotary: Callable | None, cache: KVCache | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of self-attention; those of earlier positions come from the cache."""
        together = self._heads(x, slice(None))  # (B, H + 2G, T, d), in one product
        q, k, v = together.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        if rotary is not None:
            start = 0 if cache is None else cache.length
            q, k = rotary(q, start), rotary(k, start)
        return (q, k, v) if cache is None else (q, *cache.append(k, v))

    def _from_memory(self, x: Tensor, memory: Tensor, cache: KVCache | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of cross-attention; keys and values are the same for all steps."""
        queries = self.heads * self.head_dim  # the first rows; the others are of keys and values
        q = self._heads(x, slice(queries))
        if cache is not None and cache.length:
            return q, cache.keys, cache.values
        k, v = self._heads(memory, slice(queries, None)).chunk(2, dim=1)
        return (q, k, v) if cache is None else (q, *cache.append(k, v))

    def _check(self, x: Tensor, memory: Tensor | None, causal: bool, rotary: Callable | None) -> None:
        """Refuse vectors of a wrong length, and positions in cross-attention."""
        for name, vectors in ({"x": x} if memory is None else {"x": x, "memory": memory}).items():
            shape = tuple(vectors.shape)
            if len(shape) != 3 or 0 in shape or shape[2] != self.d_model:
                raise ValueError(
                    f"{name} has shape {shape}, must be (batch, length, d_model), none of them 0, with "
                    f"d_model = {self.d_model}"
                )
        if memory is not None and (causal or rotary is not None):
            raise ValueError("causal and rotary compare positions of one sequence; with memory there are two")

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
        causal: bool = False,
        rotary: Callable[[Tensor, int], Tensor] | None = None,
        cache: KVCache | None = None,
        need_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Let each vector of x attend to those of x, or to those of memory.

        Args:
            x: (B, T, d_model).   memory: (B, S, d_model); x itself if None.
            mask, bias, causal: see `lmcore.nn.attention.attention`. S includes the positions in the cache.
            rotary: a function of queries or keys (B, heads, T, d) and the position of the first, the same shape back.
            cache: of this layer. x then holds the positions after those in the cache, which are added to it; or, with
                memory, its keys and values are computed the first time only.
            need_weights: whether the weights are returned too.
        Returns:
            (B, T, d_model); with need_weights a pair, the second (B, H, T, S), before dropout.
        Raises:
            ValueError: shapes that do not fit, causal or rotary with memory, or as `attention` and `KVCache`.
        Differs: torch's layer averages the weights over the heads, and its masks are True where ours are False.
        """
        self._check(x, memory, causal, rotary)
        q, k, v = self._from_x(x, rotary, cache) if memory is None else self._from_memory(x, memory, cache)
        options, weights = {"mask": mask, "bias": bias, "causal": causal}, None
        if need_weights or (self.training and self.dropout.p):  # the fused kernel has neither weights nor a generator
            y, weights = attention_matrix(q, k, v, **options, dropout=self.dropout, need_weights=True)
        else:
            y = attention(q, k, v, **options)
        y = self.out_proj(y.transpose(1, 2).flatten(2))  # (B, H, T, d) → (B, T, H · d) → (B, T, d_model)
        return (y, weights) if need_weights else y

    def extra_repr(self) -> str:
        """What stands between the brackets of the repr."""
        sizes = f"d_model={self.d_model}, heads={self.heads}, kv_heads={self.kv_heads}"
        return f"{sizes}, bias={self.in_proj_bias is not None}"
