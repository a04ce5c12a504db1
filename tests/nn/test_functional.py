"""Activations, softmax, losses, dropout: numbers from paper, torch in value and gradient, huge logits, errors."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.autograd import gradcheck, gradgradcheck

from lmcore.nn import functional
from lmcore.nn.activations import ACTIVATIONS

INF = math.inf
ELEMENTWISE = {
    "sigmoid": (functional.sigmoid, torch.sigmoid),
    "tanh": (functional.tanh, torch.tanh),
    "relu": (functional.relu, torch.relu),
    "leaky_relu": (functional.leaky_relu, oracle.leaky_relu),
    "leaky_relu 0.3": (lambda x: functional.leaky_relu(x, slope=0.3), lambda x: oracle.leaky_relu(x, 0.3)),
    "gelu": (functional.gelu, oracle.gelu),
    "gelu tanh": (lambda x: functional.gelu(x, approximate="tanh"), lambda x: oracle.gelu(x, approximate="tanh")),
    "gelu in steps": (functional.gelu_in_steps, oracle.gelu),
    "gelu tanh in steps": (
        lambda x: functional.gelu_in_steps(x, approximate="tanh"),
        lambda x: oracle.gelu(x, approximate="tanh"),
    ),
    "silu": (functional.silu, oracle.silu),
    "softplus": (functional.softplus, lambda x: -oracle.logsigmoid(-x)),
}
ALONG_AN_AXIS = {
    "logsumexp": (functional.logsumexp, torch.logsumexp),
    "softmax": (functional.softmax, torch.softmax),
    "softmax in steps": (functional.softmax_in_steps, torch.softmax),
    "softmax, T = 0.7": (lambda x, d: functional.softmax(x, d, temperature=0.7), lambda x, d: (x / 0.7).softmax(d)),
    "log_softmax": (functional.log_softmax, torch.log_softmax),
    "log_softmax in steps": (functional.log_softmax_in_steps, torch.log_softmax),
}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6}
DTYPES = list(TOLERANCE)
EDGES = [-1e4, -90.0, -20.5, -3.0, -1e-3, -0.0, 0.0, 1e-3, 3.0, 20.5, 90.0, 1e4]


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def value_and_gradient(function, x):
    """The function at x, and the gradient of its numbers' sum with random weights."""
    x = x.clone().requires_grad_()
    y = function(x)
    (gradient,) = torch.autograd.grad((y * normal(*y.shape, seed=1, dtype=y.dtype)).sum(), x)
    return y.detach(), gradient


def assert_equal(ours, theirs, x, tolerance=None):
    for a, b in zip(value_and_gradient(ours, x), value_and_gradient(theirs, x), strict=True):
        tolerance = tolerance or TOLERANCE[x.dtype]
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# ---- hand-worked ----


def test_activations_by_hand():
    x = torch.tensor([-math.log(3), 0.0, math.log(3)], dtype=torch.float64)
    for name, expected in {
        "sigmoid": [1 / 4, 1 / 2, 3 / 4],
        "tanh": [-4 / 5, 0, 4 / 5],
        "relu": [0, 0, math.log(3)],
        "leaky_relu": [-0.01 * math.log(3), 0, math.log(3)],
        "silu": [-math.log(3) / 4, 0, 3 / 4 * math.log(3)],
        "softplus": [math.log(4 / 3), math.log(2), math.log(4)],
        "gelu": [x_i * (1 + math.erf(x_i / math.sqrt(2))) / 2 for x_i in x.tolist()],
    }.items():
        assert ACTIVATIONS[name](x).tolist() == pytest.approx(expected, abs=1e-15), name


def test_softmax_by_hand():
    x = torch.log(torch.tensor([[1.0, 4.0], [2.0, 6.0], [5.0, 6.0]], dtype=torch.float64))
    assert functional.softmax(x, 0)[:, 0].tolist() == pytest.approx([1 / 8, 2 / 8, 5 / 8])
    assert functional.softmax(x, temperature=2)[0].tolist() == pytest.approx([1 / 3, 2 / 3])
    assert functional.logsumexp(x).exp().tolist() == pytest.approx([5, 8, 11])
    assert functional.log_softmax(x)[2].exp().tolist() == pytest.approx([5 / 11, 6 / 11])


