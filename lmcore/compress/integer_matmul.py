"""Matrix products of codes: whole numbers are multiplied and added, and the scales are put in at the end.

With x ≈ s_x (c_x − z_x) and w ≈ s_w (c_w − z_w), both on one grid per row, n numbers long,

    x · w ≈ s_x s_w (Σ c_x c_w − z_x Σ c_w − z_w Σ c_x + n z_x z_w).

Only the first sum is a matrix product. CPUs and GPUs have instructions that multiply int8 numbers and add up in int32,
several times as many at once as float32 numbers, and int8 numbers are a quarter of the bytes to be read.
"""

import torch
from torch import Tensor

from lmcore.compress.affine import Quantized
from lmcore.nn.integer_product import integer_product


def _signed(quantized: Quantized) -> tuple[Tensor, Tensor | None]:
    """Codes as int8 and their zero points: 0 … 255 becomes −128 … 127."""
    if quantized.zero_point is None:
        return quantized.codes, None
    return (quantized.codes ^ 128).view(torch.int8), quantized.zero_point - 128  # the highest bit flipped: minus 128


def _check(x: Quantized, w: Quantized) -> None:
    """Refuse grids that change inside a row, grids without a whole zero point, and sums that int32 cannot hold."""
    for name, quantized in (("x", x), ("w", w)):
        if quantized.scheme.per == "group" or quantized.minimum is not None:
            raise ValueError(
                f'{name} must be quantised per "tensor" or "row", with exact_zero: its scale has to stand before the '
                f"sum. Got {quantized.scheme}"
            )
    largest = 1
    for quantized in (x, w):
        lowest, highest = quantized.scheme.codes
        largest *= highest if quantized.zero_point is None else highest - lowest
    if x.codes.shape[-1] * largest >= 2**31:
        raise ValueError(f"a sum of {x.codes.shape[-1]:,} products of up to {largest:,} may not fit into int32")


def affine_product(x: Quantized, w: Quantized) -> Tensor:
    """The product x wᵀ, computed from the codes.

    Args:
        x: (m, n), activations.   w: (k, n), a weight. Both with a grid per tensor or per row.
    Returns:
        (m, k) float32; what x.dequantize() @ w.dequantize().T would be without rounding errors.
    Raises:
        ValueError: grids per group or without exact zero, or rows so long that a sum might not fit into int32.
    Cost: see `lmcore.nn.integer_product`; a pass over the result for the scales. A zero point of x costs a pass over
        w's codes, one of w a pass over x's: symmetric grids are cheaper.
    Source: Jacob et al. 2018, section 2.3.

    >>> from lmcore.compress.affine import Scheme, quantize
    >>> x = quantize(torch.tensor([[127.0, -1.0]]), Scheme())
    >>> w = quantize(torch.tensor([[0.0, 255.0]]), Scheme(symmetric=False))
    >>> affine_product(x, w).item()
    -255.0
    """
    _check(x, w)
    (x_codes, x_zero), (w_codes, w_zero) = _signed(x), _signed(w)
    total = integer_product(x_codes, w_codes)
    if x_zero is not None:
        total = total - x_zero * w_codes.sum(1, dtype=torch.int32)
    if w_zero is not None:
        w_zero = w_zero.reshape(-1)  # (k, 1) → (k,), or () → (1,)
        total = total - w_zero * x_codes.sum(1, keepdim=True, dtype=torch.int32)
    if x_zero is not None and w_zero is not None:
        total = total + x_codes.shape[1] * x_zero * w_zero
    return total * x.scale * w.scale.reshape(-1)
