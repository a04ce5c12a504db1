"""Activations: the functions of single numbers that stand between a network's layers.

torch differentiates what is composed of its operations. The sigmoid states its derivative itself: where e⁻ˣ overflows,
σ(x) is rightly 0, but the chain rule would go through 0 · ∞. And where one of torch's kernels does several steps in one
pass over memory, the steps stand beside it, and a test holds both equal.
"""

import math

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx


class _Sigmoid(torch.autograd.Function):
    """σ(x) = 1 / (1 + e⁻ˣ), σ′ = σ (1 − σ)."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        y = 1 / (1 + torch.exp(-x))
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: FunctionCtx, g: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return g * y * (1 - y)


def sigmoid(x: Tensor) -> Tensor:
    """Logistic function 1 / (1 + e⁻ˣ): from log-odds to a probability.

    >>> sigmoid(torch.tensor([-1e4, 0.0, 1e4]))
    tensor([0.0000, 0.5000, 1.0000])
    """
    return _Sigmoid.apply(x)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ) = 2 σ(2x) − 1, between −1 and 1.

    >>> tanh(torch.tensor([0.0, math.log(3)]))   # (3 − 1/3) / (3 + 1/3)
    tensor([0.0000, 0.8000])
    """
    return torch.tanh(x)


def relu(x: Tensor) -> Tensor:
    """Rectified linear unit max(x, 0); its gradient at 0 is 0, as in torch.

    >>> relu(torch.tensor([-2.0, 0.0, 3.0]))
    tensor([0., 0., 3.])
    """
    return torch.relu(x)  # x.clamp(min=0) would have gradient 1 at 0


def leaky_relu(x: Tensor, *, slope: float = 0.01) -> Tensor:
    """Relu with a slope: x where x > 0, and slope · x elsewhere, so that no unit is ever without a gradient.

    >>> leaky_relu(torch.tensor([-2.0, 3.0]))
    tensor([-0.0200,  3.0000])
    """
    return torch.where(x > 0, x, slope * x)


def gelu_in_steps(x: Tensor, *, approximate: str = "none") -> Tensor:
    """What `gelu` computes, step by step; Φ(x) = ½ (1 + erf(x / √2)).

    >>> gelu_in_steps(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.1587,  0.0000,  0.8413])
    """
    if approximate == "tanh":
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """Gaussian error linear unit x Φ(x): x times the probability Φ(x) that a standard normal number is below x.

    Args:
        x: any shape.
        approximate: "none", or "tanh" for ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))), which GPT-2 uses.
    Raises:
        ValueError: another approximate.
    Source: Hendrycks and Gimpel 2016.

    >>> gelu(torch.tensor([-1.0, 0.0, 1.0]))   # Φ(1) = 0.8413
    tensor([-0.1587,  0.0000,  0.8413])
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f'approximate must be "none" or "tanh", got {approximate!r}')
    return torch.nn.functional.gelu(x, approximate=approximate)  # gelu_in_steps in one pass


def silu(x: Tensor) -> Tensor:
    """Sigmoid linear unit x σ(x), also called swish.

    >>> silu(torch.tensor([0.0, math.log(3)])) / torch.tensor([1.0, math.log(3)])   # σ(log 3) = 3/4
    tensor([0.0000, 0.7500])
    """
    return x * sigmoid(x)


def softplus(x: Tensor) -> Tensor:
    """Smoothed relu log(1 + eˣ) = log(e⁰ + eˣ), whose derivative is the sigmoid.

    Differs: torch returns x itself above 20, which is wrong by up to 2 · 10⁻⁹.

    >>> softplus(torch.tensor([-1e4, 0.0, 1e4]))   # log 2 = 0.6931
    tensor([0.0000e+00, 6.9315e-01, 1.0000e+04])
    """
    return torch.logaddexp(x, torch.zeros_like(x))


ACTIVATIONS = {f.__name__: f for f in (sigmoid, tanh, relu, leaky_relu, gelu, silu, softplus)}
