"""Static quantisation: the grids of activations are fixed beforehand, from a few batches of typical data.

A fixed grid costs nothing at each call, where a dynamic one costs a pass over the inputs. In return it is only as good
as the data that it was made from: what lies beyond its range is cut off. `clipped_shares` counts how much that is.
"""

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from lmcore.compress.affine import Grid, Scheme, find_grid, quantize
from lmcore.compress.calibration import Histogram, choose_range, numbers_wanted
from lmcore.compress.inputs import call, see_inputs
from lmcore.compress.linear import QuantizedLinear
from lmcore.compress.replace import matrices, replace


def calibrate(model: Module, batches: Iterable[Any], *, names: Iterable[str] | None = None) -> dict[str, Histogram]:
    """Histograms of what comes into the matrices of a model while it reads batches.

    Args, raises: see `lmcore.compress.inputs.see_inputs`.
    Returns:
        By the matrices' names; a matrix that no batch has reached is missing.
    Cost: a forward pass for each batch, and a few passes over all inputs.

    >>> calibrate(torch.nn.Linear(2, 1), [torch.tensor([[1.0, -2.0]])])[""].low
    -2.0
    """
    histograms: dict[str, Histogram] = {}
    see_inputs(model, batches, lambda name, x: histograms.setdefault(name, Histogram()).add(x), names=names)
    return histograms


def activation_grids(
    histograms: dict[str, Histogram], activations: Scheme, method: str = "percentile", *, share: float = 0.9999
) -> dict[str, Grid]:
    """Fixed grids for the inputs of matrices.

    Args:
        histograms: as `calibrate` returns.   activations: a scheme per tensor.
        method, share: see `choose_range`.
    Raises:
        ValueError: a scheme that is not per tensor, or as `choose_range`.
    Warns:
        UserWarning: matrices with fewer numbers than the method should see; how many, and the least.
    """
    if activations.per != "tensor":
        raise ValueError(f'fixed grids for activations must be per "tensor", got {activations.per!r}')
    wanted = numbers_wanted(activations, method, share)
    few = {name: h for name, h in histograms.items() if h.count < wanted}
    if few:
        name, least = min(few.items(), key=lambda item: item[1].count)
        warnings.warn(
            f"{len(few)} of {len(histograms)} matrices are calibrated on fewer than {wanted:,} numbers, which {method} "
            f"with {activations.bits} bits should see: {name!r} on {least.count:,} in {least.batches} batches",
            stacklevel=3,
        )
    grids = {}
    for name, histogram in histograms.items():
        low, high = choose_range(histogram, activations, method, share=share, warn=False)
        grids[name] = find_grid(torch.zeros(1), activations, low=low, high=high)
    return grids


def quantize_static(
    model: Module,
    batches: Iterable[Any],
    *,
    scheme: Scheme | None = None,
    activations: Scheme | None = None,
    method: str = "percentile",
    share: float = 0.9999,
    names: Iterable[str] | None = None,
) -> Module:
    """A copy of a model that multiplies whole numbers, with fixed grids for the activations.

    Args:
        batches: typical data, see `see_inputs`.
        scheme: of the weights, symmetric with 8 bits per row if None.
        activations: asymmetric with 8 bits per tensor if None.
        method, share: how the range is chosen, see `choose_range`.
        model, names: see `replace`.
    Raises:
        ValueError: names that no batch has reached (if names is None, those stay as they are), or as `calibrate`,
            `activation_grids` and `QuantizedLinear`.
    Warns:
        UserWarning: too few numbers; matrices that no batch has reached; matrices that cannot be replaced.

    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3))
    >>> quantize_static(model, [torch.linspace(-1, 1, 8192).view(-1, 4)], method="min-max")
    Sequential(
      (0): QuantizedLinear(in_features=4, out_features=3, bias=True, 8 bits, symmetric per row, static 8-bit inputs)
    )
    """
    scheme = scheme or Scheme()
    wanted = None if names is None else list(names)
    histograms = calibrate(model, batches, names=wanted)
    grids = activation_grids(histograms, activations or Scheme(symmetric=False, per="tensor"), method, share=share)
    candidates = [name for name, m in matrices(model).items() if not m.tied] if wanted is None else wanted
    missing = [name for name in candidates if name not in grids]
    if missing:
        message = f"no batch has reached {', '.join(missing)}: their inputs have no range"
        if wanted is not None or not grids:
            raise ValueError(message)
        warnings.warn(f"{message}, they stay as they are", stacklevel=2)

    def make(name: str, weight: Tensor, bias: Tensor | None) -> Module | None:
        return QuantizedLinear(quantize(weight, scheme), bias, activations=grids[name])

    return replace(model, make, names=list(grids))


class _Counter:
    """Counts how many of a layer's inputs lie beyond its grid."""

    def __init__(self, layer: QuantizedLinear):
        grid = layer.activations
        lowest, highest = grid.scheme.codes
        self.low, self.high = grid.decode(torch.tensor([lowest, highest])) + grid.scale * torch.tensor([-0.5, 0.5])
        self.outside = self.count = 0

    def __call__(self, layer: QuantizedLinear, inputs: tuple) -> None:
        x = inputs[0] if layer.input_scale is None else inputs[0] / layer.input_scale
        self.outside += int(((x < self.low) | (x > self.high)).sum())
        self.count += x.numel()


@torch.no_grad()
def clipped_shares(model: Module, batches: Iterable[Any], *, limit: float = 0.01) -> dict[str, float]:
    """The share of inputs that fixed grids cut off: it tells whether data are like those of the calibration.

    Args:
        model: from `quantize_static`.   batches: other data.
        limit: above which share is warned.
    Returns:
        By the dotted names of the layers: the share of numbers more than half a step beyond the range, 0 … 1.
    Raises:
        ValueError: no layer with a fixed grid, or no batch that reaches one.
    Warns:
        UserWarning: layers above the limit; how many, and the worst one with its share.

    >>> model = quantize_static(torch.nn.Linear(4, 3), [torch.linspace(-1, 1, 8192).view(-1, 4)], method="min-max")
    >>> clipped_shares(model, [torch.tensor([0.0, 0.5, 1.0, 5.0])], limit=0.5)
    {'': 0.25}
    """
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, QuantizedLinear) and isinstance(module.activations, Grid)
    }
    counters = {name: _Counter(layer) for name, layer in layers.items()}
    handles = [layer.register_forward_pre_hook(counters[name]) for name, layer in layers.items()]
    was_training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        for batch in batches:
            call(model, batch)
    finally:
        for handle in handles:
            handle.remove()
        for module in was_training:
            module.training = True
    shares = {name: counter.outside / counter.count for name, counter in counters.items() if counter.count}
    if not shares:
        raise ValueError(f"none of {len(layers)} layers with a fixed grid was reached by a batch")
    worst = max(shares, key=shares.get)
    if shares[worst] > limit:
        above = sum(share > limit for share in shares.values())
        warnings.warn(
            f"{above} of {len(shares)} layers cut off more than {limit:.1%} of their inputs, {worst!r} "
            f"{shares[worst]:.1%}: was the model calibrated on data like this?",
            stacklevel=3,
        )
    return shares
