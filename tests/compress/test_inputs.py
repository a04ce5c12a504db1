"""What comes into matrices: by hand, batch by batch equals all at once, cross-attention, that nothing stays behind."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.compress.inputs import record_inputs, see_inputs
from lmcore.models.gpt import GPT, GPTConfig
from lmcore.nn.multihead import MultiHeadAttention


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def small_gpt():
    config = GPTConfig.gpt2(vocabulary_size=11, context=13, d_model=12, layers=2, heads=3, dropout=0.5)
    return GPT(config, generator=torch.Generator().manual_seed(0))


def test_two_layers_by_hand():
    model = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False), torch.nn.ReLU(), torch.nn.Linear(1, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 2.0]]))
    found = record_inputs(model, [torch.tensor([[1.0, 1.0], [-5.0, 0.0]]), torch.tensor([[0.0, 2.0]])], gram=True)
    assert found["0"].gram.tolist() == [[26.0, 1.0], [1.0, 5.0]]
    assert found["0"].mean.tolist() == [2.0, 1.0]
    assert (found["0"].low, found["0"].high, found["0"].count) == (-5.0, 2.0, 3)
    assert found["2"].gram.tolist() == [[25.0]]  # 3, 0, 4
    assert found["2"].largest.tolist() == [4.0]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 100))
def test_batches_are_one_after_another(lengths, seed):
    x = normal(sum(lengths), 7, seed=seed)
    model = torch.nn.Sequential(torch.nn.Linear(7, 3))
    parts = record_inputs(model, x.split(lengths), gram=True)["0"]
    assert parts.count == len(x)
    torch.testing.assert_close(parts.gram, x.T @ x, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(parts.mean, x.abs().mean(0))
    assert torch.equal(parts.largest, x.abs().amax(0))
    assert record_inputs(model, x.split(lengths))["0"].gram is None


def test_cross_attention_counts_both_sequences():
    layer, x, memory = MultiHeadAttention(6, 2), normal(2, 5, 6), normal(2, 7, 6, seed=1)
    found = record_inputs(layer, [(x, memory)], gram=True)
    both = torch.cat([x.flatten(0, 1), memory.flatten(0, 1)])
    assert found["in_proj"].count == 2 * (5 + 7)
    torch.testing.assert_close(found["in_proj"].gram, both.T @ both)
    assert found["out_proj"].count == 2 * 5


def test_nothing_stays_behind_and_nothing_changes():
    model = small_gpt().train()
    model.dropout.eval()
    ids = torch.tensor([[3, 5, 7]])
    modes = [module.training for module in model.modules()]
    found = record_inputs(model, [{"ids": ids}, (ids,), ids])
    assert modes == [module.training for module in model.modules()]
    assert {f.count for f in found.values()} == {9}
    assert len(found) == 8  # all but the tied output
    attention = model.decoder.layers[0].self_attention
    assert "_project" not in vars(attention)
    assert not any(module._forward_pre_hooks for module in model.modules())
    with pytest.raises(ValueError, match="1 of 2"):
        record_inputs(torch.nn.Linear(2, 1), [torch.tensor([[1.0, torch.nan]])])


def test_dropout_is_off_and_gradients_are_not_kept():
    model = small_gpt().train()
    seen = []
    see_inputs(model, [torch.tensor([[3, 5, 7]])] * 2, lambda name, x: seen.append(x), names=["output"])
    assert torch.equal(seen[0], seen[1])
    assert seen[0].shape == (3, 12)
    assert not seen[0].requires_grad


def test_hooks_go_even_after_an_error():
    model = small_gpt()
    with pytest.raises(ValueError, match="outside 0 … 10"):
        record_inputs(model, [torch.tensor([[99]])])
    assert "_project" not in vars(model.decoder.layers[0].self_attention)
    assert model.training


def test_errors():
    model = torch.nn.Sequential(torch.nn.Linear(7, 3))
    with pytest.raises(ValueError, match="batches is empty"):
        record_inputs(model, [])
    with pytest.raises(ValueError, match="'1' are no matrices of the model, which has 0"):
        record_inputs(model, [normal(2, 7)], names=["1"])


def test_a_layer_that_is_not_reached_is_missing():
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(7, 3), "b": torch.nn.Linear(7, 3)})
    model.forward = lambda x: model["a"](x)
    assert list(record_inputs(model, [normal(2, 7)])) == ["a"]
