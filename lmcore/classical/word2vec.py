"""word2vec: vectors that are good at saying which words stand near each other.

`Word2Vec` counts and numbers the words, cuts the text into blocks and sends these through the loop of `word2vec_loop`
or, by default, through its compiled twin `word2vec_compiled`, on one thread or several. With several, all of them write
into the same matrices without a lock: now and then one overwrites what another has just written. The text is large and
the steps are small, so that it does not matter for the vectors; but only one thread gives the same bits every time.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from tqdm import tqdm

from lmcore.classical import word2vec_loop
from lmcore.classical.alias import AliasTable
from lmcore.optional import need
from lmcore.sizes import check_sizes

BLOCK = 10_000  # words that a thread takes at a time; a longer sentence is cut
METHODS = ("skip-gram", "cbow")


@dataclass(frozen=True, kw_only=True)
class Word2VecConfig:
    """How word vectors are trained; the values are those of the original program unless the corpus says otherwise.

    Args:
        method: "skip-gram" or "cbow".
        dim: length d of a vector.   window: largest distance of two words.   negatives: noise words per example.
        epochs: how often the text is read.   min_count: rarer words are left out before windows are laid.
        subsample: t; a word of relative frequency f is kept with probability √(t/f) + t/f; 0 keeps all.
        noise_power: noise words are drawn in proportion to count^noise_power.
        learning_rate: at the beginning; None: 0.025 for skip-gram; 0.05 for CBOW.   final_learning_rate: at the end.
    Raises:
        ValueError: a value outside its range.

    >>> Word2VecConfig(method="cbow").rate
    0.05
    """

    method: str = "skip-gram"
    dim: int = 100
    window: int = 5
    negatives: int = 5
    epochs: int = 5
    min_count: int = 5
    subsample: float = 1e-3
    noise_power: float = 0.75
    learning_rate: float | None = None
    final_learning_rate: float = 1e-4

    def __post_init__(self):
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        check_sizes(
            dim=self.dim, window=self.window, negatives=self.negatives, epochs=self.epochs, min_count=self.min_count
        )
        for name in ("subsample", "noise_power"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0, got {getattr(self, name)}")
        if not 0 < self.final_learning_rate <= self.rate < math.inf:
            raise ValueError(
                f"0 < final_learning_rate ≤ learning_rate is needed, got {self.final_learning_rate} and {self.rate}"
            )

    @property
    def rate(self) -> float:
        """The first learning rate."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 0.025 if self.method == "skip-gram" else 0.05


def frequent_words(sentences: Iterable[Sequence[str]], min_count: int) -> Counter:
    """Count words and keep those seen at least min_count times, the most frequent first, then by the alphabet.

    Raises:
        TypeError: a sentence is a string.
    """
    counts: Counter = Counter()
    for sentence in sentences:
        if isinstance(sentence, str):
            raise TypeError(f"a sentence is a sequence of words, got the string {sentence[:40]!r}")
        counts.update(sentence)
    kept = sorted((-count, word) for word, count in counts.items() if count >= min_count)
    return Counter({word: -negative for negative, word in kept})


def keep_probabilities(counts: np.ndarray, subsample: float) -> np.ndarray:
    """Probability with which an occurrence of each word is kept: min(1, √(t/f) + t/f).

    Args:
        counts: (V,) of the words.   subsample: t, or 0 to keep all.
    Source: the original program. Differs: the paper has √(t/f) alone.

    >>> keep_probabilities(np.array([99, 1]), 0.01).round(3).tolist()
    [0.111, 1.0]
    """
    if not subsample:
        return np.ones(len(counts))
    ratio = subsample * counts.sum() / counts
    return np.minimum(1, np.sqrt(ratio) + ratio)


def cut_blocks(lengths: Sequence[int], size: int = BLOCK) -> list[np.ndarray]:
    """Group sentences into blocks of about `size` words; a sentence that is longer is cut.

    Args:
        lengths: words of each sentence.
    Returns:
        For each block the places in the whole text where its sentences end; empty sentences are left out.

    >>> [block.tolist() for block in cut_blocks([2, 3, 7], size=4)]
    [[2, 5], [9], [12]]
    """
    whole = np.cumsum([0, *lengths]).tolist()
    cuts = [cut for start, end in pairwise(whole) if start < end for cut in [*range(start + size, end, size), end]]
    ends = np.array(cuts, dtype=np.int64)
    if not len(ends):
        return []
    number = np.concatenate([[0], ends[:-1]]) // size  # a block holds the sentences that begin within it
    return np.split(ends, np.flatnonzero(np.diff(number)) + 1)


