"""What BLEU takes for a word: four tokenizers that scores are published with, token for token as sacrebleu has them.

    13a   English and its neighbours: punctuation apart, except the points and commas inside numbers
    zh    every Chinese character is a token, the rest as in 13a
    char  every character that is not white space
    none  what stands between white space, for texts that are tokenized already

A score without the name of its tokenizer cannot be compared with another one (Post 2018).
"""

import re
from collections.abc import Callable, Iterable
from itertools import chain

_SYMBOLS = '!"#$%&()*+/:;<=>?@[\\]^_`{|}~'  # stand alone wherever they are; of ASCII, the others ' , - . need rules
# Pairs of characters, from left to right: a character that one match has used up is not seen by the next match. That is
# how the original works, and why lookaheads would give other tokens for "a.,5".
_NUMBERS = (
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),  # a point or comma, unless a digit stands before …
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),  # … or after it
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),  # a dash after a digit
)
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
# The table of the original writes two ranges beyond U+FFFF with five digits after \u, which Python reads as four digits
# and one more character. So the rare characters of Extension B are missing, and all from U+2001 to U+2A6D are taken for
# Chinese, among them the typographic quotation marks. Published scores depend on it, so it stays.
_CHINESE = re.compile(
    "(["
    "\u2001-\u2a6d\u2e80-\u2fdf\u2ff0-\u303f\u3100-\u312f\u31a0-\u31bf\u31c0-\u31ef\u3200-\u4db5\u4e00-\u9fbb"
    "\uf900-\ufa2d\ufa30-\ufa6a\ufa70-\ufad9\ufe10-\ufe1f\ufe30-\ufe4f\uff00-\uffef"
    "])"
)


def _separate(text: str) -> str:
    """Set punctuation apart with spaces."""
    for symbol in _SYMBOLS:
        text = text.replace(symbol, f" {symbol} ")
    for pattern, replacement in _NUMBERS:
        text = pattern.sub(replacement, text)
    return text


def _tokenize_13a(lines: Iterable[str]) -> list[list[str]]:
    """The tokens of each line.

    No rule of 13a looks beyond the space on either side of a chunk, a text between white space. A corpus has few
    different chunks, so all of them are taken apart at once, in one string with a line for each.
    """
    chunks_of = []
    for line in lines:
        line = line.rstrip().replace("<skipped>", "")
        if "\n" in line:
            line = line.replace("-\n", "")  # a word that was hyphenated at a line's end
        chunks_of.append(line.split())
    different = list(set(chain.from_iterable(chunks_of)))
    text = " \n ".join(different)
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    tokens = dict(zip(different, map(str.split, _separate(f" {text} ").split("\n")), strict=bool(different)))
    return [list(chain.from_iterable(map(tokens.__getitem__, chunks))) for chunks in chunks_of]


def _tokenize_zh(lines: Iterable[str]) -> list[list[str]]:
    """The tokens of each line. At its ends there is no space: "5." keeps its point there, and loses it elsewhere."""
    return [_separate(_CHINESE.sub(r" \1 ", line.strip())).split() for line in lines]


def _tokenize_char(lines: Iterable[str]) -> list[list[str]]:
    """The characters of each line."""
    return [list("".join(line.split())) for line in lines]


def _tokenize_none(lines: Iterable[str]) -> list[list[str]]:
    """What each line has between white space."""
    return [line.split() for line in lines]


TOKENIZERS: dict[str, Callable[[Iterable[str]], list[list[str]]]] = {
    "13a": _tokenize_13a,
    "zh": _tokenize_zh,
    "char": _tokenize_char,
    "none": _tokenize_none,
}


def bleu_tokenize(lines: Iterable[str], tokenizer: str = "13a") -> list[list[str]]:
    """Cut lines into the tokens that BLEU compares.

    Args:
        lines: segments of text, most often sentences.
        tokenizer: "13a", "zh", "char" or "none".
    Returns:
        A list of tokens for each line.
    Raises:
        TypeError: one string instead of lines.
        ValueError: no such tokenizer.
    Cost: 13a needs a dictionary lookup for each chunk between white space, and its regular expressions only once for
        each different one.
    Source: the mteval-v13a script of NIST, as sacrebleu passes it on (Post 2018).

    >>> bleu_tokenize(["It's 3,000.5 km, isn't it?"])
    [["It's", '3,000.5', 'km', ',', "isn't", 'it', '?']]
    >>> bleu_tokenize(["我爱 New York。"], "zh"), bleu_tokenize(["我爱 NY"], "char")
    ([['我', '爱', 'New', 'York', '。']], [['我', '爱', 'N', 'Y']])
    """
    if isinstance(lines, str):
        raise TypeError(f"lines must be a list of strings, got one string: {lines!r:.40}")
    if tokenizer not in TOKENIZERS:
        raise ValueError(f"tokenizer must be one of {', '.join(map(repr, TOKENIZERS))}, got {tokenizer!r}")
    return TOKENIZERS[tokenizer](lines)
