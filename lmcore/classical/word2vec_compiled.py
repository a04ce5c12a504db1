"""`word2vec_loop.train_block` again, for numba: it holds no lock of Python's, so that threads run side by side."""

import numba
import numpy as np

from lmcore.classical.word2vec_loop import INCREMENT, MULTIPLIER

_A, _B = np.uint64(MULTIPLIER), np.uint64(INCREMENT)
_HALF, _LOW = np.uint64(32), np.uint64(2**32 - 1)


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _ask(x, change, C, word, threshold, alias, negatives, rate, state):
    """Step for one example: change rows of C, leave in `change` what x is to be changed by; return the random state."""
    size, dim = np.uint64(len(threshold)), len(x)
    for k in range(dim):
        change[k] = 0
    for turn in range(negatives + 1):
        target, label = word, np.float32(1)
        if turn > 0:
            state = state * _A + _B
            number = (state >> _HALF) * size
            target, label = np.int64(number >> _HALF), np.float32(0)
            if (number & _LOW) >= threshold[target]:
                target = alias[target]
            if target == word:
                continue
        row = C[target]
        score = np.float32(0)
        for k in range(dim):
            score += x[k] * row[k]
        step = rate * (label - np.float32(1) / (np.float32(1) + np.exp(-score)))
        for k in range(dim):
            change[k] += step * row[k]
            row[k] += step * x[k]
    return state


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def train_block(tokens, ends, W, C, keep, threshold, alias, window, negatives, rate, seed, cbow):
    """Train on a few sentences; the arguments are those of the readable version, the noise as its two arrays."""
    state, width, rate = np.uint64(seed), np.uint64(window), np.float32(rate)
    mean, change = np.empty(W.shape[1], np.float32), np.empty(W.shape[1], np.float32)
    sentence = np.empty(len(tokens), np.int64)
    start = 0
    for end in ends:
        length = 0
        for place in range(start, end):
            state = state * _A + _B
            if (state >> _HALF) < keep[tokens[place]]:
                sentence[length] = tokens[place]
                length += 1
        start = end
        for place in range(length):
            state = state * _A + _B
            reach = 1 + np.int64(((state >> _HALF) * width) >> _HALF)
            first, last = max(0, place - reach), min(length, place + reach + 1)
            if cbow and last - first > 1:
                share = np.float32(1) / np.float32(last - first - 1)
                mean[:] = 0
                for other in range(first, last):
                    if other != place:
                        mean += share * W[sentence[other]]
                state = _ask(mean, change, C, sentence[place], threshold, alias, negatives, rate, state)
                change *= share
                for other in range(first, last):
                    if other != place:
                        W[sentence[other]] += change
            elif not cbow:
                x = W[sentence[place]]
                for other in range(first, last):
                    if other != place:
                        state = _ask(x, change, C, sentence[other], threshold, alias, negatives, rate, state)
                        x += change
