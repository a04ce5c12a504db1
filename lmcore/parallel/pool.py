"""Worker processes that are kept warm between runs, seen from the process that launches them."""

from __future__ import annotations

import linecache
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from pathlib import Path
from types import ModuleType

import cloudpickle

from lmcore.parallel.device import Place, threads_for
from lmcore.parallel.messages import (
    CollectiveMismatch,
    Job,
    RemoteTraceback,
    Report,
    WorkerDied,
    WorkerError,
    WorkerTimeout,
    mismatch,
)
from lmcore.parallel.sending import pickled_call
from lmcore.parallel.workers import FINISH, WHERE, serve

# Never fork this process: the child would have the locks of threads that it does not have, and hang in its first
# parallel matrix product. On Linux a server is forked that has done nothing but import torch; elsewhere each worker is
# a new Python.
START_METHOD = "forkserver" if sys.platform.startswith("linux") else "spawn"
START_TIMEOUT = 120.0  # seconds; a first start imports torch, once or once per worker
GRACE = 0.3  # seconds in which the other ranks may report too, so that the cause can be told from its consequences


class Pool:
    """A fixed number of workers on one kind of device.

    Args:
        world_size: how many workers.   place: what they run on.
    Raises:
        WorkerDied: a worker ended while it started.   WorkerTimeout: one did not start.
    """

    def __init__(self, world_size: int, place: Place):
        self.world_size, self.place, self.runs = world_size, place, 0
        self.folder = Path(tempfile.mkdtemp(prefix="lmcore-workers-"))
        self.prints = [self.folder / f"rank-{rank}.txt" for rank in range(world_size)]
        self.shown = [0] * world_size  # how far
        self.connections, self.processes = [], []
        self.lock = threading.Lock()
        with self._ended_on_error():
            for rank in range(world_size):
                self._start(rank)
            self._gather("ready", START_TIMEOUT)

    def _start(self, rank: int) -> None:
        """Start one worker."""
        context = multiprocessing.get_context(START_METHOD)
        if START_METHOD == "forkserver":
            context.set_forkserver_preload(["torch", "torch.distributed", "cloudpickle", "lmcore.parallel.workers"])
        ours, theirs = context.Pipe()
        args = (rank, self.world_size, theirs, str(self.prints[rank]))
        process = context.Process(target=serve, args=args, name=f"rank {rank}")
        with _without_main():
            process.start()
        theirs.close()  # so that the connection ends when the worker does
        self.connections.append(ours)
        self.processes.append(process)

    def run(self, function: object, args: tuple, *, timeout: float, check: bool) -> list:
        """Run ``function(context, *args)`` on every worker; see `lmcore.parallel.launch.run`."""
        payload = pickled_call(function, args)
        with self.lock, self._ended_on_error():
            self.runs += 1
            job = Job(
                payload=payload,
                store=str(self.folder / f"store-{self.runs}"),
                place=self.place,
                threads=threads_for(self.world_size),
                timeout=timeout,
                check=check,
                path=sys.path,
                folder=os.getcwd(),
                sources={
                    name: entry[2] for name, entry in linecache.cache.items() if len(entry) > 2 and entry[1] is None
                },
            )
            self._tell(job)
            reports = self._gather("done", timeout)
            self._tell(FINISH)
            self._gather("idle", START_TIMEOUT)
            self._show_prints()
        return [cloudpickle.loads(report.value) for report in reports]

    def _tell(self, message: object) -> None:
        """Send all workers the same message; one that is dead is noticed when its report is awaited."""
        for connection in self.connections:
            with suppress(OSError):
                connection.send(message)

    def _gather(self, kind: str, timeout: float) -> list[Report]:
        """Wait for a report of every worker, or raise what went wrong."""
        reports: dict[int, Report] = {}
        deadline = time.monotonic() + timeout
        while len(reports) < self.world_size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._too_late(reports, timeout)
            self._receive(reports, min(left, 0.5))  # in slices: not every system can interrupt a wait
            if any(report.kind != kind for report in reports.values()):
                end = time.monotonic() + GRACE
                while len(reports) < self.world_size and time.monotonic() < end:
                    self._receive(reports, GRACE / 10)
                raise self._failure({rank: report for rank, report in reports.items() if report.kind != kind})
        return [reports[rank] for rank in range(self.world_size)]

    def _receive(self, reports: dict[int, Report], timeout: float) -> None:
        """Take the reports that are there, or come in time, from workers that have not reported yet."""
        waiting = {self.connections[rank]: rank for rank in range(self.world_size) if rank not in reports}
        sentinels = {self.processes[rank].sentinel: rank for rank in waiting.values()}
        for ready in wait([*waiting, *sentinels], timeout):
            rank = waiting.get(ready, sentinels.get(ready))
            if rank in reports:
                continue
            try:
                if self.connections[rank].poll():
                    reports[rank] = self.connections[rank].recv()
                elif ready in sentinels:  # a child of the worker may keep the connection open
                    reports[rank] = Report(kind="died")
            except (EOFError, OSError):
                reports[rank] = Report(kind="died")

    def _failure(self, reports: dict[int, Report]) -> WorkerError:
        """The exception for what went wrong: a death explains the errors of the others."""
        for rank, report in reports.items():
            if report.kind == "died":
                error = WorkerDied(f"rank {rank} {self._how_it_ended(rank)} in the middle of its work", rank)
                error.__cause__ = RemoteTraceback(self._last_words(rank))
                return error
        rank = min(reports)  # the order of arrival says little, and would differ from run to run
        found = mismatch([report.text for report in reports.values()])
        error = (
            CollectiveMismatch(found, rank) if found else WorkerError(f"rank {rank} raised {reports[rank].text}", rank)
        )
        error.__cause__ = RemoteTraceback(reports[rank].traceback)
        return error

    def _how_it_ended(self, rank: int) -> str:
        """What became of a process that ended by itself."""
        self.processes[rank].join(5)
        code = self.processes[rank].exitcode
        if code is None or code >= 0:
            return f"ended with exit code {code}"
        return f"was ended by {signal.Signals(-code).name}"

    def _too_late(self, reports: dict[int, Report], timeout: float) -> WorkerTimeout:
        """The exception that says which ranks are late and what they are doing."""
        late = [rank for rank in range(self.world_size) if rank not in reports]
        self._tell(WHERE)
        answers = dict(reports)
        end = time.monotonic() + 1.0
        while len(answers) < self.world_size and time.monotonic() < end:
            self._receive(answers, 0.1)
        where = [f"rank {rank} {answers[rank].text if rank in answers else 'does not answer'}" for rank in late]
        done = f"; done: {', '.join(map(str, sorted(reports)))}" if reports else ""
        count = f"{len(late)} of {self.world_size} ranks"
        return WorkerTimeout(f"{count} not done after {timeout:g} s: {'; '.join(where)}{done}", late)

    def _show_prints(self) -> None:
        """Print what the workers have printed since the last run, one rank after the other."""
        for rank, path in enumerate(self.prints):
            if path.exists():
                with path.open(encoding="utf-8") as file:
                    file.seek(self.shown[rank])
                    for line in file.read().splitlines():
                        print(f"[rank {rank}] {line}")
                    self.shown[rank] = file.tell()

    def _last_words(self, rank: int) -> str:
        """What the libraries of a dead worker have printed, torch's C++ above all."""
        text = self.prints[rank].with_suffix(".log").read_text(encoding="utf-8", errors="replace")
        return text or "its libraries printed nothing"

    @contextmanager
    def _ended_on_error(self) -> Iterator[None]:
        """End all workers when something goes wrong, an interrupt from the keyboard included."""
        try:
            yield
        except BaseException:
            self.close(force=True)
            raise

    def close(self, *, force: bool = False) -> None:
        """End the workers; those that are idle go by themselves when their connection ends."""
        for connection in self.connections:
            connection.close()
        for process in self.processes:
            if force:
                process.kill()
        for process in self.processes:
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join(5)
        if force:
            self._show_prints()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def alive(self) -> bool:
        """Whether all workers are there."""
        return bool(self.processes) and all(process.is_alive() for process in self.processes)


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the caller's script while a worker starts: multiprocessing would execute it once more in every worker."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
