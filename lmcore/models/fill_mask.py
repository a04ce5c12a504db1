"""Filling gaps: what a pretrained BERT would put in the place of each ``[MASK]``."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lmcore.models.bert import BERTForPretraining
from lmcore.nn.functional import softmax


class Guess(NamedTuple):
    """A token and its probability."""

    id: int
    probability: float


@torch.no_grad()
def fill_mask(
    model: BERTForPretraining, ids: Tensor | Sequence[int], *, mask_id: int, k: int = 5, segments: Tensor | None = None
) -> list[list[Guess]]:
    """The most probable tokens for each gap, each gap by itself.

    Args:
        model: is asked without dropout, whatever its mode; the mode stays.
        ids: (T,) one text, ``[CLS]`` and ``[SEP]`` included, with at least one mask_id.
        mask_id: the id of ``[MASK]``.
        k: how many guesses per gap, 1 … V.
        segments: (T,) 0 or 1; None: all 0.
    Returns:
        For each gap, from the left, k guesses, the best first.
    Raises:
        ValueError: no gap, another shape, or k out of range; and what `BERT.forward` refuses.

    Two gaps are not filled *together*: each guess is made as if the other gap stayed unknown.

    >>> from lmcore.models.bert import BERTConfig
    >>> config = BERTConfig.standard(vocabulary_size=11, d_model=6, layers=1, heads=2)
    >>> guesses = fill_mask(BERTForPretraining(config), [2, 4, 7, 4, 3], mask_id=4, k=3)
    >>> len(guesses), len(guesses[0])
    (2, 3)
    """
    ids = torch.as_tensor(ids)
    if ids.ndim != 1:
        raise ValueError(f"ids has shape {tuple(ids.shape)}, must be (T,): one text")
    gaps = ids == mask_id
    if not gaps.any():
        raise ValueError(f"ids holds no {mask_id}, the id of [MASK]: there is nothing to fill")
    size = model.config.vocabulary_size
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= size:
        raise ValueError(f"k must be a whole number in 1 … {size}, got {k!r}")
    training = model.training
    model.eval()
    try:
        scores, _ = model(ids[None], segments=None if segments is None else segments[None], places=gaps[None])
    finally:
        model.train(training)
    best = softmax(scores).topk(k, dim=1)
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [[Guess(*pair) for pair in zip(*row, strict=True)] for row in rows]
