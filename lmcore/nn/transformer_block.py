"""The Transformer's blocks: attention and a feed-forward network, each added to what it is given.

A block writes corrections onto a stream of vectors that runs straight through: x + f(x). What differs between models
is where the normalization stands (*order*), which one it is, the activation, whether queries share keys; all of it is
in `TransformerConfig`. Where positions come from is the caller's choice: vectors added to x, `rotary`, or a `bias`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from lmcore.nn.functional import gelu, relu, silu
from lmcore.nn.kv_cache import KVCache
from lmcore.nn.layers import Dropout, Linear
from lmcore.nn.multihead import MultiHeadAttention
from lmcore.nn.norm import LayerNorm, RMSNorm

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": relu,
    "gelu": gelu,
    "gelu_tanh": lambda x: gelu(x, approximate="tanh"),
    "swiglu": silu,
}


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """What a Transformer is made of.

    Args:
        d_model: length of the vectors.   heads: of attention.   d_ff: units of the feed-forward network's hidden layer.
        layers: number of blocks in a stack.
        kv_heads: heads of keys and values, `heads` if None.
        dropout: of the attention's weights, of the hidden layer, and of what is added to the stream; in [0, 1).
        norm: "layer" or "rms".   norm_eps: its small number.
        order: "pre", x + f(norm(x)), or "post", norm(x + f(x)), as in the paper.
        activation: "relu", "gelu", "gelu_tanh" (GPT-2's), or "swiglu", which has a gate.
        bias: whether linear layers and layer norms have one.
    Raises:
        ValueError: a size below 1, sizes that do not divide, a number out of range, or another word.
    """

    d_model: int
    heads: int
    d_ff: int
    layers: int
    kv_heads: int | None = None
    dropout: float = 0.0
    norm: str = "layer"
    norm_eps: float = 1e-5
    order: str = "pre"
    activation: str = "relu"
    bias: bool = True

    def __post_init__(self):
        for name in ("d_model", "heads", "d_ff", "layers", "kv_heads"):
            value = getattr(self, name)
            if (not isinstance(value, Integral) or value < 1) and (name, value) != ("kv_heads", None):
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if self.d_model % self.heads:
            raise ValueError(f"d_model = {self.d_model} must be a multiple of heads = {self.heads}")
        if self.kv_heads is not None and self.heads % self.kv_heads:
            raise ValueError(f"heads = {self.heads} must be a multiple of kv_heads = {self.kv_heads}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if not self.norm_eps >= 0:
            raise ValueError(f"norm_eps must be at least 0, got {self.norm_eps}")
        words = {"norm": ("layer", "rms"), "order": ("pre", "post"), "activation": tuple(_ACTIVATIONS)}
        for name, allowed in words.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")


def make_norm(config: TransformerConfig) -> Module:
    """The normalization that the configuration names."""
    if config.norm == "rms":
        return RMSNorm(config.d_model, eps=config.norm_eps)
    return LayerNorm(config.d_model, eps=config.norm_eps, bias=config.bias)


def make_attention(config: TransformerConfig, generator: torch.Generator | None) -> MultiHeadAttention:
    """The attention that the configuration describes."""
    return MultiHeadAttention(
        config.d_model,
        config.heads,
        kv_heads=config.kv_heads,
        bias=config.bias,
        dropout=config.dropout,
        generator=generator,
    )


class FeedForward(Module):
    """A network with one hidden layer, for each vector alone: down(f(up(x))).

    With "swiglu" the hidden layer is a product, silu(gate(x)) ∘ up(x).

    Args:
        config: d_model, d_ff, activation, bias, dropout (of the hidden layer).
        generator: draws the first parameters, and what dropout drops; torch's global one if None.
    Attributes:
        up, down: `Linear`, d_model → d_ff → d_model.   gate: as up, or None.
    Source: Vaswani et al. 2017, section 3.3; SwiGLU: Shazeer 2020.

    >>> config = TransformerConfig(d_model=3, heads=1, d_ff=7, layers=1, activation="swiglu")
    >>> sum(p.numel() for p in FeedForward(config).parameters())   # (3·7 + 7) + (7·3 + 3) + (3·7 + 7)
    80
    """

    def __init__(self, config: TransformerConfig, *, generator: torch.Generator | None = None):
        super().__init__()
        options = {"bias": config.bias, "generator": generator}
        self.up = Linear(config.d_model, config.d_ff, **options)
        self.down = Linear(config.d_ff, config.d_model, **options)
        self.gate = Linear(config.d_model, config.d_ff, **options) if config.activation == "swiglu" else None
        self.activation = _ACTIVATIONS[config.activation]
        self.dropout = Dropout(config.dropout, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """(…, d_model) → (…, d_model)."""
        hidden = self.activation(self.up(x)) if self.gate is None else self.activation(self.gate(x)) * self.up(x)
        return self.down(self.dropout(hidden))


class _Block(Module):
    """What both blocks have: self-attention, the feed-forward network, and the way a sublayer is added."""

    def __init__(self, config: TransformerConfig, *, cross_attention: bool, generator: torch.Generator | None):
        super().__init__()
        self.pre = config.order == "pre"
        self.self_attention = make_attention(config, generator)
        self.self_attention_norm = make_norm(config)
        self.cross_attention = make_attention(config, generator) if cross_attention else None
        self.cross_attention_norm = make_norm(config) if cross_attention else None
        self.feed_forward = FeedForward(config, generator=generator)
        self.feed_forward_norm = make_norm(config)
        self.dropout = Dropout(config.dropout, generator=generator)

    def _add(self, name: str, x: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
        """Add what a sublayer makes of x; also the weights of attention, if they were asked for."""
        sublayer, norm = getattr(self, name), getattr(self, f"{name}_norm")
        y = sublayer(norm(x) if self.pre else x, *args, **options)
        y, weights = y if isinstance(y, tuple) else (y, None)
        y = x + self.dropout(y)
        return (y if self.pre else norm(y)), weights


class EncoderBlock(_Block):
    """Self-attention in both directions, then the feed-forward network.

    Args:
        config: `layers` is not looked at.   generator: draws the first parameters, and what dropout drops.
    Attributes:
        self_attention, feed_forward, and their norms, self_attention_norm and feed_forward_norm.

    >>> block = EncoderBlock(TransformerConfig(d_model=6, heads=3, d_ff=7, layers=1))
    >>> block(torch.ones(2, 5, 6)).shape
    torch.Size([2, 5, 6])
    """

    def __init__(self, config: TransformerConfig, *, generator: torch.Generator | None = None):
        super().__init__(config, cross_attention=False, generator=generator)

    def forward(self, x: Tensor, *, need_weights: bool = False, **options: Any) -> Tensor | tuple[Tensor, Tensor]:
        """(B, T, d_model) → (B, T, d_model).

        Args:
            need_weights: whether the weights of attention, (B, H, T, T), are returned too.
            options: mask, bias, rotary, as `MultiHeadAttention.forward`.
        """
        x, weights = self._add("self_attention", x, need_weights=need_weights, **options)
        x, _ = self._add("feed_forward", x)
        return (x, weights) if need_weights else x


class DecoderBlock(_Block):
    """Causal self-attention, then, if wanted, attention to an encoder's output, then the feed-forward network.

    Args:
        config: `layers` is not looked at.
        cross_attention: False for a model without an encoder, as GPT.
        generator: draws the first parameters, and what dropout drops; torch's global one if None.
    Attributes:
        as `EncoderBlock`; cross_attention and cross_attention_norm, or None.

    >>> block = DecoderBlock(TransformerConfig(d_model=6, heads=3, d_ff=7, layers=1))
    >>> block(torch.ones(2, 5, 6), torch.ones(2, 11, 6)).shape
    torch.Size([2, 5, 6])
    """

    def __init__(
        self, config: TransformerConfig, *, cross_attention: bool = True, generator: torch.Generator | None = None
    ):
        super().__init__(config, cross_attention=cross_attention, generator=generator)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        memory_mask: Tensor | None = None,
        cache: tuple[KVCache, KVCache] | None = None,
        need_weights: bool = False,
        **options: Any,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """(B, T, d_model) → (B, T, d_model).

        Args:
            memory: (B, S, d_model), what the encoder returned; just if there is cross-attention.
            memory_mask: which of memory's positions are real, such as `padding_mask(lengths, S)`.
            cache: of the block's own positions and of memory's; x then holds the positions after those.
            need_weights: whether the weights are returned too, (B, H, T, S): of cross-attention, if there is one.
            options: mask, bias, rotary, as `MultiHeadAttention.forward`, for self-attention.
        Raises:
            ValueError: memory without cross-attention, or cross-attention without memory; as `MultiHeadAttention`.
        """
        if (memory is None) != (self.cross_attention is None):
            raise ValueError(
                f"this block has {'no ' if self.cross_attention is None else ''}cross-attention, "
                f"but memory is {'missing' if memory is None else 'there'}"
            )
        own, other = cache or (None, None)
        wanted = need_weights and memory is None
        x, weights = self._add("self_attention", x, causal=True, cache=own, need_weights=wanted, **options)
        if memory is not None:
            x, weights = self._add(
                "cross_attention", x, memory, mask=memory_mask, cache=other, need_weights=need_weights
            )
        x, _ = self._add("feed_forward", x)
        return (x, weights) if need_weights else x
