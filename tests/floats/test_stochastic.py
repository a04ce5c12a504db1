"""Stochastic rounding to bfloat16: the two neighbours, the right mean, and what stays as it is."""

import pytest
import torch

from lmcore.floats.stochastic import stochastic_bfloat16


def draw(x, seed=0):
    return stochastic_bfloat16(x, generator=torch.Generator().manual_seed(seed))


def test_only_the_neighbours_with_the_right_mean():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(53, generator=generator) * 10.0 ** torch.randint(-30, 30, (53,), generator=generator)
    many = draw(x.expand(20_011, 53)).double()
    below, above = many.amin(dim=0), many.amax(dim=0)
    assert ((below <= x) & (x <= above)).all()
    bits = x.view(torch.int32)
    toward_zero = (bits & -65536).view(torch.float32).double()
    away = ((bits & -65536) + 65536).view(torch.float32).double()
    assert ((many == toward_zero) | (many == away)).all()
    share = (bits & 65535).double() / 65536
    spread = (away - toward_zero).abs() * (share * (1 - share) / 20_011).sqrt()
    assert ((many.mean(dim=0) - x).abs() <= 5 * spread).all()


def test_what_a_bfloat16_holds_stays():
    codes = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int16)
    numbers = codes.view(torch.bfloat16)
    rounded = draw(numbers.float())
    number = ~numbers.isnan()
    assert torch.equal(rounded.view(torch.int16)[number], codes[number])
    assert rounded[~number].isnan().all()


def test_nan_with_any_payload_and_infinity():
    nan = torch.tensor([0x7FFFFFFF, 0x7F800001, -1], dtype=torch.int32).view(torch.float32)
    assert draw(nan).isnan().all()
    assert draw(torch.tensor([float("inf"), -float("inf")])).tolist() == [float("inf"), -float("inf")]


def test_the_same_draws_from_the_same_generator_and_any_layout():
    x = torch.randn(11, 7, generator=torch.Generator().manual_seed(3))
    assert torch.equal(draw(x), draw(x))
    assert not torch.equal(draw(x), draw(x, seed=1))
    assert draw(x.T).shape == (7, 11)
    assert draw(torch.zeros(0)).shape == (0,)


def test_errors():
    with pytest.raises(TypeError, match=r"x must be float32, got torch\.float64"):
        stochastic_bfloat16(torch.zeros(3, dtype=torch.float64))
