"""GPTQ of whole models: whose inputs each block sees, and what becomes of the model's outputs."""

import pytest
import torch

from lmcore.compress.affine import Scheme
from lmcore.compress.gptq import gptq
from lmcore.compress.gptq_model import gptq_matrices, quantize_gptq
from lmcore.compress.inputs import record_inputs
from lmcore.compress.replace import matrices, quantize_weights, replace, stored_bytes
from lmcore.models.bert import BERT, BERTConfig
from lmcore.models.gpt import GPT, GPTConfig

SCHEME = Scheme(bits=3, per="group", group_size=8)


def gpt(layers=3, tied=True):
    config = GPTConfig.llama(vocabulary_size=37, context=23, d_model=24, d_ff=40, layers=layers, heads=3, tied=tied)
    model = GPT(config, generator=torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():  # weights so large that blocks matter, and correlated inputs
        for block in model.decoder.layers:
            for parameter in block.parameters():
                if parameter.ndim == 2:
                    parameter *= 3
    return model


def ids(rows=40, seed=1):
    # words that are drawn very unevenly, so that inputs are correlated
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(rows, 23, generator=generator) ** 4 * 37).long()


def test_first_block_sees_the_models_own_inputs():
    model, batches = gpt(), list(ids().split(7))
    found = gptq_matrices(model, batches, SCHEME)
    seen = record_inputs(model, batches, gram=True)
    assert list(found) == [name for name in matrices(model) if name != "output"]
    for own in ("self_attention.in_proj", "feed_forward.down"):  # within a block nothing is rounded yet
        name = f"decoder.layers.0.{own}"
        expected = gptq(matrices(model)[name].weight, seen[name].gram, SCHEME)
        assert (found[name].codes != expected.codes).float().mean() < 0.01  # sums in another order


def test_later_blocks_see_the_inputs_that_rounded_blocks_give():
    model, batches = gpt(), list(ids().split(7))
    found = gptq_matrices(model, batches, SCHEME)
    first = [name for name in found if name.startswith("decoder.layers.0.")]
    partly = replace(model, lambda name, weight, bias: _Fixed(found[name].dequantize()), names=first)
    name = "decoder.layers.1.feed_forward.up"
    weight = matrices(model)[name].weight
    for seen, same in (
        (record_inputs(partly, batches, gram=True), True),
        (record_inputs(model, batches, gram=True), False),
    ):
        different = (found[name].codes != gptq(weight, seen[name].gram, SCHEME).codes).float().mean()
        assert (different < 0.01) == same


class _Fixed(torch.nn.Module):
    """A layer with a given weight."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, x, rows=slice(None)):
        return x @ self.weight[rows].T


@pytest.mark.parametrize("order", ["given", "activation"])
def test_outputs_are_nearer_than_with_rounding_to_nearest_on_other_texts(order):
    model, other = gpt(), ids(rows=11, seed=2)
    small = quantize_gptq(model, ids().split(9), SCHEME, order=order)
    plain = quantize_weights(model, SCHEME)
    with torch.no_grad():
        errors = [(m(other) - model(other)).square().mean() for m in (small, plain)]
    assert errors[0] < 0.85 * errors[1]
    assert stored_bytes(small) == stored_bytes(plain)


def test_the_given_model_is_left_alone():
    model = gpt().train()
    kept = {name: p.clone() for name, p in model.named_parameters()}
    small = quantize_gptq(model, [ids()], SCHEME)
    assert model.training
    assert small.training
    assert all(torch.equal(p, kept[name]) for name, p in model.named_parameters())
    assert not model.decoder.layers[0]._forward_pre_hooks


def test_some_matrices_only():
    names = ["decoder.layers.1.feed_forward.up", "decoder.layers.2.self_attention.out_proj"]
    model = gpt()
    assert set(gptq_matrices(model, [ids()], SCHEME, names=names)) == set(names)
    small = quantize_gptq(model, [ids()], SCHEME, names=names)
    assert set(matrices(model)) - set(matrices(small)) == set(names)


def test_encoders_too_with_masks_and_shared_blocks():
    config = BERTConfig.standard(vocabulary_size=37, d_model=24, layers=2, heads=3)
    model = BERT(config).eval()
    small = quantize_gptq(model, [ids()], SCHEME)
    with torch.no_grad():
        assert 0 < (small(ids()) - model(ids())).abs().mean() < 0.5
    model.encoder.layers[1] = model.encoder.layers[0]
    found = gptq_matrices(model, [ids()], SCHEME)
    assert {name.split(".")[2] for name in found} == {"0"}


def test_errors():
    model = gpt()
    with pytest.raises(ValueError, match="batches is empty"):
        quantize_gptq(model, [], SCHEME)
    with pytest.raises(ValueError, match="'output' are no matrices of the model's blocks"):
        quantize_gptq(gpt(tied=False), [ids()], SCHEME, names=["output"])
    with pytest.raises(ValueError, match="must hold one Encoder or Decoder, Sequential holds 0"):
        quantize_gptq(torch.nn.Sequential(torch.nn.Linear(2, 2)), [ids()], SCHEME)
    with pytest.raises(ValueError, match="group_size = 7 does not divide"):
        quantize_gptq(model, [ids()], Scheme(bits=3, per="group", group_size=7))
