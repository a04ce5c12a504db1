"""Wrong answers to the exercises on recurrent networks, each with a part of the message that must reject it."""

import numpy as np

from lmcore.checking import mutant


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


# ---- rnn_states ----


def _read(X, h, step, carry=True):
    states = []
    for x in X:
        new = step(x, h)
        states.append(new)
        h = new if carry else h
    return np.array(states)


@mutant("rnn_states", rejected_with="must replace it")
def never_updates_the_state(X, h, W, U, b):
    return _read(X, h, lambda x, h: np.tanh(W @ x + U @ h + b), carry=False)


@mutant("rnn_states", rejected_with="You started from zeros")
def starts_from_zeros(X, h, W, U, b):
    return _read(X, 0 * h, lambda x, h: np.tanh(W @ x + U @ h + b))


@mutant("rnn_states", rejected_with="The tanh is missing")
def forgets_the_tanh(X, h, W, U, b):
    return _read(X, h, lambda x, h: W @ x + U @ h + b)


@mutant("rnn_states", rejected_with="sigmoid where tanh belongs")
def takes_a_sigmoid(X, h, W, U, b):
    return _read(X, h, lambda x, h: sigmoid(W @ x + U @ h + b))


@mutant("rnn_states", rejected_with="U transposed")
def multiplies_from_the_left(X, h, W, U, b):
    return _read(X, h, lambda x, h: np.tanh(W @ x + h @ U + b))


@mutant("rnn_states", rejected_with="the last state alone")
def returns_the_last_state(X, h, W, U, b):
    return _read(X, h, lambda x, h: np.tanh(W @ x + U @ h + b))[-1]


@mutant("rnn_states", rejected_with="One row too many")
def keeps_the_first_state(X, h, W, U, b):
    return np.vstack([h, _read(X, h, lambda x, h: np.tanh(W @ x + U @ h + b))])


@mutant("rnn_states", rejected_with="constants b are missing")
def forgets_the_constants(X, h, W, U, b):
    return _read(X, h, lambda x, h: np.tanh(W @ x + U @ h))


# ---- rnn_gradient ----


def _back(X, h, states, U, d_states, *, slope=None, pass_on=None, before=None, counts=None):
    before = np.vstack([h, states[:-1]]) if before is None else before
    slope = 1 - states**2 if slope is None else slope
    pass_on = pass_on or (lambda dz: U.T @ dz)
    dW, dU, dh = 0, 0, np.zeros(len(h))
    for t in reversed(range(len(X))):
        dz = (d_states[t] + dh) * slope[t]
        if counts is None or counts(t):
            dW, dU = dW + np.outer(dz, X[t]), dU + np.outer(dz, before[t])
        dh = pass_on(dz)
    return dW, dU


@mutant("rnn_gradient", rejected_with="acts through the next one")
def ignores_later_steps(X, h, states, U, d_states):
    return _back(X, h, states, U, d_states, pass_on=np.zeros_like)


@mutant("rnn_gradient", rejected_with="slope of the tanh, 1 − h², is missing")
def forgets_the_slope(X, h, states, U, d_states):
    return _back(X, h, states, U, d_states, slope=np.ones_like(states))


@mutant("rnn_gradient", rejected_with="not U times δz")
def passes_back_without_transposing(X, h, states, U, d_states):
    return _back(X, h, states, U, d_states, pass_on=lambda dz: U @ dz)


@mutant("rnn_gradient", rejected_with="state *before* the step")
def takes_the_state_after_the_step(X, h, states, U, d_states):
    return _back(X, h, states, U, d_states, before=states)


@mutant("rnn_gradient", rejected_with="given and not zero")
def assumes_a_first_state_of_zero(X, h, states, U, d_states):
    return _back(X, 0 * h, states, U, d_states)


@mutant("rnn_gradient", rejected_with="Only the last step counted")
def counts_the_last_step(X, h, states, U, d_states):
    return _back(X, h, states, U, d_states, counts=lambda t: t == len(X) - 1)


