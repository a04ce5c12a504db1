"""Plausible wrong answers, and what must be said to each."""

import math
from collections import Counter

import numpy as np

from lmcore.checking import mutant


@mutant("perplexity", rejected_with="uses their mean")
def sums_instead_of_averaging(logprobs):
    return math.exp(-np.sum(logprobs))


@mutant("perplexity", rejected_with="never below one")
def forgets_the_sign(logprobs):
    return math.exp(np.mean(logprobs))


@mutant("perplexity", rejected_with="its exponential")
def stops_at_the_cross_entropy(logprobs):
    return -np.mean(logprobs)


@mutant("perplexity", rejected_with="you used 2")
def mixes_the_bases(logprobs):
    return 2 ** -np.mean(logprobs)


@mutant("perplexity", rejected_with="averaged the probabilities")
def averages_probabilities(logprobs):
    return 1 / np.mean(np.exp(logprobs))


@mutant("perplexity", rejected_with="Stay with the logarithms")
def multiplies_probabilities(logprobs):
    with np.errstate(divide="ignore"):
        return np.prod(np.exp(logprobs)) ** (-1 / len(logprobs))


@mutant("bits_per_character", rejected_with="no end mark")
def adds_an_end_mark(logprobs, text):
    return -np.sum(logprobs) / math.log(2) / (len(text) + 1)


@mutant("bits_per_character", rejected_with="nats per character")
def stays_in_nats(logprobs, text):
    return -np.sum(logprobs) / len(text)


@mutant("bits_per_character", rejected_with="not multiply")
def multiplies_by_log_2(logprobs, text):
    return -np.sum(logprobs) * math.log(2) / len(text)


@mutant("bits_per_character", rejected_with="bits per token")
def divides_by_tokens(logprobs, text):
    return -np.mean(logprobs) / math.log(2)


@mutant("bits_per_character", rejected_with="bits per word")
def divides_by_words(logprobs, text):
    return -np.sum(logprobs) / math.log(2) / len(text.split())


@mutant("bits_per_character", rejected_with="Spaces are characters")
def leaves_out_spaces(logprobs, text):
    return -np.sum(logprobs) / math.log(2) / sum(not c.isspace() for c in text)


def _product(words, followers):
    product = 1.0
    for previous, word in zip(words, words[1:], strict=False):
        counts = followers.get(previous, {})
        if not counts.get(word):
            return 0.0
        product *= counts[word] / sum(counts.values())
    return product


@mutant("sentence_probability", rejected_with="Both marks are missing")
def without_marks(sentence, followers):
    return _product(sentence, followers)


@mutant("sentence_probability", rejected_with="The end is missing")
def without_end(sentence, followers):
    return _product(["<s>", *sentence], followers)


@mutant("sentence_probability", rejected_with="The beginning is missing")
def without_start(sentence, followers):
    return _product([*sentence, "</s>"], followers)


@mutant("sentence_probability", rejected_with="words' own frequencies")
def without_conditions(sentence, followers):
    total = sum(sum(counts.values()) for counts in followers.values())
    return math.prod(sum(c.get(word, 0) for c in followers.values()) / total for word in sentence)


@mutant("sentence_probability", rejected_with="raised KeyError")
def fails_on_unseen_pairs(sentence, followers):
    words = ["<s>", *sentence, "</s>"]
    return math.prod(
        followers[previous][word] / sum(followers[previous].values())
        for previous, word in zip(words, words[1:], strict=False)
    )


def _count(sentences, n, before, after):
    counts = {}
    for sentence in sentences:
        words = before + list(sentence) + after
        for i in range(n - 1, len(words)):
            counts.setdefault(tuple(words[i - n + 1 : i]), Counter())[words[i]] += 1
    return counts


@mutant("count_ngrams", rejected_with="put n − 1 start marks")
def one_start_mark(sentences, n):
    return _count(sentences, n, ["<s>"] * min(n - 1, 1), ["</s>"])


@mutant("count_ngrams", rejected_with="</s> is never predicted")
def no_end_mark(sentences, n):
    return _count(sentences, n, ["<s>"] * (n - 1), [])


@mutant("count_ngrams", rejected_with="reaches back into another sentence")
def one_long_text(sentences, n):
    return _count([[word for sentence in sentences for word in [*sentence, "</s>"]]], n, ["<s>"] * (n - 1), [])


@mutant("count_ngrams", rejected_with="You predict <s>")
def predicts_the_start(sentences, n):
    return _count(sentences, n, ["<s>"] * n, ["</s>"])


@mutant("count_ngrams", rejected_with="A history is a tuple")
def history_is_a_word(sentences, n):
    counts = _count(sentences, n, ["<s>"] * (n - 1), ["</s>"])
    return {(history[0] if n == 2 else history): followers for history, followers in counts.items()}


@mutant("count_ngrams", rejected_with="Some counts are wrong")
def counts_kinds_only(sentences, n):
    counts = _count(sentences, n, ["<s>"] * (n - 1), ["</s>"])
    return {history: Counter(set(followers)) for history, followers in counts.items()}


