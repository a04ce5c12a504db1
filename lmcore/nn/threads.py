"""Several parts of a work at once, each by a thread of its own.

If one operation is shared out among threads, as torch does it, they wait for each other at its end, and then at the
end of the next: the slowest decides every time. If each thread takes a part of the data through all operations, they
meet once. Each also keeps to the numbers that its own core's cache holds.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")


def map_in_threads(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """Do a work for each part, with as many threads as torch has.

    Args:
        work: a function whose time goes into operations that release Python's lock, as torch's do. Meanwhile torch
            uses one thread for each; modes such as `torch.inference_mode` belong into it, as they hold per thread.
        parts: one alone is done as usual, with torch's threads.
    Returns:
        What work returned, in the order of parts. What it raises is raised, after the parts that have begun.

    >>> map_in_threads(lambda n: torch.arange(n).sum().item(), [3, 5])
    [3, 10]
    """
    threads = torch.get_num_threads()
    if min(threads, len(parts)) < 2:
        return [work(part) for part in parts]

    def alone(part: Part) -> Result:
        torch.set_num_threads(1)  # for this thread, and for threads that begin later, until it is set back below
        return work(part)

    try:
        with ThreadPoolExecutor(min(threads, len(parts))) as pool:
            return list(pool.map(alone, parts))
    finally:
        torch.set_num_threads(threads)
