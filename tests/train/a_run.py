"""A small training run with everything that has a state; test_loop.py starts it as a process, and kills it.

Usage: python a_run.py CHECKPOINT [WHERE NUMBER]. With WHERE the process kills itself, without any chance to clean up,
at the NUMBER-th call of: loss, replace (the checkpoint is written but has not its name yet), evaluate.
Prints a hash of the weights and of the history when it ends.
"""

import hashlib
import os
import signal
import sys

import torch
from torch import nn

from lmcore.train import checkpoint
from lmcore.train.batches import Batches
from lmcore.train.loop import Trainer, TrainingConfig
from lmcore.train.optim import AdamW
from lmcore.train.schedule import Schedule, cosine

STEPS = 30


class NoisyModel(nn.Module):
    """Draws from a generator of its own and, by torch's dropout, from torch's global one."""

    def __init__(self, generator: torch.Generator):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Dropout(0.3), nn.Linear(7, 3))
        self.generator = generator
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(generator=generator)

    def forward(self, x):
        noise = torch.randn(x.shape, generator=self.generator) if self.training else 0.0
        return self.layers(x + 0.1 * noise)


def killer(number: int):
    """A function that kills this process when it is called for the number-th time."""
    calls = 0

    def call():
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)

    return call


def nothing():
    """Kill nobody."""


def trainer(path, die_in_loss=nothing, die_in_evaluate=nothing) -> Trainer:
    """The run, from its beginning."""
    torch.manual_seed(11)
    generator = torch.Generator().manual_seed(7)
    x, y = torch.randn(41, 5, generator=generator), torch.randint(3, (41,), generator=generator)
    model = NoisyModel(generator)
    optimizer = AdamW(model.parameters(), lr=0.03, weight_decay=0.1)

    def loss(model, batch):
        die_in_loss()
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def evaluate(model):
        die_in_evaluate()
        return nn.functional.cross_entropy(model(x), y).item()

    return Trainer(
        model,
        loss,
        Batches(x, y, batch_size=6, seed=5),
        optimizer,
        config=TrainingConfig(steps=STEPS, evaluate_every=4, max_grad_norm=1.0, checkpoint_every=3, patience=50),
        schedule=Schedule(optimizer, cosine(STEPS, warmup=4)),
        evaluate=evaluate,
        path=path,
        generators={"noise": generator},
    )


def digest(run: Trainer) -> str:
    """A hash of the weights and of the history: equal only if every bit is."""
    sha = hashlib.sha256(repr((run.history.losses, run.history.grad_norms, run.history.evaluations)).encode())
    for weight in run.model.state_dict().values():
        sha.update(weight.numpy().tobytes())
    return sha.hexdigest()


def main(path: str, where: str = "", number: str = "0") -> None:
    """Run, and perhaps die."""
    torch.set_num_threads(1)
    die = killer(int(number))
    if where == "replace":
        rename = os.replace
        checkpoint.os.replace = lambda *names: (die(), rename(*names))
    run = trainer(path, die if where == "loss" else nothing, die if where == "evaluate" else nothing)
    run.run()
    print(digest(run))


if __name__ == "__main__":
    main(*sys.argv[1:])
