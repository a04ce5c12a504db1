"""Layers with parameters: linear, embedding, dropout, activation, and the multilayer perceptron made of them.

Parameters are named and shaped as torch's, so that a state dict of one loads into the other.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from lmcore.nn import functional, init
from lmcore.nn.activations import ACTIVATIONS
from lmcore.sizes import check_sizes


class Linear(Module):
    """An affine map x Wᵀ + b of the last axis.

    Args:
        in_features, out_features: lengths of the last axis before and after.
        bias: whether b is added.
        generator: draws the first parameters; torch's global one if None.
    Attributes:
        weight: (out_features, in_features).   bias: (out_features,), or None.
    Raises:
        ValueError: a size below 1, or in `forward` an x that does not end in in_features.

    All parameters are first drawn evenly from ±1 / √in_features, as in torch: a third of the variance that keeps the
    size of signals, see `lmcore.nn.init`.

    >>> layer = Linear(3, 2)
    >>> _ = layer.load_state_dict({"weight": torch.tensor([[1.0, 0, 0], [0, 2, 0]]), "bias": torch.tensor([0.0, 1])})
    >>> layer(torch.tensor([5.0, 7.0, 11.0])).tolist()
    [5.0, 15.0]
    """

    def __init__(
        self, in_features: int, out_features: int, *, bias: bool = True, generator: torch.Generator | None = None
    ):
        super().__init__()
        check_sizes(in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(torch.empty(out_features, in_features))
        self.register_parameter("bias", Parameter(torch.empty(out_features)) if bias else None)
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the parameters anew."""
        bound = 1 / math.sqrt(self.in_features)
        for parameter in self.parameters():
            init.uniform_(parameter, low=-bound, high=bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features) → (…, out_features)."""
        if x.shape[-1:] != (self.in_features,):
            raise ValueError(f"x has shape {tuple(x.shape)}, but must end in in_features = {self.in_features}")
        return torch.nn.functional.linear(x, self.weight, self.bias)  # x @ weight.T + bias in one pass

    def extra_repr(self) -> str:
        """What stands between the brackets of the repr."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Embedding(Module):
    """A table of vectors: the row of an id is what a one-hot row times the table would give.

    Args:
        num_embeddings: how many ids there are, 0 … num_embeddings − 1.   embedding_dim: length of a vector.
        generator: draws the first vectors; torch's global one if None.
    Attributes:
        weight: (num_embeddings, embedding_dim), first drawn from the standard normal distribution, as in torch.
    Raises:
        ValueError: a size below 1, or in `forward` an id outside the table or of a type that is no whole number.

    >>> table = Embedding(5, 3)
    >>> one_hot = torch.tensor([[0.0, 0.0, 0.0, 1.0, 0.0]])
    >>> torch.equal(table(torch.tensor([3])), one_hot @ table.weight)
    True
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, *, generator: torch.Generator | None = None):
        super().__init__()
        check_sizes(num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.weight = Parameter(torch.empty(num_embeddings, embedding_dim))
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the vectors anew."""
        init.normal_(self.weight, generator=generator)

    def forward(self, ids: Tensor) -> Tensor:
        """(…) whole numbers → (…, embedding_dim)."""
        if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
            raise ValueError(f"ids must be whole numbers, got {ids.dtype}")
        wrong = (ids < 0) | (ids >= self.num_embeddings)
        if wrong.any():
            where = tuple(wrong.nonzero()[0].tolist())
            raise ValueError(
                f"id {ids[where]} at {list(where)} is outside 0 … {self.num_embeddings - 1}: "
                f"the vocabulary has {self.num_embeddings} ids"
            )
        return torch.nn.functional.embedding(ids.long(), self.weight)  # weight[ids], with a faster way back

    def extra_repr(self) -> str:
        """What stands between the brackets of the repr."""
        return f"num_embeddings={self.num_embeddings}, embedding_dim={self.embedding_dim}"


class Dropout(Module):
    """In training, set each number to zero with probability p and divide the others by 1 − p; else do nothing.

    Args:
        p: in [0, 1).   generator: the source of randomness, on the device of the numbers; torch's global one if None.
    Raises:
        ValueError: p outside [0, 1).

    >>> Dropout(0.5).eval()(torch.ones(3))
    tensor([1., 1., 1.])
    """

    def __init__(self, p: float, *, generator: torch.Generator | None = None):
        super().__init__()
        functional.dropout(torch.empty(0), p)  # refuses a wrong p now, not at the first step
        self.p, self.generator = p, generator

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return functional.dropout(x, self.p, generator=self.generator) if self.training else x

    def extra_repr(self) -> str:
        """What stands between the brackets of the repr."""
        return f"p={self.p}"


class Activation(Module):
    """A function of `lmcore.nn.activations` as a layer.

    Args:
        name: "sigmoid", "tanh", "relu", "leaky_relu", "gelu", "silu" or "softplus".
    Raises:
        ValueError: another name.

    >>> Activation("relu")(torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    def __init__(self, name: str):
        super().__init__()
        if name not in ACTIVATIONS:
            raise ValueError(f"name must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return ACTIVATIONS[self.name](x)

    def extra_repr(self) -> str:
        """What stands between the brackets of the repr."""
        return self.name


class MLP(torch.nn.Sequential):
    """Multilayer perceptron: linear layers with an activation, and perhaps dropout, after each but the last.

    Args:
        sizes: lengths of the last axis: of the input, of each hidden layer, of the output; at least two.
        activation: see `Activation`.
        dropout: see `Dropout`; there is no such layer if it is 0.
        generator: draws the first parameters, and what dropout drops; torch's global one if None.
    Raises:
        ValueError: fewer than two sizes, or as the layers.

    >>> MLP([7, 5, 3])
    MLP(
      (0): Linear(in_features=7, out_features=5, bias=True)
      (1): Activation(relu)
      (2): Linear(in_features=5, out_features=3, bias=True)
    )
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: str = "relu",
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ):
        if len(sizes) < 2:
            raise ValueError(f"sizes must name an input and an output at least, got {list(sizes)}")
        layers: list[Module] = []
        for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [Linear(n_in, n_out, generator=generator), Activation(activation)]
            if dropout:
                layers.append(Dropout(dropout, generator=generator))
        super().__init__(*layers[: -1 - bool(dropout)])

    def __getitem__(self, index: int | slice) -> Module:
        """One layer, or some of them in a stack of their own, which share their parameters with this one."""
        return torch.nn.Sequential(*list(self)[index]) if isinstance(index, slice) else super().__getitem__(index)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the parameters of all layers anew."""
        for layer in self:
            if isinstance(layer, Linear):
                layer.reset_parameters(generator)
