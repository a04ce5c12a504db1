"""Plausible wrong answers, and what must be said to each."""

import struct

import numpy as np

from lmcore.checking import mutant


def _whole(ids, T):
    """How many pieces have all their labels."""
    return (len(ids) - 1) // T


@mutant("inputs_and_labels", rejected_with="Your labels are the inputs")
def does_not_shift(ids, T):
    n = _whole(ids, T)
    x = ids[: n * T].reshape(n, T)
    return x, x


@mutant("inputs_and_labels", rejected_with="*before* the inputs")
def shifts_the_wrong_way(ids, T):
    n = _whole(ids, T)
    return ids[: n * T].reshape(n, T), np.roll(ids, 1)[: n * T].reshape(n, T)


@mutant("inputs_and_labels", rejected_with="You shifted twice")
def shifts_twice(ids, T):
    n = _whole(ids, T)
    return ids[: n * T].reshape(n, T), np.roll(ids, -2)[: n * T].reshape(n, T)


@mutant("inputs_and_labels", rejected_with="its own first input")
def rolls_each_piece(ids, T):
    n = _whole(ids, T)
    x = ids[: n * T].reshape(n, T)
    return x, np.roll(x, -1, axis=1)


@mutant("inputs_and_labels", rejected_with="yours have")
def loses_the_last_label(ids, T):
    n = _whole(ids, T)
    x = ids[: n * T].reshape(n, T)
    return x[:, :-1], x[:, 1:]


@mutant("inputs_and_labels", rejected_with="Your pieces overlap")
def starts_a_piece_at_every_id(ids, T):
    n = len(ids) - T
    x = np.stack([ids[i : i + T] for i in range(n)])
    y = np.stack([ids[i + 1 : i + T + 1] for i in range(n)])
    return x, y


@mutant("inputs_and_labels", rejected_with="A piece is missing")
def is_afraid_of_the_end(ids, T):
    n = _whole(ids, T) - 1
    return ids[: n * T].reshape(n, T), ids[1 : n * T + 1].reshape(n, T)


@mutant("inputs_and_labels", rejected_with="a piece too many")
def invents_the_last_label(ids, T):
    n = len(ids) // T
    return ids[: n * T].reshape(n, T), np.append(ids, 0)[1 : n * T + 1].reshape(n, T)


@mutant("inputs_and_labels", rejected_with="are exchanged")
def exchanges_them(ids, T):
    n = _whole(ids, T)
    return ids[1 : n * T + 1].reshape(n, T), ids[: n * T].reshape(n, T)


@mutant("inputs_and_labels", rejected_with="begins T + 1 ids after")
def loses_an_id_between_pieces(ids, T):
    n = len(ids) // (T + 1)
    pieces = ids[: n * (T + 1)].reshape(n, T + 1)
    return pieces[:, :-1], pieces[:, 1:]


def _size(V, d, d_ff, L, H, G, *, tables=1, keys=2, back=1, matrices=3, norms=2, last=1, bias=0, head=None):
    """A count of which one part can be wrong."""
    head = d // H if head is None else head
    attention = (H + keys * G) * head * d + back * d * d
    return tables * V * d + L * (attention + matrices * d * d_ff + norms * d + bias) + last * d


@mutant("llama_parameters", rejected_with="tied is taken the wrong way round")
def doubles_the_tied_table(V, d, d_ff, L, H, G, tied):
    return _size(V, d, d_ff, L, H, G, tables=2 if tied else 1)


@mutant("llama_parameters", rejected_with="tied is taken the wrong way round")
def never_ties(V, d, d_ff, L, H, G, tied):
    return _size(V, d, d_ff, L, H, G, tables=2)


