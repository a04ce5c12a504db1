"""The collectives that are no tree and no ring: one rank with all others in turn, and all with all.

Broadcast and reduce are in `lmcore.parallel.tree`, all-gather and reduce-scatter in `lmcore.parallel.ring`, and
all-reduce in both. Here are scatter, gather, all-to-all, and the all-reduce that everybody would write first.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from lmcore.parallel.channel import Channel
from lmcore.parallel.tree import Operation, check_root


def scatter(channel: Channel, chunks: list[Tensor] | None, like: Tensor, root: int = 0) -> Tensor:
    """Give rank r the root's chunk r.

    Args:
        chunks: on the root p tensors; ignored elsewhere.
        like: of the shape and dtype of this rank's chunk.
    Returns:
        This rank's chunk.
    Cost: p − 1 messages, all from the root, one after the other.

    >>> from lmcore.parallel.simulate import simulate
    >>> x = torch.arange(3)
    >>> simulate(lambda channel: scatter(channel, list(x.split(1)), x[:1]).item(), 3).values
    [0, 1, 2]
    """
    check_root(channel, root)
    if channel.rank != root:
        return channel.recv(torch.empty_like(like), source=root)
    if chunks is None or len(chunks) != channel.world_size:
        raise ValueError(f"chunks must be one tensor for each of {channel.world_size} ranks on the root")
    for rank, chunk in enumerate(chunks):
        if rank != root:
            channel.send(chunk, to=rank)
    return chunks[root].clone()


def gather(channel: Channel, chunk: Tensor, root: int = 0) -> list[Tensor] | None:
    """Collect the chunks of all ranks on the root.

    Args:
        chunk: of the same shape and dtype on every rank.
    Returns:
        On the root the chunks in the order of the ranks; None elsewhere.
    Cost: p − 1 messages, all to the root, one after the other.

    >>> from lmcore.parallel.simulate import simulate
    >>> torch.cat(simulate(lambda channel: gather(channel, torch.tensor([channel.rank])), 3).values[0]).tolist()
    [0, 1, 2]
    """
    check_root(channel, root)
    if channel.rank != root:
        channel.send(chunk, to=root)
        return None
    ranks = range(channel.world_size)
    return [chunk.clone() if r == root else channel.recv(torch.empty_like(chunk), source=r) for r in ranks]


def all_to_all(channel: Channel, chunks: list[Tensor], like: list[Tensor] | None = None) -> list[Tensor]:
    """Send chunk r to rank r, on every rank: a transposition of who has what.

    Args:
        chunks: p tensors.
        like: p tensors of the shapes and dtypes that come in; None: those of ``chunks``.
    Returns:
        What the ranks have sent here, in their order.
    Cost: p − 1 steps; in step k every rank sends to the k-th after it and receives from the k-th before it.

    >>> from lmcore.parallel.simulate import simulate
    >>> def work(channel):
    ...     chunks = all_to_all(channel, [torch.tensor([10 * channel.rank + to]) for to in range(3)])
    ...     return torch.cat(chunks).tolist()
    >>> simulate(work, 3).values
    [[0, 10, 20], [1, 11, 21], [2, 12, 22]]
    """
    p, r = channel.world_size, channel.rank
    received = [torch.empty_like(chunk) for chunk in (chunks if like is None else like)]
    if len(chunks) != p or len(received) != p:
        raise ValueError(f"chunks must be one tensor for each of {p} ranks, got {len(chunks)} to send")
    received[r] = chunks[r].clone()
    for k in range(1, p):
        to, source = (r + k) % p, (r - k) % p
        channel.exchange(chunks[to], to, received[source], source)
    return received


def naive_all_reduce(channel: Channel, x: Tensor, op: Operation = torch.add) -> Tensor:
    """Combine the tensors of all ranks: everybody sends to rank 0, which sends the result to everybody.

    Args:
        x: of the same shape and dtype on every rank.   op: combines two tensors.
    Returns:
        The combination, the same bits on every rank.
    Cost: 2(p − 1) messages of n elements through the links of one rank, one after the other.

    >>> from lmcore.parallel.simulate import simulate
    >>> simulate(lambda channel: naive_all_reduce(channel, torch.tensor([channel.rank])).item(), 4).values
    [6, 6, 6, 6]
    """
    parts = gather(channel, x)
    if parts is None:
        return channel.recv(torch.empty_like(x), source=0)
    total = parts[0]
    for part in parts[1:]:
        total = op(total, part)
    for rank in range(1, channel.world_size):
        channel.send(total, to=rank)
    return total


def all_gather_single(output: Tensor, x: Tensor, group: dist.ProcessGroup | None = None) -> None:
    """Torch's all-gather into one tensor, under the name that the installed version has for it.

    Args:
        output: (p · n, …), filled with the x of all ranks in a row.   x: (n, …).
    """
    name = "all_gather_single" if hasattr(dist, "all_gather_single") else "all_gather_into_tensor"
    getattr(dist, name)(output, x, group=group)


def reduce_scatter_single(
    output: Tensor, x: Tensor, op: dist.ReduceOp = dist.ReduceOp.SUM, group: dist.ProcessGroup | None = None
) -> None:
    """Torch's reduce-scatter of one tensor, under the name that the installed version has for it.

    Args:
        output: (n, …), filled with this rank's part of the combination.   x: (p · n, …).
    """
    name = "reduce_scatter_single" if hasattr(dist, "reduce_scatter_single") else "reduce_scatter_tensor"
    getattr(dist, name)(output, x, op=op, group=group)
