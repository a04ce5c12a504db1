"""Summing compressed gradients over the ranks: what `DataParallel` can use in place of an exact all-reduce."""

import torch
import torch.distributed as dist
from torch import Tensor

from lmcore.parallel.compression import Code
from lmcore.parallel.data_parallel import Finish
from lmcore.parallel.gradient_buckets import Bucket


class ErrorFeedback:
    """What a code has lost so far, per bucket: added to the next gradient before it is compressed.

        x ← gradient + error,   send C(x),   error ← x − C(x)

    Nothing is lost for ever then, only late: over any number of steps the sum of what was sent and the last error is
        the
    sum of the gradients.

    Source: Seide et al. 2014; Karimireddy et al. 2019.

    >>> memory = ErrorFeedback()
    >>> for _ in range(2):
    ...     x = memory.add(0, torch.tensor([3.0, 2.0]))
    ...     sent = torch.tensor([x[0], 0.0]) if x[0] > x[1] else torch.tensor([0.0, x[1]])
    ...     memory.keep(0, x - sent)
    ...     print(sent.tolist())
    [3.0, 0.0]
    [0.0, 4.0]
    """

    def __init__(self):
        self.errors: dict[int, Tensor] = {}

    def add(self, index: int, gradient: Tensor) -> Tensor:
        """A gradient with what is still owed."""
        return gradient + self.errors[index] if index in self.errors else gradient.clone()

    def keep(self, index: int, error: Tensor) -> None:
        """Remember what was not sent."""
        self.errors[index] = error


class CastReduce:
    """All-reduce in a shorter float format, float16 or bfloat16: half the bytes, and sums in that format.

    Args:
        dtype: of what is sent.
    Cost: 2n bytes per all-reduce in place of 4n.   Differs: float16 is infinite beyond 65,504 and zero below about
        3e-8.
    """

    def __init__(self, dtype: torch.dtype = torch.float16):
        self.dtype = dtype

    def __call__(self, bucket: Bucket, group: dist.ProcessGroup) -> Finish:
        """Begin to replace the bucket by its sum."""
        short = bucket.flat.to(self.dtype)
        work = dist.all_reduce(short, group=group, async_op=True)

        def finish() -> None:
            work.wait()
            bucket.flat.copy_(short)

        return finish


class GatherReduce:
    """Send each rank's message to all others and add up what the messages stand for.

    Codes cannot be added: the sum of two int8 codes is not a code. So every rank gets all messages.

    Args:
        code: `Int8`, `TopK`, or another; with a generator, one of its own for each rank.
        feedback: remember what the code loses, see `ErrorFeedback`.
    Attributes:
        memory: the errors, or None. They are not part of the model: a resumed run begins without them.

    Cost: an all-gather per tensor of a message. A rank sends (p − 1) messages of m bytes, and 2 (p − 1)/p · 4n bytes in
        an exact all-reduce: gathering sends less only below 8n / m ranks.
    """

    def __init__(self, code: Code, *, feedback: bool = False):
        self.code = code
        self.memory = ErrorFeedback() if feedback else None

    @torch.no_grad()
    def __call__(self, bucket: Bucket, group: dist.ProcessGroup) -> Finish:
        """Begin to replace the bucket by the sum of what the ranks' messages stand for."""
        n, flat = len(bucket.flat), bucket.flat
        x = flat if self.memory is None else self.memory.add(bucket.index, flat)
        message = self.code.compress(x)
        if self.memory is not None:
            self.memory.keep(bucket.index, x - self.code.decompress(message, n))
        ranks = dist.get_world_size(group)
        gathered = [[torch.empty_like(part) for _ in range(ranks)] for part in message]
        works = [
            dist.all_gather(parts, part.contiguous(), group=group, async_op=True)
            for parts, part in zip(gathered, message, strict=True)
        ]

        def finish() -> None:
            for work in works:
                work.wait()
            flat.zero_()
            for one in zip(*gathered, strict=True):  # the message of rank 0, 1, …: in this order on all ranks
                flat.add_(self.code.decompress(one, n))

        return finish
