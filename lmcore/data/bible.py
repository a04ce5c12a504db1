"""Two English Bibles, verse by verse: the source is one long string and two tables of offsets into it."""

import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from .cards import Card
from .corpus import Bible, Verse

# The source labels these with identifiers; the names are the World English Bible's short titles.
BOOKS = """
Genesis|Exodus|Leviticus|Numbers|Deuteronomy|Joshua|Judges|Ruth|1 Samuel|2 Samuel|1 Kings|2 Kings|
1 Chronicles|2 Chronicles|Ezra|Nehemiah|Esther|Job|Psalms|Proverbs|Ecclesiastes|Song of Songs|Isaiah|
Jeremiah|Lamentations|Ezekiel|Daniel|Hosea|Joel|Amos|Obadiah|Jonah|Micah|Nahum|Habakkuk|Zephaniah|Haggai|
Zechariah|Malachi|Matthew|Mark|Luke|John|Acts|Romans|1 Corinthians|2 Corinthians|Galatians|Ephesians|
Philippians|Colossians|1 Thessalonians|2 Thessalonians|1 Timothy|2 Timothy|Titus|Philemon|Hebrews|James|
1 Peter|2 Peter|1 John|2 John|3 John|Jude|Revelation
""".replace("\n", "").split("|")

# In the World English source a heading stands at the end of the verse before it, set off by spaces: number and title of
# a psalm, or a letter in Psalm 119. In the Song of Songs the speaker is named anywhere.
_HEADING = re.compile(r"\s{2,}(?:(?:BOOK [IV]+\s+)?Psalm \d+.*|[A-Z ]+)$", re.DOTALL)
_SPEAKER = re.compile(r"\s(?:Beloved|Lover|Friends)\b")


def clean(text: str) -> str:
    """One verse as plain prose: see `cleaning` on the data card.

    >>> clean(" and darkness [was] upon  the face of God`s deep.     Psalm 3  A Psalm by David.")
    "and darkness was upon the face of God's deep."
    """
    text = _HEADING.sub("", text.rstrip())
    text = text.translate({ord("["): None, ord("]"): None, ord("`"): "'", ord("’"): "'"})
    return " ".join(text.split())


def verses(module: str) -> Iterator[Verse]:
    """Every verse in the source code of a pythonbible module, which is searched and never run."""
    _, text, tables = module.split('"""')
    starts, ends = (
        [(int(key), int(offset)) for key, offset in re.findall(r"(\d+): (\d+)", table)]
        for table in re.findall(r"\{([^{}]*)\}", tables)[:2]
    )
    for (key, start), (_, end) in zip(starts, ends, strict=True):
        book, chapter, verse = key // 1_000_000, key // 1000 % 1000, key % 1000
        words = clean(text[start:end])
        if BOOKS[book - 1] == "Song of Songs":
            words = _SPEAKER.sub("", words)
        yield Verse(BOOKS[book - 1], chapter, verse, words)


def read(card: Card, file: BinaryIO) -> Bible:
    """The Bible in an open member of its archive."""
    return Bible(card, verses(file.read().decode("utf-8")))


def align(a: Iterable[Verse], b: Iterable[Verse]) -> list[tuple[Verse, Verse]]:
    """Pairs of verses with the same reference, in the order of `a`: a parallel corpus.

    Returns:
        list of (Verse, Verse). Verses that only one of them has are left out.
    """
    other = {verse[:3]: verse for verse in b}
    return [(verse, other[verse[:3]]) for verse in a if verse[:3] in other]
