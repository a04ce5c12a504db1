"""The linear layer of one pass: by hand, equal to its steps in both formats, where the pass does not work, errors."""

import pytest
import torch

from lmcore.nn import fused_linear
from lmcore.nn.fused_linear import FusedLinear, linear_in_steps


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["one pass", "steps"])
def way(request, monkeypatch):
    if request.param == "steps":
        monkeypatch.setattr(fused_linear, "_packed", lambda weight, bias: None)
    return request.param


def test_by_hand(way):
    layer = FusedLinear(torch.tensor([[1.0, 2], [0, -1], [3, 0]]), torch.tensor([0.0, 1, -4]))
    x = torch.tensor([[1.0, 1]])
    assert layer(x).tolist() == [[3, 0, -1]]
    assert layer(x, residual=torch.tensor([[10.0, 20, 30]])).tolist() == [[13, 20, 29]]
    torch.testing.assert_close(layer(x, activation="gelu"), torch.tensor([[2.99595, 0, -0.15866]]))  # 3 Φ(3), −Φ(−1)
    assert way == "one pass" or not layer.fused


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"activation": "gelu"}, {"residual": True}])
def test_as_the_steps(way, dtype, options):
    weight, bias, x = numbers(13, 7), numbers(13, seed=1), numbers(11, 7, seed=2)
    if "residual" in options:
        options = {"residual": numbers(11, 13, seed=3)}
    expected = linear_in_steps(x, weight, bias, **options)
    layer = FusedLinear(weight, bias, dtype=dtype)
    options = {name: value.to(dtype) if name == "residual" else value for name, value in options.items()}
    found = layer(x.to(dtype), **options)
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 4e-2
    torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=tolerance)


def test_an_operator_that_is_not_there_is_not_needed(monkeypatch):
    class Nothing:
        mkldnn = object()

    monkeypatch.setattr(fused_linear.torch, "ops", Nothing())
    layer = FusedLinear(torch.ones(1, 1), torch.ones(1))
    assert not layer.fused
    assert layer(torch.ones(1, 1)).tolist() == [[2]]


def test_the_weights_are_copied(way):
    weight, bias = torch.ones(1, 1), torch.zeros(1)
    layer = FusedLinear(weight, bias)
    weight += 1
    bias += 1
    assert layer(torch.ones(1, 1)).tolist() == [[1]]


def test_errors():
    layer = FusedLinear(torch.ones(1, 1), torch.ones(1))
    with pytest.raises(ValueError, match='activation must be "none", or "gelu" without residual, got \'relu\''):
        layer(torch.ones(1, 1), activation="relu")
    with pytest.raises(ValueError, match="\"gelu\" without residual, got 'gelu'"):
        layer(torch.ones(1, 1), activation="gelu", residual=torch.ones(1, 1))
