"""SmoothQuant: scales by hand, models that compute the same, and rounded activations that come nearer."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchao.prototype.smoothquant.core import SmoothQuantObserver

from lmcore.compress.affine import Scheme, fake_quantize
from lmcore.compress.inputs import record_inputs
from lmcore.compress.replace import quantize_dynamic
from lmcore.compress.smoothquant import fold_into_norm, smooth, smoothing_scale
from lmcore.models.bert import BERT, BERTConfig
from lmcore.models.gpt import GPT, GPTConfig
from lmcore.nn.norm import LayerNorm, RMSNorm


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gpt(kind="llama"):
    """A small model with outliers in the outputs of its norms."""
    sizes = {"vocabulary_size": 37, "context": 23, "d_model": 24, "layers": 2, "heads": 3}
    config = GPTConfig.llama(**sizes, d_ff=40) if kind == "llama" else GPTConfig.gpt2(**sizes)
    model = GPT(config, generator=torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        for block in model.decoder.layers:
            for norm in (block.self_attention_norm, block.feed_forward_norm):
                norm.weight[3] *= 40
                norm.weight[17] *= 40
    return model, torch.randint(37, (7, 23), generator=torch.Generator().manual_seed(1))


def test_scale_by_hand():
    # channel 0: √(100 / 1) = 10; channel 1: √(1 / 1); a channel that is 0, and one that no weight reads: 1
    weights = [torch.tensor([[1.0, -1.0, 1.0, 0.0]]), torch.tensor([[0.25, 1.0, 1.0, 0.0]])]
    largest = torch.tensor([100.0, 1.0, 0.0, 5.0])
    assert smoothing_scale(largest, weights).tolist() == [10.0, 1.0, 1.0, 1.0]
    assert smoothing_scale(largest, weights, alpha=1).tolist() == [100.0, 1.0, 1.0, 1.0]
    assert smoothing_scale(torch.tensor([9.0]), [torch.tensor([[4.0]])], alpha=0).tolist() == [0.25]


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_scale_is_that_of_torchao(alpha):
    weight, x = draw(13, 7), draw(29, 7, seed=1) * draw(7, seed=2).exp()
    peer = SmoothQuantObserver(weight, alpha)
    peer(x)
    scale, _, _ = peer.calculate_qparams()
    torch.testing.assert_close(smoothing_scale(x.abs().amax(0), [weight[:5], weight[5:]], alpha=alpha), scale)


@given(st.integers(1, 9), st.integers(1, 11), st.integers(0, 50))
def test_half_makes_both_sides_equally_large(rows, columns, seed):
    x, weight = draw(19, columns, seed=seed).abs() + 0.01, draw(rows, columns, seed=seed + 1)
    scale = smoothing_scale(x.amax(0), [weight])
    torch.testing.assert_close((x / scale).amax(0), (weight * scale).abs().amax(0))


@pytest.mark.parametrize("norm", [RMSNorm(7), LayerNorm(7), LayerNorm(7, bias=False)], ids=str)
def test_folding_changes_no_product(norm):
    with torch.no_grad():
        for seed, parameter in enumerate(norm.parameters()):
            parameter.copy_(draw(7, seed=seed))
    weights, x = [draw(5, 7, seed=3), draw(3, 7, seed=4)], draw(11, 7, seed=5)
    before = [norm(x) @ weight.T for weight in weights]
    scale = draw(7, seed=6).exp()
    out = norm(x)
    fold_into_norm(norm, weights, scale)
    torch.testing.assert_close(norm(x), out / scale)
    for weight, expected in zip(weights, before, strict=True):
        torch.testing.assert_close(norm(x) @ weight.T, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_smoothed_model_computes_the_same_and_rounds_better(kind):
    model, ids = gpt(kind)
    kept = {name: p.clone() for name, p in model.named_parameters()}
    largest = {name: found.largest for name, found in record_inputs(model, [ids]).items()}
    smoothed = smooth(model, largest)
    with torch.no_grad():
        expected = model(ids)
        torch.testing.assert_close(smoothed(ids), expected, rtol=1e-4, atol=1e-4)
        tensor = Scheme(per="tensor")  # one grid for all activations of a layer, as static quantisation has
        rounded = [quantize_dynamic(m, activations=tensor)(ids) for m in (smoothed, model)]
    errors = [(y - expected).square().mean() for y in rounded]
    assert errors[0] < 0.5 * errors[1]
    assert all(torch.equal(p, kept[name]) for name, p in model.named_parameters())


def test_outliers_really_move():
    model, ids = gpt()
    names = ["decoder.layers.0.self_attention.in_proj", "decoder.layers.1.feed_forward.up"]
    before = record_inputs(model, [ids])
    after = record_inputs(smooth(model, {name: found.largest for name, found in before.items()}), [ids])
    for name in names:
        ratios = [found[name].largest.max() / found[name].largest.median() for found in (before, after)]
        assert ratios[0] > 10
        assert ratios[1] < 0.4 * ratios[0]
        x = draw(3, 24)
        assert fake_quantize(x, Scheme()).shape == x.shape


def test_errors():
    model, ids = gpt()
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\], got 1.5"):
        smoothing_scale(torch.ones(3), [torch.ones(2, 3)], alpha=1.5)
    with pytest.raises(ValueError, match=r"abs_max \(3,\) and a weight \(2, 4\)"):
        smoothing_scale(torch.ones(3), [torch.ones(2, 4)])
    with pytest.raises(ValueError, match=r"scale \(4,\) must have one number for each of the norm's 3 channels"):
        fold_into_norm(RMSNorm(3), [torch.ones(2, 3)], torch.ones(4))
    with pytest.raises(ValueError, match="scale must be above 0, got -1"):
        fold_into_norm(RMSNorm(3), [torch.ones(2, 3)], -torch.ones(3))
    with pytest.raises(ValueError, match=r"abs_max lacks 'decoder.layers.0.self_attention.in_proj'; it has nothing"):
        smooth(model, {})
    with pytest.raises(ValueError, match="Linear holds no blocks"):
        smooth(torch.nn.Linear(2, 2), {})
    bert = BERT(BERTConfig.standard(vocabulary_size=11, d_model=6, layers=2, heads=3))
    with pytest.raises(ValueError, match=r'encoder.layers.0 is of the order "post": the residual reads'):
        smooth(bert, {name: found.largest for name, found in record_inputs(bert, [ids[:, :5] % 11]).items()})
