"""GloVe: its loss by hand, its gradient and AdaGrad by torch, the two loops, a table that it must reproduce, errors."""

import numpy as np
import pytest
import torch

from lmcore.classical import glove_compiled
from lmcore.classical.glove import GloVe, GloVeConfig, loss, train_pairs, weight
from lmcore.classical.ppmi import cooccurrence_pairs, cooccurrences


def table(size=7, n=23, seed=0):
    """Pairs and counts, and first vectors of dimension 3 with a bias."""
    rng = np.random.default_rng(seed)
    cells = rng.choice(size * size, size=n, replace=False)
    counts = rng.uniform(0.1, 300, size=n)
    W, C = (rng.normal(size=(size, 4)).astype(np.float32) for _ in range(2))
    return W, C, cells // size, cells % size, counts


def test_weight_and_loss_by_hand():
    assert weight([16, 1], x_max=16, alpha=0.5).tolist() == [1, 0.25]
    W, C = np.array([[1.0, 2.0]]), np.array([[3.0, 1.0]])
    expected = 0.25 * (5 + 0.5 - 1 - np.log(1)) ** 2
    got = loss(W, C, np.array([0.5]), np.array([-1.0]), *map(np.array, ([0], [0], [1.0])), x_max=16, alpha=0.5)
    assert got == pytest.approx(expected)


def test_one_pair_after_the_other_is_torchs_adagrad():
    W, C, rows, columns, counts = table()
    mine = [W.copy(), C.copy(), np.ones_like(W), np.ones_like(C)]
    total = train_pairs(*mine, rows, columns, np.log(counts), weight(counts), 0.05)
    theirs = [torch.tensor(W, requires_grad=True), torch.tensor(C, requires_grad=True)]
    optimizer = torch.optim.Adagrad(theirs, lr=0.05, initial_accumulator_value=1.0, eps=0)
    expected = 0.0
    for i, j, x in zip(rows, columns, counts, strict=True):
        w, c = theirs[0][i], theirs[1][j]
        difference = w[:-1] @ c[:-1] + w[-1] + c[-1] - np.log(x)
        half = 0.5 * float(weight(x)) * difference**2
        optimizer.zero_grad()
        half.backward()
        optimizer.step()
        expected += 2 * half.item()
    assert total == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(mine[0], theirs[0].detach(), atol=1e-5)
    np.testing.assert_allclose(mine[1], theirs[1].detach(), atol=1e-5)
    assert abs(mine[0] - W).max() > 0.01


def test_the_compiled_loop_is_the_readable_one():
    W, C, rows, columns, counts = table(seed=3)
    logs, weights = np.log(counts).astype(np.float32), weight(counts).astype(np.float32)
    results = []
    for step in (train_pairs, glove_compiled.train_pairs):
        arrays = [W.copy(), C.copy(), np.ones_like(W), np.ones_like(C)]
        total = step(*arrays, rows, columns, logs, weights, np.float32(0.05))
        results.append([*arrays, np.array(total)])
    for readable, compiled in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, readable, rtol=1e-4, atol=1e-5)


def test_a_table_of_low_rank_is_found():
    rng = np.random.default_rng(2)
    w, c, b = rng.normal(size=(11, 2)), rng.normal(size=(11, 2)), rng.normal(size=11)
    logs = w @ c.T + b[:, None] + b
    rows, columns = (part.ravel() for part in np.indices(logs.shape))
    config = GloVeConfig(dim=3, epochs=400, learning_rate=0.2)
    model = GloVe(config).fit_pairs(rows, columns, np.exp(logs).ravel(), 11, np.random.default_rng(0))
    assert model.losses_[-1] < 0.01 * model.losses_[0]
    fitted = model.w_ @ model.c_.T + model.b_[:, None] + model.b_context_
    assert np.corrcoef(fitted.ravel(), logs.ravel())[0, 1] > 0.99
    assert loss(model.w_, model.c_, model.b_, model.b_context_, rows, columns, np.exp(logs).ravel()) < 0.1
    np.testing.assert_array_equal(model.vectors_, model.w_ + model.c_)


def test_fit_counts_words_and_rare_ones_take_their_place():
    text = [["a", "x", "b"], ["b", "a"]]
    config = GloVeConfig(dim=3, window=1, min_count=2, epochs=3)
    model = GloVe(config).fit(text, np.random.default_rng(0), compiled=False)
    assert model.words_ == ("a", "b")
    compiled = GloVe(config).fit(text, np.random.default_rng(0))
    np.testing.assert_allclose(compiled.vectors_, model.vectors_, atol=1e-5)
    (expected,) = {float(x) for x in cooccurrence_pairs([[0, -1, 1], [1, 0]], 2, window=1)[2]}
    assert expected == 1  # not 2: x stood between


def test_pairs_are_the_tables_cells():
    rng = np.random.default_rng(4)
    sentences = [rng.integers(-1, 7, size=n) for n in (0, 1, 5, 23)]
    for weighted in (True, False):
        rows, columns, counts = cooccurrence_pairs(sentences, 7, window=3, weighted=weighted)
        full = cooccurrences(sentences, 7, window=3, weighted=weighted)
        assert len(counts) == (full > 0).sum()
        np.testing.assert_allclose(full[rows, columns], counts)
        np.testing.assert_allclose(full, full.T)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"dim": 0}, "dim must be a whole number of at least 1"),
        ({"x_max": 0.0}, "x_max must be a finite number above zero"),
        ({"alpha": -1.0}, "alpha must be a finite number of at least 0"),
    ],
)
def test_settings_that_cannot_be(setting, message):
    with pytest.raises(ValueError, match=message):
        GloVeConfig(**setting)


def test_text_without_pairs():
    with pytest.raises(ValueError, match="no two words that occur min_count = 5 times or more stand within window"):
        GloVe().fit([["a", "b"]], np.random.default_rng(0))
    with pytest.raises(TypeError, match="got the string"):
        GloVe().fit(["ab"], np.random.default_rng(0))
