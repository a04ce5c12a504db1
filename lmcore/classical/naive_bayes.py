"""A multinomial naive Bayes classifier: Bayes' rule with words that are taken to be drawn one by one, independently.

A document of class c is a bag of words, each a draw from that class's categorical distribution p(w | c). With the
class's prior p(c), Bayes' rule gives

    log p(c | document) = log p(c) + Σ_w count(w) · log p(w | c) − log p(document),

and both factors are estimated by counting. The independence is what is naive: the decision is often right, the
probability beside it much too sure.
"""

import numpy as np
from numpy.typing import ArrayLike


class MultinomialNaiveBayes:
    """Classify bags of words by the words' frequencies in each class.

    Args:
        alpha: pretend that every word was seen alpha times more in every class; above 0, or a single unseen word would
            rule a class out.

    After ``fit``: ``classes_`` (K,) sorted; ``class_log_prior_`` (K,) and ``feature_log_prob_`` (K, V) in nats.

    Source: McCallum & Nigam 1998, the multinomial event model.
    Differs: as in scikit-learn, the multinomial coefficient is left out; it is the same for every class.

    >>> counts = [[2, 0], [1, 1], [0, 3]]   # of the words "moon" and "ship" in three documents
    >>> model = MultinomialNaiveBayes().fit(counts, ["space", "space", "sea"])
    >>> np.exp(model.feature_log_prob_).round(2).tolist()   # sea: (0 + 1)/(3 + 2), (3 + 1)/(3 + 2)
    [[0.2, 0.8], [0.67, 0.33]]
    >>> model.predict([[1, 0], [0, 2]]).tolist()   # sea: 1/3 · 1/5 < 2/3 · 2/3, but 1/3 · (4/5)² > 2/3 · (1/3)²
    ['space', 'sea']
    """

    def __init__(self, *, alpha: float = 1.0):
        if not (np.isfinite(alpha) and alpha > 0):
            raise ValueError(f"alpha must be a finite number above zero, got {alpha}")
        self.alpha = alpha

    def fit(self, counts: ArrayLike, labels: ArrayLike) -> "MultinomialNaiveBayes":
        """Estimate the classes' frequencies and, within each, the words' smoothed ones.

        Args:
            counts: (N, V) how often each word occurs in each document; ≥ 0, fractions allowed.
            labels: (N,) the documents' classes, numbers or strings.
        Raises:
            ValueError: counts that are negative, NaN, infinite, empty or not two-dimensional; a label missing.
        Cost: O(N·V) time, O(K·V) memory beside the counts.
        """
        counts = _checked_counts(counts)
        labels = _checked_labels(labels, len(counts))
        self.classes_, documents = np.unique(labels, return_counts=True)
        self.class_log_prior_ = np.log(documents / len(labels))
        words = np.stack([counts[labels == label].sum(axis=0, dtype=float) for label in self.classes_])  # (K, V)
        words += self.alpha
        self.feature_log_prob_ = np.log(words) - np.log(words.sum(axis=1, keepdims=True))
        return self

    def log_joint(self, counts: ArrayLike) -> np.ndarray:
        """Logarithm of the joint probability of each document and each class, log p(c) + log p(document | c).

        Args:
            counts: (N, V), with the columns that ``fit`` saw.
        Returns:
            (N, K) nats, without the multinomial coefficient.
        Raises:
            ValueError: not fitted, another number of words, or bad counts as in ``fit``.
        Cost: O(N·V·K), one matrix product.
        """
        if not hasattr(self, "feature_log_prob_"):
            raise ValueError("this MultinomialNaiveBayes has counted nothing yet: call fit(counts, labels) first")
        counts = _checked_counts(counts)
        width = self.feature_log_prob_.shape[1]
        if counts.shape[1] != width:
            raise ValueError(f"counts has {counts.shape[1]} columns; fit saw {width} words, and needs the same ones")
        return counts.astype(float) @ self.feature_log_prob_.T + self.class_log_prior_

    def predict_log_proba(self, counts: ArrayLike) -> np.ndarray:
        """Logarithm of each class's probability given each document.

        The sum over the classes is taken by log-sum-exp, so that even a book of a million words gives finite numbers.

        Args:
            counts: (N, V).
        Returns:
            (N, K) nats, columns in the order of ``classes_``; the exponentials of a row add up to one.
        Raises:
            ValueError: as ``log_joint``.

        >>> model = MultinomialNaiveBayes().fit([[1, 0], [0, 1]], [0, 1])   # p(word 0 | class 0) = 2/3
        >>> np.exp(model.predict_log_proba([[2, 0]])).round(6).tolist()   # 4/9 against 1/9
        [[0.8, 0.2]]
        """
        joint = self.log_joint(counts)
        joint -= joint.max(axis=1, keepdims=True)  # now the largest is 0, and its exponential 1
        return joint - np.log(np.exp(joint).sum(axis=1, keepdims=True))

    def predict(self, counts: ArrayLike) -> np.ndarray:
        """Return the most probable class of each document, (N,); of equally probable ones the first in ``classes_``.

        Raises:
            ValueError: as ``log_joint``.
        """
        best = self.log_joint(counts).argmax(axis=1)
        return self.classes_[best]


def _checked_counts(counts: ArrayLike) -> np.ndarray:
    """Return counts as an array, or say what is wrong with them."""
    counts = np.asarray(counts)
    if counts.ndim != 2:
        raise ValueError(f"counts must have the shape (documents, words), got {counts.shape}")
    if counts.size == 0:
        raise ValueError(f"counts is empty: its shape is {counts.shape}")
    if counts.dtype.kind not in "biuf":
        raise ValueError(f"counts must hold numbers, got dtype {counts.dtype}")
    for name, wrong in (("is NaN", np.isnan(counts)), ("is infinite", np.isinf(counts)), ("is negative", counts < 0)):
        if wrong.any():
            row, column = np.unravel_index(wrong.argmax(), counts.shape)
            raise ValueError(f"counts[{row}, {column}] {name}: {counts[row, column]}; a count is a number ≥ 0")
    return counts


def _checked_labels(labels: ArrayLike, n_documents: int) -> np.ndarray:
    """Return labels as an array with one for each document, or say what is wrong with them."""
    labels = np.asarray(labels)
    if labels.shape != (n_documents,):
        raise ValueError(f"labels has the shape {labels.shape}, but there are {n_documents} documents: one label each")
    missing = [i for i, label in enumerate(labels.tolist()) if label is None or label != label]  # NaN ≠ NaN
    if missing:
        raise ValueError(f"labels[{missing[0]}] is {labels[missing[0]]}: every document needs a label")
    return labels
