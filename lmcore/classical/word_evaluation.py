"""How good are word vectors? Compare them with people's judgements of similarity, and let them solve analogies.

A pair or question with a word that has no vector cannot be answered. How many these are is always part of the result:
a score over the few words that one knows is not comparable with a score over all.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


def ranks(values: ArrayLike) -> np.ndarray:
    """Ranks from 1 on, the mean rank for equal values.

    >>> ranks([30, 10, 30, 20]).tolist()
    [3.5, 1.0, 3.5, 2.0]
    """
    _, where, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[where]


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Rank correlation: Pearson's correlation of the ranks, between −1 and 1.

    Args:
        a, b: (N,) values, N ≥ 2.
    Raises:
        ValueError: different lengths, fewer than two values, or all values of one side equal.
    Source: Spearman 1904.

    >>> round(spearman([1, 2, 3, 4], [1, 10, 100, 99]), 6)   # only the last two are exchanged
    0.8
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise ValueError(f"two lists of the same length, at least 2, are needed; got shapes {a.shape} and {b.shape}")
    a, b = ranks(a), ranks(b)
    a, b = a - a.mean(), b - b.mean()
    if not a.any() or not b.any():
        raise ValueError("all values of one list are equal: there is no order to compare")
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


class SimilarityScore(NamedTuple):
    """Rank correlation over the pairs that have vectors, and how many these are."""

    correlation: float
    used: int
    total: int

    @property
    def coverage(self) -> float:
        """Share of the pairs that have vectors."""
        return self.used / self.total


class AnalogyScore(NamedTuple):
    """Right answers among the questions that have vectors, and how many these are."""

    right: int
    used: int
    total: int

    @property
    def accuracy(self) -> float:
        """Share of right answers among the questions that have vectors; 0 if there is none."""
        return self.right / self.used if self.used else 0.0

    @property
    def accuracy_of_all(self) -> float:
        """Share of right answers where a question without vectors counts as wrong: comparable between vocabularies."""
        return self.right / self.total if self.total else 0.0


class WordVectorEvaluation:
    """Measures vectors of known words.

    Args:
        words: V different words.   vectors: (V, d), none of them zero.
    Raises:
        ValueError: not one vector per word, a word listed twice, or a vector of zeros or with NaN.

    >>> evaluation = WordVectorEvaluation(["a", "b", "c"], [[1, 0], [1, 1], [0, 1]])
    >>> evaluation.similarity([("a", "b", 7.0), ("a", "c", 1.0), ("a", "x", 5.0)])
    SimilarityScore(correlation=1.0, used=2, total=3)
    """

    def __init__(self, words: Sequence[str], vectors: ArrayLike):
        vectors = np.asarray(vectors, dtype=float)
        self._rows: Mapping[str, int] = {word: row for row, word in enumerate(words)}
        if vectors.ndim != 2 or len(vectors) != len(words) or len(self._rows) < len(words):
            raise ValueError(f"{len(words)} words, all different, need as many vectors; got shape {vectors.shape}")
        norms = np.linalg.norm(vectors, axis=1)
        if not (norms > 0).all():
            wrong = int(np.argmin(norms > 0))
            raise ValueError(f"the vector of {words[wrong]!r} has norm {norms[wrong]}: it has no direction")
        self.words, self.unit = tuple(words), vectors / norms[:, None]

    def similarity(self, pairs: Iterable[tuple[str, str, float]]) -> SimilarityScore:
        """Compare cosines with people's scores.

        Args:
            pairs: two words and a score, such as `data.load("wordsim353")`.
        Raises:
            ValueError: fewer than two pairs have vectors.
        """
        pairs = list(pairs)
        known = [(a, b, score) for a, b, score in pairs if a in self._rows and b in self._rows]
        if len(known) < 2:
            raise ValueError(f"only {len(known)} of {len(pairs)} pairs have vectors: nothing to correlate")
        rows = np.array([[self._rows[a], self._rows[b]] for a, b, _ in known])
        cosines = (self.unit[rows[:, 0]] * self.unit[rows[:, 1]]).sum(axis=1)
        return SimilarityScore(spearman(cosines, [score for *_, score in known]), len(known), len(pairs))

    def analogies(self, questions: Iterable[tuple[str, str, str, str]], *, batch: int = 256) -> AnalogyScore:
        """Answer "a is to b as c is to …?" by the word nearest to b − a + c, the three words themselves excluded.

        Args:
            questions: a, b, c and the answer.   batch: questions at once.
        Cost: O(questions · V · d).
        Source: Mikolov et al. 2013. Excluding a, b and c is part of the method: without it the answer is mostly c or b.
        """
        questions = [tuple(question) for question in questions]
        rows = [[self._rows[w] for w in question] for question in questions if all(w in self._rows for w in question)]
        table, right = np.array(rows, dtype=int).reshape(-1, 4), 0
        for start in range(0, len(table), batch):
            a, b, c, answer = table[start : start + batch].T
            closeness = (self.unit[b] - self.unit[a] + self.unit[c]) @ self.unit.T  # the norm changes no order
            for given in (a, b, c):
                closeness[np.arange(len(given)), given] = -np.inf
            right += int((closeness.argmax(axis=1) == answer).sum())
        return AnalogyScore(right, len(rows), len(questions))

    def neighbours(self, word: str, k: int = 10) -> list[tuple[str, float]]:
        """Return the k words with the largest cosines, and these.

        Raises:
            KeyError: the word has no vector.
        """
        if word not in self._rows:
            raise KeyError(f"{word!r} has no vector")
        cosines = self.unit @ self.unit[self._rows[word]]
        cosines[self._rows[word]] = -np.inf
        return [(self.words[row], float(cosines[row])) for row in np.argsort(-cosines, kind="stable")[:k]]
