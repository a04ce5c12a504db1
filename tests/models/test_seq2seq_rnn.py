"""Recurrent encoder–decoder: the formulas written out, steps against the whole, a task learned, errors."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.decode import beam_search, greedy
from lmcore.models.seq2seq import TokenMaps, pair_loss
from lmcore.models.seq2seq_rnn import RecurrentSeq2Seq, RecurrentSeq2SeqConfig
from lmcore.nn.functional import cross_entropy
from lmcore.train.buckets import BucketedBatches, pad

SMALL = RecurrentSeq2SeqConfig(source_size=13, target_size=11, embedding_dim=3, hidden=5)
PAD, BOS, EOS = 0, 1, 2
VARIANTS = [
    (cell, attention, layers)
    for cell in ("gru", "lstm")
    for attention in ("additive", "general", None)
    for layers in (1, 2)
]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def small(seed=0, **changes):
    return RecurrentSeq2Seq(dataclasses.replace(SMALL, **changes), generator=generator(seed)).eval()


def pairs(seed=0, n=7, longest=6):
    g = generator(seed)
    lengths = torch.randint(1, longest + 1, (n,), generator=g)
    lengths[0] = longest
    source = torch.randint(3, 13, (n, longest), generator=g)
    source[torch.arange(longest) >= lengths[:, None]] = PAD
    return source, lengths, torch.randint(1, 11, (n, 4), generator=g)


# ---- token maps ----


def test_token_maps_by_hand():
    maps = TokenMaps(3, 3, 4, tied=True)
    with torch.no_grad():
        maps.source.weight.copy_(torch.eye(3, 4))
        maps.output.bias.copy_(torch.tensor([0.0, 5, 0]))
    assert maps.embed_source(torch.tensor([1])).tolist() == [[0, 2, 0, 0]]  # √4
    assert torch.equal(maps.embed_target(torch.tensor([1])), maps.embed_source(torch.tensor([1])))
    assert maps.logits(torch.tensor([[3.0, 1, 0, 9]])).tolist() == [[3, 6, 0]]
    assert sum(p.numel() for p in maps.parameters()) == 12 + 3  # one matrix, counted once


def test_token_maps_untied_are_three():
    maps = TokenMaps(5, 7, 3, tied=False)
    assert [tuple(p.shape) for p in maps.parameters()] == [(5, 3), (7, 3), (7, 3), (7,)]
    assert torch.equal(maps.embed_source(torch.tensor([4])), maps.source.weight[4:])


def test_variance_of_tied_vectors_is_one():
    maps = TokenMaps(997, 997, 64, tied=True, generator=generator())
    assert 0.97 < maps.embed_source(torch.arange(997)).var() < 1.03
    assert maps.output.bias.abs().max() == 0


def test_pair_loss_is_the_cross_entropy_of_real_tokens():
    model = small()
    source, lengths, _ = pairs(n=2)
    target = torch.tensor([[BOS, 5, 7, EOS], [BOS, 4, EOS, PAD]])
    logits = model(source, lengths, target[:, :3])
    rows = torch.cat([logits[0], logits[1, :2]])
    batch = (source, lengths, target, torch.tensor([4, 3]))
    for smoothing in (0.0, 0.1):
        expected = cross_entropy(rows, torch.tensor([5, 7, EOS, 4, EOS]), label_smoothing=smoothing)
        torch.testing.assert_close(pair_loss(model, batch, pad=PAD, label_smoothing=smoothing), expected)


# ---- oracle: the formulas with torch's layers ----


@pytest.mark.parametrize(("cell", "attention", "layers"), VARIANTS)
def test_equals_the_formulas_sentence_by_sentence(cell, attention, layers):
    model = small(cell=cell, attention=attention, num_layers=layers)
    source, lengths, target = pairs()
    logits = model(source, lengths, target)
    make = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell]
    encoder, decoder = make(3, 5, layers, bidirectional=True, batch_first=True), make(3, 5, layers, batch_first=True)
    encoder.load_state_dict(model.encoder.state_dict())
    decoder.load_state_dict(model.decoder.state_dict())
    for row, n in enumerate(lengths.tolist()):  # without padding
        keys, ends = encoder(model.tokens.source.weight[source[row : row + 1, :n]])
        ends = ends if cell == "lstm" else (ends,)
        both = [torch.cat([end[0::2], end[1::2]], dim=-1) for end in ends]
        memory = tuple(torch.tanh(bridge(end)) for bridge, end in zip(model.bridge, both, strict=True))
        states, _ = decoder(model.tokens.target.weight[target[row : row + 1]], memory if cell == "lstm" else memory[0])
        for t in range(4):
            s, k = states[0, t], keys[0]
            if attention is None:
                context = both[0][-1, 0]
            elif attention == "additive":
                a = model.attention
                weights = torch.softmax(torch.tanh(a.query.weight @ s + k @ a.key.weight.T) @ a.score.weight[0], 0)
                context = weights @ k
            else:
                context = torch.softmax(k @ model.attention.key.weight.T @ s, 0) @ k
            y = torch.tanh(model.combine(torch.cat([s, context])))
            torch.testing.assert_close(logits[row, t], model.tokens.output(y), atol=1e-5, rtol=1e-5)


# ---- properties ----


@pytest.mark.parametrize(("cell", "attention", "layers"), VARIANTS)
def test_steps_give_what_the_whole_gives(cell, attention, layers):
    model = small(cell=cell, attention=attention, num_layers=layers)
    source, lengths, target = pairs()
    whole = model(source, lengths, target)
    state = model.start(source, lengths)
    rows = torch.arange(7)
    for t in range(4):
        logits, state = model.step(target[rows, t], state)
        torch.testing.assert_close(logits, whole[rows, t], atol=1e-5, rtol=1e-5)
        if t == 1:  # rows in another order, one left out, one twice
            rows = torch.tensor([6, 2, 2, 0, 3, 1])
            state = state.reorder(rows)


@pytest.mark.parametrize("attention", ["additive", None])
def test_padding_changes_nothing(attention):
    model = small(attention=attention)
    source, lengths, target = pairs()
    whole = model(source, lengths, target)
    more = torch.nn.functional.pad(source, (0, 3), value=7)
    torch.testing.assert_close(model(more, lengths, target), whole)
    for row in range(7):
        one = slice(row, row + 1)
        torch.testing.assert_close(model(source[one, : lengths[row]], lengths[one], target[one]), whole[one])


@given(st.integers(0, 3), st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_later_target_tokens_do_not_change_earlier_scores(t, seed):
    model = small()
    source, lengths, target = pairs(seed)
    before = model(source, lengths, target)
    target[:, t] = (target[:, t] + 1) % 11
    after = model(source, lengths, target)
    torch.testing.assert_close(after[:, :t], before[:, :t])
    assert (after[:, t] - before[:, t]).abs().max() > 1e-4


def test_alignment_weights_are_a_distribution_over_real_tokens():
    model = small()
    source, lengths, target = pairs()
    weights = model.align(source, lengths, target)
    assert weights.shape == (7, 4, 6)
    torch.testing.assert_close(weights.sum(-1), torch.ones(7, 4))
    padding = torch.arange(6) >= lengths[:, None]
    assert (weights.transpose(1, 2)[padding] == 0).all()
    assert (weights.transpose(1, 2)[~padding] > 0).all()


def test_greedy_is_a_beam_of_one():
    model = small(seed=3)
    source, lengths, _ = pairs()
    single = greedy(model.step, model.start(source, lengths), [[BOS]] * 7, eos=EOS, max_length=9)
    beams = beam_search(model.step, model.start(source, lengths), [[BOS]] * 7, eos=EOS, max_length=9, beam=1)
    assert [h.tokens for h in single] == [found[0].tokens for found in beams]
    wide = beam_search(model.step, model.start(source, lengths), [[BOS]] * 7, eos=EOS, max_length=9, beam=4)
    for row, found in enumerate(wide):  # what is searched in a batch has the probability that the whole model gives
        h = found[0]
        target = torch.tensor([[BOS, *h.tokens, *([EOS] if h.finished else [])]])
        one = slice(row, row + 1)
        logits = model(source[one], lengths[one], target[:, :-1])
        logprob = torch.log_softmax(logits, -1).gather(2, target[:, 1:, None]).sum()
        assert h.logprob == pytest.approx(logprob.item(), abs=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_gets_a_gradient(tied):
    model = small(tied=tied, source_size=13, target_size=13, num_layers=2, cell="lstm", dropout=0.1).train()
    source, lengths, target = pairs()
    pair_loss(model, (source, lengths, target, None), pad=PAD).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().max() > 0, name


def test_dropout_draws_from_the_generator_and_is_off_in_evaluation():
    def output(seed, train):
        model = RecurrentSeq2Seq(dataclasses.replace(SMALL, dropout=0.5), generator=generator(seed))
        return model.train(train)(*pairs())

    assert torch.equal(output(0, True), output(0, True))
    assert not torch.equal(output(0, True), output(0, False))


def reversed_by(attention, g):
    """Train to reverse rows of random words; then the model, 50 new rows, and how many of them it reverses."""
    rows = [torch.randint(3, 13, (int(n),), generator=g).tolist() for n in torch.randint(3, 7, (800,), generator=g)]
    config = dataclasses.replace(SMALL, target_size=13, embedding_dim=16, hidden=32, attention=attention)
    model = RecurrentSeq2Seq(config, generator=generator())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    batches = BucketedBatches(rows, [[BOS, *reversed(row), EOS] for row in rows], tokens=512, pad=PAD)
    for _ in range(300):
        optimizer.zero_grad()
        pair_loss(model, next(batches), pad=PAD).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    new = [torch.randint(3, 13, (6,), generator=g).tolist() for _ in range(50)]
    state = model.eval().start(*pad(new, PAD))
    found = greedy(model.step, state, [[BOS]] * 50, eos=EOS, max_length=9)
    return model, new, sum(list(h.tokens) == row[::-1] for h, row in zip(found, new, strict=True))


def test_attention_learns_to_reverse_in_a_moment_and_the_bottleneck_does_not():
    """With attention the alignment is the anti-diagonal."""
    model, new, right = reversed_by("additive", generator(1))
    assert right >= 40
    weights = model.align(*pad(new, PAD), torch.tensor([[BOS, *row[::-1]] for row in new])).mean(0)
    assert weights[:6].argmax(-1).tolist() == [5, 4, 3, 2, 1, 0]
    assert reversed_by(None, generator(1))[2] <= 20


# ---- errors ----


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": 0}, "hidden must be a whole number of at least 1, got 0"),
        ({"source_size": 2.5}, r"source_size must be a whole number of at least 1, got 2\.5"),
        ({"cell": "rnn"}, "cell must be one of gru, lstm, got 'rnn'"),
        ({"attention": "dot"}, 'attention must be "additive", "general" or None, got \'dot\''),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1\.0"),
        ({"tied": True}, "tied needs one vocabulary, got sizes 13 and 11"),
    ],
)
def test_configuration_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **changes)


def test_errors():
    source, lengths, target = pairs()
    with pytest.raises(ValueError, match="attention=None: its context is the same for every token"):
        small(attention=None).align(source, lengths, target)
    with pytest.raises(ValueError, match="tied maps need one vocabulary, but source_size is 3 and target_size 5"):
        TokenMaps(3, 5, 2, tied=True)
    with pytest.raises(ValueError, match="outside 0 … 10: the vocabulary has 11 ids"):
        small()(source, lengths, target + 1)
    lengths[2] = 0
    with pytest.raises(ValueError, match="lengths"):
        small()(source, lengths, target)