@mutant("rnn_gradient", rejected_with="needs the state after the step")
def takes_the_slope_of_the_old_state(X, h, states, U, d_states):
    return _back(X, h, states, U, d_states, slope=1 - np.vstack([h, states[:-1]]) ** 2)


@mutant("rnn_gradient", rejected_with="are transposed")
def transposes_the_outer_product(X, h, states, U, d_states):
    dW, dU = _back(X, h, states, U, d_states)
    return dW.T, dU.T


@mutant("rnn_gradient", rejected_with="mean over the steps")
def averages_over_the_steps(X, h, states, U, d_states):
    dW, dU = _back(X, h, states, U, d_states)
    return dW / len(X), dU / len(X)


# ---- lstm_step ----


def _sums(x, h, W, U, b):
    return np.split(W @ x + U @ h + b, 4)


@mutant("lstm_step", rejected_with="formula with one gate")
def has_one_gate(x, h, c, W, U, b):
    _, _, g, o = _sums(x, h, W, U, b)
    h = sigmoid(o) * np.tanh(g) + (1 - sigmoid(o)) * h
    return h, h


@mutant("lstm_step", rejected_with="not through a sigmoid")
def puts_the_content_through_a_sigmoid(x, h, c, W, U, b):
    i, f, g, o = sigmoid(np.array(_sums(x, h, W, U, b)))
    c = f * c + i * g
    return o * np.tanh(c), c


@mutant("lstm_step", rejected_with="shown through tanh, not through a sigmoid")
def shows_through_a_sigmoid(x, h, c, W, U, b):
    i, f, g, o = _sums(x, h, W, U, b)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * sigmoid(c), c


@mutant("lstm_step", rejected_with="there is a tanh")
def shows_the_cell_as_it_is(x, h, c, W, U, b):
    i, f, g, o = _sums(x, h, W, U, b)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * c, c


@mutant("lstm_step", rejected_with="input gate and the forget gate are exchanged")
def exchanges_two_gates(x, h, c, W, U, b):
    f, i, g, o = _sums(x, h, W, U, b)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


@mutant("lstm_step", rejected_with="you took o before g")
def takes_another_order(x, h, c, W, U, b):
    i, f, o, g = _sums(x, h, W, U, b)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


@mutant("lstm_step", rejected_with="you took the old one")
def shows_the_old_cell(x, h, c, W, U, b):
    i, f, g, o = _sums(x, h, W, U, b)
    return sigmoid(o) * np.tanh(c), sigmoid(f) * c + sigmoid(i) * np.tanh(g)


@mutant("lstm_step", rejected_with="not 1 − f")
def couples_the_gates(x, h, c, W, U, b):
    _, f, g, o = _sums(x, h, W, U, b)
    c = sigmoid(f) * c + (1 - sigmoid(f)) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


@mutant("lstm_step", rejected_with="not the old state h")
def keeps_the_state(x, h, c, W, U, b):
    i, f, g, o = _sums(x, h, W, U, b)
    c = sigmoid(f) * h + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


@mutant("lstm_step", rejected_with="state first and the cell second")
def returns_the_cell_first(x, h, c, W, U, b):
    i, f, g, o = _sums(x, h, W, U, b)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return c, sigmoid(o) * np.tanh(c)


# ---- gru_step ----


def _parts(x, h, W, U, b, c):
    return np.split(W @ x + b, 3), np.split(U @ h + c, 3)


@mutant("gru_step", rejected_with="as in the paper")
def resets_before_the_product(x, h, W, U, b, c):
    (xr, xz, xn), (hr, hz, _) = _parts(x, h, W, U, b, c)
    r, z, rows = sigmoid(xr + hr), sigmoid(xz + hz), slice(2 * len(h), None)
    n = np.tanh(xn + U[rows] @ (r * h) + c[rows])
    return (1 - z) * n + z * h


