"""How much is there to know? Entropy and its relatives, for distributions that are given as arrays of numbers.

    H(p) = −Σ p log p        H(p, q) = −Σ p log q        D(p‖q) = Σ p log(p/q) = H(p, q) − H(p)
    I(X; Y) = D(joint ‖ product of the marginals) = H(Y) − H(Y|X)

By continuity 0 · log 0 = 0, and what p calls possible and q impossible costs infinity. For the cross-entropy of a
*text* under a language model, an average over the log-probabilities of its tokens, see ``lmcore.metrics.perplexity``.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

UNITS = {"nats": 1.0, "bits": math.log(2)}  # one unit, in nats
TOLERANCE = 1e-6  # by how much a distribution's sum may miss one


def _nats_per(unit: str) -> float:
    """Size of a unit in nats."""
    if unit not in UNITS:
        raise ValueError(f"unit must be one of {', '.join(map(repr, UNITS))}, got {unit!r}")
    return UNITS[unit]


def _distribution(p: ArrayLike, name: str) -> np.ndarray:
    """Return a distribution as a float array, or say why it is none."""
    try:
        values = np.asarray(p, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of numbers: {error}") from error
    if values.size == 0:
        raise ValueError(f"{name} is empty: a distribution has at least one outcome")
    for wrong, what in ((~np.isfinite(values), "not a finite number"), (values < 0, "below zero")):
        if wrong.any():
            where = tuple(int(i) for i in np.argwhere(wrong)[0])
            place = ", ".join(map(str, where))
            raise ValueError(f"{name}[{place}] = {values[where]:g} is {what}; probabilities lie in 0 … 1")
    if abs(values.sum() - 1) > TOLERANCE:
        raise ValueError(f"{name} sums to {values.sum():.9g}, not to 1; divide counts by their sum first")
    return values


def _pair(p: ArrayLike, q: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return two distributions over the same outcomes."""
    p, q = _distribution(p, "p"), _distribution(q, "q")
    if p.shape != q.shape:
        raise ValueError(f"p has shape {p.shape} and q {q.shape}: both must list the same outcomes")
    return p, q


def _joint(joint: ArrayLike) -> np.ndarray:
    """Return a joint distribution as a table with a row per value of X and a column per value of Y."""
    table = _distribution(joint, "joint")
    if table.ndim != 2:
        raise ValueError(f"joint must be a table of two dimensions, one for each variable; got shape {table.shape}")
    return table


def _expected_surprise(p: np.ndarray, q: np.ndarray) -> float:
    """−Σ p log q in nats, over the outcomes that occur."""
    occurs = p > 0
    with np.errstate(divide="ignore"):
        return float(-(p[occurs] * np.log(q[occurs])).sum()) + 0.0  # + 0.0: never −0.0


def entropy(p: ArrayLike, *, unit: str = "nats") -> float:
    """Average surprise of a source whose probabilities are known: −Σ p log p.

    Args:
        p: probabilities of all outcomes, an array of any shape (a table: the joint entropy).
        unit: "nats" or "bits".
    Returns:
        Between 0 (one outcome is certain) and log n (n outcomes, all equally likely).
    Raises:
        ValueError: not a distribution (empty, negative, NaN, sum off one by more than 1e-6), or an unknown unit.
    Source: Shannon 1948, section 6.

    >>> entropy([1/2, 1/4, 1/4, 0], unit="bits")
    1.5
    """
    scale, p = _nats_per(unit), _distribution(p, "p")
    return _expected_surprise(p, p) / scale


def cross_entropy(p: ArrayLike, q: ArrayLike, *, unit: str = "nats") -> float:
    """Average surprise of somebody who believes q while outcomes come from p: −Σ p log q.

    Args:
        p: true probabilities.   q: believed ones, in the same shape.
        unit: "nats" or "bits".
    Returns:
        At least the entropy of p; infinite where q = 0 < p.
    Raises:
        ValueError: not distributions, of different shapes, or an unknown unit.
    Differs: ``lmcore.metrics.perplexity.cross_entropy`` takes log-probabilities of a text's tokens; it is this function
        with the text's frequencies for p.

    >>> cross_entropy([1/2, 1/4, 1/4], [1/4, 1/4, 1/2], unit="bits")   # 2/2 + 2/4 + 1/4
    1.75
    """
    scale, (p, q) = _nats_per(unit), _pair(p, q)
    return _expected_surprise(p, q) / scale


def kl_divergence(p: ArrayLike, q: ArrayLike, *, unit: str = "nats") -> float:
    """What it costs to believe q while outcomes come from p: D(p‖q) = Σ p log(p/q), the cross-entropy less the entropy.

    Args, raises: as ``cross_entropy``.
    Returns:
        ≥ 0, and 0 only for p = q; infinite where q = 0 < p. Not symmetric.
    Source: Kullback and Leibler 1951.

    >>> kl_divergence([1/2, 1/4, 1/4], [1/4, 1/4, 1/2], unit="bits")   # 1.75 − 1.5
    0.25
    >>> kl_divergence([1, 0], [1/2, 1/2], unit="bits"), kl_divergence([1/2, 1/2], [1, 0], unit="bits")
    (1.0, inf)
    """
    scale, (p, q) = _nats_per(unit), _pair(p, q)
    return _divergence(p, q) / scale


