"""Positions: numbers from paper, formulas written another way, what depends on distances alone, errors."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.nn.positional import (
    LAYOUTS,
    LearnedPositions,
    RotaryPositions,
    SinusoidalPositions,
    alibi_bias,
    alibi_slopes,
    angles,
    permute_rows,
    sinusoidal,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


# ---- sinusoidal ----


def test_sinusoidal_by_hand():
    table = sinusoidal(3, 4, base=100)  # frequencies 1 and 100^(−1/2)
    expected = [[math.sin(t), math.cos(t), math.sin(t / 10), math.cos(t / 10)] for t in range(3)]
    torch.testing.assert_close(table, torch.tensor(expected))


def test_sinusoidal_equals_the_papers_formula():
    table = sinusoidal(301, 22).numpy()
    for position in (0, 1, 7, 300):
        for i in range(11):
            angle = position / 10000 ** (2 * i / 22)
            np.testing.assert_allclose(table[position, 2 * i], np.sin(angle), atol=1e-7)
            np.testing.assert_allclose(table[position, 2 * i + 1], np.cos(angle), atol=1e-7)


@given(st.integers(0, 50), st.integers(0, 50))
def test_a_fixed_linear_map_shifts_sinusoidal_positions(k, position):
    """The map depends on the shift k alone: blocks [[cos kω, sin kω], [−sin kω, cos kω]]."""
    turned = angles(51, 10)[k].float()
    blocks = [torch.tensor([[w.cos(), w.sin()], [-w.sin(), w.cos()]]) for w in turned]
    table = sinusoidal(101, 10)
    torch.testing.assert_close(torch.block_diag(*blocks) @ table[position], table[position + k], atol=1e-5, rtol=0)


def test_sinusoidal_products_depend_on_the_distance():
    table = sinusoidal(41, 14)
    products = table @ table.T
    for k in (0, 3, 17):
        diagonal = products.diagonal(k)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))
    torch.testing.assert_close(products.diagonal(), torch.full((41,), 7.0))  # sin² + cos², d / 2 times


def test_sinusoidal_layer_adds_and_saves_nothing():
    layer, x = SinusoidalPositions(11, 6), numbers(2, 5, 6)
    torch.testing.assert_close(layer(x), x + sinusoidal(5, 6))
    torch.testing.assert_close(layer(x, start=3), x + sinusoidal(8, 6)[3:])
    assert layer.state_dict() == {}
    assert layer.bfloat16()(x.bfloat16()).dtype == torch.bfloat16


# ---- learned ----


def test_learned_positions_add_rows_of_the_table():
    layer = LearnedPositions(7, 3, generator=generator())
    x = numbers(2, 5, 3)
    torch.testing.assert_close(layer(x, start=2), x + layer.weight[2:7])
    layer(x).sum().backward()
    assert layer.weight.grad.tolist() == [[2.0] * 3] * 5 + [[0.0] * 3] * 2  # two sequences, five positions
    assert 0.01 < LearnedPositions(101, 31, generator=generator()).weight.std() < 0.03


# ---- rotary ----


def complex_rotation(x, base, layout, start):
    """Pairs as complex numbers, multiplied by e^(i t ω), in double precision."""
    *_, length, dim = x.shape
    x = x.double().numpy()
    pairs = (
        x[..., 0::2] + 1j * x[..., 1::2] if layout == "interleaved" else x[..., : dim // 2] + 1j * x[..., dim // 2 :]
    )
    positions = np.arange(start, start + length)[:, None]
    pairs = pairs * np.exp(1j * positions * base ** (-2 * np.arange(dim // 2) / dim))
    parts = [pairs.real, pairs.imag]
    turned = np.stack(parts, -1).reshape(x.shape) if layout == "interleaved" else np.concatenate(parts, -1)
    return torch.tensor(turned, dtype=torch.float32)


def test_rotary_by_hand():
    x = torch.tensor([[1.0, 2, 3, 4]] * 2)  # frequencies 1 and 1/10
    c, s, c10, s10 = math.cos(1), math.sin(1), math.cos(0.1), math.sin(0.1)
    half = RotaryPositions(4, base=100)(x)
    assert half[0].tolist() == [1, 2, 3, 4]  # position 0 is not turned
    expected = [c - 3 * s, 2 * c10 - 4 * s10, s + 3 * c, 2 * s10 + 4 * c10]  # pairs (1, 3) and (2, 4)
    torch.testing.assert_close(half[1], torch.tensor(expected))
    expected = [c - 2 * s, s + 2 * c, 3 * c10 - 4 * s10, 3 * s10 + 4 * c10]  # pairs (1, 2) and (3, 4)
    torch.testing.assert_close(RotaryPositions(4, base=100, layout="interleaved")(x)[1], torch.tensor(expected))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rotary_equals_complex_multiplication_with_gradient(layout):
    x, weights = numbers(2, 3, 11, 10).requires_grad_(), numbers(2, 3, 11, 10, seed=1)
    turn = RotaryPositions(10, base=500.0, layout=layout, max_length=31)
    y = turn(x, start=17)
    torch.testing.assert_close(y.detach(), complex_rotation(x.detach(), 500.0, layout, 17), atol=1e-5, rtol=1e-5)
    (y * weights).sum().backward()
    # the gradient is turned back: the conjugate angles
    torch.testing.assert_close(complex_rotation(x.grad, 500.0, layout, 17), weights, atol=1e-5, rtol=1e-5)


def test_half_equals_the_rotate_half_formula():
    """x cos + rotate_half(x) sin with doubled tables: how Hugging Face's code writes it."""
    x = numbers(2, 3, 7, 6)
    doubled = torch.cat([angles(7, 6)] * 2, dim=-1).float()
    rotated = torch.cat([-x[..., 3:], x[..., :3]], dim=-1)
    torch.testing.assert_close(RotaryPositions(6)(x), x * doubled.cos() + rotated * doubled.sin())


