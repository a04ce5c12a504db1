"""Time for memory: forget the activations of a part of the model, and compute them again when the gradient needs them.

`Recomputed` is a layer around a layer, `recompute` a function around a function, and `SavedMemory` counts the bytes
that autograd keeps, so that one can see what it brings.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter


class _Recompute(torch.autograd.Function):
    """Forward without a graph; backward makes the graph from the inputs that were kept, and goes through it."""

    @staticmethod
    def forward(ctx: Any, _tracked: Tensor, function: Callable, generators: Sequence, *inputs: Any) -> Tensor:
        """Compute, and keep the inputs and the states of randomness only."""
        ctx.function, ctx.generators = function, generators
        ctx.states = [_get(generator) for generator in generators]
        ctx.is_tensor = [isinstance(x, Tensor) for x in inputs]
        ctx.others = [x for x in inputs if not isinstance(x, Tensor)]
        ctx.save_for_backward(*(x for x in inputs if isinstance(x, Tensor)))
        return function(*inputs)  # autograd.Function runs this without recording

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        """Draw the same random numbers again, and hand on the gradients of the inputs."""
        tensors, others = iter(ctx.saved_tensors), iter(ctx.others)
        inputs = [next(tensors).detach() if tensor else next(others) for tensor in ctx.is_tensor]
        wanted = ctx.needs_input_grad[3:]
        for x, needed in zip(inputs, wanted, strict=True):
            if needed:
                x.requires_grad_()
        now = [_get(generator) for generator in ctx.generators]
        for generator, state in zip(ctx.generators, ctx.states, strict=True):
            _set(generator, state)
        try:
            with torch.enable_grad():
                y = ctx.function(*inputs)
        finally:
            for generator, state in zip(ctx.generators, now, strict=True):
                _set(generator, state)
        if y.requires_grad:
            torch.autograd.backward(y, gradient)  # adds to the parameters' gradients
        return None, None, None, *(x.grad if needed else None for x, needed in zip(inputs, wanted, strict=True))


def _get(generator: torch.Generator | str) -> Tensor:
    """The state of a generator, or of the global one of a kind of device."""
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    return torch.get_rng_state() if generator == "cpu" else torch.get_device_module(generator).get_rng_state()


def _set(generator: torch.Generator | str, state: Tensor) -> None:
    """Put a state back."""
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif generator == "cpu":
        torch.set_rng_state(state)
    else:
        torch.get_device_module(generator).set_rng_state(state)


def recompute(
    function: Callable[..., Tensor], *inputs: Any, generators: Iterable[torch.Generator | None] = ()
) -> Tensor:
    """``function(*inputs)``, of which only the inputs are kept for the backward pass.

    Args:
        function: a layer, say; it must do the same when it is called again, but for the random numbers it draws.
        inputs: tensors, or anything else.
        generators: whose states are put back for the second call, beside torch's global ones.
    Returns:
        A tensor; gradients reach the inputs and the parameters inside.
    Cost: one more forward pass: 4/3 of the operations of training. Memory: the inputs, and while the gradient is
        computed one time what the function keeps.
    Source: Chen et al. 2016.
    Differs: torch.utils.checkpoint.checkpoint also restores autocast and knows no generators but the global ones.

    >>> x = torch.tensor(3.0, requires_grad=True)
    >>> recompute(lambda x: x * x, x).backward()
    >>> x.grad
    tensor(6.)
    """
    own = {id(g): g for g in generators if g is not None}.values()
    kinds = {"cpu"} | {x.device.type for x in inputs if isinstance(x, Tensor)} - {"meta"}
    # Inputs such as word ids have no gradient, but the parameters inside do: a tensor that says so must go in.
    tracked = torch.empty(0, requires_grad=True)
    return _Recompute.apply(tracked, function, [*sorted(kinds), *own], *inputs)


class Recomputed(Module):
    """A layer whose activations are computed again in the backward pass.

    Args:
        layer: keeps its parameters. Generators of its own, as dropout may have, are found and put back too.

    >>> layer = Recomputed(torch.nn.Linear(3, 5))
    >>> layer(torch.ones(2, 3)).shape
    torch.Size([2, 5])
    """

    def __init__(self, layer: Module):
        super().__init__()
        self.layer = layer

    def forward(self, *inputs: Any) -> Tensor:
        """As the layer's, which must return one tensor."""
        if not torch.is_grad_enabled():
            return self.layer(*inputs)
        generators = (getattr(module, "generator", None) for module in self.layer.modules())
        return recompute(self.layer, *inputs, generators=generators)


class SavedMemory:
    """Counts the bytes of the tensors that autograd keeps for backward passes, as long as it keeps them.

    A context manager: what is computed inside is counted, and no longer counted when its backward pass has freed it.
    Each storage counts once, and those of parameters never.

    Attributes:
        now, peak: bytes.

    >>> x = torch.ones(7, requires_grad=True)
    >>> with SavedMemory() as memory:
    ...     y = x.exp()                   # exp keeps its result, 7 numbers of 4 bytes
    >>> memory.now, y.sum().backward(), memory.now, memory.peak
    (28, None, 0, 28)
    """

    def __init__(self):
        self.now = self.peak = 0
        self._users: dict[int, int] = {}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda held: held.tensor)

    def _pack(self, tensor: Tensor) -> _Held:
        """Count a tensor; it counts until autograd drops what is returned."""
        held = _Held(tensor)
        if not isinstance(tensor, Parameter) and not isinstance(tensor._base, Parameter):
            storage = tensor.untyped_storage()
            key, size = storage.data_ptr(), storage.nbytes()
            self._users[key] = self._users.get(key, 0) + 1
            if self._users[key] == 1:
                self.now += size
                self.peak = max(self.peak, self.now)
            weakref.finalize(held, self._drop, key, size)
        return held

    def _drop(self, key: int, size: int) -> None:
        """One holder of a storage is gone."""
        self._users[key] -= 1
        if not self._users[key]:
            self.now -= size

    def __enter__(self) -> SavedMemory:
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)


class _Held:
    """What autograd keeps in place of a tensor."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor
