"""Quantised layers: by hand, against dequantised products and torchao, rows, pieces of files, errors."""

import json
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.compress.affine import Scheme, find_grid, quantize
from lmcore.compress.linear import CompressedLinear, QuantizedLinear

FREE = Scheme(bits=4, symmetric=False, exact_zero=False)
SCHEMES = [
    Scheme(),
    Scheme(bits=4),
    Scheme(bits=3, per="group", group_size=7),
    Scheme(bits=2, symmetric=False),
    Scheme(bits=8, symmetric=False, per="tensor"),
    FREE,
]


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def static(**options):
    """A fixed grid from −3 to 3."""
    return find_grid(torch.zeros(1), Scheme(per="tensor", **options), low=-3.0, high=3.0)


ACTIVATIONS = {
    "floats": None,
    "dynamic": Scheme(),
    "dynamic tensor": Scheme(per="tensor", symmetric=False),
    "static": static(symmetric=False),
    "static symmetric": static(bits=7),
}


def test_static_by_hand():
    # W = [127, −127] with step 1; x on a grid with step 1 from −7 to 7: 2.2 → 2, 100 → 7
    grid = find_grid(torch.zeros(1), Scheme(bits=4, per="tensor"), low=-7.0, high=7.0)
    layer = QuantizedLinear(quantize(torch.tensor([[127.0, -127.0]]), Scheme()), torch.tensor([0.5]), activations=grid)
    assert layer(torch.tensor([2.2, 100.0])).item() == pytest.approx(127 * (2 - 7) + 0.5)


def test_input_scale_by_hand():
    weight, scale = torch.tensor([[3.0, -1.0]]), torch.tensor([1.0, 2.0])
    layer = QuantizedLinear(quantize(weight * scale, Scheme(bits=3)), input_scale=scale)  # codes 3, −2
    assert layer(torch.tensor([1.0, 10.0])).item() == 3 - 10


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_weights_alone_are_the_dequantised_product(scheme):
    weight, bias, x = normal(5, 21), normal(5, seed=1), normal(2, 3, 21, seed=2)
    q = quantize(weight, scheme)
    layer = QuantizedLinear(q, bias)
    assert torch.equal(layer.dequantized(), q.dequantize())
    assert torch.equal(layer(x), torch.nn.functional.linear(x, q.dequantize(), bias))
    assert layer.packed.numel() == 5 * -(-21 * scheme.bits // 8)
    assert sum(b.numel() * b.element_size() for b in layer.buffers()) == q.nbytes + 5 * 4  # and the bias


@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize("scheme", [SCHEMES[0], SCHEMES[1], SCHEMES[3], SCHEMES[4]], ids=str)
def test_whole_numbers_give_the_product_of_rounded_inputs(scheme, kind):
    weight, bias, x = normal(5, 21), normal(5, seed=1), normal(2, 3, 21, seed=2)
    layer = QuantizedLinear(quantize(weight, scheme), bias, activations=ACTIVATIONS[kind])
    activations = layer.activations
    if isinstance(activations, Scheme):
        x_rounded = quantize(x.view(-1, 21), activations).dequantize().view(x.shape)
    else:
        x_rounded = x if activations is None else activations.decode(activations.encode(x))
    expected = torch.nn.functional.linear(x_rounded, layer.dequantized(), bias)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ACTIVATIONS)
@given(st.integers(0, 5), st.integers(0, 5))
def test_rows_are_rows_of_the_whole(kind, start, stop):
    layer = QuantizedLinear(quantize(normal(5, 21), Scheme()), normal(5, seed=1), activations=ACTIVATIONS[kind])
    x = normal(3, 21, seed=2)
    torch.testing.assert_close(layer(x, slice(start, stop)), layer(x)[:, start:stop])


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_one_token_does_not_depend_on_the_others(kind):
    layer = QuantizedLinear(quantize(normal(5, 21), Scheme()), activations=ACTIVATIONS[kind])
    x = normal(3, 21, seed=2)
    torch.testing.assert_close(layer(x[1:2]), layer(x)[1:2])


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_an_empty_batch(kind):
    layer = QuantizedLinear(quantize(normal(5, 21), Scheme()), normal(5), activations=ACTIVATIONS[kind])
    assert layer(torch.zeros(2, 0, 21)).shape == (2, 0, 5)
    assert layer(torch.zeros(21)).shape == (5,)