@mutant("add_k", rejected_with="add k to every count")
def k_for_unseen_words_only(word, history, counts, k, V):
    seen = counts.get(history, Counter())
    return seen[word] / seen.total() if seen[word] else k / (seen.total() + k * V)


@mutant("add_k", rejected_with="k was added once")
def adds_k_once_below(word, history, counts, k, V):
    seen = counts.get(history, Counter())
    return (seen[word] + k) / (seen.total() + k)


@mutant("add_k", rejected_with="not the number of words seen")
def vocabulary_of_the_history(word, history, counts, k, V):
    seen = counts.get(history, Counter())
    return (seen[word] + k) / (seen.total() + k * len(seen))


@mutant("add_k", rejected_with="above the line only")
def forgets_the_denominator(word, history, counts, k, V):
    seen = counts.get(history, Counter())
    return (seen[word] + k) / max(seen.total(), 1)


@mutant("add_k", rejected_with="each of the V words gets k, not 1")
def adds_v_below(word, history, counts, k, V):
    seen = counts.get(history, Counter())
    return (seen[word] + k) / (seen.total() + V)


@mutant("add_k", rejected_with="never seen all V words are equally probable")
def zero_for_new_histories(word, history, counts, k, V):
    if history not in counts:
        return 0.0
    return (counts[history][word] + k) / (counts[history].total() + k * V)


def _kneser_ney(word, previous, bigrams, D, *, cut=True, discount=True, rest=None, lower=None):
    after = {w: c for (p, w), c in bigrams.items() if p == previous}
    kinds = sum(w == word for _, w in bigrams)
    lower = kinds / len(bigrams) if lower is None else lower
    if not after:
        return lower
    total = sum(after.values())
    own = after.get(word, 0) - D * discount
    own = max(own, 0) / total if cut else own / total
    return own + (D * len(after) / total if rest is None else rest) * lower


@mutant("kneser_ney", rejected_with="count the different words before")
def lower_order_counts_occurrences(word, previous, bigrams, D):
    raw = sum(c for (_, w), c in bigrams.items() if w == word) / sum(bigrams.values())
    return _kneser_ney(word, previous, bigrams, D, lower=raw)


@mutant("kneser_ney", rejected_with="count those before it")
def counts_followers_of_the_word(word, previous, bigrams, D):
    return _kneser_ney(word, previous, bigrams, D, lower=sum(p == word for p, _ in bigrams) / len(bigrams))


@mutant("kneser_ney", rejected_with="those after it gave up D")
def counts_words_before_the_history(word, previous, bigrams, D):
    total = sum(c for (p, _), c in bigrams.items() if p == previous)
    rest = D * sum(w == previous for _, w in bigrams) / total if total else None
    return _kneser_ney(word, previous, bigrams, D, rest=rest)


@mutant("kneser_ney", rejected_with="is not handed out")
def keeps_what_it_took(word, previous, bigrams, D):
    return _kneser_ney(word, previous, bigrams, D, rest=0.0)


@mutant("kneser_ney", rejected_with="cut off at zero")
def discounts_below_zero(word, previous, bigrams, D):
    return _kneser_ney(word, previous, bigrams, D, cut=False)


@mutant("kneser_ney", rejected_with="was not discounted")
def takes_nothing(word, previous, bigrams, D):
    return _kneser_ney(word, previous, bigrams, D, discount=False)


@mutant("kneser_ney", rejected_with="not 1 − D")
def fixed_weight(word, previous, bigrams, D):
    return _kneser_ney(word, previous, bigrams, D, rest=1 - D)


@mutant("kneser_ney", rejected_with="shares of all different bigrams")
def shares_of_words(word, previous, bigrams, D):
    kinds = Counter(w for _, w in bigrams)
    return _kneser_ney(word, previous, bigrams, D, lower=kinds[word] / len(kinds))


@mutant("kneser_ney", rejected_with="raised ZeroDivisionError")
def divides_by_zero(word, previous, bigrams, D):
    after = {w: c for (p, w), c in bigrams.items() if p == previous}
    rest = D * len(after) / sum(after.values())
    return _kneser_ney(word, previous, bigrams, D, rest=rest)


@mutant("best_weight", rejected_with="after one round")
def one_round(p_long, p_short):
    return np.mean(p_long / (p_long + p_short))


@mutant("best_weight", rejected_with="counted the words")
def counts_wins(p_long, p_short):
    return np.mean(p_long > p_short)


@mutant("best_weight", rejected_with="divided sums of probabilities")
def ratio_of_sums(p_long, p_short):
    return p_long.sum() / (p_long + p_short).sum()


@mutant("best_weight", rejected_with="single zero of the long history")
def trusts_the_long_history(p_long, p_short):
    return 1.0


@mutant("best_weight", rejected_with="weight of the short history")
def other_way_round(p_long, p_short):
    weight = 0.5
    for _ in range(1000):
        short = weight * p_short
        weight = np.mean(short / (short + (1 - weight) * p_long))
    return weight
