"""What every tokenizer of the book can do: split, join, and map to and from ids."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from lmcore.text.vocab import BOS, EOS, PAD, Vocabulary


class Tokenizer(ABC):
    """A way to split text, and, once fitted, a vocabulary.

    Args:
        vocabulary: the tokens to know; None: ``fit`` learns them.
    """

    def __init__(self, vocabulary: Vocabulary | None = None):
        self.vocabulary_ = vocabulary

    @abstractmethod
    def split(self, text: str) -> list[str]:
        """Cut a text into tokens."""

    @abstractmethod
    def join(self, tokens: Iterable[str]) -> str:
        """Put tokens back together into a text."""

    def fit(self, texts: Iterable[str], *, min_count: int = 1, max_size: int | None = None) -> "Tokenizer":
        """Learn the vocabulary of some texts; see ``Vocabulary.from_tokens`` for the limits.

        Raises:
            TypeError: texts is one string, whose letters would each be taken for a text.
        """
        if isinstance(texts, str):
            raise TypeError("texts is one string; pass a list of texts, [text]")
        tokens = (token for text in texts for token in self.split(text))
        self.vocabulary_ = Vocabulary.from_tokens(tokens, min_count=min_count, max_size=max_size)
        return self

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
        """Turn a text into ids, with ``<s>`` before and ``</s>`` after it if asked for.

        Special tokens cannot be forged: a text that contains "</s>" does not get that token's id.
        """
        vocabulary = self._fitted()
        tokens = (token if token not in vocabulary.specials else "" for token in self.split(text))
        ids = vocabulary.encode(tokens)
        return [vocabulary.id(BOS)] * bos + ids + [vocabulary.id(EOS)] * eos

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids back into a text; ``<pad>``, ``<s>`` and ``</s>`` vanish, unknown tokens stay visible."""
        return self.join(token for token in self._fitted().decode(ids) if token not in (PAD, BOS, EOS))

    def _fitted(self) -> Vocabulary:
        """Return the vocabulary, or say how to get one."""
        if self.vocabulary_ is None:
            raise ValueError(f"this {type(self).__name__} has no vocabulary yet: call fit(texts) first")
        return self.vocabulary_
