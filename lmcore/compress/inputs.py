"""What comes into the matrices of a model: seen while it reads a few batches, and counted up."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from lmcore.compress.affine import check_finite
from lmcore.compress.replace import chosen
from lmcore.nn.multihead import MultiHeadAttention

See = Callable[[str, Tensor], None]


def call(model: Module, batch: Any) -> None:
    """Give a model a batch: a tuple or list as its arguments, a dict by their names, anything else alone."""
    if isinstance(batch, Mapping):
        model(**batch)
    elif isinstance(batch, tuple | list):
        model(*batch)
    else:
        model(batch)


def _watch(name: str, module: Module, see: See) -> Callable[[], None]:
    """Show a layer's inputs from now on, until the function that is returned is called."""

    def show(x: Tensor) -> None:
        if x.numel():
            see(name, x.detach().flatten(0, -2) if x.ndim > 1 else x.detach()[None])

    if not isinstance(module, MultiHeadAttention):
        return module.register_forward_pre_hook(lambda _, inputs: show(inputs[0])).remove
    project = module._project

    def shown(x: Tensor, rows: slice) -> Tensor:
        show(x)
        return project(x, rows)

    module._project = shown  # stands before the class's method, until it is taken away
    return partial(module.__dict__.pop, "_project")


@torch.no_grad()
def see_inputs(model: Module, batches: Iterable[Any], see: See, *, names: Iterable[str] | None = None) -> None:
    """Let a model read batches, and show the inputs of its matrices to a function.

    Args:
        model: is evaluated, without dropout; it is left in the mode in which it was.
        batches: each a tensor, a tuple of arguments, or a dict of arguments by name.
        see: gets the name of a matrix and its inputs (N, in), for each call of its layer. Padding is not left out.
        names: of `matrices(model)`; None for all but tied ones.
    Raises:
        ValueError: no batches, or names as `replace`.
    Cost: a forward pass for each batch, and what `see` costs.
    """
    was_training = [module for module in model.modules() if module.training]
    matrices, count = chosen(model, names), 0
    with ExitStack() as stack:
        for name, matrix in matrices.items():
            stack.callback(_watch(name, matrix.module, see))
        model.eval()
        try:
            for batch in batches:
                call(model, batch)
                count += 1
        finally:
            for module in was_training:
                module.training = True
    if count == 0:
        raise ValueError("batches is empty: there is nothing for the model to read")


@dataclass(kw_only=True)
class InputStatistics:
    """What `record_inputs` finds for one matrix with inputs (in,).

    Attributes:
        count: how many vectors came.   low, high: smallest and largest number of all.
        largest: (in,) the largest |x| of each channel.   mean: (in,) the mean |x|, float32.
        gram: (in, in) the sum of x xᵀ over the vectors, float32, or None.
    """

    count: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    largest: Tensor | None = None
    mean: Tensor | None = None
    gram: Tensor | None = None

    def add(self, x: Tensor, *, gram: bool) -> None:
        """Count more vectors (N, in)."""
        check_finite(x)
        x, self.count = x.float(), self.count + len(x)
        self.low, self.high = min(self.low, x.min().item()), max(self.high, x.max().item())
        largest, mean = x.abs().amax(0), x.abs().mean(0)
        if self.mean is None:
            self.largest, self.mean = largest, mean
        else:
            self.largest = torch.maximum(self.largest, largest)
            self.mean = self.mean + (mean - self.mean) * (len(x) / self.count)
        if gram:
            self.gram = x.T @ x if self.gram is None else torch.addmm(self.gram, x.T, x)


def record_inputs(
    model: Module, batches: Iterable[Any], *, names: Iterable[str] | None = None, gram: bool = False
) -> dict[str, InputStatistics]:
    """Statistics of what comes into the matrices of a model, for methods that weigh rounding errors by it.

    Args:
        model, batches, names: see `see_inputs`.
        gram: whether the Gram matrices are summed up.
    Returns:
        By the matrices' names; a matrix that no batch has reached is missing. Cross-attention's in_proj counts the
        decoder's vectors, which meet the rows of queries, and the encoder's, which meet those of keys and values.
    Raises:
        ValueError: as `see_inputs`, or inputs that are not finite.
    Cost: a forward pass for each batch; with gram, N · in² multiplications and 4 in² bytes for each matrix more.

    >>> found = record_inputs(torch.nn.Linear(2, 1), [torch.tensor([[1.0, -2.0], [3.0, 0.0]])], gram=True)
    >>> found[""].count, found[""].largest.tolist(), found[""].mean.tolist(), found[""].gram.tolist()
    (2, [3.0, 2.0], [2.0, 1.0], [[10.0, -2.0], [-2.0, 4.0]])
    """
    found: dict[str, InputStatistics] = {}

    def see(name: str, x: Tensor) -> None:
        found.setdefault(name, InputStatistics()).add(x, gram=gram)

    see_inputs(model, batches, see, names=names)
    return found
