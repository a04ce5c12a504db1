"""Keys and values kept from step to step, so that a decoder computes only those of its new positions.

Without a cache, the t-th step computes the keys of t positions, all but one of them for the t-th time.
"""

import torch
from torch import Tensor


class KVCache:
    """Keys and values of one attention layer, for the positions so far.

    The tensors have room for more positions than they hold, and double when full: appending n positions one by one
    copies each old one once or twice in all, not n times.

    Args:
        capacity: number of positions there is room for before the tensors grow.
    Attributes:
        length: number of positions held.

    >>> cache = KVCache()
    >>> keys, values = cache.append(torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 2, 5))
    >>> keys, values = cache.append(torch.ones(1, 1, 1, 3), torch.ones(1, 1, 1, 5))
    >>> cache.length, keys[0, 0, :, 0].tolist(), values.shape
    (3, [0.0, 0.0, 1.0], torch.Size([1, 1, 3, 5]))
    """

    def __init__(self, capacity: int = 0):
        if capacity < 0:
            raise ValueError(f"capacity must be at least 0, got {capacity}")
        self.capacity, self.length = capacity, 0
        self._tensors: tuple[Tensor, ...] = ()  # keys and values, (B, G, capacity, d)

    @property
    def keys(self) -> Tensor:
        """(B, G, length, d), a view; an error before the first append."""
        return self._filled()[0]

    @property
    def values(self) -> Tensor:
        """(B, G, length, e), a view; an error before the first append."""
        return self._filled()[1]

    def _filled(self) -> list[Tensor]:
        """Views of what is held."""
        if not self._tensors:
            raise ValueError("the cache is empty: append keys and values first")
        return [x[:, :, : self.length] for x in self._tensors]

    def _check(self, new: tuple[Tensor, Tensor]) -> None:
        """Refuse what does not continue what is held, and what a gradient should flow to."""
        k, v = new
        if k.ndim != 4 or v.ndim != 4 or k.shape[:3] != v.shape[:3]:
            raise ValueError(f"k {tuple(k.shape)} and v {tuple(v.shape)} must be (B, G, n, d) and (B, G, n, e)")
        if k.requires_grad or v.requires_grad:
            raise ValueError("a cache has no gradients: decode under torch.no_grad() or torch.inference_mode()")
        for name, x, held in zip("kv", new, self._tensors, strict=False):
            axes = [0, 1, 3]
            if [x.shape[i] for i in axes] != [held.shape[i] for i in axes] or x.dtype != held.dtype:
                raise ValueError(
                    f"{name} is {tuple(x.shape)} of {x.dtype}, the cache holds {tuple(held.shape)} of {held.dtype}; "
                    "they may differ in the third axis only"
                )

    def _grow(self, new: tuple[Tensor, Tensor], length: int) -> None:
        """Make room for this many positions."""
        self.capacity = max(length, self.capacity if not self._tensors else 2 * self.capacity)
        larger = tuple(x.new_empty(*x.shape[:2], self.capacity, x.shape[3]) for x in new)
        if self._tensors:
            for room, held in zip(larger, self._filled(), strict=True):
                room[:, :, : self.length] = held
        self._tensors = larger

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add positions after those that are held.

        Args:
            k: (B, G, n, d).   v: (B, G, n, e).
        Returns:
            The keys (B, G, length, d) and values (B, G, length, e) of all positions.
        Raises:
            ValueError: shapes or types that differ from those held in more than the third axis, or require gradients.
        """
        self._check((k, v))
        length = self.length + k.shape[2]
        if not self._tensors or length > self.capacity:
            self._grow((k, v), length)
        for room, x in zip(self._tensors, (k, v), strict=True):
            room[:, :, self.length : length] = x
        self.length = length
        return self.keys, self.values

    def reorder(self, rows: Tensor) -> None:
        """Let row i of the batch be what row rows[i] was, as beam search needs after each step.

        Args:
            rows: (B′,) whole numbers in 0 … B − 1; some may be missing, others there more than once.
        Raises:
            ValueError: rows of another shape or type, or outside the batch.
        """
        if rows.ndim != 1 or rows.is_floating_point() or rows.dtype == torch.bool:
            raise ValueError(f"rows must be (B,) whole numbers, got shape {tuple(rows.shape)} of {rows.dtype}")
        batch = len(self.keys)
        wrong = (rows < 0) | (rows >= batch)
        if wrong.any():
            raise ValueError(f"rows holds {int(rows[wrong][0])}, outside 0 … {batch - 1}: the rows of the batch")
        self._tensors = tuple(x.index_select(0, rows) for x in self._tensors)


class DecoderCache:
    """The caches of all layers of a decoder: for each, one of its own positions and one of the memory's.

    Args:
        layers: number of layers.
    Attributes:
        layers: a pair of `KVCache` for each layer.

    >>> DecoderCache(3).length
    0
    """

    def __init__(self, layers: int):
        if layers < 1:
            raise ValueError(f"layers must be at least 1, got {layers}")
        self.layers = [(KVCache(), KVCache()) for _ in range(layers)]

    @property
    def length(self) -> int:
        """Number of the decoder's own positions held."""
        return self.layers[0][0].length

    def reorder(self, rows: Tensor) -> None:
        """As `KVCache.reorder`, in all layers."""
        for cache in (cache for pair in self.layers for cache in pair if cache.length):
            cache.reorder(rows)
