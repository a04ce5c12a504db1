"""Models that an arithmetic coder can ask for the shares of the next symbols, in whole numbers.

Encoder and decoder must agree to the last unit, so probabilities become integers in one place, by one rule. The coder
itself, and why it needs them, is in ``arithmetic_coding``.
"""

from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

PRECISION = 24  # bits
TOTAL = 1 << PRECISION  # the frequencies of a table add up to this


def cumulative_frequencies(probs: ArrayLike) -> array:
    """Turn probabilities into whole numbers: symbol s owns the frequencies from table[s] to table[s + 1].

    Args:
        probs: (V,) probabilities of the symbols 0 … V − 1.
    Returns:
        V + 1 integers that rise from 0 to ``TOTAL``. A symbol with a probability above zero, however small, gets at
        least 1; one with probability zero gets 0, and cannot be coded. What rounding leaves goes to the likeliest.
    Raises:
        ValueError: not a distribution: empty, negative, NaN, or a sum off one by more than 1e-6; or V > 2²³.

    >>> list(cumulative_frequencies([0.5, 0, 0.5])), TOTAL // 2
    ([0, 8388608, 8388608, 16777216], 8388608)
    """
    probs = np.asarray(probs, dtype=float)
    if probs.ndim != 1 or not 0 < probs.size <= TOTAL // 2:
        raise ValueError(f"probabilities must be a list of 1 to {TOTAL // 2:,} numbers, got shape {probs.shape}")
    if not probs.min() >= 0:  # also if there is a NaN
        where = int(np.argmin(probs >= 0))
        raise ValueError(f"probability {probs[where]:g} of symbol {where}: it must be at least zero")
    if not abs(probs.sum() - 1) <= 1e-6:
        raise ValueError(f"the probabilities sum to {probs.sum():.9g}, not to 1")
    possible = probs > 0
    counts = (probs / probs.sum() * (TOTAL - possible.sum())).astype(np.int64) + possible
    counts[probs.argmax()] += TOTAL - counts.sum()
    table = np.zeros(len(probs) + 1, dtype=np.uintc)
    np.cumsum(counts, out=table[1:])
    return array("I", table.tobytes())  # not a list, which takes ten times the memory; not NumPy's, slower one by one


class Model(ABC):
    """What the coder asks of a model, for each symbol in turn: first ``table()``, then ``update(symbol)``.

    A subclass may learn in ``update`` from the symbols coded so far: the decoder, who knows them by then, learns the
    same. ``Predictor``, ``RecentSymbols`` and ``AdaptiveCounts`` are three examples.
    """

    @abstractmethod
    def start(self) -> None:
        """Forget the text so far; called before each text."""

    @abstractmethod
    def table(self) -> Sequence[int]:
        """Return the cumulative frequencies of the next symbol, as ``cumulative_frequencies`` makes them."""

    @abstractmethod
    def update(self, symbol: int) -> None:
        """Take note of which symbol it was."""


def _check_k(k: int) -> None:
    """Refuse a number of symbols to look back at that is none."""
    if not isinstance(k, int | np.integer) or k < 0:
        raise ValueError(f"k must be a whole number of at least 0, got {k!r}")


class Predictor(Model):
    """Any function from the list of the symbols so far to the (V,) probabilities of the next.

    Cost: one call for each symbol; if the function looks only at the last few, ``RecentSymbols`` is far faster.

    >>> model = Predictor(lambda history: [1/4, 3/4] if history else [1/2, 1/2])
    >>> model.start(); model.update(0); list(model.table()) == [0, TOTAL // 4, TOTAL]
    True
    """

    def __init__(self, predict: Callable[[list[int]], ArrayLike]):
        self._predict = predict

    def start(self) -> None:
        """Begin a new text."""
        self._history: list[int] = []

    def table(self) -> Sequence[int]:
        """Return the cumulative frequencies of the next symbol."""
        return cumulative_frequencies(self._predict(list(self._history)))

    def update(self, symbol: int) -> None:
        """Take note of the symbol."""
        self._history.append(symbol)


