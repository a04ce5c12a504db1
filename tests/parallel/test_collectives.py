"""Our collectives against torch's and against plain sums: simulated on 1 to 8 ranks, on real processes with 2 and 4."""

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.parallel import cost
from lmcore.parallel.channel import ProcessChannel
from lmcore.parallel.collectives import (
    all_gather_single,
    all_to_all,
    gather,
    naive_all_reduce,
    reduce_scatter_single,
    scatter,
)
from lmcore.parallel.launch import run
from lmcore.parallel.messages import WorkerError
from lmcore.parallel.ring import chunks_of, ring_all_gather, ring_all_reduce, ring_reduce_scatter
from lmcore.parallel.simulate import simulate
from lmcore.parallel.tree import broadcast, reduce, tree_all_reduce

ALL_REDUCE = {"naive": naive_all_reduce, "tree": tree_all_reduce, "ring": ring_all_reduce}
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int64]
RANKS = range(1, 9)


def data(p, shape, dtype, seed=0):
    """A tensor for each rank: eighths, which all the dtypes hold exactly, or whole numbers."""
    generator = torch.Generator().manual_seed(seed)
    whole = [torch.randint(-50, 50, shape, generator=generator) for _ in range(p)]
    return whole if dtype == torch.int64 else [tensor.to(dtype) / 8 for tensor in whole]


def exact(tensors):
    """The sum in double precision."""
    return torch.stack([tensor.double() for tensor in tensors]).sum(dim=0)


def on_ranks(function, tensors, **options):
    """Run on a simulated network with a tensor for each rank."""
    return simulate(lambda channel: function(channel, tensors[channel.rank]), len(tensors), **options)


@pytest.mark.parametrize("p", RANKS)
@pytest.mark.parametrize("name", ALL_REDUCE)
class TestAllReduce:
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("shape", [(13, 7), (3,), (1,), ()])
    def test_everybody_has_the_sum_in_the_same_bits(self, name, p, dtype, shape):
        tensors = data(p, shape, dtype)
        before = [tensor.clone() for tensor in tensors]
        got = on_ranks(ALL_REDUCE[name], tensors).values
        tolerance = 0.25 * p if dtype == torch.bfloat16 else 0  # sums below 64 are rounded to a quarter
        torch.testing.assert_close(got[0].double(), exact(tensors), atol=tolerance, rtol=0)
        assert all(torch.equal(other, got[0]) for other in got)
        assert got[0].dtype == dtype
        assert got[0].shape == shape
        assert all(map(torch.equal, tensors, before))  # no rank's own tensor was written to

    def test_other_operations(self, name, p):
        tensors = data(p, (11,), torch.float32)
        got = on_ranks(lambda channel, x: ALL_REDUCE[name](channel, x, torch.maximum), tensors).values
        assert all(torch.equal(x, torch.stack(tensors).amax(dim=0)) for x in got)

    @pytest.mark.parametrize(("n", "dtype"), [(840, torch.float32), (840, torch.float64), (13, torch.bfloat16)])
    def test_messages_bytes_and_time_are_as_predicted(self, name, p, n, dtype):
        done = on_ranks(ALL_REDUCE[name], data(p, (n,), dtype), alpha=3.0, beta=0.25)
        predicted = cost.all_reduce(name, p, n, dtype.itemsize)
        assert (sum(done.messages), sum(done.bytes)) == (predicted.messages, predicted.bytes)
        seconds = predicted.seconds(cost.Link(alpha=3.0, beta=0.25))
        if n % p == 0 or name != "ring":
            assert done.seconds == pytest.approx(seconds)
        else:
            assert done.seconds <= seconds + 1e-9

    def test_on_a_ring_every_rank_sends_the_same(self, name, p):
        sent = set(on_ranks(ALL_REDUCE[name], data(p, (840,), torch.float32)).bytes)
        assert len(sent) == 1 if name == "ring" or p <= 2 else len(sent) > 1


