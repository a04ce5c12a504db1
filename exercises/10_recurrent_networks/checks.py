"""Checks of the exercises on recurrent networks; the inputs are drawn anew from each seed."""

from functools import partial

import numpy as np

from lmcore.checking import Tasks, refuse, require, same

tasks = Tasks()
check = tasks.check
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}
_same, _refuse = partial(same, **TOLERANCE), partial(refuse, **TOLERANCE)


def _array(value):
    """An answer as an array of floats, whatever kind of number or tensor it holds."""
    if hasattr(value, "detach"):
        value = value.detach()
    return np.asarray(value, dtype=float)


def _several(got, *names):
    """Require that an answer is a tuple of so many things."""
    listed = ", ".join(names[:-1]) + f" and {names[-1]}"
    require(isinstance(got, tuple | list) and len(got) == len(names), f"Return {listed}, separated by commas.")
    return got


def _shape(got, expected, what):
    """Require an answer's shape."""
    shape = _array(got).shape
    require(shape == expected.shape, f"{what} should have the shape {expected.shape}, got {shape}.")


def _accept(got, expected, what):
    """Require the right numbers, or show both."""
    shown, wanted = _array(got).round(4).tolist(), _array(expected).round(4).tolist()
    require(_same(got, expected), f"{what} should be {wanted}, got {shown}.")


def sigmoid(z):
    """The logistic function."""
    return 1 / (1 + np.exp(-z))


def _rnn(X, h, W, U, b, *, activation=np.tanh, carry=True):
    """States of a plain network, with what can be wrong about it."""
    states = []
    for x in X:
        new = activation(W @ x + U @ h + b)
        states.append(new)
        h = new if carry else h
    return np.array(states)


def _network(rng, T=5, d=3, H=4):
    """A sequence, a state to begin with, and weights that are neither small nor symmetric."""
    X, h = rng.normal(size=(T, d)), rng.uniform(-0.8, 0.8, size=H)
    W, U, b = rng.normal(size=(H, d)) * 0.7, rng.normal(size=(H, H)) * 0.7, rng.uniform(0.3, 0.8, size=H)
    return X, h, W, U, b


@tasks.add(points=1, minutes=10)
def rnn_states(student, rng):
    """All states of a plain recurrent network."""
    X, h, W, U, b = _network(rng)
    expected, zero = _rnn(X, h, W, U, b), np.zeros(len(h))
    got = student(X, h, W, U, b)
    require(
        not _same(got, expected[-1]), "You returned the last state alone; return the states of all steps, one per row."
    )
    require(
        not _same(got, np.vstack([h, expected])),
        "One row too many: the state before the first step is not among the results.",
    )
    _shape(got, expected, "The states")
    _refuse(
        got,
        expected,
        [
            (_rnn(X, h, W, U, b, carry=False), "Every step started from the first h: the new state must replace it."),
            (_rnn(X, zero, W, U, b), "You started from zeros; the state before the first step is given as h."),
            (_rnn(X, h, W, U, b, activation=lambda z: z), "The tanh is missing."),
            (_rnn(X, h, W, U, b, activation=sigmoid), "You used the sigmoid where tanh belongs."),
            (_rnn(X, h, W, U.T, b), "You multiplied by U transposed: row i of U belongs to unit i of the new state."),
            (_rnn(X, h, W, U, 0 * b), "The constants b are missing."),
            (_rnn(X, h, W, 0 * U, b), "The old state has no influence: U h is missing."),
            (_rnn(X[::-1], h, W, U, b), "You read the sequence from its end."),
            (_rnn(X[::-1], h, W, U, b)[::-1], "You read the sequence from its end."),
        ],
    )
    _accept(got, expected, "The states")


