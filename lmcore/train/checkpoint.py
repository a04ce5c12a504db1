"""Checkpoints: everything that a run needs to go on, in one file that is either whole or not there.

A state is any nesting of dicts with string keys, lists, numbers, strings, booleans, None, and tensors. The tensors
become a safetensors file; the rest, with the tensors' names in their places, becomes JSON in its header, next to a
SHA-256 of all of it. Unlike ``torch.save``: no pickle, so that loading a file cannot run its author's code.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

_TENSOR = "tensor:"  # in the JSON, how the name of a tensor begins; other strings get a "text:" before them
_TEXT = "text:"


class CheckpointError(ValueError):
    """A file that cannot be used as a checkpoint here; the message says why, and what to do."""


def _pack(value: Any, path: str, tensors: dict[str, Tensor], seen: dict[tuple, str]) -> Any:
    """Replace the tensors of a state by names, and collect them. Tied tensors are stored once."""
    if isinstance(value, Tensor):
        tensor = value.detach()
        identity = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() == 0 or identity not in seen:
            seen[identity] = path
            tensors[path] = tensor.cpu().contiguous().clone()
        return _TENSOR + seen[identity]
    if isinstance(value, Mapping):
        wrong = [key for key in value if not isinstance(key, str)]
        if wrong:
            raise TypeError(f"the keys of {path or 'the state'} must be strings, got {wrong[0]!r}")
        return {key: _pack(item, f"{path}/{key}", tensors, seen) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_pack(item, f"{path}/{number}", tensors, seen) for number, item in enumerate(value)]
    if isinstance(value, str):
        return _TEXT + value
    if value is None or isinstance(value, bool | int | float):
        return value
    raise TypeError(f"{path or 'the state'} is a {type(value).__name__}, which a checkpoint cannot hold")


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Put the tensors back in their places."""
    if isinstance(value, dict):
        return {key: _unpack(item, tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if isinstance(value, str):
        return tensors[value.removeprefix(_TENSOR)] if value.startswith(_TENSOR) else value.removeprefix(_TEXT)
    return value


def _digest(tensors: Mapping[str, Tensor], tree: str) -> str:
    """SHA-256 of the state: the JSON, and each tensor's name and bytes."""
    digest = hashlib.sha256(tree.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def save(path: str | os.PathLike, state: Mapping[str, Any]) -> None:
    """Write a state to a file, whole or not at all.

    Args:
        path: the file; its folder is made if need be. An older file of that name stays until the new one is complete.
        state: nested dicts, lists, numbers, strings, None and tensors. Tuples come back as lists; tensors on the CPU.
    Raises:
        TypeError: something that the file cannot hold, or a key that is not a string.
    Cost: a copy of all tensors in memory, and about a second per gigabyte for the hash.
    """
    path = Path(path)
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_pack(state, "", tensors, {}))
    metadata = {"format": "lmcore checkpoint 1", "tree": tree, "sha256": _digest(tensors, tree)}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")  # a fixed name: what a killed run leaves, the next one overwrites
    try:
        safetensors.torch.save_file(tensors, part, metadata)
        with open(part, "rb+") as file:
            os.fsync(file.fileno())  # or a power cut after the rename could leave an empty file under the right name
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def load(path: str | os.PathLike) -> dict[str, Any]:
    """Read a state that ``save`` wrote.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: truncated, damaged, or not a checkpoint of this kind.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is truncated or no checkpoint ({error}): use an older one") from None
    if metadata.get("format") != "lmcore checkpoint 1":
        raise CheckpointError(f"{path} is a safetensors file, but no checkpoint of lmcore: load its tensors directly")
    if _digest(tensors, metadata["tree"]) != metadata["sha256"]:
        raise CheckpointError(f"{path} is damaged: its contents do not have the hash that was stored. Use an older one")
    return _unpack(json.loads(metadata["tree"]), tensors)


def check_model(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not this model's: other names, shapes or types of number.

    Raises:
        CheckpointError: names what is missing, unknown or different.
    """
    own = model.state_dict()
    problems = [f"{name} is missing" for name in own if name not in weights]
    problems += [f"{name} is unknown to this model" for name in weights if name not in own]
    for name in own.keys() & weights.keys():
        ours, theirs = own[name], weights[name]
        if (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
            kinds = [f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}" for tensor in (theirs, ours)]
            problems.append(f"{name} is {kinds[0]}, the model has {kinds[1]}")
    if problems:
        more = f" (and {len(problems) - 4} more)" if len(problems) > 4 else ""
        raise CheckpointError(f"the checkpoint is of another model: {'; '.join(sorted(problems)[:4])}{more}")
