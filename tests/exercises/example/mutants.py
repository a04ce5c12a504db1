from itertools import pairwise

from lmcore.checking import mutant


@mutant("mean", rejected_with="You summed")
def mean_that_sums(numbers):
    return sum(numbers)


@mutant("mean", rejected_with="divides by n")
def mean_of_n_minus_one(numbers):
    return sum(numbers) / (len(numbers) - 1)


@mutant("mean", rejected_with="raised ZeroDivisionError")
def mean_by_zero(numbers):
    return sum(numbers.tolist()) / 0


@mutant("normalise", rejected_with="Your rows do not sum to one")
def normalise_everything(counts):
    return counts / counts.sum()


@mutant("normalise", rejected_with="You normalised the columns")
def normalise_columns(counts):
    return counts / counts.sum(axis=0)


@mutant("normalise", rejected_with="Expected")
def normalise_nothing(counts):
    counts[:] = 1
    return counts


@mutant("bigrams", rejected_with="last pair is missing")
def bigrams_without_the_last(tokens):
    return [(tokens[i], tokens[i + 1]) for i in range(len(tokens) - 2)]


@mutant("bigrams", rejected_with="reversed")
def bigrams_backwards(tokens):
    return [(b, a) for a, b in pairwise(tokens)]


@mutant("bigrams", rejected_with="raised IndexError")
def bigrams_beyond_the_end(tokens):
    return [(tokens[i], tokens[i + 1]) for i in range(len(tokens))]


@mutant("draw", rejected_with="always draw the same index")
def draw_the_likeliest(p, rng):
    return p.argmax()


@mutant("draw", rejected_with="cannot use what your function returned")
def draw_nonsense(p, rng):
    return "nonsense"


@mutant("draw", rejected_with="You ignore the probabilities")
def draw_uniformly(p, rng):
    return rng.integers(len(p))
