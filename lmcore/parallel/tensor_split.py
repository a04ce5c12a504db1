"""Which rank holds which rows or columns of a parameter: splitting a state for n ranks, and merging it back.

The plan of a model depends on the model alone, not on the number of ranks. So a checkpoint of two ranks becomes one of
four without a message: merge two states, split the result in four. Numbers are moved, never computed: every way round
gives back the same bits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import pad

from lmcore.models.bert import BERT, MaskedLMHead
from lmcore.models.gpt import GPT
from lmcore.models.seq2seq import TokenMaps
from lmcore.nn.multihead import MultiHeadAttention
from lmcore.nn.transformer_block import FeedForward

VOCABULARY = {GPT: ("embedding", "output"), BERT: ("tokens",), TokenMaps: ("source", "target", "output")}


@dataclass(frozen=True, kw_only=True)
class Split:
    """How the ranks share one axis of a tensor.

    Args:
        axis: 0: rows of a weight, which are outputs of the layer. 1: columns, which are inputs.
        sections: lengths of what lies along the axis, one after the other. Each is shared out by itself: a rank that
            got the first half of queries, keys and values together would have queries and no values.
        unit: how many rows or columns must stay together: those of a head.
        what: their name in the plural, for errors.
        padded: the last ranks' parts are filled up with zeros to the length of the first, where it does not divide.
    """

    axis: int
    sections: tuple[int, ...]
    unit: int = 1
    what: str = "units"
    padded: bool = False

    def check(self, n: int) -> None:
        """Refuse a number of ranks that cannot share the axis.

        Raises:
            ValueError: says what cannot be shared out, and how many of them there are.
        """
        for size in sorted(self.sections):
            if not self.padded and size // self.unit % n:
                raise ValueError(f"{n} ranks cannot share {size // self.unit} {self.what} equally")

    def part(self, whole: Tensor, rank: int, n: int) -> Tensor:
        """What one of n ranks holds of a tensor, in memory of its own.

        Raises:
            ValueError: a tensor of another length, or ranks that cannot share it.

        >>> Split(axis=0, sections=(4, 2)).part(torch.tensor([1, 2, 3, 4, 5, 6]), 1, 2)
        tensor([3, 4, 6])
        >>> Split(axis=0, sections=(3,), padded=True).part(torch.tensor([1, 2, 3]), 1, 2)
        tensor([3, 0])
        """
        self.check(n)
        if whole.shape[self.axis] != sum(self.sections):
            raise ValueError(
                f"a tensor of shape {tuple(whole.shape)} has length {whole.shape[self.axis]} along axis {self.axis}, "
                f"must be {sum(self.sections)}"
            )
        pieces = []
        for section in whole.split(self.sections, self.axis):
            length = -(-section.shape[self.axis] // n)
            section = _filled(section, self.axis, length * n) if self.padded else section
            pieces.append(section.narrow(self.axis, rank * length, length))
        return torch.cat(pieces, self.axis)

    def whole(self, parts: Sequence[Tensor]) -> Tensor:
        """The tensor whose parts these are, rank by rank: undoes `part`.

        >>> split = Split(axis=0, sections=(4, 2))
        >>> split.whole([torch.tensor([1, 2, 5]), torch.tensor([3, 4, 6])])
        tensor([1, 2, 3, 4, 5, 6])
        """
        lengths = [-(-size // len(parts)) for size in self.sections]
        by_rank = [part.split(lengths, self.axis) for part in parts]
        sections = [torch.cat(pieces, self.axis) for pieces in zip(*by_rank, strict=True)]
        cut = [s.narrow(self.axis, 0, size) for s, size in zip(sections, self.sections, strict=True)]
        return torch.cat(cut, self.axis)


def _filled(x: Tensor, axis: int, length: int) -> Tensor:
    """Zeros after the end, up to a length."""
    return pad(x, (0, 0) * (x.ndim - 1 - axis) + (0, length - x.shape[axis]))


def vocabulary_split(size: int) -> Split:
    """Rows of a table of words, or of a bias with a number for each."""
    return Split(axis=0, sections=(size,), what="words", padded=True)


def attention_splits(layer: MultiHeadAttention) -> dict[str, Split]:
    """By heads: the rows that make their queries, keys and values, and the columns that read their answers."""
    d, q, kv = layer.head_dim, layer.heads * layer.head_dim, layer.kv_heads * layer.head_dim
    kind = "heads" if layer.kv_heads == layer.heads else "heads of keys and values"  # the fewer decide
    rows = Split(axis=0, sections=(q, kv, kv), unit=d, what=kind)
    splits = {"in_proj_weight": rows, "out_proj.weight": Split(axis=1, sections=(q,), unit=d, what="heads")}
    return splits if layer.in_proj_bias is None else splits | {"in_proj_bias": rows}


def feed_forward_splits(layer: FeedForward) -> dict[str, Split]:
    """By hidden units: the rows of up (and gate) that make them, and the columns of down that read them."""
    rows, columns = (Split(axis=axis, sections=(layer.down.in_features,), what="hidden units") for axis in (0, 1))
    splits = {"down.weight": columns}
    for name in ("up", "gate"):
        linear = getattr(layer, name)
        if linear is not None:
            splits |= {f"{name}.{key}": rows for key, _ in linear.named_parameters()}
    return splits


def tensor_plan(model: Module) -> dict[str, Split]:
    """How each parameter of a model is split; those that are missing are the same on all ranks.

    Args:
        model: whole, with attention, feed-forward networks or maps of words of lmcore anywhere inside.
    Returns:
        By name in the state dict. Tied parameters are there under each of their names.
    Raises:
        ValueError: there is nothing to split.
    """
    plan: dict[str, Split] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        splits: dict[str, Split] = {}
        if isinstance(module, MultiHeadAttention):
            splits = attention_splits(module)
        elif isinstance(module, FeedForward):
            splits = feed_forward_splits(module)
        elif isinstance(module, MaskedLMHead):
            splits = {name: vocabulary_split(len(module.bias)) for name in ("table", "bias")}
        for kind, children in VOCABULARY.items():
            if isinstance(module, kind):
                for child in children:
                    table = getattr(module, child)
                    rows = vocabulary_split(len(table.weight))
                    splits |= {f"{child}.{name}": rows for name, _ in table.named_parameters()}
        plan |= {f"{path}.{name}" if path else name: split for name, split in splits.items()}
    if not plan:
        raise ValueError(f"a {type(model).__name__} has no attention, feed-forward network or map of words to split")
    return plan


def split_state(state: Mapping[str, Tensor], plan: Mapping[str, Split], rank: int, n: int) -> dict[str, Tensor]:
    """What one of n ranks holds of a whole model's state.

    Args:
        state: of the whole model, by name.   plan: see `tensor_plan`.   rank: 0 … n − 1.
    Returns:
        The same names; tensors that are not in the plan as they are.
    Raises:
        ValueError: a rank outside 0 … n − 1, ranks that cannot share, or shapes that are not the plan's.
    """
    if not 0 <= rank < n:
        raise ValueError(f"rank must be in 0 … {n - 1}, got {rank}")
    return {name: plan[name].part(x, rank, n) if name in plan else x for name, x in state.items()}


def merge_states(states: Sequence[Mapping[str, Tensor]], plan: Mapping[str, Split]) -> dict[str, Tensor]:
    """The whole model's state, from the states of all ranks, in order: undoes `split_state`.

    Raises:
        ValueError: no state, other names, or a tensor that should be the same on all ranks and is not: then the ranks
            have trained different models.
    """
    if not states or any(state.keys() != states[0].keys() for state in states):
        raise ValueError(f"states must be those of all ranks, with equal names; got {len(states)}")
    merged = {}
    for name, first in states[0].items():
        parts = [state[name] for state in states]
        if name in plan:
            merged[name] = plan[name].whole(parts)
            continue
        for rank, part in enumerate(parts):
            if not torch.equal(part, first):
                raise ValueError(f"{name} must be the same on all ranks, but differs between rank 0 and rank {rank}")
        merged[name] = first
    return merged
