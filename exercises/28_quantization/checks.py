"""Checks of the exercises on quantization; the inputs are drawn anew from each seed."""

from numbers import Real

import numpy as np

from lmcore.checking import Tasks, require

tasks = Tasks()
check = tasks.check


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


def _same(got, expected, rtol=1e-5, atol=1e-7):
    """Whether two answers are equal up to the rounding of float32."""
    return np.shape(got) == np.shape(expected) and np.allclose(got, expected, rtol=rtol, atol=atol)


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
        if not any(_same(a, wrong(x * top)) for a in right for wrong in (_half_up, _half_away, np.trunc)):
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
            scales = [
                top / (largest + 1),
                2 * top / (2 * largest + 2),
                x.max() / largest,
                np.ptp(x) / (2 * largest + 1),
            ]
            codes = np.round(x / scale)
            others = [np.trunc(x / scale), np.floor(x / scale)]
            if not _is_near_half(x / scale) and _apart([scale, *scales[1:], 1 / scale]) and _apart([codes, *others]):
                break
        answer = _parts(student(x, bits), 2, "two things: the codes and the scale")
        require(np.ndim(answer[0]) > 0 or np.ndim(answer[1]) == 0, "Return the codes first, then the scale.")
        got, got_scale = _array(answer[0], x.shape, "The codes"), _number(answer[1], "The scale")
        wrongs = [
            (
                scales[0],
                "You divided by 2^(b−1): the code for +max|x| would not exist. Symmetric codes end at 2^(b−1) − 1.",
            ),
            (scales[2], "Your range ends at the largest number; take the largest *magnitude*, negative numbers count."),
            (scales[3], "That is the scale of an asymmetric range, from the least to the largest number."),
            (2 * top / (2 * largest + 1), "There are 2·q_max steps from −max|x| to max|x|, not 2^b − 1."),
            (1 / scale, "That is 1/s: the scale is the width of a step, so it has the unit of x."),
            (top / 127, f"You took 8 bits; b is {bits} here."),
            (top, "The scale is the width of one step, not of the whole range: divide by q_max."),
        ]
        _refuse(got_scale, scale, wrongs)
        require(_same(got_scale, scale), f"The scale for b = {bits} should be {scale:.6g}, got {got_scale:.6g}.")
        wrongs = [
            (scale * codes, "Those are the numbers that the codes stand for; return the codes."),
            (others[0], "You cut the digits off (as `astype(int)` does); round to the nearest whole number."),
            (others[1], "You rounded down; round to the nearest whole number."),
            (x / scale, "Your codes are not whole numbers: round them."),
            (np.abs(codes), "The signs are lost: codes run from −q_max to q_max."),
            (codes + largest, "Symmetric codes lie around 0; nothing is added to them."),
            (codes % 256, "Negative codes became large positive ones: the type of your codes has no sign."),
        ]
        _refuse(got, codes, wrongs)
        require(_same(got, codes), f"The codes of {x.round(3)} for b = {bits} should be {codes}, got {got}.")

        x, steps = _halves(rng, bits)
        got = _array(_parts(student(x, bits), 2, "the codes and the scale")[0], x.shape, "The codes")
        up = "round halves to the even code, as np.round does; else all halves together shift the mean."
        _refuse(got, np.round(steps), [(_half_up(steps), f"You round halves up: {up}")])
        _refuse(got, np.round(steps), [(_half_away(steps), f"You round halves away from zero: {up}")])
        require(
            _same(got, np.round(got)) and (np.abs(got - steps) < 0.51).all(),
            f"The numbers {x} with the scale {x[0] / steps[0]} should have the codes {np.round(steps)}, got {got}.",
        )


def _refuse(got, expected, wrongs):
    """Name the mistake that an answer looks like, unless the answer is right."""
    if _same(got, expected):
        return
    for wrong, message in wrongs:
        require(not _same(got, wrong), message)


def _affine(x, low, high, bits):
    """Codes before clipping, scale and zero point of a range as it is."""
    scale = (high - low) / (2**bits - 1)
    zero = np.round(-low / scale)
    return np.round(x / scale) + zero, scale, zero


