"""Checks of the exercises on quantization; the inputs are drawn anew from each seed."""

from functools import partial
from numbers import Real

import numpy as np

from lmcore.checking import Tasks, refuse, require, same

tasks = Tasks()
check = tasks.check
TOLERANCE = {"rtol": 1e-5, "atol": 1e-7}  # the rounding of float32
_same, _refuse = partial(same, **TOLERANCE), partial(refuse, **TOLERANCE)


def _array(got, shape, what):
    """Require that an answer is an array of finite numbers of this shape; lists will do."""
    require(got is not None, "Your function returns nothing.")
    try:
        got = np.asarray(got)
    except ValueError:
        require(False, f"{what} should have the shape {shape}; yours have rows of different lengths.")
    require(got.dtype.kind in "iufb", f"{what} should be numbers, got {got.dtype}.")
    require(got.shape == shape, f"{what} should have the shape {shape}, yours have {got.shape}.")
    require(np.isfinite(got).all(), f"{what} should be finite numbers, got {got.ravel()[:8]} …")
    return got.astype(float)


def _number(got, what):
    """Require that an answer is one finite number."""
    if isinstance(got, np.ndarray) and got.size == 1:
        got = got.item()
    require(isinstance(got, Real | np.number), f"{what} should be one number, got {type(got).__name__}.")
    require(np.isfinite(got), f"{what} should be a finite number, got {got}.")
    return float(got)


def _parts(got, n, what):
    """Require that an answer is so many things."""
    require(got is not None, "Your function returns nothing.")
    require(isinstance(got, tuple | list) and len(got) == n, f"Return {what}.")
    return got


def _judge(got, expected, wrongs, rest, **tolerance):
    """Name the mistake that a wrong answer looks like, or say the rest."""
    _refuse(got, expected, wrongs, **tolerance)
    require(_same(got, expected, **tolerance), rest)


def _apart(values):
    """Whether no two of some answers are the same, so that each can be told from the others."""
    return not any(_same(a, b, rtol=1e-4) for i, a in enumerate(values) for b in values[:i])


def _is_near_half(x, margin=2e-3):
    """Whether a number is so near to a half that the rounding of float32 decides where it goes."""
    return bool((np.abs(np.abs(np.asarray(x)) % 1 - 0.5) < margin).any())


def _half_up(x):
    """Round to nearest, halves up."""
    return np.floor(x + 0.5)


def _half_away(x):
    """Round to nearest, halves away from zero."""
    return np.sign(x) * np.floor(np.abs(x) + 0.5)


def _halves(rng, bits):
    """Numbers of which several lie in the middle of two codes, with a scale that is a power of two."""
    largest = 2 ** (bits - 1) - 1
    while True:  # until no way to write the right answer rounds like one of the wrong ones
        steps = rng.integers(-largest, largest, size=9) + 0.5
        steps = np.append(steps, rng.choice([-largest, largest]))
        x = rng.permutation(steps) * 2.0 ** rng.integers(-9, 3)
        ratio, top = x / np.abs(x).max() * largest, largest / np.abs(x).max()
        right = [np.round(x * top), np.round(ratio), np.round(ratio.astype(np.float32))]
        wrong = [_half_up(x * top), _half_away(x * top), np.trunc(x * top)]
        if _apart(wrong) and not any(_same(a, b) for a in right for b in wrong):
            return x, x * top


@tasks.add(points=1, minutes=10)
def symmetric(student, rng):
    """Symmetric codes and their scale."""
    for bits in (int(rng.integers(3, 7)), 8):
        largest = 2 ** (bits - 1) - 1
        while True:  # until all mistakes can be told from each other
            x = rng.normal(size=13) * rng.uniform(0.1, 5)
            x[np.argmax(np.abs(x))] *= 1.3
            x *= -np.sign(x[np.argmax(np.abs(x))])  # the largest is negative
            top = np.abs(x).max()
            scale = top / largest
            steps = 2 * largest + 1
            scales = [top / (largest + 1), x.max() / largest, np.ptp(x) / steps, 2 * top / steps, 1 / scale, top]
            codes = np.round(x / scale)
            others = [np.trunc(x / scale), np.floor(x / scale)]
            if not _is_near_half(x / scale) and _apart([scale, *scales]) and _apart([codes, *others]):
                break
        answer = _parts(student(x, bits), 2, "two things: the codes and the scale")
        require(np.ndim(answer[0]) > 0 or np.ndim(answer[1]) == 0, "Return the codes first, then the scale.")
        got, got_scale = _array(answer[0], x.shape, "The codes"), _number(answer[1], "The scale")
        wrongs = [
            (
                scales[0],
                "You divided by 2^(b−1): the code for +max|x| would not exist. Symmetric codes end at 2^(b−1) − 1.",
            ),
            (scales[1], "Your range ends at the largest number; take the largest *magnitude*, negative numbers count."),
            (scales[2], "That is the scale of an asymmetric range, from the least to the largest number."),
            (scales[3], "There are 2·q_max steps from −max|x| to max|x|, not 2^b − 1."),
            (1 / scale, "That is 1/s: the scale is the width of a step, so it has the unit of x."),
            (top / 127, f"You took 8 bits; b is {bits} here."),
            (top, "The scale is the width of one step, not of the whole range: divide by q_max."),
        ]
        _judge(got_scale, scale, wrongs, f"The scale for b = {bits} should be {scale:.6g}, got {got_scale:.6g}.")
        wrongs = [
            (scale * codes, "Those are the numbers that the codes stand for; return the codes."),
            (others[0], "You cut the digits off (as `astype(int)` does); round to the nearest whole number."),
            (others[1], "You rounded down; round to the nearest whole number."),
            (x / scale, "Your codes are not whole numbers: round them."),
            (np.abs(codes), "The signs are lost: codes run from −q_max to q_max."),
            (codes + largest, "Symmetric codes lie around 0; nothing is added to them."),
            (codes % 256, "Negative codes became large positive ones: the type of your codes has no sign."),
        ]
        _judge(got, codes, wrongs, f"The codes of {x.round(3)} for b = {bits} should be {codes}, got {got}.")

        x, steps = _halves(rng, bits)
        got = _array(_parts(student(x, bits), 2, "the codes and the scale")[0], x.shape, "The codes")
        even = "round halves to the even code, as np.round does; else all halves together shift the mean."
        wrongs = [(_half_up(steps), "up"), (_half_away(steps), "away from zero")]
        _refuse(got, np.round(steps), [(wrong, f"You round halves {where}: {even}") for wrong, where in wrongs])
        require(
            _same(got, np.round(got)) and (np.abs(got - steps) < 0.51).all(),
            f"The numbers {x} with the scale {x[0] / steps[0]} should have the codes {np.round(steps)}, got {got}.",
        )


