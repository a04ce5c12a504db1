"""Checks of the exercises on optimization; the inputs are drawn anew from each seed."""

from functools import partial

import numpy as np

from lmcore.checking import Tasks, refuse, require, same

tasks = Tasks()
check = tasks.check
TOLERANCE = {"rtol": 1e-6, "atol": 1e-10}
_same, _refuse = partial(same, **TOLERANCE), partial(refuse, **TOLERANCE)

# The harness hands over deep copies; an array that is its own deep copy shows whether the student wrote into it.
_Shared = type("array", (np.ndarray,), {"__deepcopy__": lambda self, memo: self})


def _several(got, *names):
    """Require that an answer is a tuple of so many things."""
    listed = ", ".join(names[:-1]) + f" and {names[-1]}"
    require(isinstance(got, tuple | list) and len(got) == len(names), f"Return {listed}, separated by commas.")
    return got


@tasks.add(points=2, minutes=15)
def descent_plan(student, rng):
    """Largest rate, best rate and number of steps in a bowl."""
    n = int(rng.integers(3, 6))
    turn = np.linalg.qr(rng.normal(size=(n, n)))[0]
    while True:  # until rounding to the nearest whole number is rounding down
        low, high, tolerance = rng.uniform(0.4, 0.9), rng.uniform(20, 60), 10.0 ** -rng.integers(2, 5)
        kappa = high / low
        exact = np.log(tolerance) / np.log((kappa - 1) / (kappa + 1))
        if 0.1 < exact % 1 < 0.45:
            break
    values = np.array([high, low, *rng.uniform(2, 15, size=n - 2)])
    A = turn * values @ turn.T
    A = (A + A.T) / 2
    limit, best, steps = _several(student(A, tolerance), "the limit of the rate", "the best rate", "the steps")

    lam = f"The eigenvalues are {np.sort(values).round(2)}."
    _refuse(
        limit,
        2 / high,
        [
            (1 / high, "1/λ_max is a safe rate, but not yet the limit: the factor 1 − ηλ may be negative, down to −1."),
            (2 / low, f"The steepest direction sets the limit, not the flattest. {lam}"),
            (2 / np.trace(A), "You took the sum of the eigenvalues (the trace); the largest one alone sets the limit."),
            (2 / np.abs(A).max(), "You took the largest number in A. What counts is its largest eigenvalue."),
        ],
    )
    require(_same(limit, 2 / high), f"The limit should be {2 / high:.5f}, got {limit}. {lam}")

    _refuse(
        best,
        2 / (high + low),
        [
            (
                1 / high,
                "At 1/λ_max the steepest direction vanishes at once, but the flattest crawls. Let both shrink alike.",
            ),
            (1 / (high + low), "Half the best rate: set 1 − ηλ_min equal to −(1 − ηλ_max) and solve for η."),
            (2 / high, "At the limit itself nothing converges: the best rate is below it."),
        ],
    )
    require(_same(best, 2 / (high + low)), f"The best rate should be {2 / (high + low):.5f}, got {best}. {lam}")

    crawl = np.log(tolerance) / np.log(1 - 1 / kappa)
    quick = np.log(tolerance) / np.log((np.sqrt(kappa) - 1) / (np.sqrt(kappa) + 1))
    require(np.ndim(steps) == 0 and float(steps) == int(steps), f"The number of steps is a whole number, got {steps}.")
    _refuse(
        steps,
        np.ceil(exact),
        [
            (np.floor(exact), "One step too few: round up, or the tolerance is missed by a little."),
            (np.ceil(crawl), "You used the factor 1 − 1/κ, which belongs to the rate 1/λ_max, not to the best one."),
            (np.ceil(quick), "That is the factor with √κ, which needs momentum."),
            (
                np.ceil(2 * exact),
                "Twice as many as needed: each step shrinks the distance by the factor, not its root.",
            ),
            (
                np.ceil(exact / 2),
                "Half of what is needed: the loss shrinks by the square of the factor, the distance by the factor.",
            ),
        ],
    )
    require(
        steps == np.ceil(exact),
        f"Expected {np.ceil(exact):.0f} steps for {tolerance} and κ = {kappa:.2f}, got {steps}.",
    )


