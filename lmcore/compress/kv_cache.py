"""Keys and values of earlier positions in 8 or 4 bits instead of 32.

A cache grows with every position of every text of a batch, and with long texts it is larger than the model. Each number
in it is read at each step, so fewer bits save time as well as memory where reading is what a step waits for.

Values are rounded per token: a position's values share a grid. Keys often have a few channels that are large in all
positions. A grid for a token would have to reach as far as they do, a grid for a *channel* need not. But the range of a
channel is known only when its positions are, so they are rounded in groups, and those of a group that is not yet full
wait in full precision.
"""

import torch
from torch import Tensor

from lmcore.compress.affine import Grid, Scheme, quantize
from lmcore.compress.packing import pack, unpack
from lmcore.nn.kv_cache import DecoderCache, KVCache
from lmcore.sizes import check_sizes

KEYS = ("channel", "token")


class _Rounded:
    """Keys and values that grow along their third axis; each row along their last has a grid of its own. Packed."""

    def __init__(self, bits: int):
        self._scheme = Scheme(bits=bits, symmetric=False, exact_zero=False)  # keys need not lie around 0
        self._codes, self._ends = KVCache(), KVCache()  # the plain cache knows how to grow, and to reorder

    def append(self, new: tuple[Tensor, Tensor]) -> None:
        """Round (B, G, n, rows, length) each, and add them."""
        found = [quantize(x, self._scheme) for x in new]
        self._lengths = [x.shape[-1] for x in new]
        self._codes.append(*(pack(q.codes, self._scheme.bits).flatten(3) for q in found))
        self._ends.append(*(torch.cat([q.scale, q.minimum], dim=-1).flatten(3) for q in found))

    def numbers(self) -> list[Tensor]:
        """Keys and values, (B, G, n, rows, length) float32."""
        held = zip(self._codes._filled(), self._ends._filled(), self._lengths, strict=True)
        return [self._decoded(codes, ends, length) for codes, ends, length in held]

    def _decoded(self, codes: Tensor, ends: Tensor, length: int) -> Tensor:
        """One of them: (B, G, n, rows · bytes) and (B, G, n, rows · 2) → (B, G, n, rows, length)."""
        scale, minimum = ends.unflatten(3, (-1, 2)).split(1, dim=-1)  # (B, G, n, rows, 1) each
        packed = codes.unflatten(3, (scale.shape[3], -1))
        grid = Grid(scheme=self._scheme, scale=scale, minimum=minimum)
        return grid.decode(unpack(packed, self._scheme.bits, length, signed=False))

    @property
    def nbytes(self) -> int:
        """Bytes of codes and of grids, without the room that is kept for more."""
        return sum(x.numel() * x.element_size() for cache in (self._codes, self._ends) for x in cache._filled())

    def reorder(self, rows: Tensor) -> None:
        """As `KVCache.reorder`."""
        self._codes.reorder(rows)
        self._ends.reorder(rows)


class QuantizedKVCache(KVCache):
    """A `KVCache` whose keys and values are rounded as soon as a group of positions is full.

    Args:
        bits: of a code, 2 … 8.
        keys: "channel", keys of a group share a grid channel by channel, or "token", position by position as values do.
        group: how many positions are rounded together; of the last ones, group − 1 at most are in full precision.
    Attributes:
        length: number of positions held.   nbytes: of all that is held.
    Raises:
        ValueError: bits outside 2 … 8, another word, or a group below 1; in `append` as `KVCache.append`, or numbers
            that are not finite.
    Cost: bits + 64 / group for a number of a key if per channel, bits + 64 / e for one of a value of length e. Each
        `append` dequantises all positions for the attention that follows; a kernel would do so piece by piece.

    >>> cache = QuantizedKVCache(bits=2, group=3)       # four levels from a channel's smallest to its largest
    >>> keys = torch.tensor([[0.0, 90.0], [1.4, 91.0], [3.0, 93.0]]).view(1, 1, 3, 2)
    >>> cache.append(keys[:, :, :2], torch.zeros(1, 1, 2, 2))[0][0, 0].round(decimals=1)    # they wait for a third
    tensor([[ 0.0000, 90.0000],
            [ 1.4000, 91.0000]])
    >>> cache.append(keys[:, :, 2:], torch.zeros(1, 1, 1, 2))[0][0, 0]      # one channel has steps of 1, as the other
    tensor([[ 0., 90.],
            [ 1., 91.],
            [ 3., 93.]])
    """

    def __init__(self, *, bits: int = 8, keys: str = "channel", group: int = 32):
        super().__init__()
        check_sizes(group=group)
        if keys not in KEYS:
            raise ValueError(f"keys must be one of {', '.join(KEYS)}, got {keys!r}")
        self.bits, self.by_channel, self.group = bits, keys == "channel", group
        self._rounded, self._full = _Rounded(bits), 0  # _full: positions that are rounded; _tensors has the others

    def _groups(self, x: Tensor, *, turned: bool) -> Tensor:
        """(B, G, n, d) → (B, G, groups, group, d), or, with channels in rows, (B, G, groups, d, group)."""
        x = x.unflatten(2, (-1, self.group))
        return x.transpose(3, 4) if turned else x

    def _filled(self) -> list[Tensor]:
        """All keys and values: the rounded ones, then those that wait."""
        if not self._tensors or not self._full:
            return super()._filled()
        k, v = self._rounded.numbers()
        k = k.transpose(3, 4) if self.by_channel else k
        pairs = zip((k.flatten(2, 3), v.flatten(2, 3)), self._tensors, strict=True)
        return [torch.cat([rounded.to(waiting.dtype), waiting], dim=2) for rounded, waiting in pairs]

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add positions after those that are held.

        Args, raises: see `KVCache.append`.
        Returns:
            The keys (B, G, length, d) and values (B, G, length, e) of all positions, as the cache now knows them.
        """
        self._check((k, v))
        held = self._tensors or (k[:, :, :0], v[:, :, :0])
        waiting = [torch.cat(pair, dim=2) for pair in zip(held, (k, v), strict=True)]
        full = waiting[0].shape[2] // self.group * self.group
        if full:
            parts = [x[:, :, :full] for x in waiting]
            self._rounded.append((self._groups(parts[0], turned=self.by_channel), self._groups(parts[1], turned=False)))
        self._tensors = tuple(x[:, :, full:].clone() for x in waiting)  # copies, lest they keep all in memory
        self._full, self.length = self._full + full, self.length + k.shape[2]
        keys, values = self._filled()
        return keys, values

    def reorder(self, rows: Tensor) -> None:
        """Let row i of the batch be what row rows[i] was, see `KVCache.reorder`."""
        super().reorder(rows)  # those that wait; it also refuses wrong rows
        if self._full:
            self._rounded.reorder(rows)

    @property
    def nbytes(self) -> int:
        """Bytes of all that is held."""
        waiting = sum(x.numel() * x.element_size() for x in self._tensors)
        return waiting + (self._rounded.nbytes if self._full else 0)


def quantized_decoder_cache(layers: int, *, bits: int = 8, keys: str = "channel", group: int = 32) -> DecoderCache:
    """A decoder's caches, of which those of its own positions are rounded; those of a memory, written once, are not.

    Args:
        layers: number of layers, as `DecoderCache`.   bits, keys, group: see `QuantizedKVCache`.

    >>> type(quantized_decoder_cache(2, bits=4).layers[1][0]).__name__
    'QuantizedKVCache'
    """
    cache = DecoderCache(layers)
    cache.layers = [(QuantizedKVCache(bits=bits, keys=keys, group=group), memory) for _, memory in cache.layers]
    return cache
