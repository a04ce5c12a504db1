"""How GGUF stores numbers: plain floats, or blocks of 32 small whole numbers with a scale.

A block of type Q8_0 holds a half-precision scale d and 32 signed bytes q: x = d q. Four-bit types put two numbers into
a byte, the first half of the block in the low nibbles and the second half in the high ones: x = d (q − 8) for Q4_0,
and x = d q + m for Q4_1, which has a minimum m beside the scale.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

BLOCK = 32  # numbers in a block


def _halves(raw: np.ndarray, start: int) -> np.ndarray:
    """Half-precision numbers that begin at a byte of each block, (N, 1) float32."""
    return np.ascontiguousarray(raw[:, start : start + 2]).view("<f2").astype(np.float32)


def _nibbles(raw: np.ndarray) -> np.ndarray:
    """(N, 16) bytes → (N, 32) numbers in 0 … 15, low nibbles first."""
    return np.concatenate([raw & 15, raw >> 4], axis=1).astype(np.float32)


def _q8_0(raw: np.ndarray) -> np.ndarray:
    """d, 32 signed bytes."""
    return _halves(raw, 0) * raw[:, 2:].view(np.int8)


def _q4_0(raw: np.ndarray) -> np.ndarray:
    """d, 16 bytes of nibbles, of which 8 is zero."""
    return _halves(raw, 0) * (_nibbles(raw[:, 2:]) - 8)


def _q4_1(raw: np.ndarray) -> np.ndarray:
    """d, m, 16 bytes of nibbles."""
    return _halves(raw, 0) * _nibbles(raw[:, 4:]) + _halves(raw, 2)


def _bf16(raw: np.ndarray) -> np.ndarray:
    """The upper halves of float32 numbers."""
    return (np.ascontiguousarray(raw).view("<u2").astype(np.uint32) << 16).view(np.float32)


class Kind(NamedTuple):
    """A type of storage: numbers and bytes in a block, and how to decode (N, bytes) uint8 → (N, numbers) float32."""

    numbers: int
    bytes: int
    decode: Callable[[np.ndarray], np.ndarray]


KINDS = {
    "F32": Kind(1, 4, lambda raw: np.ascontiguousarray(raw).view("<f4")),
    "F16": Kind(1, 2, lambda raw: _halves(raw, 0)),
    "BF16": Kind(1, 2, _bf16),
    "Q8_0": Kind(BLOCK, 34, _q8_0),
    "Q4_0": Kind(BLOCK, 18, _q4_0),
    "Q4_1": Kind(BLOCK, 20, _q4_1),
}


def decode_blocks(raw: np.ndarray, kind: str) -> np.ndarray:
    """Decode stored numbers.

    Args:
        raw: (bytes,) uint8, whole blocks.   kind: "F32", "F16", "BF16", "Q8_0", "Q4_0" or "Q4_1".
    Returns:
        (numbers,) float32.
    Raises:
        ValueError: another kind, or bytes that are no whole number of blocks.
    Cost: memory for the result and one block type's worth of it in between.

    >>> one = np.array([0x00, 0x38, *[0x10] * 16], dtype=np.uint8)   # d = ½; low nibbles 0, high nibbles 1
    >>> decode_blocks(one, "Q4_0")[[0, 31]].tolist()
    [-4.0, -3.5]
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if len(raw) % KINDS[kind].bytes:
        raise ValueError(f"{len(raw)} bytes are no whole number of {kind} blocks of {KINDS[kind].bytes} bytes")
    return KINDS[kind].decode(raw.reshape(-1, KINDS[kind].bytes)).ravel()