@tasks.add(points=2, minutes=10)
def momentum_step(student, rng):
    """One step of momentum, plain and Nesterov's."""
    w, v, g = rng.normal(size=(3, 5))
    lr, beta = rng.uniform(0.05, 0.3), rng.uniform(0.5, 0.95)
    new = beta * v + g
    for nesterov in (False, True):
        shared = [a.copy().view(_Shared) for a in (w, v, g)]
        got_w, got_v = _several(student(*shared, lr, beta, nesterov), "the weights", "the velocity")
        for one, before in zip(shared, (w, v, g), strict=True):
            require(
                np.array_equal(one, before),
                "You wrote into the given arrays: make new ones, as `v = beta * v + g` does.",
            )
        _refuse(
            got_v,
            new,
            [
                (
                    beta * v + (1 - beta) * g,
                    "You averaged: here the velocity gains the whole gradient, not (1 − β) of it.",
                ),
                (
                    beta * v - lr * g,
                    "In this form the velocity does not contain the rate or the minus sign: v ← βv + g.",
                ),
                (beta * v + lr * g, "In this form the velocity does not contain the rate: v ← βv + g."),
                (beta * (v + g), "β belongs to the old velocity only, not to the gradient."),
                (v + g, "β is missing: the velocity keeps only a share of itself."),
                (v, "You returned the old velocity."),
            ],
        )
        require(_same(got_v, new), f"The velocity should be {new.round(4)}, got {got_v}.")
        kind = "Nesterov's step" if nesterov else "The plain step"
        expected = w - lr * (g + beta * new if nesterov else new)
        _refuse(
            got_w,
            expected,
            [
                (w + lr * new, "You went uphill: the step is subtracted."),
                (w - lr * v, "You stepped with the old velocity: renew it first."),
                (w - lr * g, "You stepped with the gradient alone and left the velocity unused."),
                (w - new, "The learning rate is missing in the step."),
                (
                    w - lr * new,
                    "That is the plain step, although nesterov is True. (So is g + βv with the *old* velocity: no "
                    "look-ahead at all.)",
                ),
                (w - lr * (g + beta * new), "That is Nesterov's step, though nesterov is False."),
            ],
        )
        require(_same(got_w, expected), f"{kind} should lead to {expected.round(4)}, got {got_w}.")


def _adam(w, gradients, lr, beta1, beta2, eps, *, shift=0, first=True, second=True, inside=False, power=2):
    """Adam, with what can be wrong about it."""
    m = s = 0
    for t, g in enumerate(gradients, start=1 + shift):
        m, s = beta1 * m + (1 - beta1) * g, beta2 * s + (1 - beta2) * np.abs(g) ** power
        mean = m / (1 - beta1**t) if first else m
        square = s / (1 - beta2**t) if second else s
        w = w - lr * mean / (np.sqrt(square + eps) if inside else np.sqrt(square) + eps)
    return w


