"""Plausible wrong answers, and what must be said to each."""

import numpy as np

from lmcore.checking import mutant


def _plan(A, tolerance, *, limit=None, best=None, factor=None, round_=np.ceil):
    """A plan of which one part can be wrong."""
    values = np.linalg.eigvalsh(A)
    low, high = values[0], values[-1]
    steps = np.log(tolerance) / np.log(factor(high / low) if factor else (high - low) / (high + low))
    return (
        limit(low, high) if limit else 2 / high,
        best(low, high) if best else 2 / (high + low),
        int(round_(steps)),
    )


@mutant("descent_plan", rejected_with="a safe rate, but not yet the limit")
def stops_at_the_first_rate_that_is_safe(A, tolerance):
    return _plan(A, tolerance, limit=lambda low, high: 1 / high)


@mutant("descent_plan", rejected_with="steepest direction sets the limit")
def takes_the_flattest_direction(A, tolerance):
    return _plan(A, tolerance, limit=lambda low, high: 2 / low)


@mutant("descent_plan", rejected_with="Let both shrink alike")
def kills_the_steepest_direction(A, tolerance):
    return _plan(A, tolerance, best=lambda low, high: 1 / high)


@mutant("descent_plan", rejected_with="Half the best rate")
def forgets_the_two(A, tolerance):
    return _plan(A, tolerance, best=lambda low, high: 1 / (low + high))


@mutant("descent_plan", rejected_with="1 − 1/κ")
def uses_the_factor_of_another_rate(A, tolerance):
    return _plan(A, tolerance, factor=lambda kappa: 1 - 1 / kappa)


@mutant("descent_plan", rejected_with="needs momentum")
def promises_what_momentum_can_do(A, tolerance):
    return _plan(A, tolerance, factor=lambda kappa: (kappa**0.5 - 1) / (kappa**0.5 + 1))


@mutant("descent_plan", rejected_with="round up")
def rounds_down(A, tolerance):
    return _plan(A, tolerance, round_=np.floor)


@mutant("descent_plan", rejected_with="round up")
def rounds_to_the_nearest(A, tolerance):
    return _plan(A, tolerance, round_=np.rint)


@mutant("descent_plan", rejected_with="the loss shrinks by the square")
def takes_the_loss_for_the_distance(A, tolerance):
    return _plan(A, tolerance, factor=lambda kappa: ((kappa - 1) / (kappa + 1)) ** 2)


@mutant("momentum_step", rejected_with="You averaged")
def averages(w, v, g, lr, beta, nesterov):
    v = beta * v + (1 - beta) * g
    return w - lr * (g + beta * v if nesterov else v), v


@mutant("momentum_step", rejected_with="does not contain the rate")
def has_the_rate_in_the_velocity(w, v, g, lr, beta, nesterov):
    v = beta * v - lr * g
    return w + (beta * v - lr * g if nesterov else v), v


@mutant("momentum_step", rejected_with="with the old velocity: renew")
def steps_before_renewing(w, v, g, lr, beta, nesterov):
    return w - lr * v, beta * v + g


@mutant("momentum_step", rejected_with="with the *old* velocity")
def looks_ahead_with_the_old_velocity(w, v, g, lr, beta, nesterov):
    new = beta * v + g
    return w - lr * (g + beta * v if nesterov else new), new


@mutant("momentum_step", rejected_with="plain step, although nesterov")
def ignores_nesterov(w, v, g, lr, beta, nesterov):
    v = beta * v + g
    return w - lr * v, v


@mutant("momentum_step", rejected_with="wrote into the given arrays")
def works_in_place(w, v, g, lr, beta, nesterov):
    v *= beta
    v += g
    return w - lr * (g + beta * v if nesterov else v), v


@mutant("adam", rejected_with="Without the bias correction")
def has_no_correction(w, gradients, lr, beta1, beta2, eps):
    m = s = 0
    for g in gradients:
        m, s = beta1 * m + (1 - beta1) * g, beta2 * s + (1 - beta2) * g**2
        w = w - lr * m / (np.sqrt(s) + eps)
    return w


