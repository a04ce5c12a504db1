"""Loading weights that others have trained: every tensor accounted for, and every misfit named at once."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import Module, Parameter


def load_weights(model: Module, weights: Mapping[str, Tensor]) -> None:
    """Give a model its weights; nothing is changed if they do not fit.

    Args:
        model: whose `state_dict` names what is wanted. Tied parameters are wanted under one of their names at least. On
            the device "meta" it takes the tensors themselves, else their values, in its own dtype.
        weights: tensors by the model's names; see the maps beside each model for those of other libraries.
    Raises:
        ValueError: tensors that are missing, extra or of another shape, or that hold NaN or infinity: all of them.

    >>> load_weights(torch.nn.Linear(2, 3), {"weight": torch.zeros(2, 3), "b": torch.zeros(3)})
    Traceback (most recent call last):
    ValueError: the weights do not fit Linear. Missing: bias. Extra: b. Misshapen: weight is (2, 3), must be (3, 2).
    """
    wanted = {name: value for name, value in model.state_dict(keep_vars=True).items()}
    names: dict[int, list[str]] = {}
    for name, value in wanted.items():
        names.setdefault(id(value), []).append(name)  # tied parameters are one tensor
    given = {name: next((n for n in names[id(value)] if n in weights), None) for name, value in wanted.items()}
    problems = {
        "Missing": [name for name, source in given.items() if source is None],
        "Extra": [name for name in weights if name not in wanted],
        "Misshapen": [
            f"{name} is {tuple(weights[name].shape)}, must be {tuple(value.shape)}"
            for name, value in wanted.items()
            if name in weights and weights[name].shape != value.shape
        ],
    }
    problems["Not finite"] = [
        name for name, value in weights.items() if name in wanted and not torch.isfinite(value).all()
    ]
    if any(problems.values()):
        parts = [f"{what}: {', '.join(found)}." for what, found in problems.items() if found]
        raise ValueError(f"the weights do not fit {type(model).__name__}. {' '.join(parts)}")
    for name, value in wanted.items():
        _put(model, name, value, weights[given[name]])


def _put(model: Module, name: str, old: Tensor, new: Tensor) -> None:
    """Set one tensor, in every place where a tied one stands."""
    if not old.is_meta:
        with torch.no_grad():
            old.copy_(new)
        return
    path, _, last = name.rpartition(".")
    fresh = getattr(new, "_loaded", None)  # the parameter made for another name of the same tensor
    if fresh is None:
        fresh = Parameter(new.detach(), requires_grad=old.requires_grad) if isinstance(old, Parameter) else new
        new._loaded = fresh
    setattr(model.get_submodule(path), last, fresh)
