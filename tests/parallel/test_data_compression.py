"""Codes: what is unbiased, what is contractive, what error feedback promises, and what is sent."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lmcore.parallel.compressed_reduce import CastReduce, ErrorFeedback, GatherReduce
from lmcore.parallel.compression import Int8, TopK
from lmcore.parallel.data_parallel import DataParallel, global_mean, total_over_ranks
from lmcore.parallel.launch import run
from lmcore.parallel.powersgd import PowerSGD, low_rank, orthogonalize
from lmcore.parallel.traffic import Traffic

TIMEOUT = 60
vectors = st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40).map(torch.tensor)


class TestInt8:
    def test_by_hand(self):
        codes, scales = Int8(block=2).compress(torch.tensor([254.0, -3.0, 0.0, 0.0, -12.7]))
        assert codes.tolist() == [127, -2, 0, 0, -127]
        assert scales.tolist() == pytest.approx([2, 0, 0.1])
        assert codes.dtype == torch.int8
        back = Int8(block=2).decompress((codes, scales), 5)
        assert back.tolist() == pytest.approx([254, -4, 0, 0, -12.7])

    @given(vectors, st.integers(1, 50))
    def test_the_nearest_code_is_off_by_half_a_scale_at_most(self, x, block):
        code = Int8(block=block)
        message = code.compress(x)
        assert message[0].shape == x.shape
        error = (code.decompress(message, len(x)) - x).abs()
        scales = message[1].repeat_interleave(block)[: len(x)]
        assert (error <= 0.5001 * scales + 1e-30).all()

    @given(vectors)
    def test_random_rounding_is_off_by_less_than_a_scale(self, x):
        code = Int8(block=7, generator=torch.Generator().manual_seed(1))
        message = code.compress(x)
        error = (code.decompress(message, len(x)) - x).abs()
        assert (error <= 1.001 * message[1].repeat_interleave(7)[: len(x)] + 1e-30).all()

    def test_random_rounding_is_unbiased_and_the_nearest_is_not(self):
        x = torch.tensor([127.0, 0.3, -0.3, 5.9, -64.45])
        code, n = Int8(generator=torch.Generator().manual_seed(2)), 4000
        draws = torch.stack([code.decompress(code.compress(x), 5) for _ in range(n)])
        assert (draws.std(0)[1:] > 0.25).all()
        standard_error = draws.std(0) / n**0.5
        assert ((draws.mean(0) - x).abs() <= 4 * standard_error + 1e-4).all()
        nearest = Int8().decompress(Int8().compress(x), 5)
        assert nearest.tolist() == pytest.approx([127, 0, 0, 6, -64])

    def test_errors(self):
        with pytest.raises(ValueError, match="block must be at least 1, got 0"):
            Int8(block=0)


class TestTopK:
    def test_by_hand(self):
        values, places = TopK(0.4).compress(torch.tensor([1.0, -9.0, 3.0, 4.0, 0.0]))
        assert values.tolist() == [-9, 4]
        assert places.tolist() == [1, 3]
        assert TopK(0.4).decompress((values, places), 5).tolist() == [0, -9, 0, 4, 0]
        assert TopK(0.001).count(5) == 1

    @given(vectors, st.floats(0.01, 1.0))
    def test_contractive(self, x, ratio):
        code = TopK(ratio)
        k, n = code.count(len(x)), len(x)
        lost = x.double() - code.decompress(code.compress(x), n).double()
        assert lost.square().sum() <= (1 - k / n) * x.double().square().sum() * (1 + 1e-9) + 1e-30
        assert (lost == 0).sum() >= k

    def test_no_k_numbers_are_better(self):
        x = torch.randn(11, generator=torch.Generator().manual_seed(3))
        lost = x - TopK(3 / 11).decompress(TopK(3 / 11).compress(x), 11)
        for kept in torch.combinations(torch.arange(11), 3):
            other = x.clone()
            other[kept] = 0
            assert lost.norm() <= other.norm() + 1e-6

    @pytest.mark.parametrize("ratio", [0, 1.5, float("nan")])
    def test_errors(self, ratio):
        with pytest.raises(ValueError, match=r"ratio must be in \(0, 1\], got"):
            TopK(ratio)


class TestErrorFeedback:
    @given(st.lists(st.lists(st.integers(-50, 50), min_size=5, max_size=5), min_size=1, max_size=20))
    def test_what_was_sent_and_the_last_error_are_all_gradients(self, rows):
        code, memory, sent = TopK(0.2), ErrorFeedback(), torch.zeros(5)
        for row in rows:
            x = memory.add(3, torch.tensor(row, dtype=torch.float32))
            message = code.decompress(code.compress(x), 5)
            memory.keep(3, x - message)
            sent += message
        assert torch.equal(sent + memory.errors[3], torch.tensor(rows, dtype=torch.float32).sum(0))

    def test_without_it_a_small_steady_gradient_is_never_sent(self):
        gradient, code = torch.tensor([5.0, 1.0]), TopK(0.5)
        alone, memory, fed = torch.zeros(2), ErrorFeedback(), torch.zeros(2)
        for _ in range(60):
            alone += code.decompress(code.compress(gradient), 2)
            x = memory.add(0, gradient)
            message = code.decompress(code.compress(x), 2)
            memory.keep(0, x - message)
            fed += message
        assert alone.tolist() == [300, 0]
        assert fed[1] > 50


class TestPowerSGD:
    def test_orthogonalize_against_numpy(self):
        P = torch.randn(7, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
        Q = orthogonalize(P)
        torch.testing.assert_close(Q.T @ Q, torch.eye(3, dtype=torch.float64))
        theirs = np.linalg.qr(P.numpy())[0]
        np.testing.assert_allclose(np.abs(Q.numpy()), np.abs(theirs), atol=1e-12)

    def test_columns_that_add_nothing_are_zero(self):
        P = torch.tensor([[1.0, 2.0, 0.0], [1.0, 2.0, 3.0]])
        Q = orthogonalize(P)
        assert Q[:, 1].tolist() == [0, 0]
        assert Q[:, 2].norm().item() == pytest.approx(1)
        assert orthogonalize(torch.zeros(5, 2)).tolist() == [[0, 0]] * 5

    def test_repeated_it_finds_the_best_approximation(self):
        generator = torch.Generator().manual_seed(5)
        M = torch.randn(11, 7, generator=generator, dtype=torch.float64)
        Q = torch.randn(7, 2, generator=generator, dtype=torch.float64)
        for _ in range(300):
            P, Q = low_rank(M, Q)
        U, S, Vt = np.linalg.svd(M.numpy())
        np.testing.assert_allclose((P @ Q.T).numpy(), U[:, :2] * S[:2] @ Vt[:2], atol=1e-6)

    @given(st.integers(0, 10_000))
    def test_it_is_a_projection_and_so_contractive(self, seed):
        generator = torch.Generator().manual_seed(seed)
        M = torch.randn(5, 7, generator=generator, dtype=torch.float64)
        P, Q = low_rank(M, torch.randn(7, 2, generator=generator, dtype=torch.float64))
        kept, lost = P @ Q.T, M - P @ Q.T
        assert (kept * lost).sum().abs() < 1e-9
        assert lost.norm() <= M.norm() + 1e-12

    def test_what_is_compressed(self):
        code = PowerSGD(2)
        assert [code.compresses(torch.Size(s)) for s in ([11, 7], [3, 3], [100], [], [5, 7, 3])] == [1, 0, 0, 0, 1]
        with pytest.raises(ValueError, match="rank must be at least 1, got 0"):
            PowerSGD(0)


def gradients_with(context, reduce, steps=1, seed=0):
    """The exact and the compressed gradient of a linear layer with weights that stay, and the traffic."""
    torch.manual_seed(11)
    model = nn.Linear(23, 19)
    x = torch.randn(steps, 2, 5, 23, generator=torch.Generator().manual_seed(seed))
    replica = DataParallel(model, context.group, reduce=reduce)
    sums = torch.zeros(2, 19, 23)
    with Traffic() as traffic:
        for both in x:
            model.zero_grad()
            global_mean(replica(both[context.rank]).square().sum(), 5, context.group).backward()
            replica.synchronize()
            sums[1] += model.weight.grad
    torch.manual_seed(11)
    alone = nn.Linear(23, 19)
    for both in x:
        (alone(both.flatten(0, 1)).square().sum() / 10).backward()
    sums[0] = alone.weight.grad
    return sums, traffic.calls, (reduce.memory.errors if getattr(reduce, "memory", None) else {})


class TestReduce:
    N = 23 * 19 + 19  # numbers

    def test_half_precision(self):
        (exact, got), calls, _ = run(gradients_with, 2, CastReduce(), timeout=TIMEOUT, check=False)[0]
        assert [call for call in calls if call[1] != 8] == [("all_reduce", 2 * self.N)]
        assert 0 < (got - exact).abs().max() < 2e-3 * exact.abs().max()

    def test_int8_gathers_codes_and_scales(self):
        results = run(gradients_with, 2, GatherReduce(Int8(block=100)), timeout=TIMEOUT)
        (exact, got), calls, _ = results[0]
        gathered = [call for call in calls if call[0] == "all_gather"]
        assert gathered == [("all_gather", self.N), ("all_gather", 4 * 5)]
        assert 0 < (got - exact).abs().max() < 0.01 * exact.abs().max()
        assert torch.equal(got, results[1][0][1])  # the ranks agree to the last bit

    @pytest.mark.parametrize("world_size", [2, 4])
    def test_top_k_with_feedback_loses_nothing_over_time(self, world_size):
        def work(context, gradients_with):
            reduce = GatherReduce(TopK(0.05), feedback=True)
            return gradients_with(context, reduce, steps=7) if context.world_size == 2 else four(context, reduce)

        def four(context, reduce):
            torch.manual_seed(1)
            model = nn.Linear(5, 3, bias=False)
            replica, total = DataParallel(model, context.group, reduce=reduce), torch.zeros(3, 5)
            for _ in range(4):
                model.zero_grad()
                x = torch.full((1, 5), float(context.rank + 1))
                global_mean((replica(x) * torch.tensor([1.0, 2.0, 3.0])).sum(), 1, context.group).backward()
                replica.synchronize()
                total += model.weight.grad
            exact = 4 * torch.tensor([[1.0], [2.0], [3.0]]) * (1 + 2 + 3 + 4) / 4
            return (exact.expand(3, 5), total), [], reduce.memory.errors

        results = run(work, world_size, gradients_with, timeout=TIMEOUT)
        exact, got = results[0][0]
        owed = sum(errors[0] for _, _, errors in results)
        n = exact.numel()  # the last parameter comes first in a bucket
        torch.testing.assert_close(got + owed[-n:].view_as(exact), exact, rtol=1e-4, atol=1e-4)
        assert (got - exact).abs().max() > 0.1

    def test_power_sgd_sends_the_factors_and_owes_the_rest(self):
        results = run(gradients_with, 2, PowerSGD(2), 5, timeout=TIMEOUT)
        (exact, got), calls, errors = results[0]
        sent = [call for call in calls if call[1] != 8]
        assert sent == [("all_reduce", 4 * 2 * 19), ("all_reduce", 4 * 19), ("all_reduce", 4 * 2 * 23)] * 5
        owed = errors[0][19:].view(19, 23) + results[1][2][0][19:].view(19, 23)
        torch.testing.assert_close(got + owed, exact, rtol=1e-4, atol=1e-4)
        assert torch.equal(got, results[1][0][1])

    def test_power_sgd_is_exact_for_gradients_of_low_rank(self):
        def work(context):
            model = nn.Linear(11, 7, bias=False)
            replica = DataParallel(model, context.group, reduce=PowerSGD(1, feedback=False))
            x = torch.arange(1.0, 12.0)[None] * (1 + context.rank)
            global_mean(replica(x).sum(), 1, context.group).backward()  # rank 1: each row is the same
            replica.synchronize()
            return model.weight.grad

        expected = torch.arange(1.0, 12.0).expand(7, 11) * 1.5
        for gradient in run(work, 2, timeout=TIMEOUT):
            torch.testing.assert_close(gradient, expected)

    def test_a_warm_start_comes_close_to_the_best_and_a_cold_one_does_not(self):
        def work(context, warm):
            torch.manual_seed(2)
            model = nn.Linear(31, 29, bias=False)
            reduce = PowerSGD(2, warm_start=warm, feedback=False)
            replica = DataParallel(model, context.group, reduce=reduce)
            x = torch.randn(40, 31, generator=torch.Generator().manual_seed(context.rank))
            for _ in range(12):  # the same gradient again and again
                model.zero_grad()
                global_mean(replica(x).square().sum(), 40, context.group).backward()
                exact = total_over_ranks(model.weight.grad, context.group)
                replica.synchronize()
            best = torch.linalg.svdvals(exact)[2:].norm()
            return ((model.weight.grad - exact).norm() / best).item()

        cold, warm = (run(work, 2, warm, timeout=TIMEOUT, check=False)[0] for warm in (False, True))
        assert 0.9999 < warm < 1.01
        assert cold > 1.03
