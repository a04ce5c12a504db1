"""A cluster inside one process: ranks are threads, messages are handed over in memory, and time is only counted.

Every rank has a clock of its own. A message of b bytes takes α + β·b seconds; a rank sends one message at a time and
receives one at a time, while its clock stands still for nothing else. So the time that an algorithm takes is exact, the
same on every machine, and a rank that waits for ever is found at once.

Differs: real networks are shared, and real times vary.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from lmcore.parallel.channel import Channel, Pending


class Deadlock(RuntimeError):
    """All ranks that have not finished wait for each other; the message says who waits for what."""


class _Stopped(Exception):
    """Another rank has failed, and this one need not go on."""


@dataclass(frozen=True)
class Event:
    """What a rank did from ``start`` to ``end``: ``send``, ``receive`` or ``compute``."""

    rank: int
    kind: str
    start: float
    end: float
    peer: int | None = None
    bytes: int = 0
    label: str = ""


@dataclass
class _Message:
    """A tensor on its way."""

    tensor: Tensor
    start: float  # when the sender began to send it
    seconds: float
    taken: bool = False
    finish: float = 0.0


@dataclass(frozen=True)
class Simulation:
    """What became of a simulated run.

    Args:
        values: what the function returned, by rank.
        seconds: when the last rank finished.
        messages, bytes: sent by each rank.
        inbox: the most bytes that had arrived at each rank and not been received yet (only if buffered).
        events: what the ranks did, in order of time.
    """

    values: list
    seconds: float
    messages: list[int]
    bytes: list[int]
    inbox: list[int]
    events: list[Event]


@dataclass
class _Network:
    """The messages on their way, and which rank waits for what."""

    size: int
    alpha: float
    beta: float
    buffered: bool
    mail: dict[tuple[int, int], deque[_Message]] = field(default_factory=lambda: defaultdict(deque))
    waiting: dict[int, tuple[str, int]] = field(default_factory=dict)
    running: int = 0
    error: BaseException | None = None
    condition: threading.Condition = field(default_factory=threading.Condition)

    def put(self, source: int, to: int, message: _Message) -> None:
        """Leave a message for a rank, and wake it if it waits for one from here."""
        with self.condition:
            self.mail[source, to].append(message)
            self._wake(to, ("to receive from", source))

    def take(self, rank: int, source: int) -> _Message:
        """Wait for the oldest message from a rank."""
        with self.condition:
            self._wait(rank, ("to receive from", source), lambda: bool(self.mail[source, rank]))
            message = self.mail[source, rank].popleft()
            return message

    def wait_taken(self, rank: int, to: int, message: _Message) -> None:
        """Wait until the other side has received a message."""
        with self.condition:
            self._wait(rank, ("until its message is received by", to), lambda: message.taken)

    def taken(self, message: _Message, source: int, rank: int) -> None:
        """Say that a message was received."""
        with self.condition:
            message.taken = True
            self._wake(source, ("until its message is received by", rank))

    def finished(self, error: BaseException | None = None) -> None:
        """A rank has returned, or failed."""
        with self.condition:
            self.running -= 1
            if error is not None and not isinstance(error, _Stopped):
                self.error = self.error or error
            self._look_for_deadlock()
            self.condition.notify_all()

    def _wait(self, rank: int, reason: tuple[str, int], ready: Callable[[], bool]) -> None:
        """Wait for a condition; only now may the network be stuck."""
        while not ready():
            if self.error is not None:
                raise _Stopped
            self.waiting[rank] = reason
            self._look_for_deadlock()
            if self.error is None:
                self.condition.wait()
        self.waiting.pop(rank, None)

    def _wake(self, rank: int, reason: tuple[str, int]) -> None:
        """Let a rank go on if it waits for this."""
        if self.waiting.get(rank) == reason:
            del self.waiting[rank]
            self.condition.notify_all()

    def _look_for_deadlock(self) -> None:
        """If everybody waits, nobody will ever send."""
        if self.running and len(self.waiting) == self.running and self.error is None:
            who = ", ".join(f"rank {rank} waits {what} {peer}" for rank, (what, peer) in sorted(self.waiting.items()))
            self.error = Deadlock(f"nobody can go on: {who}")
            self.condition.notify_all()


class SimulatedChannel(Channel):
    """A rank's end of a simulated network. ``clock`` is its time in seconds; `compute` makes it pass."""

    def __init__(self, rank: int, network: _Network):
        super().__init__(rank, network.size)
        self._network = network
        self.clock = self._out_free = self._in_free = 0.0
        self.events: list[Event] = []
        self._stays: list[tuple[float, float, int]] = []  # from when to when a message lay here unread, and its bytes

    def compute(self, seconds: float, label: str = "") -> None:
        """Work for some time."""
        if seconds < 0:
            raise ValueError(f"seconds must be at least 0, got {seconds}")
        self.events.append(Event(self.rank, "compute", self.clock, self.clock + seconds, label=label))
        self.clock += seconds

    def _isend(self, tensor: Tensor, to: int) -> Pending:
        size, network = tensor.numel() * tensor.element_size(), self._network
        seconds = network.alpha + network.beta * size
        start = max(self.clock, self._out_free)  # one message after the other
        self._out_free = start + seconds
        message = _Message(tensor.detach().clone(), start, seconds)
        self.events.append(Event(self.rank, "send", start, start + seconds, to, size))
        network.put(self.rank, to, message)

        def wait() -> None:
            if not network.buffered:
                network.wait_taken(self.rank, to, message)
            self.clock = max(self.clock, start + seconds, message.finish if not network.buffered else 0.0)

        return Pending(wait)

    def _recv(self, into: Tensor, source: int) -> None:
        network = self._network
        message = network.take(self.rank, source)
        got = message.tensor
        if got.shape.numel() != into.shape.numel() or got.dtype != into.dtype:
            raise ValueError(
                f"rank {source} sent {tuple(got.shape)} {got.dtype}, and rank {self.rank} receives it as "
                f"{tuple(into.shape)} {into.dtype}"
            )
        into.view(-1).copy_(got.view(-1))
        start = max(message.start, self._in_free, 0.0 if network.buffered else self.clock)
        message.finish = self._in_free = start + message.seconds
        self._stays.append((message.finish, max(self.clock, message.finish), got.numel() * got.element_size()))
        self.clock = max(self.clock, message.finish)
        self.events.append(Event(self.rank, "receive", start, message.finish, source, self._stays[-1][2]))
        network.taken(message, source, self.rank)

    def inbox(self) -> int:
        """The most bytes that have lain here unread at one time."""
        steps = sorted(
            [(start, size) for start, _, size in self._stays] + [(end, -size) for _, end, size in self._stays]
        )
        most = now = 0
        for _, size in steps:
            now += size
            most = max(most, now)
        return most


