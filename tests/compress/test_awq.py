"""AWQ: the scale by hand, its error against rounding to nearest, and a whole model."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.compress.affine import Scheme, quantize
from lmcore.compress.awq import awq, quantize_awq, scale_from
from lmcore.compress.gptq import output_error
from lmcore.compress.replace import matrices, quantize_weights
from lmcore.models.gpt import GPT, GPTConfig


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def case(rows=13, columns=42, seed=0):
    """A matrix, and inputs of which a few are twenty times as large as the others."""
    x = draw(101, columns, seed=seed)
    x[:, ::11] *= 20
    return draw(rows, columns, seed=seed + 1), x


def test_scale_by_hand():
    # 4, 1 and, for the input that never came, the smallest of the others; √(4 · 1) = 2
    assert scale_from(torch.tensor([16.0, 1.0, 0.0]), 0.5).tolist() == [2.0, 0.5, 0.5]
    assert scale_from(torch.tensor([16.0, 1.0]), 0.0).tolist() == [1.0, 1.0]
    assert scale_from(torch.zeros(3), 0.5).tolist() == [1.0, 1.0, 1.0]


def test_scales_move_no_product():
    weight, x = case()
    scale = scale_from(x.abs().mean(0), 0.7)
    torch.testing.assert_close((x / scale) @ (weight * scale).T, x @ weight.T, rtol=1e-4, atol=1e-4)


SCHEMES = [Scheme(bits=3), Scheme(bits=4, symmetric=False), Scheme(bits=3, per="group", group_size=7)]


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_much_less_error_where_few_inputs_are_large(scheme, seed):
    weight, x = case(seed=10 * seed)
    found = awq(weight, x.abs().mean(0), x.T @ x, scheme)
    plain = output_error(weight, quantize(weight, scheme).dequantize(), x.T @ x)
    mine = output_error(weight, found.dequantize(), x.T @ x)
    assert found.alpha > 0
    assert mine < 0.6 * plain
    assert found.errors[0.0] == pytest.approx(plain, rel=1e-4)
    assert found.errors[found.alpha] == min(found.errors.values()) == pytest.approx(mine, rel=1e-4)
    # what the layer computes: rounded columns, inputs divided
    y = (x / found.input_scale) @ found.quantized.dequantize().T
    torch.testing.assert_close(y, x @ found.dequantize().T, rtol=1e-4, atol=1e-3)


@given(st.integers(1, 9), st.integers(1, 13), st.integers(2, 5), st.integers(0, 50), st.integers(1, 7))
def test_never_worse_than_rounding(rows, columns, bits, seed, steps):
    weight, x = case(rows, columns, seed)
    gram, scheme = (x.T @ x).double(), Scheme(bits=bits)
    found = awq(weight, x.abs().mean(0), gram, scheme, steps=steps)
    plain = output_error(weight, quantize(weight, scheme).dequantize(), gram)
    assert output_error(weight, found.dequantize(), gram) <= plain * (1 + 1e-4) + 1e-12
    assert len(found.errors) == steps


def test_matrices_under_one_another_share_their_scale():
    weight, x = case()
    other = draw(5, 42, seed=9)
    both = awq(torch.cat([weight, other]), x.abs().mean(0), x.T @ x, SCHEMES[0])
    expected = quantize(other * both.input_scale, SCHEMES[0]).codes
    assert torch.equal(both.quantized.codes[13:], expected)


def test_whole_model():
    config = GPTConfig.llama(vocabulary_size=37, context=23, d_model=24, d_ff=40, layers=2, heads=3, tied=True)
    model = GPT(config, generator=torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        for block in model.decoder.layers:
            block.feed_forward_norm.weight[::9] *= 20
    kept = {name: p.clone() for name, p in model.named_parameters()}
    ids = torch.randint(37, (7, 23), generator=torch.Generator().manual_seed(1))
    scheme = Scheme(bits=4)
    names = [name for name in matrices(model) if name.endswith(("up", "gate"))]
    small = quantize_awq(model, ids.split(3), scheme, steps=10, names=names)
    plain = quantize_weights(model, scheme, names=names)
    with torch.no_grad():
        errors = [(other(ids) - model(ids)).square().mean() for other in (small, plain)]
    assert errors[0] < 0.7 * errors[1]
    assert all(torch.equal(p, kept[name]) for name, p in model.named_parameters())
    assert small.decoder.layers[0].feed_forward.up.input_scale.shape == (24,)


def test_errors():
    weight, x = case()
    with pytest.raises(ValueError, match=r"mean_abs \(3,\) and gram \(42, 42\) must be"):
        awq(weight, torch.ones(3), x.T @ x, SCHEMES[0])
    with pytest.raises(ValueError, match="a mean of absolute values is at least 0"):
        awq(weight, -x.abs().mean(0), x.T @ x, SCHEMES[0])
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1, got 0"):
        awq(weight, x.abs().mean(0), x.T @ x, SCHEMES[0], steps=0)
    model = torch.nn.ModuleDict({"used": torch.nn.Linear(3, 2), "unused": torch.nn.Linear(3, 2)})
    model.forward = lambda x: model["used"](x)
    with pytest.raises(ValueError, match="unused: no batch has reached this matrix"):
        quantize_awq(model, [torch.ones(1, 3)], SCHEMES[0])