@pytest.mark.parametrize("layout", LAYOUTS)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 99))
def test_scores_depend_on_the_distance_alone(layout, i, j, shift, seed):
    turn = RotaryPositions(6, layout=layout, max_length=101)
    q, k = numbers(2, 1, 6, seed=seed)
    score = turn(q, start=i) @ turn(k, start=j).T
    torch.testing.assert_close(score, turn(q, start=i + shift) @ turn(k, start=j + shift).T, atol=1e-4, rtol=0)
    torch.testing.assert_close(turn(q, start=i).norm(), q.norm())  # a rotation keeps lengths


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_position_at_a_time_gives_the_same(layout):
    turn, x = RotaryPositions(4, layout=layout, max_length=7), numbers(2, 3, 7, 4)
    torch.testing.assert_close(torch.cat([turn(x[:, :, t : t + 1], start=t) for t in range(7)], dim=2), turn(x))


def test_permuted_weights_give_the_same_scores_in_the_other_layout():
    heads, dim, width = 3, 10, 7
    wq, wk, bias = numbers(heads * dim, width), numbers(heads * dim, width, seed=1), numbers(heads * dim, seed=2)
    x = numbers(2, 5, width, seed=3)

    def scores(layout, wq, wk, bias):
        turn = RotaryPositions(dim, layout=layout)
        q, k = ((x @ w.T + bias).unflatten(-1, (heads, dim)).transpose(1, 2) for w in (wq, wk))
        return turn(q) @ turn(k).transpose(-1, -2)

    plain = scores("half", wq, wk, bias)
    permuted = [permute_rows(w, heads, to="interleaved") for w in (wq, wk, bias)]
    torch.testing.assert_close(scores("interleaved", *permuted), plain, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(scores("half", *permuted), plain, atol=0.1)  # the layouts do differ
    for weight, other in zip((wq, wk, bias), permuted, strict=True):
        assert torch.equal(permute_rows(other, heads, to="half"), weight)  # and back


def test_permute_rows_by_hand():
    rows = torch.arange(12)  # two heads of six
    assert permute_rows(rows, 2, to="interleaved").tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]


