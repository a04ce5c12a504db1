"""The six operators: what they do forth and back, each the transpose of its conjugate, with clear errors."""

import pytest
import torch
import torch.distributed as dist

from lmcore.parallel.launch import run
from lmcore.parallel.tensor_operators import (
    copy_to_ranks,
    gather_parts,
    join_parts,
    keep_part,
    scatter_sum,
    sum_over_ranks,
)

pytestmark = pytest.mark.timeout(120)
OPERATORS = {
    "copy": copy_to_ranks,
    "sum": sum_over_ranks,
    "gather": gather_parts,
    "scatter": scatter_sum,
    "keep": keep_part,
    "join": join_parts,
}


def by_hand(context):
    """Each operator on a small x, and the gradient by x if that by y is 10 on rank 0, 20 on rank 1, times 1, 2, …."""
    results = {}
    for name, operator in OPERATORS.items():
        axis = () if name in ("copy", "sum") else (0,)
        x = (torch.tensor([1.0, 2.0]) + 2 * context.rank).requires_grad_()  # [1, 2] and [3, 4]
        y = operator(x, context.group, *axis)
        weights = torch.arange(1.0, len(y) + 1) * 10 * (context.rank + 1)
        (y * weights).sum().backward()
        results[name] = y.tolist(), x.grad.tolist()
    return results


def test_by_hand():
    first, second = run(by_hand, 2)
    # f: x stays; its gradient is [10, 20] + [20, 40] on both.
    assert first["copy"] == ([1, 2], [30, 60])
    assert second["copy"] == ([3, 4], [30, 60])
    # g: [1, 2] + [3, 4] on both; each gradient as it came.
    assert first["sum"] == ([4, 6], [10, 20])
    assert second["sum"] == ([4, 6], [20, 40])
    # gather: the parts joined; of [10, 20, 30, 40] + [20, 40, 60, 80] each keeps its part.
    assert first["gather"] == ([1, 2, 3, 4], [30, 60])
    assert second["gather"] == ([1, 2, 3, 4], [90, 120])
    # scatter: its part of [4, 6]; back, the gradients [10] and [20] joined.
    assert first["scatter"] == ([4], [10, 20])
    assert second["scatter"] == ([6], [10, 20])
    # keep: its part; back, the gradients joined.
    assert first["keep"] == ([1], [10, 20])
    assert second["keep"] == ([4], [10, 20])
    # join: as gather, but each keeps its part of its own gradient.
    assert first["join"] == ([1, 2, 3, 4], [10, 20])
    assert second["join"] == ([1, 2, 3, 4], [60, 80])


def adjoint(context):
    """Both sides of ⟨A x, y⟩ = ⟨x, Aᵀ y⟩, summed over ranks, with Aᵀ both the conjugate and what autograd does."""
    g = torch.Generator().manual_seed(context.rank)
    pairs = [(gather_parts, scatter_sum, (3, 2, 5)), (scatter_sum, gather_parts, (3, 8, 5))]
    sides = []
    for operator, conjugate, shape in pairs:
        x = torch.randn(shape, generator=g, dtype=torch.float64, requires_grad=True)
        ax = operator(x, context.group, 1)
        y = torch.randn(ax.shape, generator=g, dtype=torch.float64)
        (back,) = torch.autograd.grad(ax, x, y)
        assert torch.equal(back, conjugate(y, context.group, 1))
        both = torch.stack([(ax * y).sum(), (x * back).sum()]).detach()
        dist.all_reduce(both, group=context.group)
        sides.append(both.tolist())
    return sides


def test_the_way_back_is_the_transpose_which_is_the_conjugate():
    for results in run(adjoint, 4):
        for left, right in results:
            assert left == pytest.approx(right, rel=1e-12)
            assert abs(left) > 1e-3


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
    x = torch.ones(2, 3)
    cases = [
        lambda c: keep_part(x, c.group, 1),
        lambda c: scatter_sum(x, c.group, 1),
        lambda c: keep_part(torch.ones(4), c.group, 1),
    ]
    uneven = "axis 1 of x, shape (2, 3), has length 3, which 2 ranks cannot share equally: make it a multiple of 2"
    nowhere = "axis must be one of the 1 axes of x, which has shape (4,); got 1"
    assert run(messages, 2, cases)[1] == [uneven, uneven, nowhere]


def inputs_stay(context):
    """Whether an operator writes into what it is given."""
    x = torch.ones(4)
    for name, operator in OPERATORS.items():
        operator(x, context.group, *(() if name in ("copy", "sum") else (0,)))
    return x.tolist()


def test_inputs_are_not_written_to():
    assert run(inputs_stay, 2)[0] == [1, 1, 1, 1]
