"""Matrix times vector: the readable loop, the compiled one, and the three products agree; packing; bandwidth."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.nn.bandwidth import read_bandwidth
from lmcore.nn.matvec import ColumnLinear, CompiledLinear, TorchLinear, matvec, matvec_loop, numba_threads, pack

PRODUCTS = pytest.mark.parametrize("product", [TorchLinear, ColumnLinear, CompiledLinear])


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("threads", [1, 2])
def test_matvec_by_hand(threads):
    weight, x = np.array([[1, 2, 3], [4, 5, 6]], np.float32), np.array([1, 0, -1], np.float32)
    assert matvec(weight, x, threads=threads).tolist() == [-2, -2]
    assert matvec_loop(weight, x).tolist() == [-2, -2]


@given(rows=st.integers(1, 70), columns=st.integers(1, 70), threads=st.integers(1, 3), seed=st.integers(0, 9))
def test_the_compiled_loop_is_the_readable_one(rows, columns, threads, seed):
    weight, x = draw(rows, columns, seed=seed).numpy(), draw(columns, seed=seed + 1).numpy()
    got = matvec(weight, x, threads=threads)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, matvec_loop(weight.astype(float), x.astype(float)), rtol=1e-5, atol=1e-4)


@PRODUCTS
@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (1, 3), (3, 1), (131, 67)])
@pytest.mark.parametrize("leading", [(), (1,), (1, 1), (2, 3), (1, 2)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_products_are_linear_maps(product, shape, leading, with_bias):
    weight, x = draw(*shape), draw(*leading, shape[1], seed=1)
    bias = draw(shape[0], seed=2) if with_bias else None
    expected = torch.nn.functional.linear(x.double(), weight.double(), None if bias is None else bias.double())
    got = product(weight, bias)
    for _ in range(2):  # a second time too: nothing is changed on the way
        torch.testing.assert_close(got(x).double(), expected, rtol=1e-5, atol=1e-4)


@PRODUCTS
def test_products_take_vectors_with_gaps(product):
    weight, x = draw(5, 7), draw(7, 3, seed=1)[:, 1]
    assert not x.is_contiguous()
    torch.testing.assert_close(product(weight)(x), weight @ x, rtol=1e-5, atol=1e-5)


def test_the_compiled_product_shares_memory_and_keeps_its_threads():
    weight = draw(5, 7)
    product = CompiledLinear(weight, threads=1)
    assert product.threads == 1
    weight.zero_()
    assert not product(draw(7)).any()


def test_threads_are_torchs_at_most_numbas():
    import numba

    assert numba_threads(1) == 1
    assert numba_threads(10**6) == numba.config.NUMBA_NUM_THREADS
    assert numba_threads() == min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_pack(dtype):
    matrices = [(10 * draw(3, 5, seed=n)).to(dtype)[:, ::k] for n, k in ((1, 1), (2, 2))]
    copies = pack(*matrices)
    for copy, matrix in zip(copies, matrices, strict=True):
        assert copy.is_contiguous()
        assert copy.dtype == dtype
        assert torch.equal(copy, matrix)
    matrices[0].zero_()
    assert copies[0].any()
    first, second = (copy.data_ptr() for copy in copies)
    assert second - first == 15 * matrices[0].element_size()


def test_bandwidth_is_what_a_memory_can_do():
    assert 1e7 < read_bandwidth(megabytes=4, rounds=2, threads=1) < 1e13
    assert 1e7 < read_bandwidth(megabytes=4, rounds=1, threads=2) < 1e13


class TestErrors:
    def test_matvec(self):
        weight, x = np.ones((3, 5), np.float32), np.ones(5, np.float32)
        with pytest.raises(ValueError, match="weight has 5 columns, but x has 3 numbers"):
            matvec(weight, x[:3])
        with pytest.raises(ValueError, match=r"weight must have 2 axes of float32 without gaps, got .* float64"):
            matvec(weight.astype(float), x)
        with pytest.raises(ValueError, match=r"weight must .*, got shape \(5, 3\) of float32 with gaps"):
            matvec(weight.T, x[:3])
        with pytest.raises(ValueError, match=r"x must have 1 axis of float32 without gaps, got shape \(3, 5\)"):
            matvec(weight, weight)
        with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
            matvec(weight, x, threads=0)

    def test_products(self):
        with pytest.raises(
            ValueError, match=r"weight must be float32 on the CPU, without gaps; got torch.float64 on cpu"
        ):
            CompiledLinear(draw(3, 5).double())
        with pytest.raises(ValueError, match="on meta"):
            CompiledLinear(torch.empty(3, 5, device="meta"))
        with pytest.raises(ValueError, match="with gaps"):
            CompiledLinear(draw(3, 5).T)
        with pytest.raises(RuntimeError):
            CompiledLinear(draw(3, 5))(draw(5, 1))  # five numbers, but not along the last axis

    def test_pack(self):
        with pytest.raises(ValueError, match="matrices must be of one dtype, got none"):
            pack()
        with pytest.raises(ValueError, match=r"got torch.float32, torch.float64"):
            pack(draw(2), draw(2).double())

    def test_bandwidth(self):
        with pytest.raises(ValueError, match="megabytes and rounds must be at least 1, got 0 and 7"):
            read_bandwidth(megabytes=0)
