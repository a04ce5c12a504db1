"""Products of int8 matrices: against int64 in all small sizes, on CPUs without the instructions, errors."""

import itertools
import os
import subprocess
import sys

import pytest
import torch

from lmcore.nn.integer_product import has_fast_product, integer_product


def codes(*shape, seed=0):
    return torch.randint(-128, 128, shape, generator=torch.Generator().manual_seed(seed)).to(torch.int8)


@pytest.mark.parametrize(("m", "n", "k"), list(itertools.product([0, 1, 2, 17], [1, 2, 7, 8, 33], [1, 3, 8, 13])))
def test_exact_in_all_sizes(m, n, k):
    a, b = codes(m, n, seed=m), codes(k, n, seed=n)
    got = integer_product(a, b)
    assert got.dtype == torch.int32
    assert torch.equal(got.long(), a.long() @ b.long().T)


def test_exact_beyond_what_float32_can_count():
    a = torch.full((2, 4099), -128, dtype=torch.int8)
    a[0, 0] = 1
    assert integer_product(a, a).tolist() == [
        [4098 * 16384 + 1, 4098 * 16384 - 128],
        [4098 * 16384 - 128, 4099 * 16384],
    ]


def test_matrices_that_are_not_in_a_row():
    a, b = codes(12, 7).T, codes(24, 5, seed=1).T[:, ::2]
    assert torch.equal(integer_product(a, b).long(), a.long() @ b.long().T)


def test_the_slow_way_is_the_same(monkeypatch):
    a, b = codes(5, 11), codes(3, 11, seed=1)
    fast = integer_product(a, b)

    def refuse(*_):
        raise RuntimeError("self.size(0) needs to be greater than 16")

    monkeypatch.setattr(torch, "_int_mm", refuse)
    assert torch.equal(integer_product(a, b), fast)


@pytest.mark.parametrize("instructions", ["AVX512_CORE", "AVX2"])
def test_exact_without_the_instructions(instructions):
    """oneDNN is told to do without VNNI, in a process of its own: torch's product may then cut sums off."""
    code = """if True:
        import torch
        from lmcore.nn.integer_product import integer_product
        a = torch.full((3, 384), 127, dtype=torch.int8)
        a[1] = -128
        print(torch.equal(integer_product(a, a).long(), a.long() @ a.long().T))
    """
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": instructions, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "True"


def test_an_operator_that_cuts_sums_off_is_found_out(monkeypatch):
    def cut_off(a, b):
        pairs = (a.int() + 128)[:, :, None] * b.int()  # (m, n, k); the instruction takes whole numbers from 0 to 255
        sums = torch.stack([part.sum(1) for part in pairs.split(2, dim=1)], 1).clamp(-(2**15), 2**15 - 1).sum(1)
        return (sums - 128 * b.int().sum(0)).int()

    a = codes(5, 12)
    right = integer_product(a, a)
    has_fast_product.cache_clear()
    monkeypatch.setattr(torch, "_int_mm", cut_off)
    assert not has_fast_product()
    assert torch.equal(integer_product(a, a), right)
    has_fast_product.cache_clear()


def test_wrong_matrices():
    with pytest.raises(TypeError, match=r"a and b must be int8, got torch.int8 and torch.uint8"):
        integer_product(codes(2, 3), codes(2, 3).view(torch.uint8))
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(2, 4\)"):
        integer_product(codes(2, 3), codes(2, 4))
