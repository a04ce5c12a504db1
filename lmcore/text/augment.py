"""More examples from few: swap, delete, insert or replace words, or translate there and back.

Every change is a bet that the label stays true. A synonym usually keeps it; deleting the word *not* does not. The
functions take and return lists of words, so that they serve every language that can be cut into words.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lmcore.text.words import join_words, split_words

Translator = Callable[[str], str]


def random_swap(words: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
    """Exchange two random places, n times. The words stay the same, only their order does not.

    Args:
        words: the document; with fewer than two words nothing can be swapped.
        n: number of swaps, ≥ 0.
        rng: the source of randomness.
    Returns:
        A new list with the same words.
    Raises:
        TypeError: words is one string.   ValueError: n < 0.
    Source: Wei and Zou 2019.

    >>> random_swap(["tea", "cake"], 1, np.random.default_rng(0))
    ['cake', 'tea']
    """
    words = _checked(words, n=n)
    for _ in range(n if len(words) > 1 else 0):
        i, j = rng.choice(len(words), size=2, replace=False)
        words[i], words[j] = words[j], words[i]
    return words


def random_deletion(words: Sequence[str], p: float, rng: np.random.Generator) -> list[str]:
    """Leave out each word with probability p, independently; if nothing would be left, one random word stays.

    Args:
        words: the document.
        p: in [0, 1].
        rng: the source of randomness.
    Returns:
        A new list, empty only if words is.
    Raises:
        TypeError: words is one string.   ValueError: p outside [0, 1].
    Source: Wei and Zou 2019.

    >>> random_deletion(["tea", "cake"], 0.0, np.random.default_rng(0))
    ['tea', 'cake']
    """
    words = _checked(words)
    if not 0 <= p <= 1:
        raise ValueError(f"p must be in [0, 1], got {p}")
    if not words:
        return []
    kept = [word for word, number in zip(words, rng.random(len(words)), strict=True) if number >= p]
    return kept or [_pick(words, rng)]


def synonym_replacement(
    words: Sequence[str], synonyms: Mapping[str, Sequence[str]], n: int, rng: np.random.Generator
) -> list[str]:
    """Replace n random words, each by a random one of its synonyms.

    Args:
        words: the document.
        synonyms: other words for a word. Words without an entry are never replaced: so function words are spared.
        n: how many words to replace, ≥ 0; fewer if fewer have a synonym.
        rng: the source of randomness.
    Returns:
        A new list of the same length.
    Raises:
        TypeError: words is one string, or a word's synonyms are.   ValueError: n < 0.
    Source: Wei and Zou 2019.  Differs: each chosen place is replaced, not every occurrence of the chosen word.

    >>> synonym_replacement(["hot", "tea"], {"hot": ["warm"]}, 1, np.random.default_rng(0))
    ['warm', 'tea']
    """
    words = _checked(words, n=n)
    places = [place for place, word in enumerate(words) if _others(word, synonyms)]
    for place in rng.permutation(places)[:n].astype(int):
        words[place] = _pick(_others(words[place], synonyms), rng)
    return words


def random_insertion(
    words: Sequence[str], synonyms: Mapping[str, Sequence[str]], n: int, rng: np.random.Generator
) -> list[str]:
    """Put a random synonym of a random word of the document at a random place, n times.

    Args:
        words: the document.
        synonyms: other words for a word, as in `synonym_replacement`.
        n: how many words to insert, ≥ 0; none if no word has a synonym.
        rng: the source of randomness.
    Returns:
        A new list that holds the old words in their order.
    Raises:
        TypeError: words is one string, or a word's synonyms are.   ValueError: n < 0.
    Source: Wei and Zou 2019.  Differs: synonyms are always of the document's own words, not of inserted ones.

    >>> random_insertion(["tea"], {"tea": ["brew"]}, 2, np.random.default_rng(0)).count("brew")
    2
    """
    words = _checked(words, n=n)
    sources = [word for word in words if _others(word, synonyms)]
    for _ in range(n if sources else 0):
        new = _pick(_others(_pick(sources, rng), synonyms), rng)
        words.insert(int(rng.integers(len(words) + 1)), new)
    return words


def back_translate(text: str, there: Translator, back: Translator) -> str:
    """Translate a text into another language and back: what returns says the same in other words, if both are good.

    Args:
        text: the document.
        there, back: functions from a text to its translation; any model or dictionary will do.
    Returns:
        back(there(text)).
    Raises:
        TypeError: a translator that is not callable, or returns something that is no string.
    Source: Sennrich, Haddow and Birch 2016, who translate back to gain training data for translation.

    >>> to_german, to_english = word_translator({"big": "groß", "large": "groß"}), word_translator({"groß": "large"})
    >>> back_translate("a big cake", to_german, to_english)
    'a large cake'
    """
    for name, translate in (("there", there), ("back", back)):
        if not callable(translate):
            raise TypeError(f"{name} must be a function from text to text, got {type(translate).__name__}")
        text = translate(text)
        if not isinstance(text, str):
            raise TypeError(f"{name} must return str, it returned {type(text).__name__}")
    return text


def word_translator(dictionary: Mapping[str, str]) -> Translator:
    """Return a toy translator that looks up word by word; what it does not know, and the order, stay as they are.

    >>> word_translator({"tea": "thé"})("tea, please")
    'thé, please'
    """
    return lambda text: join_words(dictionary.get(word, word) for word in split_words(text))


def _checked(words: Sequence[str], *, n: int = 0) -> list[str]:
    """A new list of the words."""
    if isinstance(words, str):
        raise TypeError(f"words is one string, {words[:40]!r}; pass a list of words")
    if n < 0:
        raise ValueError(f"n must be at least 0, got {n}")
    return list(words)


def _pick(words: Sequence[str], rng: np.random.Generator) -> str:
    """One of the words at random; rng.choice would make an array of them first."""
    return words[rng.integers(len(words))]


def _others(word: str, synonyms: Mapping[str, Sequence[str]]) -> list[str]:
    """The synonyms of a word that are not the word itself."""
    found = synonyms.get(word, ())
    if isinstance(found, str):
        raise TypeError(f"synonyms[{word!r}] is one string, {found!r}; pass a list of words")
    return [other for other in found if other != word]
