"""GPTQ: against the definition, step by step against blocked, and against rounding to nearest."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.compress.affine import Scheme, quantize
from lmcore.compress.gptq import gptq, gptq_in_steps, output_error

SCHEMES = [
    Scheme(bits=3),
    Scheme(bits=4, symmetric=False),
    Scheme(bits=2, per="tensor"),
    Scheme(bits=3, per="group", group_size=7),
    Scheme(bits=4, per="group", group_size=7, symmetric=False),
    Scheme(bits=3, per="group", group_size=14, symmetric=False, exact_zero=False),
]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def case(rows=13, columns=42, hidden=5, count=97, seed=0):
    """A matrix, and the Gram matrix of inputs that are mostly mixtures of a few."""
    x = draw(count, hidden, seed=seed) @ draw(hidden, columns, seed=seed + 1) + 0.2 * draw(
        count, columns, seed=seed + 2
    )
    return draw(rows, columns, seed=seed + 3), x.T @ x


def test_two_equal_inputs_by_hand():
    # H = [[1, 1], [1, 1]] + λ I: H⁻¹ ∝ [[1 + λ, −1], [−1, 1 + λ]]. The grid has steps of 1. 1.4 → 1, an error of 0.4,
    # and the second weight becomes 1.4 + 0.4 / (1 + λ) = 1.796 → 2.
    found = gptq(torch.tensor([[1.4, 1.4, 3.0]]), torch.block_diag(torch.ones(2, 2), torch.ones(1, 1)), Scheme(bits=3))
    assert found.codes.tolist() == [[1, 2, 3]]
    assert found.scale.item() == 1


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("block", [1, 5, 7, 14, 42, 128])
def test_blocked_is_step_by_step(scheme, block):
    weight, gram = case()
    expected, found = gptq_in_steps(weight, gram, scheme), gptq(weight, gram, scheme, block=block)
    assert torch.equal(found.codes, expected.codes)
    torch.testing.assert_close(found.dequantize(), expected.dequantize())


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("order", ["given", "activation"])
def test_a_diagonal_gram_matrix_gives_rounding_to_nearest(scheme, order):
    weight = draw(13, 42)
    gram = torch.diag(draw(42, seed=1).square() + 0.1)
    found, expected = gptq(weight, gram, scheme, order=order), quantize(weight, scheme)
    assert torch.equal(found.codes, expected.codes)
    torch.testing.assert_close(found.dequantize(), expected.dequantize())


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("order", ["given", "activation"])
@pytest.mark.parametrize("seed", range(5))
def test_less_error_than_rounding_where_inputs_are_correlated(scheme, order, seed):
    weight, gram = case(seed=10 * seed)
    errors = [
        output_error(weight, q.dequantize(), gram)
        for q in (gptq(weight, gram, scheme, order=order), quantize(weight, scheme))
    ]
    assert errors[0] < 0.5 * errors[1]
    # and the weights themselves are farther away: it is the products that count
    plain = [
        (weight - q.dequantize()).square().sum()
        for q in (gptq(weight, gram, scheme, order=order), quantize(weight, scheme))
    ]
    assert plain[0] > plain[1]


def test_no_choice_of_codes_is_much_better():
    # All 3⁴ matrices of one row on the same grid: GPTQ is greedy, but should be among the best.
    scheme = Scheme(bits=2)
    ranks = []
    for seed in range(20):
        weight, gram = case(rows=1, columns=4, hidden=2, seed=100 + 7 * seed)
        found = gptq(weight, gram, scheme, damping=1e-6)
        all_codes = torch.tensor(list(itertools.product([-1.0, 0.0, 1.0], repeat=4)))
        errors = torch.tensor([output_error(weight, codes[None] * found.scale, gram) for codes in all_codes])
        mine = output_error(weight, found.dequantize(), gram)
        assert mine >= errors.min() - 1e-6
        ranks.append(int((errors < mine - 1e-9).sum()))
    assert sum(ranks) / len(ranks) < 4  # of 81


@pytest.mark.parametrize("order", ["given", "activation"])
def test_each_correction_is_the_best_one(order):
    """After the first column is rounded, the least squares solution for the others is what the update gives."""
    weight, gram = case(rows=3, columns=6, count=30)
    scheme = Scheme(bits=3)
    first = int(gram.diagonal().argmax()) if order == "activation" else 0
    others = [j for j in range(6) if j != first]
    damped = gram.double() + 1e-9 * gram.double().diagonal().mean() * torch.eye(6, dtype=torch.float64)
    inverse = torch.linalg.inv(damped)
    grid = quantize(weight, scheme).grid
    error = (weight[:, [first]] - grid.decode(grid.encode(weight[:, [first]]))).double()
    updated = weight.double()[:, others] - error / inverse[first, first] * inverse[first, others]
    best = (
        weight.double()[:, others] + error @ torch.linalg.solve(damped[others][:, others], damped[others, first])[None]
    )
    torch.testing.assert_close(updated, best, rtol=1e-5, atol=1e-6)
    # and the second column that gptq rounds is the updated one
    second = others[0] if order == "given" else others[int(gram.diagonal()[others].argmax())]
    codes = gptq(weight, gram, scheme, damping=1e-9, order=order).codes
    expected = grid.encode(best[:, [others.index(second)]])
    assert torch.equal(codes[:, [second]], expected)


def test_groups_in_the_order_of_activations_keep_their_columns():
    weight, gram = case()
    weight[:, 7:14] *= 100  # one group with far larger weights than the others
    found = gptq(weight, gram, Scheme(bits=4, per="group", group_size=7), order="activation")
    assert (found.scale[:, 1] > 20 * found.scale[:, 0]).all()
    assert output_error(weight, found.dequantize(), gram) < 0.02


def test_inputs_that_never_come_are_rounded_to_nearest():
    weight, gram = case()
    gram[5], gram[:, 5] = 0, 0
    scheme = Scheme(bits=4)
    assert torch.equal(gptq(weight, gram, scheme).codes[:, 5], quantize(weight, scheme).codes[:, 5])


@given(st.integers(1, 9), st.integers(1, 13), st.integers(2, 5), st.booleans(), st.integers(0, 50))
def test_codes_are_on_the_grid_and_shapes_are_kept(rows, columns, bits, symmetric, seed):
    weight, gram = case(rows, columns, seed=seed)
    scheme = Scheme(bits=bits, symmetric=symmetric)
    found = gptq(weight, gram, scheme, block=4)
    assert found.codes.shape == weight.shape
    assert found.codes.min() >= scheme.codes[0]
    assert found.codes.max() <= scheme.codes[1]
    assert found.nbytes == quantize(weight, scheme).nbytes
    torch.testing.assert_close(found.dequantize(), gptq_in_steps(weight, gram, scheme).dequantize())


def test_output_error_is_that_of_the_products():
    weight, other, x = draw(5, 7), draw(5, 7, seed=1), draw(31, 7, seed=2)
    expected = ((weight - other) @ x.T).square().sum() / (weight @ x.T).square().sum()
    assert output_error(weight, other, x.T @ x) == pytest.approx(expected.item(), rel=1e-5)
    assert output_error(weight, torch.zeros(5, 7), x.T @ x) == 1
    assert output_error(weight, weight, x.T @ x) == 0


def test_the_given_weight_is_left_alone():
    weight, gram = case()
    kept = weight.clone(), gram.clone()
    gptq(weight, gram, SCHEMES[3])
    gptq(torch.nn.Parameter(weight), gram, SCHEMES[0], order="activation")
    assert torch.equal(weight, kept[0])
    assert torch.equal(gram, kept[1])


def test_errors():
    weight, gram = case()
    scheme = Scheme(bits=4)
    with pytest.raises(ValueError, match=r"gram has shape \(3, 3\), must be \(42, 42\)"):
        gptq(weight, torch.eye(3), scheme)
    with pytest.raises(ValueError, match=r"weight has shape \(42,\), must be \(rows, columns\)"):
        gptq(weight[0], gram, scheme)
    with pytest.raises(ValueError, match="group_size = 5 does not divide the 42 columns"):
        gptq(weight, gram, Scheme(bits=4, per="group", group_size=5))
    with pytest.raises(ValueError, match="damping must be at least 0, got -1"):
        gptq(weight, gram, scheme, damping=-1)
    with pytest.raises(ValueError, match="order must be one of given, activation, got 'desc'"):
        gptq(weight, gram, scheme, order="desc")
    with pytest.raises(ValueError, match="block must be a whole number of at least 1, got 0"):
        gptq(weight, gram, scheme, block=0)
    x = draw(20, 42)
    with pytest.raises(ValueError, match=r"gram is singular with damping = 0.*fewer inputs than columns"):
        gptq(weight, (x.double().T @ x.double()), scheme, damping=0)
    with pytest.raises(ValueError, match="gram holds 1 numbers that are not finite"):
        gptq(weight, torch.where(torch.arange(1764).view(42, 42) == 50, torch.nan, gram), scheme)
    with pytest.raises(ValueError, match="group_size = 5 does not divide"):
        gptq_in_steps(weight, gram, Scheme(bits=4, per="group", group_size=5))
