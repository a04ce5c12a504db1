"""Weights in 16 bits, and what is done so that small updates are not lost: master weights, or stochastic rounding.

From 1 to the next bfloat16 it is 1/128, and an update of less than half of that changes nothing, however often it is
repeated. Master weights are a float32 copy, in which the updates add up; the model computes with a rounded copy of the
copy. Stochastic rounding needs no copy: an update of a tenth of the distance moves the weight once in ten times.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from lmcore.floats.stochastic import stochastic_bfloat16

Make = Callable[[list[Tensor]], Any]  # from float32 parameters to an optimizer of them, ours or torch's
LOW = (torch.bfloat16, torch.float16)


class _LowPrecision(ABC):
    """What both ways share: the model's parameters, a float32 tensor for each, and optimizers of these."""

    def __init__(self, params: Iterable[Tensor]):
        self.model_params = [p for p in params if p.requires_grad]
        if not self.model_params:
            raise ValueError("params holds no parameter that needs a gradient (was a generator used up before?)")
        for number, parameter in enumerate(self.model_params):
            if not parameter.is_leaf or parameter.dtype not in (*LOW, torch.float32):
                raise TypeError(
                    f"parameter {number} must be a leaf of bfloat16, float16 or float32, got {parameter.dtype}"
                )
        self.full = [p.detach().to(torch.float32, copy=True).requires_grad_() for p in self.model_params]
        self.optimizers: list[Any] = []

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of float32 parameters, whose settings a schedule may change."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def parameters(self) -> Iterable[Tensor]:
        """The float32 parameters, with the gradients to be clipped."""
        return iter(self.full)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in (*self.model_params, *self.full):
            parameter.grad = None

    @abstractmethod
    def step(self) -> None:
        """Update the model's parameters."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on but the model's own parameters."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            ValueError: it was saved for other parameters.
        """
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)


class MasterWeights(_LowPrecision):
    """An optimizer that keeps a float32 copy of a model's weights, and writes the rounded copy into the model.

    Args:
        params: the model's parameters, in bfloat16 or float16 (float32 ones are copied, too). Frozen ones are left out.
        make: from the list of float32 copies to the optimizer of them.
    Attributes:
        full: the float32 copies.   model_params: the model's own, in the same order.
    Raises:
        ValueError: no parameter that needs a gradient.   TypeError: a parameter of another type.

    As soon as backward has a gradient of the model, it is *added* to the copy's, in float32, and the 16-bit one is
    dropped. So `lmcore.train.clip`, `LossScaler`, `Schedule`, `Trainer` and several backward passes per step work as
    with any optimizer.

    Cost: 8 bytes a parameter (copy and gradient) besides the model's 2 and the optimizer's state.
    Source: Micikevicius et al. 2018, section 3.1.
    Differs: gradients in torch.autograd.grad, or assigned by hand, are not seen.

    >>> from lmcore.train.optim import SGD
    >>> w = torch.ones(1, dtype=torch.bfloat16, requires_grad=True)
    >>> master = MasterWeights([w], lambda full: SGD(full, lr=0.001))
    >>> for _ in range(10):
    ...     master.zero_grad()
    ...     w.sum().backward()
    ...     master.step()
    >>> round(master.full[0].item(), 4), w.item()   # ten times −0.001; the nearest bfloat16 is 1 − 2.5/256, rounded
    (0.99, 0.98828125)
    """

    def __init__(self, params: Iterable[Tensor], make: Make):
        super().__init__(params)
        self.optimizers = [make(self.full)]
        for parameter, full in zip(self.model_params, self.full, strict=True):
            parameter.register_post_accumulate_grad_hook(_adder(full))

    @torch.no_grad()
    def step(self) -> None:
        """Update the copies, and round them into the model."""
        self.optimizers[0].step()
        self._write()

    def _write(self) -> None:
        """Round the copies into the model, to nearest."""
        for parameter, full in zip(self.model_params, self.full, strict=True):
            parameter.copy_(full)

    def state_dict(self) -> dict[str, Any]:
        """The copies, and the optimizer's state."""
        return {"full": [full.detach() for full in self.full], **super().state_dict()}

    @torch.no_grad()
    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over copies and state; the model's weights follow the copies.

        Raises:
            ValueError: it was saved for other parameters. Nothing is changed then.
        """
        shapes, ours = ([tuple(tensor.shape) for tensor in tensors] for tensors in (saved["full"], self.full))
        if shapes != ours:
            raise ValueError(f"the saved copies have the shapes {shapes}, the parameters {ours}: another model?")
        super().load_state_dict(saved)
        for full, tensor in zip(self.full, saved["full"], strict=True):
            full.copy_(tensor)
        self._write()


def _adder(full: Tensor) -> Callable[[Tensor], None]:
    """What moves a gradient that has just been computed to the float32 copy."""

    def add(parameter: Tensor) -> None:
        gradient, parameter.grad = parameter.grad.to(torch.float32), None
        full.grad = gradient if full.grad is None else full.grad.add_(gradient)

    return add


class StochasticWeights(_LowPrecision):
    """An optimizer of bfloat16 weights without a copy: it computes a step in float32 and rounds it stochastically.

    Args:
        params: the model's parameters, all bfloat16. Frozen ones are left out.
        make: from a list of float32 parameters to an optimizer of them; called once for each parameter.
        generator: draws; torch's global one if None.
    Raises:
        ValueError: no parameter that needs a gradient.   TypeError: a parameter that is not bfloat16.

    Between steps there are the weights, 2 bytes each, and the optimizer's state; during a step one parameter at a time
    is held in float32. Gradients stay where they are, on the model's parameters.

    >>> from lmcore.train.optim import SGD
    >>> w = torch.ones(1000, dtype=torch.bfloat16, requires_grad=True)
    >>> sgd = StochasticWeights([w], lambda full: SGD(full, lr=0.001), generator=torch.Generator().manual_seed(1))
    >>> for _ in range(10):
    ...     sgd.zero_grad()
    ...     w.sum().backward()
    ...     sgd.step()
    >>> round(w.float().mean().item(), 3)    # each weight is off by a little, their mean is right
    0.99
    """

    def __init__(self, params: Iterable[Tensor], make: Make, *, generator: torch.Generator | None = None):
        super().__init__(params)
        for number, parameter in enumerate(self.model_params):
            if parameter.dtype != torch.bfloat16:
                raise TypeError(f"parameter {number} must be bfloat16, got {parameter.dtype}")
        self.optimizers = [make([full]) for full in self.full]
        self.generator = generator
        for full in self.full:
            full.data = full.data.new_empty(0)  # only its place in the optimizer is kept

    def parameters(self) -> Iterable[Tensor]:
        """The model's parameters, with the gradients to be clipped."""
        return iter(self.model_params)

    @torch.no_grad()
    def step(self) -> None:
        """Update one parameter after the other."""
        for parameter, full, optimizer in zip(self.model_params, self.full, self.optimizers, strict=True):
            if parameter.grad is None:
                continue
            full.data = parameter.to(torch.float32)
            full.grad = parameter.grad.to(torch.float32)
            optimizer.step()
            parameter.copy_(stochastic_bfloat16(full, generator=self.generator))
            full.grad = None
            full.data = full.data.new_empty(0)

    @torch.no_grad()
    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over the optimizers' state; the weights are in the model, the draws in the generator.

        Raises:
            ValueError: it was saved for other parameters.
        """
        for parameter, full in zip(self.model_params, self.full, strict=True):
            full.data = parameter.to(torch.float32)  # its shape is checked
        super().load_state_dict(saved)
        for full in self.full:
            full.data = full.data.new_empty(0)
