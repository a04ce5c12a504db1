"""Norms: numbers from paper, torch's layers with gradients, what a scale or shift of x changes, errors."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from lmcore.nn.norm import LayerNorm, RMSNorm, layer_norm_in_steps, rms_norm_in_steps


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def numbers(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def randomize(layer):
    """Weights that show it when one is forgotten."""
    with torch.no_grad():
        for seed, p in enumerate(layer.parameters(), start=5):
            p.copy_(numbers(*p.shape, seed=seed))
    return layer


# ---- hand-worked ----


def test_layer_norm_by_hand():
    layer = LayerNorm(3, eps=0.5)
    layer.load_state_dict({"weight": torch.tensor([1.0, 2, -1]), "bias": torch.tensor([0.0, 10, 0])})
    # mean of 1, 4, 4 is 3, deviations −2, 1, 1, variance (4 + 1 + 1) / 3 = 2
    s = math.sqrt(2.5)
    torch.testing.assert_close(layer(torch.tensor([[1.0, 4, 4]])), torch.tensor([[-2 / s, 10 + 2 / s, -1 / s]]))


def test_rms_norm_by_hand():
    layer = RMSNorm(3, eps=1.0)
    layer.load_state_dict({"weight": torch.tensor([1.0, 2, -1])})
    # squares 1, 4, 4: mean 3, and 3 + 1 = 4
    assert layer(torch.tensor([1.0, -2, 2])).tolist() == [0.5, -2, -1]


def test_first_parameters_change_nothing():
    x = numbers(5, 7)
    torch.testing.assert_close(LayerNorm(7, eps=0)(x), (x - x.mean(1, keepdim=True)) / x.std(1, correction=0)[:, None])
    torch.testing.assert_close(RMSNorm(7, eps=0)(x), x / x.norm(dim=1, keepdim=True) * math.sqrt(7))


def test_equal_numbers_and_zeros_give_no_nan():
    assert LayerNorm(3)(torch.full((2, 3), 5.0)).tolist() == [[0, 0, 0]] * 2
    x = torch.zeros(2, 3, requires_grad=True)
    RMSNorm(3)(x).sum().backward()
    assert x.grad.isfinite().all()


def test_repr_says_the_sizes():
    assert repr(LayerNorm(5, bias=False)) == "LayerNorm(dim=5, eps=1e-05, bias=False)"
    assert repr(RMSNorm(3)) == "RMSNorm(dim=3, eps=1e-06)"


# ---- oracle ----

PAIRS = {
    "layer norm": (lambda: LayerNorm(7), lambda: torch.nn.LayerNorm(7)),
    "without bias": (lambda: LayerNorm(7, eps=0.1, bias=False), lambda: torch.nn.LayerNorm(7, eps=0.1, bias=False)),
    "RMS norm": (lambda: RMSNorm(7), lambda: torch.nn.RMSNorm(7, eps=1e-6)),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_equals_torch_with_gradients(pair):
    ours, theirs = (make() for make in PAIRS[pair])
    randomize(ours)
    theirs.load_state_dict(ours.state_dict())
    x, weights = numbers(2, 5, 7, seed=1), numbers(2, 5, 7, seed=2)
    x, t = x.clone().requires_grad_(), x.clone().requires_grad_()
    (ours(x) * weights).sum().backward()
    (theirs(t) * weights).sum().backward()
    torch.testing.assert_close(ours(x), theirs(t))
    torch.testing.assert_close(x.grad, t.grad)
    for (name, p), (other, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert name == other
        torch.testing.assert_close(p.grad, q.grad)


@pytest.mark.parametrize("eps", [1e-6, 0.3])
@pytest.mark.parametrize("make", [LayerNorm, RMSNorm])
def test_steps_equal_the_one_pass_with_gradients(make, eps):
    layer = randomize(make(7, eps=eps)).double()
    x, weights = numbers(3, 5, 7, dtype=torch.float64), numbers(3, 5, 7, seed=1, dtype=torch.float64)
    steps = layer_norm_in_steps if make is LayerNorm else rms_norm_in_steps
    parameters = list(layer.parameters())
    x.requires_grad_()
    one_pass, in_steps = layer(x), steps(x, *parameters, eps=eps)
    torch.testing.assert_close(one_pass, in_steps)
    gradients = [torch.autograd.grad((y * weights).sum(), [x, *parameters]) for y in (one_pass, in_steps)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("make", [LayerNorm, RMSNorm])
def test_gradcheck(make):
    layer = randomize(make(5)).double()
    assert gradcheck(layer, (numbers(3, 5, dtype=torch.float64).requires_grad_(),))


def test_steps_without_weights():
    x = numbers(3, 5)
    torch.testing.assert_close(layer_norm_in_steps(x, eps=1e-5), torch.nn.functional.layer_norm(x, (5,)))
    torch.testing.assert_close(rms_norm_in_steps(x, eps=1e-6), torch.nn.functional.rms_norm(x, (5,), eps=1e-6))


# ---- property ----


@given(st.integers(0, 1000), st.floats(0.01, 100), st.floats(-100, 100))
def test_what_a_scale_and_a_shift_change(seed, scale, shift):
    x = numbers(3, 11, seed=seed, dtype=torch.float64)
    layer, rms = LayerNorm(11, eps=0).double(), RMSNorm(11, eps=0).double()
    torch.testing.assert_close(layer(scale * x + shift), layer(x))  # invariant to both
    torch.testing.assert_close(rms(scale * x), rms(x))  # invariant to the scale alone
    centred = x - x.mean(1, keepdim=True)
    torch.testing.assert_close(rms(centred), layer(x))  # equal where the mean is 0 already


def test_each_vector_by_itself():
    layer, x = randomize(LayerNorm(5)), numbers(2, 3, 5)
    torch.testing.assert_close(layer(x)[1, 2], layer(x[1, 2]))
    torch.testing.assert_close(layer.eval()(x), layer.train()(x))


# ---- errors ----


@pytest.mark.parametrize("make", [LayerNorm, RMSNorm])
def test_errors(make):
    with pytest.raises(ValueError, match="dim must be a whole number of at least 1, got 0"):
        make(0)
    with pytest.raises(ValueError, match=r"dim must be a whole number of at least 1, got 2\.5"):
        make(2.5)
    with pytest.raises(ValueError, match="eps must be at least 0, got -1"):
        make(3, eps=-1)
    with pytest.raises(ValueError, match="eps must be at least 0, got nan"):
        make(3, eps=math.nan)
    with pytest.raises(ValueError, match=r"x has shape \(2, 1\), but must end in dim = 3"):
        make(3)(torch.zeros(2, 1))
