"""Checks of the exercises on language models; the inputs are drawn anew from each seed."""

import math
from collections import Counter
from itertools import combinations

import numpy as np

from lmcore.checking import Tasks, require

tasks = Tasks()
check = tasks.check

WORDS = "the cat dog sat ran slept a".split()


def _close(got, expected):
    """Whether an answer is the expected number."""
    return np.ndim(got) == 0 and math.isclose(float(got), expected, rel_tol=1e-6, abs_tol=1e-12)


def _sentences(rng, n=12):
    """Random sentences of one to six words."""
    return [rng.choice(WORDS, size=rng.integers(1, 7)).tolist() for _ in range(n)]


def _bigrams(rng):
    """Random bigram counts, with a popular word that follows one word only, and a word to stand before others.

    The word has more different words after it than before it, so that nobody can mistake one number for the other.
    """
    while True:
        bigrams = {(str(p), str(w)): int(rng.integers(1, 6)) for p, w in rng.choice(WORDS, size=(25, 2))}
        bigrams |= {("in", "midst"): 40 + int(rng.integers(20)), ("midst", "of"): 7, ("midst", "the"): 2}
        for previous in rng.permutation(WORDS).tolist():
            after, before = (sum(pair[side] == previous for pair in bigrams) for side in (0, 1))
            if after > before > 0:
                return bigrams, previous


@tasks.add(points=1, minutes=5)
def perplexity(student, rng):
    """Perplexity from log-probabilities."""
    logprobs = np.log(rng.uniform(0.05, 1.0, size=7))
    expected = math.exp(-logprobs.mean())
    got = student(logprobs)
    require(not _close(got, math.exp(-logprobs.sum())), "You summed the log-probabilities; perplexity uses their mean.")
    require(not _close(got, math.exp(logprobs.mean())), "The sign: perplexity is never below one. Negate the mean.")
    require(not _close(got, -logprobs.mean()), "That is the cross-entropy in nats; perplexity is its exponential.")
    require(not _close(got, 2 ** -logprobs.mean()), "The logarithms are natural, so the base is e; you used 2.")
    require(
        not _close(got, 1 / np.exp(logprobs).mean()),
        "You averaged the probabilities. Average their logarithms: the product of the probabilities is what counts.",
    )
    require(
        not _close(got, np.exp(-logprobs).mean()),
        "You averaged 1/p. Average the logarithms first, then take the exponential.",
    )
    require(_close(got, expected), f"Expected {expected:.4f} for {logprobs.round(3)}, got {got}.")
    got = student(np.full(2000, np.log(0.25)))
    require(
        np.isfinite(got),
        f"For a text of 2,000 words you got {got}: the product of so many probabilities is too small for a float. "
        "Stay with the logarithms.",
    )
    require(_close(got, 4.0), f"A text of 2,000 words with p = 1/4 has perplexity 4, got {got}.")


@tasks.add(points=1, minutes=5)
def bits_per_character(student, rng):
    """Bits per character, whatever the tokens are."""
    text = " ".join(rng.choice(WORDS, size=9).tolist())
    logprobs = np.log(rng.uniform(0.05, 1.0, size=5))
    nats, bits = -logprobs.sum(), -logprobs.sum() / math.log(2)
    got = student(logprobs, text)
    require(not _close(got, nats / len(text)), "These are nats per character: one bit is log 2 nats.")
    require(not _close(got, nats * math.log(2) / len(text)), "One bit is log 2 nats: divide by log 2, not multiply.")
    require(not _close(got, bits / len(logprobs)), "These are bits per token: divide by the number of characters.")
    require(not _close(got, bits / len(text.split())), "These are bits per word: divide by the number of characters.")
    letters = len(text.replace(" ", ""))
    require(not _close(got, bits / letters), "Spaces are characters too: the model had to predict them.")
    require(not _close(got, -bits / len(text)), "The sign: surprise is minus the log-probability.")
    require(not _close(got, bits / (len(text) + 1)), "Here is no end mark: divide by the characters of the text alone.")
    require(not np.isnan(got), "A logarithm of a logarithm? These are log-probabilities already, and negative.")
    require(_close(got, bits / len(text)), f"Expected {bits / len(text):.4f}, got {got}.")


