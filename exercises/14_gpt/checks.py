"""Checks of the exercises on GPT; the inputs are drawn anew from each seed."""

import struct
from functools import partial
from numbers import Real

import numpy as np

from lmcore.checking import Tasks, refuse, require, same

tasks = Tasks()
check = tasks.check
TOLERANCE = {"rtol": 1e-5, "atol": 1e-7}
_same, _refuse = partial(same, **TOLERANCE), partial(refuse, **TOLERANCE)


def _array(got, shape, what="an array"):
    """Require that an answer is an array of numbers of this shape."""
    require(got is not None, "Your function returns nothing.")
    try:
        got = np.asarray(got)
    except ValueError:
        require(False, f"Return {what} of shape {shape}; yours has rows of different lengths.")
    require(got.dtype.kind in "iufb", f"Return {what} of numbers, got {got.dtype}.")
    require(got.shape == shape, f"Return {what} of shape {shape}, got {got.shape}.")
    return got.astype(float)


def _number(got, what):
    """Require that an answer is one number."""
    require(got is not None, "Your function returns nothing.")
    if isinstance(got, np.ndarray) and got.size == 1:
        got = got.item()
    require(isinstance(got, Real | np.number), f"{what} should be one number, got {type(got).__name__}.")
    require(np.isfinite(got), f"{what} should be a finite number, got {got}.")
    return got


def _pair_of_arrays(answer):
    """Require two arrays of equal shape."""
    require(answer is not None, "Your function returns nothing.")
    require(isinstance(answer, tuple | list) and len(answer) == 2, "Return two arrays: the inputs and the labels.")
    pair = []
    for name, one in zip(("inputs", "labels"), answer, strict=True):
        try:
            one = np.asarray(one)
        except ValueError:
            require(False, f"The rows of the {name} have different lengths.")
        require(one.ndim == 2, f"The {name} should have two axes, (pieces, T); yours have the shape {one.shape}.")
        pair.append(one)
    return pair


@tasks.add(points=1, minutes=5)
def inputs_and_labels(student, rng):
    """Inputs and labels of a causal language model."""
    T, pieces = int(rng.integers(4, 9)), int(rng.integers(3, 7))
    for extra in (int(rng.integers(2, T)), 1, 0):  # ids beyond the last whole piece of inputs
        n = pieces * T + extra
        ids = rng.permutation(10 * n)[:n]
        whole = (n - 1) // T
        x, y = ids[: whole * T].reshape(-1, T), ids[1 : whole * T + 1].reshape(-1, T)
        a, b = _pair_of_arrays(student(ids, T))
        require(
            not (a.shape == b.shape and _same(a, b)),
            "Your labels are the inputs: the model sees what it should guess. The label at a place is the id after it.",
        )
        if len(a) == len(b) and len(a) > whole + 1 and a.shape[1] == T:
            require(
                not _same(a[1], ids[1 : T + 1]),
                "Your pieces overlap: each begins one id after the one before. The next piece begins T ids later.",
            )
        require(
            a.shape[1] == b.shape[1] == T,
            f"Each piece should have T = {T} inputs and T labels; yours have {a.shape[1]} and {b.shape[1]}. The last "
            "label of a piece is the first input of the next one.",
        )
        require(
            not (len(a) == len(b) > 1 and _same(a[:2], np.stack([ids[:T], ids[T + 1 : 2 * T + 1]]))),
            "Your second piece begins T + 1 ids after the first; it begins T later: the last label of a piece is also "
            "the first input of the next one.",
        )
        if len(a) == len(b) == whole - 1:
            require(
                False,
                f"A piece is missing: {n} ids with T = {T} make {whole} pieces; one id after the last input is enough.",
            )
        require(
            not (len(a) == whole + 1 or len(b) == whole + 1),
            f"There is a piece too many: of {n} ids with T = {T}, the last input of piece {whole + 1} has no label.",
        )
        require(a.shape == b.shape == (whole, T), f"Expected {whole} pieces of {T}, got {a.shape} and {b.shape}.")
        two_on = np.append(ids, 0)[2 : whole * T + 2].reshape(-1, T)
        wrongs = [
            (
                np.roll(x, -1, axis=1),
                "The last label of each piece is its own first input; it should be the next id of the text.",
            ),
            (np.roll(ids, 1)[: whole * T].reshape(-1, T), "Your labels are the ids *before* the inputs."),
            (two_on, "You shifted twice: your labels are the ids after the next."),
        ]
        if _same(a, x):
            _refuse(b, y, wrongs)
        require(not (_same(a, y) and _same(b, x)), "Inputs and labels are exchanged: return the inputs first.")
        for name, mine, right in (("inputs", a, x), ("labels", b, y)):
            for i in range(whole):
                require(
                    _same(mine[i], right[i]),
                    f"Piece {i + 1} of the {name} should be {right[i].tolist()}, got {mine[i].tolist()}.",
                )


