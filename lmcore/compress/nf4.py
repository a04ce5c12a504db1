"""NF4: sixteen levels placed where normally distributed weights are, with one scale for each block of 64.

Evenly spaced levels waste themselves: weights look like draws from a normal distribution, many near zero and few far
out. NormalFloat puts its levels at quantiles of that distribution, so that each of the sixteen is used about equally
often. A block is divided by its largest absolute value, which then is ±1, the outermost level. The scales cost 32 bits
for 64 weights, half a bit each. *Double quantisation* stores them in eight bits and saves most of that.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from lmcore.sizes import check_sizes

_SCALES_TOGETHER = 256  # scales that share a scale of their own, in double quantisation


@cache
def normal_float_levels(bits: int = 4) -> Tensor:
    """The levels of NormalFloat, in rising order from −1 to 1; one of them is 0.

    Zero must be a level, since pruned and padded weights are zero. So the two sides are made apart: quantiles at equal
    steps of probability from ½ to 1 − δ, one more on the positive side; the quantile of probability 1 would be
    infinite. For four bits δ is halfway between 1/32 and 1/30, half the share of one of 16 and of one of 15 levels.

    Args:
        bits: 2 … 8.
    Returns:
        (2^bits,) float32.
    Raises:
        ValueError: another number of bits.
    Source: Dettmers et al. 2023, section 3 and appendix E.

    >>> normal_float_levels(2)
    tensor([-1.0000,  0.0000,  0.4358,  1.0000])
    """
    if isinstance(bits, bool) or bits not in range(2, 9):
        raise ValueError(f"bits must be a whole number from 2 to 8, got {bits!r}")
    half = 1 << bits - 1
    delta = (1 / (4 * half) + 1 / (4 * half - 2)) / 2
    above = torch.special.ndtri(torch.linspace(0.5, 1 - delta, half + 1, dtype=torch.float64))
    below = torch.special.ndtri(torch.linspace(0.5, 1 - delta, half, dtype=torch.float64))
    levels = torch.cat([-below.flip(0)[:-1], above])  # above begins with the level 0
    return (levels / levels.max()).float()


@dataclass(frozen=True)
class DoubleQuantized:
    """Positive scales in eight bits: their mean, and what is left in blocks of 256, each with a scale of its own.

    The mean is subtracted since scales are all positive: half of the 255 signed levels would never be used.

    Attributes:
        codes: (n,) int8.   scales: (⌈n / 256⌉,) float32.   mean: () float32.
    """

    codes: Tensor
    scales: Tensor
    mean: Tensor

    @classmethod
    def from_scales(cls, scales: Tensor) -> "DoubleQuantized":
        """Round (n,) scales."""
        mean = scales.mean()
        blocks = _in_blocks(scales - mean, _SCALES_TOGETHER)
        largest = blocks.abs().amax(dim=1)
        steps = torch.where(largest > 0, largest, 1) / 127
        codes = (blocks / steps[:, None]).round().to(torch.int8).flatten()[: len(scales)]
        return cls(codes, steps, mean)

    def dequantize(self) -> Tensor:
        """(n,) float32."""
        blocks = _in_blocks(self.codes.float(), _SCALES_TOGETHER) * self.scales[:, None]
        return blocks.flatten()[: len(self.codes)] + self.mean

    @property
    def nbytes(self) -> int:
        """One byte for each, four for each of their scales, four for the mean."""
        return len(self.codes) + 4 * len(self.scales) + 4


@dataclass(frozen=True)
class NormalFloat:
    """A tensor in NormalFloat.

    Attributes:
        codes: places in the table of levels, uint8, of the tensor's shape.
        scales: (blocks,) float32, or `DoubleQuantized`.
        block: how many numbers, in the order of memory, share a scale; the last block may be shorter.
        bits: of a code.
    """

    codes: Tensor
    scales: Tensor | DoubleQuantized
    block: int
    bits: int = 4

    def dequantize(self) -> Tensor:
        """The numbers that the codes stand for, float32, of the tensor's shape."""
        scales = self.scales if isinstance(self.scales, Tensor) else self.scales.dequantize()
        levels = normal_float_levels(self.bits).to(self.codes.device)[self.codes.int()]
        blocks = _in_blocks(levels.flatten(), self.block) * scales[:, None]
        return blocks.flatten()[: self.codes.numel()].view(self.codes.shape)

    @property
    def nbytes(self) -> int:
        """Bytes as packed: the codes' bits, rounded up to whole bytes, and the scales."""
        scales = 4 * len(self.scales) if isinstance(self.scales, Tensor) else self.scales.nbytes
        return -(-self.codes.numel() * self.bits // 8) + scales


def _in_blocks(x: Tensor, block: int) -> Tensor:
    """(n,) → (⌈n / block⌉, block), zeros at the end."""
    return torch.nn.functional.pad(x, (0, -len(x) % block)).view(-1, block)


def quantize_nf4(x: Tensor, *, block: int = 64, double: bool = False, bits: int = 4) -> NormalFloat:
    """Round a tensor to NormalFloat.

    Args:
        x: floating point, any shape; blocks run over its numbers in the order of memory, across rows.
        block: how many numbers share a scale.
        double: whether the scales are rounded to eight bits in their turn. The codes are chosen before that, as in
            bitsandbytes, so they are the same.
        bits: of a code, 2 … 8; NF4 has four.
    Returns:
        `NormalFloat`. A block of zeros stays zero.
    Raises:
        ValueError: x is empty, no floating point or not finite, or a wrong block or bits.
    Cost: bits + 32 / block bits for a weight; doubly quantised bits + 8 / block + 32 / (256 · block): 4.5 and 4.13.
    Source: Dettmers et al. 2023, section 3.   Differs: bitsandbytes rounds the scales to an eight-bit floating-point
        format, here to whole numbers.

    >>> found = quantize_nf4(torch.tensor([0.2, -2.0, 0.9, 0.0]), block=4)   # divided by 2: 0.1, −1, 0.45, 0
    >>> found.codes.tolist(), found.dequantize()
    ([8, 0, 12, 7], tensor([ 0.1592, -2.0000,  0.8814,  0.0000]))
    """
    check_sizes(block=block)
    levels = normal_float_levels(bits).to(x.device)
    if not x.is_floating_point() or not x.numel():
        raise ValueError(f"x must hold floating-point numbers, got {x.dtype} of shape {tuple(x.shape)}")
    if not x.isfinite().all():
        raise ValueError(f"x holds {int((~x.isfinite()).sum())} numbers that are not finite: no scale would fit them")
    blocks = _in_blocks(x.detach().float().flatten(), block)
    scales = blocks.abs().amax(dim=1)
    unit = blocks / torch.where(scales > 0, scales, 1)[:, None]
    codes = torch.bucketize(unit, (levels[1:] + levels[:-1]) / 2)  # the nearest level: borders lie halfway
    codes = codes.to(torch.uint8).flatten()[: x.numel()].view(x.shape)
    return NormalFloat(codes, DoubleQuantized.from_scales(scales) if double else scales, block, bits)
