"""Attention: numbers from paper, four versions and torch's layer equal with gradients, properties, errors."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from lmcore.nn.attention import (
    attention,
    attention_loop,
    attention_matrix,
    attention_tiled,
    dot_scores,
    scaled_dot_scores,
    share_heads,
)
from lmcore.nn.masks import causal_mask, padding_mask

B, H, T, S, D, E = 2, 3, 5, 7, 11, 13


def tiled(block):
    return lambda *args, **kwargs: attention_tiled(*args, block=block, **kwargs)


VERSIONS = {
    "loop": attention_loop,
    "matrix": attention_matrix,
    "tiled 1": tiled(1),
    "tiled 3": tiled(3),
    "tiled 64": tiled(64),
    "fused": attention,
}


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def inputs(b=B, h=H, g=H, t=T, s=S, d=D, e=E, dtype=torch.float64):
    return (
        normal(b, h, t, d, dtype=dtype),
        normal(b, g, s, d, seed=1, dtype=dtype),
        normal(b, g, s, e, seed=2, dtype=dtype),
    )


def value_and_gradients(version, *tensors, **options):
    """The result, and the gradients of its numbers' sum with random weights; a bias among the options has one too."""
    tensors = [x.clone().requires_grad_() for x in tensors]
    if options.get("bias") is not None:
        options["bias"] = options["bias"].clone().requires_grad_()
        tensors.append(options["bias"])
    y = version(*tensors[:3], **options)
    return [y.detach(), *torch.autograd.grad((y * normal(*y.shape, seed=3, dtype=y.dtype)).sum(), tensors)]


def reference(q, k, v, mask=None, bias=None, causal=False, scale=None):
    """Another way to write the formula: exponentials of an einsum, no softmax, no −∞."""
    (h, t, d), (g, s) = q.shape[1:], k.shape[1:3]
    k, v = torch.repeat_interleave(k, h // g, 1), torch.repeat_interleave(v, h // g, 1)
    scores = torch.einsum("bhtd,bhsd->bhts", q, k) * (d**-0.5 if scale is None else scale)
    powers = torch.exp(scores + (0 if bias is None else bias))
    if mask is not None:
        powers = powers * mask
    if causal:
        powers = powers * (torch.arange(s) <= torch.arange(t)[:, None] + s - t)
    return torch.einsum("bhts,bhse->bhte", powers / powers.sum(-1, keepdim=True), v)


# ---- hand-worked ----


@pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)
def test_by_hand(version):
    # d = 4, so scores are halved: (4, 0) / 2 = 2 log 3 and so on; weights 9 : 1 and 1 : 1
    log3 = math.log(3)
    q = torch.tensor([[[[1.0, 0, 0, 0], [0, 0, 1, 0]]]], dtype=torch.float64)
    k = torch.tensor([[[[4 * log3, 0, 0, 0], [0, 7, 0, 0]]]], dtype=torch.float64)
    v = torch.tensor([[[[10.0, 0, 1], [0, 20, 1]]]], dtype=torch.float64)
    expected = torch.tensor([[[[9.0, 2, 1], [5, 10, 1]]]], dtype=torch.float64)
    torch.testing.assert_close(version(q, k, v), expected)
    first = torch.tensor([[[[10.0, 0, 1], [5, 10, 1]]]], dtype=torch.float64)  # the first query sees the first key only
    torch.testing.assert_close(version(q, k, v, causal=True), first)
    torch.testing.assert_close(version(q, k, v, mask=causal_mask(2)), first)
    bias = torch.tensor([0.0, 2 * log3], dtype=torch.float64).view(1, 1, 1, 2)  # makes up for it: 1 : 1, then 1 : 9
    torch.testing.assert_close(version(q, k, v, bias=bias)[0, 0, :, 0], torch.tensor([5.0, 1], dtype=torch.float64))
    torch.testing.assert_close(version(q, k, v, scale=0.25)[0, 0, 0], torch.tensor([7.5, 5, 1], dtype=torch.float64))


def test_scores_by_hand():
    q, k = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 2.0], [5.0, 0.0], [0.0, -1.0]])
    assert dot_scores(q, k).tolist() == [[11, 15, -4]]
    torch.testing.assert_close(scaled_dot_scores(q, k), torch.tensor([[11, 15, -4]]) / math.sqrt(2))
    assert scaled_dot_scores(q, k, scale=2).tolist() == [[22, 30, -8]]


