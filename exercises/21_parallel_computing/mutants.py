"""Plausible wrong answers, and what must be said to each."""

import numpy as np
import torch

from lmcore.checking import mutant


def _seconds(algorithm, p, size, alpha, beta, *, steps=None, parts=None):
    """The right formula with one part exchanged."""
    right = {"naive": p - 1, "tree": int(np.ceil(np.log2(p))), "ring": p - 1} | (steps or {})
    divide = {"naive": 1, "tree": 1, "ring": p} | (parts or {})
    return 2 * right[algorithm] * (alpha + beta * size / divide[algorithm])


@mutant("all_reduce_seconds", rejected_with="β is per byte")
def counts_elements(algorithm, p, n, itemsize, alpha, beta):
    return _seconds(algorithm, p, n, alpha, beta)


@mutant("all_reduce_seconds", rejected_with="round the logarithm up, not down")
def rounds_down(algorithm, p, n, itemsize, alpha, beta):
    return _seconds(algorithm, p, n * itemsize, alpha, beta, steps={"tree": int(np.log2(p))})


@mutant("all_reduce_seconds", rejected_with="no fractions of a step")
def does_not_round(algorithm, p, n, itemsize, alpha, beta):
    return _seconds(algorithm, p, n * itemsize, alpha, beta, steps={"tree": np.log2(p)})


@mutant("all_reduce_seconds", rejected_with="carries one chunk")
def sends_everything_round_the_ring(algorithm, p, n, itemsize, alpha, beta):
    return _seconds(algorithm, p, n * itemsize, alpha, beta, parts={"ring": 1})


@mutant("all_reduce_seconds", rejected_with="need not come back")
def goes_all_the_way_round(algorithm, p, n, itemsize, alpha, beta):
    return _seconds(algorithm, p, n * itemsize, alpha, beta, steps={"ring": p})


@mutant("all_reduce_seconds", rejected_with="every message pays α in full")
def divides_the_latency(algorithm, p, n, itemsize, alpha, beta):
    seconds = _seconds(algorithm, p, n * itemsize, alpha, beta, parts={"ring": 1})
    return seconds / p if algorithm == "ring" else seconds


@mutant("all_reduce_seconds", rejected_with="way there only")
def forgets_the_way_back(algorithm, p, n, itemsize, alpha, beta):
    return _seconds(algorithm, p, n * itemsize, alpha, beta) / 2


def _neighbours(channel):
    """The right and the left one."""
    return (channel.rank + 1) % channel.world_size, (channel.rank - 1) % channel.world_size


@mutant("pass_right", rejected_with="All ranks send first")
def all_send_first(channel, x):
    right, left = _neighbours(channel)
    channel.send(x, to=right)
    return channel.recv(torch.empty_like(x), source=left)


@mutant("pass_right", rejected_with="wait to receive, and nobody sends")
def all_receive_first(channel, x):
    right, left = _neighbours(channel)
    received = channel.recv(torch.empty_like(x), source=left)
    channel.send(x, to=right)
    return received


@mutant("pass_right", rejected_with="travel one after the other")
def one_long_chain(channel, x):
    right, left = _neighbours(channel)
    if channel.rank == 0:
        channel.send(x, to=right)
        return channel.recv(torch.empty_like(x), source=left)
    received = channel.recv(torch.empty_like(x), source=left)
    channel.send(x, to=right)
    return received


@mutant("pass_right", rejected_with="right neighbour's tensor")
def passes_to_the_left(channel, x):
    right, left = _neighbours(channel)
    if channel.rank % 2:
        channel.send(x, to=left)
        return channel.recv(torch.empty_like(x), source=right)
    received = channel.recv(torch.empty_like(x), source=right)
    channel.send(x, to=left)
    return received


@mutant("pass_right", rejected_with="returns its own tensor")
def returns_its_own(channel, x):
    right, left = _neighbours(channel)
    if channel.rank % 2:
        channel.recv(torch.empty_like(x), source=left)
        channel.send(x, to=right)
    else:
        channel.send(x, to=right)
        channel.recv(torch.empty_like(x), source=left)
    return x


@mutant("pass_right", rejected_with="only send and recv, not exchange")
def uses_what_is_not_there(channel, x):
    right, left = _neighbours(channel)
    return channel.exchange(x, right, torch.empty_like(x), left)


