"""Recurrent cells, gate by gate: one step of the RNN, the LSTM and the GRU, to be read next to their formulas.

A cell turns the input x at one step and the state after the step before into the state after this one. Each weight
matrix holds the rows of all gates, one block below the other; parameters are named, shaped and ordered as torch's, so
that a state dict of one loads into the other. `lmcore.nn.recurrent` runs the same formulas over whole sequences, fast.
"""

import math

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from lmcore.nn import init
from lmcore.sizes import check_sizes

NONLINEARITIES = {"tanh": torch.tanh, "relu": torch.relu}


def check_nonlinearity(nonlinearity: str) -> None:
    """Refuse a nonlinearity that the plain RNN does not have."""
    if nonlinearity not in NONLINEARITIES:
        raise ValueError(f"nonlinearity must be one of {', '.join(NONLINEARITIES)}, got {nonlinearity!r}")


class _Cell(Module):
    """What the cells share: two maps, of the input and of the state, with a block of rows for each gate."""

    gates: int  # blocks of rows

    def __init__(
        self, input_size: int, hidden_size: int, *, bias: bool = True, generator: torch.Generator | None = None
    ):
        super().__init__()
        check_sizes(input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = self.gates * hidden_size
        self.weight_ih = Parameter(torch.empty(rows, input_size))
        self.weight_hh = Parameter(torch.empty(rows, hidden_size))
        self.register_parameter("bias_ih", Parameter(torch.empty(rows)) if bias else None)
        self.register_parameter("bias_hh", Parameter(torch.empty(rows)) if bias else None)
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the parameters anew, evenly from ±1 / √hidden_size."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, low=-bound, high=bound, generator=generator)

    def _parts(self, x: Tensor, h: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """What the input, and what the state, says to each gate: twice `gates` tensors (B, hidden_size)."""
        from_input = torch.nn.functional.linear(x, self.weight_ih, self.bias_ih)  # (B, gates · hidden_size)
        from_state = torch.nn.functional.linear(h, self.weight_hh, self.bias_hh)
        return from_input.chunk(self.gates, dim=1), from_state.chunk(self.gates, dim=1)

    def _checked(self, x: Tensor, h: Tensor | None, name: str = "h") -> Tensor:
        """Return the state, zeros if it is None, or say what does not fit."""
        if x.ndim != 2 or x.shape[1] != self.input_size:
            raise ValueError(f"x has shape {tuple(x.shape)}, must be (B, {self.input_size})")
        expected = (len(x), self.hidden_size)
        if h is None:
            return x.new_zeros(expected)
        if h.shape != expected:
            raise ValueError(f"{name} has shape {tuple(h.shape)}, must be {expected}: a row for each row of x")
        return h

    def extra_repr(self) -> str:
        """What stands between the brackets of the repr."""
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(_Cell):
    """One step of the plain recurrent network, h′ = tanh(W x + b + U h + c).

    Args:
        input_size, hidden_size: lengths of x and of h.
        nonlinearity: "tanh" or "relu".
        bias: whether b and c are there.
        generator: draws the first parameters; torch's global one if None.
    Attributes:
        weight_ih: W, (hidden_size, input_size).   weight_hh: U, (hidden_size, hidden_size).   bias_ih: b.   bias_hh: c.
    Raises:
        ValueError: a size below 1, another nonlinearity, or in `forward` shapes that do not fit.
    Differs: b and c could be one; there are two so that torch's parameters fit.

    >>> cell = RNNCell(1, 1, nonlinearity="relu", bias=False)
    >>> _ = cell.load_state_dict({"weight_ih": torch.tensor([[2.0]]), "weight_hh": torch.tensor([[3.0]])})
    >>> cell(torch.tensor([[5.0]]), torch.tensor([[7.0]]))   # 2 · 5 + 3 · 7
    tensor([[31.]], grad_fn=<ReluBackward0>)
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        nonlinearity: str = "tanh",
        bias: bool = True,
        generator: torch.Generator | None = None,
    ):
        check_nonlinearity(nonlinearity)
        super().__init__(input_size, hidden_size, bias=bias, generator=generator)
        self.nonlinearity = nonlinearity

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """x: (B, input_size), h: (B, hidden_size), zeros if None → (B, hidden_size)."""
        (from_input,), (from_state,) = self._parts(x, self._checked(x, h))
        return NONLINEARITIES[self.nonlinearity](from_input + from_state)


class LSTMCell(_Cell):
    """One step of the LSTM: a cell c that is kept and added to, and a state h that shows a part of it.

        i = σ(…)   f = σ(…)   g = tanh(…)   o = σ(…)        … = W x + b + U h + c₀ with the gate's own rows
        c′ = f ⊙ c + i ⊙ g                                   forget some of the old, add some of the new
        h′ = o ⊙ tanh(c′)

    Args:
        input_size, hidden_size: lengths of x, and of h and c.
        bias: whether the maps have constants.
        generator: draws the first parameters; torch's global one if None.
    Attributes:
        weight_ih: (4 · hidden_size, input_size), the rows of i, f, g, o.   weight_hh: (4 · hidden_size, hidden_size).
        bias_ih, bias_hh: (4 · hidden_size,), or None.
    Raises:
        ValueError: a size below 1, or in `forward` shapes that do not fit.
    Source: Hochreiter and Schmidhuber 1997; the forget gate f: Gers, Schmidhuber and Cummins 2000.
    Differs: no connections from c to the gates ("peepholes"), as in torch.

    >>> cell = LSTMCell(1, 1)
    >>> zeros = {name: torch.zeros_like(value) for name, value in cell.state_dict().items()}
    >>> _ = cell.load_state_dict(zeros)                              # every σ is ½, and g is 0
    >>> h, c = cell(torch.ones(1, 1), (torch.zeros(1, 1), torch.tensor([[2.0]])))
    >>> c.item(), round(h.item(), 4) == round(math.tanh(1) / 2, 4)   # ½ · 2 + ½ · 0
    (1.0, True)
    """

    gates = 4

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """x: (B, input_size), state: h and c, (B, hidden_size) each, zeros if None → the new h and c."""
        h, c = (None, None) if state is None else state
        h, c = self._checked(x, h), self._checked(x, c, "c")
        (xi, xf, xg, xo), (hi, hf, hg, ho) = self._parts(x, h)
        i = torch.sigmoid(xi + hi)  # how much of the new goes in
        f = torch.sigmoid(xf + hf)  # how much of the old stays
        g = torch.tanh(xg + hg)  # the new
        o = torch.sigmoid(xo + ho)  # how much is shown
        c = f * c + i * g
        return o * torch.tanh(c), c


class GRUCell(_Cell):
    """One step of the GRU: the new state is a mixture of the old one and a candidate n, unit by unit.

        r = σ(W x + b + U h + c)   z = σ(…)                  … with the gate's own rows
        n = tanh(Wₙ x + bₙ + r ⊙ (Uₙ h + cₙ))                r = 0: as if there were no past
        h′ = (1 − z) ⊙ n + z ⊙ h                             z = 1: nothing changes

    Args, Raises: as `LSTMCell`.
    Attributes:
        weight_ih: (3 · hidden_size, input_size), the rows of r, z, n.   weight_hh: (3 · hidden_size, hidden_size).
        bias_ih, bias_hh: (3 · hidden_size,), or None.
    Source: Cho et al. 2014.
    Differs: in the paper r multiplies h, before the matrix: Uₙ (r ⊙ h). As torch and cuDNN, this multiplies Uₙ h + cₙ,
        so that one product with h serves all gates; with the same weights the numbers are not the same.

    >>> cell = GRUCell(1, 1)
    >>> zeros = {name: torch.zeros_like(value) for name, value in cell.state_dict().items()}
    >>> _ = cell.load_state_dict(zeros)
    >>> cell(torch.ones(1, 1), torch.tensor([[2.0]])).item()   # ½ · tanh 0 + ½ · 2
    1.0
    """

    gates = 3

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """x: (B, input_size), h: (B, hidden_size), zeros if None → (B, hidden_size)."""
        h = self._checked(x, h)
        (xr, xz, xn), (hr, hz, hn) = self._parts(x, h)
        r = torch.sigmoid(xr + hr)  # how much of the past the candidate sees
        z = torch.sigmoid(xz + hz)  # how much of the past stays
        n = torch.tanh(xn + r * hn)  # the candidate
        return (1 - z) * n + z * h