def _bptt(X, h, states, U, d_states, *, slope=True, later=True, transpose=True, before=None, only_last=False):
    """Slopes by W and U, with what can be wrong about them."""
    before = np.vstack([h, states[:-1]]) if before is None else before
    dW, dU, dh = np.zeros((len(h), X.shape[1])), np.zeros_like(U), np.zeros(len(h))
    for t in reversed(range(len(X))):
        dz = (d_states[t] + dh * later) * (1 - states[t] ** 2 if slope else 1)
        if not only_last or t == len(X) - 1:
            dW += np.outer(dz, X[t])
            dU += np.outer(dz, before[t])
        dh = (U.T if transpose else U) @ dz
    return dW, dU


@tasks.add(points=3, minutes=25)
def rnn_gradient(student, rng):
    """Slopes by W and U, through time."""
    X, h, W, U, b = _network(rng)
    states = _rnn(X, h, W, U, b)
    d_states = rng.normal(size=states.shape)
    given = (X, h, states, U, d_states)
    expected = _bptt(*given)
    got = _several(student(*given), "the slopes by W", "the slopes by U")
    before = np.vstack([h, states[:-1]])
    names = ("The slopes by W", "The slopes by U")
    for number, (one, right, name) in enumerate(zip(got, expected, names, strict=True)):
        require(
            not _same(one, right.T) or _same(right.T, right),
            f"{name} are transposed: row i belongs to unit i, so it is the outer product of δz and what was read.",
        )
        _shape(one, right, name)

        def wrong(number=number, **options):
            return _bptt(*given, **options)[number]

        _refuse(
            one,
            right,
            [
                (wrong(later=False), "A state also acts through the next one: what the next step passes back is lost."),
                (wrong(slope=False), "The slope of the tanh, 1 − h², is missing."),
                (wrong(transpose=False), "On the way back the state's slope is U transposed times δz, not U times δz."),
                (wrong(only_last=True), "Only the last step counted: the weights act at every step, so add up."),
                (wrong(before=states), "By U: multiply with the state *before* the step, not with the one after it."),
                (
                    wrong(before=np.vstack([0 * h, states[:-1]])),
                    "The state before the first step is h, which is given and not zero.",
                ),
                (
                    _bptt(X, h, before, U, d_states, before=before)[number],
                    "The slope of the tanh needs the state after the step: 1 − h² with the new h.",
                ),
                (
                    _bptt(X, h, np.tanh(states), U, d_states, before=before)[number],
                    "The states are already behind the tanh: its slope there is 1 − h², without another tanh.",
                ),
                (right / len(X), "You took the mean over the steps; the slopes of the steps add up."),
            ],
        )
        _accept(one, right, name)


def _blocks(rng, gates, d=3, H=4):
    """An input, a state, a cell, and weights with so many blocks of rows."""
    W, U = 0.6 * rng.normal(size=(gates * H, d)), 0.6 * rng.normal(size=(gates * H, H))
    b, c = rng.uniform(0.4, 1.2, size=(2, gates * H)) * rng.choice([-1, 1], size=(2, gates * H))
    return rng.normal(size=d), rng.uniform(-0.9, 0.9, size=H), rng.uniform(1.0, 2.0, size=H), W, U, b, c


