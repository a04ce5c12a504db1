"""Plausible wrong answers to the exercises on evaluation, each with the message that must reject it."""

from collections import Counter
from itertools import product

import numpy as np

from lmcore.checking import mutant


@mutant("f1", rejected_with="the arithmetic mean of precision")
def averages_plainly(tp, fp, fn):
    return (tp / (tp + fp) + tp / (tp + fn)) / 2


@mutant("f1", rejected_with="the geometric mean")
def takes_the_root_of_the_product(tp, fp, fn):
    return (tp / (tp + fp) * tp / (tp + fn)) ** 0.5


@mutant("f1", rejected_with="the hits count twice")
def divides_by_the_union(tp, fp, fn):
    return tp / (tp + fp + fn)


@mutant("f1", rejected_with="the precision alone")
def returns_the_precision(tp, fp, fn):
    return tp / (tp + fp)


@mutant("f1", rejected_with="the recall alone")
def returns_the_recall(tp, fp, fn):
    return tp / (tp + fn)


@mutant("f1", rejected_with="not percent")
def returns_percent(tp, fp, fn):
    return 200 * tp / (2 * tp + fp + fn)


@mutant("f1", rejected_with="is a plain 0")
def goes_through_the_precision(tp, fp, fn):
    p, r = tp / (tp + fp), tp / (tp + fn)
    return 2 * p * r / (p + r)


@mutant("f1", rejected_with="neither occurs nor was predicted")
def calls_nothing_zero(tp, fp, fn):
    return 2 * tp / max(2 * tp + fp + fn, 1)


def _each(table):
    """The right F1 of each class."""
    return 2 * np.diag(table) / (table.sum(axis=0) + table.sum(axis=1))


def _micro(table):
    """The right micro F1."""
    return np.trace(table) / table.sum()


@mutant("macro_and_micro", rejected_with="wrong order")
def swaps_the_two(table):
    return _micro(table), _each(table).mean()


@mutant("macro_and_micro", rejected_with="averaged precision and recall first")
def averages_precision_and_recall(table):
    p, r = np.diag(table) / table.sum(axis=0), np.diag(table) / table.sum(axis=1)
    return 2 * p.mean() * r.mean() / (p.mean() + r.mean()), _micro(table)


@mutant("macro_and_micro", rejected_with="the weighted average")
def weighs_the_classes(table):
    return np.average(_each(table), weights=table.sum(axis=1)), _micro(table)


@mutant("macro_and_micro", rejected_with="the mean recall, not the mean F1")
def averages_the_recall(table):
    return (np.diag(table) / table.sum(axis=1)).mean(), _micro(table)


@mutant("macro_and_micro", rejected_with="one FP and one FN")
def divides_by_the_union_of_all(table):
    return _each(table).mean(), np.trace(table) / (2 * table.sum() - np.trace(table))


@mutant("macro_and_micro", rejected_with="macro F1 is not a number")
def divides_zero_by_zero(table):
    p, r = np.diag(table) / table.sum(axis=0), np.diag(table) / table.sum(axis=1)
    return (2 * p * r / (p + r)).mean(), _micro(table)


@mutant("macro_and_micro", rejected_with="left the class that was never predicted out")
def skips_what_is_not_a_number(table):
    p, r = np.diag(table) / table.sum(axis=0), np.diag(table) / table.sum(axis=1)
    return np.nanmean(2 * p * r / (p + r)), _micro(table)


@mutant("perplexity_per_word", rejected_with="the perplexity per token")
def averages_over_tokens(logprobs, n_words):
    return np.exp(-np.mean(logprobs))


@mutant("perplexity_per_word", rejected_with="The sign is wrong")
def forgets_the_minus(logprobs, n_words):
    return np.exp(np.sum(logprobs) / n_words)


@mutant("perplexity_per_word", rejected_with="Those are nats per word")
def forgets_the_exponential(logprobs, n_words):
    return -np.sum(logprobs) / n_words


@mutant("perplexity_per_word", rejected_with="Those are bits per word")
def returns_bits(logprobs, n_words):
    return -np.sum(logprobs) / np.log(2) / n_words