@pytest.mark.parametrize("p", RANKS)
class TestOthers:
    def test_broadcast_and_reduce_from_every_root(self, p):
        tensors = data(p, (5, 3), torch.float64)
        before = [tensor.clone() for tensor in tensors]
        for root in range(p):
            got = on_ranks(lambda channel, x, root=root: broadcast(channel, x, root), tensors)
            assert all(torch.equal(x, tensors[root]) for x in got.values)
            assert (sum(got.messages), sum(got.bytes)) == (p - 1, cost.tree(p, 15, 8).bytes)
            summed = on_ranks(lambda channel, x, root=root: reduce(channel, x, root), tensors, alpha=1.0)
            torch.testing.assert_close(summed.values[root], exact(tensors))
            assert summed.seconds == cost.tree(p, 15, 8).steps
        assert all(map(torch.equal, tensors, before))  # no rank's own tensor was written to

    def test_scatter_and_gather(self, p):
        tensors = data(p, (5,), torch.int64)
        for root in range(p):

            def there_and_back(channel, x, root=root):
                mine = scatter(channel, tensors if channel.rank == root else None, x, root)
                return mine, gather(channel, mine, root)

            done = on_ranks(there_and_back, tensors)
            assert all(torch.equal(mine, x) for (mine, _), x in zip(done.values, tensors, strict=True))
            assert all((gathered is not None) == (rank == root) for rank, (_, gathered) in enumerate(done.values))
            assert all(map(torch.equal, done.values[root][1], tensors))
            assert sum(done.bytes) == 2 * cost.linear(p, 5, 8).bytes

    def test_all_to_all_with_uneven_chunks(self, p):
        # Rank i has i + 2j + 1 elements for rank j.
        def work(channel):
            i = channel.rank
            chunks = [torch.full((i + 2 * j + 1,), 100 * i + j) for j in range(p)]
            return all_to_all(channel, chunks, [torch.empty(j + 2 * i + 1, dtype=torch.int64) for j in range(p)])

        for i, row in enumerate(simulate(work, p).values):
            for j, chunk in enumerate(row):
                assert chunk.tolist() == [100 * j + i] * (j + 2 * i + 1)
        even = simulate(lambda channel: all_to_all(channel, [torch.zeros(7)] * p), p)
        assert (sum(even.messages), sum(even.bytes)) == (cost.all_to_all(p, 7).messages, cost.all_to_all(p, 7).bytes)

    def test_reduce_scatter_and_all_gather(self, p):
        tensors = data(p, (13,), torch.float64)
        got = on_ranks(lambda channel, x: ring_reduce_scatter(channel, chunks_of(x, p)), tensors)
        assert all(map(torch.equal, got.values, chunks_of(exact(tensors), p)))
        assert sum(got.bytes) == cost.ring(p, 13, 8).bytes
        sizes = [chunk.numel() for chunk in chunks_of(tensors[0], p)]
        back = simulate(lambda channel: torch.cat(ring_all_gather(channel, got.values[channel.rank], sizes)), p)
        assert all(torch.equal(x, exact(tensors)) for x in back.values)
        rows = simulate(lambda channel: torch.stack(ring_all_gather(channel, torch.eye(3) * channel.rank)), p).values
        assert all(torch.equal(x, torch.eye(3) * torch.arange(p)[:, None, None]) for x in rows)


@settings(max_examples=30, deadline=None)
@given(p=st.integers(1, 8), n=st.integers(0, 40), seed=st.integers(0, 1000), name=st.sampled_from(sorted(ALL_REDUCE)))
def test_any_size_sums_exactly_in_whole_numbers(p, n, seed, name):
    tensors = data(p, (n,), torch.int64, seed)
    done = on_ranks(ALL_REDUCE[name], tensors)
    assert all(torch.equal(x, torch.stack(tensors).sum(dim=0)) for x in done.values)
    assert sum(done.bytes) == 2 * (p - 1) * n * 8


