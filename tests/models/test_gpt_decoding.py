"""The decoder made for speed gives the model's numbers: all families, prompts and steps, batches, beams, SmolLM2."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore import data
from lmcore.data.gguf import GGUF
from lmcore.decode import beam_search, greedy
from lmcore.models.gpt import GPT, GPTConfig
from lmcore.models.gpt_decoding import _ROOM, GPTDecoder
from lmcore.models.gpt_weights import load_gguf
from lmcore.nn.matvec import ColumnLinear, CompiledLinear, TorchLinear

GPT2 = GPTConfig.gpt2(vocabulary_size=31, context=13, d_model=12, layers=2, heads=3)
LLAMA = GPTConfig.llama(vocabulary_size=31, context=13, d_model=24, d_ff=17, layers=3, heads=6, kv_heads=2)
INTERLEAVED = dataclasses.replace(LLAMA, rotary_layout="interleaved", tied=True)
BIASED = dataclasses.replace(LLAMA, transformer=dataclasses.replace(LLAMA.transformer, bias=True))
POST = dataclasses.replace(GPT2, transformer=dataclasses.replace(GPT2.transformer, order="post", activation="relu"))
CONFIGS = pytest.mark.parametrize("config", [GPT2, LLAMA, INTERLEAVED, BIASED, POST])


def ids(*shape, seed=0, size=31):
    return torch.randint(size, shape, generator=torch.Generator().manual_seed(seed))


def model_of(config):
    """A model whose norms and biases have values of their own."""
    generator = torch.Generator().manual_seed(0)
    model = GPT(config, generator=generator).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


@CONFIGS
@pytest.mark.parametrize("linear", [TorchLinear, ColumnLinear, CompiledLinear])
@pytest.mark.parametrize("batch", [1, 3])
def test_prompts_and_steps_are_the_models(config, linear, batch):
    model, x = model_of(config), ids(batch, 13)
    expected, decoder = model(x).detach(), GPTDecoder(model, linear=linear)
    for prompt in (0, 1, 5):
        state = decoder.start(x[:, :prompt])
        for t in range(prompt, 13):
            logits, state = decoder.step(x[:, t], state)
            torch.testing.assert_close(logits, expected[:, t], rtol=0, atol=1e-4)
            assert not logits.requires_grad
    assert decoder.start().length == 0


@CONFIGS
def test_reordered_rows_go_on_as_themselves(config):
    model, x = model_of(config), ids(3, 11)
    expected, decoder = model(x).detach(), GPTDecoder(model)
    rows = torch.tensor([2, 0, 2, 1])
    state = decoder.start(x[:, :4]).reorder(rows)
    torch.testing.assert_close(decoder.step(x[rows, 4], state)[0], expected[rows, 4], rtol=0, atol=1e-4)
    state = decoder.start().reorder(torch.tensor([0]))
    torch.testing.assert_close(decoder.step(x[:1, 0], state)[0], expected[:1, 0], rtol=0, atol=1e-4)


@settings(max_examples=12)
@given(prompt=st.integers(0, _ROOM + 3), threads=st.integers(1, 3))
def test_room_grows_when_it_is_full(prompt, threads):
    config = dataclasses.replace(LLAMA, context=2 * _ROOM + 7)
    model, x = model_of(config), ids(1, _ROOM + 5)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        decoder = GPTDecoder(model)
        state = decoder.start(x[:, :prompt])
        for t in range(prompt, x.shape[1]):
            logits, state = decoder.step(x[:, t], state)
        assert torch.get_num_threads() == threads  # as found
    finally:
        torch.set_num_threads(before)
    assert x.shape[1] <= state.room.shape[3] <= config.context
    torch.testing.assert_close(logits, model(x).detach()[:, -1], rtol=0, atol=1e-4)


@CONFIGS
def test_ways_of_decoding_find_the_same(config):
    model = model_of(config)
    decoder, prefixes = GPTDecoder(model), [[3, 5], [7], [11, 13, 17]]
    limits = {"eos": 0, "max_length": 6}
    with torch.no_grad():
        first, again = (greedy(m.step, m.start(), prefixes, **limits) for m in (model, decoder))
        assert [h.tokens for h in first] == [h.tokens for h in again]
        beams, more = (beam_search(m.step, m.start(), prefixes, beam=3, **limits) for m in (model, decoder))
    assert [[h.tokens for h in found] for found in beams] == [[h.tokens for h in found] for found in more]


def test_the_model_is_copied_and_its_bytes_are_counted():
    model, x = model_of(LLAMA), ids(1, 3)
    expected, decoder = model(x)[:, -1].detach(), GPTDecoder(model)
    per_layer = 24 * (24 + 2 * 8) + 24 * 24 + 3 * 24 * 17
    assert decoder.weight_bytes == 4 * (3 * per_layer + 31 * 24)
    with torch.no_grad():
        model.decoder.layers[1].feed_forward.down.weight.zero_()
    torch.testing.assert_close(decoder.step(x[:, -1], decoder.start(x[:, :-1]))[0], expected, rtol=0, atol=1e-4)


def test_another_product_may_be_given():
    made = []

    def counting(weight, bias=None):
        made.append(tuple(weight.shape))
        return TorchLinear(weight, bias)

    GPTDecoder(model_of(GPT2), linear=counting)
    assert made == [(36, 12), (12, 12), (48, 12), (12, 48)] * 2 + [(31, 12)]


@torch.no_grad()
def test_smollm2():
    model = load_gguf(GGUF(data.member_path("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")), context=64)
    x = ids(1, 23, size=49152)
    expected = model(x)[0]
    for linear in (ColumnLinear, CompiledLinear):
        decoder = GPTDecoder(model, linear=linear)
        state = decoder.start(x[:, :17])
        for t in range(17, 23):
            logits, state = decoder.step(x[:, t], state)
            torch.testing.assert_close(logits[0], expected[t], rtol=0, atol=1e-4)
    assert decoder.weight_bytes == 4 * sum(p.numel() for p in model.parameters() if p.ndim == 2)


class TestErrors:
    def test_too_many_tokens_leave_the_state_as_it_was(self):
        decoder = GPTDecoder(model_of(GPT2))
        with pytest.raises(ValueError, match="14 tokens are more than the model's context of 13"):
            decoder.start(ids(1, 14))
        state = decoder.start(ids(1, 13))
        with pytest.raises(ValueError, match="14 tokens are more"):
            decoder.step(ids(1), state)
        assert state.length == 13

    def test_ids_outside_the_vocabulary(self):
        decoder = GPTDecoder(model_of(GPT2))
        with pytest.raises(ValueError, match=r"id 31 at \[0, 0\] is outside 0 … 30"):
            decoder.step(torch.tensor([31]), decoder.start())

    def test_a_model_of_another_type(self):
        with pytest.raises(ValueError, match="weight must be float32 on the CPU"):
            GPTDecoder(model_of(GPT2).double())
        model, x = model_of(GPT2).double(), ids(1, 3)
        decoder = GPTDecoder(model, linear=TorchLinear)  # torch's products take any
        logits, _ = decoder.step(x[:, -1], decoder.start(x[:, :-1]))
        torch.testing.assert_close(logits, model(x)[:, -1].detach())
