"""Plausible wrong answers to the exercises on the Transformer, each with the message that must reject it."""

import numpy as np

from lmcore.checking import mutant


def _norm(x, weight, bias, eps, *, axis=-1, ddof=0, centre=True, root=np.sqrt):
    """A layer norm of which one part can be wrong."""
    centred = x - x.mean(axis=axis, keepdims=True) if centre else x
    n = x.size if axis is None else x.shape[axis]
    variance = (centred**2).sum(axis=axis, keepdims=True) / (n - ddof)
    return centred / root(variance + eps) * weight + bias


@mutant("layer_norm", rejected_with="divides by d − 1")
def estimates_the_variance(x, weight, bias, eps):
    return _norm(x, weight, bias, eps, ddof=1)


@mutant("layer_norm", rejected_with="outside the root")
def adds_eps_to_the_deviation(x, weight, bias, eps):
    return (x - x.mean(-1, keepdims=True)) / (x.std(-1, keepdims=True) + eps) * weight + bias


@mutant("layer_norm", rejected_with="divide by its root")
def divides_by_the_variance(x, weight, bias, eps):
    return _norm(x, weight, bias, eps, root=lambda v: v)


@mutant("layer_norm", rejected_with="That is RMS norm")
def does_not_subtract_the_mean(x, weight, bias, eps):
    return _norm(x, weight, bias, eps, centre=False)


@mutant("layer_norm", rejected_with="mixes the words of a batch")
def normalizes_over_the_batch(x, weight, bias, eps):
    return _norm(x, weight, bias, eps, axis=0)


@mutant("layer_norm", rejected_with="one mean for the whole array")
def normalizes_everything_at_once(x, weight, bias, eps):
    return _norm(x, weight, bias, eps, axis=None)


@mutant("layer_norm", rejected_with="scale and shift after normalizing")
def forgets_weight_and_bias(x, weight, bias, eps):
    return _norm(x, 1, 0, eps)


@mutant("layer_norm", rejected_with="eps is missing")
def forgets_eps(x, weight, bias, eps):
    return _norm(x, weight, bias, 0)


@mutant("add_sublayer", rejected_with="You exchanged the two")
def exchanges_the_orders(x, f, norm, order):
    return x + f(norm(x)) if order == "post" else norm(x + f(x))


@mutant("add_sublayer", rejected_with="Both orders give the same")
def ignores_the_order(x, f, norm, order):
    return x + f(norm(x))


@mutant("add_sublayer", rejected_with="pre: the residual is missing")
def replaces_instead_of_adding(x, f, norm, order):
    return f(norm(x)) if order == "pre" else norm(f(x))


@mutant("add_sublayer", rejected_with="nothing runs straight through")
def adds_to_the_norm(x, f, norm, order):
    if order == "post":
        return norm(x + f(x))
    x = norm(x)
    return x + f(x)


@mutant("add_sublayer", rejected_with="belongs around the sum")
def normalizes_the_correction(x, f, norm, order):
    return x + f(norm(x)) if order == "pre" else x + norm(f(x))


@mutant("add_sublayer", rejected_with="post: the residual is missing")
def forgets_the_residual_in_post(x, f, norm, order):
    return x + f(norm(x)) if order == "pre" else norm(f(x))


@mutant("add_sublayer", rejected_with="f is given the normalized x")
def normalizes_twice(x, f, norm, order):
    return x + f(norm(x)) if order == "pre" else norm(x + f(norm(x)))