@mutant("gru_step", rejected_with="the constant too")
def does_not_reset_the_constant(x, h, W, U, b, c):
    (xr, xz, xn), (hr, hz, _) = _parts(x, h, W, U, b, c)
    r, z, rows = sigmoid(xr + hr), sigmoid(xz + hz), slice(2 * len(h), None)
    n = np.tanh(xn + r * (U[rows] @ h) + c[rows])
    return (1 - z) * n + z * h


@mutant("gru_step", rejected_with="z and 1 − z are exchanged")
def mixes_the_other_way(x, h, W, U, b, c):
    (xr, xz, xn), (hr, hz, hn) = _parts(x, h, W, U, b, c)
    z = sigmoid(xz + hz)
    return z * np.tanh(xn + sigmoid(xr + hr) * hn) + (1 - z) * h


@mutant("gru_step", rejected_with="blocks of r and z are exchanged")
def exchanges_the_gates(x, h, W, U, b, c):
    (xz, xr, xn), (hz, hr, hn) = _parts(x, h, W, U, b, c)
    z = sigmoid(xz + hz)
    return (1 - z) * np.tanh(xn + sigmoid(xr + hr) * hn) + z * h


@mutant("gru_step", rejected_with="reset gate is not used")
def never_resets(x, h, W, U, b, c):
    _, xz, xn = np.split(W @ x + U @ h + b + c, 3)
    return (1 - sigmoid(xz)) * np.tanh(xn) + sigmoid(xz) * h


@mutant("gru_step", rejected_with="The candidate goes through tanh")
def takes_a_sigmoid_for_the_candidate(x, h, W, U, b, c):
    (xr, xz, xn), (hr, hz, hn) = _parts(x, h, W, U, b, c)
    z = sigmoid(xz + hz)
    return (1 - z) * sigmoid(xn + sigmoid(xr + hr) * hn) + z * h


@mutant("gru_step", rejected_with="candidate alone")
def returns_the_candidate(x, h, W, U, b, c):
    (xr, _, xn), (hr, _, hn) = _parts(x, h, W, U, b, c)
    return np.tanh(xn + sigmoid(xr + hr) * hn)


# ---- last_and_mean ----


def _mask(outputs, lengths):
    return (np.arange(outputs.shape[1]) < lengths[:, None])[..., None]


def _last(outputs, lengths):
    return outputs[np.arange(len(lengths)), lengths - 1]


@mutant("last_and_mean", rejected_with="last *step* of the batch")
def takes_the_last_step(outputs, lengths):
    return outputs[:, -1], (outputs * _mask(outputs, lengths)).sum(axis=1) / lengths[:, None]


@mutant("last_and_mean", rejected_with="One step too far")
def goes_one_step_too_far(outputs, lengths):
    last = outputs[np.arange(len(lengths)), np.minimum(lengths, outputs.shape[1] - 1)]
    return last, (outputs * _mask(outputs, lengths)).sum(axis=1) / lengths[:, None]


@mutant("last_and_mean", rejected_with="averaged over the padding")
def averages_everything(outputs, lengths):
    return _last(outputs, lengths), outputs.mean(axis=1)


@mutant("last_and_mean", rejected_with="divided by all steps")
def divides_by_all_steps(outputs, lengths):
    return _last(outputs, lengths), (outputs * _mask(outputs, lengths)).mean(axis=1)


@mutant("last_and_mean", rejected_with="last real output is missing")
def leaves_out_the_last(outputs, lengths):
    total = (outputs * _mask(outputs, lengths - 1)).sum(axis=1)
    return _last(outputs, lengths), total / lengths[:, None]


@mutant("last_and_mean", rejected_with="That is the sum")
def returns_the_sum(outputs, lengths):
    return _last(outputs, lengths), (outputs * _mask(outputs, lengths)).sum(axis=1)


@mutant("last_and_mean", rejected_with="first, then the means")
def returns_the_means_first(outputs, lengths):
    mean = (outputs * _mask(outputs, lengths)).sum(axis=1) / lengths[:, None]
    return mean, _last(outputs, lengths)


# ---- reach ----


