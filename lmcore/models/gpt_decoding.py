"""A `GPT` made ready for decoding one text on a CPU: the same numbers, and little between two reads of the weights.

A step at batch 1 reads every weight once; the rest is overhead. So here

* the matrices that get the same vector are one: queries, keys and values, and the two of a gated feed-forward network;
* each product is a function that may be chosen, see `lmcore.nn.matvec`;
* keys and values of all layers have their room beforehand, and a step writes into it;
* a turn by rotary positions is one product of complex numbers.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention, silu

from lmcore.models.gpt import GPT
from lmcore.nn.attention import attention
from lmcore.nn.matvec import CompiledLinear, ProductMaker, pack
from lmcore.nn.positional import permute_rows
from lmcore.nn.transformer import DecoderBlock

_ROOM = 64  # positions that a state has room for at least


@dataclass
class DecodingState:
    """Keys and values of the positions so far, for a batch of rows.

    Attributes:
        room: (layers, B, 2 G, capacity, d), the heads of keys before those of values; None before the first position.
        length: positions held.   limit: positions that there may be.
    """

    room: Tensor | None
    length: int
    limit: int

    def reorder(self, rows: Tensor) -> "DecodingState":
        """The state of these rows, see `lmcore.decode`; this one is changed."""
        if self.room is not None:
            self.room = self.room.index_select(1, rows)
        return self

    def reserve(self, length: int, shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
        """Make room for so many positions; shape: layers, B, 2 G, d. The room doubles when it is full."""
        if self.room is not None and length <= self.room.shape[3]:
            return
        layers, batch, heads, dim = shape
        larger = torch.empty(layers, batch, heads, min(self.limit, max(_ROOM, 2 * length)), dim, dtype=dtype)
        if self.room is not None:
            larger[:, :, :, : self.length] = self.room[:, :, :, : self.length]
        self.room = larger


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    """Let torch use so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Attention:
    """Self-attention of one layer: x (B, T, d_model) → the same, for the positions after those in the room."""

    def __init__(self, block: DecoderBlock, qkv: Tensor, out: Tensor, bias: Tensor | None, linear: ProductMaker):
        part = block.self_attention
        self.heads, self.kv_heads, self.dim = part.heads, part.kv_heads, part.head_dim
        self.qkv, self.out = linear(qkv, bias), linear(out, _detached(part.out_proj.bias))

    def __call__(self, x: Tensor, room: Tensor, start: int, turns: Tensor | None) -> Tensor:
        B, T, _ = x.shape
        G, turning = self.kv_heads, self.heads + self.kv_heads
        projected = self.qkv(x).view(B, T, turning + G, self.dim)
        q_and_k = projected[:, :, :turning]
        if turns is not None:
            pairs = torch.view_as_complex(q_and_k.unflatten(-1, (-1, 2)))  # (B, T, H + G, d / 2)
            q_and_k = torch.view_as_real(pairs * turns[start : start + T]).flatten(-2)
        room[:, :G, start : start + T] = q_and_k[:, :, self.heads :].transpose(1, 2)
        room[:, G:, start : start + T] = projected[:, :, turning:].transpose(1, 2)
        k, v = room[:, :, : start + T].split(G, dim=1)  # (B, G, S, d) each
        q = q_and_k[:, :, : self.heads]
        if T == 1:  # one query per head, the last of all: the heads that share keys are a sequence of queries
            y = scaled_dot_product_attention(q.reshape(B, G, -1, self.dim), k, v)
        else:
            y = attention(q.transpose(1, 2), k, v, causal=True).transpose(1, 2)
        return self.out(y.reshape(B, T, -1))


class _FeedForward:
    """The feed-forward network of one layer."""

    def __init__(self, block: DecoderBlock, up: Tensor, down: Tensor, linear: ProductMaker):
        part = block.feed_forward
        self.gated, self.activation = part.gate is not None, part.activation
        biases = [_detached(layer.bias) for layer in (part.gate, part.up) if layer is not None]
        self.up = linear(up, None if biases[0] is None else torch.cat(biases))
        self.down = linear(down, _detached(part.down.bias))

    def __call__(self, x: Tensor) -> Tensor:
        hidden = self.up(x)
        if self.gated:
            gate, up = hidden.chunk(2, dim=-1)
            return self.down(silu(gate) * up)
        return self.down(self.activation(hidden))


def _detached(x: Tensor | None) -> Tensor | None:
    """A parameter's numbers."""
    return None if x is None else x.detach()