@tasks.add(points=2, minutes=15)
def lstm_step(student, rng):
    """The four gates of an LSTM."""
    new = np.zeros(1)
    while np.abs(new).min() < 0.2:  # where the cell is nearly empty, its tanh makes no difference
        x, h, c, W, U, b, _ = _blocks(rng, 4)
        i, f, g, o = np.split(W @ x + U @ h + b, 4)
        new = sigmoid(f) * c + sigmoid(i) * np.tanh(g)

    def step(i=i, f=f, g=g, o=o, *, content=np.tanh, show=np.tanh, old=c):
        cell = sigmoid(f) * old + sigmoid(i) * content(g)
        return sigmoid(o) * show(cell), cell

    right = step()
    got = _several(student(x, h, c, W, U, b), "the state h", "the cell c")
    require(not _same(got[0], right[1]) or not _same(got[1], right[0]), "Return the state first and the cell second.")
    mixed = sigmoid(o) * np.tanh(g) + (1 - sigmoid(o)) * h
    without = np.split(W @ x + b, 4)
    for number, name in ((1, "The cell"), (0, "The state")):  # the cell first: the state depends on it
        _shape(got[number], right[number], name)
        _refuse(
            got[number],
            right[number],
            [
                (mixed, "That is the formula with one gate, o ⊙ g + (1 − o) ⊙ h: it has no cell and is not an LSTM."),
                (c, "You returned the old cell."),
                (step(content=sigmoid)[number], "The new content g goes through tanh, not through a sigmoid."),
                (step(content=lambda v: v)[number], "The new content g has no tanh."),
                (step(i=f, f=i)[number], "The blocks of the input gate and the forget gate are exchanged."),
                (step(g=o, o=g)[number], "The order of the blocks is i, f, g, o: you took o before g."),
                (step(f=np.full_like(f, 50))[number], "The forget gate is not used: f multiplies the old cell."),
                (
                    step(i=np.full_like(i, 50))[number],
                    "The input gate is not used: i multiplies the new content.",
                ),
                (step(old=h)[number], "f multiplies the old cell c, not the old state h."),
                (step(*without)[number], "The gates must see the old state too: U h is missing."),
                (step(*np.split(W @ x + U @ h, 4))[number], "The constants b are missing."),
                (sigmoid(f) * c + (1 - sigmoid(f)) * np.tanh(g), "An LSTM has an input gate of its own, not 1 − f."),
            ],
        )
        if number == 0:
            _refuse(
                got[0],
                right[0],
                [
                    (step(show=lambda v: v)[0], "Between the cell and the state there is a tanh: h = o ⊙ tanh(c)."),
                    (step(show=sigmoid)[0], "The cell is shown through tanh, not through a sigmoid."),
                    (sigmoid(o) * np.tanh(c), "The state shows the *new* cell; you took the old one."),
                    (np.tanh(right[1]), "The output gate is not used: h = o ⊙ tanh(c)."),
                ],
            )
        _accept(got[number], right[number], name)


@tasks.add(points=2, minutes=15)
def gru_step(student, rng):
    """The gates of a GRU, with the reset gate after the product."""
    x, h, _, W, U, b, c = _blocks(rng, 3)
    (xr, xz, xn), (hr, hz, hn) = np.split(W @ x + b, 3), np.split(U @ h + c, 3)
    r, z, n_rows = sigmoid(xr + hr), sigmoid(xz + hz), U[2 * len(h) :]
    c_n = c[2 * len(h) :]

    def mix(n, z=z):
        return (1 - z) * n + z * h

    expected = mix(np.tanh(xn + r * hn))
    got = student(x, h, W, U, b, c)
    _shape(got, expected, "The state")
    _refuse(
        got,
        expected,
        [
            (
                mix(np.tanh(xn + n_rows @ (r * h) + c_n)),
                "You reset h before the product, as in the paper; here r multiplies the result of the product.",
            ),
            (
                mix(np.tanh(xn + r * (n_rows @ h) + c_n)),
                "r multiplies all that the state says, the constant too.",
            ),
            (mix(np.tanh(xn + hn)), "The reset gate is not used."),
            (
                mix(np.tanh(r * (xn + hn))),
                "r multiplies only what comes from the state, not the input's part.",
            ),
            (mix(np.tanh(xn + r * hn), 1 - z), "z and 1 − z are exchanged: with z = 1 the state must stay as it is."),
            (mix(np.tanh(xn + z * hn), r), "The blocks of r and z are exchanged."),
            (mix(sigmoid(xn + r * hn)), "The candidate goes through tanh, not through a sigmoid."),
            (mix(xn + r * hn), "The candidate has no tanh."),
            (np.tanh(xn + r * hn), "That is the candidate alone; mix it with the old state."),
            (np.tanh(xn + r * hn) + z * h, "The candidate is taken whole: its share is 1 − z."),
        ],
    )
    _accept(got, expected, "The state")


