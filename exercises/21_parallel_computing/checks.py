"""Checks of the exercises on parallel computing, most of them on a simulated cluster with limits."""

from functools import partial
from math import ceil, log2
from numbers import Real

import numpy as np
import torch

from lmcore.checking import CheckFailed, Tasks, require, same
from lmcore.parallel.simulate import Deadlock, simulate

tasks = Tasks()
check = tasks.check
_same = partial(same, rtol=1e-5, atol=1e-6)


def _simulated(student, p, arguments, **network):
    """Run the student's function on a simulated cluster; what can go wrong there is said in a student's words."""
    try:
        return simulate(lambda channel: student(channel, *arguments(channel.rank)), p, **network)
    except Deadlock as error:
        stuck = str(error)
    except RuntimeError as error:
        require("never received" not in str(error), f"{error}: whatever is sent must be received by somebody.")
        raise
    hint = "Some wait to send and others to receive, but not each other's message."
    if "to receive" not in stuck:
        hint = "All ranks send first, and nobody receives."
    elif "until its" not in stuck:
        hint = "All that are left wait to receive, and nobody sends."
    raise CheckFailed(f"A deadlock with {p} ranks. {hint} Precisely: {stuck}.")


def _size(got):
    """How many numbers an answer holds."""
    return np.asarray(got).size


def _tensors(rng, p, n):
    """A tensor of different whole numbers for each rank."""
    return [torch.from_numpy(rng.choice(1000, size=n, replace=n > 1000)).float() + 1000 * r for r in range(p)]


@tasks.add(points=1, minutes=10)
def all_reduce_seconds(student, rng):
    """The time of an all-reduce, predicted."""
    p, itemsize = int(rng.choice([5, 6, 7, 11])), int(rng.choice([2, 4]))
    n = p * int(rng.integers(50, 500))
    alpha, beta = rng.uniform(1, 5), rng.uniform(1e-3, 1e-2)
    size, up, down = n * itemsize, ceil(log2(p)), int(log2(p))
    right = {
        "naive": 2 * (p - 1) * (alpha + beta * size),
        "tree": 2 * up * (alpha + beta * size),
        "ring": 2 * (p - 1) * (alpha + beta * size / p),
    }
    wrong = {
        "naive": [
            ((alpha + beta * size) * (p - 1), "That is the way there only: the sum must also be sent to everybody."),
            (2 * (p - 1) * alpha + beta * size, "Every message carries the whole tensor, not all of them together."),
        ],
        "tree": [
            (2 * down * (alpha + beta * size), f"{p} ranks need {up} steps: round the logarithm up, not down."),
            (2 * log2(p) * (alpha + beta * size), "There are no fractions of a step: round the logarithm up."),
            (2 * np.log(p) * (alpha + beta * size), "The number of ranks that have the data doubles: log₂, not ln."),
            (up * (alpha + beta * size), "That is one way: an all-reduce is a reduction and a broadcast."),
            (2 * up * (alpha + beta * size / p), "In the tree every message carries the whole tensor."),
        ],
        "ring": [
            (2 * (p - 1) * (alpha + beta * size), "On the ring a message carries one chunk, the p-th part."),
            (2 * (p - 1) * (alpha + beta * size) / p, "The latency is not divided: every message pays α in full."),
            (2 * p * (alpha + beta * size / p), "A chunk passes p − 1 links, not p: it need not come back."),
            ((p - 1) * (alpha + beta * size / p), "That is the reduce-scatter only: the all-gather takes as long."),
        ],
    }
    for algorithm, expected in right.items():
        got = student(algorithm, p, n, itemsize, alpha, beta)
        require(isinstance(got, Real | np.ndarray | torch.Tensor), f"Return one number, got {type(got).__name__}.")
        got = float(got)
        in_elements = expected - (expected - _latency(algorithm, p, alpha)) * (1 - 1 / itemsize)
        for value, message in [*wrong[algorithm], (in_elements, "β is per byte: multiply n by itemsize.")]:
            require(not np.isclose(got, value, rtol=1e-9), f"{algorithm}: {message}")
        require(np.isclose(got, expected), f"{algorithm}: expected {expected:.4f} s for p = {p}, got {got:.4f}.")


