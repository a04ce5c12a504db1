"""A linear layer for reading whose products are of 8-bit whole numbers, with the next step done in the same pass.

Each row of the weight is rounded once, w ≈ t d with whole d from −127 to 127 (see `lmcore.nn.narrow_linear`). Each row
of x, one token, is rounded when it comes, and its own range is used: x ≈ s c + m, where m is the middle of the range,
so that c fills −127 … 127 even if all numbers have one sign, as nearly all have after a GELU. Then

    x · w ≈ s t Σ c d + m t Σ d,

and Σ d is known beforehand. The sums of c d are what a processor with the right instructions does several times as
fast as the product of floats; it is so fast that every further pass over the numbers counts. So what is between two
products is done in one pass per row: scales, bias and a residual or GELU and, if the next layer is of this kind too,
the rounding.
"""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lmcore.nn.functional import gelu
from lmcore.nn.integer_product import has_fast_product, integer_product
from lmcore.nn.narrow_linear import quantize_rows

_STEPS = 254  # from code −127 to 127


class RoundedRows(NamedTuple):
    """Rows x ≈ steps codes + middles: codes (N, n) int8, steps (N,) and middles (N,) float32."""

    codes: Tensor
    steps: Tensor
    middles: Tensor

    def numbers(self) -> Tensor:
        """The rows as float32, (N, n)."""
        return self.codes * self.steps[:, None] + self.middles[:, None]


def round_rows(x: Tensor) -> RoundedRows:
    """Round each row to 255 numbers from its smallest to its largest: off by half a step at most.

    Args:
        x: (N, n) float32. The codes of equal rows are equal, whatever the other rows are.

    >>> rounded = round_rows(torch.tensor([[0.0, 25.4, 1.52, 12.7]]))   # step 0.1, middle 12.7
    >>> rounded.codes.tolist(), rounded.numbers().tolist()[0][2]
    ([[-127, 127, -112, 0]], 1.5)
    """
    low, high = x.aminmax(dim=-1)
    steps = ((high - low) / _STEPS).clamp_min(torch.finfo(torch.float32).tiny)
    middles = (high + low) / 2
    codes = ((x - middles[:, None]) * (1 / steps)[:, None]).round().to(torch.int8)
    return RoundedRows(codes, steps, middles)


def _compiled_loops() -> ModuleType | None:
    """The loops that numba compiles, if it is there."""
    return import_module("lmcore.nn.fused_int8_compiled") if find_spec("numba") else None


class FusedInt8Linear:
    """f(x Wᵀ + b) + residual with fixed W and b, from products of int8 codes. Its calls are those of `FusedLinear`.

    Args:
        weight: (out, in).   bias: (out,).   Both are copied: what happens to them later is not seen.
        rounded: the result comes as `RoundedRows`, for another layer of this kind; for calls without residual.
    Attributes:
        fused: whether torch's product of int8 codes and the compiled loops are used, which needs a CPU that has the
            instructions, and numba. If not, the same is computed step by step, more slowly than in float32.
        weight: the codes (out, in).   scale: (out,); W ≈ scale · codes.
    Raises:
        ValueError: weights or a bias that are not finite, or rows so long that sums might not fit into int32; in a
            call, an activation that is neither "none" nor "gelu", or a residual with "gelu" or rounded.
    Source: Jacob et al. 2018, section 2, with a scale per row of the weight and per token instead of per matrix.

    >>> layer = FusedInt8Linear(torch.tensor([[127.0, 1.0], [0.0, 254.0]]), torch.tensor([0.5, 0.0]))   # scales 1, 2
    >>> layer(torch.tensor([[0.0, 254.0]])).tolist()   # step 1, middle 127, codes −127 and 127
    [[254.5, 64516.0]]
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, rounded: bool = False):
        weight, bias = weight.detach().float(), bias.detach().float()
        for name, values in (("weight", weight), ("bias", bias)):
            strange = int((~values.isfinite()).sum())
            if strange:
                raise ValueError(f"{name} must be finite, but {strange} of {values.numel()} numbers are not")
        most = torch.iinfo(torch.int32).max // 127**2
        if weight.shape[1] > most:
            raise ValueError(f"weight has {weight.shape[1]} columns, but sums of 32 bits hold {most} products of codes")
        self.weight, scale = quantize_rows(weight)
        self.scale, self.rounded = scale[:, 0].contiguous(), rounded
        self._shift = self.scale * self.weight.sum(dim=1)  # t Σ d
        self._bias = bias.clone()
        self._turned = self.weight.T.contiguous()  # (in, out): the order in which torch's product is fastest
        self._loops = _compiled_loops()
        fast = weight.device.type == "cpu" and weight.shape[1] > 1 and has_fast_product()
        self.fused = fast and self._loops is not None

    def __call__(
        self, x: Tensor | RoundedRows, *, activation: str = "none", residual: Tensor | None = None
    ) -> Tensor | RoundedRows:
        """(N, in) float32 or rounded → (N, out); residual is (N, out)."""
        if activation not in ("none", "gelu") or (activation != "none" and residual is not None):
            raise ValueError(f'activation must be "none", or "gelu" without residual, got {activation!r}')
        if self.rounded and residual is not None:
            raise ValueError("a layer with rounded=True takes no residual")
        way = self._in_passes if self.fused else self.in_steps
        return way(x, activation, residual)

    def in_steps(
        self, x: Tensor | RoundedRows, activation: str = "none", residual: Tensor | None = None
    ) -> Tensor | RoundedRows:
        """What a call computes, step by step."""
        codes, steps, middles = x if isinstance(x, RoundedRows) else round_rows(x)
        y = integer_product(codes, self._turned.T) * (steps[:, None] * self.scale)
        y = y + middles[:, None] * self._shift + self._bias
        y = gelu(y) if activation == "gelu" else y
        y = y if residual is None else y + residual
        return round_rows(y) if self.rounded else y

    def _in_passes(self, x: Tensor | RoundedRows, activation: str, residual: Tensor | None) -> Tensor | RoundedRows:
        """The same: a pass that rounds unless x is rounded, the product, and one more pass."""
        codes, steps, middles = x if isinstance(x, RoundedRows) else self._round(x)
        sums = integer_product(codes, self._turned.T)
        given = [x.numpy() for x in (sums, steps, middles, self.scale, self._shift, self._bias)]
        if self.rounded and activation == "gelu":
            rounded = _room(*sums.shape)
            self._loops.finish_gelu_rounded(*given, *(part.numpy() for part in rounded))
            return rounded
        y = torch.empty(sums.shape)
        if residual is not None:
            self._loops.finish_residual(*given, residual.contiguous().numpy(), y.numpy())
        else:
            (self._loops.finish_gelu if activation == "gelu" else self._loops.finish)(*given, y.numpy())
        return self._round(y) if self.rounded else y

    def _round(self, x: Tensor) -> RoundedRows:
        """`round_rows` as a compiled loop."""
        rounded = _room(*x.shape)
        self._loops.round_rows(x.contiguous().numpy(), *(part.numpy() for part in rounded))
        return rounded


def _room(rows: int, columns: int) -> RoundedRows:
    """Rounded rows to be written."""
    codes = torch.from_numpy(np.empty((rows, columns), np.int8))
    return RoundedRows(codes, torch.empty(rows), torch.empty(rows))
