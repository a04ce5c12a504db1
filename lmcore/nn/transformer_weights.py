"""Weights between our Transformer and torch's: the same tensors under other names.

A map takes the state dict of a layer or a stack and returns one for the other side:

    ours.load_state_dict(from_torch(theirs.state_dict()))
    theirs.load_state_dict(to_torch(ours.state_dict()))

EncoderBlock, or DecoderBlock(cross_attention=False), is torch's TransformerEncoderLayer; DecoderBlock is
TransformerDecoderLayer; Encoder and Decoder are TransformerEncoder and TransformerDecoder, also as parts of larger
models. MultiHeadAttention and torch's MultiheadAttention have equal names, and need no map.
"""

from collections.abc import Mapping

from torch import Tensor

_ENCODER = {
    "self_attn.": "self_attention.",
    "norm1.": "self_attention_norm.",
    "linear1.": "feed_forward.up.",
    "linear2.": "feed_forward.down.",
    "norm2.": "feed_forward_norm.",
}
_DECODER = _ENCODER | {
    "multihead_attn.": "cross_attention.",
    "norm2.": "cross_attention_norm.",
    "norm3.": "feed_forward_norm.",
}


def _split(key: str, parts: Mapping[str, str]) -> tuple[str, str, str]:
    """A name as what comes before a block's part, the part, and the rest: layers.0. + norm1. + bias."""
    for part in parts:
        before, found, rest = key.rpartition(part)
        if found and (not before or before.endswith(".")):
            return before, part, rest
    return key, "", ""


def _rename(state: Mapping[str, Tensor], cross: str, encoder: Mapping, decoder: Mapping) -> dict[str, Tensor]:
    """Rename the parts of all blocks; those are a decoder's where the part named `cross` is there."""
    decoders = {_split(key, {cross: ""})[0] for key in state if _split(key, {cross: ""})[1]}
    renamed = {}
    for key, value in state.items():
        before, part, rest = _split(key, decoder)
        names = decoder if before in decoders else encoder
        renamed[before + names.get(part, part) + rest] = value
    return renamed


def from_torch(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of ours for the tensors of a torch layer or stack.

    Raises:
        ValueError: attention with keys or values of another length than the queries' (kdim, vdim).

    >>> sorted(from_torch({"layers.0.linear1.weight": Tensor([1.0]), "norm.weight": Tensor([1.0])}))
    ['layers.0.feed_forward.up.weight', 'norm.weight']
    """
    apart = [key for key in state if key.endswith("q_proj_weight")]
    if apart:
        raise ValueError(f"{apart[0]}: attention with kdim or vdim, which has no layer here")
    return _rename(state, "multihead_attn.", _ENCODER, _DECODER)


def to_torch(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of torch's for the tensors of a layer or stack of ours.

    Raises:
        ValueError: a gate (SwiGLU), for which torch has no layer.

    >>> list(to_torch({"feed_forward_norm.bias": Tensor([1.0])}))   # in a decoder with cross-attention, norm3
    ['norm2.bias']
    """
    gates = [key for key in state if "feed_forward.gate." in key]
    if gates:
        raise ValueError(f"{gates[0]}: torch's layers have no gate")
    encoder, decoder = ({ours: theirs for theirs, ours in names.items()} for names in (_ENCODER, _DECODER))
    return _rename(state, "cross_attention.", encoder, decoder)
