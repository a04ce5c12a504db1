"""Encoding by a table: what `encode` says, for the hard cases and for random patterns; what is refused."""

import numpy as np
import pytest

from lmcore.floats.codec import decode, encode
from lmcore.floats.formats import (
    BF16,
    E2M1,
    E2M3,
    E3M2,
    E4M3,
    E4M3_FNUZ,
    E5M2,
    E5M2_FNUZ,
    FP16,
    FloatFormat,
)  # fmt: skip
from lmcore.floats.table import encode_by_table

WIDE = FloatFormat(name="E8M5", exponent=8, mantissa=5)
FINEST = FloatFormat(name="E5M6", exponent=5, mantissa=6)
TINY = FloatFormat(name="tiny", exponent=4, mantissa=6, bias=127)  # its smallest number, 2⁻¹³², is subnormal in float32
FORMATS = [E2M1, E2M3, E3M2, E4M3, E4M3_FNUZ, E5M2, E5M2_FNUZ, WIDE, FINEST, TINY]


def cases(fmt):
    """Midpoints and what is next to them, and random patterns."""
    numbers = np.unique(decode(np.arange(1 << fmt.bits), fmt))
    numbers = numbers[np.isfinite(numbers)].astype(np.float32)
    middle = numbers[1:] / 2 + numbers[:-1] / 2
    near = [numbers, middle, np.nextafter(middle, np.float32(-np.inf)), np.nextafter(middle, np.float32(np.inf))]
    bits = np.random.default_rng(3).integers(0, 1 << 32, size=50_021, dtype=np.uint32)
    bits = np.concatenate([bits, np.arange(1009, dtype=np.uint32)])
    x = np.concatenate([*near, bits.view(np.float32)])
    return x[~np.isnan(x)] if fmt.nan_code is None else x


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("overflow", ["special", "saturate"])
def test_it_is_what_encode_says(fmt, overflow):
    x = cases(fmt)
    got = encode_by_table(x, fmt, overflow=overflow)
    assert got.dtype == (np.uint8 if fmt.bits <= 8 else np.uint16)
    assert np.array_equal(got, encode(x, fmt, overflow=overflow))


def test_shapes_and_layouts():
    x = np.random.default_rng(5).normal(size=(7, 11)).astype(np.float32)
    assert np.array_equal(encode_by_table(x.T, E4M3), encode(x.T, E4M3))
    assert np.array_equal(encode_by_table(x[::2], E4M3), encode(x[::2], E4M3))
    assert encode_by_table(np.float32(1.0), E4M3) == 0x38
    assert encode_by_table(np.zeros((0, 3), np.float32), E4M3).shape == (0, 3)


def test_errors():
    with pytest.raises(TypeError, match="x must be float32, got float64"):
        encode_by_table(np.zeros(3), E4M3)
    x = np.array([1.0, np.nan], np.float32)
    for fmt in (FP16, BF16, FloatFormat(name="U", exponent=3, mantissa=4, signed=False)):
        with pytest.raises(ValueError, match=f"{fmt.name} is unsigned or too fine"):
            encode_by_table(x, fmt)
    with pytest.raises(ValueError, match="x holds NaN, which E2M1 does not have"):
        encode_by_table(x, E2M1)
    with pytest.raises(ValueError, match="got 'nearest', 'wrap'"):
        encode_by_table(x, E4M3, overflow="wrap")
