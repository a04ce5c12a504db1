"""Greedy decoding and sampling: numbers from paper, frequencies against probabilities, batches, errors."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from lmcore.checking import load
from lmcore.decode import WholeText, greedy, sample, truncate

models = load(Path(__file__).with_name("models.py"))
EOS, Random, Summed, table = models.EOS, models.Random, models.Summed, models.table
continuations, generator, remembering_step = models.continuations, models.generator, models.remembering_step

TABLE = [[0.25] * 4, [0.4, 0.3, 0.3, 0.0], [0.9, 0.05, 0.05, 0.0], [0.0, 0.4, 0.6, 0.0]]

# ---- greedy ----


def test_greedy_by_hand():
    [h] = greedy(table(TABLE), WholeText(), [[3]], eos=EOS, max_length=5)
    assert (h.tokens, h.finished) == ((2,), True)
    assert math.exp(h.logprob) == pytest.approx(0.6 * 0.9)
    assert h.score == h.logprob


def test_max_length_counts_chosen_tokens_and_the_end():
    [h] = greedy(table(TABLE), WholeText(), [[3, 3]], eos=EOS, max_length=1)
    assert (h.tokens, h.finished) == ((2,), False)  # no room for the end
    assert math.exp(h.logprob) == pytest.approx(0.6)
    [h] = greedy(table(TABLE), WholeText(), [[3, 3]], eos=EOS, max_length=2)
    assert (h.tokens, h.finished) == ((2,), True)


def test_an_end_inside_the_prefix_does_not_end():
    [h] = greedy(table(TABLE), WholeText(), [[EOS, 3]], eos=EOS, max_length=5)
    assert h.tokens == (2,)
    [h] = greedy(table(TABLE), WholeText(), [[3, 2, EOS]], eos=None, max_length=2)
    assert len(h.tokens) == 2


def test_finished_rows_are_dropped_from_the_batch():
    sizes = []

    def model(ids):
        sizes.append(len(ids))
        return torch.log(torch.tensor(TABLE))[ids]

    greedy(WholeText.step(model), WholeText(), [[2], [3], [3, 3]], eos=EOS, max_length=5)
    assert sizes == [3, 2, 1]  # 2 ends at once, 3 after one more, and 3 3 one later


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=4), min_size=1, max_size=5), st.integers(0, 99))
def test_a_batch_of_prefixes_gives_what_each_gives_alone(prefixes, seed):
    model = Random(5, seed=seed)
    together = greedy(remembering_step(model), Summed(torch.zeros(len(prefixes), 7)), prefixes, eos=EOS, max_length=6)
    for prefix, h in zip(prefixes, together, strict=True):
        [alone] = greedy(model.step, WholeText(), [prefix], eos=EOS, max_length=6)
        assert (h.tokens, h.finished) == (alone.tokens, alone.finished)
        assert h.logprob == pytest.approx(alone.logprob, abs=1e-4)


def test_greedy_is_what_it_says():
    model, text = Random(11), [4, 7]
    [h] = greedy(model.step, WholeText(), [text], eos=None, max_length=9)
    for token in h.tokens:
        assert token == model(torch.tensor([text])).argmax()
        text = [*text, token]


# ---- truncate ----


def kept(probabilities, **options):
    return truncate(torch.log(torch.tensor(probabilities)), **options).exp().gt(0).int().tolist()


def test_truncate_by_hand():
    p = [0.1, 0.4, 0.2, 0.3]
    assert kept(p, top_k=1) == [0, 1, 0, 0]
    assert kept(p, top_k=3) == [0, 1, 1, 1]
    assert kept(p, top_k=4) == kept(p) == [1, 1, 1, 1]
    assert kept(p, top_p=0.05) == kept(p, top_p=0.4) == [0, 1, 0, 0]
    assert kept(p, top_p=0.41) == kept(p, top_p=0.69) == [0, 1, 0, 1]  # the token that reaches p stays
    assert kept(p, top_p=0.75) == [0, 1, 1, 1]
    # the two best weigh 0.7; of these the first has 0.4 / 0.7 = 0.57
    assert kept(p, top_k=2, top_p=0.5) == [0, 1, 0, 0]
    assert kept(p, top_k=2, top_p=0.6) == [0, 1, 0, 1]
    assert kept([0.25] * 4, top_k=2) in (
        [1, 1, 0, 0],
        [0, 0, 1, 1],
        [1, 0, 1, 0],
        [0, 1, 0, 1],
        [1, 0, 0, 1],
        [0, 1, 1, 0],
    )


def slow_nucleus(p, top_p):
    """Take the most probable until they weigh enough."""
    total, members = 0.0, []
    for token in sorted(range(len(p)), key=lambda token: -p[token]):
        if total >= top_p:
            break
        members.append(token)
        total += p[token]
    return sorted(members)


@given(st.integers(0, 999), st.floats(0.01, 0.99), st.integers(1, 13))
def test_truncate_equals_the_slow_way(seed, top_p, top_k):
    logits = torch.randn(3, 13, generator=generator(seed), dtype=torch.float64)
    for row, cut, few in zip(logits, truncate(logits, top_p=top_p), truncate(logits, top_k=top_k), strict=True):
        p = torch.softmax(row, -1).tolist()
        assert cut.isfinite().nonzero()[:, 0].tolist() == slow_nucleus(p, top_p)
        assert set(few.isfinite().nonzero()[:, 0].tolist()) == set(row.sort(descending=True).indices[:top_k].tolist())
        assert torch.equal(cut[cut.isfinite()], row[cut.isfinite()])  # what stays is unchanged


# ---- sample ----


def expected_frequencies(logits, temperature, top_k, top_p):
    """Probabilities, the slow way."""
    p = torch.softmax(logits.double() / temperature, -1).tolist()
    best = sorted(range(len(p)), key=lambda token: -p[token])[:top_k]
    weight = sum(p[token] for token in best)
    p = [p[token] / weight if token in best else 0.0 for token in range(len(p))]
    members = slow_nucleus(p, top_p)
    weight = sum(p[token] for token in members)
    return [p[token] / weight if token in members else 0.0 for token in range(len(p))]


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, None, 1.0), (0.5, None, 1.0), (2.0, None, 1.0), (1.0, 3, 1.0), (1.0, None, 0.7), (1.7, 5, 0.8)],
)
def test_frequencies_are_the_probabilities(temperature, top_k, top_p):
    n, logits = 7000, torch.randn(7, generator=generator(6))
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "generator": generator(1)}
    step = WholeText.step(lambda ids: logits.expand(len(ids), 7))
    found = sample(step, WholeText(), torch.zeros(n, 1, dtype=torch.long), eos=None, max_length=1, **options)
    counts = torch.bincount(torch.tensor([h.tokens[0] for h in found]), minlength=7)
    expected = torch.tensor(expected_frequencies(logits, temperature, top_k, top_p), dtype=torch.float64)
    assert (counts[expected == 0] == 0).all()
    possible = expected > 0
    assert chisquare(counts[possible].numpy(), (expected[possible] * n).numpy()).pvalue > 0.01
    # and the test can tell: other probabilities are refuted
    other = torch.tensor(expected_frequencies(logits, 1.3 * temperature, top_k, top_p), dtype=torch.float64)
    assert chisquare(counts[possible].numpy(), (other[possible] / other[possible].sum() * n).numpy()).pvalue < 1e-3


def test_whole_sequences_have_their_probabilities():
    model, n = Random(3, seed=2), 4000
    every = continuations(model, [2], 3)
    found = sample(model.step, WholeText(), [[2]] * n, eos=EOS, max_length=3, generator=generator(7))
    counts = dict.fromkeys(every, 0)
    for h in found:
        tokens = (*h.tokens, EOS) if h.finished else h.tokens
        counts[tokens] += 1
        assert h.logprob == pytest.approx(every[tokens], abs=1e-4)
    likely = [tokens for tokens in every if math.exp(every[tokens]) * n > 5]
    observed = [counts[tokens] for tokens in likely]
    expected = [math.exp(every[tokens]) for tokens in likely]
    assert chisquare(observed, [p / sum(expected) * sum(observed) for p in expected]).pvalue > 0.01


def test_limits_are_greedy():
    model, prefixes = Random(11), [[1], [2, 3]]
    best = greedy(model.step, WholeText(), prefixes, eos=EOS, max_length=9)
    for options in ({"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}, {"temperature": 1e-40}):
        drawn = sample(model.step, WholeText(), prefixes, eos=EOS, max_length=9, generator=generator(), **options)
        assert drawn == best


def test_generator_decides():
    model = Random(11)

    def draw(seed):
        return sample(model.step, WholeText(), [[1], [2]], eos=None, max_length=9, generator=generator(seed))

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


# ---- errors ----


def test_errors_of_sampling():
    draw = {"eos": EOS, "max_length": 5}
    for temperature in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"temperature must be above zero, got {temperature}"):
            sample(table(TABLE), WholeText(), [[3]], temperature=temperature, **draw)
    for top_k in (0, 5, 2.0):
        with pytest.raises(ValueError, match=rf"top_k must be a whole number in 1 … 4, .* vocabulary; got {top_k}"):
            sample(table(TABLE), WholeText(), [[3]], top_k=top_k, **draw)
    for top_p in (0.0, 1.01, math.nan):
        with pytest.raises(ValueError, match=rf"top_p must be in \(0, 1\], got {top_p}"):
            sample(table(TABLE), WholeText(), [[3]], top_p=top_p, **draw)


@pytest.mark.parametrize("way", [greedy, sample])
def test_errors(way):
    end = {"eos": EOS, "max_length": 5}
    with pytest.raises(ValueError, match="max_length must be a whole number of at least 1, got 0"):
        way(table(TABLE), WholeText(), [[3]], eos=EOS, max_length=0)
    for prefixes in ([], [[3], []]):
        with pytest.raises(ValueError, match="each prefix needs at least one token"):
            way(table(TABLE), WholeText(), prefixes, **end)
    for prefixes in ([3], torch.tensor([3]), [[0.5]], torch.zeros(1, 1, 1)):
        with pytest.raises(TypeError, match=r"prefixes must be \(B, T\) ids or B rows of ids; row 0 is"):
            way(table(TABLE), WholeText(), prefixes, **end)
    rows = torch.zeros(2, 3)
    rows[1, 2] = math.nan
    with pytest.raises(ValueError, match="logits have NaN for token 2 in row 1 after 2 tokens"):
        way(
            WholeText.step(lambda ids: rows if ids.shape[1] == 2 else rows[:1].expand(2, 3)),
            WholeText(),
            [[1, 1]] * 2,
            **end,
        )
    with pytest.raises(ValueError, match="logits have -inf as their maximum in row 0 after 1 tokens"):
        way(WholeText.step(lambda ids: torch.full((1, 3), -math.inf)), WholeText(), [[1]], **end)
    with pytest.raises(ValueError, match=r"step must return logits of shape \(1, V\), got \(1, 2, 3\)"):
        way(lambda tokens, state: (torch.zeros(1, 2, 3), state), WholeText(), [[1]], **end)
