"""word2vec: a step by hand, gradients by torch, the readable loop against the compiled one, gensim's scores, errors."""

import dataclasses

import gensim
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore import data
from lmcore.classical import word2vec_compiled, word2vec_loop
from lmcore.classical.alias import AliasTable
from lmcore.classical.word2vec import Word2Vec, Word2VecConfig, cut_blocks, frequent_words, keep_probabilities
from lmcore.classical.word2vec_softmax import SoftmaxWord2Vec, examples, loss_and_gradients
from lmcore.classical.word_evaluation import WordVectorEvaluation
from lmcore.text.words import split_words

METHODS = pytest.mark.parametrize("method", ["skip-gram", "cbow"])


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# ---- one example ----


def test_a_step_by_hand():
    x, C = np.array([1.0, 2.0], np.float32), np.array([[0.0, 0.0], [1.0, -0.5]], np.float32)
    change = word2vec_loop.ask(x, C, 0, [1, 0], rate=0.1)  # the noise word 0 is the right word: passed over
    # scores 0 and 0, probabilities ½ and ½: steps 0.1 (1 − ½) and 0.1 (0 − ½)
    np.testing.assert_allclose(change, 0.05 * np.array([0.0, 0.0]) - 0.05 * np.array([1.0, -0.5]))
    np.testing.assert_allclose(C, [[0.05, 0.1], [0.95, -0.6]], rtol=1e-6)


