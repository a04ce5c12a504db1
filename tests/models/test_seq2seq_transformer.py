"""Transformer encoder–decoder: torch's Transformer, steps against the whole, with and without cache, errors."""

import dataclasses
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.decode import beam_search, greedy, sample
from lmcore.models.seq2seq import pair_loss
from lmcore.models.seq2seq_transformer import TransformerSeq2Seq, TransformerSeq2SeqConfig
from lmcore.nn.positional import sinusoidal
from lmcore.nn.transformer import TransformerConfig

STACK = TransformerConfig(d_model=12, heads=3, d_ff=7, layers=2)
SMALL = TransformerSeq2SeqConfig(source_size=13, target_size=11, transformer=STACK, max_length=17)
PAD, BOS, EOS = 0, 1, 2
VARIANTS = [
    {},
    {"positions": "learned"},
    {"positions": "rotary"},
    {"order": "post"},
    {"norm": "rms", "activation": "swiglu", "bias": False},
    {"heads": 6, "kv_heads": 2, "positions": "rotary"},
    {"tied": True, "source_size": 11, "order": "post", "activation": "gelu"},
]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def small(seed=0, **changes):
    own = {field.name for field in dataclasses.fields(TransformerSeq2SeqConfig)}
    stack = {name: value for name, value in changes.items() if name not in own}
    changes = {name: value for name, value in changes.items() if name in own}
    config = dataclasses.replace(SMALL, transformer=dataclasses.replace(STACK, **stack), **changes)
    return TransformerSeq2Seq(config, generator=generator(seed)).eval()


def pairs(seed=0, n=7, longest=6):
    g = generator(seed)
    lengths = torch.randint(1, longest + 1, (n,), generator=g)
    lengths[0] = longest
    source = torch.randint(3, 11, (n, longest), generator=g)
    source[torch.arange(longest) >= lengths[:, None]] = PAD
    return source, lengths, torch.randint(1, 11, (n, 5), generator=g)


# ---- oracle ----


def torch_names(state, stack):
    """Our weights under the names of torch.nn.Transformer."""
    names = {"self_attention_norm": "norm1", "self_attention": "self_attn", "cross_attention_norm": "norm2"}
    names |= {"cross_attention": "multihead_attn", "feed_forward_norm": "norm2" if stack == "encoder" else "norm3"}
    names |= {"feed_forward.up": "linear1", "feed_forward.down": "linear2"}
    found = {}
    for name, value in state.items():
        for ours, theirs in names.items():
            name = name.replace(f".{ours}.", f".{theirs}.")
        found[name] = value
    return found


@pytest.mark.parametrize("order", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_equals_torchs_transformer(order, activation):
    model = small(order=order, activation=activation)
    options = {"dim_feedforward": 7, "dropout": 0.0, "activation": activation, "batch_first": True}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="enable_nested_tensor is True")  # a fast path that it cannot take
        theirs = torch.nn.Transformer(12, 3, 2, 2, **options, norm_first=order == "pre").eval()
    if order == "post":  # torch puts one more norm after the last block
        theirs.encoder.norm = theirs.decoder.norm = None
    theirs.encoder.load_state_dict(torch_names(model.encoder.state_dict(), "encoder"))
    theirs.decoder.load_state_dict(torch_names(model.decoder.state_dict(), "decoder"))
    source, lengths, target = pairs()
    hidden = torch.arange(6) >= lengths[:, None]  # torch: True = may not attend
    y = theirs(
        model.tokens.source.weight[source] + sinusoidal(6, 12),
        model.tokens.target.weight[target] + sinusoidal(5, 12),
        tgt_mask=torch.ones(5, 5, dtype=torch.bool).triu(1),
        src_key_padding_mask=hidden,
        memory_key_padding_mask=hidden,
    )
    torch.testing.assert_close(model(source, lengths, target), model.tokens.output(y), atol=1e-5, rtol=1e-5)


def test_tied_embeddings_are_multiplied_by_the_root_of_d():
    model = small(tied=True, source_size=11)
    seen = []
    model.encoder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    source, lengths, target = pairs()
    model(source, lengths, target)
    expected = model.tokens.output.weight[source] * 12**0.5 + sinusoidal(6, 12)
    torch.testing.assert_close(seen[0], expected)


def test_learned_positions_of_source_and_target_are_two():
    model = small(positions="learned")
    with torch.no_grad():
        model.source_positions.weight.normal_(generator=generator(1))
        before = model(*pairs())
        model.target_positions.weight[4, 0] += 1
        after = model(*pairs())
    torch.testing.assert_close(after[:, :4], before[:, :4])
    assert (after[:, 4] - before[:, 4]).abs().max() > 0.01


