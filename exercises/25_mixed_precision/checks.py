"""Checks of the exercises on mixed precision; the inputs are drawn anew from each seed."""

import math

import numpy as np

from lmcore.checking import Tasks, require
from lmcore.floats.codec import encode
from lmcore.floats.formats import BF16

tasks = Tasks()
check = tasks.check

# The harness hands over deep copies; an array that is its own deep copy shows whether the student wrote into it.
_Shared = type("array", (np.ndarray,), {"__deepcopy__": lambda self, memo: self})


def _equal(got, expected):
    """Whether a number is the expected one; NaN equals NaN."""
    got = float(got)
    return got == expected or (math.isnan(got) and math.isnan(expected))


def _refuse(got, expected, wrongs):
    """Say which known mistake a number looks like; mistakes that make no difference here are passed over."""
    for wrong, message in wrongs:
        require(not _equal(got, wrong) or _equal(wrong, expected), message)


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
    e, m = int(rng.integers(3, 7)), int(rng.integers(2, 9))
    top, width = 2**e - 1, 2**m
    E, M = int(rng.integers(1, top)), int(rng.integers(1, width))
    small = int(rng.integers(1, width))
    cases = [(0, E, M), (1, E, M), (0, 0, small), (1, 0, small), (0, 0, 0), (0, top, 0), (1, top, 0), (0, top, M)]
    for s, field, mantissa in cases:
        bits = f"{s}{field:0{e}b}{mantissa:0{m}b}"
        sign = -1.0 if s else 1.0
        normal = _value(sign, field, mantissa, e, m)
        if field == top:
            expected = math.nan if mantissa else sign * math.inf
        else:
            expected = normal if field else _value(sign, field, mantissa, e, m, lowest=1)
        wrongs = [(-expected, "Your number has the wrong sign: a first bit of 1 is minus.")]
        if 0 < field < top:
            wrongs += [
                (_value(sign, field, mantissa, e, m, hidden=0.0), "The hidden 1 is missing: add 1 to M / 2^m."),
                (_value(sign, field, mantissa, e, m, bias=2 ** (e - 1)), "The bias is 2^(e−1) − 1; yours is 2^(e−1)."),
                (_value(sign, field, mantissa, e, m, bias=0), "Subtract the bias from the exponent field."),
            ]
        elif field == 0:
            wrongs += [
                (normal, "The exponent field is 0: a subnormal number has no hidden 1."),
                (_value(sign, 0, mantissa, e, m, lowest=0), "Subnormal numbers have the power of field 1, 2^(1 − b)."),
            ]
        else:
            wrongs += [
                (normal, "The highest exponent field is no exponent: it means infinity or NaN."),
                (math.nan, "With M = 0 the highest exponent field means infinity, not NaN."),
                (sign * math.inf, "With M > 0 the highest exponent field means NaN, not infinity."),
            ]
        got = student(bits, e, m)
        _refuse(got, expected, wrongs)
        require(_equal(got, expected), f"Expected {expected!r} for {bits} with e = {e} and m = {m}, got {got!r}.")


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
        require(_equal(got[0], expected), f"Expected {expected} as largest for {e}, {m}, {specials}, got {got[0]}.")
        low = [
            (2.0**-bias, "The smallest normal number has the exponent field 1, not 0."),
            (normal * 2.0**-m, "That is the smallest subnormal number; the smallest normal one has M = 0 and E = 1."),
        ]
        _refuse(got[1], normal, low)
        require(_equal(got[1], normal), f"Expected {normal} as smallest normal number, got {got[1]}.")
        tiny = normal * 2.0**-m
        low = [
            (normal, "Below the smallest normal number there are subnormal ones."),
            (2.0**-bias * 2.0**-m, "Subnormal numbers have the power of field 1, 2^(1 − b), not 2^(−b)."),
        ]
        _refuse(got[2], tiny, low)
        require(_equal(got[2], tiny), f"Expected {tiny} as smallest number above zero, got {got[2]}.")


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
                (expected + frozen * each, "A frozen parameter has no gradient."),
                (expected + 4 * frozen * master, "What is frozen is never updated, so it needs no master copy."),
                (expected - frozen * each, "Frozen weights are not trained, but they have to be kept."),
                (expected + 4 * frozen * moments, "The optimizer remembers nothing about frozen parameters."),
                (expected - state + trained * moments * each, "The moments are float32: 4 bytes each."),
            ],
        )
        settings = f"{trained} trained, {frozen} frozen, {bits} bits, master {master}, {moments} moments"
        require(_equal(got, expected), f"Expected {expected} for {settings}, got {got}.")


