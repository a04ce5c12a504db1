"""N-gram language models with dictionaries, and the two simplest estimators: maximum likelihood and add-k.

All estimators have one form, and this file is built on it. With h the last words seen and h′ the same without its
first word,

    p(w | h) = own(w, h) + rest(h) · p(w | h′),

so two numbers tell an estimator apart: what it says itself (``own``) and how much it leaves to a shorter history
(``rest``). Below the empty history stands the uniform distribution over the vocabulary. Two more estimators have files
of their own: ``interpolation``, and ``kneser_ney`` with a version that is fast.
"""

from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from lmcore.text.vocab import BOS, EOS, UNK

History = tuple[str, ...]
Level = dict[History, dict[str, int]]  # of one length of history: how often which word followed


class Step(NamedTuple):
    """One rung of the ladder from a long history down to the uniform distribution; see ``NgramModel.explain``."""

    history: History | None  # None: the uniform distribution
    own: float  # what this rung says itself
    rest: float  # the share that it leaves to the next rung
    contribution: float  # own times the rests of all rungs above; they add up to the probability


class NgramModel(ABC):
    """Counts of n-grams, and what every estimator does with them.

    Args:
        order: the n of n-gram, ≥ 1; a word is predicted from the order − 1 words before it.
        min_count: words seen fewer times become ``<unk>``, in training and after.

    A sentence is read with order − 1 start marks ``<s>`` before it and one end mark ``</s>``, which is predicted, after
    it. Predicted are the words of the vocabulary, ``<unk>`` and ``</s>``, never ``<s>``.
    """

    def __init__(self, order: int, *, min_count: int = 1):
        for name, value in (("order", order), ("min_count", min_count)):
            if not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        self.order = order
        self.min_count = min_count

    def fit(self, sentences: Iterable[Sequence[str]]) -> "NgramModel":
        """Count the n-grams of all orders.

        Args:
            sentences: sequences of tokens (not strings: those would be taken for sequences of letters).
        Raises:
            TypeError: a sentence is a string.   ValueError: no sentence at all.
        Cost: O(order · words) time and memory.
        """
        sentences, self.vocabulary_ = read_sentences(sentences, self.min_count)
        self._known = frozenset(self.vocabulary_)
        self.counts_ = self._count(sentences)
        return self._divide()

    def share_counts(self, counted: "NgramModel") -> "NgramModel":
        """Take over the counts of a fitted model instead of counting again: same text, another way to smooth.

        Raises:
            ValueError: the other model has another order or min_count, or was not fitted.

        >>> counted = MaximumLikelihood(2).fit(["a b".split(), "a a".split()])
        >>> AddK(2, k=1).share_counts(counted).prob("b", ["a"]) == 2 / 7
        True
        """
        check_fitted(counted)
        for name in ("order", "min_count"):
            ours, theirs = getattr(self, name), getattr(counted, name)
            if ours != theirs:
                raise ValueError(f"{name} is {ours} here and {theirs} in the fitted model; they must be equal")
        self.vocabulary_, self._known, self.counts_ = counted.vocabulary_, counted._known, counted.counts_
        return self._divide()

    def _divide(self) -> "NgramModel":
        """Compute from the counts what the estimator needs."""
        self._used = self._counts_to_use()
        self._total = {h: sum(followers.values()) for level in self._used for h, followers in level.items()}
        self._prepare()
        return self

    def prob(self, word: str, history: Sequence[str] = ()) -> float:
        """Probability of a word after a history.

        Args:
            word: any string; one outside the vocabulary counts as ``<unk>``.
            history: the words before; only the last order − 1 matter. ``<s>`` stands for a sentence's start.
        Returns:
            A number in [0, 1]; over the vocabulary these add up to one (maximum likelihood: unless the history is new).
        """
        return sum(step.contribution for step in self.explain(word, history))

    def explain(self, word: str, history: Sequence[str] = ()) -> list[Step]:
        """Show how a probability comes about: the back-off ladder, from the longest history down to the uniform one.

        Returns:
            Steps whose contributions add up to ``prob(word, history)``. A rung that nothing is left for is not listed.
        """
        check_fitted(self)
        return list(self._ladder(self._known_or_unk(word), self._cut(history)))

    def _ladder(self, word: str, history: History | None) -> Iterator[Step]:
        """Go down from a history that the model may look at."""
        share = 1.0
        while history is not None and share > 0:
            own, rest = self._estimate(word, history)
            yield Step(history, own, rest, share * own)
            share *= rest
            history = self._shorter(history)
        if share > 0:
            uniform = 1 / len(self.vocabulary_)
            yield Step(None, uniform, 0.0, share * uniform)

    def distribution(self, history: Sequence[str] = ()) -> np.ndarray:
        """Probabilities of all words after a history, in the order of ``vocabulary_``: (V,).

        Cost: O(V · order).
        """
        return np.array([self.prob(word, history) for word in self.vocabulary_])

    def logprobs(self, sentence: Sequence[str]) -> np.ndarray:
        """Natural log-probabilities of a sentence's words and of its end.

        Args:
            sentence: T tokens.
        Returns:
            (T + 1,) nats; −inf where the probability is zero.
        """
        check_fitted(self)
        events = self._events(check_sentence(sentence))
        probs = [sum(step.contribution for step in self._ladder(word, history)) for history, word in events]
        with np.errstate(divide="ignore"):
            return np.log(probs)

    def score(self, sentences: Iterable[Sequence[str]]) -> np.ndarray:
        """Natural log-probabilities of all words of all sentences, ends included, in one flat array."""
        return np.concatenate([self.logprobs(sentence) for sentence in sentences] or [np.empty(0)])

    def sample(self, rng: np.random.Generator, history: Sequence[str] = (), *, max_words: int = 100) -> list[str]:
        """Write a sentence: draw word after word until ``</s>`` or max_words.

        No distribution over the vocabulary is built: a rung of the ladder is drawn first, then one of its words.

        Args:
            rng: the source of randomness.
            history: how the sentence begins; returned as part of it.
        Returns:
            The words, without ``<s>`` and ``</s>``. ``<unk>`` is never drawn: it says nothing.
        """
        check_fitted(self)
        words = list(history)
        while len(words) < max_words:
            word = self._draw(rng, self._cut([BOS] * (self.order - 1) + words))
            if word == EOS:
                break
            if word != UNK:
                words.append(word)
        return words

    def _draw(self, rng: np.random.Generator, history: History | None) -> str:
        """Draw a word: at each rung either go down, with probability rest, or take one of the words seen there."""
        while history is not None:
            followers = list(self._counts_after(history))
            if followers:
                own, rest = zip(*(self._estimate(word, history) for word in followers), strict=True)
                if rng.random() >= rest[0]:
                    return followers[rng.choice(len(followers), p=np.array(own) / sum(own))]
            history = self._shorter(history)
        return self.vocabulary_[rng.integers(len(self.vocabulary_))]

    @abstractmethod
    def _estimate(self, word: str, history: History) -> tuple[float, float]:
        """Return own(word, history) and rest(history)."""

    def _count(self, sentences: Sequence[Sequence[str]]) -> list[Level]:
        """Count how often each word followed each history of 0, 1, … order − 1 words."""
        text = [mark for sentence in sentences for mark in self._marked(sentence)]
        ngrams = Counter(zip(*(text[i:] for i in range(self.order)), strict=False))
        levels = [defaultdict(dict) for _ in range(self.order)]
        for (*history, word), count in ngrams.items():
            if word != BOS:  # every other n-gram lies within one sentence, thanks to the marks before it
                for m, level in enumerate(levels):
                    followers = level[tuple(history[self.order - 1 - m :])]
                    followers[word] = followers.get(word, 0) + count
        return [dict(level) for level in levels]

    def _counts_to_use(self) -> list[Level]:
        """Return the counts that the estimator divides; Kneser–Ney has its own."""
        return self.counts_

    def _prepare(self) -> None:  # noqa: B027 (most estimators need nothing)
        """Compute what an estimator needs beyond the counts."""

    def _counts_after(self, history: History) -> dict[str, int]:
        """Return the counts that the estimator uses after a history; empty if it was never seen."""
        return self._used[len(history)].get(history, {})

    def _frequency(self, word: str, history: History) -> float:
        """Relative frequency of a word after a history that was seen."""
        return self._counts_after(history).get(word, 0) / self._total[history]

    def _shorter(self, history: History) -> History | None:
        """Return the history that the rest goes to; None is the uniform distribution."""
        return history[1:] if history else None

    def _marked(self, sentence: Sequence[str]) -> History:
        """Put the marks around a sentence, and ``<unk>`` for words outside the vocabulary."""
        return (*[BOS] * (self.order - 1), *map(self._known_or_unk, sentence), EOS)

    def _events(self, sentence: Sequence[str]) -> Iterator[tuple[History, str]]:
        """Yield the order − 1 words before each word to predict, and the word."""
        words = self._marked(sentence)
        for i in range(self.order - 1, len(words)):
            yield words[i - self.order + 1 : i], words[i]

    def _known_or_unk(self, word: str) -> str:
        """Replace a word outside the vocabulary."""
        return word if word in self._known else UNK

    def _cut(self, history: Sequence[str]) -> History:
        """Keep what the model looks at: the last order − 1 words."""
        kept = tuple(history)[max(0, len(history) - self.order + 1) :]
        return tuple(word if word == BOS else self._known_or_unk(word) for word in kept)


