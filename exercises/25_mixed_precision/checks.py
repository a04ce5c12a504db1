"""Checks of the exercises on mixed precision; the inputs are drawn anew from each seed."""

import math
from functools import partial

import numpy as np

from lmcore.checking import Tasks, refuse, require, same
from lmcore.floats.codec import round_to
from lmcore.floats.formats import FloatFormat

tasks = Tasks()
check = tasks.check

# The harness hands over deep copies; an array that is its own deep copy shows whether the student wrote into it.
_Shared = type("array", (np.ndarray,), {"__deepcopy__": lambda self, memo: self})


# Powers of two are exact; the tolerance is for answers that were found by way of logarithms.
_same = partial(same, rtol=1e-9, atol=0.0)
_refuse = partial(refuse, rtol=1e-9, atol=0.0)


def _array(got, shape, what):
    """The answer as an array of float64, if it has the shape."""
    got = np.asarray(got, dtype=np.float64)
    require(got.shape == shape, f"{what} must have the shape {shape}, yours has {got.shape}.")
    return got


def _several(got, *names):
    """Require that an answer is a tuple of so many things."""
    listed = ", ".join(names[:-1]) + f" and {names[-1]}"
    require(isinstance(got, tuple | list) and len(got) == len(names), f"Return {listed}, separated by commas.")
    return got


def _value(sign, E, M, e, m, bias=None, hidden=1.0, lowest=None):
    """The number of fields by the formula for normal numbers, or for subnormal ones where lowest is given."""
    bias = 2 ** (e - 1) - 1 if bias is None else bias
    if lowest is not None:
        return sign * 2.0 ** (lowest - bias) * M / 2**m
    return sign * 2.0 ** (E - bias) * (hidden + M / 2**m)


@tasks.add(points=2, minutes=15)
def read(student, rng):
    """The number of a pattern."""
    for specials in ("ieee", "fn"):
        e, m = int(rng.integers(3, 7)), int(rng.integers(2, 9))
        top, width = 2**e - 1, 2**m
        E, M, small = int(rng.integers(1, top)), int(rng.integers(1, width - 1)), int(rng.integers(1, width))
        cases = [(0, E, M), (1, E, M), (0, 0, small), (1, 0, small), (0, 0, 0)]
        cases += [(0, top, 0), (1, top, 0), (0, top, M), (1, top, width - 1)]
        for s, field, mantissa in cases:
            got = student(f"{s}{field:0{e}b}{mantissa:0{m}b}", e, m, specials)
            _check_number(got, s, field, mantissa, e, m, specials)


def _check_number(got, s, field, mantissa, e, m, specials):
    """One pattern that was read."""
    top, sign = 2**e - 1, -1.0 if s else 1.0
    normal = _value(sign, field, mantissa, e, m)
    wrongs = []
    if specials == "ieee" and field == top:
        expected = math.nan if mantissa else sign * math.inf
        wrongs = [
            (normal, "The highest exponent field is no exponent in ieee: it means infinity or NaN."),
            (sign * math.inf, "With M > 0 the highest exponent field means NaN, not infinity."),
        ]
        require(mantissa > 0 or not _is_nan(got), "With M = 0 the highest exponent field means infinity, not NaN.")
    elif field == top and mantissa == 2**m - 1:
        expected, wrongs = math.nan, [(normal, "In fn the pattern with all bits one is NaN.")]
    elif field == 0:
        expected = _value(sign, field, mantissa, e, m, lowest=1)
        wrongs = [
            (normal, "The exponent field is 0: a subnormal number has no hidden 1."),
            (_value(sign, 0, mantissa, e, m, lowest=0), "Subnormal numbers have the power of field 1, 2^(1 − b)."),
        ]
    else:
        expected = normal
        special = field == top and (_is_nan(got) or _same(abs(float(got)), math.inf))
        require(not special, "In fn the highest exponent field holds numbers, except for one pattern.")
        wrongs = [
            (_value(sign, field, mantissa, e, m, hidden=0.0), "The hidden 1 is missing: add 1 to M / 2^m."),
            (_value(sign, field, mantissa, e, m, bias=2 ** (e - 1)), "The bias is 2^(e−1) − 1; yours is 2^(e−1)."),
            (_value(sign, field, mantissa, e, m, bias=0), "Subtract the bias from the exponent field."),
        ]
    _refuse(got, expected, [(-expected, "Your number has the wrong sign: a first bit of 1 is minus."), *wrongs])
    shown = f"{s} {field:0{e}b} {mantissa:0{m}b} in {specials} with e = {e} and m = {m}"
    right = _same(got, expected) or (_is_nan(got) and math.isnan(expected))
    require(right, f"Expected {expected!r} for {shown}, got {got!r}.")


