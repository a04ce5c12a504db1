"""The loops of `fused_int8`, written for numba: all that is done beside the product of codes, in one pass per row.

A row stays in the cache nearest to the processor while its smallest and largest number are found, and is then rounded.
They release Python's lock and use one thread: see `lmcore.nn.threads`.

Only `_gelu` may be computed in another order than written (`fastmath`); the rest gives the same bits as torch's steps.
"""

import math

import numba
import numpy as np

_FLAGS = {"cache": True, "nogil": True, "error_model": "numpy"}
_TINY = np.finfo(np.float32).tiny
_END = np.float32(5)  # beyond it, Φ is 0 or 1 up to 3e-7
_STRETCH = np.float32(2) / _END**2


def _polynomial(degree: int) -> tuple[np.float32, ...]:
    """Fit erf(x / √2) ≈ x p(u), u = _STRETCH x² − 1, for |x| ≤ _END: as u is −1 … 1, no power of it gets large."""

    def ratio(u: np.ndarray) -> np.ndarray:
        x = _END * np.sqrt((u + 1) / 2)
        return np.array([math.erf(number / math.sqrt(2)) / number for number in x])

    fitted = np.polynomial.chebyshev.chebinterpolate(ratio, degree)
    return tuple(np.polynomial.chebyshev.cheb2poly(fitted).astype(np.float32))


_P = _polynomial(12)


@numba.njit(**_FLAGS, fastmath=True)
def _gelu(x):
    """GELU, x Φ(x), off by 5e-7 |x| at most: a polynomial, for many numbers at a time, without a function call."""
    t = min(max(x, -_END), _END)
    u = t * t * _STRETCH - np.float32(1)
    p = _P[10] + u * (_P[11] + u * _P[12])
    p = _P[7] + u * (_P[8] + u * (_P[9] + u * p))
    p = _P[4] + u * (_P[5] + u * (_P[6] + u * p))
    p = _P[0] + u * (_P[1] + u * (_P[2] + u * (_P[3] + u * p)))
    return np.float32(0.5) * x * (np.float32(1) + t * p)


@numba.njit(**_FLAGS)
def _extremes(bits, found):
    """Write the smallest and the largest of float32 numbers, given and written as their bits.

    As whole numbers, the bits of positive numbers stand in the order of the numbers, those of negative ones in the
    opposite order until all bits but the sign are flipped. Comparing whole numbers, the compiler takes many at a time.
    """
    flip = np.int32(0x7FFFFFFF)
    low, high = flip, np.int32(-0x80000000)
    for k in range(len(bits)):
        place = bits[k] ^ ((bits[k] >> np.int32(31)) & flip)  # the shift gives all ones for a negative number, else 0
        low, high = min(low, place), max(high, place)
    found[0], found[1] = low ^ ((low >> np.int32(31)) & flip), high ^ ((high >> np.int32(31)) & flip)


@numba.njit(**_FLAGS)
def _round(row, codes, scratch):
    """Write the codes of a row; its step and its middle."""
    _extremes(row.view(np.int32), scratch.view(np.int32))
    low, high = scratch
    step = max((high - low) / np.float32(254), _TINY)
    middle = (high + low) / np.float32(2)
    inverse = np.float32(1) / step
    for k in range(len(row)):
        codes[k] = np.int8(np.int32(np.rint((row[k] - middle) * inverse)))
    return step, middle


@numba.njit(**_FLAGS)
def round_rows(x, codes, steps, middles):
    """Write codes (N, n), steps (N,) and middles (N,) of the rows of x."""
    scratch = np.empty(2, np.float32)
    for row in range(len(x)):
        steps[row], middles[row] = _round(x[row], codes[row], scratch)


@numba.njit(**_FLAGS)
def _scale(sums, step, middle, scale, shift, bias, y):
    """Sums of products of codes → the products of the numbers, for one row, plus the bias."""
    for k in range(len(y)):
        y[k] = np.float32(sums[k]) * (step * scale[k]) + middle * shift[k] + bias[k]


@numba.njit(**_FLAGS)
def finish(sums, steps, middles, scale, shift, bias, y):
    """Write y (N, out)."""
    for row in range(len(y)):
        _scale(sums[row], steps[row], middles[row], scale, shift, bias, y[row])


@numba.njit(**_FLAGS)
def finish_residual(sums, steps, middles, scale, shift, bias, residual, y):
    """As `finish`, plus residual (N, out)."""
    for row in range(len(y)):
        step, middle = steps[row], middles[row]
        for k in range(y.shape[1]):
            number = np.float32(sums[row, k]) * (step * scale[k]) + middle * shift[k] + bias[k]
            y[row, k] = number + residual[row, k]


@numba.njit(**_FLAGS)
def _scale_gelu(sums, step, middle, scale, shift, bias, y):
    """As `_scale`, and GELU of it."""
    for k in range(len(y)):
        y[k] = _gelu(np.float32(sums[k]) * (step * scale[k]) + middle * shift[k] + bias[k])


@numba.njit(**_FLAGS)
def finish_gelu(sums, steps, middles, scale, shift, bias, y):
    """As `finish`, and GELU of it."""
    for row in range(len(y)):
        _scale_gelu(sums[row], steps[row], middles[row], scale, shift, bias, y[row])


@numba.njit(**_FLAGS)
def finish_gelu_rounded(sums, steps, middles, scale, shift, bias, codes, new_steps, new_middles):
    """As `finish_gelu` and then `round_rows`; of the numbers themselves only one row exists at a time."""
    y, scratch = np.empty(codes.shape[1], np.float32), np.empty(2, np.float32)
    for row in range(len(codes)):
        _scale_gelu(sums[row], steps[row], middles[row], scale, shift, bias, y)
        new_steps[row], new_middles[row] = _round(y, codes[row], scratch)
