"""How fast this machine reads memory: the limit of everything that touches each number once."""

import time

import numpy as np

from lmcore.nn.matvec import numba_threads
from lmcore.optional import need


def read_bandwidth(*, megabytes: int = 256, rounds: int = 7, threads: int | None = None) -> float:
    """Bytes per second at which an array is read from memory and added up.

    Args:
        megabytes: size of the array, in 10⁶ bytes; several times the processor's caches, else those are measured.
        rounds: how often it is read after a first time; the quickest counts, since others only ever slow it down.
        threads: see `lmcore.nn.matvec.numba_threads`.
    Returns:
        Bytes per second.
    Raises:
        ValueError: megabytes or rounds below 1.   ModuleNotFoundError: numba is missing.
    Cost: (rounds + 1) · megabytes of reading; the first call compiles, or loads what was compiled.

    >>> read_bandwidth(megabytes=8, rounds=1) > 1e7
    True
    """
    if megabytes < 1 or rounds < 1:
        raise ValueError(f"megabytes and rounds must be at least 1, got {megabytes} and {rounds}")
    need("numba", group="text", by="read_bandwidth")
    from lmcore.nn.matvec_compiled import sum_rows, sum_rows_threads

    threads = numba_threads(threads)
    numbers = np.ones((threads, megabytes * 1_000_000 // 4 // threads), np.float32)  # written, so that it is there
    sums, add_up = np.empty(threads, np.float32), sum_rows if threads == 1 else sum_rows_threads
    seconds = []
    for _ in range(rounds + 1):  # the first time compiles
        start = time.perf_counter()
        add_up(numbers, sums)
        seconds.append(time.perf_counter() - start)
    return numbers.nbytes / min(seconds[1:])
