"""SmolLM2-135M writes one text: our decoders next to Hugging Face's `generate`, and next to the memory's bandwidth.

All hold the same weights, decoded from the GGUF file to float32, and choose greedily from the same prompt; the texts
are asserted to be equal where the weights have not been rounded to fewer bits. They run in turns. A step reads each
weight once, so that steps per second cannot be more than the read bandwidth, measured in the same run and with as many
threads, divided by the bytes of the weights. What rounding costs is told by the perplexity of articles.

Threads that share out a product meet four times in each layer, and one that has to wait for another program's turn
holds up all: on a busy machine run this with OMP_NUM_THREADS=1.
"""

import math
import statistics
import time

import torch
import transformers

from lmcore import data
from lmcore.data.gguf import GGUF
from lmcore.decode import stream_tokens
from lmcore.models.gpt_compiled import WEIGHTS, CompiledGPTDecoder
from lmcore.models.gpt_decoding import GPTDecoder
from lmcore.models.gpt_weights import load_gguf
from lmcore.nn.bandwidth import read_bandwidth
from lmcore.nn.functional import log_softmax
from lmcore.nn.matvec import ColumnLinear, CompiledLinear, TorchLinear
from lmcore.nn.positional import permute_rows
from lmcore.text.bpe import ByteLevelBPE

PROMPT, TOKENS, TURNS = 24, 32, 5
ARTICLES, LENGTH = (3, 20, 40, 60, 77, 90), 257
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
    """Their tokens; when the prompt had been read is not known."""
    settings = {"do_sample": False, "use_cache": True, "eos_token_id": None, "pad_token_id": 2}
    found = theirs.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=TOKENS, **settings)
    return found[0, prompt.shape[1] :].tolist(), math.nan


def stream(decoder, prompt):
    """Our tokens, and when the prompt had been read."""
    with torch.no_grad():
        state = decoder.start(prompt[:, :-1])
    read = time.perf_counter()
    return list(stream_tokens(decoder.step, state, prompt[0, -1:], eos=None, max_length=TOKENS)), read


@torch.no_grad()
def scores(decoder, texts):
    """Log-probabilities (T − 1, V) of each text, step by step from its first token on."""
    for text in texts:
        state, found = decoder.start(), []
        for token in text[0, :-1]:
            logits, state = decoder.step(token[None], state)
            found.append(log_softmax(logits))
        yield torch.cat(found)


def compare(decoders, texts):
    """Print perplexities, and the mean divergence of the first decoder's probabilities from each one's.

    It is what log-perplexity grows by on texts that are as the first one believes, and varies less.
    """
    losses, divergence, count = dict.fromkeys(decoders, 0.0), dict.fromkeys(decoders, 0.0), 0
    for text, *found in zip(texts, *(scores(decoder, texts) for decoder in decoders.values()), strict=True):
        count += len(found[0])
        for name, logprobs in zip(decoders, found, strict=True):
            losses[name] -= logprobs.gather(1, text[0, 1:, None]).sum().item()
            divergence[name] += (found[0].exp() * (found[0] - logprobs)).sum().item()
    first, *_ = losses.values()
    for name, loss in losses.items():
        print(
            f"{name:26} perplexity {math.exp(loss / count):.3f}, {math.exp((loss - first) / count) - 1:+.2%}; "
            f"divergence {divergence[name] / count:.5f} nats, {count} tokens"
        )


def articles(file):
    """The first tokens of some articles."""
    merges = [tuple(rule.split(" ")) for rule in file.metadata["tokenizer.ggml.merges"]]
    words = ByteLevelBPE(merges, pattern="smollm2", tokens=file.metadata["tokenizer.ggml.tokens"])
    found = data.load("encyclopedia")
    texts = ["\n".join(section.text for section in found[place].sections) for place in ARTICLES]
    return [torch.tensor(words.encode(text[: 10 * LENGTH]))[None, :LENGTH] for text in texts]


def measure(runs, expected):
    """Seconds (all, after the prompt) of each run in each turn but the first, and the best bandwidth."""
    seconds, bandwidths = {name: [] for name in runs}, []
    for turn in range(TURNS + 1):  # the first turn warms up
        bandwidths.append(read_bandwidth(rounds=3))
        for name, run in runs.items():
            start = time.perf_counter()
            found, read = run()
            seconds[name].append((time.perf_counter() - start, time.perf_counter() - read))
            assert turn or found == expected or "bfloat16" in name or "int8" in name, name
    return {name: list(zip(*times[1:], strict=True)) for name, times in seconds.items()}, max(bandwidths)


def main():
    """Print tokens per second, with the prompt; their ratio; steps, with their share of the bandwidth; perplexity."""
    file = GGUF(data.member_path("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"))
    model = load_gguf(file, context=LENGTH)
    prompt = torch.randint(100, 49152, (1, PROMPT), generator=torch.Generator().manual_seed(0))
    theirs = hugging_face(model)
    decoders = {kind.__name__: GPTDecoder(model, linear=kind) for kind in (TorchLinear, ColumnLinear, CompiledLinear)}
    compiled = {f"compiled, {weights}": CompiledGPTDecoder(model, weights=weights) for weights in WEIGHTS}
    runs = {"Hugging Face generate": lambda: generate(theirs, prompt), "lmcore, GPT": lambda: stream(model, prompt)}
    runs |= {f"lmcore, {name}": lambda d=decoder: stream(d, prompt) for name, decoder in (decoders | compiled).items()}
    seconds, bandwidth = measure(runs, generate(theirs, prompt)[0])
    print(f"{torch.get_num_threads()} threads, {bandwidth / 1e9:.0f} GB/s")
    print(f"{'':26} tokens/s: median   best   ratio: median   best   ms/step  of the bandwidth: median   best")
    peer = seconds["Hugging Face generate"][0]
    for name, (times, steps) in seconds.items():
        median, best = (TOKENS / f(times) for f in (statistics.median, min))
        ratio = statistics.median(b / a for a, b in zip(times, peer, strict=True))
        weight_bytes = (compiled | decoders).get(name.removeprefix("lmcore, "), decoders["TorchLinear"]).weight_bytes
        reading = [weight_bytes * TOKENS / bandwidth / f(steps) for f in (statistics.median, min)]
        print(
            f"{name:26} {median:16.1f} {best:6.1f} {ratio:15.2f} {min(peer) / min(times):6.2f} "
            f"{1000 * statistics.median(steps) / TOKENS:9.2f} {reading[0]:25.0%} {reading[1]:6.0%}"
        )
    compare(compiled, articles(file))


if __name__ == "__main__":
    main()