def test_weights_on_request():
    q, k, v = inputs()
    y, weights = attention_matrix(q, k, v, mask=causal_mask(T, S), need_weights=True)
    assert weights.shape == (B, H, T, S)
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, H, T, dtype=torch.float64))
    assert (weights[:, :, 0, S - T + 1 :] == 0).all()
    assert (weights[:, :, 0, : S - T + 1] > 0).all()
    torch.testing.assert_close(weights @ v, y)
    dropped = attention_matrix(q, k, v, dropout=lambda w: 2 * w)
    torch.testing.assert_close(dropped, 2 * attention_matrix(q, k, v))


def test_heads_are_shared_by_neighbours():
    x = torch.arange(2.0).view(1, 2, 1, 1)
    assert share_heads(x, 6).flatten().tolist() == [0, 0, 0, 1, 1, 1]
    assert share_heads(x, 2) is x


# ---- the versions agree ----

MASKS = {
    "none": {},
    "causal": {"causal": True},
    "mask": {"mask": causal_mask(T, S).flip(0, 1)},
    "padding": {"mask": padding_mask([3, S], S)},
    "padding, causal": {"mask": padding_mask([3, S], S), "causal": True},
    "one per head": {"mask": (normal(1, H, T, S, seed=5) > 0.3) | (torch.arange(S) == 4)},
    "full": {"mask": (normal(B, H, T, S, seed=6) > 0.3) | (torch.arange(S) == 2)},
    "bias": {"bias": normal(H, T, S, seed=7)},
    "bias of keys": {"bias": normal(S, seed=7)},
    "bias of heads, causal": {"bias": normal(H, 1, 1, seed=7), "causal": True},
    "bias of rows, mask": {"bias": normal(B, 1, T, 1, seed=7), "mask": padding_mask([3, S], S)},
    "all": {"bias": normal(1, H, 1, S, seed=8), "mask": padding_mask([3, S], S), "causal": True, "scale": 0.7},
}


@pytest.mark.parametrize("options", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)
def test_versions_agree(version, options):
    expected = value_and_gradients(reference, *inputs(), **options)
    got = value_and_gradients(version, *inputs(), **options)
    assert len(got) == len(expected) == (5 if "bias" in options else 4)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("heads", "groups"), [(6, 2), (6, 3), (5, 1), (1, 1)])
@pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)
def test_grouped_heads(version, heads, groups):
    tensors = inputs(h=heads, g=groups)
    options = {"mask": padding_mask([3, S], S), "bias": normal(heads, 1, S, seed=7)}
    for a, b in zip(
        value_and_gradients(version, *tensors, **options),
        value_and_gradients(reference, *tensors, **options),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("t", "s"), [(1, 1), (1, S), (S, S), (S, 1), (S, T), (127, 131)])
def test_lengths_in_single_precision(t, s):
    tensors = inputs(t=t, s=s, dtype=torch.float32)
    for causal in {False, t <= s}:
        expected = value_and_gradients(reference, *tensors, causal=causal)
        for name in VERSIONS if t * s < 100 else ["matrix", "tiled 64", "fused"]:
            got = value_and_gradients(VERSIONS[name], *tensors, causal=causal)
            for a, b in zip(got, expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)
def test_huge_scores(version):
    q, k, v = (x.float() for x in inputs())
    q = 1e6 * q
    y = version(q, k, v)
    best = (q @ k.mT).argmax(-1, keepdim=True)  # one key takes all the weight
    torch.testing.assert_close(y, v.take_along_dim(best, 2))


def test_tiled_gradients_against_differences():
    tensors = [x.requires_grad_() for x in (*inputs(b=1, h=2, g=1, t=2, s=3, d=2, e=2), normal(2, 1, 3, seed=9))]
    assert torch.autograd.gradcheck(
        lambda q, k, v, bias: attention_tiled(q, k, v, bias=bias, causal=True, block=2), tensors
    )


