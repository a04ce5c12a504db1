"""Plausible wrong answers, and what must be said to each."""

import numpy as np

from lmcore.checking import mutant


def _symmetric(x, bits, *, scale=None, rounding=np.round):
    scale = np.abs(x).max() / (2 ** (bits - 1) - 1) if scale is None else scale
    return rounding(x / scale), scale


@mutant("symmetric", rejected_with="divided by 2^(b−1)")
def uses_the_whole_range_of_the_type(x, bits):
    largest = 2 ** (bits - 1)
    codes, scale = _symmetric(x, bits, scale=np.abs(x).max() / largest)
    return np.clip(codes, -largest, largest - 1), scale


@mutant("symmetric", rejected_with="largest *magnitude*")
def forgets_the_magnitude(x, bits):
    return _symmetric(x, bits, scale=x.max() / (2 ** (bits - 1) - 1))


@mutant("symmetric", rejected_with="scale of an asymmetric range")
def takes_the_width_of_the_numbers(x, bits):
    return _symmetric(x, bits, scale=(x.max() - x.min()) / (2**bits - 1))


@mutant("symmetric", rejected_with="not 2^b − 1")
def counts_a_step_too_many(x, bits):
    return _symmetric(x, bits, scale=2 * np.abs(x).max() / (2**bits - 1))


@mutant("symmetric", rejected_with="That is 1/s")
def returns_codes_per_unit(x, bits):
    codes, scale = _symmetric(x, bits)
    return codes, 1 / scale


@mutant("symmetric", rejected_with="You took 8 bits")
def knows_only_int8(x, bits):
    return _symmetric(x, 8)


@mutant("symmetric", rejected_with="cut the digits off")
def truncates(x, bits):
    return _symmetric(x, bits, rounding=np.trunc)


@mutant("symmetric", rejected_with="You rounded down")
def rounds_down(x, bits):
    return _symmetric(x, bits, rounding=np.floor)


@mutant("symmetric", rejected_with="round halves up")
def adds_a_half_and_rounds_down(x, bits):
    return _symmetric(x, bits, rounding=lambda steps: np.floor(steps + 0.5))


@mutant("symmetric", rejected_with="halves away from zero")
def rounds_as_at_school(x, bits):
    return _symmetric(x, bits, rounding=lambda steps: np.sign(steps) * np.floor(np.abs(steps) + 0.5))


@mutant("symmetric", rejected_with="numbers that the codes stand for")
def returns_the_rounded_numbers(x, bits):
    codes, scale = _symmetric(x, bits)
    return codes * scale, scale


@mutant("symmetric", rejected_with="not whole numbers")
def never_rounds(x, bits):
    return _symmetric(x, bits, rounding=lambda steps: steps)


@mutant("symmetric", rejected_with="has no sign")
def stores_codes_without_a_sign(x, bits):
    codes, scale = _symmetric(x, bits)
    return codes.astype(int).astype(np.uint8), scale


@mutant("symmetric", rejected_with="codes first")
def returns_the_scale_first(x, bits):
    return _symmetric(x, bits)[::-1]


def _asymmetric(x, low, high, bits, *, steps=None, rounding=np.round):
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / (2**bits - 1 if steps is None else steps)
    zero = np.round(-low / scale)
    return np.clip(rounding(x / scale) + zero, 0, 2**bits - 1), scale, zero


@mutant("asymmetric", rejected_with="has no 0")
def never_stretches(x, low, high, bits):
    scale = (high - low) / (2**bits - 1)
    zero = np.round(-low / scale)
    return np.clip(np.round(x / scale) + zero, 0, 2**bits - 1), scale, zero


@mutant("asymmetric", rejected_with="2^b − 1 steps")
def counts_codes_instead_of_steps(x, low, high, bits):
    return _asymmetric(x, low, high, bits, steps=2**bits)


@mutant("asymmetric", rejected_with="took the range from x")
def ignores_the_calibration(x, low, high, bits):
    return _asymmetric(x, x.min(), x.max(), bits)


@mutant("asymmetric", rejected_with="symmetric around 0")
def makes_the_range_symmetric(x, low, high, bits):
    end = max(abs(low), abs(high))
    return _asymmetric(x, -end, end, bits)


@mutant("asymmetric", rejected_with="no whole number")
def leaves_the_zero_point_as_it_is(x, low, high, bits):
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / (2**bits - 1)
    return np.clip(np.round(x / scale - low / scale), 0, 2**bits - 1), scale, -low / scale


@mutant("asymmetric", rejected_with="wrong sign")
def turns_the_zero_point_around(x, low, high, bits):
    codes, scale, zero = _asymmetric(x, low, high, bits)
    return codes, scale, -zero


