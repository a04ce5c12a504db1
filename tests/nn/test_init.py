"""Initialisation: variances from the formulas, torch's own numbers, signals that neither grow nor fade, errors."""

import math

import pytest
import torch

from lmcore.nn import init

SHAPES = [(211, 307), (13, 7, 3, 5)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# Ours, torch's, and the variance that the formula promises for (fan_in, fan_out).
PAIRS = {
    "xavier_uniform": (init.xavier_uniform_, torch.nn.init.xavier_uniform_, lambda i, o: 2 / (i + o)),
    "xavier_normal": (init.xavier_normal_, torch.nn.init.xavier_normal_, lambda i, o: 2 / (i + o)),
    "xavier_uniform, tanh": (
        lambda w, **k: init.xavier_uniform_(w, gain=init.gain("tanh"), **k),
        lambda w, **k: torch.nn.init.xavier_uniform_(w, gain=5 / 3, **k),
        lambda i, o: 25 / 9 * 2 / (i + o),
    ),
    "kaiming_uniform": (init.kaiming_uniform_, torch.nn.init.kaiming_uniform_, lambda i, o: 2 / i),
    "kaiming_normal": (init.kaiming_normal_, torch.nn.init.kaiming_normal_, lambda i, o: 2 / i),
    "kaiming_normal, backward, leaky": (
        lambda w, **k: init.kaiming_normal_(w, mode="fan_out", nonlinearity="leaky_relu", slope=0.5, **k),
        lambda w, **k: torch.nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="leaky_relu", a=0.5, **k),
        lambda i, o: 2 / 1.25 / o,
    ),
    "normal": (
        lambda w, **k: init.normal_(w, mean=0.0, std=0.3, **k),
        lambda w, **k: torch.nn.init.normal_(w, 0.0, 0.3, **k),
        lambda i, o: 0.09,
    ),
    "uniform": (
        lambda w, **k: init.uniform_(w, low=-0.5, high=0.5, **k),
        lambda w, **k: torch.nn.init.uniform_(w, -0.5, 0.5, **k),
        lambda i, o: 1 / 12,
    ),
}


def test_by_hand():
    assert init.fan_in_and_fan_out(torch.empty(13, 7, 3, 5)) == (7 * 15, 13 * 15)
    assert init.gain("leaky_relu", slope=math.sqrt(5)) == pytest.approx(math.sqrt(1 / 3))
    assert [init.gain(name) for name in ("linear", "sigmoid", "tanh")] == [1, 1, 5 / 3]
    assert init.gain("relu") == pytest.approx(math.sqrt(2))
    weight = init.xavier_uniform_(torch.empty(211, 307), generator=generator())
    bound = math.sqrt(6 / (211 + 307))
    assert bound * 0.999 < weight.abs().max() <= bound


@pytest.mark.parametrize("nonlinearity", ["linear", "sigmoid", "tanh", "relu", "leaky_relu"])
def test_gain_equals_torch(nonlinearity):
    assert init.gain(nonlinearity) == pytest.approx(torch.nn.init.calculate_gain(nonlinearity))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", PAIRS)
def test_draws_what_torch_draws(name, shape):
    ours, theirs, _ = PAIRS[name]
    weight = torch.nn.Parameter(torch.empty(shape))
    assert ours(weight, generator=generator(3)) is weight
    assert weight.requires_grad
    torch.testing.assert_close(weight.data, theirs(torch.empty(shape), generator=generator(3)))


@pytest.mark.parametrize("name", PAIRS)
def test_mean_and_variance(name):
    ours, _, variance = PAIRS[name]
    weight = ours(torch.empty(211, 307), generator=generator(5)).double()
    expected = variance(307, 211)
    n = weight.numel()
    assert abs(weight.mean()) < 4 * math.sqrt(expected / n)
    assert weight.var() == pytest.approx(expected, rel=4 * math.sqrt(2 / n))  # 4 deviations of a normal's variance


def test_signals_keep_their_size_through_relu_layers():
    x = torch.randn(101, 307, generator=generator())
    for _ in range(7):
        x = torch.relu(x @ init.kaiming_normal_(torch.empty(307, 307), generator=generator(1)).T)
    assert 0.5 < x.square().mean() < 2  # without the gain it would be 2⁻⁷ of that


def test_zeros():
    weight = torch.nn.Parameter(torch.ones(3, 5))
    assert init.zeros_(weight, generator=generator()) is weight
    assert not weight.any()


def test_errors():
    w = torch.empty(5, 3)
    with pytest.raises(ValueError, match=r"weight has shape \(5,\); fan-in and fan-out need \(out, in, …\)"):
        init.xavier_normal_(torch.empty(5))
    with pytest.raises(ValueError, match=r"weight has shape \(5, 0\)"):
        init.kaiming_normal_(torch.empty(5, 0))
    with pytest.raises(ValueError, match=r"nonlinearity must be one of linear, .*, leaky_relu, got 'gelu'"):
        init.kaiming_uniform_(w, nonlinearity="gelu")
    with pytest.raises(ValueError, match='mode must be "fan_in" or "fan_out", got \'fan\''):
        init.kaiming_uniform_(w, mode="fan")
    with pytest.raises(ValueError, match="std must be at least 0, got -1"):
        init.normal_(w, std=-1)
    with pytest.raises(ValueError, match="low must not exceed high, got low=1, high=0"):
        init.uniform_(w, low=1, high=0)
