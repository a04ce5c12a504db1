"""Replacing the matrices of models of five kinds: what is found, what comes out, that the model stays as it was."""

import copy
import warnings

import pytest
import torch
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model

from lmcore.compress.affine import Scheme, fake_quantize, quantize
from lmcore.compress.attention import CompressedAttention
from lmcore.compress.linear import QuantizedLinear
from lmcore.compress.replace import (
    irreplaceable,
    matrices,
    quantize_dynamic,
    quantize_weights,
    replace,
    stored_bytes,
)
from lmcore.decode.single import greedy
from lmcore.models.bert import BERT, BERTConfig, BERTForPretraining
from lmcore.models.bert_packed import PackedBERT
from lmcore.models.gpt import GPT, GPTConfig
from lmcore.models.gpt_decoding import GPTDecoder
from lmcore.models.seq2seq_transformer import TransformerSeq2Seq, TransformerSeq2SeqConfig
from lmcore.nn.matvec import TorchLinear
from lmcore.nn.multihead import MultiHeadAttention
from lmcore.nn.transformer import TransformerConfig


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def ids(*shape, high=11, seed=0):
    return torch.randint(1, high, shape, generator=generator(seed))


def gpt(**options):
    config = dict(vocabulary_size=11, context=13, d_model=12, d_ff=20, layers=2, heads=3, kv_heads=1)
    return GPT(GPTConfig.llama(**(config | options)), generator=generator())


def tied_gpt():
    return GPT(GPTConfig.gpt2(vocabulary_size=11, context=13, d_model=12, layers=2, heads=3), generator=generator())


def bert(**options):
    config = BERTConfig.standard(vocabulary_size=11, d_model=12, layers=2, heads=3, **options)
    return BERTForPretraining(config, generator=generator()).eval()


def seq2seq():
    stack = TransformerConfig(d_model=12, heads=3, d_ff=20, layers=2)
    config = TransformerSeq2SeqConfig(source_size=11, target_size=11, transformer=stack)
    return TransformerSeq2Seq(config, generator=generator()).eval()


def sequential():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3, bias=False))


def hf_bert():
    torch.manual_seed(0)
    sizes = dict(hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20)
    return BertModel(BertConfig(vocab_size=11, max_position_embeddings=13, **sizes)).eval()


MODELS = {
    "gpt": (gpt, lambda m: m(ids(2, 7)), 11),
    "tied gpt": (tied_gpt, lambda m: m(ids(2, 7)), 8),
    "bert": (bert, lambda m: m(ids(2, 7), [7, 5])[0], 11),
    "shared bert": (lambda: bert(shared=True), lambda m: m(ids(2, 7), [7, 5])[0], 7),
    "seq2seq": (seq2seq, lambda m: m(ids(2, 7), torch.tensor([7, 5]), ids(2, 5, seed=1)), 21),
    "sequential": (sequential, lambda m: m(torch.randn(4, 7, generator=generator())), 2),
    "transformers": (hf_bert, lambda m: m(ids(2, 7)).last_hidden_state, 13),
}


@pytest.fixture(params=MODELS)
def case(request):
    make, run, count = MODELS[request.param]
    return make(), run, count


def rounded_by_hand(model, scheme):
    """A copy of the model whose own layers hold the rounded weights."""
    result = copy.deepcopy(model)
    with torch.no_grad():
        for matrix in matrices(result).values():
            if not matrix.tied:
                matrix.weight.copy_(fake_quantize(matrix.weight, scheme))
    return result


