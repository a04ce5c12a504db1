"""Multi-head attention: torch's layer with gradients, a loop over heads, step by step equals all at once, errors."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.nn.kv_cache import KVCache
from lmcore.nn.masks import causal_mask, padding_mask
from lmcore.nn.multihead import MultiHeadAttention
from lmcore.nn.positional import RotaryPositions, alibi_bias

B, T, S, HEADS, D = 2, 5, 7, 3, 4
MODEL = HEADS * D


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=generator(seed), dtype=dtype)


def pair(*, bias=True, dropout=0.0):
    """Our layer, and torch's with the same weights, none of them zero."""
    theirs = torch.nn.MultiheadAttention(MODEL, HEADS, dropout=dropout, bias=bias, batch_first=True)
    with torch.no_grad():
        for seed, p in enumerate(theirs.parameters()):
            p.copy_(normal(*p.shape, seed=seed) / 2)
    ours = MultiHeadAttention(MODEL, HEADS, bias=bias, dropout=dropout)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def gradients(y, inputs):
    """Gradients of the sum of y with random weights."""
    return torch.autograd.grad((y * normal(*y.shape, seed=9, dtype=y.dtype)).sum(), inputs, allow_unused=True)


def assert_all_close(got, expected):
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


# ---- hand-worked ----


def test_two_heads_by_hand():
    # d_model 2, heads of length 1, all projections the identity: head h sees coordinate h alone.
    layer = MultiHeadAttention(2, 2, bias=False)
    layer.load_state_dict({"in_proj_weight": torch.eye(2).repeat(3, 1), "out_proj.weight": torch.eye(2)})
    x = torch.tensor([[[math.log(3), 1.0], [0.0, 1.0]]])
    # head 0: keys and values log 3, 0; the second query is 0: the average. Head 1: all equal.
    y, weights = layer(x, need_weights=True)
    torch.testing.assert_close(y[0, 1], torch.tensor([math.log(3) / 2, 1.0]))
    assert weights.shape == (1, 2, 2, 2)
    share = 3 ** math.log(3) / (3 ** math.log(3) + 1)  # e^(log 3 · log 3) against e⁰
    torch.testing.assert_close(weights[0, 0], torch.tensor([[share, 1 - share], [0.5, 0.5]]))
    torch.testing.assert_close(weights[0, 1], torch.full((2, 2), 0.5))
    torch.testing.assert_close(y[0, 0], torch.tensor([share * math.log(3), 1.0]))


def test_grouped_heads_share_projections():
    layer = MultiHeadAttention(MODEL, HEADS, kv_heads=1, generator=generator())
    assert layer.in_proj_weight.shape == ((HEADS + 2) * D, MODEL)
    assert repr(layer).startswith("MultiHeadAttention(\n  d_model=12, heads=3, kv_heads=1, bias=True")
    full = MultiHeadAttention(MODEL, HEADS)
    state = layer.state_dict()
    for name in ("in_proj_weight", "in_proj_bias"):
        q, k, v = state[name].split([MODEL, D, D])
        state[name] = torch.cat([q, *[k] * HEADS, *[v] * HEADS])
    full.load_state_dict(state)
    x = normal(B, T, MODEL)
    torch.testing.assert_close(layer(x), full(x))
    torch.testing.assert_close(layer(x, normal(B, S, MODEL)), full(x, normal(B, S, MODEL)))


# ---- oracle: torch ----

CASES = {
    "self": ({}, {}),
    "causal": ({"causal": True}, {"attn_mask": ~causal_mask(T)}),
    "padding": ({"mask": padding_mask([3, T], T)}, {"key_padding_mask": ~padding_mask([3, T], T)[:, 0, 0]}),
    "bias": ({"bias": normal(T, T, seed=4)}, {"attn_mask": normal(T, T, seed=4)}),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("options", "torch_options"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("need_weights", [True, False])
def test_self_attention_equals_torch(options, torch_options, bias, need_weights):
    ours, theirs = pair(bias=bias)
    x, other = (normal(B, T, MODEL, seed=7).requires_grad_() for _ in range(2))
    expected, averaged = theirs(other, other, other, need_weights=need_weights, **torch_options)
    got = ours(x, need_weights=need_weights, **options)
    if need_weights:
        got, weights = got
        torch.testing.assert_close(weights.mean(1), averaged)
    assert_all_close([got], [expected])
    assert_all_close(gradients(got, [x, *ours.parameters()]), gradients(expected, [other, *theirs.parameters()]))


@pytest.mark.parametrize("bias", [True, False])
def test_cross_attention_equals_torch(bias):
    ours, theirs = pair(bias=bias)
    x, memory, x2, memory2 = (normal(B, n, MODEL, seed=n).requires_grad_() for n in (T, S, T, S))
    mask = padding_mask([3, S], S)
    expected, _ = theirs(x2, memory2, memory2, key_padding_mask=~mask[:, 0, 0])
    got = ours(x, memory, mask=mask)
    assert_all_close([got], [expected])
    assert_all_close(
        gradients(got, [x, memory, *ours.parameters()]), gradients(expected, [x2, memory2, *theirs.parameters()])
    )


def test_weights_travel_both_ways_and_begin_alike():
    torch.manual_seed(3)
    theirs, ours = torch.nn.MultiheadAttention(MODEL, HEADS), MultiHeadAttention(MODEL, HEADS, generator=generator(3))
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value)  # the same numbers from the same seed
    ours, _ = pair()
    theirs.load_state_dict(ours.state_dict())
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in theirs.state_dict().items())


