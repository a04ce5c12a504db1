"""Affine quantisation: a number becomes a small whole number, its *code*, on a grid of equal steps.

Three kinds of grid, for codes of b bits:

    symmetric                 x ≈ scale · code                    codes −(2^(b−1) − 1) … 2^(b−1) − 1
    asymmetric, exact zero    x ≈ scale · (code − zero_point)     codes 0 … 2^b − 1, the zero point is one of them
    asymmetric, free          x ≈ scale · code + minimum          codes 0 … 2^b − 1

The nearest code is never off by more than half a step, scale / 2, as long as x lies in the range that the grid was made
for. So everything depends on how many numbers share a range: the whole tensor, a row, or a group of neighbours in a
row. For a weight (out, in) a row is an output channel; for activations (…, in) it is a token.
"""

from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor

from lmcore.compress.packing import packed_length
from lmcore.sizes import check_sizes

PER = ("tensor", "row", "group")
Bound = float | Tensor


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """How numbers are put on grids.

    Args:
        bits: of a code, 2 … 8.
        symmetric: see the kinds of grid above.
        per: what shares a grid, "tensor", "row" (the last axis) or "group" (a run of neighbours along the last axis).
        group_size: length of a group, just for per="group"; the last axis must be a multiple of it.
        exact_zero: whether an asymmetric grid holds the number 0, as padding and ReLU would like. Its range is then
            stretched to 0. A symmetric grid always holds it.
    Raises:
        ValueError: bits or per that are not among these, group_size missing, below 1 or without groups, or symmetric
            without exact_zero.

    >>> Scheme(bits=4, per="group", group_size=32).codes
    (-7, 7)
    >>> Scheme(bits=4, symmetric=False).codes
    (0, 15)
    """

    bits: int = 8
    symmetric: bool = True
    per: str = "row"
    group_size: int | None = None
    exact_zero: bool = True

    def __post_init__(self):
        if isinstance(self.bits, bool) or not isinstance(self.bits, Integral) or not 2 <= self.bits <= 8:
            raise ValueError(f"bits must be a whole number from 2 to 8, got {self.bits!r}")
        if self.per not in PER:
            raise ValueError(f"per must be one of {', '.join(PER)}, got {self.per!r}")
        if (self.per == "group") != (self.group_size is not None):
            raise ValueError(f'group_size goes with per="group", got per={self.per!r}, group_size={self.group_size!r}')
        if self.group_size is not None:
            check_sizes(group_size=self.group_size)
        if self.symmetric and not self.exact_zero:
            raise ValueError("a symmetric grid always holds 0: exact_zero must be True")

    @property
    def codes(self) -> tuple[int, int]:
        """The lowest and the highest code."""
        half = 2 ** (self.bits - 1) - 1
        return (-half, half) if self.symmetric else (0, 2**self.bits - 1)

    @property
    def dtype(self) -> torch.dtype:
        """Of the codes, before they are packed: int8, or uint8 for an asymmetric grid."""
        return torch.int8 if self.symmetric else torch.uint8


