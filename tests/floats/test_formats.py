"""Formats: what is printed about them, what numpy, torch and ml_dtypes say, and what cannot be."""

import ml_dtypes
import numpy as np
import pytest
import torch

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

TORCH = {
    FP32: torch.float32, FP16: torch.float16, BF16: torch.bfloat16, E5M2: torch.float8_e5m2,
    E4M3: torch.float8_e4m3fn, E5M2_FNUZ: torch.float8_e5m2fnuz, E4M3_FNUZ: torch.float8_e4m3fnuz,
}  # fmt: skip
SMALL = {E3M2: ml_dtypes.float6_e3m2fn, E2M3: ml_dtypes.float6_e2m3fn, E2M1: ml_dtypes.float4_e2m1fn}


@pytest.mark.parametrize(
    ("fmt", "bits", "bias", "largest", "normal", "smallest"),
    [
        (FP16, 16, 15, 65504.0, 2.0**-14, 2.0**-24),
        (BF16, 16, 127, 2.0**127 * (2 - 2.0**-7), 2.0**-126, 2.0**-133),
        (TF32, 19, 127, 2.0**127 * (2 - 2.0**-10), 2.0**-126, 2.0**-136),
        (E4M3, 8, 7, 448.0, 2.0**-6, 2.0**-9),  # table 1 of Micikevicius et al. 2022, as the next line
        (E5M2, 8, 15, 57344.0, 2.0**-14, 2.0**-16),
        (E2M1, 4, 1, 6.0, 1.0, 0.5),
    ],
    ids=lambda value: value.name if isinstance(value, FloatFormat) else "",
)
def test_by_hand(fmt, bits, bias, largest, normal, smallest):
    assert (fmt.bits, fmt.bias, fmt.largest, fmt.smallest_normal, fmt.smallest) == (
        bits, bias, largest, normal, smallest,
    )  # fmt: skip


@pytest.mark.parametrize("fmt", TORCH, ids=lambda fmt: fmt.name)
def test_torch_says_the_same(fmt):
    info = torch.finfo(TORCH[fmt])
    assert (fmt.bits, fmt.largest, fmt.smallest_normal) == (info.bits, info.max, info.tiny)
    assert fmt.epsilon == info.eps * (2 if fmt is E5M2_FNUZ else 1)  # torch says 1/8: see the next test


@pytest.mark.parametrize("fmt", [fmt for fmt in TORCH if fmt.bits == 8], ids=lambda fmt: fmt.name)
def test_epsilon_is_the_distance_from_1_to_the_next_number(fmt):
    numbers = torch.arange(128, dtype=torch.uint8).view(TORCH[fmt]).double()
    assert numbers[numbers > 1].min() - 1 == fmt.epsilon


@pytest.mark.parametrize("fmt", SMALL, ids=lambda fmt: fmt.name)
def test_ml_dtypes_says_the_same(fmt):
    info = ml_dtypes.finfo(SMALL[fmt])
    assert fmt.bits == info.bits
    assert (fmt.largest, fmt.smallest, fmt.epsilon) == tuple(map(float, (info.max, info.smallest_subnormal, info.eps)))


def test_names_are_different_and_the_patterns_are_cut_into_fields():
    assert len({fmt.name for fmt in FORMATS}) == len(FORMATS) == 11
    assert FP16.fields(0xC001) == "1 10000 0000000001"
    assert FloatFormat(name="u", exponent=3, mantissa=0, signed=False).fields(5) == "101"
    assert TF32.fields(1) == "0 00000000 0000000001"
    with pytest.raises(ValueError, match="from 0 to 15, got 16"):
        E2M1.fields(16)


def test_specials():
    assert (FP16.infinity_code, FP16.nan_code) == (0x7C00, 0x7E00)
    assert (E4M3.infinity_code, E4M3.nan_code) == (None, 0x7F)
    assert (E4M3_FNUZ.infinity_code, E4M3_FNUZ.nan_code) == (None, 0x80)
    assert (E2M1.infinity_code, E2M1.nan_code) == (None, None)
    no_mantissa = FloatFormat(name="powers", exponent=4, mantissa=0)
    assert (no_mantissa.infinity_code, no_mantissa.nan_code) == (15, None)
    assert no_mantissa.largest == 2.0**7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exponent": 0, "mantissa": 3}, "exponent must be a whole number from 1 to 10, got 0"),
        ({"exponent": 11, "mantissa": 3}, "got 11"),
        ({"exponent": 5, "mantissa": 30}, "mantissa must be a whole number from 0 to 29, got 30"),
        ({"exponent": 5, "mantissa": 2.0}, "got 2.0"),
        ({"exponent": True, "mantissa": 2}, "got True"),
        ({"exponent": 8, "mantissa": 24}, "at most 32 bits, x would have 33"),
        ({"exponent": 3, "mantissa": 2, "specials": "posit"}, "specials must be one of ieee, fn, fnuz, none, got 'pos"),
        ({"exponent": 3, "mantissa": 2, "bias": 1024}, "bias must be a whole number from -1016 to 1023, got 1024"),
        ({"exponent": 10, "mantissa": 2, "bias": -1}, "from 0 to 1023, got -1"),
        ({"exponent": 3, "mantissa": 2, "bias": 1.5}, "got 1.5"),
        ({"exponent": 1, "mantissa": 0}, "leave no number above zero"),
        ({"exponent": 3, "mantissa": 2, "specials": "fnuz", "signed": False}, "an unsigned format does not have"),
    ],
)
def test_what_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        FloatFormat(name="x", **settings)


def test_the_smallest_formats_there_are():
    one = FloatFormat(name="one bit", exponent=1, mantissa=0, specials="none", signed=False)
    assert (one.bits, one.bias, one.largest) == (1, 0, 2.0)
    assert np.isfinite(FloatFormat(name="wide", exponent=10, mantissa=2, bias=0, specials="none").largest)
