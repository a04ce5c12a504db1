"""Quantisation-aware training: the model is rounded while it learns, and so learns to live with it.

Rounding has derivative zero almost everywhere, and nothing would be learned through it. The *straight-through
estimator* rounds on the way forward and pretends on the way back that it had not: the gradient of the rounded weight is
given to the weight in full precision, which the optimizer changes by amounts too small for the grid, until they add up
to a step.
"""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from lmcore.compress.affine import Bound, Scheme, grouped, quantize
from lmcore.compress.linear import QuantizedLinear
from lmcore.compress.replace import replace


class _StraightThrough(torch.autograd.Function):
    """Quantise and dequantise; gradients of what was not cut off pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scheme: Scheme, low: Bound | None, high: Bound | None) -> Tensor:
        quantized = quantize(x, scheme, low=low, high=high)
        y = quantized.dequantize()
        ctx.inside = None
        if low is not None or high is not None:  # else the range is that of x
            error = grouped((x.float() - y).abs(), scheme)
            ctx.inside = (error <= quantized.scale * (0.5 + 1e-4)).view(x.shape)  # 1e-4: for float32's own rounding
        return y.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return (gradient if ctx.inside is None else gradient * ctx.inside), None, None, None


def straight_through(x: Tensor, scheme: Scheme, *, low: Bound | None = None, high: Bound | None = None) -> Tensor:
    """Quantise and dequantise, with a gradient: one inside the range, zero for what is cut off.

    Args, raises, cost: see `lmcore.compress.affine.fake_quantize`, whose values these are.
    Source: Bengio et al. 2013, section 4.   Differs: the grid is taken for fixed, though its ends are numbers of x.

    >>> x = torch.tensor([0.4, -0.6, 5.0], requires_grad=True)
    >>> y = straight_through(x, Scheme(bits=3), low=-3.0, high=3.0)
    >>> y.sum().backward()
    >>> y.tolist(), x.grad.tolist()
    ([0.0, -1.0, 3.0], [1.0, 1.0, 0.0])
    """
    return _StraightThrough.apply(x, scheme, low, high)


class FakeQuantizedLinear(Module):
    """A linear layer that computes with its weight rounded, and learns it in full precision.

    Args:
        weight: (out, in).   bias: (out,), or None. Both are copied.
        scheme: of the weight; its grids follow the weight as it changes.
        activations: a scheme per token or tensor by which the inputs are rounded, too, with grids for each call; or
            None.
    Attributes:
        weight, bias: parameters.
    Cost: a few passes over the weight for each call, besides the product.

    >>> layer = FakeQuantizedLinear(torch.tensor([[3.0, 0.4]]), None, Scheme(bits=3))
    >>> y = layer(torch.tensor([1.0, 1.0]))           # the weight is 3, 0
    >>> y.backward()
    >>> y.tolist(), layer.weight.grad.tolist()
    ([3.0], [[1.0, 1.0]])
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, scheme: Scheme, *, activations: Scheme | None = None):
        super().__init__()
        self.scheme, self.activations = scheme, activations
        self.weight = Parameter(weight.detach().clone())
        self.register_parameter("bias", None if bias is None else Parameter(bias.detach().clone()))
        self.quantized()  # refuses what cannot be converted now, not after training

    def forward(self, x: Tensor, rows: slice = slice(None)) -> Tensor:
        """(…, in) → (…, rows): all of them, or some, as if the weight had no others."""
        if self.activations is not None and x.numel():
            x = straight_through(x, self.activations)
        weight = straight_through(self.weight, self.scheme)[rows]
        return torch.nn.functional.linear(x, weight, None if self.bias is None else self.bias[rows])

    def quantized(self) -> QuantizedLinear:
        """The layer that computes the same, with its weight stored as codes.

        Raises:
            ValueError: schemes that do not go together, see `QuantizedLinear`; a weight that is not finite.
        """
        return QuantizedLinear(quantize(self.weight.detach(), self.scheme), self.bias, activations=self.activations)

    def extra_repr(self) -> str:
        """What stands between the brackets of the repr."""
        out_features, in_features = self.weight.shape
        return f"in_features={in_features}, out_features={out_features}, bias={self.bias is not None}, {self.scheme}"


def prepare(
    model: Module, scheme: Scheme, *, activations: Scheme | None = None, names: Iterable[str] | None = None
) -> Module:
    """A copy of a model to be trained with rounded matrices; its parameters are others than the model's.

    Args:
        scheme, activations: see `FakeQuantizedLinear`.
        model, names, raises, warns: see `lmcore.compress.replace.replace`. Tied matrices are not rounded unless named;
            a named one is tied no more.

    >>> prepare(torch.nn.Sequential(torch.nn.Linear(3, 2)), Scheme(bits=4))[0].weight.requires_grad
    True
    """

    def make(_: str, weight: Tensor, bias: Tensor | None) -> Module:
        return FakeQuantizedLinear(weight, bias, scheme, activations=activations)

    return replace(model, make, names=names)


def convert(model: Module) -> Module:
    """A copy of a model from `prepare`, after training, with its matrices stored as codes.

    Returns:
        With floating-point activations its outputs are those of the given model in evaluation mode, to the last bit;
        with rounded ones up to float32's rounding, as whole numbers are multiplied.
    Raises:
        ValueError: there is nothing to convert, or a weight is not finite (says which).

    >>> prepared = prepare(torch.nn.Sequential(torch.nn.Linear(3, 2)), Scheme(bits=4))
    >>> torch.equal(convert(prepared)(torch.ones(3)), prepared(torch.ones(3)))
    True
    """
    memo: dict[int, Module] = {}  # see `lmcore.compress.replace.replace`
    for name, module in model.named_modules():
        if isinstance(module, FakeQuantizedLinear):
            try:
                memo[id(module)] = module.quantized().train(module.training)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
    if not memo:
        raise ValueError(f"{type(model).__name__} has no FakeQuantizedLinear: was it made by prepare?")
    return copy.deepcopy(model, memo)
