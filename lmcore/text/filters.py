"""Is this a text that a language model should read? Statistics that can be looked at, and limits that say which failed.

A word is a run of letters and digits in scripts with spaces, and a single character in Chinese and Japanese: limits on
counts of words then mean much the same in both, where counting by spaces would call a Chinese page one endless word.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import NamedTuple

_UNSPACED = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af\u3005-\u3007\u3040-\u30ff"  # Han and kana
_MARKUP = frozenset("#@&%*/\\|_~{}[]<>")  # punctuation by Unicode, but in running text a sign of code or tables
_WIDTHS = ("FULLWIDTH ", "HALFWIDTH ")


@cache
def _word_pattern() -> re.Pattern:
    """One unspaced character; or letters, digits and the marks that are written on them, with inner ' and -."""
    marks = "".join(c for c in map(chr, range(0x300, 0x20000)) if unicodedata.category(c)[0] == "M")  # not in \w
    run = rf"(?:(?![{_UNSPACED}])(?:[^\W_]|[{marks}]))+"
    return re.compile(rf"[{_UNSPACED}]|{run}(?:['’-]{run})*")


def split_units(text: str) -> list[str]:
    """Cut a text into words, or into characters where it is Chinese or Japanese.

    >>> split_units("It's GPT-2, 一个模型。")
    ["It's", 'GPT-2', '一', '个', '模', '型']
    """
    return _word_pattern().findall(text)


@cache
def _is_unspaced(unit: str) -> bool:
    """Whether a unit is a Chinese or Japanese character; such units are single."""
    return re.match(f"[{_UNSPACED}]", unit) is not None


@cache
def _kind(character: str) -> str:
    """L for letters with their marks, N for numbers, S for symbols, P for other punctuation, and so on."""
    kind = unicodedata.category(character)[0]
    return "S" if character in _MARKUP else "L" if kind == "M" else kind


@cache
def _script(letter: str) -> str:
    """The first word of a letter's Unicode name, without its width."""
    name = unicodedata.name(letter, "UNKNOWN")
    for width in _WIDTHS:
        name = name.removeprefix(width)
    return name.split()[0]


def kind_share(text: str, kind: str) -> float:
    """Share of one kind among the characters that are not white space; 0 for an empty text.

    Args:
        kind: "L" letters of any script with their accents, "N" numbers, "P" punctuation, "S" symbols: what Unicode
            calls so, and the signs of code and tables, # @ & % * / | _ { } …

    >>> kind_share("中文 a #", "L"), kind_share("中文 a #", "S")
    (0.75, 0.25)
    """
    characters = Counter(text)
    visible = {character: n for character, n in characters.items() if not character.isspace()}
    of_kind = sum(n for character, n in visible.items() if _kind(character) == kind)
    return of_kind / sum(visible.values()) if visible else 0.0


def script_shares(text: str) -> dict[str, float]:
    """Share of each script among the letters: LATIN, CJK (Chinese characters), CYRILLIC, ARABIC and so on.

    >>> script_shares("abc 中")
    {'LATIN': 0.75, 'CJK': 0.25}
    """
    letters = Counter()
    for character, n in Counter(text).items():
        if character.isalpha():
            letters[_script(character)] += n
    return {script: n / letters.total() for script, n in letters.most_common()}


def repeated_share(items: Iterable) -> float:
    """Share of the items that have occurred before; 0 if there is none.

    >>> repeated_share("abab")
    0.5
    """
    items = list(items)
    return 1 - len(set(items)) / len(items) if items else 0.0


