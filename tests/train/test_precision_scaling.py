"""Loss scaling: torch's scales on the same overflows, steps left out, states that come back, and misuse."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.train import checkpoint
from lmcore.train.clip import clip_grad_norm_
from lmcore.train.optim import SGD, AdamW
from lmcore.train.precision_scaling import LossScaler, ScalingConfig


def weight(value=1.0):
    return torch.tensor([value], requires_grad=True)


def step_with(scaler, optimizer, w, gradient):
    """One step in which the loss has this gradient."""
    w.grad = None
    scaler.scaled((w * gradient).sum()).backward()
    stepped = scaler.step(optimizer)
    scaler.update()
    return stepped


def test_by_hand():
    w = weight()
    scaler, sgd = LossScaler(ScalingConfig(initial=4.0, interval=2)), SGD([w], lr=1.0)
    scales, weights = [], []
    for gradient in (0.25, 0.25, float("nan"), 0.25, 0.25, float("inf")):
        step_with(scaler, sgd, w, gradient)
        scales.append(scaler.scale)
        weights.append(w.item())
    assert scales == [4.0, 8.0, 4.0, 4.0, 8.0, 4.0]
    assert weights == [0.75, 0.5, 0.5, 0.25, 0.0, 0.0]
    assert (scaler.skipped, scaler.good_steps) == (2, 0)


@given(
    overflows=st.lists(st.booleans(), min_size=1, max_size=60),
    initial=st.sampled_from([1.0, 3.0, 2.0**16, 2.0**120]),
    growth=st.sampled_from([1.3, 2.0, 10.0]),
    backoff=st.sampled_from([0.5, 0.3, 0.9]),
    interval=st.integers(1, 5),
)
def test_the_scales_and_the_weights_are_those_of_torch(overflows, initial, growth, backoff, interval):
    mine, other = weight(), weight()
    config = ScalingConfig(initial=initial, growth=growth, backoff=backoff, interval=interval)
    ours = LossScaler(config)
    theirs = torch.amp.GradScaler(
        "cpu", init_scale=initial, growth_factor=growth, backoff_factor=backoff, growth_interval=interval
    )
    sgds = SGD([mine], lr=0.01), torch.optim.SGD([other], lr=0.01)
    for bad in overflows:
        gradient = float("inf") if bad else 0.37
        stepped = step_with(ours, sgds[0], mine, gradient)
        other.grad = None
        theirs.scale((other * gradient).sum()).backward()
        theirs.step(sgds[1])
        theirs.update()
        overflowed = bool(torch.isinf(torch.tensor(0.37 * ours.scale, dtype=torch.float32)))
        assert stepped != bad or overflowed
        assert ours.scale == theirs.get_scale()
        assert torch.equal(mine, other)


def test_static_scaling_never_changes_and_leaves_out_overflows():
    w = weight()
    scaler = LossScaler(ScalingConfig.static(1024.0))
    sgd = SGD([w], lr=0.5)
    assert [step_with(scaler, sgd, w, g) for g in (1.0, float("inf"), 1.0)] == [True, False, True]
    assert (scaler.scale, w.item()) == (1024.0, 0.0)


def test_the_factor_does_not_grow_beyond_float32():
    w = weight()
    scaler = LossScaler(ScalingConfig(initial=2.0**127, interval=1))
    step_with(scaler, SGD([w], lr=1e-3), w, 1e-30)
    assert scaler.scale == 2.0**127


def test_gradients_that_underflow_are_saved():
    """A gradient of 2⁻²⁶ in float16 is zero; scaled by 2¹⁰ it arrives."""
    w = weight()
    for config, expected in ((ScalingConfig.static(1.0), 0.0), (ScalingConfig.static(2.0**10), 2.0**-26)):
        scaler, sgd = LossScaler(config), SGD([w], lr=1.0)
        w.grad = None
        scaler.scaled((w.half().float() * 2.0**-26).sum()).backward()  # the gradient passes through float16
        scaler.unscale(sgd)
        assert w.grad.item() == expected


def test_the_loss_of_a_float16_model_is_scaled_in_float32():
    loss = torch.tensor(1.5, dtype=torch.float16)
    assert LossScaler().scaled(loss).item() == 1.5 * 2**16
    assert LossScaler().scaled(loss.double()).dtype == torch.float64


def test_unscale_then_clip_then_step():
    w = torch.zeros(2, requires_grad=True)
    scaler, sgd = LossScaler(ScalingConfig(initial=64.0)), SGD([w], lr=1.0)
    scaler.scaled((w * torch.tensor([3.0, 4.0])).sum()).backward()
    assert scaler.unscale(sgd)
    assert clip_grad_norm_([w], 1.0).item() == 5.0
    assert scaler.step(sgd)
    torch.testing.assert_close(w.detach(), -torch.tensor([0.6, 0.8]), atol=1e-5, rtol=0)


def test_two_optimizers_one_overflow():
    a, b = weight(), weight()
    scaler, one, other = LossScaler(ScalingConfig(initial=2.0)), SGD([a], lr=1.0), torch.optim.SGD([b], lr=1.0)
    scaler.scaled((a * float("inf") + b).sum()).backward()
    assert (scaler.step(one), scaler.step(other)) == (False, True)
    scaler.update()
    assert (scaler.scale, a.item(), b.item()) == (1.0, 1.0, 0.0)


@pytest.mark.parametrize("kind", [AdamW, torch.optim.AdamW])
def test_power_of_two_scales_change_nothing(kind):
    """Training with scaling is training without, bit for bit, as long as nothing over- or underflows."""
    results = []
    for scaled in (False, True):
        w = torch.randn(5, 3, generator=torch.Generator().manual_seed(2)).requires_grad_()
        optimizer, scaler = kind([w], lr=0.1), LossScaler(ScalingConfig(initial=2.0**10, interval=3))
        for _ in range(7):
            w.grad = None
            loss = torch.sin(w).square().sum()
            (scaler.scaled(loss) if scaled else loss).backward()
            if scaled:
                assert scaler.step(optimizer)
                scaler.update()
            else:
                optimizer.step()
        results.append(w.detach().clone())
    assert torch.equal(*results)


def test_the_state_comes_back(tmp_path):
    w = weight()
    scaler = LossScaler(ScalingConfig(initial=8.0, growth=3.0, backoff=0.25, interval=3))
    sgd = SGD([w], lr=0.1)
    for gradient in (1.0, float("inf"), 1.0, 1.0):
        step_with(scaler, sgd, w, gradient)
    checkpoint.save(tmp_path / "state", {"scaler": scaler.state_dict()})
    other = LossScaler()
    other.load_state_dict(checkpoint.load(tmp_path / "state")["scaler"])
    assert json.dumps(other.state_dict()) == json.dumps(scaler.state_dict())
    for gradient in (1.0, 1.0, float("inf")):
        for one in (scaler, other):
            step_with(one, sgd, w, gradient)
        assert other.state_dict() == scaler.state_dict()


def test_misuse():
    w = weight()
    scaler, sgd = LossScaler(), SGD([w], lr=0.1)
    with pytest.raises(RuntimeError, match="no parameter of this optimizer has a gradient"):
        scaler.step(sgd)
    with pytest.raises(RuntimeError, match="update\\(\\) without a step"):
        scaler.update()
    scaler.scaled(w.sum()).backward()
    scaler.step(sgd)
    with pytest.raises(RuntimeError, match="step\\(\\) was called twice"):
        scaler.step(sgd)
    with pytest.raises(RuntimeError, match="unscaled already"):
        scaler.unscale(sgd)
    scaler.update()
    assert scaler.step(sgd)
    half = weight().detach().half().requires_grad_()
    scaler.scaled(half.sum()).backward()
    with pytest.raises(TypeError, match="a gradient is float16"):
        LossScaler().unscale(torch.optim.SGD([half], lr=0.1))


def test_a_loss_that_never_gets_finite_is_not_waited_for():
    w = weight()
    scaler, sgd = LossScaler(ScalingConfig(initial=2.0**-120)), SGD([w], lr=0.1)
    for _ in range(6):
        step_with(scaler, sgd, w, float("nan"))
    assert scaler.scale == 2.0**-126
    with pytest.raises(RuntimeError, match="the factor has fallen to zero"):
        step_with(scaler, sgd, w, float("nan"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"initial": 0.0}, "initial must be above 0 and below inf, got 0.0"),
        ({"initial": float("inf")}, "initial must be above 0"),
        ({"initial": float("nan")}, "got nan"),
        ({"growth": 0.5}, "growth must be at least 1 and below inf, got 0.5"),
        ({"backoff": 0.0}, "backoff must be above 0"),
        ({"backoff": 1.5}, "backoff must be at most 1, got 1.5"),
        ({"interval": 0}, "interval must be a whole number of at least 1, got 0"),
        ({"interval": 2.5}, "got 2.5"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        ScalingConfig(**settings)


def test_a_state_that_cannot_be_changes_nothing():
    scaler = LossScaler()
    saved = scaler.state_dict()
    with pytest.raises(ValueError, match="scale must be above 0 and below inf, got inf"):
        scaler.load_state_dict(saved | {"scale": float("inf")})
    assert scaler.state_dict() == saved
