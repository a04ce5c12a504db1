"""Formulas of traffic by hand, the fit against numpy, and the two laws of speed-up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore.parallel import cost
from lmcore.parallel.scaling import amdahl, gustafson


class TestTraffic:
    def test_by_hand_on_four_ranks(self):
        # Twelve elements of four bytes: chunks of three on the ring.
        assert cost.all_reduce("ring", 4, 12) == cost.Traffic(messages=24, bytes=288, steps=6, path=72)
        assert cost.all_reduce("tree", 4, 12) == cost.Traffic(messages=6, bytes=288, steps=4, path=192)
        assert cost.all_reduce("naive", 4, 12) == cost.Traffic(messages=6, bytes=288, steps=6, path=288)

    @given(st.integers(1, 64), st.integers(0, 10_000), st.sampled_from([2, 4, 8]))
    def test_all_send_the_same_in_all(self, p, n, itemsize):
        totals = {cost.all_reduce(name, p, n, itemsize).bytes for name in ("naive", "tree", "ring")}
        assert totals == {2 * (p - 1) * n * itemsize}

    def test_seconds(self):
        link = cost.Link(alpha=2.0, beta=0.5)
        assert cost.all_reduce("tree", 4, 12).seconds(link) == 4 * 2.0 + 192 * 0.5
        small, large = 10, 10**9
        link = cost.Link(alpha=1e-5, beta=1e-9)
        for n, better, worse in ((small, "tree", "ring"), (large, "ring", "tree")):
            assert cost.all_reduce(better, 16, n).seconds(link) < cost.all_reduce(worse, 16, n).seconds(link)

    def test_errors(self):
        with pytest.raises(ValueError, match="algorithm must be one of naive, tree, ring, got 'star'"):
            cost.all_reduce("star", 4, 12)
        with pytest.raises(ValueError, match="p must be at least 1, got 0"):
            cost.tree(0, 12)
        with pytest.raises(ValueError, match="alpha must be at least 0, got -1"):
            cost.Link(alpha=-1, beta=0)


class TestFit:
    def test_against_numpys_weighted_fit(self):
        rng = np.random.default_rng(3)
        sizes = np.array([1e2, 1e3, 1e4, 1e5, 1e6, 3e6])
        times = (1e-4 + 2e-9 * sizes) * rng.uniform(0.9, 1.1, size=6)
        beta, alpha = np.polyfit(sizes, times, 1, w=1 / times)
        link = cost.fit_link(sizes, times)
        assert link.alpha == pytest.approx(alpha)
        assert link.beta == pytest.approx(beta)

    @given(st.floats(1e-6, 1e-2), st.floats(1e-10, 1e-6))
    def test_finds_what_was_put_in(self, alpha, beta):
        sizes = np.array([1, 1e3, 1e5, 1e7])
        link = cost.fit_link(sizes, alpha + beta * sizes)
        assert link.alpha == pytest.approx(alpha, rel=1e-6)
        assert link.beta == pytest.approx(beta, rel=1e-6)

    def test_never_negative(self):
        assert cost.fit_link([1000, 2000], [1.0, 3.0]).alpha == 0.0
        falling = cost.fit_link([1000, 2000], [3.0, 1.0])
        assert falling.beta == 0.0
        assert falling.alpha > 0

    def test_errors(self):
        for sizes, times in (([1, 2], [1.0]), ([5, 5], [1.0, 1.0]), ([1, 2], [0.0, 1.0])):
            with pytest.raises(ValueError, match="sizes and seconds must be of one length, with two different sizes"):
                cost.fit_link(sizes, times)


class TestSpeedUp:
    @given(st.floats(0, 1), st.integers(1, 10_000))
    def test_limits(self, serial, workers):
        assert amdahl(serial, workers) >= 1 - 1e-9
        assert amdahl(serial, workers) <= min(workers, 1 / serial if serial else np.inf) * (1 + 1e-9)
        assert amdahl(serial, workers) <= gustafson(serial, workers) * (1 + 1e-9)
        # One run seen by both laws: the share s of the time on p workers is s / (s + (1 − s) p) of the time on one.
        scaled = gustafson(serial, workers)
        assert amdahl(serial / scaled, workers) == pytest.approx(scaled)

    def test_by_hand_and_errors(self):
        assert amdahl(0.1, 9) == pytest.approx(5.0)
        assert gustafson(0.1, 11) == pytest.approx(10.0)
        for law in (amdahl, gustafson):
            with pytest.raises(ValueError, match=r"serial must be a share from 0 to 1, got 1\.5"):
                law(1.5, 2)
            with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
                law(0.5, 0)
