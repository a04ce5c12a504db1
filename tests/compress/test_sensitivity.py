"""Sensitivity: what one rounded matrix does to a loss and to its own products."""

import pytest
import torch

from lmcore.compress.affine import Scheme, fake_quantize
from lmcore.compress.inputs import record_inputs
from lmcore.compress.sensitivity import loss_sensitivity, output_sensitivity, weight_replaced

WAYS = {bits: (lambda _, weight, bits=bits: fake_quantize(weight, Scheme(bits=bits))) for bits in (2, 4, 8)}


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3), torch.nn.Linear(3, 1))


def test_loss_of_each_alone():
    net, x = model(), torch.randn(31, 7)
    with torch.no_grad():
        target = net(x) + 0.1
    kept = {name: p.clone() for name, p in net.named_parameters()}

    def loss(some):
        with torch.no_grad():
            return (some(x) - target).square().mean().item()

    found = loss_sensitivity(net, loss, WAYS)
    assert all(torch.equal(p, kept[name]) for name, p in net.named_parameters())
    assert list(found) == ["0", "2", "3"]
    with torch.no_grad():
        net[2].weight.copy_(fake_quantize(net[2].weight, Scheme(bits=4)))
    assert found["2"][4] == pytest.approx(loss(net) - 0.01, abs=1e-6)
    assert abs(found["0"][8]) < abs(found["0"][2])
    assert list(loss_sensitivity(net, loss, WAYS, names=["3"])) == ["3"]


def test_a_weight_comes_back_after_an_error():
    weight = torch.nn.Parameter(torch.ones(3))
    with pytest.raises(AssertionError), weight_replaced(weight, torch.zeros(3)):
        assert weight.sum() == 3
    assert weight.tolist() == [1, 1, 1]


def test_error_of_the_products():
    net, x = model(), torch.randn(31, 7)
    grams = {name: seen.gram for name, seen in record_inputs(net, [x], gram=True).items()}
    found = output_sensitivity(net, grams, WAYS)
    weight = net[0].weight.detach()
    wrong = x @ (weight - fake_quantize(weight, Scheme(bits=2))).T
    assert found["0"][2] == pytest.approx((wrong.square().sum() / (x @ weight.T).square().sum()).item(), rel=1e-4)
    for name in found:
        assert found[name][8] < found[name][4] < found[name][2]
    with pytest.raises(ValueError, match="'7' are no matrices"):
        output_sensitivity(net, {"7": torch.eye(3)}, WAYS)
