"""Learning-rate schedules: a function from the number of finished steps to a factor of the base rate.

A schedule is a plain function, so that it can be plotted, tested and multiplied; ``Schedule`` applies one to an
optimizer.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from lmcore.train.optimizer import Optimizer, check_setting

Factor = Callable[[int], float]


def _check_count(name: str, value: int, least: int) -> None:
    """Refuse a number of steps that cannot be."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def constant() -> Factor:
    """The base rate, always."""
    return lambda step: 1.0


def warmup(steps: int) -> Factor:
    """Rise in a straight line to the base rate, which step number ``steps`` is the first to use.

    The first step uses 1/(steps + 1) of it, not zero: a step of zero would be wasted.

    >>> [round(warmup(3)(step), 2) for step in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    _check_count("steps", steps, 0)
    return lambda step: min(1.0, (step + 1) / (steps + 1))


def step_decay(every: int, factor: float = 0.1) -> Factor:
    """Multiply the rate by ``factor`` after every so many steps.

    >>> [step_decay(2, 0.5)(step) for step in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    _check_count("every", every, 1)
    check_setting("factor", factor, low=0.0, below=math.nextafter(1.0, 2.0), above=True)
    return lambda step: factor ** (step // every)


def _after_warmup(total: int, steps: int, final: float, shape: Factor) -> Factor:
    """Warm up, then fall from 1 to ``final`` as ``shape`` falls from 1 to 0 while its argument goes from 0 to 1."""
    _check_count("warmup", steps, 0)
    _check_count("total", total, steps + 1)
    check_setting("final", final, low=0.0, below=math.nextafter(1.0, 2.0))
    rise = warmup(steps)

    def factor(step: int) -> float:
        if step < steps:
            return rise(step)
        done = min(1.0, (step - steps) / (total - steps))
        return final + (1 - final) * shape(done)

    return factor


def linear(total: int, *, warmup: int = 0, final: float = 0.0) -> Factor:
    """Warm up, then fall in a straight line to ``final`` of the base rate, reached after ``total`` steps.

    >>> [linear(4)(step) for step in range(6)]
    [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """
    return _after_warmup(total, warmup, final, lambda done: 1 - done)


def cosine(total: int, *, warmup: int = 0, final: float = 0.0) -> Factor:
    """Warm up, then fall along half a cosine to ``final`` of the base rate, reached after ``total`` steps.

    Source: Loshchilov and Hutter 2017, eq. 5, one period without restarts.

    >>> [round(cosine(4)(step), 3) for step in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """
    return _after_warmup(total, warmup, final, lambda done: (1 + math.cos(math.pi * done)) / 2)


class Schedule:
    """Sets the learning rates of an optimizer: base rate times factor, for each of its groups.

    Args:
        optimizer: its rates now are the base rates.
        factor: from the number of finished steps to a factor ≥ 0.
    Raises:
        ValueError: the factor is negative or not a number (said when it occurs, with the step).

    Call ``step`` after every step of the optimizer. The rate of the first step is set at once.
    """

    def __init__(self, optimizer: Optimizer, factor: Factor):
        self.optimizer = optimizer
        self.factor = factor
        self.base_rates = [group["lr"] for group in optimizer.param_groups]
        self.steps = 0
        self._set()

    @property
    def rates(self) -> list[float]:
        """The rates that the next step uses, one per group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def step(self) -> None:
        """Count a finished step and set the rates of the next one."""
        self.steps += 1
        self._set()

    def _set(self) -> None:
        """Give every group its rate."""
        factor = self.factor(self.steps)
        if not 0 <= factor < math.inf:
            raise ValueError(f"the schedule gives the factor {factor!r} at step {self.steps}; it must be at least 0")
        for group, base in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = base * factor

    def state_dict(self) -> dict[str, Any]:
        """Where it stands. The function itself is code, and is not saved."""
        return {"steps": self.steps, "base_rates": list(self.base_rates)}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on from a saved place.

        Raises:
            ValueError: it was saved for another number of groups.
        """
        if len(saved["base_rates"]) != len(self.base_rates):
            groups = f"{len(saved['base_rates'])} groups of parameters, the optimizer has {len(self.base_rates)}"
            raise ValueError(f"the schedule was saved for {groups}")
        self.steps, self.base_rates = saved["steps"], list(saved["base_rates"])
        self._set()