@mutant("perplexity_per_word", rejected_with="raise e, not 2")
def mixes_the_bases(logprobs, n_words):
    return 2 ** (-np.sum(logprobs) / n_words)


@mutant("perplexity_per_word", rejected_with="Upside down")
def divides_where_it_should_multiply(logprobs, n_words):
    return np.exp(-np.mean(logprobs)) ** (n_words / len(logprobs))


@mutant("perplexity_per_word", rejected_with="do not scale like lengths")
def scales_the_perplexity(logprobs, n_words):
    return np.exp(-np.mean(logprobs)) * len(logprobs) / n_words


def _grams(tokens, n):
    """Count n-grams."""
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def _allowed(references, n):
    """The most that one reference has of each n-gram."""
    allowed = Counter()
    for reference in references:
        allowed |= _grams(reference, n)
    return allowed


@mutant("clipped_precision", rejected_with="You did not clip")
def does_not_clip(hypothesis, references, n):
    have, allowed = _grams(hypothesis, n), _allowed(references, n)
    return sum(count for gram, count in have.items() if gram in allowed) / max(have.total(), 1)


@mutant("clipped_precision", rejected_with="You added up the references' counts")
def adds_the_references(hypothesis, references, n):
    have = _grams(hypothesis, n)
    allowed = sum((_grams(reference, n) for reference in references), Counter())
    return (have & allowed).total() / max(have.total(), 1)


@mutant("clipped_precision", rejected_with="You counted different n-grams")
def counts_different_ngrams(hypothesis, references, n):
    have = set(_grams(hypothesis, n))
    return len(have & set(_allowed(references, n))) / max(len(have), 1)


@mutant("clipped_precision", rejected_with="one reference at a time")
def looks_at_the_first_reference(hypothesis, references, n):
    have = _grams(hypothesis, n)
    return (have & _grams(references[0], n)).total() / max(have.total(), 1)


@mutant("clipped_precision", rejected_with="one reference at a time")
def takes_the_best_reference(hypothesis, references, n):
    have = _grams(hypothesis, n)
    return max((have & _grams(reference, n)).total() for reference in references) / max(have.total(), 1)


@mutant("clipped_precision", rejected_with="that is a recall")
def divides_by_the_reference(hypothesis, references, n):
    return (_grams(hypothesis, n) & _allowed(references, n)).total() / max(min(map(len, references)), 1)


@mutant("clipped_precision", rejected_with="You joined the references")
def joins_the_references(hypothesis, references, n):
    have, joined = _grams(hypothesis, n), _grams([token for reference in references for token in reference], n)
    allowed = Counter({gram: min(count, max(_allowed(references, n)[gram], 1)) for gram, count in joined.items()})
    return (have & allowed).total() / max(have.total(), 1)


@mutant("clipped_precision", rejected_with="four tokens have three pairs")
def divides_by_the_tokens(hypothesis, references, n):
    return (_grams(hypothesis, n) & _allowed(references, n)).total() / len(hypothesis)


@mutant("clipped_precision", rejected_with="no 3-gram at all")
def divides_by_nothing(hypothesis, references, n):
    have = _grams(hypothesis, n)
    return (have & _allowed(references, n)).total() / have.total()


def _penalty(c, r):
    """The right penalty for two lengths."""
    return min(1.0, np.exp(1 - r / c))


def _nearest(length, several):
    """The right reference length."""
    return min(several, key=lambda other: (abs(other - length), other))


@mutant("brevity_penalty", rejected_with="averaged the sentences' penalties")
def averages_the_penalties(lengths, references):
    return np.mean([_penalty(c, _nearest(c, several)) for c, several in zip(lengths, references, strict=True)])


@mutant("brevity_penalty", rejected_with="Upside down")
def turns_the_quotient(lengths, references):
    r = sum(map(_nearest, lengths, references))
    return np.exp(1 - sum(lengths) / r)


@mutant("brevity_penalty", rejected_with="the ratio of the lengths")
def returns_the_ratio(lengths, references):
    return min(1.0, sum(lengths) / sum(map(_nearest, lengths, references)))


@mutant("brevity_penalty", rejected_with="the longest reference of each sentence")
def takes_the_longest(lengths, references):
    return _penalty(sum(lengths), sum(map(max, references)))


