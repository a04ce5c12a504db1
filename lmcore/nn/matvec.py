"""Matrix times one vector: the product that decoding at batch 1 consists of, and that memory decides about.

Each weight is read once and takes part in one multiplication and one addition. Numbers come from memory far more slowly
than a processor multiplies them, so that the time is the size of the matrix divided by the bandwidth, at best, and a
product is as good as the way it reads.

A *product* is a function x (…, C) → x Wᵀ + b (…, R), made of a weight (R, C) and a bias (R,) or None. All of these
compute the same; `lmcore.models.gpt_decoding` takes any of them, and can be given another, for weights of fewer bits:

* `TorchLinear`: what `torch.nn.functional.linear` makes of it;
* `ColumnLinear`: plain PyTorch too, but the matrix lies in memory the other way round where that is quicker;
* `CompiledLinear`: a loop over the rows that numba compiles, shared out among threads.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from lmcore.optional import need

Product = Callable[[Tensor], Tensor]
ProductMaker = Callable[[Tensor, Tensor | None], Product]


def matvec_loop(weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    """What `matvec` computes, number by number.

    >>> matvec_loop(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([10.0, 1.0])).tolist()
    [12.0, 34.0, 56.0]
    """
    y = np.zeros(len(weight), dtype=x.dtype)
    for row in range(len(weight)):
        for column in range(len(x)):
            y[row] += weight[row, column] * x[column]
    return y


def numba_threads(threads: int | None = None) -> int:
    """How many threads a compiled loop uses: as many as torch, and no more than numba has; they are set.

    Args:
        threads: ≥ 1; None: torch.get_num_threads().
    Raises:
        ValueError: threads < 1.
    """
    import numba

    wanted = torch.get_num_threads() if threads is None else threads
    if wanted < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    threads = min(wanted, numba.config.NUMBA_NUM_THREADS)
    if threads > 1:  # a single one needs no team
        set_numba_threads(threads)
    return threads


def set_numba_threads(threads: int) -> None:
    """Set numba's number alone: when its team starts, it sets OpenMP's default, which may be torch's, to all cores."""
    import numba

    before = torch.get_num_threads()
    numba.set_num_threads(threads)
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)


def matvec(weight: np.ndarray, x: np.ndarray, *, threads: int | None = None) -> np.ndarray:
    """The product of each row of a matrix with a vector, in a compiled loop.

    Args:
        weight: (R, C) float32, row after row in memory.   x: (C,) float32.   threads: see `numba_threads`.
    Returns:
        (R,) float32, new.
    Raises:
        ValueError: another type, shapes that do not fit, or an array with gaps, which would be read slowly.
    Cost: R·C multiplications; 4·R·C bytes read, which is what takes the time. The first call compiles.

    >>> matvec(np.array([[1, 2], [3, 4], [5, 6]], np.float32), np.array([10, 1], np.float32)).tolist()
    [12.0, 34.0, 56.0]
    """
    need("numba", group="text", by="matvec")
    for name, array, axes in (("weight", weight, 2), ("x", x, 1)):
        if array.ndim != axes or array.dtype != np.float32 or not array.flags.c_contiguous:
            raise ValueError(
                f"{name} must have {axes} {'axes' if axes > 1 else 'axis'} of float32 without gaps, got shape "
                f"{array.shape} of {array.dtype}{'' if array.flags.c_contiguous else ' with gaps'}"
            )
    if weight.shape[1] != len(x):
        raise ValueError(f"weight has {weight.shape[1]} columns, but x has {len(x)} numbers")
    y = np.empty(len(weight), np.float32)
    _dot_rows(weight, x, y, numba_threads(threads))
    return y


def _dot_rows(weight: np.ndarray, x: np.ndarray, y: np.ndarray, threads: int) -> None:
    """The compiled loop, without checks."""
    from lmcore.nn.matvec_compiled import dot_rows, dot_rows_threads

    (dot_rows if threads == 1 else dot_rows_threads)(weight, x, y)


