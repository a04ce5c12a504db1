"""A linear layer for reading with finished weights: the next step is done in the pass that writes the product.

After a matrix product, bias, GELU and the addition of a residual are each one more pass over all numbers. oneDNN, the
library below torch on CPUs, can do them while a result is still in a register, and it can put the weights once and for
all into the order in which its product reads them. torch has operators for this, which it uses when it compiles a
model; they are not documented. So they are tried when a layer is made, and where they do not work (another kind of
CPU, a GPU, another version) the plain steps are taken, to which a test holds them equal.
"""

import torch
from torch import Tensor
from torch.nn.functional import linear

from lmcore.nn.functional import gelu


def linear_in_steps(
    x: Tensor, weight: Tensor, bias: Tensor, *, activation: str = "none", residual: Tensor | None = None
) -> Tensor:
    """What `FusedLinear` computes, step by step.

    >>> one = torch.ones(1, 1)
    >>> linear_in_steps(one, 2 * one, one[0], residual=4 * one)   # 1 · 2 + 1 + 4
    tensor([[7.]])
    """
    y = linear(x, weight, bias)
    y = gelu(y) if activation == "gelu" else y
    return y if residual is None else y + residual


class FusedLinear:
    """f(x Wᵀ + b) + residual with fixed W and b, in one pass where the CPU's library can.

    Args:
        weight: (out, in).   bias: (out,).   Both are copied: what happens to them later is not seen.
        dtype: in which is computed; x must have it, too. That of weight, if None.
    Attributes:
        fused: whether the one pass is used.
    Raises:
        ValueError: in a call, an activation that is neither "none" nor "gelu", or one together with a residual.

    >>> layer = FusedLinear(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0.0, 1.0]))
    >>> layer(torch.tensor([[5.0, 7.0]]), residual=torch.tensor([[0.5, 0.0]])).tolist()
    [[5.5, 15.0]]
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, dtype: torch.dtype | None = None):
        dtype = weight.dtype if dtype is None else dtype
        self._weight, self._bias = (x.detach().to(dtype, copy=True) for x in (weight, bias))
        packed = _packed(self._weight, self._bias)
        self.fused = packed is not None
        if self.fused:
            self._weight = packed

    def __call__(self, x: Tensor, *, activation: str = "none", residual: Tensor | None = None) -> Tensor:
        """(N, in) → (N, out); residual is (N, out)."""
        if activation not in ("none", "gelu") or (activation != "none" and residual is not None):
            raise ValueError(f'activation must be "none", or "gelu" without residual, got {activation!r}')
        if not self.fused:
            return linear_in_steps(x, self._weight, self._bias, activation=activation, residual=residual)
        if residual is not None:
            return torch.ops.mkldnn._linear_pointwise.binary(x, residual, self._weight, self._bias, "add")
        return torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, activation, [], "none")


def _packed(weight: Tensor, bias: Tensor) -> Tensor | None:
    """The weights in oneDNN's order, if all that is to be done with them works here; else None."""
    if weight.device.type != "cpu":
        return None
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight)
        for activation in ("none", "gelu"):
            torch.ops.mkldnn._linear_pointwise(weight[:1], packed, bias, activation, [], "none")
        torch.ops.mkldnn._linear_pointwise.binary(weight[:1], bias[None], packed, bias, "add")
    except (AttributeError, RuntimeError):  # no such operator here, or none for this CPU or dtype
        return None
    return packed
