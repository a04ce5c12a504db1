"""A `GPT` whose step at batch 1 is one compiled function, with weights of 32, 16 or 8 bits.

`GPTDecoder` returns to Python between products, and there are four in each layer. Here the whole step is compiled, and
what is left is reading the weights; then half the bytes take half the time.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lmcore.models.gpt import GPT
from lmcore.models.gpt_decoding import DecodingState, GPTDecoder
from lmcore.nn.matvec import Product, TorchLinear, numba_threads, pack, set_numba_threads
from lmcore.nn.narrow_linear import BFloat16Linear, Int8Linear
from lmcore.optional import need

WEIGHTS = {"float32": TorchLinear, "bfloat16": BFloat16Linear, "int8": Int8Linear}


def _array(x: Tensor) -> np.ndarray:
    """The same memory for numpy, which has no bfloat16."""
    return x.view(torch.uint16).numpy() if x.dtype == torch.bfloat16 else x.numpy()


def _matrices(products: Sequence[Product]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (L, R, C), scales and biases (L, R) of equally large products, which then use the same memory."""
    (weights,) = pack(torch.stack([product.weight for product in products]))
    for product, weight in zip(products, weights, strict=True):
        product.weight = weight
    scales = [getattr(product, "scale", torch.ones(weights.shape[1])) for product in products]
    biases = [torch.zeros(weights.shape[1]) if product.bias is None else product.bias for product in products]
    return _array(weights), torch.stack(scales).numpy(), torch.stack(biases).numpy()


def _norm(norm: torch.nn.Module) -> Tensor:
    """Weight and bias (2, d_model), zero if there is none."""
    weight = norm.weight.detach()
    return torch.stack([weight, torch.zeros_like(weight) if norm.bias is None else norm.bias.detach()])


class CompiledGPTDecoder(GPTDecoder):
    """A `GPT` for decoding one text quickly on a CPU; `start` and `step` as the model's.

    Steps of several rows, and prompts, go through `GPTDecoder`, with the same weights.

    Args:
        model: float32; its matrices are copied, later changes of them are not seen.
        weights: what the copies hold. "float32"; "bfloat16", see `BFloat16Linear`; or "int8", see `Int8Linear`, where
            the vectors that meet them are rounded, too. Keys and values, norms and embeddings are float32.
        threads: of a step, see `lmcore.nn.matvec.numba_threads`; as many as torch has now if None.
    Attributes:
        config: the model's.   weight_bytes: what each step reads of the matrices, with scales.
    Raises:
        ValueError: other weights, a model that is not float32 on the CPU; in `start` and `step` as `GPT`.
        ModuleNotFoundError: numba is missing.
    Cost: 4, 2 or 1 bytes for each weight of a matrix. The first step with weights of one kind compiles, for about ten
        seconds; in later runs of a program, what was compiled is loaded.

    >>> from lmcore.models.gpt import GPTConfig
    >>> generator = torch.Generator().manual_seed(0)
    >>> model = GPT(GPTConfig.gpt2(vocabulary_size=11, context=7, d_model=6, layers=2, heads=3), generator=generator)
    >>> ids, decoder = torch.tensor([[3, 5, 7]]), CompiledGPTDecoder(model)
    >>> logits, state = decoder.step(torch.tensor([2]), decoder.start(ids))
    >>> torch.allclose(logits, model(torch.tensor([[3, 5, 7, 2]]))[:, -1], atol=1e-5)
    True
    """

    def __init__(self, model: GPT, *, weights: str = "float32", threads: int | None = None):
        need("numba", group="text", by="CompiledGPTDecoder")
        if weights not in WEIGHTS:
            raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}, got {weights!r}")
        table = model.output.weight
        if table.dtype != torch.float32 or table.device.type != "cpu":
            raise ValueError(f"the model must be float32 on the CPU, got {table.dtype} on {table.device}")
        super().__init__(model, linear=WEIGHTS[weights])
        self.threads = numba_threads(threads)
        self._build(model)
        matrices = [m for m in self._stack if isinstance(m, tuple)]
        self.weight_bytes = sum(m.weight.nbytes + (weights == "int8") * m.scale.nbytes for m in matrices)

    def _build(self, model: GPT) -> None:
        """The arrays that the compiled step reads."""
        from lmcore.nn.decode_compiled import ACTIVATIONS, Matrices, Shape, Stack

        stack, layers = self.config.transformer, self._layers
        products = [[layer.attention.qkv for layer in layers], [layer.attention.out for layer in layers]]
        products += [[layer.feed_forward.up for layer in layers], [layer.feed_forward.down for layer in layers]]
        qkv, out, up, down, output = (Matrices(*_matrices(some)) for some in [*products, [self._output]])
        norms = [norm for layer in layers for norm in layer.norms]
        norms.append(norms[-1] if self.norm is None else self.norm)  # one that is not used
        self._stack = Stack(qkv, out, up, down, torch.stack([_norm(norm) for norm in norms]).numpy(), output)
        self._shape = Shape(
            stack.heads, stack.kv_heads or stack.heads, stack.norm_eps, stack.norm == "layer", stack.order == "pre",
            ACTIVATIONS.index(stack.activation),
        )  # fmt: skip
        none = torch.empty(self.config.context, 0)
        rotary = model.rotary
        self._angles = [x.numpy() for x in ((none, none) if rotary is None else (rotary.cos, rotary.sin))]

    @torch.no_grad()
    def step(self, tokens: Tensor, state: DecodingState) -> tuple[Tensor, DecodingState]:
        """One more token of each row, (B,) → logits of the next one (B, V), and the state."""
        if len(tokens) != 1:
            return super().step(tokens, state)
        from lmcore.nn.decode_compiled import step

        x = self._embed(tokens[:, None], state).reshape(-1).numpy()
        set_numba_threads(self.threads)  # another decoder may have other ones
        logits = step(x, self._stack, state.room[:, 0].numpy(), state.length, *self._angles, self._shape)
        state.length += 1
        return torch.from_numpy(logits)[None], state
