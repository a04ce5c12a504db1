"""The compiled decoder gives the numbers of the one that can be read, with 32, 16 and 8 bits; SmolLM2's perplexity."""

import dataclasses
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore import data
from lmcore.data.gguf import GGUF
from lmcore.decode import beam_search, greedy
from lmcore.models.gpt import GPT, GPTConfig
from lmcore.models.gpt_compiled import WEIGHTS, CompiledGPTDecoder
from lmcore.models.gpt_decoding import _ROOM, GPTDecoder
from lmcore.models.gpt_weights import load_gguf
from lmcore.nn.functional import log_softmax, softmax
from lmcore.text.bpe import ByteLevelBPE


def changed(config, **options):
    return dataclasses.replace(config, transformer=dataclasses.replace(config.transformer, **options))


GPT2 = GPTConfig.gpt2(vocabulary_size=31, context=13, d_model=12, layers=2, heads=3)
LLAMA = GPTConfig.llama(vocabulary_size=31, context=13, d_model=24, d_ff=17, layers=3, heads=6, kv_heads=2)
INTERLEAVED = dataclasses.replace(LLAMA, rotary_layout="interleaved", tied=True)
BIASED = changed(LLAMA, bias=True)
POST = changed(GPT2, order="post", activation="relu")
PLAIN = changed(GPT2, activation="gelu", bias=False, layers=1)
CONFIGS = pytest.mark.parametrize("config", [GPT2, LLAMA, INTERLEAVED, BIASED, POST, PLAIN])


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


def read(decoder, x, prompt=0):
    """Logits of all positions from a place on, (B, T − prompt, V), step by step."""
    state, found = decoder.start(x[:, :prompt]), []
    for t in range(prompt, x.shape[1]):
        logits, state = decoder.step(x[:, t], state)
        found.append(logits)
    return torch.stack(found, dim=1)


@CONFIGS
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
def test_steps_are_those_that_can_be_read(config, weights, threads):
    model, x = model_of(config), ids(1, 13)
    decoder, readable = CompiledGPTDecoder(model, weights=weights, threads=threads), model
    if weights != "float32":
        readable = GPTDecoder(model, linear=WEIGHTS[weights])
    with torch.no_grad():
        expected = read(readable, x)
    for prompt in (0, 1, 5):
        found = read(decoder, x, prompt)
        torch.testing.assert_close(found, expected[:, prompt:], rtol=1e-4, atol=1e-4)
        assert not found.requires_grad
    assert decoder.start().length == 0


@CONFIGS
@pytest.mark.parametrize("threads", [1, 2])
def test_steps_with_whole_numbers(config, threads):
    """A number on the edge between two codes may fall to either side, so few differences count, and not the largest."""
    model, x = model_of(config), ids(1, 13)
    exact, found = model(x).detach(), read(CompiledGPTDecoder(model, weights="int8", threads=threads), x)
    error = (found - exact).square().mean().sqrt()
    assert 0.001 < error / exact.std() < 0.1
    expected = read(GPTDecoder(model, linear=WEIGHTS["int8"]), x)
    assert (found - expected).square().mean().sqrt() < 0.1 * error


@CONFIGS
@pytest.mark.parametrize("weights", WEIGHTS)
def test_reordered_rows_go_on_as_themselves(config, weights):
    model, x = model_of(config), ids(3, 11)
    decoder, readable = CompiledGPTDecoder(model, weights=weights), GPTDecoder(model, linear=WEIGHTS[weights])
    for rows in ([2, 0, 2, 1], [1]):  # several, and one alone, whose step is the compiled one
        rows = torch.tensor(rows)
        state, expected = (d.start(x[:, :4]).reorder(rows) for d in (decoder, readable))
        for t in (4, 5):
            logits, state = decoder.step(x[rows, t], state)
            wanted, expected = readable.step(x[rows, t], expected)
            torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-4)


@settings(max_examples=12)
@given(prompt=st.integers(0, _ROOM + 3), threads=st.integers(1, 3))
def test_room_grows_when_it_is_full(prompt, threads):
    config = dataclasses.replace(LLAMA, context=2 * _ROOM + 7)
    model, x = model_of(config), ids(1, _ROOM + 5)
    decoder = CompiledGPTDecoder(model, threads=threads)
    state = decoder.start(x[:, :prompt])
    for t in range(prompt, x.shape[1]):
        logits, state = decoder.step(x[:, t], state)
    assert state.length == x.shape[1] <= state.room.shape[3] <= config.context
    torch.testing.assert_close(logits, model(x).detach()[:, -1], rtol=0, atol=1e-4)


