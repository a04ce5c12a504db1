"""Pictures: which numbers are drawn, and which are refused."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lmcore.floats.codec import decode
from lmcore.floats.formats import E4M3, E5M2, FP16, FP32, FloatFormat
from lmcore.floats.picture import draw_bits, draw_number_lines, draw_ranges, numbers_between


def test_numbers_between():
    numbers = numbers_between(E4M3, -0.01, 0.01)
    assert np.array_equal(numbers, np.arange(-5, 6) / 512)
    assert not np.signbit(numbers[5])
    assert len(numbers_between(FP16, -np.inf, 65504.0)) == 2 * 0x7C00  # −0 and 0 are one; −∞ is in
    with pytest.raises(ValueError, match="FP32 has 32 bits"):
        numbers_between(FP32, 0.0, 1.0)


def test_a_tick_for_each_number():
    ax = plt.figure().gca()
    draw_number_lines(ax, [E4M3, E5M2], -1.0, 2.0)
    for lines, fmt in zip((ax.collections[:2], ax.collections[2:]), (E4M3, E5M2), strict=True):
        drawn = np.sort([path.vertices[0, 0] for part in lines for path in part.get_paths()])
        every = decode(np.arange(256), fmt)
        assert np.array_equal(drawn, np.unique(every[(every >= -1) & (every <= 2)]))
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["E4M3", "E5M2"]
    plt.close()


def test_a_box_for_each_bit():
    ax = plt.figure().gca()
    draw_bits(ax, [FP32, FloatFormat(name="u", exponent=3, mantissa=2, signed=False)])
    assert len(ax.patches) == 32 + 5
    plt.close()


def test_a_dotted_and_a_solid_bar_for_each_format():
    ax = plt.figure().gca()
    ax.set_xlim(-30, 20)
    draw_ranges(ax, [E4M3, FP32], bottom=0.5, step=0.25)
    bars = [line.get_xydata() for line in ax.lines]
    assert np.allclose(bars[0], [[-9, 0.5], [-6, 0.5]])
    assert np.allclose(bars[1], [[-6, 0.5], [np.log2(448), 0.5]])
    assert np.allclose(bars[3], [[-30, 0.75], [14, 0.75]])  # cut off at the left, and where its name stands
    assert [text.get_text().strip() for text in ax.texts] == ["E4M3", "FP32"]
    arrows = [tuple(dots.get_offsets()[0]) for dots in ax.collections]
    assert np.allclose(arrows, [(-30, 0.75), (14, 0.75)])  # FP32 goes on at both ends, E4M3 at none
    plt.close()