def _latency(algorithm, p, alpha):
    """The part of the time that is latency."""
    return 2 * alpha * (ceil(log2(p)) if algorithm == "tree" else p - 1)


class _SendAndReceive:
    """A channel without exchange and isend."""

    def __init__(self, channel):
        self.rank, self.world_size = channel.rank, channel.world_size
        self.send, self.recv = channel.send, channel.recv

    def __getattr__(self, name):
        raise AttributeError(f"the channel of this task has only send and recv, not {name}")


@tasks.add(points=2, minutes=15)
def pass_right(student, rng):
    """Everybody passes to the right without deadlock."""
    for p in (2, 3, 4, 5, 6, 7, 8):
        x = _tensors(rng, p, 3)
        done = _simulated(lambda channel, x: student(_SendAndReceive(channel), x), p, lambda r, x=x: [x[r]], alpha=1.0)
        for r, got in enumerate(done.values):
            require(not _same(got, x[r]), f"Rank {r} of {p} returns its own tensor; return the left neighbour's.")
            right = x[(r + 1) % p]
            require(
                p == 2 or not _same(got, right), f"Rank {r} of {p} has its right neighbour's tensor: pass to r + 1."
            )
            require(_same(got, x[r - 1]), f"Rank {r} of {p} should have {x[r - 1].tolist()}, got {got}.")
        require(
            sum(done.messages) == p, f"{sum(done.messages)} messages for {p} ranks: each rank needs to send only one."
        )
        limit = 2 + p % 2
        require(
            done.seconds <= limit,
            f"No deadlock, but {p} ranks take the time of {done.seconds:.0f} messages and may take {limit}. Your "
            "messages travel one after the other: let every second rank send first.",
        )


def _stuck(programs):
    """The ranks that never finish."""
    at, moved = [0] * len(programs), True
    while moved:
        moved = False
        for r, program in enumerate(programs):
            for other in range(len(programs)):
                here = program[at[r]] if at[r] < len(program) else None
                there = programs[other][at[other]] if at[other] < len(programs[other]) else None
                if here == ("send", other) and there == ("recv", r):
                    at[r], at[other], moved = at[r] + 1, at[other] + 1, True
    return {r for r, program in enumerate(programs) if at[r] < len(program)}


def _renamed(programs, order):
    """The same programs with other numbers for the ranks."""
    renamed = [None] * len(programs)
    for r, program in enumerate(programs):
        renamed[order[r]] = [(what, int(order[peer])) for what, peer in program]
    return renamed


def _random_programs(rng, p):
    """Programs of messages that fit together, then with a few operations exchanged."""
    programs = [[] for _ in range(p)]
    for _ in range(int(rng.integers(4, 12))):
        a, b = rng.choice(p, size=2, replace=False).tolist()
        programs[a].append(("send", b))
        programs[b].append(("recv", a))
    for _ in range(int(rng.integers(0, 3))):
        program = programs[rng.integers(p)]
        if len(program) > 1:
            i = int(rng.integers(len(program) - 1))
            program[i], program[i + 1] = program[i + 1], program[i]
    return programs


