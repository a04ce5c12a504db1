"""Loss scaling: multiply the loss, so that gradients are too large to underflow, and divide them before they are used.

The chain rule passes a factor on: a loss S times as large has gradients S times as large, all the way back. FP16 has
no numbers between 0 and 6·10⁻⁸, and nearly none in use near its largest one, 65504; a factor moves the gradients to
where the numbers are. A static factor is chosen once. A dynamic one is found by trying: when a gradient has become
infinite, this step is left out and the factor halved; after many good steps in a row it is doubled.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from lmcore.sizes import check_sizes
from lmcore.train.optimizer import check_setting

_SMALLEST = torch.finfo(torch.float32).tiny


def _float32(x: float) -> float:
    """What float32, in which torch keeps the factor, makes of a number."""
    return torch.tensor(x, dtype=torch.float32).item()


class Steps(Protocol):
    """What is asked of an optimizer: ours, torch's, or `lmcore.train.precision_master.MasterWeights`."""

    param_groups: list[dict[str, Any]]

    def step(self) -> None:
        """Update the parameters."""


@dataclass(frozen=True, kw_only=True)
class ScalingConfig:
    """How a loss is scaled; the defaults are torch's.

    Args:
        initial: the first factor.
        growth: multiplies the factor after `interval` good steps in a row, ≥ 1.
        backoff: multiplies it after an overflow, above 0 and at most 1.
        interval: good steps between two growths.
    """

    initial: float = 2.0**16
    growth: float = 2.0
    backoff: float = 0.5
    interval: int = 2000

    def __post_init__(self):
        check_setting("initial", self.initial, low=0.0, above=True)
        check_setting("growth", self.growth, low=1.0)
        check_setting("backoff", self.backoff, low=0.0, above=True)
        if self.backoff > 1:
            raise ValueError(f"backoff must be at most 1, got {self.backoff!r}")
        check_sizes(interval=self.interval)

    @classmethod
    def static(cls, factor: float) -> "ScalingConfig":
        """One factor for ever; steps with an overflow are left out all the same."""
        return cls(initial=factor, growth=1.0, backoff=1.0)


class LossScaler:
    """Scales losses, unscales gradients, leaves out steps that overflowed, and adapts the factor.

    Args:
        config: the factors.
    Attributes:
        scale: the factor now.   good_steps: in a row, since it last changed.
        skipped: how many updates found an overflow.

    In each step of training: ``scaler.scaled(loss).backward()``; then, if gradients are to be clipped or looked at,
    ``scaler.unscale(optimizer)``; ``scaler.step(optimizer)``, which is False if the step was left out; and, after the
    last optimizer, ``scaler.update()``.

    Source: Micikevicius et al. 2018, section 3.2; the rule of the dynamic factor is that of `torch.amp.GradScaler`.
    Differs: that one calls the methods scale, unscale_, step and update, and keeps the factor on the GPU; here it is a
        number of Python. Its factor may fall to zero.

    >>> from lmcore.train.optim import SGD
    >>> w = torch.tensor([1.0], requires_grad=True)
    >>> scaler, sgd = LossScaler(ScalingConfig(initial=8.0, interval=2)), SGD([w], lr=0.5)
    >>> for factor in (1.0, 1.0, float("inf")):
    ...     sgd.zero_grad()
    ...     scaler.scaled((factor * w).sum()).backward()
    ...     print(scaler.step(sgd), w.item(), scaler.update())
    True 0.5 8.0
    True 0.0 16.0
    False 0.0 8.0
    """

    def __init__(self, config: ScalingConfig | None = None):
        self.config = ScalingConfig() if config is None else config
        self.scale, self.good_steps, self.skipped = float(self.config.initial), 0, 0
        self._finite: dict[int, bool] = {}  # by optimizer: whether its gradients, unscaled by now, are finite
        self._stepped: set[int] = set()

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss times the factor, to be differentiated.

        In float32: the factor alone may be more than float16 holds, as 2¹⁶ is.
        """
        return (loss.float() if loss.dtype in (torch.float16, torch.bfloat16) else loss) * self.scale

    @torch.no_grad()
    def unscale(self, optimizer: Steps) -> bool:
        """Divide the gradients of an optimizer's parameters by the factor.

        Returns:
            Whether all of them are finite.
        Raises:
            RuntimeError: done before in this step, or no parameter has a gradient.
            TypeError: a float16 gradient, in which small quotients would be lost again.
        """
        if id(optimizer) in self._finite:
            raise RuntimeError("the gradients of this optimizer are unscaled already: call update() once per step")
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not gradients:
            raise RuntimeError("no parameter of this optimizer has a gradient: call scaled(loss).backward() first")
        for gradient in gradients:
            if gradient.dtype == torch.float16:
                raise TypeError(
                    "a gradient is float16: divided by the factor it would underflow as without scaling; "
                    "give the optimizer float32 copies of the weights, see lmcore.train.precision_master"
                )
        inverse = 1.0 / self.scale
        for gradient in gradients:
            gradient.mul_(inverse)
        finite = all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
        self._finite[id(optimizer)] = finite
        return finite

    def step(self, optimizer: Steps) -> bool:
        """Unscale if that was not done, and take the optimizer's step if every gradient is finite.

        Returns:
            Whether the step was taken.
        Raises:
            RuntimeError: a second step without update() between them.
        """
        if id(optimizer) in self._stepped:
            raise RuntimeError("step() was called twice for this optimizer: call update() after each step")
        if id(optimizer) not in self._finite:
            self.unscale(optimizer)
        self._stepped.add(id(optimizer))
        if self._finite[id(optimizer)]:
            optimizer.step()
        return self._finite[id(optimizer)]

    def update(self) -> float:
        """Adapt the factor to what all optimizers met since the last update, and return it.

        Raises:
            RuntimeError: no optimizer unscaled or stepped since then, or the factor has fallen to zero.
        """
        if not self._finite:
            raise RuntimeError("update() without a step: call step(optimizer) first")
        if not all(self._finite.values()):
            self.scale, self.good_steps, self.skipped = _float32(self.scale * self.config.backoff), 0, self.skipped + 1
        elif self.good_steps + 1 == self.config.interval:
            grown = _float32(self.scale * self.config.growth)
            self.scale, self.good_steps = grown if math.isfinite(grown) else self.scale, 0
        else:
            self.good_steps += 1
        self._finite, self._stepped = {}, set()
        if self.scale < _SMALLEST:
            raise RuntimeError("the factor has fallen to zero: the gradients are not finite, whatever it is")
        return self.scale

    def state_dict(self) -> dict[str, Any]:
        """The factor, what it has met, and the settings."""
        config = {name: getattr(self.config, name) for name in ("initial", "growth", "backoff", "interval")}
        return {"scale": self.scale, "good_steps": self.good_steps, "skipped": self.skipped, "config": config}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on from a saved state; the settings come with it.

        Raises:
            ValueError: a factor that is not above zero and finite. Nothing is changed then.
        """
        config = ScalingConfig(**saved["config"])
        check_setting("scale", saved["scale"], low=0.0, above=True)
        self.config, self.scale = config, float(saved["scale"])
        self.good_steps, self.skipped = int(saved["good_steps"]), int(saved["skipped"])
        self._finite, self._stepped = {}, set()
