"""Near-duplicates: similarities by hand and by sets, planted copies found, and no group cut by a split."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore import data
from lmcore.text.minhash import MinHash, exact_groups, jaccard, mixed, near_groups, shingles, split_groups

TEXTS = st.lists(st.text("ab ", max_size=12), min_size=1, max_size=12)


def as_set(text, n):
    """The shingles themselves."""
    n = min(n, len(text))
    return {text[i : i + n] for i in range(len(text) - n + 1)} if text else set()


class TestShingles:
    @given(st.text(max_size=40), st.integers(1, 6))
    def test_one_hash_for_each_different_ngram(self, text, n):
        assert len(shingles(text, n)) == len(as_set(text, n))

    @given(st.text("abc", max_size=30), st.text("abc", max_size=30))
    def test_similarity_is_that_of_the_sets(self, one, other):
        a, b = as_set(one, 3), as_set(other, 3)
        expected = len(a & b) / len(a | b) if a | b else 1.0
        if min(len(one), len(other)) >= 3 or one == other:
            assert jaccard(shingles(one, 3), shingles(other, 3)) == pytest.approx(expected)

    def test_mixing_is_a_bijection_that_flips_half_of_the_bits(self):
        """The first output of the published SplitMix64 generator, and the avalanche that it is made for."""
        assert int(mixed(np.array([0], dtype=np.uint64))[0]) == 0xE220A8397B1DCDAF
        numbers = np.arange(4096, dtype=np.uint64)
        assert len(np.unique(mixed(numbers))) == 4096
        flipped = np.bitwise_count(mixed(numbers) ^ mixed(numbers ^ np.uint64(1)))
        assert abs(flipped.mean() - 32) < 0.5


class TestSignatures:
    @pytest.mark.parametrize("similarity", [0.2, 0.5, 0.9])
    def test_the_share_of_equal_minima_is_the_similarity(self, similarity):
        shared = round(1000 * similarity)
        numbers = mixed(np.arange(2000, dtype=np.uint64))
        apart = (1000 - shared) // 2
        a, b = numbers[: shared + apart], np.concatenate([numbers[:shared], numbers[1000 : 1000 + apart]])
        minhash = MinHash(bands=200, rows=10)
        equal = (minhash.signature(np.sort(a)) == minhash.signature(np.sort(b))).mean()
        assert abs(equal - jaccard(a, b)) < 4 * np.sqrt(0.25 / 2000)

    def test_compiled_is_equal(self):
        sets = [shingles(review.text, 3) for review in data.load("chinese-reviews")[:60]] + [shingles("")]
        for minhash in (MinHash(n=3), MinHash(bands=3, rows=2, seed=5)):
            plain, compiled = (minhash.signatures(sets, compiled=flag) for flag in (False, True))
            assert plain.dtype == compiled.dtype == np.uint32
            np.testing.assert_array_equal(plain, compiled)

    def test_seeds_differ(self):
        one, other = (MinHash(seed=seed).signature(shingles("some text")) for seed in (0, 1))
        assert (one != other).any()

    @given(TEXTS)
    def test_buckets_hold_all_pairs_that_agree_in_a_band(self, texts):
        minhash = MinHash(bands=3, rows=2, n=2)
        signatures = minhash.signatures([shingles(text, 2) for text in texts])
        found = {(i, j) for bucket in minhash.buckets(signatures) for i in bucket for j in bucket if i < j}
        bands = signatures.reshape(len(texts), 3, 2)
        expected = {
            (i, j) for i in range(len(texts)) for j in range(i + 1, len(texts)) if (bands[i] == bands[j]).all(1).any()
        }
        assert found == expected

    def test_the_s_curve(self):
        minhash = MinHash(bands=20, rows=5)
        assert minhash.probability(1.0) == 1
        assert minhash.probability(0.0) == 0
        assert minhash.probability(0.3) < 0.05 < 0.95 < minhash.probability(0.7)


class TestGroups:
    def test_by_hand(self):
        texts = ["abcdefgh", "other text", "abcdefghi", "", "abcdefgh", ""]
        assert exact_groups(texts) == [0, 1, 2, 3, 0, 3]
        assert near_groups(texts, threshold=0.7, minhash=MinHash(n=3)) == [0, 1, 0, 3, 0, 3]

    @given(TEXTS, st.sampled_from([0.5, 0.8, 1.0]))
    def test_groups_are_what_comparing_all_pairs_gives(self, texts, threshold):
        """With so many bands that nothing is missed."""
        sets = [shingles(text, 2) for text in texts]
        expected = list(range(len(texts)))
        for j in range(len(texts)):
            for i in range(j):
                if jaccard(sets[i], sets[j]) >= threshold:
                    a, b = sorted((expected[i], expected[j]))
                    expected = [a if group == b else group for group in expected]
        assert near_groups(texts, threshold=threshold, minhash=MinHash(bands=150, rows=1, n=2)) == expected

    @pytest.mark.parametrize("compiled", [False, True])
    def test_planted_near_duplicates(self, compiled):
        """Paragraphs, each with a copy in which a few characters are changed: recall and precision are measured."""
        rng = np.random.default_rng(0)
        originals = list({p for a in data.load("encyclopedia")[:12] for p in a.text.split("\n") if len(p) > 200})[:150]
        originals.sort()
        copies = []
        for text in originals:
            letters = list(text)
            for place in rng.choice(len(letters), size=len(letters) // 100, replace=False):
                letters[place] = "#"
            copies.append("".join(letters))
        similar = [jaccard(shingles(a), shingles(b)) for a, b in zip(originals, copies, strict=True)]
        groups = near_groups(originals + copies, threshold=0.8, compiled=compiled)
        size = len(originals)
        found = [groups[size + i] == groups[i] for i in range(size)]
        alike = [similarity >= 0.8 for similarity in similar]
        assert sum(alike) > 100
        assert sum(f for f, a in zip(found, alike, strict=True) if a) / sum(alike) > 0.99  # recall
        assert all(groups[i] == i for i in range(size))  # precision: no two originals were taken for one

    def test_half_of_the_reviews_are_copies(self):
        reviews = data.load("chinese-reviews")
        assert len(set(exact_groups(reviews.texts()))) < 0.52 * len(reviews)

    def test_errors(self):
        with pytest.raises(TypeError, match="texts is one string"):
            near_groups("text")
        for threshold in (0.0, 1.5):
            with pytest.raises(ValueError, match=r"threshold must be in \(0, 1\]"):
                near_groups(["a"], threshold=threshold)
        for name in ("bands", "rows", "n"):
            with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
                MinHash(**{name: 0})
        with pytest.raises(ValueError, match="n must be at least 1, got 0"):
            shingles("a", 0)


class TestSplit:
    @given(st.lists(st.integers(0, 8), min_size=1, max_size=40), st.integers(0, 99))
    def test_no_group_is_cut_and_nothing_is_lost(self, groups, seed):
        parts = split_groups(groups, [0.6, 0.3, 0.1], np.random.default_rng(seed))
        assert sorted(np.concatenate(parts).tolist()) == list(range(len(groups)))
        sides = [{groups[i] for i in part} for part in parts]
        assert sum(map(len, sides)) == len(set(groups))

    def test_sizes_are_near_the_shares(self):
        parts = split_groups(range(1000), [0.8, 0.1, 0.1], np.random.default_rng(0))
        assert [len(part) for part in parts] == [800, 100, 100]
        assert (parts[0] != np.arange(800)).any()

    def test_errors(self):
        for shares in ([0.5, 0.4], [1.5, -0.5]):
            with pytest.raises(ValueError, match="shares must be at least 0 and add up to 1"):
                split_groups([0], shares, np.random.default_rng(0))