def test_losses_by_hand():
    logits = torch.log(torch.tensor([[[1.0, 2.0, 5.0], [3.0, 3.0, 2.0]]], dtype=torch.float64)).requires_grad_()
    targets = torch.tensor([[2, 0]])
    loss = functional.cross_entropy(logits, targets)
    assert loss.item() == pytest.approx(-(math.log(5 / 8) + math.log(3 / 8)) / 2)
    loss.backward()  # (p − one-hot) / 2
    expected = [1 / 16, 2 / 16, -3 / 16, -5 / 16, 3 / 16, 2 / 16]
    assert logits.grad.flatten().tolist() == pytest.approx(expected)
    smooth = functional.cross_entropy(logits[:, :1], targets[:, :1], label_smoothing=0.3)
    assert smooth.item() == pytest.approx(-(0.1 * math.log(1 / 8) + 0.1 * math.log(2 / 8) + 0.8 * math.log(5 / 8)))
    alone = functional.cross_entropy(logits, targets, ignore_index=0)
    assert alone.item() == pytest.approx(-math.log(5 / 8))
    x, y = torch.log(torch.tensor([[3.0, 1 / 4]], dtype=torch.float64)), torch.tensor([[1, 0]])  # σ = 3/4 and 1/5
    bce = functional.binary_cross_entropy_with_logits
    assert bce(x, y).item() == pytest.approx(-(math.log(3 / 4) + math.log(4 / 5)) / 2)
    assert bce(x, y, pos_weight=torch.tensor([7.0, 11.0])).item() == pytest.approx(
        -(7 * math.log(3 / 4) + math.log(4 / 5)) / 2
    )
    assert functional.mse_loss(torch.tensor([1.0, 2.0]), torch.tensor([4.0, 6.0])).item() == 12.5


# ---- oracle: torch ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_activation_equals_torch(name, dtype):
    assert_equal(*ELEMENTWISE[name], 4 * normal(5, 7, 11, dtype=dtype))
    assert_equal(*ELEMENTWISE[name], torch.tensor(EDGES, dtype=dtype))
    nan = ELEMENTWISE[name][0](torch.tensor([math.nan], dtype=dtype))
    assert nan.isnan().all()  # a broken network must not look like a working one


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("name", ALONG_AN_AXIS)
def test_softmax_family_equals_torch(name, dim, dtype):
    ours, theirs = ALONG_AN_AXIS[name]
    x = 3 * normal(5, 7, 11, dtype=dtype)
    x[1, 2, 3] = -INF
    assert_equal(lambda x: ours(x, dim).exp(), lambda x: theirs(x, dim).exp(), x, 20 * TOLERANCE[dtype])
    assert_equal(lambda x: ours(x, dim), lambda x: theirs(x, dim), 3 * normal(5, 7, 11, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.3}, {"ignore_index": 3}, {"ignore_index": -7},
                                     {"label_smoothing": 1.0, "ignore_index": 3}])  # fmt: skip
