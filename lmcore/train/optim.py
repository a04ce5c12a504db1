"""Optimizers: how a gradient becomes a step. Each class is one update rule, written as its paper has it.

With g the gradient of a parameter θ, η the learning rate, and all operations elementwise:

    SGD       v ← μv + g                               θ ← θ − ηv
    Adagrad   s ← s + g²                               θ ← θ − ηg / (√s + ε)
    RMSProp   s ← αs + (1−α)g²                         θ ← θ − ηg / (√s + ε)
    Adadelta  s ← ρs + (1−ρ)g²,  Δ = g √(d+ε)/√(s+ε),  θ ← θ − ηΔ,  d ← ρd + (1−ρ)Δ²
    Adam      m ← β₁m + (1−β₁)g, s ← β₂s + (1−β₂)g²    θ ← θ − η (m/(1−β₁ᵗ)) / (√(s/(1−β₂ᵗ)) + ε)
    AdamW     as Adam, after                           θ ← θ − ηλθ

The trajectories are those of ``torch.optim`` to the last bit, since the operations come in the same order; the names of
settings and of state are torch's too. Unlike torch: dense real tensors only, no closures, and a learning rate of zero
is refused, for it is nearly always a mistake.
"""

from typing import Any

import torch
from torch import Tensor

from lmcore.train.optimizer import Optimizer, Parameters, State, check_setting

__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSProp"]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and Nesterov's variant of it.

    v ← μv + (1−τ)g,  θ ← θ − ηv;  with ``nesterov``  θ ← θ − η(g + μv).

    Args:
        lr: learning rate η, > 0.
        momentum: μ in [0, 1).   dampening: τ in [0, 1).
        weight_decay: λ ≥ 0, adds λθ to the gradient.
    Source: Robbins and Monro 1951; Polyak 1964; Nesterov's in the form of Sutskever et al. 2013.
    Differs: Polyak's v already holds η; the two agree while η is constant. As in torch, the first v is g itself.

    >>> theta = torch.tensor([1.0], requires_grad=True)
    >>> theta.grad = torch.tensor([2.0])
    >>> SGD([theta], lr=0.1).step()
    >>> round(theta.item(), 6)
    0.8
    """

    def __init__(
        self,
        params: Parameters,
        lr: float,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
    ):
        settings = {"momentum": momentum, "nesterov": nesterov, "dampening": dampening}
        super().__init__(params, lr=lr, weight_decay=weight_decay, **settings)

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        check_setting("momentum", group["momentum"], low=0.0, below=1.0)
        check_setting("dampening", group["dampening"], low=0.0, below=1.0)
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise ValueError("nesterov needs momentum above 0 and dampening 0")

    def _new_state(self, parameter: Tensor, group: dict[str, Any]) -> State:
        return {}

    def _update(self, parameter: Tensor, gradient: Tensor, state: State, group: dict[str, Any]) -> None:
        if group["momentum"]:
            if "momentum_buffer" in state:
                state["momentum_buffer"].mul_(group["momentum"]).add_(gradient, alpha=1 - group["dampening"])
            else:
                state["momentum_buffer"] = gradient.clone()
            velocity = state["momentum_buffer"]
            gradient = gradient.add(velocity, alpha=group["momentum"]) if group["nesterov"] else velocity
        parameter.add_(gradient, alpha=-group["lr"])


class Adagrad(Optimizer):
    """A step size for each number, which shrinks with all the gradients that it has seen.

    s ← s + g²,  θ ← θ − ηg / (√s + ε).

    Source: Duchi, Hazan and Singer 2011, the diagonal version.
    Differs: the paper has √(δ + s); torch and this have √s + ε.
    """

    def __init__(self, params: Parameters, lr: float = 0.01, *, eps: float = 1e-10, weight_decay: float = 0.0):
        super().__init__(params, lr=lr, eps=eps, weight_decay=weight_decay)

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        check_setting("eps", group["eps"], low=0.0)

    def _new_state(self, parameter: Tensor, group: dict[str, Any]) -> State:
        return {"sum": torch.zeros_like(parameter)}

    def _update(self, parameter: Tensor, gradient: Tensor, state: State, group: dict[str, Any]) -> None:
        total = state["sum"].addcmul_(gradient, gradient)
        parameter.addcdiv_(gradient, total.sqrt().add_(group["eps"]), value=-group["lr"])


class RMSProp(Optimizer):
    """Adagrad with a short memory: a running mean of squares in place of their sum.

    s ← αs + (1−α)g²,  θ ← θ − ηg / (√s + ε);  ``centered``: √(s − m²) with m the running mean of g;
    ``momentum``: v ← μv + g / (√s + ε),  θ ← θ − ηv.

    Source: Tieleman and Hinton 2012, lecture 6.5; centered as Graves 2013.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 0.01,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        centered: bool = False,
        weight_decay: float = 0.0,
    ):
        settings = {"alpha": alpha, "eps": eps, "momentum": momentum, "centered": centered}
        super().__init__(params, lr=lr, weight_decay=weight_decay, **settings)

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        check_setting("alpha", group["alpha"], low=0.0, below=1.0)
        check_setting("momentum", group["momentum"], low=0.0, below=1.0)
        check_setting("eps", group["eps"], low=0.0)

    def _new_state(self, parameter: Tensor, group: dict[str, Any]) -> State:
        names = ["square_avg"] + ["momentum_buffer"] * (group["momentum"] > 0) + ["grad_avg"] * group["centered"]
        return {name: torch.zeros_like(parameter) for name in names}

    def _update(self, parameter: Tensor, gradient: Tensor, state: State, group: dict[str, Any]) -> None:
        alpha = group["alpha"]
        square = state["square_avg"].mul_(alpha).addcmul_(gradient, gradient, value=1 - alpha)
        if group["centered"]:
            mean = state["grad_avg"].lerp_(gradient, 1 - alpha)
            square = square.addcmul(mean, mean, value=-1)
        scale = square.sqrt().add_(group["eps"])
        if group["momentum"]:
            velocity = state["momentum_buffer"].mul_(group["momentum"]).addcdiv_(gradient, scale)
            parameter.add_(velocity, alpha=-group["lr"])
        else:
            parameter.addcdiv_(gradient, scale, value=-group["lr"])


