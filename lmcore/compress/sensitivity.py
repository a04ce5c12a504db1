"""How much it hurts to round one matrix, all others left alone.

Two answers. The loss on a text says what is wanted, and costs a pass through the model for each matrix and each way of
rounding. The error of a matrix's own products needs only the Gram matrices of a single pass; it does not know what the
rest of the model makes of that error.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import Module

from lmcore.compress.gptq import output_error
from lmcore.compress.replace import chosen

Approximate = Callable[[str, Tensor], Tensor]  # from a matrix's name and weight to what is to stand for it
Damages = dict[str, dict[int, float]]  # by matrix and by number of bits


@contextmanager
def weight_replaced(weight: Tensor, other: Tensor) -> Iterator[None]:
    """Let a parameter hold other numbers, until the block ends, also if it ends with an error.

    >>> weight = torch.nn.Parameter(torch.zeros(2))
    >>> with weight_replaced(weight, torch.ones(2)):
    ...     print(weight.tolist())
    [1.0, 1.0]
    >>> weight.tolist()
    [0.0, 0.0]
    """
    kept = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.copy_(other)
        yield
    finally:
        with torch.no_grad():
            weight.copy_(kept)


def loss_sensitivity(
    model: Module,
    measure: Callable[[Module], float],
    ways: Mapping[int, Approximate],
    *,
    names: Iterable[str] | None = None,
) -> Damages:
    """By how much the loss rises when one matrix is rounded.

    Args:
        model: each matrix is changed in its turn, and changed back.
        measure: from a model to the loss on some text, the same at each call.
        ways: for numbers of bits, what a matrix of so many bits becomes.
        names: of `lmcore.compress.replace.matrices(model)`; None for all of them but tied ones.
    Returns:
        {name: {bits: loss with it rounded − loss without}}. It can be below 0: what differs by less than another text
        would differ says nothing.
    Raises:
        ValueError: unknown names.
    Cost: one call of measure for each matrix and number of bits, and one more.

    >>> model = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False))
    >>> _ = [part.weight.data.fill_(value) for part, value in zip(model, (3.0, 0.5))]
    >>> def loss(model):                                    # 3 · 0.5 = 1.5 is the right product
    ...     return abs(1.5 - model(torch.ones(1, 1)).item())
    >>> loss_sensitivity(model, loss, {2: lambda name, weight: weight + 1})
    {'0': {2: 0.5}, '1': {2: 3.0}}
    """
    matrices = chosen(model, names)
    before = measure(model)
    found: Damages = {}
    for name, matrix in matrices.items():
        found[name] = {}
        for bits, approximate in ways.items():
            with weight_replaced(matrix.weight, approximate(name, matrix.weight.detach())):
                found[name][bits] = measure(model) - before
    return found


def output_sensitivity(
    model: Module,
    grams: Mapping[str, Tensor],
    ways: Mapping[int, Approximate],
) -> Damages:
    """How large the error of each matrix's own products becomes, as a share of the products.

    Args:
        model: is not changed.   grams: of the inputs of the matrices that are asked for, by name.
        ways: see `loss_sensitivity`.
    Returns:
        {name: {bits: `output_error`}}.
    Raises:
        ValueError: unknown names.
    Cost: O(R C²) for each matrix and number of bits.

    >>> layer = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False))
    >>> output_sensitivity(layer, {"0": torch.eye(2)}, {2: lambda name, weight: 0.5 * weight})
    {'0': {2: 0.25}}
    """
    weights = {name: matrix.weight.detach() for name, matrix in chosen(model, grams).items()}
    return {
        name: {bits: output_error(weight, approximate(name, weight), grams[name]) for bits, approximate in ways.items()}
        for name, weight in weights.items()
    }
