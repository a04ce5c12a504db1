"""The check that everything which has a size makes of it."""

from numbers import Integral


def check_sizes(**sizes: int) -> None:
    """Refuse sizes that are not whole numbers of at least 1.

    Args:
        sizes: by the names that the message is to use.
    Raises:
        ValueError: names the first size that is none.

    >>> check_sizes(heads=3, layers=0)
    Traceback (most recent call last):
    ValueError: layers must be a whole number of at least 1, got 0
    """
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, Integral) or size < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {size!r}")