@tasks.add(points=3, minutes=20)
def stuck_ranks(student, rng):
    """The ranks that wait for ever."""
    send, recv = "send", "recv"
    cases = [
        ([[(send, 1)], [(recv, 0)], []], "All of these finish: a send and its receive meet."),
        (
            [[(send, 1), (recv, 1)], [(send, 0), (recv, 0)]],
            "Both send first, and a send ends only when it is received: nobody receives. Your sends do not wait.",
        ),
        (
            [[(send, 1), (send, 2)], [(send, 2), (recv, 0)], [(recv, 1), (recv, 0)]],
            "These all finish: the partners of a message need not be at the same place of their lists.",
        ),
        (
            [[(recv, 1)], [(recv, 0)], [(send, 3)], [(recv, 2)]],
            "Two ranks wait for each other while two others finish: not all or none are stuck.",
        ),
        ([[(send, 1)], [(recv, 0), (recv, 0)]], "A rank that waits for one that has finished waits for ever, too."),
        (
            [[(recv, 1)], [(recv, 0)], [(send, 0)], [(recv, 2)]],
            "Who waits for a rank that is stuck is stuck as well, and so on.",
        ),
        (
            [[(send, 1), (send, 2)], [(recv, 0), (send, 2)], [(recv, 1), (recv, 0)], [(send, 0)]],
            "Only the rank whose message nobody wants is stuck.",
        ),
    ]
    cases += [(_random_programs(rng, int(rng.integers(3, 6))), "Follow the programs by hand.") for _ in range(25)]
    for programs, message in cases:
        programs = _renamed(programs, rng.permutation(len(programs)))
        expected, got = _stuck(programs), student([list(program) for program in programs])
        try:
            got = {int(rank) for rank in got}
        except (TypeError, ValueError):
            raise CheckFailed(f"Return a set of ranks, got {type(got).__name__} {got}.") from None
        require(
            not got or got == expected or got != set(range(len(programs))) - expected,
            f"Those are the ranks that finish; return the others. {programs} leaves {sorted(expected) or 'none'}.",
        )
        require(
            got == expected, f"{message} In {programs} {sorted(expected) or 'no ranks'} are stuck, got {sorted(got)}."
        )


@tasks.add(points=3, minutes=20)
def tree_scatter(student, rng):
    """A scatter in log₂ p steps."""
    for p in (2, 4, 8):
        length = int(rng.integers(3, 9))
        chunks = _tensors(rng, p, length)
        like, steps, alpha = torch.zeros(length), int(log2(p)), 100.0
        done = _simulated(student, p, lambda r, c=chunks, z=like: [c if r == 0 else None, z], alpha=alpha, beta=1.0)
        for r, got in enumerate(done.values):
            elsewhere = [i for i in range(p) if _same(got, chunks[i]) and i != r]
            require(
                not elsewhere,
                f"Rank {r} of {p} has chunk {elsewhere and elsewhere[0]}. The *upper* half of a list goes to the rank "
                "that is half a list away.",
            )
            require(
                _size(got) == length,
                f"Rank {r} of {p} returns {_size(got)} numbers: go on halving until one chunk of {length} is left.",
            )
            require(_same(got, chunks[r]), f"Rank {r} of {p} should have {chunks[r].tolist()}, got {got}.")
        most = 4 * length * p // 2 * steps
        require(
            sum(done.bytes) <= most,
            f"{sum(done.bytes)} bytes in all for {p} ranks, and {most} are enough: send only what the receiver keeps "
            "or passes on.",
        )
        require(
            max(done.messages) <= steps,
            f"A rank sends {max(done.messages)} messages with {p} ranks; the limit is log₂ p = {steps}. Rank 0 must "
            "not serve everybody itself, and half a list is one message.",
        )
        limit = steps * alpha + 4 * length * (p - 1)
        require(
            done.seconds <= limit * (1 + 1e-9),
            f"{p} ranks take {done.seconds:.0f} s and may take {limit:.0f}. Send the largest part first: whoever gets "
            "it has most to pass on.",
        )


