"""Packed BERT: pieces for the threads, and 8-bit codes step by step. Padding and errors: see test_sentence_encoder."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.models import bert_packed
from lmcore.models.bert import BERT, BERTConfig
from lmcore.models.bert_packed import PackedBERT, cut
from lmcore.nn.fused_int8 import FusedInt8Linear

CONFIG = BERTConfig.standard(vocabulary_size=31, d_model=12, layers=2, heads=3, d_ff=17, max_length=13)
ROWS = [[3], [11], [5, 7, 2], [4, 6, 8, 9, 10], [30] * 13]


@pytest.fixture(scope="module")
def model():
    made = BERT(CONFIG, generator=torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        for seed, parameter in enumerate(made.parameters()):
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
    return made


class InSteps(FusedInt8Linear):
    """The layer of 8-bit codes as it is defined, without compiled loops."""

    def __call__(self, x, *, activation="none", residual=None):
        return self.in_steps(x, activation, residual)


def test_int8_as_step_by_step(model, monkeypatch):
    found = PackedBERT(model, dtype=torch.int8)(ROWS)
    assert found.dtype == torch.float32
    monkeypatch.setattr(bert_packed, "FusedInt8Linear", InSteps)
    torch.testing.assert_close(found, PackedBERT(model, dtype=torch.int8)(ROWS), rtol=0, atol=2e-3)
    exact = PackedBERT(model)(ROWS)
    torch.testing.assert_close(found, exact, rtol=0, atol=0.15)
    assert not torch.allclose(found, exact, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_pieces_for_threads_keep_the_order(model, monkeypatch, dtype):
    seen, packed = [], PackedBERT(model, dtype=dtype)
    whole = packed(ROWS)
    monkeypatch.setattr(bert_packed, "_PIECE", (2, 5))
    monkeypatch.setattr(packed, "_read", lambda texts: seen.append(texts) or PackedBERT._read(packed, texts))
    found = packed(ROWS)
    assert sorted(seen) == [ROWS[:3], ROWS[3:4], ROWS[4:]]  # 5, 5 and 13 tokens, in whatever order the threads began
    tolerance = 0.05 if dtype == torch.bfloat16 else 2e-3
    torch.testing.assert_close(found, whole, rtol=0, atol=tolerance)
    assert not found.requires_grad


def test_an_error_of_a_piece_comes_out(model, monkeypatch):
    packed = PackedBERT(model)
    monkeypatch.setattr(bert_packed, "_PIECE", (1, 1))
    monkeypatch.setattr(packed, "_read", lambda texts: 1 // (len(texts[0]) - 3))
    with pytest.raises(ZeroDivisionError):
        packed(ROWS)


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=7), max_size=11), st.integers(1, 23))
def test_cut(texts, tokens):
    pieces = list(cut(texts, tokens))
    assert [text for piece in pieces for text in piece] == texts
    sizes = [sum(map(len, piece)) for piece in pieces]
    assert all(pieces)
    assert all(size <= tokens or len(piece) == 1 for size, piece in zip(sizes, pieces, strict=True))
    for size, following in zip(sizes, pieces[1:], strict=False):  # no piece could have taken one text more
        assert size + len(following[0]) > tokens
