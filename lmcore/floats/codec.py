"""From patterns of bits to numbers and back, for every format: by exact arithmetic, and by whole numbers in arrays.

The patterns of the positive numbers, read as whole numbers, are in the order of the numbers. So rounding up by one
unit of the last place is adding 1 to the pattern, also where the mantissa overflows into the exponent, from the
largest subnormal number to the smallest normal one, and from the largest number to infinity.

All kinds of rounding are one: *something is added to what is cut off, and then it is cut off*. Half a unit, and ties
go up; a hair less where the last kept bit is 0, and ties go to the even neighbour; nothing, and numbers go toward
zero; a random share of a unit, and the result is right on average.
"""

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from lmcore.floats.formats import FloatFormat

ROUNDINGS = ("nearest", "zero", "stochastic")
OVERFLOWS = ("special", "saturate")


def decode_one(code: int, fmt: FloatFormat) -> Fraction | float:
    """The number of one pattern, exactly, as the definition says; a float where it is infinite, NaN or −0.

    >>> from lmcore.floats.formats import FP16
    >>> decode_one(0b0_01101_0101010101, FP16)
    Fraction(1365, 4096)
    """
    sign, rest = -1 if code & fmt.sign_code else 1, code & ~fmt.sign_code
    if rest == fmt.infinity_code:
        return sign * math.inf
    if rest > fmt.largest_code or (fmt.specials == "fnuz" and code == fmt.sign_code):
        return math.nan
    if code == fmt.sign_code != 0:
        return -0.0
    exponent, mantissa = rest >> fmt.mantissa, Fraction(rest % 2**fmt.mantissa, 2**fmt.mantissa)
    if exponent == 0:
        return sign * Fraction(2) ** (1 - fmt.bias) * mantissa
    return sign * Fraction(2) ** (exponent - fmt.bias) * (1 + mantissa)


def encode_one(x: float, fmt: FloatFormat) -> int:
    """The pattern of the number nearest to x, found by looking between neighbours; ties go to the even pattern.

    Slow and obvious; see `encode` for what happens outside of the format's range.

    >>> from lmcore.floats.formats import E4M3
    >>> encode_one(17.0, E4M3) == encode_one(16.0, E4M3)   # between 16 and 18, and 16 has the even pattern
    True
    """
    if math.isnan(x):
        return int(encode(x, fmt))
    negative = math.copysign(1.0, x) < 0
    if math.isinf(x):
        code = fmt.largest_code + 1
    else:
        low, high = 0, fmt.largest_code + 1  # the number after the largest one, as if the exponents went on
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if _magnitude(middle, fmt) <= abs(Fraction(x)) else (low, middle)
        below, above = (abs(abs(Fraction(x)) - _magnitude(code, fmt)) for code in (low, high))
        code = low if below < above or (below == above and low % 2 == 0) else high
    if code > fmt.largest_code:
        code = fmt.infinity_code or fmt.nan_code or fmt.largest_code
    if fmt.specials == "fnuz" and code in (0, fmt.nan_code):
        return code
    return code | (fmt.sign_code if negative else 0)


def _magnitude(code: int, fmt: FloatFormat) -> Fraction:
    """What a positive pattern would be if none were special."""
    exponent, mantissa = divmod(code, 2**fmt.mantissa)
    return Fraction(mantissa + (2**fmt.mantissa if exponent else 0)) * Fraction(2) ** (
        max(exponent, 1) - fmt.bias - fmt.mantissa
    )


def decode(codes: ArrayLike, fmt: FloatFormat) -> np.ndarray:
    """The numbers of patterns.

    Args:
        codes: whole numbers from 0 to 2^bits − 1, of any shape.
    Returns:
        float64 of the same shape, exact for every format.
    Raises:
        TypeError: codes that are no whole numbers.   ValueError: one that is no pattern of the format.
    Cost: one look into a table of all patterns, up to 16 bits; a few passes above.

    >>> from lmcore.floats.formats import E4M3
    >>> decode([0x00, 0x01, 0x38, 0x7E, 0x7F, 0xB8], E4M3)
    array([ 0.000000e+00,  1.953125e-03,  1.000000e+00,  4.480000e+02,
                     nan, -1.000000e+00])
    """
    codes = np.asarray(codes)
    if not np.issubdtype(codes.dtype, np.integer):
        raise TypeError(f"codes must be whole numbers, got {codes.dtype}")
    if codes.size and not (codes.min() >= 0 and codes.max() < 1 << fmt.bits):
        wrong = codes[(codes < 0) | (codes >= 1 << fmt.bits)].flat[0]
        raise ValueError(f"a pattern of {fmt.name} is a whole number from 0 to {(1 << fmt.bits) - 1}, got {wrong}")
    return _table(fmt)[codes] if fmt.bits <= 16 else _decoded(codes, fmt)


@lru_cache
def _table(fmt: FloatFormat) -> np.ndarray:
    """The numbers of all patterns, in their order."""
    table = _decoded(np.arange(1 << fmt.bits), fmt)
    table.setflags(write=False)
    return table


def _decoded(codes: np.ndarray, fmt: FloatFormat) -> np.ndarray:
    """Decode by the formula."""
    codes = codes.astype(np.int64)
    rest = codes & ~np.int64(fmt.sign_code)
    exponent, mantissa = rest >> fmt.mantissa, rest & ((1 << fmt.mantissa) - 1)
    whole = mantissa + np.where(exponent > 0, 1 << fmt.mantissa, 0)
    x = np.ldexp(whole.astype(np.float64), np.maximum(exponent, 1) - fmt.bias - fmt.mantissa)
    x = np.where(rest > fmt.largest_code, np.inf if fmt.infinity_code else np.nan, x)
    if fmt.infinity_code:
        x = np.where(rest > fmt.infinity_code, np.nan, x)
    x = np.where(codes & fmt.sign_code, -x, x)
    return np.where(codes == fmt.sign_code, np.nan, x) if fmt.specials == "fnuz" else x


