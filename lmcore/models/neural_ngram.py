"""The neural probabilistic language model of Bengio et al. (2003): an n-gram model that shares what it learns.

A table of counts knows nothing of "the cat sat" from "the dog sat". Here each word has a vector, and the probability of
the next word is a smooth function of the vectors of the words before it: what is learned of one is learned, in part, of
all words with similar vectors.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import Module

from lmcore.nn.functional import log_softmax
from lmcore.nn.layers import Dropout, Embedding, Linear
from lmcore.sizes import check_sizes


@dataclass(frozen=True, kw_only=True)
class NeuralNgramConfig:
    """Sizes of a `NeuralNgram`.

    Args:
        vocabulary_size: number of ids, |V| in the paper.
        context: how many words before are looked at; the paper's n − 1.
        embedding_dim: length of a word's vector; the paper's m.
        hidden: units of the hidden layer; the paper's h.
        direct: whether the vectors are also connected to the output directly; the paper's W.
        dropout: in [0, 1), on the vectors and the hidden layer; the paper has none.
    Raises:
        ValueError: a size that is no whole number of at least 1, or dropout outside [0, 1).

    >>> NeuralNgramConfig(vocabulary_size=11, context=2, embedding_dim=3, hidden=5).parameters   # 33 + 35 + 66
    134
    """

    vocabulary_size: int
    context: int = 4
    embedding_dim: int = 60
    hidden: int = 100
    direct: bool = False
    dropout: float = 0.0

    def __post_init__(self):
        check_sizes(
            vocabulary_size=self.vocabulary_size,
            context=self.context,
            embedding_dim=self.embedding_dim,
            hidden=self.hidden,
        )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")

    @property
    def parameters(self) -> int:
        """Number of weights: with direct connections |V| (1 + nm + h) + h (1 + (n − 1) m), the paper's count."""
        x = self.context * self.embedding_dim  # length of the concatenated vectors
        per_word = self.embedding_dim + self.hidden + 1 + (x if self.direct else 0)
        return self.vocabulary_size * per_word + self.hidden * (x + 1)


class NeuralNgram(Module):
    """Scores of the next word, y = b + U tanh(d + H x) (+ W x), where x is the vectors of the words before in a row.

    Args:
        config: the sizes.
        generator: draws the first parameters, and what dropout drops; torch's global one if None.
    Attributes:
        embedding: the paper's C.   hidden: H and d.   output: U and b.   direct: W, or None.

    First parameters are those of the layers: see `lmcore.nn.layers`.

    Source: Bengio et al. 2003, eq. 1.

    >>> model = NeuralNgram(NeuralNgramConfig(vocabulary_size=11, context=2))
    >>> model(torch.tensor([[3, 5], [5, 7], [0, 0]])).shape
    torch.Size([3, 11])
    """

    def __init__(self, config: NeuralNgramConfig, *, generator: torch.Generator | None = None):
        super().__init__()
        self.config = config
        x = config.context * config.embedding_dim
        self.embedding = Embedding(config.vocabulary_size, config.embedding_dim, generator=generator)
        self.hidden = Linear(x, config.hidden, generator=generator)
        self.output = Linear(config.hidden, config.vocabulary_size, generator=generator)
        self.direct = Linear(x, config.vocabulary_size, bias=False, generator=generator) if config.direct else None
        self.dropout = Dropout(config.dropout, generator=generator)

    def forward(self, contexts: Tensor) -> Tensor:
        """(B, context) ids, the nearest word last → (B, V) logits."""
        if contexts.ndim != 2 or contexts.shape[1] != self.config.context:
            raise ValueError(f"contexts has shape {tuple(contexts.shape)}, must be (B, {self.config.context})")
        x = self.dropout(self.embedding(contexts).flatten(1))  # (B, context, m) → (B, context · m)
        h = self.dropout(torch.tanh(self.hidden(x)))
        y = self.output(h)
        return y if self.direct is None else y + self.direct(x)


def windows(sentences: Iterable[Sequence[int]], context: int, *, bos: int, eos: int) -> tuple[np.ndarray, np.ndarray]:
    """Every word to predict and the words before it, in the order and with the marks of `lmcore.classical.ngram`.

    Args:
        sentences: ids of each sentence's words, without marks.
        context: how many words before are wanted, ≥ 1.
        bos: stands before a sentence, as often as needed; never predicted.   eos: stands after it; predicted.
    Returns:
        contexts (N, context) and targets (N,), int64, where N counts all words and one end per sentence.
    Raises:
        ValueError: context < 1, or a mark inside a sentence.   TypeError: words where ids are meant.
    Cost: O(N · context) time and memory.

    >>> contexts, targets = windows([[5, 7], []], 2, bos=0, eos=1)
    >>> contexts.tolist(), targets.tolist()
    ([[0, 0], [0, 5], [5, 7], [0, 0]], [5, 7, 1, 1])
    """
    check_sizes(context=context)
    ended = [[*sentence, eos] for sentence in sentences]
    targets = np.concatenate(ended or [np.empty(0, dtype=np.int64)])
    if not np.issubdtype(targets.dtype, np.integer):
        raise TypeError(f"sentences must hold ids, whole numbers, got {targets.dtype}: encode the words first")
    if (targets == bos).any() or (targets == eos).sum() != len(ended):
        raise ValueError(f"a sentence holds bos = {bos} or eos = {eos}; windows adds the marks itself")

    # One long row of numbers in which `context` marks stand before each sentence, and where in it the targets are.
    lengths = [len(sentence) for sentence in ended]
    where = np.arange(len(targets)) + context * (1 + np.repeat(np.arange(len(ended)), lengths))
    row = np.full(len(targets) + context * len(ended), bos, dtype=np.int64)
    row[where] = targets
    return row[where[:, None] + np.arange(-context, 0)], row[where]


def score(model: NeuralNgram, contexts: ArrayLike, targets: ArrayLike, *, batch_size: int = 1024) -> np.ndarray:
    """Natural log-probabilities of words after their contexts, without dropout and without gradients.

    Args:
        model: left in the mode, training or not, in which it was.
        contexts: (N, context) ids.   targets: (N,) ids.   Both as from `windows`.
        batch_size: how many contexts are scored at once; memory grows with batch_size · V, the result does not change.
    Returns:
        (N,) nats in double precision, ready for `lmcore.metrics.perplexity`.
    Raises:
        ValueError: shapes that do not fit, an id outside the vocabulary, or batch_size < 1.
    Cost: O(N · V · hidden) time: each probability needs the scores of all V words.

    >>> model = NeuralNgram(NeuralNgramConfig(vocabulary_size=11, context=2))
    >>> contexts, targets = windows([[5, 7]], 2, bos=0, eos=1)
    >>> score(model, contexts, targets).shape
    (3,)
    """
    device = model.embedding.weight.device
    contexts, targets = (torch.as_tensor(ids, device=device) for ids in (contexts, targets))
    if targets.shape != contexts.shape[:1]:
        raise ValueError(f"targets has shape {tuple(targets.shape)}, must be ({len(contexts)},): one per context")
    n_words = model.config.vocabulary_size
    if ((targets < 0) | (targets >= n_words)).any():
        raise ValueError(f"targets holds ids from {targets.min()} to {targets.max()}, allowed are 0 … {n_words - 1}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            parts = [
                log_softmax(model(x)).gather(1, y[:, None])[:, 0]
                for x, y in zip(contexts.split(batch_size), targets.split(batch_size), strict=True)
            ]
    finally:
        model.train(was_training)
    return torch.cat(parts).double().cpu().numpy()
