"""One engine for every schedule of pipeline parallelism: do what the schedule says, pass tensors on, add gradients up.

def train(context, model, batches):
    stages = cut(gpt_layers(model), 2)
    pipeline = Pipeline(stages, one_forward_one_backward(2, 4), loss=loss, group=context.group)
    optimizer = torch.optim.AdamW(pipeline.parameters())
    for inputs, targets in batches:
        optimizer.zero_grad()
        loss = pipeline.step(inputs, targets)
        optimizer.step()
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Module, Parameter

from lmcore.parallel.mail import Mail
from lmcore.parallel.schedules import Action, Schedule
from lmcore.parallel.stages import tied_parameters
from lmcore.parallel.timeline import Event, simulate


class Pipeline:
    """One rank's share of a model that is cut into stages.

    Args:
        stages: all stages of the model, equal on all ranks; this rank keeps its own. Each maps one tensor to one.
            Random numbers (dropout) are drawn by each rank, so they are not those that one process would draw.
        schedule: who computes what in which order.
        loss: (output, targets) → the mean over what `count` counts.
        group: the ranks; its rank r runs the schedule's rank r. Its backend is gloo: see `Mail`.
        count: targets → how many things the loss of these is a mean of, the number of rows by default. For a loss per
            token, where some are masked, the number of tokens that are not.
        device: where this rank computes.
    Attributes:
        stages: this rank's, by number.   mail: counts the messages with activations and their gradients, and bytes.
        events: when each action of the last step ran, in seconds of this machine's clock; waiting is not part of it.
    Raises:
        ValueError: the schedule is for other numbers of stages or ranks, or would wait for ever.

    A parameter that several stages share (tied embeddings) has a copy on each of their ranks. The copies begin equal,
    and `step` gives each the sum of their gradients, so they stay equal.
    """

    def __init__(
        self,
        stages: Sequence[Module],
        schedule: Schedule,
        *,
        loss: Callable[[Tensor, Tensor], Tensor],
        group: dist.ProcessGroup,
        count: Callable[[Tensor], float] = len,
        device: torch.device | str = "cpu",
    ):
        size = dist.get_world_size(group)
        if (len(stages), size) != (schedule.stages, schedule.ranks):
            raise ValueError(
                f"the schedule is for {schedule.stages} stages on {schedule.ranks} ranks, but there are {len(stages)} "
                f"stages and the group has {size} ranks"
            )
        simulate(schedule)  # refuses a schedule in which ranks would wait for ever
        self.schedule, self.loss, self.count = schedule, loss, count
        self.mail, self._other_mail = Mail(group, device), Mail(group, device)
        self.rank, self.device = self.mail.rank, torch.device(device)
        ranks_of = [(p, sorted({s % size for s in numbers})) for p, numbers in tied_parameters(stages)]
        self._tied = [(p, ranks) for p, ranks in ranks_of if len(ranks) > 1 and p.requires_grad]
        self.stages = {s: stage.to(device) for s, stage in enumerate(stages) if s % size == self.rank}
        self.events: list[Event] = []
        self._held: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}  # input and output by stage and microbatch

    def parameters(self) -> list[Parameter]:
        """Those of the stages of this rank, each once."""
        return list(dict.fromkeys(p for stage in self.stages.values() for p in stage.parameters()))

    def step(self, inputs: Tensor, targets: Tensor) -> float:
        """Forward and backward of a batch: adds to the parameters' ``grad`` as ``loss(model(inputs), targets)`` would.

        Args:
            inputs, targets: the whole batch, on all ranks; only the first and the last stage look at them. It is cut
                along the first axis, evenly or nearly so: each microbatch counts by its share of the batch.
        Returns:
            The mean loss, on all ranks.
        Raises:
            ValueError: fewer rows than microbatches.
        """
        if len(inputs) != len(targets) or len(inputs) < self.schedule.microbatches:
            raise ValueError(
                f"{len(inputs)} inputs and {len(targets)} targets: there must be as many of both, and at least one for "
                f"each of {self.schedule.microbatches} microbatches"
            )
        xs, ys = (rows.to(self.device).tensor_split(self.schedule.microbatches) for rows in (inputs, targets))
        counts = [self.count(y) for y in ys]
        before = [self._set_aside(parameter) for parameter, ranks in self._tied if self.rank in ranks]
        self.events, total = [], 0.0
        for action in self.schedule.actions[self.rank]:
            if action.kind == "F":
                m = action.microbatch
                total += self._forward(action, xs[m], ys[m], counts[m] / sum(counts))
            else:
                self._backward(action)
        self._add_tied(before)
        total = self._tell(total)
        self.mail.wait()
        self._other_mail.wait()
        return total

    def _forward(self, action: Action, x: Tensor, y: Tensor, weight: float) -> float:
        """One forward pass; the weighted loss if the stage is the last one, and else 0."""
        stage, m, last = action.stage, action.microbatch, self.schedule.stages - 1
        if stage:
            x = self.mail.receive((stage - 1) % self.schedule.ranks, self._tag(action)).requires_grad_()
        start = time.perf_counter()
        output = self.stages[stage](x)
        if stage == last:
            output = weight * self.loss(output, y)
        self._log(start, action)
        self._held[stage, m] = x, output
        if stage == last:
            return output.item()
        self.mail.send(output.detach(), (stage + 1) % self.schedule.ranks, self._tag(Action("F", m, stage + 1)))
        return 0.0

    def _backward(self, action: Action) -> None:
        """One backward pass, which frees what its forward pass has kept."""
        stage, m = action.stage, action.microbatch
        x, output = self._held.pop((stage, m))
        gradient = None
        if stage < self.schedule.stages - 1:
            gradient = self.mail.receive((stage + 1) % self.schedule.ranks, self._tag(action))
        start = time.perf_counter()
        if output.requires_grad:  # not if all that stands before is frozen
            torch.autograd.backward(output, gradient)
        self._log(start, action)
        if stage:
            gradient = torch.zeros_like(x) if x.grad is None else x.grad
            self.mail.send(gradient, (stage - 1) % self.schedule.ranks, self._tag(Action("B", m, stage - 1)))

    def _tag(self, action: Action) -> int:
        """The number of the message that an action waits for: different for all actions."""
        return (action.stage * self.schedule.microbatches + action.microbatch) * 2 + (action.kind == "B")

    def _log(self, start: float, action: Action) -> None:
        """Note that an action has run until now."""
        self.events.append(Event(start, time.perf_counter(), self.rank, action))

    @staticmethod
    def _set_aside(parameter: Parameter) -> Tensor | None:
        """Take away a gradient from before this step: it is a sum over the copies already."""
        before, parameter.grad = parameter.grad, None
        return before

    def _tell(self, loss: float) -> float:
        """The loss, which the last rank knows, on all ranks."""
        last, tag = self.schedule.ranks - 1, 2 * self.schedule.stages * self.schedule.microbatches
        if self.rank != last:
            return self._other_mail.receive(last, tag).item()
        for rank in range(last):
            self._other_mail.send(torch.tensor(loss, dtype=torch.float64), rank, tag)
        return loss

    def _add_tied(self, before: list[Tensor | None]) -> None:
        """Give every copy of a shared parameter the sum of the copies' gradients."""
        tag = 2 * self.schedule.stages * self.schedule.microbatches + 1  # beyond those of the actions and the loss
        mine = [(number, pair) for number, pair in enumerate(self._tied) if self.rank in pair[1]]
        for (number, (parameter, ranks)), old in zip(mine, before, strict=True):
            first, *others = ranks
            total = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            if self.rank == first:
                for rank in others:
                    total = total + self._other_mail.receive(rank, tag + number)
                for rank in others:
                    self._other_mail.send(total, rank, tag + number)
            else:
                self._other_mail.send(total, first, tag + number)
                total = self._other_mail.receive(first, tag + number)
            parameter.grad = total if old is None else old + total
