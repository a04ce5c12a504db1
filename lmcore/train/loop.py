"""The training loop: batch, loss, gradient, step; and evaluation, early stopping, checkpoints and resuming.

A run that is killed at any moment and started again ends with the same weights as one that was never killed. For this
a checkpoint holds everything that the next step depends on: weights, the optimizer's memory, the schedule's place, the
batches' place, the state of every random generator, and what early stopping has seen.
"""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from lmcore.train import checkpoint
from lmcore.train.batches import Batches
from lmcore.train.clip import clip_grad_norm_, grad_norm
from lmcore.train.optimizer import Optimizer
from lmcore.train.schedule import Schedule

Loss = Callable[[nn.Module, tuple[Tensor, ...]], Tensor]


class TrainingDiverged(RuntimeError):
    """A loss or a gradient is not a finite number; the weights are those before the step that the message names."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long to train, and what to do on the way.

    Args:
        steps: number of updates in all, those before a resume included.
        evaluate_every: steps between evaluations; None: only after the last step.
        patience: stop after so many evaluations in a row without a new best value; None: never.
        max_grad_norm: clip the gradient to this norm; None: leave it.
        checkpoint_every: steps between checkpoints; None: only after the last step.
    """

    steps: int
    evaluate_every: int | None = None
    patience: int | None = None
    max_grad_norm: float | None = None
    checkpoint_every: int | None = None

    def __post_init__(self):
        for name in ("steps", "evaluate_every", "patience", "checkpoint_every"):
            value = getattr(self, name)
            optional = name != "steps" and value is None
            if not optional and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if self.max_grad_norm is not None and not 0 < self.max_grad_norm < math.inf:
            raise ValueError(f"max_grad_norm must be above zero, got {self.max_grad_norm!r}")


