"""NormalFloat: the levels and codes of bitsandbytes, blocks, and scales that are rounded in their turn."""

import math
from statistics import NormalDist

import pytest
import torch
from bitsandbytes import functional as peer
from hypothesis import given
from hypothesis import strategies as st

from lmcore.compress.nf4 import DoubleQuantized, normal_float_levels, quantize_nf4
from lmcore.compress.nf4_linear import NormalFloatLinear, quantize_normal_float
from lmcore.compress.replace import stored_bytes


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def their_codes(packed):
    """bitsandbytes keeps the first of two codes in the upper half of the byte."""
    return torch.stack([packed.flatten() >> 4, packed.flatten() & 15], dim=1).flatten()


def test_levels_are_those_of_bitsandbytes():
    expected = peer.create_normal_map()
    expected = torch.cat([expected[:8], expected[-8:]])  # the zeros between are padding for their table of 256
    torch.testing.assert_close(normal_float_levels(), expected, atol=1e-6, rtol=0)
    assert normal_float_levels().unique().tolist() == normal_float_levels().tolist()  # they rise
    assert normal_float_levels()[7] == 0


def test_levels_of_two_bits_by_hand():
    delta = (1 / 8 + 1 / 6) / 2
    quantile = NormalDist().inv_cdf
    middle = quantile(0.5 + (0.5 - delta) / 2) / quantile(1 - delta)
    torch.testing.assert_close(normal_float_levels(2), torch.tensor([-1, 0, middle, 1]))


@pytest.mark.parametrize("shape", [(128, 192), (64,), (3, 64, 5)])
def test_codes_scales_and_numbers_are_those_of_bitsandbytes(shape):
    x = draw(*shape)
    packed, state = peer.quantize_4bit(x, quant_type="nf4", blocksize=64)
    ours = quantize_nf4(x)
    assert torch.equal(ours.codes.flatten(), their_codes(packed))
    assert torch.equal(ours.scales, state.absmax)
    torch.testing.assert_close(ours.dequantize(), peer.dequantize_4bit(packed, state).view(shape), atol=1e-6, rtol=1e-6)


def test_double_quantisation_is_at_least_as_near_as_that_of_bitsandbytes():
    x = draw(256, 320)
    packed, state = peer.quantize_4bit(x, quant_type="nf4", blocksize=64, compress_statistics=True)
    ours, single = quantize_nf4(x, double=True), quantize_nf4(x)
    assert torch.equal(ours.codes, single.codes)
    error, theirs = (
        (y - single.dequantize()).abs().mean() for y in (ours.dequantize(), peer.dequantize_4bit(packed, state))
    )
    assert 0 < error <= theirs


def test_bytes():
    x = draw(256, 320)  # 81,920 numbers, 1,280 blocks, 5 blocks of scales
    assert quantize_nf4(x).nbytes == 40_960 + 4 * 1_280
    assert quantize_nf4(x, double=True).nbytes == 40_960 + 1_280 + 4 * 5 + 4
    assert quantize_nf4(x[:1, :5], bits=3).nbytes == 2 + 4  # 15 bits


@given(st.integers(1, 300), st.integers(1, 70), st.booleans(), st.integers(2, 5), st.integers(0, 99))
def test_the_nearest_level_of_each_block(n, block, double, bits, seed):
    x = draw(n, seed=seed)
    found = quantize_nf4(x, block=block, bits=bits, double=double)
    scales = found.scales.dequantize() if double else found.scales
    assert len(scales) == math.ceil(n / block)
    levels = normal_float_levels(bits)
    exact = torch.stack([part.abs().max() for part in x.split(block)]).repeat_interleave(block)[:n]
    distances = (x[:, None] / exact[:, None] - levels).abs()
    assert torch.allclose(distances.gather(1, found.codes.long()[:, None])[:, 0], distances.min(dim=1)[0], atol=1e-6)
    torch.testing.assert_close(found.dequantize(), levels[found.codes.long()] * scales.repeat_interleave(block)[:n])
    if not double:  # the largest of a block, and zeros, are kept
        assert torch.allclose(found.dequantize().abs().max(), x.abs().max())


def test_zeros_and_far_numbers_survive():
    x = torch.zeros(3, 70)
    x[1, 5], x[2, 69] = 1e-30, -1e30
    found = quantize_nf4(x).dequantize()
    torch.testing.assert_close(found[1, 5], x[1, 5], rtol=1e-5, atol=0)
    torch.testing.assert_close(found[2, 69], x[2, 69])
    assert torch.equal(quantize_nf4(torch.zeros(130), double=True).dequantize(), torch.zeros(130))


def test_scales_in_eight_bits_are_off_by_half_a_step():
    scales = draw(700).abs() + 1
    found = DoubleQuantized.from_scales(scales)
    steps = found.scales.repeat_interleave(256)[:700]
    assert ((found.dequantize() - scales).abs() <= steps / 2 + 1e-6).all()
    assert len(found.scales) == 3


def test_bell_shaped_numbers_are_nearer_than_with_even_levels():
    from lmcore.compress.affine import Scheme, quantize

    x = draw(64, 640)
    even = quantize(x, Scheme(bits=4, per="group", group_size=64))
    errors = [(y.dequantize() - x).square().mean() for y in (quantize_nf4(x), even)]
    assert errors[0] < 0.9 * errors[1]
    flat = torch.rand(64, 640, generator=torch.Generator().manual_seed(1)) * 2 - 1  # and evenly spread ones are not
    even = quantize(flat, Scheme(bits=4, per="group", group_size=64))
    assert (quantize_nf4(flat).dequantize() - flat).square().mean() > (even.dequantize() - flat).square().mean()


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_layer(double, bias):
    weight, x, b = draw(13, 7), draw(5, 3, 7, seed=1), draw(13, seed=2) if bias else None
    layer = NormalFloatLinear(quantize_nf4(weight, double=double, block=11, bits=3), b)
    expected = torch.nn.functional.linear(x, quantize_nf4(weight, double=double, block=11, bits=3).dequantize(), b)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer(x, rows=slice(2, 9)), expected[..., 2:9])
    again = NormalFloatLinear.blank(layer.describe())
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again(x), layer(x))
    assert not list(layer.parameters())


def test_whole_model_is_a_smaller_copy():
    model = torch.nn.Sequential(torch.nn.Linear(128, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3))
    before = {name: p.clone() for name, p in model.named_parameters()}
    small = quantize_normal_float(model, double=True)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert stored_bytes(small) < stored_bytes(model) / 6
    x = draw(5, 128)
    assert 0 < (small(x) - model(x)).abs().max() < 0.3


def test_errors():
    with pytest.raises(ValueError, match="x holds 2 numbers that are not finite"):
        quantize_nf4(torch.tensor([math.nan, 1.0, math.inf]))
    with pytest.raises(ValueError, match=r"x must hold floating-point numbers, got torch.int64 of shape \(2,\)"):
        quantize_nf4(torch.tensor([1, 2]))
    with pytest.raises(ValueError, match=r"got torch.float32 of shape \(0, 3\)"):
        quantize_nf4(torch.zeros(0, 3))
    with pytest.raises(ValueError, match="block must be a whole number of at least 1, got 0"):
        quantize_nf4(torch.ones(3), block=0)
    with pytest.raises(ValueError, match="bits must be a whole number from 2 to 8, got 9"):
        quantize_nf4(torch.ones(3), bits=9)
    with pytest.raises(ValueError, match=r"weight must be a matrix \(out, in\), got shape \(3,\)"):
        NormalFloatLinear(quantize_nf4(torch.ones(3)))
