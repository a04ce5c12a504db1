"""Masks: who may attend to whom, and what each mistake is told."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.nn import masks
from lmcore.nn.masks import causal_mask, check_mask, padding_mask

B, H, T, S, D = 2, 3, 5, 7, 11


def inputs(t=T, s=S):
    return torch.zeros(B, H, t, D), torch.zeros(B, 1, s, D)


# ---- hand-worked ----


def test_causal_mask_by_hand():
    assert causal_mask(3).int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert causal_mask(2, 3).int().tolist() == [[1, 1, 0], [1, 1, 1]]  # the last two of three positions
    assert causal_mask(1, 4).all()


def test_padding_mask_by_hand():
    mask = padding_mask([2, 3], 3)
    assert mask.shape == (2, 1, 1, 3)
    assert mask[:, 0, 0].int().tolist() == [[1, 1, 0], [1, 1, 1]]
    assert torch.equal(mask, padding_mask(torch.tensor([2, 3], dtype=torch.int32), 3))


def test_masks_combine():
    both = causal_mask(3) & padding_mask([1, 3], 3)
    assert both.shape == (2, 1, 3, 3)
    assert both[0, 0].int().tolist() == [[1, 0, 0], [1, 0, 0], [1, 0, 0]]
    assert both[1, 0].int().tolist() == causal_mask(3).int().tolist()


# ---- property, oracle ----


@given(st.integers(1, 13), st.integers(0, 13))
def test_causal_mask_says_what_a_loop_says(t, cached):
    s = t + cached
    expected = [[key <= query + cached for key in range(s)] for query in range(t)]
    assert causal_mask(t, s).tolist() == expected


def test_torch_means_the_opposite():
    blocked = torch.nn.Transformer.generate_square_subsequent_mask(T) < 0
    assert torch.equal(causal_mask(T), ~blocked)


@pytest.mark.parametrize(
    "shape", [(T, S), (1, S), (1, 1, 1, S), (B, 1, 1, S), (B, 1, T, S), (1, H, T, S), (B, H, T, S)]
)
def test_shapes_that_fit(shape):
    check_mask(torch.ones(shape, dtype=torch.bool), *inputs())


# ---- errors ----


@pytest.mark.parametrize("shape", [(S, T), (T, S - 1), (B, T, S), (H, T, S), (H, 1, T, S), (S,), (1, B, 1, 1, S)])
def test_shapes_that_do_not_fit(shape):
    message = f"mask has shape {shape}, must be (T, S) or (B, H, T, S), where axes may be 1, with {{'B': 2, 'H': 3"
    with pytest.raises(ValueError, match=re.escape(message)):
        check_mask(torch.ones(shape, dtype=torch.bool), *inputs())


def test_a_padding_mask_without_its_axes_is_recognised():
    with pytest.raises(ValueError, match=r"a mask of real keys is \(B, 1, 1, S\): see padding_mask"):
        check_mask(torch.ones(B, S, dtype=torch.bool), *inputs())
    with pytest.raises(ValueError, match=r"'S': 7\}$"):
        check_mask(torch.ones(T, B, dtype=torch.bool), *inputs())


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8])
def test_wrong_dtype(dtype):
    with pytest.raises(ValueError, match=f"mask must be bool, True = may attend, got {dtype}; .* are the bias"):
        check_mask(torch.ones(T, S, dtype=dtype), *inputs())


def test_a_row_without_keys_is_named():
    mask = torch.ones(B, H, T, S, dtype=torch.bool)
    mask[1, 2, 3] = False
    with pytest.raises(ValueError, match=r"mask\[1, 2, 3\] is False everywhere: may attend to nothing. True means may"):
        check_mask(mask, *inputs())
    mask[0, 1, 4] = False
    with pytest.raises(ValueError, match=r"mask\[0, 1, 4\] is False"):
        check_mask(mask, *inputs())


def test_an_inverted_mask_is_recognised():
    for mask, row in [(~causal_mask(T), "4"), (~padding_mask([3, T], T), "1, 0, 0")]:
        with pytest.raises(ValueError, match=rf"mask\[{row}\] .* The mask looks inverted: True means may attend"):
            check_mask(mask, *inputs(s=T))


def test_a_mask_without_diagonal_is_recognised():
    strict = torch.ones(T, T, dtype=torch.bool).tril(-1)
    with pytest.raises(ValueError, match=r"mask\[0\] is False everywhere.* A causal mask includes the diagonal"):
        check_mask(strict, *inputs(s=T))
    left = causal_mask(T) & padding_mask([2, T], T).flip(-1)
    with pytest.raises(ValueError, match=r"mask\[0, 0, 0\] .* a padded query needs itself as a key"):
        check_mask(left, *inputs(s=T))
    check_mask(left | torch.eye(T, dtype=torch.bool), *inputs(s=T))


def test_a_mask_that_only_with_causality_leaves_nothing():
    q, k = inputs()  # query 0 of T = 5 stands at position 2 of S = 7
    for first, fine in [(2, True), (3, False), (4, False)]:
        mask = (torch.arange(S) >= first).expand(1, 1, T, S).clone()
        check_mask(mask, q, k)  # whether it was checked before without causality makes no difference
        if fine:
            check_mask(mask, q, k, causal=True)
            continue
        with pytest.raises(ValueError, match=r"mask\[0, 0, 0\], causal besides, is False everywhere.* on the left"):
            check_mask(mask, q, k, causal=True)


def test_a_mask_is_read_once_until_it_changes(monkeypatch):
    mask, reads = causal_mask(T), []
    monkeypatch.setattr(masks, "_what_may_be_wrong", lambda *_: reads.append(1) or "")
    real = torch.Tensor.any
    monkeypatch.setattr(torch.Tensor, "any", lambda self, *axes: reads.append(axes) or real(self, *axes))
    check_mask(mask, *inputs(s=T))
    first = len(reads)
    check_mask(mask, *inputs(s=T))
    assert len(reads) == first > 0
    mask[2] = False
    with pytest.raises(ValueError, match=r"mask\[2\]"):
        check_mask(mask, *inputs(s=T))
    with pytest.raises(ValueError, match=r"mask\[2\]"):  # a refused mask is not remembered as good
        check_mask(mask, *inputs(s=T))
    with torch.inference_mode():  # tensors without a count of changes are read every time
        check_mask(causal_mask(T), *inputs(s=T))


def test_wrong_lengths():
    with pytest.raises(ValueError, match="T must be a whole number of at least 1, got 0"):
        causal_mask(0)
    with pytest.raises(ValueError, match=r"S must be a whole number of at least 1, got 2\.0"):
        causal_mask(2, 2.0)
    with pytest.raises(ValueError, match="S = 3 keys must include the positions of the T = 5 queries"):
        causal_mask(5, 3)
    for lengths, message in [([3, 0], r"lengths\[1\] = 0"), ([8], r"lengths\[0\] = 8"), ([-1], r"lengths\[0\] = -1")]:
        with pytest.raises(ValueError, match=rf"{message} is outside 1 … S = 7"):
            padding_mask(lengths, 7)
    for lengths in ([[1, 2]], [], [1.0], [True], 3):
        with pytest.raises(ValueError, match=r"lengths must be \(B,\) whole numbers, one per row, got shape"):
            padding_mask(lengths, 7)