class TestErrors:
    @pytest.mark.parametrize("call", [broadcast, reduce, gather])
    def test_root(self, call):
        with pytest.raises(ValueError, match="root must be a rank in 0 … 1, got 2"):
            simulate(lambda channel: call(channel, torch.ones(3), 2), 2)

    def test_chunks(self):
        three = [torch.ones(2)] * 3
        with pytest.raises(ValueError, match="chunks must be one for each of 2 ranks, got 3"):
            simulate(lambda channel: ring_reduce_scatter(channel, three), 2)
        with pytest.raises(ValueError, match="chunks must be one tensor for each of 2 ranks"):
            simulate(lambda channel: scatter(channel, three, three[0]), 2)
        with pytest.raises(ValueError, match="chunks must be one tensor for each of 2 ranks, got 3 to send"):
            simulate(lambda channel: all_to_all(channel, three), 2)
        with pytest.raises(ValueError, match="sizes must be 2 numbers, and 2 for rank"):
            simulate(lambda channel: ring_all_gather(channel, torch.ones(2), [3, 3]), 2)

    def test_peers_and_tensors(self):
        for peer in (1, 2, -1):
            with pytest.raises(ValueError, match=f"to must be a rank in 0 … 1 other than 1, got {peer}"):
                simulate(lambda channel, peer=peer: channel.rank and channel.send(torch.ones(1), to=peer), 2)
        with pytest.raises(ValueError, match="into must be contiguous"):
            simulate(lambda channel: channel.recv(torch.ones(4, 4).T[:2], 1 - channel.rank), 2)
        with pytest.raises(ValueError, match=r"rank 0 sent \(3,\) torch.float32, and rank 1 receives it as \(4,\)"):
            simulate(
                lambda channel: channel.recv(torch.ones(4), 0) if channel.rank else channel.send(torch.ones(3), 1), 2
            )


def against_torch(context):
    """Compare all collectives with torch's on this rank; the largest differences, and what was sent."""
    p, r, group = context.world_size, context.rank, context.group
    found = {}
    for dtype in DTYPES:
        tensors = data(p, (13, 7), dtype)
        mine = tensors[r]
        expected = mine.clone()
        dist.all_reduce(expected, group=group)
        for name, function in ALL_REDUCE.items():
            channel = ProcessChannel(context)
            got = function(channel, mine)
            found[name, dtype] = (
                (got.double() - expected.double()).abs().max().item(),
                channel.messages,
                channel.bytes,
            )
    channel, x = ProcessChannel(context), data(p, (p * 5,), torch.float32, seed=r)[0]
    sent = broadcast(channel, x, root=p - 1)
    theirs = x.clone()
    dist.broadcast(theirs, src=p - 1, group=group)
    part, whole = torch.empty(5), torch.empty(p * p * 5)
    reduce_scatter_single(part, x, group=group)
    all_gather_single(whole, x, group=group)
    transposed = torch.empty_like(x)
    dist.all_to_all_single(transposed, x, group=group)
    chunks = list(x.split(5))
    equal = [
        torch.equal(sent, theirs),
        torch.allclose(ring_reduce_scatter(channel, chunks), part, atol=1e-5),
        torch.equal(torch.cat(ring_all_gather(channel, x)), whole),
        torch.equal(torch.cat(all_to_all(channel, chunks)), transposed),
        torch.equal(scatter(channel, list(whole.split(5))[:p] if r == 0 else None, part), whole.split(5)[r]),
    ]
    gathered = gather(channel, x)
    return found, [*equal, gathered is None if r else torch.equal(torch.cat(gathered), whole)]


@pytest.mark.parametrize("p", [2, 4])
def test_real_processes_and_torchs_own_collectives(p):
    values = run(against_torch, p, timeout=50, check=False)
    for found, equal in values:
        assert all(equal), equal
        for (_, dtype), (difference, *_) in found.items():
            assert difference <= (0.25 if dtype == torch.bfloat16 else 0)
    for name in ALL_REDUCE:
        for dtype in DTYPES:
            predicted = cost.all_reduce(name, p, 91, dtype.itemsize)
            assert sum(found[name, dtype][1] for found, _ in values) == predicted.messages
            assert sum(found[name, dtype][2] for found, _ in values) == predicted.bytes


def test_a_channel_of_a_part_of_the_ranks():
    def work(context):
        halves = [dist.new_group([0, 2]), dist.new_group([3, 1])]
        channel = ProcessChannel(context, halves[context.rank % 2])
        return channel.rank, ring_all_reduce(channel, torch.tensor([10**context.rank])).item()

    assert run(work, 4) == [(0, 101), (0, 1010), (1, 101), (1, 1010)]


def test_a_rank_without_a_partner_is_named():
    with pytest.raises(WorkerError, match="rank 0 raised ValueError: to must be a rank in 0 … 1 other than 0, got 0"):
        run(lambda context: ProcessChannel(context).send(torch.ones(1), to=0), 2)
