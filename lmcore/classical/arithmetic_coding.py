"""A text as one number: an arithmetic coder that turns any next-symbol model into a compressor.

A text owns a part of the interval [0, 1) whose length is the product of its symbols' probabilities: each symbol keeps,
of what the symbols before it left, the share that the model gives it. To say which text it was, say a number in its
part; that takes −log₂(length) bits, hardly more. The decoder asks the same model for the same shares, and looks in
whose share the number lies.

The part soon becomes shorter than any float, so the coder holds its last 56 bits as integers and writes the front as
soon as it no longer matters. Unlike Witten, Neal and Cleary 1987, who write bit by bit and have three cases for it,
this is their idea in the form of Martin's *range encoding* of 1979: two bytes at a time, and when the rest overflows,
one is carried into what was written. The same size to a few bytes, shorter, and faster in Python. Shares are integers,
so encoder and decoder cannot differ by rounding, provided that the model gives both exactly the same floats: on the
same machine, or at least with the same libraries.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from lmcore.classical.coding_models import PRECISION, TOTAL, Model, Predictor

_STATE = 56  # bits of the interval that are in work; two digits of a Python integer
_BLOCK = 16  # bits that are written at once
_KEPT = _STATE - _BLOCK
_FULL, _SMALL, _REST = 1 << _STATE, 1 << _KEPT, (1 << _KEPT) - 1
_PADDING = _STATE // 8  # bytes that a decoder may read past the end, as zeros


def _shortest(low: int, length: int) -> tuple[int, int]:
    """Return the number in an interval that ends in the most zero bytes, and how many bytes stand before these."""
    for n_bytes in range(_PADDING + 1):
        unit = 1 << (_STATE - 8 * n_bytes)
        number = -(-low // unit) * unit  # the first with so few bytes that is not below the interval
        if number < low + length:
            break
    return number, n_bytes


class Encoder:
    """Narrow an interval symbol by symbol, and write down where it is.

    >>> from lmcore.classical.coding_models import cumulative_frequencies
    >>> encoder = Encoder()
    >>> for symbol in (0, 0, 1):   # each has probability ½
    ...     encoder.push(cumulative_frequencies([1/2, 1/2]), symbol)
    >>> encoder.finish()   # the interval ⅛ … ¼; in bits: 001
    b' '
    """

    def __init__(self):
        self._low, self._range, self._written = 0, _FULL, bytearray()

    def push(self, table: Sequence[int], symbol: int) -> None:
        """Keep of the interval the symbol's share.

        Args:
            table: V + 1 cumulative frequencies, from 0 to ``TOTAL``.
            symbol: 0 … V − 1.
        Raises:
            ValueError: the symbol's frequency is zero.
        """
        first = table[symbol]
        frequency = table[symbol + 1] - first
        if not frequency:
            raise ValueError(f"symbol {symbol} has probability zero here: no interval is left for it")
        unit = self._range >> PRECISION
        self._low += unit * first
        self._range = kept = unit * frequency
        if kept <= _SMALL:
            self._write()

    def _write(self) -> None:
        """Write the front of the interval until there is room for another symbol."""
        while self._range <= _SMALL:
            self._carry()
            self._written += (self._low >> _KEPT).to_bytes(_BLOCK // 8, "big")
            self._low = (self._low & _REST) << _BLOCK
            self._range <<= _BLOCK

    def _carry(self) -> None:
        """Add to the bytes already written what has grown over the front, as in 1999 + 1 = 2000."""
        if self._low >= _FULL:
            self._low -= _FULL
            place = len(self._written) - 1
            while self._written[place] == 255:
                self._written[place] = 0
                place -= 1
            self._written[place] += 1

    def finish(self) -> bytes:
        """Write the fewest bytes more that say a number in the interval; return all that was written."""
        self._low, n_bytes = _shortest(self._low, self._range)
        self._carry()
        self._written += (self._low >> (_STATE - 8 * n_bytes)).to_bytes(n_bytes, "big")
        return bytes(self._written)


class Decoder:
    """Follow an encoder: find in whose share the number lies.

    >>> from lmcore.classical.coding_models import cumulative_frequencies
    >>> decoder = Decoder(b" ")
    >>> [decoder.pull(cumulative_frequencies([1/2, 1/2])) for _ in range(3)]
    [0, 0, 1]
    """

    def __init__(self, data: bytes):
        # Past the end stand the zeros that the encoder did not write, and no more of them than it can have left out.
        self._data, self._length = bytes(data) + bytes(2 * _PADDING), len(data)
        self._read = _STATE // 8
        self._offset = int.from_bytes(self._data[: self._read], "big")  # of the number, from where the interval begins
        self._range = _FULL

    def pull(self, table: Sequence[int]) -> int:
        """Return the next symbol.

        Args:
            table: the same cumulative frequencies that the encoder had.
        Raises:
            ValueError: the data end too early, or no encoder with this model can have written them.
        """
        unit = self._range >> PRECISION
        target = self._offset // unit
        if target >= TOTAL:
            raise ValueError("these data were not written by this coder with this model")
        symbol = bisect_right(table, target) - 1
        first = table[symbol]
        self._offset -= unit * first
        self._range = kept = unit * (table[symbol + 1] - first)
        if kept <= _SMALL:
            self._fill()
        return symbol

    def _fill(self) -> None:
        """Read on until there is room for another symbol."""
        while self._range <= _SMALL:
            end = self._read + _BLOCK // 8
            if end > self._length + _PADDING:
                raise ValueError("the data end too early: they are truncated, or were written with another model")
            self._offset = self._offset << _BLOCK | int.from_bytes(self._data[self._read : end], "big")
            self._range <<= _BLOCK
            self._read = end

    def finish(self) -> None:
        """Refuse data that do not end exactly as the encoder ends after these symbols."""
        begin = self._read - _PADDING  # what the encoder had written before its last bytes
        number = int.from_bytes(self._data[begin : self._read], "big")
        expected, n_bytes = _shortest(number - self._offset, self._range)
        if (left := self._length - begin - n_bytes) > 0:
            raise ValueError(f"{left} bytes are left after the last symbol: other data, another model, or a wrong n")
        if left < 0:
            raise ValueError("the data end too early: they are truncated, or were written with another model")
        if number != expected:
            raise ValueError("these data were not written by this coder with this model")


def encode(symbols: Iterable[int], model: Model | Callable[[list[int]], ArrayLike]) -> bytes:
    """Compress a text with a model that predicts it.

    Args:
        symbols: whole numbers in 0 … V − 1.
        model: a ``Model``, or a function from the list of the symbols so far to (V,) probabilities of the next.
    Returns:
        The code. Its length is at most the model's surprise, −Σ log₂ p bits, rounded up to whole bytes; the rounding of
        shares to integers may add up to V · 2⁻²³ + 2⁻¹⁵ bits for each symbol, and makes the rarest ones cheaper than
        they should be. The length of the text is not in it. The model is not told the last symbol.
    Raises:
        ValueError: a symbol that is no whole number in 0 … V − 1, or has probability zero; probabilities that are none.
        TypeError: the model is neither a ``Model`` nor a function.
    Cost: less than a microsecond a symbol beside the model's own.
    Source: Witten, Neal and Cleary 1987; Martin 1979 for the way to write.

    >>> fair = lambda history: [1/2, 1/2]
    >>> encode([0, 0, 1, 0, 0, 0, 0, 0], fair)   # eight coins take one byte
    b' '
    """
    model, encoder = _checked(model), Encoder()
    push, table, update = encoder.push, model.table, model.update
    model.start()
    symbols = _whole_numbers(symbols)
    for place, symbol in enumerate(symbols):
        if place:  # here and not below, so that no model is asked what comes after the last symbol
            update(symbols[place - 1])
        frequencies = table()
        try:
            push(frequencies, symbol)
        except (IndexError, ValueError) as error:
            what = "is outside the alphabet" if isinstance(error, IndexError) else str(error)
            raise ValueError(f"symbols[{place}] = {symbol}: {what}") from error
    return encoder.finish()


def decode(
    data: bytes,
    model: Model | Callable[[list[int]], ArrayLike],
    n: int | None = None,
    *,
    end: int | None = None,
    limit: int = 10_000_000,
) -> list[int]:
    """Bring back what ``encode`` compressed, with the same model.

    Args:
        data: the code.
        model: as for ``encode``; it must give exactly the same probabilities.
        n: how many symbols there are. Or, instead,
        end: the symbol that ends the text and occurs nowhere else in it.
        limit: with ``end``, the longest text to expect: other data may lead a model round in circles.
    Returns:
        The symbols, the end symbol included.
    Raises:
        ValueError: truncated or foreign data, where that shows. It need not: most numbers are the code of some text, so
            a file format should add a checksum. Also neither or both of n and end, or probabilities that are none.
        TypeError: as ``encode``.
    Cost: O(log V) for each symbol beside the model's own.

    >>> decode(b" ", lambda history: [1/2, 1/2], 8)
    [0, 0, 1, 0, 0, 0, 0, 0]
    """
    if (n is None) == (end is None):
        raise ValueError(f"give either n, the number of symbols, or end, the last one; got n={n!r} and end={end!r}")
    if n is not None and (not isinstance(n, int | np.integer) or n < 0):
        raise ValueError(f"n must be a whole number of at least 0, got {n!r}")
    model, decoder, symbols = _checked(model), Decoder(data), []
    pull, table, update, append = decoder.pull, model.table, model.update, symbols.append
    model.start()
    for _ in range(limit if n is None else n):
        if symbols:
            update(symbols[-1])
        append(pull(table()))
        if symbols[-1] == end:
            break
    else:
        if n is None:
            raise ValueError(f"no end symbol among the first {limit:,}: foreign data, or raise the limit")
    decoder.finish()
    return symbols


def _checked(model: Model | Callable[[list[int]], ArrayLike]) -> Model:
    """Make a function a model."""
    if isinstance(model, Model):
        return model
    if not callable(model):
        raise TypeError(f"model must be a Model or a function from symbols to probabilities, got {model!r}")
    return Predictor(model)


def _whole_numbers(symbols: Iterable[int]) -> list[int]:
    """Return the symbols as Python integers, none below zero."""
    numbers = np.asarray(symbols if isinstance(symbols, np.ndarray) else list(symbols))
    if numbers.size == 0:
        return []
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise ValueError(f"symbols must be a list of whole numbers, got {numbers.dtype} of shape {numbers.shape}")
    if numbers.min() < 0:
        where = int(numbers.argmin())
        raise ValueError(f"symbols[{where}] = {numbers[where]}: symbols are numbered from 0")
    return numbers.tolist()
