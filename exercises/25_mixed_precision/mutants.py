"""Plausible wrong answers to the exercises on mixed precision, each with a part of the message that must reject it."""

import numpy as np

from lmcore.checking import mutant


def _fields(bits, exponent, mantissa):
    """Sign, exponent field and mantissa field."""
    return -1.0 if bits[0] == "1" else 1.0, int(bits[1 : 1 + exponent], 2), int(bits[1 + exponent :], 2)


@mutant("read", rejected_with="The hidden 1 is missing")
def forgets_the_hidden_one(bits, exponent, mantissa):
    sign, E, M = _fields(bits, exponent, mantissa)
    return sign * 2.0 ** (E - 2 ** (exponent - 1) + 1) * M / 2**mantissa


@mutant("read", rejected_with="yours is 2^(e−1)")
def has_a_bias_one_too_large(bits, exponent, mantissa):
    sign, E, M = _fields(bits, exponent, mantissa)
    return sign * 2.0 ** (E - 2 ** (exponent - 1)) * (1 + M / 2**mantissa)


@mutant("read", rejected_with="Subtract the bias")
def forgets_the_bias(bits, exponent, mantissa):
    sign, E, M = _fields(bits, exponent, mantissa)
    return sign * 2.0**E * (1 + M / 2**mantissa)


@mutant("read", rejected_with="has no hidden 1")
def knows_no_subnormal_numbers(bits, exponent, mantissa):
    sign, E, M = _fields(bits, exponent, mantissa)
    return sign * 2.0 ** (E - 2 ** (exponent - 1) + 1) * (1 + M / 2**mantissa)


@mutant("read", rejected_with="the power of field 1")
def gives_subnormal_numbers_the_power_of_field_0(bits, exponent, mantissa):
    sign, E, M = _fields(bits, exponent, mantissa)
    return sign * 2.0 ** (E - 2 ** (exponent - 1) + 1) * ((E > 0) + M / 2**mantissa)


@mutant("read", rejected_with="wrong sign")
def forgets_the_sign(bits, exponent, mantissa):
    _, E, M = _fields(bits, exponent, mantissa)
    return 2.0 ** (max(E, 1) - 2 ** (exponent - 1) + 1) * ((E > 0) + M / 2**mantissa)


@mutant("read", rejected_with="The highest exponent field is no exponent")
def knows_no_specials(bits, exponent, mantissa):
    sign, E, M = _fields(bits, exponent, mantissa)
    return sign * 2.0 ** (max(E, 1) - 2 ** (exponent - 1) + 1) * ((E > 0) + M / 2**mantissa)


@mutant("read", rejected_with="means NaN, not infinity")
def makes_all_specials_infinite(bits, exponent, mantissa):
    sign, E, _ = _fields(bits, exponent, mantissa)
    return sign * float("inf") if 2**exponent - 1 == E else knows_no_specials(bits, exponent, mantissa)


@mutant("read", rejected_with="means infinity, not NaN")
def makes_all_specials_nan(bits, exponent, mantissa):
    _, E, _ = _fields(bits, exponent, mantissa)
    return float("nan") if 2**exponent - 1 == E else knows_no_specials(bits, exponent, mantissa)


def _small(exponent, mantissa):
    """The smallest normal and the smallest number."""
    normal = 2.0 ** (2 - 2 ** (exponent - 1))
    return normal, normal * 2.0**-mantissa


@mutant("limits", rejected_with="In fn the highest exponent field holds numbers")
def takes_fn_for_ieee(exponent, mantissa, specials):
    return 2.0 ** (2 ** (exponent - 1) - 1) * (2 - 2.0**-mantissa), *_small(exponent, mantissa)


@mutant("limits", rejected_with="the largest number has the one below")
def has_no_specials(exponent, mantissa, specials):
    return 2.0 ** (2 ** (exponent - 1)) * (2 - 2.0**-mantissa), *_small(exponent, mantissa)