def test_a_step_goes_down_the_gradient():
    x, C = torch.tensor(numbers(7), requires_grad=True), torch.tensor(numbers(5, 7, seed=1), requires_grad=True)
    right, noise = 3, [0, 4]
    loss = -torch.log(torch.sigmoid(x @ C[right])) - sum(torch.log(torch.sigmoid(-x @ C[n])) for n in noise)
    loss.backward()
    changed = C.detach().numpy().copy()
    change = word2vec_loop.ask(x.detach().numpy(), changed, right, noise, rate=0.01)
    np.testing.assert_allclose(change, -0.01 * x.grad, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(changed - C.detach().numpy(), -0.01 * C.grad, rtol=1e-3, atol=1e-6)


def test_cbow_gives_each_word_its_share_of_the_gradient():
    W, C = torch.tensor(numbers(5, 3), requires_grad=True), numbers(5, 3, seed=1)
    keep, noise = np.full(5, 2**32, np.uint64), AliasTable([0, 0, 0, 0, 1.0])
    tokens = [0, 2, 1]  # a window of 1: the middle is asked for in the order 0, 2, 1
    expected = W.detach().clone()
    context, rate = torch.tensor(C), 1e-4  # so small that the three steps add up as if they were taken at once
    for given_words, asked in (([2], 0), ([0, 1], 2), ([2], 1)):
        x = W[given_words].mean(axis=0)
        loss = -torch.log(torch.sigmoid(x @ context[asked])) - torch.log(torch.sigmoid(-x @ context[4]))
        expected -= rate * torch.autograd.grad(loss, W)[0]
    changed = W.detach().numpy().copy()
    word2vec_loop.train_block(tokens, [3], changed, C, keep, noise, window=1, negatives=1, rate=rate, seed=5, cbow=True)
    np.testing.assert_allclose(changed, expected, atol=1e-7)
    assert abs(changed - W.detach().numpy()).max() > 1e-5


# ---- the two loops ----


@METHODS
@given(seed=st.integers(0, 2**63 - 1), window=st.integers(1, 5), negatives=st.integers(1, 7))
def test_the_compiled_loop_is_the_readable_one(method, seed, window, negatives):
    rng = np.random.default_rng(seed)
    tokens, ends = rng.integers(11, size=97).astype(np.int32), np.array([1, 3, 31, 96, 97])
    counts = 1 + np.bincount(tokens, minlength=11)
    keep, noise = np.rint(keep_probabilities(counts, 0.05) * 2.0**32).astype(np.uint64), AliasTable(counts**0.75)
    W, C = numbers(11, 13, seed=1), numbers(11, 13, seed=2)
    W2, C2, settings_ = W.copy(), C.copy(), {"window": window, "negatives": negatives, "rate": 0.05, "seed": seed}
    word2vec_loop.train_block(tokens, ends.tolist(), W, C, keep, noise, **settings_, cbow=method == "cbow")
    word2vec_compiled.train_block(
        tokens, ends, W2, C2, keep, noise.threshold, noise.alias, window, negatives, 0.05, seed, method == "cbow"
    )
    np.testing.assert_allclose(W2, W, atol=2e-5)
    np.testing.assert_allclose(C2, C, atol=2e-5)
    assert abs(W - numbers(11, 13, seed=1)).max() > 1e-3


@METHODS
def test_fit_is_the_same_readable_and_compiled_and_repeatable(method):
    rng = np.random.default_rng(7)
    text = [[f"w{n}" for n in rng.zipf(1.5, size=n) if n < 50] for n in rng.integers(0, 23, size=41)]
    config = Word2VecConfig(method=method, dim=7, window=3, epochs=2, min_count=2)
    readable, compiled, again = (
        Word2Vec(config).fit(text, np.random.default_rng(3), compiled=c) for c in (False, True, True)
    )
    np.testing.assert_allclose(compiled.vectors_, readable.vectors_, atol=2e-5)
    np.testing.assert_array_equal(compiled.contexts_, again.contexts_)
    assert not np.allclose(readable.contexts_, 0)


def test_random_numbers_are_even():
    generator = word2vec_loop.random_numbers(11)
    drawn = np.array([next(generator) for _ in range(20_000)]) / 2**32
    assert abs(drawn.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.02


# ---- what is around the loop ----


def test_subsampling_by_hand():
    kept = keep_probabilities(np.array([9000, 999, 1]), 1e-3)
    np.testing.assert_allclose(kept, [np.sqrt(1e-3 / 0.9) + 1e-3 / 0.9, np.sqrt(1e-3 / 0.0999) + 1e-3 / 0.0999, 1])
    assert keep_probabilities(np.array([9000, 1]), 0).tolist() == [1, 1]


@given(st.lists(st.integers(0, 20), max_size=13), st.integers(1, 7))
def test_blocks_hold_every_word_once(lengths, size):
    blocks = cut_blocks(lengths, size)
    ends = [int(end) for block in blocks for end in block]
    assert ends == sorted(set(ends))
    assert (ends or [0])[-1] == sum(lengths)
    assert set(np.cumsum(lengths).tolist()) - {0} <= set(ends)  # no block joins two sentences
    assert all(b - a <= size for a, b in zip([0, *ends], ends, strict=False))


def test_frequent_words_are_counted_and_sorted():
    assert list(frequent_words([["b", "a"], ["a", "b", "c"]], 2).items()) == [("a", 2), ("b", 2)]


def test_words_of_one_kind_come_together():
    rng = np.random.default_rng(0)
    kinds = [[f"{kind}{n}" for n in range(5)] for kind in "ab"]
    text = [list(rng.choice(kinds[n % 2], size=8)) for n in range(600)]
    for method in ("skip-gram", "cbow"):
        config = Word2VecConfig(method=method, dim=11, subsample=0.0, epochs=10)
        model = Word2Vec(config).fit(text, np.random.default_rng(1), threads=2)
        evaluation = WordVectorEvaluation(model.words_, model.vectors_)
        for word in model.words_:
            assert {other[0] for other, _ in evaluation.neighbours(word, 4)} == {word[0]}


def test_as_good_as_gensim_on_one_thread_and_on_two():
    text = [[word for word in split_words(verse.text.lower()) if word.isalpha()] for verse in data.load("king-james")]
    pairs = [(a.lower(), b.lower(), score) for a, b, score in data.load("simlex999")]
    settings_ = {"window": 5, "epochs": 3, "min_count": 5}
    theirs = gensim.models.Word2Vec(text, sg=1, vector_size=50, sample=1e-3, negative=5, workers=1, **settings_)
    expected = WordVectorEvaluation(theirs.wv.index_to_key, theirs.wv.vectors).similarity(pairs)
    for threads in (1, 2):
        ours = Word2Vec(Word2VecConfig(dim=50, **settings_)).fit(text, np.random.default_rng(0), threads=threads)
        assert set(ours.words_) == set(theirs.wv.index_to_key)
        score = WordVectorEvaluation(ours.words_, ours.vectors_).similarity(pairs)
        assert score.used == expected.used
        assert score.correlation > expected.correlation - 0.05


# ---- full softmax ----


@METHODS
def test_softmax_gradients_are_torchs(method):
    sentences = [[0, 3, 3, 1, 4, 2, 0], [5], [1, 6]]
    given_words, asked = examples(sentences, window=2, method=method)
    W, C = (torch.tensor(numbers(7, 3, seed=s), dtype=torch.float64, requires_grad=True) for s in (0, 1))
    x = torch.stack([W[[i for i in row if i >= 0]].mean(axis=0) for row in given_words.tolist()])
    loss = torch.nn.functional.cross_entropy(x @ C.T, torch.tensor(asked))
    loss.backward()
    ours, dW, dC = loss_and_gradients(W.detach().numpy(), C.detach().numpy(), given_words, asked)
    np.testing.assert_allclose(ours, loss.item())
    np.testing.assert_allclose(dW, W.grad, atol=1e-12)
    np.testing.assert_allclose(dC, C.grad, atol=1e-12)


@METHODS
def test_softmax_learns_the_conditional_probabilities(method):
    text = [[0, 1]] * 3 + [[0, 2]]
    model = SoftmaxWord2Vec(method=method, dim=5, window=1, epochs=400, learning_rate=1.0, batch=8)
    model.fit(text, 3, np.random.default_rng(0))
    scores = model.vectors_[0] @ model.contexts_.T
    p = np.exp(scores) / np.exp(scores).sum()
    np.testing.assert_allclose(p[1:], [0.75, 0.25], atol=0.04)
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) / 2  # after 1 and after 2 there is only 0
    assert entropy < model.losses_[-1] < entropy + 0.03 < model.losses_[0]


# ---- errors ----


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"method": "skipgram"}, "method must be one of skip-gram, cbow, got 'skipgram'"),
        ({"dim": 0}, "dim must be a whole number of at least 1, got 0"),
        ({"window": 2.5}, "window must be a whole number of at least 1, got 2.5"),
        ({"subsample": -1.0}, "subsample must be a finite number of at least 0"),
        ({"learning_rate": 1e-5}, "0 < final_learning_rate ≤ learning_rate is needed"),
    ],
)
def test_settings_that_cannot_be(setting, message):
    with pytest.raises(ValueError, match=message):
        Word2VecConfig(**setting)


