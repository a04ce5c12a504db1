"""Bengio's model: a tiny one computed on paper, torch's layers, the n-gram model's events, errors."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from lmcore.classical.ngram import MaximumLikelihood
from lmcore.models.neural_ngram import NeuralNgram, NeuralNgramConfig, score, windows
from lmcore.nn.functional import cross_entropy
from lmcore.text.vocab import BOS, EOS, Vocabulary

SMALL = NeuralNgramConfig(vocabulary_size=11, context=3, embedding_dim=2, hidden=5, direct=True)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def numbers(seed=0, n=13, config=SMALL):
    rng = np.random.default_rng(seed)
    return rng.integers(config.vocabulary_size, size=(n, config.context)), rng.integers(config.vocabulary_size, size=n)


# ---- hand-worked ----


def test_two_words_one_unit_by_hand():
    config = NeuralNgramConfig(vocabulary_size=2, context=2, embedding_dim=1, hidden=1, direct=True)
    model = NeuralNgram(config)
    values = {
        "embedding.weight": [[0.5], [-1.0]],
        "hidden.weight": [[2.0, 1.0]],
        "hidden.bias": [0.25],
        "output.weight": [[1.0], [-2.0]],
        "output.bias": [0.0, 3.0],
        "direct.weight": [[1.0, 0.0], [0.0, 4.0]],
    }
    model.load_state_dict({name: torch.tensor(value) for name, value in values.items()})
    h = np.tanh(0.25 + 2 * 0.5 + 1 * -1.0)  # word 0, then word 1
    y = np.array([0 + h + 0.5, 3 - 2 * h - 4])
    logits = model(torch.tensor([[0, 1]]))
    np.testing.assert_allclose(logits.detach()[0], y, rtol=1e-6)
    logprob = y[1] - np.log(np.exp(y).sum())
    np.testing.assert_allclose(score(model, [[0, 1]], [1]), [logprob], rtol=1e-6)


@pytest.mark.parametrize("direct", [True, False])
def test_equals_the_formula(direct):
    config = dataclasses.replace(SMALL, direct=direct)
    model = NeuralNgram(config, generator=generator()).double()
    contexts, targets = numbers()
    C, H, d, U, b = (
        p.detach().numpy()
        for p in (model.embedding.weight, model.hidden.weight, model.hidden.bias, *model.output.parameters())
    )
    x = np.stack([np.concatenate([C[word] for word in context]) for context in contexts])
    y = b + np.tanh(d + x @ H.T) @ U.T + (x @ model.direct.weight.detach().numpy().T if direct else 0)
    np.testing.assert_allclose(model(torch.tensor(contexts)).detach(), y, rtol=1e-12)
    logprobs = y[np.arange(13), targets] - np.log(np.exp(y).sum(axis=1))
    np.testing.assert_allclose(score(model, contexts, targets), logprobs, rtol=1e-12)


@pytest.mark.parametrize("direct", [True, False])
def test_number_of_parameters_is_the_papers(direct):
    v, n, m, h = 17, 5, 3, 7
    config = NeuralNgramConfig(vocabulary_size=v, context=n - 1, embedding_dim=m, hidden=h, direct=direct)
    counted = sum(p.numel() for p in NeuralNgram(config).parameters())
    assert counted == config.parameters
    assert counted == v * (1 + n * m + h) + h * (1 + (n - 1) * m) - (0 if direct else v * (n - 1) * m)


def test_windows_by_hand():
    contexts, targets = windows([[5, 7, 3], [], [2]], 2, bos=0, eos=1)
    assert contexts.tolist() == [[0, 0], [0, 5], [5, 7], [7, 3], [0, 0], [0, 0], [0, 2]]
    assert targets.tolist() == [5, 7, 3, 1, 1, 2, 1]
    assert contexts.dtype == targets.dtype == np.int64
    contexts, targets = windows([], 3, bos=0, eos=1)
    assert contexts.shape == (0, 3)
    assert targets.shape == (0,)


# ---- oracle: torch, and the model that counts ----


def test_equals_torch_layers():
    config = dataclasses.replace(SMALL, direct=False)
    ours = NeuralNgram(config, generator=generator())
    theirs = torch.nn.Sequential(
        torch.nn.Embedding(11, 2), torch.nn.Flatten(), torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 11)
    )
    renamed = {"embedding": "0", "hidden": "2", "output": "4"}
    names = {name: renamed[name.split(".")[0]] + "." + name.split(".")[1] for name in ours.state_dict()}
    theirs.load_state_dict({names[name]: value for name, value in ours.state_dict().items()})
    contexts, targets = map(torch.tensor, numbers())
    torch.testing.assert_close(ours(contexts), theirs(contexts))
    cross_entropy(ours(contexts), targets).backward()
    torch.nn.functional.cross_entropy(theirs(contexts), targets).backward()
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs.get_parameter(names[name]).grad)


@given(
    sentences=st.lists(st.lists(st.sampled_from("abcde"), max_size=7), min_size=1, max_size=11),
    context=st.integers(1, 5),
)
def test_windows_are_the_events_of_the_ngram_model(sentences, context):
    vocabulary = Vocabulary("abcde")
    counted = MaximumLikelihood(context + 1).fit(sentences)
    events = [event for sentence in sentences for event in counted._events(sentence)]
    ids = [vocabulary.encode(sentence) for sentence in sentences]
    contexts, targets = windows(ids, context, bos=vocabulary.id(BOS), eos=vocabulary.id(EOS))
    assert [
        (tuple(vocabulary.decode(c)), vocabulary.decode([t])[0]) for c, t in zip(contexts, targets, strict=True)
    ] == events
    assert len(counted.score(sentences)) == len(targets)


# ---- properties ----


def test_gradients_by_finite_differences():
    config = NeuralNgramConfig(vocabulary_size=5, context=2, embedding_dim=3, hidden=2, direct=True)
    model = NeuralNgram(config, generator=generator()).double()
    contexts, targets = map(torch.tensor, numbers(n=7, config=config))
    names = [name for name, _ in model.named_parameters()]

    def loss(*values):
        logits = torch.func.functional_call(model, dict(zip(names, values, strict=True)), (contexts,))
        return cross_entropy(logits, targets)

    assert gradcheck(loss, tuple(model.parameters()))


def test_score_does_not_depend_on_the_batches_or_on_dropout():
    model = NeuralNgram(dataclasses.replace(SMALL, dropout=0.5), generator=generator())
    contexts, targets = numbers()
    model.train()
    whole = score(model, contexts, targets)
    assert model.training
    assert whole.dtype == np.float64
    np.testing.assert_allclose(score(model, contexts, targets, batch_size=5), whole, rtol=1e-5)
    np.testing.assert_allclose(whole.mean(), -cross_entropy(model.eval()(torch.tensor(contexts)),
                                                            torch.tensor(targets)).item(), rtol=1e-5)  # fmt: skip
    score(model, contexts, targets)
    assert not model.training
    assert not torch.equal(model.train()(torch.tensor(contexts)), model(torch.tensor(contexts)))
    assert all(p.grad is None for p in model.parameters())
    assert score(model, contexts[:0], targets[:0]).shape == (0,)


def test_probabilities_add_up_to_one():
    model, contexts = NeuralNgram(SMALL, generator=generator()), numbers()[0]
    total = sum(np.exp(score(model, contexts, np.full(len(contexts), word))) for word in range(11))
    np.testing.assert_allclose(total, 1, rtol=1e-5)


def test_learns_what_can_be_learned():
    """The next word is a function of the two before; after a hundred steps the model is nearly sure."""
    config = NeuralNgramConfig(vocabulary_size=7, context=2, embedding_dim=5, hidden=31)
    model = NeuralNgram(config, generator=generator())
    contexts = np.stack(np.meshgrid(np.arange(7), np.arange(7)), axis=-1).reshape(-1, 2)
    targets = (contexts[:, 0] * 3 + contexts[:, 1] * 2) % 7
    assert score(model, contexts, targets).mean() == pytest.approx(-np.log(7), abs=0.4)
    adam = torch.optim.Adam(model.parameters(), lr=0.05, foreach=False)
    for _ in range(100):
        adam.zero_grad()
        cross_entropy(model(torch.tensor(contexts)), torch.tensor(targets)).backward()
        adam.step()
    assert score(model, contexts, targets).min() > np.log(0.9)


def test_same_seed_same_model():
    a, b, c = (NeuralNgram(SMALL, generator=generator(seed)) for seed in (1, 1, 2))
    for name, parameter in a.named_parameters():
        assert torch.equal(parameter, b.get_parameter(name))
        assert not torch.equal(parameter, c.get_parameter(name))


# ---- errors ----


@pytest.mark.parametrize(("change", "message"), [
    ({"vocabulary_size": 0}, "vocabulary_size must be a whole number of at least 1, got 0"),
    ({"context": 2.5}, "context must be a whole number of at least 1, got 2.5"),
    ({"embedding_dim": -1}, "embedding_dim must be"),
    ({"hidden": 0}, "hidden must be"),
    ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
])  # fmt: skip
def test_impossible_configurations(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)


def test_a_configuration_is_frozen_and_named():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SMALL.hidden = 3
    with pytest.raises(TypeError):
        NeuralNgramConfig(11)


def test_windows_name_what_is_wrong():
    with pytest.raises(ValueError, match="context must be a whole number of at least 1, got 0"):
        windows([[5]], 0, bos=0, eos=1)
    for wrong in (0, 1):
        with pytest.raises(ValueError, match="a sentence holds bos = 0 or eos = 1"):
            windows([[5], [7, wrong, 5]], 2, bos=0, eos=1)
    for sentences in (["the cat".split()], [[5.0, 7.5]]):
        with pytest.raises(TypeError, match="sentences must hold ids, whole numbers, got"):
            windows(sentences, 2, bos=0, eos=1)


def test_inputs_of_wrong_shape_or_range():
    model, (contexts, targets) = NeuralNgram(SMALL), numbers()
    with pytest.raises(ValueError, match=r"contexts has shape \(13, 2\), must be \(B, 3\)"):
        model(torch.tensor(contexts[:, 1:]))
    with pytest.raises(ValueError, match=r"id 11 at .* is outside 0 … 10: the vocabulary has 11 ids"):
        model(torch.full((2, 3), 11))
    with pytest.raises(ValueError, match=r"targets has shape \(12,\), must be \(13,\): one per context"):
        score(model, contexts, targets[1:])
    with pytest.raises(ValueError, match=r"targets holds ids from 11 to 11, allowed are 0 … 10"):
        score(model, contexts, np.full(13, 11))
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        score(model, contexts, targets, batch_size=0)
