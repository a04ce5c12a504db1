"""The simplest tokenizer: every character is a token. Nothing is unknown for long, and sequences are long."""

from collections.abc import Iterable

from lmcore.text.tokenizer import Tokenizer


class CharacterTokenizer(Tokenizer):
    """One token per Unicode code point.

    Differs: a letter with a separate accent is two tokens; normalise to NFC first to make it one.

    >>> tokenizer = CharacterTokenizer().fit(["abba"])
    >>> tokenizer.encode("ab!"), tokenizer.decode(tokenizer.encode("ab!"))
    ([4, 5, 1], 'ab<unk>')
    """

    def split(self, text: str) -> list[str]:
        """Cut a text into its characters."""
        return list(text)

    def join(self, tokens: Iterable[str]) -> str:
        """Put characters back together; exact inverse of ``split``."""
        return "".join(tokens)
