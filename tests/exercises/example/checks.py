"""Checks of the example exercise, with which the tests of the machinery work."""

from itertools import pairwise

import numpy as np

from lmcore.checking import Tasks, require

tasks = Tasks()
check = tasks.check


@tasks.add(points=1, minutes=1)
def mean(student, rng):
    """The mean of some numbers."""
    numbers = rng.uniform(2, 9, size=5)
    got, wanted = student(numbers), numbers.mean()
    require(not np.isclose(got, numbers.sum()), "You summed the numbers; divide by how many there are.")
    require(not np.isclose(got, numbers.sum() / 4), "You divided by n - 1; the mean divides by n.")
    require(np.isclose(got, wanted), f"Expected {wanted:.3f} for {numbers.round(3)}, got {got}.")


@tasks.add(points=2, minutes=5)
def normalise(student, rng):
    """Probabilities from counts."""
    counts = rng.integers(1, 20, size=(2, 3))
    got, wanted = np.asarray(student(counts)), counts / counts.sum(axis=1, keepdims=True)
    require(not np.allclose(got, counts / counts.sum()), "Your rows do not sum to one; normalise each row on its own.")
    require(not np.allclose(got, counts / counts.sum(axis=0)), "You normalised the columns; each row sums to one.")
    require(np.allclose(got, wanted), f"Expected {wanted.round(3).tolist()} for {counts.tolist()}, got {got.tolist()}.")


@tasks.add(points=2, minutes=5)
def bigrams(student, rng):
    """Pairs of neighbouring tokens."""
    tokens = rng.permutation(list("abcdefg")).tolist()
    got, wanted = [tuple(pair) for pair in student(tokens)], list(pairwise(tokens))
    require(got != wanted[:-1], "Your last pair is missing: n tokens have n - 1 pairs.")
    require(got != [pair[::-1] for pair in wanted], "Your pairs are reversed: the earlier token comes first.")
    require(got == wanted, f"Expected {wanted}, got {got}.")


@tasks.add(points=3, minutes=10)
def draw(student, rng):
    """A draw from a distribution."""
    p = rng.permutation([0.1, 0.3, 0.6])
    got = np.bincount([student(p, rng) for _ in range(2000)], minlength=3) / 2000
    require(got.max() < 1, "You always draw the same index: draw it, do not take the likeliest.")
    require(not np.allclose(got, 1 / 3, atol=0.06), "You ignore the probabilities.")
    require(np.allclose(got, p, atol=0.06), f"Expected frequencies near {p.round(2)}, got {got.round(2)}.")
