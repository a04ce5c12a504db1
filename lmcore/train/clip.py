"""Gradient clipping: limit how far one unlucky batch can throw the weights."""

from collections.abc import Iterable

import torch
from torch import Tensor

from lmcore.train.optimizer import check_setting


def _gradients(parameters: Iterable[Tensor] | Tensor) -> list[Tensor]:
    """Return the gradients of those parameters that have one."""
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


@torch.no_grad()
def grad_norm(parameters: Iterable[Tensor] | Tensor) -> Tensor:
    """Length of the gradient of all parameters together, as one long vector.

    Args:
        parameters: tensors; those without a gradient are left out.
    Returns:
        A tensor without dimensions; zero if no parameter has a gradient.

    >>> a, b = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    >>> a.grad, b.grad = torch.tensor([3.0]), torch.tensor([4.0])
    >>> grad_norm([a, b]).item()
    5.0
    """
    norms = [torch.linalg.vector_norm(gradient) for gradient in _gradients(parameters)]
    if not norms:
        return torch.tensor(0.0)
    return torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms]))


@torch.no_grad()
def clip_grad_norm_(parameters: Iterable[Tensor] | Tensor, max_norm: float) -> Tensor:
    """Shrink all gradients by one factor so that their common norm is at most max_norm: the direction stays.

    Args:
        parameters: tensors; those without a gradient are left out.
        max_norm: > 0.
    Returns:
        The norm before clipping.
    Raises:
        ValueError: max_norm is not above zero.
    Source: Pascanu, Mikolov and Bengio 2013, algorithm 1.
    Differs: like torch, divides by norm + 1e-6, so a clipped norm is a hair below max_norm. A norm that is not finite
        is returned, and the gradients are left as they are: the caller should stop. (torch makes them all NaN.)
    """
    check_setting("max_norm", max_norm, low=0.0, above=True)
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    norm = grad_norm(parameters)
    if torch.isfinite(norm):
        factor = torch.clamp(max_norm / (norm + 1e-6), max=1.0)
        for gradient in _gradients(parameters):
            gradient.mul_(factor.to(gradient.device))
    return norm


@torch.no_grad()
def clip_grad_value_(parameters: Iterable[Tensor] | Tensor, max_value: float) -> None:
    """Cut every number of the gradients to [−max_value, max_value]: the direction changes.

    Args:
        parameters: tensors; those without a gradient are left out.
        max_value: > 0.
    Raises:
        ValueError: max_value is not above zero.
    """
    check_setting("max_value", max_value, low=0.0, above=True)
    for gradient in _gradients(parameters):
        gradient.clamp_(-max_value, max_value)