@mutant("adam", rejected_with="1 − β⁰ = 0")
def counts_from_zero(w, gradients, lr, beta1, beta2, eps):
    m = s = 0
    with np.errstate(all="ignore"):
        for t, g in enumerate(gradients):
            m, s = beta1 * m + (1 - beta1) * g, beta2 * s + (1 - beta2) * g**2
            w = w - lr * np.divide(m, 1 - beta1**t) / (np.sqrt(np.divide(s, 1 - beta2**t)) + eps)
    return w


@mutant("adam", rejected_with="but not the mean of squares")
def corrects_one_mean(w, gradients, lr, beta1, beta2, eps):
    m = s = 0
    for t, g in enumerate(gradients, start=1):
        m, s = beta1 * m + (1 - beta1) * g, beta2 * s + (1 - beta2) * g**2
        w = w - lr * m / (1 - beta1**t) / (np.sqrt(s) + eps)
    return w


@mutant("adam", rejected_with="stored the corrected means back")
def keeps_the_corrected_means(w, gradients, lr, beta1, beta2, eps):
    m = s = 0
    for t, g in enumerate(gradients, start=1):
        m, s = beta1 * m + (1 - beta1) * g, beta2 * s + (1 - beta2) * g**2
        m, s = m / (1 - beta1**t), s / (1 - beta2**t)
        w = w - lr * m / (np.sqrt(s) + eps)
    return w


@mutant("adam", rejected_with="ε stands outside the root")
def puts_eps_into_the_root(w, gradients, lr, beta1, beta2, eps):
    m = s = 0
    for t, g in enumerate(gradients, start=1):
        m, s = beta1 * m + (1 - beta1) * g, beta2 * s + (1 - beta2) * g**2
        w = w - lr * m / (1 - beta1**t) / np.sqrt(s / (1 - beta2**t) + eps)
    return w


@mutant("adam", rejected_with="RMSProp with a correction")
def divides_the_gradient_itself(w, gradients, lr, beta1, beta2, eps):
    s = 0
    for t, g in enumerate(gradients, start=1):
        s = beta2 * s + (1 - beta2) * g**2
        w = w - lr * g / (np.sqrt(s / (1 - beta2**t)) + eps)
    return w


@mutant("adam", rejected_with="stays at step 1")
def never_raises_beta_to_the_step(w, gradients, lr, beta1, beta2, eps):
    m = s = 0
    for g in gradients:
        m, s = beta1 * m + (1 - beta1) * g, beta2 * s + (1 - beta2) * g**2
        w = w - lr * m / (1 - beta1) / (np.sqrt(s / (1 - beta2)) + eps)
    return w


def _first(w, g, lr, eps, square=None):
    """The first step of Adam."""
    return w - lr * g / (np.abs(g if square is None else square) + eps)


@mutant("first_steps", rejected_with="must not pass through the means")
def takes_them_for_the_same(w, g, lr, gamma, eps):
    both = _first(w, g + gamma * w, lr, eps)
    return both, both


@mutant("first_steps", rejected_with="multiplied by the learning rate")
def decays_without_the_rate(w, g, lr, gamma, eps):
    return _first(w, g + gamma * w, lr, eps), _first(w, g, lr, eps) - gamma * w


@mutant("first_steps", rejected_with="not 2γw")
def forgets_the_half(w, g, lr, gamma, eps):
    return _first(w, g + 2 * gamma * w, lr, eps), _first(w, g, lr, eps) - lr * gamma * w


@mutant("first_steps", rejected_with="after the step")
def shrinks_afterwards(w, g, lr, gamma, eps):
    return _first(w, g + gamma * w, lr, eps), _first(w, g, lr, eps) * (1 - lr * gamma)


