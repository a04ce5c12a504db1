"""Quantise a whole model: find its matrices, and put other layers in their places."""

import copy
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Module

from lmcore.compress.affine import Scheme, quantize
from lmcore.compress.attention import CompressedAttention
from lmcore.compress.linear import QuantizedLinear
from lmcore.nn.layers import Embedding, Linear
from lmcore.nn.multihead import MultiHeadAttention
from lmcore.nn.positional import LearnedPositions

Make = Callable[[str, Tensor, Tensor | None], Module | None]

_LINEAR = (torch.nn.Linear, Linear)
_TABLES = (torch.nn.Embedding, torch.nn.EmbeddingBag, Embedding, LearnedPositions)  # looked up, not multiplied


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A weight that multiplies activations.

    Attributes:
        module: the linear layer, or the `MultiHeadAttention` with the packed projection.
        weight: (out, in).   bias: (out,), or None.
        tied: whether the weight stands in another layer, too, as the embedding's table does in a GPT's output.
    """

    module: Module
    weight: Tensor
    bias: Tensor | None
    tied: bool


def matrices(model: Module) -> dict[str, Matrix]:
    """The weights of a model that another layer can take the place of.

    Args:
        model: of any kind; torch.nn.Linear, `lmcore.nn.layers.Linear` and `MultiHeadAttention` are found in it.
    Returns:
        By name, in the model's order: the dotted name of a linear layer, "….in_proj" for the packed queries, keys and
        values. A layer that stands in several places has the first one's name.

    >>> list(matrices(torch.nn.Sequential(torch.nn.Linear(2, 3), MultiHeadAttention(6, 2))))
    ['0', '1.in_proj', '1.out_proj']
    """
    counts = Counter(id(p) for module in model.modules() for p in module._parameters.values() if p is not None)
    encoder_layers = [m for m in model.modules() if isinstance(m, torch.nn.TransformerEncoderLayer)]
    taken = {id(child) for layer in encoder_layers for child in layer.children()}  # it reads their weights itself
    found = {}
    for name, module in model.named_modules():
        if type(module) in _LINEAR and id(module) not in taken:
            weight, bias = module.weight, module.bias
        elif type(module) is MultiHeadAttention:
            name, weight, bias = f"{name}.in_proj".lstrip("."), module.in_proj_weight, module.in_proj_bias
        else:
            continue
        found[name] = Matrix(module=module, weight=weight, bias=bias, tied=counts[id(weight)] > 1)
    return found


def irreplaceable(model: Module) -> dict[str, str]:
    """The matrices that no layer can take the place of, for theirs reads them in its own way.

    Returns:
        By the parameter's name, the kind of layer that has it. Tables of embeddings are not matrices in this sense, and
        neither is what shares its numbers with one.

    >>> irreplaceable(torch.nn.LSTM(2, 3))
    {'weight_ih_l0': 'LSTM', 'weight_hh_l0': 'LSTM'}
    """
    known = {id(matrix.weight) for matrix in matrices(model).values()}
    known |= {id(p) for module in model.modules() if isinstance(module, _TABLES) for p in module.parameters()}
    return {
        f"{name}.{own}".lstrip("."): type(module).__name__
        for name, module in model.named_modules()
        for own, p in module.named_parameters(recurse=False)
        if p.ndim >= 2 and id(p) not in known
    }


def chosen(model: Module, names: Iterable[str] | None) -> dict[str, Matrix]:
    """The matrices of these names; all that are not tied, if names is None, with a warning if there are others.

    Raises:
        ValueError: a name that is none of the model's matrices, or a model without any.
        TypeError: names is a single string.
    """
    found = matrices(model)
    if names is None:
        others = irreplaceable(model)
        if others:
            listed = ", ".join(f"{name} ({kind})" for name, kind in others.items())
            warnings.warn(f"{len(others)} matrices stay as they are, their layers read them: {listed}", stacklevel=3)
        names = [name for name, matrix in found.items() if not matrix.tied]
        if not names:
            raise ValueError(f"{type(model).__name__} has no linear layer whose weight is its own: nothing to replace")
    if isinstance(names, str):
        raise TypeError(f"names must be several names, got the string {names!r}")
    names = list(names)
    unknown = [name for name in names if name not in found]
    if unknown:
        raise ValueError(f"{', '.join(map(repr, unknown))} are no matrices of the model, which has {', '.join(found)}")
    return {name: found[name] for name in names}


def _made(name: str, matrix: Matrix, make: Make) -> Module | None:
    """The new layer; what it complains about is said with the name."""
    try:
        return make(name, matrix.weight.detach(), None if matrix.bias is None else matrix.bias.detach())
    except (TypeError, ValueError) as error:
        if type(error) not in (TypeError, ValueError):
            raise
        raise type(error)(f"{name}: {error}") from error


def replace(model: Module, make: Make, *, names: Iterable[str] | None = None) -> Module:
    """A copy of a model in which other layers stand in the places of linear ones.

    Args:
        model: is not changed.
        make: gets the name of a matrix, its weight (out, in) and bias (out,) or None, and returns a layer with
            `forward(x, rows=slice(None))`, such as a `CompressedLinear`, or None: this one is to stay as it is.
        names: of `matrices(model)`; None for all of them but tied ones.
    Returns:
        The copy, in the same mode, training or not.
    Raises:
        ValueError: names as `chosen`; what make raises is raised again with the name of the matrix before it.
    Warns:
        UserWarning: with names=None, matrices that cannot be replaced, each by name.
    Cost: memory for the new layers, and a copy of all that is not replaced.

    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    >>> replace(model, lambda name, weight, bias: torch.nn.Identity(), names=["2"])
    Sequential(
      (0): Linear(in_features=2, out_features=3, bias=True)
      (1): ReLU()
      (2): Identity()
    )
    """
    new = {name: (matrix, _made(name, matrix, make)) for name, matrix in chosen(model, names).items()}
    memo: dict[int, object] = {}  # what deepcopy puts for an object, wherever it meets it, in place of a copy
    projections = []
    for matrix, layer in new.values():
        if layer is None:
            continue
        layer.train(matrix.module.training)
        if isinstance(matrix.module, MultiHeadAttention):
            projections.append((matrix.module, layer))
            if not matrix.tied:
                memo |= {id(matrix.weight): None, id(matrix.bias): None}
        else:
            memo[id(matrix.module)] = layer
    result = copy.deepcopy(model, memo)
    for attention, layer in projections:
        CompressedAttention.with_projection(memo[id(attention)], layer)
    return result


def quantize_weights(model: Module, scheme: Scheme, *, names: Iterable[str] | None = None) -> Module:
    """A copy of a model whose matrices are rounded to nearest; activations stay in floating point.

    Args, raises, warns: see `replace` and `lmcore.compress.affine.quantize`.

    >>> quantize_weights(torch.nn.Sequential(torch.nn.Linear(4, 3)), Scheme(bits=4))
    Sequential(
      (0): QuantizedLinear(in_features=4, out_features=3, bias=True, 4 bits, symmetric per row)
    )
    """
    return replace(model, lambda _, weight, bias: QuantizedLinear(quantize(weight, scheme), bias), names=names)


def quantize_dynamic(
    model: Module,
    *,
    scheme: Scheme | None = None,
    activations: Scheme | None = None,
    names: Iterable[str] | None = None,
) -> Module:
    """A copy of a model that multiplies whole numbers: weights are rounded now, activations at each call.

    Args:
        scheme: of the weights, 8 bits per row if None.   activations: likewise, per token.
        model, names, raises, warns: see `replace` and `QuantizedLinear`.

    >>> quantize_dynamic(torch.nn.Sequential(torch.nn.Linear(4, 3)))
    Sequential(
      (0): QuantizedLinear(in_features=4, out_features=3, bias=True, 8 bits, symmetric per row, dynamic 8-bit inputs)
    )
    """
    scheme, activations = scheme or Scheme(), activations or Scheme()

    def make(_: str, weight: Tensor, bias: Tensor | None) -> Module:
        return QuantizedLinear(quantize(weight, scheme), bias, activations=activations)

    return replace(model, make, names=names)


def stored_bytes(model: Module) -> int:
    """Bytes of all that a model's state_dict holds, each tensor counted once.

    >>> stored_bytes(torch.nn.Linear(4, 3)), stored_bytes(quantize_weights(torch.nn.Linear(4, 3), Scheme(bits=4)))
    (60, 30)
    """
    tensors = {id(tensor): tensor for tensor in model.state_dict(keep_vars=True).values()}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
