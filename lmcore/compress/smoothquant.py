"""SmoothQuant: move the outliers of activations into the weights, where they are easier to round.

A few channels of a Transformer's activations are far larger than the others, in all tokens. A grid that reaches as far
leaves the other channels a few steps. The weights have no such channels. So channel j of the activations is divided by
s_j and column j of every matrix that reads it is multiplied by it, which changes no product. Where a norm makes the
activations, its own weights can do the division, and nothing is computed at run time.
"""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import Module

from lmcore.nn.norm import LayerNorm, RMSNorm

# What reads a norm's output in a block of `lmcore.nn.transformer_block`; some blocks have no gate.
_READERS = {
    "self_attention_norm": ("self_attention.in_proj",),
    "feed_forward_norm": ("feed_forward.up", "feed_forward.gate"),
}


def smoothing_scale(abs_max: Tensor, weights: Sequence[Tensor], *, alpha: float = 0.5) -> Tensor:
    """By how much to divide each channel of the activations: max|x|^α / max|w|^(1 − α).

    With α = ½ channel j of the activations and column j of the weights then have one largest value, √(max|x| max|w|).

    Args:
        abs_max: (C,), the largest |x| of each channel.   weights: matrices (…, C) that read these channels.
        alpha: in [0, 1], how much of the outliers moves into the weights.
    Returns:
        (C,) float32; 1 for a channel that is always 0, or that no weight reads.
    Raises:
        ValueError: shapes that do not fit, or alpha outside [0, 1].
    Source: Xiao et al. 2023, eq. 4.

    >>> smoothing_scale(torch.tensor([100.0, 1.0]), [torch.tensor([[1.0, -1.0], [0.25, 1.0]])])
    tensor([10.,  1.])
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1], got {alpha}")
    for weight in weights:
        if abs_max.ndim != 1 or weight.shape[-1:] != abs_max.shape:
            raise ValueError(
                f"abs_max {tuple(abs_max.shape)} and a weight {tuple(weight.shape)} must be (C,) and (…, C)"
            )
    largest = torch.cat([weight.detach().reshape(-1, len(abs_max)) for weight in weights]).abs().amax(dim=0)
    usable = (abs_max > 0) & (largest > 0)
    one = torch.ones_like(largest)
    return torch.where(usable, abs_max.to(largest), one) ** alpha / torch.where(usable, largest, one) ** (1 - alpha)


@torch.no_grad()
def fold_into_norm(norm: LayerNorm | RMSNorm, weights: Sequence[Tensor], scale: Tensor) -> None:
    """Let a norm give out its channels divided by a scale, and multiply the columns that read them. In place.

    Args:
        norm: whose output ONLY these weights read. In a block of the order "post" the residual reads it, too.
        weights: (R, C) each, such as parameters.   scale: (C,), above 0.
    Raises:
        ValueError: shapes that do not fit, or a scale that is not above 0.

    >>> norm, weight, x = RMSNorm(2), torch.tensor([[3.0, 5.0]]), torch.tensor([1.0, 7.0])
    >>> before = norm(x) @ weight.T
    >>> fold_into_norm(norm, [weight], torch.tensor([2.0, 0.5]))
    >>> norm.weight.tolist(), weight.tolist(), torch.allclose(norm(x) @ weight.T, before)
    ([0.5, 2.0], [[6.0, 2.5]], True)
    """
    if scale.shape != norm.weight.shape or any(weight.shape[-1:] != scale.shape for weight in weights):
        raise ValueError(
            f"scale {tuple(scale.shape)} must have one number for each of the norm's {norm.dim} channels, and each "
            f"weight one column, got {[tuple(weight.shape) for weight in weights]}"
        )
    if not (scale > 0).all():
        raise ValueError(f"scale must be above 0, got {float(scale.min())}")
    norm.weight.div_(scale)
    if norm.bias is not None:
        norm.bias.div_(scale)
    for weight in weights:
        weight.mul_(scale)


def _weight(block: Module, reader: str) -> Tensor | None:
    """The matrix of a block by the name that `lmcore.compress.replace` gives it."""
    owner, _, name = reader.rpartition(".")
    if name == "in_proj":
        return block.get_submodule(owner).in_proj_weight
    layer = getattr(block.get_submodule(owner), name)
    return None if layer is None else layer.weight


def smooth(model: Module, abs_max: Mapping[str, Tensor], *, alpha: float = 0.5) -> Module:
    """A copy of a model whose norms give out smoother activations, and which computes the same.

    Args:
        model: holds blocks of the order "pre", as `lmcore.models.gpt.GPT` does.
        abs_max: for each matrix that reads a norm, by names such as "decoder.layers.0.self_attention.in_proj" and
            "decoder.layers.0.feed_forward.up", the largest |x| of each channel.
        alpha: see `smoothing_scale`.
    Returns:
        A deep copy; the given model stays as it is.
    Raises:
        ValueError: no such blocks, blocks of the order "post", whose norms also write the residual, or a missing name.
    Source: Xiao et al. 2023, section 4.
    """
    copied = copy.deepcopy(model)
    blocks = {name: part for name, part in copied.named_modules() if hasattr(part, "feed_forward_norm")}
    if not blocks:
        raise ValueError(f"{type(model).__name__} holds no blocks with the norms {', '.join(_READERS)}")
    for name, block in blocks.items():
        if not block.pre:
            raise ValueError(
                f'{name} is of the order "post": the residual reads the output of its norms, too, so it cannot be '
                "scaled; divide the inputs of the matrices instead (input_scale)"
            )
        for norm, readers in _READERS.items():
            full = f"{name}.{readers[0]}"
            if full not in abs_max:
                raise ValueError(f"abs_max lacks {full!r}; it has {', '.join(abs_max) or 'nothing'}")
            weights = [weight for weight in (_weight(block, reader) for reader in readers) if weight is not None]
            fold_into_norm(getattr(block, norm), weights, smoothing_scale(abs_max[full], weights, alpha=alpha))
    return copied