@mutant("first_steps", rejected_with="in the wrong order")
def exchanges_the_two(w, g, lr, gamma, eps):
    return _first(w, g, lr, eps) - lr * gamma * w, _first(w, g + gamma * w, lr, eps)


@mutant("first_steps", rejected_with="not corrected")
def forgets_the_correction(w, g, lr, gamma, eps):
    def step(g):
        return lr * 0.1 * g / (np.sqrt(0.001 * g**2) + eps)

    return w - step(g + gamma * w), w - lr * gamma * w - step(g)


@mutant("first_steps", rejected_with="first mean only")
def hides_the_penalty_from_the_squares(w, g, lr, gamma, eps):
    return _first(w, g + gamma * w, lr, eps, g), _first(w, g, lr, eps) - lr * gamma * w


@mutant("first_steps", rejected_with="not negligible here")
def steps_by_the_sign(w, g, lr, gamma, eps):
    return w - lr * np.sign(g + gamma * w), w - lr * gamma * w - lr * np.sign(g)


def _rate(done, peak, warmup, total, last, *, rise=None, tau=None, shape=None, end=True):
    """A schedule of which one part can be wrong."""
    if done < warmup:
        return rise(done, warmup) * peak if rise else peak * (done + 1) / (warmup + 1)
    share = tau(done, warmup, total) if tau else (done - warmup) / (total - warmup)
    share = min(1, share) if end else share
    cosine = (1 + np.cos(np.pi * share)) / 2
    return shape(share, peak, last) if shape else last + (peak - last) * cosine


@mutant("rate", rejected_with="first step has the rate zero")
def wastes_the_first_step(done, peak, warmup, total, last):
    return _rate(done, peak, warmup, total, last, rise=lambda done, warmup: done / warmup)


@mutant("rate", rejected_with="The cosine begins at `warmup`")
def measures_the_cosine_from_zero(done, peak, warmup, total, last):
    return _rate(done, peak, warmup, total, last, tau=lambda done, warmup, total: done / total)


@mutant("rate", rejected_with="yours is not over at `total`")
def falls_too_slowly(done, peak, warmup, total, last):
    return _rate(done, peak, warmup, total, last, tau=lambda done, warmup, total: (done - warmup) / total)


@mutant("rate", rejected_with="falls to zero, not to `last`")
def ignores_last(done, peak, warmup, total, last):
    return _rate(done, peak, warmup, total, last, shape=lambda tau, peak, last: peak * (1 + np.cos(np.pi * tau)) / 2)


@mutant("rate", rejected_with="the π is missing")
def forgets_pi(done, peak, warmup, total, last):
    return _rate(
        done, peak, warmup, total, last, shape=lambda tau, peak, last: last + (peak - last) * (1 + np.cos(tau)) / 2
    )


@mutant("rate", rejected_with="should stay at")
def rises_again_after_the_end(done, peak, warmup, total, last):
    return _rate(done, peak, warmup, total, last, end=False)


@mutant("rate", rejected_with="add one to `done`")
def begins_the_warm_up_at_zero(done, peak, warmup, total, last):
    return _rate(done, peak, warmup, total, last, rise=lambda done, warmup: done / (warmup + 1))


@mutant("rate", rejected_with="one step early: it ends")
def ends_one_step_early(done, peak, warmup, total, last):
    return _rate(
        done, peak, warmup, total, last, tau=lambda done, warmup, total: (done - warmup) / (total - 1 - warmup)
    )


def _norm(gradients):
    """The norm of all gradients together."""
    return np.sqrt(sum((g**2).sum() for g in gradients))


@mutant("clip", rejected_with="clipped every number by itself")
def clips_by_value(gradients, limit):
    return [np.clip(g, -limit, limit) for g in gradients], _norm(gradients)


@mutant("clip", rejected_with="by its own norm")
def clips_each_array(gradients, limit):
    return [g * min(1, limit / np.linalg.norm(g)) for g in gradients], _norm(gradients)


