"""Truncated backpropagation: pieces that continue each other, gradients that stop, runs that go on exactly."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lmcore.train.loop import Trainer, TrainingConfig
from lmcore.train.optim import SGD
from lmcore.train.tbptt import ContiguousBatches, detach


class Reader(nn.Module):
    """A small recurrent model of ids."""

    def __init__(self):
        super().__init__()
        self.embedding, self.rnn, self.output = nn.Embedding(7, 3), nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 7)

    def forward(self, x, state=None):
        outputs, state = self.rnn(self.embedding(x), state)
        return self.output(outputs), state


def reader(seed=0):
    torch.manual_seed(seed)
    return Reader()


def loss_of(model, batch, batches):
    x, y = batch
    logits, state = model(x, batches.state)
    batches.state = detach(state)
    return nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())


def gradient(model, batches, n):
    """Sum of the gradients of n pieces, each weighed by its number of predictions."""
    model.zero_grad()
    for _ in range(n):
        batch = next(batches)
        (loss_of(model, batch, batches) * batch[1].numel()).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


# ---- hand-worked ----


def test_tracks_by_hand():
    batches = ContiguousBatches(list(range(12)), batch_size=2, steps=3)  # 11 predictions: 5 for each track
    assert len(batches) == 2
    x, y = next(batches)
    assert (x.tolist(), y.tolist()) == ([[0, 1, 2], [5, 6, 7]], [[1, 2, 3], [6, 7, 8]])
    x, y = next(batches)
    assert (x.tolist(), y.tolist()) == ([[3, 4], [8, 9]], [[4, 5], [9, 10]])
    assert (batches.epoch, batches.position) == (1, 0)
    assert next(batches)[0].tolist() == [[0, 1, 2], [5, 6, 7]]


def test_the_state_begins_anew_with_the_text():
    batches = ContiguousBatches(range(7), batch_size=1, steps=3)
    for expected in (None, "carried", None, "carried"):
        next(batches)
        assert batches.state == expected
        batches.state = "carried"


# ---- oracle: full backpropagation ----


def test_with_one_piece_it_is_full_backpropagation():
    ids = torch.randint(7, (41,), generator=torch.Generator().manual_seed(1))
    model = reader()
    whole = gradient(model, ContiguousBatches(ids, batch_size=2, steps=20), 1)
    torch.testing.assert_close(gradient(model, ContiguousBatches(ids, batch_size=2, steps=999), 1), whole)
    x, y = ids[:40].view(2, 20), ids[1:].view(2, 20)
    loss = nn.functional.cross_entropy(model(x)[0].flatten(0, 1), y.flatten())
    expected = torch.autograd.grad(40 * loss, list(model.parameters()))
    torch.testing.assert_close(whole, torch.cat([g.flatten() for g in expected]))


def test_with_more_pieces_the_losses_are_the_same_and_the_gradient_is_not():
    ids = torch.randint(7, (41,), generator=torch.Generator().manual_seed(1))
    model = reader()
    one, many = (ContiguousBatches(ids, batch_size=2, steps=steps) for steps in (20, 4))
    pieces = [loss_of(model, next(many), many).item() for _ in range(5)]
    assert sum(pieces) / 5 == pytest.approx(loss_of(model, next(one), one).item(), rel=1e-5)  # nothing is forgotten
    assert not torch.allclose(gradient(model, one, 1), gradient(model, many, 5), rtol=1e-3)


# ---- properties ----


@given(st.integers(1, 60), st.integers(1, 7), st.integers(1, 9))
def test_every_prediction_once_and_in_order(n, batch_size, steps):
    ids = torch.arange(n + batch_size)
    batches = ContiguousBatches(ids, batch_size=batch_size, steps=steps)
    pieces = [next(batches) for _ in range(len(batches))]
    assert batches.epoch == 1
    x, y = (torch.cat(parts, dim=1) for parts in zip(*pieces, strict=True))
    assert x.flatten().tolist() == list(range((len(ids) - 1) // batch_size * batch_size))
    assert torch.equal(y, x + 1)
    assert all(piece.shape[1] == steps for piece, _ in pieces[:-1])


def test_detach_keeps_the_kind():
    h = torch.ones(2, requires_grad=True) * 2
    state = detach((h, [h, None, 3]))
    assert isinstance(state, tuple)
    assert isinstance(state[1], list)
    assert not state[0].requires_grad
    assert not state[1][0].requires_grad
    assert state[1][1:] == [None, 3]
    assert detach(None) is None


def test_a_resumed_run_is_the_same_bit_by_bit(tmp_path):
    ids = torch.randint(7, (200,), generator=torch.Generator().manual_seed(1))

    def run(path, steps):
        model, batches = reader(3), ContiguousBatches(ids, batch_size=3, steps=5)
        trainer = Trainer(
            model,
            lambda model, batch: loss_of(model, batch, batches),
            batches,
            SGD(model.parameters(), 0.5),
            config=TrainingConfig(steps=steps),
            path=path,
        )
        trainer.run()
        return torch.cat([p.flatten() for p in model.parameters()])

    whole = run(None, 17)
    run(tmp_path / "run", 7)
    assert torch.equal(run(tmp_path / "run", 17), whole)


# ---- errors ----


def test_wrong_settings():
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1, got 0"):
        ContiguousBatches(range(9), batch_size=0, steps=3)
    with pytest.raises(ValueError, match=r"steps must be a whole number of at least 1, got 2\.0"):
        ContiguousBatches(range(9), batch_size=2, steps=2.0)
    for ids in (range(3), [[1, 2], [3, 4]]):
        with pytest.raises(ValueError, match=r"ids has shape \(.*\), must be \(N,\) with N > batch_size = 3"):
            ContiguousBatches(ids, batch_size=3, steps=1)
    with pytest.raises(TypeError, match=r"ids must be whole numbers, got torch\.float32"):
        ContiguousBatches(torch.ones(9), batch_size=2, steps=3)


def test_a_place_in_other_batches():
    saved = ContiguousBatches(range(20), batch_size=2, steps=3).state_dict()
    with pytest.raises(ValueError, match="the saved batches have steps 3, these 4: other data"):
        ContiguousBatches(range(20), batch_size=2, steps=4).load_state_dict(saved)
    with pytest.raises(ValueError, match="the saved batches have ids 18, these 20"):
        ContiguousBatches(range(21), batch_size=2, steps=3).load_state_dict(copy.deepcopy(saved))
