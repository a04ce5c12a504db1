"""Asynchronous updates: the simulation by hand, its staleness, where it diverges, and the real thing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.parallel.launch import run
from lmcore.parallel.messages import WorkerError
from lmcore.parallel.parameter_server import largest_stable_rate, serve, simulate


def bowl(w, batch):
    return 0.5 * w.square().sum().item(), w


class TestSimulation:
    def test_by_hand(self):
        # Worker 0 needs 2, worker 1 needs 3: updates at 2, 3, 4, 6 (worker 0), 6 (worker 1).
        w, updates = simulate(bowl, torch.ones(1), lr=0.5, workers=2, updates=5, duration=lambda k: 2.0 + k)
        assert [(u.time, u.worker, u.staleness) for u in updates] == [
            (2, 0, 0), (3, 1, 1), (4, 0, 1), (6, 0, 0), (6, 1, 2)
        ]  # fmt: skip
        # 1 − ½ → ½ − ½ → 0 − ½·½ → −¼ + ½·¼ → −⅛ − ½·0
        assert w.tolist() == [-0.125]
        assert [u.loss for u in updates] == [0.5, 0.5, 0.125, 0.03125, 0.0]

    def test_one_worker_is_plain_descent(self):
        w, updates = simulate(bowl, torch.ones(3), lr=0.1, workers=1, updates=7)
        torch.testing.assert_close(w, torch.full((3,), 0.9**7))
        assert {u.staleness for u in updates} == {0}

    def test_every_batch_once_and_the_start_is_not_changed(self):
        seen, start = [], torch.ones(2)
        simulate(lambda w, batch: (seen.append(batch), (0.0, w))[1], start, lr=0.1, workers=3, updates=17)
        assert sorted(seen) == list(range(17))
        assert start.tolist() == [1, 1]

    @settings(max_examples=30)
    @given(st.integers(1, 7), st.integers(0, 1000))
    def test_the_mean_staleness_is_the_number_of_the_others_at_any_speed(self, workers, seed):
        rng, n = np.random.default_rng(seed), 40 * workers
        speeds = rng.uniform(1, 4, size=workers)
        _, updates = simulate(
            bowl, torch.ones(1), lr=0.01, workers=workers, updates=n, duration=lambda k: speeds[k] * rng.uniform(0.5, 2)
        )
        # An update falls into one open interval of each other worker: the sum lacks only those still open at the end.
        total = sum(u.staleness for u in updates)
        assert total <= n * (workers - 1)
        open_at_the_end = 0
        for worker in range(workers):
            last = max((i for i, u in enumerate(updates) if u.worker == worker), default=-1)
            open_at_the_end += n - 1 - last
        assert total == n * (workers - 1) - open_at_the_end

    @pytest.mark.parametrize("staleness", [0, 1, 2, 5])
    def test_the_largest_stable_rate_is_where_the_spectral_radius_passes_one(self, staleness):
        def radius(rate):
            matrix = np.eye(staleness + 1, k=-1)
            matrix[0, 0], matrix[0, -1] = 1, matrix[0, -1] - rate * 3.0
            if staleness == 0:
                matrix[0, 0] = 1 - rate * 3.0
            return np.abs(np.linalg.eigvals(matrix)).max()

        limit = largest_stable_rate(3.0, staleness)
        assert radius(0.99 * limit) < 1 < radius(1.01 * limit)

    def test_the_simulation_agrees(self):
        limit = largest_stable_rate(1.0, 3)  # four workers in turn
        for factor, grows in ((0.9, False), (1.1, True)):
            w, _ = simulate(bowl, torch.ones(1), lr=factor * limit, workers=4, updates=400)
            assert (abs(w.item()) > 1) == grows

    def test_errors(self):
        with pytest.raises(ValueError, match="workers and updates must be at least 1, got 0 and 5"):
            simulate(bowl, torch.ones(1), lr=0.1, workers=0, updates=5)
        with pytest.raises(ValueError, match=r"duration must be above 0, got 0\.0 for worker 1"):
            simulate(bowl, torch.ones(1), lr=0.1, workers=2, updates=5, duration=lambda k: 1.0 - k)
        with pytest.raises(ValueError, match="curvature must be above 0 and staleness at least 0, got 0 and 1"):
            largest_stable_rate(0, 1)


class TestProcesses:
    @pytest.mark.parametrize("world_size", [2, 4])
    def test_it_ends_learns_and_knows_its_staleness(self, world_size):
        def work(context, bowl):
            batches = []

            def gradient(w, batch):
                batches.append(batch)
                return bowl(w, batch)

            w, updates = serve(gradient, torch.ones(3), lr=0.05, updates=60, group=context.group)
            return w, updates, batches

        results = run(work, world_size, bowl, timeout=60)
        w, updates, none = results[0]
        workers = world_size - 1
        assert none == []
        assert len(updates) == 60
        assert w.abs().max() < 0.3
        assert updates[0].loss == 1.5
        assert all(u.staleness >= 0 for u in updates)
        assert sum(u.staleness for u in updates) <= 60 * (workers - 1)
        batches = [batch for _, _, mine in results[1:] for batch in mine]
        assert len(set(batches)) == len(batches) == 60 + workers  # the last ones were not taken
        if workers == 1:
            torch.testing.assert_close(w, torch.full((3,), 0.95**60))

    def test_errors(self):
        with pytest.raises(WorkerError, match="at least two ranks: a server and a worker"):
            run(lambda context: serve(None, torch.ones(1), lr=1, updates=1, group=context.group), 1, timeout=60)
