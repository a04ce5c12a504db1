"""One step of a decoder of the GPT family at batch 1, all layers in one function that numba compiles.

Between two reads of weights nothing should happen that takes time. So the step never returns to Python; the threads
start together five times in a layer, whatever is done there; and everything else, a few thousand numbers, is done by
one of them. Weights may be float32, bfloat16 or int8 codes with a scale for each row. What depends on that is chosen
when the step is compiled for them: `_operand`, what becomes of a vector, and `_inner`, the product of a row with it.
`lmcore.nn.narrow_linear` has the same products to read, `lmcore.models.gpt_decoding` the same step.
"""

import math
from typing import NamedTuple

import numba
import numpy as np
from numba.extending import overload

from lmcore.nn.matvec_compiled import dot
from lmcore.nn.narrow_linear import LIMIT

_EXACT = {"cache": True, "nogil": True, "error_model": "numpy"}
_FAST = {**_EXACT, "fastmath": True}  # see `matvec_compiled`
# A plain 1 would be an int64 for numba, and with a float32 it makes a float64.
_ONE, _HALF, _REACH = np.float32(1), np.float32(0.5), np.float32(LIMIT / 127)
_TINY = np.finfo(np.float32).tiny
_SQRT_HALF, _TANH, _CUBE = np.float32(math.sqrt(0.5)), np.float32(math.sqrt(2 / math.pi)), np.float32(0.044715)
ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "swiglu")  # known to `_activate` by their places


class Matrices(NamedTuple):
    """The matrix that has one place in each of L layers."""

    weight: np.ndarray  # (L, R, C) float32, uint16 (bfloat16's bits) or int8
    scale: np.ndarray  # (L, R) float32, by which rows are multiplied; 1 if weight holds the numbers themselves
    bias: np.ndarray  # (L, R) float32


class Stack(NamedTuple):
    """All parameters of the layers, and of what stands behind them; L is 1 in output."""

    qkv: Matrices
    out: Matrices
    up: Matrices
    down: Matrices
    norms: np.ndarray  # (2 L + 1, 2, d_model): weight and bias of the two of each layer, and of the last one
    output: Matrices


class Shape(NamedTuple):
    """What is no array."""

    heads: int
    kv_heads: int
    eps: float
    centred: bool  # layer norm instead of RMS norm
    pre: bool  # norms before attention and feed-forward network, and a last one, instead of after
    activation: int


@numba.njit(**_FAST)
def _dot_bfloat16(bits, b):
    """As `dot`; bits are the upper halves of float32 numbers whose lower halves are zero."""
    total = np.float32(0)
    for k in range(len(b)):
        total += np.uint32(np.uint32(bits[k]) << np.uint32(16)).view(np.float32) * b[k]
    return total


@numba.njit(**_FAST)
def _dot_int8(a, b):
    """Σ a b of int8 and int16 numbers. Without the outer int32, numba adds up in 64 bits, at a third of the speed."""
    total = np.int32(0)
    for k in range(len(b)):
        total = np.int32(total + np.int32(a[k]) * np.int32(b[k]))
    return np.float32(total)


def _inner(row, x):
    """The product of a row of weights with what `_operand` has made of a vector."""


@overload(_inner)
def _inner_of(row, x):
    if row.dtype == numba.int8:
        return lambda row, x: _dot_int8(row, x)
    if row.dtype == numba.uint16:
        return lambda row, x: _dot_bfloat16(row, x)
    return lambda row, x: dot(row, x)


@numba.njit(**_FAST)
def _vector_scale(x):
    """The scale of `narrow_linear.quantize_vectors`."""
    square = np.float32(0)
    for k in range(len(x)):
        square += x[k] * x[k]
    return max(np.sqrt(square / np.float32(len(x))) * _REACH, _TINY)


@numba.njit(**_EXACT)  # a division, and not a product with the inverse: a half must be a half
def quantize(x):
    """Codes and scale of `narrow_linear.quantize_vectors`. 16 bits also save widening them again for each row."""
    codes, scale = np.empty(len(x), np.int16), _vector_scale(x)
    for k in range(len(x)):
        codes[k] = np.int16(np.rint(x[k] / scale))
    return codes, scale


def _operand(weight, x):
    """What rows of weight are multiplied with in place of x, and the scale of that."""


@overload(_operand)
def _operand_for(weight, x):
    if weight.dtype == numba.int8:
        return lambda weight, x: quantize(x)
    return lambda weight, x: (x, _ONE)


@numba.njit(**_FAST, parallel=True)
def _rows(weight, scale, bias, x, factor, y):
    """Write weight · x, scaled, + bias into y; the threads share out the rows."""
    for row in numba.prange(len(y)):
        y[row] = _inner(weight[row], x) * (factor * scale[row]) + bias[row]


@numba.njit(**_FAST)
def multiply(matrices, layer, x, y):
    """Write the product of a layer's matrix with x (C,) into y (R,)."""
    weight = matrices.weight[layer]
    operand, factor = _operand(weight, x)
    _rows(weight, matrices.scale[layer], matrices.bias[layer], operand, factor, y)


@numba.njit(**_FAST)
def _activate(x, activation):
    """The activation with this place in `ACTIVATIONS`, of one number."""
    if activation == 0:
        return max(x, np.float32(0))
    if activation == 1:
        return _HALF * x * (_ONE + math.erf(x * _SQRT_HALF))
    if activation == 2:
        return _HALF * x * (_ONE + math.tanh(_TANH * (x + _CUBE * x * x * x)))
    return x / (_ONE + math.exp(-x))


