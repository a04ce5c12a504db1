"""Products with 8 and 16 bits: codes by hand, the bound on their error, exact products of codes, torch's bfloat16."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.compress.affine import Scheme, quantize
from lmcore.nn.narrow_linear import LIMIT, BFloat16Linear, Int8Linear, quantize_rows, quantize_vectors


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_codes_by_hand():
    codes, scale = quantize_rows(torch.tensor([[-127.0, 0.5, 1.5, 126.6], [0.25, -0.5, 0.0, 0.125]]))
    assert codes.dtype == torch.int8
    assert codes.tolist() == [[-127, 0, 2, 127], [64, -127, 0, 32]]
    assert scale.tolist() == [[1.0], [pytest.approx(0.5 / 127)]]


@given(rows=st.integers(1, 5), n=st.integers(1, 31), size=st.sampled_from([1e-30, 1.0, 1e30]), seed=st.integers(0, 9))
def test_off_by_half_a_scale_at_most(rows, n, size, seed):
    x = size * draw(rows, n, seed=seed)
    codes, scale = quantize_rows(x)
    assert codes.min() >= -127
    assert (codes.int().abs().amax(1) == 127).all()  # the largest of each row uses the whole range
    assert ((codes * scale - x).abs() <= scale * 0.50001).all()


def test_rows_of_zeros_and_no_rows():
    codes, scale = quantize_rows(torch.zeros(2, 3))
    assert not codes.any()
    assert (scale > 0).all()
    assert quantize_rows(torch.zeros(0, 3))[0].shape == (0, 3)


def test_the_same_codes_as_those_of_compress():
    x = torch.cat([draw(7, 31), torch.zeros(1, 31), torch.arange(31.0)[None] * 127 / 30])
    expected = quantize(x, Scheme(bits=8, symmetric=True, per="row"))
    codes, scale = quantize_rows(x)
    assert torch.equal(codes, expected.codes)
    assert torch.equal(scale, expected.scale)


def test_codes_of_vectors_by_hand():
    codes, scale = quantize_vectors(
        torch.tensor([[0.0, 300.0] + 7 * [0.0], [1.0, -2.0] + 7 * [0.0]])
    )  # rms 100, √5 / 3
    assert codes.dtype == torch.int16
    assert codes.tolist() == [[0, 127] + 7 * [0], [57, -114] + 7 * [0]]
    torch.testing.assert_close(scale, torch.tensor([[300.0], [5**0.5]]) / 127)
    codes, scale = quantize_vectors(torch.zeros(3))
    assert not codes.any()
    assert scale > 0


@given(
    n=st.integers(1, 300), outliers=st.integers(0, 3), size=st.sampled_from([1e-9, 1.0, 1e9]), seed=st.integers(0, 9)
)
def test_few_codes_of_vectors_need_16_bits(n, outliers, size, seed):
    x = size * draw(n, seed=seed)
    x[:outliers] *= 1000
    codes, scale = quantize_vectors(x)
    assert (codes.abs() > 127).sum() <= n / LIMIT**2
    assert ((codes * scale - x).abs() <= scale * 0.5001).all()


@pytest.mark.parametrize("shape", [(7, 5), (1, 3), (3, 1), (131, 67)])
@pytest.mark.parametrize("leading", [(), (1,), (5,), (2, 3), (1, 1)])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("outlier", [1, 1000])
def test_int8_products_are_exact_for_the_codes(shape, leading, with_bias, outlier):
    weight, x = draw(*shape), 3 * draw(*leading, shape[1], seed=1)
    x[..., 0] *= outlier
    bias = draw(shape[0], seed=2) if with_bias else None
    c, s, d, t = (part.numpy().astype(float) for part in (*quantize_vectors(x), *quantize_rows(weight)))
    expected = (c @ d.T) * s * t[:, 0] + (0 if bias is None else bias.numpy())
    got = Int8Linear(weight, bias)(x)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6, atol=1e-5)


def test_int8_sums_that_are_large():
    n = 2**17
    assert 127 * (127 / LIMIT + 0.5) * n < 2**31
    x = torch.ones(2, n)
    torch.testing.assert_close(Int8Linear(x[:1])(x), torch.full((2, 1), float(n)), rtol=0.01, atol=0)  # codes 42
    x = torch.zeros(2, n)
    x[:, 5] = 1  # the largest code that there is, 15,326
    torch.testing.assert_close(Int8Linear(torch.ones(1, n))(x), torch.ones(2, 1), rtol=1e-4, atol=0)
    with pytest.raises(ValueError, match="131073 columns, but sums of 32 bits hold 131072"):
        Int8Linear(torch.ones(1, n + 1))


def test_int8_products_are_near_to_those_of_float32_with_outliers_too():
    weight, x = draw(61, 576), draw(5, 576, seed=1)
    # a rounding is off by a scale / √12; the scale of a row is its largest number, about 3.2, through 127
    expected = (3.2**2 + LIMIT**2) ** 0.5 / 127 / 12**0.5
    for outlier in (0.0, 1000.0):
        x[:, 7] = outlier
        error = (Int8Linear(weight)(x) - x @ weight.T).std() / x.square().mean().sqrt() / 576**0.5
        assert 0.5 < error / expected < 1.5


@pytest.mark.parametrize("with_bias", [False, True])
def test_bfloat16_products(with_bias):
    weight, x, bias = draw(7, 5), draw(3, 5, seed=1), draw(7, seed=2) if with_bias else None
    got = BFloat16Linear(weight, bias)(x)
    expected = x @ weight.to(torch.bfloat16).float().T + (0 if bias is None else bias)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)
    assert (got - x @ weight.T - (0 if bias is None else bias)).abs().max() > 1e-4  # it is rounded


def test_the_weights_are_detached():
    weight = torch.ones(3, 2, requires_grad=True)
    for product in (Int8Linear(weight), BFloat16Linear(weight)):
        assert not product.weight.requires_grad
        assert not product(torch.ones(2)).requires_grad
