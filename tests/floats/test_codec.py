"""Decoding and encoding: by hand, all patterns and all midpoints against torch, numpy and ml_dtypes, and properties."""

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.floats.codec import decode, decode_one, encode, encode_one, round_to
from lmcore.floats.formats import (
    BF16,
    E2M1,
    E2M3,
    E3M2,
    E4M3,
    E4M3_FNUZ,
    E5M2,
    E5M2_FNUZ,
    FORMATS,
    FP16,
    FP32,
    TF32,
    FloatFormat,
)  # fmt: skip

E3M4 = FloatFormat(name="E3M4", exponent=3, mantissa=4)
E4M3_IEEE = FloatFormat(name="E4M3 as IEEE", exponent=4, mantissa=3)
E4M3_B11 = FloatFormat(name="E4M3 b11", exponent=4, mantissa=3, bias=11, specials="fnuz")
MADE_UP = FloatFormat(name="made up", exponent=4, mantissa=5, bias=3, specials="fn")
UNSIGNED = FloatFormat(name="unsigned", exponent=3, mantissa=4, signed=False)
ML = {
    BF16: ml_dtypes.bfloat16, E5M2: ml_dtypes.float8_e5m2, E4M3: ml_dtypes.float8_e4m3fn,
    E5M2_FNUZ: ml_dtypes.float8_e5m2fnuz, E4M3_FNUZ: ml_dtypes.float8_e4m3fnuz, E3M2: ml_dtypes.float6_e3m2fn,
    E2M3: ml_dtypes.float6_e2m3fn, E2M1: ml_dtypes.float4_e2m1fn, E3M4: ml_dtypes.float8_e3m4,
    E4M3_IEEE: ml_dtypes.float8_e4m3, E4M3_B11: ml_dtypes.float8_e4m3b11fnuz, FP16: np.float16,
}  # fmt: skip
TORCH = {
    BF16: torch.bfloat16, FP16: torch.float16, E5M2: torch.float8_e5m2, E4M3: torch.float8_e4m3fn,
    E5M2_FNUZ: torch.float8_e5m2fnuz, E4M3_FNUZ: torch.float8_e4m3fnuz,
}  # fmt: skip
by_name = {"ids": lambda fmt: fmt.name}


def patterns(fmt):
    """All patterns, in the smallest type that holds them."""
    return np.arange(1 << fmt.bits).astype(np.uint8 if fmt.bits <= 8 else np.uint16)


def hard_cases(fmt):
    """The float32 numbers at the midpoints between neighbours, the next ones on both sides, and what is beyond."""
    numbers = np.unique(decode(patterns(fmt), fmt))
    numbers = numbers[np.isfinite(numbers)]
    step = numbers[-1] - numbers[-2]
    numbers = np.concatenate([[numbers[0] - step], numbers, [numbers[-1] + step]])
    with np.errstate(over="ignore"):
        centres = np.concatenate([numbers, (numbers[1:] + numbers[:-1]) / 2]).astype(np.float32)
    centres = centres[np.isfinite(centres)]
    extremes = np.array([0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38, np.inf, -np.inf], np.float32)
    return np.concatenate([centres, np.nextafter(centres, -np.inf), np.nextafter(centres, np.inf), extremes])


def test_decoding_by_hand():
    assert decode_one(0b0_10010_1100000000, FP16) == Fraction(14)  # 2^(18 − 15) · 1.75
    assert decode_one(0b1_00000_0000000011, FP16) == -3 * Fraction(2) ** -24
    assert decode_one(0b0_0000_001, E4M3) == Fraction(1, 512)
    assert decode_one(0b0_1111_110, E4M3) == 448
    assert math.isnan(decode_one(0b1_1111_111, E4M3))
    assert decode_one(0b1_11111_00, E5M2) == -math.inf
    assert math.copysign(1.0, decode_one(0x80, E4M3)) == -1.0
    assert math.isnan(decode_one(0x80, E4M3_FNUZ))


def test_encoding_by_hand():
    # 0.1 in FP16: 1.6 · 2⁻⁴, and 0.6 · 1024 = 614.4
    assert FP16.fields(encode_one(0.1, FP16)) == FP16.fields(int(encode(0.1, FP16))) == f"0 01011 {614:010b}"
    # between 1 and 1 + 1/128 a tie goes to the even 1, above 1 + 1/128 to the even 1 + 2/128
    assert round_to([1 + 1 / 256, 1 + 3 / 256], BF16).tolist() == [1.0, 1 + 2 / 128]
    assert round_to(1.999, BF16) == 2.0  # the mantissa overflows into the exponent
    assert encode(1.999, BF16) == 0x4000
    assert encode([65519.9, 65520.0], FP16).tolist() == [0x7BFF, 0x7C00]
    assert round_to([2.0**-25, np.nextafter(2.0**-25, 1)], FP16).tolist() == [0.0, 2.0**-24]
    assert round_to([0.3, 0.8, -0.8], E2M1, rounding="zero").tolist() == [0.0, 0.5, -0.5]


