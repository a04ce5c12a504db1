"""Packing: bytes by hand, round trips, the layout of others, errors."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.compress.packing import pack, packed_length, unpack


def test_two_fours_to_a_byte():
    assert pack(torch.tensor([[1, 2, 3], [15, 0, 9]], dtype=torch.uint8), 4).tolist() == [[0x21, 0x03], [0x0F, 0x09]]


def test_eight_threes_in_three_bytes():
    codes = torch.tensor([1, 2, 3, 4, 5, 6, 7, 0], dtype=torch.uint8)
    number = sum(int(code) << 3 * i for i, code in enumerate(codes))
    assert pack(codes, 3).tolist() == [number & 255, number >> 8 & 255, number >> 16]


def test_signs_are_the_highest_bit():
    codes = torch.tensor([-1, 1, -2, 0], dtype=torch.int8)  # 11, 01, 10, 00
    assert pack(codes, 2).tolist() == [0b00_10_01_11]
    assert unpack(torch.tensor([0b00_10_01_11], dtype=torch.uint8), 2, 4, signed=True).tolist() == codes.tolist()


@given(st.integers(1, 8), st.booleans(), st.integers(0, 23), st.integers(0, 1000))
def test_round_trip(bits, signed, n, seed):
    lowest = -(2 ** (bits - 1)) if signed else 0
    codes = torch.randint(lowest, lowest + 2**bits, (3, n), generator=torch.Generator().manual_seed(seed))
    codes = codes.to(torch.int8 if signed else torch.uint8)
    packed = pack(codes, bits)
    assert packed.shape == (3, packed_length(n, bits)) == (3, (n * bits + 7) // 8)
    back = unpack(packed, bits, n, signed=signed)
    assert back.dtype == codes.dtype
    assert torch.equal(back, codes)
    assert torch.equal(packed[1:2], pack(codes[1:2], bits))  # a row does not depend on the others


@given(st.integers(1, 7), st.integers(1, 17), st.integers(0, 1000))
def test_a_stream_of_bits_as_numpy_packs_them(bits, n, seed):
    codes = torch.randint(0, 2**bits, (n,), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    single = np.unpackbits(codes.numpy()[:, None], axis=1, bitorder="little")[:, :bits]
    assert np.array_equal(pack(codes, bits).numpy(), np.packbits(single.ravel(), bitorder="little"))


def test_two_fours_as_onnx_stores_them():
    from onnx import TensorProto, helper

    codes = [1, -2, 7, -8, 5]
    stored = helper.make_tensor("codes", TensorProto.INT4, [5], codes)
    assert pack(torch.tensor(codes, dtype=torch.int8), 4).tolist() == [byte & 255 for byte in stored.int32_data]


def test_eight_bits_are_the_bytes_themselves():
    codes = torch.tensor([[-128, 127, -1]], dtype=torch.int8)
    assert pack(codes, 8).tolist() == [[128, 127, 255]]
    assert pack(codes.T, 8).tolist() == [[128], [127], [255]]  # not in a row in memory


@pytest.mark.parametrize(
    ("codes", "bits", "error", "message"),
    [
        (torch.tensor([3, 8], dtype=torch.int8), 4, ValueError, "the code 8 does not fit into 4 bits: -8 … 7"),
        (torch.tensor([16], dtype=torch.uint8), 4, ValueError, "the code 16 does not fit into 4 bits: 0 … 15"),
        (torch.tensor([1], dtype=torch.int8), 9, ValueError, "bits must be a whole number from 1 to 8, got 9"),
        (torch.tensor([1]), 4, TypeError, "codes must be int8 or uint8, got torch.int64"),
    ],
)
def test_what_cannot_be_packed(codes, bits, error, message):
    with pytest.raises(error, match=message):
        pack(codes, bits)


def test_what_cannot_be_unpacked():
    packed = torch.zeros(2, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"7 codes of 4 bits are 4 bytes, got shape \(2, 3\)"):
        unpack(packed, 4, 7, signed=True)
    with pytest.raises(TypeError, match="packed must be uint8, got"):
        unpack(packed.to(torch.int8), 4, 6, signed=True)
    with pytest.raises(ValueError, match="from 1 to 8, got 0"):
        unpack(packed, 0, 6, signed=True)