@tasks.add(points=3, minutes=20)
def to_bfloat16(student, rng):
    """Rounding by bits."""
    upper = rng.integers(0, 0x7F7F, size=11).astype(np.uint32) << 16
    even, odd = upper & 0xFFFE0000, upper | 0x10000
    lower = rng.integers(1, 0x7FFF, size=11).astype(np.uint32)
    groups = {
        "cut": upper + 0x8000 + lower,
        "even tie": even + 0x8000,
        "odd tie": odd + 0x8000,
        "down": upper + lower,
        "end": np.array([0x7F7FFFFF], np.uint32),
    }
    order = rng.permutation(np.arange(sum(map(len, groups.values()))))
    kinds = np.repeat(list(groups), [len(part) for part in groups.values()])[order]
    bits = np.concatenate(list(groups.values()))[order]
    bits |= rng.integers(0, 2, size=len(bits)).astype(np.uint32) << 31
    x = bits.view(np.float32)
    expected = encode(x, BF16).astype(np.float64)
    got = _array(student(x), x.shape, "The patterns")
    cut = (bits >> 16).astype(np.float64)
    require(not np.array_equal(got, x.astype(np.float64)), "Return patterns, whole numbers, not the rounded numbers.")
    require(not np.array_equal(got, cut), "You cut the lower half off, which rounds toward zero; add something first.")
    require(got.max() < 65536, "A pattern of 16 bits is below 65536: shift the lower half out.")
    wrong = got != expected
    even_only = wrong[kinds == "even tie"].all() and not wrong[kinds != "even tie"].any()
    odd_only = wrong[kinds == "odd tie"].all() and not wrong[kinds != "odd tie"].any()
    require(not even_only, "Only ties are wrong: yours always go up. They go to the even pattern.")
    require(not odd_only, "Only ties are wrong: yours always go down. They go to the even pattern.")
    ties = (kinds == "even tie") | (kinds == "odd tie")
    require(
        not (wrong[ties].all() and not wrong[~ties].any()),
        "Ties go to the odd pattern in your answer: add the last bit that is kept, not its opposite.",
    )
    if wrong.any():
        at = int(np.argmax(wrong))
        shown = f"{bits[at]:08x}, a case of kind {kinds[at]!r},"
        require(False, f"For the float32 {shown} expected {int(expected[at]):04x}, got {int(got[at]):04x}.")


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
        x = np.full(n, (below + share) * step)
        got, again = (_array(student(x, step, np.random.default_rng(seed)), x.shape, "The result") for _ in range(2))
        require(
            np.array_equal(got, again), "The same rng gives different results: draw from the rng that you are given."
        )
        units = np.round(got / step)
        require(np.allclose(got, units * step, rtol=1e-5), "The result must be multiples of step.")
        found = np.unique(units)
        inside = np.isin(found, [below, below + 1]).all()
        if sign < 0 and not inside:
            require(
                False, f"{x[0]:.4f} lies between {below * step} and {(below + 1) * step}: mind the negative numbers."
            )
        require(inside, f"Some results are no neighbours of {x[0]:.4f}: {found * step}.")
        require(len(found) == 2, f"All {n} results are equal: each number needs its own draw." if _draws(student) else
                "That is no random rounding: all equal numbers gave the same result.")  # fmt: skip
        up, sigma = np.mean(units == below + 1), math.sqrt(share * (1 - share) / n)
        wrongs = [
            (1 - share, "Your probabilities are exchanged: the nearer neighbour must be the likelier one."),
            (0.5, "Both neighbours are equally likely in your answer, so the mean is wrong."),
        ]
        for wrong, message in wrongs:
            require(abs(up - wrong) > 0.02, message + (" Look at the negative numbers." if sign < 0 else ""))
        require(
            abs(up - share) < 6 * sigma,
            f"{x[0]:.4f} went up with the share {up:.3f}, but it is {share:.3f} of the way: the mean is wrong.",
        )


def _draws(student):
    """Whether a function gives different results for different generators."""
    x = np.full(1, 0.5)
    results = {float(np.ravel(student(x, 1.0, np.random.default_rng(seed)))[0]) for seed in range(20)}
    return len(results) > 1


def _path(overflows, initial, interval, *, reset_bad=True, reset_grown=True, late=0, back=0.5, up=2.0):
    """The factors, with known mistakes."""
    scale, good, path = initial, 0, []
    for overflow in overflows:
        if overflow:
            scale, good = (initial if back is None else scale * back), (0 if reset_bad else good)
        else:
            good += 1
            if good == interval + late or (not reset_grown and good > interval):
                scale, good = scale * up, 0 if reset_grown else good
        path.append(scale)
    return path


