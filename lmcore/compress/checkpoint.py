"""Quantised models in files: the codes, their grids, and everything else that the model has, bit by bit."""

import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from lmcore.compress.linear import CompressedLinear
from lmcore.compress.replace import matrices, replace
from lmcore.models.loading import load_weights
from lmcore.train import checkpoint
from lmcore.train.checkpoint import CheckpointError

_FORMAT = "lmcore quantised model 1"


def _kinds(base: type = CompressedLinear) -> Iterator[type]:
    """All classes of compressed layers that have been imported."""
    for kind in base.__subclasses__():
        yield kind
        yield from _kinds(kind)


def save_quantized(path: str | os.PathLike, model: Module) -> None:
    """Write a model with compressed layers to a safetensors file, whole or not at all.

    Args:
        path: see `lmcore.train.checkpoint.save`.
        model: with at least one `CompressedLinear`. Its architecture is not stored, only what its layers hold.
    Raises:
        ValueError: the model has no compressed layer, or only some that cannot be saved.
    Cost: a copy of the codes, and about a second per gigabyte for the hash.
    """
    layers = {
        name: {"kind": type(module).__name__, **module.describe()}
        for name, module in model.named_modules()
        if isinstance(module, CompressedLinear)
    }
    if not layers:
        raise ValueError(
            f"{type(model).__name__} has no compressed layer (quantising returns a copy): see lmcore.train.checkpoint"
        )
    checkpoint.save(path, {"format": _FORMAT, "layers": layers, "weights": model.state_dict()})


def _check_layers(layers: dict[str, dict[str, Any]], model: Module) -> None:
    """Refuse layers that are not this model's, all at once."""
    own, kinds = matrices(model), {kind.__name__ for kind in _kinds()}
    problems = []
    for name, layer in layers.items():
        if name not in own:
            problems.append(f"{name} is no matrix of the model")
        elif tuple(layer["shape"]) != tuple(own[name].weight.shape):
            problems.append(f"{name} is {tuple(layer['shape'])}, the model has {tuple(own[name].weight.shape)}")
        elif layer["kind"] not in kinds:
            problems.append(f"{name} is a {layer['kind']}, whose class has not been imported")
        elif "bias" in layer and layer["bias"] == (own[name].bias is None):
            problems.append(f"{name} has {'a' if layer['bias'] else 'no'} bias, unlike the model's")
    if problems:
        raise CheckpointError(f"the file is of another model than this {type(model).__name__}: {'; '.join(problems)}")


def load_quantized(path: str | os.PathLike, model: Module) -> Module:
    """Read a model that `save_quantized` wrote.

    Args:
        path: the file.
        model: of the same architecture, before it was quantised; what its weights are is of no matter, they may be on
            the device "meta". It is not changed.
    Returns:
        A copy of model with the stored layers and weights; its outputs are those of the saved one, to the last bit.
    Raises:
        FileNotFoundError: no such file.
        CheckpointError: truncated, damaged, of another kind, or of another model: names all layers that do not fit.
        ValueError: other weights that are missing, extra or of another shape: names all of them.
    """
    state = checkpoint.load(path)
    if state.get("format") != _FORMAT:
        raise CheckpointError(f"{path} is a checkpoint, but not of a quantised model: see lmcore.train.checkpoint")
    layers, kinds = state["layers"], {kind.__name__: kind for kind in _kinds()}
    _check_layers(layers, model)

    def make(name: str, weight: Tensor, bias: Tensor | None) -> Module:
        description = dict(layers[name])
        layer = kinds[description.pop("kind")].blank(description)
        return layer if weight.is_meta else layer.to(weight.device)

    with torch.no_grad():
        result = replace(model, make, names=layers)
        load_weights(result, state["weights"])
    return result
