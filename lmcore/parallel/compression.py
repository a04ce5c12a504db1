"""Gradients in fewer bytes: the codes themselves, int8 and top-k, without communication.

A code turns a flat tensor into a message of one or more tensors and back. Two properties matter. *Unbiased*: on average
over the code's own randomness, what comes back is what went in; then errors cancel over steps and workers.
*Contractive*: what comes back is nearer to x than zero is, ‖x − C(x)‖² ≤ (1 − δ) ‖x‖² with δ > 0; then error feedback
can make up for what is lost (see `compressed_reduce`).
"""

from typing import Protocol

import torch
from torch import Tensor

Message = tuple[Tensor, ...]


class Code(Protocol):
    """What a code can do."""

    def compress(self, x: Tensor) -> Message:
        """The message for a flat tensor (n,); its tensors' sizes depend on n alone, so that ranks can gather them."""

    def decompress(self, message: Message, n: int) -> Tensor:
        """The flat tensor (n,) that a message stands for."""


class Int8:
    """One byte a number, and a scale for each block of numbers: x ≈ scale · code with codes −127 … 127.

    Args:
        block: how many neighbours share a scale, the largest size among them divided by 127.
        generator: with it a number is rounded up or down at random, with the probability that makes it right on
            average. None: to the nearest code, never off by more than half a scale, but in the same way every time.
    Raises:
        ValueError: block below 1.
    Cost: n + 4 ⌈n / block⌉ bytes in place of 4n.

    >>> message = Int8(block=3).compress(torch.tensor([0.5, -1.27, 0.0, 254.0]))
    >>> message[0].tolist(), [round(s, 4) for s in message[1].tolist()]
    ([50, -127, 0, 127], [0.01, 2.0])
    """

    def __init__(self, *, block: int = 256, generator: torch.Generator | None = None):
        if block < 1:
            raise ValueError(f"block must be at least 1, got {block}")
        self.block, self.generator = block, generator

    def compress(self, x: Tensor) -> Message:
        """Codes (n,) int8 and scales (⌈n / block⌉,) of x's dtype."""
        blocks = self._blocks(x)
        scales = blocks.abs().amax(1) / 127
        steps = blocks / scales.clamp_min(torch.finfo(x.dtype).tiny)[:, None]  # a block of zeros has scale 0
        if self.generator is None:
            codes = steps.round()
        else:
            codes = (steps + torch.rand(steps.shape, generator=self.generator, dtype=x.dtype).to(x.device)).floor()
        return codes.clamp(-127, 127).to(torch.int8).flatten()[: len(x)], scales

    def decompress(self, message: Message, n: int) -> Tensor:
        """Scale times code."""
        codes, scales = message
        return (self._blocks(codes.to(scales.dtype)) * scales[:, None]).flatten()[:n]

    def _blocks(self, x: Tensor) -> Tensor:
        """(n,) → (blocks, block), zeros at the end."""
        short = -len(x) % self.block
        return torch.nn.functional.pad(x, (0, short)).view(-1, self.block)


class TopK:
    """Only the largest numbers, by absolute value, and their places. Contractive with δ = k / n, and biased.

    Args:
        ratio: share of the numbers that is sent, in (0, 1]; at least one is.
    Raises:
        ValueError: ratio outside (0, 1].
    Cost: 8 k bytes in place of 4n, for k = ratio · n float32 numbers with int32 places; O(n) time or a little more.
    Source: with error feedback in Lin et al. 2018.   Differs: k of a whole bucket, not of each layer.

    >>> TopK(0.5).compress(torch.tensor([3.0, -7.0, 1.0, 5.0]))
    (tensor([-7.,  5.]), tensor([1, 3], dtype=torch.int32))
    """

    def __init__(self, ratio: float):
        if not 0 < ratio <= 1:
            raise ValueError(f"ratio must be in (0, 1], got {ratio!r}")
        self.ratio = ratio

    def count(self, n: int) -> int:
        """How many of n numbers are sent."""
        return max(1, round(self.ratio * n))

    def compress(self, x: Tensor) -> Message:
        """Values (k,) and places (k,) int32."""
        places = x.abs().topk(self.count(len(x))).indices
        return x[places], places.to(torch.int32)

    def decompress(self, message: Message, n: int) -> Tensor:
        """The values at their places, and zeros."""
        values, places = message
        return values.new_zeros(n).index_copy_(0, places.long(), values)
