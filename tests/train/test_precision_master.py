"""Master weights and stochastic rounding: updates that vanish and that do not, torch's optimizers, states, errors."""

from functools import partial

import pytest
import torch

from lmcore.train import checkpoint
from lmcore.train.batches import Batches
from lmcore.train.clip import clip_grad_norm_
from lmcore.train.loop import Trainer, TrainingConfig
from lmcore.train.optim import SGD, AdamW
from lmcore.train.precision_master import MasterWeights, StochasticWeights
from lmcore.train.precision_scaling import LossScaler, ScalingConfig
from lmcore.train.schedule import Schedule

low_types = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)


def linear(dtype, seed=1):
    model = torch.nn.Linear(5, 3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
    return model.to(dtype)


def inputs(number):
    return torch.randn(7, 5, generator=torch.Generator().manual_seed(number))


def steps(model, optimizer, first, last):
    for number in range(first, last):
        optimizer.zero_grad()
        model(inputs(number).to(model.weight.dtype)).float().square().mean().backward()
        optimizer.step()


def test_updates_that_vanish_in_bfloat16_add_up_in_the_copy():
    """1 + 0.001 is 1 in bfloat16, a thousand times; the copy arrives at 2, and so does the model."""
    plain, weight = (torch.ones(3, dtype=torch.bfloat16, requires_grad=True) for _ in range(2))
    master = MasterWeights([weight], partial(SGD, lr=0.001))
    for optimizer, w in ((SGD([plain], lr=0.001), plain), (master, weight)):
        for _ in range(1000):
            optimizer.zero_grad()
            (-w).sum().backward()
            optimizer.step()
    assert plain.tolist() == [1.0] * 3
    assert weight.tolist() == [2.0] * 3
    torch.testing.assert_close(master.full[0].detach(), torch.full((3,), 2.0), atol=1e-4, rtol=0)


def test_stochastic_rounding_arrives_on_average():
    weight = torch.ones(4001, dtype=torch.bfloat16, requires_grad=True)
    optimizer = StochasticWeights([weight], partial(SGD, lr=0.001), generator=torch.Generator().manual_seed(1))
    for _ in range(300):
        optimizer.zero_grad()
        (-weight).sum().backward()
        optimizer.step()
    # each step moves a weight by 1/128 with probability 0.128: the mean of 300 steps has this deviation
    deviation = (300 * 0.128 * 0.872) ** 0.5 / 128 / 4001**0.5
    assert abs(weight.double().mean().item() - 1.3) < 5 * deviation + 1e-4
    assert weight.double().std() > 0.02


@low_types
@pytest.mark.parametrize("make", [partial(AdamW, lr=0.01), partial(torch.optim.AdamW, lr=0.01)], ids=["ours", "torch"])
def test_it_is_float32_training_of_the_copies_with_the_models_gradients(dtype, make):
    model = linear(dtype)
    master = MasterWeights(model.parameters(), make)
    copies = [p.detach().float().requires_grad_() for p in model.parameters()]
    reference = make(copies)
    for number in range(5):
        master.zero_grad()
        model(inputs(number).to(dtype)).float().square().mean().backward()
        w, b = (c.detach().to(dtype).requires_grad_() for c in copies)
        torch.nn.functional.linear(inputs(number).to(dtype), w, b).float().square().mean().backward()
        for copy, p in zip(copies, (w, b), strict=True):
            copy.grad = p.grad.float()
        master.step()
        reference.step()
        for full, copy, p in zip(master.full, copies, model.parameters(), strict=True):
            assert torch.equal(full, copy)
            assert torch.equal(p, copy.to(dtype))


def test_gradients_of_several_passes_are_added_in_float32():
    """256 + 1 is 256 in bfloat16; the copy's gradient is 257."""
    w = torch.ones(1, dtype=torch.bfloat16, requires_grad=True)
    master = MasterWeights([w], partial(SGD, lr=1.0))
    for factor in (256.0, 1.0):
        (w * factor).sum().backward()
        assert w.grad is None
    assert master.full[0].grad.item() == 257.0
    master.zero_grad()
    assert master.full[0].grad is None


def test_frozen_and_tied_parameters():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)).bfloat16()
    model[1].weight = model[0].weight
    model[0].bias.requires_grad_(False)
    master = MasterWeights(model.parameters(), partial(SGD, lr=0.1))
    assert [tuple(p.shape) for p in master.full] == [(3, 3), (3,)]
    frozen = model[0].bias.clone()
    model(torch.ones(2, 3).bfloat16()).float().sum().backward()
    master.step()
    assert torch.equal(model[0].bias, frozen)
    assert torch.equal(model[1].weight, master.full[0].bfloat16())


def test_with_a_loss_scaler_in_float16():
    """The gradient of 2⁻²⁶ is lost without scaling, and arrives with it."""
    for factor, expected in ((1.0, 1.0), (2.0**12, 1 - 2.0**-26 * 2.0**20)):
        w = torch.ones(1, dtype=torch.float16, requires_grad=True)
        master = MasterWeights([w], partial(SGD, lr=2.0**20))
        scaler = LossScaler(ScalingConfig.static(factor))
        scaler.scaled((w.float() * 2.0**-26).sum()).backward()  # float32 → float16 on the way back
        assert scaler.step(master)
        assert master.full[0].item() == expected


