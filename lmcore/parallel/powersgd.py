"""PowerSGD: send a gradient matrix as the product of two thin ones, which can be added up over the ranks."""

import torch
import torch.distributed as dist
from torch import Tensor

from lmcore.parallel.compressed_reduce import ErrorFeedback
from lmcore.parallel.data_parallel import Finish
from lmcore.parallel.gradient_buckets import Bucket


def orthogonalize(P: Tensor) -> Tensor:
    """Columns of length 1 at right angles, which span what the columns of P span (Gram–Schmidt, in order).

    Args:
        P: (n, r) with r ≤ n. A column that adds nothing new becomes zero.
    Cost: O(n r²).

    >>> orthogonalize(torch.tensor([[3.0, 1.0], [4.0, 1.0]])).round(decimals=4)
    tensor([[ 0.6000,  0.8000],
            [ 0.8000, -0.6000]])
    """
    columns: list[Tensor] = []
    for column in P.unbind(1):
        rest = column
        for _ in range(2):  # the second time removes what rounding left
            for q in columns:
                rest = rest - (q @ rest) * q
        new = rest.norm() > 1e-6 * column.norm().clamp_min(torch.finfo(P.dtype).tiny)
        columns.append(rest / rest.norm() if new else torch.zeros_like(rest))
    return torch.stack(columns, 1)


def low_rank(M: Tensor, Q: Tensor) -> tuple[Tensor, Tensor]:
    """One step of the power method: factors of an approximation of M, better than the guess Q.

    Args:
        M: (n, m).   Q: (m, r).
    Returns:
        P̂ (n, r) with orthonormal columns and Q' = Mᵀ P̂ (m, r). P̂ Q'ᵀ is M projected onto the columns of P̂: the
        error is never larger than M, and with the returned Q' as the next guess it tends to the best rank r, that of
        the SVD.
    Cost: O(n m r).
    Source: Vogels et al. 2019, algorithm 1, for one rank.

    >>> P, Q = low_rank(torch.tensor([[2.0, 4.0], [3.0, 6.0]]), torch.tensor([[1.0], [0.0]]))   # of rank 1
    >>> (P @ Q.T).round(decimals=4)
    tensor([[2., 4.],
            [3., 6.]])
    """
    P = orthogonalize(M @ Q)
    return P, M.T @ P


class PowerSGD:
    """All-reduce by low-rank factors, with a warm start and error feedback; `DataParallel` takes it as ``reduce``.

    Args:
        rank: r, the number of columns of the factors.
        seed: of the first guesses, which must be equal on all ranks.
        warm_start: begin with the factors of the last step; False: with new random ones each time.
        feedback: remember what is lost, see `ErrorFeedback`.
    Raises:
        ValueError: rank below 1.

    A gradient of more than two axes counts as a matrix of its first axis. One with a single axis, or with less numbers
    than its factors would have, is added up as it is.
    Cost: r (n + m) numbers for a matrix of n · m, in two all-reduces per bucket, and a third for what is not
        compressed.
    Source: Vogels et al. 2019.   Differs: sums in place of means, as `global_mean` prepares; the error that a rank
        keeps is what its own factors lose.
    """

    def __init__(self, rank: int, *, seed: int = 0, warm_start: bool = True, feedback: bool = True):
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}")
        self.rank, self.warm_start = rank, warm_start
        self.memory = ErrorFeedback() if feedback else None
        self._generator = torch.Generator().manual_seed(seed)
        self._guesses: dict[tuple[int, int], Tensor] = {}

    def compresses(self, shape: torch.Size) -> bool:
        """Whether the factors of a gradient of this shape are smaller than it is."""
        n, m = shape[0] if shape else 1, shape.numel() // shape[0] if shape else 1
        return len(shape) > 1 and self.rank * (n + m) < n * m

    def _guess(self, bucket: Bucket, number: int, columns: int) -> Tensor:
        """Q for a matrix: the last one, or a random one, equal on all ranks."""
        key = bucket.index, number
        if not self.warm_start or key not in self._guesses:
            drawn = torch.randn(columns, self.rank, generator=self._generator)
            self._guesses[key] = drawn.to(bucket.flat)
        return self._guesses[key]

    @torch.no_grad()
    def __call__(self, bucket: Bucket, group: dist.ProcessGroup) -> Finish:
        """Begin to replace the bucket by an approximation of its sum over the ranks."""
        chosen = [number for number, view in enumerate(bucket.views) if self.compresses(view.shape)]
        others = [view for number, view in enumerate(bucket.views) if number not in chosen]
        if self.memory is not None:
            bucket.flat.copy_(self.memory.add(bucket.index, bucket.flat))
        matrices = [bucket.views[number].flatten(1) for number in chosen]
        Ps = [M @ self._guess(bucket, number, M.shape[1]) for number, M in zip(chosen, matrices, strict=True)]
        thin, wait_for_thin = _start_sum(Ps, group)
        plain, wait_for_plain = _start_sum(others, group)

        def finish() -> None:
            wait_for_thin()
            Ps = [orthogonalize(P) for P in thin]
            Qs = [M.T @ P for M, P in zip(matrices, Ps, strict=True)]
            lost = torch.zeros_like(bucket.flat)
            for part, M, P, Q in zip(_parts(bucket, lost, chosen), matrices, Ps, Qs, strict=True):
                part.copy_((M - P @ Q.T).view_as(part))
            if self.memory is not None:
                self.memory.keep(bucket.index, lost)
            Qs, wait = _start_sum(Qs, group)
            wait()
            wait_for_plain()
            for number, P, Q in zip(chosen, Ps, Qs, strict=True):
                self._guesses[bucket.index, number] = Q
                bucket.views[number].copy_((P @ Q.T).view_as(bucket.views[number]))
            for view, total in zip(others, plain, strict=True):
                view.copy_(total)

        return finish


def _parts(bucket: Bucket, flat: Tensor, chosen: list[int]) -> list[Tensor]:
    """Windows into another flat tensor, at the places of a bucket's chosen views."""
    parts = flat.split([view.numel() for view in bucket.views])
    return [parts[number].view_as(bucket.views[number]) for number in chosen]


def _start_sum(tensors: list[Tensor], group: dist.ProcessGroup) -> tuple[list[Tensor], Finish]:
    """Begin to add up tensors over the ranks in one message; their sums will be in the returned ones."""
    if not tensors:
        return [], lambda: None
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    work = dist.all_reduce(flat, group=group, async_op=True)
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)], work.wait
