"""Linear layers whose weight is stored as codes."""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from lmcore.compress.affine import Grid, Quantized, Scheme, check_finite, quantize
from lmcore.compress.integer_matmul import affine_product
from lmcore.compress.packing import pack, unpack


class CompressedLinear(Module):
    """What can stand in the place of a linear layer: (x / input_scale) Wᵀ + b, with W stored in some shorter form.

    A subclass says how W is stored: it has `dequantized`, and `describe` and `blank` for files.

    Args:
        shape: (out_features, in_features) of W.
        bias: (out_features,), or None.
        input_scale: (in_features,), by which the inputs are divided, as W was multiplied by it; or None.
    Raises:
        ValueError: bias or input_scale of another length, or an input_scale that is not above 0.
    """

    bias: Tensor | None
    input_scale: Tensor | None

    def __init__(self, shape: tuple[int, int], bias: Tensor | None = None, *, input_scale: Tensor | None = None):
        super().__init__()
        self.out_features, self.in_features = shape
        for name, value, length in (("bias", bias, shape[0]), ("input_scale", input_scale, shape[1])):
            if value is not None and value.shape != (length,):
                raise ValueError(f"{name} has shape {tuple(value.shape)}, must be ({length},)")
            self.register_buffer(name, None if value is None else value.detach().clone())
        if input_scale is not None and not (input_scale > 0).all():
            raise ValueError(f"input_scale must be above 0, got {input_scale.min().item():g}")

    def dequantized(self, rows: slice = slice(None)) -> Tensor:
        """Some rows of W, (rows, in_features) float32."""
        raise NotImplementedError(f"{type(self).__name__} does not say how its weight is stored")

    def describe(self) -> dict[str, Any]:
        """What `blank` needs to know, of types that JSON has."""
        raise NotImplementedError(f"{type(self).__name__} cannot be saved")

    @classmethod
    def blank(cls, description: dict[str, Any]) -> "CompressedLinear":
        """A layer with buffers of the right shapes and any contents, to be filled by `load_state_dict`."""
        raise NotImplementedError(f"{cls.__name__} cannot be loaded")

    def forward(self, x: Tensor, rows: slice = slice(None)) -> Tensor:
        """(…, in_features) → (…, rows): all of them, or some, as if W had no others."""
        if x.shape[-1:] != (self.in_features,):
            raise ValueError(f"x has shape {tuple(x.shape)}, but must end in in_features = {self.in_features}")
        return self._multiply(x if self.input_scale is None else x / self.input_scale, rows)

    def _bias(self, rows: slice, dtype: torch.dtype) -> Tensor | None:
        """The biases of some rows."""
        return None if self.bias is None else self.bias[rows].to(dtype)

    def _multiply(self, x: Tensor, rows: slice) -> Tensor:
        """The product with dequantised rows, in x's dtype."""
        return torch.nn.functional.linear(x, self.dequantized(rows).to(x.dtype), self._bias(rows, x.dtype))

    def extra_repr(self) -> str:
        """What stands between the brackets of the repr."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def _check_activations(activations: Scheme | Grid | None, weight: Scheme) -> None:
    """Refuse grids whose scale cannot stand before a sum of products of codes."""
    if activations is None:
        return
    scheme = activations.scheme if isinstance(activations, Grid) else activations
    if scheme.per == "group" or not scheme.exact_zero:
        raise ValueError(f'activations must be quantised per "row" or "tensor", with exact_zero, got {scheme}')
    if weight.per == "group" or not weight.exact_zero:
        raise ValueError(f"quantised activations need a weight with one grid per row and exact_zero, got {weight}")
    if isinstance(activations, Grid) and scheme.per != "tensor":
        raise ValueError(f'a fixed grid for activations must be per "tensor", got {scheme.per!r}')


class QuantizedLinear(CompressedLinear):
    """A linear layer whose weight lies on affine grids, packed; its inputs may be quantised too.

    Args:
        quantized: (out, in), the weight.   bias, input_scale: see `CompressedLinear`.
        activations: None: the weight is dequantised, and floats are multiplied. A `Scheme`: *dynamic*, each call finds
            grids for its inputs, per="row" one for each token. A `Grid` per tensor, from calibration: *static*, inputs
            beyond it are cut off. With the latter two, codes are multiplied as whole numbers, which needs a weight with
            a grid per row or tensor and exact zero.
    Attributes:
        packed, scale, zero_point, minimum: buffers, see `pack` and `Grid`; all that a file needs, besides `describe()`.
        scheme: of the weight.   activations: as given.
    Raises:
        ValueError: quantized is no matrix, or activations that whole numbers cannot be multiplied with; in `forward`,
            x of another length, or not finite where it is quantised.
    Cost: with activations=None a few passes over the weight for each call, besides the product: it saves memory, not
        time. Else see `affine_product`, and a few passes over x, fewer if static; there are no gradients then.
    Differs: casting the layer to a shorter dtype rounds its scales, too.

    >>> from lmcore.compress.affine import quantize
    >>> layer = QuantizedLinear(quantize(torch.tensor([[1.0, -7.0], [3.5, 0.0]]), Scheme(bits=4)))
    >>> layer.packed.tolist(), layer(torch.tensor([1.0, 1.0])).tolist()       # codes 1, −7 and 7, 0
    ([[145], [7]], [-6.0, 3.5])
    """

    def __init__(
        self,
        quantized: Quantized,
        bias: Tensor | None = None,
        *,
        activations: Scheme | Grid | None = None,
        input_scale: Tensor | None = None,
    ):
        if quantized.codes.ndim != 2:
            raise ValueError(f"quantized must be a matrix (out, in), got shape {tuple(quantized.codes.shape)}")
        super().__init__(tuple(quantized.codes.shape), bias, input_scale=input_scale)
        _check_activations(activations, quantized.scheme)
        self.scheme = quantized.scheme
        self.register_buffer("packed", pack(quantized.codes, self.scheme.bits).clone())
        self._register_grid("", quantized.grid)
        static = isinstance(activations, Grid)
        self._activation_scheme = activations.scheme if static else activations
        if static:
            self._register_grid("activation_", activations)

    def _register_grid(self, prefix: str, grid: Grid) -> None:
        """Keep a grid's tensors in buffers; zero points, which are codes, in a byte each."""
        self.register_buffer(f"{prefix}scale", grid.scale.detach().clone())
        zero_point = None if grid.zero_point is None else grid.zero_point.to(torch.uint8)
        self.register_buffer(f"{prefix}zero_point", zero_point)
        self.register_buffer(f"{prefix}minimum", None if grid.minimum is None else grid.minimum.detach().clone())

    @property
    def activations(self) -> Scheme | Grid | None:
        """How inputs are quantised."""
        if not hasattr(self, "activation_scale"):
            return self._activation_scheme
        zero_point = None if self.activation_zero_point is None else self.activation_zero_point.to(torch.int32)
        return Grid(scheme=self._activation_scheme, scale=self.activation_scale, zero_point=zero_point)

    def quantized(self, rows: slice = slice(None)) -> Quantized:
        """Some rows of the weight, unpacked."""
        scale, zero_point, minimum = (
            tensor if tensor is None or tensor.ndim == 0 else tensor[rows]
            for tensor in (self.scale, self.zero_point, self.minimum)
        )
        zero_point = None if zero_point is None else zero_point.to(torch.int32)
        grid = Grid(scheme=self.scheme, scale=scale, zero_point=zero_point, minimum=minimum)
        codes = unpack(self.packed[rows], self.scheme.bits, self.in_features, signed=self.scheme.symmetric)
        return Quantized(codes=codes, grid=grid)

    def dequantized(self, rows: slice = slice(None)) -> Tensor:
        """Some rows of the weight, (rows, in_features) float32."""
        return self.quantized(rows).dequantize()

    def _multiply(self, x: Tensor, rows: slice) -> Tensor:
        """The product of floats, or of codes."""
        activations = self.activations
        if activations is None:
            return super()._multiply(x, rows)
        with torch.no_grad():
            weight, flat = self.quantized(rows), x.reshape(-1, self.in_features)
            if len(flat) == 0:
                return x.new_zeros(*x.shape[:-1], len(weight.codes))
            if isinstance(activations, Grid):
                check_finite(flat)
                quantized = Quantized(codes=activations.encode(flat), grid=activations)
            else:
                quantized = quantize(flat, activations)
            y = affine_product(quantized, weight).to(x.dtype).view(*x.shape[:-1], -1)
            bias = self._bias(rows, x.dtype)
            return y if bias is None else y + bias

    def describe(self) -> dict[str, Any]:
        """Shape, schemes, and which parts there are."""
        return {
            "shape": [self.out_features, self.in_features],
            "scheme": asdict(self.scheme),
            "bias": self.bias is not None,
            "input_scale": self.input_scale is not None,
            "activations": None if self._activation_scheme is None else asdict(self._activation_scheme),
            "static": hasattr(self, "activation_scale"),
        }

    @classmethod
    def blank(cls, description: dict[str, Any]) -> "QuantizedLinear":
        """A layer of zeros, of the same shape and schemes."""
        rows, columns = description["shape"]
        activations = description["activations"] and Scheme(**description["activations"])
        if description["static"]:
            activations = quantize(torch.zeros(1), activations).grid
        return cls(
            quantize(torch.zeros(rows, columns), Scheme(**description["scheme"])),
            torch.zeros(rows) if description["bias"] else None,
            activations=activations,
            input_scale=torch.ones(columns) if description["input_scale"] else None,
        )

    def extra_repr(self) -> str:
        """What stands between the brackets of the repr."""
        grid = "asymmetric" if not self.scheme.symmetric else "symmetric"
        per = self.scheme.per if self.scheme.group_size is None else f"group of {self.scheme.group_size}"
        kind = "static" if hasattr(self, "activation_scale") else "dynamic"
        inputs = "" if self._activation_scheme is None else f", {kind} {self._activation_scheme.bits}-bit inputs"
        return f"{super().extra_repr()}, {self.scheme.bits} bits, {grid} per {per}{inputs}"