def _affine(x, low, high, bits):
    """Codes before clipping, scale and zero point of a range as it is."""
    scale = (high - low) / (2**bits - 1)
    zero = np.round(-low / scale)
    return np.round(x / scale) + zero, scale, zero


def _range(rng, kind):
    """A calibrated range, and numbers of which some lie outside."""
    width = rng.uniform(1, 5)
    low = {"both": (-0.45, -0.2), "above": (0.3, 0.6), "below": (-1.7, -1.4)}[kind]
    low = width * rng.uniform(*low)
    high = low + width
    inside = rng.uniform(low, high, size=6)
    outside = [min(low, 0) - rng.uniform(0.2, 0.9) * width, max(high, 0) + rng.uniform(0.2, 0.9) * width]
    between = (low if kind == "above" else high if kind == "below" else 0.4 * high) * rng.uniform(0.3, 0.7)
    return float(low), float(high), rng.permutation([*inside, *outside, between, 0.0])


@tasks.add(points=2, minutes=15)
def asymmetric(student, rng):
    """Scale, zero point and codes of an asymmetric range."""
    kinds = ("both", "above", "below")
    eight = rng.choice(kinds)
    for kind in kinds:
        while True:  # until all mistakes can be told from each other
            bits = 8 if kind == eight else int(rng.integers(4, 8))
            top = 2**bits - 1
            low, high, x = _range(rng, kind)
            lo, hi = min(low, 0.0), max(high, 0.0)
            raw, scale, zero = _affine(x, lo, hi, bits)
            codes = np.clip(raw, 0, top)
            unstretched, own = _affine(x, low, high, bits), _affine(x, x.min(), x.max(), bits)
            levels = (hi - lo) / 2**bits
            scales = [scale, levels, own[1], max(hi, -lo) * 2 / top, max(hi, -lo) / (2 ** (bits - 1) - 1)]
            old = np.clip(np.round(np.clip(x, low, high) / scale) + zero, 0, top)
            joint, signed = np.clip(np.round((x - lo) / scale), 0, top), np.where(codes > 127, codes - 256, codes)
            shapes = [codes, raw, raw % 2**bits, np.clip(np.trunc(x / scale) + zero, 0, top), codes - 2 ** (bits - 1)]
            zeros = [-lo / scale, zero, -zero, top - zero, zero - 2 ** (bits - 1), lo, 0, np.floor(-lo / scale)]
            exact = not any(_is_near_half(steps) for steps in (x / scale, -lo / scale, (x - lo) / scale))
            apart = _apart(scales + ([unstretched[1]] if kind != "both" else []))
            unlike = _apart([*shapes, joint if kind == "both" else old] + ([signed] if bits == 8 else []))
            if exact and apart and unlike and (kind != "both" or _apart(zeros)):
                break
        answer = _parts(student(x, low, high, bits), 3, "three things: the codes, the scale and the zero point")
        got = _array(answer[0], x.shape, "The codes")
        got_scale, got_zero = _number(answer[1], "The scale"), _number(answer[2], "The zero point")
        case = f"for the range {low:.4g} … {high:.4g} and b = {bits}"
        even = "Your range is symmetric around 0; an asymmetric one reaches from low to high."
        back = "Numbers beyond the range came back at its other end: clip before you change the type."
        wrongs = [
            (unstretched[1], f"The range {low:.4g} … {high:.4g} has no 0, so no code means 0: stretch it to 0 first."),
            (levels, "From the lowest to the highest of 2^b codes there are 2^b − 1 steps, not 2^b."),
            (own[1], "You took the range from x; calibration has given `low` and `high`, and x may lie outside."),
            (scales[3], even),
            (scales[4], even),
            (1 / scale, "That is 1/s: the scale is the width of a step, so it has the unit of x."),
        ]
        _judge(got_scale, scale, wrongs, f"The scale should be {scale:.6g} {case}, got {got_scale:.6g}.")
        wrongs = [
            (-lo / scale, "Your zero point is no whole number, so no code means exactly 0.0: round it."),
            (-zero, "Your zero point has the wrong sign: a number x is at x/s + z, and `low` must get the code 0."),
            (top - zero, "Your zero point counts from the high end; `low` must get the code 0."),
            (lo, "The zero point is a code, a whole number; you returned the low end of the range."),
            (zero - 2 ** (bits - 1), "Your codes begin at −2^(b−1); here they run from 0 to 2^b − 1."),
            (np.floor(-lo / scale), "You cut the zero point's digits off; round to the nearest whole number."),
            (0.0 if zero else -1, "Your zero point is 0, as in a symmetric range."),
        ]
        _judge(got_zero, zero, wrongs, f"The zero point should be {zero:.0f} {case}, got {got_zero:g}.", atol=1e-6)
        wrongs = [
            (raw, f"Some codes are outside of 0 … {top}: clip the numbers beyond the range."),
            (raw % 2**bits, back),
            (raw % 256, back),
            (signed, "Codes above 127 came out negative: they do not fit into int8. Take uint8 or int32."),
            (
                joint,
                "You rounded (x − l)/s at once. x/s and the zero point are rounded separately, else what a code means "
                "can be a whole step away from x.",
            ),
            (shapes[3], "You cut the digits off (as `astype(int)` does); round to the nearest whole number."),
            (shapes[4], "Your codes begin at −2^(b−1); here they run from 0 to 2^b − 1."),
            (old, "You clipped to the range before it was stretched; numbers between it and 0 have their own codes."),
            (scale * (codes - zero), "Those are the numbers that the codes stand for; return the codes."),
            (np.clip(np.round(x / scale) - zero, 0, top), "You subtracted the zero point from x/s; add it."),
            (np.clip(np.round(x / scale), 0, top), "The zero point is missing: q = round(x/s) + z."),
        ]
        _judge(got, codes, wrongs, f"The codes of {x.round(3)} should be {codes} {case}, got {got}.")