class History:
    """What happened: a number per step and a pair per evaluation.

    ``losses`` and ``grad_norms`` (before clipping) have one entry per step, ``evaluations`` is a list of
    ``(finished steps, value)``; ``best`` is the pair with the smallest value, None before the first evaluation.
    """

    def __init__(self):
        self.losses: list[float] = []
        self.grad_norms: list[float] = []
        self.evaluations: list[tuple[int, float]] = []

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and value of the smallest evaluation, the earliest of equal ones."""
        return min(self.evaluations, key=lambda pair: pair[1], default=None)

    @property
    def evaluations_since_best(self) -> int:
        """How many evaluations came after the best one."""
        return len(self.evaluations) - 1 - self.evaluations.index(self.best) if self.evaluations else 0

    def state_dict(self) -> dict[str, Any]:
        """As tensors, which a file holds exactly and small."""
        numbers = {"losses": self.losses, "grad_norms": self.grad_norms}
        numbers |= {"steps": [s for s, _ in self.evaluations], "values": [v for _, v in self.evaluations]}
        return {name: torch.tensor(values, dtype=torch.float64) for name, values in numbers.items()}

    def load_state_dict(self, saved: Mapping[str, Tensor]) -> None:
        """Take over what happened before."""
        self.losses, self.grad_norms = saved["losses"].tolist(), saved["grad_norms"].tolist()
        self.evaluations = list(zip(map(int, saved["steps"].tolist()), saved["values"].tolist(), strict=True))


class Trainer:
    """Trains a model, keeps what is needed to go on, and says where it went wrong.

    Args:
        model: trained in place; in training mode except while it is evaluated.
        loss: from the model and a batch to a tensor with one number.
        batches: gives the batches and remembers its place.
        optimizer: of the model's parameters.
        config: how long, how often.
        schedule: of the optimizer's learning rate; None: constant.
        evaluate: from the model to a number, smaller is better; called in evaluation mode and without gradients.
            Must not depend on random numbers. With it, the weights at the end are those of the best evaluation.
        path: the checkpoint file; None: nothing is saved. If it exists, ``run`` goes on from there.
        generators: random generators that the model or the loss use, by name. torch's own are always saved.
        progress: show a progress bar, on a screen only; False: never.
    Raises:
        ValueError: patience without evaluate, or checkpoint_every without a path.

    >>> from lmcore.train.optim import SGD
    >>> model = nn.Linear(1, 1, bias=False)
    >>> batches = Batches(torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [6.0]]), batch_size=1)
    >>> squared = lambda model, batch: (model(batch[0]) - batch[1]).square().mean()
    >>> trainer = Trainer(model, squared, batches, SGD(model.parameters(), 0.1), config=TrainingConfig(steps=60))
    >>> history = trainer.run()
    >>> round(model.weight.item(), 3)
    3.0
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        batches: Batches,
        optimizer: Optimizer,
        *,
        config: TrainingConfig,
        schedule: Schedule | None = None,
        evaluate: Callable[[nn.Module], float] | None = None,
        path: str | os.PathLike | None = None,
        generators: Mapping[str, torch.Generator] | None = None,
        progress: bool = True,
    ):
        if evaluate is None and (config.patience or config.evaluate_every):
            raise ValueError("config asks for evaluations (evaluate_every, patience), but evaluate is None")
        if path is None and config.checkpoint_every:
            raise ValueError("config.checkpoint_every is set, but path is None: say where the checkpoint goes")
        self.model, self.loss, self.batches, self.optimizer = model, loss, batches, optimizer
        self.config, self.schedule, self.evaluate = config, schedule, evaluate
        self.path = None if path is None else Path(path)
        self.generators = dict(generators or {})
        self.progress = progress
        self.history = History()
        self.best_weights: dict[str, Tensor] | None = None

    @property
    def step(self) -> int:
        """How many steps are finished."""
        return len(self.history.losses)

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or patience is over."""
        patience = self.config.patience
        waited_enough = patience is not None and self.history.evaluations_since_best >= patience
        return self.step >= self.config.steps or waited_enough

    def run(self) -> History:
        """Train until the last step, or until patience is over; go on from the checkpoint if there is one.

        Returns:
            The history of the whole run, the part before a resume included.
        Raises:
            TrainingDiverged: a loss or gradient that is not finite, with the step and the parameter.
            CheckpointError: the checkpoint is of another model, or damaged. Delete it to start anew.
        """
        if self.path is not None and self.path.exists() and self.step == 0:
            self.resume()
        self.model.train()
        # disable=None: quiet when the output is not a screen
        with tqdm(total=self.config.steps, initial=self.step, disable=None if self.progress else True) as bar:
            while not self.finished:
                self._one_step()
                self._after_step()
                bar.update()
                bar.set_postfix(loss=f"{self.history.losses[-1]:.4f}", refresh=False)
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)
        return self.history

    def _one_step(self) -> None:
        """Forward, backward, update; nothing is updated if a number is not finite."""
        batch = next(self.batches)
        self.optimizer.zero_grad()
        loss = self.loss(self.model, batch)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise TypeError(f"loss must return a tensor with one number, got {loss!r:.200}")
        if not torch.isfinite(loss):
            raise TrainingDiverged(f"step {self.step + 1}: the loss is {loss.item()}; {self._suspect(batch)}")
        loss.backward()
        parameters, limit = list(self.optimizer.parameters()), self.config.max_grad_norm
        norm = (clip_grad_norm_(parameters, limit) if limit else grad_norm(parameters)).item()
        if not math.isfinite(norm):
            raise TrainingDiverged(f"step {self.step + 1}: the gradient is not finite; {self._suspect(batch)}")
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        self.history.losses.append(loss.item())
        self.history.grad_norms.append(norm)

    def _suspect(self, batch: tuple[Tensor, ...]) -> str:
        """Say where a number that is not finite comes from: the batch, a weight, a gradient, or an overflow."""
        for number, tensor in enumerate(batch):
            if not torch.isfinite(tensor).all():
                return f"tensor {number} of the batch holds a number that is not finite: look at the data"
        named = dict(self.model.named_parameters())
        for kind, tensors in (("weight", named), ("gradient", {name: p.grad for name, p in named.items()})):
            for name, tensor in tensors.items():
                if tensor is not None and not torch.isfinite(tensor).all():
                    return f"the first parameter whose {kind} is not finite is {name!r}"
        name, size = max(((name, p.abs().max().item()) for name, p in named.items()), key=lambda pair: pair[1])
        return f"all weights are finite; the largest, {size:.3g}, is in {name!r}: is the learning rate too high?"

    def _after_step(self) -> None:
        """Evaluate, then save, so that a checkpoint knows what the evaluation said."""
        if self.evaluate is not None and (self.step == self.config.steps or self._due(self.config.evaluate_every)):
            self._evaluate()
        if self.path is not None and (self.finished or self._due(self.config.checkpoint_every)):
            self.save()

    def _due(self, every: int | None) -> bool:
        """Whether something that happens every so many steps happens now."""
        return every is not None and self.step % every == 0

    def _evaluate(self) -> None:
        """Evaluate, and keep a copy of the best weights."""
        self.model.eval()
        with torch.no_grad():
            value = float(self.evaluate(self.model))
        self.model.train()
        if math.isnan(value):
            raise TrainingDiverged(f"step {self.step}: evaluate gives NaN after it; {self._suspect(())}")
        self.history.evaluations.append((self.step, value))
        if self.history.best[0] == self.step:
            self.best_weights = {name: weight.clone() for name, weight in self.model.state_dict().items()}

    def _parts(self) -> dict[str, Any]:
        """What has a state of its own, by the name that it has in the checkpoint."""
        parts = {"optimizer": self.optimizer, "batches": self.batches, "history": self.history}
        return parts if self.schedule is None else {**parts, "schedule": self.schedule}

    def save(self) -> None:
        """Write the checkpoint file, whole or not at all."""
        state = {name: part.state_dict() for name, part in self._parts().items()}
        state |= {"model": self.model.state_dict(), "best_weights": self.best_weights}
        state |= {"random": _random_states(self.generators), "config": asdict(self.config)}
        checkpoint.save(self.path, state)

    def resume(self) -> None:
        """Go on from the checkpoint file: everything is as it was when the file was written.

        Raises:
            FileNotFoundError: there is none.
            CheckpointError: damaged, or of another model, optimizer, schedule or data; then nothing is changed.
        """
        state = checkpoint.load(self.path)
        missing = {*self._parts(), "model", "random"} - state.keys()
        unknown = ({"schedule"} & state.keys()) - self._parts().keys()
        if missing or unknown:
            which = f"lacks {sorted(missing)}" if missing else f"holds {sorted(unknown)}, which this run does not have"
            raise checkpoint.CheckpointError(f"{self.path} {which}: it is of another run")
        checkpoint.check_model(self.model, state["model"])
        before = {name: part.state_dict() for name, part in self._parts().items()}
        try:
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
            _set_random_states(state["random"], self.generators)
        except ValueError as error:
            for name, part in self._parts().items():
                part.load_state_dict(before[name])
            raise checkpoint.CheckpointError(f"{self.path} is of another run: {error}") from None
        self.model.load_state_dict(state["model"])
        self.best_weights = state["best_weights"]


def _random_states(generators: Mapping[str, torch.Generator]) -> dict[str, Any]:
    """State of torch's own generators and of the named ones."""
    named = {name: generator.get_state() for name, generator in generators.items()}
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all(), "named": named}


def _set_random_states(states: Mapping[str, Any], generators: Mapping[str, torch.Generator]) -> None:
    """Restore them."""
    if states["named"].keys() != generators.keys():
        raise ValueError(f"it has the generators {sorted(states['named'])}, this run {sorted(generators)}")
    torch.set_rng_state(states["cpu"])
    if len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    for name, generator in generators.items():
        generator.set_state(states["named"][name])