def test_dropout_of_weights_equals_torch():
    ours, theirs = pair(dropout=0.4)
    x = normal(B, T, MODEL)
    torch.manual_seed(5)
    expected, _ = theirs(x, x, x, need_weights=True)
    torch.manual_seed(5)
    got = ours(x)
    assert_all_close([got], [expected])
    ours.eval()
    assert_all_close([ours(x)], [theirs.eval()(x, x, x)[0]])
    assert not torch.allclose(ours(x), got)


# ---- step by step ----


@pytest.mark.parametrize("kv_heads", [HEADS, 1])
@pytest.mark.parametrize("place", ["none", "rotary", "alibi", "padding"])
@pytest.mark.parametrize("steps", [[1] * T, [3, 2], [2, 1, 1, 1]])
@torch.no_grad()
def test_step_by_step_equals_all_at_once(kv_heads, place, steps):
    layer = MultiHeadAttention(MODEL, HEADS, kv_heads=kv_heads, generator=generator())
    x, cache, start = normal(B, T, MODEL), KVCache(), 0
    rotary = RotaryPositions(D, max_length=T) if place == "rotary" else None
    keys = padding_mask([3, T], T) if place == "padding" else None

    def run(x, length, cache=None):
        bias = alibi_bias(HEADS, x.shape[1], length) if place == "alibi" else None
        mask = None if keys is None else keys[..., :length]
        return layer(x, causal=True, rotary=rotary, bias=bias, mask=mask, cache=cache)

    expected = run(x, T)
    for n in steps:
        y = run(x[:, start : start + n], start + n, cache)
        torch.testing.assert_close(y, expected[:, start : start + n], rtol=1e-5, atol=1e-6)
        start += n
    assert cache.length == T
    if place == "rotary":  # which does something
        assert not torch.allclose(expected, layer(x, causal=True), atol=1e-3)


@torch.no_grad()
def test_cross_attention_computes_keys_once(monkeypatch):
    layer, cache = MultiHeadAttention(MODEL, HEADS, generator=generator()), KVCache()
    x, memory = normal(B, T, MODEL), normal(B, S, MODEL, seed=1)
    expected = layer(x, memory)
    for t in range(T):
        step = layer(x[:, t : t + 1], memory if t == 0 else memory.new_full(memory.shape, math.nan), cache=cache)
        torch.testing.assert_close(step, expected[:, t : t + 1])
    assert cache.length == S


@torch.no_grad()
def test_reorder_for_beams():
    layer, cache = MultiHeadAttention(MODEL, HEADS, kv_heads=1, generator=generator()), KVCache()
    x, rows = normal(3, T, MODEL), torch.tensor([2, 0, 0, 2])
    layer(x[:, :3], causal=True, cache=cache)
    cache.reorder(rows)
    for t in range(3, T):
        step = layer(x[rows, t : t + 1], causal=True, cache=cache)
    torch.testing.assert_close(step, layer(x, causal=True)[rows, -1:])


# ---- the cache alone ----


@settings(max_examples=30)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=7), st.integers(0, 9))
def test_cache_holds_what_was_appended(sizes, capacity):
    cache, k, v = KVCache(capacity), normal(B, 1, sum(sizes), 3), normal(B, 1, sum(sizes), 2, seed=1)
    start = 0
    for n in sizes:
        keys, values = cache.append(k[:, :, start : start + n], v[:, :, start : start + n])
        start += n
        assert torch.equal(keys, k[:, :, :start])
        assert torch.equal(values, v[:, :, :start])
        assert cache.length == start <= cache.capacity <= max(2 * start, capacity)


def test_cache_copies_little():
    cache, grown = KVCache(), []
    for _ in range(1000):
        cache.append(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2))
        grown.append(cache.capacity)
    assert sorted(set(grown)) == [2**i for i in range(11)]
    keys = cache.keys
    assert keys.data_ptr() == cache.append(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2))[0].data_ptr()


# ---- properties ----