def _product_mistakes(x, w, both, zx, zw, scales):
    """Wrong products of codes, as whole numbers or with their scales, and what is to be said of them."""
    n, product = x.shape[1], x @ w.T
    sx, sw = x.sum(axis=1), w.sum(axis=1)
    token, row, zeros = np.outer(zx, sw), np.outer(sx, zw), np.outer(zx, zw)
    fix = n * zeros - token - row
    right = product + fix
    own = (zx * sx)[:, None] + zw * sw
    small = x.astype(np.int8).astype(np.int64) @ w.astype(np.int8).astype(np.int64).T
    wrongs = [
        (product, "The zero points are missing: the code of a true 0 is z, not 0."),
        (product - token - row, "The last term is missing: −z_i times −z_r, once for each of the n inputs."),
        (product - token - row + zeros, "z_i · z_r occurs once for each of the n inputs: n times."),
        (product - token - row - n * zeros, "The last term has the wrong sign: −z_i times −z_r is positive."),
        (product + token + row + n * zeros, "The corrections have the wrong sign: a code means s (q − z)."),
        (product - token, "You treated the weights as symmetric: their zero points belong in, too."),
        (product - row, "You treated the activations as symmetric: their zero points belong in, too."),
        (product - token + n * zeros, "A term is missing: the weights' zero point meets the sum of x's codes."),
        (product - row + n * zeros, "A term is missing: a token's zero point meets the sum of the row's codes."),
        (
            product - own + n * zeros,
            "A zero point stands in place of a code of its own side, so it meets the sum of the *other* side's codes.",
        ),
        (
            product - n * (zx[:, None] + zw - zeros),
            "A zero point multiplies the sum of the other side's codes, not their number.",
        ),
        (product % 2**8 + fix, "Your product ran over: sums of uint8 stay in 8 bits. Change the types to int32 first."),
        (product % 2**16 + fix, "Your product ran over: 16 bits are too few. Change the types to int32 first."),
        (small + fix, "Your codes ran over as int8, which ends at 127: take int32."),
    ]
    if len(x) == len(w) == n:
        columns = np.outer(zx, w.sum(axis=0)) + np.outer(x.sum(axis=0), zw)
        wrongs += [
            (
                product + fix.T,
                "The corrections stand on the wrong axes: what belongs to a token belongs to a row of the result.",
            ),
            (product - columns + n * zeros, "You summed over the wrong axis: a sum of codes runs over the n inputs."),
            (x @ w + fix, "W was not transposed: a row of W belongs to one output, and the result is X Wᵀ."),
        ]
    wrongs = [(both * wrong, message) for wrong, message in wrongs] + [
        (right, "Those are whole numbers; the two scales bring them back to floats."),
        (scales[0][:, None] * right, "The weights' scale per row is missing."),
        (scales[1] * right, "The activations' scale per token is missing."),
    ]
    if len(x) == len(w):
        message = "The scales stand on the wrong axes: a token's scale belongs to a row of the result."
        wrongs.append((both.T * right, message))
    return both * right, wrongs


