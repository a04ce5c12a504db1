"""BERT: an encoder that reads in both directions, and is trained by filling gaps.

`BERT` maps tokens to vectors that know their context. `BERTForPretraining` adds the two heads of the paper: one gives
back the tokens that were hidden (the masked language model, MLM), the other says whether the second segment followed
the first in the text (next sentence prediction, NSP).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from lmcore.nn import init
from lmcore.nn.functional import gelu
from lmcore.nn.layers import Dropout, Embedding, Linear
from lmcore.nn.masks import padding_mask
from lmcore.nn.norm import LayerNorm
from lmcore.nn.positional import LearnedPositions
from lmcore.nn.transformer import Encoder, TransformerConfig
from lmcore.sizes import check_sizes


@dataclass(frozen=True, kw_only=True)
class BERTConfig:
    """Sizes and parts of a `BERT`.

    Args:
        vocabulary_size: number of ids.   max_length: number of positions.   segments: number of kinds of segments.
        transformer: what the encoder is made of; the paper's has order="post" and activation="gelu".
        shared: all layers are one and the same, as in ALBERT.
        pooler: whether there is a dense layer on the first token's vector.
        nsp: whether pretraining has the head for next sentence prediction, which needs the pooler.
        neighbours: give the scores of attention `neighbour_bias`, which the paper does not have.
        init_std: standard deviation of the first matrices. The paper's 0.02 suits its d_model of 768; where vectors are
            short, attention begins so even with it that small models hardly learn.
    Raises:
        ValueError: a size below 1, nsp without pooler, or init_std ≤ 0.
    """

    vocabulary_size: int
    transformer: TransformerConfig
    max_length: int = 512
    segments: int = 2
    shared: bool = False
    pooler: bool = True
    nsp: bool = True
    neighbours: bool = False
    init_std: float = 0.02

    def __post_init__(self):
        check_sizes(vocabulary_size=self.vocabulary_size, max_length=self.max_length, segments=self.segments)
        if self.nsp and not self.pooler:
            raise ValueError("nsp looks at the pooler's vector: pooler must be True")
        if not 0 < self.init_std < math.inf:
            raise ValueError(f"init_std must be above zero, got {self.init_std!r}")

    @classmethod
    def standard(
        cls, *, vocabulary_size: int, d_model: int, layers: int, heads: int, d_ff: int | None = None,
        dropout: float = 0.1, norm_eps: float = 1e-12, **options: Any,
    ) -> "BERTConfig":  # fmt: skip
        """As Devlin et al. 2019: norms after each part, GELU, four times as many hidden units if d_ff is None.

        Args:
            vocabulary_size: number of ids.   d_model, layers, heads, d_ff, dropout, norm_eps: see `TransformerConfig`.
            options: of `BERTConfig`, such as max_length, shared or nsp.

        >>> config = BERTConfig.standard(vocabulary_size=30_522, d_model=768, layers=12, heads=12)
        >>> sum(p.numel() for p in BERT(config, device="meta").parameters())   # the paper says 110M
        109482240
        """
        stack = TransformerConfig(
            d_model=d_model, heads=heads, d_ff=4 * d_model if d_ff is None else d_ff, layers=layers, dropout=dropout,
            norm_eps=norm_eps, order="post", activation="gelu",
        )  # fmt: skip
        return cls(vocabulary_size=vocabulary_size, transformer=stack, **options)


def neighbour_bias(heads: int, length: int, *, device: torch.device | str | None = None) -> Tensor:
    """What makes heads look at the neighbours from the start: −slope · |j − (t ± 1)| for query t and key j.

    The even heads prefer the place on the left, the odd ones that on the right. The first two do so with slope 2, each
    next pair with a quarter of that, down to heads that hardly care.

    Returns:
        (heads, T, T), to be added to the scores.
    Differs: ALiBi (Press et al. 2022) prefers the token itself, which for ``[MASK]`` is of no use.

    >>> neighbour_bias(2, 3)
    tensor([[[-2., -4., -6.],
             [-0., -2., -4.],
             [-2., -0., -2.]],
    <BLANKLINE>
            [[-2., -0., -2.],
             [-4., -2., -0.],
             [-6., -4., -2.]]])
    """
    place = torch.arange(length, device=device)
    distance = (place - place[:, None]).float()  # (T, T), j − t
    each = [-(2.0 / 4 ** (h // 2)) * (distance + (1 if h % 2 == 0 else -1)).abs() for h in range(heads)]
    return torch.stack(each)


def _first_weights(model: Module, std: float, generator: torch.Generator | None) -> None:
    """Matrices normal, biases zero, as in the paper's program."""
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            init.normal_(parameter, std=std, generator=generator)
        elif name.endswith("bias"):
            init.zeros_(parameter)