def _bias(distance, share):
    gate = share ** (1 / distance)
    return np.log(gate / (1 - gate))


def _steps(share, bias):
    return int(np.log(share) / np.log(sigmoid(bias)))


@mutant("reach", rejected_with="That is the gate itself")
def returns_the_gate(distance, share, bias):
    return share ** (1 / distance), _steps(share, bias)


@mutant("reach", rejected_with="after *one* step")
def forgets_the_root(distance, share, bias):
    return np.log(share / (1 - share)), _steps(share, bias)


@mutant("reach", rejected_with="logarithm of the gate")
def takes_the_logarithm(distance, share, bias):
    return np.log(share) / distance, _steps(share, bias)


@mutant("reach", rejected_with="keeps about a third")
def uses_a_rule_of_thumb(distance, share, bias):
    return np.log(distance - 1), _steps(share, bias)


@mutant("reach", rejected_with="take the root, do not divide")
def divides_the_share(distance, share, bias):
    gate = share / distance
    return np.log(gate / (1 - gate)), _steps(share, bias)


@mutant("reach", rejected_with="Round down")
def rounds_up(distance, share, bias):
    return _bias(distance, share), _steps(share, bias) + 1


@mutant("reach", rejected_with="what is *left*")
def loses_the_share(distance, share, bias):
    return _bias(distance, share), _steps(1 - share, bias)


@mutant("reach", rejected_with="does not subtract")
def subtracts_at_every_step(distance, share, bias):
    return _bias(distance, share), int((1 - share) / (1 - sigmoid(bias)))


# ---- truncated_slope ----


def _pieces(x, y, w, u, steps, *, carry=True, within=True, shift=0, skip=0, until=None):
    slope, h = 0.0, 0.0
    for start in range(0, len(x) if until is None else until, steps):
        xs, ys = x[start : start + steps], y[start : start + steps]
        states = [h if carry else 0.0]
        for value in xs:
            states.append(w * value + u * states[-1])
        h, dh = states[-1], 0.0
        for k in reversed(range(len(xs))):
            dh = states[k + 1] - ys[k] + (u * dh if within else 0.0)
            slope += dh * states[k + shift] if k >= skip else 0.0
    return slope


@mutant("truncated_slope", rejected_with="That is the full gradient")
def does_not_cut(x, y, w, u, steps):
    return _pieces(x, y, w, u, len(x))


@mutant("truncated_slope", rejected_with="only the gradient is to be cut")
def cuts_the_state_too(x, y, w, u, steps):
    return _pieces(x, y, w, u, steps, carry=False)


@mutant("truncated_slope", rejected_with="Inside a piece")
def cuts_at_every_step(x, y, w, u, steps):
    return _pieces(x, y, w, u, steps, within=False)


@mutant("truncated_slope", rejected_with="state *before* the step")
def takes_the_state_after_its_step(x, y, w, u, steps):
    return _pieces(x, y, w, u, steps, shift=1)


@mutant("truncated_slope", rejected_with="first step of a piece counts too")
def skips_the_first_step(x, y, w, u, steps):
    return _pieces(x, y, w, u, steps, skip=1)


@mutant("truncated_slope", rejected_with="last piece is shorter")
def drops_the_last_piece(x, y, w, u, steps):
    return _pieces(x, y, w, u, steps, until=len(x) // steps * steps)


@mutant("truncated_slope", rejected_with="mean over the pieces")
def averages_over_the_pieces(x, y, w, u, steps):
    return _pieces(x, y, w, u, steps) / len(range(0, len(x), steps))


@mutant("truncated_slope", rejected_with="factor ½")
def forgets_the_half(x, y, w, u, steps):
    return 2 * _pieces(x, y, w, u, steps)


@mutant("reach", rejected_with="Round down")
def rounds_to_the_nearest(distance, share, bias):
    gate, kept = share ** (1 / distance), 1 / (1 + np.exp(-bias))
    return np.log(gate / (1 - gate)), round(np.log(share) / np.log(kept))
