"""AWQ: before a matrix is rounded, the columns that meet large inputs are made larger, and their inputs smaller.

Column j times s and input j divided by s change no product. But the column now spans more steps of its grid, and its
rounding error, divided by s with the input, counts less. The other columns pay where the larger column widens the grid
that they share. So s should be large only where inputs are: s = (mean |x|)^α, with the α that leaves the smallest error
of the products on inputs that calibration has seen; α = 0 is plain rounding, which is therefore never beaten by AWQ's
choice on these inputs.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from lmcore.compress.affine import Quantized, Scheme, quantize
from lmcore.compress.gptq import output_error
from lmcore.compress.inputs import record_inputs
from lmcore.compress.linear import QuantizedLinear
from lmcore.compress.replace import replace
from lmcore.sizes import check_sizes


@dataclass(frozen=True)
class ScaledWeight:
    """A matrix whose columns were scaled before they were rounded.

    Attributes:
        quantized: of weight · input_scale.   input_scale: (C,), by which inputs are to be divided.
        alpha: the exponent that was chosen.
        errors: for each exponent that was tried, the `output_error`.
    """

    quantized: Quantized
    input_scale: Tensor
    alpha: float
    errors: dict[float, float]

    def dequantize(self) -> Tensor:
        """What stands for the weight itself, float32: the rounded matrix with its columns scaled back."""
        return self.quantized.dequantize() / self.input_scale

    @property
    def nbytes(self) -> int:
        """As packed, with four bytes for each input's scale, which is free once it is folded into a norm."""
        return self.quantized.nbytes + 4 * self.input_scale.numel()


def scale_from(mean_abs: Tensor, alpha: float) -> Tensor:
    """(mean |x|)^α for each input, divided by a common factor, so that the largest times the smallest is 1.

    Args:
        mean_abs: (C,), at least 0. An input that was always 0 counts as the smallest of the others.
    Source: Lin et al. 2024, section 3.2; the common factor is from their code. It matters where rounded weights have
        bounds of their own; the steps of a grid grow with it and cancel it.

    >>> scale_from(torch.tensor([16.0, 1.0, 0.0]), 0.5)     # 4, 1, 1, each divided by √(4 · 1)
    tensor([2.0000, 0.5000, 0.5000])
    """
    used = mean_abs > 0
    if not used.any():
        return torch.ones_like(mean_abs)
    powers = torch.where(used, mean_abs, mean_abs[used].min()).double() ** alpha
    return (powers / (powers.max() * powers.min()).sqrt()).float()


def awq(weight: Tensor, mean_abs: Tensor, gram: Tensor, scheme: Scheme, *, steps: int = 20) -> ScaledWeight:
    """Scale the columns of a matrix by the best power of their inputs' size, and round to nearest.

    Args:
        weight: (R, C). Of matrices that read the same inputs, all rows, one matrix under the other: they then share
            their scale, and it can be folded into what makes the inputs, see `lmcore.compress.smoothquant`.
        mean_abs: (C,), the mean of |x| of each input.   gram: (C, C), Σ x xᵀ; the errors are computed in its dtype.
        scheme: of the grids.
        steps: how many exponents are tried: 0, 1 / steps, … up to below 1.
    Returns:
        `ScaledWeight`, whose error on these inputs is at most that of `quantize`.
    Raises:
        ValueError: shapes that do not fit, or a negative mean.
    Cost: O(steps · R C²).
    Source: Lin et al. 2024, eq. 4 and 5.   Differs: their code also searches for a narrower range of each group.

    >>> w, size = torch.tensor([[1.0, 0.4]]), torch.tensor([1.0, 100.0])
    >>> found = awq(w, size, torch.diag(size**2), Scheme(bits=2), steps=2)      # plain: −1, 0 or 1
    >>> found.alpha, found.dequantize()     # with α = ½: 1 · 10^−½ and 0.4 · 10^½, of which the second is larger
    (0.5, tensor([[0.0000, 0.4000]]))
    """
    check_sizes(steps=steps)
    columns = weight.shape[-1:]
    if weight.ndim != 2 or mean_abs.shape != columns or gram.shape != (*columns, *columns):
        raise ValueError(
            f"weight {tuple(weight.shape)}, mean_abs {tuple(mean_abs.shape)} and gram {tuple(gram.shape)} must be "
            "(R, C), (C,) and (C, C)"
        )
    if not (mean_abs >= 0).all():
        raise ValueError(f"mean_abs holds {mean_abs.min()}, but a mean of absolute values is at least 0")
    best, errors = None, {}
    for alpha in (step / steps for step in range(steps)):
        scale = scale_from(mean_abs, alpha)
        quantized = quantize(weight.detach() * scale, scheme)
        errors[alpha] = output_error(weight.detach(), quantized.dequantize() / scale, gram)
        if best is None or errors[alpha] < errors[best[2]]:
            best = quantized, scale, alpha
    return ScaledWeight(*best, errors)


def quantize_awq(
    model: Module, batches: Iterable[Any], scheme: Scheme, *, names: Iterable[str] | None = None, steps: int = 20
) -> Module:
    """A copy of a model whose matrices were scaled by their inputs and rounded; activations stay in floating point.

    Each layer divides its inputs by its scale. In a block of the order "pre", `lmcore.compress.smoothquant` can fold
    the scales of what reads a norm into the norm.

    Args:
        model, names: see `lmcore.compress.replace.replace`.   scheme, steps: see `awq`.
        batches: what the model, as it is, reads for the inputs' sizes and Gram matrices.
    Raises:
        ValueError: as `record_inputs` and `awq`, or a matrix that no batch reached.
    Cost: a forward pass for each batch, 4 C² bytes for each matrix, and `awq`.
    Differs: Lin et al. search one scale for all matrices that read the same inputs; here each has its own.

    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3))
    >>> quantize_awq(model, [torch.ones(2, 4)], Scheme(bits=4))[0].input_scale
    tensor([1., 1., 1., 1.])
    """
    seen = record_inputs(model, batches, names=names, gram=True)

    def make(name: str, weight: Tensor, bias: Tensor | None) -> Module:
        if name not in seen:
            raise ValueError("no batch has reached this matrix, so nothing is known of its inputs")
        found = awq(weight, seen[name].mean, seen[name].gram, scheme, steps=steps)
        return QuantizedLinear(found.quantized, bias, input_scale=found.input_scale)

    return replace(model, make, names=names)
