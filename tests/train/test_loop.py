"""The loop: it does what one would write by hand, survives being killed at any moment, and says what went wrong."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from lmcore.checking import load as load_module
from lmcore.train import checkpoint
from lmcore.train.batches import Batches
from lmcore.train.checkpoint import CheckpointError
from lmcore.train.clip import clip_grad_norm_, grad_norm
from lmcore.train.loop import History, Trainer, TrainingConfig, TrainingDiverged
from lmcore.train.optim import SGD, Adam
from lmcore.train.schedule import Schedule, constant, cosine

SCRIPT = Path(__file__).with_name("a_run.py")
a_run = load_module(SCRIPT)


def squared(model, batch):
    """Mean squared error."""
    return (model(batch[0]) - batch[1]).square().mean()


def make(steps=20, *, lr=0.05, model=None, data=None, **settings):
    """A small trainer of a linear model."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(23, 3, generator=generator)
    if model is None:
        model = nn.Linear(3, 1)
        with torch.no_grad():
            model.weight.copy_(torch.tensor([[0.3, -0.2, 0.1]]))
            model.bias.zero_()
    config = {name: settings.pop(name) for name in list(settings) if name in TrainingConfig.__dataclass_fields__}
    data = data or (x, x.sum(1, keepdim=True) + 1)
    batches = Batches(*data, batch_size=5, seed=2)
    optimizer = settings.pop("optimizer", None) or SGD(model.parameters(), lr, momentum=0.9)
    loss = settings.pop("loss", squared)
    if settings.pop("schedule", False):
        settings["schedule"] = Schedule(optimizer, cosine(steps, warmup=3))
    return Trainer(model, loss, batches, optimizer, config=TrainingConfig(steps=steps, **config), **settings)


class TestOneRun:
    def test_is_what_one_writes_by_hand(self):
        trainer, other = make(schedule=True, max_grad_norm=0.5), make(schedule=True)
        history = trainer.run()
        model, optimizer, schedule = other.model, other.optimizer, other.schedule
        losses, norms = [], []
        for _ in range(20):
            optimizer.zero_grad()
            loss = squared(model, next(other.batches))
            loss.backward()
            norms.append(grad_norm(model.parameters()).item())
            clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        assert history.losses == losses
        assert history.grad_norms == norms
        assert max(norms) > 0.5
        assert torch.equal(trainer.model.weight, model.weight)

    def test_learns(self):
        trainer = make(200)
        trainer.run()
        assert torch.allclose(trainer.model.weight, torch.ones(1, 3), atol=1e-3)
        assert trainer.step == 200
        assert trainer.finished

    def test_evaluates_in_evaluation_mode_without_gradients_and_goes_back(self):
        seen = []

        def evaluate(model):
            seen.append((model.training, torch.is_grad_enabled()))
            return 1.0

        trainer = make(7, evaluate=evaluate, evaluate_every=3)
        trainer.model.eval()  # the loop itself trains in training mode
        modes = []
        loss = trainer.loss
        trainer.loss = lambda model, batch: modes.append(model.training) or loss(model, batch)
        assert [step for step, _ in trainer.run().evaluations] == [3, 6, 7]
        assert seen == [(False, False)] * 3
        assert modes == [True] * 7

    def test_early_stopping_waits_and_returns_the_best_weights(self):
        values, kept = iter([5.0, 3.0, 4.0, 3.0, 3.5, 1.0]), {}

        def evaluate(model):
            kept[trainer.step] = model.weight.clone()
            return next(values)

        trainer = make(100, evaluate=evaluate, evaluate_every=2, patience=3)
        history = trainer.run()
        assert history.evaluations == [(2, 5.0), (4, 3.0), (6, 4.0), (8, 3.0), (10, 3.5)]
        assert history.best == (4, 3.0)
        assert trainer.step == 10
        assert torch.equal(trainer.model.weight, kept[4])
        assert not torch.equal(trainer.model.weight, kept[10])
        assert trainer.run().evaluations == history.evaluations, "it stays stopped"

    def test_an_empty_history(self):
        assert History().best is None
        assert History().evaluations_since_best == 0

    def test_progress_is_quiet_when_nobody_looks(self, capsys):
        make(3).run()
        assert capsys.readouterr() == ("", "")

    def test_progress_is_shown_on_a_screen(self, monkeypatch):
        class Screen(io.StringIO):
            def isatty(self):
                return True

        shown, hidden = Screen(), Screen()
        monkeypatch.setattr(sys, "stderr", shown)
        make(3).run()
        monkeypatch.setattr(sys, "stderr", hidden)
        make(3, progress=False).run()
        assert "3/3" in shown.getvalue()
        assert "loss=" in shown.getvalue()
        assert hidden.getvalue() == ""


