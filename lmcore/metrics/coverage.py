"""How much of a text does a vocabulary know? By its running words (tokens) and by its different words (types).

The two differ widely: words that occur once are a large share of the types and a small share of the tokens. What is not
covered is out of vocabulary: a word model reads it as one symbol for "unknown", so a perplexity that counts this symbol
like any other looks better, the less the vocabulary knows.
"""

from collections import Counter
from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

import numpy as np


class Coverage(NamedTuple):
    """Shares between 0 and 1."""

    tokens: float  # of the running words
    types: float  # of the different words


def _counted(tokens: Iterable[str], name: str) -> Counter:
    """How often each token occurs."""
    if isinstance(tokens, str):
        raise TypeError(f"{name} must be a list of tokens, got one string: {tokens!r:.40}; split it first")
    counts = Counter(tokens)
    if not counts:
        raise ValueError(f"{name} is empty: it has no token")
    return counts


def coverage(tokens: Iterable[str], vocabulary: Container[str]) -> Coverage:
    """Share of a text's tokens, and of its types, that a vocabulary holds.

    Args:
        tokens: the text.
        vocabulary: anything that answers ``token in vocabulary``: a set, a dictionary, a ``Vocabulary``.
    Returns:
        A ``Coverage``. One minus its ``tokens`` is the out-of-vocabulary rate.
    Raises:
        TypeError: a string for tokens or vocabulary.
        ValueError: no token.
    Cost: one look-up for each type.

    >>> coverage("the cat saw the gnu".split(), {"the", "cat", "saw"})
    Coverage(tokens=0.8, types=0.75)
    """
    if isinstance(vocabulary, str):
        raise TypeError("vocabulary must be a set or list of tokens, got one string")
    counts = _counted(tokens, "tokens")
    known = [token for token in counts if token in vocabulary]
    return Coverage(sum(map(counts.__getitem__, known)) / counts.total(), len(known) / len(counts))


def coverage_by_size(training: Iterable[str], tokens: Iterable[str], sizes: Sequence[int]) -> np.ndarray:
    """Share of a text's tokens that the most frequent words of a training text cover, for several vocabulary sizes.

    Args:
        training: tokens of the text from which vocabularies are taken, the most frequent first, ties in sorted order.
        tokens: tokens of another text.
        sizes: vocabulary sizes ≥ 0; one beyond the training text's types means all of them.
    Returns:
        (len(sizes),) shares between 0 and 1, which rise with the size.
    Raises:
        TypeError: a string for tokens.
        ValueError: a text without token, or a negative size.

    >>> coverage_by_size("a a a b b c".split(), "a b a d".split(), [0, 1, 2, 9]).tolist()
    [0.0, 0.5, 0.75, 0.75]
    """
    sizes = np.asarray(sizes, dtype=int)
    if sizes.size and sizes.min() < 0:
        raise ValueError(f"sizes must be at least 0, got {sizes.min()}")
    known, counts = _counted(training, "training"), _counted(tokens, "tokens")
    ranked = sorted(known, key=lambda token: (-known[token], token))
    covered = np.cumsum([0, *(counts[token] for token in ranked)])
    return covered[np.minimum(sizes, len(ranked))] / counts.total()