@tasks.add(points=2, minutes=10)
def llama_parameters(student, rng):
    """Parameters of a model with Llama's parts."""
    G = int(rng.integers(2, 5))
    H, head = G * int(rng.integers(2, 4)), 2 * int(rng.choice([5, 6, 7, 9, 10, 11]))  # no powers of two
    d, L, V = H * head, int(rng.integers(3, 9)), 2 * int(rng.integers(500, 2500)) + 1
    d_ff = 8 * int(rng.integers(20, 90)) + 1

    def size(tables=1, groups=G, back=1, matrices=3, norms=2, last=1, bias=0, keys=2, head=head):
        attention = (H + keys * groups) * head * d + back * d * d
        return tables * V * d + L * (attention + matrices * d * d_ff + norms * d + bias) + last * d

    biases = (H + 2 * G) * head + d + 2 * d_ff + d
    for tied in (True, False):
        n = 1 if tied else 2
        expected = size(n)
        got = _number(student(V, d, d_ff, L, H, G, tied), "The count")
        wrongs = [
            (
                size(3 - n),
                "tied is taken the wrong way round, or not looked at: one table if the model is tied, two if not.",
            ),
            (
                size(n, groups=H),
                "You gave every head of queries its own keys and values; there are only G heads of these.",
            ),
            (size(n, back=0), "The projection after the heads, d × d, is missing."),
            (size(n, matrices=2), "SwiGLU has three matrices of d × d_ff: up, down and the gate."),
            (size(n, norms=0, last=0), "The scales of the norms are missing."),
            (size(n, norms=0), "The two norms of each block are missing."),
            (size(n, norms=1), "Each block has two norms, one before attention and one before the network."),
            (size(n, last=0), "The last norm, after the last block, is missing."),
            (size(n, norms=4, last=2), "RMS norm has a scale and no shift: d numbers, not 2d."),
            (size(n, keys=1), "There are keys *and* values: 2G heads beside the H of the queries."),
            (size(n, bias=biases), "Llama's matrices have no biases."),
            (size(n, head=d), "A head has d / H numbers, not d."),
            (size(n - 1), "The table of words is missing."),
        ]
        wrongs += [
            (expected + positions * d, "Rotary positions are angles, not parameters: there is no table of positions.")
            for positions in (512, 1024, 2048, 4096, 8192)
        ]
        for wrong, message in wrongs:
            require(got != wrong or wrong == expected, message)
        require(
            got == expected,
            f"For V = {V}, d = {d}, d_ff = {d_ff}, L = {L}, H = {H}, G = {G}, tied = {tied}: expected {expected:,}, "
            f"got {got:,}.",
        )


def _nucleus(p, share, *, extra=0, order=None):
    """Which tokens top-p keeps, or some fewer or more, as a cut distribution without its sum set to one."""
    order = np.argsort(-p) if order is None else order
    n = int((np.cumsum(p[order]) - p[order] < share - 1e-12).sum()) + extra
    kept = np.zeros_like(p)
    kept[order[: max(n, 0)]] = p[order[: max(n, 0)]]
    return kept


