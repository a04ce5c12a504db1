"""Recomputation: gradients as without it and as torch's, dropout included; what autograd keeps, counted."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from lmcore.nn.layers import Dropout
from lmcore.nn.transformer import DecoderBlock, TransformerConfig
from lmcore.parallel.recompute import Recomputed, SavedMemory, recompute


def block(dropout=0.0, generator=None):
    """A Transformer block."""
    torch.manual_seed(5)
    config = TransformerConfig(d_model=12, heads=3, d_ff=29, layers=1, dropout=dropout)
    return DecoderBlock(config, cross_attention=False, generator=generator).double()


def gradients(layer, run, seed=17):
    """Output, the input's gradient and the parameters', and the next random number."""
    torch.manual_seed(seed)
    x = torch.randn(2, 7, 12, dtype=torch.float64, requires_grad=True)
    layer.zero_grad()
    y = run(x)
    after = torch.rand(())
    (y.sin().sum() + y[0, 0, 0] * torch.rand(())).backward()
    return y, x.grad, [p.grad for p in layer.parameters()], after, torch.rand(())


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("reentrant", [True, False])
def test_equal_to_plain_and_to_torch_bit_by_bit(dropout, reentrant):
    layer = block(dropout)
    plain = gradients(layer, layer)
    for run in (
        Recomputed(layer),
        lambda x: recompute(layer, x),
        lambda x: checkpoint(layer, x, use_reentrant=reentrant),
    ):
        for got, expected in zip(gradients(layer, run), plain, strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_a_generator_of_its_own_is_put_back_where_torch_does_not():
    def grads(make):
        generator = torch.Generator().manual_seed(3)
        layer = nn.Sequential(nn.Linear(5, 7), Dropout(0.5, generator=generator), nn.Linear(7, 1)).double()
        torch.manual_seed(1)
        for parameter in layer.parameters():
            nn.init.normal_(parameter)
        make(layer)(torch.ones(3, 5, dtype=torch.float64)).sum().backward()
        return [p.grad for p in layer.parameters()], generator.get_state()

    plain, state = grads(lambda layer: layer)
    ours, state_after = grads(Recomputed)
    torch.testing.assert_close(ours, plain, rtol=0, atol=0)
    assert torch.equal(state, state_after)
    theirs, _ = grads(lambda layer: lambda x: checkpoint(layer, x, use_reentrant=False))
    assert not all(torch.equal(a, b) for a, b in zip(theirs, plain, strict=True))


def test_inputs_without_a_gradient_and_inputs_that_are_no_tensors():
    table = nn.Embedding(7, 3)
    recompute(table, torch.tensor([1, 1, 5])).sum().backward()
    assert table.weight.grad.sum(dim=1).tolist() == [0, 6, 0, 0, 0, 3, 0]
    x = torch.tensor([2.0, 3.0], requires_grad=True)
    frozen = torch.tensor([5.0, 7.0])
    recompute(lambda a, power, b: a**power * b, x, 2, frozen).sum().backward()
    assert x.grad.tolist() == [2 * 2 * 5, 2 * 3 * 7]
    assert frozen.grad is None


def test_everything_frozen():
    layer = block().requires_grad_(False)
    x = torch.ones(2, 7, 12, dtype=torch.float64)
    Recomputed(layer)(x).sum().backward()
    with torch.no_grad():
        assert not Recomputed(layer)(x).requires_grad


def test_an_error_inside_leaves_the_random_numbers_alone():
    calls = []

    def fails_the_second_time(x):
        calls.append(torch.rand(()))
        if len(calls) == 2:
            raise RuntimeError("the second time")
        return x * 2

    y = recompute(fails_the_second_time, torch.ones(3, requires_grad=True))
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="the second time"):
        y.sum().backward()
    assert calls[0] == calls[1]
    assert torch.equal(torch.get_rng_state(), state)


def flops(run):
    """Operations of matrix products in a forward and a backward pass."""
    x = torch.ones(2, 7, 12, dtype=torch.float64, requires_grad=True)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run(x).sum().backward()
    return counter.get_total_flops()


def test_it_costs_one_more_forward_pass():
    layer = block()
    assert flops(Recomputed(layer)) * 3 == flops(layer) * 4


class TestMemory:
    def test_by_hand(self):
        x = torch.ones(5, 7, requires_grad=True)
        with SavedMemory() as memory:
            y = x.exp().sin().sum()  # exp keeps its result, which sin keeps as its input: one storage
        assert (memory.now, memory.peak) == (140, 140)
        y.backward()
        assert (memory.now, memory.peak) == (0, 140)

    def test_parameters_and_views_of_them_do_not_count(self):
        layer = nn.Linear(3, 5)
        x = torch.ones(7, 3)
        with SavedMemory() as memory:
            y = layer(x) @ layer.weight[:, :2]
        assert memory.now == x.nbytes + 7 * 5 * 4  # the first product's input, and its result for the second
        del y
        assert memory.now == 0

    def test_recomputation_keeps_the_inputs_and_one_block_at_a_time(self):
        layers = [block() for _ in range(6)]
        x = torch.ones(2, 7, 12, dtype=torch.float64)

        def peak(wrap):
            with SavedMemory() as memory:
                y = nn.Sequential(*map(wrap, layers))(x)
                kept = memory.now
                y.sum().backward()
            assert memory.now == 0
            return kept, memory.peak

        plain, plain_peak = peak(lambda layer: layer)
        kept, kept_peak = peak(Recomputed)
        one = (plain - x.nbytes) / 6 + x.nbytes  # of one block, with its input
        assert plain == plain_peak
        assert kept == 6 * x.nbytes
        assert kept < kept_peak <= kept + one
