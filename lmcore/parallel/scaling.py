"""How much several workers can gain: the laws of Amdahl and of Gustafson."""

from __future__ import annotations


def _check(serial: float, workers: int) -> None:
    """Require a share and a number of workers."""
    if not 0 <= serial <= 1:
        raise ValueError(f"serial must be a share from 0 to 1, got {serial}")
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")


def amdahl(serial: float, workers: int) -> float:
    """Speed-up of a job of fixed size, 1 / (s + (1 − s)/p): never more than 1/s.

    Args:
        serial: share of the time *on one worker* that cannot be divided.
        workers: p ≥ 1.
    Raises:
        ValueError: a share outside 0 … 1, or fewer than one worker.
    Source: Amdahl 1967.

    >>> amdahl(0.25, 3), amdahl(0.0, 8)
    (2.0, 8.0)
    """
    _check(serial, workers)
    return 1 / (serial + (1 - serial) / workers)


def gustafson(serial: float, workers: int) -> float:
    """Speed-up of a job that grows with the workers, s + (1 − s)·p.

    Args:
        serial: share of the time *on p workers* that is spent on what cannot be divided.
        workers: p ≥ 1.
    Raises:
        ValueError: a share outside 0 … 1, or fewer than one worker.
    Source: Gustafson 1988.

    >>> gustafson(0.25, 5)
    4.0
    """
    _check(serial, workers)
    return serial + (1 - serial) * workers
