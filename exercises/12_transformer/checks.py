"""Checks of the exercises on the Transformer; the inputs are drawn anew from each seed."""

from functools import partial
from numbers import Real

import numpy as np

from lmcore.checking import Tasks, refuse, require, same

tasks = Tasks()
check = tasks.check
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
_same, _refuse = partial(same, **TOLERANCE), partial(refuse, **TOLERANCE)


def _array(got, shape):
    """Require that an answer is an array of numbers of this shape."""
    require(got is not None, "Your function returns nothing.")
    try:
        got = np.asarray(got)
    except ValueError:
        require(False, f"Return an array of shape {shape}; yours has rows of different lengths.")
    require(got.shape == shape, f"Return an array of shape {shape}, got {got.shape}.")
    require(got.dtype.kind in "iufb", f"Return an array of numbers, got {got.dtype}.")
    return got


@tasks.add(points=1, minutes=5)
def layer_norm(student, rng):
    """Layer norm along the last axis."""
    x = rng.normal(3, 2, size=(5, 3, 7))
    weight, bias, eps = rng.uniform(0.5, 2, size=7), rng.normal(size=7), float(rng.uniform(0.3, 0.6))

    def norm(x, axis=-1, ddof=0, centre=True):
        c = x - x.mean(axis=axis, keepdims=True) if centre else x
        n = x.shape[axis] if axis is not None else x.size
        return c, (c**2).sum(axis=axis, keepdims=True) / (n - ddof)

    c, variance = norm(x)
    expected = c / np.sqrt(variance + eps) * weight + bias
    got = _array(student(x, weight, bias, eps), x.shape)
    first, v0 = norm(x, axis=0)
    whole, v_all = norm(x, axis=None)
    _, v1 = norm(x, ddof=1)
    raw, square = norm(x, centre=False)
    wrongs = [
        (c / np.sqrt(v1 + eps) * weight + bias, "Your variance divides by d − 1; here it divides by d."),
        (c / (np.sqrt(variance) + eps) * weight + bias, "You added eps outside the root; add it to the variance."),
        (c / np.sqrt(variance) * weight + bias, "eps is missing: a vector of equal numbers would be divided by zero."),
        (c / (variance + eps) * weight + bias, "You divided by the variance; divide by its root."),
        (c / np.sqrt(variance + eps), "weight and bias are missing: scale and shift after normalizing."),
        (raw / np.sqrt(square + eps) * weight + bias, "That is RMS norm: layer norm subtracts the mean first."),
        (raw / np.sqrt(variance + eps) * weight + bias, "The mean is not subtracted from x itself."),
        (c / np.sqrt(variance + eps) * (weight + bias), "The bias is added, not multiplied: scale first, then shift."),
        (
            first / np.sqrt(v0 + eps) * weight + bias,
            "You averaged over the first axis: that mixes the words of a batch. Each vector alone: the last axis.",
        ),
        (
            whole / np.sqrt(v_all + eps) * weight + bias,
            "You used one mean for the whole array; each vector along the last axis has its own.",
        ),
    ]
    _refuse(got, expected, wrongs)
    require(_same(got, expected), f"The first vector should be {expected[0, 0].round(3)}, got {got[0, 0].round(3)}.")
    one = _array(student(x[0, 0], weight, bias, eps), (7,))
    require(_same(one, expected[0, 0]), "A single vector (d,) should give the same as within an array.")


