"""`MinHash.signature` for many texts at once, written for numba: no array of shingles × minima is ever stored."""

import numba
import numpy as np


@numba.njit(cache=True, parallel=True)
def signatures(hashes, ends, keys):
    """Minima of every text.

    Args:
        hashes: shingles of all texts, one after the other, uint64.   ends: (N,) where each text ends.
        keys: (K,) uint64, one for each minimum.
    Returns:
        (N, K) uint32, equal to those of `MinHash.signature`.
    """
    first, second, third = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
    result = np.full((len(ends), len(keys)), np.uint32(0xFFFFFFFF))
    for text in numba.prange(len(ends)):
        start = ends[text - 1] if text > 0 else 0
        for place in range(start, ends[text]):
            for k in range(len(keys)):
                number = (hashes[place] ^ keys[k]) + first
                number = (number ^ (number >> np.uint64(30))) * second
                number = (number ^ (number >> np.uint64(27))) * third
                number = (number ^ (number >> np.uint64(31))) >> np.uint64(32)
                if number < result[text, k]:
                    result[text, k] = number
    return result