@mutant("asymmetric", rejected_with="cut the zero point's digits off")
def truncates_the_zero_point(x, low, high, bits):
    codes, scale, _ = _asymmetric(x, low, high, bits)
    return codes, scale, int(-min(low, 0.0) / scale)


@mutant("asymmetric", rejected_with="from the high end")
def puts_the_high_end_at_zero(x, low, high, bits):
    scale = (max(high, 0.0) - min(low, 0.0)) / (2**bits - 1)
    zero = np.round(max(high, 0.0) / scale)
    return np.clip(np.round(x / scale) + zero, 0, 2**bits - 1), scale, zero


@mutant("asymmetric", rejected_with="low end of the range")
def returns_the_minimum(x, low, high, bits):
    codes, scale, _ = _asymmetric(x, low, high, bits)
    return codes, scale, min(low, 0.0)


@mutant("asymmetric", rejected_with="begin at −2^(b−1)")
def shifts_everything_to_signed_codes(x, low, high, bits):
    codes, scale, zero = _asymmetric(x, low, high, bits)
    return codes - 2 ** (bits - 1), scale, zero - 2 ** (bits - 1)


@mutant("asymmetric", rejected_with="begin at −2^(b−1)")
def shifts_only_the_codes(x, low, high, bits):
    codes, scale, zero = _asymmetric(x, low, high, bits)
    return codes - 2 ** (bits - 1), scale, zero


@mutant("asymmetric", rejected_with="clip the numbers beyond the range")
def never_clips(x, low, high, bits):
    _, scale, zero = _asymmetric(x, low, high, bits)
    return np.round(x / scale) + zero, scale, zero


@mutant("asymmetric", rejected_with="came back at its other end")
def lets_the_type_run_over(x, low, high, bits):
    _, scale, zero = _asymmetric(x, low, high, bits)
    return (np.round(x / scale) + zero).astype(int).astype(np.uint8), scale, zero


@mutant("asymmetric", rejected_with="before it was stretched")
def clips_to_the_range_as_given(x, low, high, bits):
    return _asymmetric(np.clip(x, low, high), low, high, bits)


@mutant("asymmetric", rejected_with="at once")
def rounds_the_distance_from_the_minimum(x, low, high, bits):
    _, scale, zero = _asymmetric(x, low, high, bits)
    return np.clip(np.round((x - min(low, 0.0)) / scale), 0, 2**bits - 1), scale, zero


@mutant("asymmetric", rejected_with="do not fit into int8")
def stores_the_codes_as_int8(x, low, high, bits):
    codes, scale, zero = _asymmetric(x, low, high, bits)
    return codes.astype(int).astype(np.int8), scale, zero


@mutant("asymmetric", rejected_with="cut the digits off")
def truncates_the_steps(x, low, high, bits):
    return _asymmetric(x, low, high, bits, rounding=np.trunc)


@mutant("asymmetric", rejected_with="You subtracted the zero point")
def subtracts_the_zero_point(x, low, high, bits):
    _, scale, zero = _asymmetric(x, low, high, bits)
    return np.clip(np.round(x / scale) - zero, 0, 2**bits - 1), scale, zero


@mutant("asymmetric", rejected_with="zero point is missing")
def adds_no_zero_point(x, low, high, bits):
    _, scale, zero = _asymmetric(x, low, high, bits)
    return np.clip(np.round(x / scale), 0, 2**bits - 1), scale, zero


def _product(x_codes, x_scale, w_codes, w_scale, corrections):
    return (x_codes.astype(int) @ w_codes.astype(int).T + corrections) * np.outer(x_scale, w_scale)


def _terms(x_codes, x_zero, w_codes, w_zero):
    """The three corrections, with their signs."""
    token = np.outer(x_zero, w_codes.astype(int).sum(axis=1))
    row = np.outer(x_codes.astype(int).sum(axis=1), w_zero)
    return -token, -row, x_codes.shape[1] * np.outer(x_zero, w_zero)


@mutant("integer_product", rejected_with="The zero points are missing")
def forgets_the_zero_points(x_codes, x_scale, x_zero, w_codes, w_scale, w_zero):
    return _product(x_codes, x_scale, w_codes, w_scale, 0)


@mutant("integer_product", rejected_with="The last term is missing")
def forgets_the_last_term(x_codes, x_scale, x_zero, w_codes, w_scale, w_zero):
    token, row, _ = _terms(x_codes, x_zero, w_codes, w_zero)
    return _product(x_codes, x_scale, w_codes, w_scale, token + row)


