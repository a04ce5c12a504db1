import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore.metrics.coverage import Coverage, coverage, coverage_by_size
from lmcore.text.vocab import Vocabulary

WORDS = st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=43)


def test_by_hand():
    text = "the gnu saw the other gnu and the cat".split()  # 9 tokens, 6 types
    assert coverage(text, {"the", "saw", "emu"}) == Coverage(tokens=4 / 9, types=2 / 6)
    assert coverage(text, set()) == (0, 0)
    assert coverage(iter(text), dict.fromkeys(text)) == (1, 1)
    training = "the cat and the dog and the".split()  # the 3, and 2, cat 1, dog 1
    assert coverage_by_size(training, text, [0, 1, 2, 3, 4, 99]) == pytest.approx(np.array([0, 3, 4, 5, 5, 5]) / 9)


@given(WORDS, WORDS)
def test_by_size_is_coverage_by_each_vocabulary(training, text):
    """The words that a vocabulary of the training text keeps first, ties included."""
    sizes = range(9)
    specials = len(Vocabulary([]))
    each = [coverage(text, Vocabulary.from_tokens(training, max_size=specials + n or None)) for n in range(1, 9)]
    shares = coverage_by_size(training, text, sizes)
    assert shares[0] == 0
    assert shares[1:] == pytest.approx([one.tokens for one in each])
    assert (np.diff(shares) >= 0).all()


@given(WORDS, st.sets(st.sampled_from("abcdefg")))
def test_shares(text, known):
    found = coverage(text, known)
    assert found.tokens == pytest.approx(np.mean([token in known for token in text]))
    assert found.types == pytest.approx(np.mean([token in known for token in set(text)]))
    assert coverage(text, known | set(text)) == (1, 1)


def test_errors():
    with pytest.raises(TypeError, match="tokens must be a list of tokens, got one string: 'a cat'"):
        coverage("a cat", {"a"})
    with pytest.raises(TypeError, match="vocabulary must be a set or list of tokens, got one string"):
        coverage(["a"], "a cat")
    with pytest.raises(ValueError, match="tokens is empty"):
        coverage([], {"a"})
    with pytest.raises(ValueError, match="training is empty"):
        coverage_by_size([], ["a"], [1])
    with pytest.raises(ValueError, match="sizes must be at least 0, got -1"):
        coverage_by_size(["a"], ["a"], [1, -1])
