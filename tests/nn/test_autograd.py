"""The autograd engine: chain rules from paper, every operation against torch.autograd, a whole training run, errors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from lmcore.nn.autograd import Tensor, unbroadcast

# Each operation in our notation and in torch's, and the shapes of its operands.
UNARY = {
    "neg": (lambda x: -x, lambda x: -x),
    "exp": (lambda x: x.exp(), lambda x: x.exp()),
    "log": (lambda x: x.log(), lambda x: x.log()),
    "tanh": (lambda x: (x - 1.5).tanh(), lambda x: (x - 1.5).tanh()),
    "relu": (lambda x: (x - 1.5).relu(), lambda x: (x - 1.5).relu()),
    "sigmoid": (lambda x: (x - 1.5).sigmoid(), lambda x: (x - 1.5).sigmoid()),
    "square": (lambda x: x**2, lambda x: x**2),
    "root": (lambda x: x**0.5, lambda x: x**0.5),
    "reciprocal": (lambda x: 1 / x, lambda x: 1 / x),
    "power 0": (lambda x: x**0 * x, lambda x: x**0 * x),
    "from three": (lambda x: 3 - x, lambda x: 3 - x),
    "number on the left": (lambda x: 2 * x + (1 + x), lambda x: 2 * x + (1 + x)),
    "used twice": (lambda x: x * x + x.exp() * x, lambda x: x * x + x.exp() * x),
    "sum": (lambda x: x.sum(), lambda x: x.sum()),
    "sum axis": (lambda x: x.sum(1), lambda x: x.sum(1)),
    "sum axes": (lambda x: x.sum((0, -1), keepdims=True), lambda x: x.sum((0, -1), keepdim=True)),
    "mean": (lambda x: x.mean(), lambda x: x.mean()),
    "mean axis": (lambda x: x.mean(-1, keepdims=True), lambda x: x.mean(-1, keepdim=True)),
    "mean axes": (lambda x: x.mean((0, 2)), lambda x: x.mean((0, 2))),
    "logsumexp": (lambda x: x.logsumexp(), lambda x: x.logsumexp(-1)),
    "logsumexp axis": (lambda x: x.logsumexp(1, keepdims=True), lambda x: x.logsumexp(1, keepdim=True)),
    "reshape": (lambda x: x.reshape(5, -1), lambda x: x.reshape(5, -1)),
    "reshape to a tuple": (lambda x: x.reshape((3, 10)), lambda x: x.reshape((3, 10))),
    "T": (lambda x: x.T, lambda x: x.permute(2, 1, 0)),
    "transpose": (lambda x: x.transpose(1, 2, 0), lambda x: x.permute(1, 2, 0)),
    "transpose, negative": (lambda x: x.transpose(-1, 0, -2), lambda x: x.permute(-1, 0, -2)),
    "slice": (lambda x: x[:, 1:], lambda x: x[:, 1:]),
    "row": (lambda x: x[1], lambda x: x[1]),
    "last axis": (lambda x: x[..., 2], lambda x: x[..., 2]),
    "rows, one twice": (lambda x: x[[1, 0, 1]], lambda x: x[[1, 0, 1]]),
    "pairs": (lambda x: x[[0, 1, 1], [2, 0, 0]], lambda x: x[[0, 1, 1], [2, 0, 0]]),
}
BINARY = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "/": lambda x, y: x / y,
}
MATMUL = [((2, 3), (3, 5)), ((7, 2, 3), (3, 5)), ((2, 3), (7, 3, 5)), ((7, 1, 2, 3), (5, 3, 2)), ((3,), (3,)),
          ((3,), (3, 5)), ((2, 3), (3,)), ((7, 2, 3), (3,)), ((3,), (7, 3, 5))]  # fmt: skip


def positive(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.5, 2.5, size=shape)


def both(ours, theirs, *arrays):
    """Values and gradients of all operands, ours and torch's, after a backward pass with random weights."""
    xs = [Tensor(array, requires_grad=True) for array in arrays]
    ts = [torch.tensor(array, requires_grad=True) for array in arrays]
    y, t = ours(*xs), theirs(*ts)
    weights = np.random.default_rng(1).normal(size=y.shape)
    y.backward(weights)
    t.backward(torch.tensor(weights).reshape(t.shape))
    return [y.data, *(x.grad for x in xs)], [t.detach().numpy(), *(t.grad.numpy() for t in ts)]


