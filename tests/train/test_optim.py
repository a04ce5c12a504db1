"""Optimizers: numbers from paper, torch's trajectories bit for bit, states that come back, clear errors."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.train import checkpoint
from lmcore.train.optim import SGD, Adadelta, Adagrad, Adam, AdamW, RMSProp

CASES = [
    (SGD, torch.optim.SGD, {"lr": 0.1}),
    (SGD, torch.optim.SGD, {"lr": 0.05, "weight_decay": 0.1}),
    (SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}),
    (SGD, torch.optim.SGD, {"lr": 0.03, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.01}),
    (SGD, torch.optim.SGD, {"lr": 0.02, "momentum": 0.95, "nesterov": True, "weight_decay": 0.02}),
    (Adagrad, torch.optim.Adagrad, {}),
    (Adagrad, torch.optim.Adagrad, {"lr": 0.5, "eps": 1e-3, "weight_decay": 0.1}),
    (RMSProp, torch.optim.RMSprop, {}),
    (RMSProp, torch.optim.RMSprop, {"lr": 0.003, "alpha": 0.9, "eps": 1e-4, "momentum": 0.7, "weight_decay": 0.1}),
    (RMSProp, torch.optim.RMSprop, {"lr": 0.003, "centered": True}),
    (RMSProp, torch.optim.RMSprop, {"lr": 0.003, "centered": True, "momentum": 0.5, "alpha": 0.95}),
    (Adadelta, torch.optim.Adadelta, {}),
    (Adadelta, torch.optim.Adadelta, {"lr": 3.0, "rho": 0.8, "eps": 1e-4, "weight_decay": 0.1}),
    (Adam, torch.optim.Adam, {}),
    (Adam, torch.optim.Adam, {"lr": 0.03, "betas": (0.7, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    (AdamW, torch.optim.AdamW, {}),
    (AdamW, torch.optim.AdamW, {"lr": 0.03, "betas": (0.5, 0.9), "eps": 1e-6, "weight_decay": 0.3}),
]
IDS = [f"{ours.__name__}-{'-'.join(f'{k}={v}' for k, v in settings.items())}" for ours, _, settings in CASES]
KINDS = [SGD, Adagrad, RMSProp, Adadelta, Adam, AdamW]


def make(kind, params, **settings):
    """An optimizer, with a learning rate where it has no default."""
    return kind(params, **({"lr": 0.1} if kind is SGD else {}) | settings)


def weights(dtype=torch.float32):
    """Three parameters of different shapes; the last one is frozen."""
    generator = torch.Generator().manual_seed(3)
    shapes = [(5, 7), (11,), (2, 3)]
    tensors = [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]
    tensors[-1].requires_grad_(False)
    return tensors


def loss(tensors, step):
    """Not convex, different in each step, with gradients of very different sizes; the second only in some steps."""
    first, second, frozen = tensors
    value = (torch.sin(3 * first * (step + 1)) + 10 * first.square()).sum() + frozen.sum() * first.sum()
    return value + 1e-3 * (second**4).sum() if step % 3 else value


def trajectory(optimizer, tensors, steps=50, start=0):
    """The weights after every step."""
    path = []
    for step in range(start, start + steps):
        optimizer.zero_grad()
        loss(tensors, step).backward()
        optimizer.step()
        path.append([tensor.detach().clone() for tensor in tensors])
    return path


def assert_equal(ours, theirs):
    """Bit for bit, at every step."""
    for mine, other in zip(ours, theirs, strict=True):
        for a, b in zip(mine, other, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(("ours", "theirs", "settings"), CASES, ids=IDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_trajectory_is_torchs_to_the_last_bit(ours, theirs, settings, dtype):
    mine, other = weights(dtype), weights(dtype)
    with_lr = {"lr": 0.1} | settings if theirs is torch.optim.SGD else settings
    path = trajectory(ours(mine, **with_lr), mine)
    assert_equal(path, trajectory(theirs(other, foreach=False, **with_lr), other))
    assert not torch.equal(path[0][0], path[-1][0])
    assert torch.equal(path[0][2], path[-1][2]), "the frozen parameter moved"


@pytest.mark.parametrize(("ours", "theirs", "settings"), CASES, ids=IDS)
def test_groups_have_settings_of_their_own(ours, theirs, settings):
    def groups(tensors):
        return [{"params": tensors[0]}, {"params": tensors[1:], "lr": 0.007, "weight_decay": 0.5}]

    mine, other = weights(), weights()
    with_lr = {"lr": 0.1} | settings if theirs is torch.optim.SGD else settings
    ours_path = trajectory(ours(groups(mine), **with_lr), mine, 5)
    assert_equal(ours_path, trajectory(theirs(groups(other), foreach=False, **with_lr), other, 5))


@pytest.mark.parametrize(("ours", "settings"), [(o, s) for o, _, s in CASES], ids=IDS)
def test_a_saved_state_goes_on_as_if_nothing_had_happened(ours, settings, tmp_path):
    settings = {"lr": 0.1} | settings if ours is SGD else settings
    whole = weights()
    expected = trajectory(ours(whole, **settings), whole, 20)

    first = weights()
    optimizer = ours(first, **settings)
    trajectory(optimizer, first, 7)
    checkpoint.save(tmp_path / "optimizer", optimizer.state_dict())
    again = ours(first, **({"lr": 99.0} if ours is SGD else {}))  # other settings: the saved ones must win
    again.load_state_dict(checkpoint.load(tmp_path / "optimizer"))
    assert again.param_groups[0] == optimizer.param_groups[0]
    assert_equal(trajectory(again, first, 13, start=7), expected[7:])


def test_a_loaded_state_is_a_copy():
    tensors = weights()
    optimizer = Adam(tensors)
    trajectory(optimizer, tensors, 2)
    saved = copy.deepcopy(optimizer.state_dict())
    other = Adam(tensors)
    other.load_state_dict(saved)
    before = saved["state"][0]["exp_avg"].clone()
    trajectory(other, tensors, 2)
    assert torch.equal(saved["state"][0]["exp_avg"], before)


class TestByHand:
    """Two steps of each rule on one number, as on paper: θ = 1, gradients 2 and then −1."""

    def run(self, kind, **settings):
        theta = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
        optimizer = kind([theta], **settings)
        path = []
        for gradient in (2.0, -1.0):
            theta.grad = torch.tensor([gradient], dtype=torch.float64)
            optimizer.step()
            path.append(theta.item())
        return path

    def test_sgd(self):
        assert self.run(SGD, lr=0.1) == pytest.approx([0.8, 0.9])

    def test_weight_decay(self):  # gradients 2 + 0.5·1 and −1 + 0.5·0.75
        assert self.run(SGD, lr=0.1, weight_decay=0.5) == pytest.approx([0.75, 0.8125])

    def test_momentum(self):  # v = 2, then 0.5·2 − 1 = 0
        assert self.run(SGD, lr=0.1, momentum=0.5) == pytest.approx([0.8, 0.8])

    def test_nesterov(self):  # 2 + 0.5·2 = 3, then −1 + 0.5·0 = −1
        assert self.run(SGD, lr=0.1, momentum=0.5, nesterov=True) == pytest.approx([0.7, 0.8])

    def test_adagrad(self):  # 2/√4, then −1/√5
        assert self.run(Adagrad, lr=0.1, eps=0.0) == pytest.approx([0.9, 0.9 + 0.1 / math.sqrt(5)])

    def test_rmsprop(self):  # s = 2, then 0.5·2 + 0.5·1 = 1.5
        expected = [1 - 0.2 / math.sqrt(2), 1 - 0.2 / math.sqrt(2) + 0.1 / math.sqrt(1.5)]
        assert self.run(RMSProp, lr=0.1, alpha=0.5, eps=0.0) == pytest.approx(expected)

    def test_adadelta(self):  # s = 2, Δ = 2·√1/√3, d = 0.5·4/3; then s = 1.5, Δ = −√(d + 1)/√2.5
        first = 1 - 2 / math.sqrt(3)
        expected = [first, first + math.sqrt(2 / 3 + 1) / math.sqrt(2.5)]
        assert self.run(Adadelta, rho=0.5, eps=1.0) == pytest.approx(expected)

    def test_adam(self):  # m̂ = 2, ŝ = 4; then m = 0, so nothing
        assert self.run(Adam, lr=0.1, betas=(0.5, 0.5), eps=0.0) == pytest.approx([0.9, 0.9])

    def test_adamw_shrinks_the_weight_itself(self):  # 1 → 0.95 − 0.1 → 0.85·0.95 − 0
        expected = [0.85, 0.85 * 0.95]
        assert self.run(AdamW, lr=0.1, betas=(0.5, 0.5), eps=0.0, weight_decay=0.5) == pytest.approx(expected)


@given(st.floats(1e-3, 1e3), st.floats(1e-4, 1.0))
def test_adams_first_step_has_the_size_of_the_learning_rate(size, lr):
    theta = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    theta.grad = torch.tensor([size], dtype=torch.float64)
    Adam([theta], lr=lr).step()
    assert theta.item() == pytest.approx(-lr, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_gradient_nothing_moves_and_nothing_is_remembered(kind):
    tensors = weights()
    before = [tensor.detach().clone() for tensor in tensors]
    optimizer = make(kind, tensors, weight_decay=0.1)
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True))
    assert optimizer.state_dict()["state"] == [None, None, None]


def test_zero_grad_forgets():
    tensors = weights()
    optimizer = SGD(tensors, lr=0.1)
    loss(tensors, 1).backward()
    optimizer.zero_grad()
    assert all(tensor.grad is None for tensor in tensors)


class TestErrors:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("lr", [0.0, -0.1, math.nan, math.inf])
    def test_learning_rate(self, kind, lr):
        with pytest.raises(ValueError, match=r"lr must be above 0 and below inf, got"):
            kind(weights(), lr=lr)

    @pytest.mark.parametrize("kind", KINDS)
    def test_weight_decay(self, kind):
        with pytest.raises(ValueError, match=r"weight_decay must be at least 0.*got -0.1"):
            make(kind, weights(), weight_decay=-0.1)

    @pytest.mark.parametrize(
        ("kind", "settings", "message"),
        [
            (SGD, {"momentum": 1.0}, "momentum must be at least 0 and below 1, got 1.0"),
            (SGD, {"dampening": -1.0}, "dampening must be"),
            (SGD, {"nesterov": True}, "nesterov needs momentum"),
            (SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "nesterov needs momentum"),
            (Adagrad, {"eps": -1e-3}, "eps must be at least 0"),
            (RMSProp, {"alpha": 1.5}, "alpha must be"),
            (RMSProp, {"momentum": -0.5}, "momentum must be"),
            (RMSProp, {"eps": -1.0}, "eps must be"),
            (Adadelta, {"rho": 1.0}, "rho must be"),
            (Adadelta, {"eps": 0.0}, "eps must be above 0"),
            (Adam, {"betas": (0.9, 1.0)}, "beta 2 must be at least 0 and below 1, got 1.0"),
            (Adam, {"betas": (0.9,)}, "betas must be two numbers"),
            (AdamW, {"eps": -1.0}, "eps must be"),
        ],
    )
    def test_settings(self, kind, settings, message):
        with pytest.raises(ValueError, match=message):
            make(kind, weights(), **settings)

    def test_a_groups_settings_are_checked_too(self):
        first, second, _ = weights()
        with pytest.raises(ValueError, match="lr must be above 0"):
            Adam([{"params": [first]}, {"params": [second], "lr": -1.0}])
        with pytest.raises(TypeError, match=r"a group sets \['learning_rate'\]; Adam knows"):
            Adam([{"params": [first], "learning_rate": 1.0}])

    def test_a_setting_that_is_not_a_number(self):
        with pytest.raises(TypeError, match=r"lr must be a number, got '0\.1'"):
            SGD(weights(), lr="0.1")

    def test_no_parameters(self):
        with pytest.raises(ValueError, match="params is empty"):
            SGD(iter([]), lr=0.1)

    def test_twice(self):
        first, second, _ = weights()
        with pytest.raises(ValueError, match=r"parameter 2, of shape \(5, 7\), is listed twice"):
            SGD([first, second, first], lr=0.1)

    @pytest.mark.parametrize(
        "wrong", [torch.tensor([1]), torch.ones(3, requires_grad=True) * 2, "weight"], ids=["int", "computed", "name"]
    )
    def test_not_a_parameter(self, wrong):
        with pytest.raises(TypeError, match="parameter 1 is not a floating-point leaf tensor"):
            SGD([weights()[0], wrong], lr=0.1)

    def test_state_of_another_kind(self):
        with pytest.raises(ValueError, match="this is the state of Adam, and the optimizer is AdamW"):
            AdamW(weights()).load_state_dict(Adam(weights()).state_dict())

    def test_state_of_another_model(self):
        tensors = weights()
        optimizer = Adam(tensors)
        trajectory(optimizer, tensors, 2)
        with pytest.raises(ValueError, match="groups of \\[3\\] parameters, the optimizer of \\[2\\]"):
            Adam(tensors[:2]).load_state_dict(optimizer.state_dict())
        others = [torch.zeros(shape, requires_grad=True) for shape in [(7, 5), (11,), (2, 3)]]
        other = Adam(others, lr=0.5)
        with pytest.raises(ValueError, match=r"'exp_avg' of parameter 0 has the shape \(5, 7\) and the parameter \(7"):
            other.load_state_dict(optimizer.state_dict())
        assert other.param_groups[0]["lr"] == 0.5
        assert not other.state