@tasks.add(points=1, minutes=5)
def add_sublayer(student, rng):
    """Pre-norm and post-norm."""
    x = rng.normal(size=(5, 7))
    matrix, scale = rng.normal(size=(7, 7)), rng.uniform(1, 3, size=7)

    def f(y):
        return np.tanh(np.asarray(y) @ matrix) + 0.5

    def norm(y):
        y = np.asarray(y)
        return scale * (y - y.mean(axis=-1, keepdims=True)) / y.std(axis=-1, keepdims=True)

    pre, post = x + f(norm(x)), norm(x + f(x))
    got = {order: _array(student(x, f, norm, order), x.shape) for order in ("pre", "post")}
    swapped = _same(got["pre"], post) and _same(got["post"], pre)
    require(not swapped, "You exchanged the two: pre-norm normalizes before the sublayer, post-norm after the sum.")
    require(
        not _same(got["pre"], got["post"]),
        "Both orders give the same; they differ in where the norm stands: use the argument order.",
    )
    _refuse(
        got["pre"],
        pre,
        [
            (f(norm(x)), "pre: the residual is missing; x itself is added to what f returns."),
            (
                norm(x) + f(norm(x)),
                "pre: you added to the normalized x, so nothing runs straight through: the stream is x itself, and "
                "only f reads the norm.",
            ),
            (x + norm(f(x)), "pre: you normalized what f returns; pre-norm normalizes what f is given."),
            (norm(x + f(norm(x))), "pre: there is a second norm after the sum; pre-norm has one, before f."),
        ],
    )
    require(_same(got["pre"], pre), "pre: the result is not x + f(norm(x)).")
    _refuse(
        got["post"],
        post,
        [
            (norm(f(x)), "post: the residual is missing; x is added to f(x) before the norm."),
            (x + norm(f(x)), "post: the norm is taken of f(x) alone; it belongs around the sum x + f(x)."),
            (norm(x) + f(x), "post: the norm is taken of x alone; it belongs around the sum x + f(x)."),
            (norm(x + f(norm(x))), "post: f is given the normalized x; in post-norm it is given x as it is."),
        ],
    )
    require(_same(got["post"], post), "post: the result is not norm(x + f(x)).")


