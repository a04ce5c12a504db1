"""GPT: a decoder alone, which predicts the next token from all tokens before it.

One class is the whole family. What changed between GPT-2 and the Llamas is in the configuration: positions that are
added or turned, the norm, the activation, heads that share keys, one table for words going in and coming out.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import Module

from lmcore.nn import init
from lmcore.nn.functional import log_softmax
from lmcore.nn.kv_cache import DecoderCache
from lmcore.nn.layers import Dropout, Embedding, Linear
from lmcore.nn.positional import LearnedPositions, RotaryPositions
from lmcore.nn.transformer import Decoder, TransformerConfig
from lmcore.sizes import check_sizes

POSITIONS = ("learned", "rotary")


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """Sizes and parts of a `GPT`.

    Args:
        vocabulary_size: number of ids.   context: number of positions.
        transformer: what the decoder is made of.
        positions: "learned", added to the embeddings, or "rotary", in self-attention.
        rotary_base, rotary_layout: see `RotaryPositions`.
        tied: one table gives the tokens' vectors and scores them.
    Raises:
        ValueError: a size below 1, other positions, or rotary with heads of odd length.
    """

    vocabulary_size: int
    context: int
    transformer: TransformerConfig
    positions: str = "learned"
    rotary_base: float = 10000.0
    rotary_layout: str = "half"
    tied: bool = True

    def __post_init__(self):
        check_sizes(vocabulary_size=self.vocabulary_size, context=self.context)
        if self.positions not in POSITIONS:
            raise ValueError(f"positions must be one of {', '.join(POSITIONS)}, got {self.positions!r}")
        if self.positions == "rotary" and (self.transformer.d_model // self.transformer.heads) % 2:
            raise ValueError(
                f"rotary positions turn pairs of numbers, but a head has "
                f"{self.transformer.d_model // self.transformer.heads}"
            )

    @classmethod
    def gpt2(
        cls, *, vocabulary_size: int, context: int, d_model: int, layers: int, heads: int, dropout: float = 0.0
    ) -> "GPTConfig":
        """As Radford et al. 2019: learned positions, layer norm before each part, GELU, four times as many units.

        >>> config = GPTConfig.gpt2(vocabulary_size=50_257, context=1024, d_model=768, layers=12, heads=12)
        >>> sum(p.numel() for p in GPT(config, device="meta").parameters())   # the smallest GPT-2
        124439808
        """
        stack = TransformerConfig(
            d_model=d_model, heads=heads, d_ff=4 * d_model, layers=layers, dropout=dropout, activation="gelu_tanh"
        )
        return cls(vocabulary_size=vocabulary_size, context=context, transformer=stack)

    @classmethod
    def llama(
        cls, *, vocabulary_size: int, context: int, d_model: int, d_ff: int, layers: int, heads: int,
        kv_heads: int | None = None, norm_eps: float = 1e-5, rotary_base: float = 10000.0,
        rotary_layout: str = "half", tied: bool = False,
    ) -> "GPTConfig":  # fmt: skip
        """As Touvron et al. 2023: rotary positions, RMS norm, SwiGLU, no biases; kv_heads as in later versions."""
        stack = TransformerConfig(
            d_model=d_model, heads=heads, kv_heads=kv_heads, d_ff=d_ff, layers=layers, norm="rms", norm_eps=norm_eps,
            activation="swiglu", bias=False,
        )  # fmt: skip
        return cls(
            vocabulary_size=vocabulary_size, context=context, transformer=stack, positions="rotary",
            rotary_base=rotary_base, rotary_layout=rotary_layout, tied=tied,
        )  # fmt: skip


@dataclass
class GPTState:
    """What a `GPT` knows between two tokens: the keys and values of all positions so far."""

    cache: DecoderCache

    def reorder(self, rows: Tensor) -> "GPTState":
        """The state of these rows, see `lmcore.decode`; this one is changed."""
        if self.cache.length:
            self.cache.reorder(rows)
        return self


class GPT(Module):
    """Scores of the next token, given all tokens before.

    Args:
        config: sizes and parts.
        generator: draws the first parameters, and what dropout drops; torch's global one if None.
        device: where the parameters are made; "meta" for their shapes alone, before weights are loaded.
    Attributes:
        embedding, positions (or None), rotary (or None), decoder, output.

    First weights are normal with standard deviation 0.02 · √(768 / d_model), and those that write onto the stream of
    vectors are smaller by √(2 · layers), the number of writers, so that the stream does not grow with depth; biases are
    zero. The root makes 0.02, chosen for GPT-2's width of 768, mean the same at any width: with 0.02 itself the scores
    of a narrow model are nearly zero at first, and it loses time until they have grown.

    `start` and `step` are what `lmcore.decode` needs; start takes a whole prompt in one pass.

    Source: Radford et al. 2019.  Differs: there 0.02 at all widths, 768 to 1600.

    >>> model = GPT(GPTConfig.gpt2(vocabulary_size=11, context=7, d_model=6, layers=2, heads=3))
    >>> model(torch.tensor([[3, 5, 7], [0, 0, 0]])).shape
    torch.Size([2, 3, 11])
    """

    def __init__(
        self, config: GPTConfig, *, generator: torch.Generator | None = None, device: torch.device | str | None = None
    ):
        super().__init__()
        self.config, stack = config, config.transformer
        with torch.device("cpu" if device is None else device):
            self.embedding = Embedding(config.vocabulary_size, stack.d_model, generator=generator)
            learned = config.positions == "learned"
            self.positions = LearnedPositions(config.context, stack.d_model, generator=generator) if learned else None
            self.decoder = Decoder(stack, cross_attention=False, generator=generator)
            self.output = Linear(stack.d_model, config.vocabulary_size, bias=False, generator=generator)
        self.rotary = None if learned else RotaryPositions(
            stack.d_model // stack.heads, base=config.rotary_base, layout=config.rotary_layout,
            max_length=config.context,
        )  # fmt: skip
        self.dropout = Dropout(stack.dropout, generator=generator)
        if config.tied:
            self.output.weight = self.embedding.weight
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the parameters anew."""
        usual = 0.02 * math.sqrt(768 / self.config.transformer.d_model)
        for name, parameter in self.named_parameters():
            if parameter.ndim >= 2:
                writes = name.endswith(("out_proj.weight", "feed_forward.down.weight"))
                std = usual / math.sqrt(2 * self.config.transformer.layers) if writes else usual
                init.normal_(parameter, std=std, generator=generator)
            elif name.endswith("bias"):
                init.zeros_(parameter)

    def hidden(self, ids: Tensor, *, cache: DecoderCache | None = None) -> Tensor:
        """(B, T) ids after those in the cache → (B, T, d_model), the vectors that are scored."""
        if ids.ndim != 2:
            raise ValueError(f"ids has shape {tuple(ids.shape)}, must be (B, T)")
        start = 0 if cache is None else cache.length
        if start + ids.shape[1] > self.config.context:
            raise ValueError(
                f"{start + ids.shape[1]} tokens are more than the model's context of {self.config.context}: shorten "
                "the text, or cut it into windows"
            )
        x = self.embedding(ids)
        if self.positions is not None:
            x = self.positions(x, start)
        return self.decoder(self.dropout(x), rotary=self.rotary, cache=cache)

    def forward(self, ids: Tensor, *, cache: DecoderCache | None = None) -> Tensor:
        """Score what follows each token.

        Args:
            ids: (B, T).   cache: from `decoder.new_cache()`; ids then follow the positions in it, and are added to it.
        Returns:
            (B, T, V) logits.
        Raises:
            ValueError: ids of another shape, outside the vocabulary, or more than the context.
        """
        return self.output(self.hidden(ids, cache=cache))

    def start(self, ids: Tensor | None = None) -> GPTState:
        """The state after a prompt (B, T), read in one pass; without one, before the first token."""
        state = GPTState(self.decoder.new_cache())
        if ids is not None and ids.shape[1]:
            self.hidden(ids, cache=state.cache)
        return state

    def step(self, tokens: Tensor, state: GPTState) -> tuple[Tensor, GPTState]:
        """One more token of each row, (B,) → logits of the next one (B, V), and the state; without gradients."""
        return self(tokens[:, None], cache=state.cache)[:, -1], state


