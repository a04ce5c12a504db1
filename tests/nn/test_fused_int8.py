"""The linear layer of 8-bit codes: by hand, equal to its steps and to whole numbers, bound of the error, errors."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lmcore.nn import fused_int8
from lmcore.nn.functional import gelu
from lmcore.nn.fused_int8 import FusedInt8Linear, RoundedRows, round_rows
from lmcore.nn.fused_linear import FusedLinear
from lmcore.nn.integer_product import has_fast_product

ROWS = hnp.arrays(np.float32, (3, 7), elements=st.floats(-1e4, 1e4, width=32)).map(torch.from_numpy)


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer(rows=13, columns=19, **options):
    return FusedInt8Linear(numbers(rows, columns), numbers(rows, seed=1), **options)


WAYS = ["passes", "no numba", "no product"]


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    if request.param == "no numba":
        monkeypatch.setattr(fused_int8, "_compiled_loops", lambda: None)
    if request.param == "no product":
        monkeypatch.delattr(torch, "_int_mm")
        has_fast_product.cache_clear()
    yield request.param
    has_fast_product.cache_clear()


# ---- hand-worked ----


def test_rounding_by_hand():
    # 0 … 254 in steps of 1 about 127; halves go to even codes; −3 … 505 in steps of 2 about 251
    x = torch.tensor([[0.0, 254.0, 127.5, 128.5, 3.0], [-3.0, 505.0, 251.0, 254.0, 256.0], [4.0, 4.0, 4.0, 4.0, 4.0]])
    codes, steps, middles = round_rows(x)
    assert codes.tolist() == [[-127, 127, 0, 2, -124], [-127, 127, 0, 2, 2], [0, 0, 0, 0, 0]]
    assert codes.dtype == torch.int8
    assert steps.tolist()[:2] == [1, 2]
    assert middles.tolist() == [127, 251, 4]
    assert RoundedRows(codes, steps, middles).numbers()[2].tolist() == [4] * 5


def test_by_hand(way):
    found = FusedInt8Linear(torch.tensor([[127.0, 1.0], [0.0, 254.0], [-12.7, 6.35]]), torch.tensor([0.5, 0.0, -1.0]))
    assert found.fused == (way == "passes")
    assert found.weight.tolist() == [[127, 1], [0, 127], [-127, 64]]  # 63.5 is rounded to 64
    torch.testing.assert_close(found.scale, torch.tensor([1, 2, 0.1]))
    x = torch.tensor([[0.0, 254.0]])  # exactly its codes
    expected = torch.tensor([[254.5, 64516.0, 6.4 * 254 - 1]])
    torch.testing.assert_close(found(x), expected)
    residual = torch.tensor([[1.0, 2.0, 3.0]])
    torch.testing.assert_close(found(x, residual=residual), expected + residual)


# ---- oracle ----


def test_the_loops_round_as_the_steps():
    x = torch.cat([numbers(29, 37), numbers(5, 37, seed=1) * 1e-30, numbers(7, 37).exp(), -numbers(7, 37).exp()])
    x[3] = 0
    x[4] = -2.5
    for found, expected in zip(layer()._round(x), round_rows(x), strict=True):
        assert torch.equal(found, expected)
    turned = numbers(37, 11).T  # not row after row in memory
    assert torch.equal(layer()._round(turned).codes, round_rows(turned).codes)


@pytest.mark.parametrize("options", [{}, {"activation": "gelu"}, {"residual": numbers(23, 13, seed=3)}])
def test_as_the_steps(way, options):
    one, x = layer(), numbers(23, 19, seed=2)
    for given_x in (x, round_rows(x)):
        found, expected = one(given_x, **options), one.in_steps(given_x, **options)
        torch.testing.assert_close(found, expected, rtol=0, atol=4e-6)
        if "activation" not in options:
            assert torch.equal(found, expected)


def test_as_whole_numbers():
    """Codes, steps and middles put in by hand, in float64: what is multiplied and what is added."""
    one, x = layer(), numbers(23, 19, seed=2) + 3
    low, high = x.double().amin(1, keepdim=True), x.double().amax(1, keepdim=True)
    steps, middles = (high - low) / 254, (high + low) / 2
    codes = ((x - middles) / steps).round()
    t = numbers(13, 19).double().abs().amax(1, keepdim=True) / 127
    weight = (numbers(13, 19) / t).round() * t
    expected = (codes * steps + middles) @ weight.T + numbers(13, seed=1)
    torch.testing.assert_close(one(x), expected.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", ["none", "gelu"])
def test_rounded_for_the_next(way, activation):
    one, plain, x = layer(rounded=True), layer(), numbers(53, 19, seed=2)
    found, expected = one(x, activation=activation), round_rows(plain.in_steps(x, activation=activation))
    torch.testing.assert_close(found.steps, expected.steps, rtol=1e-4, atol=0)
    torch.testing.assert_close(found.middles, expected.middles, rtol=1e-4, atol=1e-6)
    off = (found.codes.int() - expected.codes.int()).abs()
    assert off.max() <= 1  # GELU is a polynomial here: next to a half it may fall on the other side
    assert off.sum() <= 0.002 * off.numel()
    following = FusedInt8Linear(numbers(5, 13, seed=4), numbers(5, seed=5))
    torch.testing.assert_close(following(found), following(plain(x, activation=activation)), rtol=0.02, atol=0.02)


def test_gelu_over_its_whole_range():
    """A weight of 1, no bias, a residual of none: what comes out is GELU of what is rounded."""
    x = torch.linspace(-30, 30, 4001)[:, None] * torch.tensor([1.0, 0.0])
    one = FusedInt8Linear(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.zeros(2))
    rounded = round_rows(x)
    found, numbers = one(rounded, activation="gelu"), rounded.numbers()
    assert ((found - gelu(numbers)).abs() <= 5e-7 * numbers.abs() + 2e-6).all()  # the second: the sum itself


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 1, 5), (1, 7, 1), (2, 3, 1), (5, 1, 3), (131, 257, 3)])
def test_all_sizes(sizes):
    n, columns, rows = sizes
    one, x = layer(rows, columns), numbers(n, columns, seed=2)
    assert torch.equal(one(x), one.in_steps(x))
    assert one.fused == (columns > 1)  # torch 2.13's product is wrong for one column, and is not used there
    exact = FusedLinear(numbers(rows, columns), numbers(rows, seed=1))(x)
    torch.testing.assert_close(one(x), exact, rtol=0.05, atol=0.05 * columns**0.5)


def test_a_product_that_cuts_off_is_not_used(monkeypatch):
    """As on a CPU without the instructions: two products at a time are added up in 16 bits."""

    def cut_off(a, b):
        pairs = (a.int() + 128)[:, :, None] * b.int()  # (m, n, k); the operator takes whole numbers from 0 to 255
        sums = torch.stack([part.sum(1) for part in pairs.split(2, dim=1)], 1).clamp(-(2**15), 2**15 - 1).sum(1)
        return (sums - 128 * b.int().sum(0)).int()

    x, right = numbers(3, 19), layer()(numbers(3, 19))
    has_fast_product.cache_clear()
    monkeypatch.setattr(torch, "_int_mm", cut_off)
    one = layer()
    assert not one.fused
    torch.testing.assert_close(one(x), right, rtol=1e-6, atol=1e-6)
    has_fast_product.cache_clear()


@pytest.mark.parametrize("instructions", ["AVX512_CORE", "AVX2"])
def test_without_the_instructions(instructions):
    """oneDNN is told to do without VNNI, in a process of its own: slow, and right."""
    code = """if True:
        import torch
        from lmcore.nn.fused_int8 import FusedInt8Linear
        weight = torch.full((13, 384), 1.0)
        layer = FusedInt8Linear(weight, torch.zeros(13))
        x = torch.full((3, 384), 2.0)
        x[:, ::7] = 0.0
        print(layer.fused, (layer(x) - x.sum(1, keepdim=True)).abs().max().item() < 0.01)
    """
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": instructions, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split()[1] == "True"


# ---- properties ----


@given(ROWS)
@settings(max_examples=100)
def test_off_by_half_a_step_at_most(x):
    rounded = round_rows(x)
    error = (rounded.numbers().double() - x.double()).abs()
    slack = 2e-6 * x.abs().amax(1, keepdim=True)  # the rounding of float32 itself
    assert (error <= rounded.steps[:, None] / 2 + slack).all()
    assert rounded.codes.abs().max() <= 127
    for found, expected in zip(layer()._round(x), rounded, strict=True):
        assert torch.equal(found, expected)


@given(ROWS)
@settings(max_examples=100)
def test_bound_of_the_result(x):
    """|x W − found| ≤ Σ |x| t/2 + s/2 Σ |W rounded|."""
    weight = numbers(5, 7)
    one = FusedInt8Linear(weight, torch.zeros(5))
    rounded = one.weight * one.scale[:, None]
    bound = x.abs().sum(1, keepdim=True) * one.scale / 2
    bound = bound + round_rows(x).steps[:, None] / 2 * rounded.abs().sum(1)
    assert ((one(x) - x @ weight.T).abs() <= 1.001 * bound + 1e-5 * x.abs().amax()).all()


@given(st.permutations(range(11)), st.integers(1, 11))
@settings(max_examples=30)
def test_a_row_does_not_depend_on_the_others(order, n):
    one, x = layer(), numbers(11, 19, seed=2) * torch.arange(1, 12)[:, None]
    assert torch.equal(one(x[order[:n]]), one(x)[order[:n]])


def test_the_weights_are_copied():
    weight, bias = torch.ones(2, 3), torch.zeros(2)
    one = FusedInt8Linear(weight, bias)
    weight += 1
    bias += 1
    torch.testing.assert_close(one(torch.ones(1, 3)), torch.full((1, 2), 3.0))


def test_what_is_not_finite_stays_visible(way):
    x = numbers(3, 19)
    x[1, 5] = float("nan")
    found = layer()(x)
    assert found[1].isnan().all()
    assert found[[0, 2]].isfinite().all()


def test_other_formats_become_float32():
    one = FusedInt8Linear(numbers(13, 19).bfloat16(), numbers(13).bfloat16())
    assert one(numbers(3, 19)).dtype == torch.float32


# ---- errors ----


def test_errors():
    one, x = layer(), numbers(3, 19)
    with pytest.raises(ValueError, match='activation must be "none", or "gelu" without residual, got \'relu\''):
        one(x, activation="relu")
    with pytest.raises(ValueError, match="\"gelu\" without residual, got 'gelu'"):
        one(x, activation="gelu", residual=numbers(3, 13))
    with pytest.raises(ValueError, match="a layer with rounded=True takes no residual"):
        layer(rounded=True)(x, residual=numbers(3, 13))
    weight = numbers(2, 3)
    weight[1, 1:] = torch.tensor([float("nan"), float("inf")])
    with pytest.raises(ValueError, match="weight must be finite, but 2 of 6 numbers are not"):
        FusedInt8Linear(weight, torch.zeros(2))
    with pytest.raises(ValueError, match="bias must be finite, but 2 of 2 numbers are not"):
        FusedInt8Linear(numbers(2, 3), torch.full((2,), float("inf")))
    FusedInt8Linear(torch.ones(1, 133_144), torch.zeros(1))
    with pytest.raises(
        ValueError, match="weight has 133200 columns, but sums of 32 bits hold 133144 products of codes"
    ):
        FusedInt8Linear(torch.ones(1, 133_200), torch.zeros(1))