def simulate(
    function: Callable[..., Any],
    world_size: int,
    *args: Any,
    alpha: float = 0.0,
    beta: float = 0.0,
    buffered: bool = False,
) -> Simulation:
    """Run ``function(channel, *args)`` on every rank of a simulated network.

    Args:
        function: gets a `SimulatedChannel` and the arguments, the same objects on every rank.
        world_size: number of ranks, ≥ 1.
        alpha: seconds that a message takes at least.   beta: seconds per byte.
        buffered: a message waits at the receiver until it is wanted. If not, as with gloo and NCCL, it is sent when
            the receiver wants it, and ``send`` waits for that.
    Returns:
        A `Simulation`: values by rank, time, messages, bytes, and all events.
    Raises:
        Deadlock: all ranks wait.   RuntimeError: a message that nobody received.
        Whatever the function raises on some rank.

    >>> import torch
    >>> def ping(channel):
    ...     if channel.rank == 0:
    ...         channel.send(torch.tensor([7, 8]), to=1)
    ...     else:
    ...         return channel.recv(torch.empty(2, dtype=torch.int64), source=0).tolist()
    >>> done = simulate(ping, 2, alpha=1.0, beta=0.5)
    >>> done.values, done.bytes, done.seconds      # 16 bytes: 1 + 0.5 · 16
    ([None, [7, 8]], [16, 0], 9.0)
    """
    if world_size < 1:
        raise ValueError(f"world_size must be at least 1, got {world_size}")
    network = _Network(world_size, alpha, beta, buffered, running=world_size)
    channels = [SimulatedChannel(rank, network) for rank in range(world_size)]
    values: list[Any] = [None] * world_size

    def work(rank: int) -> None:
        try:
            values[rank] = function(channels[rank], *args)
            network.finished()
        except BaseException as error:
            network.finished(error)

    threads = [threading.Thread(target=work, args=(rank,), daemon=True) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if network.error is not None:
        raise network.error
    for (source, to), left in network.mail.items():
        if left:
            raise RuntimeError(f"rank {source} sent rank {to} a message that was never received")
    return Simulation(
        values,
        max(channel.clock for channel in channels),
        [channel.messages for channel in channels],
        [channel.bytes for channel in channels],
        [channel.inbox() for channel in channels],
        sorted(
            (event for channel in channels for event in channel.events), key=lambda event: (event.start, event.rank)
        ),
    )
