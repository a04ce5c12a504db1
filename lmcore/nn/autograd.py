"""Reverse-mode automatic differentiation on NumPy arrays, small enough to be read in one sitting.

A `Tensor` is an array that remembers how it was computed: for each operand an *edge*, the operand and a function that
turns the gradient of a loss by the result into the gradient by the operand (a vector–Jacobian product). Every operation
below is its forward formula and, beside it, one such function per operand. `Tensor.backward` walks the edges from the
loss to the parameters, each tensor after everything that was computed from it, and adds up what arrives.

Left out: in-place operations, second derivatives, devices, and most of NumPy. Unlike torch: every tensor on the way
gets its gradient, not the leaves only, and a graph may be walked again; nothing notices that an array was changed
between forward and backward, so update parameters (``w.data -= rate * w.grad``) only after `backward`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

Edge = tuple["Tensor", Callable[[np.ndarray], np.ndarray]]  # an operand, and gradient by the result → by the operand
Axes = int | tuple[int, ...] | None


def unbroadcast(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum a gradient over the axes along which broadcasting had repeated an operand of this shape.

    >>> unbroadcast(np.ones((5, 3)), (3,)), unbroadcast(np.ones((5, 3)), (5, 1)).shape
    (array([5., 5., 5.]), (5, 1))
    """
    added = gradient.ndim - len(shape)  # axes that broadcasting put on the left
    axes = tuple(i for i, length in enumerate(gradient.shape) if i < added or shape[i - added] != length)
    return gradient.sum(axis=axes).reshape(shape) if axes else gradient


