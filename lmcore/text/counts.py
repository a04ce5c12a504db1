"""From token lists to a table of counts: documents × vocabulary, the form in which classical models read text."""

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

from lmcore.text.vocab import UNK


def count_matrix(documents: Iterable[Sequence[str]], vocabulary: Sequence[str]) -> np.ndarray:
    """Count how often each token of a vocabulary occurs in each document; the order of a document's tokens is lost.

    Args:
        documents: N sequences of tokens (not strings: those would be taken for sequences of letters). An empty one
            gets a row of zeros.
        vocabulary: V different tokens, a list or a ``Vocabulary``, in the order of the columns. Tokens outside it are
            counted in the column of ``<unk>`` if it has one, and dropped if not.
    Returns:
        (N, V) of int64.
    Raises:
        TypeError: a document, or the vocabulary, is a string.   ValueError: an empty vocabulary, or a token listed
            twice.
    Cost: O(words + N·V) time; N·V numbers of 8 bytes, nearly all of them zero.
    Differs: scikit-learn's CountVectorizer splits the text itself and returns a sparse matrix.

    >>> count_matrix([["a", "rose", "is", "a", "rose"], ["is", "it"]], ["a", "is", "rose"])
    array([[2, 1, 2],
           [0, 1, 0]])
    """
    column = _columns(vocabulary)
    documents = [_document(number, document) for number, document in enumerate(documents)]
    unlisted = column.get(UNK, len(column))  # without <unk>, a column past the last, which is cut off below
    lengths = [len(document) for document in documents]
    tokens = chain.from_iterable(documents)
    columns = np.fromiter((column.get(token, unlisted) for token in tokens), dtype=np.int64, count=sum(lengths))
    rows = np.repeat(np.arange(len(documents)), lengths)
    listed = columns < len(column)
    shape = (len(documents), len(column))
    cells = rows[listed] * shape[1] + columns[listed]  # each pair (row, column) as one number
    return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)


def _columns(vocabulary: Sequence[str]) -> dict[str, int]:
    """Number the tokens of a vocabulary that has been checked."""
    if isinstance(vocabulary, str):
        raise TypeError(f"vocabulary is a sequence of tokens, got the string {vocabulary[:40]!r}")
    tokens = list(vocabulary)
    if not tokens:
        raise ValueError("vocabulary is empty: there is nothing to count")
    column = {token: number for number, token in enumerate(tokens)}
    if len(column) < len(tokens):
        twice = next(token for number, token in enumerate(tokens) if column[token] != number)
        raise ValueError(f"vocabulary lists {twice!r} twice; every token has one column")
    return column


def _document(number: int, document: Sequence[str]) -> Sequence[str]:
    """Refuse a string where a sequence of tokens is meant."""
    if isinstance(document, str):
        raise TypeError(f"documents[{number}] is the string {document[:40]!r}; split it into tokens first")
    return document
