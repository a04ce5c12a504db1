"""Normalization of each vector by itself: layer norm and RMS norm, which keep a deep network's signals at one size.

Both look at the last axis alone. Unlike batch norm they never mix the examples of a batch, so that a sentence's output
does not depend on the sentences beside it, nor on whether the network is training.
"""

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from lmcore.sizes import check_sizes


def layer_norm_in_steps(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, *, eps: float) -> Tensor:
    """What `LayerNorm` computes, step by step: (x − mean) / √(variance + eps) · weight + bias along the last axis.

    Args:
        x: (…, d).   weight, bias: (d,), or None for 1 and 0.
        eps: keeps a vector of equal numbers from 0/0.
    Returns:
        (…, d). The variance divides by d, not by d − 1: it describes these d numbers and estimates no others.
    Source: Ba et al. 2016, where the weight is called gain.

    >>> layer_norm_in_steps(torch.tensor([1.0, 3.0]), eps=0.0)   # mean 2, variance 1
    tensor([-1.,  1.])
    """
    centred = x - x.mean(-1, keepdim=True)
    y = centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def rms_norm_in_steps(x: Tensor, weight: Tensor | None = None, *, eps: float) -> Tensor:
    """What `RMSNorm` computes, step by step: x / √(mean of x² + eps) · weight along the last axis.

    Args:
        x: (…, d).   weight: (d,), or None for 1.   eps: keeps a vector of zeros from 0/0.
    Returns:
        (…, d).
    Source: Zhang and Sennrich 2019, where the weight is called gain.

    >>> rms_norm_in_steps(torch.tensor([1.0, 7.0]), eps=0.0)   # mean of squares 25
    tensor([0.2000, 1.4000])
    """
    y = x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps)
    return y if weight is None else y * weight


class _Norm(Module):
    """What both have in common: the checks, and weights that begin as the plain normalization."""

    def __init__(self, dim: int, eps: float, bias: bool):
        super().__init__()
        check_sizes(dim=dim)
        if not eps >= 0:
            raise ValueError(f"eps must be at least 0, got {eps}")
        self.dim, self.eps = dim, eps
        self.weight = Parameter(torch.empty(dim))
        self.register_parameter("bias", Parameter(torch.empty(dim)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1 and bias 0."""
        torch.nn.init.ones_(self.weight)
        if self.bias is not None:
            torch.nn.init.zeros_(self.bias)

    def _check(self, x: Tensor) -> None:
        """Refuse an x that the weight would be broadcast over."""
        if x.shape[-1:] != (self.dim,):
            raise ValueError(f"x has shape {tuple(x.shape)}, but must end in dim = {self.dim}")

    def extra_repr(self) -> str:
        """What stands between the brackets of the repr."""
        return f"dim={self.dim}, eps={self.eps}, bias={self.bias is not None}"


class LayerNorm(_Norm):
    """Give each vector mean 0 and variance 1, then a learned scale and shift for each coordinate.

    Args:
        dim: length d of the last axis.
        eps: added to the variance.
        bias: whether there is a shift.
    Attributes:
        weight: (d,), first 1.   bias: (d,), first 0, or None.
    Raises:
        ValueError: dim below 1, negative eps, or in `forward` an x that does not end in dim.
    Cost: O(d) per vector; like all pointwise work it is bound by memory, so one pass beats the steps.
    Source: Ba et al. 2016.   Differs: torch's normalizes any number of last axes at once.

    >>> LayerNorm(2)(torch.tensor([5.0, 7.0])).detach().round(decimals=3)   # mean 6, variance 1
    tensor([-1.,  1.])
    """

    def __init__(self, dim: int, *, eps: float = 1e-5, bias: bool = True):
        super().__init__(dim, eps, bias)

    def forward(self, x: Tensor) -> Tensor:
        """(…, d) → (…, d)."""
        self._check(x)
        return torch.nn.functional.layer_norm(x, (self.dim,), self.weight, self.bias, self.eps)  # the steps in one pass


class RMSNorm(_Norm):
    """Divide each vector by the root of its mean square, then scale each coordinate by a learned number.

    Unlike in a layer norm the mean is not subtracted and nothing is added: of the statistics only one is left.

    Args:
        dim: length d of the last axis.
        eps: added to the mean square.
    Attributes:
        weight: (d,), first 1.   bias: None.
    Raises:
        ValueError: dim below 1, negative eps, or in `forward` an x that does not end in dim.
    Cost: O(d) per vector.
    Source: Zhang and Sennrich 2019.   Differs: torch's eps is by default the smallest of the number format, 1.2e-7.

    >>> RMSNorm(2)(torch.tensor([1.0, 7.0])).detach()   # root of the mean square: 5
    tensor([0.2000, 1.4000])
    """

    def __init__(self, dim: int, *, eps: float = 1e-6):
        super().__init__(dim, eps, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(…, d) → (…, d)."""
        self._check(x)
        return torch.nn.functional.rms_norm(x, (self.dim,), self.weight, self.eps)  # rms_norm_in_steps in one pass

    def extra_repr(self) -> str:
        """What stands between the brackets of the repr."""
        return f"dim={self.dim}, eps={self.eps}"
