"""Draw from a fixed distribution over many outcomes in constant time: Walker's alias method.

Think of V boxes of equal size. Fill each with the outcome whose name it bears, up to its probability, and top it up
with a piece of one other outcome, its *alias*: for V outcomes, V boxes and one alias each are always enough. A draw
takes a box at random and then one of the two things in it, however many outcomes there are.
"""

import numpy as np
from numpy.typing import ArrayLike


class AliasTable:
    """A distribution over 0 … V − 1 from which one draw costs two look-ups.

    Args:
        weights: (V,) numbers ≥ 0, not all zero; they are divided by their sum.
    Attributes:
        threshold: (V,) uint64 in 0 … 2³²: the part of box i, out of 2³², that belongs to i itself.
        alias: (V,) int64, to whom the rest of the box belongs.
    Raises:
        ValueError: no weight, a weight that is negative, infinite or not a number, or only zeros.
    Cost: O(V) to build, O(1) a draw. Probabilities are right to V · 2⁻³² of each other.

    >>> table = AliasTable([3, 1])   # box 1 is half its own; the other half is given to outcome 0
    >>> (table.threshold / 2**32).tolist(), table.alias.tolist()
    ([1.0, 0.5], [0, 0])
    """

    def __init__(self, weights: ArrayLike):
        weights = np.asarray(weights, dtype=float)
        if weights.ndim != 1 or not weights.size or not np.isfinite(weights).all() or (weights < 0).any():
            raise ValueError(f"weights must be a list of finite numbers ≥ 0, at least one; got {weights}")
        if not weights.sum() > 0:
            raise ValueError("weights are all zero: nothing can be drawn")
        filled = weights / weights.sum() * len(weights)  # 1 is a full box
        alias = np.arange(len(weights))
        small, large = np.flatnonzero(filled < 1).tolist(), np.flatnonzero(filled >= 1).tolist()
        while small and large:
            box, giver = small.pop(), large[-1]
            alias[box] = giver
            filled[giver] -= 1 - filled[box]
            if filled[giver] < 1:
                small.append(large.pop())
        filled[small + large] = 1  # what is left is full, but for rounding
        self.threshold = np.rint(filled * 2.0**32).astype(np.uint64)
        self.alias = alias

    def __len__(self) -> int:
        return len(self.alias)

    def probabilities(self) -> np.ndarray:
        """(V,) what the table gives, from its boxes."""
        own = self.threshold / 2.0**32
        return (own + np.bincount(self.alias, weights=1 - own, minlength=len(self))) / len(self)

    def pick(self, number: int) -> int:
        """Turn an evenly distributed whole number in 0 … 2³² − 1 into an outcome.

        >>> AliasTable([3, 1]).pick(0), AliasTable([3, 1]).pick(2**31), AliasTable([3, 1]).pick(2**32 - 1)
        (0, 1, 0)
        """
        box, rest = divmod(number * len(self), 2**32)  # which box, and how far into it
        return box if rest < self.threshold[box] else int(self.alias[box])

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Draw outcomes, (size,) int64."""
        number = rng.integers(2**32, size=size, dtype=np.uint64) * np.uint64(len(self))
        box, rest = (number >> np.uint64(32)).astype(np.int64), number & np.uint64(2**32 - 1)
        return np.where(rest < self.threshold[box], box, self.alias[box])
