"""Products of quantised matrices: by hand, against floats, errors."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.compress.affine import Scheme, quantize
from lmcore.compress.integer_matmul import affine_product

ASYMMETRIC = {"symmetric": False}


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_zero_points_by_hand():
    # x = 1 · ([3, 5] − 2) = [1, 3], w = 2 · ([1, 4] − 1) = [0, 6]: 18
    x = quantize(torch.tensor([[-2.0, 253.0, 1.0, 3.0]]), Scheme(**ASYMMETRIC))
    w = quantize(torch.tensor([[-2.0, 508.0, 0.0, 6.0]]), Scheme(**ASYMMETRIC))
    assert (x.zero_point.item(), w.zero_point.item(), x.scale.item(), w.scale.item()) == (2, 1, 1.0, 2.0)
    assert affine_product(x, w).item() == 4 + 253 * 508 + 0 + 18


@given(
    st.booleans(), st.booleans(), st.sampled_from(["tensor", "row"]), st.sampled_from(["tensor", "row"]),
    st.integers(2, 8), st.integers(2, 8), st.sampled_from([1, 2, 13]), st.integers(0, 100),
)  # fmt: skip
def test_same_as_the_product_of_what_the_codes_stand_for(sym_x, sym_w, per_x, per_w, bits_x, bits_w, n, seed):
    x = quantize(normal(3, n, seed=seed) + 0.3, Scheme(bits=bits_x, symmetric=sym_x, per=per_x))
    w = quantize(normal(5, n, seed=seed + 1) - 0.2, Scheme(bits=bits_w, symmetric=sym_w, per=per_w))
    exact = x.dequantize().double() @ w.dequantize().double().T
    torch.testing.assert_close(affine_product(x, w).double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "scheme", [Scheme(per="group", group_size=3), Scheme(symmetric=False, exact_zero=False)], ids=["group", "free"]
)
def test_grids_that_cannot_stand_before_the_sum(scheme):
    good, bad = quantize(normal(2, 6), Scheme()), quantize(normal(2, 6), scheme)
    with pytest.raises(ValueError, match='x must be quantised per "tensor" or "row", with exact_zero'):
        affine_product(bad, good)
    with pytest.raises(ValueError, match="w must be quantised"):
        affine_product(good, bad)


def test_sums_that_int32_cannot_hold():
    x = quantize(torch.ones(1, 33_026), Scheme(symmetric=False))
    with pytest.raises(ValueError, match="a sum of 33,026 products of up to 65,025 may not fit into int32"):
        affine_product(x, x)
    fits = quantize(torch.ones(1, 33_025), Scheme(symmetric=False))
    assert affine_product(fits, fits).item() == pytest.approx(33_025, rel=1e-5)