def _follow(programs, *, buffered=False):
    """The ranks that never finish; with sends that do not wait, if buffered."""
    at, sent, moved = [0] * len(programs), {}, True
    while moved:
        moved = False
        for r, program in enumerate(programs):
            if at[r] == len(program):
                continue
            what, other = program[at[r]]
            if what == "send" and buffered:
                sent[r, other] = sent.get((r, other), 0) + 1
                at[r], moved = at[r] + 1, True
            elif what == "recv" and buffered and sent.get((other, r), 0):
                sent[other, r] -= 1
                at[r], moved = at[r] + 1, True
            elif what == "send" and at[other] < len(programs[other]) and programs[other][at[other]] == ("recv", r):
                at[r], at[other], moved = at[r] + 1, at[other] + 1, True
    return {r for r, program in enumerate(programs) if at[r] < len(program)}


@mutant("stuck_ranks", rejected_with="Your sends do not wait")
def lets_sends_go_on(programs):
    return _follow(programs, buffered=True)


@mutant("stuck_ranks", rejected_with="not all or none are stuck")
def all_or_none(programs):
    return set(range(len(programs))) if _follow(programs) else set()


@mutant("stuck_ranks", rejected_with="need not be at the same place")
def compares_place_by_place(programs):
    opposite = {"send": "recv", "recv": "send"}
    stuck = set()
    for r, program in enumerate(programs):
        for i, (what, other) in enumerate(program):
            if i >= len(programs[other]) or programs[other][i] != (opposite[what], r):
                stuck.add(r)
    return stuck


@mutant("stuck_ranks", rejected_with="Those are the ranks that finish")
def returns_those_that_finish(programs):
    return set(range(len(programs))) - _follow(programs)


@mutant("stuck_ranks", rejected_with="waits for one that has finished")
def counts_only_circles(programs):
    stuck = _follow(programs)
    finished = set(range(len(programs))) - stuck
    return {r for r in stuck if not any(peer in finished for _, peer in programs[r])}


@mutant("stuck_ranks", rejected_with="Your sends do not wait")
def only_counts_messages(programs):
    count = {}
    for r, program in enumerate(programs):
        for what, other in program:
            key = (r, other) if what == "send" else (other, r)
            count[key] = count.get(key, 0) + (1 if what == "send" else -1)
    return {r for pair, left in count.items() if left for r in pair}


@mutant("tree_scatter", rejected_with="Rank 0 must not serve everybody itself")
def serves_everybody(channel, chunks, like):
    if channel.rank:
        return channel.recv(torch.empty_like(like), source=0)
    for rank in range(1, channel.world_size):
        channel.send(chunks[rank], to=rank)
    return chunks[0]


@mutant("tree_scatter", rejected_with="keeps or passes on")
def broadcasts_everything(channel, chunks, like):
    p, have = channel.world_size, 1
    everything = torch.cat(chunks) if chunks else like.new_empty(p * len(like))
    while have < p:
        if channel.rank < have:
            channel.send(everything, to=channel.rank + have)
        elif channel.rank < 2 * have:
            channel.recv(everything, source=channel.rank - have)
        have *= 2
    return everything.chunk(p)[channel.rank]


def _halves(channel, chunks, like, *, give_lower=False, one_by_one=False, stop=1):
    """The right way with one mistake."""
    half, mine = channel.world_size // 2, torch.cat(chunks) if chunks else None
    while half >= stop:
        cut = half * len(like)
        if channel.rank % (2 * half) == 0:
            give, mine = (mine[:cut], mine[cut:]) if give_lower else (mine[cut:], mine[:cut])
            for part in give.split(len(like)) if one_by_one else [give]:
                channel.send(part, to=channel.rank + half)
        elif channel.rank % (2 * half) == half:
            mine = like.new_empty(cut)
            for part in mine.split(len(like)) if one_by_one else [mine]:
                channel.recv(part, source=channel.rank - half)
        half //= 2
    return mine if mine is not None else like


@mutant("tree_scatter", rejected_with="The *upper* half of a list")
def gives_the_lower_half(channel, chunks, like):
    return _halves(channel, chunks, like, give_lower=True)


@mutant("tree_scatter", rejected_with="half a list is one message")
def sends_chunk_by_chunk(channel, chunks, like):
    return _halves(channel, chunks, like, one_by_one=True)


@mutant("tree_scatter", rejected_with="go on halving until one chunk")
def returns_all_that_came(channel, chunks, like):
    mine = _halves(channel, chunks, like)
    return torch.cat([mine, mine])