@tasks.add(points=2, minutes=10)
def position_row(student, rng):
    """One row of sinusoidal positions."""
    t, d, base = int(rng.integers(5, 40)), 2 * int(rng.integers(3, 6)), float(rng.uniform(50, 500))
    i = np.arange(d // 2)
    theta = base ** (-2 * i / d)

    def row(angles, order=(0, 1)):
        out = np.empty(d)
        out[order[0] :: 2], out[order[1] :: 2] = np.sin(angles), np.cos(angles)
        return out

    expected = row(t * theta)
    got = _array(student(t, d, base), (d,))
    wrongs = [
        (row(t * theta, (1, 0)), "Sine and cosine are exchanged: sines stand at the even coordinates, from 0."),
        (
            np.concatenate([np.sin(t * theta), np.cos(t * theta)]),
            "All sines come first, then all cosines; here each sine has its cosine as its neighbour.",
        ),
        (row(t * base ** (-i / d)), "The exponent is −i/d; it should be −2i/d for pair i."),
        (row(t / theta), "The sign of the exponent is wrong: the pairs must turn more and more slowly."),
        (row((t + 1) * theta), "You counted positions from 1: position 0 has the angles 0."),
        (row(np.radians(t * theta)), "Your angles are taken for degrees; they are radians already."),
        (row(t * 10000.0 ** (-2 * i / d)), "You used 10000 although base is an argument."),
        (
            np.where(
                np.arange(d) % 2 == 0,
                np.sin(t * base ** (-2 * np.arange(d) / d)),
                np.cos(t * base ** (-2 * np.arange(d) / d)),
            ),
            "You used the number of the coordinate as i: both numbers of a pair must have the same angle.",
        ),
        (
            np.where(
                np.arange(d) % 2 == 0,
                np.sin(t * base ** (-np.arange(d) / d)),
                np.cos(t * base ** (-np.arange(d) / d)),
            ),
            "Sine and cosine of a pair have different angles; then they are not the hand of one clock.",
        ),
        (row(np.full(d // 2, float(t))), "All pairs turn alike; pair i has the angle t · base ** (−2i / d)."),
    ]
    _refuse(got, expected, wrongs)
    require(_same(got, expected), f"Row {t} for d = {d}: expected {expected.round(3)}, got {got.round(3)}.")
    zero = _array(student(0, d, base), (d,))
    require(_same(zero, row(0 * theta)), f"Position 0 is 0, 1, 0, 1, …; got {zero.round(3)}.")


@tasks.add(points=2, minutes=15)
def rotate(student, rng):
    """Rotary positions on neighbours."""
    d, base = 2 * int(rng.integers(3, 6)), float(rng.uniform(20, 200))
    t, j, shift = int(rng.integers(4, 9)), int(rng.integers(1, 4)), int(rng.integers(5, 30))
    x, key = rng.normal(size=d), rng.normal(size=d)
    i = np.arange(d // 2)

    def turn(x, angles, half=False, signs=(-1, 1)):
        a, b = (x[: d // 2], x[d // 2 :]) if half else (x[0::2], x[1::2])
        one = a * np.cos(angles) + signs[0] * b * np.sin(angles)
        two = signs[1] * a * np.sin(angles) + b * np.cos(angles)
        return np.concatenate([one, two]) if half else np.stack([one, two], axis=1).ravel()

    theta = base ** (-2 * i / d)
    expected = turn(x, t * theta)
    got = _array(student(x, t, base), (d,))
    a, b = x[0::2], x[1::2]
    late = a * np.cos(t * theta) - b * np.sin(t * theta)
    late = np.stack([late, late * np.sin(t * theta) + b * np.cos(t * theta)], axis=1).ravel()
    wrongs = [
        (turn(x, t * theta, half=True), "Your pairs are i and i + d/2; here they are neighbours, 2i and 2i + 1."),
        (
            turn(x, t * theta, signs=(1, -1)),
            "You turned the other way round: the first coordinate is a cos − b sin.",
        ),
        (turn(x, t * theta, signs=(1, 1)), "Both signs are plus: that is no turn, it changes the vector's length."),
        (turn(x, t * theta, signs=(-1, -1)), "Both signs are minus: that is no turn, it changes the vector's length."),
        (turn(x, theta), "The position is missing: the angle of pair i is t times base ** (−2i / d)."),
        (turn(x, t * base ** (-i / d)), "The exponent is −i/d; it should be −2i/d for pair i."),
        (turn(x, np.full(d // 2, float(t))), "All pairs turn by the same angle; each has its own."),
        (
            np.concatenate([turn(x, t * theta)[0::2], turn(x, t * theta)[1::2]]),
            "The turned numbers are right, but the pairs are torn apart: put them back at 2i and 2i + 1.",
        ),
        (
            x + np.stack([np.sin(t * theta), np.cos(t * theta)], axis=1).ravel(),
            "You added sinusoidal positions; rotary positions turn the vector and add nothing.",
        ),
        (late, "You overwrote a before using it for the second coordinate: keep both numbers of the pair first."),
    ]
    _refuse(got, expected, wrongs)
    require(_same(got, expected), f"Position {t}: expected {expected.round(3)}, got {got.round(3)}.")
    scores = [
        float(np.dot(np.asarray(student(x, t + s, base)), np.asarray(student(key, j + s, base)))) for s in (0, shift)
    ]
    require(
        np.isclose(*scores, rtol=1e-3, atol=1e-3),
        f"The score of positions {t} and {j} is {scores[0]:.4f}, but {shift} places further on it is {scores[1]:.4f}.",
    )


@tasks.add(points=2, minutes=10)
def decoder_mask(student, rng):
    """Causal and padding mask together."""
    T = 7
    lengths = rng.permutation([T, *rng.integers(2, T - 1, size=4)])
    places = np.arange(T)
    causal = places[None, :] <= places[:, None]
    real = places[None, :] < lengths[:, None]
    expected = causal[None] & real[:, None, :]
    got = _array(student(lengths, T), expected.shape)
    require(
        got.dtype == bool or np.isin(got, (0, 1)).all(),
        "Return truth values, True = may attend; numbers to be added to scores are something else.",
    )
    got = got.astype(bool)
    wrongs = [
        (~expected, "Your mask is inverted: here True means may attend."),
        (causal[None] | real[:, None, :], "You joined the two conditions with 'or'; a key must fulfil both."),
        (
            (places[None, :] < places[:, None])[None] & real[:, None, :],
            "A query may not see itself: the diagonal is missing, and the first query sees nothing.",
        ),
        (causal.T[None] & real[:, None, :], "Queries see the future: query and key are exchanged in the causal part."),
        (
            causal[None] & real[:, :, None],
            "The rows of padded queries are empty, and a softmax over nothing is 0/0: hide padded keys, not queries.",
        ),
        (np.broadcast_to(causal, expected.shape), "The padding is missing: keys from lengths[b] on are not real."),
        (np.broadcast_to(real[:, None, :], expected.shape), "The causal part is missing: a query sees the future."),
        (
            causal[None] & (places[None, :] <= lengths[:, None])[:, None, :],
            "One padded key too many: keys are counted from 0, so those below lengths[b] are real.",
        ),
    ]
    for wrong, message in wrongs:
        require(not (np.array_equal(got, wrong) and not np.array_equal(got, expected)), message)
    require(
        np.array_equal(got, expected), f"For length {lengths[0]} expected\n{expected[0].astype(int)}, got\n{got[0]}."
    )
    again = _array(student([int(n) for n in lengths], T), expected.shape)
    require(np.array_equal(again.astype(bool), expected), "Lengths given as a list should do as well.")


@tasks.add(points=2, minutes=15)
def smoothed_loss(student, rng):
    """Cross-entropy with label smoothing and padding."""
    N, V, pad, s = 11, 7, int(rng.integers(0, 7)), float(rng.uniform(0.1, 0.4))
    logits = rng.normal(0, 2, size=(N, V))
    targets = rng.choice([token for token in range(V) if token != pad], size=N)
    targets[rng.choice(N, 4, replace=False)] = pad
    kept = targets != pad

    def logp_of(logits):
        shifted = logits - logits.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

    def loss(logits, on, off, counted=kept, over=None):
        logp = logp_of(logits)
        wish = np.full((N, V), off)
        wish[np.arange(N), targets] = on
        each = -(wish * logp).sum(axis=1)
        return each[counted].sum() / (counted.sum() if over is None else over)

    def number(got):
        got = np.asarray(got)[()] if np.shape(got) == () else got
        require(isinstance(got, Real), f"Return one number, got {type(got).__name__}.")
        return float(got)

    on, off = 1 - s + s / V, s / V
    expected = loss(logits, on, off)
    got = number(student(logits, targets, s, pad))
    everything = np.ones(N, dtype=bool)
    wrongs = [
        (loss(logits, 1.0, 0.0), "That is the loss without smoothing: s has no effect."),
        (
            loss(logits, 1 - s, s / (V - 1)),
            "You spread s over the V − 1 other tokens; here it is spread over all V, the target among them.",
        ),
        (loss(logits, 1 - s, s / V), "Your targets do not sum to one: the right token gets 1 − s plus its share s/V."),
        (loss(logits, 1 + off, off), "Your targets do not sum to one: who gives s away has 1 − s left, not 1."),
        (loss(logits, 1 - s, 0.0), "You took s from the target and gave it to nobody; spread it over all tokens."),
        (loss(logits, on, off, everything), "Places with the target pad are counted; leave them out."),
        (
            loss(logits, on, off, kept, N),
            "You left the padding out of the sum, but divided by all places; divide by the number that counts.",
        ),
        (loss(logits, on, off, kept, 1), "That is the sum; return the mean over the places that count."),
        (
            loss(logits, s + (1 - s) / V, (1 - s) / V),
            "The shares are exchanged: s is what is spread, 1 − s what stays.",
        ),
        (-expected, "The sign is wrong: a log-probability is negative, and the loss is minus its mean."),
        (expected / np.log(2), "That is in bits; here the logarithm is natural."),
    ]
    _refuse(got, expected, wrongs)
    require(_same(got, expected), f"Expected {expected:.5f} for s = {s:.3f}, got {got:.5f}.")
    large = logits * 1000
    with np.errstate(all="ignore"):
        got = number(student(large, targets, s, pad))
    require(
        np.isfinite(got),
        f"Logits in the thousands gave {got}: exp overflows, or a probability becomes 0 before its logarithm is taken. "
        "Subtract the largest logit first and stay with logarithms.",
    )
    want = loss(large, on, off)
    require(np.isclose(got, want, rtol=1e-3), f"For logits in the thousands expected {want:.1f}, got {got:.1f}.")


def _beams(got):
    """Require two lists of (tokens, log-probability)."""
    require(isinstance(got, (tuple, list)) and len(got) == 2, "Return two lists: those that go on, and the finished.")
    lists = []
    for part in got:
        try:
            lists.append([(tuple(int(i) for i in tokens), float(p)) for tokens, p in part])
        except (TypeError, ValueError):
            require(False, "Each list must hold pairs of tokens and one log-probability.")
    return lists


@tasks.add(points=3, minutes=20)
def beam_step(student, rng):
    """One step of beam search."""
    V, width, end = 7, 4, int(rng.integers(0, 7))
    words = [i for i in range(V) if i != end]
    beams = [(tuple(int(i) for i in rng.choice(words, 3)), -float(p)) for p in np.sort(rng.uniform(1, 2, 4))]
    beams[3] = (beams[3][0], -9.0)  # so that the best four are not one of each beam
    logits = rng.normal(0, 1.5, size=(4, V))
    logits[0, end] = logits[0].max() + 0.5  # so that the best beam can end
    logp = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    def extend(score=lambda before, new: before + new, rows=range(4)):
        return [((*beams[r][0], i), float(score(beams[r][1], logp[r, i]))) for r in rows for i in range(V)]

    def cut(longer, n=width, reverse=True):
        best = sorted(longer, key=lambda beam: beam[1], reverse=reverse)[:n]
        return [b for b in best if b[0][-1] != end], [b for b in best if b[0][-1] == end]

    def equal(a, b):
        return all(
            [t for t, _ in x] == [t for t, _ in y] and np.allclose([p for _, p in x], [p for _, p in y], atol=1e-4)
            for x, y in zip(a, b, strict=True)
        )

    expected = cut(extend())
    got = _beams(student(beams, logp, width, end))
    everything = sorted(extend(), key=lambda beam: -beam[1])
    open_only = [b for b in everything if b[0][-1] != end][:width]
    wrongs = [
        (
            cut(extend(lambda before, new: new)),
            "The log-probability so far is missing: a beam's value is the sum of all its tokens'.",
        ),
        (cut(extend(lambda before, new: before * new)), "You multiplied logarithms; probabilities multiply, logs add."),
        (
            cut(extend(lambda before, new: np.exp(before + new))),
            "You returned probabilities; stay with log-probabilities, which do not underflow.",
        ),
        (cut(extend(), reverse=False), "You kept the worst: log-probabilities are negative, the best is the largest."),
        (
            cut([max(extend(rows=[r]), key=lambda b: b[1]) for r in range(4)]),
            "You kept the best extension of each beam; the width best of all may come from the same beam.",
        ),
        (cut(extend(), n=4 * V), "You kept all extensions; only the width best of them survive."),
        (
            cut([b for r in range(4) for b in sorted(extend(rows=[r]), key=lambda b: -b[1])[:width]], n=4 * V),
            "You kept width extensions of every beam; width is what is left of all of them together.",
        ),
        (
            (everything[:width], []),
            "Nothing is finished in your answer: what ends with the token end belongs in the second list.",
        ),
        (expected[::-1], "The two lists are exchanged: first those that go on, then the finished."),
        (
            (open_only, expected[1]),
            "The finished ones take up no place in your beam: width counts both lists together.",
        ),
        (cut(extend(rows=[0])), "You extended the best beam only; the others may hold the better continuation."),
        ((expected[0][::-1], expected[1][::-1]), "The lists are sorted from worst to best; the best comes first."),
        ((sorted(expected[0]), sorted(expected[1])), "The lists are not sorted from best to worst."),
    ]
    if not equal(got, expected):
        for wrong, message in wrongs:
            same = [len(x) for x in wrong] == [len(x) for x in got] and equal(got, wrong)
            require(not same, message)
    require([len(x) for x in got] == [len(x) for x in expected] and equal(got, expected), _difference(got, expected))


def _difference(got, expected):
    """What was expected, and what came."""
    shown = [[(tokens, round(p, 2)) for tokens, p in part] for pair in (expected, got) for part in pair]
    return f"Expected going on {shown[0]} and finished {shown[1]}, got {shown[2]} and {shown[3]}."
