"""Run a function on several workers of this machine, from a script, a notebook's cell or a test: `run`.

    def total(context, start):
        x = torch.tensor([start + context.rank], device=context.device)
        dist.all_reduce(x, group=context.group)
        return x.item()

    run(total, 4, 10)      # [46, 46, 46, 46]

The same function runs under torchrun, on one machine or many: see `from_environment`.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist

from lmcore.parallel.device import Context, choose_place
from lmcore.parallel.pool import Pool
from lmcore.parallel.workers import process_group
from lmcore.sizes import check_sizes

_pools: dict[tuple, Pool] = {}  # warm workers, by this process (a forked child must not use them), number and device
_lock = threading.Lock()


def run(
    function: Callable[..., Any],
    world_size: int,
    *args: Any,
    timeout: float = 60.0,
    device: str | None = None,
    check: bool = True,
) -> list:
    """Run ``function(context, *args)`` on several workers at once.

    Args:
        function: gets a `Context` (rank, world_size, device, group) and the arguments. It may be defined in a cell.
        world_size: how many workers.
        args: the same for every worker; what can be pickled.
        timeout: seconds that the function may take; the start of new workers does not count.
        device: ``"cpu"``, ``"cuda"``, …; None: one accelerator for each worker if there are so many, else the CPU.
        check: compare the collectives of all ranks before each one runs. It costs messages: switch it off to measure,
            and for torch's own DistributedDataParallel, which the check of torch 2.13 ends with a SIGSEGV.
    Returns:
        What the function returned on rank 0, 1, …
    Raises:
        WorkerError: the function raised on some rank; the cause shows where.
        CollectiveMismatch: the ranks called different collectives (with ``check``).
        WorkerDied: a worker's process ended.   WorkerTimeout: not done in time; says which ranks, and where they were.
        TypeError: the function, an argument or a value cannot be pickled.   ValueError: a bad world_size or device.
    Cost: seconds for the first call, which starts the workers, and then about a tenth of one: they are kept until an
        error, `close`, or the end of this process. A module that was edited is imported anew only after `close`.
    Differs: torch.multiprocessing.spawn cannot run a function of a notebook, returns nothing and starts anew each time.

    >>> run(lambda context, text: text * context.rank, 2, "ab")
    ['', 'ab']
    """
    if not callable(function):
        raise TypeError(f"function must be a function, got {type(function).__name__}: pass `work`, not `work(…)`")
    check_sizes(world_size=world_size)
    if not timeout > 0:
        raise ValueError(f"timeout must be a number of seconds above 0, got {timeout!r}")
    place = choose_place(world_size, device)
    with _lock:
        key = (os.getpid(), world_size, place)
        if key not in _pools or not _pools[key].alive:
            if key in _pools:
                _pools.pop(key).close(force=True)
            _pools[key] = Pool(world_size, place)
        pool = _pools[key]
    return pool.run(function, args, timeout=timeout, check=check)


def close() -> None:
    """End all warm workers; the next `run` starts new ones. Called by itself at the end of the process."""
    with _lock:
        for key in [key for key in _pools if key[0] == os.getpid()]:
            _pools.pop(key).close()


atexit.register(close)


@contextmanager
def from_environment(*, timeout: float = 600.0, device: str | None = None, check: bool = False) -> Iterator[Context]:
    """Be the worker that torchrun has started, on this machine or one of many.

        with from_environment() as context:
            print(total(context, 10))

    and on the command line ``python -m torch.distributed.run --standalone --nproc-per-node 2 script.py``.

    Do the work in a function. What a script's top level still holds when Python ends, such as a model that knows the
    group, keeps gloo's threads alive, and now and then the process then aborts after all its work is done.

    Args:
        timeout: seconds that a collective waits for the other ranks.
        device, check: as in `run`.
    Returns:
        A context manager whose value is this worker's `Context`; the process group ends with the block.
    Raises:
        RuntimeError: the process was not started by torchrun, or the port of rank 0 is taken.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise RuntimeError(
            f"{', '.join(missing)} not set in the environment: start the script with "
            "`python -m torch.distributed.run --standalone --nproc-per-node 2 script.py`"
        )
    local_rank, local_workers = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    try:
        store, rank, world_size = next(dist.rendezvous("env://"))
    except dist.DistNetworkError as error:
        raise RuntimeError(
            f"rank 0 cannot listen on port {os.environ['MASTER_PORT']}: another program has it, or two processes were "
            "started with RANK=0. Give each its own rank, or choose another port with --master-port"
        ) from error
    # After a restart the old attempt's keys are still in the store.
    store = dist.PrefixStore(f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    place = choose_place(local_workers, device)
    with process_group(store, rank, world_size, place, local_rank, timeout, check=check) as context:
        yield context