def _range(rng, kind):
    """A calibrated range, and numbers of which some lie outside."""
    width = rng.uniform(1, 5)
    low = {"both": -rng.uniform(0.2, 0.45), "above": rng.uniform(0.3, 0.6), "below": -rng.uniform(1.4, 1.7)}[
        kind
    ] * width
    high = low + width
    inside = rng.uniform(low, high, size=6)
    outside = [min(low, 0) - rng.uniform(0.2, 0.9) * width, max(high, 0) + rng.uniform(0.2, 0.9) * width]
    between = (low if kind == "above" else high if kind == "below" else 0.4 * high) * rng.uniform(0.3, 0.7)
    return float(low), float(high), rng.permutation([*inside, *outside, between, 0.0])


@tasks.add(points=2, minutes=15)
def asymmetric(student, rng):
    """Scale, zero point and codes of an asymmetric range."""
    for kind in ("both", "above", "below"):
        while True:  # until all mistakes can be told from each other
            bits = int(rng.integers(4, 9))
            top = 2**bits - 1
            low, high, x = _range(rng, kind)
            lo, hi = min(low, 0.0), max(high, 0.0)
            raw, scale, zero = _affine(x, lo, hi, bits)
            codes = np.clip(raw, 0, top)
            unstretched, own = _affine(x, low, high, bits), _affine(x, x.min(), x.max(), bits)
            levels = (hi - lo) / 2**bits
            scales = [scale, levels, own[1], max(hi, -lo) * 2 / top, max(hi, -lo) / (2 ** (bits - 1) - 1)]
            old = np.clip(np.round(np.clip(x, low, high) / scale) + zero, 0, top)
            shapes = [codes, raw, raw % 2**bits, np.clip(np.trunc(x / scale) + zero, 0, top), codes - 2 ** (bits - 1)]
            exact = not _is_near_half(x / scale) and not _is_near_half(-lo / scale)
            apart = _apart(scales + ([unstretched[1]] if kind != "both" else []))
            unlike = _apart(shapes + ([old] if kind != "both" else []))
            if exact and apart and unlike and abs(-lo / scale - zero) > 0.05 * (kind == "both"):
                break
        answer = _parts(student(x, low, high, bits), 3, "three things: the codes, the scale and the zero point")
        got = _array(answer[0], x.shape, "The codes")
        got_scale, got_zero = _number(answer[1], "The scale"), _number(answer[2], "The zero point")
        case = f"for the range {low:.4g} … {high:.4g} and b = {bits}"
        wrongs = [
            (
                unstretched[1],
                f"The range {low:.4g} … {high:.4g} does not contain 0, so no code means 0: stretch it to 0 first.",
            ),
            (levels, "From the lowest to the highest of 2^b codes there are 2^b − 1 steps, not 2^b."),
            (own[1], "You took the range from x; calibration has given `low` and `high`, and x may lie outside."),
            (scales[3], "Your range is symmetric around 0; an asymmetric one reaches from low to high."),
            (scales[4], "Your range is symmetric around 0; an asymmetric one reaches from low to high."),
            (1 / scale, "That is 1/s: the scale is the width of a step, so it has the unit of x."),
        ]
        _refuse(got_scale, scale, wrongs)
        require(_same(got_scale, scale), f"The scale should be {scale:.6g} {case}, got {got_scale:.6g}.")
        wrongs = [
            (-lo / scale, "Your zero point is no whole number, so no code means exactly 0.0: round it."),
            (-zero, "Your zero point has the wrong sign: a number x is at x/s + z, and `low` must get the code 0."),
            (top - zero, "Your zero point counts from the high end; `low` must get the code 0."),
            (lo, "The zero point is a code, a whole number; you returned the low end of the range."),
            (zero - 2 ** (bits - 1), "Your codes begin at −2^(b−1); here they run from 0 to 2^b − 1."),
            (np.floor(-lo / scale), "You cut the zero point's digits off; round to the nearest whole number."),
            (0.0 if zero else -1, "Your zero point is 0, as in a symmetric range."),
        ]
        if not _same(got_zero, zero, atol=1e-6):
            _refuse(got_zero, zero, wrongs)
            require(False, f"The zero point should be {zero:.0f} {case}, got {got_zero:g}.")
        wrongs = [
            (raw, f"Some codes are outside of 0 … {top}: clip the numbers beyond the range."),
            (raw % 2**bits, "Numbers beyond the range came back at its other end: clip before you change the type."),
            (raw % 256, "Numbers beyond the range came back at its other end: clip before you change the type."),
            (shapes[3], "You cut the digits off (as `astype(int)` does); round to the nearest whole number."),
            (shapes[4], "Your codes begin at −2^(b−1); here they run from 0 to 2^b − 1."),
            (
                old,
                "You clipped to the range before it was stretched; numbers between it and 0 have codes of their own.",
            ),
            (scale * (codes - zero), "Those are the numbers that the codes stand for; return the codes."),
            (np.clip(np.round(x / scale) - zero, 0, top), "You subtracted the zero point from x/s; add it."),
            (np.clip(np.round(x / scale), 0, top), "The zero point is missing: q = round(x/s) + z."),
        ]
        _refuse(got, codes, wrongs)
        require(_same(got, codes), f"The codes of {x.round(3)} should be {codes} {case}, got {got}.")