def _halving(channel, x, *, first=None, swap=False, add=True, in_turn=False):
    """The right way with one mistake."""
    p = channel.world_size
    distances = [2**i for i in range(p.bit_length() - 1)]
    for distance in distances if first == "near" else distances[::-1]:
        lower, upper = x.chunk(2)
        keep, give = (upper, lower) if bool(channel.rank & distance) != swap else (lower, upper)
        partner = channel.rank ^ distance
        if in_turn and channel.rank < partner:
            channel.send(give, to=partner)
            received = channel.recv(torch.empty_like(keep), source=partner)
        elif in_turn:
            received = channel.recv(torch.empty_like(keep), source=partner)
            channel.send(give, to=partner)
        else:
            received = channel.exchange(give, partner, torch.empty_like(keep), partner)
        x = keep + received if add else received
    return x


@mutant("tree_scatter", rejected_with="Send the largest part first")
def sends_the_smallest_part_first(channel, chunks, like):
    p, r, n = channel.world_size, channel.rank, len(like)
    span = p if r == 0 else r & -r  # this rank is responsible for the chunks r … r + span − 1
    mine = torch.cat(chunks) if r == 0 else channel.recv(like.new_empty(span * n), source=r - span)
    step = 1
    while step < span:
        channel.send(mine[step * n : 2 * step * n], to=r + step)
        step *= 2
    return mine[:n]


@mutant("halving_reduce_scatter", rejected_with="bits of the rank are reversed")
def begins_with_the_nearest(channel, x):
    return _halving(channel, x, first="near")


@mutant("halving_reduce_scatter", rejected_with="the lower ranks keep the lower half")
def keeps_the_other_half(channel, x):
    return _halving(channel, x, swap=True)


@mutant("halving_reduce_scatter", rejected_with="add what comes in")
def overwrites(channel, x):
    return _halving(channel, x, add=False)


@mutant("halving_reduce_scatter", rejected_with="return its chunk only")
def returns_the_whole_sum(channel, x):
    distance = 1
    while distance < channel.world_size:
        partner = channel.rank ^ distance
        x = x + channel.exchange(x, partner, torch.empty_like(x), partner)
        distance *= 2
    return x


@mutant("halving_reduce_scatter", rejected_with="Send only the half")
def sends_everything(channel, x):
    return returns_the_whole_sum(channel, x).chunk(channel.world_size)[channel.rank]


@mutant("halving_reduce_scatter", rejected_with="exchange both halves at the same time")
def sends_and_receives_in_turn(channel, x):
    return _halving(channel, x, in_turn=True)


@mutant("halving_reduce_scatter", rejected_with="return their sum")
def averages(channel, x):
    return _halving(channel, x) / channel.world_size


@mutant("halving_reduce_scatter", rejected_with="the limit is log₂ p")
def goes_round_the_ring(channel, x):
    p, r = channel.world_size, channel.rank
    chunks = x.chunk(p)
    partial = chunks[(r - 1) % p].clone()
    for step in range(1, p):
        own = chunks[(r - 1 - step) % p]
        partial = own + channel.exchange(partial, (r + 1) % p, torch.empty_like(own), (r - 1) % p)
    return partial


def _chain(channel, x, m, *, overlap=True):
    """A pipelined broadcast in m pieces."""
    p, r = channel.world_size, channel.rank
    pieces = [piece.clone() for piece in x.reshape(-1).tensor_split(max(m, 1))]
    for piece in pieces:
        if r > 0:
            channel.recv(piece, source=r - 1)
        if r < p - 1 and overlap:
            channel.isend(piece, to=r + 1)
        elif r < p - 1:
            channel.send(piece, to=r + 1)
    return torch.cat(pieces).reshape(x.shape)


def _best(channel, x, alpha, beta):
    """The best number of pieces."""
    return round(float(np.sqrt((channel.world_size - 2) * beta * 4 * x.numel() / alpha)))


@mutant("chain_broadcast", rejected_with="in one piece")
def sends_one_piece(channel, x, alpha, beta):
    return _chain(channel, x, 1)


@mutant("chain_broadcast", rejected_with="pieces are too few")
def sends_as_many_pieces_as_ranks(channel, x, alpha, beta):
    return _chain(channel, x, channel.world_size)


@mutant("chain_broadcast", rejected_with="pieces are too many")
def sends_tiny_pieces(channel, x, alpha, beta):
    return _chain(channel, x, 500)


@mutant("chain_broadcast", rejected_with="pieces are too many")
def always_sends_forty_pieces(channel, x, alpha, beta):
    return _chain(channel, x, 40)