@mutant("integer_product", rejected_with="n times")
def counts_the_last_term_once(x_codes, x_scale, x_zero, w_codes, w_scale, w_zero):
    token, row, _ = _terms(x_codes, x_zero, w_codes, w_zero)
    return _product(x_codes, x_scale, w_codes, w_scale, token + row + np.outer(x_zero, w_zero))


@mutant("integer_product", rejected_with="last term has the wrong sign")
def subtracts_the_last_term(x_codes, x_scale, x_zero, w_codes, w_scale, w_zero):
    token, row, zeros = _terms(x_codes, x_zero, w_codes, w_zero)
    return _product(x_codes, x_scale, w_codes, w_scale, token + row - zeros)


@mutant("integer_product", rejected_with="corrections have the wrong sign")
def adds_the_zero_points(x_codes, x_scale, x_zero, w_codes, w_scale, w_zero):
    token, row, zeros = _terms(x_codes, x_zero, w_codes, w_zero)
    return _product(x_codes, x_scale, w_codes, w_scale, zeros - token - row)


@mutant("integer_product", rejected_with="treated the weights as symmetric")
def does_as_the_chapter(x_codes, x_scale, x_zero, w_codes, w_scale, w_zero):
    return _product(x_codes, x_scale, w_codes, w_scale, _terms(x_codes, x_zero, w_codes, w_zero)[0])


@mutant("integer_product", rejected_with="treated the activations as symmetric")
def corrects_for_the_weights_only(x_codes, x_scale, x_zero, w_codes, w_scale, w_zero):
    return _product(x_codes, x_scale, w_codes, w_scale, _terms(x_codes, x_zero, w_codes, w_zero)[1])


@mutant("integer_product", rejected_with="meets the sum of x's codes")
def forgets_the_sums_of_the_tokens(x_codes, x_scale, x_zero, w_codes, w_scale, w_zero):
    token, _, zeros = _terms(x_codes, x_zero, w_codes, w_zero)
    return _product(x_codes, x_scale, w_codes, w_scale, token + zeros)


@mutant("integer_product", rejected_with="*other* side's codes")
def takes_the_sums_of_the_own_side(x_codes, x_scale, x_zero, w_codes, w_scale, w_zero):
    own = (x_zero * x_codes.sum(axis=1, dtype=int))[:, None] + w_zero * w_codes.sum(axis=1, dtype=int)
    return _product(x_codes, x_scale, w_codes, w_scale, _terms(x_codes, x_zero, w_codes, w_zero)[2] - own)


@mutant("integer_product", rejected_with="not their number")
def takes_the_number_of_inputs(x_codes, x_scale, x_zero, w_codes, w_scale, w_zero):
    n, zeros = x_codes.shape[1], _terms(x_codes, x_zero, w_codes, w_zero)[2]
    return _product(x_codes, x_scale, w_codes, w_scale, zeros - n * x_zero[:, None] - n * w_zero)


@mutant("integer_product", rejected_with="stay in 8 bits")
def multiplies_the_types_as_they_come(x_codes, x_scale, x_zero, w_codes, w_scale, w_zero):
    product = (x_codes @ w_codes.T).astype(int)
    return (product + sum(_terms(x_codes, x_zero, w_codes, w_zero))) * np.outer(x_scale, w_scale)


@mutant("integer_product", rejected_with="16 bits are too few")
def multiplies_in_16_bits(x_codes, x_scale, x_zero, w_codes, w_scale, w_zero):
    product = (x_codes.astype(np.uint16) @ w_codes.astype(np.uint16).T).astype(int)
    return (product + sum(_terms(x_codes, x_zero, w_codes, w_zero))) * np.outer(x_scale, w_scale)


@mutant("integer_product", rejected_with="ends at 127")
def takes_the_codes_for_int8(x_codes, x_scale, x_zero, w_codes, w_scale, w_zero):
    corrections = sum(_terms(x_codes, x_zero, w_codes, w_zero))
    return _product(x_codes.astype(np.int8), x_scale, w_codes.astype(np.int8), w_scale, corrections)


@mutant("integer_product", rejected_with="two scales bring them back")
def returns_whole_numbers(x_codes, x_scale, x_zero, w_codes, w_scale, w_zero):
    return x_codes.astype(int) @ w_codes.astype(int).T + sum(_terms(x_codes, x_zero, w_codes, w_zero))


@mutant("integer_product", rejected_with="weights' scale per row is missing")
def forgets_the_weights_scale(x_codes, x_scale, x_zero, w_codes, w_scale, w_zero):
    corrections = sum(_terms(x_codes, x_zero, w_codes, w_zero))
    return _product(x_codes, x_scale, w_codes, np.ones(len(w_scale)), corrections)