def check_fitted(model: object) -> None:
    """Say what to do if ``fit`` was not called."""
    if not hasattr(model, "vocabulary_"):
        raise ValueError(f"this {type(model).__name__} has counted nothing yet: call fit(sentences) first")


def read_sentences(sentences: Iterable[Sequence[str]], min_count: int) -> tuple[list[Sequence[str]], list[str]]:
    """Check a text's sentences; return them and the words that can be predicted: the frequent ones and two marks."""
    sentences = [check_sentence(sentence) for sentence in sentences]
    if not sentences:
        raise ValueError("sentences is empty: there is nothing to count")
    frequency = Counter(chain.from_iterable(sentences))
    known = (word for word, count in frequency.items() if count >= min_count)
    return sentences, sorted({*known, UNK, EOS})


def check_sentence(sentence: Sequence[str]) -> Sequence[str]:
    """Refuse a string where a sequence of tokens is meant, and the marks that only the model may set."""
    if isinstance(sentence, str):
        raise TypeError(f"a sentence is a sequence of tokens, got the string {sentence[:40]!r}; split it first")
    if BOS in sentence or EOS in sentence:
        raise ValueError(f"a sentence holds {BOS!r} or {EOS!r}; the model adds these marks itself")
    return sentence


class MaximumLikelihood(NgramModel):
    """Relative frequency: p(w | h) = c(h w) / c(h).

    After a history never seen it is undefined; here, as in nltk, it is then zero for every word.

    >>> model = MaximumLikelihood(2).fit(["a b".split(), "a a".split()])
    >>> round(model.prob("b", ["a"]), 4)   # a was followed by b, a and </s>
    0.3333
    """

    def _estimate(self, word: str, history: History) -> tuple[float, float]:
        return (self._frequency(word, history) if history in self._total else 0.0), 0.0


class AddK(NgramModel):
    """Lidstone's rule, with k = 1 Laplace's: pretend that every word was seen k times more after every history.

    (c + k) / (N + kV) is N / (N + kV) parts relative frequency and kV / (N + kV) parts the uniform distribution: add-k
    backs off straight to the uniform distribution, and skips everything between.

    Args:
        k: the pretended count, > 0.

    >>> model = AddK(2, k=1).fit(["a b".split(), "a a".split()])
    >>> round(model.prob("b", ["a"]), 4)   # (1 + 1) / (3 + 4): the vocabulary is a, b, <unk>, </s>
    0.2857
    """

    def __init__(self, order: int, *, k: float = 1.0, min_count: int = 1):
        super().__init__(order, min_count=min_count)
        if not k > 0:
            raise ValueError(f"k must be above zero, got {k}; for k = 0 use MaximumLikelihood")
        self.k = k

    def _estimate(self, word: str, history: History) -> tuple[float, float]:
        pretended = self.k * len(self.vocabulary_)
        total = self._total.get(history, 0) + pretended
        return self._counts_after(history).get(word, 0) / total, pretended / total

    def _shorter(self, history: History) -> None:
        return None
