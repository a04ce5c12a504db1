"""Additive and multiplicative attention: numbers from paper, loops, masks, errors."""

import math

import pytest
import torch

from lmcore.nn.alignment import AdditiveAttention, MultiplicativeAttention

B, T, S, A, K, N = 2, 3, 5, 7, 11, 13  # rows, queries, keys, their lengths, hidden units


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


LAYERS = {
    "additive": lambda: AdditiveAttention(A, K, N, generator=generator()).double(),
    "general": lambda: MultiplicativeAttention(A, K, generator=generator()).double(),
    "dot": lambda: MultiplicativeAttention(A, A, score="dot"),
    "scaled dot": lambda: MultiplicativeAttention(A, A, score="scaled_dot"),
}


def score(name, layer, q, k):
    """One score, from the formula."""
    if name == "additive":
        return layer.score.weight[0] @ torch.tanh(layer.query.weight @ q + layer.key.weight @ k)
    if name == "general":
        return q @ layer.key.weight @ k
    return q @ k / (math.sqrt(A) if name == "scaled dot" else 1)


def make(name):
    layer = LAYERS[name]()
    return layer, normal(B, T, A), normal(B, S, layer.key_dim, seed=1)


# ---- hand-worked ----


def test_additive_by_hand():
    layer = AdditiveAttention(1, 1, 1)
    state = {"query.weight": 1.0, "key.weight": 2.0, "score.weight": 5 * math.log(3)}
    layer.load_state_dict({name: torch.tensor([[value]]) for name, value in state.items()})
    # q = −2 log 3: keys log 3 and 3/2 log 3 give tanh 0 = 0 and tanh(log 3) = 4/5, so scores 0 and 4 log 3: 1 : 81
    keys = torch.tensor([[[math.log(3)], [1.5 * math.log(3)]]])
    context, weights = layer(torch.tensor([[[-2 * math.log(3)]]]), keys)
    torch.testing.assert_close(weights, torch.tensor([[[1 / 82, 81 / 82]]]))
    torch.testing.assert_close(context, torch.tensor([[[(1 + 1.5 * 81) / 82 * math.log(3)]]]))


def test_multiplicative_by_hand():
    layer = MultiplicativeAttention(1, 2)
    layer.load_state_dict({"key.weight": torch.tensor([[1.0, 2.0]])})
    keys = torch.tensor([[[0.0, 0.0], [math.log(2), 0.0], [0.0, math.log(2)]]])  # scores 0, log 2, 2 log 2
    _, weights = layer(torch.tensor([[[1.0]]]), keys)
    torch.testing.assert_close(weights, torch.tensor([[[1.0, 2, 4]]]) / 7)
    _, weights = layer(torch.tensor([[[1.0]]]), keys, mask=torch.tensor([[True, False, True]]))
    torch.testing.assert_close(weights, torch.tensor([[[1.0, 0, 4]]]) / 5)


# ---- oracle: the formula in a loop, gradients too ----


@pytest.mark.parametrize("name", LAYERS)
def test_equals_a_loop(name):
    layer, q, k = make(name)
    q, k = q.requires_grad_(), k.requires_grad_()
    context, weights = layer(q, k)
    rows = [torch.stack([torch.stack([score(name, layer, qt, ks) for ks in k[b]]) for qt in q[b]]) for b in range(B)]
    expected = torch.exp(torch.stack(rows))
    expected = expected / expected.sum(-1, keepdim=True)
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(context, torch.einsum("bts,bsk->btk", expected, k))
    factors = normal(*context.shape, seed=2)
    wanted = [q, k, *layer.parameters()]
    got = torch.autograd.grad((context * factors).sum(), wanted)
    for a, b in zip(got, torch.autograd.grad((expected @ k * factors).sum(), wanted), strict=True):
        torch.testing.assert_close(a, b)


# ---- properties ----


@pytest.mark.parametrize("name", LAYERS)
def test_padding_has_no_influence(name):
    layer, q, k = make(name)
    mask = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    context, weights = layer(q, k, mask=mask)
    assert (weights[0, :, 3:] == 0).all()
    torch.testing.assert_close(context[:1], layer(q[:1], k[:1, :3])[0])
    torch.testing.assert_close(context[1:], layer(q[1:], k[1:])[0])
    k[0, 3:] = 1e3
    torch.testing.assert_close(layer(q, k, mask=mask)[0], context)


@pytest.mark.parametrize("name", LAYERS)
def test_keys_in_another_order_have_the_same_context(name):
    layer, q, k = make(name)
    order = torch.randperm(S, generator=generator(3))
    context, weights = layer(q, k)
    other, moved = layer(q, k[:, order])
    torch.testing.assert_close(other, context)
    torch.testing.assert_close(moved, weights[..., order])


@pytest.mark.parametrize("name", LAYERS)
def test_step_by_step_with_keys_projected_once(name):
    layer, q, k = make(name)
    projected = layer.project(k)
    whole, _ = layer(q, k)
    for t in range(T):
        context, weights = layer(q[:, t : t + 1], k, projected=projected)
        torch.testing.assert_close(context, whole[:, t : t + 1])
        assert weights.shape == (B, 1, S)


def test_the_generator_decides_alone():
    state = torch.get_rng_state()
    for make_layer in (LAYERS["additive"], LAYERS["general"]):
        first, second = (list(make_layer().parameters()) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


# ---- errors ----


def test_errors():
    layer, q, k = make("general")
    for arguments, message in [
        ((q[0], k), r"query has shape \(3, 7\), must be \(B, T, a\), none of them 0, ending in 7"),
        ((q[..., 1:], k), r"query has shape \(2, 3, 6\), .* ending in 7"),
        ((q, k[:, :0]), r"keys has shape \(2, 0, 11\), must be \(B, S, b\), none of them 0, ending in 11"),
        ((q[:1], k), "query has 1 rows, keys 2; they must be equal"),
    ]:
        with pytest.raises(ValueError, match=message):
            layer(*arguments)
    ones = torch.ones(B, S, dtype=torch.bool)
    for mask, message in [
        (ones[:, :-1], r"mask is \(2, 4\) of torch.bool, must be \(B, S\) = \(2, 5\) of torch.bool"),
        (ones.float(), r"mask is \(2, 5\) of torch.float32, must be"),
        (~ones, r"mask\[0\] is False everywhere: may attend to nothing. .* looks inverted"),
    ]:
        with pytest.raises(ValueError, match=message):
            layer(q, k, mask=mask)
    with pytest.raises(ValueError, match=r"score must be .*general., got 'concat'"):
        MultiplicativeAttention(3, 3, score="concat")
    with pytest.raises(ValueError, match=r"dot. needs queries and keys of one length, got query_dim = 3, key_dim = 5"):
        MultiplicativeAttention(3, 5, score="dot")
    with pytest.raises(ValueError, match="out_features must be a whole number of at least 1, got 0"):
        AdditiveAttention(3, 5, 0)
