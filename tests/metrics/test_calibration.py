import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from lmcore.metrics.calibration import brier_score, expected_calibration_error, reliability


def test_by_hand():
    probabilities = [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.45, 0.55]]
    truth = [0, 1, 1, 1]  # right, wrong, right, right
    bins = reliability(probabilities, truth, n_bins=5)
    assert bins.count.tolist() == [0, 0, 2, 1, 1]  # 0.6 and 0.55 | 0.8, which is on its bin's edge | 0.9
    assert bins.confidence[2:] == pytest.approx([0.575, 0.8, 0.9])
    assert bins.accuracy[2:] == pytest.approx([0.5, 1, 1])
    assert np.isnan(bins.accuracy[:2]).all()
    gaps = 2 * 0.075 + 0.2 + 0.1
    assert expected_calibration_error(probabilities, truth, n_bins=5) == pytest.approx(gaps / 4)
    assert expected_calibration_error(probabilities, truth, n_bins=1) == pytest.approx(3 / 4 - 2.85 / 4)
    assert brier_score(probabilities, truth) == pytest.approx(2 * (0.01 + 0.36 + 0.04 + 0.2025) / 4)


@pytest.mark.parametrize("n_bins", [1, 2, 7, 10, 13])
def test_as_scikit_learn(n_bins):
    rng = np.random.default_rng(5)
    for classes in (2, 3, 5):
        probabilities = rng.dirichlet(np.full(classes, 0.7), size=211)
        probabilities[:7] = np.eye(classes)[0]  # full confidence lies on the last edge
        truth = rng.integers(classes, size=211)
        confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
        accuracy, mean = calibration_curve(right, confidence, n_bins=n_bins)
        bins = reliability(probabilities, truth, n_bins=n_bins)
        filled = bins.count > 0
        np.testing.assert_allclose(bins.accuracy[filled], accuracy)
        np.testing.assert_allclose(bins.confidence[filled], mean)
        expected = (bins.count[filled] * abs(accuracy - mean)).sum() / 211
        assert expected_calibration_error(probabilities, truth, n_bins=n_bins) == pytest.approx(expected)
        names = list(range(classes))
        assert brier_score(probabilities, truth) == pytest.approx(
            brier_score_loss(truth, probabilities, labels=names, scale_by_half=False)
        )


@given(st.floats(0, 1), st.integers(1, 15))
def test_alone_a_calibrated_answer_is_off_by_its_doubt(p, n_bins):
    confidence = max(p, 1 - p)
    truth = int(p < 1 - p)  # right
    assert expected_calibration_error([[p, 1 - p]], [truth], n_bins=n_bins) == pytest.approx(1 - confidence)
    assert brier_score([[p, 1 - p]], [truth]) == pytest.approx(2 * (1 - confidence) ** 2, abs=1e-12)


def test_truth_drawn_from_the_probabilities_is_calibrated():
    rng = np.random.default_rng(7)
    probabilities = rng.dirichlet(np.ones(3), size=20_000)
    truth = (rng.random((20_000, 1)) > probabilities.cumsum(axis=1)).sum(axis=1).clip(max=2)
    assert expected_calibration_error(probabilities, truth) < 0.02
    sharper = probabilities**3 / (probabilities**3).sum(axis=1, keepdims=True)  # the same answers, too sure
    assert expected_calibration_error(sharper, truth) > 0.1
    assert brier_score(probabilities, truth) < brier_score(sharper, truth)


@pytest.mark.parametrize(
    ("message", "probabilities", "truth"),
    [
        (r"probabilities must have the shape \(examples, classes\), got \(0,\)", [], []),
        (r"probabilities\[1, 0\] = 1.2 does not lie in 0 … 1", [[0.5, 0.5], [1.2, -0.2]], [0, 1]),
        (r"probabilities\[0, 1\] = nan", [[0.5, math.nan]], [0]),
        ("row 1 of probabilities sums to 0.9, not to 1", [[0.5, 0.5], [0.5, 0.4]], [0, 1]),
        ("truth must be 2 whole numbers", [[0.5, 0.5], [0.5, 0.5]], [0]),
        ("truth must be 1 whole numbers, the true columns", [[0.5, 0.5]], [0.5]),
        ("truth must lie in 0 … 1, got 2 … 2", [[0.5, 0.5]], [2]),
        ("truth must lie in 0 … 1, got -1 … -1", [[0.5, 0.5]], [-1]),
    ],
)
def test_errors(message, probabilities, truth):
    for score in (reliability, expected_calibration_error, brier_score):
        with pytest.raises(ValueError, match=message):
            score(probabilities, truth)


def test_there_must_be_a_bin():
    with pytest.raises(ValueError, match="n_bins must be at least 1, got 0"):
        expected_calibration_error([[0.5, 0.5]], [0], n_bins=0)
