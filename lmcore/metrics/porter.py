"""Porter's stemmer: cut the endings off English words, so that "connected" and "connection" meet in "connect".

Rules are tried in eight steps. Each asks how much word would be left: a stem's *measure* is the number of times that
vowels are followed by consonants in it, 0 in "tree", 1 in "trouble", 2 in "oaten". What comes out need not be a word.

The rules are Porter's of 1980 with the changes that nltk makes by default, because ROUGE is published with those.
"""

from functools import lru_cache

# Words that the rules would spoil; a choice of nltk.
_IRREGULAR = {
    **{"skies": "sky", "sky": "sky", "dying": "die", "lying": "lie", "tying": "tie", "news": "news", "howe": "howe"},
    **{"innings": "inning", "inning": "inning", "outings": "outing", "outing": "outing"},
    **{"cannings": "canning", "canning": "canning", "proceed": "proceed", "exceed": "exceed", "succeed": "succeed"},
}
# Endings and what replaces them; in each step the first that fits decides, whether or not its condition then holds.
_STEP_2 = (  # if the measure of the stem is above 0
    *(("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"), ("bli", "ble")),
    *(("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous"), ("ization", "ize"), ("ation", "ate")),
    *(("ator", "ate"), ("alism", "al"), ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al")),
    *(("iviti", "ive"), ("biliti", "ble"), ("fulli", "ful")),
)
_STEP_3 = (  # if the measure of the stem is above 0
    *(("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", "")),
)
_STEP_4 = (  # taken away if the measure of the stem is above 1; "ion" only after s or t
    *("al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate"),
    *("iti", "ous", "ive", "ize"),
)


def _shape(word: str) -> str:
    """Write c for each consonant and v for each vowel; y is a vowel after a consonant."""
    shape = ""
    for letter in word:
        vowel = letter in "aeiou" or (letter == "y" and shape.endswith("c"))
        shape += "v" if vowel else "c"
    return shape


def _measure(stem: str) -> int:
    """How often vowels are followed by consonants."""
    return _shape(stem).count("vc")


def _ends_short(word: str) -> bool:
    """Whether the last syllable is short: consonant, vowel, consonant other than w, x, y; or just vowel, consonant."""
    shape = _shape(word)
    return (shape.endswith("cvc") and word[-1] not in "wxy") or shape == "vc"


def _plural(word: str) -> str:
    """Step 1a: caresses, ponies, cats."""
    if word.endswith("ies"):
        return word[:-1] if len(word) == 4 else word[:-2]  # dies: die, but ponies: poni
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _past_and_progressive(word: str) -> str:
    """Step 1b: agreed, plastered, motoring; what was cut off a stem for the ending's sake comes back."""
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    stem = word.removesuffix("ed" if word.endswith("ed") else "ing")
    if stem == word or "v" not in _shape(stem):
        return word
    if stem.endswith(("at", "bl", "iz")):
        return stem + "e"  # conflat(ed), troubl(ed), siz(ed)
    if stem[-2:-1] == stem[-1] and _shape(stem)[-1] == "c":
        return stem if stem[-1] in "lsz" else stem[:-1]  # fall(ing), but hop(ping)
    return stem + "e" if _measure(stem) == 1 and _ends_short(stem) else stem  # fil(ing), but fail(ing)


def _final_y(word: str) -> str:
    """Step 1c: happy becomes happi, as happiness does; enjoy stays."""
    return word[:-1] + "i" if word.endswith("y") and len(word) > 2 and _shape(word[:-1])[-1] == "c" else word


def _replace(word: str, rules: tuple[tuple[str, str], ...]) -> str:
    """Steps 2 and 3: replace the first ending that fits, if something with a measure above 0 is left."""
    for ending, replacement in rules:
        if word.endswith(ending):
            stem = word[: -len(ending)]
            return stem + replacement if _measure(stem) > 0 else word
    return word


def _double_endings(word: str) -> str:
    """Step 2: relational, digitizer, hopefulness."""
    if word.endswith("alli") and _measure(word[:-4]) > 0:
        return _double_endings(word[:-2])  # radicalli, and then what may stand before -al
    if word.endswith("logi"):
        return word[:-1] if _measure(word[:-3]) > 0 else word  # the l counts: geologi, and theologi
    return _replace(word, _STEP_2)


def _single_endings(word: str) -> str:
    """Step 4: revival, allowance, adoption."""
    for ending in _STEP_4:
        if word.endswith(ending):
            stem = word[: -len(ending)]
            fits = _measure(stem) > 1 and (ending != "ion" or stem[-1] in "st")
            return stem if fits else word
    return word


def _tidy(word: str) -> str:
    """Step 5: a final e (probate, cease, but rate), one of two final l (controll, but roll)."""
    if word.endswith("e"):
        measure = _measure(word[:-1])
        if measure > 1 or (measure == 1 and not _ends_short(word[:-1])):
            word = word[:-1]
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word


@lru_cache(maxsize=2**16)
def porter_stem(word: str) -> str:
    """Cut an English word down to its stem.

    Args:
        word: one word; what is not a letter counts as a consonant.
    Returns:
        The stem, in lower case; words of one or two letters as they are.
    Raises:
        TypeError: no string.
    Cost: O(length); the stems of the last 65,536 different words are remembered.
    Source: Porter 1980, "An algorithm for suffix stripping".
    Differs: with nltk's extensions: irregular words, -ies and -ied of short words, -y after consonants only, -bli,
        -alli, -fulli and -logi in step 2. It is nltk's PorterStemmer() in its default mode.

    >>> [porter_stem(word) for word in "connected connection hopping hoping relational skies".split()]
    ['connect', 'connect', 'hop', 'hope', 'relat', 'sky']
    """
    if not isinstance(word, str):
        raise TypeError(f"word must be a string, got {type(word).__name__} {word!r:.40}")
    word = word.lower()
    if word in _IRREGULAR or len(word) <= 2:
        return _IRREGULAR.get(word, word)
    word = _final_y(_past_and_progressive(_plural(word)))
    return _tidy(_single_endings(_replace(_double_endings(word), _STEP_3)))
