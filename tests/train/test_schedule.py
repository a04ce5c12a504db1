"""Schedules: values from paper, torch's schedulers as oracle, and places that can be saved."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.train.optim import SGD
from lmcore.train.schedule import Schedule, constant, cosine, linear, step_decay, warmup


def optimizer(lr=0.3, kind=SGD):
    return kind([torch.zeros(3, requires_grad=True)], lr=lr)


def rates(schedule, steps):
    """The rate of each of the first steps."""
    seen = []
    for _ in range(steps):
        seen.append(schedule.rates[0])
        schedule.step()
    return seen


def torchs_rates(make, steps, lr=0.3):
    theirs = optimizer(lr, torch.optim.SGD)
    scheduler, seen = make(theirs), []
    for _ in range(steps):
        seen.append(theirs.param_groups[0]["lr"])
        theirs.step()
        scheduler.step()
    return seen


def test_by_hand():
    assert [constant()(step) for step in (0, 100)] == [1.0, 1.0]
    assert [warmup(4)(step) for step in (0, 1, 3, 4, 5)] == pytest.approx([0.2, 0.4, 0.8, 1.0, 1.0])
    assert [cosine(8, warmup=2, final=0.1)(s) for s in (0, 1, 2, 5, 8, 99)] == pytest.approx(
        [1 / 3, 2 / 3, 1.0, 0.55, 0.1, 0.1]
    )
    assert [linear(6, warmup=2)(step) for step in (2, 3, 4, 6, 7)] == pytest.approx([1.0, 0.75, 0.5, 0.0, 0.0])
    assert [step_decay(3, 0.5)(step) for step in (0, 2, 3, 6)] == [1.0, 1.0, 0.5, 0.25]


@pytest.mark.parametrize(
    ("factor", "make"),
    [
        (step_decay(5, 0.3), lambda o: torch.optim.lr_scheduler.StepLR(o, 5, gamma=0.3)),
        (cosine(17), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 17)),
        (linear(17), lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=17)),
        (cosine(13, warmup=3), lambda o: torch.optim.lr_scheduler.LambdaLR(o, cosine(13, warmup=3))),
    ],
    ids=["step", "cosine", "linear", "lambda"],
)
def test_torchs_schedulers_agree(factor, make):
    assert rates(Schedule(optimizer(), factor), 17) == pytest.approx(torchs_rates(make, 17), rel=1e-9, abs=1e-12)


@given(st.integers(0, 20), st.integers(1, 30), st.floats(0, 1), st.sampled_from([cosine, linear]))
def test_rises_then_falls_from_one_to_final_without_a_jump(steps, more, final, make):
    total = steps + more
    factor = make(total, warmup=steps, final=final)
    values = [factor(step) for step in range(total + 3)]
    assert all(0 < value <= 1 for value in values[: steps + 1])
    assert values[: steps + 1] == sorted(values[: steps + 1])
    assert values[steps] == pytest.approx(1.0)
    assert all(a >= b - 1e-12 for a, b in zip(values[steps:], values[steps + 1 :], strict=False))
    assert values[total:] == pytest.approx([final] * 3)


def test_every_group_keeps_its_own_base_rate():
    a, b = (torch.zeros(1, requires_grad=True) for _ in range(2))
    groups = SGD([{"params": [a]}, {"params": [b], "lr": 0.01}], lr=1.0)
    schedule = Schedule(groups, warmup(1))
    assert schedule.rates == [0.5, 0.005]
    schedule.step()
    assert schedule.rates == [1.0, 0.01]


def test_the_place_is_saved():
    first, again = Schedule(optimizer(), cosine(20, warmup=5)), Schedule(optimizer(lr=7.0), cosine(20, warmup=5))
    rates(first, 11)
    again.load_state_dict(first.state_dict())
    assert rates(again, 9) == rates(first, 9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: warmup(-1), "steps must be a whole number of at least 0, got -1"),
        (lambda: step_decay(0), "every must be a whole number of at least 1, got 0"),
        (lambda: step_decay(3, 0.0), "factor must be above 0"),
        (lambda: step_decay(3, 1.5), "factor must be"),
        (lambda: cosine(5, warmup=5), "total must be a whole number of at least 6, got 5"),
        (lambda: cosine(5.0), "total must be a whole number"),
        (lambda: linear(5, warmup=-2), "warmup must be a whole number of at least 0"),
        (lambda: linear(5, final=2.0), "final must be"),
        (lambda: Schedule(optimizer(), lambda step: -1.0), "the factor -1.0 at step 0"),
        (lambda: Schedule(optimizer(), lambda step: math.nan), "the factor nan at step 0"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_schedule_of_other_groups():
    saved = {"steps": 3, "base_rates": [0.1, 0.2]}
    with pytest.raises(ValueError, match="saved for 2 groups of parameters, the optimizer has 1"):
        Schedule(optimizer(), constant()).load_state_dict(saved)
