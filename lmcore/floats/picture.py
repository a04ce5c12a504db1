"""Pictures of formats: which bit is what, and where on the number line the numbers are."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lmcore.floats.codec import decode
from lmcore.floats.formats import FloatFormat

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def numbers_between(fmt: FloatFormat, low: float, high: float) -> np.ndarray:
    """The finite numbers of a format from low to high, rising.

    Raises:
        ValueError: a format of more than 16 bits, whose numbers are too many to list.

    >>> from lmcore.floats.formats import E2M1
    >>> numbers_between(E2M1, -1.0, 10.0)
    array([-1. , -0.5,  0. ,  0.5,  1. ,  1.5,  2. ,  3. ,  4. ,  6. ])
    """
    if fmt.bits > 16:
        raise ValueError(f"{fmt.name} has {fmt.bits} bits; the numbers of at most 16 can be listed")
    numbers = decode(np.arange(1 << fmt.bits), fmt)
    return np.unique(numbers[(numbers >= low) & (numbers <= high)]) + 0.0  # no −0


def draw_number_lines(ax: "Axes", formats: Sequence[FloatFormat], low: float, high: float) -> None:
    """Draw a line for each format, with a tick for each of its numbers: long and orange for subnormal ones.

    >>> import matplotlib.pyplot as plt
    >>> from lmcore.floats.formats import E2M1
    >>> ax = plt.figure().gca()
    >>> draw_number_lines(ax, [E2M1], 0.0, 6.0)
    >>> [len(lines.get_paths()) for lines in ax.collections]      # 0, ½ and 1 … 6
    [2, 6]
    """
    for row, fmt in enumerate(formats):
        numbers = numbers_between(fmt, low, high)
        small = np.abs(numbers) < fmt.smallest_normal
        ax.axhline(-row, color="0.8", linewidth=0.8, zorder=0)
        for chosen, color, length in ((small, "C3", 0.4), (~small, "C0", 0.28)):
            ax.vlines(numbers[chosen], -row - length, -row + length, color=color, linewidth=1)
    ax.set_yticks([-row for row in range(len(formats))], [fmt.name for fmt in formats])
    ax.set_xlim(low, high)
    ax.grid(visible=False)


def draw_bits(ax: "Axes", formats: Sequence[FloatFormat]) -> None:
    """Draw a box for each bit of each format: sign, exponent (hatched) and mantissa.

    >>> import matplotlib.pyplot as plt
    >>> from lmcore.floats.formats import E4M3
    >>> ax = plt.figure().gca()
    >>> draw_bits(ax, [E4M3])
    >>> len(ax.patches)
    8
    """
    for row, fmt in enumerate(formats):
        kinds = [("C3", "")] * fmt.signed + [("C1", "///")] * fmt.exponent + [("C0", "")] * fmt.mantissa
        for place, (color, hatch) in enumerate(kinds):
            ax.barh(-row, 1, left=place, height=0.7, color=color, hatch=hatch, edgecolor="white", linewidth=1)
        label = f" {fmt.exponent} + {fmt.mantissa}"
        ax.text(fmt.bits + 0.2, -row, label, va="center")
    ax.set_yticks([-row for row in range(len(formats))], [fmt.name for fmt in formats])
    ax.set_xlim(0, max(fmt.bits for fmt in formats) + 5)
    ax.grid(visible=False)
    ax.set_xlabel("bits")


def draw_ranges(ax: "Axes", formats: Sequence[FloatFormat], bottom: float, step: float) -> None:
    """Draw a bar for each format over an axis of binary exponents: dotted for subnormal numbers, solid for normal ones.

    Args:
        ax: its limits are set already; bars end inside of them, where their names stand, and with an arrow if they
            would go on.
        formats: from the bottom upwards.   bottom, step: height of the first bar, and from one to the next.

    >>> import matplotlib.pyplot as plt
    >>> from lmcore.floats.formats import E4M3
    >>> ax = plt.figure().gca()
    >>> ax.set_xlim(-20, 20)
    (-20.0, 20.0)
    >>> draw_ranges(ax, [E4M3], 0.1, 0.1)
    >>> [line.get_xdata().round(1).tolist() for line in ax.lines]      # 2⁻⁹ to 2⁻⁶, and from there to 448
    [[-9.0, -6.0], [-6.0, 8.8]]
    """
    left, right = ax.get_xlim()
    right -= 0.12 * (right - left)  # room for the names
    for row, fmt in enumerate(formats):
        y, color = bottom + step * row, f"C{row + 2}"
        exact = np.log2([fmt.smallest, fmt.smallest_normal, fmt.largest])
        ends = np.clip(exact, left, right)
        for part, style in ((ends[:2], ":"), (ends[1:], "-")):
            ax.plot(part, [y, y], color=color, linestyle=style, marker="", linewidth=3)
        for end, marker, beyond in ((left, "<", exact[0] < left), (right, ">", exact[2] > right)):
            if beyond:
                ax.scatter(end, y, s=60, color=color, marker=marker, clip_on=False, zorder=3)
        ax.text(right + 0.01 * (right - left), y, f" {fmt.name}", va="center")