def _row(t, d, base, *, angles=None, order=(0, 1)):
    """A row of positions of which one part can be wrong."""
    angles = t * base ** (-2 * np.arange(d // 2) / d) if angles is None else angles
    row = np.empty(d)
    row[order[0] :: 2], row[order[1] :: 2] = np.sin(angles), np.cos(angles)
    return row


@mutant("position_row", rejected_with="Sine and cosine are exchanged")
def begins_with_the_cosine(t, d, base):
    return _row(t, d, base, order=(1, 0))


@mutant("position_row", rejected_with="All sines come first")
def puts_the_sines_first(t, d, base):
    angles = t * base ** (-2 * np.arange(d // 2) / d)
    return np.concatenate([np.sin(angles), np.cos(angles)])


@mutant("position_row", rejected_with="should be −2i/d")
def forgets_the_two(t, d, base):
    return _row(t, d, base, angles=t * base ** (-np.arange(d // 2) / d))


@mutant("position_row", rejected_with="more and more slowly")
def turns_faster_and_faster(t, d, base):
    return _row(t, d, base, angles=t * base ** (2 * np.arange(d // 2) / d))


@mutant("position_row", rejected_with="counted positions from 1")
def counts_from_one(t, d, base):
    return _row(t + 1, d, base)


@mutant("position_row", rejected_with="the number of the coordinate as i")
def takes_the_coordinate_for_the_pair(t, d, base):
    i = np.arange(d)
    angles = t * base ** (-2 * i / d)
    return np.where(i % 2 == 0, np.sin(angles), np.cos(angles))


@mutant("position_row", rejected_with="not the hand of one clock")
def gives_each_coordinate_its_own_angle(t, d, base):
    i = np.arange(d)
    angles = t * base ** (-i / d)
    return np.where(i % 2 == 0, np.sin(angles), np.cos(angles))


@mutant("position_row", rejected_with="although base is an argument")
def ignores_the_base(t, d, base):
    return _row(t, d, 10000.0)


def _turn(x, t, base, *, angles=None, signs=(-1, 1)):
    """A turn of neighbours of which one part can be wrong."""
    d = len(x)
    angles = t * base ** (-2 * np.arange(d // 2) / d) if angles is None else angles
    a, b = x[0::2], x[1::2]
    y = np.empty(d)
    y[0::2] = a * np.cos(angles) + signs[0] * b * np.sin(angles)
    y[1::2] = signs[1] * a * np.sin(angles) + b * np.cos(angles)
    return y


@mutant("rotate", rejected_with="Your pairs are i and i + d/2")
def pairs_the_halves(x, t, base):
    half = len(x) // 2
    angles = t * base ** (-np.arange(half) / half)
    a, b = x[:half], x[half:]
    return np.concatenate([a * np.cos(angles) - b * np.sin(angles), a * np.sin(angles) + b * np.cos(angles)])


@mutant("rotate", rejected_with="the other way round")
def turns_backwards(x, t, base):
    return _turn(x, t, base, signs=(1, -1))


@mutant("rotate", rejected_with="Both signs are plus")
def has_two_pluses(x, t, base):
    return _turn(x, t, base, signs=(1, 1))


@mutant("rotate", rejected_with="The position is missing")
def forgets_the_position(x, t, base):
    return _turn(x, 1, base)


@mutant("rotate", rejected_with="All pairs turn by the same angle")
def turns_all_pairs_alike(x, t, base):
    return _turn(x, t, base, angles=float(t))


@mutant("rotate", rejected_with="torn apart")
def joins_the_halves(x, t, base):
    y = _turn(x, t, base)
    return np.concatenate([y[0::2], y[1::2]])


@mutant("rotate", rejected_with="You overwrote a")
def overwrites_too_early(x, t, base):
    d = len(x)
    angles = t * base ** (-2 * np.arange(d // 2) / d)
    y = x.copy()
    y[0::2] = y[0::2] * np.cos(angles) - y[1::2] * np.sin(angles)
    y[1::2] = y[0::2] * np.sin(angles) + y[1::2] * np.cos(angles)
    return y


@mutant("rotate", rejected_with="You added sinusoidal positions")
def adds_positions(x, t, base):
    return x + _row(t, len(x), base)


@mutant("rotate", rejected_with="should be −2i/d")
def forgets_the_two_in_the_exponent(x, t, base):
    return _turn(x, t, base, angles=t * base ** (-np.arange(len(x) // 2) / len(x)))


def _parts(lengths, T):
    """The causal part (1, T, T) and the real places (B, T)."""
    places = np.arange(T)
    return np.tri(T, dtype=bool)[None], places < np.asarray(lengths)[:, None]


@mutant("decoder_mask", rejected_with="Your mask is inverted")
def says_who_may_not(lengths, T):
    causal, real = _parts(lengths, T)
    return ~(causal & real[:, None, :])


@mutant("decoder_mask", rejected_with="with 'or'")
def joins_with_or(lengths, T):
    causal, real = _parts(lengths, T)
    return causal | real[:, None, :]


@mutant("decoder_mask", rejected_with="the diagonal is missing")
def forbids_the_query_itself(lengths, T):
    _, real = _parts(lengths, T)
    return np.tri(T, k=-1, dtype=bool)[None] & real[:, None, :]


@mutant("decoder_mask", rejected_with="Queries see the future")
def exchanges_query_and_key(lengths, T):
    causal, real = _parts(lengths, T)
    return causal.swapaxes(1, 2) & real[:, None, :]


@mutant("decoder_mask", rejected_with="softmax over nothing")
def hides_the_queries(lengths, T):
    causal, real = _parts(lengths, T)
    return causal & real[:, :, None]


@mutant("decoder_mask", rejected_with="The padding is missing")
def forgets_the_padding(lengths, T):
    return np.repeat(np.tri(T, dtype=bool)[None], len(lengths), axis=0)


@mutant("decoder_mask", rejected_with="One padded key too many")
def counts_one_too_far(lengths, T):
    causal, _ = _parts(lengths, T)
    return causal & (np.arange(T) <= np.asarray(lengths)[:, None])[:, None, :]


def _loss(logits, targets, s, pad, *, on=None, off=None, kept=None, mean=True, stable=True):
    """A smoothed loss of which one part can be wrong."""
    n, V = logits.shape
    kept = targets != pad if kept is None else kept
    if stable:
        logits = logits - logits.max(axis=1, keepdims=True)
    logp = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    wish = np.full((n, V), s / V if off is None else off)
    wish[np.arange(n), targets] = 1 - s + s / V if on is None else on
    each = -(wish * logp).sum(axis=1)[kept]
    return each.mean() if mean else each.sum()


@mutant("smoothed_loss", rejected_with="loss without smoothing")
def does_not_smooth(logits, targets, s, pad):
    return _loss(logits, targets, 0.0, pad)


@mutant("smoothed_loss", rejected_with="V − 1 other tokens")
def spreads_over_the_others(logits, targets, s, pad):
    return _loss(logits, targets, s, pad, on=1 - s, off=s / (logits.shape[1] - 1))


@mutant("smoothed_loss", rejected_with="do not sum to one")
def forgets_the_targets_own_share(logits, targets, s, pad):
    return _loss(logits, targets, s, pad, on=1 - s)


@mutant("smoothed_loss", rejected_with="has 1 − s left")
def only_adds_the_share_of_all(logits, targets, s, pad):
    return _loss(logits, targets, s, pad, on=1 + s / logits.shape[1])


@mutant("smoothed_loss", rejected_with="gave it to nobody")
def only_takes_away(logits, targets, s, pad):
    return _loss(logits, targets, s, pad, on=1 - s, off=0.0)


@mutant("smoothed_loss", rejected_with="are counted; leave them out")
def counts_the_padding(logits, targets, s, pad):
    return _loss(logits, targets, s, pad, kept=np.ones(len(targets), dtype=bool))


@mutant("smoothed_loss", rejected_with="but divided by all places")
def divides_by_all(logits, targets, s, pad):
    return _loss(logits, targets, s, pad, mean=False) / len(targets)


@mutant("smoothed_loss", rejected_with="That is the sum")
def sums(logits, targets, s, pad):
    return _loss(logits, targets, s, pad, mean=False)


@mutant("smoothed_loss", rejected_with="The sign is wrong")
def forgets_the_minus(logits, targets, s, pad):
    return -_loss(logits, targets, s, pad)


@mutant("smoothed_loss", rejected_with="exp overflows")
def overflows(logits, targets, s, pad):
    return _loss(logits, targets, s, pad, stable=False)


@mutant("smoothed_loss", rejected_with="exp overflows")
def takes_the_logarithm_of_zero(logits, targets, s, pad):
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    logp = np.log(p / p.sum(axis=1, keepdims=True))
    kept = targets != pad
    at_target = logp[np.arange(len(targets)), targets]
    return -((1 - s) * at_target + s * logp.mean(axis=1))[kept].mean()


def _step(beams, logp, width, end, *, score=lambda before, new: before + new, sign=-1, choose=None):
    """A step of which one part can be wrong."""
    longer = [
        ((*tokens, i), score(before, float(logp[row, i])))
        for row, (tokens, before) in enumerate(beams)
        for i in range(logp.shape[1])
    ]
    best = choose(longer) if choose else sorted(longer, key=lambda beam: sign * beam[1])[:width]
    return [b for b in best if b[0][-1] != end], [b for b in best if b[0][-1] == end]


def _rows(longer, beams):
    """The extensions of each beam, best first."""
    size = len(longer) // len(beams)
    rows = [longer[i * size : (i + 1) * size] for i in range(len(beams))]
    return [sorted(row, key=lambda beam: -beam[1]) for row in rows]


@mutant("beam_step", rejected_with="so far is missing")
def forgets_what_came_before(beams, logp, width, end):
    return _step(beams, logp, width, end, score=lambda before, new: new)


@mutant("beam_step", rejected_with="You multiplied logarithms")
def multiplies_logarithms(beams, logp, width, end):
    return _step(beams, logp, width, end, score=lambda before, new: before * new)


@mutant("beam_step", rejected_with="You returned probabilities")
def returns_probabilities(beams, logp, width, end):
    return _step(beams, logp, width, end, score=lambda before, new: np.exp(before + new))


@mutant("beam_step", rejected_with="You kept the worst")
def keeps_the_worst(beams, logp, width, end):
    return _step(beams, logp, width, end, sign=1)


@mutant("beam_step", rejected_with="best extension of each beam")
def continues_every_beam(beams, logp, width, end):
    def choose(longer):
        return sorted([row[0] for row in _rows(longer, beams)], key=lambda beam: -beam[1])[:width]

    return _step(beams, logp, width, end, choose=choose)


@mutant("beam_step", rejected_with="width extensions of every beam")
def keeps_width_of_each(beams, logp, width, end):
    def choose(longer):
        kept = [beam for row in _rows(longer, beams) for beam in row[:width]]
        return sorted(kept, key=lambda beam: -beam[1])

    return _step(beams, logp, width, end, choose=choose)


@mutant("beam_step", rejected_with="Nothing is finished")
def never_finishes(beams, logp, width, end):
    return _step(beams, logp, width, None)


@mutant("beam_step", rejected_with="The two lists are exchanged")
def exchanges_the_lists(beams, logp, width, end):
    return _step(beams, logp, width, end)[::-1]


@mutant("beam_step", rejected_with="take up no place")
def fills_up_the_beam(beams, logp, width, end):
    going_on, _ = _step(beams, logp, logp.size, end)
    return going_on[:width], _step(beams, logp, width, end)[1]


@mutant("beam_step", rejected_with="worst to best")
def sorts_upwards(beams, logp, width, end):
    going_on, finished = _step(beams, logp, width, end)
    return going_on[::-1], finished[::-1]


@mutant("add_sublayer", rejected_with="not norm(x + f(x))")
def normalizes_the_sum_twice(x, f, norm, order):
    return x + f(norm(x)) if order == "pre" else norm(norm(x + f(x)))