# ---- properties ----


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize("cache", [True, False])
@torch.no_grad()
def test_steps_give_what_the_whole_gives(changes, cache):
    model = small(**changes)
    source, lengths, target = pairs()
    whole = model(source, lengths, target)
    state = model.start(source, lengths, cache=cache)
    rows = torch.arange(7)
    for t in range(5):
        logits, state = model.step(target[rows, t], state)
        torch.testing.assert_close(logits, whole[rows, t], atol=1e-5, rtol=1e-5)
        if t == 1:  # rows in another order, one left out, one twice
            chosen = torch.tensor([6, 2, 2, 0, 3, 1])
        elif t == 3:
            chosen = torch.tensor([5, 0, 0])
        else:
            continue
        rows, state = rows[chosen], state.reorder(chosen)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_padding_changes_nothing(changes):
    model = small(**changes)
    source, lengths, target = pairs()
    whole = model(source, lengths, target)
    more = torch.nn.functional.pad(source, (0, 3), value=7)
    torch.testing.assert_close(model(more, lengths, target), whole, atol=1e-5, rtol=1e-5)
    for row in range(7):
        one = slice(row, row + 1)
        alone = model(source[one, : lengths[row]], lengths[one], target[one])
        torch.testing.assert_close(alone, whole[one], atol=1e-5, rtol=1e-5)


@given(st.integers(0, 4), st.integers(0, 99), st.sampled_from(VARIANTS))
@settings(deadline=None, max_examples=30)
def test_later_target_tokens_do_not_change_earlier_scores(t, seed, changes):
    model = small(**changes)
    source, lengths, target = pairs(seed)
    before = model(source, lengths, target)
    target[:, t] = (target[:, t] + 1) % 11
    after = model(source, lengths, target)
    torch.testing.assert_close(after[:, :t], before[:, :t], atol=1e-5, rtol=1e-5)
    assert (after[:, t] - before[:, t]).abs().max() > 1e-4


@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "rotary"])
def test_order_of_the_source_matters(positions):
    model = small(positions=positions)
    if positions == "learned":
        torch.nn.init.normal_(model.source_positions.weight, generator=generator(1))
    source, lengths, target = torch.tensor([[3, 5, 7, 9]]), torch.tensor([4]), torch.tensor([[1, 4, 6]])
    change = model(source, lengths, target) - model(source.flip(1), lengths, target)
    assert change.abs().max() > 1e-3


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_decoding_with_and_without_cache_is_the_same(changes):
    model = small(seed=1, **changes)
    source, lengths, _ = pairs()
    found = {}
    for cache in (True, False):

        def start():
            return model.start(source, lengths, cache=cache)  # noqa: B023 (used at once)

        search = {"eos": EOS, "max_length": 9}
        single = greedy(model.step, start(), [[BOS]] * 7, **search)
        one = beam_search(model.step, start(), [[BOS]] * 7, beam=1, **search)
        assert [h.tokens for h in single] == [beams[0].tokens for beams in one]
        wide = beam_search(model.step, start(), [[BOS], [BOS, 5], *[[BOS]] * 5], beam=3, alpha=0.6, **search)
        drawn = sample(model.step, start(), [[BOS]] * 7, generator=generator(2), **search)
        found[cache] = (
            [h.tokens for h in single],
            [[h.tokens for h in beams] for beams in wide],
            [h.tokens for h in drawn],
        )
    assert found[True] == found[False]


def test_weights_of_cross_attention_are_distributions_over_real_tokens():
    model = small()
    source, lengths, target = pairs()
    weights = model.align(source, lengths, target)
    assert [w.shape for w in weights] == [(7, 3, 5, 6)] * 2
    for w in weights:
        torch.testing.assert_close(w.sum(-1), torch.ones(7, 3, 5))
        assert (w.permute(0, 3, 1, 2)[torch.arange(6) >= lengths[:, None]] == 0).all()


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_every_parameter_gets_a_gradient(changes):
    model = small(**changes, dropout=0.1).train()
    pair_loss(model, (*pairs(), None), pad=PAD).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().max() > 0, name


def test_dropout_draws_from_the_generator():
    assert torch.equal(small(dropout=0.5).train()(*pairs()), small(dropout=0.5).train()(*pairs()))
    assert not torch.equal(small(dropout=0.5).train()(*pairs()), small(dropout=0.5)(*pairs()))


def test_state_dict_round_trip():
    model, other = small(tied=True, source_size=11), small(seed=5, tied=True, source_size=11)
    assert not torch.equal(model(*pairs()), other(*pairs()))
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(*pairs()), other(*pairs()))
    assert other.tokens.output.weight is other.tokens.source.weight


# ---- errors ----


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source_size": 0}, "source_size must be a whole number of at least 1, got 0"),
        ({"max_length": 1.5}, r"max_length must be a whole number of at least 1, got 1\.5"),
        ({"positions": "none"}, "positions must be one of sinusoidal, learned, rotary, got 'none'"),
        ({"positions": "rotary", "heads": 4}, "positions 'rotary' turn pairs of numbers, but there are 3"),
        ({"d_model": 9}, "positions 'sinusoidal' turn pairs of numbers, but there are 9"),
        ({"tied": True}, "tied needs one vocabulary, got sizes 13 and 11"),
    ],
)
def test_configuration_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_errors():
    model = small()
    source, lengths, target = pairs()
    with pytest.raises(ValueError, match="needs 18 positions, but there are max_length = 17"):
        model(source, lengths, torch.ones(7, 18, dtype=torch.long))
    with pytest.raises(ValueError, match="outside 0 … 10: the vocabulary has 11 ids"):
        model(source, lengths, target + 1)
    with pytest.raises(ValueError, match="a cache has no gradients"):
        model.step(target[:, 0], model.start(source, lengths))
    lengths[2] = 0
    with pytest.raises(ValueError, match=r"lengths\[2\] = 0 is outside"):
        model(source, lengths, target)