@tasks.add(points=2, minutes=15)
def factors(student, rng):
    """The path of the loss scale."""
    interval = int(rng.integers(3, 7))
    initial = 2.0 ** int(rng.integers(8, 17))
    good, bad = [False], [True]
    overflows = bad + good * (2 * interval + 1) + bad + good * (interval - 1) + bad + good * 2 + bad * 2
    overflows += good * (interval + 1) + list(map(bool, rng.random(20) < 0.2))
    expected = _path(overflows, initial, interval)
    got = student(overflows, initial, interval)
    try:
        got = [float(factor) for factor in got]
    except TypeError:
        require(False, f"Return a list of factors, one per step, not {type(got).__name__}.")
    if len(got) == len(expected) + 1 and got[1:] == expected:
        require(False, "Your list begins with the initial factor; return those after each step.")
    require(len(got) == len(expected), f"There are {len(expected)} steps, and {len(got)} factors in your list.")
    for wrong, message in [
        ([initial, *expected[:-1]], "Those are the factors before each step; return those after it."),
        (_path(overflows, initial, interval, reset_bad=False), "An overflow ends the row: count from 0 after it."),
        (_path(overflows, initial, interval, reset_grown=False), "After doubling, the counting begins anew."),
        (_path(overflows, initial, interval, late=1), "You double one good step too late."),
        (_path(overflows, initial, interval, late=-1), "You double one good step too early."),
        (
            _path(overflows, initial, interval, back=None),
            "An overflow halves the factor as it is now, not back to initial.",
        ),
        (
            _path(overflows, initial, interval, back=2.0, up=0.5),
            "Too large a factor overflows: halve it then, not double it.",
        ),
        (_path(overflows, initial, interval, up=1.0), "The factor never grows in your answer."),
    ]:
        require(got != wrong or wrong == expected, message)
    if got != expected:
        at = next(i for i, pair in enumerate(zip(got, expected, strict=True)) if pair[0] != pair[1])
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

    master = numbers(1.0, 1.9).astype(np.float32)
    medium = numbers(1e-4, 2e-4)  # updates that weights in float16 would not notice
    small = numbers(2.0**-27, 2.0**-26)  # float16 has no such numbers; a huge rate shows whether they arrived
    for true, lr, limit in ((medium, 0.7, 1.0), (50 * medium, 0.9, 0.01), (small, 2.0**22, 1.0)):
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
            same = np.allclose(wrong, expected, rtol=0, atol=3 * atol)
            require(same or not np.allclose(new, wrong, rtol=0, atol=atol), message)
        require(
            np.allclose(new, expected, rtol=0, atol=2 * atol), f"Expected the master weights {expected}, got {new}."
        )
        _check_model(got, new, n, took=True)
    for bad in (np.inf, -np.inf, np.nan):
        gradient = (medium * scale).astype(np.float16)
        gradient[rng.integers(n)] = bad
        got = _several(student(master, gradient, scale, 0.5, 1.0), "master", "the model's weights", "True or False")
        new = _array(got[0], (n,), "The master weights")
        kind = "NaN" if np.isnan(bad) else "infinite"
        require(np.array_equal(new, master), f"A gradient is {kind}: the step must be left out, and the master stay.")
        _check_model(got, new, n, took=False)


def _wrong_steps(master, gradient, scale, lr, limit, lost):
    """Master weights after known mistakes."""
    full = gradient.astype(np.float64) / scale
    model = master.astype(np.float16).astype(np.float64)
    scaled = gradient.astype(np.float64)
    clipped_early = scaled * min(1.0, limit / np.sqrt((scaled**2).sum())) / scale
    return [
        (_sgd(master, scaled, lr, limit), "The gradient is still multiplied by the scale."),
        (master - lr * scaled, "The gradient is still multiplied by the scale."),
        (master - lr * clipped_early, "You clipped before unscaling: the norm was that of scale times the gradient."),
        (master - lr * full, "The gradient is longer than limit: clip it."),
        (_sgd(model, full, lr, limit), "You updated the rounded weights; small updates belong in the master weights."),
        (master - lr * lost * min(1, limit / max(1e-300, np.sqrt((lost**2).sum()))),
         "Divided in float16 the gradient underflows: convert it to float32 first."),
        (master, "The step should have been taken: all gradients are finite."),
    ]  # fmt: skip


def _check_model(got, master, n, *, took):
    """The model's weights are the master's, rounded; and the step is reported."""
    model = _array(got[1], (n,), "The model's weights")
    rounded = master.astype(np.float32).astype(np.float16).astype(np.float64)
    exact = np.array_equal(model, master) and not np.array_equal(rounded, master)
    require(not exact, "The model computes in float16: round its weights, the master's are not.")
    # an answer whose master differs in the last float32 bit may round differently, so allow one unit of FP16
    require(
        np.allclose(model, rounded, rtol=2.0**-10, atol=0) and np.array_equal(model, model.astype(np.float16)),
        f"The model's weights are the new master weights in float16: expected {rounded}, got {model}.",
    )
    require(bool(got[2]) is took, f"The third answer says whether the step was taken, here {took}; yours is {got[2]}.")
