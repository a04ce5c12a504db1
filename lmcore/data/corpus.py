"""What `lmcore.data.load` returns: immutable sequences of records, each with its data card."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from .cards import Card


class Verse(NamedTuple):
    """One verse of a Bible."""

    book: str
    chapter: int
    verse: int
    text: str

    @property
    def reference(self) -> str:
        """Where it stands, as it is usually written.

        >>> Verse("John", 11, 35, "Jesus wept.").reference
        'John 11:35'
        """
        return f"{self.book} {self.chapter}:{self.verse}"


class Section(NamedTuple):
    """A heading and the text below it; the lead of an article has the empty heading."""

    title: str
    text: str


class Article(NamedTuple):
    """One article of an encyclopedia."""

    title: str
    sections: tuple[Section, ...]

    @property
    def text(self) -> str:
        """The whole text without headings; paragraphs and list items are separated by a line break."""
        return "\n".join(section.text for section in self.sections if section.text)


class Topic(NamedTuple):
    """One help page."""

    title: str
    text: str


class WordPair(NamedTuple):
    """Two words and the mean human judgement of their similarity, from 0 to 10."""

    first: str
    second: str
    score: float


class Analogy(NamedTuple):
    """A question “a is to b as c is to …?” and its answer d."""

    section: str
    a: str
    b: str
    c: str
    d: str


class Dataset(Sequence):
    """An immutable sequence of records; a slice of it is again a dataset.

    Args:
        card: the data card.   records: the records, all of one type.
    """

    def __init__(self, card: Card, records: Iterable[NamedTuple]) -> None:
        self.card = card
        self._records = tuple(records)

    @property
    def cleaning(self) -> tuple[str, ...]:
        """What was done to the source."""
        return self.card.cleaning

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)(self.card, self._records[index])
        return self._records[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Dataset):
            return NotImplemented
        return self._records == other._records

    def __hash__(self) -> int:
        return hash(self._records)

    def _counts(self) -> list[str]:
        """What there is, for the repr."""
        kind = type(self._records[0]).__name__ if self else "record"
        return [f"{len(self):,} × {kind}"]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.card.name}: {', '.join(self._counts())}>"


class Corpus(Dataset):
    """A dataset whose records have a `text`."""

    def texts(self) -> list[str]:
        """The text of each record, in order."""
        return [record.text for record in self]

    def _counts(self) -> list[str]:
        words = sum(len(record.text.split()) for record in self)
        return [*super()._counts(), f"{words:,} words"]


class Bible(Corpus):
    """A corpus of verses that knows books and chapters."""

    def books(self) -> list[str]:
        """Names of the books, in order."""
        return list(dict.fromkeys(verse.book for verse in self))

    def select(self, book: str, chapter: int | None = None, verse: int | None = None) -> "Bible":
        """The verses of one book, of one of its chapters, or the one verse of that number, as a Bible.

        Raises:
            ValueError: there is no such verse here.
        """
        wanted = (book, chapter, verse)
        found = [v for v in self if all(want in (None, have) for want, have in zip(wanted, v, strict=False))]
        if not found:
            where = book if chapter is None else f"{book} {chapter}" + (f":{verse}" if verse else "")
            raise ValueError(f"no verse at {where!r}; the books are {', '.join(self.books())}")
        return Bible(self.card, found)

    def chapters(self) -> list["Bible"]:
        """One Bible per chapter, in order: documents of a useful length."""
        chapters = {}
        for verse in self:
            chapters.setdefault((verse.book, verse.chapter), []).append(verse)
        return [Bible(self.card, verses) for verses in chapters.values()]

    def _counts(self) -> list[str]:
        return [f"{len(self.books())} books", *super()._counts()]
