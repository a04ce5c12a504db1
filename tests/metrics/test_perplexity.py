import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy, gmean

from lmcore.metrics.perplexity import bits_per_byte, bits_per_character, bits_per_word, cross_entropy, perplexity

PROBS = st.lists(st.floats(1e-9, 1.0), min_size=1, max_size=31)


def test_by_hand():
    logprobs = np.log([1 / 4, 1, 1 / 3, 1])  # "a cat sat" and its end, chapter 01
    assert perplexity(logprobs) == pytest.approx(12**0.25)
    assert cross_entropy(logprobs) == pytest.approx(math.log(12) / 4)
    assert bits_per_character(np.log([1 / 2, 1 / 4, 1 / 8]), 3) == pytest.approx(2.0)
    assert bits_per_word(np.log([1 / 2, 1 / 4, 1 / 8]), 2) == pytest.approx(3.0)


def test_one_impossible_word_is_infinitely_surprising():
    with np.errstate(divide="ignore"):
        assert perplexity(np.log([0.5, 0.0])) == math.inf


@given(PROBS)
def test_perplexity_is_one_over_the_geometric_mean(probs):
    assert perplexity(np.log(probs)) == pytest.approx(1 / gmean(probs), rel=1e-9)


@given(st.lists(st.integers(1, 9), min_size=2, max_size=5))
def test_of_its_own_source_it_is_the_entropy(counts):
    """A text in which each word has exactly its model's frequency surprises by the distribution's entropy."""
    probs = np.array(counts) / sum(counts)
    assert cross_entropy(np.repeat(np.log(probs), counts)) == pytest.approx(entropy(probs))


@given(PROBS, st.integers(2, 5))
def test_a_text_repeated_is_as_surprising(probs, times):
    logprobs = np.log(probs)
    assert perplexity(np.tile(logprobs, times)) == pytest.approx(perplexity(logprobs), rel=1e-9)
    assert bits_per_character(np.tile(logprobs, times), 7 * times) == pytest.approx(bits_per_character(logprobs, 7))


def test_any_cut_into_tokens_has_the_same_bits_per_character():
    assert bits_per_character(np.log([0.5, 0.25]), 11) == pytest.approx(bits_per_character(np.log([0.125]), 11))


@pytest.mark.parametrize(
    ("logprobs", "message"),
    [
        ([], "logprobs is empty"),
        ([-1.0, float("nan")], r"logprobs\[1\] is NaN"),
        ([-1.0, 0.3], r"logprobs\[1\] = 0.3 is above zero.*not probabilities or losses"),
    ],
)
def test_errors(logprobs, message):
    for metric in (cross_entropy, perplexity, lambda x: bits_per_character(x, 5), lambda x: bits_per_word(x, 5)):
        with pytest.raises(ValueError, match=message):
            metric(logprobs)


def test_units_must_exist():
    with pytest.raises(ValueError, match="n_characters must be at least 1, got 0"):
        bits_per_character([-1.0], 0)
    with pytest.raises(ValueError, match="n_bytes must be at least 1, got 0"):
        bits_per_byte([-1.0], 0)
    with pytest.raises(ValueError, match="n_words must be at least 1, got -2"):
        bits_per_word([-1.0], -2)
