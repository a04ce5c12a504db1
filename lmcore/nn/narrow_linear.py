"""Products whose weights have fewer bits, so that fewer bytes are read for each: see `lmcore.nn.matvec` for products.

* `BFloat16Linear`: the upper half of a float32 number, 8 binary digits of it, with the sums still in float32;
* `Int8Linear`: weights and vectors both become whole numbers times a scale, one for each row of the matrix and one for
  each vector, and what is multiplied and added up are the whole numbers. They have 8 bits, but for outliers.
"""

import torch
from torch import Tensor
from torch.nn.functional import linear

from lmcore.nn.integer_product import integer_product, product_by_floats

_MOST = 127  # the largest code of 8 bits; −128 is left out, so that both signs reach equally far
LIMIT = 3  # root mean squares of a vector that 8 bits reach


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers and a scale for each row, whose product is near to x: off by half a scale at most.

    Args:
        x: (…, n) float32.
    Returns:
        Codes −127 … 127, int8, of the same shape; scales (…, 1), the largest |x| of each row / 127. A row of zeros gets
        the smallest scale that float32 has all digits for. Halves are rounded to even codes.

    >>> codes, scale = quantize_rows(torch.tensor([[254.0, -1.0, 5.0], [0.0, 0.0, 0.0]]))
    >>> codes.tolist(), scale[0].item()   # −½ and 2½ go to the even codes
    ([[127, 0, 2], [0, 0, 0]], 2.0)
    """
    scale = (x.abs().amax(-1, keepdim=True) / _MOST).clamp_min(torch.finfo(x.dtype).tiny)
    return (x / scale).round().to(torch.int8), scale


def quantize_vectors(x: Tensor) -> tuple[Tensor, Tensor]:
    """As `quantize_rows`, for vectors in which a few numbers are a hundred times as large as usual.

    If the largest were 127, the others would be left with a few codes. So the codes are made for the others: 127 stands
    for `LIMIT` times the root mean square, and what is larger gets a code of 16 bits.

    Args:
        x: (…, n) float32.
    Returns:
        Codes, int16, of the same shape; at most n / LIMIT² of them need more than 8 bits. Scales (…, 1).
    Source: Dettmers et al. 2022.   Differs: there, float16 for all of a column in which a number is larger than 6.

    >>> codes, scale = quantize_vectors(torch.tensor([254.0, -5.2] + 34 * [0.0]))   # rms 42.3, and the scale is 1
    >>> codes[:3].tolist(), round(scale.item(), 2)
    ([254, -5, 0], 1.0)
    """
    scale = x.square().mean(-1, keepdim=True).sqrt() * (LIMIT / _MOST)
    scale = scale.clamp_min(torch.finfo(x.dtype).tiny)
    return (x / scale).round().to(torch.int16), scale


def _product(codes: Tensor, weight: Tensor) -> Tensor:
    """(m, n) and (k, n) int8 → (m, k) int32; for a single vector torch's product of codes is slower than floats."""
    return (integer_product if len(codes) > 1 else product_by_floats)(codes, weight)


class Int8Linear:
    """A product of whole numbers: x ≈ s c, w ≈ t d, and so x · w ≈ s t Σ c d.

    Args:
        weight: (R, C) float32, C at most 2¹⁷: the sums must fit into 32 bits.   bias: (R,), or None.
    Attributes:
        weight: the codes by `quantize_rows`; those of x are by `quantize_vectors`.   scale: (R,) float32.
    Raises:
        ValueError: more columns.
    Source: Jacob et al. 2018, section 2; outliers apart: Dettmers et al. 2022.

    >>> product = Int8Linear(torch.tensor([[1.27, -0.5], [0.0, 2.54]]), torch.tensor([0.0, 5.0]))   # scales 0.01, 0.02
    >>> product(torch.tensor([7.0, 1.0]))   # rms 5, scale 15 / 127, codes 59 and 8: (127 · 59 − 50 · 8) · scales …
    tensor([8.3776, 7.4000])
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None):
        if weight.shape[1] > 2**17:  # a sum is at most 127 √C |c|, and |c| at most (127 / LIMIT + ½) √C
            raise ValueError(f"weight has {weight.shape[1]} columns, but sums of 32 bits hold {2**17}")
        self.weight, scale = quantize_rows(weight.detach())
        self.scale, self.bias = scale[:, 0], bias

    def __call__(self, x: Tensor) -> Tensor:
        """(…, C) → (…, R), without gradients."""
        codes, scale = quantize_vectors(x.detach().reshape(-1, x.shape[-1]))
        high, low = codes >> 7, codes & 127  # c = 128 · high + low, for negative codes too; torch multiplies 8 bits
        y = 128 * _product(high.to(torch.int8), self.weight) + _product(low.to(torch.int8), self.weight)
        y = (y * (scale * self.scale)).view(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias


class BFloat16Linear:
    """A product with weights of 16 bits; x and the sums have 32.

    Args:
        weight: (R, C) float32; rounded to the nearest.   bias: (R,), or None.
    Attributes:
        weight: bfloat16.

    >>> BFloat16Linear(torch.tensor([[1.0, 1 + 2**-8, 1 + 2**-6]]))(torch.eye(3))[:, 0] - 1   # steps of 2⁻⁷ above 1
    tensor([0.0000, 0.0000, 0.0156])
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None):
        self.weight, self.bias = weight.detach().to(torch.bfloat16), bias

    def __call__(self, x: Tensor) -> Tensor:
        """(…, C) → (…, R)."""
        return linear(x, self.weight.float(), self.bias)
