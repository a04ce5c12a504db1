"""How good are a classifier's labels.

Everything is computed from three counts per class:

    TP = examples of the class that were called so      FP = others that were called so      FN = its examples missed

    precision = TP / (TP + FP)    recall = TP / (TP + FN)    F_β = (1 + β²) TP / ((1 + β²) TP + FP + β² FN)

A class that was never predicted has no precision: 0/0 is not 0. Some libraries give 0 and a warning, and warnings
scroll away; here it is an error until the caller says what such a class counts as (``zero_division``). The F-score of
that class is a plain 0, because its denominator holds the missed examples, and needs no such decision.

Labels are an array of one label per example, of any kind that can be sorted, or, where an example may have several,
an (N, C) table of zeros and ones.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

AVERAGES = ("macro", "micro", "weighted", "samples")


class _Counts(NamedTuple):
    """True positives, predicted and actual examples: of each class or, for "samples", of each example."""

    names: list[Any]
    hits: np.ndarray
    predicted: np.ndarray
    actual: np.ndarray


def _checked(truth: ArrayLike, predicted: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return both as arrays of one shape, (N,) labels or an (N, C) table of zeros and ones."""
    arrays = np.asarray(truth), np.asarray(predicted)
    for name, values in zip(("truth", "predicted"), arrays, strict=True):
        if values.ndim not in (1, 2) or values.size == 0:
            raise ValueError(f"{name} must be labels (N,) or a table (N, C) with N ≥ 1, got shape {values.shape}")
        if values.dtype.kind in "fc" and np.isnan(values).any():
            raise ValueError(f"{name} holds a NaN, which is no label")
        if values.dtype.kind == "f" and (values != np.round(values)).any():
            raise ValueError(f"{name} holds {values[values != np.round(values)][0]}: pass labels, not probabilities")
        if values.ndim == 2 and not np.isin(values, (0, 1)).all():
            raise ValueError(f"{name} has two dimensions, so it must be a table of zeros and ones, a column per class")
    if arrays[0].shape != arrays[1].shape:
        raise ValueError(f"truth has shape {arrays[0].shape} and predicted {arrays[1].shape}: they must agree")
    kinds = {values.dtype.kind for values in arrays}
    if "U" in kinds and kinds & set("biuf"):
        raise TypeError(f"truth holds {arrays[0].dtype} and predicted {arrays[1].dtype}: no label could ever be equal")
    return arrays


def _label_list(truth: np.ndarray, predicted: np.ndarray, labels: Sequence | None) -> list:
    """The classes to count, in their order: the given ones, or all that occur."""
    if labels is None:
        return np.union1d(truth, predicted).tolist()
    if isinstance(labels, str) or len(set(labels)) < len(labels) or len(labels) == 0:
        raise ValueError(f"labels must be a list of different labels, got {labels!r}")
    return list(labels)


def accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Share of examples that got their label (all of their labels, if a table says which).

    Args:
        truth: (N,) true labels, or an (N, C) table of zeros and ones.   predicted: the classifier's, in the same shape.
    Returns:
        Between 0 and 1.
    Raises:
        ValueError: no example, shapes that differ, NaN, probabilities instead of labels.
        TypeError: strings in one and numbers in the other.

    >>> accuracy(["cat", "dog", "cat"], ["cat", "cat", "cat"]) == 2/3
    True
    """
    truth, predicted = _checked(truth, predicted)
    same = truth == predicted
    return float(same.mean() if same.ndim == 1 else same.all(axis=1).mean())


def confusion_matrix(truth: ArrayLike, predicted: ArrayLike, *, labels: Sequence | None = None) -> np.ndarray:
    """Count how often each class (row) was called each class (column).

    Args:
        truth: (N,) true labels.   predicted: (N,) the classifier's.
        labels: the classes in the order of the rows and columns; default all that occur, sorted.
    Returns:
        (C, C) integers. Rows sum to the classes' examples, the diagonal holds what is right.
    Raises:
        ValueError: a label that ``labels`` lacks; else as ``accuracy``.
    Cost: O(N log N).

    >>> confusion_matrix(["cat", "dog", "cat"], ["cat", "cat", "cat"]).tolist()   # the dog was called cat
    [[2, 0], [1, 0]]
    """
    truth, predicted = _checked(truth, predicted)
    if truth.ndim != 1:
        raise ValueError(f"a confusion matrix needs one label per example, got tables of shape {truth.shape}")
    labels = _label_list(truth, predicted, labels)
    row_of = {label: row for row, label in enumerate(labels)}
    missing = sorted(set(truth.tolist() + predicted.tolist()) - row_of.keys())
    if missing:
        raise ValueError(f"labels lacks {missing[0]!r}, which occurs")
    rows = np.array([row_of[label] for label in truth.tolist()])
    columns = np.array([row_of[label] for label in predicted.tolist()])
    cells = np.bincount(rows * len(labels) + columns, minlength=len(labels) ** 2)
    return cells.reshape(len(labels), len(labels))


def _count_labels(truth: np.ndarray, predicted: np.ndarray, labels: Sequence | None) -> _Counts:
    """Count hits, predictions and examples of each class, one label per example."""
    labels = _label_list(truth, predicted, labels)
    occurring, codes = np.unique(np.concatenate([truth, predicted]), return_inverse=True)
    truth, predicted = np.split(codes, 2)
    column_of = {label: column for column, label in enumerate(occurring.tolist())}
    columns = [column_of.get(label, len(occurring)) for label in labels]  # one more, empty, for what never occurs
    sizes = [np.bincount(x, minlength=len(occurring) + 1) for x in (truth[truth == predicted], predicted, truth)]
    return _Counts(labels, *(counts[columns] for counts in sizes))


def _count_table(truth: np.ndarray, predicted: np.ndarray, axis: int) -> _Counts:
    """Count hits, predictions and examples of each column (axis 0) or row (axis 1) of two tables."""
    truth, predicted = truth.astype(bool), predicted.astype(bool)
    sums = [values.sum(axis=axis) for values in (truth & predicted, predicted, truth)]
    return _Counts(list(range(len(sums[0]))), *sums)


def _count(truth: ArrayLike, predicted: ArrayLike, labels: Sequence | None, average: str | None) -> _Counts:
    """Count hits, predictions and examples per class (per example for "samples", in one sum for "micro")."""
    if average is not None and average not in AVERAGES:
        raise ValueError(f"average must be None or one of {', '.join(map(repr, AVERAGES))}, got {average!r}")
    truth, predicted = _checked(truth, predicted)
    if truth.ndim == 1 and average == "samples":
        raise ValueError('average "samples" needs tables of zeros and ones; with one label per example it is accuracy')
    if truth.ndim == 2 and labels is not None:
        raise ValueError("labels name the classes of (N,) labels; select columns of a table instead")
    if truth.ndim == 1:
        counts = _count_labels(truth, predicted, labels)
    else:
        counts = _count_table(truth, predicted, axis=1 if average == "samples" else 0)
    if average == "micro":
        return _Counts(["all together"], *(values.sum(keepdims=True) for values in counts[1:]))
    return counts


def _averaged(
    what: str, above: np.ndarray, below: np.ndarray, counts: _Counts, average: str | None, zero_division: float | None
) -> float | np.ndarray:
    """Quotients above / below per class, averaged as wanted; 0/0 is what zero_division says."""
    undefined = below == 0
    if undefined.any() and zero_division is None:
        name = counts.names[int(undefined.argmax())]
        why = {"precision": "it was never predicted", "recall": "truth never has it"}.get(what, "it never occurs")
        unit = "example" if average == "samples" else "class"
        raise ValueError(
            f"{what} of {unit} {name!r} is 0/0, since {why}; pass zero_division=0 (or 1, or nan to skip it)"
        )
    fill = 0.0 if zero_division is None else float(zero_division)
    values = np.divide(above, below, out=np.full(len(below), fill), where=~undefined)
    if average is None:
        return values
    weights = counts.actual.astype(float) if average == "weighted" else np.ones(len(values))
    weights[np.isnan(values)] = 0.0
    if weights.sum() == 0:
        return fill  # nothing to average: 0/0 again
    return float((weights * np.nan_to_num(values)).sum() / weights.sum())


def precision(
    truth: ArrayLike,
    predicted: ArrayLike,
    *,
    average: str | None,
    labels: Sequence | None = None,
    zero_division: float | None = None,
) -> float | np.ndarray:
    """Of the examples that were called a class, the share that is of that class: TP / (TP + FP).

    Args:
        truth: (N,) true labels, or an (N, C) table of zeros and ones.   predicted: the classifier's, in the same shape.
        average: None for one value per class; "macro", their plain average; "weighted", weighted by the classes' true
            frequencies; "micro", from the sums of TP, FP, FN; "samples", computed per example, for tables only.
        labels: the classes that count, and their order; default all that occur, sorted. With one class, ``[label]``,
            any average is the binary score of it.
        zero_division: what 0/0 counts as: 0, 1, or nan to leave it out of an average. By default it is an error.
    Returns:
        Between 0 and 1; for ``average=None`` (C,) values.
    Raises:
        ValueError: 0/0, an unknown average; else as ``accuracy``.
    Differs: scikit-learn's default average is "binary" with the class 1, and its 0/0 is 0 with a warning.

    >>> precision(["cat", "dog", "cat"], ["cat", "cat", "cat"], average=None, labels=["cat"]).round(3).tolist()
    [0.667]
    """
    counts = _count(truth, predicted, labels, average)
    return _averaged("precision", counts.hits, counts.predicted, counts, average, zero_division)


def recall(
    truth: ArrayLike,
    predicted: ArrayLike,
    *,
    average: str | None,
    labels: Sequence | None = None,
    zero_division: float | None = None,
) -> float | np.ndarray:
    """Of the examples of a class, the share that was called so: TP / (TP + FN).

    Args, returns, raises: as ``precision``; 0/0 is the recall of a class that truth never has.

    >>> recall(["cat", "dog", "cat"], ["cat", "cat", "cat"], average=None).tolist()
    [1.0, 0.0]
    """
    counts = _count(truth, predicted, labels, average)
    return _averaged("recall", counts.hits, counts.actual, counts, average, zero_division)


def f_score(
    truth: ArrayLike,
    predicted: ArrayLike,
    *,
    average: str | None,
    beta: float = 1.0,
    labels: Sequence | None = None,
    zero_division: float | None = None,
) -> float | np.ndarray:
    """Weighted harmonic mean of precision and recall, (1 + β²) P R / (β² P + R); for β = 1 it is F1.

    Args:
        beta: how many times as much recall matters as precision; above 0.
        The rest: as ``precision``. "macro" averages the classes' F-scores; the harmonic mean of macro precision and
        macro recall is another number.
    Returns, raises: as ``precision``; 0/0 only where a class neither occurs nor was predicted.

    >>> f_score(["cat", "dog", "cat"], ["cat", "cat", "cat"], average=None).round(3).tolist()   # 2·2 / (2·2 + 1 + 0)
    [0.8, 0.0]
    """
    if not (math.isfinite(beta) and beta > 0):
        raise ValueError(f"beta must be a finite number above zero, got {beta}")
    counts = _count(truth, predicted, labels, average)
    square = beta**2
    below = counts.predicted + square * counts.actual  # = (1 + β²) TP + FP + β² FN
    return _averaged("f_score", (1 + square) * counts.hits, below, counts, average, zero_division)