@tasks.add(points=2, minutes=10)
def sentence_probability(student, rng):
    """Probability of a sentence under a bigram model."""
    p = lambda previous, word: followers[previous][word] / sum(followers[previous].values())  # noqa: E731
    while True:  # until a missing beginning and a missing end show differently
        draw = iter(rng.integers(2, 9, size=11).tolist())
        followers = {
            "<s>": {"the": next(draw), "a": next(draw)},
            "the": {"cat": next(draw), "dog": next(draw)},
            "a": {"cat": next(draw)},
            "cat": {"sat": next(draw), "ran": next(draw)},
            "dog": {"sat": next(draw)},
            "sat": {"</s>": next(draw), "the": next(draw)},
            "ran": {"</s>": next(draw)},
        }
        inner = p("the", "cat") * p("cat", "sat")
        start, end = p("<s>", "the"), p("sat", "</s>")
        if not math.isclose(start, end):
            break
    got = student(["the", "cat", "sat"], followers)
    require(not _close(got, inner), "Both marks are missing: the sentence begins after <s> and must be over at </s>.")
    require(not _close(got, start * inner), "The end is missing: that the sentence is over has a probability too.")
    require(not _close(got, inner * end), "The beginning is missing: the first word follows <s>.")
    total = sum(sum(counts.values()) for counts in followers.values())
    count = lambda word: sum(counts.get(word, 0) for counts in followers.values())  # noqa: E731
    alone = math.prod(count(word) / total for word in ("the", "cat", "sat", "</s>"))
    require(
        not _close(got, alone) and not _close(got, alone / count("</s>") * total),
        "You multiplied the words' own frequencies: divide by how often the word before it was seen, not by all words.",
    )
    require(_close(got, start * inner * end), f"Expected {start * inner * end:.6f} for 'the cat sat', got {got}.")
    for sentence in (["a", "dog", "sat"], ["the", "bird", "sat"], ["bird"]):
        got = student(sentence, followers)
        require(_close(got, 0.0), f"{' '.join(sentence)!r} has an unseen pair, so its probability is 0; got {got}.")


@tasks.add(points=3, minutes=15)
def count_ngrams(student, rng):
    """Counts of n-grams with marks."""
    for n in (2, 3, 1):
        sentences = _sentences(rng)
        expected = {}
        for sentence in sentences:
            words = ["<s>"] * (n - 1) + sentence + ["</s>"]
            for i in range(n - 1, len(words)):
                expected.setdefault(tuple(words[i - n + 1 : i]), Counter())[words[i]] += 1
        got = student(sentences, n)
        require(isinstance(got, dict), f"Return a dictionary {{history: Counter}}, got {type(got).__name__}.")
        got = {history: Counter(followers) for history, followers in got.items()}
        require(all(isinstance(history, tuple) for history in got), "A history is a tuple of words, also for n = 2.")
        length = {len(history) for history in got}
        require(length == {n - 1}, f"For n = {n} a history has {n - 1} words; yours have {sorted(length)}.")
        predicted = set().union(*got.values())
        require("<s>" not in predicted, "You predict <s>: a start mark is only looked back at.")
        require("</s>" in predicted, "</s> is never predicted: put it after each sentence.")
        crossing = [history for history in got if "</s>" in history]
        require(not crossing, f"The history {crossing and crossing[0]} reaches back into another sentence.")
        if n == 3:
            require(("<s>", "<s>") in got, "For n = 3 the first word has two words before it: put n − 1 start marks.")
        require(got == expected, f"Some counts are wrong for n = {n} and {sentences[:2]} …")


@tasks.add(points=2, minutes=10)
def add_k(student, rng):
    """Add-k smoothing."""
    k, V = float(rng.uniform(0.1, 0.9)), int(rng.integers(20, 30))
    seen = Counter({"cat": int(rng.integers(3, 9)), "dog": int(rng.integers(1, 3))})
    counts = {("the",): seen, ("a",): Counter({"cat": 1})}
    N, c = seen.total(), seen["cat"]
    got = student("cat", ("the",), counts, k, V)
    require(not _close(got, c / N), "That is maximum likelihood: add k to every count, of words seen and unseen.")
    require(
        not _close(got, (c + k) / (N + k)), "Below the line k was added once; it is added to every one of the V words."
    )
    require(not _close(got, (c + k) / (N + V)), "Below the line each of the V words gets k, not 1: add k · V.")
    require(
        not _close(got, (c + k) / (N + k * len(seen))),
        "V is the size of the vocabulary, not the number of words seen after this history.",
    )
    require(not _close(got, (c + k) / N), "k was added above the line only, so the probabilities exceed one in total.")
    require(not _close(got, (c + 1) / (N + V)), "You added 1; add k.")
    require(not _close(got, (c + k) / (N + k * (V + 1))), "V already counts every word; do not add one.")
    require(_close(got, (c + k) / (N + k * V)), f"Expected {(c + k) / (N + k * V):.5f}, got {got}.")
    got = student("bird", ("the",), counts, k, V)
    require(_close(got, k / (N + k * V)), f"A word not seen after the history has k above the line; got {got}.")
    got = student("cat", ("every",), counts, k, V)
    require(_close(got, 1 / V), f"After a history never seen all V words are equally probable, 1/V; got {got}.")


