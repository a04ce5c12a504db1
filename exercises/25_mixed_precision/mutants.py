"""Plausible wrong answers to the exercises on mixed precision, each with a part of the message that must reject it."""

import numpy as np

from lmcore.checking import mutant


def _fields(bits, exponent, mantissa):
    """Sign, exponent field and mantissa field."""
    return -1.0 if bits[0] == "1" else 1.0, int(bits[1 : 1 + exponent], 2), int(bits[1 + exponent :], 2)


def _read(bits, exponent, mantissa, specials, *, value=None, ieee=None, ones=float("nan")):
    """Read a pattern; what is given replaces how a number, or the top field, or the pattern of all ones is read."""
    sign, E, M = _fields(bits, exponent, mantissa)
    bias = 2 ** (exponent - 1) - 1
    if specials == "ieee" and 2**exponent - 1 == E:
        return (float("nan") if M else sign * float("inf")) if ieee is None else ieee(sign, M)
    if "0" not in bits[1:] and ones is not None:
        return ones
    if value is not None:
        return value(sign, E, M / 2**mantissa, bias)
    return sign * 2.0 ** (max(E, 1) - bias) * ((E > 0) + M / 2**mantissa)


@mutant("read", rejected_with="The hidden 1 is missing")
def forgets_the_hidden_one(*pattern):
    return _read(*pattern, value=lambda sign, E, M, bias: sign * 2.0 ** (E - bias) * M)


@mutant("read", rejected_with="yours is 2^(e−1)")
def has_a_bias_one_too_large(*pattern):
    return _read(*pattern, value=lambda sign, E, M, bias: sign * 2.0 ** (E - bias - 1) * (1 + M))


@mutant("read", rejected_with="Subtract the bias")
def forgets_the_bias(*pattern):
    return _read(*pattern, value=lambda sign, E, M, bias: sign * 2.0**E * (1 + M))


@mutant("read", rejected_with="has no hidden 1")
def knows_no_subnormal_numbers(*pattern):
    return _read(*pattern, value=lambda sign, E, M, bias: sign * 2.0 ** (E - bias) * (1 + M))


@mutant("read", rejected_with="the power of field 1")
def gives_subnormal_numbers_the_power_of_field_0(*pattern):
    return _read(*pattern, value=lambda sign, E, M, bias: sign * 2.0 ** (E - bias) * ((E > 0) + M))


@mutant("read", rejected_with="wrong sign")
def forgets_the_sign(*pattern):
    return _read(*pattern, value=lambda sign, E, M, bias: 2.0 ** (max(E, 1) - bias) * ((E > 0) + M))


@mutant("read", rejected_with="The highest exponent field is no exponent")
def copies_the_cell_of_the_chapter(bits, exponent, mantissa, specials):
    return _read(bits, exponent, mantissa, "none", ones=None)


@mutant("read", rejected_with="means NaN, not infinity")
def makes_all_specials_infinite(*pattern):
    return _read(*pattern, ieee=lambda sign, M: sign * float("inf"))


@mutant("read", rejected_with="means infinity, not NaN")
def makes_all_specials_nan(*pattern):
    return _read(*pattern, ieee=lambda sign, M: float("nan"))


@mutant("read", rejected_with="In fn the highest exponent field holds numbers")
def reads_fn_as_ieee(bits, exponent, mantissa, specials):
    return _read(bits, exponent, mantissa, "ieee")


@mutant("read", rejected_with="with all bits one is NaN")
def knows_no_nan_in_fn(*pattern):
    return _read(*pattern, ones=None)


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


@mutant("training_bytes", rejected_with="Gradients are kept in `bits` bits")
def keeps_gradients_in_float32_next_to_a_copy(trained, frozen, bits, master, moments):
    gradients = 4 if master else bits // 8
    return (trained + frozen) * bits // 8 + trained * gradients + 4 * trained * (master + moments)