@mutant("limits", rejected_with="reserved, not only one pattern")
def takes_ieee_for_fn(exponent, mantissa, specials):
    return 2.0 ** (2 ** (exponent - 1)) * (2 - 2 * 2.0**-mantissa), *_small(exponent, mantissa)


@mutant("limits", rejected_with="The last pattern of fn is NaN")
def forgets_the_nan_of_fn(exponent, mantissa, specials):
    top = 2 ** (exponent - 1) - (specials == "ieee")
    return 2.0**top * (2 - 2.0**-mantissa), *_small(exponent, mantissa)


@mutant("limits", rejected_with="full mantissa")
def takes_a_bare_power_as_largest(exponent, mantissa, specials):
    return 2.0 ** (2 ** (exponent - 1) - (specials == "ieee")), *_small(exponent, mantissa)


def _largest(exponent, mantissa, specials):
    """The largest number, as it should be."""
    top = 2 ** (exponent - 1) - (specials == "ieee")
    return 2.0**top * (2 - (1 + (specials == "fn")) * 2.0**-mantissa)


@mutant("limits", rejected_with="the exponent field 1, not 0")
def begins_normal_numbers_at_field_0(exponent, mantissa, specials):
    normal, smallest = _small(exponent, mantissa)
    return _largest(exponent, mantissa, specials), normal / 2, smallest


@mutant("limits", rejected_with="there are subnormal ones")
def forgets_subnormal_numbers(exponent, mantissa, specials):
    normal, _ = _small(exponent, mantissa)
    return _largest(exponent, mantissa, specials), normal, normal


@mutant("limits", rejected_with="not 2^(−b)")
def gives_subnormal_numbers_a_power_too_low(exponent, mantissa, specials):
    normal, smallest = _small(exponent, mantissa)
    return _largest(exponent, mantissa, specials), normal, smallest / 2


@mutant("training_bytes", rejected_with="You counted bits")
def counts_bits(trained, frozen, bits, master, moments):
    return (2 * trained + frozen) * bits + 4 * trained * (master + moments)


@mutant("training_bytes", rejected_with="The gradients are missing")
def forgets_the_gradients(trained, frozen, bits, master, moments):
    return (trained + frozen) * bits // 8 + 4 * trained * (master + moments)


@mutant("training_bytes", rejected_with="A frozen parameter has no gradient")
def has_gradients_for_all(trained, frozen, bits, master, moments):
    return 2 * (trained + frozen) * bits // 8 + 4 * trained * (master + moments)


@mutant("training_bytes", rejected_with="they have to be kept")
def forgets_the_frozen(trained, frozen, bits, master, moments):
    return 2 * trained * bits // 8 + 4 * trained * (master + moments)


@mutant("training_bytes", rejected_with="no master copy")
def copies_the_frozen(trained, frozen, bits, master, moments):
    return (2 * trained + frozen) * bits // 8 + 4 * trained * moments + 4 * (trained + frozen) * master


@mutant("training_bytes", rejected_with="remembers nothing about frozen")
def has_moments_for_all(trained, frozen, bits, master, moments):
    return (2 * trained + frozen) * bits // 8 + 4 * trained * master + 4 * (trained + frozen) * moments


@mutant("training_bytes", rejected_with="The moments are float32")
def keeps_moments_in_few_bits(trained, frozen, bits, master, moments):
    return (2 * trained + frozen) * bits // 8 + 4 * trained * master + trained * moments * bits // 8


@mutant("training_bytes", rejected_with="The master copy is float32")
def copies_in_few_bits(trained, frozen, bits, master, moments):
    return (2 * trained + frozen + master * trained) * bits // 8 + 4 * trained * moments


@mutant("training_bytes", rejected_with="The float32 copy is missing")
def forgets_the_copy(trained, frozen, bits, master, moments):
    return (2 * trained + frozen) * bits // 8 + 4 * trained * moments


def _bits(x):
    """The bits of float32, with room for a carry."""
    return x.view(np.uint32).astype(np.uint64)