@tasks.add(points=3, minutes=25)
def halving_reduce_scatter(student, rng):
    """A reduce-scatter in log₂ p steps."""
    for p in (2, 4, 8):
        n = p * int(rng.integers(2, 6))
        x = _tensors(rng, p, n)
        total, steps = torch.stack(x).sum(dim=0), int(log2(p))
        chunks = total.chunk(p)
        done = _simulated(student, p, lambda r, x=x: [x[r]], alpha=1.0)
        for r, got in enumerate(done.values):
            reverse = int(f"{r:0{steps}b}"[::-1], 2)
            require(not _same(got, total), f"Rank {r} of {p} returns the whole sum; return its chunk only.")
            require(
                reverse == r or not _same(got, chunks[reverse]),
                f"Rank {r} of {p} has chunk {reverse}: the bits of the rank are reversed. Begin with the partner "
                "farthest away.",
            )
            for other, chunk in enumerate(chunks):
                require(
                    other == r or not _same(got, chunk),
                    f"Rank {r} of {p} has chunk {other}: the lower ranks keep the lower half.",
                )
            require(not _same(got, chunks[r] / p), f"Rank {r} of {p} returns the mean of the ranks; return their sum.")
            require(
                not any(_same(got, other.chunk(p)[r]) for other in x),
                f"Rank {r} of {p} returns numbers of a single rank: add what comes in to what you keep.",
            )
            require(_same(got, chunks[r]), f"Rank {r} of {p} should have {chunks[r].tolist()}, got {got}.")
        for r in range(p):
            require(
                done.messages[r] <= steps,
                f"Rank {r} of {p} sends {done.messages[r]} messages; the limit is log₂ p = {steps}.",
            )
            require(
                done.bytes[r] <= 4 * n * (p - 1) // p,
                f"Rank {r} of {p} sends {done.bytes[r]} bytes; the limit is {4 * n * (p - 1) // p}. Send only the half "
                "that you do not keep.",
            )
        require(
            done.seconds <= steps * (1 + 1e-9),
            f"{p} ranks take the time of {done.seconds:.0f} messages and may take {steps}: exchange both halves at the "
            "same time.",
        )


@tasks.add(points=3, minutes=30)
def chain_broadcast(student, rng):
    """A pipelined broadcast with the right number of pieces, on two networks."""
    _chain(student, rng, int(rng.integers(17, 22)), (int(rng.integers(3000, 5000)),), rng.uniform(15, 25))
    _chain(student, rng, int(rng.integers(7, 10)), (int(rng.integers(40, 60)), 83), rng.uniform(1500, 2500))


def _chain(student, rng, p, shape, ratio):
    """A chain of p ranks on which the bytes of the tensor take ``ratio`` times as long as a latency."""
    size, alpha = 4 * int(np.prod(shape)), rng.uniform(4.0, 9.0)
    beta = alpha * ratio / size
    x = torch.from_numpy(rng.normal(size=shape)).float()
    best_m = min(range(1, 300), key=lambda m: (p - 2 + m) * (alpha + beta * size / m))
    best = (p - 2 + best_m) * (alpha + beta * size / best_m)
    done = _simulated(student, p, lambda r: [x if r == 0 else torch.zeros(shape), alpha, beta], alpha=alpha, beta=beta)
    for r, got in enumerate(done.values):
        require(
            np.shape(got) == shape,
            f"Rank {r} returns a tensor of shape {np.shape(got)}, not {shape}; put the pieces together.",
        )
        require(_same(got, x), f"Rank {r} does not have rank 0's tensor.")
    for event in done.events:
        require(
            event.kind != "send" or event.peer == event.rank + 1,
            f"Rank {event.rank} sends to {event.peer}, but only neighbours are connected: send to the next rank.",
        )
    require(
        sum(done.bytes) <= (p - 1) * size,
        f"{sum(done.bytes)} bytes in all, and {(p - 1) * size} are enough: every piece travels over a link once.",
    )
    m = done.messages[0]
    pipelined = (p - 2 + m) * (alpha + beta * size / m)
    require(
        m > 1,
        "You sent the tensor in one piece: rank 2 waits until rank 1 has all of it, and so on. Cut it.",
    )
    require(
        done.seconds <= 1.15 * pipelined,
        f"{m} pieces should take {pipelined:.0f} s and take {done.seconds:.0f}: a rank must receive the next piece "
        "*while* it sends this one, with exchange or isend.",
    )
    require(
        done.seconds <= 1.05 * best,
        f"{m} pieces are too {'few' if m < best_m else 'many'} for α = {alpha:.2f}, β = {beta:.2g} and {size} bytes on "
        f"{p} ranks: (p − 2 + m)(α + β b / m) is {pipelined:.0f} s there, and {best:.0f} s at its lowest. Set the "
        "derivative to zero.",
    )


