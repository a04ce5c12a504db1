"""ROUGE: how much of a reference a summary brings back, in n-grams or in longest common subsequences.

    recall = common / units of the reference      precision = common / units of the hypothesis      F1 = 2 P R / (P + R)

    ROUGE-N     the units are n-grams, common ones clipped as in BLEU
    ROUGE-L     the units are words; common is the longest subsequence of the whole texts
    ROUGE-Lsum  the same sentence by sentence, where sentences are lines: for each reference sentence the words that its
                longest common subsequences with any hypothesis sentence cover

Numbers equal those of the rouge-score package, between 0 and 1. ROUGE of a corpus is the average over its texts.
"""

import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from lmcore.metrics.clipped_matches import clipped_matches
from lmcore.metrics.lcs import lcs_length, lcs_positions
from lmcore.metrics.pairs import Reference, checked_hypothesis, checked_references
from lmcore.metrics.porter import porter_stem

Tokenizer = Callable[[str], list[str]]
_WORD = re.compile("[a-z0-9]+")


class Rouge(NamedTuple):
    """Three numbers between 0 and 1; the first ROUGE scripts quoted the recall, papers of today quote F1."""

    precision: float
    recall: float
    f1: float


def rouge_tokens(text: str, *, stem: bool = False) -> list[str]:
    """Cut a text into the words that ROUGE compares: lower-case a–z and digits, all else being a gap.

    Args:
        text: English; of Chinese nothing would be left.
        stem: reduce words of more than three letters to their stems.
    Returns:
        The words.

    >>> rouge_tokens("The cats' 2 naïve sittings", stem=True)
    ['the', 'cat', '2', 'na', 've', 'sit']
    """
    words = _WORD.findall(text.lower())
    return [porter_stem(word) if len(word) > 3 else word for word in words] if stem else words


def _score(common: int, hypothesis: int, reference: int) -> Rouge:
    """Precision, recall and F1; nothing in common is 0, also where there is nothing."""
    if common == 0:
        return Rouge(0.0, 0.0, 0.0)
    precision, recall = common / hypothesis, common / reference
    return Rouge(precision, recall, 2 * precision * recall / (precision + recall))


def _best(score: Callable[[str, str], Rouge], hypothesis: str, references: Reference) -> Rouge:
    """The score against the reference that fits best by F1; of equal ones the first."""
    checked_hypothesis(hypothesis)
    return max((score(hypothesis, reference) for reference in checked_references(references)), key=lambda s: s.f1)


def _tokenizer(tokenize: Tokenizer | None, stem: bool) -> Tokenizer:
    """The function that cuts texts into words."""
    if tokenize is not None and stem:
        raise ValueError("stem belongs to the default tokenizer; let your own tokenize stem, or leave one of them out")
    return tokenize or (lambda text: rouge_tokens(text, stem=stem))


def rouge_n(
    hypothesis: str, references: Reference, n: int, *, stem: bool = False, tokenize: Tokenizer | None = None
) -> Rouge:
    """ROUGE-N: common n-grams.

    Args:
        hypothesis: the text to judge.   references: a text, or several of which the best fitting counts.
        n: 1 for words, 2 for pairs, …
        stem: compare Porter's stems.
        tokenize: another way to cut a text into units, such as ``list`` for the characters of Chinese.
    Returns:
        A ``Rouge``.
    Raises:
        TypeError: what should be a string is none.   ValueError: no reference, n < 1, or stem beside tokenize.
    Source: Lin 2004, section 2.  Differs: with several references Lin's jackknife is not used; rouge-score does not
        either.

    >>> rouge_n("the cat sat", "the cat slept here", 1)   # the, cat
    Rouge(precision=0.6666666666666666, recall=0.5, f1=0.5714285714285715)
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    tokenize = _tokenizer(tokenize, stem)

    def score(hypothesis: str, reference: str) -> Rouge:
        """Of one reference."""
        found, wanted = tokenize(hypothesis), tokenize(reference)
        units = (max(len(tokens) - n + 1, 0) for tokens in (found, wanted))
        return _score(clipped_matches(found, [wanted], n), *units)

    return _best(score, hypothesis, references)


def rouge_l(hypothesis: str, references: Reference, *, stem: bool = False, tokenize: Tokenizer | None = None) -> Rouge:
    """ROUGE-L: the longest common subsequence of the whole texts, in order but with gaps.

    Args, returns, raises: as ``rouge_n``.
    Cost: see ``lcs_length``.
    Source: Lin 2004, section 3.

    >>> rouge_l("here sat the cat", "the cat sat here").recall   # the cat; ROUGE-1 would be 1
    0.5
    """
    tokenize = _tokenizer(tokenize, stem)

    def score(hypothesis: str, reference: str) -> Rouge:
        """Of one reference."""
        found, wanted = tokenize(hypothesis), tokenize(reference)
        return _score(lcs_length(found, wanted), len(found), len(wanted))

    return _best(score, hypothesis, references)


def rouge_lsum(
    hypothesis: str, references: Reference, *, stem: bool = False, tokenize: Tokenizer | None = None
) -> Rouge:
    r"""ROUGE-L of summaries, sentence by sentence; each sentence is a line.

    Args, returns, raises: as ``rouge_n``.
    Source: Lin 2004, section 3.2.  Differs: as in Lin's script and unlike his paper, a word of the hypothesis pays for
        one word of the reference only.

    >>> rouge_lsum("sat here\nthe cat", "the cat sat here").recall   # both lines are found, though in another order
    1.0
    """
    tokenize = _tokenizer(tokenize, stem)

    def score(hypothesis: str, reference: str) -> Rouge:
        """Of one reference."""
        found, wanted = ([tokenize(line) for line in text.split("\n")] for text in (hypothesis, reference))
        covered = Counter()
        for sentence in wanted:
            positions = set().union(*(lcs_positions(sentence, other) for other in found))
            covered.update(sentence[position] for position in positions)
        available = Counter(word for sentence in found for word in sentence)
        return _score((covered & available).total(), available.total(), sum(map(len, wanted)))

    return _best(score, hypothesis, references)
