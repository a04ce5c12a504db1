"""Where did the NaN come from? A context in which the first layer that produces one is named.

A loss that is NaN says only that something went wrong somewhere. Inside `raise_on_non_finite(model)` every layer's
outputs are looked at as they appear, and so are the gradients on their way back.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import Module


def _tensors(value: object, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """All tensors in nested tuples, lists and dicts, each with the brackets that lead to it."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(item, f"{path}[{key!r}]")
    elif isinstance(value, tuple | list):
        for number, item in enumerate(value):
            yield from _tensors(item, f"{path}[{number}]")


def _check(value: Tensor, what: str) -> None:
    """Raise if a number is not finite: how many, of which kind, and where the first one is."""
    if not (value.is_floating_point() or value.is_complex()) or torch.isfinite(value).all():
        return
    wrong = ~torch.isfinite(value)
    n_nan = int(value.isnan().sum())
    kinds = [f"{n} {kind}" for n, kind in ((n_nan, "NaN"), (int(wrong.sum()) - n_nan, "infinite")) if n]
    first = wrong.nonzero()[0].tolist()
    count = f"{' and '.join(kinds)} of {value.numel():,} numbers"
    raise FloatingPointError(f"{what} is not finite: {count}, shape {tuple(value.shape)}, the first at {first}")


@contextmanager
def raise_on_non_finite(model: Module, *, gradients: bool = True) -> Iterator[None]:
    """Raise as soon as a layer of the model gives, or gets a gradient, that is NaN or infinite.

    Args:
        model: a layer that holds others, or a single one. Layers inside are checked before those that hold them.
        gradients: look also at the gradients of the outputs and of the parameters, in a backward pass inside the
            context of a forward pass inside the context.
    Raises:
        FloatingPointError: names the layer by its dotted name, which of its outputs or gradients, and how many numbers.
    Cost: a pass over every output and gradient, and on a GPU a wait for each of them: for debugging.
    Differs: torch.autograd.detect_anomaly looks at gradients alone, and names the line, not the layer.

    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
    >>> with raise_on_non_finite(model):
    ...     model(torch.tensor([[1.0, torch.inf]]))
    Traceback (most recent call last):
    ...
    FloatingPointError: the output of '0' (Linear) is not finite: 3 infinite of 3 numbers, shape (1, 3), the first at \
[0, 0]
    """
    names = {module: repr(name) if name else "the model" for name, module in model.named_modules()}

    def hook(module: Module, inputs: object, outputs: object) -> None:
        layer = f"{names[module]} ({type(module).__name__})"
        for path, tensor in _tensors(outputs):
            _check(tensor, f"the output{path} of {layer}")
            if gradients and tensor.requires_grad:
                tensor.register_hook(_watch(f"the gradient of the output{path} of {layer}", active))

    active = [True]  # hooks of tensors cannot be removed before the tensors are: they are told to be quiet
    handles = [module.register_forward_hook(hook) for module in names]
    if gradients:
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                handles.append(parameter.register_hook(_watch(f"the gradient of the parameter {name!r}", active)))
    try:
        yield
    finally:
        active.clear()
        for handle in handles:
            handle.remove()


def _watch(what: str, active: list[bool]) -> Callable[[Tensor], None]:
    """A hook for a gradient."""
    return lambda gradient: _check(gradient, what) if active else None
