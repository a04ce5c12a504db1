"""What BERT does to a text before WordPiece: clean it, set Chinese characters apart, fold case, split into words.

The rules are those of the original code, and of Hugging Face's BertNormalizer and BertPreTokenizer. Three differences
remain: their tables are of an older Unicode, so that marks added since 2015 are treated differently; of the Chinese
block from U+2B820 they leave out the first 256 characters, which the original code has; and U+166D, U+1734 have changed
their categories since.
"""

import re
import unicodedata
from functools import cache

# Blocks of Chinese characters, each of which is a word of its own. Kana and hangul are not among them.
_CHINESE = "\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b73f\U0002b740-\U0002b81f"
_CHINESE += "\U0002b820-\U0002ceaf\uf900-\ufaff\U0002f800-\U0002fa1f"
_SPACE = re.compile(r"[^\S\x1c-\x1f]+")  # Python takes four separators for white space, Unicode does not
_CHINESE_CHARACTER = re.compile(f"([{_CHINESE}])")


@cache
def _cleaned(character: str) -> str:
    """White space becomes a space, control characters vanish, everything else stays."""
    if character in "\t\n\r" or (character.isspace() and unicodedata.category(character) != "Cc"):
        return " "
    if character == "\ufffd" or unicodedata.category(character) in ("Cc", "Cf", "Co"):
        return ""
    return character


_ASCII = {number: _cleaned(chr(number)) for number in range(128)}


def normalize(text: str, *, lowercase: bool = True) -> str:
    """Clean a text as BERT does.

    Args:
        lowercase: fold case and drop accents, as for the "uncased" models.

    >>> normalize("Café" + chr(0x200B) + "中文!")
    'cafe 中  文 !'
    """
    if text.isascii():  # no accents, nothing Chinese: a table does it, many times faster
        text = text.translate(_ASCII)
        return text.lower() if lowercase else text
    text = "".join(map(_cleaned, text))
    text = _CHINESE_CHARACTER.sub(r" \1 ", text)
    if not lowercase:
        return text
    decomposed = unicodedata.normalize("NFD", text)
    return "".join(c for c in decomposed if unicodedata.category(c) != "Mn").lower()


@cache
def _is_punctuation(character: str) -> bool:
    """Punctuation, and every ASCII sign that is neither letter, digit nor space: $ + ~ count as punctuation too."""
    ascii_sign = character.isascii() and character.isprintable() and not character.isalnum() and character != " "
    return ascii_sign or unicodedata.category(character).startswith("P")


def split_words(text: str) -> list[str]:
    """Cut a normalized text at white space and around each punctuation mark; the white space is dropped.

    >>> split_words("don't stop, now")
    ['don', "'", 't', 'stop', ',', 'now']
    """
    words: list[str] = []
    for chunk in _SPACE.split(text):
        start = 0
        for i, character in enumerate(chunk):
            if _is_punctuation(character):
                words += [chunk[start:i], character] if start < i else [character]
                start = i + 1
        if start < len(chunk):
            words.append(chunk[start:])
    return words