@numba.njit(**_FAST, parallel=True)
def _units(weight, scale, bias, x, factor, activation, y):
    """As `_rows`, then the activation; if there are twice as many rows as units, the second half is multiplied in."""
    units = len(y)
    for unit in numba.prange(units):
        value = _inner(weight[unit], x) * (factor * scale[unit]) + bias[unit]
        value = _activate(value, activation)
        if len(weight) > units:
            row = units + unit
            value *= _inner(weight[row], x) * (factor * scale[row]) + bias[row]
        y[unit] = value


@numba.njit(**_FAST)
def _head(q, keys, values, scores, y):
    """Attention of one query q (d,) to keys and values (S, d); scores (S,) are room for the weights."""
    root, largest, total = _ONE / np.sqrt(np.float32(len(q))), np.float32(-np.inf), np.float32(0)
    for s in range(len(scores)):
        scores[s] = dot(keys[s], q) * root
        largest = max(largest, scores[s])
    y[:] = 0
    for s in range(len(scores)):
        weight = math.exp(scores[s] - largest)
        total += weight
        for k in range(len(y)):
            y[k] += weight * values[s, k]
    for k in range(len(y)):
        y[k] /= total


@numba.njit(**_FAST, parallel=True)
def attend(q, keys, values, length, y):
    """Attention of the queries (H, d) to the first positions of keys and values (G, capacity, d), into y (H, d)."""
    scores, share = np.empty((len(q), length), np.float32), len(q) // len(keys)
    for head in numba.prange(len(q)):
        group = head // share
        _head(q[head], keys[group, :length], values[group, :length], scores[head], y[head])


@numba.njit(**_FAST)
def normalize(x, parameters, shape, y):
    """Write the norm of x into y, which may be x; parameters (2, d_model): weight and bias."""
    mean, square, size = np.float32(0), np.float32(0), np.float32(len(x))
    if shape.centred:
        for k in range(len(x)):
            mean += x[k]
        mean /= size
    for k in range(len(x)):
        square += (x[k] - mean) * (x[k] - mean)
    factor = _ONE / np.sqrt(square / size + np.float32(shape.eps))
    for k in range(len(x)):
        y[k] = (x[k] - mean) * factor * parameters[0, k] + parameters[1, k]


@numba.njit(**_FAST)
def _turn(x, cos, sin):
    """Turn neighbours in each row of x (H, d) by angles (d / 2,), as rotary positions do; without angles, nothing."""
    for head in range(len(x)):
        for i in range(len(cos)):
            a, b = x[head, 2 * i], x[head, 2 * i + 1]
            x[head, 2 * i], x[head, 2 * i + 1] = a * cos[i] - b * sin[i], a * sin[i] + b * cos[i]


@numba.njit(**_FAST)
def _attention(x, layer, stack, room, position, cos, sin, shape, y):
    """Write attention of x, at a position, to itself and those before it into y; keys and values go into room."""
    heads, groups = shape.heads, shape.kv_heads
    qkv = np.empty(stack.qkv.weight.shape[1], np.float32)
    multiply(stack.qkv, layer, x, qkv)
    parts = qkv.reshape(heads + 2 * groups, -1)
    _turn(parts[: heads + groups], cos, sin)
    room[:, position] = parts[heads:]
    found = np.empty_like(parts[:heads])
    attend(parts[:heads], room[:groups], room[groups:], position + 1, found)
    multiply(stack.out, layer, found.reshape(-1), y)


@numba.njit(**_FAST)
def _feed_forward(x, layer, stack, shape, y):
    """Write the feed-forward network's answer to x into y."""
    weight, hidden = stack.up.weight[layer], np.empty(stack.down.weight.shape[2], np.float32)
    operand, factor = _operand(weight, x)
    _units(weight, stack.up.scale[layer], stack.up.bias[layer], operand, factor, shape.activation, hidden)
    multiply(stack.down, layer, hidden, y)


@numba.njit(**_FAST)
def _add(x, y, parameters, shape):
    """Add y to the stream x; in the order "post" the norm follows."""
    for k in range(len(x)):
        x[k] += y[k]
    if not shape.pre:
        normalize(x, parameters, shape, x)


@numba.njit(**_FAST)
def step(x, stack, room, position, cos, sin, shape):
    """Scores of the next token.

    Args:
        x: (d_model,) float32, the token's vector at its position; changed.
        stack, shape: the model.   cos, sin: (context, d / 2), or (context, 0) without rotary positions.
        room: (L, 2 G, capacity, d), keys and values of the positions before, and after the call of this one, too.
    Returns:
        (V,) float32.
    """
    before, y = np.empty_like(x), np.empty_like(x)
    for layer in range(len(room)):
        first, second = stack.norms[2 * layer], stack.norms[2 * layer + 1]
        before[:] = x
        if shape.pre:
            normalize(x, first, shape, before)
        _attention(before, layer, stack, room[layer], position, cos[position], sin[position], shape, y)
        _add(x, y, first, shape)
        before[:] = x
        if shape.pre:
            normalize(x, second, shape, before)
        _feed_forward(before, layer, stack, shape, y)
        _add(x, y, second, shape)
    if shape.pre:
        normalize(x, stack.norms[2 * len(room)], shape, x)
    logits = np.empty(stack.output.weight.shape[1], np.float32)
    multiply(stack.output, 0, x, logits)
    return logits