def assert_equal(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


# ---- hand-worked ----


def test_one_neuron_by_hand():
    w, x, b = Tensor([2.0, -3.0], requires_grad=True), Tensor([1.0, 0.5]), Tensor(0.5, requires_grad=True)
    y = (w @ x + b).sigmoid()  # the sigmoid of 2 − 1.5 + 0.5 = 1
    loss = (y - 1) ** 2
    loss.backward()
    s = 1 / (1 + np.exp(-1))
    slope = 2 * (s - 1) * s * (1 - s)
    assert loss.data == pytest.approx((s - 1) ** 2)
    assert w.grad == pytest.approx(slope * np.array([1.0, 0.5]))
    assert b.grad == pytest.approx(slope)
    assert y.grad == pytest.approx(2 * (s - 1))  # what lies between has a gradient, too
    assert x.grad is None


def test_gradients_add_up_and_a_graph_may_be_walked_again():
    x = Tensor([3.0], requires_grad=True)
    y = x * x
    y.backward()
    y.backward()
    assert x.grad == pytest.approx(12)
    (x * 5).backward()
    assert x.grad == pytest.approx(17)
    x.grad = None
    (x * 5).backward()
    assert x.grad == pytest.approx(5)


def test_changing_a_gradient_changes_no_other():
    x = Tensor([3.0, 4.0], requires_grad=True)
    y = x + 1
    y.backward(np.ones(2))
    x.grad *= 0
    assert y.grad.tolist() == [1, 1]


def test_relu_has_gradient_zero_at_zero():
    x = Tensor([-1.0, 0.0, 2.0], requires_grad=True)
    x.relu().sum().backward()
    assert x.grad.tolist() == [0, 0, 1]


def test_power_zero_has_gradient_zero_also_at_zero():
    x = Tensor([0.0, 3.0], requires_grad=True)
    (x**0).sum().backward()
    assert x.grad.tolist() == [0, 0]


def test_large_numbers_do_not_overflow():
    x = Tensor([[-1e4, 0.0, 1e4], [1e4, 1e4, -1e4]], requires_grad=True)
    with np.errstate(all="raise", under="ignore"):
        (x.logsumexp() + x.sigmoid().sum(1)).sum().backward()
    np.testing.assert_allclose(x.logsumexp().data, [1e4, 1e4 + np.log(2)])
    np.testing.assert_allclose(x.grad, [[0, 0.25, 1], [0.5, 0.5, 0]], atol=1e-12)


def test_dtype_stays():
    x = Tensor(np.float32([1, 2]), requires_grad=True)
    y = (2 * x / 3 + 0.1) ** 2
    assert y.data.dtype == np.float32
    (y * np.ones(2)).sum().backward()  # computed in double precision from here on
    assert x.grad.dtype == np.float32


def test_a_deep_graph():
    x = Tensor(1.0, requires_grad=True)
    y = x
    for _ in range(10_000):
        y = y + x * 0.5
    y.backward()
    assert x.grad == pytest.approx(5001)


# ---- oracle: torch ----


@pytest.mark.parametrize("name", UNARY)
def test_operation_equals_torch(name):
    assert_equal(*both(*UNARY[name], positive(2, 3, 5)))


@pytest.mark.parametrize("name", BINARY)
@settings(max_examples=40)
@given(shapes=mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3), constant=st.booleans())
def test_broadcasting_equals_torch(name, shapes, constant):
    x, y = (positive(*shape, seed=i) for i, shape in enumerate(shapes.input_shapes))
    assert_equal(*both(BINARY[name], BINARY[name], x, y))
    if constant:  # an array on either side
        assert_equal(
            *both(lambda t: BINARY[name](t, y) + BINARY[name](y, t),
                  lambda t: BINARY[name](t, torch.tensor(y)) + BINARY[name](torch.tensor(y), t), x)
        )  # fmt: skip


@pytest.mark.parametrize(("left", "right"), MATMUL)
def test_matrix_product_equals_torch(left, right):
    x, y = positive(*left), positive(*right, seed=1)
    assert_equal(*both(lambda x, y: x @ y, lambda x, y: x @ y, x, y))
    assert_equal(*both(lambda y: x @ y, lambda y: torch.tensor(x) @ y, y))


