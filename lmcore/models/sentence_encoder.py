"""Texts become vectors: an encoder reads them, and the mean over a text's tokens, at length 1, stands for it.

A text is read as [CLS] its pieces [SEP], as BERT's texts are. Texts of like lengths are read together, so that a batch
needs no padding; the vectors come back in the order of the texts.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lmcore.models.bert import BERT
from lmcore.models.bert_packed import PackedBERT
from lmcore.sizes import check_sizes


class PieceTokenizer(Protocol):
    """What is asked of a tokenizer, such as `lmcore.text.wordpiece.WordPiece`."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text's pieces."""

    def id(self, token: str) -> int:
        """The id of "[CLS]" or "[SEP]"."""


def has_bfloat16() -> bool:
    """Whether this CPU has instructions that multiply bfloat16; without them, it is far slower than float32.

    >>> has_bfloat16() in (True, False)
    True
    """
    can = torch.cpu.get_capabilities()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16"))


def has_int8() -> bool:
    """Whether this CPU has instructions that multiply int8 and add up in int32; without them, float32 is faster.

    >>> has_int8() in (True, False)
    True
    """
    can = torch.cpu.get_capabilities()
    return any(can.get(name, False) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))


class SentenceEncoder:
    """Vectors of texts, whose inner products are the cosines of their angles.

    Args:
        model: reads; see `PackedBERT` for what it must be. Its weights are copied.
        tokenizer: cuts texts into pieces; has "[CLS]" and "[SEP]".
        dtype: torch.float32, torch.bfloat16 (see `has_bfloat16`) or torch.int8 (see `has_int8`): in which matrices are
            multiplied. What comes out is float32.
        batch_tokens: how many tokens are read at once; a longer text is a batch of its own.
    Raises:
        ValueError: another dtype, or batch_tokens below 1.
    Warns:
        RuntimeWarning: bfloat16 or int8 on a CPU that has no instructions for it.
    Source: Reimers and Gurevych 2019, with the mean as pooling.

    >>> from lmcore.models.bert import BERTConfig
    >>> class Letters:
    ...     def encode(self, text):
    ...         return [ord(letter) - ord("a") + 2 for letter in text]
    ...     def id(self, token):
    ...         return ["[CLS]", "[SEP]"].index(token)
    >>> config = BERTConfig.standard(vocabulary_size=28, d_model=6, layers=2, heads=3, max_length=7)
    >>> encoder = SentenceEncoder(BERT(config), Letters())
    >>> vectors = encoder.encode(["tea", "", "tea"])
    >>> vectors.shape, np.allclose(vectors[0], vectors[2]), [len(x) for x in encoder.token_vectors(["tea", ""])]
    ((3, 6), True, [3, 0])
    """

    def __init__(
        self, model: BERT, tokenizer: PieceTokenizer, *, dtype: torch.dtype = torch.float32, batch_tokens: int = 2048
    ):
        able = {torch.float32: lambda: True, torch.bfloat16: has_bfloat16, torch.int8: has_int8}
        if dtype not in able:
            raise ValueError(f"dtype must be one of {', '.join(map(str, able))}; got {dtype}")
        check_sizes(batch_tokens=batch_tokens)
        self.tokenizer, self.batch_tokens = tokenizer, batch_tokens
        self.dim, self.max_length = model.config.transformer.d_model, model.config.max_length
        self._begin, self._end = tokenizer.id("[CLS]"), tokenizer.id("[SEP]")
        self._read = PackedBERT(model, dtype=dtype)
        if self._read.device.type == "cpu" and not able[dtype]():
            name = str(dtype).removeprefix("torch.")
            warnings.warn(f"this CPU cannot multiply {name}: float32 is faster here", RuntimeWarning, stacklevel=2)

    def encode(self, texts: Sequence[str], *, truncate: bool = False, progress: bool = True) -> np.ndarray:
        """Give each text its vector.

        Args:
            texts: N strings; an empty one is read as [CLS] [SEP].
            truncate: cut what is longer than max_length tokens, and warn; else it is an error.
            progress: show a progress bar, on a screen only; False: never.
        Returns:
            (N, dim) float32, of length 1: the mean of the vectors of a text's tokens, [CLS] and [SEP] among them.
        Raises:
            TypeError: texts is one string, or one of them is no string.
            ValueError: a text is longer than max_length tokens, unless truncate.
        Warns:
            UserWarning: with truncate, how many texts were cut, and how many tokens were lost.
        Cost: that of the model for the real tokens; see `PackedBERT`.
        """
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        for places, lengths, hidden in self._batches(self._ids(texts, truncate), progress):
            means = torch.stack([part.mean(dim=0) for part in hidden.split(lengths)])  # (B, dim)
            vectors[places] = torch.nn.functional.normalize(means, dim=1).cpu().numpy()
        return vectors

    def token_vectors(
        self, texts: Sequence[str], *, specials: bool = False, truncate: bool = False, progress: bool = True
    ) -> list[np.ndarray]:
        """Give each token of each text its vector in its context.

        Args:
            texts, truncate, progress: see `encode`.
            specials: whether the vectors of [CLS] and [SEP] come first and last.
        Returns:
            For each text (T, dim) float32, one row for each of the T ids of tokenizer.encode(text).
        Raises, warns: as `encode`.
        """
        vectors: list[np.ndarray] = [np.empty((0, self.dim), dtype=np.float32)] * len(texts)
        inner = slice(None) if specials else slice(1, -1)
        for places, lengths, hidden in self._batches(self._ids(texts, truncate), progress):
            for place, part in zip(places, hidden.split(lengths), strict=True):
                vectors[place] = part[inner].cpu().numpy().copy()  # not a view that keeps the whole batch alive
        return vectors

    def _ids(self, texts: Sequence[str], truncate: bool) -> list[list[int]]:
        """[CLS] pieces [SEP] of each text; too long ones are cut or refused."""
        if isinstance(texts, str):
            raise TypeError("texts is one string; pass a list of texts, [text]")
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"texts[{number}] must be a string, got {type(text).__name__}")
        rows = [self.tokenizer.encode(text) for text in texts]
        room = self.max_length - 2
        long = [number for number, row in enumerate(rows) if len(row) > room]
        if long and not truncate:
            raise ValueError(
                f"texts[{long[0]}] has {len(rows[long[0]]) + 2} tokens, the model {self.max_length} positions, and "
                f"{len(long)} of {len(rows)} texts are too long: split them, or pass truncate=True"
            )
        if long:
            lost = sum(len(rows[number]) - room for number in long)
            warnings.warn(f"{len(long)} of {len(rows)} texts were cut, {lost} tokens lost", stacklevel=3)
        return [[self._begin, *row[:room], self._end] for row in rows]

    def _batches(self, rows: list[list[int]], progress: bool) -> Iterator[tuple[list[int], list[int], Tensor]]:
        """Places of some texts, their lengths, and their tokens' vectors in float32, until all texts are read."""
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        with tqdm(total=len(rows), unit="texts", disable=None if progress else True) as bar:
            for places in self._cut(order, [len(row) for row in rows]):
                batch = [rows[place] for place in places]
                yield places, [len(row) for row in batch], self._read(batch).float()
                bar.update(len(places))

    def _cut(self, order: list[int], lengths: list[int]) -> Iterator[list[int]]:
        """Cut an order of texts into pieces of at most batch_tokens tokens, or of one text."""
        batch, tokens = [], 0
        for place in order:
            if batch and tokens + lengths[place] > self.batch_tokens:
                yield batch
                batch, tokens = [], 0
            batch.append(place)
            tokens += lengths[place]
        if batch:
            yield batch
