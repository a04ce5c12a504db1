"""Stochastic rounding of tensors to bfloat16: the result is wrong each time, and right on average.

A bfloat16 is the upper half of a float32. Cutting off the lower half rounds toward zero; a random number of 16 bits,
added beforehand, carries into the upper half with a probability equal to the share that would be cut off.
"""

from lmcore.optional import need

need("torch", group="torch", by="lmcore.floats.stochastic")

import torch  # noqa: E402
from torch import Tensor  # noqa: E402


def stochastic_bfloat16(x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Round to one of the two bfloat16 neighbours, so that the mean over many roundings is x.

    Args:
        x: float32, of any shape.
        generator: draws, on x's device; torch's global one if None.
    Returns:
        bfloat16 of the same shape; what a bfloat16 can hold stays as it is, infinity and NaN too.
    Raises:
        TypeError: x is not float32.
    Cost: 4 random bytes a number and a few passes.

    >>> x = torch.full((10_000,), 1 + 1 / 512)      # a quarter of the way from 1 to the next bfloat16, 1 + 1/128
    >>> y = stochastic_bfloat16(x, generator=torch.Generator().manual_seed(1)).float()
    >>> y.unique().tolist(), round((y > 1).float().mean().item(), 2)
    ([1.0, 1.0078125], 0.25)
    """
    if x.dtype != torch.float32:
        raise TypeError(f"x must be float32, got {x.dtype}")
    noise = torch.randint(1 << 16, x.shape, generator=generator, dtype=torch.int32, device=x.device)
    rounded = ((x.contiguous().view(torch.int32) + noise) & -(1 << 16)).view(torch.float32)
    return torch.where(torch.isfinite(x), rounded, x).to(torch.bfloat16)