def grouped(x: Tensor, scheme: Scheme) -> Tensor:
    """The view of x against which the grid's tensors broadcast: (…, n) → (…, groups, group_size), else x itself.

    Raises:
        ValueError: x has no axis, or its last is no multiple of group_size.

    >>> grouped(torch.zeros(3, 10), Scheme(per="group", group_size=5)).shape
    torch.Size([3, 2, 5])
    """
    if scheme.per == "tensor":
        return x
    if x.ndim == 0:
        raise ValueError(f"per={scheme.per!r} needs at least one axis, but x is a single number")
    if scheme.per == "row":
        return x
    if x.shape[-1] % scheme.group_size:
        raise ValueError(f"group_size = {scheme.group_size} does not divide the last axis of x, {x.shape[-1]}")
    return x.unflatten(-1, (-1, scheme.group_size))


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Grids of one scheme, as `find_grid` makes them.

    Attributes:
        scheme.
        scale: float32, the step: () for per="tensor", (…, 1) for "row", (…, groups, 1) for "group".
        zero_point: int32, the code of 0; None for grids that are not asymmetric with exact zero.
        minimum: float32, what code 0 stands for; None but for free grids.
    """

    scheme: Scheme
    scale: Tensor
    zero_point: Tensor | None = None
    minimum: Tensor | None = None

    def encode(self, x: Tensor) -> Tensor:
        """The nearest codes of numbers in the grouped view; those beyond the range get the outermost code."""
        steps = ((x.float() if self.minimum is None else x.float() - self.minimum) / self.scale).round()
        if self.zero_point is not None:
            steps = steps + self.zero_point
        return steps.clamp(*self.scheme.codes).to(self.scheme.dtype)

    def decode(self, codes: Tensor) -> Tensor:
        """The numbers, float32, that codes in the grouped view stand for."""
        steps = codes.float() if self.zero_point is None else codes.float() - self.zero_point
        return steps * self.scale if self.minimum is None else steps * self.scale + self.minimum


def check_finite(x: Tensor) -> None:
    """Refuse numbers that have no code.

    Raises:
        TypeError: x is not floating-point.
        ValueError: x is empty, or some are NaN or infinite: how many, and where the first one is.
    """
    if not x.is_floating_point():
        raise TypeError(f"x must be floating-point numbers, got {x.dtype}")
    if x.numel() == 0:
        raise ValueError(f"x has shape {tuple(x.shape)}: there is nothing to quantise")
    wrong = ~torch.isfinite(x)
    if wrong.any():
        first = wrong.nonzero()[0].tolist() if x.ndim else []
        raise ValueError(
            f"{int(wrong.sum())} of {x.numel():,} numbers of x are NaN or infinite, the first at {first}: "
            "they have no code"
        )


def _range(x: Tensor, scheme: Scheme, low: Bound | None, high: Bound | None) -> tuple[Tensor, Tensor]:
    """Lower and upper end of each grid, as given or else from the numbers."""
    own = torch.aminmax(x) if scheme.per == "tensor" else torch.aminmax(x, dim=-1, keepdim=True)
    ends = []
    for name, found, given in (("low", own[0], low), ("high", own[1], high)):
        end = found if given is None else torch.as_tensor(given, dtype=torch.float32, device=x.device)
        if not torch.isfinite(end).all():
            raise ValueError(f"{name} must be finite, got {given!r}")
        try:
            ends.append(end.expand(found.shape))
        except RuntimeError:
            raise ValueError(
                f"{name} has shape {tuple(end.shape)}, must broadcast to that of the scales, {tuple(found.shape)}"
            ) from None
    wrong = ends[0] > ends[1]
    if wrong.any():
        raise ValueError(f"low must not be above high, got {ends[0][wrong][0]:g} and {ends[1][wrong][0]:g}")
    return ends[0], ends[1]


def find_grid(x: Tensor, scheme: Scheme, *, low: Bound | None = None, high: Bound | None = None) -> Grid:
    """The grids on which numbers lie best, if the ends of their range are to be represented.

    Args:
        x: (…, n) floating-point numbers, NOT in the grouped view.
        scheme: of the grids.
        low, high: ends of the range, numbers or tensors that broadcast against the scales; the smallest and largest
            number that share a grid if None. A symmetric grid reaches as far as the farther one on both sides.
    Returns:
        A `Grid`. A range of zero length gets the smallest step there is, so that constant tensors come back whole.
    Raises:
        TypeError: x is not floating-point.
        ValueError: x is empty, holds numbers that are not finite (says how many), or does not fit the scheme; low
            above high.
    Cost: O(numbers) time.
    Source: Jacob et al. 2018, section 3.   Differs: 2^b − 2 steps where the grid is symmetric.

    >>> find_grid(torch.tensor([-1.0, 2.0]), Scheme(bits=2, symmetric=False)).scale     # 3 steps from −1 to 2
    tensor([1.])
    """
    check_finite(x)
    low, high = _range(grouped(x.float(), scheme), scheme, low, high)
    smallest = torch.finfo(torch.float32).tiny  # below it float32 has fewer digits, and 0 divides nothing
    lowest, highest = scheme.codes
    if scheme.symmetric:
        return Grid(scheme=scheme, scale=(torch.maximum(low.abs(), high.abs()) / highest).clamp_min(smallest))
    if scheme.exact_zero:
        low, high = low.clamp_max(0.0), high.clamp_min(0.0)
    width = high - low
    if not torch.isfinite(width).all():
        raise ValueError(f"the range {low.min().item():g} … {high.max().item():g} is wider than float32 can hold")
    scale = (width / (highest - lowest)).clamp_min(smallest)
    if not scheme.exact_zero:
        return Grid(scheme=scheme, scale=scale, minimum=low.clone())
    zero_point = (-low / scale).round().clamp(lowest, highest).to(torch.int32)
    return Grid(scheme=scheme, scale=scale, zero_point=zero_point)


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """Numbers as codes on grids.

    Attributes:
        codes: int8 or uint8, with the shape of the numbers.   grid: a `Grid`.
        scheme, scale, zero_point, minimum: the grid's.
    """

    codes: Tensor
    grid: Grid

    @property
    def scheme(self) -> Scheme:
        """The grid's scheme."""
        return self.grid.scheme

    @property
    def scale(self) -> Tensor:
        """The grid's steps."""
        return self.grid.scale

    @property
    def zero_point(self) -> Tensor | None:
        """The codes of 0, or None."""
        return self.grid.zero_point

    @property
    def minimum(self) -> Tensor | None:
        """What code 0 stands for, or None."""
        return self.grid.minimum

    @property
    def nbytes(self) -> int:
        """Bytes when packed row by row: bits / 8 for a code, 4 for a scale and for a minimum, 1 for a zero point."""
        per_grid = 4 + (self.zero_point is not None) + 4 * (self.minimum is not None)
        length = self.codes.shape[-1] if self.codes.ndim else 1
        rows = self.codes.numel() // length
        return rows * packed_length(length, self.scheme.bits) + per_grid * self.scale.numel()

    def dequantize(self) -> Tensor:
        """The numbers that the codes stand for, float32, with the shape of the codes."""
        return self.grid.decode(grouped(self.codes, self.scheme)).reshape(self.codes.shape)


