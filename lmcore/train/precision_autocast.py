"""Autocast: matrix products in 16 bits, and what is delicate in float32, without a change to the model.

Every function of torch that is called inside a ``with`` block passes by here, under its name. A product's inputs are
cast to 16 bits; those of a function that adds many numbers, or stretches their range (softmax, norms, losses, powers),
to float32; all other functions take what comes. The casts are part of the graph, so that the gradient of a float32
weight is float32.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# By name, so that torch.matmul, Tensor.matmul and the sign @ are one. From torch's ATen/autocast_mode.h.
LOWERED = frozenset(
    "linear matmul __matmul__ __rmatmul__ mm mv bmm addmm addmv addbmm baddbmm einsum inner chain_matmul multi_dot "
    "vecdot conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d prelu "
    "scaled_dot_product_attention".split()
)
KEPT = frozenset(
    "exp expm1 log log10 log1p log2 pow __pow__ __rpow__ reciprocal rsqrt softplus softmax log_softmax logsumexp sum "
    "prod cumsum cumprod norm vector_norm matrix_norm layer_norm rms_norm group_norm cosine_similarity cdist "
    "cross_entropy nll_loss kl_div l1_loss smooth_l1_loss huber_loss mse_loss binary_cross_entropy_with_logits".split()
)
KEPT_ON_CPU = frozenset("cross_entropy nll_loss mse_loss binary_cross_entropy_with_logits kl_div".split())


class Autocast(TorchFunctionMode):
    """Inside the block, products are computed in 16 bits and delicate functions in float32.

    Args:
        dtype: torch.bfloat16 or torch.float16, for the functions of LOWERED.
        kept: names of functions that are computed in float32. KEPT is what torch keeps on GPUs; KEPT_ON_CPU is that of
            what it keeps on CPUs which the models of this book use: there softmax and the norms take what comes.
    Raises:
        ValueError: another dtype.   TypeError: kept is one string.

    A weight is cast once in a block, however often it is used. Only forward passes and losses belong in the block.

    Source: the lists are torch's.
    Differs: `torch.autocast` sits below Python, and sees into functions that are one call from here, such as
        `torch.nn.MultiheadAttention` and `torch.nn.LSTM`: these take what comes.

    >>> x = torch.tensor([[1.0, 2.0]])
    >>> with Autocast(torch.bfloat16):
    ...     y = x @ x.T
    ...     p = torch.softmax(y, dim=-1)
    >>> y.dtype, p.dtype
    (torch.bfloat16, torch.float32)
    """

    def __init__(self, dtype: torch.dtype = torch.bfloat16, *, kept: frozenset[str] = KEPT):
        super().__init__()
        if dtype not in (torch.bfloat16, torch.float16):
            raise ValueError(f"dtype must be torch.bfloat16 or torch.float16, got {dtype}")
        if isinstance(kept, str):
            raise TypeError(f"kept must be a set of names, got the string {kept!r}")
        self.dtype, self.kept = dtype, frozenset(kept)
        self._casts: dict[tuple[int, bool], tuple[Tensor, Tensor]] = {}  # the weight itself keeps its id taken
        self._depth = 0

    def __enter__(self) -> "Autocast":
        self._depth += 1
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._casts.clear()
        super().__exit__(*error)

    def __torch_function__(
        self, func: Callable, types: tuple, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name, kwargs = getattr(func, "__name__", ""), dict(kwargs or {})
        if name in LOWERED or name in self.kept:
            dtype = self.dtype if name in LOWERED else torch.float32
            args, kwargs = self._cast(args, dtype), {key: self._cast(value, dtype) for key, value in kwargs.items()}
        return func(*args, **kwargs)

    def _cast(self, value: Any, dtype: torch.dtype) -> Any:
        """Cast the tensors in an argument; float64 and whole numbers stay."""
        if isinstance(value, tuple | list) and any(isinstance(item, Tensor) for item in value):
            return [self._cast(item, dtype) for item in value]
        if not isinstance(value, Tensor) or value.dtype not in (torch.float32, torch.bfloat16, torch.float16):
            return value
        if dtype != self.dtype or not (value.is_leaf and value.requires_grad):
            return value.to(dtype)
        key = id(value), torch.is_grad_enabled()
        if key not in self._casts:
            self._casts[key] = value, value.to(dtype)
        return self._casts[key][1]
