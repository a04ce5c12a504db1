"""Corpus BLEU and chrF against sacrebleu, ROUGE against rouge-score: 2,000 verses of one Bible judged by another.

sacrebleu remembers the lines that it has tokenized; its memory is emptied before each run, so that both do the work.
"""

import logging
import random
import time

from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp

from lmcore import data
from lmcore.metrics.bleu import corpus_bleu
from lmcore.metrics.chrf import corpus_chrf
from lmcore.metrics.porter import porter_stem
from lmcore.metrics.rouge import rouge_l, rouge_n

PAIRS, REPEATS = 2000, 9


def seconds(function):
    """How long a call takes, and what it returns."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def rouge(hypotheses, references):
    """Mean F1 of ROUGE-1, -2 and -L with stems."""
    sums = [0.0] * 3
    for h, r in zip(hypotheses, references, strict=True):
        three = rouge_n(h, r, 1, stem=True), rouge_n(h, r, 2, stem=True), rouge_l(h, r, stem=True)
        sums = [total + score.f1 for total, score in zip(sums, three, strict=True)]
    return sum(sums) / len(hypotheses)


def peer_rouge(hypotheses, references):
    """The same by rouge-score."""
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    pairs = zip(hypotheses, references, strict=True)
    return sum(score.fmeasure for h, r in pairs for score in scorer.score(r, h).values()) / len(hypotheses)


def forget():
    """Empty both sides' memories."""
    for function in (Tokenizer13a.__call__, TokenizerRegexp.__call__, porter_stem):
        function.cache_clear()


def main():
    """Time each alternately with its peer; print the best and the median, and their ratios."""
    logging.getLogger("sacrebleu").setLevel(logging.ERROR)
    verses = list(data.align(data.load("king-james"), data.load("world-english")))
    chosen = random.Random(0).sample(verses, PAIRS)
    h, r = [ours.text for ours, _ in chosen], [theirs.text for _, theirs in chosen]
    work = {
        "corpus BLEU": (lambda: corpus_bleu(h, r).score, lambda: BLEU().corpus_score(h, [r]).score, REPEATS),
        "corpus chrF": (lambda: corpus_chrf(h, r).score, lambda: CHRF().corpus_score(h, [r]).score, 3),
        "ROUGE-1/2/L, stems": (lambda: rouge(h[::4], r[::4]), lambda: peer_rouge(h[::4], r[::4]), 3),
    }
    print(f"{PAIRS:,} pairs; seconds, best / median")
    for name, (ours, theirs, repeats) in work.items():
        times = [], []
        for _ in range(repeats):
            scores = []
            for column, function in zip(times, (ours, theirs), strict=True):
                forget()
                took, score = seconds(function)
                column.append(took)
                scores.append(score)
            assert abs(scores[0] - scores[1]) < 1e-9, scores
        (best, median), (peer, peer_median) = ((min(t), sorted(t)[len(t) // 2]) for t in times)
        print(f"{name:20} {best:6.3f} / {median:6.3f}   peer {peer:6.3f} / {peer_median:6.3f}", end="   ")
        print(f"{peer / best:4.1f}× / {peer_median / median:4.1f}× as fast")


if __name__ == "__main__":
    main()