class _Layer:
    """One block of the decoder, with its four matrices side by side in memory."""

    def __init__(self, block: DecoderBlock, turn_in_halves: bool, linear: ProductMaker):
        part, network = block.self_attention, block.feed_forward
        if part.in_proj_weight is None:
            raise ValueError("the model's weights are compressed already; this takes the model before that")
        qkv, bias = part.in_proj_weight.detach(), _detached(part.in_proj_bias)
        if turn_in_halves:  # complex numbers want the pairs side by side
            qkv, bias = (
                x if x is None else _interleaved(x, part.heads + part.kv_heads, part.head_dim) for x in (qkv, bias)
            )
        up = [layer.weight for layer in (network.gate, network.up) if layer is not None]
        matrices = pack(qkv, part.out_proj.weight, torch.cat(up), network.down.weight)
        self.attention = _Attention(block, *matrices[:2], bias, linear)
        self.feed_forward = _FeedForward(block, *matrices[2:], linear)
        self.norms, self.pre = (block.self_attention_norm, block.feed_forward_norm), block.pre

    def __call__(self, x: Tensor, room: Tensor, start: int, turns: Tensor | None) -> Tensor:
        first, second = self.norms
        if self.pre:
            x = x + self.attention(first(x), room, start, turns)
            return x + self.feed_forward(second(x))
        x = first(x + self.attention(x, room, start, turns))
        return second(x + self.feed_forward(x))


def _interleaved(rows: Tensor, turning: int, dim: int) -> Tensor:
    """Rows of queries, keys and values; those of queries and keys in the other layout of rotary positions."""
    turned, rest = rows[: turning * dim], rows[turning * dim :]
    return torch.cat([permute_rows(turned, turning, to="interleaved"), rest])


class GPTDecoder:
    """A `GPT` for decoding on a CPU, without gradients and dropout; `start` and `step` as the model's.

    Args:
        model: its matrices are copied; later changes of them are not seen.
        linear: what makes the products, see `lmcore.nn.matvec`.
    Attributes:
        config: the model's.   weight_bytes: of the matrices that each step reads.
    Raises:
        ValueError: weights that are compressed already, or as `linear`; in `start` and `step` as `GPT`.
    Cost: as much memory as the model again. A `CompiledLinear` compiles at the first step.

    >>> from lmcore.models.gpt import GPTConfig
    >>> generator = torch.Generator().manual_seed(0)
    >>> model = GPT(GPTConfig.gpt2(vocabulary_size=11, context=7, d_model=6, layers=2, heads=3), generator=generator)
    >>> ids, decoder = torch.tensor([[3, 5, 7]]), GPTDecoder(model)
    >>> logits, state = decoder.step(torch.tensor([2]), decoder.start(ids))
    >>> torch.allclose(logits, model(torch.tensor([[3, 5, 7, 2]]))[:, -1], atol=1e-5)
    True
    """

    def __init__(self, model: GPT, *, linear: ProductMaker = CompiledLinear):
        self.config, stack = model.config, model.config.transformer
        halves = model.rotary is not None and model.config.rotary_layout == "half"
        self.embedding, self.positions, self.norm = model.embedding, model.positions, model.decoder.norm
        rotary = model.rotary  # turning a pair is a product with a complex number of length 1: (context, 1, d / 2)
        self._turns = None if rotary is None else torch.complex(rotary.cos, rotary.sin)[:, None]
        self._layers = [_Layer(block, halves, linear) for block in model.decoder.layers]
        self._output = linear(*pack(model.output.weight), None)
        self._own_threads = getattr(linear, "own_threads", False)
        self._heads = (2 * (stack.kv_heads or stack.heads), stack.d_model // stack.heads)
        matrices = [p for name, p in model.decoder.named_parameters() if p.ndim == 2] + [model.output.weight]
        self.weight_bytes = sum(p.numel() * p.element_size() for p in matrices)

    def _embed(self, ids: Tensor, state: DecodingState) -> Tensor:
        """Vectors (B, T, d_model) of ids after those in the state, which gets room for them."""
        end = state.length + ids.shape[1]
        if end > self.config.context:
            raise ValueError(f"{end} tokens are more than the model's context of {self.config.context}")
        x = self.embedding(ids)
        if self.positions is not None:
            x = self.positions(x, state.length)
        state.reserve(end, (len(self._layers), len(ids), *self._heads), x.dtype)
        return x

    @torch.no_grad()
    def _read(self, ids: Tensor, state: DecodingState) -> Tensor:
        """(B, T) ids after those in the state → (B, T, d_model); they are added to the state."""
        x = self._embed(ids, state)
        for layer, room in zip(self._layers, state.room, strict=True):
            x = layer(x, room, state.length, self._turns)
        state.length += ids.shape[1]
        return x if self.norm is None else self.norm(x)

    def start(self, ids: Tensor | None = None) -> DecodingState:
        """The state after a prompt (B, T), read in one pass; without one, before the first token."""
        state = DecodingState(None, 0, self.config.context)
        if ids is not None and ids.shape[1]:
            self._read(ids, state)
        return state

    @torch.no_grad()
    def step(self, tokens: Tensor, state: DecodingState) -> tuple[Tensor, DecodingState]:
        """One more token of each row, (B,) → logits of the next one (B, V), and the state."""
        alone = self._own_threads and len(tokens) == 1
        with _torch_threads(1) if alone else nullcontext():
            return self._output(self._read(tokens[:, None], state)[:, -1]), state