def _is_nan(number):
    """Whether it is NaN, which is equal to nothing."""
    return math.isnan(float(number))


@tasks.add(points=2, minutes=15)
def limits(student, rng):
    """The ends of a format."""
    for specials in ("ieee", "fn"):
        e, m = int(rng.integers(3, 7)), int(rng.integers(2, 9))
        bias = 2 ** (e - 1) - 1
        normal = 2.0 ** (1 - bias)
        reserved = 2.0 ** (2**e - 2 - bias) * (2 - 2.0**-m)
        whole = 2.0 ** (2**e - 1 - bias) * (2 - 2.0**-m)
        without_nan = 2.0 ** (2**e - 1 - bias) * (2 - 2 * 2.0**-m)
        expected = reserved if specials == "ieee" else without_nan
        got = _several(student(e, m, specials), "the largest number", "the smallest normal", "the smallest")
        fn = "In fn the highest exponent field holds numbers, except for one pattern."
        _refuse(
            got[0],
            expected,
            [
                (
                    whole if specials == "fn" else math.nan,
                    "The last pattern of fn is NaN: the largest is one before it.",
                ),
                (whole, "In ieee the highest exponent field is reserved: the largest number has the one below."),
                (without_nan, "In ieee the highest exponent field is reserved, not only one pattern."),
                (reserved, fn),
                (2.0 ** (2**e - 2 - bias), "The largest number has a full mantissa: its digits are missing."),
                (2.0 ** (2**e - 1 - bias), "The largest number has a full mantissa: its digits are missing."),
            ],
        )
        require(_same(got[0], expected), f"Expected {expected} as largest for {e}, {m}, {specials}, got {got[0]}.")
        low = [
            (2.0**-bias, "The smallest normal number has the exponent field 1, not 0."),
            (normal * 2.0**-m, "That is the smallest subnormal number; the smallest normal one has M = 0 and E = 1."),
        ]
        _refuse(got[1], normal, low)
        require(_same(got[1], normal), f"Expected {normal} as smallest normal number, got {got[1]}.")
        tiny = normal * 2.0**-m
        low = [
            (normal, "Below the smallest normal number there are subnormal ones."),
            (2.0**-bias * 2.0**-m, "Subnormal numbers have the power of field 1, 2^(1 − b), not 2^(−b)."),
        ]
        _refuse(got[2], tiny, low)
        require(_same(got[2], tiny), f"Expected {tiny} as smallest number above zero, got {got[2]}.")


@tasks.add(points=2, minutes=10)
def training_bytes(student, rng):
    """Bytes that training keeps."""
    # The first case has no copy, so that what is missing there cannot be taken for a copy of 16 bits in the second.
    for bits, master, moments in ((16, False, 2), (16, True, 2), (32, False, int(rng.integers(0, 3)))):
        trained, frozen = 1000 * int(rng.integers(3, 400)), 1000 * int(rng.integers(500, 900)) + 500
        each, copy = bits // 8, 4 * trained * master
        state, weights = 4 * trained * moments, (trained + frozen) * each
        expected = weights + trained * each + copy + state
        got = student(trained, frozen, bits, master, moments)
        _refuse(
            got,
            expected,
            [
                (8 * weights + 8 * trained * each + copy + state, "You counted bits; a byte has eight of them."),
                (8 * expected, "You counted bits; a byte has eight of them."),
                (expected - copy + trained * each * master, "The master copy is float32: 4 bytes each."),
                (expected - copy, "The float32 copy is missing."),
                (expected - trained * each, "The gradients are missing."),
                (expected + trained * (4 - each), "Gradients are kept in `bits` bits here, also with a master copy."),
                (
                    (trained + frozen) * (2 * each + 4 * (master + moments)),
                    "You counted frozen parameters as trained ones: of them only the weights are kept.",
                ),
                (expected + frozen * each, "A frozen parameter has no gradient."),
                (expected + 4 * frozen * master, "What is frozen is never updated, so it needs no master copy."),
                (expected - frozen * each, "Frozen weights are not trained, but they have to be kept."),
                (expected + 4 * frozen * moments, "The optimizer remembers nothing about frozen parameters."),
                (expected - state + trained * moments * each, "The moments are float32: 4 bytes each."),
            ],
        )
        settings = f"{trained} trained, {frozen} frozen, {bits} bits, master {master}, {moments} moments"
        require(_same(got, expected), f"Expected {expected} for {settings}, got {got}.")


