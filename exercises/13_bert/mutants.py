"""Plausible wrong answers, and what must be said to each."""

import numpy as np

from lmcore.checking import mutant


def _unit(x):
    """Rows of length 1."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


# ---- mean_pooling ----


@mutant("mean_pooling", rejected_with="averaged over padding too: multiply")
def averages_padding(hidden, real):
    return _unit(hidden.mean(axis=1))


@mutant("mean_pooling", rejected_with="averaged over padding too, and the length")
def takes_the_plain_mean(hidden, real):
    return hidden.mean(axis=1)


@mutant("mean_pooling", rejected_with="do not have length 1")
def forgets_the_norm(hidden, real):
    return (real[..., None] * hidden).sum(axis=1) / real.sum(axis=1, keepdims=True)


@mutant("mean_pooling", rejected_with="vector of [CLS]")
def takes_cls(hidden, real):
    return _unit(hidden[:, 0])


@mutant("mean_pooling", rejected_with="norms of columns")
def normalises_columns(hidden, real):
    mean = (real[..., None] * hidden).sum(axis=1) / real.sum(axis=1, keepdims=True)
    return mean / np.linalg.norm(mean, axis=0)


@mutant("mean_pooling", rejected_with="before the mean")
def normalises_the_tokens(hidden, real):
    return _unit((real[..., None] * _unit(hidden)).sum(axis=1))


@mutant("mean_pooling", rejected_with="left out the text")
def inverts_the_mask(hidden, real):
    inverse = 1.0 - np.asarray(real, dtype=float)
    mean = (inverse[..., None] * hidden).sum(axis=1)
    return mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-300)


@mutant("mean_pooling", rejected_with="real.astype(bool)")
def indexes_with_numbers(hidden, real):
    return _unit(np.array([h[r].mean(axis=0) for h, r in zip(hidden, real, strict=True)]))


# ---- pair_input ----


@mutant("pair_input", rejected_with="between the segments is missing")
def forgets_the_middle_sep(first, second, cls, sep):
    second = second or []
    return [cls, *first, *second, sep], [0] * (len(first) + 1) + [1] * (len(second) + 1)


@mutant("pair_input", rejected_with="last [SEP] is missing")
def forgets_the_last_sep(first, second, cls, sep):
    second = second or []
    return [cls, *first, sep, *second], [0] * (len(first) + 2) + [1] * len(second)


@mutant("pair_input", rejected_with="one [CLS] per row")
def begins_both_with_cls(first, second, cls, sep):
    second = second or []
    return [cls, *first, sep, cls, *second, sep], [0] * (len(first) + 2) + [1] * (len(second) + 2)


@mutant("pair_input", rejected_with="its segment is 0")
def gives_the_sep_to_the_second(first, second, cls, sep):
    second = second or []
    return [cls, *first, sep, *second, sep], [0] * (len(first) + 1) + [1] * (len(second) + 2)


@mutant("pair_input", rejected_with="special ones too")
def gives_special_tokens_no_segment(first, second, cls, sep):
    second = second or []
    return [cls, *first, sep, *second, sep], [0] * len(first) + [1] * len(second)


@mutant("pair_input", rejected_with="nothing follows the first one")
def ends_one_segment_twice(first, second, cls, sep):
    second = second or []
    return [cls, *first, sep, *second, sep], [0] * (len(first) + 2) + [1] * (len(second) + 1)


@mutant("pair_input", rejected_with="counted from 0")
def counts_segments_from_one(first, second, cls, sep):
    return [cls, *first, sep, *second, sep], [1] * (len(first) + 2) + [2] * (len(second) + 1)


# ---- choose_tokens ----


@mutant("choose_tokens", rejected_with="chose special tokens too")
def hides_special_tokens(ids, special, rate, draws):
    return draws < rate


@mutant("choose_tokens", rejected_with="choose one there")
def may_choose_none(ids, special, rate, draws):
    return (draws < rate) & ~np.isin(ids, special)


@mutant("choose_tokens", rejected_with="there is nothing to choose")
def chooses_among_special_tokens(ids, special, rate, draws):
    draws = np.where(np.isin(ids, special), 2.0, draws)
    return (draws < rate) | (np.arange(ids.shape[1]) == draws.argmin(axis=1)[:, None])


@mutant("choose_tokens", rejected_with="look at ordinary tokens only")
def looks_for_a_choice_among_all(ids, special, rate, draws):
    chosen = draws < rate
    chosen |= (draws == draws.min(axis=1, keepdims=True)) & ~chosen.any(axis=1, keepdims=True)
    return chosen & ~np.isin(ids, special)


@mutant("choose_tokens", rejected_with="one token per row")
def chooses_one_per_row(ids, special, rate, draws):
    draws = np.where(np.isin(ids, special), 2.0, draws)
    return (draws < 2) & (draws == draws.min(axis=1, keepdims=True))


@mutant("choose_tokens", rejected_with="above the rate")
def chooses_above_the_rate(ids, special, rate, draws):
    return (draws >= rate) & ~np.isin(ids, special)


@mutant("choose_tokens", rejected_with="only that list says")
def takes_small_ids_for_special(ids, special, rate, draws):
    draws = np.where(ids < 5, 2.0, draws)
    return (draws < 2) & ((draws < rate) | (draws == draws.min(axis=1, keepdims=True)))


@mutant("choose_tokens", rejected_with="it is an argument")
def ignores_the_rate(ids, special, rate, draws):
    draws = np.where(np.isin(ids, special), 2.0, draws)
    return (draws < 2) & ((draws < 0.15) | (draws == draws.min(axis=1, keepdims=True)))


# ---- damage ----


@mutant("damage", rejected_with="not chosen")
def damages_everything(ids, chosen, kind, random_ids, mask_id):
    inputs = np.where(kind < 0.8, mask_id, np.where(kind < 0.9, random_ids, ids))
    return inputs, np.where(chosen, ids, -100)


@mutant("damage", rejected_with="All chosen tokens became [MASK]")
def masks_all(ids, chosen, kind, random_ids, mask_id):
    return np.where(chosen, mask_id, ids), np.where(chosen, ids, -100)


@mutant("damage", rejected_with="No chosen token stayed")
def keeps_none(ids, chosen, kind, random_ids, mask_id):
    inputs = np.where(chosen, np.where(kind < 0.8, mask_id, random_ids), ids)
    return inputs, np.where(chosen, ids, -100)


@mutant("damage", rejected_with="overwrote the masks")
def overwrites_the_masks(ids, chosen, kind, random_ids, mask_id):
    inputs = np.where(chosen & (kind < 0.8), mask_id, ids)
    return np.where(chosen & (kind < 0.9), random_ids, inputs), np.where(chosen, ids, -100)


@mutant("damage", rejected_with="ask for every token")
def asks_for_everything(ids, chosen, kind, random_ids, mask_id):
    inputs = np.where(chosen, np.where(kind < 0.8, mask_id, np.where(kind < 0.9, random_ids, ids)), ids)
    return inputs, ids


@mutant("damage", rejected_with="masked tokens only")
def asks_for_masked_ones_only(ids, chosen, kind, random_ids, mask_id):
    inputs = np.where(chosen, np.where(kind < 0.8, mask_id, np.where(kind < 0.9, random_ids, ids)), ids)
    return inputs, np.where(inputs == mask_id, ids, -100)


@mutant("damage", rejected_with="what the model reads")
def labels_what_is_read(ids, chosen, kind, random_ids, mask_id):
    inputs = np.where(chosen, np.where(kind < 0.8, mask_id, np.where(kind < 0.9, random_ids, ids)), ids)
    return inputs, np.where(chosen, inputs, -100)


@mutant("damage", rejected_with="borders are off")
def takes_the_borders_in(ids, chosen, kind, random_ids, mask_id):
    inputs = np.where(chosen, np.where(kind <= 0.8, mask_id, np.where(kind <= 0.9, random_ids, ids)), ids)
    return inputs, np.where(chosen, ids, -100)


@mutant("damage", rejected_with="first row of the inputs")
def knows_the_mask_by_heart(ids, chosen, kind, random_ids, mask_id):
    inputs = np.where(chosen, np.where(kind < 0.8, 4, np.where(kind < 0.9, random_ids, ids)), ids)
    return inputs, np.where(chosen, ids, -100)


# ---- mlm_loss ----


def _surprise(logits, labels):
    """−log p of each label."""
    z = logits - logits.max(axis=-1, keepdims=True)
    logp = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(logp, np.maximum(labels, 0)[..., None], axis=-1)[..., 0]


@mutant("mlm_loss", rejected_with="number of all tokens")
def divides_by_all_tokens(logits, labels):
    return (_surprise(logits, labels) * (labels >= 0)).mean()


@mutant("mlm_loss", rejected_with="averaged over all positions")
def averages_over_all_positions(logits, labels):
    return _surprise(logits, labels).mean()


@mutant("mlm_loss", rejected_with="averaged each row first")
def averages_rows_first(logits, labels):
    each, chosen = _surprise(logits, labels), labels >= 0
    return np.mean([each[b, chosen[b]].mean() for b in range(len(labels))])


@mutant("mlm_loss", rejected_with="left out a label that is 0")
def leaves_out_token_zero(logits, labels):
    return _surprise(logits, labels)[labels > 0].mean()


@mutant("mlm_loss", rejected_with="average of the logarithms")
def takes_the_logarithm_last(logits, labels):
    return -np.log(np.exp(-_surprise(logits, labels)[labels >= 0]).mean())


@mutant("mlm_loss", rejected_with="subtract the largest logit")
def overflows(logits, labels):
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    b, t = np.nonzero(labels >= 0)
    return -np.log(p[b, t, labels[b, t]]).mean()


@mutant("mlm_loss", rejected_with="subtract the largest logit")
def subtracts_one_maximum_for_all(logits, labels):
    z = logits - logits.max()
    logp = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    b, t = np.nonzero(labels >= 0)
    return -logp[b, t, labels[b, t]].mean()


@mutant("mlm_loss", rejected_with="no softmax")
def forgets_the_softmax(logits, labels):
    b, t = np.nonzero(labels >= 0)
    return -logits[b, t, labels[b, t]].mean()


@mutant("mlm_loss", rejected_with="bits")
def measures_in_bits(logits, labels):
    return _surprise(logits, labels)[labels >= 0].mean() / np.log(2)


# ---- bert_size ----


def _size(V, P, d, blocks, *, output=True, biases=True, norms=True, segments=2, first_norm=True, positions=True):
    """Parameters, with something left out."""
    n = (V + (P if positions else 0) + segments) * d + 2 * d * first_norm
    block = (4 if output else 3) * d * d + 8 * d * d + 4 * d * norms
    return n + blocks * (block + ((4 if output else 3) + 5) * d * biases)


@mutant("bert_size", rejected_with="once per layer")
def counts_a_shared_block_often(vocabulary, positions, d, layers, shared):
    return _size(vocabulary, positions, d, layers)


@mutant("bert_size", rejected_with="each layer has its own")
def shares_always(vocabulary, positions, d, layers, shared):
    return _size(vocabulary, positions, d, 1)


@mutant("bert_size", rejected_with="output has one too")
def forgets_the_output_matrix(vocabulary, positions, d, layers, shared):
    return _size(vocabulary, positions, d, 1 if shared else layers, output=False)


@mutant("bert_size", rejected_with="biases are missing")
def forgets_biases(vocabulary, positions, d, layers, shared):
    return _size(vocabulary, positions, d, 1 if shared else layers, biases=False)


@mutant("bert_size", rejected_with="biases of attention")
def forgets_the_biases_of_attention(vocabulary, positions, d, layers, shared):
    blocks = 1 if shared else layers
    return _size(vocabulary, positions, d, blocks) - 4 * d * blocks


@mutant("bert_size", rejected_with="biases of the network")
def forgets_the_biases_of_the_network(vocabulary, positions, d, layers, shared):
    blocks = 1 if shared else layers
    return _size(vocabulary, positions, d, blocks) - 5 * d * blocks


@mutant("bert_size", rejected_with="two layer norms of a block")
def forgets_the_norms(vocabulary, positions, d, layers, shared):
    return _size(vocabulary, positions, d, 1 if shared else layers, norms=False)


@mutant("bert_size", rejected_with="table of positions is missing")
def forgets_the_positions(vocabulary, positions, d, layers, shared):
    return _size(vocabulary, positions, d, 1 if shared else layers, positions=False)


@mutant("bert_size", rejected_with="A table or a norm is missing")
def forgets_the_segments(vocabulary, positions, d, layers, shared):
    return _size(vocabulary, positions, d, 1 if shared else layers, segments=0)


# ---- from_both_sides ----


def _mixed(n, u, k):
    """Conditional probabilities."""
    return (n + k * u) / (n.sum(axis=1, keepdims=True) + k)


def _normal(x):
    """Rows with sum 1."""
    return x / x.sum(axis=1, keepdims=True)


@mutant("from_both_sides", rejected_with="rows do not sum to one")
def does_not_normalise(pairs, u, lefts, rights, k):
    return _mixed(pairs, u, k)[lefts] * _mixed(pairs.T, u, k)[rights] / u


@mutant("from_both_sides", rejected_with="division by u is missing")
def counts_the_frequency_twice(pairs, u, lefts, rights, k):
    return _normal(_mixed(pairs, u, k)[lefts] * _mixed(pairs.T, u, k)[rights])


@mutant("from_both_sides", rejected_with="transpose the counts")
def does_not_transpose(pairs, u, lefts, rights, k):
    return _normal(_mixed(pairs, u, k)[lefts] * _mixed(pairs, u, k)[rights] / u)


@mutant("from_both_sides", rejected_with="Only the left neighbour")
def reads_from_the_left_only(pairs, u, lefts, rights, k):
    return _mixed(pairs, u, k)[lefts]


@mutant("from_both_sides", rejected_with="averaged the two sides")
def averages_the_sides(pairs, u, lefts, rights, k):
    return (_mixed(pairs, u, k)[lefts] + _mixed(pairs.T, u, k)[rights]) / 2


@mutant("from_both_sides", rejected_with="Left and right are exchanged")
def exchanges_the_sides(pairs, u, lefts, rights, k):
    return _normal(_mixed(pairs.T, u, k)[lefts] * _mixed(pairs, u, k)[rights] / u)


@mutant("from_both_sides", rejected_with="add-k")
def adds_k_to_each(pairs, u, lefts, rights, k):
    after, before = _normal(pairs + k), _normal(pairs.T + k)
    return _normal(after[lefts] * before[rights] / u)


@mutant("from_both_sides", rejected_with="first gap should have")
def knows_k_by_heart(pairs, u, lefts, rights, k):
    return _normal(_mixed(pairs, u, 5)[lefts] * _mixed(pairs.T, u, 5)[rights] / u)


@mutant("from_both_sides", rejected_with="not a number")
def uses_raw_frequencies(pairs, u, lefts, rights, k):
    with np.errstate(all="ignore"):
        return _normal(_normal(pairs)[lefts] * _normal(pairs.T)[rights] / u)
