"""Masks: who may attend to whom. True = may attend, so that conditions are combined with &.

A mask is asked at (row of the batch, head, query, key). An axis on which it does not depend has length 1: a causal mask
(T, S) knows only the last two, a padding mask (B, 1, 1, S) the batch and the key, and `causal & padding` three of them.

Differs: torch's MultiheadAttention and TransformerEncoderLayer mean the opposite, True = may *not* attend; its
scaled_dot_product_attention means what we mean.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lmcore.sizes import check_sizes


def causal_mask(T: int, S: int | None = None, *, device: torch.device | str | None = None) -> Tensor:
    """Each query may attend to its own position and those before; the queries are the last T of S positions.

    Args:
        T: number of queries.   S: number of keys, T if None; more than T when earlier keys come from a cache.
        device: where the mask is made.
    Returns:
        (T, S) bool.
    Raises:
        ValueError: a length below 1, or S < T: the first queries would have nothing to attend to.

    >>> causal_mask(2, 5).int()
    tensor([[1, 1, 1, 1, 0],
            [1, 1, 1, 1, 1]], dtype=torch.int32)
    """
    S = T if S is None else S
    check_sizes(T=T, S=S)
    if S < T:
        raise ValueError(f"S = {S} keys must include the positions of the T = {T} queries")
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(S - T)


def padding_mask(lengths: Tensor | Sequence[int], S: int) -> Tensor:
    """Only the first lengths[b] keys of row b are real; the others fill the row up to S.

    Args:
        lengths: (B,) whole numbers.   S: number of keys.
    Returns:
        (B, 1, 1, S) bool, on the device of lengths.
    Raises:
        ValueError: lengths of another shape or type, or one outside 1 … S.

    >>> padding_mask([3, 1], 4).squeeze().int()
    tensor([[1, 1, 1, 0],
            [1, 0, 0, 0]], dtype=torch.int32)
    """
    lengths = torch.as_tensor(lengths)
    if lengths.ndim != 1 or len(lengths) == 0 or lengths.is_floating_point() or lengths.dtype == torch.bool:
        raise ValueError(
            f"lengths must be (B,) whole numbers, one per row, got shape {tuple(lengths.shape)} of {lengths.dtype}"
        )
    wrong = (lengths < 1) | (lengths > S)
    if wrong.any():
        b = int(wrong.nonzero()[0])
        raise ValueError(f"lengths[{b}] = {int(lengths[b])} is outside 1 … S = {S}")
    real = torch.arange(S, device=lengths.device) < lengths[:, None]  # (B, S)
    return real[:, None, None, :]  # (B, 1, 1, S)


# ---- checks ----


def _check_shape(mask: Tensor, q: Tensor, k: Tensor) -> None:
    """Refuse a mask that is not bool, or is not asked at (b, h, t, s)."""
    if mask.dtype != torch.bool:
        raise ValueError(
            f"mask must be bool, True = may attend, got {mask.dtype}; numbers to add to the scores are the bias"
        )
    full = (*q.shape[:-1], k.shape[-2])  # B, H, T, S
    shape = tuple(mask.shape)
    fits = len(shape) in (2, 4) and all(n in (1, m) for n, m in zip(shape, full[-len(shape) :], strict=True))
    if not fits:
        names = dict(zip("BHTS", full, strict=True))
        hint = "; a mask of real keys is (B, 1, 1, S): see padding_mask" if shape == (full[0], full[3]) else ""
        raise ValueError(
            f"mask has shape {shape}, must be (T, S) or (B, H, T, S), where axes may be 1, with {names}{hint}"
        )


def _what_may_be_wrong(mask: Tensor, empty: Tensor) -> str:
    """A guess why rows of a mask are empty."""
    first, last = bool(empty[..., 0].any()), bool(empty[..., -1].any())
    if first and not last:
        return "A causal mask includes the diagonal, and with padding on the left a padded query needs itself as a key."
    if bool((~mask).any(-1).all()):
        return "The mask looks inverted: True means may attend."
    return "True means may attend."


def refuse_empty_rows(mask: Tensor, *, causal: tuple[int, int] | None = None) -> None:
    """Refuse a mask with a row (along the last axis) that may attend to nothing.

    Args:
        mask: (…, S), or (…, 1) for all keys alike.
        causal: (T, S) if `causal_mask(T, S)` holds as well.
    Raises:
        ValueError: names the first such row, and what the likely mistake is.
    Cost: one pass over the mask and, on a GPU, a wait for the result. The same tensor is not looked at again until it
        changes, so that a mask that all layers of a model share is read once per pass.
    """
    state = None if mask.is_inference() else (id(mask), mask._version, causal)  # torch counts the changes of a tensor
    if state is not None and getattr(mask, "_rows_were_checked", None) == state:
        return
    empty = ~mask.any(-1)  # (…, T)
    if causal is not None:
        T, S = causal
        first = mask.byte().argmax(-1)  # (…, T), the first key that the mask allows
        empty = empty | (first > torch.arange(S - T, S, device=mask.device))
    if empty.any():
        row = ", ".join(map(str, empty.nonzero()[0].tolist()))
        what = f"mask[{row}]{'' if causal is None else ', causal besides,'} is False everywhere: may attend to nothing"
        raise ValueError(f"{what}. {_what_may_be_wrong(mask, empty)}")
    mask._rows_were_checked = state


def check_mask(mask: Tensor, q: Tensor, k: Tensor, *, causal: bool = False) -> None:
    """Refuse a mask that does not fit queries and keys, or lets some query attend to nothing.

    A softmax over nothing is 0 / 0. Such a row is nearly always a mistake: an inverted mask, or one without diagonal.
    An inverted padding mask shows itself only if some row of the batch has no padding.

    Args:
        mask: (T, S) or (B, H, T, S), where axes may be 1.   q: (B, H, T, d).   k: (B, G, S, d).
        causal: whether `causal_mask(T, S)` holds as well.
    Raises:
        ValueError: a dtype that is not bool, a shape that does not fit, or a row that is False everywhere.
    Cost: as `refuse_empty_rows`.

    >>> x = torch.zeros(1, 1, 3, 2)
    >>> check_mask(causal_mask(3), x, x)
    >>> check_mask(~causal_mask(3), x, x)
    Traceback (most recent call last):
    ValueError: mask[2] is False everywhere: may attend to nothing. The mask looks inverted: True means may attend.
    """
    _check_shape(mask, q, k)
    refuse_empty_rows(mask, causal=(q.shape[-2], k.shape[-2]) if causal else None)