def network(kind, weights):
    """A batch's cross-entropy under an MLP, in operations that ours and torch's tensors share."""
    w1, b1, w2, b2 = weights

    def loss(x, y):
        h = (kind(x) @ w1.T + b1).tanh()
        logits = h @ w2.T + b2
        rows = list(range(len(y)))
        return (logits.logsumexp(-1) - logits[rows, list(y)]).mean()

    return loss


@pytest.mark.parametrize("batch", [13, 53])
def test_training_equals_torch(batch):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(53, 7)), rng.integers(3, size=53)
    first = [rng.normal(size=shape) for shape in [(11, 7), (11,), (3, 11), (3,)]]
    ours = [Tensor(w, requires_grad=True) for w in first]
    theirs = [torch.tensor(w, requires_grad=True) for w in first]
    loss, oracle = network(Tensor, ours), network(torch.tensor, theirs)
    sgd = torch.optim.SGD(theirs, lr=0.3)
    losses = []
    for step in range(100):
        chosen = np.arange(step * batch, (step + 1) * batch) % 53
        for w in ours:
            w.grad = None
        value = loss(x[chosen], y[chosen])
        value.backward()
        losses.append(float(value.data))
        for w in ours:
            w.data -= 0.3 * w.grad
        sgd.zero_grad()
        oracle(x[chosen], y[chosen]).backward()
        sgd.step()
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    for w, start, t in zip(ours, first, theirs, strict=True):
        assert np.abs(w.data - start).max() > 0.1
        np.testing.assert_allclose(w.data, t.detach().numpy(), rtol=0, atol=1e-10)


# ---- properties ----


@pytest.mark.parametrize("name", UNARY)
def test_operation_equals_finite_differences(name):
    ours, x, step = UNARY[name][0], positive(2, 3, 5, seed=2), 1e-6
    variable = Tensor(x, requires_grad=True)
    y = ours(variable)
    weights = np.random.default_rng(1).normal(size=y.shape)
    y.backward(weights)
    for where in np.ndindex(x.shape):
        moved = np.zeros_like(x)
        moved[where] = step
        slope = ((ours(Tensor(x + moved)).data - ours(Tensor(x - moved)).data) * weights).sum() / (2 * step)
        assert variable.grad[where] == pytest.approx(slope, rel=1e-6, abs=1e-7)


@given(shapes=mutually_broadcastable_shapes(num_shapes=1, max_dims=4, max_side=5), seed=st.integers(0, 99))
def test_unbroadcast_is_the_transpose_of_broadcasting(shapes, seed):
    rng = np.random.default_rng(seed)
    (shape,) = shapes.input_shapes
    wide = np.broadcast_shapes(shape, (2, *[1 if n > 1 else 3 for n in shape]))
    x, g = rng.normal(size=shape), rng.normal(size=wide)
    assert unbroadcast(g, shape).shape == shape
    assert (x * unbroadcast(g, shape)).sum() == pytest.approx((np.broadcast_to(x, wide) * g).sum())


# ---- errors ----


def test_backward_refuses_what_is_no_loss():
    x = Tensor(np.ones((2, 3)), requires_grad=True)
    with pytest.raises(ValueError, match=r"shape \(2, 3\) is not one loss"):
        (x * 2).backward()
    with pytest.raises(ValueError, match=r"gradient has shape \(3,\), the tensor \(2, 3\)"):
        (x * 2).backward(np.ones(3))
    with pytest.raises(ValueError, match="nothing that this tensor was computed from has requires_grad"):
        Tensor(1.0).backward()
    assert x.grad is None


def test_data_must_be_differentiable():
    with pytest.raises(TypeError, match="requires_grad needs floating-point data, got int64"):
        Tensor([1, 2], requires_grad=True)
    assert Tensor([1, 2]).data.dtype == np.int64
    with pytest.raises(TypeError, match="the exponent must be a number, got Tensor"):
        Tensor(2.0) ** Tensor(2.0)


def test_shapes_must_fit():
    x = Tensor(np.ones((2, 3)), requires_grad=True)
    with pytest.raises(ValueError, match=r"shapes \(2,3\) \(5,3\)"):
        x + np.ones((5, 3))
    with pytest.raises(ValueError, match=r"cannot multiply shapes \(2, 3\) @ \(2, 3\)"):
        x @ x
    with pytest.raises(ValueError, match=r"cannot multiply shapes \(\) @ \(2, 3\)"):
        2 @ x
