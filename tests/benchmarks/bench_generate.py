"""SmolLM2-135M writes one text: our decoders next to Hugging Face's `generate`, and next to the memory's bandwidth.

All hold the same float32 weights, decoded from the GGUF file, and choose greedily from the same prompt; the texts are
asserted to be equal. They run in turns. A step reads each weight once, so that tokens per second cannot be more than
the read bandwidth, measured in the same run and with as many threads, divided by the bytes of the weights.

Threads that share out a product meet four times in each layer, and one that has to wait for another program's turn
holds up all: on a busy machine run this with OMP_NUM_THREADS=1.
"""

import statistics
import time

import torch
import transformers

from lmcore import data
from lmcore.data.gguf import GGUF
from lmcore.decode import stream_tokens
from lmcore.models.gpt_decoding import GPTDecoder
from lmcore.models.gpt_weights import load_gguf
from lmcore.nn.bandwidth import read_bandwidth
from lmcore.nn.matvec import ColumnLinear, CompiledLinear, TorchLinear
from lmcore.nn.positional import permute_rows

PROMPT, TOKENS, TURNS = 24, 32, 5
NAMES = {
    "self_attn.o_proj": "self_attention.out_proj",
    "input_layernorm": "self_attention_norm",
    "post_attention_layernorm": "feed_forward_norm",
    "mlp.gate_proj": "feed_forward.gate",
    "mlp.up_proj": "feed_forward.up",
    "mlp.down_proj": "feed_forward.down",
}


def hugging_face(model):
    """LlamaForCausalLM that shares the weights of our model."""
    stack = model.config.transformer
    config = transformers.LlamaConfig(
        vocab_size=model.config.vocabulary_size, hidden_size=stack.d_model, intermediate_size=stack.d_ff,
        num_hidden_layers=stack.layers, num_attention_heads=stack.heads, num_key_value_heads=stack.kv_heads,
        rms_norm_eps=stack.norm_eps, tie_word_embeddings=True, attn_implementation="sdpa",
        rope_parameters={"rope_type": "default", "rope_theta": model.config.rotary_base},
    )  # fmt: skip
    with torch.device("meta"):
        theirs = transformers.LlamaForCausalLM(config)
    table = model.embedding.weight.detach()
    weights = {"model.embed_tokens.weight": table, "lm_head.weight": table}
    weights["model.norm.weight"] = model.decoder.norm.weight.detach()
    dim = stack.d_model // stack.heads
    for i, layer in enumerate(model.decoder.layers):
        weights |= {
            f"model.layers.{i}.{old}.weight": layer.get_submodule(new).weight.detach() for old, new in NAMES.items()
        }
        rows = (stack.heads * dim, stack.kv_heads * dim, stack.kv_heads * dim)
        q, k, v = layer.self_attention.in_proj_weight.detach().split(rows)
        q, k = permute_rows(q, stack.heads, to="half"), permute_rows(k, stack.kv_heads, to="half")
        weights |= {f"model.layers.{i}.self_attn.{n}_proj.weight": w for n, w in zip("qkv", (q, k, v), strict=True)}
    theirs.load_state_dict(weights, assign=True)
    theirs.model.rotary_emb = type(theirs.model.rotary_emb)(config)
    return theirs.eval()


def generate(theirs, prompt):
    """Their tokens."""
    settings = {"do_sample": False, "use_cache": True, "eos_token_id": None, "pad_token_id": 2}
    found = theirs.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=TOKENS, **settings)
    return found[0, prompt.shape[1] :].tolist()


def stream(decoder, prompt):
    """Our tokens."""
    with torch.no_grad():
        state = decoder.start(prompt[:, :-1])
    return list(stream_tokens(decoder.step, state, prompt[0, -1:], eos=None, max_length=TOKENS))


def main():
    """Print tokens per second, prompt included, the ratio to generate's, and the share of the bandwidth."""
    model = load_gguf(GGUF(data.member_path("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")), context=PROMPT + TOKENS)
    prompt = torch.randint(100, 49152, (1, PROMPT), generator=torch.Generator().manual_seed(0))
    theirs = hugging_face(model)
    decoders = {f"lmcore, {kind.__name__}": GPTDecoder(model, linear=kind) for kind in (TorchLinear, ColumnLinear)}
    decoders["lmcore, CompiledLinear"] = fastest = GPTDecoder(model, linear=CompiledLinear)
    runs = {"Hugging Face generate": lambda: generate(theirs, prompt), "lmcore, GPT": lambda: stream(model, prompt)}
    runs |= {name: lambda d=decoder: stream(d, prompt) for name, decoder in decoders.items()}
    expected, seconds, bandwidths = generate(theirs, prompt), {name: [] for name in runs}, []
    for turn in range(TURNS + 1):  # the first turn warms up
        bandwidths.append(read_bandwidth(rounds=3))
        for name, run in runs.items():
            start = time.perf_counter()
            found = run()
            seconds[name].append(time.perf_counter() - start)
            assert turn or found == expected, name
    bandwidth = max(bandwidths)
    print(
        f"{torch.get_num_threads()} threads, {bandwidth / 1e9:.0f} GB/s, {fastest.weight_bytes / 1e6:.0f} MB of weights"
    )
    print(f"{'':24} tokens/s: median   best    ratio    of the bandwidth")
    peer = seconds["Hugging Face generate"][1:]
    for name, times in seconds.items():
        median, best = (TOKENS / f(times[1:]) for f in (statistics.median, min))
        ratio = statistics.median(b / a for a, b in zip(times[1:], peer, strict=True))
        print(f"{name:24} {median:17.1f} {best:6.1f} {ratio:8.2f} {best * fastest.weight_bytes / bandwidth:15.0%}")


if __name__ == "__main__":
    main()