@tasks.add(points=3, minutes=20)
def adam(student, rng):
    """Several steps of Adam with bias correction."""
    lr, beta1, beta2, eps = rng.uniform(0.05, 0.2), rng.uniform(0.6, 0.85), rng.uniform(0.93, 0.98), 1e-3
    w = rng.normal(size=5)
    for steps in (1, 7):
        # Drifting sizes, so that every mean is told from its neighbours.
        gradients = rng.normal(size=(steps, 5)) * np.linspace(1, 3, steps)[:, None] + 0.5
        settings = (w, gradients, lr, beta1, beta2, eps)
        got = student(*settings)
        require(
            np.isfinite(np.asarray(got, dtype=float)).all(),
            "The result is not finite. Is the first step number 0 in your correction? Then 1 − β⁰ = 0; begin with 1.",
        )
        rms = w
        s = 0
        for t, g in enumerate(gradients, start=1):
            s = beta2 * s + (1 - beta2) * g**2
            rms = rms - lr * g / (np.sqrt(s / (1 - beta2**t)) + eps)
        frozen = w
        m = s = 0
        for g in gradients:
            m, s = beta1 * m + (1 - beta1) * g, beta2 * s + (1 - beta2) * g**2
            frozen = frozen - lr * (m / (1 - beta1)) / (np.sqrt(s / (1 - beta2)) + eps)
        written = w
        m = s = 0
        for t, g in enumerate(gradients, start=1):
            m, s = beta1 * m + (1 - beta1) * g, beta2 * s + (1 - beta2) * g**2
            m, s = m / (1 - beta1**t), s / (1 - beta2**t)
            written = written - lr * m / (np.sqrt(s) + eps)
        wrongs = [
            (_adam(*settings, first=False, second=False), "Without the bias correction: both means start too small."),
            (_adam(*settings, second=False), "You corrected the mean of the gradients, but not the mean of squares."),
            (_adam(*settings, first=False), "You corrected the mean of squares, but not the mean of the gradients."),
            (_adam(*settings, shift=1), "Your correction is one step ahead: the first step is number 1."),
            (_adam(*settings, inside=True), "ε stands outside the root in Adam's formula."),
            (_adam(*settings, power=1), "The second mean is one of squares, g², not of absolute values."),
            (2 * w - _adam(*settings), "You went uphill: the step is subtracted."),
        ]
        if steps > 1:
            wrongs += [
                (_adam(w, gradients, lr, beta2, beta1, eps), "You exchanged β₁ and β₂."),
                (rms, "You divided the gradient itself, not its mean m: that is RMSProp with a correction."),
                (frozen, "Your correction stays at step 1: β must be raised to the number of the step."),
                (written, "You stored the corrected means back into m and s. The correction is for the step only."),
                (_adam(w, gradients[:1], lr, beta1, beta2, eps), "You returned after the first step."),
            ]
        expected = _adam(*settings)
        _refuse(got, expected, wrongs)
        require(_same(got, expected), f"After {steps} steps expected {expected.round(4)}, got {got}.")


@tasks.add(points=3, minutes=20)
def first_steps(student, rng):
    """The first step of Adam with L2 and of AdamW."""
    w = rng.uniform(0.5, 2, size=6) * rng.choice([-1, 1], size=6)
    g = rng.uniform(0.2, 3, size=6) * rng.choice([-1, 1], size=6)
    lr, gamma, eps = rng.uniform(0.05, 0.1), rng.uniform(0.1, 0.3), rng.uniform(0.2, 0.4)

    def step(g, square=None):
        return lr * g / (np.abs(g if square is None else square) + eps)

    with_l2, with_decay = w - step(g + gamma * w), w - lr * gamma * w - step(g)
    first, second = _several(student(w, g, lr, gamma, eps), "the weights with L2", "the weights of AdamW")
    require(
        not (_same(first, with_decay) and _same(second, with_l2)),
        "The right results in the wrong order: L2 comes first.",
    )
    _refuse(
        first,
        with_l2,
        [
            (
                with_decay,
                "Your L2 result is AdamW's: the penalty's gradient γw must be added to g before the means are taken.",
            ),
            (w - step(g), "Your L2 result has no penalty in it."),
            (w - step(g + gamma * w**2 / 2), "You added the penalty itself to the gradient; its derivative is γw."),
            (w - step(g + 2 * gamma * w), "The derivative of γ/2 · w² is γw, not 2γw."),
            (
                w - step(g + gamma * w, g),
                "You added γw to the first mean only: the mean of squares sees the penalty too.",
            ),
            (w - step(g - gamma * w), "The penalty's gradient is added: it pulls the weights to zero."),
            (
                w - lr * np.sign(g + gamma * w),
                "ε is not negligible here: the first step is g / (|g| + ε), only for a tiny ε the sign of g.",
            ),
            (w - step(g + gamma * np.sign(w)), "γ sign(w) is the slope of an L1 penalty; for L2 it is γw."),
        ],
    )
    root = np.sqrt(0.001) / 0.1
    uncorrected = w - lr * 0.1 * (g + gamma * w) / (np.sqrt(0.001) * np.abs(g + gamma * w) + eps)
    require(
        not _same(first, uncorrected),
        f"The means are not corrected: they are too small by different factors, whose ratio is {1 / root:.2f}.",
    )
    require(_same(first, with_l2), f"With L2 expected {with_l2.round(4)}, got {first}.")
    _refuse(
        second,
        with_decay,
        [
            (with_l2, "Your AdamW result is that of L2: the decay must not pass through the means."),
            (w - step(g), "Your AdamW result does not decay."),
            (w - gamma * w - step(g), "The decay is multiplied by the learning rate: ηγw."),
            ((w - step(g)) * (1 - lr * gamma), "You shrank the weights after the step; take ηγ times the old weights."),
            (w + lr * gamma * w - step(g), "Your decay makes the weights grow."),
            (w - lr * gamma * w - step(g + gamma * w), "You decayed twice: as a part of the gradient and on its own."),
        ],
    )
    require(_same(second, with_decay), f"For AdamW expected {with_decay.round(4)}, got {second}.")


