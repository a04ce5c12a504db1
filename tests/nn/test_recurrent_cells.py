"""Recurrent cells: a step on paper, torch's cells by state dict with gradients, what a gate does, errors."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from lmcore.nn.recurrent_cells import GRUCell, LSTMCell, RNNCell

CELLS = {
    "rnn": (RNNCell, torch.nn.RNNCell, {}),
    "relu": (RNNCell, torch.nn.RNNCell, {"nonlinearity": "relu"}),
    "lstm": (LSTMCell, torch.nn.LSTMCell, {}),
    "gru": (GRUCell, torch.nn.GRUCell, {}),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def state_of(name, batch=5, hidden=3, dtype=torch.float32):
    """A random state of the cell's kind, whose gradient is wanted."""
    parts = torch.randn(2, batch, hidden, generator=generator(7), dtype=dtype).unbind(0)
    parts = tuple(part.requires_grad_() for part in parts)
    return parts if name == "lstm" else parts[0]


def filled(cell, *blocks):
    """A cell with one unit: each gate's weights (w, u, b, c), gate after gate."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    for name, values in zip(names, zip(*blocks, strict=True), strict=True):
        parameter = getattr(cell, name)
        parameter.data = torch.tensor(values, dtype=torch.float64).view(parameter.shape)
    return cell


# ---- hand-worked: one unit, x = 2, h = −1, c = 3 ----


def test_rnn_by_hand():
    cell = filled(RNNCell(1, 1), (0.5, 2.0, 0.25, 0.5))
    x, h = torch.tensor([[2.0]]).double(), torch.tensor([[-1.0]]).double()
    assert cell(x, h).item() == pytest.approx(math.tanh(1 - 2 + 0.75))


def test_lstm_by_hand():
    cell = filled(LSTMCell(1, 1), (1, 1, 0, 0), (0, 2, 1, 0), (0.5, 0, 0, -0.5), (0, 0, 0, 1))
    x, h, c = (torch.tensor([[value]]).double() for value in (2.0, -1.0, 3.0))
    i, f, g, o = sigmoid(2 - 1), sigmoid(-2 + 1), math.tanh(1 - 0.5), sigmoid(1)
    new_h, new_c = cell(x, (h, c))
    assert new_c.item() == pytest.approx(f * 3 + i * g)
    assert new_h.item() == pytest.approx(o * math.tanh(f * 3 + i * g))


def test_gru_by_hand_resets_after_the_product():
    cell = filled(GRUCell(1, 1), (1, 1, 0, 0), (0, 2, 1, 0), (0.5, 3, 0.5, 2))
    x, h = torch.tensor([[2.0]]).double(), torch.tensor([[-1.0]]).double()
    r, z = sigmoid(2 - 1), sigmoid(-2 + 1)
    n = math.tanh(1 + 0.5 + r * (3 * -1 + 2))  # r multiplies the constant 2 as well
    assert cell(x, h).item() == pytest.approx((1 - z) * n - z)
    before = math.tanh(1 + 0.5 + 3 * (r * -1) + 2)  # the paper's: r multiplies h alone
    assert abs(n - before) > 0.01


# ---- oracle: torch ----


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", CELLS)
def test_equals_torch_with_gradients(name, bias):
    ours, theirs, options = CELLS[name]
    torch.manual_seed(3)
    theirs, ours = theirs(7, 3, bias=bias, **options), ours(7, 3, bias=bias, **options, generator=generator(3))
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value)  # the same numbers from the same seed
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    results = []
    for cell in (ours, theirs):
        x, state = torch.randn(5, 7, generator=generator(), requires_grad=True), state_of(name)
        y = cell(x, state)
        y = torch.cat(y if name == "lstm" else [y])
        (y * torch.randn(y.shape, generator=generator(1))).sum().backward()
        states = state if name == "lstm" else [state]
        results.append([y, x.grad, *(s.grad for s in states), *(p.grad for p in cell.parameters())])
    for mine, other in zip(*results, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", CELLS)
def test_gradients_by_differences(name):
    ours, _, options = CELLS[name]
    cell = ours(2, 3, **options, generator=generator()).double()
    x = torch.randn(5, 2, generator=generator(1), dtype=torch.float64, requires_grad=True)
    state = state_of(name, dtype=torch.float64)
    wrap = (lambda x, h, c: cell(x, (h, c))) if name == "lstm" else cell
    assert gradcheck(wrap, (x, *(state if name == "lstm" else [state])))


# ---- properties ----


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(0, 99))
def test_rows_do_not_mix_and_states_start_at_zero(batch, n_in, hidden, seed):
    x = torch.randn(batch, n_in, generator=generator(seed))
    for ours, _, options in CELLS.values():
        cell = ours(n_in, hidden, **options, generator=generator(seed))
        first = (lambda y: y[0]) if ours is LSTMCell else (lambda y: y)
        zeros = torch.zeros(batch, hidden)
        whole = first(cell(x))
        torch.testing.assert_close(whole, first(cell(x, (zeros, zeros) if ours is LSTMCell else zeros)))
        torch.testing.assert_close(whole, torch.cat([first(cell(row)) for row in x.split(1)]))


def test_open_and_closed_gates_of_an_lstm():
    cell, c = LSTMCell(2, 3, generator=generator()), torch.tensor([[5.0, -7.0, 11.0]])
    x, h = torch.randn(1, 2, generator=generator(1)), torch.zeros(1, 3)
    with torch.no_grad():
        cell.bias_ih[:3], cell.bias_ih[3:6] = -1e4, 1e4  # nothing in, nothing forgotten
        torch.testing.assert_close(cell(x, (h, c))[1], c)
        cell.bias_ih[3:6] = -1e4  # everything forgotten
        assert cell(x, (h, c))[1].abs().max() == 0
        cell.bias_ih[9:] = -1e4  # nothing shown
        cell.bias_ih[3:6] = 1e4
        new_h, new_c = cell(x, (h, c))
        assert new_h.abs().max() == 0
        torch.testing.assert_close(new_c, c)


def test_open_and_closed_gates_of_a_gru():
    cell, h = GRUCell(2, 3, generator=generator()), torch.tensor([[0.5, -0.7, 0.11]])
    x = torch.randn(1, 2, generator=generator(1))
    with torch.no_grad():
        cell.bias_ih[3:6] = 1e4
        torch.testing.assert_close(cell(x, h), h)  # kept
        cell.bias_ih[3:6] = cell.bias_ih[:3] = -1e4
        torch.testing.assert_close(cell(x, h), cell(x, -h))  # past neither kept nor seen
        cell.bias_ih[:3] = 1e4
        assert not torch.allclose(cell(x, h), cell(x, -h))


# ---- errors ----


def test_wrong_settings():
    with pytest.raises(ValueError, match="hidden_size must be a whole number of at least 1, got 0"):
        LSTMCell(3, 0)
    with pytest.raises(ValueError, match=r"input_size must be a whole number of at least 1, got 2\.5"):
        GRUCell(2.5, 3)
    with pytest.raises(ValueError, match="nonlinearity must be one of tanh, relu, got 'sigmoid'"):
        RNNCell(2, 3, nonlinearity="sigmoid")


@pytest.mark.parametrize("name", CELLS)
def test_shapes_that_do_not_fit(name):
    ours, _, options = CELLS[name]
    cell = ours(7, 3, **options)
    for x in (torch.zeros(5, 6), torch.zeros(7), torch.zeros(2, 5, 7)):
        with pytest.raises(ValueError, match=r"x has shape \(.*\), must be \(B, 7\)"):
            cell(x)
    for shape in ((3,), (1, 3), (5, 7)):  # torch would broadcast (1, 3)
        state = torch.zeros(shape)
        with pytest.raises(ValueError, match=r"h has shape \(.*\), must be \(5, 3\): a row for each row of x"):
            cell(torch.zeros(5, 7), (state, state) if name == "lstm" else state)
    if name == "lstm":
        with pytest.raises(ValueError, match=r"c has shape \(5, 2\), must be \(5, 3\)"):
            cell(torch.zeros(5, 7), (torch.zeros(5, 3), torch.zeros(5, 2)))


def test_repr_says_the_sizes():
    assert repr(GRUCell(7, 3)) == "GRUCell(7, 3)"
    assert repr(LSTMCell(7, 3, bias=False)) == "LSTMCell(7, 3, bias=False)"