@tasks.add(points=2, minutes=15)
def top_p(student, rng):
    """The nucleus of a distribution."""
    V = int(rng.integers(9, 13))
    while True:  # until the common mistakes make a difference
        p, share = rng.dirichlet(np.full(V, 0.8)), float(rng.uniform(0.6, 0.85))
        kept = int((_nucleus(p, share) > 0).sum())
        few = int((_nucleus(p, 1 - share) > 0).sum())
        margin = np.abs(np.cumsum(np.sort(p)[::-1]) - share).min()
        orders = [_nucleus(p, share, order=order) for order in (np.argsort(p), np.arange(V))]
        differ = all((one > 0).sum() < V for one in orders) and (orders[0] > 0).tolist() != (orders[1] > 0).tolist()
        if 3 <= kept <= V - 3 and few < kept - 1 and margin > 0.01 and p.max() < share and differ:
            break
    cut = _nucleus(p, share)
    expected = cut / cut.sum()
    got = _array(student(p, share), (V,), "the probabilities of all tokens, an array")
    require(not _same(got, cut), "The probabilities that are left do not sum to one: divide them by their sum.")
    less, more = _nucleus(p, share, extra=-1), _nucleus(p, share, extra=1)
    worst, in_order = orders
    above = np.where(p >= share, p, 0)
    complement = _nucleus(p, 1 - share)
    powers = np.exp(np.where(cut > 0, p, -np.inf))
    wrongs = [
        (
            less / less.sum(),
            "You dropped the token with which the sum reaches the share; without it the others weigh too little.",
        ),
        (less, "You dropped the token with which the sum reaches the share, and the rest does not sum to one."),
        (more / more.sum(), "You kept a token too many: the better ones reach the share without it."),
        (np.sort(expected)[::-1], "The probabilities come back sorted; every token stays at its place."),
        (worst / worst.sum(), "You kept the least probable tokens: sort from the largest on."),
        (in_order / in_order.sum(), "You added up in the order of the tokens; the most probable come first."),
        (complement / complement.sum(), "You kept tokens for 1 − share; the ones kept weigh at least share."),
        (above / max(above.sum(), 1e-9), "You compared each probability with the share; it is their sum that counts."),
        (p, "Nothing was cut."),
        (
            powers / powers.sum(),
            "You took a softmax of probabilities; they need no exponential, only a division by their sum.",
        ),
    ]
    _refuse(got, expected, wrongs)
    require(
        _same(got, expected),
        f"Of {p.round(3)} with share {share:.3f}: expected {expected.round(3)}, got {got.round(3)}.",
    )
    places = rng.permutation(4)  # sums of eighths are exact
    p = (np.array([4, 2, 1, 1]) / 8)[places]
    exact = _array(student(p, 0.75), (4,))
    require(
        _same(exact, np.where(p > 0.2, p, 0) / 0.75),
        "Probabilities 1/2, 1/4, 1/8, 1/8 and a share of 3/4: the first two reach it exactly, so no third is kept.",
    )
    require(
        _same(_array(student(p, 0.3), (4,)), p == 0.5),
        "With a share of 0.3 the best token alone is kept; one always is.",
    )
    require(_same(_array(student(p, 1.0), (4,)), p), "With a share of 1 nothing is cut.")
    tied = _array(student(p, 0.8), (4,))
    either = [np.where(np.arange(4) == place, 0, p) / 0.875 for place in np.flatnonzero(p < 0.2)]
    require(
        any(_same(tied, one) for one in either),
        "Probabilities 1/2, 1/4, 1/8, 1/8 and a share of 0.8: one of the two equal tokens is enough, so three are "
        "kept. Count the tokens; a threshold cannot tell equal ones apart.",
    )


def _block(scale, minimum, levels):
    """20 bytes of a block, levels of numbers 0 to 31."""
    return struct.pack("<2e", scale, minimum) + bytes(levels[:16] | (levels[16:] << 4))


@tasks.add(points=2, minutes=15)
def decode_q4_1(student, rng):
    """A block of four-bit numbers."""
    scale, minimum = (float(np.float16(x)) for x in (rng.uniform(0.05, 0.9), -rng.uniform(1, 4)))
    levels = rng.integers(16, size=32).astype(np.uint8)
    levels[:4], levels[16:20] = (0, 15, 3, 8), (7, 1, 15, 0)
    block = _block(scale, minimum, levels)
    q = levels.astype(float)
    expected = scale * q + minimum
    got = _array(student(block), (32,), "32 numbers, an array")
    low, high = q[:16], q[16:]
    neighbours = np.stack([low, high], axis=1).ravel()
    big_s, big_m = struct.unpack(">2e", block[:4])
    wrongs = [
        (
            scale * neighbours + minimum,
            "You put the two halves of a byte side by side; the lower halves are numbers 0 to 15, the upper 16 to 31.",
        ),
        (
            scale * np.concatenate([high, low]) + minimum,
            "The upper halves come first in your answer; the lower four bits are the first sixteen numbers.",
        ),
        (minimum * q + scale, "Scale and minimum are exchanged: the scale comes first in the block."),
        (
            scale * (q - 8) + minimum,
            "There is no 8 to subtract: levels begin at 0, and the minimum says where that is.",
        ),
        (scale * (q - 8), "That is Q4_0, whose levels lie around 8; Q4_1 has a minimum instead."),
        (scale * q, "The minimum is missing."),
        (scale * q - minimum, "The minimum is added, not subtracted; it is negative already."),
        (scale * (q + minimum), "Scale the level only; the minimum is added after."),
        (scale * q / 15 + minimum, "The scale is the step from one level to the next; do not divide by 15."),
        (q, "Those are the levels; they still need the scale and the minimum."),
        (
            scale * np.concatenate([low, high * 16]) + minimum,
            "The upper halves are sixteen times too large: shift them down by four bits.",
        ),
        (
            scale * np.concatenate([low + 16 * high, high]) + minimum,
            "The lower levels still hold the upper four bits: mask them off with & 15.",
        ),
    ]
    _refuse(got, expected, wrongs)
    with np.errstate(all="ignore"):
        require(
            not _same(got, np.nan_to_num(big_s * q + big_m)),
            "Scale and minimum were read with the bytes in the other order: little-endian is '<'.",
        )
    require(
        np.allclose(got, expected, rtol=0, atol=0.01),  # half precision is good enough
        f"The first four numbers should be {expected[:4].round(3)}, got {got[:4].round(3)}.",
    )


