"""An order-5 Kneser–Ney model of the King James text: arrays, dictionaries, and nltk.lm on the same sentences.

All three use one fixed discount and no uniform rung, the model that nltk defines, and are asserted equal on what nltk
scored.
The modified model of the arrays, which nltk does not have, is timed too.
"""

import time

import numpy as np
from nltk.lm import KneserNeyInterpolated

from lmcore import data
from lmcore.classical.kneser_ney import KneserNey, KneserNeyArrays
from lmcore.text.vocab import BOS, EOS
from lmcore.text.words import split_words

ORDER, DISCOUNT = 5, 0.75
FEW = 2  # sentences that nltk scores: it needs seconds for each


def timed(function):
    """Call a function; return its result and the seconds it took."""
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def train_nltk(sentences):
    """nltk's model, given the n-grams that end in a predicted word, which is our convention."""

    def ngrams(sentence):
        words = [BOS] * (ORDER - 1) + sentence + [EOS]
        return [tuple(words[i - m + 1 : i + 1]) for i in range(ORDER - 1, len(words)) for m in range(1, ORDER + 1)]

    model = KneserNeyInterpolated(ORDER, discount=DISCOUNT)
    model.fit(map(ngrams, sentences), vocabulary_text=[w for s in sentences for w in [*s, BOS, EOS]])
    return model


def score_nltk(model, sentences):
    """Log-probabilities of all words, ends included."""
    padded = [[BOS] * (ORDER - 1) + sentence + [EOS] for sentence in sentences]
    return np.log([model.score(w[i], w[i - ORDER + 1 : i]) for w in padded for i in range(ORDER - 1, len(w))])


def main():
    """Print training time and scoring speed of each, best of three for ours, and the ratios."""
    sentences = [split_words(verse.text.lower()) for verse in data.load("king-james")]
    n = sum(len(sentence) + 1 for sentence in sentences)
    fixed = (0.0, *[DISCOUNT] * (ORDER - 1))
    few = sorted(sentences, key=len)[1000 : 1000 + FEW]

    rows = {}
    for name, kind, discount in [
        ("arrays, modified", KneserNeyArrays, None),
        ("arrays, one discount", KneserNeyArrays, fixed),
        ("dictionaries", KneserNey, fixed),
    ]:
        repeats = 3 if kind is KneserNeyArrays else 1
        part = sentences if kind is KneserNeyArrays else sentences[::10]
        words = sum(len(sentence) + 1 for sentence in part)
        fits = [
            timed(lambda kind=kind, discount=discount: kind(ORDER, discount=discount).fit(sentences))
            for _ in range(repeats)
        ]
        model = fits[-1][0]
        scores = [timed(lambda model=model, part=part: model.score(part)) for _ in range(repeats)]
        rows[name] = min(t for _, t in fits), words / min(t for _, t in scores), model.score(few)
        del fits, model
    peer, training = timed(lambda: train_nltk(sentences))
    scored, seconds = timed(lambda: score_nltk(peer, few))
    rows["nltk.lm"] = training, len(scored) / seconds, scored
    np.testing.assert_allclose(rows["arrays, one discount"][2], scored, rtol=1e-9)
    np.testing.assert_allclose(rows["dictionaries"][2], scored, rtol=1e-9)

    print(f"{n:,} words (ends included), order {ORDER}; all that nltk scored ({len(scored)} words) is equal to 1e-9")
    print(f"{'':22} {'training':>10} {'scoring':>18} {'training, × nltk':>18} {'scoring, × nltk':>18}")
    for name, (train, speed, _) in rows.items():
        ratio = f"{rows['nltk.lm'][0] / train:18.1f} {speed / rows['nltk.lm'][1]:18,.0f}"
        print(f"{name:22} {train:8.2f} s {speed:12,.0f} words/s {ratio}")


if __name__ == "__main__":
    main()
