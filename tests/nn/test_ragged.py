"""Packing: there and back, mirrored twice, states sorted and unsorted; torch's packed sequences."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_padded_sequence

from lmcore.nn.ragged import Full, Ragged, layout


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6))
def test_there_and_back(lengths):
    x = torch.arange(len(lengths) * 7 * 2.0).view(len(lengths), 7, 2)
    packing = layout(x, lengths)
    rows = packing.pack(x)
    assert rows.shape == (sum(lengths), 2)
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    assert torch.equal(packing.unpack(rows), x * mask[..., None])
    assert torch.equal(packing.mirrored(packing.mirrored(rows)), rows)
    mirrored = packing.unpack(packing.mirrored(rows))
    for row, back, length in zip(x, mirrored, lengths, strict=True):
        assert torch.equal(back[:length], row[:length].flip(0))
    states = torch.randn(3, len(lengths), 5)
    assert torch.equal(packing.unsort(packing.sort(states)), states)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6))
def test_the_order_is_that_of_torchs_packed_sequences(lengths):
    x = torch.arange(len(lengths) * 7 * 2.0).view(len(lengths), 7, 2)
    packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    ours = Ragged(torch.tensor(lengths), n_steps=7)
    assert ours.sizes == packed.batch_sizes.tolist()
    if len(set(lengths)) == len(lengths):  # equally long sequences may stand in another order
        assert torch.equal(ours.pack(x), packed.data)


def test_full_lengths_need_no_sorting():
    x = torch.randn(2, 3, 5)
    assert isinstance(layout(x, [3, 3]), Full)
    assert torch.equal(layout(x).pack(x), Ragged(torch.tensor([3, 3]), n_steps=3).pack(x))
