"""Recurrent encoder–decoder, with attention or with one vector for the whole source.

The encoder reads the source in both directions. The decoder predicts the target token by token; before each prediction
it takes a *context* from the encoder. Without attention this is one vector, what the encoder held at the two ends, the
same for every token and of the same size for every source: a bottleneck. With attention it is an average of what the
encoder held at each token, weighted anew each time by how well it matches the decoder's state.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Module

from lmcore.models.seq2seq import TokenMaps
from lmcore.nn.alignment import AdditiveAttention, MultiplicativeAttention
from lmcore.nn.layers import Dropout, Linear
from lmcore.nn.masks import padding_mask
from lmcore.nn.recurrent import GRU, LSTM
from lmcore.sizes import check_sizes

CELLS = {"gru": GRU, "lstm": LSTM}
ATTENTIONS = ("additive", "general", None)


@dataclass(frozen=True, kw_only=True)
class RecurrentSeq2SeqConfig:
    """Sizes and parts of a `RecurrentSeq2Seq`.

    Args:
        source_size, target_size: number of ids on each side.
        embedding_dim: d, length of the vectors of tokens.
        hidden: units of the decoder, and of the encoder in each direction.
        num_layers: of encoder and decoder each.
        cell: "gru" or "lstm".
        attention: "additive" (Bahdanau), "general" (Luong), or None: a fixed context.
        tied: one table for both embeddings and the output, which needs one vocabulary.
        dropout: in [0, 1), on embeddings, between layers, and before the output.
    Raises:
        ValueError: a size below 1, an unknown cell or attention, dropout outside [0, 1), or tied with two sizes.

    >>> RecurrentSeq2SeqConfig(source_size=11, target_size=7).attention
    'additive'
    """

    source_size: int
    target_size: int
    embedding_dim: int = 128
    hidden: int = 256
    num_layers: int = 1
    cell: str = "gru"
    attention: str | None = "additive"
    tied: bool = False
    dropout: float = 0.0

    def __post_init__(self):
        check_sizes(
            source_size=self.source_size,
            target_size=self.target_size,
            embedding_dim=self.embedding_dim,
            hidden=self.hidden,
            num_layers=self.num_layers,
        )
        if self.cell not in CELLS:
            raise ValueError(f"cell must be one of {', '.join(CELLS)}, got {self.cell!r}")
        if self.attention not in ATTENTIONS:
            raise ValueError(f'attention must be "additive", "general" or None, got {self.attention!r}')
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.tied and self.source_size != self.target_size:
            raise ValueError(f"tied needs one vocabulary, got sizes {self.source_size} and {self.target_size}")


@dataclass
class RecurrentState:
    """What the decoder knows between two tokens.

    Attributes:
        keys: (B, S, 2 · hidden) what the encoder held at each token; (B, 1, 2 · hidden) without attention.
        projected: what attention computes from the keys alone, or None.
        mask: (B, S) bool, True = a real token.
        memory: the decoder's state, tensors (num_layers, B, hidden): h, and c of an LSTM.
    """

    keys: Tensor
    projected: Tensor | None
    mask: Tensor
    memory: tuple[Tensor, ...]

    def reorder(self, rows: Tensor) -> "RecurrentState":
        """The state of these rows, see `lmcore.decode`."""
        projected = None if self.projected is None else self.projected[rows]
        memory = tuple(part[:, rows] for part in self.memory)
        return RecurrentState(self.keys[rows], projected, self.mask[rows], memory)


class RecurrentSeq2Seq(Module):
    """Scores of the next target token, given the source and the target so far.

        k₁ … k_S = encoder(source)             in both directions, joined
        s_t = decoder(y_{t−1}, s_{t−1})        s₀ = tanh(W₀ [the encoder's two last states])
        c_t = Σ_j a_tj k_j                     a_t = softmax over j of score(s_t, k_j)
        logits_t = E tanh(W [s_t; c_t]) + b

    Args:
        config: sizes and parts.
        generator: draws the first parameters, and what dropout drops; torch's global one if None.
    Attributes:
        tokens: the maps from and to ids, see `TokenMaps`.   encoder, decoder: recurrent layers.
        bridge: W₀ for each tensor of the decoder's state.   attention: the layer, or None.   combine: W.

    `start` and `step` are what `lmcore.decode` needs: ``greedy(model.step, model.start(source, lengths), prefixes, …)``
    with a prefix for each source, which is the mark that targets begin with.

    Source: Sutskever et al. 2014 and Cho et al. 2014 without attention; Bahdanau et al. 2015; Luong et al. 2015.
    Differs: Bahdanau's attention asks with s_{t−1}, and c_t goes into the decoder. Here, as in Luong et al. without
        "input feeding", it asks with s_t and the decoder does not see c_t: so a whole target is one run of the decoder
        and one of the attention, not a loop.

    >>> model = RecurrentSeq2Seq(RecurrentSeq2SeqConfig(source_size=11, target_size=7, hidden=5))
    >>> source, lengths, target = torch.tensor([[3, 5, 2], [4, 0, 0]]), torch.tensor([3, 1]), torch.tensor([[1, 2]] * 2)
    >>> model(source, lengths, target).shape, model.align(source, lengths, target)[1, 0].tolist()
    (torch.Size([2, 2, 7]), [1.0, 0.0, 0.0])
    """

    def __init__(self, config: RecurrentSeq2SeqConfig, *, generator: torch.Generator | None = None):
        super().__init__()
        self.config = config
        d, h = config.embedding_dim, config.hidden
        recurrent = CELLS[config.cell]
        options = {"num_layers": config.num_layers, "generator": generator}
        options["dropout"] = config.dropout if config.num_layers > 1 else 0.0
        self.tokens = TokenMaps(config.source_size, config.target_size, d, tied=config.tied, generator=generator)
        self.encoder = recurrent(d, h, bidirectional=True, **options)
        self.decoder = recurrent(d, h, **options)
        parts = 2 if config.cell == "lstm" else 1
        self.bridge = torch.nn.ModuleList(Linear(2 * h, h, generator=generator) for _ in range(parts))
        self.attention = None
        if config.attention == "additive":
            self.attention = AdditiveAttention(h, 2 * h, h, generator=generator)
        elif config.attention == "general":
            self.attention = MultiplicativeAttention(h, 2 * h, score="general", generator=generator)
        self.combine = Linear(3 * h, d, generator=generator)
        self.dropout = Dropout(config.dropout, generator=generator)

    def start(self, source: Tensor, source_lengths: Tensor) -> RecurrentState:
        """Read the source: (B, S) ids, of which the first source_lengths (B,) of a row are real → the first state."""
        keys, ends = self.encoder(self.dropout(self.tokens.embed_source(source)), lengths=source_lengths)
        ends = (ends,) if isinstance(ends, Tensor) else ends
        # (layers · 2, B, h) → (layers, B, 2h)
        joined = [end.unflatten(0, (-1, 2)).transpose(1, 2).flatten(2) for end in ends]
        memory = tuple(torch.tanh(layer(end)) for layer, end in zip(self.bridge, joined, strict=True))
        if self.attention is None:
            keys = joined[0][-1][:, None]  # of the last layer, (B, 1, 2h)
            return RecurrentState(keys, None, torch.ones_like(keys[:, :, 0], dtype=torch.bool), memory)
        mask = padding_mask(source_lengths, source.shape[1])[:, 0, 0].to(source.device)
        return RecurrentState(keys, self.attention.project(keys), mask, memory)

    def _decode(self, target_in: Tensor, state: RecurrentState) -> tuple[Tensor, Tensor, RecurrentState]:
        """Logits (B, T, V) after each of T more tokens (B, T), the attention's weights (B, T, S), the new state."""
        memory = state.memory if len(state.memory) > 1 else state.memory[0]
        s, memory = self.decoder(self.dropout(self.tokens.embed_target(target_in)), memory)
        if self.attention is None:
            context, weights = state.keys.expand(-1, s.shape[1], -1), torch.ones_like(s[:, :, :1])
        else:
            context, weights = self.attention(s, state.keys, mask=state.mask, projected=state.projected)
        y = self.dropout(torch.tanh(self.combine(torch.cat([s, context], dim=-1))))  # (B, T, d)
        memory = (memory,) if isinstance(memory, Tensor) else memory
        return self.tokens.logits(y), weights, RecurrentState(state.keys, state.projected, state.mask, memory)

    def step(self, tokens: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """One more token of each target, (B,) → logits of the next one (B, V), and the new state."""
        logits, _, state = self._decode(tokens[:, None], state)
        return logits[:, 0], state

    def forward(self, source: Tensor, source_lengths: Tensor, target_in: Tensor) -> Tensor:
        """Score the next token at each place of known targets.

        Args:
            source: (B, S) ids, of which the first source_lengths (B,) of a row are real.
            target_in: (B, T) ids, beginning with their beginning mark.
        Returns:
            (B, T, V) logits of what follows each of them.
        Raises:
            ValueError: shapes that do not fit, an id outside its vocabulary, or an empty source.
        """
        return self._decode(target_in, self.start(source, source_lengths))[0]

    def align(self, source: Tensor, source_lengths: Tensor, target_in: Tensor) -> Tensor:
        """Attention's weights: (B, T, S), how much the context at each target token takes of each source token.

        Raises:
            ValueError: a model without attention; or as `forward`.
        """
        if self.attention is None:
            raise ValueError("this model has attention=None: its context is the same for every token")
        return self._decode(target_in, self.start(source, source_lengths))[1]
