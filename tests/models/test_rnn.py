"""The recurrent language model: against torch's layers, step against whole, scoring, tying, errors."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.models.rnn import CELLS, Memory, RecurrentLM, RecurrentLMConfig, score
from lmcore.nn.functional import cross_entropy

V = 13


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def model_of(cell="lstm", **options):
    config = RecurrentLMConfig(**{"vocabulary_size": V, "cell": cell, "embedding_dim": 5, "hidden": 7} | options)
    return RecurrentLM(config, generator=generator())


def ids_of(*shape, seed=1):
    return torch.randint(V, shape, generator=generator(seed))


# ---- hand-worked ----


def test_a_model_that_knows_nothing_is_as_surprised_as_a_die():
    model = model_of("rnn")
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.zero_()
    np.testing.assert_allclose(score(model, ids_of(17)), -math.log(V), rtol=1e-6)


def test_a_counter_of_brackets_by_hand():
    """One ReLU unit that adds 1 at id 1, takes 1 away at id 2; the score of id 2 is the number of open brackets."""
    model = RecurrentLM(RecurrentLMConfig(vocabulary_size=3, cell="rnn", embedding_dim=1, hidden=1))
    model.layers.nonlinearity, model.layers.fused = "relu", False
    values = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    values["embedding.weight"] = torch.tensor([[0.0], [1.0], [-1.0]])
    values |= {"layers.weight_ih_l0": torch.ones(1, 1), "layers.weight_hh_l0": torch.ones(1, 1)}
    values["output.weight"] = torch.tensor([[0.0], [0.0], [1.0]])
    model.load_state_dict(values)
    logits, h = model(torch.tensor([[1, 0, 1, 2, 0, 2, 2]]))
    assert logits[0, :, 2].tolist() == [1, 1, 2, 1, 1, 0, 0]
    assert h.item() == 0


# ---- oracle: torch ----


@pytest.mark.parametrize("cell", CELLS)
def test_equals_torchs_layers_with_gradients(cell):
    ours = model_of(cell, num_layers=2)
    embedding, output = torch.nn.Embedding(V, 5), torch.nn.Linear(7, V)
    layers = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](5, 7, 2, batch_first=True)
    for mine, theirs in zip((ours.embedding, ours.layers, ours.output), (embedding, layers, output), strict=True):
        theirs.load_state_dict(mine.state_dict())
    x, y = ids_of(3, 11), ids_of(3, 11, seed=2)
    logits = output(layers(embedding(x))[0])
    torch.testing.assert_close(ours(x)[0], logits, atol=1e-6, rtol=1e-5)
    cross_entropy(ours(x)[0], y).backward()
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten()).backward()
    theirs = [*embedding.parameters(), *layers.parameters(), *output.parameters()]
    for p, q in zip(ours.parameters(), theirs, strict=True):
        torch.testing.assert_close(p.grad, q.grad, atol=1e-6, rtol=1e-5)


def test_a_tied_matrix_gets_both_gradients_and_is_counted_once():
    model = model_of(embedding_dim=7, tied=True)
    assert model.embedding.weight is model.output.weight
    x, y = ids_of(3, 11), ids_of(3, 11, seed=2)
    cross_entropy(model(x)[0], y).backward()
    apart = model_of(embedding_dim=7)
    apart.load_state_dict(model.state_dict())
    cross_entropy(apart(x)[0], y).backward()
    both = apart.embedding.weight.grad + apart.output.weight.grad
    torch.testing.assert_close(model.output.weight.grad, both, atol=1e-6, rtol=1e-5)
    assert abs(cross_entropy(model(x)[0], y).item() - math.log(V)) < 0.2  # no large scores at the start


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("tied", [True, False])
def test_the_number_of_parameters(cell, tied):
    model = model_of(cell, num_layers=3, embedding_dim=7 if tied else 5, tied=tied)
    assert model.config.parameters == sum(p.numel() for p in model.parameters())


# ---- properties ----


@pytest.mark.parametrize("cell", CELLS)
def test_step_by_step_is_the_whole(cell):
    model, ids = model_of(cell, num_layers=2), ids_of(3, 11)
    whole, end = model(ids)
    memory, parts = Memory(), []
    for column in ids.T:
        logits, memory = model.step(column, memory)
        parts.append(logits)
    torch.testing.assert_close(torch.stack(parts, dim=1), whole, atol=1e-6, rtol=1e-5)
    swapped = memory.reorder(torch.tensor([2, 0]))
    for mine, other in zip(memory.state, end, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-5)
    logits, _ = model.step(ids[[2, 0], 0], swapped)
    torch.testing.assert_close(logits, model.step(ids[:, 0], memory)[0][[2, 0]])
    assert Memory().reorder(torch.tensor([0])).state is None


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 40), st.integers(1, 9), st.integers(1, 9))
def test_scores_are_log_probabilities_however_the_text_is_cut(n, tracks, steps):
    model, ids = model_of("gru", dropout=0.5), ids_of(n)
    whole = torch.log_softmax(model.eval()(ids[None, :-1])[0][0], -1).gather(1, ids[1:, None])[:, 0]
    model.train()
    np.testing.assert_allclose(score(model, ids, steps=steps), whole.detach(), atol=1e-5)
    assert model.training
    found = score(model, ids.tolist(), tracks=tracks, steps=steps)
    length = -(-(n - 1) // tracks)
    pieces = [score(model, ids[k : k + length + 1]) for k in range(0, n - 1, length)]
    np.testing.assert_allclose(found, np.concatenate(pieces), atol=1e-5)


def test_the_generator_decides_alone():
    state = torch.get_rng_state()
    a, b = model_of(dropout=0.5), model_of(dropout=0.5)
    assert torch.equal(a(ids_of(3, 5))[0], b(ids_of(3, 5))[0])
    assert torch.equal(torch.get_rng_state(), state)


# ---- errors ----


def test_wrong_settings():
    for options, message in [
        ({"hidden": 0}, "hidden must be a whole number of at least 1, got 0"),
        ({"cell": "transformer"}, "cell must be one of rnn, lstm, gru, got 'transformer'"),
        ({"dropout": 1}, r"dropout must be in \[0, 1\), got 1"),
        ({"tied": True}, "tied needs embedding_dim = hidden, got 5 and 7"),
    ]:
        with pytest.raises(ValueError, match=message):
            model_of(**{"cell": "lstm"} | options)


def test_wrong_inputs():
    model = model_of()
    with pytest.raises(ValueError, match=r"ids has shape \(5,\), must be \(B, T\)"):
        model(ids_of(5))
    with pytest.raises(ValueError, match=r"ids has shape \(5, 1\), must be \(B,\)"):
        model.step(ids_of(5, 1))
    with pytest.raises(ValueError, match=r"ids has shape \(1,\), must be \(N,\) with at least two ids"):
        score(model, [3])
    with pytest.raises(ValueError, match="ids from 0 to 13, allowed are 0 … 12"):
        score(model, [0, 13])
    with pytest.raises(ValueError, match="tracks must be a whole number of at least 1, got 0"):
        score(model, [0, 1], tracks=0)
