"""Near-duplicates among many texts, without comparing all pairs: MinHash signatures and locality-sensitive hashing.

A text is the set of its character n-grams, its *shingles*. Two texts are alike by the Jaccard similarity of their sets,
|A ∩ B| / |A ∪ B|. Give every shingle a random number: the text's smallest number belongs to a random shingle of it, and
two texts have the same smallest number with probability equal to their similarity. So a *signature* of many such minima
estimates it. Cut the signature into bands: texts that agree in some whole band become candidates, which alike texts
nearly always do and others rarely, and only candidates are compared.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise

import numpy as np

_MIX = tuple(np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Scramble 64-bit numbers so that every bit depends on every bit: a bijection, the finaliser of SplitMix64.

    Args:
        numbers: uint64, any shape.
    """
    numbers = numbers + _MIX[0]
    numbers = (numbers ^ (numbers >> np.uint64(30))) * _MIX[1]
    numbers = (numbers ^ (numbers >> np.uint64(27))) * _MIX[2]
    return numbers ^ (numbers >> np.uint64(31))


def shingles(text: str, n: int = 5) -> np.ndarray:
    """Hash every character n-gram of a text.

    Args:
        text: any string; one shorter than n is a single shingle.
        n: length, ≥ 1. For short texts and for Chinese 3 or 4 do better.
    Returns:
        The different hashes, sorted uint64; empty for the empty text.
    Raises:
        ValueError: n < 1.
    Cost: about 10 million characters per second.

    >>> len(shingles("abcabcabc", 3)), len(shingles("ab", 3)), len(shingles(""))   # abc, bca, cab
    (3, 1, 0)
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    if not codes.size:
        return codes
    n = min(n, len(codes))
    hashes = np.zeros(len(codes) - n + 1, dtype=np.uint64)
    for i in range(n):  # a polynomial in a fixed odd number, modulo 2⁶⁴
        hashes = hashes * _MIX[2] + codes[i : len(codes) - n + 1 + i]
    return np.unique(mixed(hashes))


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Similarity |A ∩ B| / |A ∪ B| of two sets, each without repetitions; 1 if both are empty.

    >>> jaccard(np.array([1, 2, 3]), np.array([2, 3, 4]))
    0.5
    """
    both = len(np.intersect1d(a, b, assume_unique=True))
    union = len(a) + len(b) - both
    return both / union if union else 1.0


@dataclass(frozen=True, kw_only=True)
class MinHash:
    """How signatures are made and compared.

    Args:
        bands: number of bands.   rows: minima in a band. Two texts of similarity s become candidates with probability
            1 − (1 − s^rows)^bands, which rises from 0 to 1 around s = (1 / bands)^(1 / rows).
        n: length of the shingles.
        seed: chooses the random numbers.
    Raises:
        ValueError: a number below 1.
    Source: Broder 1997 for the minima; Indyk and Motwani 1998 for the bands.

    >>> round(MinHash(bands=20, rows=5).probability(0.8), 4)
    0.9996
    """

    bands: int = 20
    rows: int = 5
    n: int = 5
    seed: int = 0

    def __post_init__(self):
        for name in ("bands", "rows", "n"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def probability(self, similarity: float) -> float:
        """How likely two texts of that similarity become candidates."""
        return 1 - (1 - similarity**self.rows) ** self.bands

    def signature(self, hashes: np.ndarray) -> np.ndarray:
        """The minima of a text.

        Args:
            hashes: what `shingles` returns.
        Returns:
            (bands · rows,) uint32; all equal to the largest number for an empty text.
        Cost: bands · rows operations for each shingle.
        """
        keys = _keys(self.bands * self.rows, self.seed)
        if not hashes.size:
            return np.full(len(keys), np.iinfo(np.uint32).max, dtype=np.uint32)
        return (mixed(hashes[None, :] ^ keys[:, None]) >> np.uint64(32)).min(axis=1).astype(np.uint32)

    def signatures(self, sets: Sequence[np.ndarray], *, compiled: bool = False) -> np.ndarray:
        """Signatures of many texts, (N, bands · rows); ``compiled`` uses numba, with the same result."""
        if not compiled:
            return np.array([self.signature(hashes) for hashes in sets]).reshape(len(sets), self.bands * self.rows)
        from lmcore.text import minhash_compiled  # here, since numba is optional

        ends = np.cumsum([len(hashes) for hashes in sets])
        everything = np.concatenate([*sets, np.empty(0, np.uint64)])
        return minhash_compiled.signatures(everything, ends, _keys(self.bands * self.rows, self.seed))

    def buckets(self, signatures: np.ndarray) -> Iterator[list[int]]:
        """Yield, band after band, the texts that agree in it; those that agree with no other are left out."""
        for band in range(self.bands):
            part = np.ascontiguousarray(signatures[:, band * self.rows : (band + 1) * self.rows])
            rows = part.view([("", part.dtype)] * self.rows).ravel()  # one thing to sort for each text
            order = np.argsort(rows, kind="stable")
            starts = np.flatnonzero(np.concatenate([[True], rows[order][1:] != rows[order][:-1]]))
            for start, end in pairwise([*starts.tolist(), len(rows)]):
                if end - start > 1:
                    yield order[start:end].tolist()


@cache
def _keys(count: int, seed: int) -> np.ndarray:
    """One random number for each minimum; scrambled with a shingle's hash it orders the shingles at random."""
    keys = np.random.default_rng(seed).integers(0, 1 << 63, size=count, dtype=np.uint64)
    keys.flags.writeable = False
    return keys


class _Groups:
    """Union–find: which texts are connected by pairs."""

    def __init__(self, size: int):
        self.parent = list(range(size))

    def find(self, i: int) -> int:
        """The group's first member."""
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]  # halve the way for the next one
            i = self.parent[i]
        return i

    def join(self, i: int, j: int) -> None:
        """Make two groups one."""
        i, j = sorted((self.find(i), self.find(j)))
        self.parent[j] = i


