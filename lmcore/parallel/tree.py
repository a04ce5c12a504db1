"""Broadcast and reduction along a binomial tree, and the all-reduce made of the two.

In a broadcast the number of ranks that have the data doubles with every step: 1, 2, 4, … So ⌈log₂ p⌉ steps are enough.
A reduction is the same picture with the arrows turned round. Ranks are counted from the root.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lmcore.parallel.channel import Channel

Operation = Callable[[Tensor, Tensor], Tensor]


def check_root(channel: Channel, root: int) -> None:
    """Require that the root is a rank."""
    if not 0 <= root < channel.world_size:
        raise ValueError(f"root must be a rank in 0 … {channel.world_size - 1}, got {root}")


def broadcast(channel: Channel, x: Tensor, root: int = 0) -> Tensor:
    """Give every rank the root's tensor.

    Args:
        x: of the same shape and dtype on every rank; only the root's values matter.
    Returns:
        The root's tensor.
    Cost: ⌈log₂ p⌉ steps of n elements; p − 1 messages in all.
    Source: Thakur, Rabenseifner and Gropp 2005.

    >>> from lmcore.parallel.simulate import simulate
    >>> simulate(lambda channel: broadcast(channel, torch.tensor([channel.rank]), root=2).item(), 5).values
    [2, 2, 2, 2, 2]
    """
    check_root(channel, root)
    p, place = channel.world_size, (channel.rank - root) % channel.world_size
    x, have = x.clone(), 1  # the places 0 … have − 1 have the data
    while have < p:
        if place < have and place + have < p:
            channel.send(x, to=(channel.rank + have) % p)
        elif have <= place < 2 * have:
            channel.recv(x, source=(channel.rank - have) % p)
        have *= 2
    return x


def reduce(channel: Channel, x: Tensor, root: int = 0, op: Operation = torch.add) -> Tensor:
    """Combine the tensors of all ranks at the root.

    Args:
        x: of the same shape and dtype on every rank.
        op: combines two tensors; must not care about the order: torch.add, torch.maximum, torch.mul, …
    Returns:
        On the root the combination; on other ranks the part that they have sent on.
    Cost: ⌈log₂ p⌉ steps of n elements; p − 1 messages in all.

    >>> from lmcore.parallel.simulate import simulate
    >>> simulate(lambda channel: reduce(channel, torch.tensor([channel.rank])).item(), 4).values[0]
    6
    """
    check_root(channel, root)
    p, place = channel.world_size, (channel.rank - root) % channel.world_size
    x, other = x.clone(), torch.empty_like(x)
    have = 1
    while 2 * have < p:
        have *= 2
    while have >= 1 and p > 1:
        if have <= place < 2 * have:
            channel.send(x, to=(channel.rank - have) % p)
        elif place < have and place + have < p:
            x = op(x, channel.recv(other, source=(channel.rank + have) % p))
        have //= 2
    return x


def tree_all_reduce(channel: Channel, x: Tensor, op: Operation = torch.add) -> Tensor:
    """Combine the tensors of all ranks, and give everyone the result: reduce to rank 0, then broadcast.

    Args:
        x: of the same shape and dtype on every rank.   op: as in `reduce`.
    Returns:
        The combination, the same bits on every rank.
    Cost: 2⌈log₂ p⌉ steps, each of all n elements: few steps, so good for small tensors.

    >>> from lmcore.parallel.simulate import simulate
    >>> simulate(lambda channel: tree_all_reduce(channel, torch.tensor([channel.rank])).item(), 4).values
    [6, 6, 6, 6]
    """
    return broadcast(channel, reduce(channel, x, 0, op), 0)
