"""Column- and row-parallel layers: by hand, equal to the whole layers, one bias, clear errors."""

import pytest
import torch

from lmcore.nn.functional import gelu
from lmcore.nn.layers import Linear
from lmcore.parallel.launch import run
from lmcore.parallel.tensor_linear import ColumnParallelLinear, RowParallelLinear

pytestmark = pytest.mark.timeout(120)


def layer(weight, bias):
    """A layer with these numbers."""
    made = Linear(len(weight[0]), len(weight))
    made.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    return made


def by_hand(context):
    """x (1, 2) through a split 2 × 2 layer, by columns and by rows."""
    whole = layer([[1.0, 2.0], [3.0, 4.0]], [10.0, 20.0])
    x = torch.tensor([[5.0, 7.0]])
    column, row = ColumnParallelLinear(whole, context.group), RowParallelLinear(whole, context.group)
    return column(x).tolist(), row(x[:, context.rank : context.rank + 1]).tolist()


def test_by_hand():
    first, second = run(by_hand, 2)
    assert first[0] == [[5 + 14 + 10]]
    assert second[0] == [[15 + 28 + 20]]
    assert first[1] == second[1] == [[29, 63]]  # [5, 15] + [14, 28], and the bias once


def whole_network(dtype):
    """Two layers and an input, the same wherever it is called."""
    g = torch.Generator().manual_seed(3)
    layers = [Linear(6, 20, generator=g).to(dtype), Linear(20, 7, generator=g).to(dtype)]
    x = torch.randn(3, 8, 6, generator=g, dtype=dtype)
    return layers, x, torch.randn(3, 8, 7, generator=g, dtype=dtype)


def gradients(context, sequence_parallel):
    """Output and gradients of column-GELU-row on many ranks."""
    (up, down), x, weights = whole_network(torch.float64)
    n, rank = context.world_size, context.rank
    own = slice(rank * 8 // n, (rank + 1) * 8 // n) if sequence_parallel else slice(None)
    x, weights = x[:, own].requires_grad_(), weights[:, own]
    options = {"sequence_parallel": sequence_parallel}
    up = ColumnParallelLinear(up, context.group, **options)
    down = RowParallelLinear(down, context.group, **options)
    y = down(gelu(up(x)))
    (y * weights).sum().backward()
    return y, x.grad, up.weight.grad, up.bias.grad, down.weight.grad, down.bias.grad


@pytest.mark.parametrize("sequence_parallel", [False, True])
@pytest.mark.parametrize("n", [2, 4])
def test_column_then_row_is_the_whole_network(n, sequence_parallel):
    (up, down), x, weights = whole_network(torch.float64)
    x.requires_grad_()
    y = down(gelu(up(x)))
    (y * weights).sum().backward()
    found = list(zip(*run(gradients, n, sequence_parallel), strict=True))
    ys, dxs, *parts, biases = found
    close = torch.testing.assert_close
    if sequence_parallel:
        close(torch.cat(ys, 1), y)
        close(torch.cat(dxs, 1), x.grad)
        close(sum(biases), down.bias.grad)  # each rank has what its positions give
    else:
        for i in range(n):
            close(ys[i], y)
            close(dxs[i], x.grad)
            close(biases[i], down.bias.grad)
    for got, axis, expected in zip(parts, (0, 0, 1), (up.weight.grad, up.bias.grad, down.weight.grad), strict=True):
        close(torch.cat(got, axis), expected)


def test_frozen_layers_stay_frozen():
    def frozen(context):
        whole = Linear(4, 6).requires_grad_(False)
        made = ColumnParallelLinear(whole, context.group), RowParallelLinear(whole, context.group)
        return [p.requires_grad for part in made for p in part.parameters()]

    assert run(frozen, 2)[0] == [False] * 4


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
    cases = {
        "2 ranks cannot share 5 outputs equally": lambda c: ColumnParallelLinear(Linear(4, 5), c.group),
        "2 ranks cannot share 5 inputs equally": lambda c: RowParallelLinear(Linear(5, 4), c.group),
        "x has shape (1, 6), but on this rank must end in 3": lambda c: RowParallelLinear(Linear(6, 4), c.group)(
            torch.ones(1, 6)
        ),
        "x has shape (1, 3), but on this rank must end in 6": lambda c: ColumnParallelLinear(Linear(6, 4), c.group)(
            torch.ones(1, 3)
        ),
    }
    assert run(messages, 2, list(cases.values()))[1] == list(cases)
