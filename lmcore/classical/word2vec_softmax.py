"""word2vec with the full softmax: the model as it is meant, before negative sampling makes it affordable.

An example gives some words, whose rows of W are averaged to x, and asks for one word o:

    p(o | given) = exp(x · C_o) / Σ_v exp(x · C_v),        L = −log p(o | given).

Skip-gram gives the middle word and asks for each word around it, one example each. CBOW gives all words around and asks
for the middle one. Each step costs V dot products, which is why nobody trains large vocabularies like this.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from tqdm import tqdm

from lmcore.classical.word2vec import METHODS


def examples(sentences: Iterable[Sequence[int]], *, window: int, method: str) -> tuple[np.ndarray, np.ndarray]:
    """What is given and what is asked for, over whole windows.

    Args:
        sentences: ids of words.   window: largest distance, ≥ 1.   method: "skip-gram" or "cbow".
    Returns:
        given (N, m) with m = 1 for skip-gram and 2 · window for CBOW, filled up with −1; asked (N,). A word without
        neighbours gives no example.
    Raises:
        ValueError: another method, or window < 1.

    >>> given, asked = examples([[7, 8, 9]], window=1, method="skip-gram")
    >>> given.ravel().tolist(), asked.tolist()
    ([7, 8, 8, 9], [8, 7, 9, 8])
    >>> given, asked = examples([[7, 8, 9]], window=1, method="cbow")
    >>> given.tolist(), asked.tolist()
    ([[8, -1], [7, 9], [8, -1]], [7, 8, 9])
    """
    if method not in METHODS or window < 1:
        raise ValueError(f"method must be one of {', '.join(METHODS)} and window ≥ 1, got {method!r} and {window}")
    given, asked = [], []
    for sentence in sentences:
        for place, middle in enumerate(sentence):
            around = [*sentence[max(0, place - window) : place], *sentence[place + 1 : place + 1 + window]]
            if method == "skip-gram":
                given += [[middle]] * len(around)
                asked += around
            elif around:
                given.append(around + [-1] * (2 * window - len(around)))
                asked.append(middle)
    width = 1 if method == "skip-gram" else 2 * window
    return np.array(given, dtype=np.int64).reshape(-1, width), np.array(asked, dtype=np.int64)


def loss_and_gradients(
    W: np.ndarray, C: np.ndarray, given: np.ndarray, asked: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Mean loss of a batch in nats, and its gradients by W and C.

    Args:
        W, C: (V, d).   given: (B, m) ids, −1 where there is none; at least one in each row.   asked: (B,) ids.
    Returns:
        A number, (V, d) and (V, d).
    Cost: O(B · V · d).

    >>> W = C = np.zeros((4, 3))
    >>> loss, dW, dC = loss_and_gradients(W, C, np.array([[0]]), np.array([2]))
    >>> round(loss, 4), round(np.log(4).item(), 4)   # four words, nothing known
    (1.3863, 1.3863)
    """
    there = (given >= 0)[:, :, None]  # (B, m, 1)
    share = there / there.sum(axis=1, keepdims=True)  # each word's weight in the mean
    x = (share * W[given]).sum(axis=1)  # (B, d)
    scores = x @ C.T  # (B, V)
    scores -= scores.max(axis=1, keepdims=True)
    p = np.exp(scores)
    p /= p.sum(axis=1, keepdims=True)
    rows = np.arange(len(asked))
    loss = -np.log(p[rows, asked]).mean()
    p[rows, asked] -= 1  # now the gradient by the scores, for each example
    p /= len(asked)
    dW = np.zeros_like(W)
    np.add.at(dW, given, share * (p @ C)[:, None, :])  # words may be given twice; those that are not get a share of 0
    return float(loss), dW, p.T @ x


class SoftmaxWord2Vec:
    """Skip-gram or CBOW with the full softmax, by plain stochastic gradient descent.

    Args:
        method: "skip-gram" or "cbow".   dim: length of a vector.   window: largest distance.
        epochs: how often the examples are gone through.   learning_rate: fixed.   batch: examples per step.
    Attributes:
        vectors_: (V, d), the rows of W.   contexts_: (V, d), the rows of C.   losses_: mean of each epoch, nats.

    >>> model = SoftmaxWord2Vec(dim=3, window=1, epochs=2).fit([[0, 1, 0, 1]], 2, np.random.default_rng(0))
    >>> model.vectors_.shape, len(model.losses_)
    ((2, 3), 2)
    """

    def __init__(
        self, *, method: str = "skip-gram", dim: int = 10, window: int = 2, epochs: int = 10,
        learning_rate: float = 0.5, batch: int = 32,
    ):  # fmt: skip
        examples([], window=window, method=method)  # refuses what cannot be
        for name, value in (("dim", dim), ("epochs", epochs), ("batch", batch)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.method, self.dim, self.window = method, dim, window
        self.epochs, self.learning_rate, self.batch = epochs, learning_rate, batch

    def fit(self, sentences: Iterable[Sequence[int]], size: int, rng: np.random.Generator) -> "SoftmaxWord2Vec":
        """Train on sentences of ids in 0 … size − 1; ``rng`` draws the first vectors and the order of the examples.

        Raises:
            ValueError: no two words stand near each other, or an id outside the range.
        """
        given, asked = examples(sentences, window=self.window, method=self.method)
        if not len(asked):
            raise ValueError("no sentence has two words: there is nothing to ask for")
        if asked.min() < 0 or asked.max() >= size:
            raise ValueError(f"ids must be in 0 … {size - 1}, got {asked.min()} … {asked.max()}")
        self.vectors_ = rng.normal(scale=1 / np.sqrt(self.dim), size=(size, self.dim))
        self.contexts_ = np.zeros((size, self.dim))
        self.losses_ = []
        for _ in tqdm(range(self.epochs), unit="epoch", disable=None):
            order, total = rng.permutation(len(asked)), 0.0
            for start in range(0, len(order), self.batch):
                some = order[start : start + self.batch]
                loss, dW, dC = loss_and_gradients(self.vectors_, self.contexts_, given[some], asked[some])
                self.vectors_ -= self.learning_rate * dW
                self.contexts_ -= self.learning_rate * dC
                total += loss * len(some)
            self.losses_.append(total / len(order))
        return self
