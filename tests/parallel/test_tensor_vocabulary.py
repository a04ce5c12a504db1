"""The vocabulary in parts: lookups and losses as with the whole table, whatever sizes; scores are never joined."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.nn.functional import cross_entropy
from lmcore.nn.layers import Embedding, Linear
from lmcore.parallel.launch import run
from lmcore.parallel.tensor_vocabulary import (
    VocabularyParallelEmbedding,
    VocabularyParallelLinear,
    gather_scores,
    vocabulary_parallel_cross_entropy,
    vocabulary_range,
)
from lmcore.parallel.traffic import Traffic

pytestmark = pytest.mark.timeout(120)


@given(st.integers(1, 200), st.integers(1, 17))
def test_ranges_cover_the_vocabulary_once_in_equal_steps(size, n):
    ranges = [vocabulary_range(size, rank, n) for rank in range(n)]
    assert [i for r in ranges for i in r] == list(range(size))
    length = -(-size // n)
    assert all(len(r) in (length, 0) for r in ranges if r.stop < size)
    assert all(len(r) <= length for r in ranges)


@pytest.mark.parametrize(("size", "rank", "n"), [(0, 0, 1), (5, 2, 2), (5, -1, 2), (5, 0, 0)])
def test_ranges_refuse(size, rank, n):
    with pytest.raises(ValueError, match="size and n must be at least 1"):
        vocabulary_range(size, rank, n)


def losses(context, cases, ignore_index):
    """Loss and gradient of each case, from this rank's scores."""
    results = []
    for logits, targets in cases:
        size = logits.shape[-1]
        own = vocabulary_range(size, context.rank, context.world_size)
        part = torch.full((*logits.shape[:-1], -(-size // context.world_size)), -math.inf, dtype=logits.dtype)
        part[..., : len(own)] = logits[..., own.start : own.stop]
        part.requires_grad_()
        loss = vocabulary_parallel_cross_entropy(part, targets, context.group, ignore_index=ignore_index)
        (3 * loss).backward()
        results.append((loss.detach(), part.grad[..., : len(own)], part.grad[..., len(own) :].abs().sum().item()))
    return results


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("ignore_index", [None, 1])
def test_cross_entropy_is_that_of_the_whole(n, ignore_index):
    g = torch.Generator().manual_seed(n)
    cases = []
    for size, scale in ((11, 1.0), (5, 3000.0), (3, 1.0), (8, 1.0)):  # 3 words on 4 ranks: one has none
        logits = torch.randn(7, 5, size, generator=g, dtype=torch.float64) * scale
        cases.append((logits, torch.randint(size, (7, 5), generator=g)))
    logits = torch.randn(7, 5, 11, generator=g).double() - 5000.0
    cases.append((logits, torch.randint(11, (7, 5), generator=g)))
    found = list(zip(*run(losses, n, cases, ignore_index), strict=True))
    for (logits, targets), ranks in zip(cases, found, strict=True):
        logits.requires_grad_()
        expected = cross_entropy(logits, targets, ignore_index=ignore_index)
        (3 * expected).backward()
        got, parts, beyond = zip(*ranks, strict=True)
        assert all(torch.equal(loss, got[0]) for loss in got)  # the very same on all ranks
        torch.testing.assert_close(got[0], expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(torch.cat(parts, -1), logits.grad, rtol=1e-10, atol=1e-12)
        assert max(beyond) == 0


def test_float32_is_as_exact_as_on_one_process():
    logits = torch.randn(64, 101, generator=torch.Generator().manual_seed(1)) + 1000
    targets = torch.randint(101, (64,), generator=torch.Generator().manual_seed(2))
    (loss, *_), *_ = run(losses, 2, [(logits, targets)], None)[0]
    assert loss.item() == pytest.approx(cross_entropy(logits.double(), targets).item(), abs=1e-5)


def lookups(context):
    """Vectors, gradient, scores, and what was sent."""
    g = torch.Generator().manual_seed(5)
    table, output = Embedding(7, 3, generator=g), Linear(3, 7, generator=g)
    ids = torch.tensor([[0, 6, 3], [3, 3, 5]])
    parts = VocabularyParallelEmbedding(table, context.group), VocabularyParallelLinear(output, context.group)
    x = parts[0](ids)
    scores = parts[1](x)
    whole = gather_scores(scores, 7, context.group)
    x.retain_grad()
    (whole**2).sum().backward()
    with Traffic() as traffic:
        loss = vocabulary_parallel_cross_entropy(scores.detach().requires_grad_(), ids, context.group)
        loss.backward()
    expected = output(table(ids))
    (expected**2).sum().backward()
    assert torch.equal(x, table(ids))
    own = parts[0].own
    for part, entire in (
        (parts[0].weight, table.weight),
        (parts[1].weight, output.weight),
        (parts[1].bias, output.bias),
    ):
        torch.testing.assert_close(part.grad[: len(own)], entire.grad[own.start : own.stop])
        assert not part.grad[len(own) :].any()
    torch.testing.assert_close(whole, expected)
    return scores.shape, dict(traffic.messages), dict(traffic.bytes)


@pytest.mark.parametrize("n", [2, 4])
def test_lookup_scores_and_their_gradients(n):
    shape, messages, sizes = run(lookups, n)[0]
    assert shape == (2, 3, -(-7 // n))
    assert messages == {"all_reduce": 2}
    assert sizes == {"all_reduce": 3 * 6 * 4}  # three numbers for each of six rows


def messages(context, whats):
    """What each function complains about."""
    found = []
    for what in whats:
        try:
            found.append(str(what(context)))
        except ValueError as error:
            found.append(str(error))
    return found


def test_errors():
    loss, table = vocabulary_parallel_cross_entropy, Embedding(7, 3)
    cases = {
        "ids must be in 0 … 6, got 7 … 7": lambda c: VocabularyParallelEmbedding(table, c.group)(torch.tensor([7])),
        "ids must be whole numbers, got torch.float32": lambda c: VocabularyParallelEmbedding(table, c.group)(
            torch.ones(1)
        ),
        "targets has shape (1,), but scores (2, 3)": lambda c: loss(torch.ones(2, 3), torch.tensor([0]), c.group),
        "targets must be in 0 … 5, got 6 … 6": lambda c: loss(torch.ones(1, 3), torch.tensor([6]), c.group),
        "no row counts: scores is empty, or all targets are ignore_index = 4": lambda c: loss(
            torch.ones(1, 3), torch.tensor([4]), c.group, ignore_index=4
        ),
    }
    assert run(messages, 2, list(cases.values()))[1] == list(cases)