@mutant("chain_broadcast", rejected_with="pieces are too few")
def counts_elements_in_place_of_bytes(channel, x, alpha, beta):
    return _chain(channel, x, _best(channel, x, alpha, beta / 4))


@mutant("chain_broadcast", rejected_with="pieces are too many")
def forgets_the_latency(channel, x, alpha, beta):
    return _chain(channel, x, _best(channel, x, 1, beta))


@mutant("chain_broadcast", rejected_with="pieces are too few")
def forgets_the_length_of_the_chain(channel, x, alpha, beta):
    return _chain(channel, x, round(float(np.sqrt(beta * 4 * x.numel() / alpha))))


@mutant("chain_broadcast", rejected_with="put the pieces together")
def forgets_the_shape(channel, x, alpha, beta):
    return _chain(channel, x, _best(channel, x, alpha, beta)).reshape(-1)


@mutant("chain_broadcast", rejected_with="with exchange or isend")
def receives_and_sends_in_turn(channel, x, alpha, beta):
    return _chain(channel, x, _best(channel, x, alpha, beta), overlap=False)


@mutant("chain_broadcast", rejected_with="only neighbours are connected")
def sends_to_all_itself(channel, x, alpha, beta):
    if channel.rank:
        return channel.recv(x, source=0)
    for rank in range(1, channel.world_size):
        channel.send(x, to=rank)
    return x


@mutant("chain_broadcast", rejected_with="does not have rank 0's tensor")
def forgets_the_last_piece(channel, x, alpha, beta):
    m, flat = _best(channel, x, alpha, beta), x.reshape(-1)
    cut = len(flat) - len(flat) // m
    return torch.cat([_chain(channel, flat[:cut], m), torch.zeros(len(flat) - cut)]).reshape(x.shape)


def _feed(channel, batches, count, like, load, work, *, window=2, late=False, echo=False, drain=True, to=None, **wrong):
    """The right way with one mistake."""
    workers, done = channel.world_size - 1, []
    to = to or (lambda i: 1 + i % workers)
    note = like.clone() if echo else torch.zeros(1, dtype=torch.uint8)
    if channel.rank == 0:
        for i in range(count + window * workers if window else count):
            if window and i >= window * workers and (drain or i < count):
                channel.recv(note, source=to(i - window * workers))
            if i < count:
                channel.compute(load)
                channel.isend(batches[i], to=to(i))
        return done
    place = torch.empty_like(like)
    for _ in [i for i in range(count) if to(i) == channel.rank]:
        batch = channel.recv(place if wrong.get("one_place") else torch.empty_like(like), source=0)
        if window and not late:
            channel.isend(note, to=0)
        if not wrong.get("idle"):
            channel.compute(work)
        if window and late:
            channel.isend(note, to=0)
        done.append(batch)
    return done


@mutant("feed", rejected_with="rank 0 must hear that")
def never_waits(channel, batches, count, like, load, work):
    return _feed(channel, batches, count, like, load, work, window=0)


@mutant("feed", rejected_with="unread batches lie in a worker's inbox")
def has_too_large_a_window(channel, batches, count, like, load, work):
    return _feed(channel, batches, count, like, load, work, window=4)


@mutant("feed", rejected_with="Somebody waits")
def has_too_small_a_window(channel, batches, count, like, load, work):
    return _feed(channel, batches, count, like, load, work, window=1)


@mutant("feed", rejected_with="Somebody waits")
def says_so_after_the_work(channel, batches, count, like, load, work):
    return _feed(channel, batches, count, like, load, work, window=1, late=True)


@mutant("feed", rejected_with="bytes besides the batches")
def sends_the_batch_back(channel, batches, count, like, load, work):
    return _feed(channel, batches, count, like, load, work, echo=True)


@mutant("feed", rejected_with="must be received by somebody")
def leaves_notes_unread(channel, batches, count, like, load, work):
    return _feed(channel, batches, count, like, load, work, drain=False)


@mutant("feed", rejected_with="should work on batches")
def has_one_worker_only(channel, batches, count, like, load, work):
    return _feed(channel, batches, count, like, load, work, window=0, to=lambda i: 1)


@mutant("feed", rejected_with="receive each into a tensor of its own")
def receives_into_one_place(channel, batches, count, like, load, work):
    return _feed(channel, batches, count, like, load, work, one_place=True)


@mutant("feed", rejected_with="`work` once for each")
def forgets_to_work(channel, batches, count, like, load, work):
    return _feed(channel, batches, count, like, load, work, idle=True)
