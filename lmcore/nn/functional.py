"""Softmax, losses and dropout: each a formula on tensors, stable for logits of any size. Also all of `activations`.

torch differentiates what is composed of its operations. Where that would lead through 0/0, or take many more passes
over memory than needed, a small `torch.autograd.Function` states the derivative that the mathematics gives. And where
one of torch's kernels does several steps in one pass, the steps stand beside it, and a test holds both equal.
"""

import math

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from lmcore.nn.activations import gelu, gelu_in_steps, leaky_relu, relu, sigmoid, silu, softplus, tanh

__all__ = [
    "binary_cross_entropy_with_logits", "cross_entropy", "dropout", "gelu", "gelu_in_steps", "leaky_relu",
    "log_softmax", "log_softmax_in_steps", "logsumexp", "mse_loss", "relu", "sigmoid", "silu", "softmax",
    "softmax_in_steps", "softplus", "tanh",
]  # fmt: skip

# ---- softmax and its logarithm ----


class _LogSumExp(torch.autograd.Function):
    """The gradient is eˣ / Σ eˣ; here 0, and not 0/0, where all x are −∞."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, dim: int) -> Tensor:
        highest = x.amax(dim, keepdim=True)
        highest = highest.masked_fill(highest.isinf(), 0)  # ∞ − ∞ is not a number
        y = highest.squeeze(dim) + torch.exp(x - highest).sum(dim).log()
        ctx.dim = dim
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: FunctionCtx, g: Tensor) -> tuple[Tensor, None]:
        x, y = ctx.saved_tensors
        finite = y.masked_fill(y == -math.inf, 0)
        return g.unsqueeze(ctx.dim) * torch.exp(x - finite.unsqueeze(ctx.dim)), None


def logsumexp(x: Tensor, dim: int = -1) -> Tensor:
    """Logarithm of Σ eˣ along an axis, computed as m + log Σ eˣ⁻ᵐ with m the largest x: no power exceeds e⁰.

    Args:
        x: any shape.   dim: the axis that is summed over, and is missing in the result.
    Returns:
        log Σ eˣ; −∞ where all x are −∞, with gradient 0.
    Differs: torch's gradient is NaN there.

    >>> logsumexp(torch.log(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))).exp().round(decimals=4)
    tensor([3., 7.])
    """
    return _LogSumExp.apply(x, dim)


def softmax_in_steps(x: Tensor, dim: int = -1) -> Tensor:
    """What `softmax` computes, step by step; each step is a pass over memory, which costs more than its arithmetic.

    >>> softmax_in_steps(torch.tensor([0.0, math.log(3)]))
    tensor([0.2500, 0.7500])
    """
    powers = torch.exp(x - x.amax(dim, keepdim=True))
    return powers / powers.sum(dim, keepdim=True)


def softmax(x: Tensor, dim: int = -1, *, temperature: float = 1.0) -> Tensor:
    """Probabilities in the proportions of e^(x / temperature) along an axis.

    Args:
        x: logits, any shape. −∞ gives probability 0; a row of −∞ alone has no distribution and gives NaN, as in torch.
        dim: the axis along which the probabilities add up to one.
        temperature: > 0; below 1 sharpens the distribution, above 1 flattens it.
    Raises:
        ValueError: temperature ≤ 0.

    >>> softmax(torch.tensor([1e4, 1e4 + math.log(4)]), temperature=2.0)   # 1 : √4
    tensor([0.3333, 0.6667])
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above zero, got {temperature}; for the limit 0 take argmax")
    if temperature != 1:  # the largest is subtracted first: x / temperature could overflow
        x = (x - x.amax(dim, keepdim=True).detach()) / temperature
    return torch.softmax(x, dim)  # softmax_in_steps in one pass


def log_softmax_in_steps(x: Tensor, dim: int = -1) -> Tensor:
    """What `log_softmax` computes: x − logsumexp(x), after the largest was subtracted, lest large x cost digits.

    >>> x = torch.tensor([1e4, 1e4 + 1])   # p = 1 : e, log p = −1.3133 and −0.3133
    >>> log_softmax_in_steps(x), x - logsumexp(x)
    (tensor([-1.3133, -0.3133]), tensor([-1.3135, -0.3135]))
    """
    shifted = x - x.amax(dim, keepdim=True)
    return shifted - logsumexp(shifted, dim).unsqueeze(dim)


def log_softmax(x: Tensor, dim: int = -1) -> Tensor:
    """Logarithms of the softmax's probabilities, finite even where the probabilities underflow.

    Args:
        x: logits, any shape.   dim: the axis along which the probabilities add up to one.

    >>> log_softmax(torch.tensor([0.0, 1e4]))
    tensor([-10000.,      0.])
    """
    return torch.log_softmax(x, dim)  # log_softmax_in_steps in one pass


# ---- losses ----


def mse_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over all numbers.

    Raises:
        ValueError: shapes that differ. Differs: torch broadcasts them after a warning, and averages nonsense.

    >>> mse_loss(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
    tensor(2.)
    """
    if pred.shape != target.shape:
        raise ValueError(f"pred has shape {tuple(pred.shape)}, target {tuple(target.shape)}; they must be equal")
    return ((pred - target) ** 2).mean()


class _CrossEntropy(torch.autograd.Function):
    """Mean over N rows of −Σ q log p, with p the softmax of the logits; its gradient by them is (p − q) / N.

    q gives the target 1 − s and spreads s over all V classes; s = 0 is the usual one-hot row.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, targets: Tensor, s: float) -> Tensor:
        ctx.save_for_backward(logits, targets)
        ctx.s = s
        log_p = log_softmax(logits)  # (N, V)
        loss = -log_p.gather(1, targets[:, None]).mean()
        return (1 - s) * loss - s * log_p.mean() if s else loss

    @staticmethod
    def backward(ctx: FunctionCtx, g: Tensor) -> tuple[Tensor, None, None]:
        logits, targets = ctx.saved_tensors
        n, n_classes = logits.shape
        difference = softmax(logits)  # p, and after the next steps p − q
        if torch.is_grad_enabled():  # someone wants a second derivative, which needs p as it is
            difference = difference.clone()
        difference.scatter_add_(1, targets[:, None], difference.new_full((n, 1), ctx.s - 1))
        if ctx.s:
            difference -= ctx.s / n_classes
        return difference.mul_(g / n), None, None