@tasks.add(points=2, minutes=10)
def cache_bytes(student, rng):
    """Memory of a KV cache."""
    G = int(rng.choice([3, 5]))  # sizes for which no two mistakes come to the same number
    H, head = 3 * G, 8 * int(rng.integers(3, 9))
    d, L = H * head, int(rng.choice([7, 11]))
    batch, positions = int(rng.choice([13, 17])), int(rng.integers(100, 900))
    for bits in (32, 8, 4):

        def size(pair=2, layers=L, groups=G, length=head, batch=batch, positions=positions, width=bits / 8):
            return pair * layers * groups * length * batch * positions * width

        expected = size()
        got = _number(student(L, d, H, G, batch, positions, bits), "The size")
        wrongs = [
            (size(pair=1), "Keys *and* values are kept: two vectors for each head."),
            (size(groups=H), "You counted a key for each head of queries; G heads of keys and values are kept."),
            (size(length=d), "A head's key has d / H numbers, not d."),
            (size(groups=1), "The heads of keys are missing: there are G in each block."),
            (size(groups=H + 2 * G, pair=1), "Queries are not kept: nobody asks for an old query again."),
            (size(layers=1), "Each of the L blocks has keys and values of its own."),
            (size(batch=1), "Each text of the batch has its own keys and values."),
            (size(positions=1), "That is the size for a single position."),
            (size(positions=positions**2), "The cache grows with the number of positions, not with its square."),
            (size(width=bits), "That is in bits; a byte has eight."),
            (size(width=1), "That is the number of numbers; each has bits / 8 bytes."),
            (size(width=4) if bits != 32 else -1, "You took four bytes for each number; look at the argument bits."),
            (size(width=max(bits // 8, 0)), "bits // 8 is 0 for four-bit numbers: divide by eight at the end."),
        ]
        for wrong, message in wrongs:
            require(not np.isclose(got, wrong, rtol=1e-9, atol=0) or np.isclose(wrong, expected), message)
        require(
            np.isclose(got, expected, rtol=1e-9, atol=0),
            f"For L = {L}, d = {d}, H = {H}, G = {G}, {batch} texts of {positions} tokens and {bits} bits: expected "
            f"{expected:,.0f} bytes, got {got:,}.",
        )


def _chat(messages, *, end="<|im_end|>\n", after_role="\n", answer="<|im_start|>assistant\n"):
    """A conversation as a text; parts can be changed."""
    return "".join(f"<|im_start|>{role}{after_role}{content}{end}" for role, content in messages) + answer


@tasks.add(points=2, minutes=10)
def chat_text(student, rng):
    """A conversation in the form that the model was taught."""
    word = [f"w{number}" for number in rng.permutation(1000)[:9]]
    default = f"You are {word[0]}."
    talk = [("user", f" {word[1]} {word[2]}?\n"), ("assistant", f"{word[3]}."), ("user", f"{word[4]}\n{word[5]}!")]
    system = ("system", f"Answer in {word[6]}.")
    late = [*talk[:2], system, talk[2]]  # a system message that does not come first
    for messages in (talk, [system, *talk], late):
        full = messages if messages[0] == system else [("system", default), *messages]
        expected = _chat(full)
        got = student(list(messages), default)
        require(got is not None, "Your function returns nothing.")
        require(isinstance(got, str), f"Return one string, got {type(got).__name__}.")
        wrongs = [
            (
                _chat(full, answer=""),
                "The beginning of the assistant's answer is missing: the model would go on with any role.",
            ),
            (
                _chat([*full, ("assistant", "")], answer=""),
                "You closed the assistant's message; it is the model that ends it.",
            ),
            (_chat(full, answer="<|im_start|>assistant"), "There should be a line break after the last role, too."),
            (_chat(full, end="<|im_end|>"), "A line break is missing after <|im_end|>."),
            (_chat(full, end="\n<|im_end|>\n"), "There is no line break between the content and <|im_end|>."),
            (_chat(full, end="\n"), "The messages are not closed: <|im_end|> is missing."),
            (_chat(full, after_role=" "), "Between the role and the content stands a line break."),
            (_chat(full, after_role=": "), "Between the role and the content stands a line break, not a colon."),
            (
                _chat([(role, content.strip()) for role, content in full]),
                "You stripped the contents; what was said goes in as it is.",
            ),
            (_chat(full[:-1]), "The last message is missing."),
        ]
        if messages is talk:
            wrongs += [(_chat(talk), "No system message stands first here: put one with the default content there.")]
        elif messages is late:
            wrongs += [
                (
                    _chat(late),
                    "There is a system message, but it does not come first: the default belongs before the others.",
                ),
                (
                    _chat([system, *talk]),
                    "Every message stays at its place; you moved the system message to the front.",
                ),
            ]
        else:
            wrongs += [
                (
                    _chat([("system", default), *full]),
                    "The conversation has a system message; the default comes only where there is none.",
                ),
                (
                    _chat([("system", default), *talk]),
                    "You replaced the conversation's own system message by the default.",
                ),
                (_chat(talk), "You left out the conversation's own system message."),
            ]
        for wrong, message in wrongs:
            require(got != wrong, message)
        require(got == expected, f"Expected {expected!r}, got {got!r}.")


@tasks.add(points=3, minutes=20)
def scaling_law(student, rng):
    """A power law of the operations, fitted and extrapolated."""
    n = int(rng.integers(5, 8))
    N = np.sort(np.exp(rng.uniform(np.log(1e4), np.log(1e7), size=n))).round()
    D = (N * np.exp(rng.uniform(np.log(5), np.log(60), size=n))).round()
    floor, a, alpha = float(rng.uniform(0.6, 1.2)), float(rng.uniform(10, 30)), float(rng.uniform(0.06, 0.12))
    losses = floor + a * (6 * N * D) ** -alpha * np.exp(rng.normal(0, 0.08, size=n))
    new = float((6 * N * D).max() * rng.uniform(100, 1000))

    def fit(C, y, floor=0.0, back=None, log=np.log, exp=np.exp):
        slope, constant = np.polyfit(log(C), log(y - floor), 1)
        a = exp(constant)
        return np.array([a, -slope, (floor if back is None else back) + a * new**slope])

    C = 6 * N * D
    expected = fit(C, losses, floor)
    answer = student(N, D, losses, floor, new)
    require(answer is not None, "Your function returns nothing.")
    require(
        isinstance(answer, tuple | list | np.ndarray) and len(answer) == 3,
        "Return three numbers: a, α and the predicted loss.",
    )
    got = np.array(
        [_number(part, name) for part, name in zip(answer, ("a", "α", "The prediction"), strict=True)], dtype=float
    )
    straight = np.polyfit(C, losses - floor, 1)
    order = np.argsort(C)
    ends = fit(C[order[[0, -1]]], losses[order[[0, -1]]], floor)
    wrongs = [
        (
            fit(C, losses),
            "The floor is not looked at: subtract it from the losses before the logarithm, and add it again.",
        ),
        (
            fit(C, losses, 0.0, back=floor),
            "You added the floor at the end without having subtracted it before the fit.",
        ),
        (fit(C, losses, floor, back=0.0), "The floor is missing in the prediction: add it again."),
        (expected[[1, 0, 2]], "a and α are exchanged: return a first."),
        (expected * [1, -1, 1], "α is the slope with its sign changed: the loss falls."),
        (np.array([np.log(expected[0]), *expected[1:]]), "You returned the logarithm of a; take its exponential."),
        (np.array([np.log10(expected[0]), *expected[1:]]), "You returned the logarithm of a; raise 10 to that power."),
        (fit(2 * N * D, losses, floor), "C is 6ND; 2ND is the forward pass alone."),
        (fit(N * D, losses, floor), "The 6 in C = 6ND is missing."),
        (fit(6 * N, losses, floor), "C = 6ND: the tokens are missing."),
        (fit(N, losses, floor), "You fitted the loss against N; the law is in the operations C = 6ND."),
        (
            fit(C, losses, floor, exp=lambda x: 10**x),
            "You took natural logarithms and raised 10 to the constant; use exp.",
        ),
        (
            np.array([straight[1], -straight[0], floor + straight[1] + straight[0] * new]),
            "You fitted a straight line without logarithms.",
        ),
        (ends, "You drew the line through two of the runs; least squares uses all of them."),
    ]
    _refuse(got, expected, wrongs)
    for i, name in enumerate(("a", "α", "the predicted loss")):
        require(np.isclose(got[i], expected[i], rtol=1e-3), f"Expected {name} = {expected[i]:.4g}, got {got[i]:.4g}.")
