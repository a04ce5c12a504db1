"""BLEU: how many of a translation's word n-grams do the references have, and is it long enough.

    BLEU = 100 · BP · (p₁ · p₂ · p₃ · p₄)^(1/4)         BP = min(1, exp(1 − r/c))

pₙ is the clipped precision of n-grams: an n-gram of the hypothesis counts as found at most as often as it occurs in one
of the references. c is the length of the hypotheses in tokens and r that of the references. Matches, n-grams and
lengths are summed over the whole corpus *before* anything is divided: corpus BLEU is no average of sentence BLEU.
Everything but the sums is ``bleu_from_counts``, so that a bootstrap need not look at the text again.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lmcore.metrics.bleu_tokenize import bleu_tokenize
from lmcore.metrics.clipped_matches import all_clipped_matches
from lmcore.metrics.pairs import Reference, checked_hypothesis, checked_pairs, checked_references

SMOOTHING = {"none": None, "floor": 0.1, "add-k": 1.0, "exp": None}  # the value that each uses unless told otherwise


class Bleu(NamedTuple):
    """A BLEU score and what it is made of; ``precisions`` are smoothed, ``matches`` and ``totals`` are as counted."""

    score: float  # 0–100
    precisions: tuple[float, ...]  # percent, for n = 1, 2, …
    brevity_penalty: float  # 0–1
    hypothesis_length: int  # tokens
    reference_length: int  # tokens; of each sentence's references the one nearest in length
    matches: tuple[int, ...]
    totals: tuple[int, ...]


def _tokenize(lines: list[str], tokenizer: str, lowercase: bool) -> list[list[str]]:
    """Tokens of the lines, in lower case if wanted."""
    return bleu_tokenize([line.lower() for line in lines] if lowercase else lines, tokenizer)


def bleu_counts(
    hypotheses: Sequence[str],
    references: Sequence[Reference],
    *,
    tokenizer: str = "13a",
    lowercase: bool = False,
    max_order: int = 4,
) -> np.ndarray:
    """Count, sentence by sentence, all that BLEU depends on.

    Args:
        hypotheses: N lines that a system wrote.
        references: for each its reference or a list of references.
        tokenizer: as in ``bleu_tokenize``.
        lowercase: ignore the difference between large and small letters.
        max_order: the longest n-grams that count.
    Returns:
        (N, 2 + 2·max_order) integers: length of the hypothesis, length of the nearest reference (the shorter of two
        that are equally near), matches of n = 1, 2, …, n-grams of n = 1, 2, …. The sum over any choice of sentences is
        what ``bleu_from_counts`` wants.
    Raises:
        TypeError, ValueError: as ``checked_pairs``; max_order < 1; no such tokenizer.
    Cost: O(N · T · max_order) for sentences of T tokens.

    >>> bleu_counts(["the the cat"], ["the cat sat"], max_order=2).tolist()   # the second "the" finds no partner
    [[3, 3, 2, 1, 3, 2]]
    """
    if max_order < 1:
        raise ValueError(f"max_order must be at least 1, got {max_order}")
    hypotheses, references = checked_pairs(hypotheses, references)
    flat = [*hypotheses, *(reference for several in references for reference in several)]
    tokens = iter(_tokenize(flat, tokenizer, lowercase))
    hypotheses = [next(tokens) for _ in hypotheses]
    references = [[next(tokens) for _ in several] for several in references]
    length = np.array([len(hypothesis) for hypothesis in hypotheses])
    nearest = [
        min((abs(len(reference) - n), len(reference)) for reference in several)[1]
        for n, several in zip(length.tolist(), references, strict=True)
    ]
    totals = np.maximum(length[:, None] - np.arange(max_order), 0)
    matches = all_clipped_matches(hypotheses, references, max_order)
    return np.column_stack([length, nearest, matches, totals])


def _precisions(
    matches: Sequence[float], totals: Sequence[float], smoothing: str, value: float | None
) -> tuple[list[float], int]:
    """Smoothed precisions as fractions, and the longest n-gram that the hypothesis has at all."""
    found, halving = [0.0] * len(matches), 1.0
    for n, (match, total) in enumerate(zip(matches, totals, strict=True)):
        if smoothing == "add-k" and n > 0:
            match, total = match + value, total + value
        if total == 0:
            return found, n
        if match > 0:
            found[n] = match / total
        elif smoothing == "floor":
            found[n] = value / total
        elif smoothing == "exp":  # the first order without a match gets ½ match, the next one ¼, …
            halving /= 2
            found[n] = halving / total
    return found, len(matches)


def bleu_from_counts(
    counts: ArrayLike, *, smoothing: str = "exp", value: float | None = None, effective_order: bool = False
) -> Bleu:
    """BLEU from the summed counts of a corpus.

    Args:
        counts: (2 + 2·max_order,) a sum of rows of ``bleu_counts``.
        smoothing: what an n-gram order without a match counts as. "none": zero, and so is the score. "floor": ``value``
            matches. "add-k": ``value`` is added to matches and n-grams of all orders above 1. "exp": ½, ¼, … matches.
        value: above 0, for "floor" (default 0.1) and "add-k" (default 1).
        effective_order: average over the orders that the hypothesis is long enough for, instead of all.
    Returns:
        A ``Bleu``. Without a single match its score and precisions are 0, whatever the smoothing.
    Raises:
        ValueError: counts of another shape, an unknown smoothing, or a value that it does not take.
    Source: Papineni et al. 2002.  Differs: the smoothing and the effective order are sacrebleu's.

    >>> bleu_from_counts([3, 4, 2, 1, 3, 2]).score == 100 * math.exp(1 - 4/3) * math.sqrt(2/3 * 1/2)
    True
    """
    counts = np.asarray(counts)
    if counts.ndim != 1 or len(counts) < 4 or len(counts) % 2:
        raise ValueError(f"counts must be one row of 2 + 2·max_order numbers, got shape {counts.shape}; sum the rows")
    value = _smoothing_value(smoothing, value)
    length, reference_length, *rest = counts.tolist()
    order = len(rest) // 2
    matches, totals = rest[:order], rest[order:]
    penalty = 1.0
    if length < reference_length:
        penalty = math.exp(1 - reference_length / length) if length > 0 else 0.0
    precisions, longest = [0.0] * order, 0
    if any(matches):
        precisions, longest = _precisions(matches, totals, smoothing, value)
    averaged = precisions[:longest] if effective_order else precisions
    score = 0.0
    if averaged and min(averaged) > 0:
        score = 100 * penalty * math.exp(sum(map(math.log, averaged)) / len(averaged))
    percent = tuple(100 * p for p in precisions)
    return Bleu(score, percent, penalty, length, reference_length, tuple(matches), tuple(totals))


def _smoothing_value(smoothing: str, value: float | None) -> float | None:
    """The number that goes with a smoothing, or say why it cannot."""
    if smoothing not in SMOOTHING:
        raise ValueError(f"smoothing must be one of {', '.join(map(repr, SMOOTHING))}, got {smoothing!r}")
    default = SMOOTHING[smoothing]
    if value is None:
        return default
    if default is None:
        raise ValueError(f"smoothing {smoothing!r} takes no value, got {value}; 'floor' and 'add-k' do")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"value must be a finite number above zero, got {value}")
    return value


def corpus_bleu(
    hypotheses: Sequence[str],
    references: Sequence[Reference],
    *,
    tokenizer: str = "13a",
    lowercase: bool = False,
    max_order: int = 4,
    smoothing: str = "exp",
    value: float | None = None,
    effective_order: bool = False,
) -> Bleu:
    """BLEU of a whole test set: counts are summed over its sentences, then divided.

    Args: as ``bleu_counts`` and ``bleu_from_counts``.
    Returns:
        A ``Bleu``, its score between 0 and 100.
    Raises:
        TypeError, ValueError: as ``bleu_counts`` and ``bleu_from_counts``.
    Cost: as ``bleu_counts``; two to three times as fast as sacrebleu (``tests/benchmarks``).
    Source: Papineni et al. 2002; tokenizers and defaults as in Post 2018.
    Differs: references are given per sentence, sacrebleu's per translator.

    >>> corpus_bleu(["the cat sat on the mat"], [["the cat sat on the mat", "a cat was on the mat"]]).score
    100.0
    """
    counts = bleu_counts(hypotheses, references, tokenizer=tokenizer, lowercase=lowercase, max_order=max_order)
    return bleu_from_counts(counts.sum(axis=0), smoothing=smoothing, value=value, effective_order=effective_order)


def sentence_bleu(
    hypothesis: str,
    references: Reference,
    *,
    tokenizer: str = "13a",
    lowercase: bool = False,
    max_order: int = 4,
    smoothing: str = "exp",
    value: float | None = None,
    effective_order: bool = True,
) -> Bleu:
    """BLEU of one sentence; rough, since a sentence has few n-grams. Its average over a corpus is not corpus BLEU.

    Args:
        hypothesis: one line.   references: its reference or a list of references.
        The rest: as ``bleu_counts`` and ``bleu_from_counts``. A sentence of three words has no 4-grams, so the
        effective order is the default here.
    Returns, raises: as ``corpus_bleu``.

    >>> round(sentence_bleu("the cat", "the cat sat").score, 2) == round(100 * math.exp(1 - 3/2), 2)
    True
    """
    checked_hypothesis(hypothesis)
    counts = bleu_counts(
        [hypothesis], [checked_references(references)], tokenizer=tokenizer, lowercase=lowercase, max_order=max_order
    )
    return bleu_from_counts(counts[0], smoothing=smoothing, value=value, effective_order=effective_order)