@torch.no_grad()
def score(model: GPT, ids: ArrayLike, *, stride: int | None = None, batch_size: int = 8) -> np.ndarray:
    """Natural log-probabilities of the ids of a text, each given what comes before it in its window.

    A long text is cut into windows of the model's context. Each begins `stride` ids after the one before, and scores
    only what that one has not scored, so that every id but the first few sees context − stride ids before it, at least.

    Args:
        model: left in the mode, training or not, in which it was.
        ids: (N,), the text; the first id is only read.
        stride: in 1 … context; half the context if None. Small: fair to the model and slow.
        batch_size: windows at a time; the result does not change.
    Returns:
        (N − 1,) nats in double precision, ready for `lmcore.metrics.perplexity`.
    Raises:
        ValueError: less than two ids, an id outside the vocabulary, or a stride outside its range.
    Cost: N / stride windows, each a forward pass.
    """
    ids = torch.as_tensor(ids, device=model.embedding.weight.device)
    context = model.config.context
    stride = max(1, context // 2) if stride is None else stride
    if ids.ndim != 1 or len(ids) < 2:
        raise ValueError(f"ids has shape {tuple(ids.shape)}, must be (N,) with at least two ids")
    if not 1 <= stride <= context or batch_size < 1:
        raise ValueError(f"stride must be in 1 … {context} and batch_size ≥ 1, got {stride} and {batch_size}")
    n = len(ids) - 1
    starts = [0, *range(stride, max(n - context + stride, 0), stride)]
    result, was_training = torch.empty(n, dtype=torch.float64), model.training
    model.eval()
    try:
        for first in range(0, len(starts), batch_size):
            some = starts[first : first + batch_size]
            length = min(context, n)
            rows = torch.stack([_window(ids, start, length + 1) for start in some])
            logprobs = log_softmax(model(rows[:, :-1])).gather(2, rows[:, 1:, None])[..., 0].double().cpu()
            for start, row in zip(some, logprobs, strict=True):
                new = 0 if start == 0 else length - stride  # the first that no window before has scored
                result[start + new : start + length] = row[new : n - start]
    finally:
        model.train(was_training)
    return result.numpy()


def _window(ids: Tensor, start: int, size: int) -> Tensor:
    """Ids from a place on; beyond the end, anything: it is not scored."""
    part = ids[start : start + size]
    return torch.cat([part, part.new_zeros(size - len(part))])
