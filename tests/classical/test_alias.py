"""Alias tables: boxes by hand, probabilities kept for any weights, frequencies by chi-square."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from lmcore.classical.alias import AliasTable

WEIGHTS = st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e6)), min_size=1, max_size=31).filter(any)


def test_three_boxes_by_hand():
    table = AliasTable([1, 2, 3])  # boxes hold 1/2, 1 and 3/2: the last fills the first
    assert (table.threshold / 2**32).tolist() == [0.5, 1, 1]
    assert table.alias[0] == 2
    assert [table.pick(int(2**32 * (place + 0.5) / 12)) for place in range(12)] == [0, 0, 2, 2, 1, 1, 1, 1, 2, 2, 2, 2]


@given(WEIGHTS)
def test_probabilities_are_kept(weights):
    table = AliasTable(weights)
    np.testing.assert_allclose(table.probabilities(), np.array(weights) / np.sum(weights), atol=len(weights) * 2**-30)


def test_drawn_frequencies_and_zeros():
    weights = np.array([5.0, 0, 1, 0.5, 11, 3, 0.1])
    drawn = np.bincount(AliasTable(weights).draw(200_000, np.random.default_rng(1)), minlength=7)
    assert drawn[1] == 0
    there = weights > 0
    assert chisquare(drawn[there], weights[there] / weights.sum() * 200_000).pvalue > 0.01
    wrong = np.sqrt(weights[there])
    assert chisquare(drawn[there], wrong / wrong.sum() * 200_000).pvalue < 1e-9  # the test can fail


def test_draw_is_pick():
    table, numbers = AliasTable([3, 1, 4, 1, 5]), np.random.default_rng(5).integers(2**32, size=97, dtype=np.uint64)
    assert table.draw(97, np.random.default_rng(5)).tolist() == [table.pick(int(number)) for number in numbers]


@pytest.mark.parametrize("weights", [[], [1, -1], [1, np.inf], [np.nan], [[1]]])
def test_weights_that_cannot_be(weights):
    with pytest.raises(ValueError, match="weights must be a list of finite numbers"):
        AliasTable(weights)
    with pytest.raises(ValueError, match="all zero"):
        AliasTable([0, 0])
