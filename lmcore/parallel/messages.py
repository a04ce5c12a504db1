"""What the launcher and its workers say to each other, and the errors that a run can end with."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from lmcore.parallel.device import Place


@dataclass(frozen=True, kw_only=True)
class Job:
    """A function for all workers, and what they need to run it.

    Args:
        payload: the function and its arguments, pickled with cloudpickle.
        store: path of the file through which the workers find each other; a new one for every job.
        check: let torch compare the collectives of all ranks before each one runs.
        sources: lines of code that is in no file, by name, so that a traceback can show cells of a notebook.
    """

    payload: bytes
    store: str
    place: Place
    threads: int
    timeout: float
    check: bool
    path: list[str]
    folder: str
    sources: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a worker says: ``ready``, ``done`` with a pickled value, ``failed``, ``where`` it is, or ``idle`` again."""

    kind: str
    value: bytes = b""
    text: str = ""
    traceback: str = ""


class WorkerError(RuntimeError):
    """A worker's function raised an exception; ``rank`` says whose. The cause holds the traceback from over there."""

    def __init__(self, message: str, rank: int):
        super().__init__(message)
        self.rank = rank


class WorkerDied(WorkerError):
    """A worker's process ended in the middle of its work."""


class CollectiveMismatch(WorkerError):
    """The ranks called different collectives, or the same one on tensors that do not fit together."""


class WorkerTimeout(TimeoutError):
    """Some ranks did not finish in time; ``ranks`` says which."""

    def __init__(self, message: str, ranks: list[int]):
        super().__init__(message)
        self.ranks = ranks


class RemoteTraceback(Exception):
    """A traceback from another process, as text: the cause of a `WorkerError`."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


_FINGERPRINT = re.compile(
    r"Rank (\d+) is running collective: CollectiveFingerPrint\(SequenceNumber=(\d+),? ?OpType=(\w+)"
    r"(?:, TensorShape=\[([\d, ]*)\], TensorDtypes=(\w+))?"
)
_NAMES = {  # what torch's C++ and its Python call the same thing
    "ALLREDUCE": "all_reduce",
    "ALLGATHER": "all_gather",
    "_ALLGATHER_BASE": "all_gather_single",
    "REDUCE_SCATTER": "reduce_scatter",
    "_REDUCE_SCATTER_BASE": "reduce_scatter_single",
    "ALLTOALL": "all_to_all",
    "ALLTOALL_BASE": "all_to_all_single",
}


def mismatch(texts: list[str]) -> str:
    """Say in one sentence what torch found when it compared the collectives of the ranks; empty if it did not.

    Args:
        texts: the messages of the errors that the ranks raised.

    >>> mismatch(["… Rank 1 is running collective: CollectiveFingerPrint(SequenceNumber=4, OpType=ALLREDUCE, "
    ...           "TensorShape=[3, 5], TensorDtypes=Float, …", "… Rank 0 is running collective: "
    ...           "CollectiveFingerPrint(SequenceNumber=4OpType=BARRIER) …"])
    'the collectives of the ranks differ: rank 0 barrier (call 5), rank 1 all_reduce of 3×5 Float (call 5)'
    """
    # A message begins with what its own rank does; what it says of the other one is garbled where shapes are missing.
    found = [match.groups() for text in texts if (match := _FINGERPRINT.search(text))]
    calls = []
    for rank, number, name, shape, dtype in sorted(found, key=lambda match: int(match[0])):
        what = f" of {shape.replace(', ', '×') or 'one'} {dtype}" if dtype else ""
        calls.append(f"rank {rank} {_NAMES.get(name, name.lower())}{what} (call {int(number) + 1})")
    return f"the collectives of the ranks differ: {', '.join(calls)}" if calls else ""