@mutant("brevity_penalty", rejected_with="the shortest reference of each sentence")
def takes_the_shortest(lengths, references):
    return _penalty(sum(lengths), sum(map(min, references)))


@mutant("brevity_penalty", rejected_with="the references' mean length")
def takes_the_mean(lengths, references):
    return _penalty(sum(lengths), sum(map(np.mean, references)))


@mutant("brevity_penalty", rejected_with="equally near, the shorter one counts")
def forgets_the_tie(lengths, references):
    nearest = [min(r, key=lambda other: abs(other - c)) for c, r in zip(lengths, references, strict=True)]
    return _penalty(sum(lengths), sum(nearest))


@mutant("brevity_penalty", rejected_with="never a reward")
def rewards_length(lengths, references):
    return np.exp(1 - sum(map(_nearest, lengths, references)) / sum(lengths))


def _table(a, b):
    """The right table of lengths."""
    table = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            table[i, j] = table[i - 1, j - 1] + 1 if x == y else max(table[i - 1, j], table[i, j - 1])
    return table


def _three(common, hypothesis, reference):
    """Precision, recall and F1."""
    if not common:
        return 0.0, 0.0, 0.0
    p, r = common / len(hypothesis), common / len(reference)
    return p, r, 2 * p * r / (p + r)


@mutant("rouge_l", rejected_with="Precision divides by the hypothesis")
def swaps_precision_and_recall(hypothesis, reference):
    p, r, f = _three(_table(hypothesis, reference)[-1, -1], hypothesis, reference)
    return r, p, f


@mutant("rouge_l", rejected_with="the longest common run")
def takes_the_longest_run(hypothesis, reference):
    table = np.zeros((len(hypothesis) + 1, len(reference) + 1), dtype=int)
    for i, a in enumerate(hypothesis, 1):
        for j, b in enumerate(reference, 1):
            table[i, j] = table[i - 1, j - 1] + 1 if a == b else 0
    return _three(table.max(), hypothesis, reference)


@mutant("rouge_l", rejected_with="matched greedily")
def matches_greedily(hypothesis, reference):
    rest, common = list(reference), 0
    for token in hypothesis:
        if token in rest:
            rest, common = rest[rest.index(token) + 1 :], common + 1
    return _three(common, hypothesis, reference)


@mutant("rouge_l", rejected_with="common words in any order")
def ignores_the_order(hypothesis, reference):
    return _three((Counter(hypothesis) & Counter(reference)).total(), hypothesis, reference)


@mutant("rouge_l", rejected_with="Return shares")
def returns_the_length(hypothesis, reference):
    return (_table(hypothesis, reference)[-1, -1],) * 3


@mutant("rouge_l", rejected_with="not the arithmetic one")
def averages_precision_and_recall_plainly(hypothesis, reference):
    p, r, _ = _three(_table(hypothesis, reference)[-1, -1], hypothesis, reference)
    return p, r, (p + r) / 2


@mutant("rouge_l", rejected_with="Nothing in common")
def divides_zero_by_zero_at_the_end(hypothesis, reference):
    common = _table(hypothesis, reference)[-1, -1]
    p, r = common / len(hypothesis), common / len(reference)
    return p, r, 2 * p * r / (p + r)


def _cosines(hypothesis, reference):
    """Cosines of all pairs."""
    a = hypothesis / np.linalg.norm(hypothesis, axis=1, keepdims=True)
    b = reference / np.linalg.norm(reference, axis=1, keepdims=True)
    return a @ b.T


def _harmonic(p, r):
    """Three scores from two."""
    return p, r, 2 * p * r / (p + r)


@mutant("bertscore", rejected_with="divide each vector by its length")
def takes_plain_products(hypothesis, reference):
    products = hypothesis @ reference.T
    return _harmonic(products.max(axis=1).mean(), products.max(axis=0).mean())


@mutant("bertscore", rejected_with="You let each token be taken once")
def uses_each_token_once(hypothesis, reference):
    cosines, total = _cosines(hypothesis, reference), 0.0
    for _ in range(min(cosines.shape)):
        i, j = np.unravel_index(cosines.argmax(), cosines.shape)
        total += cosines[i, j]
        cosines[i], cosines[:, j] = -np.inf, -np.inf
    return _harmonic(total / len(hypothesis), total / len(reference))