def _reference_feed(channel, count, size, load, work, window):
    """The best that a window of unread batches allows."""
    workers, note = channel.world_size - 1, torch.zeros(1, dtype=torch.uint8)
    batch = torch.zeros(size, dtype=torch.uint8)
    if channel.rank == 0:
        for i in range(count + window * workers):
            if window * workers <= i:
                channel.recv(note, source=1 + i % workers)
            if i < count:
                channel.compute(load)
                channel.isend(batch, to=1 + i % workers)
    else:
        for _ in range(channel.rank - 1, count, workers):
            channel.recv(batch, source=0)
            channel.isend(note, to=0)
            channel.compute(work)


@tasks.add(points=4, minutes=40)
def feed(student, rng):
    """Feeding workers within limits of time, memory and bytes."""
    workers = int(rng.integers(2, 4))
    count = workers * int(rng.integers(8, 11)) + int(rng.integers(1, workers))
    _feed(student, rng, workers, count, workers * rng.uniform(2.0, 3.0))
    _feed(student, rng, 1, int(rng.integers(17, 24)), rng.uniform(1.1, 1.25))  # here a window of one is too small


def _feed(student, rng, workers, count, slower):
    """A cluster on which computing on a batch takes ``slower`` times as long as loading it."""
    p, length = workers + 1, int(rng.integers(40, 90))
    size, load = 4 * length, rng.uniform(1.0, 2.0)
    work = load * slower
    network = {"alpha": 0.05 * load, "beta": 0.5 * load / size, "buffered": True}
    batches = [torch.full((length,), float(i + 1)) for i in range(count)]
    like = torch.zeros(length)
    done = _simulated(
        student,
        p,
        lambda r: [[b.clone() for b in batches] if r == 0 else None, count, like, load, work],
        **network,
    )
    for r, got in enumerate(done.values):
        require(isinstance(got, list | tuple), f"Rank {r} should return a list, got {type(got).__name__}.")
        numbers = [int(np.asarray(batch, dtype=float).flat[0]) - 1 for batch in got]
        expected = [] if r == 0 else list(range(r - 1, count, workers))
        require(
            len(set(numbers)) == len(numbers) or numbers == expected,
            f"Rank {r} returns the same batch several times: receive each into a tensor of its own.",
        )
        require(
            numbers == expected,
            f"Rank {r} of {p} should work on batches {expected}, and has {numbers}: batch i goes to worker "
            "1 + i mod (p − 1).",
        )
    for rank in range(p):
        spent = sum(event.end - event.start for event in done.events if event.kind == "compute" and event.rank == rank)
        should = count * load if rank == 0 else len(range(rank - 1, count, workers)) * work
        require(
            np.isclose(spent, should),
            f"Rank {rank} computes for {spent:.1f} s in all; it should be {should:.1f}: `load` once for each batch on "
            "rank 0, `work` once for each on its worker.",
        )
    extra = sum(done.bytes) - count * size
    require(extra <= 8 * count, f"{extra} bytes besides the batches; the limit is 8 for each of {count} batches.")
    most = max(done.inbox[1:])
    require(
        most <= 2 * size,
        f"Up to {most / size:.0f} unread batches lie in a worker's inbox, and 2 are allowed: rank 0 must hear that "
        "batches are taken before it sends more.",
    )
    best = simulate(_reference_feed, p, count, size, load, work, 2, **network).seconds
    require(
        done.seconds <= 1.05 * best,
        f"{done.seconds:.1f} s, and {best:.1f} s are possible. Somebody waits: load and send ahead, up to two unread "
        "batches for each worker, and let a worker say that it has *taken* a batch before it computes.",
    )