@pytest.mark.parametrize("fmt", [*ML, MADE_UP, UNSIGNED], **by_name)
def test_the_exact_way_and_the_array_way_agree_on_every_pattern(fmt):
    codes = patterns(fmt) if fmt.bits <= 10 else patterns(fmt)[::7]
    ours = decode(codes, fmt)
    for code, number in zip(codes.tolist(), ours.tolist(), strict=True):
        exact = decode_one(code, fmt)
        assert exact == number or (math.isnan(exact) and math.isnan(number))
        assert math.isnan(number) or math.copysign(1, exact) == math.copysign(1, number)


@pytest.mark.parametrize("fmt", [*ML, MADE_UP], **by_name)
def test_the_exact_way_and_the_array_way_agree_on_hard_cases(fmt):
    cases = hard_cases(fmt)
    cases = cases if fmt.bits <= 8 else cases[:: len(cases) // 997]
    assert encode(cases, fmt).tolist() == [encode_one(x, fmt) for x in cases.tolist()]


@pytest.mark.parametrize("fmt", TORCH, **by_name)
def test_every_pattern_is_torchs(fmt):
    codes = patterns(fmt)
    theirs = torch.from_numpy(codes.view(np.int8 if fmt.bits == 8 else np.int16)).view(TORCH[fmt]).float().numpy()
    assert np.array_equal(decode(codes, fmt), theirs, equal_nan=True)
    signs = np.signbit(theirs) == np.signbit(decode(codes, fmt))
    assert signs[~np.isnan(theirs)].all()


@pytest.mark.parametrize("fmt", ML, **by_name)
def test_every_pattern_is_that_of_ml_dtypes_or_numpy(fmt):
    codes = patterns(fmt)
    with np.errstate(invalid="ignore"):
        theirs = codes.view(ML[fmt]).astype(np.float64)
    assert np.array_equal(decode(codes, fmt), theirs, equal_nan=True)


@pytest.mark.parametrize("fmt", TORCH, **by_name)
def test_every_hard_case_is_torchs(fmt):
    cases = hard_cases(fmt)
    theirs = torch.from_numpy(cases).to(TORCH[fmt]).view(torch.uint8 if fmt.bits == 8 else torch.int16).numpy()
    overflow = "saturate" if fmt is E4M3 else "special"  # torch 2.13 saturates for this one alone
    assert np.array_equal(encode(cases, fmt, overflow=overflow), theirs.view(patterns(fmt).dtype))


@pytest.mark.parametrize("fmt", ML, **by_name)
def test_every_hard_case_is_that_of_ml_dtypes_or_numpy(fmt):
    cases = hard_cases(fmt)
    with np.errstate(over="ignore"):
        theirs = cases.astype(ML[fmt])
    ours = encode(cases, fmt)
    same = (ours == theirs.view(patterns(fmt).dtype)) | (np.isnan(decode(ours, fmt)) & np.isnan(theirs.astype(float)))
    assert same.all(), cases[~same]


@pytest.mark.parametrize("fmt", TORCH, **by_name)
def test_random_float32_patterns_are_rounded_as_torch_does(fmt):
    bits = np.random.default_rng(7).integers(0, 1 << 32, size=200_003, dtype=np.uint32)
    x = bits.view(np.float32)
    theirs = torch.from_numpy(x).to(TORCH[fmt]).float().numpy()
    ours = round_to(x, fmt, overflow="saturate" if fmt is E4M3 else "special")
    assert np.array_equal(ours, theirs, equal_nan=True)


def test_fp32_is_float32_itself():
    bits = np.random.default_rng(3).integers(0, 1 << 32, size=50_021, dtype=np.uint32)
    bits = np.concatenate(
        [bits, np.arange(1009, dtype=np.uint32), np.uint32(0x7F800000) - np.arange(1009, dtype=np.uint32)]
    )
    x = bits.view(np.float32)
    assert np.array_equal(decode(bits, FP32).astype(np.float32), x, equal_nan=True)
    number = ~np.isnan(x)
    assert np.array_equal(encode(x, FP32)[number], bits[number])
    wide = np.random.default_rng(5).normal(size=10_007) * 10.0 ** np.random.default_rng(5).integers(-50, 40, 10_007)
    with np.errstate(over="ignore"):
        assert np.array_equal(encode(wide, FP32), wide.astype(np.float32).view(np.uint32))


def test_tf32_by_its_bits():
    """TF32 is a float32 whose last 13 bits are rounded away: added to, and cut off."""
    bits = np.random.default_rng(11).integers(0, 0x7F000000, size=50_021, dtype=np.uint32)
    odd = (bits >> 13) & 1
    by_bits = (bits + 0x0FFF + odd) >> 13
    assert np.array_equal(encode(bits.view(np.float32), TF32), by_bits)
    assert np.array_equal(decode(by_bits, TF32), (by_bits << 13).view(np.float32).astype(np.float64))


@pytest.mark.parametrize("fmt", [*FORMATS, E3M4, MADE_UP], **by_name)
@given(x=st.floats(allow_nan=False, width=32), y=st.floats(allow_nan=False, width=32))
def test_rounding_keeps_the_order_and_is_done_after_once(fmt, x, y):
    a, b = round_to([x, y], fmt, overflow="saturate")
    assert (a <= b) if x <= y else (b <= a)
    assert round_to(a, fmt) == a
    if abs(x) <= fmt.largest:
        assert abs(a - x) <= max(abs(x) * fmt.epsilon, fmt.smallest) / 2


@pytest.mark.parametrize("fmt", [FP16, BF16, E4M3, E2M1], **by_name)
def test_stochastic_rounding_takes_the_neighbours_and_is_right_on_average(fmt):
    rng, n = np.random.default_rng(13), 40_009
    numbers = np.unique(decode(patterns(fmt), fmt))
    numbers = numbers[np.isfinite(numbers)]
    for x in (0.3 * fmt.smallest, 2.7 * fmt.smallest, -1.1, 1.99, 3.3, 1e-3 * fmt.smallest):
        after = np.searchsorted(numbers, x)
        low, high = numbers[after - 1], numbers[after]
        got = round_to(np.full(n, x), fmt, rounding="stochastic", rng=rng)
        assert np.unique(got).tolist() == [low, high]
        share = (x - low) / (high - low)
        assert abs((got == high).mean() - share) < 5 * math.sqrt(share * (1 - share) / n)


@pytest.mark.parametrize("power", [10, 14])
def test_stochastic_rounding_of_what_is_far_below_the_smallest(power):
    """The probability of 2⁻¹⁴ · smallest is still right, though more bits are cut off than a word has."""
    fmt, rng = E4M3, np.random.default_rng(17)
    x = np.full(1_000_003, fmt.smallest * 2.0**-power)
    expected = len(x) * 2.0**-power
    hits = np.count_nonzero(encode(x, fmt, rounding="stochastic", rng=rng))
    assert abs(hits - expected) < 5 * math.sqrt(expected)
    assert not encode(np.full(1009, 1e-300), fmt, rounding="stochastic", rng=rng).any()


def test_exact_numbers_are_not_moved_by_stochastic_rounding():
    numbers = decode(np.arange(0x7C00), FP16)
    assert np.array_equal(round_to(numbers, FP16, rounding="stochastic", rng=np.random.default_rng(0)), numbers)


def test_rounding_toward_zero_is_cutting_off():
    x = np.random.default_rng(19).normal(size=10_007).astype(np.float32)
    assert np.array_equal(encode(x, BF16, rounding="zero"), x.view(np.uint32) >> 16)


def test_overflow():
    assert round_to([1e9, -np.inf], FP16, overflow="saturate").tolist() == [65504.0, -65504.0]
    assert np.isnan(round_to([465.0, np.inf, -1e9], E4M3)).all()
    assert round_to([1e9, -np.inf], E2M1).tolist() == [6.0, -6.0]
    assert np.isnan(round_to(np.nan, E4M3, overflow="saturate"))
    assert np.isinf(round_to(100.0, FloatFormat(name="powers", exponent=3, mantissa=0)))


def test_shapes_and_types():
    assert encode(np.zeros((2, 3)), BF16).shape == (2, 3)
    assert encode(1.0, BF16).shape == decode(0, BF16).shape == ()
    assert encode([], BF16).shape == (0,)
    assert encode([1, 2], BF16).dtype == np.uint32
    assert decode(np.array([[1, 2]], np.uint8), E4M3).shape == (1, 2)
    assert not decode(patterns(BF16), BF16).flags.writeable or decode(0, BF16) == 0  # the table itself stays as it is
    first = decode(np.arange(5), E4M3)
    first[:] = 7
    assert decode(0, E4M3) == 0


def test_unsigned():
    assert round_to([0.0, -0.0, 3.1, 1e9, np.inf], UNSIGNED).tolist() == [0.0, 0.0, 3.125, np.inf, np.inf]
    assert np.isnan(round_to(-np.nan, UNSIGNED))
    with pytest.raises(ValueError, match="negative number, which unsigned does not have"):
        encode([1.0, -1.0], UNSIGNED)


def test_errors():
    with pytest.raises(TypeError, match="codes must be whole numbers, got float64"):
        decode([1.0], BF16)
    with pytest.raises(ValueError, match="from 0 to 15, got 16"):
        decode([3, 16], E2M1)
    with pytest.raises(ValueError, match="got -1"):
        decode(-1, E2M1)
    with pytest.raises(ValueError, match="x holds NaN, which E2M1 does not have"):
        encode([1.0, np.nan], E2M1)
    with pytest.raises(ValueError, match="got 'up', 'special'"):
        encode(1.0, BF16, rounding="up")
    with pytest.raises(ValueError, match="got 'nearest', 'wrap'"):
        encode(1.0, BF16, overflow="wrap")
    for how in ({"rounding": "stochastic"}, {"rng": np.random.default_rng(0)}):
        with pytest.raises(TypeError, match="belong together"):
            encode(1.0, BF16, **how)
