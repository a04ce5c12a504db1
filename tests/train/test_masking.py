"""Hiding tokens: a table of what may happen, shares within binomial bounds, Hugging Face's collator, errors."""

import math

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from lmcore.train.masking import IGNORED, MaskingConfig, choose, mask_tokens

PAD, CLS, SEP, MASK, SIZE = 0, 2, 3, 4, 53
SPECIAL = (PAD, 1, CLS, SEP)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def config(**settings):
    return MaskingConfig(**{"vocabulary_size": SIZE, "mask_id": MASK, "special_ids": SPECIAL, **settings})


def texts(rows=31, length=47, seed=0):
    """Rows of ordinary ids between [CLS] and [SEP], the second half of them padded."""
    ids = torch.randint(5, SIZE, (rows, length), generator=generator(seed))
    ids[:, 0] = CLS
    ids[:, length - 1] = SEP
    ids[rows // 2 :, length // 2] = SEP
    ids[rows // 2 :, length // 2 + 1 :] = PAD
    return ids


def within(count, trials, p, sigmas=5):
    """Whether a binomial count is within five standard deviations of its mean: about one in two million is not."""
    return abs(count - trials * p) <= sigmas * math.sqrt(trials * p * (1 - p))


def test_by_hand():
    ids = torch.tensor([[CLS, 11, 13, 17, SEP], [CLS, 19, SEP, PAD, PAD]])
    masked = mask_tokens(ids, config(rate=1 - 1e-9, mask_share=1, random_share=0))
    assert masked.inputs.tolist() == [[CLS, MASK, MASK, MASK, SEP], [CLS, MASK, SEP, PAD, PAD]]
    assert masked.labels.tolist() == [[-100, 11, 13, 17, -100], [-100, 19, -100, -100, -100]]
    assert masked.targets.tolist() == [11, 13, 17, 19]
    unchanged = mask_tokens(ids, config(rate=1 - 1e-9, mask_share=0, random_share=0))
    assert torch.equal(unchanged.inputs, ids)
    assert torch.equal(unchanged.labels, masked.labels)


def test_shares_are_within_binomial_bounds():
    ids = texts(997, 101)
    masked = mask_tokens(ids, config(at_least_one=False), generator=generator())
    ordinary = (ids > MASK).sum().item()
    chosen = masked.places.sum().item()
    assert within(chosen, ordinary, 0.15)
    now, true = masked.inputs[masked.places], masked.targets
    assert within((now == MASK).sum().item(), chosen, 0.8)
    # the random token is by chance the true one in one of 48 cases
    assert within(((now != MASK) & (now != true)).sum().item(), chosen, 0.1 * 47 / 48)
    assert within((now == true).sum().item(), chosen, 0.1 + 0.1 / 48)
    drawn = torch.bincount(now[(now != MASK) & (now != true)], minlength=SIZE)
    assert drawn[:5].sum() == 0  # no special token in another's place
    assert all(within(n, drawn.sum().item(), 1 / 48) for n in drawn[5:].tolist())


def test_hugging_faces_collator_has_the_same_statistics():
    vocab = {f"t{i}": i for i in range(SIZE)} | {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
    vocab = {token: i for token, i in vocab.items() if not (token.startswith("t") and i < 5)}
    peer = transformers.DataCollatorForLanguageModeling(
        transformers.BertTokenizer(vocab=vocab), mlm=True, mlm_probability=0.15, seed=7
    )
    ids = texts(499, 83)
    theirs = peer([{"input_ids": row} for row in ids.tolist()])
    ours = mask_tokens(ids, config(at_least_one=False), generator=generator())
    counts = []
    for inputs, labels in ((theirs["input_ids"], theirs["labels"]), ours):
        places = labels != IGNORED
        assert (ids[places] > MASK).all()
        assert torch.equal(labels[places], ids[places])
        assert torch.equal(inputs[~places], ids[~places])
        now, true = inputs[places], labels[places]
        counts.append((places.sum().item(), (now == MASK).sum().item(), (now == true).sum().item()))
    ordinary = (ids > MASK).sum().item()
    for mine, his in zip(counts[1], counts[0], strict=True):
        p = (mine + his) / (2 * ordinary)  # the difference of two binomial counts
        assert abs(mine - his) <= 5 * math.sqrt(2 * ordinary * p * (1 - p))


@given(st.integers(0, 10_000), st.floats(0.01, 0.99), st.floats(0, 0.5), st.floats(0, 0.5), st.booleans())
def test_what_may_happen(seed, rate, mask_share, random_share, at_least_one):
    ids = texts(seed=seed)
    before = ids.clone()
    settings = config(rate=rate, mask_share=mask_share, random_share=random_share, at_least_one=at_least_one)
    masked = mask_tokens(ids, settings, generator=generator(seed))
    assert torch.equal(ids, before)
    special = ids <= MASK
    assert not masked.places[special].any()
    assert torch.equal(masked.inputs[~masked.places], ids[~masked.places])
    assert torch.equal(masked.labels[masked.places], ids[masked.places])
    assert not (masked.inputs[masked.places] < MASK).any()
    assert not at_least_one or masked.places.any(dim=1).all()
    again = mask_tokens(ids, settings, generator=generator(seed))
    assert torch.equal(masked.inputs, again.inputs)
    assert torch.equal(masked.labels, again.labels)


def test_a_new_call_draws_anew_and_static_masks_stay():
    ids, draw = texts(), generator()
    first, second = mask_tokens(ids, config(), generator=draw), mask_tokens(ids, config(), generator=draw)
    assert not torch.equal(first.places, second.places)
    static = mask_tokens(ids.repeat(10, 1), config(), generator=draw)  # ten versions of each text, once and for all
    versions = static.places.view(10, *ids.shape)
    assert not torch.equal(versions[0], versions[1])


def test_at_least_one():
    ids = torch.tensor([[CLS, 11, 13, SEP]] * 1009 + [[CLS, SEP, PAD, PAD]])
    places = choose(ids, config(rate=0.01), generator=generator())
    assert places[:-1].any(dim=1).all()
    assert not places[-1].any()  # nothing but special tokens: nothing to choose, and no error
    first = places[:-1, 1].sum().item()
    assert within(first, places[:-1].sum().item(), 0.5)  # either token is as likely
    without = choose(ids, config(rate=0.01, at_least_one=False), generator=generator())
    assert within(without.sum().item(), 2 * 1009, 0.01)
    assert (without <= places).all()  # the rule adds, it takes nothing away


def test_errors():
    with pytest.raises(ValueError, match="there is nothing to hide: all of the 6 tokens are special ones"):
        mask_tokens(torch.tensor([[CLS, SEP, PAD], [CLS, MASK, SEP]]), config())
    with pytest.raises(ValueError, match=r"ids has shape \(7,\), must be \(B, T\)"):
        mask_tokens(torch.full((7,), 11), config())
    for wrong in (53, -1):
        with pytest.raises(ValueError, match=f"ids holds {wrong}, which is outside 0 … 52"):
            mask_tokens(torch.tensor([[11, wrong]]), config())
    for rate in (0, 1, -0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match="rate must be above 0 and below 1"):
            config(rate=rate)
    for shares in ((0.9, 0.2), (-0.1, 0.1), (0.5, -0.1)):
        with pytest.raises(ValueError, match="must be at least 0 and at most 1 in all"):
            config(mask_share=shares[0], random_share=shares[1])
    with pytest.raises(ValueError, match="mask_id holds 53, which is outside 0 … 52"):
        config(mask_id=53)
    with pytest.raises(ValueError, match="special_ids holds 99, which is outside 0 … 52"):
        config(special_ids=(0, 99))
    with pytest.raises(ValueError, match="special_ids holds all 3 ids: nothing can be hidden"):
        MaskingConfig(vocabulary_size=3, mask_id=2, special_ids=(0, 1))
