"""chrF: agreement in character n-grams, so that "cats" is nearly right where "cat" was meant.

    chrF_β = 100 · (1 + β²) P R / (β² P + R)        chrF++ adds n-grams of one and two words

P and R are precision and recall of character n-grams, averaged over n = 1 … 6; β = 2 makes recall count twice. White
space is removed first, so the metric needs no tokenizer and suits languages that write no spaces. As for BLEU, the
counts of a corpus are summed before anything is divided; with several references a sentence counts with the one that
fits best.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lmcore.metrics.clipped_matches import ngrams
from lmcore.metrics.pairs import Reference, checked_hypothesis, checked_pairs, checked_references

EPSILON = 1e-16  # what the smoothed variant puts for the precision or the F-score of an order that has none
_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


class Chrf(NamedTuple):
    """A chrF score and the two averages that it weighs, all 0–100."""

    score: float
    precision: float
    recall: float


def _words(text: str) -> list[str]:
    """Words with one punctuation mark split off: the last character, or else the first."""
    words = []
    for word in text.split():
        if len(word) > 1 and word[-1] in _PUNCTUATION:
            words += [word[:-1], word[-1]]
        elif len(word) > 1 and word[0] in _PUNCTUATION:
            words += [word[0], word[1:]]
        else:
            words.append(word)
    return words


def _all_ngrams(text: str, char_order: int, word_order: int, whitespace: bool) -> list[Counter]:
    """Counts of the character n-grams for n = 1 … char_order, then of the word n-grams."""
    characters = text if whitespace else "".join(text.split())
    counts = [Counter(characters[i : i + n] for i in range(len(characters) - n + 1)) for n in range(1, char_order + 1)]
    words = _words(text) if word_order else []
    return counts + [Counter(ngrams(words, n)) for n in range(1, word_order + 1)]


def _match(found: list[Counter], wanted: list[Counter]) -> list[int]:
    """N-grams of the hypothesis, of the reference, and of both, for each order."""
    row = []
    for f, w in zip(found, wanted, strict=True):
        matches = sum(min(count, w[gram]) for gram, count in f.items() if gram in w)
        row += [f.total() if w else 0, w.total(), matches]  # an order that the reference lacks is nobody's fault
    return row


def _f(precision: float, recall: float, beta: float) -> float:
    """Weighted harmonic mean; 0 if both are 0."""
    below = beta**2 * precision + recall
    return (1 + beta**2) * precision * recall / below if below > 0 else 0.0


def chrf_from_counts(counts: ArrayLike, *, beta: float = 2.0, smooth: bool = False) -> Chrf:
    """ChrF from the summed counts of a corpus.

    Args:
        counts: (3 · orders,) a sum of rows of ``chrf_counts``.
        beta: how many times as much recall matters as precision; above 0.
        smooth: average the orders' F-scores and let empty orders count as nearly 0, as chrF++.py and nltk do; the
            default averages precision and recall first, over the orders that both sides have.
    Returns:
        A ``Chrf``.
    Raises:
        ValueError: counts of another shape, or beta ≤ 0.
    Source: Popović 2015.  Differs: the two variants are those of sacrebleu, its default and ``eps_smoothing``.

    >>> round(chrf_from_counts([4, 5, 2], beta=1).score, 2)   # of 2/4 and 2/5 the harmonic mean, 4/9
    44.44
    """
    counts = np.asarray(counts)
    if counts.ndim != 1 or counts.size == 0 or counts.size % 3:
        raise ValueError(f"counts must be one row of three numbers per order, got shape {counts.shape}; sum the rows")
    _check_beta(beta)
    orders = counts.reshape(-1, 3).tolist()
    rates = [(match / found, match / wanted) for found, wanted, match in orders if found > 0 and wanted > 0]
    precision, recall = (sum(column) / len(rates) for column in zip(*rates, strict=True)) if rates else (0.0, 0.0)
    score = _f(precision, recall, beta)
    if smooth:
        score = sum(_smooth_f(*order, beta) for order in orders) / len(orders)
    return Chrf(100 * score, 100 * precision, 100 * recall)


def _smooth_f(found: float, wanted: float, match: float, beta: float) -> float:
    """F-score of one order, nearly 0 instead of 0/0."""
    precision = match / found if found > 0 else EPSILON
    recall = match / wanted if wanted > 0 else EPSILON
    return _f(precision, recall, beta) if precision + recall > 0 else EPSILON


def _check_beta(beta: float) -> None:
    """Refuse a beta that weighs nothing."""
    if not (math.isfinite(beta) and beta > 0):
        raise ValueError(f"beta must be a finite number above zero, got {beta}")


def chrf_counts(
    hypotheses: Sequence[str],
    references: Sequence[Reference],
    *,
    char_order: int = 6,
    word_order: int = 0,
    beta: float = 2.0,
    lowercase: bool = False,
    whitespace: bool = False,
    smooth: bool = False,
) -> np.ndarray:
    """Count, sentence by sentence, all that chrF depends on.

    Args:
        hypotheses: N lines that a system wrote.
        references: for each its reference or a list of references; the one with the best chrF is counted.
        char_order, word_order: the longest n-grams of characters (6) and of words (0; 2 is chrF++).
        lowercase: ignore the difference between large and small letters.
        whitespace: let spaces be characters too.
        beta, smooth: as ``chrf_from_counts``, for the choice of the reference.
    Returns:
        (N, 3 · (char_order + word_order)) integers: n-grams of the hypothesis, of the reference, matches, per order.
    Raises:
        TypeError, ValueError: as ``checked_pairs``; char_order < 1, word_order < 0, beta ≤ 0.
    Cost: O(N · T · char_order) for lines of T characters.

    >>> chrf_counts(["abab"], ["ab c"], char_order=2).tolist()   # a, b; ab
    [[4, 3, 2, 3, 2, 1]]
    """
    if char_order < 1 or word_order < 0:
        raise ValueError(f"char_order must be at least 1 and word_order at least 0, got {char_order} and {word_order}")
    _check_beta(beta)
    hypotheses, references = checked_pairs(hypotheses, references)

    def grams(text: str) -> list[Counter]:
        """All counts of one text."""
        return _all_ngrams(text.lower() if lowercase else text, char_order, word_order, whitespace)

    rows = []
    for hypothesis, several in zip(hypotheses, references, strict=True):
        found = grams(hypothesis)
        candidates = [_match(found, grams(reference)) for reference in several]
        rows.append(max(candidates, key=lambda row: chrf_from_counts(row, beta=beta, smooth=smooth).score))
    return np.array(rows, dtype=np.int64)


def corpus_chrf(
    hypotheses: Sequence[str],
    references: Sequence[Reference],
    *,
    char_order: int = 6,
    word_order: int = 0,
    beta: float = 2.0,
    lowercase: bool = False,
    whitespace: bool = False,
    smooth: bool = False,
) -> Chrf:
    """ChrF of a whole test set; with ``word_order=2``, chrF++.

    Args, raises: as ``chrf_counts`` and ``chrf_from_counts``.
    Returns:
        A ``Chrf``, its score between 0 and 100.
    Source: Popović 2015.

    >>> round(corpus_chrf(["the cat"], ["the cats"]).recall, 1)   # 6/7, 5/6, 4/5, 3/4, 2/3, 1/2 of the n-grams
    73.5
    """
    options = {"char_order": char_order, "word_order": word_order, "lowercase": lowercase, "whitespace": whitespace}
    counts = chrf_counts(hypotheses, references, beta=beta, smooth=smooth, **options)
    return chrf_from_counts(counts.sum(axis=0), beta=beta, smooth=smooth)


def sentence_chrf(
    hypothesis: str,
    references: Reference,
    *,
    char_order: int = 6,
    word_order: int = 0,
    beta: float = 2.0,
    lowercase: bool = False,
    whitespace: bool = False,
    smooth: bool = False,
) -> Chrf:
    """ChrF of one sentence.

    Args:
        hypothesis: one line.   references: its reference or a list of references.
        The rest, returns, raises: as ``corpus_chrf``.

    >>> sentence_chrf("猫坐着", "猫坐着").score
    100.0
    """
    options = {"char_order": char_order, "word_order": word_order, "lowercase": lowercase, "whitespace": whitespace}
    pair = [checked_hypothesis(hypothesis)], [checked_references(references)]
    return corpus_chrf(*pair, beta=beta, smooth=smooth, **options)
