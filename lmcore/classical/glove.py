"""GloVe: vectors whose dot products are the logarithms of co-occurrence counts.

    J = Σ_ij f(X_ij) (w_i · c_j + b_i + b̃_j − log X_ij)²,        f(X) = min(1, (X / x_max)^α),

where X_ij counts how often word j stands near word i. The sum runs over the pairs that do occur. The biases take up how
frequent each of the two words is; the weight f keeps pairs that were seen once, by chance, from counting as much as
those seen a thousand times, and those seen a thousand times from counting a thousand times as much.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from lmcore.classical.ppmi import cooccurrence_pairs
from lmcore.classical.word2vec import frequent_words
from lmcore.optional import need
from lmcore.sizes import check_sizes


@dataclass(frozen=True, kw_only=True)
class GloVeConfig:
    """How GloVe vectors are trained.

    Args:
        dim: length d of a vector.   window: largest distance; a word at distance n counts 1/n.
        epochs: how often the pairs are gone through.   min_count: rarer words take their place but have no vector.
        x_max: count from which on a pair has the full weight.   alpha: power of the weight below.
        learning_rate: of AdaGrad.
    Raises:
        ValueError: a value outside its range.
    """

    dim: int = 50
    window: int = 10
    epochs: int = 15
    min_count: int = 5
    x_max: float = 100.0
    alpha: float = 0.75
    learning_rate: float = 0.05

    def __post_init__(self):
        check_sizes(dim=self.dim, window=self.window, epochs=self.epochs, min_count=self.min_count)
        for name in ("x_max", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number above zero, got {getattr(self, name)}")
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"alpha must be a finite number of at least 0, got {self.alpha}")


def weight(counts: ArrayLike, *, x_max: float = 100.0, alpha: float = 0.75) -> np.ndarray:
    """How much a pair matters: min(1, (X / x_max)^α).

    >>> weight([100 / 16, 100, 10_000]).tolist()   # (1/16)^(3/4) = 1/8
    [0.125, 1.0, 1.0]
    """
    return np.minimum(1.0, (np.asarray(counts, dtype=float) / x_max) ** alpha)


def loss(
    W: np.ndarray, C: np.ndarray, b: np.ndarray, b_context: np.ndarray,
    rows: np.ndarray, columns: np.ndarray, counts: np.ndarray, *, x_max: float = 100.0, alpha: float = 0.75,
) -> float:  # fmt: skip
    """J of the pairs given, each an entry of rows, columns and counts.

    >>> zero, one = np.zeros((1, 2)), np.zeros(1)
    >>> loss(zero, zero, one, one, np.array([0]), np.array([0]), np.array([100.0])) == math.log(100) ** 2
    True
    """
    difference = (W[rows] * C[columns]).sum(axis=1) + b[rows] + b_context[columns] - np.log(counts)
    return float((weight(counts, x_max=x_max, alpha=alpha) * difference**2).sum())


def train_pairs(
    W: np.ndarray, C: np.ndarray, memory_W: np.ndarray, memory_C: np.ndarray,
    rows: np.ndarray, columns: np.ndarray, logs: np.ndarray, weights: np.ndarray, rate: float,
) -> float:  # fmt: skip
    """One step of AdaGrad for each pair, in their order; `glove_compiled` is this loop again for numba.

    Args:
        W, C: (V, d + 1), vectors with the bias as last number; changed.
        memory_W, memory_C: sums of squared gradients; changed.
        rows, columns: (n,) words of the pairs.   logs, weights: (n,) log X and f(X).   rate: learning rate.
    Returns:
        The sum of f(X) (difference)², each before its step.
    """
    total, dim = 0.0, W.shape[1] - 1
    for i, j, log, f in zip(rows, columns, logs, weights, strict=True):
        difference = W[i, :dim] @ C[j, :dim] + W[i, dim] + C[j, dim] - log
        total += f * difference**2
        slope = f * difference  # the 2 of the derivative is in the learning rate, as in the original program
        by_w = slope * np.append(C[j, :dim], np.float32(1))
        by_c = slope * np.append(W[i, :dim], np.float32(1))
        for vector, memory, gradient in ((W[i], memory_W[i], by_w), (C[j], memory_C[j], by_c)):
            memory += gradient**2
            vector -= rate * gradient / np.sqrt(memory)
    return total


class GloVe:
    """Vectors by GloVe.

    Args:
        config: see `GloVeConfig`.
    Attributes:
        words_: V words, the most frequent first.   vectors_: (V, d) float32, w + c of each word, as the paper advises.
        w_, c_: (V, d).   b_, b_context_: (V,) the biases.
        losses_: J of each epoch divided by the number of pairs, each pair before its step.
    Source: Pennington, Socher and Manning 2014, eq. 8 and 9.
    Cost: O(pairs · d) for each epoch; pairs grow with the text, but more slowly.

    >>> model = GloVe(GloVeConfig(dim=3, min_count=1, epochs=2)).fit([["a", "b", "a"]], np.random.default_rng(0))
    >>> model.words_, model.vectors_.shape
    (('a', 'b'), (2, 3))
    """

    def __init__(self, config: GloVeConfig | None = None):
        self.config = config or GloVeConfig()

    def fit(self, sentences: Sequence[Sequence[str]], rng: np.random.Generator, *, compiled: bool = True) -> "GloVe":
        """Count the pairs and train.

        Args:
            sentences: sequences of words; windows end with them.
            rng: draws the first vectors and the order of the pairs.
            compiled: False: the readable loop, far slower.
        Raises:
            TypeError: a sentence is a string.   ValueError: no two words stand near each other.
        """
        config = self.config
        counts = frequent_words(sentences, config.min_count)
        self.words_ = tuple(counts)
        ids = {word: number for number, word in enumerate(self.words_)}
        numbered = [[ids.get(word, -1) for word in sentence] for sentence in sentences]
        pairs = cooccurrence_pairs(numbered, max(1, len(ids)), window=config.window)
        if not len(pairs[0]):
            raise ValueError(
                f"no two words that occur min_count = {config.min_count} times or more stand within "
                f"window = {config.window} of each other: take more text, or lower min_count"
            )
        return self.fit_pairs(*pairs, len(ids), rng, compiled=compiled)

    def fit_pairs(
        self, rows: np.ndarray, columns: np.ndarray, counts: np.ndarray, size: int, rng: np.random.Generator, *,
        compiled: bool = True,
    ) -> "GloVe":  # fmt: skip
        """Train on pairs that are counted already, as by `cooccurrence_pairs`; words are numbered 0 … size − 1."""
        config, step = self.config, _compiled() if compiled else train_pairs
        logs = np.log(counts).astype(np.float32)
        weights = weight(counts, x_max=config.x_max, alpha=config.alpha).astype(np.float32)
        shape = size, config.dim + 1
        W, C = ((rng.random(shape, dtype=np.float32) - np.float32(0.5)) / np.float32(shape[1]) for _ in range(2))
        memory_W, memory_C = np.ones(shape, np.float32), np.ones(shape, np.float32)  # so that the first steps are small
        self.losses_ = []
        for _ in tqdm(range(config.epochs), unit="epoch", disable=None):
            order = rng.permutation(len(counts))
            chosen = (array[order] for array in (rows, columns, logs, weights))
            total = step(W, C, memory_W, memory_C, *chosen, np.float32(config.learning_rate))
            self.losses_.append(total / len(counts))
        self.w_, self.c_, self.b_, self.b_context_ = W[:, :-1], C[:, :-1], W[:, -1], C[:, -1]
        self.vectors_ = self.w_ + self.c_
        return self


def _compiled():  # noqa: ANN202
    """The loop for numba."""
    need("numba", group="text", by="the compiled loop of GloVe (compiled=False does without)")
    from lmcore.classical import glove_compiled  # here, since numba is optional

    return glove_compiled.train_pairs