@tasks.add(points=2, minutes=15)
def last_and_mean(student, rng):
    """Last and mean of the real outputs of padded sequences."""
    B, T, d = 4, 7, 3
    outputs = rng.normal(size=(B, T, d))
    lengths = np.array([*rng.choice(np.arange(2, T - 1), size=B - 2, replace=False), T, 1])
    lengths = rng.permutation(lengths)
    rows = np.arange(B)
    real = (np.arange(T) < lengths[:, None])[..., None]
    last, total = outputs[rows, lengths - 1], (outputs * real).sum(axis=1)
    mean = total / lengths[:, None]
    got = _several(student(outputs, lengths), "the last outputs", "the means")
    require(not (_same(got[0], mean) and _same(got[1], last)), "Return the last outputs first, then the means.")
    _shape(got[0], last, "The last outputs")
    _refuse(
        got[0],
        last,
        [
            (outputs[:, -1], "You took the last *step* of the batch: for a short sequence that is padding."),
            (outputs[rows, np.minimum(lengths, T - 1)], "One step too far: the last of n steps has the number n − 1."),
            (outputs[rows, lengths % T], "One step too far: the last of n steps has the number n − 1."),
            (outputs[rows, lengths - 2], "One step too early: the last of n steps has the number n − 1."),
            (outputs[:, 0], "You took the first step."),
        ],
    )
    _accept(got[0], last, "The last outputs")
    _shape(got[1], mean, "The means")
    before = (outputs * (np.arange(T) < lengths[:, None] - 1)[..., None]).sum(axis=1)
    _refuse(
        got[1],
        mean,
        [
            (outputs.mean(axis=1), "You averaged over the padding as well."),
            (total / T, "You left the padding out of the sum, but divided by all steps: divide by the length."),
            (total, "That is the sum; divide by the length."),
            (total / lengths.sum(), "Each sequence is divided by its own length, not by the sum of all lengths."),
            (before / lengths[:, None], "The last real output is missing in the means."),
            (before / np.maximum(lengths[:, None] - 1, 1), "The last real output is missing in the means."),
        ],
    )
    _accept(got[1], mean, "The means")


@tasks.add(points=2, minutes=15)
def reach(student, rng):
    """Forget bias for a distance, and distance for a forget bias."""
    while True:  # until no mistake leads to the right number of steps by chance
        distance, share, bias = int(rng.integers(10, 80)), rng.uniform(0.05, 0.3), rng.uniform(1.5, 4)
        gate, kept = share ** (1 / distance), sigmoid(bias)
        exact = np.log(share) / np.log(kept)
        others = [np.log(1 - share) / np.log(kept), (1 - share) / (1 - kept), -np.log(share) / bias, 1.4427 * exact]
        if 0.6 < exact % 1 < 0.9 and np.diff(np.sort([exact, distance, *others])).min() > 2.1:
            break
    right = np.log(gate / (1 - gate))
    got = _several(student(distance, share, bias), "the bias", "the number of steps")
    _refuse(
        got[0],
        right,
        [
            (gate, "That is the gate itself; its bias is the number whose sigmoid it is."),
            (np.log(share / (1 - share)), "With this bias the share is left after *one* step; take the root first."),
            (np.log(gate), "You took the logarithm of the gate; the sigmoid's inverse is log(gate / (1 − gate))."),
            (-right, "The sign is wrong: a gate near 1 needs a bias above zero."),
            (np.log(1 / (1 - gate)), "The sigmoid's inverse is log(gate / (1 − gate)); its numerator is missing."),
            (
                np.log((share / distance) / (1 - share / distance)),
                "Shares multiply from step to step: take the root, do not divide.",
            ),
            (
                np.log(distance - 1),
                "A gate of 1 − 1/k keeps about a third over k steps; here the share that is left is given.",
            ),
        ],
    )
    _accept(got[0], right, f"The bias for {distance} steps and a share of {share:.3f}")
    steps = _array(got[1])
    require(steps.ndim == 0 and float(steps) == int(steps), f"The number of steps is a whole number, got {got[1]}.")
    _refuse(
        steps,
        np.floor(exact),
        [
            (np.ceil(exact), "Round down: after one step more, less than the share is left."),
            (distance, "That is the distance of the first question; use the given bias."),
            (distance - 1, "That is the distance of the first question; use the given bias."),
            (
                np.floor(np.log(1 - share) / np.log(kept)),
                "You let the share be lost; it is what is *left* of the gradient.",
            ),
            (np.floor((1 - share) / (1 - kept)), "Every step multiplies what is left; it does not subtract the same."),
            (
                np.floor(-np.log(share) / bias),
                "The factor per step is the sigmoid of the bias, not e^−bias.",
            ),
            (
                np.floor(np.log2(1 / share) / np.log(1 / kept)),
                "Two kinds of logarithm are mixed; take the same one twice.",
            ),
        ],
    )
    require(
        steps == np.floor(exact),
        f"Expected {np.floor(exact):.0f} steps for the bias {bias:.3f} and a share of {share:.3f}, got {got[1]}.",
    )


