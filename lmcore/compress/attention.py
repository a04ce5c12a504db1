"""Attention whose first projection is a layer of its own, which may hold its weight in any form."""

from typing import Protocol

from torch import Tensor
from torch.nn import Module

from lmcore.nn.multihead import MultiHeadAttention


class RowsLayer(Protocol):
    """A linear layer that can be asked for some of its rows: queries, keys and values are rows of one matrix."""

    def __call__(self, x: Tensor, rows: slice = slice(None)) -> Tensor:
        """(…, in) → (…, rows)."""


class CompressedAttention(MultiHeadAttention):
    """A `MultiHeadAttention` with a module `in_proj` in the place of in_proj_weight and in_proj_bias.

    It is made out of an ordinary one, by `with_projection`; everything but the first product stays as it was.

    >>> class Doubled(Module):
    ...     def forward(self, x, rows=slice(None)):
    ...         return x.repeat(1, 1, 3)[..., rows] * 2
    >>> import torch
    >>> layer = CompressedAttention.with_projection(MultiHeadAttention(2, 1, bias=False), Doubled())
    >>> layer._project(torch.ones(1, 1, 2), slice(4, None)).tolist()      # the values alone
    [[[2.0, 2.0]]]
    """

    in_proj: RowsLayer

    @classmethod
    def with_projection(cls, attention: MultiHeadAttention, in_proj: Module) -> "CompressedAttention":
        """Turn an attention into one of this kind; the same object, which has lost its own matrix."""
        attention.in_proj_weight = attention.in_proj_bias = None
        attention.__class__ = cls  # torch's own parametrizations do so, too: what refers to the layer still does
        attention.in_proj = in_proj
        return attention

    def reset_parameters(self, generator: object = None) -> None:
        """Refused: there is no matrix of numbers to draw."""
        raise TypeError("the weights of a CompressedAttention cannot be drawn anew")

    def _project(self, x: Tensor, rows: slice) -> Tensor:
        """Multiply by some rows of in_proj."""
        return self.in_proj(x, rows)

    def extra_repr(self) -> str:
        """What stands between the brackets of the repr."""
        return f"d_model={self.d_model}, heads={self.heads}, kv_heads={self.kv_heads}"
