"""Split running English text into sentences with rules that can be read in a minute.

A full stop ends a sentence unless it ends an abbreviation or an initial. The rules do for edited prose; they know
nothing of tables, verse or chat. A trained splitter (Punkt, spaCy) does better on hard cases.
"""

import re

ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st sr jr gen col lt sgt capt rev hon pres gov sen rep "
    "e.g i.e cf vs viz al approx ca fig figs eq nos vol vols pp ch eds trans "
    "jan feb mar apr jun jul aug sep sept oct nov dec inc ltd co corp dept univ".split()
)
# A possible end: . ! ? …, closing quotes or brackets, white space, then what can open a sentence.
_BOUNDARY = re.compile(r"""[.!?…]+["'”’)\]]*(?=\s+["'“‘(\[]*[A-Z0-9À-ÖØ-Þ])|\n{2,}""")
_LAST_WORD = re.compile(r"([\w.]+)\.$")


def _ends_sentence(before: str) -> bool:
    """Decide whether the text up to and with the punctuation really ends there."""
    word = _LAST_WORD.search(before.rstrip("\"'”’)]"))
    if word is None:  # ! ? … or a blank line
        return True
    stem = word[1]
    is_initial = len(stem) == 1 and stem.isupper() and stem != "I"
    has_inner_dots = "." in stem and all(len(part) <= 2 for part in stem.split("."))  # U.S, i.e, Ph.D
    return not (is_initial or has_inner_dots or stem.lower() in ABBREVIATIONS)


def split_sentences(text: str) -> list[str]:
    """Split a text into its sentences, each stripped of outer white space.

    Args:
        text: English prose; a blank line always ends a sentence.
    Returns:
        The sentences in order; joined, they hold every character that is not white space. Empty for an empty text.
    Cost: O(length).

    >>> split_sentences("Dr. Ames met J. R. Smith. He left! “Why?” she asked.")
    ['Dr. Ames met J. R. Smith.', 'He left!', '“Why?” she asked.']
    """
    sentences, start = [], 0
    for match in _BOUNDARY.finditer(text):
        if _ends_sentence(text[max(start, match.end() - 40) : match.end()]):
            sentences.append(text[start : match.end()].strip())
            start = match.end()
    sentences.append(text[start:].strip())
    return [sentence for sentence in sentences if sentence]
