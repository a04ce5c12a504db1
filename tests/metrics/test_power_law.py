"""Power laws: by hand, scipy's curve_fit and linregress, scaling of the axes, the bootstrap's width, misuse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress

from lmcore.metrics.power_law import PowerLaw, bootstrap_exponent, fit_power_law, training_operations

N = np.array([7.0, 101.0, 1009.0, 10007.0, 100003.0])


def noisy(rng, a=5.0, alpha=0.3, floor=0.5, runs=None, noise=0.05):
    """Losses around a law."""
    size = (len(N),) if runs is None else (len(N), runs)
    law = floor + a * N**-alpha
    return floor + (law - floor if runs is None else (law - floor)[:, None]) * np.exp(rng.normal(0, noise, size))


def test_by_hand():
    law = fit_power_law([1, 100], [3, 0.3])  # a decade less for two decades more
    assert law == pytest.approx((3.0, 0.5, 0.0))
    assert law([1, 10_000]) == pytest.approx([3.0, 0.03])
    assert PowerLaw(2.0, 1.0, 0.25)(4) == pytest.approx(0.75)
    assert training_operations([3, 5], 7).tolist() == [126.0, 210.0]


def test_equals_scipys_line():
    losses = noisy(np.random.default_rng(3))
    for floor in (0.0, 0.4):
        line = linregress(np.log(N), np.log(losses - floor))
        law = fit_power_law(N, losses, floor=floor)
        assert (law.a, law.alpha) == pytest.approx((np.exp(line.intercept), -line.slope), rel=1e-9)


@given(st.floats(0.1, 100), st.floats(0.1, 100), st.floats(-1, 1), st.floats(0, 2))
def test_units_do_not_change_the_exponent(unit_x, unit_y, alpha, floor):
    law = PowerLaw(3.0, alpha, floor)
    again = fit_power_law(N * unit_x, law(N) * unit_y, floor=floor * unit_y * (1 - 1e-12))
    assert again.alpha == pytest.approx(alpha, abs=1e-4)
    assert again(N * unit_x) == pytest.approx(law(N) * unit_y, rel=1e-4)


def test_bootstrap_is_as_wide_as_it_should_be():
    rng = np.random.default_rng(5)
    runs = noisy(rng, runs=40)
    found = bootstrap_exponent(N, runs, rng=rng, floor=0.5)
    assert found.low < found.estimate < found.high
    assert found.estimate == fit_power_law(N, runs.mean(axis=1), floor=0.5).alpha
    logs = np.log(N) - np.log(N).mean()
    expected = 0.05 / np.sqrt(40) / np.sqrt((logs**2).sum())  # standard error of a slope
    assert found.samples.std() == pytest.approx(expected, rel=0.25)
    assert found.high - found.low == pytest.approx(2 * 1.96 * expected, rel=0.25)
    narrower = bootstrap_exponent(N, runs, rng=np.random.default_rng(5), floor=0.5, level=0.5)
    assert narrower.high - narrower.low < 0.6 * (found.high - found.low)


def test_each_size_draws_its_own_runs():
    runs = np.tile([[1.0, 3.0]], (5, 1)) * (N**-0.2)[:, None]  # if all drew alike, the exponent would never move
    found = bootstrap_exponent(N, runs, rng=np.random.default_rng(7), n_samples=200)
    assert found.samples.std() > 0.01
    again = bootstrap_exponent(N, runs, rng=np.random.default_rng(7), n_samples=200)
    assert np.array_equal(found.samples, again.samples)


def test_errors():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"x has shape \(2,\) and y \(3,\): x must be \(n,\)"):
        fit_power_law([1, 2], [3, 2, 1])
    with pytest.raises(ValueError, match="x has 1 different values; a line needs at least two"):
        fit_power_law([2, 2], [3, 2])
    with pytest.raises(ValueError, match="x must be above zero and finite"):
        fit_power_law([0, 2], [3, 2])
    with pytest.raises(ValueError, match=r"above the floor of 2.0, its smallest is 2.0: lower the floor"):
        fit_power_law([1, 2], [3, 2], floor=2.0)
    with pytest.raises(ValueError, match="y must be finite"):
        fit_power_law([1, 2], [3, np.nan])
    with pytest.raises(ValueError, match=r"must be \(n,\); average the runs"):
        fit_power_law([1, 2], [[3, 3], [2, 2]])
    with pytest.raises(ValueError, match="from one run nobody sees the spread"):
        bootstrap_exponent([1, 2], [[3], [2]], rng=rng)
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        bootstrap_exponent([1, 2], [[3, 3], [2, 2]], rng=rng, level=1.0)
    with pytest.raises(TypeError, match=r"rng must be a numpy\.random\.Generator, got int"):
        bootstrap_exponent([1, 2], [[3, 3], [2, 2]], rng=3)
