"""The check of sizes: whole numbers of at least 1 of any integral type pass, all else is refused by name."""

import numpy as np
import pytest

from lmcore.sizes import check_sizes


def test_whole_numbers_pass():
    check_sizes(heads=1, layers=np.int64(3))
    check_sizes()


@pytest.mark.parametrize("size", [0, -1, 2.0, "3", None])
def test_errors(size):
    with pytest.raises(ValueError, match=f"layers must be a whole number of at least 1, got {size!r}"):
        check_sizes(heads=1, layers=size)
