"""GPT: Hugging Face's GPT-2 and Llama with gradients, causality, the cache, windows, SmolLM2's answer, misfits."""

import dataclasses

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from lmcore import data
from lmcore.data.gguf import GGUF
from lmcore.decode import greedy
from lmcore.models.gpt import GPT, GPTConfig, score
from lmcore.models.gpt_weights import from_gpt2, from_llama, gguf_config, load_gguf
from lmcore.models.loading import load_weights
from lmcore.nn.functional import cross_entropy

GPT2 = GPTConfig.gpt2(vocabulary_size=31, context=13, d_model=12, layers=2, heads=3)
LLAMA = GPTConfig.llama(
    vocabulary_size=31, context=13, d_model=24, d_ff=17, layers=3, heads=6, kv_heads=2, norm_eps=1e-6, rotary_base=500.0
)
SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def ids(*shape, seed=0, size=31):
    return torch.randint(size, shape, generator=generator(seed))


def hugging_face_gpt2(**settings):
    config = transformers.GPT2Config(
        vocab_size=31, n_positions=13, n_embd=12, n_layer=2, n_head=3, attn_pdrop=0, embd_pdrop=0, resid_pdrop=0
    )
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(config).eval()


def hugging_face_llama(*, tied):
    config = transformers.LlamaConfig(
        vocab_size=31, max_position_embeddings=13, hidden_size=24, intermediate_size=17, num_hidden_layers=3,
        num_attention_heads=6, num_key_value_heads=2, rms_norm_eps=1e-6, tie_word_embeddings=tied,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config).eval()


