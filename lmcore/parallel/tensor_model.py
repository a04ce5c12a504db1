"""A whole model made tensor-parallel in place, and what training it then needs: gradients, clipping, checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Module

from lmcore.models.bert import MaskedLMHead
from lmcore.nn.layers import Dropout, Embedding
from lmcore.nn.multihead import MultiHeadAttention
from lmcore.nn.transformer import Decoder, Encoder
from lmcore.nn.transformer_block import DecoderBlock, EncoderBlock, FeedForward
from lmcore.parallel.tensor_blocks import ParallelAttention, ParallelFeedForward
from lmcore.parallel.tensor_operators import join_parts, keep_part
from lmcore.parallel.tensor_split import VOCABULARY, Split, merge_states, split_state, tensor_plan
from lmcore.parallel.tensor_vocabulary import (
    ParallelMaskedLMHead,
    VocabularyParallelEmbedding,
    VocabularyParallelLinear,
)
from lmcore.train.clip import grad_norm

_BLOCKS = (ParallelAttention, ParallelFeedForward)


@dataclass(frozen=True, kw_only=True)
class TensorParallel:
    """A model of which this rank holds a part, as `parallelize` returns it.

    Attributes:
        model: the model.   group: the ranks.
        plan: how each parameter is split, by name; what is missing is the same on all ranks.
        partial: names of parameters that are the same on all ranks, but of whose gradient each rank computes only what
            comes from its own positions: those between two layers, with sequence parallelism; else none.
    """

    model: Module
    group: dist.ProcessGroup
    plan: Mapping[str, Split]
    partial: frozenset[str]

    @torch.no_grad()
    def sum_gradients(self) -> None:
        """Complete the gradients of `partial` parameters, in one message. Call it after backward, before clipping.

        Call it once: it adds up what it finds. Frozen and unused parameters are left out.
        """
        named = dict(self.model.named_parameters())
        gradients = [named[name].grad for name in sorted(self.partial & named.keys())]
        gradients = [gradient for gradient in gradients if gradient is not None]
        if not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat, group=self.group)
        for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(total.view_as(gradient))

    @torch.no_grad()
    def grad_norm(self) -> Tensor:
        """Length of the whole model's gradient: parts of all ranks, and what all of them have once."""
        named = list(self.model.named_parameters())
        parts = grad_norm(p for name, p in named if name in self.plan)
        square = parts.to(next(p.device for _, p in named)).square()
        dist.all_reduce(square, group=self.group)
        return torch.sqrt(square + grad_norm(p for name, p in named if name not in self.plan).square())

    @torch.no_grad()
    def clip_grad_norm_(self, max_norm: float) -> Tensor:
        """`lmcore.train.clip.clip_grad_norm_` of the whole model: the same factor on all ranks. Returns the norm.

        Raises:
            ValueError: max_norm is not above zero.
        """
        if not max_norm > 0:
            raise ValueError(f"max_norm must be above 0, got {max_norm}")
        norm = self.grad_norm()
        if torch.isfinite(norm):
            factor = torch.clamp(max_norm / (norm + 1e-6), max=1.0)
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)
        return norm

    @torch.no_grad()
    def whole_state(self) -> dict[str, Tensor]:
        """The state dict that the model would have on one process; every rank gets it, so every rank must ask.

        Raises:
            ValueError: a tensor that should be the same on all ranks, and is not.
        """
        state = {name: x.detach().contiguous() for name, x in self.model.state_dict().items()}
        states: list[dict[str, Tensor]] = [{} for _ in range(dist.get_world_size(self.group))]
        for name, x in state.items():
            parts = [torch.empty_like(x) for _ in states]
            dist.all_gather(parts, x, group=self.group)
            for other, part in zip(states, parts, strict=True):
                other[name] = part
        return merge_states(states, self.plan)

    def load_whole_state(self, state: Mapping[str, Tensor]) -> None:
        """Take this rank's parts of a whole model's state, a checkpoint of any number of ranks; no message."""
        rank, n = dist.get_rank(self.group), dist.get_world_size(self.group)
        self.model.load_state_dict(split_state(state, self.plan, rank, n))


