"""What a worker is told about itself, and which device and which means of communication it gets."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Context:
    """Who a worker is: the first argument of every function that runs on several workers.

    Args:
        rank: the worker's number, 0, 1, …, world_size − 1.
        world_size: how many workers there are.
        device: where this worker's tensors belong: the CPU, or an accelerator of its own.
        group: the process group of all workers, to be passed on: ``dist.all_reduce(x, group=context.group)``.
    """

    rank: int
    world_size: int
    device: torch.device
    group: dist.ProcessGroup


@dataclass(frozen=True)
class Place:
    """A kind of device and the backend that communicates between devices of this kind."""

    kind: str
    backend: str

    def device(self, local_rank: int) -> torch.device:
        """The device of the worker with this number on its machine."""
        return torch.device("cpu") if self.kind == "cpu" else torch.device(self.kind, local_rank)


def choose_place(local_workers: int, kind: str | None = None) -> Place:
    """One accelerator for each worker if this machine has that many, and else the CPU for all of them.

    Args:
        local_workers: how many workers this machine is to run.
        kind: insist on ``"cpu"``, ``"cuda"``, …; None: choose.
    Returns:
        The kind of device and torch's default backend for it: NCCL for CUDA, gloo for the CPU.
    Raises:
        ValueError: fewer devices of the wanted kind than workers.

    >>> choose_place(10_000)    # no machine has that many accelerators
    Place(kind='cpu', backend='gloo')
    """
    accelerator = torch.accelerator.current_accelerator()
    found = accelerator.type if accelerator is not None else "cpu"
    count = torch.accelerator.device_count() if accelerator is not None else 0
    if kind not in (None, "cpu") and (kind != found or count < local_workers):
        raise ValueError(
            f"device={kind!r} needs one such device for each of {local_workers} workers; this machine has "
            f"{count} of kind {found!r}; device='cpu' always works"
        )
    if kind == "cpu" or count < local_workers or _backend(found) == _backend("cpu"):
        return Place("cpu", _backend("cpu"))
    return Place(found, _backend(found))


def _backend(kind: str) -> str:
    """Torch's default backend; an accelerator without one of its own (Apple's) is served by the CPU's."""
    try:
        return dist.get_default_backend_for_device(kind)
    except ValueError:
        return "gloo"


def threads_for(workers: int) -> int:
    """How many threads each of several workers gets: this process's own share, divided, at least one.

    >>> threads_for(10_000)
    1
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, torch.get_num_threads()) // workers)
