"""Tf–idf: how telling is a word for a document? Often in it, and rarely elsewhere.

    weight = tf(count) · idf(word),   tf(c) = c or 1 + log c,   idf(w) = log((1 + N) / (1 + n_w)) + 1,

where n_w of N documents hold the word w. Each document's row is then divided by its norm, so that a dot product is a
cosine.
"""

import numpy as np
from numpy.typing import ArrayLike


class Tfidf:
    """Weights learnt from one collection of documents, applied to any.

    Args:
        sublinear: use 1 + log c in place of the count c: the twentieth occurrence says less than the first.
        smooth: add one to both numbers of the idf, as if one more document held every word. Without it a word in no
            document has no weight, and is refused.
        normalize: divide every row by its norm; a row of zeros stays.
    Attributes:
        idf_: (V,) nats, at least 1.
    Source: Spärck Jones 1972 for the idf; the formulas, with the 1 that keeps words which all documents hold, are
        scikit-learn's.

    >>> counts = [[1, 1], [1, 0], [1, 0]]          # the second word is in one of three documents
    >>> Tfidf(smooth=False).fit(counts).idf_.round(3).tolist()   # log 3/3 + 1, log 3/1 + 1
    [1.0, 2.099]
    """

    def __init__(self, *, sublinear: bool = False, smooth: bool = True, normalize: bool = True):
        self.sublinear, self.smooth, self.normalize = sublinear, smooth, normalize

    def fit(self, counts: ArrayLike) -> "Tfidf":
        """Count in how many documents each word is.

        Args:
            counts: (N, V), ≥ 0; see `lmcore.text.counts.count_matrix`.
        Raises:
            ValueError: counts that are negative or no numbers, no document, or without ``smooth`` a word in none.
        """
        counts = _checked(counts)
        found = (counts > 0).sum(axis=0)
        if not self.smooth and not found.all():
            raise ValueError(f"word {int(found.argmin())} is in no document: leave it out, or use smooth=True")
        self.idf_ = np.log((len(counts) + self.smooth) / (found + self.smooth)) + 1
        return self

    def transform(self, counts: ArrayLike) -> np.ndarray:
        """Weigh the words of documents.

        Args:
            counts: (M, V), with the columns that ``fit`` saw.
        Returns:
            (M, V) float.
        Raises:
            ValueError: not fitted, another number of words, or as ``fit``.
        Cost: O(M · V).
        """
        if not hasattr(self, "idf_"):
            raise ValueError("this Tfidf has counted nothing yet: call fit(counts) first")
        counts = _checked(counts)
        if counts.shape[1] != len(self.idf_):
            raise ValueError(f"counts has {counts.shape[1]} columns; fit saw {len(self.idf_)} words")
        weights = counts.astype(float)
        if self.sublinear:
            weights = np.where(weights > 0, 1 + np.log(np.where(weights > 0, weights, 1)), 0)
        weights *= self.idf_
        if self.normalize:
            norms = np.linalg.norm(weights, axis=1, keepdims=True)
            weights /= np.where(norms > 0, norms, 1)
        return weights


def _checked(counts: ArrayLike) -> np.ndarray:
    """Return counts as a table, or say what is wrong with them."""
    counts = np.asarray(counts)
    if counts.ndim != 2 or not counts.size or counts.dtype.kind not in "biuf":
        raise ValueError(f"counts must be numbers of the shape (documents, words), got {counts.dtype} {counts.shape}")
    if not counts.min() >= 0:
        row, column = np.unravel_index(int(np.argmin(counts >= 0)), counts.shape)
        raise ValueError(f"counts[{row}, {column}] is {counts[row, column]}; a count is a number ≥ 0")
    return counts