@mutant("bertscore", rejected_with="precision is the mean over the hypothesis' tokens")
def swaps_the_axes(hypothesis, reference):
    cosines = _cosines(hypothesis, reference)
    return _harmonic(cosines.max(axis=0).mean(), cosines.max(axis=1).mean())


@mutant("bertscore", rejected_with="its most similar partner alone")
def averages_over_all_pairs(hypothesis, reference):
    mean = _cosines(hypothesis, reference).mean()
    return _harmonic(mean, mean)


@mutant("bertscore", rejected_with="precision is their mean")
def adds_up(hypothesis, reference):
    cosines = _cosines(hypothesis, reference)
    return _harmonic(cosines.max(axis=1).sum(), cosines.max(axis=0).sum())


@mutant("bertscore", rejected_with="divided by the tokens of the other text")
def divides_by_the_other_length(hypothesis, reference):
    cosines = _cosines(hypothesis, reference)
    return _harmonic(cosines.max(axis=1).sum() / len(reference), cosines.max(axis=0).sum() / len(hypothesis))


@mutant("bertscore", rejected_with="paired tokens by their places")
def pairs_by_place(hypothesis, reference):
    mean = _cosines(hypothesis, reference).diagonal().mean()
    return _harmonic(mean, mean)


@mutant("bertscore", rejected_with="compare by cosines")
def takes_distances(hypothesis, reference):
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (hypothesis, reference))
    gaps = np.linalg.norm(a[:, None] - b, axis=2)
    return _harmonic(gaps.min(axis=1).mean(), gaps.min(axis=0).mean())


@mutant("bertscore", rejected_with="not the arithmetic one")
def averages_the_two_plainly(hypothesis, reference):
    p, r, _ = _harmonic(*(_cosines(hypothesis, reference).max(axis=k).mean() for k in (1, 0)))
    return p, r, (p + r) / 2


def _signs(n):
    """All ways to swap n items."""
    return np.array(list(product((1, -1), repeat=n)))


@mutant("swap_test", rejected_with="one side only")
def counts_one_side(first, second):
    differences = np.subtract(first, second)
    return np.mean(_signs(len(differences)) @ differences >= differences.sum() - 1e-9)


@mutant("swap_test", rejected_with="only larger differences")
def counts_only_larger(first, second):
    differences = np.subtract(first, second)
    return np.mean(abs(_signs(len(differences)) @ differences) > abs(differences.sum()) + 1e-9)


@mutant("swap_test", rejected_with="the share of smaller differences")
def counts_the_smaller(first, second):
    differences = np.subtract(first, second)
    return np.mean(abs(_signs(len(differences)) @ differences) < abs(differences.sum()) - 1e-9)


@mutant("swap_test", rejected_with="the number of ways to swap")
def returns_the_number(first, second):
    differences = np.subtract(first, second)
    return np.sum(abs(_signs(len(differences)) @ differences) >= abs(differences.sum()) - 1e-9)


@mutant("swap_test", rejected_with="Swap item by item")
def shuffles_all_scores(first, second):
    pool, n = np.concatenate([first, second]), len(first)
    observed = abs(np.mean(first) - np.mean(second))
    rng = np.random.default_rng(0)
    shuffled = [rng.permutation(pool) for _ in range(500)]
    return np.mean([abs(s[:n].mean() - s[n:].mean()) >= observed - 1e-9 for s in shuffled])


@mutant("swap_test", rejected_with="off in the last digit")
def compares_exactly(first, second):
    differences = np.subtract(first, second)
    return np.mean(abs(_signs(len(differences)) @ differences) >= abs(differences.sum()))


@mutant("swap_test", rejected_with="off in the last digit")
def compares_means_exactly(first, second):
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    observed, count = abs(a.mean() - b.mean()), 0
    for signs in _signs(len(a)):
        count += abs(np.where(signs > 0, a, b).mean() - np.where(signs > 0, b, a).mean()) >= observed
    return count / 2 ** len(a)