def _check_targets(logits: Tensor, targets: Tensor, ignore_index: int | None) -> None:
    """Refuse targets of another type or shape, and one that is no class: say which."""
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise ValueError(f"targets must be whole numbers, the ids of the classes, got {targets.dtype}")
    *shape, n_classes = logits.shape
    if list(targets.shape) != shape:
        raise ValueError(
            f"targets has shape {tuple(targets.shape)}, but logits {tuple(logits.shape)} needs {tuple(shape)}: "
            "one id for each row of logits"
        )
    wrong = (targets < 0) | (targets >= n_classes)
    if ignore_index is not None:
        wrong &= targets != ignore_index
    if wrong.any():
        where = tuple(wrong.nonzero()[0].tolist())
        raise ValueError(
            f"targets[{', '.join(map(str, where))}] = {targets[where]} is outside 0 … {n_classes - 1}: "
            f"there are {n_classes} classes"
        )


def cross_entropy(
    logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0, ignore_index: int | None = None
) -> Tensor:
    """Average surprise at the right classes: the mean of −log softmax(logits)[target], natural logarithm.

    Args:
        logits: (…, V) scores of V classes.
        targets: (…) ids in 0 … V − 1, of a whole-number type.
        label_smoothing: share s of each target's probability that is spread evenly over all classes, in [0, 1].
        ignore_index: rows with this target do not count, neither in the sum nor in the number it is divided by.
    Returns:
        One number, nats per row that counts.
    Raises:
        ValueError: targets of another shape or type or outside the range, no row that counts, label_smoothing ∉ [0, 1].
    Differs: torch wants the classes on axis 1, ignores −100 unasked, and returns NaN where no row counts.

    >>> logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]]))
    >>> cross_entropy(logits, torch.tensor([0, 2])) / math.log(2)   # (1 bit + 2 bits) / 2
    tensor(1.5000)
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be in [0, 1], got {label_smoothing}")
    _check_targets(logits, targets, ignore_index)
    logits, targets = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1).long()
    if ignore_index is not None:
        kept = targets != ignore_index
        logits, targets = logits[kept], targets[kept]
    if not len(targets):
        raise ValueError(f"no row counts: logits is empty, or all targets are ignore_index = {ignore_index}")
    return _CrossEntropy.apply(logits, targets, label_smoothing)


def binary_cross_entropy_with_logits(logits: Tensor, targets: Tensor, *, pos_weight: Tensor | None = None) -> Tensor:
    """Average surprise at many yes-or-no labels: the mean of −y log σ(x) − (1 − y) log(1 − σ(x)) over all numbers.

    Since −log σ(x) = softplus(−x) and −log(1 − σ(x)) = softplus(x), no probability is ever computed.

    Args:
        logits: (…, L) log-odds x of L labels; unlike classes, they need not exclude each other.
        targets: the same shape, y in [0, 1]; of any type.
        pos_weight: (L,) or a shape that broadcasts to it; how much more a "yes" counts than a "no".
    Returns:
        One number, nats per label.
    Raises:
        ValueError: shapes that differ, a target outside [0, 1], or a pos_weight that does not fit.

    >>> binary_cross_entropy_with_logits(torch.tensor([0.0, 1e4]), torch.tensor([1, 1])) / math.log(2)
    tensor(0.5000)
    """
    if logits.shape != targets.shape:
        raise ValueError(f"logits has shape {tuple(logits.shape)}, targets {tuple(targets.shape)}; they must be equal")
    outside = ~((targets >= 0) & (targets <= 1))
    if outside.any():
        raise ValueError(
            f"targets holds {targets[outside][0]}, but each is 0 (no), 1 (yes) or between: not a class's id"
        )
    y, yes = targets.to(logits.dtype), softplus(-logits)
    if pos_weight is not None:
        n_labels = logits.shape[-1:]
        if pos_weight.shape not in (n_labels, torch.Size(), torch.Size([1])):
            raise ValueError(
                f"pos_weight has shape {tuple(pos_weight.shape)}, must be {tuple(n_labels)}: one per label"
            )
        yes = pos_weight * yes
    return (y * yes + (1 - y) * softplus(logits)).mean()


# ---- dropout ----


def dropout(x: Tensor, p: float, *, generator: torch.Generator | None = None) -> Tensor:
    """Set each number to zero with probability p, and divide the others by 1 − p, so that the expectation stays.

    Args:
        x: any shape.   p: in [0, 1).   generator: the source of randomness; torch's global one if None.
    Raises:
        ValueError: p outside [0, 1).
    Source: Srivastava et al. 2014, in the form that scales in training.   Differs: torch allows p = 1.

    >>> dropout(torch.ones(2), 0.0)
    tensor([1., 1.])
    """
    if not 0 <= p < 1:
        raise ValueError(f"p must be in [0, 1), got {p}")
    if p == 0:
        return x
    return x * torch.empty_like(x).bernoulli_(1 - p, generator=generator).div_(1 - p)
