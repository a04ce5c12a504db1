"""GPTQ for a whole model: block after block, each on the inputs that the rounded blocks before it give.

A block's matrices are rounded for the inputs they will really get. Those come out of rounded blocks, so that each block
also makes up, as far as it can, for what the blocks before it have done to its inputs' statistics. The calibration text
goes through each block twice: once to see what comes into its matrices, and once, after they are rounded, to make the
inputs of the next block.
"""

import copy
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from lmcore.compress.affine import Quantized, Scheme
from lmcore.compress.gptq import gptq
from lmcore.compress.inputs import call, record_inputs
from lmcore.compress.linear import QuantizedLinear
from lmcore.compress.replace import matrices, replace
from lmcore.nn.transformer import Decoder, Encoder


class _Caught(Exception):
    """The first block was reached, and nobody needs the rest of the forward pass."""


def _blocks(model: Module) -> dict[str, Module]:
    """The blocks of a model's only stack, by name, in the order in which they are called."""
    stacks = [(name, part) for name, part in model.named_modules() if isinstance(part, Encoder | Decoder)]
    if len(stacks) != 1:
        raise ValueError(f"the model must hold one Encoder or Decoder, {type(model).__name__} holds {len(stacks)}")
    name, stack = stacks[0]
    return {f"{name}.layers.{number}".lstrip("."): block for number, block in enumerate(stack.layers)}


def _first_inputs(model: Module, block: Module, batches: Iterable[Any]) -> list[dict[str, Any]]:
    """What comes into the first block for each batch, arguments by name."""
    found: list[dict[str, Any]] = []

    def catch(_: Module, args: tuple, options: dict[str, Any]) -> None:
        found.append({"x": args[0], **options})
        raise _Caught

    handle = block.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        for batch in batches:
            with suppress(_Caught):
                call(model, batch)
    finally:
        handle.remove()
    if not found:
        raise ValueError("batches is empty: there is nothing to calibrate with")
    return found


def _wanted(model: Module, blocks: dict[str, Module], names: Iterable[str] | None) -> set[str]:
    """The names of the matrices to round, all in blocks."""
    inside = {f"{prefix}.{own}" for prefix, block in blocks.items() for own in matrices(block)}
    inside &= matrices(model).keys()  # of a block that stands in several places, the first name
    if names is None:
        return inside
    unknown = [name for name in names if name not in inside]
    if unknown:
        raise ValueError(f"{', '.join(map(repr, unknown))} are no matrices of the model's blocks")
    return set(names)


@torch.no_grad()
def gptq_matrices(
    model: Module,
    batches: Iterable[Any],
    scheme: Scheme,
    *,
    names: Iterable[str] | None = None,
    damping: float = 0.01,
    order: str = "given",
) -> dict[str, Quantized]:
    """Round the matrices of a model's blocks, each with the Gram matrix of the inputs that rounded blocks give it.

    Args:
        model: with one stack of blocks, an `Encoder` or a `Decoder`; it is not changed. Dropout is not applied.
        batches: what the model reads, such as token ids (B, T); see `lmcore.compress.inputs.see_inputs`.
        scheme, damping, order: see `gptq`.
        names: of `matrices(model)`, in blocks; None for all of these.
    Returns:
        By name, in the model's order. Matrices outside of blocks, such as a GPT's output, are not among them.
    Raises:
        ValueError: no stack or several, unknown names, no batches, or as `gptq`.
    Cost: two passes through the blocks for all batches; for each matrix N · C² operations for the Gram matrix, and
        `gptq`. The vectors of all tokens are held for one place in the model.
    Source: Frantar et al. 2023, section 4.   Differs: there, too, a block's matrices see inputs for which the block
        itself is not yet rounded; an option of their code does it matrix after matrix.
    """
    model = copy.deepcopy(model).eval()
    blocks = _blocks(model)
    wanted, found = _wanted(model, blocks, names), {}
    inputs = _first_inputs(model, next(iter(blocks.values())), batches)
    for prefix, block in blocks.items():
        own = [name for name in matrices(block) if f"{prefix}.{name}" in wanted]
        if own:  # of a block that stands in several places, at the first one only
            seen = record_inputs(block, inputs, names=own, gram=True)
            for name in own:
                weight = matrices(block)[name].weight
                quantized = gptq(weight, seen[name].gram, scheme, damping=damping, order=order)
                weight.copy_(quantized.dequantize())
                found[f"{prefix}.{name}"] = quantized
        inputs = [{**options, "x": _through(block, options)} for options in inputs]
    return found


def _through(block: Module, options: dict[str, Any]) -> Tensor:
    """What a block makes of its inputs."""
    y = block(**options)
    return y[0] if isinstance(y, tuple) else y


def quantize_gptq(model: Module, batches: Iterable[Any], scheme: Scheme, **options: Any) -> Module:
    """A copy of a model whose blocks' matrices were rounded by GPTQ; activations stay in floating point.

    Args, raises, cost: see `gptq_matrices`.

    >>> from lmcore.models.gpt import GPT, GPTConfig
    >>> model = GPT(GPTConfig.gpt2(vocabulary_size=11, context=7, d_model=6, layers=2, heads=3)).eval()
    >>> small = quantize_gptq(model, [torch.tensor([[3, 5, 7, 2], [1, 4, 9, 8]])], Scheme(bits=4))
    >>> small.decoder.layers[0].feed_forward.up
    QuantizedLinear(in_features=6, out_features=24, bias=True, 4 bits, symmetric per row)
    """
    found = gptq_matrices(model, batches, scheme, **options)
    return replace(model, lambda name, weight, bias: QuantizedLinear(found[name], bias), names=found)
