"""RNN, LSTM and GRU over whole sequences: stacked, in one or both directions, with padding, states in and states out.

Sequences are batch-first, (B, T, d), as everywhere in this book: a layer can then be exchanged for attention, which has
no steps to be ordered by. (torch's default is time-first.) Parameters are named, shaped and ordered as torch's, so that
a state dict of `torch.nn.LSTM` loads into `LSTM` and back. The formulas of one step are in `lmcore.nn.recurrent_cells`.

A run of one layer in one direction exists twice. In steps: one product for the inputs of all steps, which do not wait
for each other, and then a loop with few operations. Fused: torch's kernel, which does the loop without Python. A test
holds both equal.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch.nn.functional import linear

from lmcore.nn import init
from lmcore.nn.layers import Dropout
from lmcore.nn.ragged import layout
from lmcore.nn.recurrent_cells import NONLINEARITIES, check_nonlinearity
from lmcore.sizes import check_sizes

Rows = tuple[Tensor, ...]  # a state as one or two tensors (rows, hidden_size)
State = Tensor | tuple[Tensor, Tensor]


class _Recurrent(Module):
    """What the three layers share: everything but one step. The arguments are described at `LSTM`."""

    gates: int  # blocks of rows in each matrix
    state_names: tuple[str, ...] = ("h",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        bias: bool = True,
        fused: bool = True,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        check_sizes(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        if dropout and num_layers == 1:
            raise ValueError(f"dropout {dropout} acts between layers, but num_layers is 1")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bidirectional, self.bias, self.fused = bidirectional, bias, fused
        self.dropout = Dropout(dropout, generator=generator)
        self._suffixes = ["", "_reverse"][: 1 + bidirectional]
        rows = self.gates * hidden_size
        for layer in range(num_layers):
            columns = hidden_size * len(self._suffixes) if layer else input_size
            shapes = {"weight_ih": (rows, columns), "weight_hh": (rows, hidden_size)}
            if bias:
                shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
            for suffix in self._suffixes:
                for name, shape in shapes.items():
                    self.register_parameter(f"{name}_l{layer}{suffix}", Parameter(torch.empty(shape)))
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the parameters anew."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, low=-bound, high=bound, generator=generator)

    def weights(self, layer: int, suffix: str = "") -> list[Tensor]:
        """W, U and, with bias, b and c of a layer in one direction; suffix "_reverse" is the backward one."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 4 if self.bias else 2]
        return [getattr(self, f"{name}_l{layer}{suffix}") for name in names]

    def forward(
        self, x: Tensor, state: State | None = None, *, lengths: Tensor | Sequence[int] | None = None
    ) -> tuple[Tensor, State]:
        """Run over a batch of sequences.

        Args:
            x: (B, T, input_size).
            state: before the first step, (num_layers · directions, B, hidden_size), layer after layer, forward before
                backward; for an LSTM h and c, both of this shape. Zeros if None.
            lengths: (B,) how many steps of each sequence are real; what stands beyond is never looked at. None: all.
        Returns:
            The h of the last layer after each step, (B, T, directions · hidden_size), zero beyond a sequence's end; and
            the state after each sequence's last real step (backward: its first), in the shape of `state`.
        Raises:
            ValueError: shapes that do not fit, or an empty sequence.
        Cost: O(T · B · gates · hidden_size · (input_size + hidden_size)) time per layer and direction; the T steps wait
            for each other.
        """
        if x.ndim != 3 or x.shape[2] != self.input_size:
            raise ValueError(f"x has shape {tuple(x.shape)}, must be (B, T, {self.input_size})")
        packing = layout(x, lengths)
        starts = [packing.sort(part) for part in self._checked_state(state, x)]
        run = self._run_fused if self.fused else self._run_in_steps
        rows, ends = packing.pack(x), []
        for layer in range(self.num_layers):
            outputs = []
            for suffix in self._suffixes:
                start = tuple(part[len(ends)] for part in starts)
                arranged = packing.mirrored(rows) if suffix else rows
                output, end = run(arranged, packing.sizes, start, self.weights(layer, suffix))
                outputs.append(packing.mirrored(output) if suffix else output)
                ends.append(end)
            rows = torch.cat(outputs, dim=1) if self.bidirectional else output
            if self.dropout.p and layer < self.num_layers - 1:
                rows = self.dropout(rows)
        final = tuple(packing.unsort(torch.stack(parts)) for parts in zip(*ends, strict=True))
        return packing.unpack(rows), final if len(final) > 1 else final[0]

    def _checked_state(self, state: State | None, x: Tensor) -> Rows:
        """Return the parts of the state, zeros if it is None, or say what does not fit."""
        shape = (self.num_layers * len(self._suffixes), len(x), self.hidden_size)
        if state is None:
            return (x.new_zeros(shape),) * len(self.state_names)
        parts = (state,) if isinstance(state, Tensor) else tuple(state)
        names = " and ".join(self.state_names)
        if len(parts) != len(self.state_names):
            raise ValueError(f"state must be {names}, got {len(parts)} tensor{'s' * (len(parts) != 1)}")
        for name, part in zip(self.state_names, parts, strict=True):
            if part.shape != shape:
                what = "(num_layers · directions, B, hidden_size)"
                raise ValueError(f"{name} of the state has shape {tuple(part.shape)}, must be {shape}: {what}")
        return parts

    def _run_in_steps(self, rows: Tensor, sizes: list[int], state: Rows, weights: list[Tensor]) -> tuple[Tensor, Rows]:
        """One layer in one direction: the outputs, packed as the rows are, and the states at the sequences' ends."""
        w, u, *biases = weights
        ut, (b, c) = u.t(), biases or (None, None)
        outputs, ended = [], []
        for from_input in self._project(rows, w, b, c).split(sizes):  # one product for all steps
            n = len(from_input)
            if n < len(state[0]):  # the shortest sequences have ended: they are the last ones
                ended.append([part[n:] for part in state])
                state = tuple(part[:n] for part in state)
            state = self._step(from_input, state, ut, c)
            outputs.append(state[0])
        ended.append(state)
        return torch.cat(outputs), tuple(torch.cat(parts) for parts in zip(*reversed(ended), strict=True))

    def _run_fused(self, rows: Tensor, sizes: list[int], state: Rows, weights: list[Tensor]) -> tuple[Tensor, Rows]:
        """Do the same by torch's kernel."""
        start = tuple(part[None] for part in state)
        start = start if len(start) > 1 else start[0]
        options = (weights, self.bias, 1, 0.0, torch.is_grad_enabled(), False)  # 1 layer, no dropout, 1 direction
        if sizes[-1] == sizes[0]:
            by_step = rows.view(len(sizes), sizes[0], -1)
            output, *end = self._kernel(by_step, start, *options, False)  # not batch-first
            output = output.flatten(0, 1)
        else:
            output, *end = self._kernel(rows, torch.tensor(sizes), start, *options)
        return output, tuple(part[0] for part in end)

    def _project(self, rows: Tensor, w: Tensor, b: Tensor | None, c: Tensor | None) -> Tensor:
        """What does not depend on the state, of all steps at once."""
        return linear(rows, w, None if b is None else b + c)

    def extra_repr(self) -> str:
        """What stands between the brackets of the repr."""
        names = ("num_layers", "bidirectional", "bias", "fused")
        return f"{self.input_size}, {self.hidden_size}, " + ", ".join(f"{name}={getattr(self, name)}" for name in names)


