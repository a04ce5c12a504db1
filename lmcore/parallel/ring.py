"""Collectives on a ring: every rank sends to the next one only, and all links are busy all the time.

Cut the tensor into p chunks. While a chunk travels once around the ring every rank adds its own part to it; p chunks do
this at the same time, each one step behind the other. After p − 1 steps every rank holds one finished chunk, which is
a *reduce-scatter*. In another p − 1 steps the finished chunks travel around, which is an *all-gather*.
"""

import torch
from torch import Tensor

from lmcore.parallel.channel import Channel
from lmcore.parallel.tree import Operation


def chunks_of(x: Tensor, parts: int) -> list[Tensor]:
    """Cut a tensor, read in a row, into parts whose sizes differ by one at most; some are empty if it is short.

    >>> [chunk.tolist() for chunk in chunks_of(torch.arange(5), 3)]
    [[0, 1], [2, 3], [4]]
    """
    return list(x.reshape(-1).tensor_split(parts))


def ring_reduce_scatter(channel: Channel, chunks: list[Tensor], op: Operation = torch.add) -> Tensor:
    """Combine chunk r of all ranks on rank r.

    Args:
        chunks: p tensors; chunk i has the same size and dtype on every rank.
        op: combines two tensors and must not care about the order.
    Returns:
        This rank's chunk, combined over all ranks.
    Cost: p − 1 steps; in each one every rank sends one chunk.
    Source: Patarasuk and Yuan 2009.

    >>> from lmcore.parallel.simulate import simulate
    >>> rows = [torch.tensor([1, 2]), torch.tensor([3])]
    >>> [chunk.tolist() for chunk in simulate(ring_reduce_scatter, 2, rows).values]
    [[2, 4], [6]]
    """
    p, r = channel.world_size, channel.rank
    if len(chunks) != p:
        raise ValueError(f"chunks must be one for each of {p} ranks, got {len(chunks)}")
    partial = chunks[(r - 1) % p].clone()  # chunk i begins at rank i + 1, and so ends at rank i
    for step in range(1, p):
        own = chunks[(r - 1 - step) % p]
        received = channel.exchange(partial, (r + 1) % p, torch.empty_like(own), (r - 1) % p)
        partial = op(received, own)
    return partial


def ring_all_gather(channel: Channel, chunk: Tensor, sizes: list[int] | None = None) -> list[Tensor]:
    """Give every rank the chunks of all ranks.

    Args:
        chunk: this rank's own, one-dimensional unless all have the same shape.
        sizes: number of elements of each rank's chunk; None: all are like this one.
    Returns:
        The chunks in the order of the ranks.
    Cost: p − 1 steps; in each one every rank passes on the chunk that it received last.

    >>> from lmcore.parallel.simulate import simulate
    >>> gathered = simulate(lambda channel: ring_all_gather(channel, torch.tensor([channel.rank])), 3).values
    >>> torch.cat(gathered[1]).tolist()
    [0, 1, 2]
    """
    p, r = channel.world_size, channel.rank
    if sizes is not None and (len(sizes) != p or sizes[r] != chunk.numel()):
        raise ValueError(f"sizes must be {p} numbers, and {chunk.numel()} for rank {r}, got {sizes}")
    chunks = [torch.empty_like(chunk) if sizes is None else chunk.new_empty(sizes[i]) for i in range(p)]
    chunks[r] = chunk.clone()
    for step in range(p - 1):
        outgoing, incoming = (r - step) % p, (r - step - 1) % p
        channel.exchange(chunks[outgoing], (r + 1) % p, chunks[incoming], (r - 1) % p)
    return chunks


def ring_all_reduce(channel: Channel, x: Tensor, op: Operation = torch.add) -> Tensor:
    """Combine the tensors of all ranks, and give everyone the result: reduce-scatter, then all-gather.

    Args:
        x: of the same shape and dtype on every rank.   op: combines two tensors and must not care about the order.
    Returns:
        The combination, the same bits on every rank; shape and dtype of x.
    Cost: 2(p − 1) steps of n/p elements: every rank sends 2n(p − 1)/p, nearly the same however many ranks there are.

    >>> from lmcore.parallel.simulate import simulate
    >>> simulate(lambda channel: ring_all_reduce(channel, torch.arange(5) * channel.rank).tolist(), 3).values[0]
    [0, 3, 6, 9, 12]
    """
    chunks = chunks_of(x, channel.world_size)
    mine = ring_reduce_scatter(channel, chunks, op)
    return torch.cat(ring_all_gather(channel, mine, [chunk.numel() for chunk in chunks])).reshape(x.shape)