@mutant("clip", rejected_with="was made longer")
def always_scales(gradients, limit):
    norm = _norm(gradients)
    return [g * limit / norm for g in gradients], norm


@mutant("clip", rejected_with="added up the norms")
def adds_the_norms(gradients, limit):
    norm = sum(np.linalg.norm(g) for g in gradients)
    return [g * min(1, limit / norm) for g in gradients], norm


@mutant("clip", rejected_with="the norm after clipping")
def returns_the_norm_afterwards(gradients, limit):
    norm = _norm(gradients)
    clipped = [g * min(1, limit / norm) for g in gradients]
    return clipped, _norm(clipped)


@mutant("clip", rejected_with="wrote into the given arrays")
def scales_in_place(gradients, limit):
    norm = _norm(gradients)
    for g in gradients:
        g *= min(1, limit / norm)
    return gradients, norm


@mutant("clip", rejected_with="look out for 0/0")
def divides_by_zero(gradients, limit):
    norm = _norm(gradients)
    return [g * np.minimum(1, limit * np.divide(norm, norm) / norm) for g in gradients], norm


def _descend(X, y, steps, update):
    """Steps from zero with the right rate and gradient."""
    n = len(y)
    lr = 1 / np.linalg.eigvalsh(X.T @ X / n)[-1]
    w = np.zeros(X.shape[1])
    for _ in range(steps):
        w = update(w, X.T @ (X @ w - y) / n, lr)
    return w


def _soft(w, amount):
    """Soft-thresholding."""
    return np.sign(w) * np.maximum(np.abs(w) - amount, 0)


@mutant("sparse_regression", rejected_with="You thresholded by γ")
def thresholds_by_gamma(X, y, gamma, steps):
    return _descend(X, y, steps, lambda w, g, lr: _soft(w - lr * g, gamma))


@mutant("sparse_regression", rejected_with="never stays there")
def follows_the_sign(X, y, gamma, steps):
    return _descend(X, y, steps, lambda w, g, lr: w - lr * (g + gamma * np.sign(w)))


@mutant("sparse_regression", rejected_with="That is an L2 penalty")
def shrinks_by_a_share(X, y, gamma, steps):
    return _descend(X, y, steps, lambda w, g, lr: w - lr * (g + gamma * w))


@mutant("sparse_regression", rejected_with="hard thresholding")
def thresholds_hard(X, y, gamma, steps):
    return _descend(X, y, steps, lambda w, g, lr: np.where(np.abs(w - lr * g) > lr * gamma, w - lr * g, 0))


@mutant("sparse_regression", rejected_with="pushed across zero")
def does_not_stop_at_zero(X, y, gamma, steps):
    def update(w, g, lr):
        w = w - lr * g
        return np.sign(w) * (np.abs(w) - lr * gamma)

    return _descend(X, y, steps, update)


@mutant("sparse_regression", rejected_with="n times too small")
def forgets_n_in_the_rate(X, y, gamma, steps):
    n = len(y)
    return _descend(X, y, steps, lambda w, g, lr: _soft(w - lr / n * g, lr / n * gamma))


@mutant("sparse_regression", rejected_with="missing in the gradient and in")
def forgets_n_twice(X, y, gamma, steps):
    n = len(y)
    return _descend(X, y, steps, lambda w, g, lr: _soft(w - lr * g, lr / n * gamma))


@mutant("sparse_regression", rejected_with="twice the one asked for")
def takes_the_limit_as_the_rate(X, y, gamma, steps):
    return _descend(X, y, steps, lambda w, g, lr: _soft(w - 2 * lr * g, 2 * lr * gamma))


@mutant("sparse_regression", rejected_with="thresholded before the gradient step")
def thresholds_first(X, y, gamma, steps):
    def update(w, g, lr):
        w = _soft(w, lr * gamma)
        return w - lr * (X.T @ (X @ w - y) / len(y))

    return _descend(X, y, steps, update)
