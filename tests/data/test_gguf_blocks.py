"""Blocks of numbers by hand, and against the gguf package, for every type and for a real file's tensors."""

import gguf
import numpy as np
import pytest

from lmcore import data
from lmcore.data.archive import DataError
from lmcore.data.gguf import GGUF
from lmcore.data.gguf_blocks import KINDS, decode_blocks


def test_four_bits_with_a_minimum_by_hand():
    block = np.zeros(20, np.uint8)
    block[:4] = np.array([0.5, -1.0], "<f2").view(np.uint8)  # d, m
    block[4] = 0xF3  # number 0 is 3, number 16 is 15
    x = decode_blocks(block, "Q4_1")
    assert x[[0, 1, 16, 17]].tolist() == [0.5, -1.0, 6.5, -1.0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_gguf_package_agrees(kind):
    rng = np.random.default_rng(3)
    raw = rng.integers(256, size=KINDS[kind].bytes * 97, dtype=np.uint8).reshape(97, -1)
    if kind.startswith("Q"):
        halves = 2 if kind == "Q4_1" else 1
        raw[:, : 2 * halves] = rng.normal(size=(97, halves)).astype("<f2").view(np.uint8)
    expected = gguf.dequantize(raw.copy(), gguf.GGMLQuantizationType[kind])
    np.testing.assert_array_equal(decode_blocks(raw.ravel(), kind), np.asarray(expected).ravel())


def test_every_type_of_a_real_file():
    path = data.member_path("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    ours, theirs = GGUF(path), {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    for name in ("blk.7.ffn_down.weight", "blk.29.attn_k.weight", "output_norm.weight", "token_embd.weight"):
        expected = gguf.dequantize(theirs[name].data, theirs[name].tensor_type)
        np.testing.assert_array_equal(ours.tensor(name), expected.reshape(ours.tensors[name].shape))


def test_what_cannot_be_decoded(tmp_path):
    with pytest.raises(ValueError, match="kind must be one of F32, F16, BF16, Q8_0, Q4_0, Q4_1, got 'Q2_K'"):
        decode_blocks(np.zeros(4, np.uint8), "Q2_K")
    with pytest.raises(ValueError, match="21 bytes are no whole number of Q4_1 blocks of 20 bytes"):
        decode_blocks(np.zeros(21, np.uint8), "Q4_1")
    whole = data.member_path("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    cut = tmp_path / "cut.gguf"
    with open(whole, "rb") as file:
        cut.write_bytes(file.read(40_000_000))
    file = GGUF(cut)
    file.tensor("blk.0.ffn_up.weight")
    with pytest.raises(DataError, match=r"ends in the middle of blk.29.ffn_up.weight: it is truncated"):
        file.tensor("blk.29.ffn_up.weight")
    with pytest.raises(KeyError):
        file.tensor("blk.30.ffn_up.weight")
