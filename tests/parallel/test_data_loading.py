"""Which rank reads what, and reading ahead."""

import threading
import time
from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DistributedSampler

from lmcore.parallel.prefetch import Prefetch
from lmcore.parallel.sharded_loading import ShardedBatches, shard_indices
from lmcore.train.batches import Batches


class TestIndices:
    @given(st.integers(1, 40), st.integers(1, 7), st.integers(0, 3), st.booleans(), st.booleans())
    def test_equal_to_torch(self, n, world_size, epoch, shuffle, drop):
        for rank in range(world_size):
            theirs = DistributedSampler(range(n), world_size, rank, shuffle=shuffle, seed=3, drop_last=drop)
            theirs.set_epoch(epoch)
            if drop and n < world_size:
                continue  # torch's own arithmetic goes wrong there
            ours = shard_indices(
                n, rank=rank, world_size=world_size, epoch=epoch, seed=3, shuffle=shuffle,
                uneven="drop" if drop else "repeat",
            )  # fmt: skip
            assert ours == list(theirs)

    @given(st.integers(1, 40), st.integers(1, 7), st.integers(0, 3))
    def test_kept_they_are_disjoint_and_cover_everything(self, n, world_size, epoch):
        parts = [shard_indices(n, rank=r, world_size=world_size, epoch=epoch) for r in range(world_size)]
        assert sorted(chain(*parts)) == list(range(n))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1

    def test_each_epoch_has_its_own_order(self):
        orders = {tuple(shard_indices(17, rank=0, world_size=2, epoch=epoch)) for epoch in range(5)}
        assert len(orders) == 5
        same = [shard_indices(17, rank=0, world_size=2, epoch=1, seed=s, shuffle=False) for s in (0, 1)]
        assert same[0] == same[1] == list(range(0, 17, 2))

    def test_errors(self):
        with pytest.raises(ValueError, match="rank must be in 0 … world_size − 1, got rank 2 of 2"):
            shard_indices(5, rank=2, world_size=2, epoch=0)
        with pytest.raises(ValueError, match="n must be at least 1, got 0"):
            shard_indices(0, rank=0, world_size=2, epoch=0)
        with pytest.raises(ValueError, match="uneven must be one of keep, repeat, drop, got 'pad'"):
            shard_indices(5, rank=0, world_size=2, epoch=0, uneven="pad")


class TestBatches:
    @given(st.integers(1, 30), st.integers(1, 11), st.integers(1, 5), st.booleans())
    def test_together_they_are_the_batches_of_one_process(self, n, batch_size, world_size, shuffle):
        settings = {"batch_size": batch_size, "seed": 5, "shuffle": shuffle}
        whole = Batches(torch.arange(n), **settings)
        parts = [ShardedBatches(torch.arange(n), rank=r, world_size=world_size, **settings) for r in range(world_size)]
        for _ in range(2 * len(whole) + 1):
            expected, mine = next(whole)[0].tolist(), [next(part)[0].tolist() for part in parts]
            assert sorted(chain(*mine)) == sorted(expected)
            assert max(map(len, mine)) - min(map(len, mine)) <= 1

    def test_goes_on_where_it_was_saved(self):
        settings = {"batch_size": 4, "rank": 1, "world_size": 2}
        one, other = (ShardedBatches(torch.arange(11), **settings) for _ in range(2))
        for _ in range(5):
            next(one)
        other.load_state_dict(one.state_dict())
        assert [next(one)[0].tolist() for _ in range(4)] == [next(other)[0].tolist() for _ in range(4)]

    def test_errors(self):
        with pytest.raises(ValueError, match="got rank -1 of 2"):
            ShardedBatches(torch.arange(5), batch_size=2, rank=-1, world_size=2)
        with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1, got 0"):
            ShardedBatches(torch.arange(5), batch_size=0, rank=0, world_size=2)


class TestPrefetch:
    @given(st.lists(st.integers(), max_size=20), st.integers(1, 5))
    def test_the_same_things_in_the_same_order(self, values, depth):
        with Prefetch(values, depth=depth) as ahead:
            assert list(ahead) == values
            assert list(ahead) == []

    def test_it_reads_ahead_and_not_further(self):
        reached = threading.Event()
        read = []

        def source():
            for i in range(100):
                read.append(i)
                if i == 3:
                    reached.set()
                yield i

        with Prefetch(source(), depth=2) as ahead:
            assert next(ahead) == 0
            assert reached.wait(10)  # nobody asked for number 3
        assert max(read) == 3  # two wait in the queue, one in the thread's hand

    def test_an_error_comes_at_its_place(self):
        def source():
            yield 1
            raise KeyError("gone")

        with Prefetch(source()) as ahead:
            assert next(ahead) == 1
            with pytest.raises(KeyError, match="gone"):
                next(ahead)
            with pytest.raises(StopIteration):
                next(ahead)

    def test_the_thread_of_an_endless_source_goes(self):
        before = threading.active_count()
        with Prefetch(Batches(torch.arange(5), batch_size=2)) as ahead:
            next(ahead)
        deadline = time.monotonic() + 10
        while threading.active_count() > before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert threading.active_count() == before
        assert list(ahead) == []

    def test_errors(self):
        with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
            Prefetch([], depth=0)