def test_what_cannot_be_trained_on():
    model, rng = Word2Vec(Word2VecConfig(min_count=2)), np.random.default_rng(0)
    with pytest.raises(TypeError, match="a sentence is a sequence of words, got the string 'the cat'"):
        model.fit(["the cat"], rng)
    with pytest.raises(ValueError, match="has 4 words that occur min_count = 2 times or more, and the window is 5"):
        model.fit([["a", "b", "a", "b", "c"]], rng)
    with pytest.raises(ValueError, match="the text has 0 words"):
        model.fit([], rng)
    for wrong in ({"threads": 0}, {"threads": 2, "compiled": False}):
        with pytest.raises(ValueError, match="threads must be 1, or more with the compiled loop"):
            model.fit([["a"] * 20], rng, **wrong)


def test_settings_other_than_the_defaults_reach_the_loop():
    text = [["a", "b", "c", "d"]] * 60
    base = Word2VecConfig(dim=3, epochs=1, subsample=0.0)
    first = Word2Vec(base).fit(text, np.random.default_rng(0)).contexts_
    others = {"window": 1, "negatives": 2, "learning_rate": 0.01, "noise_power": 0.0, "method": "cbow"}
    for name, value in others.items():
        text_here = [*text, ["a", "b"] * 40] if name == "noise_power" else text
        before = Word2Vec(base).fit(text_here, np.random.default_rng(0)).contexts_ if name == "noise_power" else first
        changed = Word2Vec(dataclasses.replace(base, **{name: value})).fit(text_here, np.random.default_rng(0))
        assert not np.allclose(changed.contexts_, before, atol=1e-6), name
    with pytest.raises(ValueError, match="no sentence has two words"):
        SoftmaxWord2Vec().fit([[0], [1]], 2, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"ids must be in 0 … 1, got 0 … 2"):
        SoftmaxWord2Vec().fit([[0, 2]], 2, np.random.default_rng(0))
