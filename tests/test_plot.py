"""The figures' look must survive a colour-blind reader and a grey printer."""

import itertools

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from lmcore import plot

# Machado, Oliveira and Fernandes 2009: how deuteranopes and protanopes see linear RGB (severity 1).
DEUTERANOPIA = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
PROTANOPIA = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]


@pytest.fixture(autouse=True)
def style():
    with mpl.rc_context():
        plot.use_book_style()
        yield
        plt.close("all")


def test_lines_differ_in_colour_dash_and_marker():
    lines = [plt.plot([0, 1])[0] for _ in range(8)]
    for look in (lambda x: to_rgb(x.get_color()), lambda x: x.get_marker(), lambda x: str(x._unscaled_dash_pattern)):
        assert len({look(line) for line in lines}) == 8


@pytest.mark.parametrize("matrix", [np.eye(3), DEUTERANOPIA, PROTANOPIA], ids=["all", "deuteranopia", "protanopia"])
def test_first_five_colours_stay_apart(matrix):
    linear = [np.array(to_rgb(color)) ** 2.2 for color in list(plot.COLORS.values())[:5]]
    seen = [np.clip(np.array(matrix) @ color, 0, 1) ** (1 / 2.2) for color in linear]
    for a, b in itertools.combinations(seen, 2):
        assert np.linalg.norm(a - b) > 0.15


def test_bars_differ_in_hatch():
    groups = [plt.bar([0, 1], [3, 5]) for _ in range(3)]
    for kind, bars in enumerate(groups):
        plot.hatch_bars(bars, kind)
    assert [bars[1].get_hatch() for bars in groups] == ["", "//", ".."]


def test_no_global_state_at_import():
    assert mpl.rcParamsDefault["axes.prop_cycle"] != mpl.rcParams["axes.prop_cycle"]
