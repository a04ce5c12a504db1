"""Steps of data-parallel training: ours next to DistributedDataParallel, and what a call of `run` costs.

Two workers with one thread each train the same model on the same examples, a step of ours and a step of torch's in
turn, and end with equal weights. Quoted are processor times (of all threads of a worker, so that other work on the
machine disturbs little; waiting does not count) and the median ratio of neighbouring steps by processor and by clock:
torch's time divided by ours, above 1 we are faster.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
import time

import torch
import torch.distributed as dist
from torch import nn

from lmcore.models.gpt import GPT, GPTConfig
from lmcore.nn.functional import cross_entropy
from lmcore.parallel.data_parallel import DataParallel
from lmcore.parallel.launch import close, run
from lmcore.train.optim import SGD

STEPS = 40


def gpt():
    """A GPT of 800,000 numbers, ids (8, 64) per rank, and its loss."""
    config = GPTConfig.gpt2(vocabulary_size=97, context=64, d_model=128, layers=4, heads=4)
    return GPT(config, generator=torch.Generator().manual_seed(0)), torch.randint(97, (8, 65))


def mlp():
    """A wide MLP of 4.2 million numbers, and rows (64, 1024) per rank."""
    torch.manual_seed(0)
    layers = [nn.Linear(1024, 1024) for _ in range(4)]
    return nn.Sequential(*layers), torch.randn(64, 1024)


def mean_loss(model, x):
    """The mean loss of this rank's examples."""
    if x.dtype == torch.int64:
        return cross_entropy(model(x[:, :-1]), x[:, 1:])
    return model(x).square().mean()


def step(model, optimizer, x, synchronize, share):
    """One step; milliseconds of the processor and of the clock."""
    begin = time.process_time(), time.perf_counter()
    optimizer.zero_grad()
    (mean_loss(model, x) * share).backward()
    synchronize()
    optimizer.step()
    return 1000 * (time.process_time() - begin[0]), 1000 * (time.perf_counter() - begin[1])


def both(context, make, bucket_bytes):
    """Milliseconds of each step of ours and of torch's, and the largest difference between the weights."""
    mine, x = make()
    theirs, _ = make()
    torch.manual_seed(context.rank)
    x = torch.randint(97, x.shape) if x.dtype == torch.int64 else torch.randn(x.shape)
    ours = DataParallel(mine, context.group, bucket_bytes=bucket_bytes)
    ddp = nn.parallel.DistributedDataParallel(theirs, process_group=context.group, bucket_cap_mb=bucket_bytes / 2**20)
    runs = (
        (ours, SGD(mine.parameters(), 0.01), ours.synchronize, 1 / context.world_size),
        (ddp, SGD(theirs.parameters(), 0.01), lambda: None, 1.0),
    )
    times = ([], [])
    for number in range(STEPS):
        for which in (0, 1) if number % 2 else (1, 0):
            model, optimizer, synchronize, share = runs[which]
            dist.barrier(group=context.group)
            times[which].append(step(model, optimizer, x, synchronize, share))
    pairs = zip(mine.parameters(), theirs.parameters(), strict=True)
    difference = max((a - b).abs().max().item() for a, b in pairs)
    return [some[5:] for some in times], difference


def overhead(rounds=20):
    """Median milliseconds of a call of `run` that does nothing, and of the same call in this process."""

    def nothing(context):
        return 1

    run(nothing, 2)
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        run(nothing, 2)
        middle = time.perf_counter()
        nothing(None)
        times.append((1000 * (middle - begin), 1000 * (time.perf_counter() - middle)))
    return [statistics.median(column) for column in zip(*times, strict=True)]


def main():
    """Print milliseconds per step, the ratio, and the cost of a call."""
    print("two workers: processor ms per step  lmcore       DDP   DDP / lmcore   by the clock")
    for name, make in (("GPT, 0.8 M numbers", gpt), ("MLP, 4.2 M numbers", mlp)):
        for megabytes in (1, 25):
            (ours, theirs), difference = run(both, 2, make, megabytes * 2**20, check=False, timeout=170)[0]
            assert difference < 1e-5, difference
            pairs = list(zip(ours, theirs, strict=True))
            ratios = [statistics.median(t[k] / o[k] for o, t in pairs) for k in (0, 1)]
            a, b = (statistics.median(one[0] for one in steps) for steps in (ours, theirs))
            print(f"    {name}, {megabytes:2} MB buckets {a:9.2f} {b:9.2f} {ratios[0]:14.2f} {ratios[1]:14.2f}")
    warm, here = overhead()
    print(f"a call of run on two warm workers: {warm:.1f} ms; of the function itself: {here:.4f} ms")
    close()


if __name__ == "__main__":
    main()