@tasks.add(points=2, minutes=15)
def rate(student, rng):
    """Learning rate with warm-up and cosine."""
    peak, warmup, total = rng.uniform(0.5, 2), int(rng.integers(5, 9)), int(rng.integers(40, 60))
    last = peak * rng.uniform(0.05, 0.2)

    def fall(tau):
        return last + (peak - last) * (1 + np.cos(np.pi * tau)) / 2

    done = int(rng.integers(1, warmup))
    got = student(done, peak, warmup, total, last)
    expected = peak * (done + 1) / (warmup + 1)
    _refuse(
        got,
        expected,
        [
            (
                peak * done / warmup,
                "You warm up by done/warmup, so that the first step has the rate zero: count from one.",
            ),
            (peak * (done + 1) / warmup, "The peak is reached one step early: divide by warmup + 1."),
            (last + (peak - last) * (done + 1) / (warmup + 1), "The warm-up rises from nearly zero, not from `last`."),
            (
                peak * done / (warmup + 1),
                "You warm up by done/(warmup + 1), so that the first step has the rate zero: add one to `done`.",
            ),
            (peak, "There is no warm-up: for `done` below `warmup` the rate is still rising."),
            (fall(done / total), "There is no warm-up: for `done` below `warmup` the rate is still rising."),
        ],
    )
    require(_same(got, expected), f"In the warm-up, after {done} steps, expected {expected:.5f}, got {got}.")
    got = student(0, peak, warmup, total, last)
    require(
        _same(got, peak / (warmup + 1)), f"The first step should have the rate {peak / (warmup + 1):.5f}, got {got}."
    )

    for done in (warmup, int(rng.integers(warmup + 3, total // 2)), total - 5):
        got, tau = student(done, peak, warmup, total, last), (done - warmup) / (total - warmup)
        cos = (1 + np.cos(np.pi * tau)) / 2
        wrongs = [
            (
                fall(done / total),
                "The cosine begins at `warmup`, not at zero, so that the rate jumps: measure from there.",
            ),
            (
                fall((done - warmup) / (total - 1 - warmup)),
                "Your fall is over one step early: it ends when `done` is `total`, not total − 1.",
            ),
            (fall((done - warmup) / total), "The fall takes total − warmup steps; yours is not over at `total`."),
        ]
        if done > warmup:
            wrongs += [
                (peak * cos, "Your cosine falls to zero, not to `last`."),
                (last + peak * cos, "Your rate begins at peak + last: scale the cosine by peak − last."),
                (max(last, peak * cos), "You cut a fall to zero off at `last`; scale it, so that it ends there."),
                (last + (peak - last) * (1 + np.cos(tau)) / 2, "Half a cosine goes from 0 to π: the π is missing."),
                (last + (peak - last) * np.cos(np.pi * tau / 2), "That is a quarter of a cosine; use (1 + cos πτ)/2."),
                (last + (peak - last) * (1 - tau), "That is a straight line."),
            ]
        _refuse(got, fall(tau), wrongs)
        require(
            _same(got, fall(tau)),
            f"After {done} of {total} steps, {warmup} of warm-up, expected {fall(tau):.5f}, got {got}.",
        )
    require(_same(student(total, peak, warmup, total, last), last), "After `total` steps the rate should be `last`.")
    late = student(total + (total - warmup) // 2, peak, warmup, total, last)
    require(_same(late, last), f"After the end the rate should stay at {last:.5f}, but yours goes on: {late}.")
    got = student(0, peak, 0, total, last)
    require(_same(got, peak), f"Without warm-up the first step should have the rate {peak:.5f}, got {got}.")


@tasks.add(points=2, minutes=15)
def clip(student, rng):
    """Clipping by the norm of the whole gradient."""
    shapes, limit = [(3, 5), (5,), (2, 3, 2)], rng.uniform(1, 2)

    def ask(gradients):
        shared = [g.copy().view(_Shared) for g in gradients]
        clipped, norm = _several(student(shared, limit), "the clipped gradients", "the norm")
        for one, before in zip(shared, gradients, strict=True):
            require(np.array_equal(one, before), "You wrote into the given arrays: return new ones.")
        require(
            isinstance(clipped, list | tuple) and [np.shape(g) for g in clipped] == [g.shape for g in gradients],
            "The clipped gradients should be a list of arrays of the shapes that were given.",
        )
        return np.concatenate([np.ravel(g) for g in clipped]).astype(float), norm

    gradients = [rng.normal(size=shape) * size for shape, size in zip(shapes, (3, 0.1, 1), strict=True)]
    flat = np.concatenate([g.ravel() for g in gradients])
    norms, right = np.array([np.linalg.norm(g) for g in gradients]), np.linalg.norm(flat)
    got, norm = ask(gradients)
    _refuse(
        got,
        flat * limit / right,
        [
            (np.clip(flat, -limit, limit), "You clipped every number by itself, which turns the gradient."),
            (
                np.concatenate([(g * min(1, limit / n)).ravel() for g, n in zip(gradients, norms, strict=True)]),
                "You clipped each array by its own norm, which turns the gradient: one factor for all.",
            ),
            (flat, "The norm is above the limit, and nothing was clipped."),
            (flat / right, "You scaled to norm 1, not to the limit."),
            (
                flat * limit / norms.sum(),
                "You added up the norms of the arrays; the norm of all is the root of the sum of squares.",
            ),
            (
                flat * limit / norms.max(),
                "You used the largest of the arrays' norms; the norm of all is the root of the sum of squares.",
            ),
            (flat * limit / right**2, "You divided by the squared norm."),
        ],
    )
    require(
        _same(got, flat * limit / right, rtol=1e-5),
        f"All should be multiplied by {limit / right:.5f}. Numbers: {got.round(3)}.",
    )
    _refuse(
        norm,
        right,
        [
            (limit, "You returned the norm after clipping; asked for is the one before."),
            (norms.sum(), "You added up the norms of the arrays; the norm of all is the root of the sum of squares."),
            (right**2, "That is the squared norm."),
        ],
    )
    require(_same(norm, right), f"The norm before clipping is {right:.4f}, got {norm}.")

    # Short as a whole, and then with single numbers that are large, as each of them may be.
    small = [g * rng.uniform(0.3, 0.9) * limit / right for g in gradients]
    flat = np.concatenate([g.ravel() for g in small])
    got, norm = ask(small)
    stretched = _same(got, flat * limit / np.linalg.norm(flat), rtol=1e-5)
    require(not stretched, "A gradient shorter than the limit was made longer: leave it as it is.")
    require(
        _same(got, flat) and _same(norm, np.linalg.norm(flat)),
        "A gradient shorter than the limit should stay as it is.",
    )
    # No array alone is above the limit, together they are.
    even = [g / np.linalg.norm(g) * 0.9 * limit for g in gradients]
    flat = np.concatenate([g.ravel() for g in even])
    got, _ = ask(even)
    require(
        _same(got, flat * limit / np.linalg.norm(flat), rtol=1e-5),
        "No array alone is longer than the limit here, but together they are: clip by the norm of everything.",
    )
    with np.errstate(all="ignore"):
        got, norm = ask([np.zeros(shape) for shape in shapes])
    require(
        _same(got, np.zeros(32)) and _same(norm, 0.0),
        f"All gradients were zero, and the result is {got[:3]}…: look out for 0/0.",
    )


@tasks.add(points=4, minutes=30)
def sparse_regression(student, rng):
    """Proximal gradient descent for an L1 penalty."""
    n, d = 40, 7

    def draw():
        X = rng.normal(size=(n, d)) * rng.uniform(0.5, 1.5, size=d)
        truth = np.where(np.arange(d) < 3, rng.uniform(1, 2, size=d) * rng.choice([-1, 1], size=d), 0.0)
        return X, X @ truth + 0.1 * rng.normal(size=n), rng.uniform(0.2, 0.3)

    def shrink(w, amount):
        return np.sign(w) * np.maximum(np.abs(w) - amount, 0)

    def run(steps, update):
        w = np.zeros(d)
        for _ in range(steps):
            w = update(w)
        return w

    def slope(w):
        return bowl @ w - X.T @ y / n

    def descend(w):
        return shrink(w - lr * slope(w), lr * gamma)

    def first_then_step(w):
        w = shrink(w, lr * gamma)
        return w - lr * slope(w)

    def plain(w):
        return w - lr * slope(w)

    def hard(w):
        w = w - lr * slope(w)
        return np.where(np.abs(w) > lr * gamma, w, 0)

    def jumps(w):
        w = w - lr * slope(w)
        return np.sign(w) * (np.abs(w) - lr * gamma)

    while True:  # until hard and soft thresholds, and none, are told apart after four steps
        X, y, gamma = draw()
        bowl = X.T @ X / n
        lr = 1 / np.linalg.eigvalsh(bowl)[-1]
        if not np.allclose(run(4, hard), run(4, plain), rtol=1e-2):
            break

    for steps in (4, 400, 1):
        got = student(X, y, gamma, steps)
        wrongs = [
            (
                run(steps, lambda w: shrink(w - lr * slope(w), gamma)),
                "You thresholded by γ; in a step of size η it is ηγ.",
            ),
            (run(steps, plain), "The penalty is missing."),
            (
                run(steps, lambda w: w - lr * (slope(w) + gamma * np.sign(w))),
                "You used the slope γ sign(w). It jumps across zero and never stays there: soft-threshold instead.",
            ),
            (
                run(steps, lambda w: w - lr * (slope(w) + gamma * w)),
                "That is an L2 penalty, which makes no weight zero.",
            ),
            (
                run(steps, first_then_step),
                "You thresholded before the gradient step: it comes last, or zeros do not stay.",
            ),
            (run(steps, hard), "That is hard thresholding: weights that stay must also be moved towards zero by ηγ."),
            (
                run(steps, jumps),
                "Weights smaller than ηγ were pushed across zero: cut off at zero, with np.maximum(…, 0).",
            ),
            (
                run(steps, lambda w: shrink(w - lr / n * slope(w), lr / n * gamma)),
                "Your rate is n times too small: the bowl's matrix is XᵀX/n.",
            ),
            (
                run(steps, lambda w: shrink(w - lr / 2 * slope(w), lr / 2 * gamma)),
                "Your rate is half of 1/λ_max: the bowl's matrix is XᵀX/n, without a 2.",
            ),
            (
                run(steps, lambda w: shrink(w - lr * slope(w), lr / n * gamma)),
                "The 1/n is missing in the gradient and in the bowl's matrix: the gradient's step comes out right, but "
                "your threshold is n times too small.",
            ),
            (
                run(steps, lambda w: shrink(w - 2 * lr * slope(w), 2 * lr * gamma)),
                "Your rate is 2/λ_max, twice the one asked for: at this limit descent no longer converges.",
            ),
        ]
        expected = run(steps, descend)
        _refuse(got, expected, wrongs, rtol=1e-5)
        extra = run(steps + 1, descend)
        if not np.allclose(extra, expected, rtol=1e-4):
            require(not _same(got, extra), "One step too many.")
        require(_same(got, expected, rtol=1e-5), f"After {steps} steps expected {expected.round(4)}, got {got}.")
        require(
            np.array_equal(np.asarray(got) == 0, expected == 0),
            f"The weights {np.flatnonzero(expected == 0)} should be exactly zero, got {got}.",
        )
