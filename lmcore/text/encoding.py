"""From bytes to text without silent damage: what is not valid is reported with its place, or replaced and counted.

A file that claims to be UTF-8 may hold bytes that are none, and a Python string may hold halves of surrogate pairs,
which no UTF-8 file can store. Both come up in collected text, and both should be seen where they enter.
"""

from pathlib import Path
from typing import NamedTuple

_ERRORS = ("strict", "replace")
_REPLACEMENT = "\ufffd"  # what stands for something that could not be read


class Decoded(NamedTuple):
    """A text, and how many places of it were replaced by U+FFFD; those that came with the source do not count."""

    text: str
    replaced: int


def decode_text(data: bytes, *, encoding: str = "utf-8", errors: str = "strict") -> Decoded:
    r"""Decode bytes; a byte-order mark at the start is dropped.

    Args:
        data: the bytes of a file.
        encoding: as ``bytes.decode`` knows it.
        errors: "strict" raises at the first invalid byte; "replace" puts U+FFFD in its place, and counts.
    Returns:
        The text and the number of replacements.
    Raises:
        TypeError: data is not bytes.
        ValueError: an unknown value of errors, or invalid bytes: the message has their offset and what is around them.
        LookupError: Python knows no such encoding.
    Cost: one pass, three for "replace".

    >>> decode_text(b"caf\xc3\xa9").text
    'café'
    >>> decode_text(b"caf\xe9 au lait", errors="replace")    # é in Latin-1
    Decoded(text='caf� au lait', replaced=1)
    >>> decode_text(b"caf\xe9 au lait", encoding="latin-1").text
    'café au lait'
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"data must be bytes, got {type(data).__name__}")
    _check(errors)
    data = bytes(data)
    try:
        text, replaced = data.decode(encoding, errors), 0
    except UnicodeDecodeError as error:
        around = data[max(0, error.start - 10) : error.end + 10]
        raise ValueError(
            f"data is not {encoding}: byte 0x{data[error.start]:02x} at offset {error.start} of {len(data)} "
            f"({error.reason}), in {around!r}. Find the right encoding, or pass errors='replace'"
        ) from error
    if errors == "replace":  # a decoder that leaves out what is invalid keeps the marks that were there before
        replaced = text.count(_REPLACEMENT) - data.decode(encoding, "ignore").count(_REPLACEMENT)
    return Decoded(text.removeprefix("\ufeff"), replaced)


def read_text(path: str | Path, *, encoding: str = "utf-8", errors: str = "strict") -> Decoded:
    """Read a file as `decode_text` does; an error names the file. Line ends stay as they are.

    Raises:
        OSError: the file cannot be read.   ValueError, LookupError: as `decode_text`.
    """
    try:
        return decode_text(Path(path).read_bytes(), encoding=encoding, errors=errors)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def mend_surrogates(text: str, *, errors: str = "strict") -> Decoded:
    r"""Join the halves of surrogate pairs; a half that stands alone is an error, or is replaced and counted.

    Such strings come from JSON that was cut in the middle of an emoji, and cannot be written to a file.

    Args:
        text: any string.
        errors: "strict" or "replace".
    Returns:
        A text that can be encoded, and the number of replacements.
    Raises:
        ValueError: a lone half, with its position; or an unknown value of errors.

    >>> mend_surrogates("\ud83d\ude00").text == "\U0001f600"    # two halves make one face
    True
    >>> mend_surrogates("cut \ud83d", errors="replace").replaced
    1
    """
    _check(errors)
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    lone = [place for place, character in enumerate(joined) if "\ud800" <= character <= "\udfff"]
    if not lone:
        return Decoded(joined, 0)
    if errors == "strict":
        raise ValueError(
            f"text holds half a surrogate pair, U+{ord(joined[lone[0]]):04X}, at position {lone[0]} "
            f"({len(lone)} in all): it stands for no character. Pass errors='replace' to replace it"
        )
    characters = list(joined)
    for place in lone:
        characters[place] = _REPLACEMENT
    return Decoded("".join(characters), len(lone))


def _check(errors: str) -> None:
    """Reject what `errors` cannot be."""
    if errors not in _ERRORS:
        raise ValueError(f"errors is {errors!r}; allowed are {', '.join(_ERRORS)}")