def test_an_overflow_changes_nothing():
    w = torch.ones(1, dtype=torch.float16, requires_grad=True)
    master, scaler = MasterWeights([w], partial(AdamW, lr=0.1)), LossScaler()
    scaler.scaled((w.float() * 2).sum()).backward()  # 2¹⁷ is more than float16 holds
    assert not scaler.step(master)
    scaler.update()
    assert (w.item(), master.full[0].item(), scaler.scale) == (1.0, 1.0, 2.0**15)
    assert not master.optimizers[0].state


def test_with_trainer_clipping_and_schedule(tmp_path):
    """A run that is cut and continued from its checkpoint ends as one that was not."""

    def trainer(steps, path):
        model = linear(torch.bfloat16)
        master = MasterWeights(model.parameters(), partial(AdamW, lr=0.05))
        batches = Batches(inputs(0).bfloat16(), batch_size=3)
        config = TrainingConfig(steps=steps, max_grad_norm=0.1)
        return Trainer(
            model, lambda m, batch: m(batch[0]).float().square().mean(), batches, master,
            config=config, path=path, schedule=Schedule(master, lambda step: 1 / (1 + step)),
        )  # fmt: skip

    whole = trainer(6, None)
    whole.run()
    assert max(whole.history.grad_norms) > 0.1
    trainer(3, tmp_path / "state").run()
    resumed = trainer(6, tmp_path / "state")
    resumed.run()
    for a, b in zip(whole.optimizer.full, resumed.optimizer.full, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(whole.model.weight, resumed.model.weight)


def test_clipping_sees_the_float32_gradients():
    w = torch.zeros(2, dtype=torch.bfloat16, requires_grad=True)
    master = MasterWeights([w], partial(SGD, lr=1.0))
    (w * torch.tensor([3.0, 4.0], dtype=torch.bfloat16)).sum().backward()
    assert clip_grad_norm_(master.parameters(), 1.0) == 5.0
    master.step()
    torch.testing.assert_close(master.full[0].detach(), -torch.tensor([0.6, 0.8]), atol=1e-5, rtol=0)


def kinds(kind, model):
    if kind == "master":
        return MasterWeights(model.parameters(), partial(AdamW, lr=0.03, betas=(0.5, 0.7)))
    generator = torch.Generator().manual_seed(5)
    make = partial(AdamW, lr=0.03, betas=(0.5, 0.7))
    return StochasticWeights(model.parameters(), make, generator=generator)


@pytest.mark.parametrize("kind", ["master", "stochastic"])
def test_the_state_comes_back(kind, tmp_path):
    model = linear(torch.bfloat16)
    optimizer = kinds(kind, model)
    steps(model, optimizer, 0, 3)
    drawn = optimizer.generator.get_state() if kind == "stochastic" else None
    checkpoint.save(tmp_path / "state", {"optimizer": optimizer.state_dict(), "model": model.state_dict()})
    saved = checkpoint.load(tmp_path / "state")
    steps(model, optimizer, 3, 6)

    other = linear(torch.bfloat16, seed=9)
    resumed = kinds(kind, other)
    other.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    if kind == "stochastic":
        resumed.generator.set_state(drawn)
    steps(other, resumed, 3, 6)
    assert torch.equal(model.weight, other.weight)
    assert torch.equal(model.bias, other.bias)


def test_a_state_of_another_model():
    optimizer = kinds("master", linear(torch.bfloat16))
    other = kinds("master", torch.nn.Linear(2, 3).bfloat16())
    with pytest.raises(ValueError, match=r"shapes \[\(3, 2\), \(3,\)\], the parameters \[\(3, 5\), \(3,\)\]"):
        optimizer.load_state_dict(other.state_dict())


def test_stochastic_weights_hold_nothing_in_float32_between_steps():
    model = linear(torch.bfloat16)
    optimizer = StochasticWeights(model.parameters(), partial(SGD, lr=0.1))
    steps(model, optimizer, 0, 2)
    assert [full.numel() for full in optimizer.full] == [0, 0]
    assert list(optimizer.parameters()) == list(model.parameters())
    assert len(optimizer.param_groups) == 2


def test_a_parameter_without_gradient_is_left_alone():
    used, unused = (torch.ones(3, dtype=torch.bfloat16, requires_grad=True) for _ in range(2))
    for optimizer in (
        StochasticWeights([used, unused], partial(AdamW, lr=0.1)),
        MasterWeights([used, unused], partial(AdamW, lr=0.1)),
    ):
        used.sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert unused.tolist() == [1.0] * 3
    assert used[0] < 1


@pytest.mark.parametrize("kind", [MasterWeights, StochasticWeights])
def test_errors(kind):
    make = partial(SGD, lr=0.1)
    with pytest.raises(ValueError, match="params holds no parameter that needs a gradient"):
        kind([torch.zeros(3)], make)
    with pytest.raises(TypeError, match=r"must be a leaf of bfloat16, float16 or float32, got torch\.float64"):
        kind([torch.zeros(3, dtype=torch.float64, requires_grad=True)], make)
    with pytest.raises(TypeError, match="parameter 0 must be a leaf"):
        kind([torch.zeros(3, requires_grad=True) * 2], make)


def test_stochastic_weights_want_bfloat16():
    with pytest.raises(TypeError, match=r"parameter 0 must be bfloat16, got torch\.float16"):
        StochasticWeights([torch.zeros(3, dtype=torch.float16, requires_grad=True)], partial(SGD, lr=0.1))
