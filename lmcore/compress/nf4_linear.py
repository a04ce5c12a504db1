"""Linear layers whose weight is stored in NormalFloat."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from lmcore.compress.linear import CompressedLinear
from lmcore.compress.nf4 import DoubleQuantized, NormalFloat, quantize_nf4
from lmcore.compress.packing import pack, unpack
from lmcore.compress.replace import replace


class NormalFloatLinear(CompressedLinear):
    """A linear layer whose weight is in NormalFloat, packed; it is dequantised at each call.

    Args:
        weight: (out, in).   bias: (out,), or None.
    Attributes:
        packed, and scales, or scale_codes, scale_scales and scale_mean: buffers, all that a file needs besides
        `describe()`.
    Raises:
        ValueError: weight is no matrix.
    Cost: a pass over the weight for each call: it saves memory, not time.

    >>> layer = NormalFloatLinear(quantize_nf4(torch.tensor([[3.0, 0.0], [0.0, -3.0]])))
    >>> layer(torch.tensor([1.0, 2.0])).tolist()
    [3.0, -6.0]
    """

    def __init__(self, weight: NormalFloat, bias: Tensor | None = None):
        if weight.codes.ndim != 2:
            raise ValueError(f"weight must be a matrix (out, in), got shape {tuple(weight.codes.shape)}")
        super().__init__(tuple(weight.codes.shape), bias)
        self.bits, self.block, self.double = weight.bits, weight.block, isinstance(weight.scales, DoubleQuantized)
        self.register_buffer("packed", pack(weight.codes.flatten(), weight.bits))
        if self.double:
            self.register_buffer("scale_codes", weight.scales.codes.clone())
            self.register_buffer("scale_scales", weight.scales.scales.clone())
            self.register_buffer("scale_mean", weight.scales.mean.clone())
        else:
            self.register_buffer("scales", weight.scales.clone())

    def normal_float(self) -> NormalFloat:
        """The weight, unpacked."""
        length = self.out_features * self.in_features
        codes = unpack(self.packed, self.bits, length, signed=False).view(self.out_features, self.in_features)
        if self.double:
            return NormalFloat(codes, DoubleQuantized(self.scale_codes, self.scale_scales, self.scale_mean), self.block,
                               self.bits)  # fmt: skip
        return NormalFloat(codes, self.scales, self.block, self.bits)

    def dequantized(self, rows: slice = slice(None)) -> Tensor:
        """Some rows of the weight, (rows, in_features) float32. Blocks run across rows, so all are dequantised."""
        return self.normal_float().dequantize()[rows]

    def describe(self) -> dict[str, Any]:
        """Shape, form, and whether there is a bias."""
        form = {"bits": self.bits, "block": self.block, "double": self.double}
        return {"shape": [self.out_features, self.in_features], "bias": self.bias is not None, **form}

    @classmethod
    def blank(cls, description: dict[str, Any]) -> "NormalFloatLinear":
        """A layer of zeros, of the same shape and form."""
        form = {name: description[name] for name in ("bits", "block", "double")}
        weight = quantize_nf4(torch.zeros(description["shape"]), **form)
        return cls(weight, torch.zeros(description["shape"][0]) if description["bias"] else None)

    def extra_repr(self) -> str:
        """What stands between the brackets of the repr."""
        double = ", double" if self.double else ""
        return f"{super().extra_repr()}, NormalFloat of {self.bits} bits, blocks of {self.block}{double}"


def quantize_normal_float(
    model: Module, *, block: int = 64, double: bool = False, bits: int = 4, names: Iterable[str] | None = None
) -> Module:
    """A copy of a model whose matrices are rounded to NormalFloat.

    Args, raises, warns: see `lmcore.compress.replace.replace` and `quantize_nf4`.

    >>> quantize_normal_float(torch.nn.Sequential(torch.nn.Linear(4, 3)), double=True)
    Sequential(
      (0): NormalFloatLinear(in_features=4, out_features=3, bias=True, NormalFloat of 4 bits, blocks of 64, double)
    )
    """

    def make(_: str, weight: Tensor, bias: Tensor | None) -> Module:
        return NormalFloatLinear(quantize_nf4(weight, block=block, double=double, bits=bits), bias)

    return replace(model, make, names=names)