def test_dynamic_is_near_torchao():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        theirs = torch.nn.Sequential(torch.nn.Linear(64, 48))
        weight, bias = theirs[0].weight.detach().clone(), theirs[0].bias.detach().clone()
        quantize_(theirs, Int8DynamicActivationInt8WeightConfig())
        x = normal(32, 64)
        expected = theirs(x).detach()
    got = QuantizedLinear(quantize(weight, Scheme()), bias, activations=Scheme())(x)
    exact = torch.nn.functional.linear(x, weight, bias)
    # their steps are 1 / 127.5 of the largest, ours 1 / 127: not the same numbers, but as near to the exact ones
    assert (got - exact).norm() < 1.2 * (expected - exact).norm()
    assert (got - expected).norm() < 0.01 * exact.norm()


def test_gradients_pass_to_the_inputs():
    layer = QuantizedLinear(quantize(normal(5, 21), Scheme()))
    x = normal(21).requires_grad_()
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad, layer.dequantized().sum(0))
    assert not list(layer.parameters())


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_other_floats(kind):
    layer = QuantizedLinear(quantize(normal(5, 21), Scheme()), normal(5), activations=ACTIVATIONS[kind])
    x = normal(3, 21, seed=2).bfloat16()
    assert layer(x).dtype == torch.bfloat16
    torch.testing.assert_close(layer(x).float(), layer(x.float()), rtol=0.02, atol=0.1)


@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_a_blank_layer_takes_the_state(scheme, kind):
    activations = ACTIVATIONS[kind]
    if activations is not None and (scheme.per == "group" or not scheme.exact_zero):
        activations = None
    scale = normal(21, seed=4).abs() + 0.1
    layer = QuantizedLinear(quantize(normal(5, 21), scheme), normal(5), activations=activations, input_scale=scale)
    other = QuantizedLinear.blank(json.loads(json.dumps(layer.describe())))
    other.load_state_dict(layer.state_dict())
    x = normal(3, 21, seed=2)
    assert torch.equal(other(x), layer(x))
    assert repr(other) == repr(layer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bias": torch.zeros(4)}, r"bias has shape \(4,\), must be \(5,\)"),
        ({"input_scale": torch.ones(5)}, r"input_scale has shape \(5,\), must be \(21,\)"),
        ({"input_scale": torch.zeros(21)}, "input_scale must be above 0, got 0"),
        ({"activations": Scheme(per="group", group_size=7)}, 'activations must be quantised per "row" or "tensor"'),
        ({"activations": FREE}, "activations must be quantised per"),
        ({"activations": find_grid(torch.ones(3), Scheme())}, "a fixed grid .* must be per \"tensor\", got 'row'"),
    ],
)
def test_wrong_parts(options, message):
    with pytest.raises(ValueError, match=message):
        QuantizedLinear(quantize(normal(5, 21), Scheme()), **options)


@pytest.mark.parametrize("scheme", [SCHEMES[2], SCHEMES[5]], ids=str)
def test_weights_that_whole_numbers_cannot_be_multiplied_with(scheme):
    with pytest.raises(ValueError, match="quantised activations need a weight with one grid per row and exact_zero"):
        QuantizedLinear(quantize(normal(5, 21), scheme), activations=Scheme())


def test_wrong_inputs():
    layer = QuantizedLinear(quantize(normal(5, 21), Scheme()))
    with pytest.raises(ValueError, match=r"x has shape \(2, 20\), but must end in in_features = 21"):
        layer(torch.zeros(2, 20))
    for kind in ("dynamic", "static"):
        layer = QuantizedLinear(quantize(normal(5, 21), Scheme()), activations=ACTIVATIONS[kind])
        with pytest.raises(ValueError, match="1 of 21 numbers of x are NaN or infinite"):
            layer(torch.tensor([torch.nan] + [0.0] * 20))
    with pytest.raises(ValueError, match=r"quantized must be a matrix \(out, in\), got shape \(3,\)"):
        QuantizedLinear(quantize(normal(3), Scheme()))


def test_a_layer_that_says_nothing_of_its_weight():
    layer = CompressedLinear((2, 3))
    for call in (lambda: layer(torch.ones(3)), layer.describe, lambda: CompressedLinear.blank({})):
        with pytest.raises(NotImplementedError, match="CompressedLinear"):
            call()