@tasks.add(points=2, minutes=15)
def integer_product(student, rng):
    """A matrix product of codes, back to floats."""
    square = int(rng.integers(5, 8))
    for T, C, R in ((square, square, square), (3, int(rng.integers(40, 60)), 7)):
        while True:  # until all mistakes can be told from each other
            x_codes = rng.integers(90, 256, size=(T, C)).astype(np.uint8)
            w_codes = rng.integers(-80, 128, size=(R, C)).astype(np.int8)
            x_zero = rng.permutation(np.arange(40, 150))[:T].astype(np.int32)
            x_scale, w_scale = rng.uniform(0.5, 2, size=T) / 100, rng.uniform(0.5, 2, size=R) / 100
            q, w = x_codes.astype(np.int64), w_codes.astype(np.int64)
            both = np.outer(x_scale, w_scale)
            product, sums = q @ w.T, x_zero[:, None] * w.sum(axis=1)
            expected = both * (product - sums)
            narrow = (x_codes @ w_codes.T).astype(np.int64)  # 16 bits
            tiny = (q.astype(np.int8).astype(np.int64) @ w.T, (product % 256 + 128) % 256 - 128)
            wrongs = [
                (both * product, "The zero points are missing: the code of a true 0 is z, not 0."),
                (both * (product + sums), "The correction has the wrong sign: X is s (q − z)."),
                (
                    both * (narrow - sums),
                    "Your product ran over: sums of uint8 times int8 need 32 bits; change types first.",
                ),
                (both * (tiny[0] - sums), "Your activations' codes ran over as int8, which ends at 127: take int32."),
                (both * (tiny[1] - sums), "Your product ran over in 8 bits: change the types to int32 first."),
                (product - sums, "Those are whole numbers; the two scales bring them back to floats."),
                (x_scale[:, None] * (product - sums), "The weights' scale per row is missing."),
                (w_scale * (product - sums), "The activations' scale per token is missing."),
                (
                    both * (product - x_zero[0] * w.sum(axis=1)),
                    "You took the first token's zero point for all; every token has its own.",
                ),
                (
                    both * (product - x_zero[:, None]),
                    "The zero point counts for every input: multiply it by the sum of the weights' codes in the row.",
                ),
                (
                    both * (product - (x_zero * q.sum(axis=1))[:, None]),
                    "The zero point multiplies the sum of the *weights'* codes, for it stands in X's place.",
                ),
                (both * (product - C * x_zero[:, None]), "z multiplies the sum of the row's codes, not their number."),
            ]
            if T == R:
                wrongs += [
                    (
                        np.outer(w_scale, x_scale) * (product - sums),
                        "The scales stand on the wrong axes: a token's scale belongs to a row of the result.",
                    ),
                    (
                        both * (product - x_zero * w.sum(axis=1)[:, None]),
                        "The correction stands on the wrong axes: z belongs to the result's rows, the sums to its columns.",
                    ),
                    (
                        both * (product - x_zero[:, None] * w.sum(axis=0)),
                        "You added up the weights' codes over the outputs; z meets all inputs of one output.",
                    ),
                    (
                        both * (q @ w - sums),
                        "W was not transposed: a row of W belongs to one output, and the result is X Wᵀ.",
                    ),
                ]
            if _apart([expected, *(wrong for wrong, _ in wrongs)]):
                break
        got = _array(student(x_codes, x_scale, x_zero, w_codes, w_scale), (T, R), "The product")
        for wrong, message in wrongs:
            require(not _same(got, wrong, rtol=1e-4, atol=1e-5) or _same(got, expected, rtol=1e-4, atol=1e-5), message)
        require(
            _same(got, expected, rtol=1e-4, atol=1e-5),
            f"Expected in the first row {expected[0].round(4)}, got {got[0].round(4)}.",
        )


