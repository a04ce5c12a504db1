"""Skip-gram and CBOW with negative sampling next to gensim, on one thread and on two; GloVe; the readable loop.

Equal dimension, window, negatives, subsampling, epochs and text (King James and the encyclopedia); gensim's own
training time, without its vocabulary. The two take turns; each pair of runs gives a ratio: median and range.
"""

import statistics
import time

import gensim
import numpy as np

from lmcore import data
from lmcore.classical.glove import GloVe, GloVeConfig
from lmcore.classical.word2vec import Word2Vec, Word2VecConfig
from lmcore.classical.word_evaluation import WordVectorEvaluation
from lmcore.text.words import split_words

ROUNDS, DIM, EPOCHS = 3, 100, 3


def text():
    """Sentences of lower-case words: verses, and paragraphs of the encyclopedia."""
    lines = [verse.text for verse in data.load("king-james")]
    lines += [line for article in data.load("encyclopedia") for line in article.text.split("\n")]
    return [[word for word in split_words(line.lower()) if word[0].isalnum()] for line in lines]


class Timed(Word2Vec):
    """Word2Vec that remembers how long the training itself took."""

    def _train(self, *arguments):
        start = time.perf_counter()
        super()._train(*arguments)
        self.seconds = time.perf_counter() - start


def ours(sentences, method, threads, seed):
    """Train ours; return seconds, words and vectors."""
    model = Timed(Word2VecConfig(method=method, dim=DIM, epochs=EPOCHS))
    model.fit(sentences, np.random.default_rng(seed), threads=threads)
    return model.seconds, model.words_, model.vectors_


def gensims(sentences, method, threads, seed):
    """Train gensim's; return seconds, words and vectors."""
    settings = {"vector_size": DIM, "window": 5, "negative": 5, "sample": 1e-3, "min_count": 5, "epochs": EPOCHS}
    model = gensim.models.Word2Vec(sentences, sg=int(method == "skip-gram"), workers=threads, seed=seed, **settings)
    return model.total_train_time, model.wv.index_to_key, model.wv.vectors


def compare(sentences, method, threads):
    """Print speeds, ratio and WordSim-353."""
    words = sum(map(len, sentences)) * EPOCHS
    pairs = [(first.lower(), second.lower(), score) for first, second, score in data.load("wordsim353")]
    ratios, speeds, scores = [], {"ours": [], "gensim": []}, {"ours": [], "gensim": []}
    for seed in range(ROUNDS):
        spent = {}
        for name, train in (("ours", ours), ("gensim", gensims)):
            spent[name], vocabulary, vectors = train(sentences, method, threads, seed)
            speeds[name].append(words / spent[name] / 1e6)
            scores[name].append(WordVectorEvaluation(list(vocabulary), vectors).similarity(pairs))
        ratios.append(spent["gensim"] / spent["ours"])
    print(
        f"{method}, {threads} thread(s): {statistics.median(ratios):.2f} × gensim's words per second "
        f"({min(ratios):.2f}–{max(ratios):.2f})"
    )
    for name, found in scores.items():
        correlation = statistics.mean(score.correlation for score in found)
        print(
            f"    {name:8} {statistics.median(speeds[name]):.2f} M words/s   WordSim-353 {correlation:.3f} "
            f"({found[0].used} of {found[0].total} pairs)"
        )


def others(sentences):
    """Print the speed of the readable loop and of GloVe."""
    few = sentences[:200]
    config = Word2VecConfig(dim=DIM, epochs=1, min_count=1)
    start = time.perf_counter()
    Word2Vec(config).fit(few, np.random.default_rng(0), compiled=False)
    spent = time.perf_counter() - start
    model = Timed(config)
    model.fit(few, np.random.default_rng(0))
    print(
        f"readable loop: {sum(map(len, few)) / spent:,.0f} words/s; compiled {spent / model.seconds:,.0f} times faster"
    )
    start = time.perf_counter()
    glove = GloVe(GloVeConfig(dim=50, epochs=10)).fit(sentences, np.random.default_rng(0))
    print(f"GloVe, 50 dimensions, 10 epochs, {len(glove.words_):,} words: {time.perf_counter() - start:.1f} s")


def main():
    """Run all comparisons."""
    sentences = [sentence for sentence in text() if sentence]
    for method in ("skip-gram", "cbow"):
        ours(sentences[:100] * 5, method, 1, 0)  # compiles
        for threads in (1, 2):
            compare(sentences, method, threads)
    others(sentences)


if __name__ == "__main__":
    main()
