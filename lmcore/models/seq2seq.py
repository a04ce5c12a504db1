"""What encoder–decoders share: the maps between ids and vectors, and the loss of a batch of pairs."""

import math

import torch
from torch import Tensor
from torch.nn import Module

from lmcore.nn import init
from lmcore.nn.functional import cross_entropy
from lmcore.nn.layers import Embedding, Linear


class TokenMaps(Module):
    """From ids of the source and of the target to vectors, and from vectors to scores of the target's ids.

    Args:
        source_size, target_size: number of ids on each side.
        dim: d, length of the vectors.
        tied: one matrix E serves all three maps: √d · E[id] is the vector of an id, E x + b are the scores. Its entries
            have variance 1/d, so vectors of ids have entries of variance 1, and scores of such vectors too.
        generator: draws the first parameters; torch's global one if None.
    Attributes:
        source, target: embeddings.   output: the linear map to scores.
    Raises:
        ValueError: a size below 1, or tied with different sizes.
    Source: Vaswani et al. 2017, section 3.4; Press and Wolf 2017.

    >>> maps = TokenMaps(11, 11, 4, tied=True)
    >>> torch.equal(maps.embed_source(torch.tensor([3])), 2 * maps.output.weight[3:4])
    True
    """

    def __init__(
        self, source_size: int, target_size: int, dim: int, *, tied: bool, generator: torch.Generator | None = None
    ):
        super().__init__()
        if tied and source_size != target_size:
            raise ValueError(
                f"tied maps need one vocabulary, but source_size is {source_size} and target_size {target_size}"
            )
        self.source = Embedding(source_size, dim, generator=generator)
        self.target = self.source if tied else Embedding(target_size, dim, generator=generator)
        self.output = Linear(dim, target_size, generator=generator)
        self.scale = math.sqrt(dim) if tied else 1.0
        if tied:
            init.normal_(self.source.weight, std=1 / math.sqrt(dim), generator=generator)
            self.output.weight = self.source.weight
            torch.nn.init.zeros_(self.output.bias)

    def embed_source(self, ids: Tensor) -> Tensor:
        """(…) → (…, d)."""
        return self.source(ids) * self.scale

    def embed_target(self, ids: Tensor) -> Tensor:
        """(…) → (…, d)."""
        return self.target(ids) * self.scale

    def logits(self, x: Tensor) -> Tensor:
        """(…, d) → (…, target_size)."""
        return self.output(x)


def pair_loss(model: Module, batch: tuple[Tensor, ...], *, pad: int, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of a batch of targets, given their sources and, for each token, the target's true beginning.

    Args:
        model: called as model(source, source_lengths, target_in).
        batch: source (B, S), source_lengths (B,), target (B, T + 1) and its lengths, as `BucketedBatches` gives them. A
            target begins with its beginning mark, which is only read, and ends with its end mark, which is predicted.
        pad: the id of the padding, which does not count.   label_smoothing: see `cross_entropy`.
    Returns:
        One number, nats per token of the targets (with label smoothing more than that).
    """
    source, source_lengths, target, _ = batch
    logits = model(source, source_lengths, target[:, :-1])
    return cross_entropy(logits, target[:, 1:], ignore_index=pad, label_smoothing=label_smoothing)
