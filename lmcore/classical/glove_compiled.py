"""`glove.train_pairs` again, written for numba."""

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def train_pairs(W, C, memory_W, memory_C, rows, columns, logs, weights, rate):
    """One step of AdaGrad for each pair, in their order; the arguments are those of the readable version."""
    total, dim = 0.0, W.shape[1] - 1
    one = np.float32(1)
    for pair in range(len(rows)):
        w, c = W[rows[pair]], C[columns[pair]]
        squares_w, squares_c = memory_W[rows[pair]], memory_C[columns[pair]]
        difference = w[dim] + c[dim] - logs[pair]
        for k in range(dim):
            difference += w[k] * c[k]
        total += weights[pair] * difference * difference
        slope = weights[pair] * difference
        for k in range(dim + 1):
            by_w = slope * (c[k] if k < dim else one)
            by_c = slope * (w[k] if k < dim else one)
            squares_w[k] += by_w * by_w
            squares_c[k] += by_c * by_c
            w[k] -= rate * by_w / np.sqrt(squares_w[k])
            c[k] -= rate * by_c / np.sqrt(squares_c[k])
    return total