@tasks.add(points=3, minutes=20)
def shorten(student, rng):
    """Rounding by bits."""
    for mantissa in rng.permutation(np.arange(3, 13))[:3].tolist():
        _check_short(student, rng, mantissa, 23 - mantissa)


def _check_short(student, rng, m, cut):
    """One length of the mantissa; the bits that are cut off make half of 2^cut in a tie."""
    half = 1 << (cut - 1)
    upper = rng.integers(1 << (23 - cut), 0x7F7FFFFF >> cut, size=11).astype(np.uint32) << cut
    last = np.uint32(1 << cut)
    lower = rng.integers(1, half, size=11).astype(np.uint32)
    groups = {
        "above the middle": upper + half + lower,
        "even tie": (upper & ~last) + half,
        "odd tie": (upper | last) + half,
        "below the middle": upper + lower,
        "the largest number": np.array([0x7F7FFFFF], np.uint32),
        "subnormal": rng.integers(half + 1, 1 << 23, size=11).astype(np.uint32),
    }
    order = rng.permutation(np.arange(sum(map(len, groups.values()))))
    kinds = np.repeat(list(groups), [len(part) for part in groups.values()])[order]
    bits = np.concatenate(list(groups.values()))[order]
    bits |= rng.integers(0, 2, size=len(bits)).astype(np.uint32) << 31
    x = bits.view(np.float32)
    expected = round_to(x, FloatFormat(name="short", exponent=8, mantissa=m)).astype(np.float64)
    got = _array(student(x, m), x.shape, "The result")
    numbers, wrong = kinds != "subnormal", got != expected
    require(not np.array_equal(got, x.astype(np.float64)), "You returned x as it was: its lower bits are still there.")
    towards_zero = (bits >> cut << cut).view(np.float32)
    require(
        not np.array_equal(got, towards_zero), "You cut the bits off: that rounds toward zero. Add something first."
    )
    patterns = expected.astype(np.float32).view(np.uint32)
    is_pattern = np.array_equal(got, patterns) or np.array_equal(got, patterns >> cut)
    require(not is_pattern, "Those are patterns, whole numbers: shift them back, and view them as float32.")
    with np.errstate(over="ignore"):
        cast = x.astype(np.float16).astype(np.float64)
    require(not np.array_equal(got, cast), "float16 has a shorter exponent, too: keep all eight bits of the exponent.")
    flushed = wrong[~numbers].any() and not wrong[numbers].any() and (got[~numbers] == 0).all()
    require(not flushed, "You made subnormal numbers zero: their bits are rounded like all others.")
    _check_ties(wrong, kinds)
    if wrong.any():
        at = int(np.argmax(wrong))
        shown = f"{x[at]!s} (bits {bits[at]:08x}, {kinds[at]}) with {m} bits of mantissa"
        require(False, f"For {shown} expected {expected[at]!s}, got {got[at]!s}.")