@pytest.mark.parametrize("scheme", [Scheme(), Scheme(bits=3, symmetric=False, per="group", group_size=1)], ids=str)
@torch.no_grad()
def test_weights_are_those_of_the_model_rounded_by_hand(case, scheme):
    model, run, count = case
    quantized = quantize_weights(model, scheme)
    assert sum(isinstance(m, QuantizedLinear) for m in quantized.modules()) == count
    torch.testing.assert_close(run(quantized), run(rounded_by_hand(model, scheme)), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_dynamic_is_near_the_model(case):
    model, run, count = case
    quantized = quantize_dynamic(model)
    assert sum(isinstance(m, QuantizedLinear) for m in quantized.modules()) == count
    before, after = run(model), run(quantized)
    assert 0 < (after - before).norm() < 0.05 * (before - before.mean()).norm()


@torch.no_grad()
def test_the_model_is_left_alone_and_shares_nothing_with_the_copy(case):
    model, run, _ = case
    before, state = run(model), copy.deepcopy(model.state_dict())
    quantized = quantize_weights(model, Scheme(bits=2))
    for tensor in [*quantized.parameters(), *quantized.buffers()]:
        tensor.zero_()
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(run(model), before)


def test_names_of_a_gpt():
    layer = [
        "self_attention.in_proj",
        "self_attention.out_proj",
        *(f"feed_forward.{n}" for n in ("up", "down", "gate")),
    ]
    assert list(matrices(gpt())) == [f"decoder.layers.{i}.{n}" for i in range(2) for n in layer] + ["output"]


def test_a_tied_output_is_found_and_left_alone_unless_named():
    model = tied_gpt()
    assert matrices(model)["output"].tied
    plain = quantize_weights(model, Scheme())
    assert plain.output.weight is plain.embedding.weight
    named = quantize_weights(model, Scheme(), names=["output"])
    assert isinstance(named.output, QuantizedLinear)
    assert torch.equal(named.embedding.weight, model.embedding.weight)
    assert type(named.decoder.layers[0].self_attention) is MultiHeadAttention
    assert model.output.weight is model.embedding.weight


def test_a_layer_in_two_places_stays_one():
    quantized = quantize_weights(bert(shared=True), Scheme())
    assert quantized.bert.encoder.layers[0] is quantized.bert.encoder.layers[1]
    linear = torch.nn.Linear(3, 3)
    twice = quantize_weights(torch.nn.ModuleDict({"a": linear, "b": torch.nn.Sequential(linear)}), Scheme())
    assert isinstance(twice["a"], QuantizedLinear)
    assert twice["a"] is twice["b"][0]


def test_a_projection_that_two_attentions_share():
    model = torch.nn.ModuleList([MultiHeadAttention(6, 2), MultiHeadAttention(6, 2)])
    model[1].in_proj_weight = model[0].in_proj_weight
    assert [name for name, matrix in matrices(model).items() if matrix.tied] == ["0.in_proj", "1.in_proj"]
    quantized = quantize_weights(model, Scheme(), names=["0.in_proj"])
    assert torch.equal(quantized[1].in_proj_weight, model[1].in_proj_weight)
    assert isinstance(quantized[0].in_proj, QuantizedLinear)


def test_a_model_that_is_one_layer():
    assert isinstance(quantize_weights(torch.nn.Linear(3, 2), Scheme()), QuantizedLinear)
    attention = quantize_weights(MultiHeadAttention(6, 2), Scheme())
    assert isinstance(attention, CompressedAttention)
    assert isinstance(attention.in_proj, QuantizedLinear)


@torch.no_grad()
def test_generating_with_a_cache():
    model = quantize_dynamic(gpt())
    whole = model(ids(2, 7))
    cache = model.decoder.new_cache()
    parts = [model(part, cache=cache) for part in ids(2, 7).split([3, 1, 1, 2], dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-5)
    (best,) = greedy(model.step, model.start(), ids(1, 3), eos=None, max_length=5)
    text = torch.cat([ids(1, 3), torch.tensor([best.tokens])], 1)
    assert model(text)[0, 2:-1].argmax(-1).tolist() == list(best.tokens)


@torch.no_grad()
def test_weights_of_attention_are_still_there():
    attention = MultiHeadAttention(6, 2)
    quantized = quantize_weights(attention, Scheme())
    x = torch.randn(2, 5, 6)
    y, weights = quantized(x, need_weights=True)
    expected, expected_weights = attention(x, need_weights=True)
    torch.testing.assert_close(weights, expected_weights, rtol=0, atol=0.01)
    torch.testing.assert_close(y, expected, rtol=0, atol=0.01)
    with pytest.raises(TypeError, match="cannot be drawn anew"):
        quantized.reset_parameters()


def test_modes_and_hooks_come_along():
    model = sequential().eval()
    seen = []
    model[1].register_forward_hook(lambda *_: seen.append(1))
    quantized = quantize_weights(model, Scheme())
    assert not any(module.training for module in quantized.modules())
    quantized(torch.zeros(1, 7))
    assert seen == [1]


def test_none_keeps_the_layer():
    model = sequential()
    made = replace(model, lambda name, w, b: None if name == "0" else QuantizedLinear(quantize(w, Scheme()), b))
    assert torch.equal(made[0].weight, model[0].weight)
    assert made[0].weight is not model[0].weight
    assert isinstance(made[2], QuantizedLinear)


def test_bytes():
    model = gpt(vocabulary_size=11, d_model=12)
    matrix_numbers = sum(m.weight.numel() for m in matrices(model).values())
    rows = sum(len(m.weight) for m in matrices(model).values())
    quantized = quantize_weights(model, Scheme(bits=4))
    assert stored_bytes(model) - stored_bytes(quantized) == 4 * matrix_numbers - matrix_numbers // 2 - 4 * rows
    tied = tied_gpt()
    assert stored_bytes(tied) == 4 * sum(p.numel() for p in tied.parameters())


# ---- what cannot be replaced ----


def test_layers_that_read_their_own_weights_are_named_in_a_warning():
    model = torch.nn.ModuleDict({"a": torch.nn.MultiheadAttention(6, 2), "b": torch.nn.Linear(3, 2)})
    kinds = {"a.in_proj_weight": "MultiheadAttention", "a.out_proj.weight": "NonDynamicallyQuantizableLinear"}
    assert irreplaceable(model) == kinds
    with pytest.warns(
        UserWarning, match=r"2 matrices stay as they are.*: a.in_proj_weight \(MultiheadAttention\), a.out"
    ):
        quantized = quantize_weights(model, Scheme())
    assert isinstance(quantized["b"], QuantizedLinear)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quantize_weights(model, Scheme(), names=["b"])  # what is named is meant


@torch.no_grad()
def test_a_torch_encoder_still_runs():
    model = torch.nn.Sequential(torch.nn.Linear(7, 12), torch.nn.TransformerEncoderLayer(12, 3, 20)).eval()
    with pytest.warns(UserWarning, match=r"1.linear1.weight \(Linear\), 1.linear2.weight \(Linear\)"):
        quantized = quantize_weights(model, Scheme())
    x = torch.randn(5, 2, 7)
    torch.testing.assert_close(quantized(x), model(x), rtol=0, atol=0.05)


def test_a_model_without_matrices_of_a_known_kind():
    model = GPT2Model(GPT2Config(vocab_size=11, n_positions=13, n_embd=12, n_layer=1, n_head=3))
    with (
        pytest.warns(UserWarning, match=r"h.0.attn.c_attn.weight \(Conv1D\)"),
        pytest.raises(ValueError, match="GPT2Model has no linear layer whose weight is its own"),
    ):
        quantize_weights(model, Scheme())


# ---- errors ----


def test_wrong_names():
    with pytest.raises(ValueError, match="'1', 'x' are no matrices of the model, which has 0, 2"):
        quantize_weights(sequential(), Scheme(), names=["0", "1", "x"])
    with pytest.raises(TypeError, match="names must be several names, got the string '0'"):
        quantize_weights(sequential(), Scheme(), names="0")


def test_what_is_wrong_with_a_weight_is_said_with_its_name():
    with pytest.raises(ValueError, match=r"^0: group_size = 5 does not divide the last axis of x, 7"):
        quantize_weights(sequential(), Scheme(per="group", group_size=5))
    model = sequential()
    with torch.no_grad():
        model[2].weight[1, 3] = torch.nan
    with pytest.raises(ValueError, match=r"^2: 1 of 15 numbers of x are NaN or infinite, the first at \[1, 3\]"):
        quantize_weights(model, Scheme())


def test_readers_that_make_their_own_weights_refuse_compressed_ones():
    with pytest.raises(ValueError, match="compressed already; this takes the model before that"):
        GPTDecoder(quantize_weights(gpt(), Scheme()), linear=TorchLinear)
    bert = BERT(BERTConfig.standard(vocabulary_size=11, d_model=12, layers=1, heads=3))
    with pytest.raises(ValueError, match="compressed already; this takes the model before that"):
        PackedBERT(quantize_weights(bert, Scheme()))