@mutant("llama_parameters", rejected_with="only G heads")
def shares_no_keys(V, d, d_ff, L, H, G, tied):
    return _size(V, d, d_ff, L, H, H, tables=2 - tied, head=d // H)


@mutant("llama_parameters", rejected_with="projection after the heads")
def forgets_the_way_out(V, d, d_ff, L, H, G, tied):
    return _size(V, d, d_ff, L, H, G, tables=2 - tied, back=0)


@mutant("llama_parameters", rejected_with="three matrices")
def has_a_plain_network(V, d, d_ff, L, H, G, tied):
    return _size(V, d, d_ff, L, H, G, tables=2 - tied, matrices=2)


@mutant("llama_parameters", rejected_with="The scales of the norms")
def forgets_all_norms(V, d, d_ff, L, H, G, tied):
    return _size(V, d, d_ff, L, H, G, tables=2 - tied, norms=0, last=0)


@mutant("llama_parameters", rejected_with="two norms of each block")
def forgets_the_norms_of_blocks(V, d, d_ff, L, H, G, tied):
    return _size(V, d, d_ff, L, H, G, tables=2 - tied, norms=0)


@mutant("llama_parameters", rejected_with="Each block has two norms")
def has_one_norm(V, d, d_ff, L, H, G, tied):
    return _size(V, d, d_ff, L, H, G, tables=2 - tied, norms=1)


@mutant("llama_parameters", rejected_with="The last norm")
def forgets_the_last_norm(V, d, d_ff, L, H, G, tied):
    return _size(V, d, d_ff, L, H, G, tables=2 - tied, last=0)


@mutant("llama_parameters", rejected_with="no shift")
def gives_norms_a_shift(V, d, d_ff, L, H, G, tied):
    return _size(V, d, d_ff, L, H, G, tables=2 - tied, norms=4, last=2)


@mutant("llama_parameters", rejected_with="keys *and* values")
def forgets_the_values(V, d, d_ff, L, H, G, tied):
    return _size(V, d, d_ff, L, H, G, tables=2 - tied, keys=1)


@mutant("llama_parameters", rejected_with="no biases")
def adds_biases(V, d, d_ff, L, H, G, tied):
    return _size(V, d, d_ff, L, H, G, tables=2 - tied, bias=(H + 2 * G) * (d // H) + 2 * d + 2 * d_ff)


@mutant("llama_parameters", rejected_with="not d.")
def takes_whole_vectors_as_heads(V, d, d_ff, L, H, G, tied):
    return _size(V, d, d_ff, L, H, G, tables=2 - tied, head=d)


@mutant("llama_parameters", rejected_with="table of words is missing")
def forgets_the_table(V, d, d_ff, L, H, G, tied):
    return _size(V, d, d_ff, L, H, G, tables=1 - tied)


@mutant("llama_parameters", rejected_with="no table of positions")
def keeps_a_table_of_positions(V, d, d_ff, L, H, G, tied):
    return _size(V, d, d_ff, L, H, G, tables=2 - tied) + 1024 * d


def _cut(p, share, *, extra=0, order=None, normalize=True):
    """A nucleus of which one part can be wrong."""
    order = np.argsort(-p) if order is None else order
    n = max(int((np.cumsum(p[order]) - p[order] < share).sum()) + extra, 0)
    kept = np.zeros_like(p)
    kept[order[:n]] = p[order[:n]]
    return kept / kept.sum() if normalize else kept


@mutant("top_p", rejected_with="You dropped the token")
def stays_below_the_share(p, share):
    return _cut(p, share, extra=-1)


@mutant("top_p", rejected_with="a token too many")
def keeps_one_more(p, share):
    return _cut(p, share, extra=1)


@mutant("top_p", rejected_with="do not sum to one")
def does_not_normalize(p, share):
    return _cut(p, share, normalize=False)


@mutant("top_p", rejected_with="come back sorted")
def returns_them_sorted(p, share):
    return np.sort(_cut(p, share))[::-1]


@mutant("top_p", rejected_with="least probable")
def sorts_upwards(p, share):
    return _cut(p, share, order=np.argsort(p))


@mutant("top_p", rejected_with="in the order of the tokens")
def does_not_sort(p, share):
    return _cut(p, share, order=np.arange(len(p)))


@mutant("top_p", rejected_with="1 − share")
def keeps_the_complement(p, share):
    return _cut(p, 1 - share)


@mutant("top_p", rejected_with="Nothing was cut")
def cuts_nothing(p, share):
    return p


@mutant("top_p", rejected_with="softmax of probabilities")
def takes_another_softmax(p, share):
    kept = _cut(p, share) > 0
    powers = np.exp(p) * kept
    return powers / powers.sum()


@mutant("top_p", rejected_with="reach it exactly")
def wants_more_than_the_share(p, share):
    order = np.argsort(-p)
    before = np.cumsum(p[order]) - p[order]
    kept = np.zeros_like(p)
    kept[order[before <= share]] = p[order[before <= share]]
    return kept / kept.sum()


@mutant("top_p", rejected_with="a threshold cannot tell")
def keeps_all_above_a_threshold(p, share):
    best = np.sort(p)[::-1]
    threshold = best[(np.cumsum(best) - best < share).sum() - 1]
    kept = np.where(p >= threshold, p, 0)
    return kept / kept.sum()


def _parts(block):
    """Scale, minimum, lower and upper halves."""
    scale, minimum = struct.unpack("<2e", block[:4])
    raw = np.frombuffer(block[4:], np.uint8)
    return scale, minimum, (raw & 15).astype(float), (raw >> 4).astype(float)


@mutant("decode_q4_1", rejected_with="side by side")
def interleaves(block):
    scale, minimum, low, high = _parts(block)
    return scale * np.stack([low, high], axis=1).ravel() + minimum


@mutant("decode_q4_1", rejected_with="upper halves come first")
def takes_upper_halves_first(block):
    scale, minimum, low, high = _parts(block)
    return scale * np.concatenate([high, low]) + minimum


@mutant("decode_q4_1", rejected_with="are exchanged")
def exchanges_scale_and_minimum(block):
    scale, minimum, low, high = _parts(block)
    return minimum * np.concatenate([low, high]) + scale


@mutant("decode_q4_1", rejected_with="no 8 to subtract")
def subtracts_eight_too(block):
    scale, minimum, low, high = _parts(block)
    return scale * (np.concatenate([low, high]) - 8) + minimum


@mutant("decode_q4_1", rejected_with="That is Q4_0")
def decodes_q4_0(block):
    scale, _, low, high = _parts(block)
    return scale * (np.concatenate([low, high]) - 8)


@mutant("decode_q4_1", rejected_with="The minimum is missing")
def forgets_the_minimum(block):
    scale, _, low, high = _parts(block)
    return scale * np.concatenate([low, high])


@mutant("decode_q4_1", rejected_with="added, not subtracted")
def subtracts_the_minimum(block):
    scale, minimum, low, high = _parts(block)
    return scale * np.concatenate([low, high]) - minimum


@mutant("decode_q4_1", rejected_with="Scale the level only")
def scales_the_minimum(block):
    scale, minimum, low, high = _parts(block)
    return scale * (np.concatenate([low, high]) + minimum)


@mutant("decode_q4_1", rejected_with="mask them off")
def does_not_mask(block):
    scale, minimum, low, high = _parts(block)
    return scale * np.concatenate([low + 16 * high, high]) + minimum


@mutant("decode_q4_1", rejected_with="shift them down")
def does_not_shift_down(block):
    scale, minimum, low, high = _parts(block)
    return scale * np.concatenate([low, 16 * high]) + minimum


@mutant("decode_q4_1", rejected_with="Those are the levels")
def returns_the_levels(block):
    _, _, low, high = _parts(block)
    return np.concatenate([low, high])


@mutant("decode_q4_1", rejected_with="do not divide by 15")
def divides_by_fifteen(block):
    scale, minimum, low, high = _parts(block)
    return scale * np.concatenate([low, high]) / 15 + minimum


def _bytes(L, d, H, G, batch, positions, bits, *, pair=2, length=None):
    """A size of which one part can be wrong."""
    return pair * L * G * (d // H if length is None else length) * batch * positions * bits / 8


@mutant("cache_bytes", rejected_with="Keys *and* values")
def keeps_keys_only(L, d, H, G, batch, positions, bits):
    return _bytes(L, d, H, G, batch, positions, bits, pair=1)


@mutant("cache_bytes", rejected_with="for each head of queries")
def shares_nothing(L, d, H, G, batch, positions, bits):
    return _bytes(L, d, H, H, batch, positions, bits)


@mutant("cache_bytes", rejected_with="A head's key has d / H")
def keeps_whole_vectors_per_head(L, d, H, G, batch, positions, bits):
    return _bytes(L, d, H, G, batch, positions, bits, length=d)


@mutant("cache_bytes", rejected_with="Queries are not kept")
def keeps_queries_too(L, d, H, G, batch, positions, bits):
    return _bytes(L, d, H, H + 2 * G, batch, positions, bits, pair=1)


@mutant("cache_bytes", rejected_with="look at the argument bits")
def takes_four_bytes(L, d, H, G, batch, positions, bits):
    return _bytes(L, d, H, G, batch, positions, 32)


@mutant("cache_bytes", rejected_with="Each of the L blocks")
def counts_one_block(L, d, H, G, batch, positions, bits):
    return _bytes(1, d, H, G, batch, positions, bits)


@mutant("cache_bytes", rejected_with="Each text of the batch")
def counts_one_text(L, d, H, G, batch, positions, bits):
    return _bytes(L, d, H, G, 1, positions, bits)


@mutant("cache_bytes", rejected_with="not with its square")
def thinks_of_attention(L, d, H, G, batch, positions, bits):
    return _bytes(L, d, H, G, batch, positions**2, bits)


@mutant("cache_bytes", rejected_with="That is in bits")
def counts_bits(L, d, H, G, batch, positions, bits):
    return _bytes(L, d, H, G, batch, positions, 8 * bits)


@mutant("cache_bytes", rejected_with="the number of numbers")
def counts_numbers(L, d, H, G, batch, positions, bits):
    return _bytes(L, d, H, G, batch, positions, 8)


@mutant("cache_bytes", rejected_with="bits // 8 is 0")
def divides_too_early(L, d, H, G, batch, positions, bits):
    return _bytes(L, d, H, G, batch, positions, 8 * (bits // 8))


def _text(messages, *, end="<|im_end|>\n", after_role="\n", answer="<|im_start|>assistant\n"):
    """A template of which one part can be wrong."""
    return "".join(f"<|im_start|>{role}{after_role}{content}{end}" for role, content in messages) + answer


def _full(messages, default):
    """The messages with a system message before them if there is none."""
    return messages if messages[0][0] == "system" else [("system", default), *messages]


@mutant("chat_text", rejected_with="beginning of the assistant's answer is missing")
def asks_nobody(messages, default):
    return _text(_full(messages, default), answer="")


@mutant("chat_text", rejected_with="You closed the assistant's message")
def closes_the_answer(messages, default):
    return _text([*_full(messages, default), ("assistant", "")], answer="")


@mutant("chat_text", rejected_with="after the last role")
def leaves_out_the_last_break(messages, default):
    return _text(_full(messages, default), answer="<|im_start|>assistant")


@mutant("chat_text", rejected_with="missing after <|im_end|>")
def joins_the_messages(messages, default):
    return _text(_full(messages, default), end="<|im_end|>")


@mutant("chat_text", rejected_with="not closed")
def does_not_close(messages, default):
    return _text(_full(messages, default), end="\n")


@mutant("chat_text", rejected_with="no line break between the content")
def breaks_before_the_end(messages, default):
    return _text(_full(messages, default), end="\n<|im_end|>\n")


@mutant("chat_text", rejected_with="Between the role and the content")
def writes_a_space(messages, default):
    return _text(_full(messages, default), after_role=" ")


@mutant("chat_text", rejected_with="not a colon")
def writes_a_colon(messages, default):
    return _text(_full(messages, default), after_role=": ")


@mutant("chat_text", rejected_with="You stripped the contents")
def strips(messages, default):
    return _text([(role, content.strip()) for role, content in _full(messages, default)])


@mutant("chat_text", rejected_with="No system message stands first")
def has_no_default(messages, default):
    return _text(messages)


@mutant("chat_text", rejected_with="only where there is none")
def always_adds_the_default(messages, default):
    return _text([("system", default), *messages])


@mutant("chat_text", rejected_with="You replaced the conversation's own")
def always_takes_the_default(messages, default):
    return _text([("system", default), *(m for m in messages if m[0] != "system")])


@mutant("chat_text", rejected_with="The last message is missing")
def forgets_the_last_message(messages, default):
    return _text(_full(messages, default)[:-1])


@mutant("chat_text", rejected_with="it does not come first")
def looks_for_a_system_message_anywhere(messages, default):
    known = any(role == "system" for role, _ in messages)
    return _text(messages if known else [("system", default), *messages])


def _law(C, y, new, floor, *, back=None, exp=np.exp):
    """A fit of which one part can be wrong."""
    slope, constant = np.polyfit(np.log(C), np.log(y - floor), 1)
    a = exp(constant)
    return a, -slope, (floor if back is None else back) + a * new**slope


@mutant("scaling_law", rejected_with="The floor is not looked at")
def knows_no_floor(N, D, losses, floor, C_new):
    return _law(6 * N * D, losses, C_new, 0.0)


@mutant("scaling_law", rejected_with="without having subtracted")
def adds_the_floor_only(N, D, losses, floor, C_new):
    return _law(6 * N * D, losses, C_new, 0.0, back=floor)


@mutant("scaling_law", rejected_with="missing in the prediction")
def forgets_to_add_the_floor(N, D, losses, floor, C_new):
    return _law(6 * N * D, losses, C_new, floor, back=0.0)


@mutant("scaling_law", rejected_with="its sign changed")
def returns_the_slope(N, D, losses, floor, C_new):
    a, alpha, predicted = _law(6 * N * D, losses, C_new, floor)
    return a, -alpha, predicted


@mutant("scaling_law", rejected_with="the logarithm of a")
def returns_the_constant(N, D, losses, floor, C_new):
    a, alpha, predicted = _law(6 * N * D, losses, C_new, floor)
    return np.log(a), alpha, predicted


@mutant("scaling_law", rejected_with="forward pass alone")
def counts_the_forward_pass(N, D, losses, floor, C_new):
    return _law(2 * N * D, losses, C_new, floor)


@mutant("scaling_law", rejected_with="The 6 in")
def forgets_the_six(N, D, losses, floor, C_new):
    return _law(N * D, losses, C_new, floor)


@mutant("scaling_law", rejected_with="the tokens are missing")
def forgets_the_tokens(N, D, losses, floor, C_new):
    return _law(6 * N, losses, C_new, floor)


@mutant("scaling_law", rejected_with="You fitted the loss against N")
def fits_against_the_size(N, D, losses, floor, C_new):
    return _law(N, losses, C_new, floor)


@mutant("scaling_law", rejected_with="raised 10")
def mixes_the_bases(N, D, losses, floor, C_new):
    return _law(6 * N * D, losses, C_new, floor, exp=lambda x: 10**x)


@mutant("scaling_law", rejected_with="without logarithms")
def fits_without_logarithms(N, D, losses, floor, C_new):
    slope, constant = np.polyfit(6 * N * D, losses - floor, 1)
    return constant, -slope, floor + constant + slope * C_new


@mutant("scaling_law", rejected_with="two of the runs")
def uses_two_runs(N, D, losses, floor, C_new):
    C = 6 * N * D
    ends = np.argsort(C)[[0, -1]]
    return _law(C[ends], losses[ends], C_new, floor)


@mutant("scaling_law", rejected_with="are exchanged")
def exchanges_the_constants(N, D, losses, floor, C_new):
    a, alpha, predicted = _law(6 * N * D, losses, C_new, floor)
    return alpha, a, predicted