def encode(
    x: ArrayLike,
    fmt: FloatFormat,
    *,
    rounding: str = "nearest",
    overflow: str = "special",
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """The patterns of numbers, rounded where the format does not have them.

    Args:
        x: numbers of any shape, at most float64.
        rounding: "nearest", ties to the even pattern; "zero", toward zero; or "stochastic": up with a probability
            equal to the share of the distance, so that the mean over many roundings is x.
        overflow: what becomes of numbers that are rounded beyond the largest one, of infinity too: "special" makes
            infinity, or NaN where there is none; "saturate" the largest number. A format without either saturates.
        rng: draws for "stochastic".
    Returns:
        uint32 of the shape of x.
    Raises:
        ValueError: a NaN or a negative number that the format does not have, or an unknown option.
        TypeError: "stochastic" without rng, or rng without "stochastic".
    Cost: about twenty passes over the numbers.
    Differs: `torch.Tensor.to` saturates for E4M3 (torch 2.13), ml_dtypes makes NaN; both round to nearest. For NaN in
        formats without one ml_dtypes writes −0. Every NaN becomes the same one, with x's sign; others keep payloads.

    >>> from lmcore.floats.formats import BF16, E4M3
    >>> [hex(code) for code in encode([1.0, 1.001, 1.01, -2.0], BF16)]
    ['0x3f80', '0x3f80', '0x3f81', '0xc000']
    >>> decode(encode([500.0, 1e9], E4M3, overflow="saturate"), E4M3)
    array([448., 448.])
    """
    if rounding not in ROUNDINGS or overflow not in OVERFLOWS:
        raise ValueError(f"rounding is one of {ROUNDINGS}, overflow of {OVERFLOWS}; got {rounding!r}, {overflow!r}")
    if (rounding == "stochastic") != (rng is not None):
        raise TypeError('rounding="stochastic" and rng belong together: pass both or neither')
    with np.errstate(invalid="ignore"):  # a signalling NaN in float32
        x = np.asarray(x, dtype=np.float64)
    codes = _rounded(x, fmt, rounding, rng)
    beyond = fmt.largest_code if overflow == "saturate" else fmt.infinity_code or fmt.nan_code or fmt.largest_code
    codes = np.where(codes > fmt.largest_code, beyond, codes)  # infinity's exponent is the highest, so it is here, too
    nan = np.isnan(x)
    if nan.any():
        if fmt.nan_code is None:
            raise ValueError(f"x holds NaN, which {fmt.name} does not have")
        codes = np.where(nan, fmt.nan_code, codes)
    negative = np.signbit(x) & (~nan | fmt.signed)
    return _signed(codes, negative, fmt).astype(np.uint32)


def _rounded(x: np.ndarray, fmt: FloatFormat, rounding: str, rng: np.random.Generator | None) -> np.ndarray:
    """The patterns of |x|, as if the exponents went on for ever."""
    bits = x.view(np.uint64) & np.uint64((1 << 63) - 1)
    exponent = np.maximum((bits >> np.uint64(52)).astype(np.int64), 1)  # float64 has subnormal numbers, too
    whole = bits - ((exponent - 1).astype(np.uint64) << np.uint64(52))  # |x| = whole · 2^(exponent − 1075)
    lowest = 1023 + 1 - fmt.bias  # the exponent, as float64 writes it, of the format's smallest normal number
    cut = 52 - fmt.mantissa + np.maximum(lowest - exponent, 0)  # how many bits are lost
    far = np.maximum(cut - 63, 0)  # beyond this, all are, and so many beforehand
    whole, cut = whole >> np.minimum(far, 63).astype(np.uint64), (cut - far).astype(np.uint64)
    one = np.uint64(1)
    if rounding == "nearest":
        whole = whole + (one << (cut - one)) - one + ((whole >> cut) & one)
    elif rounding == "stochastic":
        whole = whole + (rng.integers(0, 1 << 63, size=x.shape, dtype=np.uint64) >> (np.uint64(63) - cut))
    return (np.maximum(exponent - lowest, 0) << fmt.mantissa) + (whole >> cut).astype(np.int64)


def _signed(codes: np.ndarray, negative: np.ndarray, fmt: FloatFormat) -> np.ndarray:
    """Put the signs in, where they have a place."""
    if not fmt.signed:
        if (negative & (codes != 0)).any():
            raise ValueError(f"x holds a negative number, which {fmt.name} does not have")
        return codes
    if fmt.specials == "fnuz":
        negative = negative & (codes != 0)  # NaN has the sign's bit already
    return np.where(negative, codes | fmt.sign_code, codes)


def round_to(x: ArrayLike, fmt: FloatFormat, **how: object) -> np.ndarray:
    """The numbers of the format that stand for x: `decode` of `encode`, with its options.

    >>> from lmcore.floats.formats import E2M1
    >>> round_to([0.2, 0.6, 2.4, 2.5, 5.1, 100.0], E2M1)
    array([0. , 0.5, 2. , 2. , 6. , 6. ])
    """
    return decode(encode(x, fmt, **how), fmt)
