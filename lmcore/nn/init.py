"""How large should random weights be? Just so large that signals neither grow nor fade from layer to layer.

A unit that sums n = fan_in inputs of variance v with weights of variance s² has variance n s² v: s² = 1 / fan_in keeps
it. Gradients, on their way back, are summed over fan_out units, and want s² = 1 / fan_out. Glorot and Bengio take
2 / (fan_in + fan_out), between the two; He et al. add a *gain* for what the nonlinearity takes away: relu halves the
mean square, so s² = 2 / fan_in. A uniform distribution on [−a, a] has variance a² / 3, hence a = √3 s.

Like torch's, these functions write into a tensor and return it, and draw the same numbers from the same generator.
"""

import math

import torch
from torch import Tensor

_GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2)}


def fan_in_and_fan_out(weight: Tensor) -> tuple[int, int]:
    """How many inputs one unit sums, and to how many units one input goes.

    Args:
        weight: (out, in, …); further axes (those of a convolution's kernel) multiply both numbers.
    Raises:
        ValueError: fewer than two axes, or an axis of length 0.

    >>> fan_in_and_fan_out(torch.empty(5, 3)), fan_in_and_fan_out(torch.empty(5, 3, 2, 2))
    ((3, 5), (12, 20))
    """
    if weight.ndim < 2 or weight.numel() == 0:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}; fan-in and fan-out need (out, in, …), each at least 1"
        )
    kernel = math.prod(weight.shape[2:])
    return weight.shape[1] * kernel, weight.shape[0] * kernel


def gain(nonlinearity: str, *, slope: float = 0.01) -> float:
    """How much larger weights must be to make up for a nonlinearity.

    Args:
        nonlinearity: "linear", "sigmoid" (1, by custom), "tanh" (5/3, by experience), "relu" (√2: it halves the mean
            square), "leaky_relu" (√(2 / (1 + slope²))).
        slope: of leaky_relu below zero.
    Raises:
        ValueError: another name.

    >>> gain("relu") ** 2, gain("leaky_relu", slope=1.0)   # slope 1 is linear
    (2.0000000000000004, 1.0)
    """
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        raise ValueError(f"nonlinearity must be one of {', '.join([*_GAINS, 'leaky_relu'])}, got {nonlinearity!r}")
    return _GAINS[nonlinearity]


def normal_(weight: Tensor, *, mean: float = 0.0, std: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
    """Fill with normal numbers.

    Raises:
        ValueError: std < 0.
    """
    if not std >= 0:
        raise ValueError(f"std must be at least 0, got {std}")
    with torch.no_grad():
        return weight.normal_(mean, std, generator=generator)


def uniform_(
    weight: Tensor, *, low: float = 0.0, high: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    """Fill with numbers that are evenly spread over [low, high).

    Raises:
        ValueError: low > high.
    """
    if not low <= high:
        raise ValueError(f"low must not exceed high, got low={low}, high={high}")
    with torch.no_grad():
        return weight.uniform_(low, high, generator=generator)


def zeros_(weight: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Fill with zeros; the generator is taken, and not used, so that any function of this file fits a parameter."""
    with torch.no_grad():
        return weight.zero_()


def xavier_uniform_(weight: Tensor, *, gain: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
    """Uniform numbers of variance gain² · 2 / (fan_in + fan_out).

    Args:
        weight: (out, in, …).   gain: for the nonlinearity that follows, see `gain`.
        generator: the source of randomness; torch's global one if None.
    Raises:
        ValueError: as `fan_in_and_fan_out`.
    Source: Glorot and Bengio 2010, eq. 16.

    >>> bound = math.sqrt(6 / (3 + 5))
    >>> float(xavier_uniform_(torch.empty(5, 3)).abs().max()) <= bound
    True
    """
    bound = math.sqrt(3) * gain * math.sqrt(2 / sum(fan_in_and_fan_out(weight)))
    return uniform_(weight, low=-bound, high=bound, generator=generator)


def xavier_normal_(weight: Tensor, *, gain: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
    """Normal numbers of variance gain² · 2 / (fan_in + fan_out); see `xavier_uniform_`."""
    return normal_(weight, std=gain * math.sqrt(2 / sum(fan_in_and_fan_out(weight))), generator=generator)


def _kaiming_std(weight: Tensor, mode: str, nonlinearity: str, slope: float) -> float:
    """√(gain² / fan)."""
    fans = dict(zip(("fan_in", "fan_out"), fan_in_and_fan_out(weight), strict=True))
    if mode not in fans:
        raise ValueError(f'mode must be "fan_in" or "fan_out", got {mode!r}')
    return gain(nonlinearity, slope=slope) / math.sqrt(fans[mode])


def kaiming_uniform_(
    weight: Tensor,
    *,
    nonlinearity: str = "relu",
    slope: float = 0.01,
    mode: str = "fan_in",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Uniform numbers of variance gain² / fan_in, also called He's initialisation.

    Args:
        weight: (out, in, …).
        nonlinearity: what follows the layer, one of those that `gain` knows.   slope: of leaky_relu.
        mode: "fan_in" keeps the size of the signals, "fan_out" that of the gradients.
        generator: the source of randomness; torch's global one if None.
    Raises:
        ValueError: another mode or nonlinearity, or as `fan_in_and_fan_out`.
    Source: He et al. 2015, eqs. 10 and 14.
    Differs: torch's default nonlinearity is leaky_relu with slope a = 0, which is relu under another name.

    >>> bound = math.sqrt(6 / 3)
    >>> float(kaiming_uniform_(torch.empty(5, 3)).abs().max()) <= bound
    True
    """
    bound = math.sqrt(3) * _kaiming_std(weight, mode, nonlinearity, slope)
    return uniform_(weight, low=-bound, high=bound, generator=generator)


def kaiming_normal_(
    weight: Tensor,
    *,
    nonlinearity: str = "relu",
    slope: float = 0.01,
    mode: str = "fan_in",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Normal numbers of variance gain² / fan_in; see `kaiming_uniform_`."""
    return normal_(weight, std=_kaiming_std(weight, mode, nonlinearity, slope), generator=generator)