@tasks.add(points=2, minutes=20)
def integer_product(student, rng):
    """A product of codes with zero points on both sides."""
    square = int(rng.integers(5, 8))
    for T, n, R in ((square, square, square), (3, int(rng.integers(40, 60)), 7)):
        while True:  # until all mistakes can be told from each other
            x_codes, w_codes = (rng.integers(20, 256, size=(rows, n)).astype(np.uint8) for rows in (T, R))
            x_zero, w_zero = (rng.permutation(np.arange(90, 160))[:rows].astype(np.int32) for rows in (T, R))
            x_scale, w_scale = (rng.uniform(0.5, 2, size=rows) / 100 for rows in (T, R))
            x, w = x_codes.astype(np.int64), w_codes.astype(np.int64)
            expected, wrongs = _product_mistakes(
                x, w, np.outer(x_scale, w_scale), x_zero.astype(np.int64), w_zero.astype(np.int64), (x_scale, w_scale)
            )
            if _apart([expected, *(wrong for wrong, _ in wrongs)]):
                break
        got = _array(student(x_codes, x_scale, x_zero, w_codes, w_scale, w_zero), (T, R), "The product")
        rest = f"Expected in the first row {expected[0].round(4)}, got {got[0].round(4)}."
        _judge(got, expected, wrongs, rest, rtol=1e-4, atol=1e-5)