@mutant("integer_product", rejected_with="scale per token is missing")
def forgets_the_tokens_scale(x_codes, x_scale, x_zero, w_codes, w_scale, w_zero):
    corrections = sum(_terms(x_codes, x_zero, w_codes, w_zero))
    return _product(x_codes, np.ones(len(x_scale)), w_codes, w_scale, corrections)


@mutant("integer_product", rejected_with="scales stand on the wrong axes")
def swaps_the_scales(x_codes, x_scale, x_zero, w_codes, w_scale, w_zero):
    product = x_codes.astype(int) @ w_codes.astype(int).T + sum(_terms(x_codes, x_zero, w_codes, w_zero))
    return product * x_scale * w_scale[:, None]


@mutant("integer_product", rejected_with="corrections stand on the wrong axes")
def swaps_the_corrections(x_codes, x_scale, x_zero, w_codes, w_scale, w_zero):
    corrections = sum(_terms(x_codes, x_zero, w_codes, w_zero)).T
    return (x_codes.astype(int) @ w_codes.astype(int).T + corrections) * x_scale[:, None] * w_scale


@mutant("integer_product", rejected_with="summed over the wrong axis")
def adds_up_the_columns(x_codes, x_scale, x_zero, w_codes, w_scale, w_zero):
    sums = np.outer(x_zero, w_codes.sum(axis=0, dtype=int)) + np.outer(x_codes.sum(axis=0, dtype=int), w_zero)
    return _product(x_codes, x_scale, w_codes, w_scale, _terms(x_codes, x_zero, w_codes, w_zero)[2] - sums)


@mutant("integer_product", rejected_with="W was not transposed")
def does_not_transpose(x_codes, x_scale, x_zero, w_codes, w_scale, w_zero):
    product = x_codes.astype(int) @ w_codes.astype(int) + sum(_terms(x_codes, x_zero, w_codes, w_zero))
    return product * x_scale[:, None] * w_scale


def _fields(packed, bits, n, order="little"):
    long = int.from_bytes(bytes(packed), order)
    return [(long >> (i * bits)) % 2**bits for i in range(n)]


def _signed(fields, bits):
    return [field - 2**bits if field >= 2 ** (bits - 1) else field for field in fields]


@mutant("unpack", rejected_with="The signs are lost")
def forgets_the_signs(packed, bits, n):
    return _fields(packed, bits, n)


@mutant("unpack", rejected_with="2^(b−1) off every code")
def shifts_all_codes_down(packed, bits, n):
    return [field - 2 ** (bits - 1) for field in _fields(packed, bits, n)]


@mutant("unpack", rejected_with="no mere minus sign")
def takes_the_highest_bit_for_a_minus(packed, bits, n):
    half = 2 ** (bits - 1)
    return [field if field < half else half - field for field in _fields(packed, bits, n)]


@mutant("unpack", rejected_with="came out positive")
def compares_with_the_wrong_end(packed, bits, n):
    return [field - 2**bits if field > 2 ** (bits - 1) else field for field in _fields(packed, bits, n)]


@mutant("unpack", rejected_with="not 2^b − 1")
def takes_one_too_few_off(packed, bits, n):
    top = 2**bits - 1
    return [field - top if field >= 2 ** (bits - 1) else field for field in _fields(packed, bits, n)]


@mutant("unpack", rejected_with="began with the highest bits")
def reads_from_the_high_bits(packed, bits, n):
    text = "".join(f"{byte:08b}" for byte in packed)
    return _signed([int(text[i * bits : (i + 1) * bits], 2) for i in range(n)], bits)


@mutant("unpack", rejected_with="and the signs are lost")
def reads_from_the_high_bits_without_signs(packed, bits, n):
    text = "".join(f"{byte:08b}" for byte in packed)
    return [int(text[i * bits : (i + 1) * bits], 2) for i in range(n)]


@mutant("unpack", rejected_with="bytes from the last to the first")
def reads_the_last_byte_first(packed, bits, n):
    return _signed(_fields(packed, bits, n, order="big"), bits)


@mutant("unpack", rejected_with="in reversed order")
def returns_the_last_code_first(packed, bits, n):
    return _signed(_fields(packed, bits, n), bits)[::-1]


