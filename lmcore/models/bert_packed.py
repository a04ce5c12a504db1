"""BERT over many texts without a single padded token: all tokens of a batch stand in one long row.

Norms, linear layers and activations treat each token by itself, so they need not know where a text ends. Only attention
must. If the texts are sorted by length, those of one length stand together, and attention takes them as one batch that
has neither padding nor a mask. What a text becomes does then not depend on what stands beside it.

So the row can also be cut between any two texts, and on a CPU each thread takes pieces of it through all layers.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, groupby

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from lmcore.models.bert import BERT
from lmcore.nn.attention import attention
from lmcore.nn.fused_int8 import FusedInt8Linear
from lmcore.nn.fused_linear import FusedLinear
from lmcore.nn.norm import LayerNorm
from lmcore.nn.threads import map_in_threads
from lmcore.nn.transformer_block import EncoderBlock

_PIECE = 64, 512  # tokens that a thread takes at once: less is not worth a thread, and more gains nothing


def cut(texts: Sequence[Sequence[int]], tokens: int) -> Iterator[Sequence[Sequence[int]]]:
    """Cut texts into pieces, in their order, of at most so many tokens, or of one text that has more.

    >>> list(cut([[1], [2], [3, 4, 5], [6]], 2))
    [[[1], [2]], [[3, 4, 5]], [[6]]]
    """
    start = total = 0
    for place, text in enumerate(texts):
        if place > start and total + len(text) > tokens:
            yield texts[start:place]
            start, total = place, 0
        total += len(text)
    if len(texts) > start:
        yield texts[start:]


class PackedBERT:
    """The vectors of a `BERT`, for reading only.

    Args:
        model: whose blocks are as the paper's, in the order "post", with layer norms, GELU and biases, and without
            `neighbour_bias`. Its weights are copied: what is learnt later is not seen. Dropout is never applied.
        dtype: in which the blocks compute; torch.int8: their linear layers multiply 8-bit codes, see
            `lmcore.nn.fused_int8`, and all else is float32.
    Raises:
        ValueError: other blocks, or weights that are compressed already.
    Cost: as the model, for the real tokens only.

    >>> from lmcore.models.bert import BERTConfig
    >>> config = BERTConfig.standard(vocabulary_size=11, d_model=6, layers=2, heads=3)
    >>> model = BERT(config).eval()
    >>> packed = PackedBERT(model)([[3, 5, 7], [4]])
    >>> torch.allclose(packed[:3], model(torch.tensor([[3, 5, 7]]))[0], atol=1e-5)
    True
    """

    def __init__(self, model: BERT, *, dtype: torch.dtype = torch.float32):
        stack = model.config.transformer
        found = {"order": stack.order, "norm": stack.norm, "activation": stack.activation, "bias": stack.bias}
        found["neighbours"] = model.config.neighbours
        wanted = {"order": "post", "norm": "layer", "activation": "gelu", "bias": True, "neighbours": False}
        for name, value in wanted.items():
            if found[name] != value:
                raise ValueError(f"the model's {name} is {found[name]!r}; this is for {value!r}, as in the paper")
        self.config, self.device = model.config, model.tokens.weight.device
        self.dtype = torch.float32 if dtype == torch.int8 else dtype
        self._tokens = model.tokens.weight.detach().clone()
        self._places = (model.positions.weight + model.segments.weight[0]).detach()  # all is segment 0
        self._norm = _Norm(model.norm, self._tokens.dtype)
        made = {block: _Block(block, dtype) for block in model.encoder.layers}  # a shared layer is made once
        self._blocks = [made[block] for block in model.encoder.layers]

    def __call__(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Read some texts.

        Args:
            texts: ids of each; none empty, none of more than max_length. Best sorted by length.
        Returns:
            (N, d_model) vectors of the N tokens, text after text, in dtype (float32 for int8).
        Raises:
            ValueError: no text, an empty one, one with more tokens than positions, or an id outside the vocabulary.
        """
        lengths = [len(ids) for ids in texts]
        if not lengths or not 1 <= min(lengths) <= max(lengths) <= self.config.max_length:
            raise ValueError(f"texts must have 1 … {self.config.max_length} tokens each, got {lengths or 'no text'}")
        low, high = min(map(min, texts)), max(map(max, texts))
        if low < 0 or high >= len(self._tokens):
            raise ValueError(f"ids must be 0 … {len(self._tokens) - 1}, got {low} … {high}")
        if self.device.type != "cpu":
            return self._read(texts)
        share = -(-sum(lengths) // torch.get_num_threads())
        least, most = _PIECE
        return torch.cat(map_in_threads(self._read, list(cut(texts, min(max(share, least), most)))))

    @torch.inference_mode()
    def _read(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """The vectors of some texts, by one thread or as torch shares its operations out."""
        lengths = [len(ids) for ids in texts]
        ids = torch.tensor(list(chain.from_iterable(texts)), device=self.device)
        places = torch.tensor(list(chain.from_iterable(map(range, lengths))), device=self.device)
        runs = [(len(list(run)), length) for length, run in groupby(lengths)]  # how many, and how long
        x = self._norm(self._tokens[ids] + self._places[places]).to(self.dtype)
        for block in self._blocks:
            x = block(x, runs)
        return x


class _Norm:
    """A layer norm with fixed weights."""

    def __init__(self, norm: LayerNorm, dtype: torch.dtype):
        self._shape, self._eps = (norm.dim,), norm.eps
        self._weight, self._bias = (x.detach().to(dtype, copy=True) for x in (norm.weight, norm.bias))

    def __call__(self, x: Tensor) -> Tensor:
        return layer_norm(x, self._shape, self._weight, self._bias, self._eps)


class _Block:
    """An `EncoderBlock` in the order "post", for packed vectors."""

    def __init__(self, block: EncoderBlock, dtype: torch.dtype):
        own, network = block.self_attention, block.feed_forward
        if own.in_proj_weight is None:
            raise ValueError("the model's weights are compressed already; this takes the model before that")
        self._heads, self._kv_heads, self._head_dim = own.heads, own.kv_heads, own.head_dim
        int8 = dtype == torch.int8
        linear = FusedInt8Linear if int8 else partial(FusedLinear, dtype=dtype)
        self._in = linear(own.in_proj_weight, own.in_proj_bias)
        self._out = linear(own.out_proj.weight, own.out_proj.bias)
        self._up = linear(network.up.weight, network.up.bias, **({"rounded": True} if int8 else {}))  # for down only
        self._down = linear(network.down.weight, network.down.bias)
        norm_dtype = torch.float32 if int8 else dtype
        self._attention_norm = _Norm(block.self_attention_norm, norm_dtype)
        self._network_norm = _Norm(block.feed_forward_norm, norm_dtype)

    def __call__(self, x: Tensor, runs: Sequence[tuple[int, int]]) -> Tensor:
        x = self._attention_norm(self._out(self._attend(self._in(x), runs), residual=x))
        return self._network_norm(self._down(self._up(x, activation="gelu"), residual=x))

    def _attend(self, together: Tensor, runs: Sequence[tuple[int, int]]) -> Tensor:
        """(N, (H + 2G) d) queries, keys and values → (N, H d), each text by itself, those of one length at once."""
        parts = []
        for part, (n, T) in zip(together.split([n * T for n, T in runs]), runs, strict=True):
            heads = part.view(n, T, -1, self._head_dim).transpose(1, 2)  # (n, H + 2G, T, d)
            y = attention(*heads.split([self._heads, self._kv_heads, self._kv_heads], dim=1))
            parts.append(y.transpose(1, 2).reshape(n * T, -1))
        return torch.cat(parts)
