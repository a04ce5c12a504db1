"""Weights of GPT-2 and Llama models under our names: from Hugging Face's state dicts, and from a GGUF file.

Each map takes tensors by their old names and returns them by ours, for `lmcore.models.loading.load_weights`. Matrices
of queries, keys and values are joined into one, as `MultiHeadAttention` keeps them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from lmcore.models.gpt import GPT, GPTConfig
from lmcore.models.loading import load_weights


class WeightFile(Protocol):
    """What is asked of an opened file, such as `lmcore.data.gguf.GGUF`: settings, and tensors by name."""

    metadata: Mapping[str, Any]
    tensors: Mapping[str, Any]

    def tensor(self, name: str) -> np.ndarray:
        """The numbers of a tensor, float32."""


_GPT2 = {
    "wte.weight": "embedding.weight",
    "wpe.weight": "positions.weight",
    "ln_f.": "decoder.norm.",
    "lm_head.weight": "output.weight",
    "attn.c_attn.weight": "self_attention.in_proj_weight",
    "attn.c_attn.bias": "self_attention.in_proj_bias",
    "attn.c_proj.": "self_attention.out_proj.",
    "ln_1.": "self_attention_norm.",
    "ln_2.": "feed_forward_norm.",
    "mlp.c_fc.": "feed_forward.up.",
    "mlp.c_proj.": "feed_forward.down.",
}
_LLAMA = {
    "embed_tokens.weight": "embedding.weight",
    "norm.weight": "decoder.norm.weight",
    "lm_head.weight": "output.weight",
    "self_attn.o_proj.weight": "self_attention.out_proj.weight",
    "input_layernorm.weight": "self_attention_norm.weight",
    "post_attention_layernorm.weight": "feed_forward_norm.weight",
    "mlp.gate_proj.weight": "feed_forward.gate.weight",
    "mlp.up_proj.weight": "feed_forward.up.weight",
    "mlp.down_proj.weight": "feed_forward.down.weight",
}
_GGUF = {
    "token_embd.weight": "embedding.weight",
    "output_norm.weight": "decoder.norm.weight",
    "output.weight": "output.weight",
    "attn_output.weight": "self_attention.out_proj.weight",
    "attn_norm.weight": "self_attention_norm.weight",
    "ffn_norm.weight": "feed_forward_norm.weight",
    "ffn_gate.weight": "feed_forward.gate.weight",
    "ffn_up.weight": "feed_forward.up.weight",
    "ffn_down.weight": "feed_forward.down.weight",
}
_SIZES = (
    "vocab_size", "context_length", "embedding_length", "feed_forward_length", "block_count", "attention.head_count",
    "attention.layer_norm_rms_epsilon",
)  # fmt: skip
_LLAMA_QKV = tuple(f"self_attn.{part}_proj.weight" for part in "qkv")
_GGUF_QKV = tuple(f"attn_{part}.weight" for part in "qkv")


def _renamed(
    names: Mapping[str, str], layer: re.Pattern, weights: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """Tensors by our names; one that no rule knows keeps its name, and will be reported as extra."""
    for name, tensor in weights.items():
        found = layer.match(name)
        inner = name[found.end() :] if found else name
        old = next((old for old in names if inner.startswith(old) and (old[-1] == "." or inner == old)), None)
        if old is None:
            yield name, tensor
            continue
        prefix = f"decoder.layers.{found[1]}." if found else ""
        yield prefix + names[old] + inner[len(old) :], tensor


def _joined(weights: Mapping[str, Tensor], parts: tuple[str, ...]) -> dict[str, Tensor]:
    """Join the three matrices of each layer into the first one's place."""
    rest = dict(weights)
    for name in [name for name in weights if name.endswith(parts[0])]:
        prefix = name.removesuffix(parts[0])
        if all(prefix + part in rest for part in parts):  # else they stay, and are reported
            rest[prefix + "qkv"] = torch.cat([rest.pop(prefix + part) for part in parts])
    return rest


def from_gpt2(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of ours for Hugging Face's GPT2LMHeadModel or GPT2Model; its matrices are stored the other way round."""
    plain = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    plain = {name: tensor for name, tensor in plain.items() if not name.endswith((".attn.bias", ".masked_bias"))}
    turned = {
        name: tensor.T if re.search(r"\.c_(attn|proj|fc)\.weight$", name) else tensor for name, tensor in plain.items()
    }
    return dict(_renamed(_GPT2, re.compile(r"h\.(\d+)\."), turned))


def from_llama(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of ours for Hugging Face's LlamaForCausalLM; rotary_layout is "half"."""
    plain = _joined({name.removeprefix("model."): tensor for name, tensor in weights.items()}, _LLAMA_QKV)
    names = _LLAMA | {"qkv": "self_attention.in_proj_weight"}
    return dict(_renamed(names, re.compile(r"layers\.(\d+)\."), plain))


def gguf_config(metadata: Mapping[str, Any], *, context: int | None = None) -> GPTConfig:
    """Sizes of a Llama model from a GGUF file's settings.

    Args:
        metadata: as `GGUF.metadata`.
        context: positions to make room for; None: as many as the model was trained with.
    Raises:
        ValueError: another architecture, or settings that are missing.
    """
    architecture = metadata.get("general.architecture")
    if architecture != "llama":
        raise ValueError(f"the file holds a model of the architecture {architecture!r}; only 'llama' is known here")
    size = {key.removeprefix("llama."): value for key, value in metadata.items() if key.startswith("llama.")}
    missing = [f"llama.{key}" for key in _SIZES if key not in size]
    if missing:
        raise ValueError(f"the file does not say {', '.join(missing)}, which a model needs")
    return GPTConfig.llama(
        vocabulary_size=size["vocab_size"],
        context=context or size["context_length"],
        d_model=size["embedding_length"],
        d_ff=size["feed_forward_length"],
        layers=size["block_count"],
        heads=size["attention.head_count"],
        kv_heads=size.get("attention.head_count_kv"),
        norm_eps=size["attention.layer_norm_rms_epsilon"],
        rotary_base=size.get("rope.freq_base", 10000.0),
        rotary_layout="interleaved",  # as llama.cpp orders the rows of queries and keys
        tied=True,
    )


def load_gguf(file: WeightFile, *, context: int | None = None, dtype: torch.dtype = torch.float32) -> GPT:
    """A Llama model with the weights of a GGUF file, decoded, in evaluation mode.

    Args:
        file: see `WeightFile`.
        context: see `gguf_config`.   dtype: of the weights.
    Raises:
        ValueError: another architecture, or tensors that do not fit.   DataError: a truncated file.
    Cost: SmolLM2, 98 MB in 4 bits, is 540 MB in float32 and takes about a second.
    """
    tied = "output.weight" not in file.tensors  # else the scores have a table of their own
    config = replace(gguf_config(file.metadata, context=context), tied=tied)
    weights = {name: torch.from_numpy(file.tensor(name)).to(dtype) for name in file.tensors}
    names = _GGUF | {"qkv": "self_attention.in_proj_weight"}
    ours = dict(_renamed(names, re.compile(r"blk\.(\d+)\."), _joined(weights, _GGUF_QKV)))
    model = GPT(config, device="meta")
    load_weights(model, ours)
    return model.eval()
