"""The merge loop of `bpe_training.learn`, written for numba: numbers and arrays instead of objects.

All pieces stand in one array, each position with links to its neighbours; a merge writes the new token at the first
position and unlinks the second. Of every pair the positions are kept in a linked list, in the order in which they came
to be: whoever finds a position changed passes over it. Unlike `learn` it knows tokens by a hash of their letters, since
it has no strings; the caller compares.
"""

import heapq

import numba
import numpy as np

_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that powers of it stay odd


@numba.njit(cache=True)
def _link(slots, head, tail, following, positions, used, total, pair, position, weight):
    """Add a position to the list of a pair; return the number of list entries used."""
    slot = slots.get(pair, -1)
    if slot < 0:
        slot = len(head)
        slots[pair] = slot
        head.append(used)
        tail.append(used)
        total.append(0)
    elif head[slot] < 0:
        head[slot] = used
        tail[slot] = used
    else:
        following[tail[slot]] = used
        tail[slot] = used
    positions[used] = position
    following[used] = -1
    total[slot] += weight
    return used + 1


@numba.njit(cache=True)
def _merge_everywhere(
    a, b, new, entry, symbols, weights, after, before, slots, head, tail, following, positions, used, total
):
    """Merge a b at all its positions, from the left; return the pairs that form, and the number of entries used."""
    shift = np.int64(32)
    formed = numba.typed.Dict.empty(numba.int64, numba.int64)
    while entry >= 0:
        here = positions[entry]
        entry = following[entry]
        second = after[here]
        if symbols[here] != a or second < 0 or symbols[second] != b:
            continue  # one of the two was merged with another neighbour
        weight, left, right = weights[here], before[here], after[second]
        symbols[here], symbols[second] = new, -1
        after[here] = right
        if left >= 0:
            total[slots[(symbols[left] << shift) | a]] -= weight
            fresh = (symbols[left] << shift) | new
            used = _link(slots, head, tail, following, positions, used, total, fresh, left, weight)
            formed[fresh] = 1
        if right >= 0:
            before[right] = here
            total[slots[(b << shift) | symbols[right]]] -= weight
            fresh = (new << shift) | symbols[right]
            used = _link(slots, head, tail, following, positions, used, total, fresh, here, weight)
            formed[fresh] = 1
    return formed, used


@numba.njit(cache=True)
def _neighbours(size, last_of_word):
    """Positions after and before each one within its piece, −1 where there is none."""
    after, before = np.arange(1, size + 1), np.arange(-1, size - 1)
    for position in last_of_word:
        after[position] = -1
        if position + 1 < size:
            before[position + 1] = -1
    return after, before


@numba.njit(cache=True)
def _hashes(n_tokens, merges):
    """Hash of each token's letters: its number plus one for a byte, hash(a) · power(b) + hash(b) for a b."""
    ids = numba.typed.Dict.empty(numba.uint64, numba.int64)
    hashes, powers = np.empty(n_tokens + merges, np.uint64), np.empty(n_tokens + merges, np.uint64)
    for token in range(n_tokens):
        hashes[token], powers[token] = np.uint64(token + 1), _BASE
        ids[hashes[token]] = token
    return ids, hashes, powers


@numba.njit(cache=True)
def merge_loop(symbols, weights, last_of_word, n_tokens, merges):
    """Learn merges.

    Args:
        symbols: (S,) token ids of all pieces, one after the other; overwritten.   weights: (S,) count of the piece.
        last_of_word: positions where pieces end.   n_tokens: ids in use so far.   merges: how many to learn.
    Returns:
        (n, 3) left id, right id, new id of each merge.
    """
    size, shift = len(symbols), np.int64(32)
    after, before = _neighbours(size, last_of_word)
    slots = numba.typed.Dict.empty(numba.int64, numba.int64)  # a pair, as one number → its place in these lists:
    head, tail, total = [0 for _ in range(0)], [0 for _ in range(0)], [0 for _ in range(0)]
    following, positions, used = np.empty(3 * size, np.int64), np.empty(3 * size, np.int64), 0
    for place in range(size):
        if after[place] >= 0:
            pair = (symbols[place] << shift) | symbols[after[place]]
            used = _link(slots, head, tail, following, positions, used, total, pair, place, weights[place])
    heap = [(-total[slot], pair) for pair, slot in slots.items()]
    heapq.heapify(heap)
    ids, hashes, powers = _hashes(n_tokens, merges)
    learnt, found = np.empty((merges, 3), np.int64), 0
    while len(heap) > 0 and found < merges:
        negative, pair = heapq.heappop(heap)
        slot = slots[pair]
        if -negative != total[slot]:  # other merges have changed it since it was pushed
            if total[slot] > 0:
                heapq.heappush(heap, (-total[slot], pair))
            continue
        a, b = pair >> shift, pair & np.int64(0xFFFFFFFF)
        value = hashes[a] * powers[b] + hashes[b]
        if value not in ids:
            ids[value] = n_tokens
            hashes[n_tokens], powers[n_tokens] = value, powers[a] * powers[b]
            n_tokens += 1
        learnt[found, 0], learnt[found, 1], learnt[found, 2] = a, b, ids[value]
        found += 1
        entry, head[slot] = head[slot], -1
        formed, used = _merge_everywhere(
            a, b, ids[value], entry, symbols, weights, after, before,
            slots, head, tail, following, positions, used, total,
        )  # fmt: skip
        for fresh in formed:
            if total[slots[fresh]] > 0:
                heapq.heappush(heap, (-total[slots[fresh]], fresh))
    return learnt[:found]