def _divergence(p: np.ndarray, q: np.ndarray) -> float:
    """D(p‖q) in nats; rounding must not take it below zero."""
    occurs = p > 0
    with np.errstate(divide="ignore"):
        # The difference of logarithms, since the quotient p/q overflows where q is tiny.
        return max(float((p[occurs] * (np.log(p[occurs]) - np.log(q[occurs]))).sum()), 0.0)


def js_divergence(p: ArrayLike, q: ArrayLike, *, unit: str = "nats") -> float:
    """Jensen–Shannon divergence: the average of D(p‖m) and D(q‖m), where m = (p + q)/2.

    Args, raises: as ``cross_entropy``.
    Returns:
        Between 0 (equal) and log 2 (nothing in common); symmetric and always finite.
    Differs: scipy.spatial.distance.jensenshannon is the square root of this.

    >>> js_divergence([1, 0], [0, 1], unit="bits")
    1.0
    """
    scale, (p, q) = _nats_per(unit), _pair(p, q)
    middle = p / 2 + q / 2  # halved first: the sum of two tiny numbers keeps its digits
    # Where p is the smallest number that a float can hold, its half is zero; there nothing is lost by asking p itself.
    middle = np.where(middle > 0, middle, np.maximum(p, q))
    return (_divergence(p, middle) + _divergence(q, middle)) / 2 / scale


def conditional_entropy(joint: ArrayLike, *, unit: str = "nats") -> float:
    """What remains to be learnt about Y (columns) once X (rows) is known: H(Y|X) = H(X, Y) − H(X).

    Args:
        joint: (n, m) probabilities of all pairs; row x, column y. Transpose it for H(X|Y).
        unit: "nats" or "bits".
    Returns:
        Between 0 (X determines Y) and H(Y) (X says nothing).
    Raises:
        ValueError: not a joint distribution, or an unknown unit.

    >>> conditional_entropy([[1/2, 0], [1/4, 1/4]], unit="bits")   # half the time one bit is left
    0.5
    """
    scale, table = _nats_per(unit), _joint(joint)
    rows = np.broadcast_to(table.sum(axis=1, keepdims=True), table.shape)
    occurs = table > 0
    return float((table[occurs] * (np.log(rows[occurs]) - np.log(table[occurs]))).sum()) / scale


def mutual_information(joint: ArrayLike, *, unit: str = "nats") -> float:
    """What X tells about Y, and Y about X: the divergence of their joint distribution from independence.

    Args:
        joint: (n, m) probabilities of all pairs.
        unit: "nats" or "bits".
    Returns:
        Between 0 (independent) and the smaller of H(X) and H(Y).
    Raises:
        ValueError: not a joint distribution, or an unknown unit.
    Cost: O(n · m).
    Differs: sklearn.metrics.mutual_info_score takes the samples' labels, not the table.

    >>> mutual_information([[1/2, 0], [0, 1/2]], unit="bits")
    1.0
    """
    scale, table = _nats_per(unit), _joint(joint)
    x, y = np.nonzero(table)  # pairs that occur: their marginals are above zero, however small the product
    independent = np.log(table.sum(axis=1)[x]) + np.log(table.sum(axis=0)[y])
    return max(float((table[x, y] * (np.log(table[x, y]) - independent)).sum()), 0.0) / scale


def information_gain(labels: ArrayLike, feature: ArrayLike, *, unit: str = "nats") -> float:
    """How much a feature's value tells about the label, in a sample: H(labels) − H(labels|feature).

    Args:
        labels: (N,) the classes of N examples, of any kind that can be sorted.
        feature: (N,) the value that a feature has in each.
        unit: "nats" or "bits".
    Returns:
        The mutual information of the observed frequencies, ≥ 0: what a decision tree gains by asking for the feature.
        In a small sample it is above zero even for a feature that has nothing to do with the labels.
    Raises:
        ValueError: no example, lengths that differ, NaN, or an unknown unit.
    Cost: O(N log N).

    >>> information_gain(["old", "old", "new", "new"], [True, True, False, True], unit="bits")   # 1 − ¾ · H(⅔)
    0.31127812445913283
    """
    rows, columns = _numbered(labels, "labels"), _numbered(feature, "feature")
    if len(rows) != len(columns):
        raise ValueError(f"there are {len(rows)} labels and {len(columns)} values of the feature; each label needs one")
    shape = rows.max() + 1, columns.max() + 1
    counts = np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1])
    return mutual_information(counts.reshape(shape) / len(rows), unit=unit)


def _numbered(values: ArrayLike, name: str) -> np.ndarray:
    """Number a sample's distinct values."""
    values = np.asarray(values)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"{name} must be a list of at least one value, got shape {values.shape}")
    if values.dtype.kind in "fc" and np.isnan(values).any():
        raise ValueError(f"{name}[{int(np.isnan(values).argmax())}] is NaN, which is not a value")
    return np.unique(values, return_inverse=True)[1]
