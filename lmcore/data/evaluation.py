"""Word pairs with human judgements, and analogies: sets that measure word vectors."""

from typing import BinaryIO

from .cards import Card
from .corpus import Analogy, Dataset, WordPair


def _lines(file: BinaryIO) -> list[str]:
    """Lines that are neither empty nor a comment."""
    lines = (line.strip() for line in file.read().decode("utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def read_pairs(card: Card, file: BinaryIO) -> Dataset:
    """Pairs in an open file of `first TAB second TAB score`."""
    rows = (line.split("\t") for line in _lines(file))
    return Dataset(card, [WordPair(first, second, float(score)) for first, second, score in rows])


def read_analogies(card: Card, file: BinaryIO) -> Dataset:
    """Analogies in an open file where `: section` stands above rows of four words."""
    records, section = [], ""
    for line in _lines(file):
        if line.startswith(":"):
            section = line[1:].strip()
        else:
            records.append(Analogy(section, *line.split()))
    return Dataset(card, records)