@settings(max_examples=20)
@given(st.integers(0, T - 1))
def test_what_comes_later_changes_nothing(t):
    layer = MultiHeadAttention(MODEL, HEADS, generator=generator())
    x = normal(B, T, MODEL)
    before = layer(x, causal=True)
    x[:, t] += 1
    after = layer(x, causal=True)
    assert torch.equal(before[:, :t], after[:, :t])
    assert (before[:, t:] != after[:, t:]).any(-1).all()


def test_order_does_not_matter_without_positions():
    layer = MultiHeadAttention(MODEL, HEADS, generator=generator())
    x, order = normal(B, T, MODEL), torch.randperm(T, generator=generator(1))
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order])
    memory, moved = normal(B, S, MODEL), torch.randperm(S, generator=generator(1))
    torch.testing.assert_close(layer(x, memory[:, moved]), layer(x, memory))


def test_the_generator_decides_alone():
    state = torch.get_rng_state()
    first, second, third = (MultiHeadAttention(MODEL, HEADS, dropout=0.5, generator=generator(s)) for s in (1, 1, 2))
    assert torch.equal(first.in_proj_weight, second.in_proj_weight)
    assert not torch.equal(first.in_proj_weight, third.in_proj_weight)
    x = normal(B, T, MODEL)
    assert torch.equal(first(x), second(x))
    kept = copy.deepcopy(first.state_dict())
    first.reset_parameters(generator(2))
    assert not torch.equal(first.in_proj_weight, kept["in_proj_weight"])
    first.reset_parameters(generator(1))
    assert all(torch.equal(value, kept[name]) for name, value in first.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


# ---- errors ----


def test_wrong_sizes():
    for sizes, options, message in [
        ((12, 5), {}, "d_model = 12 must be a multiple of heads = 5"),
        ((12, 6), {"kv_heads": 4}, "heads = 6 must be a multiple of kv_heads = 4"),
        ((12, 0), {}, "heads must be a whole number of at least 1, got 0"),
        ((12, 3), {"kv_heads": 0}, "kv_heads must be a whole number of at least 1, got 0"),
        ((12, 3), {"dropout": 1.0}, r"p must be in \[0, 1\), got 1.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            MultiHeadAttention(*sizes, **options)


def test_wrong_inputs():
    layer, x = MultiHeadAttention(MODEL, HEADS), normal(B, T, MODEL)
    for arguments, message in [
        ((x[0],), r"x has shape \(5, 12\), must be \(batch, length, d_model\), none of them 0, with d_model = 12"),
        ((x[..., 1:],), r"x has shape \(2, 5, 11\)"),
        ((x[:, :0],), r"x has shape \(2, 0, 12\)"),
        ((x, x[:, :0]), r"memory has shape \(2, 0, 12\)"),
        ((x, x[:1]), "must share B, d, G and S"),
    ]:
        with pytest.raises(ValueError, match=message):
            layer(*arguments)
    with pytest.raises(ValueError, match=r"mask has shape \(5, 7\), must be"):
        layer(x, mask=causal_mask(T, S))
    with pytest.raises(ValueError, match="The mask looks inverted"):
        layer(x, mask=~causal_mask(T))
    for options in ({"causal": True}, {"rotary": lambda x, start: x}):
        with pytest.raises(ValueError, match="causal and rotary compare positions of one sequence; with memory there"):
            layer(x, x, **options)


def test_wrong_use_of_a_cache():
    cache, x = KVCache(), torch.zeros(2, 1, 3, 5)
    with pytest.raises(ValueError, match="the cache is empty"):
        _ = cache.keys
    with pytest.raises(ValueError, match="a cache has no gradients: decode under"):
        MultiHeadAttention(MODEL, HEADS)(normal(B, T, MODEL), cache=cache)
    cache.append(x, x)
    for k, message in [
        (
            torch.zeros(3, 1, 1, 5),
            r"k is \(3, 1, 1, 5\) of torch.float32, the cache holds \(2, 1, 3, 5\) of torch.float32",
        ),
        (torch.zeros(2, 1, 1, 4), "k is"),
        (torch.zeros(2, 1, 1, 5).double(), "k is .* torch.float64"),
        (torch.zeros(2, 1, 5), r"must be \(B, G, n, d\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            cache.append(k, k)
    for rows, message in [
        (torch.tensor([0.0]), r"rows must be \(B,\) whole numbers, got shape \(1,\) of torch.float32"),
        (torch.tensor(1), r"rows must be \(B,\) whole numbers, got shape \(\)"),
        (torch.tensor([0, 2]), r"rows holds 2, outside 0 … 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            cache.reorder(rows)
    with pytest.raises(ValueError, match="capacity must be at least 0, got -1"):
        KVCache(-1)