class RNN(_Recurrent):
    """Plain recurrent network, h ← tanh(W x + b + U h + c).

    Args:
        nonlinearity: "tanh" or "relu".   The others: as `LSTM`.
    Attributes, Raises: as `LSTM`; the state is one tensor h.

    >>> outputs, h = RNN(3, 5)(torch.zeros(2, 7, 3))
    >>> outputs.shape, h.shape
    (torch.Size([2, 7, 5]), torch.Size([1, 2, 5]))
    """

    gates = 1

    def __init__(self, input_size: int, hidden_size: int, *, nonlinearity: str = "tanh", **options: object):
        check_nonlinearity(nonlinearity)
        super().__init__(input_size, hidden_size, **options)
        self.nonlinearity = nonlinearity
        self._kernel = {"tanh": torch.rnn_tanh, "relu": torch.rnn_relu}[nonlinearity]

    def _step(self, from_input: Tensor, state: Rows, ut: Tensor, c: Tensor | None) -> Rows:
        return (NONLINEARITIES[self.nonlinearity](torch.addmm(from_input, state[0], ut)),)


class LSTM(_Recurrent):
    """Long short-term memory, see `lmcore.nn.recurrent_cells.LSTMCell`.

    Args:
        input_size, hidden_size: length of the vectors that go in, and of a state.
        num_layers: the outputs of a layer are the inputs of the next.
        bidirectional: a second network reads from each sequence's end to its beginning; the outputs of both are joined.
        dropout: in [0, 1), on what goes from a layer to the next, in training.
        bias: whether the maps have constants.
        fused: run torch's kernel; False: the steps one by one, several times slower.
        generator: draws the first parameters, evenly from ±1 / √hidden_size, and what dropout drops; torch's global one
            if None.
    Attributes:
        weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, weight_ih_l0_reverse, …, weight_ih_l1, …: as in
        `torch.nn.LSTM`; blocks of rows in the order i, f, g, o.
    Raises:
        ValueError: a size below 1, dropout outside [0, 1) or with a single layer.
    Source: Hochreiter and Schmidhuber 1997; Gers et al. 2000; both directions: Schuster and Paliwal 1997.
    Differs: torch is time-first unless told otherwise; only warns of dropout with one layer.

    >>> outputs, (h, c) = LSTM(3, 5, num_layers=2, bidirectional=True)(torch.zeros(2, 7, 3), lengths=[7, 4])
    >>> outputs.shape, h.shape, outputs[1, 4:].abs().sum().item()
    (torch.Size([2, 7, 10]), torch.Size([4, 2, 5]), 0.0)
    """

    gates = 4
    state_names = ("h", "c")
    _kernel = staticmethod(torch.lstm)

    def _step(self, from_input: Tensor, state: Rows, ut: Tensor, c: Tensor | None) -> Rows:
        h, cell = state
        n = self.hidden_size
        sums = torch.addmm(from_input, h, ut)
        i, f, _, o = torch.sigmoid(sums).chunk(4, dim=1)  # one call; that of g is thrown away
        cell = torch.addcmul(f * cell, i, torch.tanh(sums[:, 2 * n : 3 * n]))
        return o * torch.tanh(cell), cell


class GRU(_Recurrent):
    """Gated recurrent unit, the reset gate after the recurrent product; see `lmcore.nn.recurrent_cells.GRUCell`.

    Args, Attributes, Raises: as `LSTM`; blocks of rows in the order r, z, n; the state is one tensor h.
    Source: Cho et al. 2014.

    >>> outputs, h = GRU(3, 5)(torch.zeros(2, 7, 3))
    >>> torch.equal(outputs[:, -1], h[0])
    True
    """

    gates = 3
    _kernel = staticmethod(torch.gru)

    def _project(self, rows: Tensor, w: Tensor, b: Tensor | None, c: Tensor | None) -> Tensor:
        return linear(rows, w, b)  # c stays with the state: r multiplies it

    def _step(self, from_input: Tensor, state: Rows, ut: Tensor, c: Tensor | None) -> Rows:
        (h,) = state
        n = 2 * self.hidden_size
        from_state = h @ ut if c is None else torch.addmm(c, h, ut)
        r, z = torch.sigmoid(from_input[:, :n] + from_state[:, :n]).chunk(2, dim=1)
        new = torch.tanh(torch.addcmul(from_input[:, n:], r, from_state[:, n:]))
        return (torch.lerp(new, h, z),)  # (1 − z) · new + z · h
