"""Positions: how attention, which sees a set of vectors, is told their order.

Four ways. *Sinusoidal* and *learned* positions are vectors that are added to the embeddings. *Rotary* positions turn
queries and keys by angles that grow with the position, so that their product depends only on the distance. *ALiBi* adds
to the scores a penalty that grows with the distance.
"""

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from lmcore.nn import init
from lmcore.sizes import check_sizes

LAYOUTS = ("half", "interleaved")


def _check_even(dim: int) -> None:
    """Refuse a dim that is no number of pairs."""
    check_sizes(dim=dim)
    if dim % 2:
        raise ValueError(f"dim must be even, for the coordinates turn in pairs; got {dim}")


def angles(length: int, dim: int, *, base: float = 10000.0) -> Tensor:
    """By how much each pair of coordinates is turned at each position: t / base^(2i / dim).

    Args:
        length: T, positions 0 … T − 1.   dim: d, even.
        base: the slowest pair turns nearly base times slower than the first, which turns by 1 per position.
    Returns:
        (T, d / 2) radians, float64: an angle of thousands has few digits left for its sine in float32.
    Raises:
        ValueError: dim odd or below 1, length below 1, or base ≤ 0.
    Source: Vaswani et al. 2017, section 3.5; Su et al. 2021 turn by the same angles.

    >>> angles(3, 4, base=100.0)
    tensor([[0.0000, 0.0000],
            [1.0000, 0.1000],
            [2.0000, 0.2000]], dtype=torch.float64)
    """
    _check_even(dim)
    check_sizes(length=length)
    if not base > 0:
        raise ValueError(f"base must be above zero, got {base}")
    frequencies = base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    return torch.arange(length, dtype=torch.float64)[:, None] * frequencies


def sinusoidal(length: int, dim: int, *, base: float = 10000.0) -> Tensor:
    """Positions as the hands of many clocks: sine and cosine of each of `angles`, side by side.

    Args:
        length: T.   dim: d, even.   base: see `angles`.
    Returns:
        (T, d): sines at the even coordinates, cosines at the odd ones.
    Raises:
        ValueError: as `angles`.
    Source: Vaswani et al. 2017, section 3.5.

    >>> sinusoidal(2, 4)[0].tolist()   # sin 0, cos 0, sin 0, cos 0
    [0.0, 1.0, 0.0, 1.0]
    """
    turned = angles(length, dim, base=base)
    return torch.stack([turned.sin(), turned.cos()], dim=-1).flatten(1).float()  # (T, d / 2, 2) → (T, d)


def _rows(table: Tensor, length: int, start: int) -> Tensor:
    """Rows start … start + length − 1 of a table of positions."""
    if start < 0:
        raise ValueError(f"start must be at least 0, got {start}")
    if start + length > len(table):
        where = f" (they begin at {start})" if start else ""
        raise ValueError(
            f"the sequence needs {start + length} positions{where}, but there are max_length = {len(table)}"
        )
    return table[start : start + length]


class SinusoidalPositions(Module):
    """Add `sinusoidal` positions; nothing is learned.

    Args:
        max_length: number of positions.   dim: d, even.
    Raises:
        ValueError: as `sinusoidal`, or in `forward` a sequence that needs more positions.

    >>> SinusoidalPositions(3, 2)(torch.zeros(1, 1, 2), start=0).tolist()
    [[[0.0, 1.0]]]
    """

    def __init__(self, max_length: int, dim: int):
        super().__init__()
        check_sizes(max_length=max_length)
        self.register_buffer("table", sinusoidal(max_length, dim), persistent=False)  # no need to save what is known

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """(…, T, d) whose first vector stands at position start → the same shape."""
        return x + _rows(self.table, x.shape[-2], start).to(x.dtype)


