"""Splitting and merging states: any number of ranks and back, bit for bit; without a process."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.models.bert import BERTConfig, BERTForPretraining
from lmcore.models.gpt import GPT, GPTConfig
from lmcore.models.seq2seq_transformer import TransformerSeq2Seq, TransformerSeq2SeqConfig
from lmcore.nn.multihead import MultiHeadAttention
from lmcore.nn.transformer import TransformerConfig
from lmcore.parallel.tensor_split import Split, merge_states, split_state, tensor_plan


def models():
    """One of each kind, drawn from a seed."""
    g = torch.Generator().manual_seed(3)
    llama = GPTConfig.llama(vocabulary_size=11, context=5, d_model=16, d_ff=12, layers=2, heads=8, kv_heads=4)
    bert = BERTConfig.standard(vocabulary_size=13, d_model=8, layers=2, heads=4, shared=True, max_length=7)
    stack = TransformerConfig(d_model=12, heads=4, d_ff=20, layers=1)
    seq2seq = TransformerSeq2SeqConfig(source_size=11, target_size=7, transformer=stack)
    return [
        GPT(GPTConfig.gpt2(vocabulary_size=7, context=5, d_model=8, layers=2, heads=4), generator=g),
        GPT(llama, generator=g),
        BERTForPretraining(bert, generator=g),
        TransformerSeq2Seq(seq2seq, generator=g),
    ]


@pytest.mark.parametrize("model", models(), ids=["gpt2", "llama", "bert", "seq2seq"])
def test_one_two_four_one_gives_the_same_bits(model):
    plan, state = tensor_plan(model), model.state_dict()
    assert plan.keys() <= state.keys()
    two = [split_state(state, plan, rank, 2) for rank in range(2)]
    whole = merge_states(two, plan)
    four = [split_state(whole, plan, rank, 4) for rank in range(4)]
    again = merge_states(four, plan)
    assert list(again) == list(state)
    assert all(torch.equal(again[name], x) for name, x in state.items())
    for name in plan:  # each rank has a quarter, but for padding
        assert four[0][name].shape[plan[name].axis] == -(-state[name].shape[plan[name].axis] // 4)


@given(st.integers(1, 5), st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(1, 3), st.integers(0, 1))
def test_parts_make_the_whole(n, counts, unit, axis):
    sections = tuple(count * unit * n for count in counts)
    shape = (sum(sections), 7) if axis == 0 else (7, sum(sections))
    whole = torch.arange(7 * sum(sections)).reshape(shape)
    split = Split(axis=axis, sections=sections, unit=unit)
    parts = [split.part(whole, rank, n) for rank in range(n)]
    assert torch.equal(split.whole(parts), whole)
    assert sorted(torch.cat([part.flatten() for part in parts]).tolist()) == list(range(whole.numel()))


@given(st.integers(1, 23), st.integers(1, 7))
def test_padded_parts_make_the_whole(size, n):
    whole = torch.arange(1, size + 1)
    split = Split(axis=0, sections=(size,), padded=True)
    parts = [split.part(whole, rank, n) for rank in range(n)]
    assert len({len(part) for part in parts}) == 1
    assert torch.equal(split.whole(parts), whole)
    assert sum((part == 0).sum() for part in parts) == n * len(parts[0]) - size


def test_queries_keys_and_values_are_shared_out_each_by_itself():
    layer = MultiHeadAttention(4, 2)
    rows = tensor_plan(layer)["in_proj_weight"]
    part = rows.part(torch.arange(12), 1, 2)  # rows 0–3 queries, 4–7 keys, 8–11 values, two heads each
    assert part.tolist() == [2, 3, 6, 7, 10, 11]


def test_parts_are_copies():
    whole = torch.zeros(4)
    part = Split(axis=0, sections=(4,)).part(whole, 0, 2)
    part += 1
    assert not whole.any()


def test_errors():
    gpt = models()[0]
    plan, state = tensor_plan(gpt), gpt.state_dict()
    with pytest.raises(ValueError, match="3 ranks cannot share 4 heads equally"):
        split_state(state, plan, 0, 3)
    with pytest.raises(ValueError, match="8 ranks cannot share 4 heads equally"):
        split_state(state, plan, 0, 8)
    with pytest.raises(ValueError, match=r"rank must be in 0 … 1, got 2"):
        split_state(state, plan, 2, 2)
    with pytest.raises(ValueError, match="has length 5 along axis 0, must be 4"):
        Split(axis=0, sections=(4,)).part(torch.ones(5), 0, 2)
    with pytest.raises(ValueError, match="states must be those of all ranks"):
        merge_states([], plan)
    two = [split_state(state, plan, rank, 2) for rank in range(2)]
    two[1]["decoder.norm.weight"] = two[1]["decoder.norm.weight"] + 1e-6
    with pytest.raises(
        ValueError, match=r"decoder\.norm\.weight must be the same on all ranks, but differs between rank 0"
    ):
        merge_states(two, plan)
    with pytest.raises(ValueError, match="a Linear has no attention"):
        tensor_plan(torch.nn.Linear(3, 3))


def test_a_head_of_keys_is_not_split():
    layer = MultiHeadAttention(16, 8, kv_heads=2)
    with pytest.raises(ValueError, match=r"4 ranks cannot share 2 heads of keys and values"):
        tensor_plan(layer)["in_proj_weight"].part(torch.zeros(24, 16), 0, 4)
