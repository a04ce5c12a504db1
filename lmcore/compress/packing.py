"""Codes of b bits side by side in bytes: two of 4 bits to a byte, eight of 3 bits to three.

The last axis is packed as one stream of bits, low bits first: code i has bits i·b … i·b + b − 1 of it. A row begins in
a byte of its own, so that rows can be cut out; at its end up to 7 bits are left over. A signed code keeps its lowest b
bits, in two's complement, from which the sign comes back.
"""

import torch
from torch import Tensor


def packed_length(length: int, bits: int) -> int:
    """Bytes for a row of codes.

    >>> packed_length(10, 3)      # 30 bits
    4
    """
    return -(-length * bits // 8)


def _check_bits(bits: int) -> None:
    """Refuse what no byte can hold."""
    if bits not in range(1, 9):
        raise ValueError(f"bits must be a whole number from 1 to 8, got {bits!r}")


def pack(codes: Tensor, bits: int) -> Tensor:
    """Put codes into as few bytes as they need.

    Args:
        codes: (…, n) int8 or uint8, of `bits` bits each.
        bits: 1 … 8.
    Returns:
        (…, ⌈n · bits / 8⌉) uint8.
    Raises:
        TypeError: codes that are neither int8 nor uint8.
        ValueError: bits out of range, or a code that does not fit into them (says which).
    Cost: O(n · bits) time, and 8 bytes a code in between; 8 bits are a change of name.
    Differs: a GGUF block has the codes of its second half in the high nibbles; here neighbours share a byte.

    >>> [f"{byte:08b}" for byte in pack(torch.tensor([1, -2, 7], dtype=torch.int8), 4)]    # −2 is 1110
    ['11100001', '00000111']
    """
    _check_bits(bits)
    if codes.dtype not in (torch.int8, torch.uint8):
        raise TypeError(f"codes must be int8 or uint8, got {codes.dtype}")
    lowest, highest = (0, 2**bits - 1) if codes.dtype == torch.uint8 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    wrong = (codes < lowest) | (codes > highest)
    if wrong.any():
        raise ValueError(f"the code {int(codes[wrong][0])} does not fit into {bits} bits: {lowest} … {highest}")
    codes = codes.contiguous().view(torch.uint8)
    if bits == 8:
        return codes
    single = (codes[..., None] >> torch.arange(bits, dtype=torch.uint8, device=codes.device)) & 1  # (…, n, bits)
    stream = single.flatten(-2)
    stream = torch.nn.functional.pad(stream, (0, -stream.shape[-1] % 8)).unflatten(-1, (-1, 8))
    return (stream << torch.arange(8, dtype=torch.uint8, device=codes.device)).sum(-1, dtype=torch.uint8)


def unpack(packed: Tensor, bits: int, length: int, *, signed: bool) -> Tensor:
    """Take codes out of their bytes; the inverse of `pack`.

    Args:
        packed: (…, bytes) uint8.   bits: 1 … 8.   length: n, how many codes a row has.
        signed: whether the codes were int8.
    Returns:
        (…, n) int8 if signed, else uint8.
    Raises:
        TypeError: packed is not uint8.
        ValueError: bits out of range, or another number of bytes than n codes need.
    Cost: O(n · bits) time. 4 bits take a short cut, as they are unpacked at every use of a layer; 8 bits cost nothing.

    >>> unpack(torch.tensor([0b11100001, 0b00000111], dtype=torch.uint8), 4, 3, signed=True).tolist()
    [1, -2, 7]
    """
    _check_bits(bits)
    if packed.dtype != torch.uint8:
        raise TypeError(f"packed must be uint8, got {packed.dtype}")
    if packed.ndim == 0 or packed.shape[-1] != packed_length(length, bits):
        raise ValueError(
            f"{length} codes of {bits} bits are {packed_length(length, bits)} bytes, got shape {tuple(packed.shape)}"
        )
    if bits == 8:
        return packed.view(torch.int8) if signed else packed
    if bits == 4:
        codes = torch.stack([packed & 15, packed >> 4], dim=-1).flatten(-2)[..., :length]
    else:
        single = (packed[..., None] >> torch.arange(8, dtype=torch.uint8, device=packed.device)) & 1
        single = single.flatten(-2)[..., : length * bits].unflatten(-1, (length, bits))
        codes = (single << torch.arange(bits, dtype=torch.uint8, device=packed.device)).sum(-1, dtype=torch.uint8)
    # the sign: push the code to the top of the byte, and let int8's shift to the right fill in its highest bit
    return (codes << (8 - bits)).view(torch.int8) >> (8 - bits) if signed else codes
