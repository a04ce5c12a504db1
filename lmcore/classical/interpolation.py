"""Jelinek–Mercer smoothing: mix the relative frequencies of all orders, with weights fitted on held-out text."""

from collections.abc import Iterable, Sequence

import numpy as np

from lmcore.classical.ngram import History, NgramModel, check_fitted


class Interpolated(NgramModel):
    """Jelinek–Mercer smoothing: mix the relative frequencies of all orders.

    p(w | h) = λₘ c(h w) / c(h) + (1 − λₘ) p(w | h′), with one weight λₘ for each length m of the history; a history
    never seen leaves everything to the shorter one.

    Args:
        weights: λ₀ … λ₍order₋₁₎, each in [0, 1], for histories of 0, 1, … words; None: ½ each. See ``fit_weights``.
    Source: Jelinek and Mercer 1980.  Differs: their weights depend also on how often the history was seen.

    >>> model = Interpolated(2).fit(["a b".split(), "a a".split()])
    >>> round(model.prob("b", ["a"]), 4)   # 1/2 · 1/3 + 1/4 · 1/6 + 1/4 · 1/4
    0.2708
    """

    def __init__(self, order: int, *, weights: Sequence[float] | None = None, min_count: int = 1):
        super().__init__(order, min_count=min_count)
        self.weights = [0.5] * order if weights is None else list(weights)
        if len(self.weights) != order or not all(0 <= weight <= 1 for weight in self.weights):
            raise ValueError(f"weights must be {order} numbers in [0, 1], got {self.weights}")

    def fit_weights(self, heldout: Iterable[Sequence[str]], *, rounds: int = 20) -> "Interpolated":
        """Choose the weights that make a held-out text most probable, by expectation–maximisation.

        On the training text itself the best weights are useless: all on the longest history, which has seen everything.

        Args:
            heldout: sentences that were not counted.
            rounds: how often to repeat; each makes the held-out text at least as probable as the one before.
        Cost: O(rounds · order · words).
        """
        check_fitted(self)
        frequencies = np.array(
            [self._frequencies(word, history) for sentence in heldout for history, word in self._events(sentence)]
        )  # (words, order): relative frequency after the last 0, 1, … words; NaN if these were never seen
        if not frequencies.size:
            raise ValueError("heldout is empty: there is nothing to fit the weights to")
        for _ in range(rounds):
            self.weights = self._em_round(frequencies)
        return self

    def _frequencies(self, word: str, history: History) -> list[float]:
        """Relative frequency of a word after the last 0, 1, … words of a history; NaN if these were never seen."""
        shorter = [history[len(history) - m :] for m in range(self.order)]
        return [self._frequency(word, h) if h in self._total else np.nan for h in shorter]

    def _em_round(self, frequencies: np.ndarray) -> list[float]:
        """Return new weights: of the probability that reached a rung, the share that the rung itself gave."""
        seen = ~np.isnan(frequencies)
        lam = np.where(seen, self.weights, 0.0)
        own = lam * np.nan_to_num(frequencies)
        below = np.empty_like(own)  # probability from the shorter histories
        prob = np.full(len(own), 1 / len(self.vocabulary_))
        for m in range(self.order):
            below[:, m] = prob
            prob = own[:, m] + (1 - lam[:, m]) * prob
        reached = np.ones(len(own))  # posterior probability that the word came from this rung or one below
        weights = [0.0] * self.order
        for m in reversed(range(self.order)):
            total = own[:, m] + (1 - lam[:, m]) * below[:, m]
            stopped = reached * own[:, m] / total
            asked = reached[seen[:, m]].sum()
            weights[m] = float(stopped.sum() / asked) if asked else self.weights[m]
            reached = reached - stopped
        return weights

    def _estimate(self, word: str, history: History) -> tuple[float, float]:
        if history not in self._total:
            return 0.0, 1.0
        weight = self.weights[len(history)]
        return weight * self._frequency(word, history), 1 - weight
