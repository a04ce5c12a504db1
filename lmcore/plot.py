"""One look for the book's figures: readable for a colour-blind reader and on a black-and-white printer.

Lines differ in colour *and* in dash *and* in marker; bars differ in colour *and* in hatch.
"""

from collections.abc import Iterable

COLORS = {  # Okabe and Ito's eight colours, told apart with every common form of colour blindness
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "red": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "black": "#000000",
    "yellow": "#F0E442",
}
DASHES = ["-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)), (0, (8, 3))]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
HATCHES = ["", "//", "..", "\\\\", "xx", "--", "oo", "++"]


def use_book_style() -> None:
    """Give all figures of this process the book's look: call it once, in a notebook's first cell.

    Differs: matplotlib's default cycle changes only the colour from line to line.

    >>> use_book_style()
    >>> import matplotlib as mpl
    >>> mpl.rcParams["axes.prop_cycle"].by_key()["linestyle"][:2]
    ['-', '--']
    """
    import matplotlib as mpl
    from cycler import cycler

    mpl.rcParams.update(
        {
            "axes.prop_cycle": cycler(color=COLORS.values()) + cycler(linestyle=DASHES) + cycler(marker=MARKERS),
            "axes.axisbelow": True,
            "axes.grid": True,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlesize": "medium",
            "figure.constrained_layout.use": True,
            "figure.dpi": 110,
            "figure.figsize": (6.8, 3.6),
            "figure.facecolor": "white",
            "font.size": 10.5,
            "grid.alpha": 0.3,
            "image.cmap": "cividis",  # uniform in lightness, so that it survives a grey printer
            "legend.frameon": False,
            "lines.markersize": 5,
            "savefig.facecolor": "white",
        }
    )


def hatch_bars(bars: Iterable, kind: int) -> None:
    """Mark one group of bars with the pattern of its kind, so that groups differ without colour.

    Args:
        bars: what ``Axes.bar`` or ``Axes.barh`` returned.
        kind: number of the group, 0, 1, 2, …

    >>> import matplotlib.pyplot as plt
    >>> bars = plt.figure().gca().bar([0, 1], [3, 5])
    >>> hatch_bars(bars, 1)
    >>> bars[0].get_hatch()
    '//'
    """
    for bar in bars:
        bar.set_hatch(HATCHES[kind % len(HATCHES)])
        bar.set_edgecolor("white")
