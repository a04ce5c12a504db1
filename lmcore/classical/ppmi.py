"""Word vectors by counting: which words stand near each other more often than chance, and the few directions of that.

Count how often a word c stands within some distance of a word w. Pointwise mutual information compares this with what
independence would give,

    PMI(w, c) = log p(w, c) / (p(w) p(c)),        PPMI = max(PMI, 0),

and the singular value decomposition keeps the strongest directions of the table, as latent semantic analysis does for
words and documents.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike


def cooccurrence_pairs(
    sentences: Iterable[Sequence[int]], size: int, *, window: int = 5, weighted: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count how often words stand near each other, and list only the pairs that do.

    Args:
        sentences: ids of words, 0 … size − 1; a negative id stands for a word that is not counted but takes its place.
        size: V, number of words.
        window: words to either side that count, ≥ 1; never across the end of a sentence.
        weighted: a word at distance d counts 1/d, as in GloVe; else 1.
    Returns:
        rows, columns (n,) int64 and counts (n,) float of the n pairs that occur, sorted; (i, j) and (j, i) are both
        listed, with the same count.
    Raises:
        ValueError: window or size < 1, or an id of at least size.
    Cost: O(words · window) memory, and the time to sort that.

    >>> [part.tolist() for part in cooccurrence_pairs([[0, 1, 0]], 2, window=2)]   # 0–0 at distance 2, both ways
    [[0, 0, 1], [0, 1, 0], [1.0, 2.0, 2.0]]
    """
    if window < 1 or size < 1:
        raise ValueError(f"window and size must be at least 1, got {window} and {size}")
    gap = np.full(window, -1)
    parts = [part for sentence in sentences for part in (np.asarray(sentence, dtype=np.int64), gap)]
    text = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
    if text.size and text.max() >= size:
        raise ValueError(f"id {text.max()} is outside 0 … {size - 1}")
    cells, weights = [], []
    for distance in range(1, window + 1):
        left, right = text[:-distance], text[distance:]
        both = (left >= 0) & (right >= 0)
        cells += [left[both] * size + right[both], right[both] * size + left[both]]  # a pair as one number
        weights.append(np.full(2 * both.sum(), 1 / distance if weighted else 1.0))
    cells, where = np.unique(np.concatenate(cells), return_inverse=True)
    return cells // size, cells % size, np.bincount(where, weights=np.concatenate(weights), minlength=len(cells))


def cooccurrences(
    sentences: Iterable[Sequence[int]], size: int, *, window: int = 5, weighted: bool = True
) -> np.ndarray:
    """Count how often words stand near each other, as a whole table.

    Args, Raises: as `cooccurrence_pairs`.
    Returns:
        (V, V) float, symmetric.
    Cost: O(V²) memory beside that of the pairs: 800 MB for V = 10,000.

    >>> cooccurrences([[0, 1, 0]], 2, window=2).tolist()   # 0–1 and 1–0 at distance 1, 0–0 at distance 2
    [[1.0, 2.0], [2.0, 0.0]]
    """
    rows, columns, counts = cooccurrence_pairs(sentences, size, window=window, weighted=weighted)
    table = np.zeros((size, size))
    table[rows, columns] = counts
    return table


def ppmi(counts: ArrayLike, *, shift: float = 0.0, smoothing: float = 1.0) -> np.ndarray:
    """Positive pointwise mutual information of a table of counts.

    Args:
        counts: (V, C) ≥ 0: how often word and context occur together.
        shift: taken from the PMI before negative values are cut; log k corresponds to k negative samples of word2vec.
        smoothing: contexts' probabilities are raised to this power and normalised; 0.75 keeps rare contexts from
            having the largest values.
    Returns:
        (V, C) nats, ≥ 0; 0 where a pair, a word or a context never occurs.
    Raises:
        ValueError: negative or NaN counts, no count at all, shift < 0, or smoothing outside (0, 1].
    Source: Levy and Goldberg 2014; smoothing as in Mikolov et al. 2013.

    >>> ppmi([[2, 0], [0, 2]]).round(4).tolist()   # log (1/2) / (1/2 · 1/2) = log 2
    [[0.6931, 0.0], [0.0, 0.6931]]
    """
    counts = np.asarray(counts, dtype=float)
    if counts.ndim != 2 or not (counts >= 0).all() or not counts.sum() > 0:
        raise ValueError(f"counts must be a table of numbers ≥ 0, not all zero; got shape {counts.shape}")
    if not shift >= 0 or not 0 < smoothing <= 1:
        raise ValueError(f"shift must be at least 0 and smoothing in (0, 1], got {shift} and {smoothing}")
    words, contexts = counts.sum(axis=1, keepdims=True), counts.sum(axis=0, keepdims=True) ** smoothing
    contexts = contexts / contexts.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        pmi = np.log(counts / (words * contexts)) - shift
    return np.where(counts > 0, np.maximum(pmi, 0), 0.0)


def svd_vectors(table: ArrayLike, dim: int, *, power: float = 0.5) -> np.ndarray:
    """Rows of U Σ^power: for each row of a table its place along the strongest directions.

    Args:
        table: (V, C).   dim: how many directions, 1 … min(V, C).
        power: 1 keeps the table's dot products, 0 weighs all directions alike; ½ often does best for words.
    Returns:
        (V, dim). The sign of a direction is chosen so that its largest number is positive.
    Raises:
        ValueError: dim outside its range.
    Cost: O(V · C · min(V, C)).
    """
    table = np.asarray(table, dtype=float)
    if not 1 <= dim <= min(table.shape):
        raise ValueError(f"dim must be in 1 … {min(table.shape)}, got {dim}")
    U, sigma, _ = np.linalg.svd(table, full_matrices=False)
    U = U[:, :dim] * np.sign(U[np.abs(U[:, :dim]).argmax(axis=0), np.arange(dim)])
    return U * sigma[:dim] ** power
