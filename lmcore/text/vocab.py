"""A vocabulary: which tokens a model knows, and the number of each."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

PAD, UNK, BOS, EOS = SPECIALS = ("<pad>", "<unk>", "<s>", "</s>")


class Vocabulary(Sequence):
    """Tokens numbered from zero; the special tokens come first, and whatever is not listed is ``<unk>``.

    Args:
        tokens: the ordinary tokens, in the order of their ids.
        specials: tokens with a meaning of their own; must hold ``<unk>``.
    Raises:
        ValueError: a token listed twice, a special token among the ordinary ones, or no ``<unk>``.

    >>> vocabulary = Vocabulary(["the", "word"])
    >>> vocabulary.encode(["the", "world"]), vocabulary.decode([4, 1])
    ([4, 1], ['the', '<unk>'])
    """

    def __init__(self, tokens: Iterable[str], *, specials: Sequence[str] = SPECIALS):
        self.specials = tuple(specials)
        self._tokens = [*self.specials, *tokens]
        self._ids = {token: number for number, token in enumerate(self._tokens)}
        if UNK not in self.specials:
            raise ValueError(f"specials {self.specials} lack {UNK!r}, which stands for every token that is not listed")
        if len(self._ids) < len(self._tokens):
            twice = [token for token, count in Counter(self._tokens).items() if count > 1]
            raise ValueError(
                f"listed twice: {', '.join(map(repr, twice[:5]))}; every token, special or not, has one id"
            )
        self._unk = self._ids[UNK]

    @classmethod
    def from_tokens(cls, tokens: Iterable[str], *, min_count: int = 1, max_size: int | None = None) -> "Vocabulary":
        """Take the tokens of a corpus, the most frequent first, equally frequent ones in alphabetical order.

        Args:
            tokens: all tokens of the corpus, repetitions included.
            min_count: leave out tokens seen fewer times.
            max_size: keep at most so many, special tokens included.
        Raises:
            ValueError: min_count < 1, or max_size leaves no room for an ordinary token.

        >>> list(Vocabulary.from_tokens("b a c a b a".split(), min_count=2))[4:]
        ['a', 'b']
        """
        if min_count < 1:
            raise ValueError(f"min_count must be at least 1, got {min_count}")
        if max_size is not None and max_size <= len(SPECIALS):
            raise ValueError(f"max_size {max_size} leaves no room beside the {len(SPECIALS)} special tokens")
        counts = Counter(tokens)
        kept = [token for token, count in counts.items() if count >= min_count and token not in SPECIALS]
        kept.sort(key=lambda token: (-counts[token], token))
        return cls(kept if max_size is None else kept[: max_size - len(SPECIALS)])

    def __len__(self):
        return len(self._tokens)

    def __getitem__(self, index: int | slice):
        return self._tokens[index]

    def __contains__(self, token: object):
        return token in self._ids

    def __eq__(self, other: object):
        return isinstance(other, Vocabulary) and (self._tokens, self.specials) == (other._tokens, other.specials)

    __hash__ = None

    def __repr__(self):
        return f"Vocabulary({len(self):,} tokens, {len(self.specials)} of them special)"

    def id(self, token: str) -> int:
        """Return a token's number, that of ``<unk>`` if it has none."""
        return self._ids.get(token, self._unk)

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """Return the tokens' numbers; an unlisted token becomes ``<unk>``."""
        get, unk = self._ids.get, self._unk
        return [get(token, unk) for token in tokens]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Return the tokens of the numbers.

        Raises:
            ValueError: a number that is not in 0 … len − 1.
        """
        ids = list(ids)
        wrong = [number for number in ids if not 0 <= number < len(self)]
        if wrong:
            raise ValueError(f"id {wrong[0]} is outside 0 … {len(self) - 1}")
        return [self._tokens[number] for number in ids]

    def save(self, path: str | os.PathLike) -> None:
        """Write the vocabulary as JSON, to a temporary name first, so that no half-written file is left."""
        path = Path(path)
        partial = path.with_name(path.name + ".partial")
        content = {"specials": self.specials, "tokens": self._tokens[len(self.specials) :]}
        partial.write_text(json.dumps(content, ensure_ascii=False, indent=0), encoding="utf-8")
        os.replace(partial, path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Vocabulary":
        """Read what ``save`` wrote.

        Raises:
            ValueError: the file is not a vocabulary.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(content["tokens"], specials=content["specials"])
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a vocabulary that Vocabulary.save wrote: {error!r}") from error