@mutant("unpack", rejected_with="the rest is filling")
def returns_the_filling_too(packed, bits, n):
    return _signed(_fields(packed, bits, len(packed) * 8 // bits), bits)


@mutant("unpack", rejected_with="began anew in each byte")
def begins_each_byte_anew(packed, bits, n):
    return _signed([f for byte in packed for f in _fields([byte], bits, 8 // bits)], bits)[:n]


@mutant("unpack", rejected_with="across the border of two bytes")
def looks_at_one_byte_only(packed, bits, n):
    return _signed([(int(packed[i * bits // 8]) >> (i * bits % 8)) % 2**bits for i in range(n)], bits)


def _size(shapes, others, bits, group, block, *, scale=16, second=8, shared=32):
    weights = sum(rows * columns for rows, columns in shapes)
    scales = [rows * columns // group for rows, columns in shapes]
    blocks = 0 if block is None else sum(-(-n // block) for n in scales)
    total = weights * bits + (scale if block is None else second) * sum(scales) + shared * blocks
    return total / 8 + 2 * others, total / weights


def _weights(shapes):
    return sum(rows * columns for rows, columns in shapes)


@mutant("size", rejected_with="more than 4 bits a weight")
def forgets_the_scales(shapes, others, bits, group, block):
    return _weights(shapes) * bits / 8 + 2 * others, bits


@mutant("size", rejected_with="a scale for each row")
def one_scale_for_each_row(shapes, others, bits, group, block):
    total = _weights(shapes) * bits + 16 * sum(rows for rows, _ in shapes)
    return total / 8 + 2 * others, total / _weights(shapes)


@mutant("size", rejected_with="a scale for each matrix")
def one_scale_for_each_matrix(shapes, others, bits, group, block):
    total = _weights(shapes) * bits + 16 * len(shapes)
    return total / 8 + 2 * others, total / _weights(shapes)


@mutant("size", rejected_with="take room, too")
def forgets_the_other_parameters(shapes, others, bits, group, block):
    return _size(shapes, 0, bits, group, block)


@mutant("size", rejected_with="not 4")
def others_in_single_precision(shapes, others, bits, group, block):
    return _size(shapes, 2 * others, bits, group, block)


@mutant("size", rejected_with="other parameters are not quantized")
def quantizes_everything(shapes, others, bits, group, block):
    total, mean = _size(shapes, 0, bits, group, block)
    return total + others * bits / 8, mean


@mutant("size", rejected_with="total is in bits")
def total_in_bits(shapes, others, bits, group, block):
    total, mean = _size(shapes, others, bits, group, block)
    return 8 * total, mean


@mutant("size", rejected_with="in bytes per weight")
def mean_in_bytes(shapes, others, bits, group, block):
    total, mean = _size(shapes, others, bits, group, block)
    return total, mean / 8


@mutant("size", rejected_with="Your mean counts the other parameters")
def mean_with_the_others(shapes, others, bits, group, block):
    total, _ = _size(shapes, others, bits, group, block)
    return total, 8 * total / _weights(shapes)


@mutant("size", rejected_with="mean is over all parameters")
def mean_over_all_parameters(shapes, others, bits, group, block):
    total, _ = _size(shapes, others, bits, group, block)
    return total, 8 * total / (_weights(shapes) + others)


@mutant("size", rejected_with="The total is right, but")
def mean_without_scales(shapes, others, bits, group, block):
    return _size(shapes, others, bits, group, block)[0], bits


@mutant("size", rejected_with="quantized once more")
def never_quantizes_the_scales(shapes, others, bits, group, block):
    return _size(shapes, others, bits, group, None)


@mutant("size", rejected_with="second scales are missing")
def forgets_the_second_scales(shapes, others, bits, group, block):
    return _size(shapes, others, bits, group, block, shared=0)


@mutant("size", rejected_with="32 bits, not 16")
def second_scales_in_half_precision(shapes, others, bits, group, block):
    return _size(shapes, others, bits, group, block, shared=16)


@mutant("size", rejected_with="*and* their codes")
def keeps_the_first_scales(shapes, others, bits, group, block):
    return _size(shapes, others, bits, group, block, second=24)


@mutant("size", rejected_with="round up")
def drops_the_last_block(shapes, others, bits, group, block):
    if block is None:
        return _size(shapes, others, bits, group, block)
    total, _ = _size(shapes, others, bits, group, block, shared=0)
    extra = 32 * sum(rows * columns // group // block for rows, columns in shapes)
    return total + extra / 8, (8 * (total - 2 * others) + extra) / _weights(shapes)


@mutant("size", rejected_with="run on from one matrix into the next")
def shares_blocks_across_matrices(shapes, others, bits, group, block):
    total, mean = _size(shapes, others, bits, group, block, shared=0)
    blocks = 0 if block is None else -(-(_weights(shapes) // group) // block)
    return total + 4 * blocks, mean + 32 * blocks / _weights(shapes)


@mutant("size", rejected_with="a part of a block")
def counts_parts_of_blocks(shapes, others, bits, group, block):
    total, mean = _size(shapes, others, bits, group, block, shared=0)
    blocks = 0 if block is None else _weights(shapes) / group / block
    return total + 4 * blocks, mean + 32 * blocks / _weights(shapes)


@mutant("size", rejected_with="one over matrices")
def mean_of_the_matrices_means(shapes, others, bits, group, block):
    means = [_size([shape], 0, bits, group, block)[1] for shape in shapes]
    return _size(shapes, others, bits, group, block)[0], np.mean(means)


@mutant("size", rejected_with="shared by `block` scales")
def every_scale_in_single_precision(shapes, others, bits, group, block):
    return _size(shapes, others, bits, group, block, second=32, shared=0)


@mutant("size", rejected_with="16 bits, not 32")
def scales_in_single_precision(shapes, others, bits, group, block):
    return _size(shapes, others, bits, group, block, scale=32)


@mutant("size", rejected_with="2 *bytes*")
def takes_two_bytes_for_two_bits(shapes, others, bits, group, block):
    return _size(shapes, others, bits, group, block, scale=2)


@mutant("size", rejected_with="no zero points here")
def counts_zero_points(shapes, others, bits, group, block):
    return _size(shapes, others, bits, group, block, scale=16 + bits)


def _grid(x):
    return np.abs(x).max() * np.arange(1, 101) / 100


def _errors(x, bits, *, clipped=True):
    largest = 2 ** (bits - 1) - 1
    for c in _grid(x):
        codes = np.round(x / c * largest)
        codes = np.clip(codes, -largest, largest) if clipped else codes
        yield (x - codes * c / largest) ** 2


@mutant("best_clip", rejected_with="reaches to the largest number")
def clips_nothing(x, bits):
    return np.abs(x).max()


@mutant("best_clip", rejected_with="not the largest magnitude")
def ends_at_the_largest_number(x, bits):
    return x.max()


@mutant("best_clip", rejected_with="That is the narrowest range")
def lets_codes_grow(x, bits):
    return _grid(x)[np.argmin([error.sum() for error in _errors(x, bits, clipped=False)])]


@mutant("best_clip", rejected_with="That is the narrowest range")
def leaves_out_what_is_clipped(x, bits):
    errors = zip(_grid(x), _errors(x, bits), strict=True)
    return _grid(x)[np.argmin([error[np.abs(x) <= c].sum() for c, error in errors])]


@mutant("best_clip", rejected_with="That is the narrowest range")
def averages_over_the_inside(x, bits):
    errors = zip(_grid(x), _errors(x, bits), strict=True)
    inside = [error[np.abs(x) <= c] for c, error in errors]
    return _grid(x)[np.argmin([error.sum() / max(len(error), 1) for error in inside])]


@mutant("best_clip", rejected_with="no search for the least")
def clips_one_in_a_hundred(x, bits):
    return np.quantile(np.abs(x), 0.99)


@mutant("best_clip", rejected_with="no search for the least")
def three_standard_deviations(x, bits):
    return 3 * np.std(x)


@mutant("best_clip", rejected_with="That is the narrowest range")
def searches_for_the_worst(x, bits):
    return _grid(x)[np.argmax([error.sum() for error in _errors(x, bits)])]


@mutant("best_clip", rejected_with="best scale")
def returns_the_scale(x, bits):
    c = _grid(x)[np.argmin([error.sum() for error in _errors(x, bits)])]
    return c / (2 ** (bits - 1) - 1)


@mutant("best_clip", rejected_with="best share of max|x|")
def returns_the_share(x, bits):
    return (1 + np.argmin([error.sum() for error in _errors(x, bits)])) / 100


@mutant("best_clip", rejected_with="best k; return c")
def returns_k(x, bits):
    return 1 + np.argmin([error.sum() for error in _errors(x, bits)])


@mutant("best_clip", rejected_with="That is the least error")
def returns_the_error(x, bits):
    return min(error.sum() for error in _errors(x, bits))


@mutant("best_clip", rejected_with="best for the absolute errors")
def searches_by_absolute_errors(x, bits):
    return _grid(x)[np.argmin([np.sqrt(error).sum() for error in _errors(x, bits)])]


def _gptq(W, G, bits, group, *, sign=1, divided=True, reduced=True, ends=None, clipped=True, given=None):
    W, G, largest = W.copy(), G.copy(), 2 ** (bits - 1) - 1
    codes, scales = np.zeros(W.shape), []
    for j in range(W.shape[1]):
        if j % group == 0:
            scales.append(np.abs((W if given is None else given)[:, j : j + group]).max(axis=1) / largest)
        codes[:, j] = np.round(W[:, j] / scales[-1])
        codes[:, j] = np.clip(codes[:, j], -largest, largest) if clipped else codes[:, j]
        e = sign * (W[:, j] - scales[-1] * codes[:, j]) / (G[j, j] if divided else 1)
        end = W.shape[1] if ends is None else ends(j)
        W[:, j + 1 : end] -= np.outer(e, G[j, j + 1 : end])
        if reduced:
            G -= np.outer(G[:, j], G[j]) / G[j, j]
    return codes, np.stack(scales, axis=1)


@mutant("gptq", rejected_with="as they were given: each column")
def rounds_to_the_nearest(W, H, bits, group):
    return _gptq(W, np.linalg.inv(H), bits, group, ends=lambda j: j + 1)


@mutant("gptq", rejected_with="Your scales are those of W")
def chooses_all_scales_beforehand(W, H, bits, group):
    return _gptq(W, np.linalg.inv(H), bits, group, given=W)


@mutant("gptq", rejected_with="with the wrong sign")
def adds_the_error(W, H, bits, group):
    return _gptq(W, np.linalg.inv(H), bits, group, sign=-1)


@mutant("gptq", rejected_with="its inverse is needed")
def forgets_the_inverse(W, H, bits, group):
    return _gptq(W, H, bits, group)


@mutant("gptq", rejected_with="its inverse is needed")
def forgets_the_inverse_and_step_4(W, H, bits, group):
    return _gptq(W, H, bits, group, reduced=False)


@mutant("gptq", rejected_with="not divided by G_jj")
def forgets_the_diagonal(W, H, bits, group):
    return _gptq(W, np.linalg.inv(H), bits, group, divided=False)


@mutant("gptq", rejected_with="G never changes")
def forgets_step_4(W, H, bits, group):
    return _gptq(W, np.linalg.inv(H), bits, group, reduced=False)


@mutant("gptq", rejected_with="Only the next column")
def tells_the_next_column_only(W, H, bits, group):
    return _gptq(W, np.linalg.inv(H), bits, group, ends=lambda j: j + 2)


@mutant("gptq", rejected_with="Only the columns of the same group")
def stays_in_the_group(W, H, bits, group):
    return _gptq(W, np.linalg.inv(H), bits, group, ends=lambda j: j - j % group + group)


@mutant("gptq", rejected_with="codes end at")
def lets_the_codes_grow(W, H, bits, group):
    return _gptq(W, np.linalg.inv(H), bits, group, clipped=False)


@mutant("gptq", rejected_with="weights that the codes stand for")
def returns_the_weights(W, H, bits, group):
    codes, scales = _gptq(W, np.linalg.inv(H), bits, group)
    return codes * np.repeat(scales, group, axis=1), scales


@mutant("gptq", rejected_with="not whole numbers")
def never_rounds_the_columns(W, H, bits, group):
    scales = _gptq(W, np.linalg.inv(H), bits, group)[1]
    return W / np.repeat(scales, group, axis=1), scales


@mutant("gptq", rejected_with="divided by q_max")
def returns_the_largest_weights(W, H, bits, group):
    codes, scales = _gptq(W, np.linalg.inv(H), bits, group)
    return codes, scales * (2 ** (bits - 1) - 1)


@mutant("gptq", rejected_with="The scales, one for each row and group")
def one_scale_for_each_row_of_weights(W, H, bits, group):
    codes, scales = _gptq(W, np.linalg.inv(H), bits, W.shape[1])
    return codes, scales[:, 0]


BITS = (2, 3, 4, 8)


def _needs(counts, picks):
    return sum(count * BITS[pick] // 8 for count, pick in zip(counts, picks, strict=True))


def _fits(counts, budget, changes, picks):
    changed = sum(a != b for a, b in zip(picks[:-1], picks[1:], strict=True))
    return _needs(counts, picks) <= budget and changed <= changes


def _named(picks):
    return [BITS[pick] for pick in picks]


def _upwards(counts, errors, budget, changes, worth):
    """Step by step, the step that is worth most, as long as one fits."""
    picks = [0] * len(counts)
    while True:
        steps = []
        for i, pick in enumerate(picks):
            new = [*picks[:i], pick + 1, *picks[i + 1 :]]
            if pick < 3 and _fits(counts, budget, changes, new):
                more = counts[i] * (BITS[pick + 1] - BITS[pick]) // 8
                steps.append((worth(errors[i][pick] - errors[i][pick + 1], more), -i, new))
        if not steps:
            return _named(picks)
        picks = max(steps)[2]


def _one_by_one(counts, budget, changes, order):
    """In some order the most bits that leave 2 for all others."""
    picks = [0] * len(counts)
    for i in order:
        for pick in (1, 2, 3):
            new = [*picks[:i], pick, *picks[i + 1 :]]
            picks = new if _fits(counts, budget, changes, new) else picks
    return _named(picks)


def _knapsack(counts, errors, budget, changes, key):
    """The chapter's program, with more in its key."""
    best = {None: (0.0, 0, -1, ())}
    for count, row in zip(counts, errors, strict=True):
        longer = {}
        for rise, used, changed, chosen in best.values():
            for bits, more in zip(BITS, row, strict=True):
                often = changed + (not chosen or chosen[-1] != bits)
                option = (rise + more, used + count * bits // 8, often, (*chosen, bits))
                if option[1] <= budget and often <= changes:
                    place = key(option[1], bits, often)
                    longer[place] = min(option, longer.get(place, option))
        best = longer
    return list(min(best.values())[3])


@mutant("mixed_bits", rejected_with="The same bits everywhere")
def the_same_bits_for_all(counts, errors, budget, changes):
    return [max(bits for bits in BITS if sum(counts) * bits / 8 <= budget)] * len(counts)


@mutant("mixed_bits", rejected_with="best without a limit of changes")
def the_knapsack_of_the_chapter(counts, errors, budget, changes):
    return _knapsack(counts, errors, budget, len(counts), lambda used, bits, often: used)


@mutant("mixed_bits", rejected_with="changes its bits")
def every_third_layer_gets_a_bit_more(counts, errors, budget, changes):
    return [3 if i % 3 == 0 else 2 for i in range(len(counts))]


@mutant("mixed_bits", rejected_with="largest gain first")
def largest_gain_first(counts, errors, budget, changes):
    return _upwards(counts, errors, budget, changes, lambda gain, more: gain)


@mutant("mixed_bits", rejected_with="largest gain per byte first")
def largest_gain_per_byte_first(counts, errors, budget, changes):
    return _upwards(counts, errors, budget, changes, lambda gain, more: gain / more)


@mutant("mixed_bits", rejected_with="the first layers all they could take")
def first_come_first_served(counts, errors, budget, changes):
    return _one_by_one(counts, budget, changes, range(len(counts)))


@mutant("mixed_bits", rejected_with="the most sensitive layers all")
def the_most_sensitive_first(counts, errors, budget, changes):
    return _one_by_one(counts, budget, changes, sorted(range(len(counts)), key=lambda i: -errors[i][0]))


@mutant("mixed_bits", rejected_with="too few of the choices")
def remembers_only_bytes(counts, errors, budget, changes):
    return _knapsack(counts, errors, budget, changes, lambda used, bits, often: used)


@mutant("mixed_bits", rejected_with="too few of the choices")
def forgets_how_often_it_changed(counts, errors, budget, changes):
    return _knapsack(counts, errors, budget, changes, lambda used, bits, often: (used, bits))


@mutant("mixed_bits", rejected_with="too few of the choices")
def forgets_the_last_bits(counts, errors, budget, changes):
    return _knapsack(counts, errors, budget, changes, lambda used, bits, often: (used, often))


@mutant("mixed_bits", rejected_with="spend all of it")
def spends_less_than_the_budget(counts, errors, budget, changes):
    return _knapsack(counts, errors, budget - 1, changes, lambda *key: key)


@mutant("mixed_bits", rejected_with="The first layer is no change")
def counts_the_first_layer_as_a_change(counts, errors, budget, changes):
    return _knapsack(counts, errors, budget, changes - 1, lambda *key: key)


@mutant("mixed_bits", rejected_with="the budget is")
def takes_bytes_for_nibbles(counts, errors, budget, changes):
    return _upwards(counts, errors, 2 * budget, len(counts), lambda gain, more: gain / more)


@mutant("mixed_bits", rejected_with="not their places")
def returns_places_in_the_table(counts, errors, budget, changes):
    return [BITS.index(bits) for bits in largest_gain_per_byte_first(counts, errors, budget, changes)]


@mutant("mixed_bits", rejected_with="Your rises add up to")
def two_halves(counts, errors, budget, changes):
    best = min(
        (sum(row[a if i < cut else b] for i, row in enumerate(errors)), [a] * cut + [b] * (len(counts) - cut))
        for cut in range(len(counts))
        for a in range(4)
        for b in range(4)
        if _fits(counts, budget, changes, [a] * cut + [b] * (len(counts) - cut))
    )
    return _named(best[1])
