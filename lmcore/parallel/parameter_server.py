"""Asynchronous training: a server owns the weights, workers come and go, and gradients arrive late.

A worker fetches the weights, computes a gradient and hands it in. Meanwhile others have handed in theirs, so the
weights that it changes are not those that it has seen. The *staleness* of an update is the number of updates that came
between. `simulate` does this with a clock of its own, the same way every time; `serve` does it with processes.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

Gradient = Callable[[Tensor, int], tuple[float, Tensor]]


@dataclass(frozen=True)
class Update:
    """One update of the server's weights.

    Args:
        worker: whose gradient it was.
        staleness: updates by others between the fetching of the weights and this one.
        loss: what the worker's batch cost with the weights that it had fetched.
        time: when, by the simulation's clock; 0 with real processes.
    """

    worker: int
    staleness: int
    loss: float
    time: float = 0.0


def simulate(
    gradient: Gradient,
    weights: Tensor,
    *,
    lr: float,
    workers: int,
    updates: int,
    duration: Callable[[int], float] = lambda worker: 1.0,
) -> tuple[Tensor, list[Update]]:
    """Asynchronous gradient descent, event by event: a pure function of its arguments.

    Args:
        gradient: from weights (n,) and the number of the batch, 0, 1, …, to a loss and the gradient (n,).
        weights: at the start; not changed.
        lr: learning rate.   workers: how many.   updates: when to stop.
        duration: of a gradient, for a worker; called each time, so that it may be random.
    Returns:
        The weights after all updates, and the updates in order. Two at the same time: the lower number first.
    Raises:
        ValueError: workers or updates below 1, or a duration that is not above 0.

    >>> halve = lambda w, batch: (0.0, w)                   # the gradient of w² / 2
    >>> _, updates = simulate(halve, torch.ones(1), lr=0.1, workers=3, updates=5)
    >>> [u.staleness for u in updates]                      # in turn, each after the two others
    [0, 1, 2, 2, 2]
    """
    if workers < 1 or updates < 1:
        raise ValueError(f"workers and updates must be at least 1, got {workers} and {updates}")

    def fetch(worker: int, now: float, batch: int) -> tuple[float, int, int, int, Tensor]:
        """When a worker will be done that begins now, and what it works on."""
        needed = duration(worker)
        if not needed > 0:
            raise ValueError(f"duration must be above 0, got {needed!r} for worker {worker}")
        return now + needed, worker, len(done), batch, weights

    done: list[Update] = []
    running = [fetch(worker, 0.0, worker) for worker in range(workers)]
    heapq.heapify(running)
    while len(done) < updates:
        now, worker, version, batch, seen = heapq.heappop(running)
        loss, g = gradient(seen, batch)
        weights = weights - lr * g  # a new tensor: the other workers keep theirs
        done.append(Update(worker, len(done) - version, loss, now))
        heapq.heappush(running, fetch(worker, now, len(done) + workers - 1))
    return weights, done


def largest_stable_rate(curvature: float, staleness: int) -> float:
    """The learning rate below which descent in a bowl converges if every gradient is equally stale.

    Args:
        curvature: λ > 0, the largest; the step is w_{t+1} = w_t − η λ w_{t−τ}.   staleness: τ ≥ 0.
    Returns:
        2 sin(π / (4τ + 2)) / λ: 2/λ without staleness, 1/λ with one update in between, then about π / (2τ λ).
    Raises:
        ValueError: curvature not above 0, or staleness below 0.

    >>> [round(largest_stable_rate(1.0, tau), 3) for tau in (0, 1, 3, 7)]
    [2.0, 1.0, 0.445, 0.209]
    """
    if not curvature > 0 or staleness < 0:
        raise ValueError(f"curvature must be above 0 and staleness at least 0, got {curvature} and {staleness}")
    return 2 * torch.sin(torch.tensor(torch.pi / (4 * staleness + 2), dtype=torch.float64)).item() / curvature


def serve(
    gradient: Gradient, weights: Tensor, *, lr: float, updates: int, group: dist.ProcessGroup
) -> tuple[Tensor, list[Update]]:
    """Asynchronous gradient descent for real: rank 0 is the server, all others work as fast as they can.

    Args:
        gradient: as in `simulate`; the number of the batch is the worker's own count, times the number of workers, plus
            its place among them, so that no two workers get the same batch.
        weights: (n,), at the start, equal on all ranks.   lr, updates: as in `simulate`.
        group: at least two ranks; of a backend that can receive from anybody, as gloo.
    Returns:
        On rank 0 the weights and the updates in the order of arrival; on the others the weights that they saw last, and
        no updates. The order is not the same every time.
    Raises:
        ValueError: a group of one.
    """
    ranks = dist.get_world_size(group)
    if ranks < 2:
        raise ValueError("group must have at least two ranks: a server and a worker")
    if dist.get_rank(group) == 0:
        return _server(weights.clone(), lr, updates, group, ranks - 1)
    return _worker(gradient, weights.clone(), group, dist.get_rank(group) - 1, ranks - 1), []


def _server(
    weights: Tensor, lr: float, updates: int, group: dist.ProcessGroup, workers: int
) -> tuple[Tensor, list[Update]]:
    """Take gradients as they come; answer each with new weights, or with the news that it is over."""
    done: list[Update] = []
    version_and_worker, loss, g = (
        torch.zeros(2, dtype=torch.int64),
        torch.zeros(1, dtype=torch.float64),
        weights.clone(),
    )
    stopped = 0
    while stopped < workers:
        dist.recv(version_and_worker, group=group)  # from anybody
        version, worker = version_and_worker.tolist()
        dist.recv(loss, group=group, group_src=worker + 1)
        dist.recv(g, group=group, group_src=worker + 1)
        over = len(done) >= updates
        if not over:
            weights -= lr * g
            done.append(Update(worker, len(done) - version, loss.item()))
        stopped += over
        dist.send(torch.tensor([-1 if over else len(done)]), group=group, group_dst=worker + 1)
        dist.send(weights, group=group, group_dst=worker + 1)
    return weights, done


def _worker(gradient: Gradient, weights: Tensor, group: dist.ProcessGroup, number: int, workers: int) -> Tensor:
    """Compute, hand in, fetch, until told that it is over."""
    version, batch = torch.zeros(1, dtype=torch.int64), number
    while version >= 0:
        loss, g = gradient(weights, batch)
        dist.send(torch.tensor([version.item(), number]), group=group, group_dst=0)
        dist.send(torch.tensor([loss], dtype=torch.float64), group=group, group_dst=0)
        dist.send(g.contiguous(), group=group, group_dst=0)
        dist.recv(version, group=group, group_src=0)
        dist.recv(weights, group=group, group_src=0)
        batch += workers
    return weights