def pack(*matrices: Tensor) -> list[Tensor]:
    """Copies of matrices that lie in memory one after the other, in this order.

    A large array from NumPy gets large pages where the system has them (Linux, from 4 MB on); torch's tensors do not.
    With pages of 4 kB the processor looks up an address for every thousand weights, and reading is slower.

    Args:
        matrices: of one dtype.
    Returns:
        Tensors of the same shapes, without gradients, that share one storage.
    Raises:
        ValueError: no matrix, or several dtypes.

    >>> a, b = pack(torch.ones(2, 3), torch.zeros(5, 7))
    >>> a.shape, b.shape, b.storage_offset()
    (torch.Size([2, 3]), torch.Size([5, 7]), 6)
    """
    dtypes = {matrix.dtype for matrix in matrices}
    if len(dtypes) != 1:
        raise ValueError(f"matrices must be of one dtype, got {', '.join(sorted(map(str, dtypes))) or 'none'}")
    sizes = [matrix.numel() for matrix in matrices]
    room = torch.from_numpy(np.empty(sum(sizes) * matrices[0].element_size(), np.uint8)).view(*dtypes)
    copies = [part.view(matrix.shape) for part, matrix in zip(room.split(sizes), matrices, strict=True)]
    for copy, matrix in zip(copies, matrices, strict=True):
        copy.copy_(matrix.detach())
    return copies


class TorchLinear:
    """A product as torch computes it.

    Args:
        weight: (R, C).   bias: (R,), or None.

    >>> TorchLinear(torch.tensor([[1.0, 2.0]]), torch.tensor([5.0]))(torch.tensor([10.0, 1.0]))
    tensor([17.])
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None):
        self.weight, self.bias = weight, bias

    def __call__(self, x: Tensor) -> Tensor:
        """(…, C) → (…, R)."""
        return linear(x, self.weight, self.bias)


class ColumnLinear:
    """A product in plain PyTorch whose matrix is stored column after column if it has more rows than columns.

    Row by row the result is R inner products of length C, each of which ends by adding up the lanes of a register.
    Column by column it is a sum of C columns of length R, which need no such end. BLAS libraries are quicker at
    whichever has the longer vectors.

    Args:
        weight: (R, C); copied.   bias: (R,), or None.

    >>> ColumnLinear(torch.tensor([[1.0], [2.0]]), torch.tensor([5.0, 7.0]))(torch.tensor([10.0]))
    tensor([15., 27.])
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None):
        rows, columns = weight.shape
        self.turned = weight.T.contiguous() if rows > columns else weight.contiguous().T  # (C, R)
        self.bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        """(…, C) → (…, R)."""
        y = x @ self.turned
        return y if self.bias is None else y + self.bias


class CompiledLinear:
    """A product in a compiled loop for one vector, and as torch computes it for several, which share each weight read.

    Args:
        weight: (R, C) float32 on the CPU, without gaps; kept, not copied.   bias: (R,), or None.
        threads: see `numba_threads`; as many as torch has now if None.
    Attributes:
        own_threads: True. These are not torch's threads, and both wait for work by trying again and again: on the same
            cores, one team's waiting slows the other's work down. Between two products torch should use one thread.
    Raises:
        ValueError: a weight of another kind.   ModuleNotFoundError: numba is missing.

    >>> product = CompiledLinear(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([5.0, 7.0]))
    >>> product(torch.tensor([[10.0, 1.0]])), product(torch.tensor([[10.0, 1.0], [0.0, 1.0]]))
    (tensor([[17., 41.]]), tensor([[17., 41.],
            [ 7., 11.]]))
    """

    own_threads = True

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, threads: int | None = None):
        need("numba", group="text", by="CompiledLinear")
        if weight.dtype != torch.float32 or weight.device.type != "cpu" or not weight.is_contiguous():
            raise ValueError(
                f"weight must be float32 on the CPU, without gaps; got {weight.dtype} on {weight.device}"
                f"{'' if weight.is_contiguous() else ' with gaps'}"
            )
        self.weight, self.bias = weight.detach(), bias
        self.threads = numba_threads(threads)
        self._rows = self.weight.numpy()  # the same memory

    def __call__(self, x: Tensor) -> Tensor:
        """(…, C) → (…, R), without gradients for a single vector."""
        rows, columns = self._rows.shape
        if x.numel() != columns or x.shape[-1] != columns:
            return linear(x, self.weight, self.bias)
        y = torch.empty(*x.shape[:-1], rows)
        _dot_rows(self._rows, x.detach().reshape(-1).numpy(), y.numpy().reshape(-1), self.threads)
        return y if self.bias is None else y.add_(self.bias)
