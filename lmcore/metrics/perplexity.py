"""How surprised is a model by a text? One quantity, the mean negative log-probability, in the units people quote.

Every function takes natural log-probabilities, one per token, from any model: an n-gram table or a Transformer.
For the cross-entropy of two *distributions*, and for entropy and divergence, see ``lmcore.metrics.information``.
"""

import math

import numpy as np
from numpy.typing import ArrayLike


def _checked(logprobs: ArrayLike) -> np.ndarray:
    """Return the log-probabilities as a flat float array, or say what is wrong with them."""
    values = np.asarray(logprobs, dtype=float).ravel()
    if values.size == 0:
        raise ValueError("logprobs is empty: perplexity needs at least one token")
    if np.isnan(values).any():
        raise ValueError(f"logprobs[{int(np.isnan(values).argmax())}] is NaN: the model that gave it is broken")
    if values.max() > 1e-9:  # rounding may leave log 1 a hair above zero
        where = int(values.argmax())
        raise ValueError(
            f"logprobs[{where}] = {values[where]:g} is above zero, so its probability exceeds one: "
            "pass log-probabilities, not probabilities or losses"
        )
    return values


def cross_entropy(logprobs: ArrayLike) -> float:
    """Average surprise: the mean of −log p over the tokens.

    Args:
        logprobs: (N,) natural log-probabilities that a model gave to the N tokens of a text.
    Returns:
        Nats per token, ≥ 0; infinite if a token got probability zero.
    Raises:
        ValueError: no token, a NaN, or a value above zero.
    Source: Shannon 1948, section 7; here the text stands for the source's distribution.
    Differs: ``lmcore.metrics.information.cross_entropy`` takes two distributions instead of a text and a model.

    >>> round(cross_entropy(np.log([1/2, 1/8])), 4) == round(2 * math.log(2), 4)   # (1 + 3) / 2 bits
    True
    """
    return float(-_checked(logprobs).mean())


def perplexity(logprobs: ArrayLike) -> float:
    """Number of equally likely choices that would surprise as much: exp of the cross-entropy.

    Args:
        logprobs: (N,) natural log-probabilities, one per token.
    Returns:
        A number ≥ 1, without unit. Comparable between models only if their tokens are the same.
    Raises:
        ValueError: as ``cross_entropy``.

    >>> round(perplexity(np.log([1/6] * 10)), 9)   # a fair die
    6.0
    """
    return float(np.exp(cross_entropy(logprobs)))


def _bits_per(logprobs: ArrayLike, units: int, what: str) -> float:
    """Spread a text's total surprise, in bits, over so many units."""
    if units < 1:
        raise ValueError(f"{what} must be at least 1, got {units}")
    return float(-_checked(logprobs).sum() / math.log(2) / units)


def bits_per_character(logprobs: ArrayLike, n_characters: int) -> float:
    """Spread a text's total surprise over its characters, so that models with different tokens can be compared.

    Args:
        logprobs: (N,) natural log-probabilities, one per token, of the whole text.
        n_characters: length of that text in characters, spaces and line ends included.
    Returns:
        Bits per character.
    Raises:
        ValueError: as ``cross_entropy``, or n_characters < 1.

    >>> bits_per_character(np.log([1/2, 1/8]), n_characters=8)   # 4 bits over 8 characters
    0.5
    """
    return _bits_per(logprobs, n_characters, "n_characters")


def bits_per_byte(logprobs: ArrayLike, n_bytes: int) -> float:
    """Spread a text's total surprise over the bytes of its UTF-8 encoding: a unit for all languages and tokenizers.

    A Chinese character has three bytes there, an English letter one, so bits per character of the two languages differ
    more than bits per byte.

    Args:
        logprobs: (N,) natural log-probabilities, one per token, of the whole text.
        n_bytes: ``len(text.encode())``.
    Returns:
        Bits per byte; times n_bytes / 8 it is the size of the file that the model could pack the text into.
    Raises:
        ValueError: as ``cross_entropy``, or n_bytes < 1.

    >>> bits_per_byte(np.log([1/2, 1/8]), n_bytes=len("你".encode()) + 1)   # 4 bits over 3 + 1 bytes
    1.0
    """
    return _bits_per(logprobs, n_bytes, "n_bytes")


def bits_per_word(logprobs: ArrayLike, n_words: int) -> float:
    """Spread a text's total surprise over its words, whatever its tokens are.

    Args:
        logprobs: (N,) natural log-probabilities, one per token, of the whole text.
        n_words: how many words that text has.
    Returns:
        Bits per word.
    Raises:
        ValueError: as ``cross_entropy``, or n_words < 1.

    >>> bits_per_word(np.log([1/2, 1/8]), n_words=2)
    2.0
    """
    return _bits_per(logprobs, n_words, "n_words")