def ngrams(units: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """All runs of n units, in order.

    Raises:
        ValueError: n < 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return list(zip(*(units[i:] for i in range(n)), strict=False))


class Statistics(NamedTuple):
    """What `measure` finds in a text: shares are between 0 and 1, the mean length is in characters."""

    characters: int
    words: int
    mean_word_length: float | None  # of spaced words with a letter; None if there is none, as in pure Chinese
    letters: float
    symbols: float
    repeated_lines: float
    repeated_ngrams: float
    scripts: dict[str, float]


def measure(text: str, *, n: int = 4) -> Statistics:
    """Count what the limits of `DocumentFilter` are about.

    Args:
        n: length of the n-grams of words.
    Returns:
        All statistics of the text.
    Raises:
        TypeError: text is not a string.
    Cost: about a million characters per second.

    >>> found = measure("to be or not to be or not")
    >>> found.words, found.mean_word_length, found.repeated_ngrams    # 5 runs of 4 words, the last one known
    (8, 2.25, 0.19999999999999996)
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be str, got {type(text).__name__}")
    units = split_units(text)
    spaced = [unit for unit in units if any(map(str.isalpha, unit)) and not _is_unspaced(unit)]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return Statistics(
        characters=len(text),
        words=len(units),
        mean_word_length=sum(map(len, spaced)) / len(spaced) if spaced else None,
        letters=kind_share(text, "L"),
        symbols=kind_share(text, "S"),
        repeated_lines=repeated_share(lines),
        repeated_ngrams=repeated_share(ngrams(units, n)),
        scripts=script_shares(text),
    )


class Rejection(NamedTuple):
    """A limit that a text does not keep: the limit's name, what the text has, and what is allowed."""

    rule: str
    value: float
    limit: float


@dataclass(frozen=True, kw_only=True)
class DocumentFilter:
    """Limits on a document; the defaults are mild, and no more than a start: look at what they reject.

    Args:
        min_words, max_words: number of words, Chinese characters counting as words.
        min_mean_word_length, max_mean_word_length: of the words in scripts with spaces; not asked of a text in which
            less than half of the letters are of such a script.
        min_letters: share of letters among the characters that are not white space.
        max_symbols: share of symbols and signs of code.
        max_repeated_lines, max_repeated_ngrams: share of the lines, and of the runs of n words, that occurred before.
        n: length of these runs.
        scripts: for a script the share of the letters that must at least be of it, as {"LATIN": 0.5}; a text passes if
            one of them is reached. Empty: every script is welcome.
    Raises:
        ValueError: a share outside [0, 1], a negative number, n < 1, or a minimum above its maximum.

    >>> rules = DocumentFilter(min_words=3)
    >>> rules.keeps("我们都爱学习。")
    True
    >>> [rejection.rule for rejection in rules.rejections("=== 12 | 13 ===")]
    ['min_words', 'min_letters', 'max_symbols']
    """

    min_words: int = 10
    max_words: int = 1_000_000
    min_mean_word_length: float = 2.5
    max_mean_word_length: float = 12.0
    min_letters: float = 0.6
    max_symbols: float = 0.1
    max_repeated_lines: float = 0.3
    max_repeated_ngrams: float = 0.3
    n: int = 4
    scripts: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self):
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "scripts"}
        shares = {
            name: value for name, value in values.items() if name.endswith(("letters", "symbols", "lines", "ngrams"))
        }
        for name, value in [*shares.items(), *self.scripts.items()]:
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be a share between 0 and 1, got {value}")
        for name, value in values.items():
            if not value >= (name == "n"):
                raise ValueError(f"{name} must be at least {int(name == 'n')}, got {value}")
        for what in ("words", "mean_word_length"):
            low, high = values[f"min_{what}"], values[f"max_{what}"]
            if low > high:
                raise ValueError(f"min_{what} is {low}, above max_{what}, {high}: nothing could pass")

    def rejections(self, text: str) -> tuple[Rejection, ...]:
        """All limits that a text breaks, in the order of the arguments; empty if it is to be kept."""
        found = measure(text, n=self.n)
        asked = ["words", "letters", "symbols", "repeated_lines", "repeated_ngrams"]
        unspaced = sum(found.scripts.get(script, 0) for script in ("CJK", "HIRAGANA", "KATAKANA"))
        if found.mean_word_length is not None and unspaced <= 0.5:
            asked.insert(1, "mean_word_length")
        broken = []
        for what in asked:
            value = getattr(found, what)
            low, high = getattr(self, f"min_{what}", value), getattr(self, f"max_{what}", value)
            if not low <= value <= high:
                broken.append(
                    Rejection(*((f"min_{what}", value, low) if value < low else (f"max_{what}", value, high)))
                )
        missing = [Rejection(f"scripts[{name!r}]", found.scripts.get(name, 0.0), s) for name, s in self.scripts.items()]
        if missing and all(rejection.value < rejection.limit for rejection in missing):
            broken += missing
        return tuple(broken)

    def keeps(self, text: str) -> bool:
        """Whether a text breaks no limit."""
        return not self.rejections(text)
