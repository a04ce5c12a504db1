"""Augmentation: what each change may and may not do to the words, for any document and any seed."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore.text.augment import (
    back_translate,
    random_deletion,
    random_insertion,
    random_swap,
    synonym_replacement,
    word_translator,
)

DOCUMENTS = st.lists(st.sampled_from(["hot", "tea", "cup", "and", "不", "好"]), max_size=11)
SYNONYMS = {"hot": ["warm", "hot"], "tea": ["brew", "char"], "好": ["棒"], "cup": [], "and": ["and"]}
REPLACEABLE = {"hot", "tea", "好"}
SEEDS = st.integers(0, 999)
COUNTS = st.integers(0, 7)


def generator(seed):
    return np.random.default_rng(seed)


def is_subsequence(short, long):
    rest = iter(long)
    return all(word in rest for word in short)


class TestSwap:
    @given(DOCUMENTS, COUNTS, SEEDS)
    def test_the_words_stay_the_same(self, words, n, seed):
        before = list(words)
        found = random_swap(words, n, generator(seed))
        assert Counter(found) == Counter(words)
        assert words == before
        assert sum(a != b for a, b in zip(found, words, strict=True)) <= 2 * n

    def test_by_hand(self):
        assert random_swap(["a", "b"], 3, generator(0)) == ["b", "a"]
        assert random_swap(["a"], 3, generator(0)) == ["a"]
        firsts = Counter("".join(random_swap("a b c".split(), 1, generator(seed))) for seed in range(300))
        assert set(firsts) == {"bac", "cba", "acb"}  # each pair of different places, never a word with itself
        assert min(firsts.values()) > 70


class TestDeletion:
    @given(DOCUMENTS, st.floats(0, 1), SEEDS)
    def test_what_is_left_is_in_order(self, words, p, seed):
        found = random_deletion(words, p, generator(seed))
        assert is_subsequence(found, words)
        assert bool(found) == bool(words)

    def test_share(self):
        words = [str(i) for i in range(10_007)]
        assert len(random_deletion(words, 0.3, generator(1))) == pytest.approx(0.7 * 10_007, rel=0.02)
        assert random_deletion(words, 0.0, generator(1)) == words
        assert len(random_deletion(words, 1.0, generator(1))) == 1

    def test_the_survivor_is_random(self):
        assert {random_deletion(["a", "b", "c"], 1.0, generator(seed))[0] for seed in range(30)} == {"a", "b", "c"}


class TestSynonyms:
    @given(DOCUMENTS, COUNTS, SEEDS)
    def test_replacement(self, words, n, seed):
        found = synonym_replacement(words, SYNONYMS, n, generator(seed))
        changed = [(old, new) for old, new in zip(words, found, strict=True) if old != new]
        assert len(changed) == min(n, sum(word in REPLACEABLE for word in words))
        assert all(new in SYNONYMS[old] for old, new in changed)

    @given(DOCUMENTS, COUNTS, SEEDS)
    def test_insertion(self, words, n, seed):
        found = random_insertion(words, SYNONYMS, n, generator(seed))
        sources = REPLACEABLE & set(words)
        assert is_subsequence(words, found)
        assert len(found) == len(words) + (n if sources else 0)
        allowed = {other for word in sources for other in SYNONYMS[word]} - sources
        assert set(Counter(found) - Counter(words)) <= allowed

    def test_every_synonym_and_every_place_comes_up(self):
        found = {tuple(synonym_replacement(["tea", "tea"], SYNONYMS, 1, generator(seed))) for seed in range(60)}
        assert found == {("brew", "tea"), ("char", "tea"), ("tea", "brew"), ("tea", "char")}
        places = {random_insertion(["好", "and"], SYNONYMS, 1, generator(seed)).index("棒") for seed in range(60)}
        assert places == {0, 1, 2}


class TestBackTranslation:
    def test_by_hand(self):
        there = word_translator({"big": "groß", "large": "groß", "dog": "Hund"})
        back = word_translator({"groß": "large", "Hund": "dog"})
        assert there("A big dog, large!") == "A groß Hund, groß!"
        assert back_translate("A big dog, large!", there, back) == "A large dog, large!"
        assert back_translate("", there, back) == ""

    @given(
        st.permutations(["one", "two", "three", "four"]), st.lists(st.sampled_from("one two three four five".split()))
    )
    def test_a_dictionary_that_can_be_reversed_changes_nothing(self, others, words):
        dictionary = dict(zip(["one", "two", "three", "four"], (other.upper() for other in others), strict=True))
        reverse = {there: here for here, there in dictionary.items()}
        text = " ".join(words)
        assert back_translate(text, word_translator(dictionary), word_translator(reverse)) == text

    def test_order(self):
        assert back_translate("x", lambda text: text + "1", lambda text: text + "2") == "x12"


class TestEdges:
    def test_empty_documents(self):
        rng = generator(0)
        assert random_swap([], 2, rng) == []
        assert random_deletion([], 0.5, rng) == []
        assert synonym_replacement([], SYNONYMS, 2, rng) == []
        assert random_insertion([], SYNONYMS, 2, rng) == []

    def test_same_seed_same_result(self):
        words = "hot tea and hot cup".split()
        for change in (
            lambda rng: random_swap(words, 2, rng),
            lambda rng: random_deletion(words, 0.5, rng),
            lambda rng: synonym_replacement(words, SYNONYMS, 2, rng),
            lambda rng: random_insertion(words, SYNONYMS, 2, rng),
        ):
            assert change(generator(5)) == change(generator(5))
            assert len({tuple(change(generator(seed))) for seed in range(20)}) > 1
            assert all(type(word) is str for word in change(generator(5)))

    def test_errors(self):
        rng = generator(0)
        for change in (
            lambda: random_swap("tea", 1, rng),
            lambda: random_deletion("tea", 0.1, rng),
            lambda: synonym_replacement("tea", SYNONYMS, 1, rng),
            lambda: random_insertion("tea", SYNONYMS, 1, rng),
        ):
            with pytest.raises(TypeError, match="words is one string, 'tea'"):
                change()
        for change in (
            lambda: random_swap(["tea"], -1, rng),
            lambda: synonym_replacement(["tea"], SYNONYMS, -1, rng),
            lambda: random_insertion(["tea"], SYNONYMS, -1, rng),
        ):
            with pytest.raises(ValueError, match="n must be at least 0, got -1"):
                change()
        for p in (-0.1, 1.1, float("nan")):
            with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got"):
                random_deletion(["tea"], p, rng)
        with pytest.raises(TypeError, match=r"synonyms\['tea'\] is one string, 'brew'"):
            synonym_replacement(["tea"], {"tea": "brew"}, 1, rng)
        with pytest.raises(TypeError, match="back must be a function from text to text, got dict"):
            back_translate("x", str, {})
        with pytest.raises(TypeError, match="there must return str, it returned list"):
            back_translate("x", str.split, str)