class _Context:
    """The last symbols, their table, and the contexts that come after it."""

    __slots__ = ("following", "symbols", "table")

    def __init__(self, symbols: tuple[int, ...], table: Sequence[int]):
        self.symbols, self.table, self.following = symbols, table, {}


class RecentSymbols(Model):
    """A function that looks only at the last k symbols, asked once for each context that comes up.

    The contexts form an automaton: each one remembers which context follows after which symbol, so that in a long text
    a step is one look into a small dictionary. What was computed is kept for the next text.

    Args:
        predict: from a list of at most k symbols (fewer only at a text's start) to (V,) probabilities; must always give
            the same answer to the same list.
        k: how many symbols it looks at, ≥ 0.
    Raises:
        ValueError: k < 0.
    Cost: one call, and about 4 V + 500 bytes, for each different context.

    >>> asked = []
    >>> model = RecentSymbols(lambda recent: asked.append(recent) or [1/2, 1/2], k=1)
    >>> model.start()
    >>> for symbol in (0, 1, 0, 1, 0, 1): model.update(symbol)
    >>> asked
    [[], [0], [1]]
    """

    def __init__(self, predict: Callable[[list[int]], ArrayLike], k: int):
        _check_k(k)
        self._predict, self._k, self._contexts = predict, k, {}

    def start(self) -> None:
        """Begin a new text."""
        self._now = self._context(())

    def table(self) -> Sequence[int]:
        """Return the cumulative frequencies of the next symbol."""
        return self._now.table

    def update(self, symbol: int) -> None:
        """Take note of the symbol."""
        following = self._now.following.get(symbol)
        if following is None:
            symbols = (*self._now.symbols, symbol)
            following = self._now.following[symbol] = self._context(symbols[max(0, len(symbols) - self._k) :])
        self._now = following

    def _context(self, symbols: tuple[int, ...]) -> _Context:
        """The context of the last symbols, made when it is first met."""
        if symbols not in self._contexts:
            self._contexts[symbols] = _Context(symbols, cumulative_frequencies(self._predict(list(symbols))))
        return self._contexts[symbols]


class AdaptiveCounts(Model):
    """Counts that start from nothing and grow with the text: (c + alpha) / (n + alpha · V) after the last k symbols.

    Args:
        vocabulary_size: V ≥ 1.
        k: length of the contexts that are counted apart, ≥ 0.
        alpha: pretended count of each symbol in each context, > 0.
    Raises:
        ValueError: a setting outside its range.
    Cost: O(V) for each symbol.
    Source: alpha = ½ is the estimate of Krichevsky and Trofimov 1981; alpha = 1 is Laplace's.

    >>> model = AdaptiveCounts(2, alpha=1)
    >>> model.start(); model.update(1); list(model.table()) == list(cumulative_frequencies([1/3, 2/3]))
    True
    """

    def __init__(self, vocabulary_size: int, *, k: int = 0, alpha: float = 0.5):
        if vocabulary_size < 1:
            raise ValueError(f"vocabulary_size must be at least 1, got {vocabulary_size}")
        if not alpha > 0:
            raise ValueError(f"alpha must be above zero, got {alpha}: a symbol never seen must not be impossible")
        _check_k(k)
        self._size, self._k, self._alpha = vocabulary_size, k, alpha

    def start(self) -> None:
        """Begin a new text."""
        self._all: dict[tuple[int, ...], np.ndarray] = {}
        self._recent: tuple[int, ...] = ()

    def table(self) -> Sequence[int]:
        """Return the cumulative frequencies of the next symbol."""
        counts = self._counts()
        return cumulative_frequencies(counts / counts.sum())

    def update(self, symbol: int) -> None:
        """Take note of the symbol."""
        self._counts()[symbol] += 1
        recent = (*self._recent, symbol)
        self._recent = recent[max(0, len(recent) - self._k) :]

    def _counts(self) -> np.ndarray:
        """Counts after the last k symbols, the pretended ones included."""
        if self._recent not in self._all:
            self._all[self._recent] = np.full(self._size, float(self._alpha))
        return self._all[self._recent]
