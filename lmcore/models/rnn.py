"""A recurrent language model: the history is not a window but a state, which every token changes a little."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import Module

from lmcore.nn import init
from lmcore.nn.functional import log_softmax
from lmcore.nn.layers import Dropout, Embedding, Linear
from lmcore.nn.recurrent import GRU, LSTM, RNN, State
from lmcore.sizes import check_sizes

CELLS = {"rnn": RNN, "lstm": LSTM, "gru": GRU}


@dataclass(frozen=True, kw_only=True)
class RecurrentLMConfig:
    """Sizes of a `RecurrentLM`.

    Args:
        vocabulary_size: number of ids.
        cell: "rnn", "lstm" or "gru".
        embedding_dim: length of a token's vector.   hidden: units of a layer.   num_layers: layers.
        dropout: in [0, 1), on the vectors, between layers and on the last outputs, never from step to step.
        tied: one matrix gives the tokens' vectors and scores them; needs embedding_dim = hidden.
    Raises:
        ValueError: a size below 1, another cell, dropout outside [0, 1), or tied with different sizes.

    >>> RecurrentLMConfig(vocabulary_size=11, cell="gru", embedding_dim=3, hidden=5).parameters   # 33 + 150 + 66
    249
    """

    vocabulary_size: int
    cell: str = "lstm"
    embedding_dim: int = 64
    hidden: int = 128
    num_layers: int = 1
    dropout: float = 0.0
    tied: bool = False

    def __post_init__(self):
        check_sizes(
            vocabulary_size=self.vocabulary_size,
            embedding_dim=self.embedding_dim,
            hidden=self.hidden,
            num_layers=self.num_layers,
        )
        if self.cell not in CELLS:
            raise ValueError(f"cell must be one of {', '.join(CELLS)}, got {self.cell!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.tied and self.embedding_dim != self.hidden:
            raise ValueError(f"tied needs embedding_dim = hidden, got {self.embedding_dim} and {self.hidden}")

    @property
    def parameters(self) -> int:
        """Number of weights, shared ones counted once."""
        sizes = [self.embedding_dim] + [self.hidden] * (self.num_layers - 1)  # what goes into each layer
        layers = sum(CELLS[self.cell].gates * self.hidden * (size + self.hidden + 2) for size in sizes)
        output = self.vocabulary_size * (1 if self.tied else self.hidden + 1)
        return self.vocabulary_size * self.embedding_dim + layers + output


@dataclass(frozen=True)
class Memory:
    """What a model remembers of the tokens it has read, for a batch of rows (None: nothing yet), as decoding wants it.

    >>> Memory(torch.tensor([[[1.0], [2.0]]])).reorder(torch.tensor([1, 1])).state.tolist()
    [[[2.0], [2.0]]]
    """

    state: State | None = None

    def reorder(self, rows: Tensor) -> "Memory":
        """The memory of these rows, (R,) numbers."""
        if self.state is None or isinstance(self.state, Tensor):
            return Memory(None if self.state is None else self.state.index_select(1, rows))
        return Memory(tuple(part.index_select(1, rows) for part in self.state))


class RecurrentLM(Module):
    """Scores of the next token from a state that has read all tokens before.

    Args:
        config: the sizes.
        generator: draws the first parameters, and what dropout drops; torch's global one if None.
    Attributes:
        embedding, layers, output: an `Embedding`, one of `CELLS`, a `Linear`.

    First parameters are those of the layers, but a tied matrix is drawn from ±1 / √hidden, as `Linear` is: with the
    embedding's variance of 1 the first scores would be far too large.

    Source: shared input and output vectors: Press and Wolf 2017.

    >>> model = RecurrentLM(RecurrentLMConfig(vocabulary_size=11))
    >>> logits, (h, c) = model(torch.tensor([[3, 5, 7], [0, 0, 0]]))
    >>> logits.shape, h.shape
    (torch.Size([2, 3, 11]), torch.Size([1, 2, 128]))
    """

    def __init__(self, config: RecurrentLMConfig, *, generator: torch.Generator | None = None):
        super().__init__()
        self.config = config
        between = config.dropout if config.num_layers > 1 else 0.0
        options = {"num_layers": config.num_layers, "dropout": between, "generator": generator}
        self.embedding = Embedding(config.vocabulary_size, config.embedding_dim, generator=generator)
        self.layers = CELLS[config.cell](config.embedding_dim, config.hidden, **options)
        self.output = Linear(config.hidden, config.vocabulary_size, generator=generator)
        self.dropout = Dropout(config.dropout, generator=generator)
        if config.tied:
            bound = config.hidden**-0.5
            self.embedding.weight = self.output.weight
            init.uniform_(self.output.weight, low=-bound, high=bound, generator=generator)

    def forward(self, ids: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """(B, T) ids and the state before them → (B, T, V) logits of what follows each, and the state after all."""
        if ids.ndim != 2:
            raise ValueError(f"ids has shape {tuple(ids.shape)}, must be (B, T)")
        outputs, state = self.layers(self.dropout(self.embedding(ids)), state)
        return self.output(self.dropout(outputs)), state

    def step(self, ids: Tensor, memory: Memory = Memory()) -> tuple[Tensor, Memory]:
        """(B,) ids and the memory of those before → (B, V) logits of what follows, and the memory with these ids."""
        if ids.ndim != 1:
            raise ValueError(f"ids has shape {tuple(ids.shape)}, must be (B,): one token for each sequence")
        logits, state = self(ids[:, None], memory.state)
        return logits[:, 0], Memory(state)


@torch.no_grad()
def score(model: RecurrentLM, ids: ArrayLike, *, tracks: int = 1, steps: int = 256) -> np.ndarray:
    """Natural log-probabilities of the ids of a text after all ids before them, without dropout or gradients.

    Args:
        model: left in the mode, training or not, in which it was.
        ids: (N,), the text; the first id is only read.
        tracks: read the text in so many places at once, which is faster; each begins without a past, so that its first
            ids surprise more than they would in one go.
        steps: ids of a track at a time; memory grows with tracks · steps · V, the result does not change.
    Returns:
        (N − 1,) nats in double precision, ready for `lmcore.metrics.perplexity`.
    Raises:
        ValueError: less than two ids, an id outside the vocabulary, or tracks or steps below 1.
    Cost: as the model's forward pass; N / tracks steps wait for each other.

    >>> score(RecurrentLM(RecurrentLMConfig(vocabulary_size=11)), [3, 5, 7]).shape
    (2,)
    """
    ids = torch.as_tensor(ids, device=model.output.weight.device)
    if ids.ndim != 1 or len(ids) < 2:
        raise ValueError(f"ids has shape {tuple(ids.shape)}, must be (N,) with at least two ids")
    check_sizes(tracks=tracks, steps=steps)
    if ((ids < 0) | (ids >= model.config.vocabulary_size)).any():
        raise ValueError(f"ids from {ids.min()} to {ids.max()}, allowed are 0 … {model.config.vocabulary_size - 1}")
    n = len(ids) - 1
    length = -(-n // tracks)
    padded = torch.cat([ids, ids.new_zeros(tracks * length - n)])  # what follows the end is thrown away
    x, y = padded[:-1].view(tracks, length), padded[1:].view(tracks, length)
    was_training, state, parts = model.training, None, []
    model.eval()
    try:
        for piece, targets in zip(x.split(steps, dim=1), y.split(steps, dim=1), strict=True):
            logits, state = model(piece, state)
            parts.append(log_softmax(logits).gather(2, targets.long()[..., None])[..., 0])
    finally:
        model.train(was_training)
    return torch.cat(parts, dim=1).flatten()[:n].double().cpu().numpy()
