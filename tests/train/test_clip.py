"""Clipping: a 3–4–5 triangle on paper, torch as oracle, the direction as property."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.train.clip import clip_grad_norm_, clip_grad_value_, grad_norm


def with_gradients(seed, size=1.0):
    """Parameters whose gradients are random; one has none."""
    generator = torch.Generator().manual_seed(seed)
    parameters = [torch.zeros(shape, requires_grad=True) for shape in [(5, 7), (11,), (3,)]]
    for parameter in parameters[:2]:
        parameter.grad = size * torch.randn(parameter.shape, generator=generator)
    return parameters


def test_by_hand():
    a, b = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    a.grad, b.grad = torch.tensor([3.0]), torch.tensor([4.0])
    assert clip_grad_norm_([a, b], 1.0).item() == 5.0
    assert [a.grad.item(), b.grad.item()] == pytest.approx([0.6, 0.8], rel=1e-6)
    assert grad_norm([a, b]).item() <= 1.0
    clip_grad_value_([a, b], 0.7)
    assert [a.grad.item(), b.grad.item()] == pytest.approx([0.6, 0.7])
    assert grad_norm(a).item() == pytest.approx(0.6)
    assert grad_norm([torch.zeros(1)]).item() == 0.0


@given(st.integers(0, 1000), st.floats(0.01, 100), st.floats(0.01, 100))
def test_torch_agrees(seed, size, limit):
    ours, theirs = with_gradients(seed, size), with_gradients(seed, size)
    norm = clip_grad_norm_(iter(ours), limit)
    assert torch.equal(norm, torch.nn.utils.clip_grad_norm_(theirs, limit, foreach=False))
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(ours[:2], theirs[:2], strict=True))
    clip_grad_value_(ours, limit / 10)
    torch.nn.utils.clip_grad_value_(theirs, limit / 10, foreach=False)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(ours[:2], theirs[:2], strict=True))


@given(st.integers(0, 1000), st.floats(0.1, 10))
def test_the_direction_stays_and_a_short_gradient_is_left_alone(seed, limit):
    parameters = with_gradients(seed)
    before = torch.cat([p.grad.flatten() for p in parameters[:2]])
    norm = clip_grad_norm_(parameters, limit)
    after = torch.cat([p.grad.flatten() for p in parameters[:2]])
    assert torch.nn.functional.cosine_similarity(before, after, dim=0) > 1 - 1e-5
    assert torch.equal(before, after) if norm < limit * 0.999 else after.norm() <= limit * 1.00001


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_norm_that_is_not_finite_is_returned_and_nothing_else_is_ruined(bad):
    parameters = with_gradients(0)
    parameters[0].grad[2, 3] = bad
    second = parameters[1].grad.clone()
    assert not torch.isfinite(clip_grad_norm_(parameters, 1.0))
    assert torch.equal(parameters[1].grad, second)


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_errors(limit):
    with pytest.raises(ValueError, match="max_norm must be above 0"):
        clip_grad_norm_(with_gradients(0), limit)
    with pytest.raises(ValueError, match="max_value must be above 0"):
        clip_grad_value_(with_gradients(0), limit)
