"""Skip-gram and CBOW with negative sampling, one word after the other, as one would write them on a blackboard.

Every word has two vectors, a row of W where it is given and a row of C where it is asked for. An *example* gives some
words, whose rows of W are averaged to x, and asks for one word o. Skip-gram gives the word in the middle of a window
and asks for each word around it; CBOW gives the words around and asks for the one in the middle. The loss is that of a
yes-or-no question, "did these really stand together?", about o and about k words n drawn as noise:

    L = −log σ(x · C_o) − Σₙ log σ(−x · C_n),        ∂L/∂(x · C_j) = σ(x · C_j) − yⱼ with y = 1 for o, 0 for noise.

`word2vec_compiled` is this loop again for numba; both draw the same random numbers and are tested equal.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from lmcore.classical.alias import AliasTable

MULTIPLIER, INCREMENT = 6364136223846793005, 1442695040888963407  # Knuth's, for numbers modulo 2⁶⁴


def random_numbers(seed: int) -> Iterator[int]:
    """Yield whole numbers in 0 … 2³² − 1, evenly distributed: a linear congruential generator's upper halves."""
    state = seed
    while True:
        state = (state * MULTIPLIER + INCREMENT) % 2**64
        yield state >> 32


def sigmoid(score: float) -> float:
    """1 / (1 + e⁻ˢ); scores are small enough here that nothing overflows."""
    return 1 / (1 + np.exp(-score))


def ask(x: np.ndarray, C: np.ndarray, word: int, noise: Sequence[int], rate: float) -> np.ndarray:
    """One step for an example: change the rows of C that are asked for, and return minus the gradient by x, times rate.

    A noise word that happens to be the right one is passed over.
    """
    change = np.zeros_like(x)
    for target, label in [(word, 1), *((n, 0) for n in noise if n != word)]:
        step = np.float32(rate * (label - sigmoid(x @ C[target])))
        change += step * C[target]
        C[target] += step * x
    return change


def train_block(
    tokens: np.ndarray, ends: Sequence[int], W: np.ndarray, C: np.ndarray, keep: np.ndarray, noise: AliasTable, *,
    window: int, negatives: int, rate: float, seed: int, cbow: bool,
) -> None:  # fmt: skip
    """Train on a few sentences.

    Args:
        tokens: ids of all their words, one after the other.   ends: where each sentence ends in it.
        W, C: (V, d) float32; changed.
        keep: (V,) uint64 in 0 … 2³²: a word stays with probability keep / 2³²; the others are not even neighbours.
        noise: the words' probabilities as noise.
        window: the largest distance; each word draws its own between 1 and this, so that near words count more.
        negatives: noise words per example.   rate: learning rate.   seed: of the block's random numbers.
        cbow: whether to give the words around instead of the middle one.
    """
    numbers, start = random_numbers(seed), 0
    for end in ends:
        sentence = [word for word in tokens[start:end] if next(numbers) < keep[word]]
        start = end
        for place, middle in enumerate(sentence):
            reach = 1 + next(numbers) * window // 2**32
            around = sentence[max(0, place - reach) : place] + sentence[place + 1 : place + 1 + reach]
            if cbow and around:
                drawn = [noise.pick(next(numbers)) for _ in range(negatives)]
                change = ask(W[around].mean(axis=0), C, middle, drawn, rate) / np.float32(len(around))
                for word in around:  # each contributes 1/n to the mean, so it gets 1/n of the change
                    W[word] += change
            elif around:
                for word in around:
                    drawn = [noise.pick(next(numbers)) for _ in range(negatives)]
                    W[middle] += ask(W[middle], C, word, drawn, rate)