@mutant("to_bfloat16", rejected_with="You cut the lower half off")
def cuts_off(x):
    return _bits(x) >> 16


@mutant("to_bfloat16", rejected_with="yours always go up")
def rounds_ties_up(x):
    return (_bits(x) + 0x8000) >> 16


@mutant("to_bfloat16", rejected_with="yours always go down")
def rounds_ties_down(x):
    return (_bits(x) + 0x7FFF) >> 16


@mutant("to_bfloat16", rejected_with="Ties go to the odd pattern")
def rounds_ties_to_odd(x):
    return (_bits(x) + 0x7FFF + (~_bits(x) >> 16 & 1)) >> 16


@mutant("to_bfloat16", rejected_with="shift the lower half out")
def does_not_shift(x):
    return (_bits(x) + 0x7FFF + (_bits(x) >> 16 & 1)) & 0xFFFF0000


@mutant("to_bfloat16", rejected_with="Return patterns, whole numbers")
def returns_the_numbers(x):
    return x


@mutant("stochastic", rejected_with="That is no random rounding")
def rounds_to_nearest(x, step, rng):
    return np.round(x / step) * step


@mutant("stochastic", rejected_with="each number needs its own draw")
def draws_once_for_all(x, step, rng):
    return np.floor(x / step + rng.random()) * step


@mutant("stochastic", rejected_with="draw from the rng that you are given")
def draws_from_elsewhere(x, step, rng):
    return np.floor(x / step + np.random.default_rng().random(x.shape)) * step


@mutant("stochastic", rejected_with="Your probabilities are exchanged")
def exchanges_the_probabilities(x, step, rng):
    low = np.floor(x / step)
    share = x / step - low
    return (low + ((rng.random(x.shape) > share) & (share > 0))) * step


@mutant("stochastic", rejected_with="Both neighbours are equally likely")
def throws_a_coin(x, step, rng):
    low = np.floor(x / step)
    return (low + ((rng.random(x.shape) < 0.5) & (x / step > low))) * step


@mutant("stochastic", rejected_with="mind the negative numbers")
def begins_at_the_side_of_zero(x, step, rng):
    whole = np.trunc(x / step)
    return (whole + (rng.random(x.shape) < np.abs(x / step - whole))) * step


@mutant("stochastic", rejected_with="must stay as it is")
def moves_exact_numbers(x, step, rng):
    return (np.floor(x / step) + (rng.random(x.shape) < 0.9)) * step


def _walk(overflows, initial, after_bad, after_good):
    """A list of factors, from what happens to (factor, row of good steps)."""
    state, path = (initial, 0), []
    for overflow in overflows:
        state = after_bad(*state) if overflow else after_good(state[0], state[1] + 1)
        path.append(state[0])
    return path


def _grow(interval):
    """What a good step does, as it should be."""
    return lambda scale, good: (2 * scale, 0) if good == interval else (scale, good)


@mutant("factors", rejected_with="An overflow ends the row")
def goes_on_counting_after_an_overflow(overflows, initial, interval):
    return _walk(overflows, initial, lambda scale, good: (scale / 2, good), _grow(interval))


@mutant("factors", rejected_with="the counting begins anew")
def doubles_from_then_on(overflows, initial, interval):
    grow = lambda scale, good: (2 * scale, good) if good >= interval else (scale, good)  # noqa: E731
    return _walk(overflows, initial, lambda scale, good: (scale / 2, 0), grow)


@mutant("factors", rejected_with="one good step too late")
def waits_a_step_longer(overflows, initial, interval):
    return _walk(overflows, initial, lambda scale, good: (scale / 2, 0), _grow(interval + 1))


@mutant("factors", rejected_with="one good step too early")
def waits_a_step_less(overflows, initial, interval):
    return _walk(overflows, initial, lambda scale, good: (scale / 2, 0), _grow(interval - 1))


@mutant("factors", rejected_with="before each step")
def lists_what_was_used(overflows, initial, interval):
    return [initial, *_walk(overflows, initial, lambda scale, good: (scale / 2, 0), _grow(interval))[:-1]]


