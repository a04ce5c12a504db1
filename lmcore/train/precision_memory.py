"""How many bytes training keeps between two steps: predicted from the formats, and counted in the tensors.

Activations are not in it: they depend on the batch, and are there only from forward to backward.
"""

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor

from lmcore.floats.formats import FP32, FloatFormat
from lmcore.sizes import check_sizes


@dataclass(frozen=True, kw_only=True)
class TrainingBytes:
    """Bytes of the model's weights, of gradients, of float32 copies, and of an optimizer's state."""

    weights: int
    gradients: int
    copies: int
    state: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(astuple(self))


def predicted_bytes(
    parameters: int,
    *,
    weights: FloatFormat = FP32,
    gradients: FloatFormat = FP32,
    copies: FloatFormat | None = None,
    state: Iterable[FloatFormat] = (FP32, FP32),
) -> TrainingBytes:
    """What training keeps.

    Args:
        parameters: how many numbers the model has.
        weights, gradients: their formats.   copies: that of master weights; None: there are none.
        state: a format for each number that the optimizer keeps per parameter: two for Adam, none for plain SGD.
    Raises:
        ValueError: parameters below 1, or a format that does not fill whole bytes, as TF32 does not.

    >>> from lmcore.floats.formats import BF16
    >>> predicted_bytes(10).total, predicted_bytes(10, weights=BF16, gradients=BF16, copies=FP32).total
    (160, 160)
    """
    check_sizes(parameters=parameters)
    state = tuple(state)
    for fmt in (weights, gradients, *state, *([] if copies is None else [copies])):
        if fmt.bits % 8:
            raise ValueError(f"{fmt.name} has {fmt.bits} bits, which do not fill whole bytes: how is it kept?")
    parts = ([weights], [gradients], [] if copies is None else [copies], state)
    sizes = (parameters * sum(fmt.bits // 8 for fmt in part) for part in parts)
    return TrainingBytes(**dict(zip(("weights", "gradients", "copies", "state"), sizes, strict=True)))


def counted_bytes(optimizer: Any) -> TrainingBytes:
    """What an optimizer and its parameters hold now: count after backward, when there are gradients.

    Args:
        optimizer: ours, torch's, or one of `lmcore.train.precision_master`.
    Returns:
        The bytes of all tensors; copies are float32 parameters that are not the model's own.

    >>> from lmcore.train.optim import SGD
    >>> w = torch.ones(3, requires_grad=True)
    >>> w.sum().backward()
    >>> counted_bytes(SGD([w], lr=0.1, momentum=0.9))     # the momentum comes with the first step
    TrainingBytes(weights=12, gradients=12, copies=0, state=0)
    """
    optimizers = getattr(optimizer, "optimizers", [optimizer])
    updated = [p for one in optimizers for group in one.param_groups for p in group["params"]]
    own = getattr(optimizer, "model_params", updated)
    copies = [] if own is updated else updated
    state = [x for one in optimizers for kept in one.state.values() for x in kept.values() if isinstance(x, Tensor)]
    gradients = [p.grad for p in (*own, *copies) if p.grad is not None]
    return TrainingBytes(weights=_bytes(own), gradients=_bytes(gradients), copies=_bytes(copies), state=_bytes(state))


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Sum of the tensors' sizes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