def _ties(model: Module) -> list[list[str]]:
    """Names of the parameters that are one and the same, together."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [tied for tied in names.values() if len(tied) > 1]


def _tie(model: Module, names: list[str]) -> None:
    """Make the parameters of these names one and the same again: the first."""
    first = model.get_parameter(names[0])
    for name in names[1:]:
        path, _, own = name.rpartition(".")
        setattr(model.get_submodule(path), own, first)


def _exchange(model: Module, group: dist.ProcessGroup, sequence_parallel: bool) -> None:
    """Replace the parts that are split by those that hold one rank's share; what stands in two places stays one."""
    done: dict[int, Module] = {}
    for parent in list(model.modules()):
        words = {name for kind, names in VOCABULARY.items() if isinstance(parent, kind) for name in names}
        for name, child in list(parent.named_children()):
            new = done.get(id(child))
            if new is None and isinstance(child, MultiHeadAttention):
                new = ParallelAttention(child, group, sequence_parallel=sequence_parallel)
            elif new is None and isinstance(child, FeedForward):
                new = ParallelFeedForward(child, group, sequence_parallel=sequence_parallel)
            elif new is None and isinstance(child, MaskedLMHead):
                new = ParallelMaskedLMHead(child, group)
            elif new is None and name in words:
                kind = VocabularyParallelEmbedding if isinstance(child, Embedding) else VocabularyParallelLinear
                new = kind(child, group)
            if new is not None:
                done[id(child)] = done[id(new)] = new.train(child.training)
        for name in [name for name, child in parent._modules.items() if id(child) in done]:
            setattr(parent, name, done[id(parent._modules[name])])  # named_children leaves out a second name


def _cut_sequences(stack: Module, group: dist.ProcessGroup) -> None:
    """Let a stack's blocks work on parts of the sequences, while the stack takes and returns whole ones."""

    def before(_: Module, args: tuple, options: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        return (keep_part(args[0], group), *args[1:]), options

    def after(_: Module, args: tuple, y: Tensor | tuple) -> Tensor | tuple:
        return (join_parts(y[0], group), *y[1:]) if isinstance(y, tuple) else join_parts(y, group)

    stack.register_forward_pre_hook(before, with_kwargs=True)
    stack.register_forward_hook(after)


def _in_parts(model: Module) -> tuple[set[Dropout], set[str]]:
    """Dropouts and names of parameters inside stacks and blocks, which work on parts of sequences."""
    drops, names = set(), set()
    for path, module in model.named_modules():
        if isinstance(module, Encoder | Decoder | EncoderBlock | DecoderBlock):
            drops |= {inner for inner in module.modules() if isinstance(inner, Dropout)}
            names |= {f"{path}.{name}" if path else name for name, _ in module.named_parameters()}
    return drops, names


def _seed_dropouts(model: Module, group: dist.ProcessGroup, own: set[Dropout], seed: int) -> None:
    """What all ranks have must lose the same numbers on all of them; what each has for itself, others on each."""
    device = next((p.device for p in model.parameters() if p.device.type != "meta"), torch.device("cpu"))
    common, local = torch.Generator(device), torch.Generator(device)
    common.manual_seed(seed)
    local.manual_seed(seed + 1 + dist.get_rank(group))
    own = own | {m.dropout for m in model.modules() if isinstance(m, _BLOCKS)}
    for module in model.modules():
        if isinstance(module, Dropout):
            module.generator = local if module in own else common


def parallelize(
    model: Module, group: dist.ProcessGroup, *, sequence_parallel: bool = False, seed: int = 0
) -> TensorParallel:
    """Keep this rank's part of a model of lmcore, in place: heads, hidden units, and words of the vocabulary.

    Args:
        model: a GPT, BERT, BERTForPretraining, TransformerSeq2Seq, Encoder, Decoder or a block, or something made of
            them; whole, and the same on all ranks. It may be on "meta", and loaded afterwards.
        group: the ranks.
        sequence_parallel: between the split layers, each rank has T / n positions of each sequence. A single block then
            takes and returns such parts; stacks and models take and return whole sequences.
        seed: of dropout. Generators that the model had are replaced.
    Returns:
        A `TensorParallel`, with what training needs.
    Raises:
        ValueError: nothing to split, a model that is split already, or ranks that cannot share heads or hidden units.

    The scores that a model returns are then those of this rank's words: see `vocabulary_parallel_cross_entropy` and
    `gather_scores`. Attention that is asked for its weights returns those of its own heads.

    Source: Shoeybi et al. 2019; Korthikanti et al. 2022.
    """
    if any(isinstance(module, _BLOCKS) for module in model.modules()):
        raise ValueError("the model is split already: build a whole one, and load `whole_state()` into it")
    if isinstance(model, MultiHeadAttention | FeedForward | MaskedLMHead):
        raise ValueError(f"a {type(model).__name__} cannot change in place: make a Parallel… of it")
    plan = tensor_plan(model)
    for name, split in plan.items():  # all of them before any is changed
        try:
            split.check(dist.get_world_size(group))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    drops, names = _in_parts(model) if sequence_parallel else (set(), set())
    ties = _ties(model)
    _exchange(model, group, sequence_parallel)
    for tied in ties:
        _tie(model, tied)
    if sequence_parallel:
        for stack in [module for module in model.modules() if isinstance(module, Encoder | Decoder)]:
            _cut_sequences(stack, group)
    _seed_dropouts(model, group, drops, seed)
    return TensorParallel(model=model, group=group, plan=plan, partial=frozenset(names - plan.keys()))