def _cut(x, y, w, u, steps, *, carry=True, within=True, first=True, after=False, all_losses=True):
    """Slope by u in pieces, with what can be wrong about it."""
    slope, h = 0.0, 0.0
    for start in range(0, len(x), steps):
        piece = range(start, min(start + steps, len(x)))
        states = [h if carry else 0.0]
        for t in piece:
            states.append(w * x[t] + u * states[-1])
        h, dh = states[-1], 0.0
        for k in reversed(range(len(piece))):
            error = states[k + 1] - y[piece[k]]
            dh = (error if all_losses or k == len(piece) - 1 else 0.0) + (u * dh if within else 0.0)
            if first or k > 0:
                slope += dh * states[k + 1 if after else k]
    return slope


def _truncated_wrongs(x, y, w, u, steps):
    """Known mistakes and what to say about each."""
    given, whole = (x, y, w, u, steps), len(x) // steps * steps
    expected, pieces = _cut(*given), len(range(0, len(x), steps))
    return [
        (_cut(x, y, w, u, len(x)), "That is the full gradient: cut it at the beginning of each piece."),
        (_cut(*given, carry=False), "The state was set to zero at each piece: only the gradient is to be cut."),
        (_cut(*given, within=False), "Inside a piece a state also acts through the next one: u δh is missing."),
        (
            _cut(*given, first=False),
            "The first step of a piece counts too: u multiplies the carried state there, a number like any other.",
        ),
        (_cut(*given, after=True), "Multiply δh with the state *before* the step, not with the one after it."),
        (_cut(*given, all_losses=False), "There is a loss at every step, not only at the end of a piece."),
        (_cut(x[:whole], y[:whole], w, u, steps), "The last piece is shorter, but it counts."),
        (expected / pieces, "You took the mean over the pieces; their slopes add up."),
        (expected / len(x), "You took the mean over the steps; the loss is a sum."),
        (2 * expected, "Twice too much: the loss has a factor ½."),
    ]


@tasks.add(points=3, minutes=25)
def truncated_slope(student, rng):
    """Truncated backpropagation: state carried, gradient cut."""
    while True:  # until no two of the mistakes give nearly the same number
        w, u = rng.uniform(0.7, 1.3), rng.uniform(0.6, 0.9) * rng.choice([-1, 1])
        x, y = rng.uniform(0.5, 1.5, size=11) * rng.choice([-1, 1], size=11), rng.normal(size=11)
        numbers = np.sort([_cut(x, y, w, u, 4), *(wrong for wrong, _ in _truncated_wrongs(x, y, w, u, 4))])
        if (np.diff(numbers) > 0.004 * (1 + np.abs(numbers[1:]))).all():
            break
    for steps in (4, 1, 11):
        given = (x, y, w, u, steps)
        expected, got = _cut(*given), student(*given)
        require(_array(got).size == 1, f"Return one number, the slope by u; got {got}.")
        got = _array(got).reshape(())
        _refuse(got, expected, _truncated_wrongs(*given))
        _accept(got, expected, f"The slope by u for pieces of {steps}")
