"""Our ring and tree all-reduce, built from messages, against gloo's own, on local processes and in one run.

All three are run in turns on the same tensors and asserted to agree. The ratio is gloo's median time over ours: above 1
ours is faster. Ours moves the same bytes, but each step of the ring begins in Python, so short tensors cost more.
"""

import statistics
import time

import torch
import torch.distributed as dist

from lmcore.parallel.channel import ProcessChannel
from lmcore.parallel.launch import run
from lmcore.parallel.ring import ring_all_reduce
from lmcore.parallel.tree import tree_all_reduce

SIZES = (256, 65_536, 1_048_576, 8_388_608)  # numbers of four bytes
TURNS = 9


def measure(context, n):
    """Median seconds of gloo's all-reduce, our ring and our tree."""
    channel, x = ProcessChannel(context), torch.full((n,), float(context.rank + 1))

    def theirs():
        y = x.clone()
        dist.all_reduce(y, group=context.group)
        return y

    ways = (theirs, lambda: ring_all_reduce(channel, x), lambda: tree_all_reduce(channel, x))
    times = [[] for _ in ways]
    for turn in range(TURNS):
        for k in range(len(ways)):
            number = (turn + k) % len(ways)
            dist.barrier(group=context.group)
            start = time.perf_counter()
            y = ways[number]()
            times[number].append(time.perf_counter() - start)
            assert torch.equal(y, torch.full_like(x, context.world_size * (context.world_size + 1) / 2))
    return [statistics.median(some[2:]) for some in times]  # the first turns warm up


def main():
    """Print a line for each number of ranks and size."""
    print("ranks      bytes   gloo ms    ring    tree   (gloo's time over ours)")
    for ranks in (2, 4):
        for n in SIZES:
            by_rank = run(measure, ranks, n, timeout=120, check=False)
            gloo, ring, tree = map(max, zip(*by_rank, strict=True))  # done when the last rank is
            print(f"{ranks:5} {4 * n:10,} {1e3 * gloo:9.2f} {gloo / ring:7.2f} {gloo / tree:7.2f}", flush=True)


if __name__ == "__main__":
    main()
