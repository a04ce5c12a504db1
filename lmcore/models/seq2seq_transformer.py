"""The Transformer as it was first published: an encoder–decoder, here with a choice of norms and positions."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from lmcore.models.seq2seq import TokenMaps
from lmcore.nn.kv_cache import DecoderCache
from lmcore.nn.layers import Dropout
from lmcore.nn.masks import padding_mask
from lmcore.nn.positional import LearnedPositions, RotaryPositions, SinusoidalPositions
from lmcore.nn.transformer import Decoder, Encoder, TransformerConfig
from lmcore.sizes import check_sizes

POSITIONS = ("sinusoidal", "learned", "rotary")


@dataclass(frozen=True, kw_only=True)
class TransformerSeq2SeqConfig:
    """Sizes and parts of a `TransformerSeq2Seq`.

    Args:
        source_size, target_size: number of ids on each side.
        transformer: what encoder and decoder are made of, each with that number of layers.
        positions: "sinusoidal" or "learned", added to the embeddings, or "rotary", in self-attention.
        max_length: number of positions on each side.
        tied: one table for both embeddings and the output, which needs one vocabulary.
    Raises:
        ValueError: a size below 1, unknown positions, rotary with heads of odd length, or tied with two sizes.
    """

    source_size: int
    target_size: int
    transformer: TransformerConfig
    positions: str = "sinusoidal"
    max_length: int = 256
    tied: bool = False

    def __post_init__(self):
        check_sizes(source_size=self.source_size, target_size=self.target_size, max_length=self.max_length)
        if self.positions not in POSITIONS:
            raise ValueError(f"positions must be one of {', '.join(POSITIONS)}, got {self.positions!r}")
        head = self.transformer.d_model // self.transformer.heads
        length = head if self.positions == "rotary" else self.transformer.d_model
        if self.positions != "learned" and length % 2:
            raise ValueError(f"positions {self.positions!r} turn pairs of numbers, but there are {length}")
        if self.tied and self.source_size != self.target_size:
            raise ValueError(f"tied needs one vocabulary, got sizes {self.source_size} and {self.target_size}")


@dataclass
class TransformerState:
    """What the decoder knows between two tokens.

    Attributes:
        memory: (B, S, d) what the encoder made of the source.   mask: (B, 1, 1, S) bool, True = a real token.
        cache: keys and values of the target so far and of the memory, in all layers; None: do without, see `start`.
        tokens: (B, t) the target so far, if there is no cache.
    """

    memory: Tensor
    mask: Tensor
    cache: DecoderCache | None = None
    tokens: Tensor | None = None

    def reorder(self, rows: Tensor) -> "TransformerState":
        """The state of these rows, see `lmcore.decode`; the cache of this one is changed."""
        if self.cache is not None:
            self.cache.reorder(rows)
        tokens = None if self.tokens is None else self.tokens[rows]
        return TransformerState(self.memory[rows], self.mask[rows], self.cache, tokens)


class TransformerSeq2Seq(Module):
    """Scores of the next target token, given the source and the target so far.

        memory = encoder(dropout(E source + positions))
        logits = E′ decoder(dropout(E target + positions), memory) + b

    Args:
        config: sizes and parts.
        generator: draws the first parameters, and what dropout drops; torch's global one if None.
    Attributes:
        tokens: the maps from and to ids, see `TokenMaps`.   encoder, decoder: stacks of blocks.
        source_positions, target_positions: what is added to embeddings, or None.   rotary: turns queries and keys, or
            None.

    `start` and `step` are what `lmcore.decode` needs, see `RecurrentSeq2Seq`.

    Source: Vaswani et al. 2017: order="post", activation="relu", sinusoidal positions, tied.

    >>> stack = TransformerConfig(d_model=6, heads=3, d_ff=7, layers=2)
    >>> model = TransformerSeq2Seq(TransformerSeq2SeqConfig(source_size=11, target_size=7, transformer=stack))
    >>> source, lengths, target = torch.tensor([[3, 5, 2], [4, 0, 0]]), torch.tensor([3, 1]), torch.tensor([[1, 2]] * 2)
    >>> model(source, lengths, target).shape, model.align(source, lengths, target)[0].shape
    (torch.Size([2, 2, 7]), torch.Size([2, 3, 2, 3]))
    """

    def __init__(self, config: TransformerSeq2SeqConfig, *, generator: torch.Generator | None = None):
        super().__init__()
        self.config = config
        stack = config.transformer
        d, n = stack.d_model, config.max_length
        self.tokens = TokenMaps(config.source_size, config.target_size, d, tied=config.tied, generator=generator)
        self.encoder = Encoder(stack, generator=generator)
        self.decoder = Decoder(stack, generator=generator)
        self.dropout = Dropout(stack.dropout, generator=generator)
        self.source_positions = self.target_positions = self.rotary = None
        if config.positions == "rotary":
            self.rotary = RotaryPositions(d // stack.heads, max_length=n)
        elif config.positions == "learned":
            self.source_positions = LearnedPositions(n, d, generator=generator)
            self.target_positions = LearnedPositions(n, d, generator=generator)
        else:
            self.source_positions = self.target_positions = SinusoidalPositions(n, d)

    def start(self, source: Tensor, source_lengths: Tensor, *, cache: bool = True) -> TransformerState:
        """Read the source, and give the state before the first target token.

        Args:
            source: (B, S) ids, of which the first source_lengths (B,) of a row are real.
            cache: False: each step computes the whole target again, with the same result; to see what a cache saves.
        """
        x = self.tokens.embed_source(source)
        if self.source_positions is not None:
            x = self.source_positions(x)
        mask = padding_mask(source_lengths, source.shape[1]).to(source.device)  # (B, 1, 1, S)
        memory = self.encoder(self.dropout(x), mask=mask, rotary=self.rotary)
        return TransformerState(memory, mask, self.decoder.new_cache() if cache else None)

    def _decode(self, target_in: Tensor, state: TransformerState, **options: Any) -> Tensor | tuple[Tensor, list]:
        """The decoder's vectors (B, T, d) for T more tokens (B, T), with the weights if options ask for them."""
        x = self.tokens.embed_target(target_in)
        if self.target_positions is not None:
            x = self.target_positions(x, 0 if state.cache is None else state.cache.length)
        options |= {"memory_mask": state.mask, "cache": state.cache, "rotary": self.rotary}
        return self.decoder(self.dropout(x), state.memory, **options)

    def step(self, tokens: Tensor, state: TransformerState) -> tuple[Tensor, TransformerState]:
        """One more token of each target, (B,) → logits of the next one (B, V), and the new state; without gradients."""
        target_in = tokens[:, None]
        if state.cache is None:
            before = [] if state.tokens is None else [state.tokens]
            target_in = state.tokens = torch.cat([*before, target_in], dim=1)
        return self.tokens.logits(self._decode(target_in, state)[:, -1]), state

    def forward(self, source: Tensor, source_lengths: Tensor, target_in: Tensor) -> Tensor:
        """Score the next token at each place of known targets.

        Args:
            source: (B, S) ids, of which the first source_lengths (B,) of a row are real.
            target_in: (B, T) ids, beginning with their beginning mark.
        Returns:
            (B, T, V) logits of what follows each of them.
        Raises:
            ValueError: shapes that do not fit, an id outside its vocabulary, an empty or a too long sequence.
        """
        state = self.start(source, source_lengths, cache=False)
        return self.tokens.logits(self._decode(target_in, state))

    def align(self, source: Tensor, source_lengths: Tensor, target_in: Tensor) -> list[Tensor]:
        """Weights of cross-attention, for each layer (B, H, T, S): what each target token takes of each source token.

        Args, Raises: as `forward`.
        """
        state = self.start(source, source_lengths, cache=False)
        return self._decode(target_in, state, need_weights=True)[1]