def quantize(x: Tensor, scheme: Scheme, *, low: Bound | None = None, high: Bound | None = None) -> Quantized:
    """Round numbers to the nearest points of their grids.

    Args, raises: see `find_grid`.
    Returns:
        A `Quantized` q with |x − q.dequantize()| ≤ scale / 2, up to float32's own rounding, for all x between low and
        high; what lies outside becomes the nearer end.
    Cost: O(numbers) time; 4 bytes a number in between, 1 byte a code.
    Source: Jacob et al. 2018, eq. 1.   Differs: torch's and TFLite's symmetric int8 weights may use −128, too.

    >>> q = quantize(torch.tensor([[0.5, -1.27, 0.004, 1.0]]), Scheme())
    >>> q.codes.tolist(), round(q.scale.item(), 4)
    ([[50, -127, 0, 100]], 0.01)
    >>> quantize(torch.tensor([-1.0, 0.0, 0.6, 2.0]), Scheme(bits=2, symmetric=False)).dequantize().tolist()
    [-1.0, 0.0, 1.0, 2.0]
    """
    grid = find_grid(x, scheme, low=low, high=high)
    return Quantized(codes=grid.encode(grouped(x, scheme)).reshape(x.shape), grid=grid)


def fake_quantize(x: Tensor, scheme: Scheme, *, low: Bound | None = None, high: Bound | None = None) -> Tensor:
    """Quantise and dequantise: what the rounding does to the numbers, in their own dtype.

    Args, raises, cost: see `quantize`. Its derivative is zero almost everywhere: see `lmcore.compress.qat`.

    >>> fake_quantize(torch.tensor([3.0, 1.0, -0.4]), Scheme(bits=3)).tolist()     # steps of 1, from −3 to 3
    [3.0, 1.0, 0.0]
    """
    return quantize(x, scheme, low=low, high=high).dequantize().to(x.dtype)