class Word2Vec:
    """Word vectors by skip-gram or CBOW with negative sampling.

    Args:
        config: see `Word2VecConfig`.
    Attributes:
        words_: V words, the most frequent first.   counts_: (V,) how often each occurs.
        vectors_: (V, d) float32, the rows of W.   contexts_: (V, d), the rows of C.
    Source: Mikolov et al. 2013 (both papers).
    Differs: word2vec.c and gensim ask for the middle word with each word around it given, which are the same pairs in
        another order; in CBOW they add the whole change to each word around, and here each gets its share of the mean.
    Cost: skip-gram O(words · window · (negatives + 1) · d) for each epoch, CBOW a window's fraction of it.

    >>> text = [["king", "queen"], ["salt", "pepper"]] * 30
    >>> model = Word2Vec(Word2VecConfig(dim=5, subsample=0.0)).fit(text, np.random.default_rng(0))
    >>> model.vectors_.shape, model.words_
    ((4, 5), ('king', 'pepper', 'queen', 'salt'))
    """

    def __init__(self, config: Word2VecConfig | None = None):
        self.config = config or Word2VecConfig()

    def fit(
        self, sentences: Sequence[Sequence[str]], rng: np.random.Generator, *, threads: int = 1, compiled: bool = True
    ) -> "Word2Vec":
        """Train.

        Args:
            sentences: sequences of words; windows end with them.
            rng: draws the first vectors and all that the training draws. On one thread it determines the result.
            threads: how many run at once; only for the compiled loop.
            compiled: False: the readable loop, about a hundred times slower.
        Raises:
            TypeError: a sentence is a string.   ValueError: threads < 1 or several without `compiled`; no more words
                than the window is wide.
        """
        if threads < 1 or (threads > 1 and not compiled):
            raise ValueError(f"threads must be 1, or more with the compiled loop; got {threads}")
        counts = frequent_words(sentences, self.config.min_count)
        self.words_, self.counts_ = tuple(counts), np.array(list(counts.values()), dtype=np.int64)
        if self.counts_.sum() <= self.config.window:
            raise ValueError(
                f"the text has {self.counts_.sum()} words that occur min_count = {self.config.min_count} times or "
                f"more, and the window is {self.config.window} wide: take more text, or lower min_count or window"
            )
        ids = {word: number for number, word in enumerate(self.words_)}
        numbered = [[ids[word] for word in sentence if word in ids] for sentence in sentences]
        shape = len(ids), self.config.dim
        self.vectors_ = (rng.random(shape, dtype=np.float32) - np.float32(0.5)) / np.float32(self.config.dim)
        self.contexts_ = np.zeros(shape, dtype=np.float32)
        self._train(numbered, rng, threads, compiled)
        return self

    def _train(self, numbered: list[list[int]], rng: np.random.Generator, threads: int, compiled: bool) -> None:
        """Send all blocks through the loop, epochs times."""
        config = self.config
        tokens = np.fromiter((word for sentence in numbered for word in sentence), dtype=np.int32)
        blocks = cut_blocks([len(sentence) for sentence in numbered])
        first = np.array([0, *(block[-1] for block in blocks)])
        seeds = rng.integers(2**63, size=(config.epochs, len(blocks)), dtype=np.uint64)
        rates = np.linspace(config.rate, config.final_learning_rate, config.epochs * len(blocks))
        step = self._compiled_step if compiled else self._readable_step
        keep = np.rint(keep_probabilities(self.counts_, config.subsample) * 2.0**32).astype(np.uint64)
        noise = AliasTable(self.counts_**config.noise_power)

        def work(thread: int) -> None:
            for turn in range(thread, len(rates), threads):  # neighbouring blocks go to different threads
                epoch, block = divmod(turn, len(blocks))
                start, ends = first[block], blocks[block]
                step(tokens[start : ends[-1]], ends - start, keep, noise, rates[turn], seeds[epoch, block])
                progress.update(int(ends[-1] - start))

        with tqdm(total=config.epochs * len(tokens), unit="words", unit_scale=True, disable=None) as progress:
            if threads == 1:
                work(0)
            else:
                with ThreadPoolExecutor(threads) as pool:
                    list(pool.map(work, range(threads)))  # list: raises what a thread raised

    def _readable_step(self, tokens, ends, keep, noise, rate, seed) -> None:  # noqa: ANN001
        """One block through the readable loop."""
        word2vec_loop.train_block(
            tokens, ends.tolist(), self.vectors_, self.contexts_, keep, noise, window=self.config.window,
            negatives=self.config.negatives, rate=rate, seed=int(seed), cbow=self.config.method == "cbow",
        )  # fmt: skip

    def _compiled_step(self, tokens, ends, keep, noise, rate, seed) -> None:  # noqa: ANN001
        """One block through the compiled loop."""
        need("numba", group="text", by="the compiled loop of Word2Vec (compiled=False does without)")
        from lmcore.classical import word2vec_compiled  # here, since numba is optional

        word2vec_compiled.train_block(
            tokens, ends, self.vectors_, self.contexts_, keep, noise.threshold, noise.alias, self.config.window,
            self.config.negatives, rate, seed, self.config.method == "cbow",
        )  # fmt: skip