class Adadelta(Optimizer):
    """RMSProp whose steps have the parameter's own unit: the learning rate is replaced by the size of recent steps.

    s ← ρs + (1−ρ)g²,  Δ = g √(d + ε) / √(s + ε),  θ ← θ − ηΔ,  d ← ρd + (1−ρ)Δ².

    Source: Zeiler 2012, algorithm 1, where η = 1.
    """

    def __init__(
        self, params: Parameters, lr: float = 1.0, *, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0.0
    ):
        super().__init__(params, lr=lr, rho=rho, eps=eps, weight_decay=weight_decay)

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        check_setting("rho", group["rho"], low=0.0, below=1.0)
        check_setting("eps", group["eps"], low=0.0, above=True)  # with 0 the first step would be 0, and all others

    def _new_state(self, parameter: Tensor, group: dict[str, Any]) -> State:
        return {"square_avg": torch.zeros_like(parameter), "acc_delta": torch.zeros_like(parameter)}

    def _update(self, parameter: Tensor, gradient: Tensor, state: State, group: dict[str, Any]) -> None:
        rho, eps = group["rho"], group["eps"]
        scale = state["square_avg"].mul_(rho).addcmul_(gradient, gradient, value=1 - rho).add(eps).sqrt_()
        delta = state["acc_delta"].add(eps).sqrt_().div_(scale).mul_(gradient)
        state["acc_delta"].mul_(rho).addcmul_(delta, delta, value=1 - rho)
        parameter.add_(delta, alpha=-group["lr"])


class Adam(Optimizer):
    """Momentum over RMSProp, both corrected for their start at zero.

    m ← β₁m + (1−β₁)g,  s ← β₂s + (1−β₂)g²,  θ ← θ − η (m / (1−β₁ᵗ)) / (√(s / (1−β₂ᵗ)) + ε).

    Args:
        weight_decay: λ ≥ 0, adds λθ to the gradient, and so is divided by √s like everything else. For weights that
            decay at the rate one asked for, see ``AdamW``.
    Source: Kingma and Ba 2015, algorithm 1.

    >>> theta = torch.tensor([1.0], requires_grad=True)
    >>> theta.grad = torch.tensor([1000.0])   # the first step has the size lr, whatever the gradient's
    >>> Adam([theta], lr=0.1).step()
    >>> round(theta.item(), 6)
    0.9
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        if len(group["betas"]) != 2:
            raise ValueError(f"betas must be two numbers, got {group['betas']!r}")
        for number, beta in enumerate(group["betas"], start=1):
            check_setting(f"beta {number}", beta, low=0.0, below=1.0)
        check_setting("eps", group["eps"], low=0.0)

    def _new_state(self, parameter: Tensor, group: dict[str, Any]) -> State:
        return {"step": 0, "exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}

    def _update(self, parameter: Tensor, gradient: Tensor, state: State, group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        state["step"] += 1
        mean = state["exp_avg"].lerp_(gradient, 1 - beta1)
        square = state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        correction1, correction2 = 1 - beta1 ** state["step"], 1 - beta2 ** state["step"]
        scale = (square.sqrt() / correction2**0.5).add_(group["eps"])
        parameter.addcdiv_(mean, scale, value=-group["lr"] / correction1)


class AdamW(Adam):
    """Adam whose weight decay is a step of its own: θ ← θ − ηλθ, not divided by anything.

    Source: Loshchilov and Hutter 2019, algorithm 2.
    Differs: the paper multiplies the decay by the schedule alone; torch and this by the learning rate as well.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        super().__init__(params, lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def _decayed(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        return parameter.grad
