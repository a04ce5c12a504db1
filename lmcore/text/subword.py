"""What the subword tokenizers share: tokens with ids, special tokens that a text cannot forge, one file format."""

import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

CACHE_SIZE = 1 << 18  # pieces whose ids are remembered
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def strings(texts: Iterable[str]) -> Iterator[str]:
    """Pass texts on, one by one, and refuse what is none.

    Raises:
        TypeError: texts is one string, whose letters would each be taken for a text, or one of them is no string.
    """
    if isinstance(texts, str):
        raise TypeError("texts is one string; pass a list of texts, [text]")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts[{number}] must be a string, got {type(text).__name__}; decode bytes first")
        yield text


class SubwordTokenizer(ABC):
    """Tokens and their ids, and how to go from a text to ids and back.

    Args:
        tokens: all tokens; a token's id is its place.
        specials: those among them that mean something to the model, such as ``<|endoftext|>``, and never come out of a
            text unless the caller allows it.
    Raises:
        ValueError: a token listed twice, or one with a lone surrogate, which no file can hold; a special token that is
            not among the tokens.

    After one of the subclasses has learnt or loaded its tokens, ``encode``, ``decode``, ``split`` and ``save`` work.
    """

    def __init__(self, tokens: Sequence[str], *, specials: Sequence[str] = ()):
        self.tokens = tuple(tokens)
        self.specials = tuple(specials)
        self._ids = {token: number for number, token in enumerate(self.tokens)}
        if len(self._ids) < len(self.tokens):
            twice = next(token for number, token in enumerate(self.tokens) if self._ids[token] != number)
            raise ValueError(f"the token {twice!r} is listed twice; every token has one id")
        if lone := next((token for token in self.tokens if _LONE_SURROGATE.search(token)), None):
            raise ValueError(f"the token {lone!r} holds a lone surrogate, half of a UTF-16 pair: repair the text first")
        missing = [token for token in self.specials if token not in self._ids]
        if missing:
            raise ValueError(f"specials holds {missing[0]!r}, which is not among the tokens")
        longest_first = sorted(self.specials, key=len, reverse=True)
        self._special_pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._cache: dict[str, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self.tokens)

    def id(self, token: str) -> int:
        """Number of a token.

        Raises:
            KeyError: there is no such token.
        """
        if token not in self._ids:
            raise KeyError(f"{token!r} is not one of the {len(self):,} tokens")
        return self._ids[token]

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """Turn a text into ids.

        Args:
            text: any string.
            allow_special: whether "<|endoftext|>" in the text is that token. By default it is thirteen signs like any
                others: who pastes it into a prompt has not ended the prompt.
        Differs: Hugging Face's tokenizers always read special tokens from the text.
        """
        if not isinstance(text, str):
            raise TypeError(f"text must be a string, got {type(text).__name__}")
        if not (allow_special and self.specials):
            return self._encode_plain(text)
        ids, done = [], 0
        for found in self._special_pattern.finditer(text):
            ids += self._encode_plain(text[done : found.start()])
            ids.append(self._ids[found.group()])
            done = found.end()
        return ids + self._encode_plain(text[done:])

    def _encode_plain(self, text: str) -> list[int]:
        """Encode a text without special tokens, piece by piece; frequent pieces are looked up."""
        ids: list[int] = []
        cache = self._cache
        for piece in self._pieces(text):
            known = cache.get(piece)
            if known is None:
                known = tuple(self._encode_piece(piece))
                if len(cache) >= CACHE_SIZE:
                    cache.clear()
                cache[piece] = known
            ids += known
        return ids

    @abstractmethod
    def _pieces(self, text: str) -> Iterable[str]:
        """Cut a text into pieces that are encoded each by itself."""

    @abstractmethod
    def _encode_piece(self, piece: str) -> list[int]:
        """Encode one piece."""

    def split(self, text: str) -> list[str]:
        """Cut a text into tokens, as the tokenizer writes them."""
        return [self.tokens[number] for number in self.encode(text)]

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Turn ids into a text.

        Args:
            skip_special: leave special tokens out, instead of writing their names.
        Raises:
            ValueError: an id that no token has.
        """
        kept = [number for number in ids if not (skip_special and self._token(number) in self.specials)]
        return self._join([self._token(number) for number in kept])

    def _token(self, number: int) -> str:
        """Return the token of an id, or say that there is none."""
        if not 0 <= number < len(self.tokens):
            raise ValueError(f"id {number} is outside 0 … {len(self) - 1}")
        return self.tokens[number]

    @abstractmethod
    def _join(self, tokens: Sequence[str]) -> str:
        """Put tokens together."""

    @abstractmethod
    def _parts(self) -> dict[str, Any]:
        """Return what of ``tokenizer.json`` is particular: normalizer, pre_tokenizer, decoder, model."""

    def save(self, path: str | os.PathLike) -> None:
        """Write a ``tokenizer.json`` that Hugging Face's library reads too; whole or not at all."""
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        added = [{"id": self.id(token), "content": token, **flags} for token in self.specials]
        unused = dict.fromkeys(["truncation", "padding", "normalizer", "post_processor"])
        content = {"version": "1.0", **unused, "added_tokens": added, **self._parts()}
        path = Path(path)
        part = path.with_name(f".{path.name}.part")
        part.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
        os.replace(part, path)


def read_tokenizer_json(path: str | os.PathLike, model: str) -> dict[str, Any]:
    """Read a ``tokenizer.json`` with a model of one type.

    Raises:
        ValueError: no JSON, no tokenizer, or another type of model.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON file: {error}") from None
    found = content.get("model", {}).get("type") if isinstance(content, Mapping) else None
    if found != model:
        raise ValueError(f"{path} holds a model of type {found!r}; this tokenizer is {model!r}")
    return content


def read_tokens(path: str | os.PathLike, content: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the tokens of a ``tokenizer.json`` in the order of their ids, and the special ones among them.

    Raises:
        ValueError: ids with gaps, or one used twice.
    """
    added = {entry["content"]: entry["id"] for entry in content.get("added_tokens") or []}
    vocab = {**content["model"]["vocab"], **added}
    if sorted(vocab.values()) != list(range(len(vocab))):
        raise ValueError(f"{path}: the ids are not 0 … {len(vocab) - 1}, each once")
    return sorted(vocab, key=vocab.get), list(added)


def expect(path: str | os.PathLike, name: str, found: Any, *allowed: Any) -> None:
    """Refuse a setting of a ``tokenizer.json`` that this book's tokenizer does not have.

    Raises:
        ValueError: names the setting, what was found, and what is understood.
    """
    if found not in allowed:
        raise ValueError(f"{path}: {name} is {found!r}; understood is {' or '.join(map(repr, allowed))}")