class Watch(TorchDispatchMode):
    """Remembers how many numbers each result of an operation has."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.sizes.append(result.numel())
        return result


@pytest.mark.parametrize(("version", "largest"), [(tiled(16), 257 * 16), (attention_matrix, 257 * 257)])
def test_tiled_keeps_no_matrix_of_scores(version, largest):
    q, k, v = (x.requires_grad_() for x in inputs(b=1, h=1, g=1, t=257, s=257, d=3, e=2))
    with Watch() as watch:
        version(q, k, v, causal=True).sum().backward()
    assert max(watch.sizes) == largest


# ---- properties ----


@settings(max_examples=20)
@given(st.integers(0, 2**16), st.sampled_from(list(VERSIONS)))
def test_keys_and_values_may_come_in_any_order(seed, name):
    q, k, v = inputs()
    order = torch.randperm(S, generator=torch.Generator().manual_seed(seed))
    mask = padding_mask([3, S], S)
    got = VERSIONS[name](q, k[:, :, order], v[:, :, order], mask=mask[..., order])
    torch.testing.assert_close(got, VERSIONS[name](q, k, v, mask=mask))


@settings(max_examples=20)
@given(st.integers(0, S - 1), st.sampled_from(list(VERSIONS)))
def test_causal_queries_do_not_see_what_comes_later(t, name):
    q, k, v = inputs(t=S)
    before = VERSIONS[name](q, k, v, causal=True)
    q[:, :, t] += 1
    k[:, :, t] -= 1
    v[:, :, t] += 2
    after = VERSIONS[name](q, k, v, causal=True)
    assert torch.equal(before[:, :, :t], after[:, :, :t])
    assert (before[:, :, t:] != after[:, :, t:]).any(-1).all()  # and later ones do see it


@pytest.mark.parametrize("name", VERSIONS)
def test_padding_has_no_influence(name):
    q, k, v = inputs()
    mask = padding_mask([3, S], S)
    before = value_and_gradients(VERSIONS[name], q, k, v, mask=mask)
    k[0, :, 3:], v[0, :, 3:] = 1e3, -1e3
    after = value_and_gradients(VERSIONS[name], q, k, v, mask=mask)
    torch.testing.assert_close(before[0], after[0])
    assert (after[2][0, :, 3:] == 0).all()
    assert (after[3][0, :, 3:] == 0).all()
    alone = VERSIONS[name](q[:1], k[:1, :, :3], v[:1, :, :3])
    torch.testing.assert_close(alone, after[0][:1])


def test_variance_of_scores():
    d = 1009
    q, k = normal(101, d), normal(103, d, seed=1)
    assert dot_scores(q, k).var().item() == pytest.approx(d, rel=0.05)
    assert scaled_dot_scores(q, k).var().item() == pytest.approx(1, rel=0.05)


# ---- errors ----


@pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)
def test_errors(version):
    q, k, v = inputs()
    wrong = [
        ((q[0], k, v), "q has shape (3, 5, 11), must be (batch, heads, length, dimension), none of them 0"),
        ((q, k[:, :, :0], v[:, :, :0]), "k has shape (2, 3, 0, 11), must be"),
        ((q[:, :, :0], k, v), "q has shape (2, 3, 0, 11), must be"),
        ((q, k[..., :-1], v), "must share B, d, G and S; got {'q': (2, 3, 5, 11), 'k': (2, 3, 7, 10)"),
        ((q, k, v[:, :, :-1]), "must share B, d, G and S"),
        ((q[:1], k, v), "must share B, d, G and S"),
        ((q, k[:, :2], v[:, :2]), "the 3 heads of q cannot be shared out evenly among the 2 heads of k and v"),
    ]
    for tensors, message in wrong:
        with pytest.raises(ValueError, match=re.escape(message)):
            version(*tensors)
    for options, message in [
        ({"mask": causal_mask(T)}, r"mask has shape \(5, 5\)"),
        ({"mask": torch.zeros(T, S)}, "mask must be bool"),
        ({"mask": torch.arange(T)[:, None] != torch.full((S,), 2)}, r"mask\[2\] is False everywhere"),
        ({"bias": torch.zeros(T, T)}, r"bias has shape \(5, 5\), must broadcast to \(B, H, T, S\) = \(2, 3, 5, 7\)"),
        ({"bias": torch.zeros(1, 1, 1, T, S)}, "bias has shape"),
        ({"bias": causal_mask(T, S)}, "bias must be of floating point, got torch.bool; a bool condition is the mask"),
    ]:
        with pytest.raises(ValueError, match=message):
            version(q, k, v, **options)
    left = padding_mask([3, S], S).flip(-1)  # the first query, causal, sees keys 0 … 2: padding in the first row
    with pytest.raises(ValueError, match=r"mask\[0, 0, 0\], causal besides, is False everywhere.* padding on the left"):
        version(q, k, v, mask=left, causal=True)
    assert version(q, k, v, mask=left).isfinite().all()
    with pytest.raises(ValueError, match="causal: the S = 5 keys must include the positions of the T = 7 queries"):
        version(*inputs(t=S, s=T), causal=True)


def test_wrong_block():
    with pytest.raises(ValueError, match="block must be at least 1, got 0"):
        attention_tiled(*inputs(), block=0)