@CONFIGS
def test_ways_of_decoding_find_the_same(config):
    model = model_of(config)
    decoder, limits = CompiledGPTDecoder(model), {"eos": 0, "max_length": 6}
    with torch.no_grad():
        for prefixes in ([[3, 5]], [[3, 5], [7], [11, 13, 17]]):
            first, again = (greedy(m.step, m.start(), prefixes, **limits) for m in (model, decoder))
            assert [h.tokens for h in first] == [h.tokens for h in again]
            beams, more = (beam_search(m.step, m.start(), prefixes, beam=3, **limits) for m in (model, decoder))
            assert [[h.tokens for h in found] for found in beams] == [[h.tokens for h in found] for found in more]


def test_decoders_with_other_threads_take_turns():
    model, x = model_of(LLAMA), ids(1, 13)
    decoders = [CompiledGPTDecoder(model, threads=threads) for threads in (1, 2)]
    assert [decoder.threads for decoder in decoders] == [1, 2]
    for decoder in 2 * decoders:
        torch.testing.assert_close(read(decoder, x), model(x).detach(), rtol=0, atol=1e-4)


def test_torch_keeps_its_threads():
    code = """if True:
        import torch
        from lmcore.models.gpt import GPT, GPTConfig
        from lmcore.models.gpt_compiled import CompiledGPTDecoder
        torch.set_num_threads(1)
        model = GPT(GPTConfig.gpt2(vocabulary_size=31, context=13, d_model=12, layers=2, heads=3))
        for threads in (1, 2):
            decoder = CompiledGPTDecoder(model, threads=threads)
            decoder.step(torch.tensor([3]), decoder.start())
            print(torch.get_num_threads())
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.split() == ["1", "1"]


@pytest.mark.parametrize(("weights", "size"), [("float32", 4), ("bfloat16", 2), ("int8", 1)])
def test_the_model_is_copied_once_and_its_bytes_are_counted(weights, size):
    model, x = model_of(LLAMA), ids(1, 3)
    decoder = CompiledGPTDecoder(model, weights=weights)
    expected = read(decoder, x)
    per_layer = 24 * (24 + 2 * 8) + 24 * 24 + 3 * 24 * 17
    scales = 4 * (3 * (40 + 24 + 34 + 24) + 31) if weights == "int8" else 0
    assert decoder.weight_bytes == size * (3 * per_layer + 31 * 24) + scales
    pointers = {layer.attention.qkv.weight.untyped_storage().data_ptr() for layer in decoder._layers}
    assert len(pointers) == 1  # prompts are read with the same memory
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter is not model.embedding.weight:
                parameter.zero_()
    torch.testing.assert_close(read(decoder, x), expected, rtol=0, atol=0)


@torch.no_grad()
def test_smollm2():
    """The divergence is what the log-perplexity grows by on texts that are as the model believes, and varies less."""
    file = GGUF(data.member_path("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"))
    merges = [tuple(rule.split(" ")) for rule in file.metadata["tokenizer.ggml.merges"]]
    words = ByteLevelBPE(merges, pattern="smollm2", tokens=file.metadata["tokenizer.ggml.tokens"])
    text = data.load("encyclopedia")[20].sections[0].text
    model, x = load_gguf(file, context=101), torch.tensor(words.encode(text[:1000]))[None, :101]
    exact = model(x)
    found = read(CompiledGPTDecoder(model), x[:, :29], prompt=17)
    torch.testing.assert_close(found, exact[:, 17:29], rtol=1e-4, atol=1e-4)
    found = read(CompiledGPTDecoder(model, weights="int8", threads=1), x)
    assert 0.001 < (softmax(exact) * (log_softmax(exact) - log_softmax(found))).sum(-1).mean() < 0.01


class TestErrors:
    def test_too_many_tokens_leave_the_state_as_it_was(self):
        decoder = CompiledGPTDecoder(model_of(GPT2))
        state = decoder.start(ids(1, 13))
        with pytest.raises(ValueError, match="14 tokens are more than the model's context of 13"):
            decoder.step(ids(1), state)
        assert state.length == 13

    def test_ids_outside_the_vocabulary(self):
        decoder = CompiledGPTDecoder(model_of(GPT2))
        state = decoder.start()
        with pytest.raises(ValueError, match=r"id 31 at \[0, 0\] is outside 0 … 30"):
            decoder.step(torch.tensor([31]), state)
        assert state.length == 0

    def test_what_it_is_made_of(self):
        with pytest.raises(ValueError, match="weights must be one of float32, bfloat16, int8, got 'int4'"):
            CompiledGPTDecoder(model_of(GPT2), weights="int4")
        with pytest.raises(ValueError, match=r"the model must be float32 on the CPU, got torch\.float64 on cpu"):
            CompiledGPTDecoder(model_of(GPT2).double())
        with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
            CompiledGPTDecoder(model_of(GPT2), threads=0)