def test_rotary_keeps_the_type_and_saves_nothing():
    turn = RotaryPositions(6, layout="interleaved", max_length=5)
    assert turn(numbers(2, 3, 6).bfloat16()).dtype == torch.bfloat16
    assert turn.state_dict() == {}
    assert repr(turn) == "RotaryPositions(dim=6, base=10000.0, layout='interleaved', max_length=5)"


# ---- ALiBi ----


def slopes_as_published(n):
    """The authors' recursion, another way to the same numbers."""
    if math.log2(n).is_integer():
        start = 2 ** (-(2 ** -(math.log2(n) - 3)))
        return [start * start**i for i in range(n)]
    closest = 2 ** math.floor(math.log2(n))
    return slopes_as_published(closest) + slopes_as_published(2 * closest)[0::2][: n - closest]


@pytest.mark.parametrize("heads", range(1, 34))
def test_alibi_slopes_equal_the_published_ones(heads):
    slopes = alibi_slopes(heads)
    torch.testing.assert_close(slopes, torch.tensor(slopes_as_published(heads)))
    assert len(set(slopes.tolist())) == heads
    assert ((slopes > 0) & (slopes < 1)).all()


def test_alibi_of_eight_heads_is_a_half_a_quarter_and_so_on():
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]


def test_alibi_bias_by_hand():
    bias = alibi_bias(2, 2, 3)  # slopes 1/16 and 1/256; queries at positions 1 and 2
    assert (bias[0] * 16).tolist() == [[-1, 0, -1], [-2, -1, 0]]
    assert (bias[1] * 256).tolist() == [[-1, 0, -1], [-2, -1, 0]]


@given(st.integers(1, 9), st.integers(1, 13), st.integers(0, 7))
def test_alibi_of_the_last_queries_is_the_end_of_all(heads, queries, before):
    keys = queries + before
    assert torch.equal(alibi_bias(heads, queries, keys), alibi_bias(heads, keys, keys)[:, before:])


# ---- errors ----


def test_odd_dims_are_refused():
    for make in (lambda: sinusoidal(3, 5), lambda: SinusoidalPositions(3, 5), lambda: RotaryPositions(5)):
        with pytest.raises(ValueError, match="dim must be even, for the coordinates turn in pairs; got 5"):
            make()


@pytest.mark.parametrize("make", [SinusoidalPositions, LearnedPositions, lambda n, d: RotaryPositions(d, max_length=n)])
def test_too_long_sequences_say_both_numbers(make):
    layer = make(11, 2)
    layer(torch.zeros(11, 2))
    with pytest.raises(ValueError, match="needs 13 positions, but there are max_length = 11"):
        layer(torch.zeros(13, 2))
    with pytest.raises(ValueError, match=r"needs 12 positions \(they begin at 5\), but there are max_length = 11"):
        layer(torch.zeros(7, 2), start=5)
    with pytest.raises(ValueError, match="start must be at least 0, got -1"):
        layer(torch.zeros(7, 2), start=-1)


def test_errors():
    with pytest.raises(ValueError, match="layout must be one of half, interleaved, got 'halves'"):
        RotaryPositions(4, layout="halves")
    with pytest.raises(ValueError, match=r"x has shape \(3, 6\), must be \(…, T, 4\)"):
        RotaryPositions(4)(torch.zeros(3, 6))
    with pytest.raises(ValueError, match="base must be above zero, got -2"):
        angles(3, 4, base=-2)
    with pytest.raises(ValueError, match="length must be a whole number of at least 1, got 0"):
        sinusoidal(0, 4)
    with pytest.raises(ValueError, match="max_length must be a whole number of at least 1, got 0"):
        LearnedPositions(0, 4)
    with pytest.raises(ValueError, match="to must be one of half, interleaved, got 'llama'"):
        permute_rows(torch.zeros(4, 4), 1, to="llama")
    for rows in (10, 0):
        with pytest.raises(ValueError, match=f"weight has {rows} rows, which are not 2 heads of an even number each"):
            permute_rows(torch.zeros(rows, 3), 2, to="half")
    with pytest.raises(ValueError, match="heads must be a whole number of at least 1, got 0"):
        alibi_slopes(0)
    with pytest.raises(ValueError, match="there are 5 queries but only 3 keys"):
        alibi_bias(2, 5, 3)