class Tensor:
    """An array that remembers how it was computed, so that gradients can be sent back.

    Args:
        data: numbers, copied.
        requires_grad: whether a gradient by this tensor is wanted. Results want one if an operand does.
    Attributes:
        data: the array.   grad: the gradient that `backward` has added up here, same shape; None before.
    Raises:
        TypeError: requires_grad and data that are not floating-point numbers: an integer has no neighbours to step to.

    Operations: ``+ - * /`` with broadcasting, ``@`` as in NumPy, ``**`` with a constant exponent, indexing, and the
    methods below. Operands that are numbers or arrays become constants.

    >>> x = Tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    array([[2., 4., 6.]])
    """

    __array_ufunc__ = None  # array * tensor asks Tensor.__rmul__ instead of making an array of tensors

    def __init__(self, data: ArrayLike, *, requires_grad: bool = False):
        self.data = np.array(data)
        self.requires_grad = requires_grad
        self.grad: np.ndarray | None = None
        self._edges: list[Edge] = []
        if requires_grad and not np.issubdtype(self.data.dtype, np.floating):
            raise TypeError(f"requires_grad needs floating-point data, got {self.data.dtype}; write 1.0 instead of 1")

    def __repr__(self):
        return f"Tensor({self.data!r}, requires_grad={self.requires_grad})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis."""
        return self.data.shape

    # ---- the graph: how it is recorded, and how it is walked ----

    def _result(self, data: np.ndarray, *edges: Edge) -> Tensor:
        """What an operation returns; operands that want no gradient leave no edge."""
        result = Tensor.__new__(Tensor)
        result.data, result.grad = np.asarray(data), None
        result._edges = [edge for edge in edges if edge[0].requires_grad]
        result.requires_grad = bool(result._edges)
        return result

    def _constant(self, other: Tensor | ArrayLike) -> Tensor:
        """The other operand; Python's numbers take this tensor's precision, as in NumPy."""
        if isinstance(other, Tensor):
            return other
        return Tensor(np.asarray(other, np.result_type(self.data, other) if isinstance(other, int | float) else None))

    def _ancestors(self) -> list[Tensor]:
        """Everything that this tensor was computed from, and itself: operands before results."""
        order, seen, stack = [], set(), [(self, False)]
        while stack:  # a loop and not recursion, so that a graph may be deeper than Python's stack
            tensor, operands_done = stack.pop()
            if operands_done:
                order.append(tensor)
            elif id(tensor) not in seen:
                seen.add(id(tensor))
                stack.append((tensor, True))
                stack.extend((operand, False) for operand, _ in tensor._edges)
        return order

    def backward(self, gradient: ArrayLike | None = None) -> None:
        """Add to the ``grad`` of every tensor that this one depends on its gradient; set ``grad = None`` to start anew.

        Args:
            gradient: the gradient of a loss by this tensor, same shape; 1 if this tensor is that loss, a single number.
        Raises:
            ValueError: nothing wants a gradient, no gradient given for more than one number, or one of another shape.
        Cost: as much time as the operations took, within a small factor, whatever the number of parameters.
        Source: Rumelhart, Hinton and Williams 1986; Baydin et al. 2018 for the survey.
        """
        if not self.requires_grad:
            raise ValueError("nothing that this tensor was computed from has requires_grad=True")
        if gradient is None and self.data.size != 1:
            raise ValueError(f"a tensor of shape {self.shape} is not one loss: sum it, or pass its gradient")
        gradient = np.ones_like(self.data) if gradient is None else np.asarray(gradient, self.data.dtype)
        if gradient.shape != self.shape:
            raise ValueError(f"gradient has shape {gradient.shape}, the tensor {self.shape}; they must be equal")
        arrived = {id(self): gradient}
        for tensor in reversed(self._ancestors()):
            gradient = arrived.pop(id(tensor))
            tensor.grad = np.array(gradient if tensor.grad is None else tensor.grad + gradient)
            for operand, pull in tensor._edges:
                part = unbroadcast(pull(gradient), operand.shape).astype(operand.data.dtype, copy=False)
                arrived[id(operand)] = arrived[id(operand)] + part if id(operand) in arrived else part

    # ---- arithmetic ----

    def __add__(self, other: Tensor | ArrayLike) -> Tensor:
        other = self._constant(other)
        return self._result(self.data + other.data, (self, lambda g: g), (other, lambda g: g))

    def __neg__(self) -> Tensor:
        return self._result(-self.data, (self, lambda g: -g))

    def __sub__(self, other: Tensor | ArrayLike) -> Tensor:
        other = self._constant(other)
        return self._result(self.data - other.data, (self, lambda g: g), (other, lambda g: -g))

    def __mul__(self, other: Tensor | ArrayLike) -> Tensor:
        other = self._constant(other)
        return self._result(self.data * other.data, (self, lambda g: g * other.data), (other, lambda g: g * self.data))

    def __truediv__(self, other: Tensor | ArrayLike) -> Tensor:
        other = self._constant(other)
        ratio = self.data / other.data
        return self._result(ratio, (self, lambda g: g / other.data), (other, lambda g: -g * ratio / other.data))

    def __pow__(self, exponent: float) -> Tensor:
        if not isinstance(exponent, int | float | np.number):
            raise TypeError(f"the exponent must be a number, got {type(exponent).__name__}: write (x.log() * y).exp()")
        lower = exponent - 1 if exponent else 0  # x⁰ has slope 0, also where 0 · x⁻¹ has none
        return self._result(self.data**exponent, (self, lambda g: g * exponent * self.data**lower))

    def __matmul__(self, other: Tensor | ArrayLike) -> Tensor:
        other = self._constant(other)
        if other.data.ndim == 1:  # a vector on the right is a matrix of one column, on the left one of one row
            return (self @ other.reshape(-1, 1))[..., 0]
        if self.data.ndim == 1:
            return (self.reshape(1, -1) @ other)[..., 0, :]
        if self.shape[-1:] != other.shape[-2:-1]:
            raise ValueError(f"cannot multiply shapes {self.shape} @ {other.shape}: their inner lengths differ")
        left, right = self.data.swapaxes(-1, -2), other.data.swapaxes(-1, -2)  # both transposed
        return self._result(self.data @ other.data, (self, lambda g: g @ right), (other, lambda g: left @ g))

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: ArrayLike) -> Tensor:
        return -self + other

    def __rtruediv__(self, other: ArrayLike) -> Tensor:
        return self._constant(other) / self

    def __rmatmul__(self, other: ArrayLike) -> Tensor:
        return self._constant(other) @ self

    # ---- functions of single numbers ----

    def exp(self) -> Tensor:
        """The exponential of every number."""
        y = np.exp(self.data)
        return self._result(y, (self, lambda g: g * y))

    def log(self) -> Tensor:
        """Natural logarithm of every number."""
        return self._result(np.log(self.data), (self, lambda g: g / self.data))

    def tanh(self) -> Tensor:
        """Hyperbolic tangent of every number."""
        y = np.tanh(self.data)
        return self._result(y, (self, lambda g: g * (1 - y**2)))

    def relu(self) -> Tensor:
        """max(x, 0) of every number; the gradient at 0 is 0, as in torch."""
        return self._result(np.maximum(self.data, 0), (self, lambda g: g * (self.data > 0)))

    def sigmoid(self) -> Tensor:
        """1 / (1 + e⁻ˣ) of every number, without overflow."""
        y = np.exp(-np.logaddexp(0, -self.data))
        return self._result(y, (self, lambda g: g * y * (1 - y)))

    # ---- sums over axes ----

    def sum(self, axis: Axes = None, *, keepdims: bool = False) -> Tensor:
        """Sum over an axis, several, or all."""

        def spread(g: np.ndarray) -> np.ndarray:
            return np.broadcast_to(g if keepdims or axis is None else np.expand_dims(g, axis), self.shape)

        return self._result(self.data.sum(axis=axis, keepdims=keepdims), (self, spread))

    def mean(self, axis: Axes = None, *, keepdims: bool = False) -> Tensor:
        """Mean over an axis, several, or all."""
        total = self.sum(axis, keepdims=keepdims)
        return total / (self.data.size / total.data.size)

    def logsumexp(self, axis: int = -1, *, keepdims: bool = False) -> Tensor:
        """The logarithm of Σ eˣ along an axis, without overflow; its gradient is the softmax."""
        highest = self.data.max(axis=axis, keepdims=True)
        powers = np.exp(self.data - highest)
        total = powers.sum(axis=axis, keepdims=True)
        result = self._result(highest + np.log(total), (self, lambda g: g * powers / total))
        return result if keepdims else result.reshape(result.data.squeeze(axis).shape)

    # ---- the same numbers in another arrangement ----

    def __getitem__(self, index: Any) -> Tensor:
        def put_back(g: np.ndarray) -> np.ndarray:
            gradient = np.zeros_like(self.data, dtype=g.dtype)
            np.add.at(gradient, index, g)  # adds where an index occurs twice; gradient[index] += g would not
            return gradient

        return self._result(self.data[index], (self, put_back))

    def reshape(self, *shape: int) -> Tensor:
        """The same numbers, row by row, in another shape."""
        return self._result(self.data.reshape(*shape), (self, lambda g: g.reshape(self.shape)))

    def transpose(self, *axes: int) -> Tensor:
        """Axes in another order; reversed if none is named."""
        order = [axis % self.data.ndim for axis in axes or range(self.data.ndim - 1, -1, -1)]
        return self._result(self.data.transpose(order), (self, lambda g: g.transpose(np.argsort(order))))

    @property
    def T(self) -> Tensor:
        """The transpose: all axes reversed."""
        return self.transpose()
