"""Kneser–Ney smoothing: once with dictionaries, to be read, and once with sorted arrays, to be used.

    p(w | h) = max(c − D, 0) / Σc + rest(h) · p(w | h′)

Each count gives up a discount D, and what is collected goes to the shorter history h′. For the longest history c is the
usual count; for a shorter one it is the *continuation count*: how many different words were seen before "h w".
"Francisco" is frequent, but only after "San"; as a continuation of anything else it is improbable, and the continuation
count says so.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

from lmcore.classical.ngram import History, Level, NgramModel, check_fitted, check_sentence, read_sentences
from lmcore.text.vocab import BOS, EOS, UNK


def check_discount(discount: float | Sequence[float] | None, order: int) -> None:
    """Refuse a discount that is not None, a number in [0, 1], or one such number for each of the orders."""
    if discount is not None:
        values = np.atleast_1d(np.asarray(discount, dtype=float))
        if values.ndim != 1 or values.size not in (1, order) or not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"discount must be None, a number in [0, 1], or {order} such numbers; got {discount!r}")


def resolve_discounts(discount: float | Sequence[float] | None, counts_of_counts: Sequence[Counter]) -> np.ndarray:
    """Return the discounts for counts 1, 2 and ≥ 3 of every order.

    Args:
        discount: as for ``KneserNey``.
        counts_of_counts: per order, how many n-grams have the count 1, 2, 3, 4.
    Returns:
        (order, 3), all above zero unless given as zero.
    Source: Chen and Goodman 1996; Dᵢ = i − (i + 1) Y nᵢ₊₁ / nᵢ with Y = n₁ / (n₁ + 2 n₂). Where a text is too small to
        have n-grams of each of these counts, or where an estimate is not above zero, which would leave nothing for
        unseen words, ½, 1 and 1½ are used instead.
    """
    usual = np.array([0.5, 1.0, 1.5])
    if discount is not None:
        per_order = np.broadcast_to(np.asarray(discount, dtype=float), len(counts_of_counts))
        return np.repeat(per_order[:, None], 3, axis=1)
    rows = []
    for counts in counts_of_counts:
        n1, n2, n3, n4 = (counts[i] for i in (1, 2, 3, 4))
        if not min(n1, n2, n3, n4):
            rows.append(usual)
            continue
        y = n1 / (n1 + 2 * n2)
        found = np.array([1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
        rows.append(np.where(found > 0, found, usual))
    return np.array(rows)


class KneserNey(NgramModel):
    """Interpolated Kneser–Ney smoothing with dictionaries, to be read.

    Args:
        discount: None: modified Kneser–Ney, three discounts per order (for counts 1, 2, ≥ 3) estimated from the counts
            of counts. A number in [0, 1]: the same everywhere. A sequence: one for histories of 0, 1, … words.
    Attributes:
        discounts_: (order, 3) the discounts in use, for counts 1, 2 and ≥ 3.
    Source: Kneser and Ney 1995; the three discounts: Chen and Goodman 1996 and their longer report.
    Differs: nltk does not interpolate unigrams with the uniform distribution: to match it, pass a discount of 0 for
        histories of 0 words. Toolkits that pad with a single <s> count differently at a sentence's start.

    >>> model = KneserNey(2, discount=0.5).fit(["a b".split(), "a a".split()])
    >>> round(model.prob("b", ["a"]), 4)   # (1 − ½)/3 + (½ · 3/3) · [(1 − ½)/5 + (½ · 3/5) · 1/4]
    0.2542
    """

    def __init__(self, order: int, *, discount: float | Sequence[float] | None = None, min_count: int = 1):
        super().__init__(order, min_count=min_count)
        self.discount = discount
        check_discount(discount, order)

    def _counts_to_use(self) -> list[Level]:
        """Replace the lower orders' counts by continuation counts: one for each different word seen before."""
        levels = [defaultdict(lambda: defaultdict(int)) for _ in range(self.order - 1)]
        for level, longer in zip(levels, self.counts_[1:], strict=True):
            for history, followers in longer.items():
                for word in followers:  # history[0] is one more word seen before "history[1:] word"
                    level[history[1:]][word] += 1
        return [*({h: dict(followers) for h, followers in level.items()} for level in levels), self.counts_[-1]]

    def _prepare(self) -> None:
        """Estimate the discounts, and sum up what each history leaves to a shorter one."""
        counts = [Counter(c for followers in level.values() for c in followers.values()) for level in self._used]
        self.discounts_ = resolve_discounts(self.discount, counts)
        self._discount = self.discounts_.tolist()  # plain numbers are faster one by one
        self._rest = {}
        for discounts, level in zip(self._discount, self._used, strict=True):
            for history, followers in level.items():
                removed = sum(discounts[min(count, 3) - 1] for count in followers.values())
                self._rest[history] = removed / self._total[history]

    def _estimate(self, word: str, history: History) -> tuple[float, float]:
        count = self._counts_after(history).get(word, 0)
        if not count:
            return 0.0, self._rest.get(history, 1.0)
        kept = count - self._discount[len(history)][min(count, 3) - 1]
        return kept / self._total[history], self._rest[history]