def _packed(fields, bits, n):
    """Whole numbers, the first lowest, as the bytes of one long number."""
    long = sum(int(field) << (i * bits) for i, field in enumerate(fields))
    size = (n * bits + 7) // 8
    return list((long % 256**size).to_bytes(size, "little"))


def _packings(codes, bits):
    """The right bytes, and wrong ones with what is to be said of them."""
    n, base, half = len(codes), 2**bits, 2 ** (bits - 1)
    fields = [int(code) % base for code in codes]
    right = _packed(fields, bits, n)
    bitstring = "".join(f"{field:0{bits}b}" for field in fields)
    bitstring += "0" * (-len(bitstring) % 8)
    first_high = [int(bitstring[i : i + 8], 2) for i in range(0, len(bitstring), 8)]
    per = 8 // bits  # whole codes in a byte
    gaps = [sum(field << (i * bits) for i, field in enumerate(fields[k : k + per])) for k in range(0, n, per)]
    spread = 0
    for i, code in enumerate(codes):
        spread |= int(code) << (i * bits)  # a negative code sets all higher bits
    size = len(right)
    alone = [
        [
            int(np.bitwise_or.reduce([int(c) << (i * bits) for i, c in enumerate(codes[k : k + per])])) % 256
            for k in range(0, n, per)
        ],
        [sum(int(c) << (i * bits) for i, c in enumerate(codes[k : k + per])) % 256 for k in range(0, n, per)],
    ]
    cut = "A negative code overwrote its neighbours: keep only its b lowest bits before you put it in place."
    return right, [
        (first_high, "You put the first code into the highest bits of a byte; it belongs into the lowest."),
        (list((spread % 256**size).to_bytes(size, "little")), cut),
        (_packed(codes, bits, n), cut),
        (alone[0], cut),
        (alone[1], cut),
        (_packed([code + half for code in codes], bits, n), "You added 2^(b−1) to all codes; add 2^b to the negative ones only."),
        (_packed([abs(code) for code in codes], bits, n), "The signs are lost: write a negative code q as q + 2^b."),
        (gaps, f"You leave {8 - per * bits} bits of each byte unused: let the next code begin there."),
        (fields, "Each code has a byte of its own; put them side by side."),
        (list(codes), "Each code has a byte of its own; put them side by side."),
        (right[::-1], "The bytes stand in reversed order: the lowest byte of the long number comes first."),
        (_packed(fields[::-1], bits, n), "The first code belongs into the lowest bits, the last one into the highest."),
        (right[:-1], "The last codes are missing: round the number of bytes up."),
        ([*right, 0], "You return a byte too many: n codes of b bits take n·b/8 bytes, rounded up."),
    ]  # fmt: skip


@tasks.add(points=2, minutes=15)
def pack(student, rng):
    """Codes packed without gaps."""
    for bits in (4, 3, 2):
        while True:  # until all mistakes can be told from each other, where they make a difference
            n = int(rng.choice([11, 13, 17]))
            codes = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), size=n)
            if bits < 4:
                codes[-1] = -1  # so that the last byte is not zero
            right, wrongs = _packings(codes.tolist(), bits)
            others = [wrong for wrong, _ in wrongs if bits == 3 or wrong is not wrongs[7][0]]
            if codes[0] < 0 < codes[1] and all(wrong != right for wrong in others):
                break
        got = student(codes.astype(np.int8), bits)
        require(got is not None, "Your function returns nothing.")
        require(not isinstance(got, str | int), "Return the bytes: a bytes object or numbers from 0 to 255.")
        got = list(got) if isinstance(got, bytes | bytearray) else np.asarray(got).tolist()
        case = f"of {bits} bits {codes.tolist()}"
        if got != right:
            for wrong, message in wrongs:
                require(got != wrong, f"{message} (Codes {case}.)")
        require(
            all(isinstance(byte, Real) and 0 <= byte <= 255 for byte in got),
            f"A byte is a number from 0 to 255; yours are {got}. (Codes {case}.)",
        )
        require(len(got) == len(right), f"{n} codes of {bits} bits take {len(right)} bytes, yours take {len(got)}.")
        require(got == right, f"The codes {case} should be packed as {right}, got {got}.")


