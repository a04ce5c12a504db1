"""Weights of BERT models under our names: from Hugging Face's state dicts, whose layers keep q, k and v apart."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_NAMES = {
    "embeddings.word_embeddings.weight": "tokens.weight",
    "embeddings.position_embeddings.weight": "positions.weight",
    "embeddings.token_type_embeddings.weight": "segments.weight",
    "embeddings.LayerNorm.": "norm.",
    "pooler.dense.": "pooler.",
}
_LAYER = {
    "attention.self.qkv.weight": "self_attention.in_proj_weight",
    "attention.self.qkv.bias": "self_attention.in_proj_bias",
    "attention.output.dense.": "self_attention.out_proj.",
    "attention.output.LayerNorm.": "self_attention_norm.",
    "intermediate.dense.": "feed_forward.up.",
    "output.dense.": "feed_forward.down.",
    "output.LayerNorm.": "feed_forward_norm.",
}
_HEADS = {
    "cls.predictions.transform.dense.": "mlm.dense.",
    "cls.predictions.transform.LayerNorm.": "mlm.norm.",
    "cls.predictions.decoder.weight": "mlm.table",
    "cls.predictions.bias": "mlm.bias",
    "cls.seq_relationship.": "nsp.",
}
_IGNORED = ("embeddings.position_ids", "cls.predictions.decoder.bias")  # a list 0, 1, 2, …; another name of the bias


def _joined(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join query, key and value of each layer; where one is missing they stay, and are reported."""
    rest = dict(weights)
    for name in weights:
        found = re.fullmatch(r"(.*attention\.self\.)query\.(weight|bias)", name)
        if found and all(f"{found[1]}{part}.{found[2]}" in rest for part in ("query", "key", "value")):
            parts = [rest.pop(f"{found[1]}{part}.{found[2]}") for part in ("query", "key", "value")]
            rest[f"{found[1]}qkv.{found[2]}"] = torch.cat(parts)
    return rest


def _replaced(name: str, names: Mapping[str, str]) -> str | None:
    """A name by the rule that fits, or None."""
    for old, new in names.items():
        if name == old or (old.endswith(".") and name.startswith(old)):
            return new + name[len(old) :]
    return None


def from_bert(weights: Mapping[str, Tensor], *, pretraining: bool = False) -> dict[str, Tensor]:
    """Names of ours for Hugging Face's tensors; one that no rule knows keeps its name, and will be reported as extra.

    Args:
        weights: of a BertModel, or of a model that has one inside, under the prefix "bert.".
        pretraining: names for `BERTForPretraining`, heads included; False: for `BERT` alone.

    >>> list(from_bert({"bert.embeddings.LayerNorm.bias": Tensor([0.0])}, pretraining=True))
    ['bert.norm.bias']
    """
    prefix, renamed = "bert." if pretraining else "", {}
    for name, tensor in _joined(weights).items():
        inner = name.removeprefix("bert.")
        if inner in _IGNORED:
            continue
        layer = re.match(r"encoder\.layer\.(\d+)\.", inner)
        if layer:
            new = _replaced(inner[layer.end() :], _LAYER)
            new = None if new is None else f"{prefix}encoder.layers.{layer[1]}.{new}"
        elif inner.startswith("cls."):
            new = _replaced(inner, _HEADS)
        else:
            new = _replaced(inner, _NAMES)
            new = None if new is None else prefix + new
        renamed[new or name] = tensor
    return renamed