class KneserNeyArrays:
    """The same model with sorted arrays: tested equal to ``KneserNey``, and made for use.

    Every n-gram seen has a number, its place among the sorted keys of its order; the key of an n-gram is
    (number of its first n − 1 words) · V + (its last word). "Which of these n-grams were seen?" is then one search for
    a whole text at once, and training is a sort for each order.

    Args, attributes and conventions: as ``KneserNey``.
    Cost: training O(order · N log N) time and about 40 bytes per n-gram seen; scoring O(order · log N) per word.

    >>> model = KneserNeyArrays(2, discount=0.5).fit(["a b".split(), "a a".split()])
    >>> round(model.prob("b", ["a"]), 4)   # as in KneserNey
    0.2542
    """

    def __init__(self, order: int, *, discount: float | Sequence[float] | None = None, min_count: int = 1):
        KneserNey(order, discount=discount, min_count=min_count)  # refuses what cannot be
        self.order, self.discount, self.min_count = order, discount, min_count

    def fit(self, sentences: Iterable[Sequence[str]]) -> "KneserNeyArrays":
        """Count, discount and interpolate; arguments and errors as ``NgramModel.fit``."""
        sentences, self.vocabulary_ = read_sentences(sentences, self.min_count)
        self._ids = {word: number for number, word in enumerate([*self.vocabulary_, BOS])}
        counts, shorter = self._count(*self._flatten(sentences))
        self.discounts_ = resolve_discounts(self.discount, [Counter(level.tolist()) for level in counts])
        self._interpolate(counts, shorter)
        return self

    def prob(self, word: str, history: Sequence[str] = ()) -> float:
        """Probability of a word after a history; see ``NgramModel.prob``. For many words, ``score`` is far faster."""
        check_fitted(self)
        words = np.array([self._ids.get(w, self._ids[UNK]) for w in (*history, word)])
        return float(np.exp(self._score(words)[-1]))

    def distribution(self, history: Sequence[str] = ()) -> np.ndarray:
        """Probabilities of all words after a history, in the order of ``vocabulary_``: (V,).

        Cost: O(V) once for the words never seen there, plus a search per order.
        """
        check_fitted(self)
        V = len(self._ids)
        words = [self._ids.get(word, self._ids[UNK]) for word in history]
        probs = np.exp(self._logprob[0])
        for m in range(1, min(self.order, len(words) + 1)):
            number = words[-m]
            for k, word in enumerate(words[len(words) - m + 1 :], start=1):  # the number of the history, word by word
                key = number * V + word
                number = int(np.searchsorted(self._keys[k], key))
                if number == len(self._keys[k]) or self._keys[k][number] != key:
                    return probs[: len(self.vocabulary_)]  # never seen, so no longer history was either
            first, end = np.searchsorted(self._keys[m], [number * V, (number + 1) * V])
            probs *= np.exp(self._log_rest[m][number])
            probs[self._keys[m][first:end] % V] = np.exp(self._logprob[m][first:end])
        return probs[: len(self.vocabulary_)]  # without <s>, which is numbered last

    def sample(self, rng: np.random.Generator, history: Sequence[str] = (), *, max_words: int = 100) -> list[str]:
        """Write a sentence; see ``NgramModel.sample``."""
        words = list(history)
        while len(words) < max_words:
            probs = self.distribution([*[BOS] * (self.order - 1), *words][len(words) :])
            word = self.vocabulary_[rng.choice(len(probs), p=probs / probs.sum())]
            if word == EOS:
                break
            if word != UNK:
                words.append(word)
        return words

    def logprobs(self, sentence: Sequence[str]) -> np.ndarray:
        """Natural log-probabilities of a sentence's T words and of its end: (T + 1,) nats."""
        return self.score([sentence])

    def score(self, sentences: Iterable[Sequence[str]]) -> np.ndarray:
        """Natural log-probabilities of all words of all sentences, ends included, in one flat array."""
        check_fitted(self)
        words, _ = self._flatten([check_sentence(sentence) for sentence in sentences])
        return self._score(words)[words != self._ids[BOS]]

    def _flatten(self, sentences: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
        """Write all sentences with their marks as one array of word numbers; return it and each word's place."""
        get, unk = self._ids.get, self._ids[UNK]
        before, after = [BOS] * (self.order - 1), [EOS]
        marked = chain.from_iterable(chain(before, sentence, after) for sentence in sentences)
        words = np.array([get(word, unk) for word in marked], dtype=np.int64)
        lengths = np.array([len(sentence) + self.order for sentence in sentences], dtype=np.int64)
        return words, np.arange(len(words)) - np.repeat(np.cumsum(lengths) - lengths, lengths)

    def _count(self, words: np.ndarray, place: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Number the n-grams of each order; return their counts and the numbers of the n-grams one word shorter."""
        V, bos = len(self._ids), self._ids[BOS]
        self._keys, shorter = [np.arange(V)], [np.zeros(V, dtype=np.int64)]
        numbers = words  # of the n-gram that ends at each position
        for m in range(1, self.order):
            at = np.flatnonzero(place >= m)  # where m words stand before this one in the same sentence
            keys, found, example = _number(numbers[at - 1] * V + words[at])
            self._keys.append(keys)
            shorter.append(numbers[at][example])
            numbers = np.full(len(words), -1)
            numbers[at] = found
        # The longest n-grams count how often they occur, the shorter ones how many different words came before them.
        # An n-gram that ends in <s> predicts nothing and keeps the count zero.
        counts = [np.bincount(numbers[words != bos], minlength=len(self._keys[-1]))]
        for m in range(self.order - 1, 0, -1):
            counts.insert(0, np.bincount(shorter[m][counts[0] > 0], minlength=len(self._keys[m - 1])))
        return counts, shorter

    def _interpolate(self, counts: list[np.ndarray], shorter: list[np.ndarray]) -> None:
        """Store the log-probability of each n-gram seen, and for each history what it leaves to a shorter one."""
        self._logprob, self._log_rest = [], []
        lower = np.full(len(self._ids), 1 / len(self.vocabulary_))
        for m, (count, discounts) in enumerate(zip(counts, self.discounts_, strict=True)):
            history = self._keys[m] // len(self._ids)  # of order zero: all have the empty one, number 0
            removed = np.array([0.0, *discounts])[np.minimum(count, 3)]
            total = np.bincount(history, weights=count, minlength=len(self._keys[m - 1]) if m else 1)
            given = np.bincount(history, weights=removed, minlength=len(total))
            rest = np.divide(given, total, out=np.ones_like(total), where=total > 0)
            own = np.divide(count - removed, total[history], out=np.zeros(len(count)), where=count > 0)
            lower = own + rest[history] * lower[shorter[m]] if m else own + rest * lower
            with np.errstate(divide="ignore"):
                self._logprob.append(np.log(lower))
                self._log_rest.append(np.log(rest))

    def _score(self, words: np.ndarray) -> np.ndarray:
        """Log-probability of each word: that of the longest n-gram seen, times the rests on the way down to it.

        Sentences may follow each other: no n-gram that was counted reaches over an end mark.
        """
        numbers, logprob = words, self._logprob[0][words]
        for m in range(1, self.order):
            history = np.concatenate([[-1], numbers[:-1]])
            seen_before = history >= 0
            keys = history * len(self._ids) + words
            where = _search(self._keys[m], keys)
            seen = seen_before & (self._keys[m][where] == keys)
            backed_off = logprob + np.where(seen_before, self._log_rest[m][history], 0.0)
            logprob = np.where(seen, self._logprob[m][where], backed_off)
            numbers = np.where(seen, where, -1)
        return logprob


def _search(table: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return for each key the place in the sorted table where it stands if it is there at all.

    Sorting the keys first keeps the searches in the processor's cache: three times faster for a long text.
    """
    order = np.argsort(keys)
    where = np.empty_like(order)
    where[order] = np.searchsorted(table[:-1], keys[order])  # without the last: never past the end
    return where


def _number(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort and number distinct keys: the sorted keys, the number of each position's key, a position of each key."""
    order = np.argsort(keys)
    ordered = keys[order]
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    numbers = np.empty_like(order)
    numbers[order] = np.cumsum(first) - 1
    return ordered[first], numbers, order[first]