@mutant("factors", rejected_with="begins with the initial factor")
def lists_one_too_many(overflows, initial, interval):
    return [initial, *_walk(overflows, initial, lambda scale, good: (scale / 2, 0), _grow(interval))]


@mutant("factors", rejected_with="not back to initial")
def goes_back_to_the_beginning(overflows, initial, interval):
    return _walk(overflows, initial, lambda scale, good: (initial, 0), _grow(interval))


@mutant("factors", rejected_with="halve it then, not double it")
def turns_it_around(overflows, initial, interval):
    grow = lambda scale, good: (scale / 2, 0) if good == interval else (scale, good)  # noqa: E731
    return _walk(overflows, initial, lambda scale, good: (2 * scale, 0), grow)


@mutant("factors", rejected_with="The factor never grows")
def never_grows(overflows, initial, interval):
    return _walk(overflows, initial, lambda scale, good: (scale / 2, 0), lambda scale, good: (scale, good))


def _finish(master, g, lr, limit, taken=None):
    """Clip, update and round."""
    finite = bool(np.isfinite(g).all()) if taken is None else taken
    if finite:
        norm = np.sqrt((g.astype(np.float64) ** 2).sum())
        g = g * min(1.0, limit / norm) if norm > 0 else g
        master = (master - lr * g).astype(np.float32)
    return master, master.astype(np.float16), finite


@mutant("mixed_step", rejected_with="still multiplied by the scale")
def does_not_unscale(master, gradient, scale, lr, limit):
    return _finish(master, gradient.astype(np.float32), lr, limit)


@mutant("mixed_step", rejected_with="underflows: convert it to float32 first")
def divides_in_float16(master, gradient, scale, lr, limit):
    return _finish(master, (gradient / np.float16(scale)).astype(np.float32), lr, limit)


@mutant("mixed_step", rejected_with="You clipped before unscaling")
def clips_first(master, gradient, scale, lr, limit):
    g = gradient.astype(np.float64)
    g = g * min(1.0, limit / np.sqrt((g**2).sum())) / scale
    return _finish(master, g, lr, np.inf)


@mutant("mixed_step", rejected_with="longer than limit: clip it")
def does_not_clip(master, gradient, scale, lr, limit):
    return _finish(master, gradient.astype(np.float64) / scale, lr, np.inf)


@mutant("mixed_step", rejected_with="You updated the rounded weights")
def updates_the_model(master, gradient, scale, lr, limit):
    return _finish(master.astype(np.float16).astype(np.float32), gradient.astype(np.float64) / scale, lr, limit)


@mutant("mixed_step", rejected_with="is infinite: the step must be left out")
def steps_in_any_case(master, gradient, scale, lr, limit):
    with np.errstate(all="ignore"):
        return _finish(master, gradient.astype(np.float64) / scale, lr, limit, taken=True)


@mutant("mixed_step", rejected_with="is NaN: the step must be left out")
def looks_for_infinity_only(master, gradient, scale, lr, limit):
    g = gradient.astype(np.float64) / scale
    return _finish(master, g, lr, limit, taken=not np.isinf(g).any())


@mutant("mixed_step", rejected_with="The model computes in float16")
def does_not_round_the_model(master, gradient, scale, lr, limit):
    master, _, taken = _finish(master, gradient.astype(np.float64) / scale, lr, limit)
    return master, master, taken


@mutant("mixed_step", rejected_with="says whether the step was taken")
def reports_the_opposite(master, gradient, scale, lr, limit):
    master, model, taken = _finish(master, gradient.astype(np.float64) / scale, lr, limit)
    return master, model, not taken


@mutant("mixed_step", rejected_with="wrote into the given arrays")
def writes_into_the_master(master, gradient, scale, lr, limit):
    new, model, taken = _finish(master, gradient.astype(np.float64) / scale, lr, limit)
    master[:] = new
    return master, model, taken
