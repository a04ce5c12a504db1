"""What all optimizers share: groups of parameters with their settings, a memory for each parameter, saving and loading.

The update rules are in ``optim``.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

Parameters = Iterable[Tensor] | Iterable[Mapping[str, Any]]
State = dict[str, Any]  # what an optimizer remembers of one parameter


def check_setting(name: str, value: float, *, low: float, below: float = float("inf"), above: bool = False) -> None:
    """Refuse a setting outside [low, below), or outside (low, below) if ``above``; a NaN is outside everything."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (low <= value < below) or (above and value == low):
        left = f"above {low:g}" if above else f"at least {low:g}"
        raise ValueError(f"{name} must be {left} and below {below:g}, got {value!r}")


class Optimizer(ABC):
    """What every optimizer has: groups of parameters with their settings, and a memory for each parameter.

    Args:
        params: parameters, or groups of them: ``[{"params": […], "lr": 0.01}, {"params": […]}]``. What a group does
            not set, it takes from the arguments.
        settings: the default of every setting, checked by ``_check``.
    Raises:
        ValueError: no parameter, one listed twice, or a setting that cannot be.
        TypeError: something that is not a floating-point leaf tensor, or an unknown setting.

    A parameter without a gradient is left alone: frozen, or not used in this step.
    """

    def __init__(self, params: Parameters, **settings: Any):
        entries = [params] if isinstance(params, Tensor) else list(params)
        if not entries:
            raise ValueError("params is empty: there is nothing to optimize (was a generator used up before?)")
        groups = entries if isinstance(entries[0], Mapping) else [{"params": entries}]
        self.param_groups: list[dict[str, Any]] = []
        for group in groups:
            unknown = set(group) - set(settings) - {"params"}
            if unknown:
                raise TypeError(f"a group sets {sorted(unknown)}; {type(self).__name__} knows {sorted(settings)}")
            members = group["params"]
            group = {**settings, **group, "params": [members] if isinstance(members, Tensor) else list(members)}
            self._check(group)
            self.param_groups.append(group)
        self._check_parameters()
        self.state: dict[Tensor, State] = {}

    def _check_parameters(self) -> None:
        """Refuse what cannot be optimized, and what would be updated twice in a step."""
        seen = set()
        for number, parameter in enumerate(self.parameters()):
            if not isinstance(parameter, Tensor) or not parameter.is_leaf or not parameter.is_floating_point():
                raise TypeError(
                    f"parameter {number} is not a floating-point leaf tensor but {type(parameter).__name__}; "
                    "pass model.parameters(), not what was computed from them"
                )
            if id(parameter) in seen:
                raise ValueError(f"parameter {number}, of shape {tuple(parameter.shape)}, is listed twice")
            seen.add(id(parameter))

    def _check(self, group: dict[str, Any]) -> None:
        """Refuse settings that cannot be."""
        check_setting("lr", group["lr"], low=0.0, above=True)
        check_setting("weight_decay", group["weight_decay"], low=0.0)

    def parameters(self) -> Iterable[Tensor]:
        """All parameters, group after group."""
        return (parameter for group in self.param_groups for parameter in group["params"])

    def zero_grad(self) -> None:
        """Forget the gradients, so that the next backward pass does not add to them."""
        for parameter in self.parameters():
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient.

        Cost: a few passes over the parameters' memory; the state holds 0 to 3 numbers per parameter.
        """
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    if parameter not in self.state:
                        self.state[parameter] = self._new_state(parameter, group)
                    self._update(parameter, self._decayed(parameter, group), self.state[parameter], group)

    def _decayed(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """Return the gradient of loss + λ/2 ‖θ‖²; AdamW shrinks the weights instead."""
        decay = group["weight_decay"]
        return parameter.grad.add(parameter, alpha=decay) if decay else parameter.grad

    @abstractmethod
    def _new_state(self, parameter: Tensor, group: dict[str, Any]) -> State:
        """What is remembered before the first step."""

    @abstractmethod
    def _update(self, parameter: Tensor, gradient: Tensor, state: State, group: dict[str, Any]) -> None:
        """Do one step of the rule, in place."""

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on as if nothing had happened: the kind, the settings, and each parameter's state.

        Returns:
            ``{"kind": …, "groups": [settings…], "state": [one entry per parameter, None before its first step]}``.
        """
        groups = [{name: value for name, value in group.items() if name != "params"} for group in self.param_groups]
        sizes = [len(group["params"]) for group in self.param_groups]
        state = [self.state.get(parameter) for parameter in self.parameters()]
        return {"kind": type(self).__name__, "groups": groups, "sizes": sizes, "state": state}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over a state; the settings come with it.

        Raises:
            ValueError: the state of another kind of optimizer, or of other parameters. Nothing is changed then.
        """
        if saved["kind"] != type(self).__name__:
            raise ValueError(f"this is the state of {saved['kind']}, and the optimizer is {type(self).__name__}")
        sizes = [len(group["params"]) for group in self.param_groups]
        if saved["sizes"] != sizes:
            raise ValueError(f"the state has groups of {saved['sizes']} parameters, the optimizer of {sizes}")
        loaded = {}
        for number, (parameter, state) in enumerate(zip(self.parameters(), saved["state"], strict=True)):
            if state is not None:
                loaded[parameter] = {name: _fitted(number, parameter, name, value) for name, value in state.items()}
        for group, settings in zip(self.param_groups, saved["groups"], strict=True):
            group.update(_tuples(settings))
        self.state = loaded


def _fitted(number: int, parameter: Tensor, name: str, value: Any) -> Any:
    """Copy a piece of state to its parameter's device, or say that it belongs to another parameter."""
    if not isinstance(value, Tensor):
        return value
    if value.shape != parameter.shape:
        shapes = f"{tuple(value.shape)} and the parameter {tuple(parameter.shape)}"
        raise ValueError(f"state {name!r} of parameter {number} has the shape {shapes}: another model?")
    return value.detach().to(parameter.device, copy=True)


def _tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Make lists tuples again: a file knows only lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
