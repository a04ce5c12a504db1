"""Affine quantisation: grids by hand, torchao's and GGUF's numbers, the error's bound, errors."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from lmcore.compress.affine import Grid, Quantized, Scheme, fake_quantize, find_grid, grouped, quantize
from lmcore.data.gguf_blocks import decode_blocks

FREE = {"symmetric": False, "exact_zero": False}
KINDS = {"symmetric": {}, "asymmetric": {"symmetric": False}, "free": FREE}


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ---- hand-worked ----


def test_symmetric_by_hand():
    # codes −7 … 7; the row's largest is 3.5: steps of 0.5
    q = quantize(torch.tensor([[3.5, -1.0, 0.3, -0.2]]), Scheme(bits=4))
    assert q.scale.tolist() == [[0.5]]
    assert q.codes.tolist() == [[7, -2, 1, 0]]
    assert q.dequantize().tolist() == [[3.5, -1.0, 0.5, 0.0]]
    assert q.zero_point is None
    assert q.minimum is None


def test_asymmetric_by_hand():
    # codes 0 … 15 from −1 to 6.5: steps of 0.5, and 0 is code 2
    q = quantize(torch.tensor([-1.0, 6.5, 0.7]), Scheme(bits=4, symmetric=False))
    assert (q.scale.item(), q.zero_point.item()) == (0.5, 2)
    assert q.codes.tolist() == [0, 15, 3]  # 0.7 / 0.5 = 1.4, and 2
    assert q.dequantize().tolist() == [-1.0, 6.5, 0.5]


def test_a_range_without_zero_is_stretched_to_it_or_free():
    x = torch.tensor([10.0, 11.0, 11.5])
    stretched, free = quantize(x, Scheme(bits=2, symmetric=False)), quantize(x, Scheme(bits=2, **FREE))
    assert (stretched.zero_point.item(), round(stretched.scale.item(), 4)) == (0, 3.8333)  # 0 … 11.5 in 3 steps
    assert (free.minimum.item(), free.scale.item()) == (10.0, 0.5)  # 10 … 11.5
    assert free.dequantize().tolist() == x.tolist()


def test_what_shares_a_grid():
    x = torch.tensor([[1.0, 2.0, 3.0, 70.0], [5.0, 6.0, 70.0, 8.0]])
    assert (find_grid(x, Scheme(per="tensor")).scale * 127).shape == ()
    assert (find_grid(x, Scheme()).scale * 127).round().tolist() == [[70.0], [70.0]]
    groups = find_grid(x, Scheme(per="group", group_size=2)).scale * 127
    assert groups.round()[..., 0].tolist() == [[2.0, 70.0], [6.0, 70.0]]
    assert groups.shape == (2, 2, 1)


def test_given_range_cuts_off():
    q = quantize(torch.tensor([0.0, 3.0, 100.0, -100.0]), Scheme(bits=3), low=-3.0, high=2.0)
    assert q.dequantize().tolist() == [0.0, 3.0, 3.0, -3.0]  # the farther end counts on both sides


def test_a_range_for_each_row():
    low, high = torch.tensor([[-3.0], [-6.0]]), torch.tensor([[0.0], [6.0]])
    q = quantize(torch.ones(2, 3), Scheme(bits=3), low=low, high=high)
    assert q.scale.tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize(
    ("scheme", "nbytes"),
    [
        (Scheme(), 3 * 10 + 3 * 4),
        (Scheme(bits=4), 3 * 5 + 3 * 4),
        (Scheme(bits=3), 3 * 4 + 3 * 4),  # 30 bits are 4 bytes
        (Scheme(bits=4, per="tensor", symmetric=False), 3 * 5 + 4 + 1),
        (Scheme(bits=4, per="group", group_size=5, **FREE), 3 * 5 + 6 * 8),
    ],
)
def test_bytes_by_hand(scheme, nbytes):
    assert quantize(normal(3, 10), scheme).nbytes == nbytes


# ---- oracles ----


@pytest.mark.parametrize("per", ["tensor", "row", "group"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_same_as_torchao(bits, symmetric, per):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchao.quantization import quant_primitives as theirs
    x = normal(7, 99) + 0.1
    scheme = Scheme(bits=bits, symmetric=symmetric, per=per, group_size=11 if per == "group" else None)
    block = {"tensor": tuple(x.shape), "row": (1, 99), "group": (1, 11)}[per]
    kind = theirs.MappingType.SYMMETRIC if symmetric else theirs.MappingType.ASYMMETRIC
    ends = dict(zip(("quant_min", "quant_max"), scheme.codes, strict=True))
    scale, zero = theirs.choose_qparams_affine(x, kind, block, scheme.dtype, eps=1e-30, **ends)
    codes = theirs.quantize_affine(x, block, scale, zero, scheme.dtype, **ends)
    ours = quantize(x, scheme)
    assert torch.equal(ours.codes, codes)
    assert torch.equal(ours.scale.flatten(), scale.flatten())
    assert torch.equal(ours.dequantize(), theirs.dequantize_affine(codes, block, scale, zero, scheme.dtype, **ends))


def test_same_as_torch_fake_quantize():
    x = normal(5, 13)
    grid = find_grid(x, Scheme(symmetric=False, per="tensor"))
    theirs = torch.fake_quantize_per_tensor_affine(x, grid.scale, grid.zero_point, 0, 255)
    torch.testing.assert_close(fake_quantize(x, grid.scheme), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("symmetric", [True, False])
def test_same_codes_as_onnx(symmetric):
    import onnx
    from onnx.reference.ops.op_quantize_linear import QuantizeLinear_10  # noqa: F401 (the operator is there)
    from onnxruntime.quantization.quant_utils import compute_scale_zp, quantize_nparray

    x = normal(5, 13).numpy()
    scheme = Scheme(symmetric=symmetric, per="tensor")
    ours = quantize(torch.from_numpy(x), scheme)
    zero, scale = compute_scale_zp(x.min(), x.max(), *map(np.float32, scheme.codes), symmetric=symmetric)
    kind = onnx.TensorProto.INT8 if symmetric else onnx.TensorProto.UINT8
    codes = quantize_nparray(kind, x, np.float32(scale), np.array(zero).astype(np.int8 if symmetric else np.uint8))
    np.testing.assert_allclose(ours.scale.item(), scale, rtol=1e-6)
    assert abs(codes.astype(int) - ours.codes.numpy()).max() == 0


def q4_1_blocks(n, seed=0):
    """Random Q4_1 blocks (n, 20): half-precision d > 0 and m, and nibbles with both ends used."""
    rng = np.random.default_rng(seed)
    halves = np.stack([rng.uniform(0.01, 0.1, n), rng.uniform(-1, 0.5, n)], 1).astype("<f2").view(np.uint8)
    nibbles = rng.integers(0, 16, (n, 32), dtype=np.uint8)
    nibbles[:, 0], nibbles[:, 17] = 0, 15
    return np.concatenate([halves, nibbles[:, :16] | nibbles[:, 16:] << 4], 1), nibbles


def test_a_q4_1_block_is_a_free_group_of_four_bits():
    raw, nibbles = q4_1_blocks(7)
    numbers = torch.from_numpy(decode_blocks(raw.ravel(), "Q4_1")).view(1, -1)
    scheme = Scheme(bits=4, per="group", group_size=32, **FREE)
    halves = torch.from_numpy(raw[:, :4].copy().view("<f2").astype(np.float32))  # d and m of each block
    grid = Grid(scheme=scheme, scale=halves[None, :, :1], minimum=halves[None, :, 1:])
    same = Quantized(codes=torch.from_numpy(nibbles).view(1, -1), grid=grid)
    assert torch.equal(same.dequantize(), numbers)  # the same numbers, to the last bit
    again = quantize(numbers, scheme)  # and rounding them once more finds the block's codes and grid
    assert torch.equal(again.codes, same.codes)
    torch.testing.assert_close(again.scale, grid.scale, rtol=1e-5, atol=0)
    assert torch.equal(again.minimum, grid.minimum)


def test_a_q8_0_block_is_a_symmetric_group():
    from gguf import GGMLQuantizationType, quants

    x = normal(3, 64).numpy()
    theirs = quants.dequantize(quants.quantize(x, GGMLQuantizationType.Q8_0), GGMLQuantizationType.Q8_0)
    ours = fake_quantize(torch.from_numpy(x), Scheme(per="group", group_size=32)).numpy()
    np.testing.assert_allclose(ours, theirs, atol=2e-3)  # their scale is in half precision: 3 digits


def test_as_near_as_gguf_puts_numbers_into_q4_1_blocks():
    from gguf import GGMLQuantizationType, quants

    x = normal(7, 96).numpy()
    theirs = quants.dequantize(quants.quantize(x, GGMLQuantizationType.Q4_1), GGMLQuantizationType.Q4_1)
    ours = fake_quantize(torch.from_numpy(x), Scheme(bits=4, per="group", group_size=32, **FREE)).numpy()
    assert np.linalg.norm(ours - x) == pytest.approx(np.linalg.norm(theirs - x), rel=0.01)
    assert np.median(abs(ours - theirs)) < 1e-3  # the same codes, with d and m in half precision


# ---- properties ----

SIZES = st.integers(-35, 35)  # powers of two that numbers are multiplied by


@st.composite
def tensors(draw):
    """(rows, n) float32: normal numbers times powers of two, some of them the same, some zero."""
    rows, n = draw(st.sampled_from([1, 2, 5])), draw(st.sampled_from([1, 2, 3, 6, 12]))
    x = normal(rows, n, seed=draw(st.integers(0, 10_000))) * 2.0 ** draw(SIZES)
    x += draw(st.sampled_from([0.0, 1.0, -3.0]))
    if draw(st.booleans()):
        x[:, : draw(st.integers(0, n))] = draw(st.sampled_from([0.0, 1.0, -2.5]))
    return x


@st.composite
def schemes(draw, n):
    kind = draw(st.sampled_from(list(KINDS)))
    per = draw(st.sampled_from(["tensor", "row", "group"]))
    group_size = draw(st.sampled_from([d for d in range(1, n + 1) if n % d == 0])) if per == "group" else None
    return Scheme(bits=draw(st.integers(2, 8)), per=per, group_size=group_size, **KINDS[kind])


@given(st.data())
def test_error_is_at_most_half_a_step(data):
    x = data.draw(tensors())
    q = quantize(x, data.draw(schemes(x.shape[1])))
    error = grouped((x - q.dequantize()).abs(), q.scheme)
    rounding = 4 * torch.finfo(torch.float32).eps * x.abs().max()  # of scale · code + minimum itself
    assert (error <= q.scale * (0.5 + 1e-4) + rounding).all()


@given(st.data())
def test_inside_a_given_range_half_a_step_outside_the_nearer_end(data):
    scheme = data.draw(schemes(12))
    low, high = sorted(data.draw(st.tuples(*[st.floats(-2, 2, width=16)] * 2)))
    assume(high - low > 0.1)
    x = normal(3, 12, seed=data.draw(st.integers(0, 1000)))
    q = quantize(x, scheme, low=low, high=high)
    nearest = x.clamp(-max(-low, high), max(-low, high)) if scheme.symmetric else x.clamp(low, high)
    inside = grouped(x == nearest, scheme)
    error = grouped((x - q.dequantize()).abs(), scheme)
    assert (error <= q.scale * (0.5 + 1e-4))[inside].all()
    codes = grouped(q.codes, scheme)
    above, below = grouped(x > high + 1, scheme), grouped(x < low - 1, scheme)  # a step is at most 2
    lowest, highest = scheme.codes
    if not scheme.symmetric and low < 0 < high:
        assert (codes[above] == highest).all()
        assert (codes[below] == lowest).all()


@given(st.data())
def test_codes_are_in_range_and_have_the_shape_and_type(data):
    x = data.draw(tensors())
    q = quantize(x, data.draw(schemes(x.shape[1])))
    lowest, highest = q.scheme.codes
    assert q.codes.shape == x.shape
    assert q.codes.dtype == q.scheme.dtype
    assert lowest <= int(q.codes.min()) <= int(q.codes.max()) <= highest


@given(st.data())
def test_rounding_twice_is_rounding_once(data):
    x = data.draw(tensors())
    q = quantize(x, data.draw(schemes(x.shape[1])))
    assume(float(q.scale.min()) > 1e-6 * float(x.abs().max()))  # else float32 itself rounds more than the grid
    again = q.grid.encode(grouped(q.dequantize(), q.scheme)).view(x.shape)
    assert torch.equal(again, q.codes)


@given(st.data(), st.integers(-20, 20))
def test_powers_of_two_pass_through(data, power):
    x = normal(3, 12, seed=data.draw(st.integers(0, 1000)))
    scheme = data.draw(schemes(12))
    assert torch.equal(fake_quantize(x * 2.0**power, scheme), fake_quantize(x, scheme) * 2.0**power)


@given(st.data())
def test_order_is_kept(data):
    x = data.draw(tensors())
    scheme = data.draw(schemes(x.shape[1]).filter(lambda s: s.per != "group"))
    y = fake_quantize(x, scheme)
    order = x.argsort(-1)
    assert (y.gather(-1, order).diff(dim=-1) >= 0).all()


@given(st.data())
def test_zero_stays_zero_where_it_is_exact(data):
    x = data.draw(tensors())
    x[:, 0] = 0.0
    scheme = data.draw(schemes(x.shape[1]).filter(lambda s: s.exact_zero))
    assert (fake_quantize(x, scheme)[:, 0] == 0).all()


@given(st.sampled_from(list(KINDS)), st.sampled_from([0.0, 1.0, -1.7, 3.1]), st.integers(-100, 100), st.integers(2, 8))
def test_constants_come_back_whole(kind, value, power, bits):
    x = torch.full((2, 3), value * 2.0**power)
    y = fake_quantize(x, Scheme(bits=bits, **KINDS[kind]))
    torch.testing.assert_close(y, x, rtol=1e-6, atol=0)


def test_finer_grids_are_nearer():
    x = normal(11, 96)
    errors = [float((fake_quantize(x, Scheme(bits=b)) - x).norm()) for b in range(2, 9)]
    assert errors == sorted(errors, reverse=True)
    by_size = [float((fake_quantize(x, Scheme(bits=4, per="group", group_size=g)) - x).norm()) for g in (96, 48, 8)]
    assert by_size == sorted(by_size, reverse=True)
    assert by_size[0] == errors[2]  # one group to a row is a row


@pytest.mark.parametrize("kind", KINDS)
def test_very_large_and_very_small_numbers(kind):
    for x in (torch.tensor([1e38, -2e38]), torch.tensor([1e-45, -1e-45, 0.0])):
        q = quantize(x, Scheme(**KINDS[kind]))
        assert torch.isfinite(q.scale).all()
        assert ((q.dequantize().double() - x.double()).abs() <= q.scale.double() * 0.51).all()


def test_a_view_whose_rows_are_not_in_a_row():
    x = normal(6, 5).T
    scheme = Scheme(bits=4, per="group", group_size=3)
    assert torch.equal(fake_quantize(x, scheme), fake_quantize(x.contiguous(), scheme))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_floats(dtype):
    x = normal(3, 5).to(dtype)
    assert torch.equal(quantize(x, Scheme()).codes, quantize(x.float(), Scheme()).codes)
    assert fake_quantize(x, Scheme()).dtype == dtype


# ---- errors ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 1}, "bits must be a whole number from 2 to 8, got 1"),
        ({"bits": 9}, "got 9"),
        ({"bits": 4.0}, "got 4.0"),
        ({"bits": True}, "got True"),
        ({"per": "channel"}, "per must be one of tensor, row, group, got 'channel'"),
        ({"per": "group"}, "group_size goes with per=\"group\", got per='group', group_size=None"),
        ({"group_size": 3}, "got per='row', group_size=3"),
        ({"per": "group", "group_size": 0}, "group_size must be a whole number of at least 1, got 0"),
        ({"exact_zero": False}, "a symmetric grid always holds 0"),
    ],
)
def test_wrong_schemes(options, message):
    with pytest.raises(ValueError, match=message):
        Scheme(**options)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.tensor([1.0, math.nan, math.inf, 2.0]), ValueError, r"2 of 4 numbers of x are NaN .* first at \[1\]"),
        (torch.tensor(math.nan), ValueError, "1 of 1 numbers"),
        (torch.tensor([1, 2]), TypeError, "x must be floating-point numbers, got torch.int64"),
        (torch.zeros(3, 0), ValueError, r"x has shape \(3, 0\): there is nothing to quantise"),
        (torch.tensor(1.0), ValueError, "needs at least one axis"),
    ],
)
def test_wrong_numbers(x, error, message):
    with pytest.raises(error, match=message):
        quantize(x, Scheme())


def test_a_range_that_overflows():
    with pytest.raises(ValueError, match=r"the range -3e\+38 … 3e\+38 is wider than float32 can hold"):
        quantize(torch.tensor([3e38, -3e38]), Scheme(symmetric=False))


def test_groups_that_do_not_divide():
    with pytest.raises(ValueError, match="group_size = 4 does not divide the last axis of x, 6"):
        quantize(torch.ones(3, 6), Scheme(per="group", group_size=4))


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ({"low": 2.0, "high": 1.0}, "low must not be above high, got 2 and 1"),
        ({"low": math.nan}, "low must be finite, got nan"),
        ({"high": math.inf}, "high must be finite, got inf"),
        ({"high": torch.ones(5)}, r"high has shape \(5,\), must broadcast to that of the scales, \(3, 1\)"),
    ],
)
def test_wrong_ranges(ends, message):
    with pytest.raises(ValueError, match=message):
        quantize(torch.zeros(3, 4), Scheme(), **ends)