def _packed(fields, bits):
    """Whole numbers from 0 to 2^b − 1, the first lowest, as the bytes of one long number."""
    long = sum(field << (i * bits) for i, field in enumerate(fields))
    return long.to_bytes((len(fields) * bits + 7) // 8, "little")


def _unpackings(codes, bits):
    """The bytes of some codes, wrong ways to read them, and what is to be said of these."""
    n, base, half = len(codes), 2**bits, 2 ** (bits - 1)
    fields = [code % base for code in codes]
    packed = _packed(fields, bits)
    room = len(packed) * 8 // bits

    def signed(fields):
        return [field - base if field >= half else field for field in fields]

    def read(long, count=n):
        return [(long >> (i * bits)) % base for i in range(count)]

    text = "".join(f"{byte:08b}" for byte in packed)
    high_first = [int(text[i : i + bits], 2) for i in range(0, n * bits, bits)]
    whole = [(byte >> (k * bits)) % base for byte in packed for k in range(8 // bits)]
    torn = [(packed[i * bits // 8] >> (i * bits % 8)) % base for i in range(n)]
    top = half - 1
    return packed, [
        (fields, "The signs are lost: from 2^(b−1) on it was a negative code; take 2^b off."),
        ([f - half for f in fields], "You took 2^(b−1) off every code; take 2^b off the negative ones."),
        ([f if f <= top else half - f for f in fields], "The highest bit is no mere minus sign: take 2^b off."),
        ([f - base if f > half else f for f in fields], "The lowest code, −2^(b−1), came out positive."),
        ([f + 1 - base if f > top else f for f in fields], "2^b was added to negative codes, not 2^b − 1."),
        (signed(high_first), "You began with the highest bits of a byte; the first code is in the lowest."),
        (high_first, "You began with a byte's highest bits, and the signs are lost."),
        (signed(read(int.from_bytes(packed, "big"))), "You read the bytes from the last to the first."),
        (signed(fields)[::-1], "Your codes stand in reversed order."),
        (signed(read(int.from_bytes(packed, "little"), room)), f"There are n = {n} codes; the rest is filling."),
        (signed(whole), "You began anew in each byte; the codes follow each other without gaps."),
        (signed(torn), "Some codes lie across the border of two bytes: their upper bits are in the next byte."),
    ]  # fmt: skip


@tasks.add(points=2, minutes=15)
def unpack(student, rng):
    """Codes out of their bytes."""
    for bits in (4, 3, 2):
        while True:  # until all mistakes can be told from each other, where they make a difference
            n = int(rng.choice([11, 13, 17]))
            codes = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), size=n).tolist()
            packed, wrongs = _unpackings(codes, bits)
            wrongs = wrongs if bits == 3 else wrongs[:10]  # the others are mistakes at the borders of bytes
            lists = [wrong for wrong, _ in wrongs]
            if codes not in lists and (bits < 3 or all(a != b for i, a in enumerate(lists) for b in lists[:i])):
                break
        got = student(np.frombuffer(packed, dtype=np.uint8), bits, n)
        require(got is not None, "Your function returns nothing.")
        require(np.ndim(got) == 1, f"Return a list or an array of n codes; yours has {np.ndim(got)} axes.")
        got = np.asarray(got).tolist()
        case = f"(bits {bits}, n = {n}, bytes {list(packed)}.)"
        if got != codes:
            for wrong, message in wrongs:
                require(got != wrong, f"{message} {case}")
        require(len(got) == n, f"You return {len(got)} codes instead of n = {n}. {case}")
        require(got == codes, f"Expected the codes {codes}, got {got}. {case}")


def _sizes(shapes, others, bits, group, block, *, scale=16, second=8, shared=32, cut=np.ceil, other=16, per=None):
    """Bytes and bits per weight; each keyword is a place for a mistake."""
    weights = total = 0
    for rows, columns in shapes:
        scales = rows * columns // group if per is None else rows if per == "row" else 1
        blocks = 0 if block is None else cut(scales / block)
        weights += rows * columns
        total += rows * columns * bits + (scales * scale if block is None else scales * second + blocks * shared)
    return total / 8 + others * other / 8, total / weights


@tasks.add(points=2, minutes=15)
def size(student, rng):
    """Bytes of a model in groups, with scales and scales of scales."""
    for double in (False, True):
        while True:  # until all mistakes can be told from each other
            bits, group = int(rng.choice([2, 3, 4])), int(rng.choice([16, 32, 64]))
            block = int(rng.choice([96, 128, 256])) if double else None
            shapes = [(8 * int(r), group * int(c)) for r, c in rng.integers(3, 12, size=(int(rng.integers(3, 6)), 2))]
            others = 8 * int(rng.integers(100, 900))
            given = (shapes, others, bits, group, block)
            made = partial(_sizes, *given)
            expected = made()
            weights = sum(rows * columns for rows, columns in shapes)
            bare = (weights * bits / 8 + 2 * others, float(bits))
            wrongs = [
                (bare, "The scales are missing: 4-bit codes with scales take more than 4 bits a weight."),
                (made(per="row"), "You counted a scale for each row; each group of a row has its own."),
                (made(per="matrix"), "You counted a scale for each matrix; each group of a row has its own."),
                (made(other=0), "The parameters that are not quantized take room, too: 16 bits each."),
                (made(other=32), "The other parameters are in half precision: 2 bytes each, not 4."),
                (made(other=bits), "The other parameters are not quantized: 16 bits each."),
                ((expected[0] * 8, expected[1]), "Your total is in bits; a byte has 8."),
                ((expected[0], expected[1] / 8), "Your mean is in bytes per weight; return bits."),
                (
                    (expected[0], 8 * expected[0] / weights),
                    "Your mean counts the other parameters, too; only the matrices and their scales are asked for.",
                ),
                (
                    (expected[0], 8 * expected[0] / (weights + others)),
                    "Your mean is over all parameters; only the matrices and their scales are asked for.",
                ),
                ((expected[0], float(bits)), "The total is right, but a weight's scales belong to its bits."),
            ]
            if double:
                mean = float(np.mean([_sizes([shape], 0, *given[2:])[1] for shape in shapes]))
                long = _sizes([(1, weights)], *given[1:])
                wrongs += [
                    (_sizes(*given[:4], None), "The scales take 8 bits now, not 16: they are quantized once more."),
                    (made(shared=0), "The second scales are missing: 32 bits for every block."),
                    (made(shared=16), "A second scale takes 32 bits, not 16."),
                    (made(shared=8), "A second scale takes 32 bits, not 8."),
                    (made(second=24), "You kept the scales in half precision *and* their codes; only the codes stay."),
                    (made(cut=np.floor), "The last, smaller block of a matrix needs its number as well: round up."),
                    (
                        made(cut=float),
                        "You counted a part of a block as a part of a number; it needs a whole one: round up.",
                    ),
                    (long, "Your blocks run on from one matrix into the next; `block` scales *of a matrix* share."),
                    ((expected[0], mean), "Your mean is one over matrices, not over weights: a large one counts more."),
                    (
                        made(second=32, shared=0),
                        "Every scale got 32 bits; these are shared by `block` scales, which take 8 bits each.",
                    ),
                ]
            else:
                wrongs += [
                    (made(scale=32), "A scale is in half precision: 16 bits, not 32."),
                    (made(scale=2), "You counted a scale as 2 bits; half precision takes 2 *bytes*."),
                    (made(scale=16 + bits), "There are no zero points here: the codes are symmetric."),
                ]
            if _apart([np.array(pair) for pair in (expected, *(wrong for wrong, _ in wrongs))]):
                break
        answer = _parts(student(*given), 2, "two numbers: bytes of the model, and bits per weight")
        got = (_number(answer[0], "The bytes"), _number(answer[1], "The mean"))
        case = f"shapes {shapes}, others {others}, bits {bits}, group {group}, block {block}"
        _refuse(got, expected, wrongs)
        for wrong, message in wrongs:  # one of the two numbers may be right by chance, or by another mistake
            alone = all(_same(w, e) or _same(g, w) for g, w, e in zip(got, wrong, expected, strict=True))
            require(not alone or _same(got, expected), message)
        require(
            _same(got, expected, rtol=1e-6),
            f"Expected {expected[0]:.1f} bytes and {expected[1]:.5f} bits a weight, got {got[0]:.1f} and {got[1]:.5f} "
            f"({case}).",
        )


def _clip_error(x, c, bits, *, power=2):
    """The error of a symmetric range that ends at c."""
    largest = 2 ** (bits - 1) - 1
    codes = np.clip(np.round(x * largest / c), -largest, largest)
    return (np.abs(x - codes * c / largest) ** power).sum()


@tasks.add(points=2, minutes=20)
def best_clip(student, rng):
    """The end of the range with the least squared error."""
    for bits in (3, 4):
        largest = 2 ** (bits - 1) - 1
        while True:  # until every mistake costs more than is allowed, and no two look alike
            x = rng.normal(size=400) * rng.uniform(0.2, 4)
            far = int(rng.integers(2, 5))
            x[rng.choice(400, size=far, replace=False)] *= rng.uniform(3, 6, size=far)
            if x.max() >= np.abs(x).max():
                x = -x
            top = np.abs(x).max()
            grid = top * np.arange(1, 101) / 100
            errors = [_clip_error(x, c, bits) for c in grid]
            best, least = grid[np.argmin(errors)], min(errors)
            shares = np.quantile(np.abs(x), [0.99, 0.999])
            absolute = grid[np.argmin([_clip_error(x, c, bits, power=1) for c in grid])]
            wrongs = [
                (top, "Your range reaches to the largest number, so a few numbers make the steps wide for all."),
                (x.max(), "Your range ends at the largest number, not the largest magnitude; there was no search."),
                (
                    grid[0],
                    "That is the narrowest range, and the worst. It seems best if codes are not clipped to ±q_max, or "
                    "if the errors of the numbers beyond c are left out.",
                ),
                (absolute, "That is best for the absolute errors; the squared ones are asked for."),
                (best / largest, "That is the best scale; return the end of the range, c = s·q_max."),
                (best / top, "That is the best share of max|x|; return c itself."),
                (100 * best / top, "That is the best k; return c itself."),
                (least, "That is the least error; return the c that gives it."),
                *((end, "A fixed share of the numbers is clipped: no search for the least error.") for end in shares),
                (3 * x.std(), "Three standard deviations are a rule of thumb: no search for the least error."),
            ]
            unlike = _apart([best / largest, best / top, 100 * best / top, least])
            if unlike and all(_clip_error(x, c, bits) > 1.03 * least for c, _ in wrongs):
                break
        got = _number(student(x, bits), "The end of the range")
        require(got > 0, f"The end of the range is a positive number, got {got}.")
        mine = _clip_error(x, got, bits)
        if mine <= 1.01 * least:
            continue
        rest = (
            f"For b = {bits} the squared errors sum to {mine:.4g} with c = {got:.4g}, to {least:.4g} with {best:.4g}."
        )
        _judge(got, best, wrongs, rest, rtol=1e-4)


_MISTAKES = {
    "nearest": "You rounded the weights as they were given: each column must first make up for those before it.",
    "adds": "The error goes to the later columns with the wrong sign: subtract e · G_jk / G_jj.",
    "with H": "You spread the error with H; its inverse is needed.",
    "with H, never reduced": "You spread the error with H; its inverse is needed.",
    "not divided": "The error is not divided by G_jj.",
    "never reduced": "G never changes: when a column is fixed, take it out of the inverse (step 4).",
    "next only": "Only the next column takes the error; all later ones share it.",
    "in the group": "Only the columns of the same group take the error; all later ones share it.",
}


def _gptq(W, H, bits, group, mistake=""):
    """GPTQ by the inverse, with one of the usual mistakes; codes, scales, and the numbers that were rounded."""
    largest, C, given = 2 ** (bits - 1) - 1, W.shape[1], W
    W, G = W.copy(), H if "with H" in mistake else np.linalg.inv(H)
    codes, before, scales = np.zeros(W.shape), np.zeros(W.shape), []
    for j in range(C):
        if j % group == 0:
            source = given if mistake == "static" else W
            scales.append(np.abs(source[:, j : j + group]).max(axis=1) / largest)
        before[:, j] = W[:, j] / scales[-1]
        codes[:, j] = np.clip(np.round(before[:, j]), -largest, largest)
        e = W[:, j] - scales[-1] * codes[:, j]
        change = np.outer(e if mistake == "not divided" else e / G[j, j], G[j])
        last = {"next only": j + 2, "in the group": j - j % group + group, "nearest": j + 1}.get(mistake, C)
        W[:, j + 1 : last] -= (-1 if mistake == "adds" else 1) * change[:, j + 1 : last]
        if "never reduced" not in mistake:
            G = G - np.outer(G[:, j], G[j]) / G[j, j]
    return codes, np.stack(scales, axis=1), before


def _layer(rng):
    """Correlated inputs, and weights of a layer in groups."""
    groups, R, bits = int(rng.integers(3, 5)), int(rng.integers(5, 8)), int(rng.integers(3, 5))
    group = int(rng.integers(3, 5))
    C = groups * group
    X = rng.normal(size=(96, 3)) @ rng.normal(size=(3, C)) + rng.uniform(0.2, 0.4) * rng.normal(size=(96, C))
    X *= rng.uniform(0.4, 0.7) * np.sqrt(np.diag(np.linalg.inv(X.T @ X)).mean())  # so that the size of G matters
    H = X.T @ X
    return X, rng.normal(size=(R, C)), H + 0.01 * np.diag(H).mean() * np.eye(C), bits, group


@tasks.add(points=3, minutes=35)
def gptq(student, rng):
    """GPTQ with a scale for each group of columns."""
    for _ in range(2):
        while True:  # until all mistakes cost more than is allowed, and rounding errors of float32 change no code
            X, W, H, bits, group = _layer(rng)
            largest, shape = 2 ** (bits - 1) - 1, (len(W), W.shape[1] // group)

            def error(codes, scales, X=X, W=W, group=group):
                return ((X @ (W - np.repeat(scales, group, axis=1) * codes).T) ** 2).sum()

            right, right_scales, before = _gptq(W, H, bits, group)
            if np.abs(before).max() < largest + 0.6 or _is_near_half(before):
                continue  # nothing is clipped, or a number lies between two codes
            wrongs = [(*_gptq(W, H, bits, group, mistake)[:2], message) for mistake, message in _MISTAKES.items()]
            dear = all(error(*wrong[:2]) > 1.2 * error(right, right_scales) for wrong in wrongs)
            static = _gptq(W, H, bits, group, "static")[1]
            if dear and _apart([wrong[0] for wrong in wrongs]) and not _same(right_scales, static, rtol=1e-3):
                break
        answer = _parts(student(W, H, bits, group), 2, "two things: the codes and the scales")
        scales = _array(answer[1], shape, "The scales, one for each row and group,")
        got = _array(answer[0], W.shape, "The codes")
        wide = np.repeat(scales, group, axis=1)
        require((scales > 0).all(), "A scale is a positive number.")
        whole = _same(got, np.round(got))
        weights = not whole and _same(got / wide, np.round(got / wide), rtol=1e-4, atol=1e-4)
        require(not weights, "Those are the weights that the codes stand for; return the codes.")
        require(whole, "Your codes are not whole numbers: round each column when its turn comes.")
        require(
            (np.abs(got) <= largest).all(),
            f"With {bits} bits codes end at ±{largest}, yours at {np.abs(got).max():.0f}: clip them; what is cut is "
            "part of the error.",
        )
        mine, good, beforehand = error(got, scales), error(right, right_scales), _same(scales, static)
        if mine <= 1.1 * good and not beforehand:
            continue
        _refuse(got, right, ((wrong, message) for wrong, _, message in wrongs))
        require(
            not beforehand,
            "Your scales are those of W as it was given: choose a group's scales when its turn comes, from the "
            "weights as they are by then.",
        )
        for factor in (largest, 1 / largest):
            require(not _same(scales * factor, right_scales), "A scale is the largest magnitude divided by q_max.")
        nearest = error(*wrongs[0][:2])
        told = f"The output's squared error is {mine:.4g}; the steps above lead to {good:.4g}"
        require(False, f"{told}, and rounding to the nearest codes to {nearest:.4g}.")


_BITS = (2, 3, 4, 8)
_L = 12


def _bytes(counts, picks):
    """Bytes of the codes."""
    return sum(count * _BITS[pick] // 8 for count, pick in zip(counts, picks, strict=True))


def _rise(errors, picks):
    """The sum of the rises."""
    return float(sum(row[pick] for row, pick in zip(errors, picks, strict=True)))


def _changes(picks):
    """How often neighbours differ."""
    return sum(a != b for a, b in zip(picks[:-1], picks[1:], strict=True))


def _shift(rows, step, fill):
    """Rows moved to the right: what was at place p is at p + step."""
    moved = np.full_like(rows, fill)
    if step < rows.shape[-1]:
        moved[..., step:] = rows[..., : rows.shape[-1] - step]
    return moved


def _least_rise(counts, errors, budget, changes):
    """The least sum of rises within both limits, and its bytes, exactly: by last bits, changes so far and bytes."""
    unit = int(np.gcd.reduce(counts)) // 8
    least = np.full((4, changes + 1, budget // unit + 1), np.inf)
    for i, (count, row) in enumerate(zip(counts, errors, strict=True)):
        new = np.full_like(least, np.inf)
        for pick, (bits, more) in enumerate(zip(_BITS, row, strict=True)):
            best = least[pick].copy()
            best[1:] = np.minimum(best[1:], np.delete(least, pick, axis=0).min(axis=0)[:-1])
            best[0, 0] = 0.0 if i == 0 else best[0, 0]
            new[pick] = _shift(best, count // 8 * bits // unit, np.inf) + more
        least = new
    rises = least.min(axis=(0, 1))
    return float(rises.min()), int(rises.argmin()) * unit


def _forgetful(counts, errors, budget, changes, *, by_last=False, by_changes=False):
    """Dynamic programming that keeps one choice for each number of bytes (and last bits, or changes); not exact.

    For each key arrays hold the least rise, its last bits and changes, and the choice as a number in base 4.
    """
    unit = int(np.gcd.reduce(counts)) // 8
    places = np.arange(budget // unit + 1)
    states = np.full((4 if by_last else 1, changes + 1 if by_changes else 1, len(places)), -1)
    rise, last, changed, code = np.full(states.shape, np.inf), states, states, np.zeros_like(states)
    rise[0, 0, 0] = 0.0
    for count, row in zip(counts, errors, strict=True):
        new = [np.full_like(rise, np.inf), last.copy(), changed.copy(), code.copy()]
        for pick, (bits, more) in enumerate(zip(_BITS, row, strict=True)):
            step = count // 8 * bits // unit
            before = [_shift(rise, step, np.inf), _shift(changed + (last != pick), step, 0), _shift(code, step, 0)]
            for b in range(states.shape[1]):
                rises, often, codes = (x[:, max(b - 1, 0) : b + 1].reshape(-1, len(places)) for x in before)
                found = np.where(often == b if by_changes else often <= changes, rises + more, np.inf)
                source = found.argmin(axis=0)
                values = (found[source, places], pick, often[source, places], codes[source, places] * 4 + pick)
                slot = (pick if by_last else 0, b)
                better = values[0] < new[0][slot]
                for array, value in zip(new, values, strict=True):
                    array[slot] = np.where(better, value, array[slot])
        rise, last, changed, code = new
    digits = int(code.ravel()[rise.argmin()])
    return [digits // 4**i % 4 for i in reversed(range(len(counts)))]


def _step_by_step(counts, errors, budget, changes, *, worth):
    """From 2 bits up while both limits allow it: the step that is worth most each time."""
    picks = [0] * len(counts)
    needs = _bytes(counts, picks)
    while True:
        steps = []
        for i, pick in enumerate(picks):
            new = [*picks[:i], pick + 1, *picks[i + 1 :]]
            if pick < 3 and _changes(new) <= changes:
                gain, more = errors[i][pick] - errors[i][pick + 1], counts[i] * (_BITS[pick + 1] - _BITS[pick]) // 8
                if needs + more <= budget:
                    steps.append((worth(gain, more), -i, more))
        if not steps:
            return picks
        _, i, more = max(steps)
        picks[-i] += 1
        needs += more


def _one_after_the_other(counts, errors, budget, changes, order):
    """In some order each layer gets the most bits that both limits allow, with 2 for all that come later."""
    picks = [0] * len(counts)
    for i in order:
        for pick in range(len(_BITS)):
            new = [*picks[:i], pick, *picks[i + 1 :]]
            picks = new if _bytes(counts, new) <= budget and _changes(new) <= changes else picks
    return picks


_FEW = (
    "You kept too few of the choices for the first layers: a slightly worse one that has changed less often, or that "
    "ends with the bits that come next, may win later."
)
_KEYS = ({}, {"by_last": True}, {"by_changes": True})


def _rules(counts, errors, budget, changes):
    """What the rises add up to by simple rules, one after the other, and why these are not enough."""
    limits = (counts, errors, budget, changes)
    below = "That is the best choice for less than the budget; *at most* the budget is allowed, so spend all of it."
    first = "That is the best choice with one change less. The first layer is no change: its program loads for nothing."
    yield _least_rise(counts, errors, budget - 1, changes)[0], below
    yield _least_rise(counts, errors, budget, changes - 1)[0], first
    most = max(pick for pick in range(len(_BITS)) if _bytes(counts, [pick] * len(counts)) <= budget)
    by_rise = sorted(range(len(counts)), key=lambda i: -errors[i][0])
    took = "layers all they could take, and the"
    stuck = (
        "is not always best: a step that pays now may use up bytes or changes that a better one needs. Compare whole "
        "choices."
    )
    for picks, hint in (
        ([most] * len(counts), "The same bits everywhere leave bytes and changes unused."),
        (_step_by_step(*limits, worth=lambda gain, more: gain), f"The largest gain first {stuck}"),
        (_step_by_step(*limits, worth=lambda gain, more: gain / more), f"The largest gain per byte first {stuck}"),
        (_one_after_the_other(*limits, range(len(counts))), f"You gave the first {took} last ones what was left."),
        (_one_after_the_other(*limits, by_rise), f"You gave the most sensitive {took} others what was left."),
    ):
        yield _rise(errors, picks), hint
    for key in _KEYS:
        yield _rise(errors, _forgetful(*limits, **key)), _FEW


def _model(rng):
    """Counts, rises, a budget, and how many changes are allowed; every other layer is the more sensitive one."""
    counts = [8192 * int(k) for k in rng.integers(2, 9, size=_L)]
    sensitivity = rng.lognormal(0, 1.2, size=_L) * np.sqrt(counts) / 300
    sensitivity[int(rng.integers(2)) :: 2] *= 4
    fall = rng.uniform(0.05, 0.5, size=(_L, 3)) ** [1, 1, 2]
    errors = sensitivity[:, None] * np.cumprod(np.column_stack([np.ones(_L), fall]), axis=1)
    errors = [[float(f"{rise:.4g}") for rise in row] for row in errors]
    return counts, errors, int(sum(counts) * rng.uniform(2.7, 4.2) / 8), int(rng.integers(3, 6))


def _case(rng, target):
    """A case that a forgetful program gets wrong; target 0 also: no rule solves it, and its best choice spends all."""
    while True:
        case = _model(rng)
        least, spent = _least_rise(*case)
        if target > 0:
            rules = [(_rise(case[1], _forgetful(*case, **key)), _FEW) for key in _KEYS]
            if rules[target][0] > 1.0005 * least:
                return case, least, rules
            continue
        case, rules = (*case[:2], spent, case[3]), []
        for rise, hint in _rules(*case):
            alike = any(_same(rise, other) for other, its in rules if its != hint)
            if alike or (rise <= 1.0005 * least and len(rules) < 8):  # the last two are for targets 1 and 2
                break
            rules.append((rise, hint))
        else:
            return case, least, rules


@tasks.add(points=4, minutes=45)
def mixed_bits(student, rng):
    """The best bits for every layer within a budget and few changes."""
    for target in range(len(_KEYS)):
        (counts, errors, budget, changes), least, rules = _case(rng, target)
        got = student(counts, errors, budget, changes)
        require(got is not None, "Your function returns nothing.")
        got = np.asarray(got).tolist()
        require(isinstance(got, list) and len(got) == _L, f"Return a list with the bits of each of the {_L} layers.")
        require(
            not set(got) <= {0, 1, 2, 3} or set(got) <= set(_BITS),
            f"Return the bits themselves, 2, 3, 4 or 8, not their places in the table: {got}.",
        )
        require(set(got) <= set(_BITS), f"A layer gets 2, 3, 4 or 8 bits; yours get {got}.")
        picks = [_BITS.index(bits) for bits in got]
        needs, mine, often = _bytes(counts, picks), _rise(errors, picks), _changes(picks)
        require(needs <= budget, f"Your choice {got} takes {needs} bytes; the budget is {budget}.")
        if often > changes:
            free = picks == _forgetful(counts, errors, budget, _L)
            require(not free, f"That is best without a limit of changes: {got} changes {often} times, not {changes}.")
            require(False, f"Your choice {got} changes its bits {often} times; {changes} are allowed.")
        told = f"Your rises add up to {mine:.4f}, the best choice's to {least:.4f}, within {budget} bytes. "
        wrongs = [(rise, told + hint) for rise, hint in rules]
        _judge(mine, least, wrongs, f"{told}Counts {counts}, changes {changes}, yours {got}.", rtol=1e-6)