class LearnedPositions(Module):
    """Add a learned vector for each position.

    Args:
        max_length: number of positions: there is nothing for a later one.   dim: d.
        generator: draws the first vectors; torch's global one if None.
    Attributes:
        weight: (max_length, d), first normal with standard deviation 0.02.
    Raises:
        ValueError: a size below 1, or in `forward` a sequence that needs more positions.

    >>> positions = LearnedPositions(5, 3)
    >>> torch.equal(positions(torch.zeros(2, 3), start=1), positions.weight[1:3])
    True
    """

    def __init__(self, max_length: int, dim: int, *, generator: torch.Generator | None = None):
        super().__init__()
        check_sizes(max_length=max_length, dim=dim)
        self.weight = Parameter(torch.empty(max_length, dim))
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the vectors anew."""
        init.normal_(self.weight, std=0.02, generator=generator)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """(…, T, d) whose first vector stands at position start → the same shape."""
        return x + _rows(self.weight, x.shape[-2], start)


class RotaryPositions(Module):
    """Turn each pair of coordinates by its angle, (a, b) → (a cos − b sin, a sin + b cos): for queries and keys.

    A product of two turned vectors depends on the difference of their angles, hence on the distance of their positions.

    Args:
        dim: d, the length of a head's queries; even.
        base: see `angles`.
        layout: which coordinates are pairs. "half": i and i + d/2, as in GPT-NeoX and Hugging Face's Llama;
            "interleaved": 2i and 2i + 1, as in the paper, GPT-J and llama.cpp's Llama. Weights trained with one need
            their rows put in another order for the other: see `permute_rows`.
        max_length: number of positions.
    Raises:
        ValueError: dim odd, another layout, or in `forward` an x of another dim or one that needs more positions.
    Source: Su et al. 2021, section 3.

    >>> turn = RotaryPositions(2, max_length=5)
    >>> turn(torch.tensor([[1.0, 0.0]]), start=2)   # cos 2, sin 2
    tensor([[-0.4161,  0.9093]])
    """

    def __init__(self, dim: int, *, base: float = 10000.0, layout: str = "half", max_length: int = 2048):
        super().__init__()
        if layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
        check_sizes(max_length=max_length)
        self.dim, self.base, self.layout, self.max_length = dim, base, layout, max_length
        turned = angles(max_length, dim, base=base)
        self.register_buffer("cos", turned.cos().float(), persistent=False)
        self.register_buffer("sin", turned.sin().float(), persistent=False)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """(…, T, d), such as (B, H, T, d), whose first vector stands at position start → the same shape."""
        if x.ndim < 2 or x.shape[-1] != self.dim:
            raise ValueError(f"x has shape {tuple(x.shape)}, must be (…, T, {self.dim})")
        cos, sin = (_rows(table, x.shape[-2], start).to(x.dtype) for table in (self.cos, self.sin))  # (T, d / 2)
        if self.layout == "half":
            a, b = x.chunk(2, dim=-1)
            return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)

    def extra_repr(self) -> str:
        """What stands between the brackets of the repr."""
        return f"dim={self.dim}, base={self.base}, layout={self.layout!r}, max_length={self.max_length}"


def permute_rows(weight: Tensor, heads: int, *, to: str) -> Tensor:
    """Reorder a query or key projection so that it fits the other layout of `RotaryPositions`.

    Scores of attention are sums over coordinates, so they stay the same when queries and keys are reordered alike.

    Args:
        weight: (heads · d, …) in the other layout; a bias too. For keys of grouped queries, heads is their number.
        to: "half" or "interleaved": the layout wanted.
    Returns:
        The same shape, the rows of each head in another order.
    Raises:
        ValueError: another layout, or rows that are not heads of an even d.

    >>> permute_rows(torch.arange(4), 1, to="interleaved").tolist()   # pairs (0, 2) and (1, 3) become neighbours
    [0, 2, 1, 3]
    """
    if to not in LAYOUTS:
        raise ValueError(f"to must be one of {', '.join(LAYOUTS)}, got {to!r}")
    check_sizes(heads=heads)
    rows, *rest = weight.shape
    if rows == 0 or rows % (2 * heads):
        raise ValueError(f"weight has {rows} rows, which are not {heads} heads of an even number each")
    inner = (2, rows // heads // 2) if to == "interleaved" else (rows // heads // 2, 2)
    return weight.reshape(heads, *inner, *rest).transpose(1, 2).reshape(weight.shape)


def alibi_slopes(heads: int) -> Tensor:
    """How steeply each head penalizes distance: 2^(−8 / H), 2^(−16 / H), …, 2^(−8).

    Args:
        heads: H. If it is no power of two, the slopes for the next smaller power come first, then every other slope for
            twice that power, until there are enough.
    Returns:
        (H,) positive numbers.
    Raises:
        ValueError: heads below 1.
    Source: Press et al. 2022, section 3; other H: their code.

    >>> alibi_slopes(4).tolist(), alibi_slopes(3).tolist()
    ([0.25, 0.0625, 0.015625, 0.00390625], [0.0625, 0.00390625, 0.25])
    """
    check_sizes(heads=heads)
    power = 1 << (int(heads).bit_length() - 1)
    ratios = [8 * (i + 1) / power for i in range(power)]
    ratios += [8 * (i + 1) / (2 * power) for i in range(0, 2 * power, 2)][: heads - power]
    return 2.0 ** -torch.tensor(ratios)


def alibi_bias(heads: int, queries: int, keys: int) -> Tensor:
    """What ALiBi adds to the scores of attention: −slope · distance.

    Args:
        heads: H.   queries: T.   keys: S ≥ T; the queries are the last T of the S positions, as with a cache.
    Returns:
        (H, T, S), at most 0. It does not hide the future: that is the causal mask's work. The distance has no sign, so
        that it serves attention in both directions too, which the paper does not have.
    Raises:
        ValueError: a size below 1, or more queries than keys.
    Source: Press et al. 2022, section 3.

    >>> alibi_bias(1, 2, 3) * 256   # the only slope is 1 / 256
    tensor([[[-1.,  0., -1.],
             [-2., -1.,  0.]]])
    """
    check_sizes(queries=queries, keys=keys)
    if queries > keys:
        raise ValueError(f"there are {queries} queries but only {keys} keys; each query is also a key")
    positions = torch.arange(keys)
    distance = (positions - positions[keys - queries :, None]).abs()  # (T, S)
    return alibi_slopes(heads)[:, None, None] * -distance