def shaken(model):
    """Norms are ones and zeros at first: give everything a value of its own."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator(parameter.numel()))
    return model


@pytest.mark.parametrize("kind", ["gpt2", "llama", "llama tied"])
def test_hugging_face_agrees_in_logits_and_gradients(kind):
    theirs = shaken(hugging_face_gpt2() if kind == "gpt2" else hugging_face_llama(tied="tied" in kind))
    translate = from_gpt2 if kind == "gpt2" else from_llama
    config = GPT2 if kind == "gpt2" else dataclasses.replace(LLAMA, tied="tied" in kind)
    ours = GPT(config)
    load_weights(ours, translate(theirs.state_dict()))
    x, y = ids(3, 11), ids(3, 11, seed=1)
    expected = theirs(x).logits
    torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)
    cross_entropy(ours(x), y).backward()
    cross_entropy(expected, y).backward()
    gradients = translate({name: p.grad for name, p in theirs.named_parameters()})
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(
            parameter.grad, gradients[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_gpt2_without_head_and_on_the_meta_device():
    theirs = hugging_face_gpt2()
    ours = GPT(GPT2, device="meta").eval()
    load_weights(ours, from_gpt2(theirs.transformer.state_dict()))
    assert ours.output.weight is ours.embedding.weight
    torch.testing.assert_close(ours(ids(2, 7)), theirs(ids(2, 7)).logits, rtol=1e-5, atol=1e-5)


CONFIGS = pytest.mark.parametrize("config", [GPT2, LLAMA, dataclasses.replace(LLAMA, rotary_layout="interleaved")])


@CONFIGS
def test_the_past_does_not_see_the_future(config):
    model, x = shaken(GPT(config, generator=generator())).eval(), ids(2, 11)
    changed = x.clone()
    changed[:, 7] = (x[:, 7] + 1) % 31
    a, b = model(x), model(changed)
    torch.testing.assert_close(a[:, :7], b[:, :7])
    assert (a[:, 7:] != b[:, 7:]).any(-1).all()


@CONFIGS
@torch.no_grad()
def test_prompt_and_steps_with_cache_are_the_full_pass(config):
    model, x = shaken(GPT(config, generator=generator())).eval(), ids(3, 11)
    expected = model(x)
    for prompt in (0, 1, 5):
        state = model.start(x[:, :prompt])
        for t in range(prompt, 11):
            logits, state = model.step(x[:, t], state)
            torch.testing.assert_close(logits, expected[:, t], rtol=1e-4, atol=1e-5)
    state = model.start(x[:, :4]).reorder(torch.tensor([2, 2]))
    torch.testing.assert_close(model.step(x[[2, 2], 4], state)[0], expected[[2, 2], 4], rtol=1e-4, atol=1e-5)


@given(n=st.integers(2, 40), stride=st.integers(1, 13), batch_size=st.integers(1, 5))
def test_scores_by_windows(n, stride, batch_size):
    model, text = GPT(GPT2, generator=generator()).eval(), ids(n)
    got = score(model, text, stride=stride, batch_size=batch_size)
    assert got.shape == (n - 1,)
    starts = [0, *range(stride, max(n - 1 - 13 + stride, 0), stride)]
    for place in range(n - 1):  # by hand: the first window that reaches the place
        start = next(s for s in starts if place < s + 13)
        logits = model(text[None, start : place + 1])[0, -1]
        assert got[place] == pytest.approx(torch.log_softmax(logits, 0)[text[place + 1]].item(), abs=1e-5)


def test_first_weights():
    config = GPTConfig.gpt2(vocabulary_size=1009, context=64, d_model=192, layers=8, heads=4)  # a quarter of 768
    model = GPT(config, generator=generator())
    block = model.decoder.layers[3]
    assert model.embedding.weight.std().item() == pytest.approx(0.04, rel=0.05)
    assert block.feed_forward.down.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert block.self_attention.out_proj.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not block.feed_forward.up.bias.any()
    loss = cross_entropy(model(ids(8, 64, size=1009)), ids(8, 64, seed=1, size=1009))
    scores = 192 * 0.04**2  # their variance; the mean of exp(N(0, v)) is exp(v / 2)
    assert loss.item() == pytest.approx(np.log(1009) + scores / 2, rel=0.01)


@pytest.fixture(scope="module")
def file():
    return GGUF(data.member_path("smollm2", SMOLLM2))


class TestSmolLM2:
    @torch.no_grad()
    def test_logits_are_those_of_hugging_faces_llama(self, file):
        ours = load_gguf(file, context=64)
        size = ours.config.transformer
        config = transformers.LlamaConfig(
            vocab_size=49152, hidden_size=size.d_model, intermediate_size=size.d_ff, num_hidden_layers=size.layers,
            num_attention_heads=size.heads, num_key_value_heads=size.kv_heads, rms_norm_eps=size.norm_eps,
            tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
        )  # fmt: skip
        with torch.device("meta"):
            theirs = transformers.LlamaForCausalLM(config)
        names = {
            "attn_output": "self_attn.o_proj", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
            "attn_v": "self_attn.v_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
            "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
        }  # fmt: skip
        weights = {"model.embed_tokens.weight": "token_embd.weight", "lm_head.weight": "token_embd.weight"}
        weights |= {"model.norm.weight": "output_norm.weight"}
        for i in range(size.layers):
            weights |= {f"model.layers.{i}.{t}.weight": f"blk.{i}.{g}.weight" for g, t in names.items()}
        tensors = {t: torch.from_numpy(file.tensor(g)) for t, g in weights.items()}
        for name, heads in (("q", size.heads), ("k", size.kv_heads)):  # pairs 2i, 2i + 1 become i, i + d/2
            for i in range(size.layers):
                key = f"model.layers.{i}.self_attn.{name}_proj.weight"
                tensors[key] = tensors[key].view(heads, -1, 2, size.d_model).transpose(1, 2).reshape(tensors[key].shape)
        theirs.load_state_dict(tensors, assign=True)
        theirs.model.rotary_emb = type(theirs.model.rotary_emb)(config)
        x = ids(2, 41, size=49152)
        torch.testing.assert_close(ours(x), theirs.eval()(x).logits, rtol=0, atol=1e-3)

    @torch.no_grad()
    def test_it_knows_a_capital(self, file):
        model, about = load_gguf(file, context=64), file.metadata
        tokens = about["tokenizer.ggml.tokens"]
        from lmcore.text.bpe import ByteLevelBPE

        rules = [tuple(rule.split(" ")) for rule in about["tokenizer.ggml.merges"]]
        specials = [token for token, kind in zip(tokens, about["tokenizer.ggml.token_type"], strict=True) if kind == 3]
        tokenizer = ByteLevelBPE(rules, pattern="smollm2", tokens=tokens, specials=specials)
        prompt = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
        x = torch.tensor([tokenizer.encode(prompt, allow_special=True)])
        end = tokenizer.id("<|im_end|>")
        (answer,) = greedy(model.step, model.start(x[:, :-1]), x[:, -1:], eos=end, max_length=20)
        assert "Paris" in tokenizer.decode(answer.tokens)

    def test_another_architecture(self, file):
        with pytest.raises(ValueError, match="architecture 'gpt2'; only 'llama' is known here"):
            gguf_config(file.metadata | {"general.architecture": "gpt2"})


class TinyFile:
    """A Llama file of random numbers."""

    def __init__(self, **more):
        sizes = {"vocab_size": 31, "context_length": 13, "embedding_length": 12, "feed_forward_length": 7}
        heads = {"head_count": 3, "head_count_kv": 1, "layer_norm_rms_epsilon": 1e-5}
        self.metadata = {"general.architecture": "llama", "llama.block_count": 1}
        self.metadata |= {f"llama.{name}": value for name, value in sizes.items()}
        self.metadata |= {f"llama.attention.{name}": value for name, value in heads.items()}
        shapes = {"token_embd": (31, 12), "output_norm": (12,), "blk.0.attn_norm": (12,), "blk.0.ffn_norm": (12,)}
        shapes |= {"blk.0.attn_q": (12, 12), "blk.0.attn_k": (4, 12), "blk.0.attn_v": (4, 12)}
        shapes |= {"blk.0.attn_output": (12, 12), "blk.0.ffn_gate": (7, 12), "blk.0.ffn_up": (7, 12)}
        shapes |= {"blk.0.ffn_down": (12, 7), **more}
        numbers = np.random.default_rng(0)
        self.tensors = {f"{n}.weight": numbers.normal(size=shape).astype("f4") for n, shape in shapes.items()}

    def tensor(self, name):
        return self.tensors[name]


@torch.no_grad()
def test_a_file_with_a_table_of_its_own_for_the_scores():
    tied, own = load_gguf(TinyFile()), load_gguf(TinyFile(output=(31, 12)))
    x = ids(2, 5)
    torch.testing.assert_close(own.hidden(x), tied.hidden(x))
    assert not torch.allclose(own(x), tied(x), atol=0.1)
    torch.testing.assert_close(
        own(x), own.hidden(x) @ torch.from_numpy(TinyFile(output=(31, 12)).tensor("output.weight")).T
    )


class TestErrors:
    def test_a_file_that_does_not_say_its_sizes(self):
        file = TinyFile()
        del file.metadata["llama.block_count"], file.metadata["llama.vocab_size"]
        with pytest.raises(
            ValueError, match=r"the file does not say llama.vocab_size, llama.block_count, which a model"
        ):
            load_gguf(file)

    def test_too_long_for_the_context(self):
        model = GPT(GPT2)
        with pytest.raises(ValueError, match=r"14 tokens are more than the model's context of 13: shorten"):
            model(ids(2, 14))
        with torch.no_grad(), pytest.raises(ValueError, match="14 tokens are more"):
            model.step(ids(2), model.start(ids(2, 13)))
        with pytest.raises(ValueError, match=r"ids has shape \(3,\), must be \(B, T\)"):
            model(ids(3))

    def test_settings(self):
        with pytest.raises(ValueError, match="positions must be one of learned, rotary, got 'alibi'"):
            dataclasses.replace(GPT2, positions="alibi")
        with pytest.raises(ValueError, match="turn pairs of numbers, but a head has 5"):
            GPTConfig.llama(vocabulary_size=3, context=3, d_model=15, d_ff=3, layers=1, heads=3)
        with pytest.raises(ValueError, match="context must be a whole number of at least 1, got 0"):
            dataclasses.replace(GPT2, context=0)
        with pytest.raises(ValueError, match=r"stride must be in 1 … 13"):
            score(GPT(GPT2), ids(5), stride=14)

    def test_all_misfits_are_named_and_nothing_is_changed(self):
        model = GPT(GPT2)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        weights = from_gpt2(hugging_face_gpt2().state_dict())
        del weights["decoder.norm.bias"], weights["decoder.layers.1.feed_forward.up.bias"]
        weights["decoder.layers.7.what"] = torch.zeros(3)
        weights["positions.weight"] = torch.zeros(5, 12)
        weights["decoder.norm.weight"] = torch.full((12,), torch.nan)
        with pytest.raises(ValueError, match="the weights do not fit GPT") as error:
            load_weights(model, weights)
        for part in (
            "Missing: decoder.layers.1.feed_forward.up.bias, decoder.norm.bias.",
            "Extra: decoder.layers.7.what.",
            r"Misshapen: positions.weight is (5, 12), must be (13, 12).",
            "Not finite: decoder.norm.weight.",
        ):
            assert part in str(error.value)
        for name, value in model.state_dict().items():
            assert torch.equal(value, before[name])