class BERT(Module):
    """Vectors of tokens in their context.

        x = dropout(norm(E token + position + segment)),        hidden = encoder(x)

    Args:
        config: sizes and parts.
        generator: draws the first parameters, and what dropout drops; torch's global one if None.
        device: where the parameters are made; "meta" for their shapes alone, before weights are loaded.
    Attributes:
        tokens, positions, segments, norm, encoder, and pooler, which may be None.
    Source: Devlin et al. 2019.

    >>> config = BERTConfig.standard(vocabulary_size=11, d_model=6, layers=2, heads=3, dropout=0.0)
    >>> model = BERT(config)
    >>> hidden = model(torch.tensor([[3, 5, 7], [4, 0, 0]]), [3, 1])
    >>> hidden.shape, model.pooled(hidden).shape
    (torch.Size([2, 3, 6]), torch.Size([2, 6]))
    """

    def __init__(
        self, config: BERTConfig, *, generator: torch.Generator | None = None, device: torch.device | str | None = None
    ):
        super().__init__()
        self.config, stack = config, config.transformer
        d = stack.d_model
        with torch.device("cpu" if device is None else device):
            self.tokens = Embedding(config.vocabulary_size, d, generator=generator)
            self.positions = LearnedPositions(config.max_length, d, generator=generator)
            self.segments = Embedding(config.segments, d, generator=generator)
            self.norm = LayerNorm(d, eps=stack.norm_eps)
            self.encoder = Encoder(stack, generator=generator)
            self.pooler = Linear(d, d, generator=generator) if config.pooler else None
        self.dropout = Dropout(stack.dropout, generator=generator)
        if config.shared:
            for i in range(1, stack.layers):
                self.encoder.layers[i] = self.encoder.layers[0]
        _first_weights(self, config.init_std, generator)

    def forward(
        self, ids: Tensor, lengths: Tensor | Sequence[int] | None = None, *, segments: Tensor | None = None
    ) -> Tensor:
        """Read a batch.

        Args:
            ids: (B, T).
            lengths: (B,) how many tokens of each row are real; None: all. The vectors beyond are of no use.
            segments: (B, T) 0 or 1, the segment that each token belongs to; None: all 0.
        Returns:
            (B, T, d_model).
        Raises:
            ValueError: ids outside the vocabulary, shapes that do not fit, an empty row, or more tokens than positions.
        """
        if ids.ndim != 2:
            raise ValueError(f"ids has shape {tuple(ids.shape)}, must be (B, T)")
        if ids.shape[1] > self.config.max_length:
            raise ValueError(
                f"{ids.shape[1]} tokens are more than the model's {self.config.max_length} positions: cut the text, "
                "and say so"
            )
        if segments is not None and segments.shape != ids.shape:
            raise ValueError(f"segments has shape {tuple(segments.shape)}, must be that of ids, {tuple(ids.shape)}")
        x = self.positions(self.tokens(ids))
        x = x + (self.segments.weight[0] if segments is None else self.segments(segments))
        mask = None if lengths is None else padding_mask(lengths, ids.shape[1]).to(ids.device)
        stack = self.config.transformer
        bias = neighbour_bias(stack.heads, ids.shape[1], device=ids.device) if self.config.neighbours else None
        return self.encoder(self.dropout(self.norm(x)), mask=mask, bias=bias)

    def pooled(self, hidden: Tensor) -> Tensor:
        """The first token's vector through a dense layer and tanh: (B, T, d_model) → (B, d_model).

        Raises:
            ValueError: the model has no pooler.
        """
        if self.pooler is None:
            raise ValueError("this model has no pooler: see BERTConfig")
        return torch.tanh(self.pooler(hidden[:, 0]))


class MaskedLMHead(Module):
    """From vectors to scores of tokens: dense layer, GELU, norm, and the embedding's table once more.

    Args:
        table: (V, d), the weights of the token embedding, which are shared.   norm_eps: of the norm.
        std: of the dense layer's first weights.
    Attributes:
        dense, norm, table, and bias (V,).
    """

    def __init__(
        self, table: Parameter, *, norm_eps: float = 1e-12, std: float = 0.02, generator: torch.Generator | None = None
    ):
        super().__init__()
        d = table.shape[1]
        self.dense, self.norm = Linear(d, d, generator=generator), LayerNorm(d, eps=norm_eps)
        self.table, self.bias = table, Parameter(torch.zeros(len(table)))
        init.normal_(self.dense.weight, std=std, generator=generator)
        init.zeros_(self.dense.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, d) → (…, V)."""
        return torch.nn.functional.linear(self.norm(gelu(self.dense(hidden))), self.table, self.bias)


class BERTForPretraining(Module):
    """BERT with the heads of its pretraining.

    Args:
        config, generator, device: see `BERT`.
    Attributes:
        bert.   mlm: a `MaskedLMHead`.   nsp: a `Linear` to two scores (0: it followed, 1: it did not), or None.

    >>> config = BERTConfig.standard(vocabulary_size=11, d_model=6, layers=2, heads=3, dropout=0.0)
    >>> tokens, follows = BERTForPretraining(config)(torch.tensor([[3, 5, 7]]))
    >>> tokens.shape, follows.shape
    (torch.Size([1, 3, 11]), torch.Size([1, 2]))
    """

    def __init__(
        self, config: BERTConfig, *, generator: torch.Generator | None = None, device: torch.device | str | None = None
    ):
        super().__init__()
        self.config = config
        self.bert = BERT(config, generator=generator, device=device)
        with torch.device("cpu" if device is None else device):
            self.mlm = MaskedLMHead(
                self.bert.tokens.weight, norm_eps=config.transformer.norm_eps, std=config.init_std, generator=generator
            )
            self.nsp = Linear(config.transformer.d_model, 2, generator=generator) if config.nsp else None
        if self.nsp is not None:
            _first_weights(self.nsp, config.init_std, generator)

    def forward(
        self, ids: Tensor, lengths: Tensor | Sequence[int] | None = None, *, segments: Tensor | None = None,
        places: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """Score tokens and the order of segments.

        Args:
            ids, lengths, segments: see `BERT.forward`.
            places: (B, T) bool; scores are computed for these tokens only, which saves most of the head's work.
        Returns:
            (B, T, V) scores of tokens, or (N, V) for the N places, row after row; and (B, 2), or None without NSP.
        """
        hidden = self.bert(ids, lengths, segments=segments)
        follows = None if self.nsp is None else self.nsp(self.bert.pooled(hidden))
        return self.mlm(hidden if places is None else hidden[places]), follows
