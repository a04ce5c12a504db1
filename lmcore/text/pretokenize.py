"""Before byte-pair encoding: cut a text into pieces that no merge may cross, and write each piece's bytes as letters.

Unlike a tokenizer this loses nothing: the pieces put together are the text. A space belongs to the word after it.
"""

from collections.abc import Iterable
from functools import cache

from lmcore.optional import need

# GPT-2's pattern: English endings, then letters, digits or other signs with at most one space before them, then white
# space, of which the last space is left for the word that follows. \s is spelt out, since libraries differ on it.
_SPACE = r"\p{White_Space}"
_GPT2 = (
    rf"'s|'t|'re|'ve|'m|'ll|'d| ?\p{{L}}+| ?\p{{N}}+| ?[^{_SPACE}\p{{L}}\p{{N}}]+|{_SPACE}+(?![^{_SPACE}])|{_SPACE}+"
)
_DIGITS = r"\p{N}|\P{N}+"
PATTERNS = {"gpt2": (_GPT2,), "smollm2": (_DIGITS, _GPT2)}  # one after the other; SmolLM2 sets every digit apart


@cache
def _compiled(pattern: str):  # noqa: ANN202 (regex.Pattern, of an optional package)
    """Compile a pattern; the standard library's re does not know Unicode's classes."""
    need("regex", group="text", by="lmcore.text.pretokenize")
    import regex

    return regex.compile(pattern)


def pretokenize(text: str, pattern: str = "gpt2") -> list[str]:
    """Cut a text into pieces; together they are the text.

    Args:
        pattern: a key of ``PATTERNS``: gpt2 or smollm2.
    Raises:
        ValueError: another pattern.
    Cost: about 8 MB of English per second.
    Source: Radford et al. 2019, section 2.2, and the code published with it.

    >>> pretokenize("We'll see  42 signs!")
    ['We', "'ll", ' see', ' ', ' 42', ' signs', '!']
    >>> pretokenize("see 42", "smollm2")
    ['see', ' ', '4', '2']
    """
    if pattern not in PATTERNS:
        raise ValueError(f"pattern must be one of {', '.join(PATTERNS)}, got {pattern!r}")
    first, *others = map(_compiled, PATTERNS[pattern])
    pieces = first.findall(text)
    for following in others:
        pieces = [part for piece in pieces for part in following.findall(piece)]
    return pieces


@cache
def byte_letters() -> tuple[str, ...]:
    """A visible letter for each of the 256 bytes: printable ones stand for themselves, the others follow from Ā on.

    >>> byte_letters()[ord("a")], byte_letters()[ord(" ")], byte_letters()[0]
    ('a', 'Ġ', 'Ā')
    """
    visible = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    hidden = iter(range(256, 512))
    return tuple(chr(byte) if byte in visible else chr(next(hidden)) for byte in range(256))


@cache
def _bytes_of_letters() -> dict[str, int]:
    """Turn the letters back."""
    return {letter: byte for byte, letter in enumerate(byte_letters())}


def to_letters(piece: str) -> str:
    """Write a piece's UTF-8 bytes as letters.

    >>> to_letters(" né")
    'ĠnÃ©'
    """
    return piece.encode("utf-8", "surrogatepass").decode("latin-1").translate(byte_letters())


def to_bytes(letters: Iterable[str]) -> bytes:
    """Read letters as bytes again; the exact inverse of ``to_letters``.

    Raises:
        ValueError: a character that stands for no byte.
    """
    table = _bytes_of_letters()
    try:
        return bytes(table[letter] for part in letters for letter in part)
    except KeyError as error:
        raise ValueError(f"{error.args[0]!r} is the letter of no byte") from None