def _check_ties(wrong, kinds):
    """Name the rule for ties that an answer follows."""
    even, odd = kinds == "even tie", kinds == "odd tie"
    numbers = kinds != "subnormal"  # among those a tie is rare
    if wrong[numbers & ~even & ~odd].any():
        return
    require(
        not (wrong[even].all() and wrong[odd].all()),
        "Ties go to the odd pattern in your answer: add the last bit that is kept, not its opposite.",
    )
    require(not wrong[even].all(), "Only ties are wrong: yours always go up. They go to the even pattern.")
    require(not wrong[odd].all(), "Only ties are wrong: yours always go down. They go to the even pattern.")


@tasks.add(points=2, minutes=15)
def stochastic(student, rng):
    """Rounding that is right on average."""
    step, n = 2.0 ** -int(rng.integers(2, 7)), 20_000
    seed = int(rng.integers(1 << 30))
    whole = rng.integers(-9, 10, size=7) * step
    require(
        np.array_equal(_array(student(whole, step, rng), whole.shape, "The result"), whole),
        "A number that is a multiple of step must stay as it is.",
    )
    for sign in (1, -1):
        below = sign * int(rng.integers(2, 9)) - (sign < 0)
        share = rng.uniform(0.1, 0.35)
        x = np.full((100, n // 100) if sign < 0 else n, (below + share) * step)
        got, again, other = (
            _array(student(x, step, np.random.default_rng(start)), x.shape, "The result")
            for start in (seed, seed, seed + 1)
        )
        require(
            np.array_equal(got, again), "The same rng gives different results: draw from the rng that you are given."
        )
        units = np.round(got / step)
        require(np.allclose(got, units * step, rtol=1e-5), "The result must be multiples of step.")
        found = np.unique(units)
        inside = np.isin(found, [below, below + 1]).all()
        if sign < 0 and not inside:
            ends = f"{below * step} and {(below + 1) * step}"
            require(False, f"{x.flat[0]:.4f} lies between {ends}: mind the negative numbers.")
        require(inside, f"Some results are no neighbours of {x.flat[0]:.4f}: {found * step}.")
        require(len(found) == 2, f"All {n} results are equal: each number needs its own draw." if
                _draws(student, x.ravel()[:1], step) else
                "That is no random rounding: all equal numbers gave the same result, whatever was drawn.")  # fmt: skip
        require(not np.array_equal(got, other), "Two generators gave equal results: draw from the rng you are given.")
        up, sigma = np.mean(units == below + 1), math.sqrt(share * (1 - share) / n)
        wrongs = [
            (1 - share, "Your probabilities are exchanged: the nearer neighbour must be the likelier one."),
            (0.5, "Both neighbours are equally likely in your answer, so the mean is wrong."),
        ]
        for wrong, message in wrongs:
            require(abs(up - wrong) > 0.02, message + (" Look at the negative numbers." if sign < 0 else ""))
        require(
            abs(up - share) < 6 * sigma,
            f"{x.flat[0]:.4f} went up with the share {up:.3f}, but it is {share:.3f} of the way: the mean is wrong.",
        )


def _draws(student, x, step):
    """Whether a function gives different results for different generators."""
    results = {float(np.ravel(student(x, step, np.random.default_rng(seed)))[0]) for seed in range(200)}
    return len(results) > 1


def _path(overflows, initial, interval, growth, smallest, *, reset_bad=True, reset_grown=True, late=0, back=None):
    """The factors, with known mistakes; back is what an overflow makes of the factor."""
    scale, good, path = initial, 0, []
    for overflow in overflows:
        if overflow:
            scale = max(scale / 2, smallest) if back is None else back(scale)
            good = 0 if reset_bad else good
        else:
            good += 1
            if good == interval + late or (not reset_grown and good > interval):
                scale, good = scale * growth, 0 if reset_grown else good
        path.append(scale)
    return path


@tasks.add(points=2, minutes=15)
def factors(student, rng):
    """The path of the loss scale."""
    interval, growth = int(rng.integers(3, 7)), float(rng.choice([1.5, 3.0, 4.0]))
    smallest = 2.0 ** -int(rng.integers(2, 6))
    initial = smallest * 2.0 ** int(rng.integers(3, 5))
    settings = interval, growth, smallest
    good, bad = [False], [True]
    overflows = bad + good * (2 * interval + 1) + bad + good * (interval - 1) + bad + good * 2 + bad * 9
    overflows += good * (interval + 1) + list(map(bool, rng.random(20) < 0.2))
    expected = _path(overflows, initial, *settings)
    got = student(overflows, initial, *settings)
    try:
        got = [float(factor) for factor in got]
    except TypeError:
        require(False, f"Return a list of factors, one per step, not {type(got).__name__}.")
    if len(got) == len(expected) + 1 and got[1:] == expected:
        require(False, "Your list begins with the initial factor; return those after each step.")
    require(len(got) == len(expected), f"There are {len(expected)} steps, and {len(got)} factors in your list.")
    path = partial(_path, overflows, initial)
    wrongs = [
        ([initial, *expected[:-1]], "Those are the factors before each step; return those after it."),
        (path(*settings, reset_bad=False), "An overflow ends the row: count from 0 after it."),
        (path(*settings, reset_grown=False), "After the factor has grown, the counting begins anew."),
        (path(*settings, late=1), "Your factor grows one good step too late."),
        (path(*settings, late=-1), "Your factor grows one good step too early."),
        (path(interval, 2.0, smallest), "Multiply by growth after the good steps, not by 2."),
        (path(interval, 1.0, smallest), "The factor never grows in your answer."),
        (path(interval, growth, 0.0), "An overflow must not bring the factor below smallest."),
        (path(interval, growth, 1.0), "The factor may fall to smallest, not only to 1."),
        (path(*settings, back=lambda scale: max(scale // 2, smallest)), "Half of 3 is 1.5: divide with /, not //."),
        (path(*settings, back=lambda scale: max(scale / growth, smallest)), "An overflow halves the factor."),
        (path(*settings, back=lambda _: initial), "An overflow halves the factor as it is now, not back to initial."),
        (path(*settings, back=lambda scale: scale * growth), "Too large a factor overflows: halve it then."),
    ]
    _refuse(got, expected, wrongs)
    if not _same(got, expected):
        at = next(i for i, pair in enumerate(zip(got, expected, strict=True)) if not _same(*pair))
        require(False, f"After step {at + 1} the factor is {expected[at]:g}, yours is {got[at]:g}.")


def _sgd(master, gradient, lr, limit):
    """Clip and update, in float64."""
    norm = np.sqrt((gradient**2).sum())
    return master - lr * gradient * min(1.0, limit / norm)


@tasks.add(points=4, minutes=30)
def mixed_step(student, rng):
    """Unscale, skip, clip, update, round."""
    n = int(rng.integers(5, 12))
    scale = 2.0 ** int(rng.integers(12, 16))

    def numbers(low, high):
        return rng.uniform(low, high, size=n) * rng.choice([-1, 1], size=n)

    medium = numbers(1e-4, 2e-4)  # updates that weights in float16 would not notice
    # The first update takes each weight over the middle between two float16 numbers: the rounded master moves then,
    # and a model that is updated in float16 does not.
    middle = (rng.integers(1030, 1900, size=n) + 0.5) / 1024 * rng.choice([-1, 1], size=n)
    master = (middle + 0.35 * medium).astype(np.float32)
    small = numbers(2.0**-27, 2.0**-26)  # float16 has no such numbers; a huge rate shows whether they arrived
    for true, lr, limit in ((medium, 0.7, 100.0), (50 * medium, 0.9, 0.004), (small, 2.0**22, 1.0)):
        gradient = (true * scale).astype(np.float16)
        before = master.copy(), gradient.copy()
        shared = master.view(_Shared), gradient.view(_Shared)
        got = _several(student(*shared, scale, lr, limit), "master", "the model's weights", "True or False")
        untouched = np.array_equal(master, before[0]) and np.array_equal(gradient, before[1])
        master, gradient = before
        require(untouched, "You wrote into the given arrays.")
        full = gradient.astype(np.float64) / scale
        with np.errstate(all="ignore"):
            lost = (gradient / np.float16(scale)).astype(np.float64)
        expected = _sgd(master, full, lr, limit)
        new = _array(got[0], (n,), "The master weights")
        atol = 1e-6 * max(1.0, np.abs(expected).max())
        for wrong, message in _wrong_steps(master, gradient, scale, lr, limit, lost):
            alike = np.allclose(wrong, expected, rtol=0, atol=3 * atol)
            require(alike or not np.allclose(new, wrong, rtol=2e-6, atol=atol), message)
        require(
            np.allclose(new, expected, rtol=0, atol=2 * atol), f"Expected the master weights {expected}, got {new}."
        )
        _check_model(got, master, n, took=True)
    for bad in (np.inf, -np.inf, np.nan):
        gradient = (medium * scale).astype(np.float16)
        gradient[rng.integers(n)] = bad
        got = _several(student(master, gradient, scale, 0.5, 1.0), "master", "the model's weights", "True or False")
        new = _array(got[0], (n,), "The master weights")
        kind = "NaN" if np.isnan(bad) else "infinite"
        require(np.array_equal(new, master), f"A gradient is {kind}: the step must be left out, and the master stay.")
        _check_model(got, master, n, took=False)


def _wrong_steps(master, gradient, scale, lr, limit, lost):
    """Master weights after known mistakes."""
    full = gradient.astype(np.float64) / scale
    model = master.astype(np.float16).astype(np.float64)
    scaled = gradient.astype(np.float64)
    clipped_early = scaled * min(1.0, limit / np.sqrt((scaled**2).sum())) / scale
    norm = np.sqrt((full**2).sum())
    by_number = np.clip(full, -limit, limit)
    in_half = (model - (lr * full).astype(np.float16)).astype(np.float16)
    wrongs = [
        (_sgd(master, scaled, lr, limit), "The gradient is still multiplied by the scale."),
        (master - lr * scaled, "The gradient is still multiplied by the scale."),
        (master - lr * clipped_early, "You clipped before unscaling: the norm was that of scale times the gradient."),
        (master - lr * by_number, "Clip the norm: multiply the whole gradient by limit / norm, not number by number."),
        (master - lr * full, "The gradient is longer than limit: clip it."),
        (_sgd(model, full, lr, limit), "You updated the rounded weights; small updates belong in the master weights."),
        (in_half, "You updated in float16, where small updates are lost; update the master weights in float32."),
        (master - lr * lost * min(1, limit / max(1e-300, np.sqrt((lost**2).sum()))),
         "Divided in float16 the gradient underflows: convert it to float32 first."),
        (master, "The step should have been taken: all gradients are finite."),
    ]  # fmt: skip
    if norm < limit:
        wrongs.insert(0, (master - lr * full * limit / norm, "The gradient is shorter than limit: leave it as it is."))
        wrongs = [pair for pair in wrongs if "is longer" not in pair[1] and "Clip the norm" not in pair[1]]
    return wrongs


def _check_model(got, before, n, *, took):
    """The model's weights are the new master's, rounded; the types are right; and the step is reported."""
    master, model = np.asarray(got[0]), _array(got[1], (n,), "The model's weights")
    rounded = master.astype(np.float16).astype(np.float64)
    exact = np.array_equal(model, master) and not np.array_equal(rounded, master)
    require(not exact, "The model computes in float16: round its weights, the master's are not.")
    stale = np.array_equal(model, before.astype(np.float16)) and not np.array_equal(model, rounded)
    require(not stale, "The model did not move: round the new master weights, do not update the model in float16.")
    # next to a tie the last bit of the master decides; an answer may have rounded the model from a longer one
    near = master.astype(np.float32)
    low, high = (np.nextafter(near, np.float32(end)).astype(np.float16) for end in (-np.inf, np.inf))
    require(
        bool(np.all((low <= model) & (model <= high))),
        f"The model's weights are the new master weights in float16: expected {rounded}, got {model}.",
    )
    for answer, what, dtype in ((got[0], "master", "float32"), (got[1], "model's", "float16")):
        kind = np.asarray(answer).dtype
        require(kind == dtype, f"Return the {what} weights as an array of {dtype}; yours is {kind}.")
    require(bool(got[2]) is took, f"The third answer says whether the step was taken, here {took}; yours is {got[2]}.")