def exact_groups(texts: Iterable[str], *, key: Callable[[str], str] = str.strip) -> list[int]:
    """For each text the number of the first one that is equal to it after ``key``.

    >>> exact_groups(["a", "b", "a "])
    [0, 1, 0]
    """
    first: dict[str, int] = {}
    return [first.setdefault(key(text), number) for number, text in enumerate(texts)]


def near_groups(
    texts: Sequence[str], *, threshold: float = 0.8, minhash: MinHash | None = None, compiled: bool = False
) -> list[int]:
    """For each text the number of the first text of its group: texts connected by pairs of similar ones.

    Args:
        texts: N strings.
        threshold: Jaccard similarity of shingles from which on two texts count as near-duplicates, in (0, 1].
        minhash: how to look for candidates; None: `MinHash()`. Its ``probability(threshold)`` is the share of pairs
            just at the threshold that are found; those above it are found more surely.
        compiled: use numba for the signatures; the result is the same.
    Returns:
        N numbers; a text that has no near-duplicate before it has its own number. Candidates are compared exactly, so
        no pair below the threshold is ever joined directly.
    Raises:
        TypeError: texts is one string.   ValueError: threshold outside (0, 1].
    Cost: dominated by the signatures: about 10 million shingles · minima per second and core with numba 300 times that.

    >>> near_groups(["the cat sat on the mat", "a dog", "the cat sat on the mat!"])
    [0, 1, 0]
    """
    if isinstance(texts, str):
        raise TypeError("texts is one string; pass a list of texts")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be in (0, 1], got {threshold}")
    minhash = minhash or MinHash()
    same = exact_groups(texts, key=str)  # copies are found without any comparison
    different = [number for number, first in enumerate(same) if number == first]
    sets = [shingles(texts[number], minhash.n) for number in different]
    groups = _Groups(len(different))
    different_ones: set[tuple[int, int]] = set()  # pairs that were compared in vain
    for bucket in minhash.buckets(minhash.signatures(sets, compiled=compiled)):
        leaders: list[int] = []  # of the groups met in this bucket
        for j in bucket:
            for i in leaders:
                if groups.find(i) == groups.find(j):
                    break
                if (i, j) not in different_ones:
                    if jaccard(sets[i], sets[j]) >= threshold:
                        groups.join(i, j)
                        break
                    different_ones.add((i, j))
            else:
                leaders.append(j)
    leader = {number: different[groups.find(place)] for place, number in enumerate(different)}
    return [leader[first] for first in same]


def split_groups(groups: Sequence[int], shares: Sequence[float], rng: np.random.Generator) -> list[np.ndarray]:
    """Split texts at random so that no group is cut: what is nearly the same stays on one side.

    Args:
        groups: (N,) number of each text's group.
        shares: of each part, adding up to one.
        rng: the source of randomness.
    Returns:
        For each part the sorted numbers of its texts; sizes are as near to the shares as whole groups allow.
    Raises:
        ValueError: shares that are negative or do not add up to one.

    >>> parts = split_groups([0, 0, 2, 3, 3, 3], [0.5, 0.5], np.random.default_rng(1))
    >>> sorted(map(len, parts))
    [3, 3]
    """
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"shares must be at least 0 and add up to 1, got {list(shares)}")
    members = defaultdict(list)
    for number, group in enumerate(groups):
        members[group].append(number)
    order = [members[group] for group in rng.permutation(list(members)).tolist()]
    ends = np.cumsum([0, *map(len, order)])
    cuts = np.searchsorted((ends[1:] + ends[:-1]) / 2, np.cumsum([0, *shares]) * len(groups), side="left")
    cuts[0], cuts[-1] = 0, len(order)
    return [np.array(sorted(chain.from_iterable(order[a:b])), dtype=int) for a, b in pairwise(cuts)]