def test_cross_entropy_equals_torch(options, dtype):
    targets = torch.arange(5 * 7).reshape(5, 7) * 13 % 11
    if options.get("ignore_index", 0) < 0:
        targets[[0, 2], [1, 6]] = options["ignore_index"]
    assert_equal(
        lambda x: functional.cross_entropy(x, targets, **options),
        lambda x: oracle.cross_entropy(x.reshape(-1, 11), targets.reshape(-1), **options),
        3 * normal(5, 7, 11, dtype=dtype),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_cross_entropy_equals_torch(weighted, dtype):
    targets = torch.rand(13, 5, generator=torch.Generator().manual_seed(1), dtype=dtype)
    targets[:7] = targets[:7].round()
    weight = torch.tensor([0.5, 1, 2, 3, 7], dtype=dtype) if weighted else None
    for x in (3 * normal(13, 5, dtype=dtype), torch.tensor(EDGES + [0.5] * 53, dtype=dtype).reshape(13, 5)):
        assert_equal(
            lambda x: functional.binary_cross_entropy_with_logits(x, targets, pos_weight=weight),
            lambda x: oracle.binary_cross_entropy_with_logits(x, targets, pos_weight=weight),
            x,
        )


def test_mse_equals_torch():
    target = normal(5, 7, seed=2)
    assert_equal(lambda x: functional.mse_loss(x, target), lambda x: oracle.mse_loss(x, target), normal(5, 7))


def test_dropout_drops_what_torch_drops():
    x = normal(31, 17)
    torch.manual_seed(5)
    theirs = oracle.dropout(x, 0.3)
    assert torch.equal(functional.dropout(x, 0.3, generator=torch.Generator().manual_seed(5)), theirs)


# ---- gradients by finite differences, first and second ----


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_activation_gradients(name):
    x = normal(3, 5).requires_grad_()
    assert gradcheck(ELEMENTWISE[name][0], x)
    assert gradgradcheck(ELEMENTWISE[name][0], x)


@pytest.mark.parametrize("name", ALONG_AN_AXIS)
def test_softmax_gradients(name):
    x = normal(3, 5).requires_grad_()
    assert gradcheck(lambda x: ALONG_AN_AXIS[name][0](x, 0), x)
    assert gradgradcheck(lambda x: ALONG_AN_AXIS[name][0](x, 0), x)


def test_loss_gradients():
    x, target = normal(3, 5).requires_grad_(), normal(3, 5, seed=2)
    ids, weight = torch.tensor([4, 0, 2]), torch.tensor([1.0, 2, 3, 5, 7])
    for loss in (
        lambda x: functional.cross_entropy(x, ids),
        lambda x: functional.cross_entropy(x, ids, label_smoothing=0.3, ignore_index=0),
        lambda x: functional.binary_cross_entropy_with_logits(x, target.sigmoid(), pos_weight=weight),
        lambda x: functional.mse_loss(x, target),
    ):
        assert gradcheck(loss, x)
        assert gradgradcheck(loss, x)


# ---- huge logits ----


def test_softmax_of_huge_logits():
    x = torch.tensor([[-1e4, 0, 1e4], [1e4, 1e4 - 1, -1e4], [1e4, 1e4, 1e4]])
    exact = torch.log_softmax(x.double(), -1)
    for log_softmax in (functional.log_softmax, functional.log_softmax_in_steps):
        torch.testing.assert_close(log_softmax(x), exact.float(), rtol=1e-6, atol=1e-6)
        value, gradient = value_and_gradient(log_softmax, x)
        assert value.isfinite().all()
        assert gradient.isfinite().all()
    for softmax in (functional.softmax, functional.softmax_in_steps):
        torch.testing.assert_close(softmax(x), exact.exp().float(), rtol=1e-6, atol=1e-6)
        assert value_and_gradient(softmax, x)[1].isfinite().all()
    torch.testing.assert_close(functional.logsumexp(x), torch.logsumexp(x.double(), -1).float(), rtol=1e-7, atol=0)
    assert functional.softmax(x, temperature=1e-38).isfinite().all()  # x / temperature would overflow


def test_rows_of_minus_infinity():
    x = torch.tensor([[-INF, -INF], [-INF, 0.0]])
    value, gradient = value_and_gradient(functional.logsumexp, x)
    assert value.tolist() == [-INF, 0]
    assert gradient[0].tolist() == [0, 0]
    assert gradient[1, 0] == 0 != gradient[1, 1]
    for function in (functional.softmax, functional.softmax_in_steps):
        assert function(x)[0].isnan().all()  # no distribution
        assert function(x)[1].tolist() == [0, 1]
    for function in (functional.log_softmax, functional.log_softmax_in_steps):
        assert function(x)[0].isnan().all()
        assert function(x)[1].tolist() == [-INF, 0]
    assert functional.logsumexp(torch.tensor([INF, 0.0])) == INF


def test_losses_of_huge_logits():
    x = torch.tensor([[1e4, -1e4, 0], [1e4, -1e4, 0]])
    value, gradient = value_and_gradient(lambda x: functional.cross_entropy(x, torch.tensor([0, 1])), x)
    assert value.item() == 1e4  # (0 + 2 · 10⁴) / 2
    direction = gradient / gradient[1, 0]
    torch.testing.assert_close(direction, torch.tensor([[0.0, 0, 0], [1, -1, 0]]))
    assert functional.cross_entropy(torch.tensor([[0.0, -INF]]), torch.tensor([1])) == INF
    bce = functional.binary_cross_entropy_with_logits
    assert bce(x, torch.tensor([[1, 0, 0], [0, 1, 1]])).item() == pytest.approx((2e4 + 2 * math.log(2)) / 6)
    assert value_and_gradient(lambda x: bce(x, torch.ones(2, 3)), x)[1].isfinite().all()
    assert bce(torch.tensor([20.0]), torch.tensor([1.0])).item() == pytest.approx(math.exp(-20), rel=1e-6)


# ---- properties ----


@settings(max_examples=30)
@given(
    x=arrays(np.float64, st.tuples(st.integers(1, 7), st.just(3)), elements=st.floats(-1e4, 1e4, width=16)),
    shift=st.floats(-1e4, 1e4, width=16),
)
def test_softmax_is_a_distribution_that_shifts_do_not_change(x, shift):
    x = torch.from_numpy(x)
    p = functional.softmax(x)
    torch.testing.assert_close(p.sum(-1), torch.ones(len(x), dtype=torch.float64))
    torch.testing.assert_close(functional.softmax(x + shift), p, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(functional.softmax(x, temperature=4), functional.softmax(x / 4))
    loss = functional.cross_entropy(x, torch.zeros(len(x), dtype=torch.int16))
    torch.testing.assert_close(loss, -functional.log_softmax(x)[:, 0].mean())


def test_functions_on_one_logit_are_those_on_two():
    x = 3 * normal(31)
    two = torch.stack([x, torch.zeros_like(x)], -1)
    torch.testing.assert_close(functional.softmax(two)[:, 0], functional.sigmoid(x))
    torch.testing.assert_close(functional.logsumexp(two), functional.softplus(x))
    y = torch.arange(31) % 2
    binary = functional.binary_cross_entropy_with_logits(x, y)
    torch.testing.assert_close(functional.cross_entropy(two, 1 - y), binary)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_expectation(p):
    n = 200_003
    y = functional.dropout(torch.ones(n), p, generator=torch.Generator().manual_seed(7))
    dropped = (y == 0).double().mean().item()
    error = math.sqrt(p * (1 - p) / n)  # of the share, standard deviation
    assert abs(dropped - p) < 4 * error
    assert abs(y.double().mean().item() - 1) < 4 * error / (1 - p)
    torch.testing.assert_close(y[y != 0], torch.full((int((y != 0).sum()),), 1 / (1 - p)))


def test_dropout_of_zero_is_the_identity():
    x = normal(5, 7)
    assert functional.dropout(x, 0) is x
    a, b = (functional.dropout(x, 0.5, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert not torch.equal(a, b)


# ---- errors ----


@pytest.mark.parametrize(("targets", "options", "message"), [
    ([[0, 1, 2], [1, 3, 0]], {}, r"targets\[1, 1\] = 3 is outside 0 … 2: there are 3 classes"),
    ([[0, -1, 2], [1, 3, 0]], {}, r"targets\[0, 1\] = -1 is outside 0 … 2"),
    ([[0, -1, 2], [1, 3, 0]], {"ignore_index": -1}, r"targets\[1, 1\] = 3 is outside"),
    ([[0.0, 1, 2], [1, 2, 0]], {}, "targets must be whole numbers, the ids of the classes, got torch.float32"),
    ([[True] * 3] * 2, {}, "got torch.bool"),
    ([0, 1, 2, 1, 2, 0], {}, r"targets has shape \(6,\), but logits \(2, 3, 3\) needs \(2, 3\)"),
    ([[5] * 3] * 2, {"ignore_index": 5}, "no row counts: logits is empty, or all targets are ignore_index = 5"),
    ([[0] * 3] * 2, {"label_smoothing": 1.1}, r"label_smoothing must be in \[0, 1\], got 1.1"),
])  # fmt: skip
def test_cross_entropy_names_what_is_wrong(targets, options, message):
    with pytest.raises(ValueError, match=message):
        functional.cross_entropy(torch.zeros(2, 3, 3), torch.tensor(targets), **options)


def test_cross_entropy_of_one_row_without_a_batch():
    loss = functional.cross_entropy(torch.zeros(3), torch.tensor(1))
    assert loss.item() == pytest.approx(math.log(3))


def test_cross_entropy_of_nothing():
    with pytest.raises(ValueError, match="no row counts: logits is empty"):
        functional.cross_entropy(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))


def test_binary_cross_entropy_names_what_is_wrong():
    bce, x = functional.binary_cross_entropy_with_logits, torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"logits has shape \(2, 3\), targets \(2,\)"):
        bce(x, torch.zeros(2))
    with pytest.raises(ValueError, match="targets holds 2, but each is 0"):
        bce(x, torch.tensor([[0, 1, 2], [0, 0, 0]]))
    with pytest.raises(ValueError, match="targets holds nan"):
        bce(x, torch.full((2, 3), math.nan))
    with pytest.raises(ValueError, match=r"pos_weight has shape \(2,\), must be \(3,\)"):
        bce(x, x, pos_weight=torch.ones(2))


def test_other_arguments_out_of_range():
    x = torch.zeros(3, 2)
    for temperature in (0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"temperature must be above zero, got {temperature}"):
            functional.softmax(x, temperature=temperature)
    for p in (-0.1, 1, 1.5, math.nan):
        with pytest.raises(ValueError, match=rf"p must be in \[0, 1\), got {p}"):
            functional.dropout(x, p)
    with pytest.raises(ValueError, match=r"pred has shape \(3, 2\), target \(3,\)"):
        functional.mse_loss(x, torch.zeros(3))
    with pytest.raises(ValueError, match='approximate must be "none" or "tanh", got \'erf\''):
        functional.gelu(x, approximate="erf")
