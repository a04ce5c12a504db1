"""Beam search: numbers from paper, all sequences of a tiny model, greedy as beam of one, batches, errors."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.checking import load
from lmcore.decode import WholeText, beam_search, gnmt_penalty, greedy, power_penalty

models = load(Path(__file__).with_name("models.py"))
EOS, Random, Summed, table = models.EOS, models.Random, models.Summed, models.table
continuations, remembering_step = models.continuations, models.remembering_step

# ---- hand-worked ----

# The most probable first token leads to improbable ends. Ids: 0 end, 1, 2, 3 words.
TRAP = [[0.25] * 4, [0.4, 0.3, 0.3, 0.0], [0.9, 0.05, 0.05, 0.0], [0.0, 0.6, 0.4, 0.0]]


def test_beam_of_two_by_hand():
    found = beam_search(table(TRAP), WholeText(), [[3]], eos=EOS, max_length=5, beam=2)[0]
    # first 1 (0.6) and 2 (0.4); then 2 end (0.36) and 1 end (0.24)
    assert [h.tokens for h in found] == [(2,), (1,)]
    assert [round(math.exp(h.logprob), 5) for h in found] == [0.36, 0.24]
    assert all(h.finished and h.score == h.logprob for h in found)
    assert greedy(table(TRAP), WholeText(), [[3]], eos=EOS, max_length=5)[0].tokens == (1,)


def test_beam_shrinks_when_a_hypothesis_ends():
    # after 3: end 0.5, token 1 0.3, token 2 0.2; after 1 only 2; after 2 only 1: they would go on for ever
    rows = [[1.0, 0, 0, 0], [0.0, 0, 1, 0], [0.0, 1, 0, 0], [0.5, 0.3, 0.2, 0]]
    found = beam_search(table(rows), WholeText(), [[3]], eos=EOS, max_length=3, beam=2)[0]
    assert [(h.tokens, h.finished) for h in found] == [((), True), ((1, 2, 1), False)]
    assert [round(math.exp(h.logprob), 5) for h in found] == [0.5, 0.3]


def test_length_penalty_by_hand():
    # the end at once with 0.5, or after two more certain tokens with 0.4
    rows = [[1.0, 0, 0, 0], [0.0, 0, 1, 0], [1.0, 0, 0, 0], [0.5, 0.4, 0.1, 0]]
    search = {"eos": EOS, "max_length": 5, "beam": 2}
    plain = beam_search(table(rows), WholeText(), [[3]], **search)[0]
    assert [h.tokens for h in plain] == [(), (1, 2)]
    normalized = beam_search(table(rows), WholeText(), [[3]], alpha=1.0, **search)[0]
    assert [h.tokens for h in normalized] == [(1, 2), ()]
    # the long one has 3 tokens with its end: (5 + 3) / 6
    assert [h.score for h in normalized] == pytest.approx([math.log(0.4) * 6 / 8, math.log(0.5)])
    powers = beam_search(table(rows), WholeText(), [[3]], alpha=0.5, penalty=power_penalty, **search)[0]
    assert [h.score for h in powers] == pytest.approx([math.log(0.4) / math.sqrt(3), math.log(0.5)])


def test_penalties():
    assert gnmt_penalty(1, 0.7) == 1
    assert gnmt_penalty(13, 2.0) == pytest.approx(9)
    assert power_penalty(9, 0.5) == 3
    assert gnmt_penalty(5, 0) == power_penalty(5, 0) == 1


def test_impossible_tokens_are_never_chosen():
    rows = [[1.0, 0, 0], [0.0, 0.0, 1.0], [1.0, 0, 0]]
    found = beam_search(table(rows), WholeText(), [[1]], eos=EOS, max_length=5, beam=3)[0]
    assert [h.tokens for h in found] == [(2,)]  # there is one possible sequence, so one hypothesis


# ---- oracle: all sequences ----


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("penalty", [gnmt_penalty, power_penalty])
@pytest.mark.parametrize("seed", range(3))
def test_large_beam_finds_all_sequences(seed, penalty, alpha):
    model, prefix = Random(4, seed=seed), [3, 1]
    every = continuations(model, prefix, 4)  # 1 + 3 + 9 + 27 that end, 81 that do not
    assert len(every) == 121
    assert sum(map(math.exp, every.values())) == pytest.approx(1)
    search = {"eos": EOS, "max_length": 4, "beam": 121, "alpha": alpha, "penalty": penalty}
    [found] = beam_search(model.step, WholeText(), [prefix], **search)
    scores = {
        tokens[:-1] if tokens[-1] == EOS else tokens: logprob / penalty(len(tokens), alpha)
        for tokens, logprob in every.items()
    }
    expected = sorted(scores.items(), key=lambda pair: -pair[1])
    assert [h.score for h in found] == pytest.approx([score for _, score in expected], abs=1e-4)
    assert {h.tokens: round(h.score, 3) for h in found} == {tokens: round(score, 3) for tokens, score in expected}


@pytest.mark.parametrize("seed", range(7))
def test_no_hypothesis_beats_the_best_and_more_beams_search_more(seed):
    model = Random(5, seed=seed)
    best = max(continuations(model, [2], 4).values())
    rows = 0

    def counted(ids):
        nonlocal rows
        rows += len(ids)
        return model(ids)

    read = []
    for beam in (1, 3, 7, 341):
        rows = 0
        found = beam_search(WholeText.step(counted), WholeText(), [[2]], eos=EOS, max_length=4, beam=beam)[0]
        assert found[0].logprob <= best + 1e-5
        assert len(found) == beam
        read.append(rows)
    assert found[0].logprob == pytest.approx(best, abs=1e-5)
    assert read == sorted(set(read))


# ---- property ----


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 999), st.integers(2, 7), st.integers(1, 9), st.floats(0, 2))
def test_beam_of_one_is_greedy(seed, n_words, max_length, alpha):
    model, prefixes = Random(n_words, seed=seed), [[1], [0, 1, 1]]
    single = greedy(model.step, WholeText(), prefixes, eos=EOS, max_length=max_length)
    beams = beam_search(model.step, WholeText(), prefixes, eos=EOS, max_length=max_length, beam=1, alpha=alpha)
    for one, [found] in zip(single, beams, strict=True):
        assert (found.tokens, found.finished) == (one.tokens, one.finished)
        assert found.logprob == pytest.approx(one.logprob, abs=1e-5)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 999), st.integers(1, 7))
def test_logprob_is_what_the_model_says_of_the_whole(seed, beam):
    model = Random(5, seed=seed)
    for h in beam_search(model.step, WholeText(), [[2, 3]], eos=EOS, max_length=6, beam=beam)[0]:
        tokens = [*h.tokens, EOS] if h.finished else h.tokens
        text, total = [2, 3], 0.0
        for token in tokens:
            total += torch.log_softmax(model(torch.tensor([text])), -1)[0, token].item()
            text.append(token)
        assert h.logprob == pytest.approx(total, abs=1e-4)
        assert h.finished == (len(h.tokens) < 6)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=4), min_size=1, max_size=5), st.integers(1, 4))
def test_a_batch_of_prefixes_gives_what_each_gives_alone(prefixes, beam):
    """With a memory that is reordered, and prefixes that may hold the end themselves."""
    model = Random(5, seed=3)
    step = remembering_step(model)
    search = {"eos": EOS, "max_length": 5, "beam": beam, "alpha": 0.7}
    together = beam_search(step, Summed(torch.zeros(len(prefixes), 7)), prefixes, **search)
    for prefix, found in zip(prefixes, together, strict=True):
        [alone] = beam_search(model.step, WholeText(), [prefix], **search)
        assert [h.tokens for h in found] == [h.tokens for h in alone]
        assert [h.score for h in found] == pytest.approx([h.score for h in alone], abs=1e-4)


def test_without_an_end_all_have_full_length():
    for h in beam_search(Random(5).step, WholeText(), [[1]], eos=None, max_length=6, beam=3)[0]:
        assert (len(h.tokens), h.finished) == (6, False)


def test_prefixes_as_a_tensor_or_as_tensors():
    step, search = Random(5).step, {"eos": EOS, "max_length": 4, "beam": 2}
    lists = beam_search(step, WholeText(), [[1, 2], [3, 4]], **search)
    assert beam_search(step, WholeText(), torch.tensor([[1, 2], [3, 4]]), **search) == lists
    assert beam_search(step, WholeText(), [torch.tensor([1, 2]), torch.tensor([3, 4])], **search) == lists


def test_no_gradient_is_kept():
    weight = torch.randn(3, 3, requires_grad=True)
    seen = []

    def model(ids):
        logits = weight[ids[:, -1]]
        seen.append(logits.requires_grad)
        return logits

    beam_search(WholeText.step(model), WholeText(), [[1]], eos=EOS, max_length=3, beam=2)
    assert seen
    assert not any(seen)


# ---- errors ----


def test_errors():
    search = {"eos": EOS, "max_length": 5}
    with pytest.raises(ValueError, match="beam must be a whole number of at least 1, got 0"):
        beam_search(table(TRAP), WholeText(), [[3]], beam=0, **search)
    for alpha in (-0.5, math.nan):
        with pytest.raises(ValueError, match=f"alpha must be at least 0, got {alpha}"):
            beam_search(table(TRAP), WholeText(), [[3]], alpha=alpha, **search)
    with pytest.raises(ValueError, match="max_length must be a whole number of at least 1, got 0"):
        beam_search(table(TRAP), WholeText(), [[3]], eos=EOS, max_length=0)
    with pytest.raises(ValueError, match=r"logits have NaN for token 1 in row 0 after 1 tokens"):
        beam_search(WholeText.step(lambda ids: torch.tensor([[0.0, math.nan]])), WholeText(), [[1]], **search)
