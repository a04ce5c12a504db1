"""The life of a worker process: wait for a job, run it in a fresh process group, report, wait again.

A thread listens to the launcher all the time. It can so say where the main thread is stuck, and it ends the process
the moment the launcher is gone, however that came about: no worker outlives the process that started it.
"""

from __future__ import annotations

import linecache
import os
import queue
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

import cloudpickle
import torch
import torch.distributed as dist

from lmcore.parallel.device import Context, Place
from lmcore.parallel.messages import Job, Report

WHERE, FINISH = "where", "finish"
Send = Callable[[Report], None]
# Code that a report of where a worker hangs does not stop at: torch's, this package's, and Python's own.
_NOT_OWN = (os.path.dirname(torch.__file__), os.path.dirname(__file__), os.path.dirname(os.__file__), "<frozen")


@contextmanager
def process_group(
    store: dist.Store, rank: int, world_size: int, place: Place, local_rank: int, timeout: float, *, check: bool
) -> Iterator[Context]:
    """Join the other ranks through a store, and leave them again whatever happens.

    Args:
        store: where the ranks find each other.
        place, local_rank: which device this process uses.
        timeout: seconds after which a collective gives up waiting for the other ranks.
        check: compare the collectives of all ranks before each one runs: a clear error in place of a hang or of wrong
            numbers. Costs a message or two per collective, so leave it out where time is measured.
    Raises:
        ValueError: another process has the same rank.
    """
    if store.add(f"joined-{rank}", 1) > 1:
        raise ValueError(
            f"two processes were started with rank {rank}: each of the {world_size} needs a rank of its own"
        )
    device = place.device(local_rank)
    if device.type != "cpu":
        torch.accelerator.set_device_index(device.index)
    dist.set_debug_level(dist.DebugLevel.DETAIL if check else dist.DebugLevel.OFF)
    # Beside an accelerator's own backend there is the CPU's, so that tensors can be sent wherever they are.
    backend = place.backend if place.kind == "cpu" else f"cpu:gloo,{place.kind}:{place.backend}"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timedelta(seconds=timeout))
    context = Context(rank, world_size, device, dist.group.WORLD)
    try:
        yield context
    finally:
        dist.destroy_process_group()
        # A script that keeps its context would keep the group's threads, and abort now and then when Python ends.
        object.__setattr__(context, "group", None)


def serve(rank: int, world_size: int, connection: Connection, prints: str) -> None:
    """Run jobs until the launcher is gone: what a worker process does from its beginning to its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the launcher, which then ends the workers
    _write_to(prints)
    for name in ("lo", "lo0"):  # local workers need no network: let gloo use the loopback where it has a known name
        if name in _interfaces():
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
    jobs: queue.SimpleQueue = queue.SimpleQueue()
    send = _locked(connection)
    threading.Thread(target=_listen, args=(connection, send, jobs), daemon=True).start()
    fresh = torch.get_rng_state()
    send(Report(kind="ready"))
    while True:
        job = jobs.get()
        torch.set_rng_state(fresh)  # or a second run would draw other numbers than the first
        _run(job, rank, world_size, send, jobs)


def _write_to(prints: str) -> None:
    """Collect what Python code prints in one file, which the launcher shows, and what libraries print in another."""
    sys.stdout = sys.stderr = open(prints, "w", buffering=1, encoding="utf-8", errors="replace")  # noqa: SIM115
    log = os.open(Path(prints).with_suffix(".log"), os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)


def _interfaces() -> list[str]:
    """Names of the network interfaces; none where the system does not tell."""
    try:
        return [name for _, name in socket.if_nameindex()]
    except (AttributeError, OSError):
        return []


def _locked(connection: Connection) -> Send:
    """A function that sends reports from either thread, one at a time."""
    lock = threading.Lock()

    def send(report: Report) -> None:
        with lock:
            connection.send(report)

    return send


def _listen(connection: Connection, send: Send, jobs: queue.SimpleQueue) -> None:
    """Pass on what the launcher sends; answer where the main thread is; end the process with the launcher."""
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            os._exit(0)  # not sys.exit: the main thread may be waiting for ever
        if message == WHERE:
            send(Report(kind="where", text=_where(sys._current_frames()[threading.main_thread().ident])))
        else:
            jobs.put(message)


def _run(job: Job, rank: int, world_size: int, send: Send, jobs: queue.SimpleQueue) -> None:
    """Run one job and report; stay in the group until the launcher knows that all ranks are done."""
    try:
        sys.path[:] = job.path
        os.chdir(job.folder)
        for name, lines in job.sources.items():
            linecache.cache[name] = (sum(map(len, lines)), None, lines, name)
        torch.set_num_threads(job.threads)
        store = dist.FileStore(job.store, world_size)
        # Longer than the launcher waits: it is the launcher that knows who is late.
        with process_group(store, rank, world_size, job.place, rank, 2 * job.timeout + 60, check=job.check) as context:
            send(_call(job, context))  # before the group is left, which would be an error for the other ranks
            jobs.get()  # FINISH; after a failure it never comes, since the launcher ends all workers
    except BaseException as error:
        send(_failure(error))
        jobs.get()
    send(Report(kind="idle"))


def _call(job: Job, context: Context) -> Report:
    """Call the job's function; report its value or its exception."""
    try:
        function, args = cloudpickle.loads(job.payload)
        return Report(kind="done", value=_pickled(function(context, *args)))
    except BaseException as error:  # SystemExit too: the launcher must hear of it
        return _failure(error)


def _failure(error: BaseException) -> Report:
    """The report of an exception, without the frame that caught it."""
    lines = traceback.format_exception(type(error), error, error.__traceback__.tb_next)
    text = f"{type(error).__name__}: {error}".removesuffix(": ")
    return Report(kind="failed", text=text, traceback="".join(lines))


def _pickled(value: object) -> bytes:
    """The bytes of what a function returned."""
    try:
        return cloudpickle.dumps(value)
    except Exception as error:
        raise TypeError(f"what the function returned, a {type(value).__name__}, cannot be sent: {error}") from None


def _where(frame: FrameType) -> str:
    """The operation that a thread is in, and the line of the user's own code that called it."""
    stack = list(traceback.walk_stack(frame))  # innermost first
    end = next((i for i, (f, _) in enumerate(stack) if f.f_code is _call.__code__), len(stack))
    own = [i for i in range(end) if not stack[i][0].f_code.co_filename.startswith(_NOT_OWN)]
    place = own[0] if own else max(0, end - 1)
    frame, line = stack[place]
    inside = [f.f_code.co_name for f, _ in reversed(stack[:place]) if f.f_code.co_name != "wrapper"]  # torch's logger
    code = linecache.getline(frame.f_code.co_filename, line).strip()
    text = f"line {line} of {frame.f_code.co_name}" + (f": {code}" if code else "")
    return f"in {inside[0]}, {text}" if inside else f"in {text}"