@tasks.add(points=4, minutes=25)
def kneser_ney(student, rng):
    """Interpolated Kneser–Ney smoothing for bigrams."""
    D = float(rng.uniform(0.3, 0.9))
    bigrams, previous = _bigrams(rng)
    after = {w: c for (p, w), c in bigrams.items() if p == previous}
    total, rest = sum(after.values()), D * len(after) / sum(after.values())
    occurs = Counter()
    for (_, w), c in bigrams.items():
        occurs[w] += c
    kinds, starts = Counter(w for _, w in bigrams), Counter(p for p, _ in bigrams)
    for word in ("midst", *after, *kinds):
        c = after.get(word, 0)
        own, lower = max(c - D, 0) / total, kinds[word] / len(bigrams)
        raw = occurs[word] / occurs.total()
        got = student(word, previous, bigrams, D)
        told = f"p({word} | {previous})"

        def wrong(value, message, *, got=got, right=own + rest * lower, told=told):
            require(_close(value, right) or not _close(got, value), f"{told}: {message}")

        wrong(own + rest * raw, "the lower order counts occurrences; count the different words before the word.")
        wrong(own, "what the discounts set free is not handed out: add rest times continuation probability.")
        followers = starts[word] / len(bigrams)
        wrong(own + rest * followers, "you counted the words after the word; count those before it.")
        taken = D * kinds[previous] / total
        wrong(own + taken * lower, "you counted the words before the history; those after it gave up D.")
        wrong((c - D) / total + rest * lower, "a count of zero cannot give up D: cut off at zero.")
        wrong(c / total + rest * lower, "the count was not discounted, so the probabilities exceed one in total.")
        wrong(own + D / total * lower, "every different word after the history gave up D, not one alone.")
        wrong(own + (1 - D) * lower, "what is left to the lower order is D · N₁₊(v ·)/c(v), not 1 − D.")
        wrong(own + rest * kinds[word] / len(kinds), "continuation counts are shares of all different bigrams.")
        require(_close(got, own + rest * lower), f"Expected {own + rest * lower:.6f} for {told}, got {got}.")
    got = student("cat", "zebra", bigrams, D)
    expected = kinds["cat"] / len(bigrams)
    require(_close(got, expected), f"After a word never seen only the continuation is left: {expected:.5f}, got {got}.")


@tasks.add(points=4, minutes=25)
def best_weight(student, rng):
    """The best interpolation weight by expectation–maximisation."""
    while True:  # until the right answer and all usual mistakes differ
        knows = rng.random(400) < rng.uniform(0.3, 0.7)
        p_long = np.where(knows, rng.uniform(0.2, 0.9, size=400), rng.choice([0.0, 0.001], size=400))
        p_short = rng.uniform(0.01, 0.2, size=400)
        weights = np.linspace(0, 1, 10001)[:-1]
        likelihood = [np.log(w * p_long + (1 - w) * p_short).sum() for w in weights]
        expected = float(weights[int(np.argmax(likelihood))])
        one_round, wins = (p_long / (p_long + p_short)).mean(), (p_long > p_short).mean()
        answers = [expected, 1 - expected, one_round, wins, p_long.sum() / (p_long + p_short).sum()]
        if min(abs(a - b) for a, b in combinations(answers, 2)) > 0.004:
            break
    got = student(p_long, p_short)
    near = lambda value: np.ndim(got) == 0 and abs(float(got) - value) < 1e-3  # noqa: E731
    require(not near(one_round), "That is λ after one round; repeat until it no longer moves.")
    require(
        not near(wins),
        "You counted the words on which the long history wins; share the credit for each word instead.",
    )
    require(
        not near(p_long.sum() / (p_long + p_short).sum()),
        "You divided sums of probabilities. Take the share for each word first, then the mean of the shares.",
    )
    require(not near(1 - expected), "That is the weight of the short history, 1 − λ.")
    require(not near(1), "With λ = 1 a single zero of the long history makes the text impossible.")
    require(near(expected), f"Expected {expected:.3f}, got {got}; the log-likelihood is largest there.")
