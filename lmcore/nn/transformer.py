"""The Transformer: stacks of blocks. An encoder reads in both directions; a decoder writes from left to right.

The stacks map vectors to vectors. What stands before them (embeddings, positions) and after (scores of words) belongs
to the models.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, ModuleList

from lmcore.nn.kv_cache import DecoderCache
from lmcore.nn.transformer_block import DecoderBlock, EncoderBlock, FeedForward, TransformerConfig, make_norm

__all__ = ["Decoder", "DecoderBlock", "Encoder", "EncoderBlock", "FeedForward", "TransformerConfig"]


class _Stack(Module):
    """Blocks one after the other, and a last norm where the blocks do not end with one."""

    def __init__(self, config: TransformerConfig, blocks: list[Module]):
        super().__init__()
        self.config = config
        self.layers = ModuleList(blocks)
        self.norm = make_norm(config) if config.order == "pre" else None

    def _run(self, x: Tensor, options: Sequence[dict[str, Any]], need_weights: bool) -> Tensor | tuple:
        """Through all blocks, each with its options."""
        weights = []
        for block, own in zip(self.layers, options, strict=True):
            x = block(x, need_weights=need_weights, **own)
            if need_weights:
                x, w = x
                weights.append(w)
        x = x if self.norm is None else self.norm(x)
        return (x, weights) if need_weights else x


class Encoder(_Stack):
    """A stack of `EncoderBlock`.

    Args:
        config: what the blocks are made of.
        generator: draws the first parameters, and what dropout drops; torch's global one if None.
    Attributes:
        layers: the blocks.   norm: the last norm; None if the order is "post", where each block ends with one.
    Differs: torch.nn.TransformerEncoder begins with equal parameters in all layers; here each layer draws its own.

    >>> encoder = Encoder(TransformerConfig(d_model=6, heads=3, d_ff=7, layers=2))
    >>> x, weights = encoder(torch.ones(2, 5, 6), need_weights=True)
    >>> x.shape, len(weights), weights[0].shape
    (torch.Size([2, 5, 6]), 2, torch.Size([2, 3, 5, 5]))
    """

    def __init__(self, config: TransformerConfig, *, generator: torch.Generator | None = None):
        super().__init__(config, [EncoderBlock(config, generator=generator) for _ in range(config.layers)])

    def forward(self, x: Tensor, *, need_weights: bool = False, **options: Any) -> Tensor | tuple[Tensor, list[Tensor]]:
        """(B, T, d_model) → (B, T, d_model).

        Args:
            need_weights: whether the weights of attention are returned too, (B, H, T, T) for each layer.
            options: mask, bias, rotary, as `MultiHeadAttention.forward`.
        """
        return self._run(x, [options] * len(self.layers), need_weights)


class Decoder(_Stack):
    """A stack of `DecoderBlock`.

    Args:
        config: what the blocks are made of.
        cross_attention: False for a model without an encoder, as GPT.
        generator: draws the first parameters, and what dropout drops; torch's global one if None.
    Attributes:
        layers, norm: as `Encoder`.

    >>> decoder = Decoder(TransformerConfig(d_model=6, heads=3, d_ff=7, layers=2), cross_attention=False)
    >>> x, cache = torch.ones(2, 5, 6), decoder.new_cache()
    >>> with torch.no_grad():
    ...     whole = decoder(x)
    ...     steps = [decoder(x[:, t : t + 1], cache=cache) for t in range(5)]
    >>> torch.allclose(torch.cat(steps, dim=1), whole, atol=1e-6)
    True
    """

    def __init__(
        self, config: TransformerConfig, *, cross_attention: bool = True, generator: torch.Generator | None = None
    ):
        blocks = [
            DecoderBlock(config, cross_attention=cross_attention, generator=generator) for _ in range(config.layers)
        ]
        super().__init__(config, blocks)

    def new_cache(self) -> DecoderCache:
        """An empty cache for decoding step by step."""
        return DecoderCache(len(self.layers))

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        cache: DecoderCache | None = None,
        need_weights: bool = False,
        **options: Any,
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """(B, T, d_model) → (B, T, d_model).

        Args:
            memory: (B, S, d_model), what the encoder returned; just if there is cross-attention.
            cache: from `new_cache`. x then holds the positions after those in the cache, which are added to it.
            need_weights: whether weights are returned too, (B, H, T, S) for each layer: those of cross-attention, if
                there is one.
            options: mask, bias, rotary for self-attention, memory_mask for cross-attention: as `DecoderBlock.forward`.
        Raises:
            ValueError: a cache for another number of layers; as `DecoderBlock.forward`.
        """
        caches = [None] * len(self.layers) if cache is None else cache.layers
        if len(caches) != len(self.layers):
            raise ValueError(f"cache is for {len(caches)} layers, the decoder has {len(self.layers)}: see new_cache")
        return self._run(x, [{"memory": memory, "cache": pair, **options} for pair in caches], need_weights)
