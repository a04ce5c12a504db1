"""`matvec.matvec_loop` again, written for numba, and the sum that `bandwidth.read_bandwidth` times.

`fastmath` lets the compiler add up in another order, and so several numbers at a time; without it a sum is one chain of
additions, each of which waits for the one before. The versions for one thread are functions of their own: numba's
threads run along, and use up time, even when only one of them has work.
"""

import numba
import numpy as np

_FAST = {"cache": True, "nogil": True, "fastmath": True, "error_model": "numpy"}


@numba.njit(**_FAST)
def dot(a, b):
    """Σ a b of float32 numbers."""
    total = np.float32(0)
    for k in range(len(b)):
        total += a[k] * b[k]
    return total


@numba.njit(**_FAST)
def dot_rows(weight, x, y):
    """Write the product of each row of weight (R, C) with x (C,) into y (R,)."""
    for row in range(len(weight)):
        y[row] = dot(weight[row], x)


@numba.njit(**_FAST, parallel=True)
def dot_rows_threads(weight, x, y):
    """As `dot_rows`; the threads share out the rows."""
    for row in numba.prange(len(weight)):
        y[row] = dot(weight[row], x)


@numba.njit(**_FAST)
def _sum(x):
    """Σ x."""
    total = np.float32(0)
    for k in range(len(x)):
        total += x[k]
    return total


@numba.njit(**_FAST)
def sum_rows(x, y):
    """Write the sum of each row of x (R, C) into y (R,)."""
    for row in range(len(x)):
        y[row] = _sum(x[row])


@numba.njit(**_FAST, parallel=True)
def sum_rows_threads(x, y):
    """As `sum_rows`; the threads share out the rows."""
    for row in numba.prange(len(x)):
        y[row] = _sum(x[row])
