"""The simulated network: clocks by hand, deadlocks found at once, order of threads without influence."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.parallel.simulate import Deadlock, Event, simulate


def bytes_of(n):
    """A message of n bytes."""
    return torch.zeros(n, dtype=torch.uint8)


class TestClock:
    def test_messages_of_one_rank_go_one_after_the_other(self):
        def work(channel):
            if channel.rank == 0:
                first, second = channel.isend(bytes_of(10), 1), channel.isend(bytes_of(20), 2)
                channel.compute(1.0)  # while they are sent
                first.wait()
                second.wait()
            else:
                channel.recv(bytes_of(10 * channel.rank), 0)
            return channel.clock

        done = simulate(work, 3, alpha=2.0, beta=0.1)
        assert done.values == [7.0, 3.0, 7.0]  # 2 + 0.1 · 10, and then 2 + 0.1 · 20
        assert done.seconds == 7.0

    def test_a_rank_receives_one_message_after_the_other(self):
        def work(channel):
            if channel.rank < 2:
                channel.send(bytes_of(10), 2)
            else:
                for source in (0, 1):
                    channel.recv(bytes_of(10), source)
            return channel.clock

        assert simulate(work, 3, alpha=2.0, beta=0.1, buffered=True).values == [3.0, 3.0, 6.0]
        assert simulate(work, 3, alpha=2.0, beta=0.1).values == [3.0, 6.0, 6.0]  # rank 1 waits until it is its turn

    def test_buffers_hide_a_late_receiver_and_fill_up(self):
        def work(channel):
            if channel.rank == 0:
                for _ in range(3):
                    channel.send(bytes_of(10), 1)
            else:
                channel.compute(100.0)
                for _ in range(3):
                    channel.recv(bytes_of(10), 0)
            return channel.clock

        buffered, direct = (simulate(work, 2, alpha=2.0, buffered=buffered) for buffered in (True, False))
        assert buffered.values == [6.0, 100.0]
        assert buffered.inbox == [0, 30]
        assert direct.values == [106.0, 106.0]
        assert direct.inbox == [0, 0]

    def test_events(self):
        def work(channel):
            channel.compute(1.0 + channel.rank, "think")
            channel.exchange(bytes_of(4), 1 - channel.rank, bytes_of(4), 1 - channel.rank)

        done = simulate(work, 2, alpha=1.0, beta=0.25)
        assert done.events[0] == Event(0, "compute", 0.0, 1.0, label="think")
        assert Event(1, "receive", 2.0, 4.0, 0, 4) in done.events
        assert [event.start for event in done.events] == sorted(event.start for event in done.events)

    @settings(max_examples=20, deadline=None)
    @given(p=st.integers(2, 6), seed=st.integers(0, 1000), buffered=st.booleans())
    def test_the_same_run_gives_the_same_times(self, p, seed, buffered):
        generator = torch.Generator().manual_seed(seed)
        sizes = torch.randint(0, 50, (p,), generator=generator).tolist()

        def work(channel):
            channel.compute(sizes[channel.rank])
            after, before = (channel.rank + 1) % p, (channel.rank - 1) % p
            channel.exchange(bytes_of(sizes[channel.rank]), after, bytes_of(sizes[before]), before)

        runs = [simulate(work, p, alpha=1.0, beta=0.5, buffered=buffered) for _ in range(3)]
        assert runs[0] == runs[1] == runs[2]


class TestFaults:
    def test_everybody_sends_first(self):
        def work(channel):
            other = 1 - channel.rank
            channel.send(bytes_of(1), other)
            channel.recv(bytes_of(1), other)

        with pytest.raises(Deadlock, match="rank 0 waits until its message is received by 1, rank 1 waits until"):
            simulate(work, 2)
        assert simulate(work, 2, buffered=True).messages == [1, 1]

    def test_a_ring_of_receives_and_a_partner_that_has_left(self):
        with pytest.raises(Deadlock, match="rank 0 waits to receive from 2, rank 1 waits to receive from 0, rank 2"):
            simulate(lambda channel: channel.recv(bytes_of(1), (channel.rank - 1) % 3), 3)
        with pytest.raises(Deadlock, match="nobody can go on: rank 1 waits to receive from 0"):
            simulate(lambda channel: channel.rank and channel.recv(bytes_of(1), 0), 2)

    def test_an_error_of_one_rank_ends_all(self):
        def work(channel):
            if channel.rank == 1:
                raise KeyError("gone")
            channel.recv(bytes_of(1), 1)

        with pytest.raises(KeyError, match="gone"):
            simulate(work, 3)

    def test_a_message_that_nobody_wanted(self):
        with pytest.raises(RuntimeError, match="rank 0 sent rank 1 a message that was never received"):
            simulate(lambda channel: channel.rank or channel.send(bytes_of(1), 1), 2, buffered=True)

    def test_arguments(self):
        with pytest.raises(ValueError, match="world_size must be at least 1, got 0"):
            simulate(print, 0)
        with pytest.raises(ValueError, match="seconds must be at least 0, got -1"):
            simulate(lambda channel: channel.compute(-1), 1)
