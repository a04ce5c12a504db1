"""How many n-grams of a hypothesis its references have, each at most as often as in one of them.

This *clipping* is the idea of BLEU: "the the the" does not find "the" three times in a reference that has it once.
``clipped_matches`` is the definition, for one sentence and one n. ``all_clipped_matches`` counts for a whole corpus and
all n at once, and is tested equal: it gives every n-gram of every sentence a number, extends the numbers from n − 1 to
n, and leaves the counting to sorted arrays.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

Tokens = Sequence[str]


def ngrams(tokens: Tokens, n: int) -> Iterable[tuple[str, ...]]:
    """All n-grams of a token list, from left to right.

    >>> list(ngrams("abc", 2))
    [('a', 'b'), ('b', 'c')]
    """
    return zip(*(tokens[i:] for i in range(n)), strict=False)  # the shortest tail ends the n-grams


def clipped_matches(hypothesis: Tokens, references: Sequence[Tokens], n: int) -> int:
    """Count the n-grams of one hypothesis that its references have, by the definition.

    Args:
        hypothesis: tokens.   references: one token list or several.   n: the n-grams' length.
    Returns:
        Σ over n-grams of min(occurrences in the hypothesis, most occurrences in one reference).

    >>> clipped_matches("the the the cat".split(), ["the cat on the mat".split()], 1)   # the, the, cat
    3
    """
    allowed = Counter()
    for reference in references:
        allowed |= Counter(ngrams(reference, n))  # | takes the larger count
    return (Counter(ngrams(hypothesis, n)) & allowed).total()  # & takes the smaller count


def all_clipped_matches(
    hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]], max_order: int
) -> np.ndarray:
    """Count for each of N hypotheses, and for n = 1 … max_order, the n-grams that its references have.

    Args:
        hypotheses: N token lists.   references: for each a list of token lists.   max_order: the longest n-grams.
    Returns:
        (N, max_order) integers.
    Cost: O(max_order · T log T) for T tokens in all; more than twice as fast as a Counter per sentence.

    >>> all_clipped_matches(["abab"], [["ab", "bab"]], 3).tolist()
    [[3, 2, 1]]
    """
    lines = [*hypotheses, *chain.from_iterable(references)]
    sentences, n_lines = len(hypotheses), len(lines)
    lengths = np.fromiter(map(len, lines), dtype=np.int64, count=n_lines)
    owner = np.concatenate([np.arange(sentences), np.repeat(np.arange(sentences), [len(r) for r in references])])
    line = np.repeat(np.arange(n_lines), lengths)  # of each token
    follow = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(line)) - 1  # tokens after it in its line
    flat = list(chain.from_iterable(lines))
    number = {token: i for i, token in enumerate(dict.fromkeys(flat))}
    tokens = np.fromiter(map(number.__getitem__, flat), dtype=np.int64, count=len(flat))

    matches = np.zeros((sentences, max_order), dtype=np.int64)
    starts, grams = np.arange(len(flat)), owner[line]  # "0-grams": one per sentence, so that sentences stay apart
    for n in range(max_order):
        long_enough = follow[starts] >= n
        starts, grams = starts[long_enough], grams[long_enough]
        if len(starts) == 0:
            break
        grams = np.unique(grams * len(number) + tokens[starts + n], return_inverse=True)[1]
        matches[:, n] = _matches_per_sentence(grams, line[starts], owner, sentences)
    return matches


def _matches_per_sentence(grams: np.ndarray, line: np.ndarray, owner: np.ndarray, sentences: int) -> np.ndarray:
    """Clip and sum: ``grams`` numbers the n-grams, apart in each sentence; the first lines are the hypotheses."""
    pairs, counts = np.unique(grams * len(owner) + line, return_counts=True)
    gram, line = np.divmod(pairs, len(owner))
    ours = line < sentences
    found, allowed, sentence = np.zeros((3, grams.max() + 1), dtype=np.int64)
    found[gram[ours]] = counts[ours]
    np.maximum.at(allowed, gram[~ours], counts[~ours])
    sentence[gram] = owner[line]
    return np.bincount(sentence, np.minimum(found, allowed), sentences).astype(np.int64)