def start(path, *how):
    """Start the run as a process."""
    command = [sys.executable, str(SCRIPT), str(path), *map(str, how)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    """Wait for the process: its exit code and what it printed last."""
    out, err = process.communicate(timeout=120)
    assert process.returncode <= 0, err
    return process.returncode, out.strip()


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What a run prints that nobody kills."""
    code, digest = finish(start(tmp_path_factory.mktemp("whole") / "run"))
    assert code == 0
    return digest


class TestKilled:
    @pytest.mark.parametrize(
        ("where", "number"),
        [("loss", 1), ("loss", 3), ("loss", 4), ("loss", 17), ("evaluate", 3), ("replace", 1), ("replace", 6)],
    )
    def test_anywhere_and_resumed_it_ends_with_the_same_bits(self, expected, tmp_path, where, number):
        killed, printed = finish(start(tmp_path / "run", where, number))
        assert killed < 0, "it was to be killed"
        assert not printed
        assert finish(start(tmp_path / "run")) == (0, expected)

    def test_from_outside_again_and_again(self, expected, tmp_path):
        """Whenever a checkpoint appears the process is killed, wherever it is then."""
        path, kills, seen = tmp_path / "run", 0, None
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            process = start(path)
            while process.poll() is None:
                stamp = path.stat().st_mtime_ns if path.exists() else None
                if stamp != seen and kills < 3:
                    process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
                    kills, seen = kills + 1, stamp
                    break
                time.sleep(0.0005)
            code, digest = finish(process)
            if code == 0:
                break
        assert digest == expected
        assert kills >= 1

    def test_at_every_step(self, tmp_path):
        """The same in one process, for every step: an exception stands for the kill, and a new trainer goes on."""
        whole = a_run.trainer(tmp_path / "whole")
        whole.run()
        for step in range(1, a_run.STEPS + 1):
            path = tmp_path / f"killed at {step}"

            def die(step=step, calls=[0]):  # noqa: B006 (a counter)
                calls[0] += 1
                if calls[0] == step:
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                a_run.trainer(path, die).run()
            torch.rand(step)  # the next process would not have the same global generator either
            again = a_run.trainer(path)
            again.run()
            assert a_run.digest(again) == a_run.digest(whole), step

    def test_a_finished_run_is_not_run_again(self, tmp_path):
        first = a_run.trainer(tmp_path / "run")
        first.run()
        again = a_run.trainer(tmp_path / "run", die_in_loss=lambda: pytest.fail("it trained again"))
        assert again.run().losses == first.history.losses
        assert a_run.digest(again) == a_run.digest(first)

    def test_without_any_part_of_the_state_the_end_would_differ(self, tmp_path):
        """The test above can fail: leave one part of the checkpoint as it is at the start, and the weights differ."""
        whole = a_run.trainer(tmp_path / "whole")
        whole.run()
        half = a_run.trainer(tmp_path / "half")
        object.__setattr__(half.config, "steps", 15)
        half.run()
        state = checkpoint.load(tmp_path / "half")
        fresh = a_run.trainer(tmp_path / "fresh")
        fresh.save()
        start_state = checkpoint.load(tmp_path / "fresh")
        for part in ("optimizer", "batches", "schedule", "random", "model", "nothing"):
            checkpoint.save(tmp_path / part, {**state, **({part: start_state[part]} if part in state else {})})
            again = a_run.trainer(tmp_path / part)
            again.run()
            same = all(map(torch.equal, again.model.state_dict().values(), whole.model.state_dict().values()))
            assert same == (part == "nothing"), part


def test_the_best_weights_survive_a_kill(tmp_path):
    """The best evaluation was before the kill; a resumed run that finds none better gives those weights back."""
    best = []

    def first(model):
        best.append(model.weight.clone())
        return 1.0

    def stop(model, batch):
        if trainer.step == 5:
            raise KeyboardInterrupt
        return squared(model, batch)

    trainer = make(8, loss=stop, evaluate=first, evaluate_every=4, checkpoint_every=4, path=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    again = make(8, evaluate=lambda model: 2.0, evaluate_every=4, path=tmp_path / "run")
    assert again.run().evaluations == [(4, 1.0), (8, 2.0)]
    assert torch.equal(again.model.weight, best[0])


class TestLongerRun:
    def test_a_finished_run_can_be_prolonged(self, tmp_path):
        make(12, path=tmp_path / "run").run()
        longer, whole = make(20, path=tmp_path / "run"), make(20)
        longer.run()
        whole.run()
        assert longer.history.losses == whole.history.losses
        assert torch.equal(longer.model.weight, whole.model.weight)


class TestOtherCheckpoints:
    def resume_fails(self, trainer, message):
        weight = trainer.model.weight.clone()
        state = trainer.optimizer.state_dict()
        place = trainer.batches.state_dict()
        with pytest.raises(CheckpointError, match=message):
            trainer.run()
        assert torch.equal(trainer.model.weight, weight)
        assert trainer.optimizer.state_dict()["kind"] == state["kind"]
        assert trainer.optimizer.param_groups[0]["lr"] == state["groups"][0]["lr"]
        assert trainer.batches.state_dict() == place
        assert trainer.step == 0

    @pytest.fixture
    def path(self, tmp_path):
        make(6, path=tmp_path / "run").run()
        return tmp_path / "run"

    def test_another_model(self, path):
        model = nn.Linear(3, 1, bias=False)
        self.resume_fails(make(model=model, path=path), "of another model: bias is unknown to this model")

    def test_another_optimizer(self, path):
        model = nn.Linear(3, 1)
        trainer = make(model=model, optimizer=Adam(model.parameters()), path=path)
        self.resume_fails(trainer, "of another run: this is the state of SGD, and the optimizer is Adam")

    def test_other_data(self, path):
        data = torch.zeros(29, 3), torch.zeros(29, 1)
        self.resume_fails(make(data=data, path=path), "rows 23, these 29")

    def test_a_schedule_more_or_less(self, path, tmp_path):
        self.resume_fails(make(schedule=True, path=path), r"lacks \['schedule'\]")
        make(6, schedule=True, path=tmp_path / "other").run()
        self.resume_fails(make(path=tmp_path / "other"), r"holds \['schedule'\], which this run does not have")

    def test_other_generators(self, path):
        self.resume_fails(make(path=path, generators={"noise": torch.Generator()}), r"this run \['noise'\]")

    def test_truncated(self, path):
        path.write_bytes(path.read_bytes()[:-1000])
        self.resume_fails(make(path=path), "truncated")

    def test_a_file_that_is_no_run(self, path):
        checkpoint.save(path, {"model": {}})
        self.resume_fails(make(path=path), "lacks .*optimizer")

    def test_nothing_to_resume(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
            make(path=tmp_path / "nothing").resume()


class TestDiverged:
    def test_a_learning_rate_too_high_is_stopped_before_the_weights_are_ruined(self):
        trainer = make(500, lr=1e12)
        message = r"^step (\d+): the (loss is (inf|nan)|gradient is not finite);.*'(weight|bias)'"
        with pytest.raises(TrainingDiverged, match=message) as caught:
            trainer.run()
        assert all(torch.isfinite(p).all() for p in trainer.model.parameters())
        assert str(caught.value).startswith(f"step {trainer.step + 1}:")
        assert "is the learning rate too high?" in str(caught.value)

    def test_the_weight_is_named(self):
        trainer = make(5)
        with torch.no_grad():
            trainer.model.bias.fill_(torch.nan)
        with pytest.raises(TrainingDiverged, match=r"step 1: the loss is nan; the first parameter .*'bias'"):
            trainer.run()

    def test_the_gradient_is_named(self):
        def loss(model, batch):  # the square root's slope at zero is infinite, its value is not
            return squared(model, batch) + (model.bias * 0).sqrt().sum()

        with pytest.raises(TrainingDiverged, match=r"step 1: the gradient is not finite; .* gradient.* is 'bias'"):
            make(5, loss=loss).run()

    def test_the_batch_is_blamed_when_it_is_the_batch(self):
        x, y = torch.zeros(23, 3), torch.zeros(23, 1)
        y[0] = torch.nan
        with pytest.raises(TrainingDiverged, match="tensor 1 of the batch holds a number that is not finite"):
            make(5, data=(x, y)).run()

    def test_the_last_checkpoint_stays(self, tmp_path):
        def loss(model, batch):
            return squared(model, batch) * (torch.nan if trainer.step == 7 else 1.0)

        trainer = make(20, loss=loss, path=tmp_path / "run", checkpoint_every=5)
        with pytest.raises(TrainingDiverged, match="step 8: the loss is nan"):
            trainer.run()
        assert len(checkpoint.load(tmp_path / "run")["history"]["losses"]) == 5

    def test_an_evaluation_that_is_nan(self):
        with pytest.raises(TrainingDiverged, match="step 2: evaluate gives NaN"):
            make(5, evaluate=lambda model: float("nan"), evaluate_every=2).run()


class TestErrors:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
            ({"steps": None}, "steps must be a whole number"),
            ({"steps": 5, "patience": 0}, "patience must be"),
            ({"steps": 5, "evaluate_every": 1.5}, "evaluate_every must be"),
            ({"steps": 5, "checkpoint_every": -1}, "checkpoint_every must be"),
            ({"steps": 5, "max_grad_norm": 0.0}, "max_grad_norm must be above zero, got 0.0"),
        ],
    )
    def test_config(self, settings, message):
        with pytest.raises(ValueError, match=message):
            TrainingConfig(**settings)

    def test_things_that_need_each_other(self):
        with pytest.raises(ValueError, match="evaluate is None"):
            make(5, patience=3)
        with pytest.raises(ValueError, match="path is None"):
            make(5, checkpoint_every=3)

    def test_a_loss_that_is_no_number(self):
        with pytest.raises(TypeError, match="loss must return a tensor with one number"):
            make(5, loss=lambda model, batch: model(batch[0])).run()
        with pytest.raises(TypeError, match=r"got 1\.5"):
            make(5, loss=lambda model, batch: 1.5).run()


def test_a_constant_schedule_changes_nothing():
    plain, scheduled = make(), make()
    scheduled.schedule = Schedule(scheduled.optimizer, constant())
    assert plain.run().losses == scheduled.run().losses