@mutant("training_bytes", rejected_with="You counted frozen parameters as trained ones")
def trains_all(trained, frozen, bits, master, moments):
    return (trained + frozen) * (2 * bits // 8 + 4 * (master + moments))


def _bits(x):
    """The bits of float32, with room for a carry."""
    return x.view(np.uint32).astype(np.uint64)


def _rounded(x, mantissa, add):
    """Add something, which may depend on the last bit that is kept, and cut; with half a unit less one added."""
    cut = 23 - mantissa
    bits = _bits(x)
    bits = bits + (1 << (cut - 1)) - 1 + add((bits >> cut) & 1)
    return (bits >> cut << cut).astype(np.uint32).view(np.float32)


@mutant("shorten", rejected_with="You cut the bits off")
def cuts_off(x, mantissa):
    cut = 23 - mantissa
    return (_bits(x) >> cut << cut).astype(np.uint32).view(np.float32)


@mutant("shorten", rejected_with="yours always go up")
def rounds_ties_up(x, mantissa):
    return _rounded(x, mantissa, lambda last: 1)


@mutant("shorten", rejected_with="yours always go down")
def rounds_ties_down(x, mantissa):
    return _rounded(x, mantissa, lambda last: 0)


@mutant("shorten", rejected_with="Ties go to the odd pattern")
def rounds_ties_to_odd(x, mantissa):
    return _rounded(x, mantissa, lambda last: 1 - last)


@mutant("shorten", rejected_with="shift them back")
def copies_the_bits_of_the_chapter(x, mantissa):
    return _bits(_rounded(x, mantissa, lambda last: last)) >> (23 - mantissa)


@mutant("shorten", rejected_with="shift them back")
def does_not_view_them_as_numbers(x, mantissa):
    return _bits(_rounded(x, mantissa, lambda last: last))


@mutant("shorten", rejected_with="You returned x as it was")
def returns_the_numbers(x, mantissa):
    return x


@mutant("shorten", rejected_with="You made subnormal numbers zero")
def flushes_subnormal_numbers(x, mantissa):
    return np.where(np.abs(x) < 2.0**-126, 0, _rounded(x, mantissa, lambda last: last))


@mutant("shorten", rejected_with="float16 has a shorter exponent")
def casts_to_float16(x, mantissa):
    with np.errstate(over="ignore"):
        return x.astype(np.float16)


@mutant("shorten", rejected_with="expected")
def keeps_a_bit_too_many(x, mantissa):
    return _rounded(x, mantissa + 1, lambda last: last)


@mutant("stochastic", rejected_with="That is no random rounding")
def rounds_to_nearest(x, step, rng):
    return np.round(x / step) * step


@mutant("stochastic", rejected_with="each number needs its own draw")
def draws_once_for_all(x, step, rng):
    return np.floor(x / step + rng.random()) * step


@mutant("stochastic", rejected_with="draw from the rng that you are given")
def draws_from_elsewhere(x, step, rng):
    return np.floor(x / step + np.random.default_rng().random(x.shape)) * step


@mutant("stochastic", rejected_with="Two generators gave equal results")
def has_a_generator_of_its_own(x, step, rng):
    return np.floor(x / step + np.random.default_rng(0).random(x.shape)) * step


@mutant("stochastic", rejected_with="len(x)")
def draws_for_rows_only(x, step, rng):
    return np.floor(x / step + rng.random(len(x))) * step


@mutant("stochastic", rejected_with="That is no random rounding")
def adds_half_a_step_by_a_coin(x, step, rng):
    return np.floor(x / step + rng.integers(0, 2, size=x.shape) * 0.5) * step


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


def _grow(interval, growth):
    """What a good step does, as it should be."""
    return lambda scale, good: (growth * scale, 0) if good == interval else (scale, good)


def _half(smallest):
    """What an overflow does, as it should be."""
    return lambda scale, good: (max(scale / 2, smallest), 0)


@mutant("factors", rejected_with="An overflow ends the row")
def goes_on_counting_after_an_overflow(overflows, initial, interval, growth, smallest):
    back = lambda scale, good: (max(scale / 2, smallest), good)  # noqa: E731
    return _walk(overflows, initial, back, _grow(interval, growth))


@mutant("factors", rejected_with="the counting begins anew")
def grows_from_then_on(overflows, initial, interval, growth, smallest):
    grow = lambda scale, good: (growth * scale, good) if good >= interval else (scale, good)  # noqa: E731
    return _walk(overflows, initial, _half(smallest), grow)


@mutant("factors", rejected_with="one good step too late")
def waits_a_step_longer(overflows, initial, interval, growth, smallest):
    return _walk(overflows, initial, _half(smallest), _grow(interval + 1, growth))


@mutant("factors", rejected_with="one good step too early")
def waits_a_step_less(overflows, initial, interval, growth, smallest):
    return _walk(overflows, initial, _half(smallest), _grow(interval - 1, growth))


@mutant("factors", rejected_with="before each step")
def lists_what_was_used(overflows, initial, interval, growth, smallest):
    return [initial, *_walk(overflows, initial, _half(smallest), _grow(interval, growth))[:-1]]


@mutant("factors", rejected_with="begins with the initial factor")
def lists_one_too_many(overflows, initial, interval, growth, smallest):
    return [initial, *_walk(overflows, initial, _half(smallest), _grow(interval, growth))]


@mutant("factors", rejected_with="not back to initial")
def goes_back_to_the_beginning(overflows, initial, interval, growth, smallest):
    return _walk(overflows, initial, lambda scale, good: (initial, 0), _grow(interval, growth))


@mutant("factors", rejected_with="Too large a factor overflows")
def turns_it_around(overflows, initial, interval, growth, smallest):
    return _walk(overflows, initial, lambda scale, good: (scale * growth, 0), _grow(interval, growth))


@mutant("factors", rejected_with="The factor never grows")
def never_grows(overflows, initial, interval, growth, smallest):
    return _walk(overflows, initial, _half(smallest), lambda scale, good: (scale, good))


@mutant("factors", rejected_with="not by 2")
def copies_the_two_of_the_chapter(overflows, initial, interval, growth, smallest):
    return _walk(overflows, initial, _half(smallest), _grow(interval, 2))


@mutant("factors", rejected_with="must not bring the factor below smallest")
def falls_without_end(overflows, initial, interval, growth, smallest):
    return _walk(overflows, initial, _half(0.0), _grow(interval, growth))


@mutant("factors", rejected_with="not only to 1")
def ends_at_one(overflows, initial, interval, growth, smallest):
    return _walk(overflows, initial, _half(1.0), _grow(interval, growth))


@mutant("factors", rejected_with="divide with /, not //")
def halves_whole_numbers(overflows, initial, interval, growth, smallest):
    back = lambda scale, good: (max(scale // 2, smallest), 0)  # noqa: E731
    return _walk(overflows, initial, back, _grow(interval, growth))


@mutant("factors", rejected_with="An overflow halves the factor.")
def falls_as_it_grows(overflows, initial, interval, growth, smallest):
    back = lambda scale, good: (max(scale / growth, smallest), 0)  # noqa: E731
    return _walk(overflows, initial, back, _grow(interval, growth))


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


@mutant("mixed_step", rejected_with="shorter than limit: leave it")
def clips_always(master, gradient, scale, lr, limit):
    g = gradient.astype(np.float64) / scale
    return _finish(master, g * limit / np.sqrt((g**2).sum()), lr, np.inf)


@mutant("mixed_step", rejected_with="Clip the norm")
def clips_number_by_number(master, gradient, scale, lr, limit):
    return _finish(master, np.clip(gradient.astype(np.float64) / scale, -limit, limit), lr, np.inf)


def _half_step(master, gradient, scale, lr, limit):
    """The model, updated in float16; and what is right."""
    right = _finish(master, gradient.astype(np.float64) / scale, lr, limit)
    model = master.astype(np.float16)
    return (model + (right[0] - master).astype(np.float16) if right[2] else model), right


@mutant("mixed_step", rejected_with="do not update the model in float16")
def updates_the_model_for_itself(master, gradient, scale, lr, limit):
    model, (master, _, taken) = _half_step(master, gradient, scale, lr, limit)
    return master, model, taken


@mutant("mixed_step", rejected_with="do not update the model in float16")
def returns_the_old_model(master, gradient, scale, lr, limit):
    new, _, taken = _finish(master, gradient.astype(np.float64) / scale, lr, limit)
    return new, master.astype(np.float16), taken


@mutant("mixed_step", rejected_with="You updated in float16")
def updates_everything_in_float16(master, gradient, scale, lr, limit):
    model, (_, _, taken) = _half_step(master, gradient, scale, lr, limit)
    return model.astype(np.float32), model, taken


@mutant("mixed_step", rejected_with="an array of float32; yours is float64")
def keeps_a_master_of_float64(master, gradient, scale, lr, limit):
    new, model, taken = _finish(master, gradient.astype(np.float64) / scale, lr, limit)
    return new.astype(np.float64), model, taken


@mutant("mixed_step", rejected_with="an array of float16; yours is float32")
def returns_a_model_of_float32(master, gradient, scale, lr, limit):
    new, model, taken = _finish(master, gradient.astype(np.float64) / scale, lr, limit)
    return new, model.astype(np.float32), taken
