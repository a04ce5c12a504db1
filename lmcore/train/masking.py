"""Hiding tokens, so that a model can be trained to give them back: the masked language model of BERT.

Some tokens of a text are chosen. Most of them become ``[MASK]``, a few another token, a few stay; the model must say
for all of them what they were. `mask_tokens` draws anew at each call: called for each batch this is dynamic masking,
called once for all data it is static masking.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

IGNORED = -100  # the label of a token that was not chosen: no id


@dataclass(frozen=True, kw_only=True)
class MaskingConfig:
    """Which tokens are hidden, and how.

    Args:
        vocabulary_size: number of ids.
        mask_id: the id of ``[MASK]``.
        special_ids: ids that are never chosen and never put in another's place: padding, ``[CLS]``, ``[SEP]``, …; those
            of mask_id are added.
        rate: with which probability each of the other tokens is chosen, above 0 and below 1.
        mask_share, random_share: which shares of the chosen ones become ``[MASK]`` and a random token; the rest stay.
        at_least_one: in a row where chance chose none, choose one. Short texts would often give nothing to learn; for
            them more is chosen than the rate says.
    Raises:
        ValueError: ids outside the vocabulary, no ordinary token left, or a rate or shares that cannot be.
    """

    vocabulary_size: int
    mask_id: int
    special_ids: tuple[int, ...]
    rate: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1
    at_least_one: bool = True

    def __post_init__(self):
        object.__setattr__(self, "special_ids", tuple(sorted({*map(int, self.special_ids), self.mask_id})))
        for name, values in (("mask_id", [self.mask_id]), ("special_ids", self.special_ids)):
            wrong = [value for value in values if not 0 <= value < self.vocabulary_size]
            if wrong:
                raise ValueError(f"{name} holds {wrong[0]}, which is outside 0 … {self.vocabulary_size - 1}")
        if len(self.special_ids) == self.vocabulary_size:
            raise ValueError(f"special_ids holds all {self.vocabulary_size} ids: nothing can be hidden")
        if not 0 < self.rate < 1:
            raise ValueError(f"rate must be above 0 and below 1, got {self.rate!r}")
        shares = {"mask_share": self.mask_share, "random_share": self.random_share}
        if not (all(share >= 0 for share in shares.values()) and sum(shares.values()) <= 1):
            raise ValueError(f"mask_share and random_share must be at least 0 and at most 1 in all, got {shares}")


class Masked(NamedTuple):
    """What the model reads, and what it must say: labels hold the true id where a token was chosen, −100 elsewhere."""

    inputs: Tensor
    labels: Tensor

    @property
    def places(self) -> Tensor:
        """(B, T) bool: the chosen tokens."""
        return self.labels != IGNORED

    @property
    def targets(self) -> Tensor:
        """(N,) true ids of the N chosen tokens, row after row."""
        return self.labels[self.places]


def _is_special(ids: Tensor, special_ids: Sequence[int]) -> Tensor:
    """Where special tokens stand."""
    return torch.isin(ids, torch.tensor(special_ids, device=ids.device))


def choose(ids: Tensor, config: MaskingConfig, *, generator: torch.Generator | None = None) -> Tensor:
    """Choose the tokens that the model will have to say.

    Returns:
        (B, T) bool.
    Raises:
        ValueError: there are only special tokens.
    """
    allowed = ~_is_special(ids, config.special_ids)
    if not allowed.any():
        raise ValueError(f"there is nothing to hide: all of the {ids.numel()} tokens are special ones")
    draws = torch.rand(ids.shape, generator=generator).to(ids.device).masked_fill(~allowed, 2.0)  # 2 is above any rate
    chosen = draws < config.rate
    if config.at_least_one:  # the smallest draw; where any is below the rate, it is among the chosen anyway
        smallest = draws.argmin(dim=1, keepdim=True)
        chosen |= torch.zeros_like(chosen).scatter(1, smallest, True) & allowed
    return chosen


def mask_tokens(ids: Tensor, config: MaskingConfig, *, generator: torch.Generator | None = None) -> Masked:
    """Hide tokens of a batch, drawn anew at each call.

    Args:
        ids: (B, T) true tokens; they are not changed.
        config: which are hidden, and how.
        generator: of the CPU; torch's global one if None.
    Returns:
        inputs and labels, (B, T) each; a row with special tokens only has no label.
    Raises:
        ValueError: ids of another shape or outside the vocabulary, or nothing but special tokens.
    Source: Devlin et al. 2019, section 3.1 and appendix A; drawn for each batch: Liu et al. 2019.
    Differs: the paper's program chooses 15 % of each row's tokens, rounded; here each is chosen by itself, as in
        Hugging Face's collator. Both also take special tokens for random ones.

    >>> config = MaskingConfig(vocabulary_size=50, mask_id=4, special_ids=(0, 2, 3))
    >>> ids = torch.tensor([[2, 21, 22, 23, 24, 3], [2, 31, 3, 0, 0, 0]])   # at least one of each row
    >>> masked = mask_tokens(ids, config, generator=torch.Generator().manual_seed(3))
    >>> masked.inputs.tolist()
    [[2, 4, 22, 4, 24, 3], [2, 15, 3, 0, 0, 0]]
    >>> masked.places.nonzero().tolist(), masked.targets.tolist()
    ([[0, 1], [0, 3], [1, 1]], [21, 23, 31])
    """
    if ids.ndim != 2:
        raise ValueError(f"ids has shape {tuple(ids.shape)}, must be (B, T)")
    if ids.numel() and (ids.min() < 0 or ids.max() >= config.vocabulary_size):
        wrong = ids.min() if ids.min() < 0 else ids.max()
        raise ValueError(f"ids holds {wrong}, which is outside 0 … {config.vocabulary_size - 1}")
    chosen = choose(ids, config, generator=generator)
    labels = torch.where(chosen, ids, IGNORED)
    kind = torch.rand(ids.shape, generator=generator).to(ids.device)
    becomes_mask = chosen & (kind < config.mask_share)
    becomes_random = chosen & ~becomes_mask & (kind < config.mask_share + config.random_share)
    inputs = _with_random(ids, becomes_random, config, generator)
    return Masked(inputs.masked_fill(becomes_mask, config.mask_id), labels)


def _with_random(ids: Tensor, where: Tensor, config: MaskingConfig, generator: torch.Generator | None) -> Tensor:
    """Put ordinary tokens, all equally probable, in some places; the true one may come out again."""
    everything = torch.arange(config.vocabulary_size)
    ordinary = everything[~_is_special(everything, config.special_ids)]
    drawn = ordinary[torch.randint(len(ordinary), ids.shape, generator=generator)]
    return torch.where(where, drawn.to(ids.device), ids)
