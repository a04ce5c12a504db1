"""Reading ahead: a thread prepares the next batches while the model works on this one."""

import queue
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

_PATIENCE = 0.05  # seconds between two looks at whether the consumer has gone


class Prefetch:
    """An iterator over the same things in the same order, some of them prepared ahead in a thread.

    Args:
        source: what is read; from the thread alone, so a loader that is not made for threads is fine.
        depth: how many things may wait, prepared.
    Raises:
        ValueError: depth below 1. What the source raises comes out at its place among the things.

    Use it as a context manager, or the thread of an endless source stays until the process ends. A source that
    remembers its place is ahead of the consumer: save the place of the consumer.
    Cost: memory for `depth` things more. It gains time when the source waits (files, network) or works outside Python's
        lock, and none where it is Python code.

    >>> with Prefetch(iter("abc"), depth=2) as ahead:
    ...     list(ahead)
    ['a', 'b', 'c']
    """

    def __init__(self, source: Iterable[Any], *, depth: int = 2):
        if depth < 1:
            raise ValueError(f"depth must be at least 1, got {depth}")
        self._queue: queue.Queue = queue.Queue(maxsize=depth)
        self._closed = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._read, args=(source,), daemon=True)
        self._thread.start()

    def _read(self, source: Iterable[Any]) -> None:
        """Fill the queue, in the thread."""
        try:
            for value in source:
                if not self._put((value, None)):
                    return
            self._put((None, StopIteration()))
        except BaseException as error:  # the consumer must hear of it, whatever it is
            self._put((None, error))

    def _put(self, entry: tuple[Any, BaseException | None]) -> bool:
        """Wait for a free place; False if the consumer has gone."""
        while not self._closed.is_set():
            try:
                self._queue.put(entry, timeout=_PATIENCE)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> object:
        if self._over or self._closed.is_set():
            raise StopIteration
        value, error = self._queue.get()
        if error is not None:
            self._over = True
            raise error
        return value

    def close(self) -> None:
        """Let the thread go; what it has prepared is dropped."""
        self._closed.set()
        self._thread.join(timeout=5)

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
