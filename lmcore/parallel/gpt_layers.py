"""A GPT as a row of layers, each of which maps one tensor to the next: the form in which it can be cut into stages."""

from __future__ import annotations

from torch import Tensor
from torch.nn import Module

from lmcore.models.gpt import GPT


class GPTFront(Module):
    """What stands before a `GPT`'s blocks: ids become vectors, with positions and dropout.

    The layers of this file hold the model's own parameters. The model's check of its context's length is kept.
    """

    def __init__(self, model: GPT):
        super().__init__()
        self.context = model.config.context
        self.embedding, self.positions, self.dropout = model.embedding, model.positions, model.dropout

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) → (B, T, d_model)."""
        if ids.ndim != 2 or ids.shape[1] > self.context:
            raise ValueError(f"ids has shape {tuple(ids.shape)}, must be (B, T) with T at most {self.context}")
        x = self.embedding(ids)
        return self.dropout(x if self.positions is None else self.positions(x))


class GPTBlock(Module):
    """One of a `GPT`'s blocks, with the rotary positions if the model has them."""

    def __init__(self, model: GPT, number: int):
        super().__init__()
        self.block, self.rotary = model.decoder.layers[number], model.rotary

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d_model) → the same shape."""
        return self.block(x, rotary=self.rotary)


class GPTBack(Module):
    """What stands behind a `GPT`'s blocks: the last norm, if there is one, and the scores of all words."""

    def __init__(self, model: GPT):
        super().__init__()
        self.norm, self.output = model.decoder.norm, model.output

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d_model) → (B, T, V) logits."""
        return self.output(x if self.norm is None else self.norm(x))


def gpt_layers(model: GPT) -> list[Module]:
    """The layers of a GPT in order: embedding, blocks, output. One after the other they are the model.

    Args:
        model: keeps its parameters; if they are tied, the first layer and the last share them.

    >>> import torch
    >>> from lmcore.models.gpt import GPTConfig
    >>> model = GPT(GPTConfig.gpt2(vocabulary_size=11, context=7, d_model=6, layers=3, heads=2))
    >>> layers, ids = gpt_layers(model), torch.tensor([[3, 5, 7]])
    >>> len(layers), torch.equal(torch.nn.Sequential(*layers)(ids), model(ids))
    (5, True)
    """
    blocks = [GPTBlock(model, number) for number in range(len(model.decoder.layers))]
    return [GPTFront(model), *blocks, GPTBack(model)]
