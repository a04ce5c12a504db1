"""Fast encoding to formats of few bits: what becomes of a float32 is looked up, and not computed.

To round to a mantissa of at most 6 bits one needs to know the upper 16 bits of a float32, which hold 7 bits of its
mantissa, and whether any bit below is set: that breaks the ties. These are 2¹⁷ cases, whose answers `encode` gives.
"""

from functools import lru_cache

import numpy as np

from lmcore.floats.codec import encode
from lmcore.floats.formats import FloatFormat


def encode_by_table(x: np.ndarray, fmt: FloatFormat, *, overflow: str = "special") -> np.ndarray:
    """The patterns of the numbers nearest to x, as `encode` has them.

    Args:
        x: float32, of any shape.
        fmt: a signed format with a mantissa of at most 6 bits, and no numbers below 2⁻¹³².
        overflow: "special" or "saturate", see `encode`.
    Returns:
        uint8 of the shape of x, or uint16 for a format of more than 8 bits.
    Raises:
        TypeError: x is not float32.   ValueError: another format, or a NaN that the format does not have.
    Cost: five passes over the numbers and one look-up each; and once a table of 2¹⁷ patterns.

    >>> from lmcore.floats.formats import E4M3
    >>> encode_by_table(np.array([1.0, -448.0, 1e9], np.float32), E4M3, overflow="saturate")
    array([ 56, 254, 126], dtype=uint8)
    """
    x = np.asarray(x)
    if x.dtype != np.float32:
        raise TypeError(f"x must be float32, got {x.dtype}")
    if fmt.mantissa > 6 or fmt.bits > 16 or fmt.smallest < 2.0**-132 or not fmt.signed:
        raise ValueError(f"{fmt.name} is unsigned or too fine for a table of the upper 16 bits; use encode")
    if fmt.nan_code is None and np.isnan(x).any():
        raise ValueError(f"x holds NaN, which {fmt.name} does not have")
    bits = np.ascontiguousarray(x).reshape(x.shape).view(np.uint32)
    case = bits >> np.uint32(15)
    case &= np.uint32(0x1FFFE)
    case |= (bits & np.uint32(0xFFFF)) != 0
    return _table(fmt, overflow)[case]


@lru_cache
def _table(fmt: FloatFormat, overflow: str) -> np.ndarray:
    """The patterns of the numbers with these upper 16 bits, and with zeros or with anything else below."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    x = np.stack([upper, upper + 1], axis=1).reshape(-1).view(np.float32)
    if fmt.nan_code is None:
        x = np.where(np.isnan(x), np.float32(0), x)
    codes = encode(x, fmt, overflow=overflow)
    return codes.astype(np.uint8 if fmt.bits <= 8 else np.uint16)
