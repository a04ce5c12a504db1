"""Recurrent layers: the cells run by hand, torch's layers in all their variants with gradients, properties, errors."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lmcore.nn.recurrent import GRU, LSTM, RNN
from lmcore.nn.recurrent_cells import GRUCell, LSTMCell, RNNCell

LAYERS = {
    "rnn": (RNN, torch.nn.RNN, RNNCell, {}),
    "relu": (RNN, torch.nn.RNN, RNNCell, {"nonlinearity": "relu"}),
    "lstm": (LSTM, torch.nn.LSTM, LSTMCell, {}),
    "gru": (GRU, torch.nn.GRU, GRUCell, {}),
}
B, T, IN, H = 5, 7, 3, 11
LENGTHS = [None, [7, 7, 7, 7, 7], [3, 7, 1, 5, 3], [2, 1, 6, 6, 4]]  # the last: no sequence fills the batch


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def parts_of(state):
    return list(state) if isinstance(state, tuple) else [state]


def make(name, **options):
    """Our layer and torch's, with torch's weights in both; each state dict was loaded into the other."""
    ours, theirs, _, extra = LAYERS[name]
    fused = options.pop("fused", True)
    theirs = theirs(IN, H, batch_first=True, **options, **extra)
    ours = ours(IN, H, **options, **extra, fused=fused)
    mine = copy.deepcopy(ours.state_dict())
    weights = copy.deepcopy(theirs.state_dict())
    theirs.load_state_dict(mine)
    assert all(torch.equal(value, mine[key]) for key, value in theirs.state_dict().items())
    theirs.load_state_dict(weights)
    ours.load_state_dict(weights)
    return ours, theirs


def inputs(name, layers, seed=0):
    """A padded batch and a state, with gradients wanted of both."""
    x = torch.randn(B, T, IN, generator=generator(seed), requires_grad=True)
    state = torch.randn(2, layers, B, H, generator=generator(seed + 1)).unbind(0)
    state = tuple(part.requires_grad_() for part in state)
    return x, (state if name == "lstm" else state[0])


def run_theirs(layer, x, state, lengths):
    if lengths is None:
        return layer(x, state)
    packed, state = layer(pack_padded_sequence(x, torch.tensor(lengths), True, enforce_sorted=False), state)
    return pad_packed_sequence(packed, True, total_length=T)[0], state


def gradients(layer, x, state, outputs, final):
    """Everything that can be compared after a backward pass through outputs and final state."""
    results = [outputs, *parts_of(final)]
    factors = [torch.randn(r.shape, generator=generator(9 + k)) for k, r in enumerate(results)]
    sum((r * f).sum() for r, f in zip(results, factors, strict=True)).backward()
    states = [part.grad for part in parts_of(state)] if state is not None else []
    return [*results, x.grad, *states, *(p.grad for p in layer.parameters())]


def assert_same(ours, theirs, name, lengths, with_state, layers):
    results = []
    for layer, run in ((ours, lambda x, s: ours(x, s, lengths=lengths)), (theirs, None)):
        x, state = inputs(name, layers)
        state = state if with_state else None
        outputs, final = run(x, state) if run else run_theirs(theirs, x, state, lengths)
        results.append(gradients(layer, x, state, outputs, final))
    for mine, other in zip(*results, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)


# ---- hand-worked: the cell, step by step ----


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_two_layers_by_cells(name, fused):
    ours, _, make_cell, extra = LAYERS[name]
    layer = ours(IN, H, num_layers=2, fused=fused, **extra, generator=generator())
    cells = [make_cell(IN, H, **extra), make_cell(H, H, **extra)]
    for number, cell in enumerate(cells):
        cell.load_state_dict({key: getattr(layer, f"{key}_l{number}") for key in cell.state_dict()})
    x, _ = inputs(name, 2)
    states, expected = [None, None], []
    for t in range(T):
        row = x[:, t]
        for number, cell in enumerate(cells):
            states[number] = cell(row, states[number])
            row = parts_of(states[number])[0]
        expected.append(row)
    outputs, final = layer(x)
    torch.testing.assert_close(outputs, torch.stack(expected, dim=1), atol=1e-6, rtol=1e-5)
    for mine, by_cell in zip(parts_of(final), zip(*map(parts_of, states), strict=True), strict=True):
        torch.testing.assert_close(mine, torch.stack(by_cell), atol=1e-6, rtol=1e-5)


def test_a_counter_by_hand():
    layer = RNN(1, 1, nonlinearity="relu", bias=False, bidirectional=True)
    ones = {name: torch.ones_like(value) for name, value in layer.state_dict().items()}
    layer.load_state_dict(ones)  # h ← max(x + h, 0): a sum so far
    x = torch.tensor([[1.0, 2, 3, 100], [4, 5, 100, 100]])[..., None]
    outputs, h = layer(x, lengths=[3, 2])
    assert outputs[0].tolist() == [[1, 6], [3, 5], [6, 3], [0, 0]]
    assert outputs[1].tolist() == [[4, 9], [9, 5], [0, 0], [0, 0]]
    assert h[:, :, 0].tolist() == [[6, 9], [6, 9]]


# ---- oracle: torch ----


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_equals_torch(name, layers, bidirectional, fused, lengths):
    options = {"num_layers": layers, "bidirectional": bidirectional, "fused": fused}
    ours, theirs = make(name, **options)
    assert_same(ours, theirs, name, lengths, layers % 2 == 1, layers * (1 + bidirectional))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_equals_torch_without_bias_and_in_evaluation(name, fused):
    ours, theirs = make(name, num_layers=2, bias=False, fused=fused)
    assert_same(ours.eval(), theirs.eval(), name, [3, 7, 1, 5, 3], True, 2)
    x = torch.randn(B, T, IN, generator=generator())
    with torch.no_grad():
        torch.testing.assert_close(ours(x)[0], theirs(x)[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("lengths", LENGTHS[:3], ids=str)
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_dropout_between_layers_equals_torch(name, fused, lengths):
    ours, theirs = make(name, num_layers=3, dropout=0.4, bidirectional=True, fused=fused)
    x, _ = inputs(name, 6)
    torch.manual_seed(5)
    mine = ours(x, lengths=lengths)[0]
    torch.manual_seed(5)
    if lengths is None or lengths == [T] * B:
        torch.testing.assert_close(mine, theirs(x)[0], atol=1e-5, rtol=1e-5)
    else:
        torch.testing.assert_close(mine, run_theirs(theirs, x, None, lengths)[0], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(mine, ours(x, lengths=lengths)[0])
    assert_same(ours.eval(), theirs.eval(), name, lengths, True, 6)


@pytest.mark.parametrize("name", LAYERS)
def test_first_parameters_are_torchs(name):
    ours, theirs, _, extra = LAYERS[name]
    torch.manual_seed(3)
    theirs = theirs(IN, H, 2, bidirectional=True, **extra)
    ours = ours(IN, H, num_layers=2, bidirectional=True, **extra, generator=generator(3))
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value)


# ---- properties ----


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_batch_is_its_sequences_one_by_one(data):
    name = data.draw(st.sampled_from(sorted(LAYERS)))
    lengths = data.draw(st.lists(st.integers(1, T), min_size=1, max_size=6))
    layer = LAYERS[name][0](IN, 3, num_layers=2, bidirectional=True, **LAYERS[name][3], generator=generator())
    layer.fused = data.draw(st.booleans())
    x = torch.randn(len(lengths), T, IN, generator=generator(data.draw(st.integers(0, 99))))
    for row, length in zip(x, lengths, strict=True):
        row[length:] = torch.nan  # what is beyond the end is never looked at
    outputs, final = layer(x, lengths=lengths)
    for k, length in enumerate(lengths):
        alone, end = layer(x[k : k + 1, :length])
        torch.testing.assert_close(outputs[k : k + 1, :length], alone, atol=1e-5, rtol=1e-5)
        assert (outputs[k, length:] == 0).all()
        for part, own in zip(parts_of(final), parts_of(end), strict=True):
            torch.testing.assert_close(part[:, k : k + 1], own, atol=1e-5, rtol=1e-5)
    outputs.sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_two_halves_with_the_state_handed_on_are_the_whole(name, fused):
    layer = LAYERS[name][0](IN, H, num_layers=2, fused=fused, **LAYERS[name][3], generator=generator())
    x, state = inputs(name, 2)
    whole, end = layer(x, state)
    first, middle = layer(x[:, :3], state)
    second, final = layer(x[:, 3:], middle)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, atol=1e-6, rtol=1e-5)
    for one, other in zip(parts_of(end), parts_of(final), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_the_past_does_not_see_the_future_unless_both_directions_run():
    x = torch.randn(B, T, IN, generator=generator())
    changed = x.clone()
    changed[:, 4] += 1
    for name in LAYERS:
        one, both = (LAYERS[name][0](IN, H, bidirectional=two, generator=generator()) for two in (False, True))
        assert torch.equal(one(x)[0][:, :4], one(changed)[0][:, :4])
        assert not torch.allclose(one(x)[0][:, 4], one(changed)[0][:, 4])
        assert not torch.allclose(both(x)[0][:, 0], both(changed)[0][:, 0])


def test_the_generator_decides_alone():
    state = torch.get_rng_state()
    x = torch.randn(B, T, IN, generator=generator())
    a, b, c = (LSTM(IN, H, num_layers=2, dropout=0.5, generator=generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(a(x)[0], b(x)[0])
    assert not torch.allclose(a.eval()(x)[0], c.eval()(x)[0])
    assert torch.equal(torch.get_rng_state(), state)


# ---- errors ----


def test_wrong_settings():
    with pytest.raises(ValueError, match="num_layers must be a whole number of at least 1, got 0"):
        GRU(3, 5, num_layers=0)
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\), got 1"):
        LSTM(3, 5, num_layers=2, dropout=1.0)
    with pytest.raises(ValueError, match=r"dropout 0\.5 acts between layers, but num_layers is 1"):
        LSTM(3, 5, dropout=0.5)
    with pytest.raises(ValueError, match="nonlinearity must be one of tanh, relu, got 'gelu'"):
        RNN(3, 5, nonlinearity="gelu")


@pytest.mark.parametrize("name", LAYERS)
def test_wrong_inputs(name):
    layer = LAYERS[name][0](IN, H, num_layers=2, bidirectional=True, **LAYERS[name][3])
    x, state = inputs(name, 4)
    for wrong in (x[0], x[..., :2], x[None]):
        with pytest.raises(ValueError, match=r"x has shape \(.*\), must be \(B, T, 3\)"):
            layer(wrong)
    for wrong in (x[:0], x[:, :0]):
        with pytest.raises(ValueError, match="there must be at least one sequence and one step"):
            layer(wrong)
    cut = tuple(part[:2] for part in state) if name == "lstm" else state[:2]
    with pytest.raises(ValueError, match=r"h of the state has shape \(2, 5, 11\), must be \(4, 5, 11\): \(num_layers"):
        layer(x, cut)
    lone = state[0] if name == "lstm" else (state, state)
    with pytest.raises(ValueError, match=r"state must be h and c, got 1 tensor$|state must be h, got 2 tensors"):
        layer(x, lone)


def test_wrong_lengths():
    layer, x = GRU(IN, H), torch.zeros(B, T, IN)
    with pytest.raises(ValueError, match=r"lengths\[2\] is 0: empty sequences have no last state; leave them out"):
        layer(x, lengths=[7, 1, 0, 3, 5])
    with pytest.raises(ValueError, match=r"lengths\[1\] is 8: x has 7 steps"):
        layer(x, lengths=torch.tensor([7, 8, 1, 3, 5]))
    for wrong in ([7, 7], [[7] * B], torch.ones(B), torch.ones(B, dtype=torch.bool)):
        with pytest.raises(ValueError, match="lengths must be 5 whole numbers, one for each sequence, got shape"):
            layer(x, lengths=wrong)


def test_repr_says_the_sizes():
    expected = "GRU(\n  3, 5, num_layers=1, bidirectional=True, bias=True, fused=True\n  (dropout): Dropout(p=0.0)\n)"
    assert repr(GRU(3, 5, bidirectional=True)) == expected
