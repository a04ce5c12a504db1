"""The layer that produces a NaN or an infinity is named; nothing is left behind."""

import pytest
import torch

from lmcore.nn.layers import MLP, Linear
from lmcore.nn.non_finite import raise_on_non_finite
from lmcore.nn.recurrent import LSTM


class Tagger(torch.nn.Module):
    """An LSTM and a linear map, with an output that holds tensors in a dict."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.encoder = torch.nn.ModuleDict({"lstm": LSTM(3, 5, num_layers=2, generator=draw)})
        self.output = Linear(5, 2, generator=draw)

    def forward(self, x):
        hidden, state = self.encoder["lstm"](x)
        return {"scores": self.output(hidden), "state": state}


class Root(torch.nn.Module):
    """√x, whose slope at zero is infinite, after a layer."""

    def __init__(self):
        super().__init__()
        self.inner = Linear(2, 3, generator=torch.Generator().manual_seed(0))

    def forward(self, x):
        return self.inner(x).square().sqrt() if x.sum() else (0 * self.inner(x)).sqrt()


def test_all_is_well():
    model, x = Tagger(), torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(1))
    with raise_on_non_finite(model):
        model(x)["scores"].sum().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    model(x)["scores"].sum().backward()
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), expected, strict=True))


def test_the_innermost_layer_and_the_output_are_named():
    model = Tagger()
    x = torch.zeros(2, 7, 3)
    x[1, 5] = torch.nan
    message = r"the output\[0\] of 'encoder\.lstm' \(LSTM\) is not finite: 10 NaN of 70 numbers, shape \(2, 7, 5\), "
    with pytest.raises(FloatingPointError, match=message + r"the first at \[1, 5, 0\]"), raise_on_non_finite(model):
        model(x)


def test_a_state_in_a_tuple_is_looked_at():
    layer, x = LSTM(3, 5), torch.zeros(1, 2, 3)
    c = torch.zeros(1, 1, 5)
    c[0, 0, 4] = torch.inf
    # h = o · tanh(∞) is finite; only c is not
    match = r"the output\[1\]\[1\] of the model \(LSTM\) is not finite: 1 infinite of 5 numbers"
    with pytest.raises(FloatingPointError, match=match), raise_on_non_finite(layer):
        layer(x, (torch.zeros(1, 1, 5), c))


def test_nan_and_infinite_are_told_apart():
    model = MLP([3, 2])
    with torch.no_grad():
        model[0].weight[1, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="1 NaN and 1 infinite of 2 numbers"), raise_on_non_finite(model):
        model(torch.tensor([[1.0, torch.inf, 0.0]]).nan_to_num(posinf=torch.inf))


def test_gradients():
    model, x = Root(), torch.zeros(1, 2)
    # the slope of √ at 0 is infinite, times the 0 before it NaN
    with (
        pytest.raises(
            FloatingPointError, match=r"the gradient of the output of 'inner' \(Linear\) is not finite: 3 NaN"
        ),
        raise_on_non_finite(model),
    ):
        model(x).sum().backward()
    with raise_on_non_finite(model, gradients=False):
        model(x).sum().backward()


def test_a_gradient_of_a_parameter_that_no_layer_gives_out():
    model = torch.nn.Module()
    model.scale = torch.nn.Parameter(torch.zeros(3))
    with (
        pytest.raises(FloatingPointError, match="the gradient of the parameter 'scale' is not finite: 3 infinite of 3"),
        raise_on_non_finite(model),
    ):
        model.scale.sqrt().sum().backward()


def test_nothing_is_left_behind():
    model, bad = Root(), torch.zeros(1, 2)
    with raise_on_non_finite(model):
        y = model(bad)
    y.sum().backward()  # outside: quiet, though the graph was built inside
    assert not model.inner.weight.grad.isfinite().all()
    with pytest.raises(RuntimeError, match="mine"), raise_on_non_finite(model):
        raise RuntimeError("mine")
    assert not model(torch.full((1, 2), torch.inf)).isfinite().all()  # quiet again
    assert not model._forward_hooks
    assert not model.inner._forward_hooks
    assert not any(p._backward_hooks for p in model.parameters())


def test_whole_numbers_pass():
    class Ids(torch.nn.Module):
        def forward(self, x):
            return x

    with raise_on_non_finite(Ids()):
        assert Ids()(torch.tensor([1])).item() == 1
