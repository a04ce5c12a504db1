"""The product of two matrices of int8 codes, exact on every machine.

Processors have instructions that multiply 8-bit whole numbers and add the products up in 32 bits, several times as many
at once as floats; torch reaches them through an operator of its own. But on a CPU without these instructions (VNNI)
torch 2.13 adds pairs of products in 16 bits, and what does not fit is cut off without a word. So the operator is tried
once, with the largest sums that there are.
"""

from functools import cache

import torch
from torch import Tensor


def product_by_floats(a: Tensor, b: Tensor) -> Tensor:
    """The product a bᵀ by way of floats: whole numbers up to 2²⁴ are exact in float32, up to 2⁵³ in float64.

    >>> a = torch.tensor([[100, 100, 100]], dtype=torch.int8)
    >>> product_by_floats(a, a)
    tensor([[30000]], dtype=torch.int32)
    """
    wide = torch.float32 if a.shape[1] * 128**2 <= 2**24 else torch.float64
    return (a.to(wide) @ b.to(wide).T).to(torch.int32)


@cache
def has_fast_product(device: str = "cpu") -> bool:
    """Whether torch's own product of int8 codes is there, and right, on this kind of device."""
    largest = torch.full((64, 64), 127, dtype=torch.int8, device=device)
    mixed = largest.clone()
    mixed[:, ::2] = -128
    try:
        return all(torch.equal(torch._int_mm(largest, b.T), product_by_floats(largest, b)) for b in (largest, mixed))
    except (AttributeError, RuntimeError):  # no such operator here, or none for this device
        return False


def integer_product(a: Tensor, b: Tensor) -> Tensor:
    """The product a bᵀ of int8 matrices, exactly.

    Args:
        a: (m, n) int8.   b: (k, n) int8, in any order of memory; quickest as the transpose of an (n, k) matrix.
    Returns:
        (m, k) int32; right as long as the sums fit: n up to 131,071.
    Raises:
        TypeError: other dtypes.
        ValueError: no matrices, or sizes that do not fit.
    Cost: m · n · k multiplications with torch._int_mm. Where that is not right, or does not take the sizes (GPUs want
        more than 16 rows and multiples of 8, CPUs are wrong with n = 1), floats do the work, many times slower.

    >>> a = torch.tensor([[100, 100, 100]], dtype=torch.int8)
    >>> integer_product(a, a).item()
    30000
    """
    if a.dtype != torch.int8 or b.dtype != torch.int8:
        raise TypeError(f"a and b must be int8, got {a.dtype} and {b.dtype}")
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"a and b must be (m, n) and (k, n), got {tuple(a.shape)} and {tuple(b.shape)}")
    if a.shape[1] > 1 and has_fast_product(a.device.type):
        try:
            return torch._int_mm(a.contiguous(), b.T)
        except RuntimeError:  # not for these sizes
            pass
    return product_by_floats(a, b)