def _sizes(shapes, others, bits, group, block, *, scale=16, second=8, shared=32, whole=False, other=16, per=None):
    """Bytes and bits per weight; each keyword is a place for a mistake."""
    weights = total = 0
    for rows, columns in shapes:
        scales = rows * columns // group if per is None else rows if per == "row" else 1
        blocks = 0 if block is None else scales // block if whole else -(-scales // block)
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
            expected = _sizes(*given)
            weights = sum(rows * columns for rows, columns in shapes)
            bare = (weights * bits / 8 + 2 * others, float(bits))
            wrongs = [
                (bare, "The scales are missing: 4-bit codes with scales take more than 4 bits a weight."),
                (_sizes(*given, per="row"), "You counted a scale for each row; each group of a row has its own."),
                (_sizes(*given, per="matrix"), "You counted a scale for each matrix; each group of a row has its own."),
                (_sizes(*given, other=0), "The parameters that are not quantized take room, too: 16 bits each."),
                (_sizes(*given, other=32), "The other parameters are in half precision: 2 bytes each, not 4."),
                (_sizes(*given, other=bits), "The other parameters are not quantized: 16 bits each."),
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
                both = _sizes(*given, second=24)
                wrongs += [
                    (_sizes(*given[:4], None), "The scales take 8 bits now, not 16: they are quantized once more."),
                    (_sizes(*given, shared=0), "The second scales are missing: 32 bits for every block."),
                    (_sizes(*given, shared=16), "A second scale takes 32 bits, not 16."),
                    (_sizes(*given, shared=8), "A second scale takes 32 bits, not 8."),
                    (both, "You kept the scales in half precision *and* their codes; only the codes stay."),
                    (
                        _sizes(*given, whole=True),
                        "The last, smaller block of a matrix needs its number as well: round up.",
                    ),
                    (
                        _sizes(*given, second=32, shared=0),
                        "Every scale got 32 bits; these are shared by `block` scales, which take 8 bits each.",
                    ),
                ]
            else:
                wrongs += [
                    (_sizes(*given, scale=32), "A scale is in half precision: 16 bits, not 32."),
                    (_sizes(*given, scale=2), "You counted a scale as 2 bits; half precision takes 2 *bytes*."),
                    (_sizes(*given, scale=16 + bits), "There are no zero points here: the codes are symmetric."),
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


def _clip_error(x, c, bits, *, clipped=True, power=2):
    """The error of a symmetric range that ends at c, or what some take for it."""
    largest = 2 ** (bits - 1) - 1
    codes = np.round(x * largest / c)
    codes = np.clip(codes, -largest, largest) if clipped else codes
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
            inside = [((x - np.round(x * largest / c) * c / largest)[np.abs(x) <= c] ** 2).sum() for c in grid]
            mean = [error / max((np.abs(x) <= c).sum(), 1) for error, c in zip(inside, grid, strict=True)]
            beyond = [((np.abs(x) - c)[np.abs(x) > c] ** 2).sum() for c in grid]
            wrongs = [
                (top, "Your range reaches to the largest number, so a few numbers make the steps wide for all."),
                (
                    x.max(),
                    "Your range ends at the largest number, not at the largest magnitude, and was not searched for.",
                ),
                (
                    grid[np.argmin([_clip_error(x, c, bits, clipped=False) for c in grid])],
                    "Your codes are not clipped, so the narrowest range always seems best: clip them to ±q_max.",
                ),
                (
                    grid[np.argmin(inside)],
                    "You left out the numbers beyond c, so the narrowest range seems best: their error counts, too.",
                ),
                (
                    grid[np.argmin(mean)],
                    "You averaged over the numbers inside the range only; those beyond c count, too.",
                ),
                (
                    grid[np.argmin(beyond)],
                    "You counted the clipped numbers only; rounding inside the range costs, too.",
                ),
                (grid[np.argmax(errors)], "That is the range with the *largest* error."),
                (best / largest, "That is the best scale; return the end of the range, c = s·q_max."),
                (best / top, "That is the best share of max|x|; return c itself."),
                (100 * best / top, "That is the best k; return c itself."),
                (least, "That is the least error; return the c that gives it."),
                (
                    np.quantile(np.abs(x), 0.99),
                    "A fixed share of the numbers is clipped: no search for the least error.",
                ),
                (
                    np.quantile(np.abs(x), 0.999),
                    "A fixed share of the numbers is clipped: no search for the least error.",
                ),
                (3 * x.std(), "Three standard deviations are a rule of thumb: no search for the least error."),
            ]
            if all(_clip_error(x, c, bits) > 1.03 * least for c, _ in wrongs):
                break
        got = _number(student(x, bits), "The end of the range")
        require(got > 0, f"The end of the range is a positive number, got {got}.")
        mine = _clip_error(x, got, bits)
        if mine <= 1.01 * least:
            continue
        for wrong, message in wrongs:
            require(not _same(got, wrong, rtol=1e-4), message)
        absolute = grid[np.argmin([_clip_error(x, c, bits, power=1) for c in grid])]
        require(not _same(got, absolute), "That is best for the absolute errors; the squared ones are asked for.")
        eight = grid[np.argmin([_clip_error(x, c, 8) for c in grid])]
        require(not _same(got, eight), f"That is best with 8 bits; b is {bits} here.")
        require(
            False,
            f"For b = {bits} the squared errors add up to {mine:.4g} with c = {got:.4g}, to {least:.4g} with {best:.4g}.",
        )


_MISTAKES = {
    "nearest": "You rounded the weights as they were given: each column must first make up for those before it.",
    "adds": "The error goes to the later columns with the wrong sign: subtract e · G_jk.",
    "with H": "You spread the error with H; its inverse is needed.",
    "with H, never reduced": "You spread the error with H; its inverse is needed.",
    "not divided": "The error is not divided by G_jj.",
    "never reduced": "G never changes: when a column is fixed, take it out of the inverse (step 4).",
    "next only": "Only the next column takes the error; all later ones share it.",
}


def _gptq(W, H, scale, bits, mistake=""):
    """GPTQ by the inverse, with one of the usual mistakes; also, how far its numbers are from the end of the codes."""
    largest, C = 2 ** (bits - 1) - 1, W.shape[1]
    W, G = W.copy(), H if "with H" in mistake else np.linalg.inv(H)
    codes, before = np.zeros(W.shape), np.zeros(W.shape)
    for j in range(C):
        before[:, j] = W[:, j] / scale
        codes[:, j] = np.clip(np.round(before[:, j]), -largest, largest)
        e = W[:, j] - scale * codes[:, j]
        change = np.outer(e if mistake == "not divided" else e / G[j, j], G[j])
        last = j + 2 if mistake == "next only" else C
        if mistake != "nearest":
            W[:, j + 1 : last] -= (-1 if mistake == "adds" else 1) * change[:, j + 1 : last]
        if "never reduced" not in mistake:
            G = G - np.outer(G[:, j], G[j]) / G[j, j]
    return codes, before


def _layer(rng):
    """Correlated inputs, weights, and scales of which some clip the largest weights."""
    C, R, bits = int(rng.integers(9, 13)), int(rng.integers(5, 8)), int(rng.integers(3, 5))
    X = rng.normal(size=(96, 3)) @ rng.normal(size=(3, C)) + rng.uniform(0.2, 0.4) * rng.normal(size=(96, C))
    W = rng.normal(size=(R, C))
    H = X.T @ X
    H += 0.01 * np.diag(H).mean() * np.eye(C)
    return X, W, H, rng.uniform(0.75, 1, size=R) * np.abs(W).max(axis=1) / (2 ** (bits - 1) - 1), bits


@tasks.add(points=3, minutes=30)
def gptq(student, rng):
    """Columns in order, each making up for those before."""
    for _ in range(2):
        while True:  # until all mistakes cost more than is allowed, and rounding errors of float32 change no code
            X, W, H, scale, bits = _layer(rng)
            largest = 2 ** (bits - 1) - 1

            def error(codes, X=X, W=W, scale=scale):
                return ((X @ (W - scale[:, None] * codes).T) ** 2).sum()

            right, before = _gptq(W, H, scale, bits)
            wrongs = [(_gptq(W, H, scale, bits, mistake)[0], message) for mistake, message in _MISTAKES.items()]
            dear = all(error(codes) > 1.2 * error(right) for codes, _ in wrongs)
            if dear and np.abs(before).max() > largest + 0.6 and not _is_near_half(before):
                break
        got = _array(student(W, H, scale, bits), W.shape, "The codes")
        require(
            not _same(got, scale[:, None] * np.round(got / scale[:, None]), rtol=1e-4) or _same(got, np.round(got)),
            "Those are the weights that the codes stand for; return the codes.",
        )
        require(_same(got, np.round(got)), "Your codes are not whole numbers: round each column when its turn comes.")
        require(
            (np.abs(got) <= largest).all(),
            f"With {bits} bits codes end at ±{largest}, yours at {np.abs(got).max():.0f}: clip them, and what is cut off "
            "is part of the error.",
        )
        mine, good, simple = error(got), error(right), error(wrongs[0][0])
        if mine <= 1.1 * good:
            continue
        for wrong, message in wrongs:
            require(not _same(got, wrong), message)
        require(
            False,
            f"The output's squared error is {mine:.4g}; the steps above lead to {good:.4g}, and rounding to the nearest "
            f"codes to {simple:.4g}.",
        )


_BITS = (2, 3, 4, 8)


def _best_bits(counts, errors, budget):
    """The exact optimum: for every number of units up to the budget the least sum so far, and what was chosen."""
    units = [count // 8 for count in counts]  # bytes are units times bits
    unit = int(np.gcd.reduce(units))
    room = budget // unit
    least, chosen = np.zeros(room + 1), []
    for size, row in zip(units, errors, strict=True):
        options = np.full((len(_BITS), room + 1), np.inf)
        for option, bits, rise in zip(options, _BITS, row, strict=True):
            step = size // unit * bits
            option[step:] = least[: max(room + 1 - step, 0)] + rise
        chosen.append(options.argmin(axis=0))
        least = options.min(axis=0)
    picks, place = [], room
    for size, choice in zip(units[::-1], chosen[::-1], strict=True):
        picks.append(int(choice[place]))
        place -= size // unit * _BITS[picks[-1]]
    return picks[::-1]


def _bytes(counts, picks):
    """Bytes of the codes."""
    return sum(count * _BITS[pick] // 8 for count, pick in zip(counts, picks, strict=True))


def _rise(errors, picks):
    """The sum of the rises."""
    return float(sum(row[pick] for row, pick in zip(errors, picks, strict=True)))


def _step_by_step(counts, errors, budget, *, worth, down=False):
    """From 2 bits up while there is room, or from 8 bits down until it fits: the step that is worth most each time."""
    picks, move = [3 if down else 0] * len(counts), -1 if down else 1
    while True:
        steps = []
        for i, pick in enumerate(picks):
            new = [*picks[:i], pick + move, *picks[i + 1 :]]
            if 0 <= new[i] < len(_BITS) and (down or _bytes(counts, new) <= budget):
                gain, more = errors[i][pick] - errors[i][new[i]], _bytes(counts, new) - _bytes(counts, picks)
                steps.append((worth(gain, more), -i, new))
        if not steps or (down and _bytes(counts, picks) <= budget):
            return picks
        picks = max(steps)[2]


def _one_after_the_other(counts, errors, budget, order):
    """In some order each layer gets the most bits that leave two for all that come later."""
    picks = [0] * len(counts)
    for i in order:
        for pick in range(len(_BITS)):
            new = [*picks[:i], pick, *picks[i + 1 :]]
            picks = new if _bytes(counts, new) <= budget else picks
    return picks


def _smallest_peak(counts, errors, budget):
    """Always better the layer with the largest rise, while there is room."""
    picks = [0] * len(counts)
    while True:
        worst = max((i for i in range(len(counts)) if picks[i] < 3), key=lambda i: errors[i][picks[i]], default=None)
        new = [pick + (i == worst) for i, pick in enumerate(picks)]
        if worst is None or _bytes(counts, new) > budget:
            return picks
        picks = new


def _rules(counts, errors, budget):
    """What simple rules choose, and why that is not enough."""
    L, up = len(counts), "a step that pays now may leave bytes that no later step can use. Compare whole choices."
    same = max(pick for pick in range(len(_BITS)) if _bytes(counts, [pick] * L) <= budget)
    sensitive = sorted(range(L), key=lambda i: -errors[i][0])
    per_byte = sorted(range(L), key=lambda i: -errors[i][0] / counts[i])
    return [
        ([same] * L, "The same bits everywhere leave bytes unused, and layers differ in how much they gain."),
        (
            _step_by_step(counts, errors, budget, worth=lambda gain, more: gain),
            "The largest gain first ignores that large layers cost more bytes for it. Compare whole choices.",
        ),
        (
            _step_by_step(counts, errors, budget, worth=lambda gain, more: gain / more),
            f"The largest gain per byte first is not always best: {up}",
        ),
        (
            _step_by_step(counts, errors, budget, worth=lambda gain, more: gain, down=True),
            "From 8 bits down, the cheapest loss first: that ignores how many bytes a step saves.",
        ),
        (
            _step_by_step(counts, errors, budget, worth=lambda gain, more: -gain / more, down=True),
            "From 8 bits down, the least loss per byte saved first is not always best: the last step may save far more "
            "than was needed. Compare whole choices.",
        ),
        (
            _one_after_the_other(counts, errors, budget, range(L)),
            "You gave the first layers all they could take, and the last ones what was left.",
        ),
        (
            _one_after_the_other(counts, errors, budget, sensitive),
            "You gave the most sensitive layers all they could take; often 3 or 4 bits do almost as well as 8.",
        ),
        (
            _one_after_the_other(counts, errors, budget, per_byte),
            "You gave the layers most sensitive per weight all they could take; often 3 or 4 bits do as well as 8.",
        ),
        (_smallest_peak(counts, errors, budget), "You made the largest rise small; the *sum* of the rises counts."),
    ]


@tasks.add(points=4, minutes=45)
def mixed_bits(student, rng):
    """The best bits for every layer within a budget."""
    for mean in (rng.uniform(2.6, 3.2), rng.uniform(3.6, 4.6)):
        while True:  # until no simple rule finds the best choice
            counts = [8192 * int(k) for k in rng.integers(3, 30, size=12)]
            sensitivity = rng.lognormal(0, 0.8, size=12) * np.sqrt(counts) / 300
            fall = rng.uniform(0.15, 0.4, size=(12, 3)) ** [1, 1, 2]
            errors = sensitivity[:, None] * np.cumprod(np.column_stack([np.ones(12), fall]), axis=1)
            errors = [[float(f"{rise:.4g}") for rise in row] for row in errors]
            budget = int(sum(counts) * mean / 8)
            best = _best_bits(counts, errors, budget)
            least, rules = _rise(errors, best), _rules(counts, errors, budget)
            if all(_rise(errors, picks) > 1.0005 * least for picks, _ in rules):
                break
        got = student(counts, errors, budget)
        got = np.asarray(got).tolist() if got is not None else got
        require(got is not None, "Your function returns nothing.")
        require(isinstance(got, list) and len(got) == 12, "Return a list with the bits of each of the 12 layers.")
        require(
            not set(got) <= {0, 1, 2, 3} or set(got) <= set(_BITS),
            f"Return the bits themselves, 2, 3, 4 or 8, not their places in the table: {got}.",
        )
        require(set(got) <= set(_BITS), f"A layer gets 2, 3, 4 or 8 bits; yours get {got}.")
        picks = [_BITS.index(bits) for bits in got]
        needs, mine = _bytes(counts, picks), _rise(errors, picks)
        require(needs <= budget, f"Your choice {got} takes {needs} bytes; the budget is {budget}.")
        if mine <= least * (1 + 1e-6):
            continue
        told = f"Your rises add up to {mine:.4f}, the best choice's to {least:.4f}, within {budget} bytes. "
        for rule, hint in rules:
            require(picks != rule, told + hint)
        require(False, f"{told}Counts {counts}, yours {got}.")
