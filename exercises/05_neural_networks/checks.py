"""Checks of the exercises on neural networks; the inputs are drawn anew from each seed."""

from functools import partial

import numpy as np

from lmcore.checking import CheckFailed, Tasks, require, same

tasks = Tasks()
check = tasks.check
_same = partial(same, rtol=1e-6, atol=1e-9)


def _pair(got, first, second):
    """Require that an answer is a pair."""
    require(
        isinstance(got, tuple | list) and len(got) == 2,
        f"Return two things, {first} and {second}, separated by a comma.",
    )
    return got


def _softmax(z, axis=1):
    """The right softmax."""
    powers = np.exp(z - z.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def _forward(X, weights, biases, activation=lambda z: np.maximum(z, 0), bias=1, last=False, swap=False):
    """The right logits, and with other arguments the usual wrong ones."""
    for k, (W, b) in enumerate(zip(weights, biases, strict=True)):
        X = X @ (W if swap else W.T) + bias * b
        X = activation(X) if last or k < len(weights) - 1 else X
    return X


@tasks.add(points=1, minutes=10)
def mlp_logits(student, rng):
    """A forward pass through any number of layers."""
    for sizes in ((5, 5, 5, 5), (7, 5), (5, 7, 3, 2)):  # squares first: there a transposed matrix makes no noise
        X = rng.normal(size=(11, sizes[0]))
        weights = [rng.normal(size=(m, n)) for n, m in zip(sizes[:-1], sizes[1:], strict=True)]
        biases = [rng.normal(size=m) for m in sizes[1:]]
        biases[-1][0] = -100  # so that a logit is negative, whatever was drawn
        got = student(X, weights, biases)
        if sizes[0] == sizes[1]:
            _say_what_is_wrong(got, X, weights, biases)
        expected = _forward(X, weights, biases)
        require(
            np.shape(got) == expected.shape,
            f"Expected shape {expected.shape} with {len(weights)} layers, got {np.shape(got)}.",
        )
        require(
            _same(got, expected),
            f"Wrong logits with {len(weights)} layers: expected {expected[0]}, got {got[0]}. "
            "Does every layer get its turn?",
        )


def _late_bias(X, weights, biases):
    """Logits when each hidden bias is added after the ReLU."""
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        X = np.maximum(X @ W.T, 0) + b
    return X @ weights[-1].T + biases[-1]


def _say_what_is_wrong(got, X, weights, biases):
    """Recognise the usual wrong logits."""
    for wrong, message in (
        ({"last": True}, "You applied the ReLU to the logits too: the last layer has no activation."),
        ({"activation": lambda z: z}, "There is no activation in it: layers without one between them are one layer."),
        ({"swap": True}, "The rows of a matrix are the neurons, so examples in rows need X @ W.T."),
        ({"bias": 0}, "You left out the biases."),
        ({"activation": np.tanh}, "That is tanh; the ReLU is max(z, 0)."),
    ):
        require(not _same(got, _forward(X, weights, biases, **wrong)), message)
    without = _forward(X, weights, [*biases[:-1], 0 * biases[-1]])
    require(
        not _same(got, without), "You left out the bias of the last layer: it has no activation, but it has a bias."
    )
    late = _late_bias(X, weights, biases)
    require(not _same(got, late), "The bias belongs inside the ReLU: max(Wx + b, 0).")


@tasks.add(points=2, minutes=10)
def bce_with_logits(student, rng):
    """Binary cross-entropy of many labels from logits."""
    z = rng.normal(0, 2, size=(5, 7))
    y = rng.integers(0, 2, size=(5, 7)).astype(float)
    y[0, :2] = 0, 1  # both occur
    each = y * np.logaddexp(0, -z) + (1 - y) * np.logaddexp(0, z)
    with np.errstate(all="ignore"):
        got = student(z, y)
    require(np.shape(got) == (), f"Return one number, the mean over all labels of all examples; got {got}.")
    require(not _same(got, -each.mean()), "The sign: a loss is positive, minus the logarithm of a probability.")
    require(not _same(got, each.sum()), "You summed; the loss is the mean over all numbers.")
    require(
        not _same(got, each.sum() / 5), "You summed over the labels and averaged over the examples: average over both."
    )
    require(
        not _same(got, (y * np.logaddexp(0, -z)).mean()), "The labels that are 0 cost nothing here: 1 − y is missing."
    )
    require(not _same(got, each.mean() / np.log(2)), "That is in bits; nats use the natural logarithm.")
    require(
        not _same(got, -(y * np.log(_softmax(z))).sum(axis=1).mean())
        and not _same(got, -(y * np.log(_softmax(z))).mean()),
        "That is a softmax: labels that may hold together need a sigmoid each.",
    )
    twice = 1 / (1 + np.exp(-z))
    require(
        not _same(got, (y * np.logaddexp(0, -twice) + (1 - y) * np.logaddexp(0, twice)).mean()),
        "You applied the sigmoid twice: the loss of logits contains it.",
    )
    require(
        not _same(got, (y * np.logaddexp(0, z) + (1 - y) * np.logaddexp(0, -z)).mean()),
        "You exchanged yes and no: −log σ(z) belongs to y = 1.",
    )
    require(_same(got, each.mean()), f"Expected {each.mean():.4f}, got {got}.")
    size = float(rng.integers(2_000, 10_000))
    for sign, label in ((1, 1.0), (-1, 0.0), (1, 0.0), (-1, 1.0)):
        z, y = np.array([[sign * size, 0.0]]), np.array([[label, 1.0]])
        expected = (size * (sign > 0) * (1 - label) + size * (sign < 0) * label + np.log(2)) / 2
        with np.errstate(all="ignore"):
            got = student(z, y)
        require(
            np.isfinite(got),
            f"For the logit {sign * size:g} and the label {label:g} you return {got}: a power or a logarithm went "
            "out of bounds on the way. Use log-sum-exp.",
        )
        require(
            _same(got, expected),
            f"For the logit {sign * size:g} and the label {label:g} expected {expected:.4f}, got {got:.4f}. If you "
            "clipped a probability, you clipped the loss: start from the logits.",
        )


@tasks.add(points=2, minutes=15)
def cross_entropy_gradient(student, rng):
    """Gradient of the mean cross-entropy by a batch of logits."""
    z, y = rng.normal(0, 2, size=(5, 7)), rng.integers(0, 7, size=5)
    p, truth = _softmax(z), np.eye(7)[y]
    expected = (p - truth) / 5
    got = student(z, y)
    require(
        np.shape(got) == (5, 7), f"The gradient has one number per logit, so the shape (5, 7); yours {np.shape(got)}."
    )
    require(not _same(got, 5 * expected), "These are the slopes of the sum: the loss is the mean over N examples.")
    require(not _same(got, expected / 7), "You divided by N · V: the mean is over the N examples only.")
    require(not _same(got, 5 * expected / 7), "You divided by the number of classes: the mean is over the N examples.")
    require(
        not _same(got, -expected) and not _same(got, -5 * expected),
        "The sign: probability minus truth. Yours goes downhill; the gradient points uphill.",
    )
    require(not _same(got, p / 5) and not _same(got, p), "You did not subtract 1 at the right class.")
    require(
        not _same(got, np.where(truth == 1, expected, 0)) and not _same(got, np.where(truth == 1, 5 * expected, 0)),
        "Only the right class gets a slope in yours; every other logit's slope is its probability.",
    )
    require(
        not _same(got, (_softmax(z, axis=0) - truth) / 5),
        "Your probabilities add up to 1 over the examples (axis 0), not over the classes.",
    )
    require(not _same(got, (p - truth) * p * (1 - p) / 5), "σ(1 − σ) does not belong here: the logarithm cancels it.")
    require(_same(got, expected), f"Wrong: expected in the first row {expected[0].round(4)}, got {got[0]}.")
    z = z + rng.permutation([-1000.0, -1000.0, 0.0, 1000.0, 1000.0])[:, None]
    with np.errstate(all="ignore"):
        got = student(z, y)
    require(
        np.isfinite(got).all(),
        "For logits near ±1,000 you return something that is not a number: subtract each row's maximum first.",
    )
    z = z + rng.choice([0.0, -900.0], size=(5, 1))
    with np.errstate(all="ignore"):
        got = student(z, y)
    require(
        _same(got, expected),
        "The same number added to all logits of a row must change nothing, but your gradient changes. Is the maximum "
        "that you subtract the row's own?",
    )


@tasks.add(points=3, minutes=20)
def gradient_check(student, rng):
    """Central differences and a verdict."""
    a, w = rng.uniform(1, 2, size=(2, 3)), rng.uniform(1, 2, size=(2, 3))
    h = 0.125

    def f(w):
        return float((a * w**3).sum() + w.sum() ** 2)

    exact = 3 * a * w**2 + 2 * w.sum()
    expected = exact + a * h**2  # what the central formula gives
    got, _ = _pair(student(f, w, exact, h), "the differences", "the verdict")
    require(np.shape(got) == w.shape, f"One difference per weight: shape {w.shape}, got {np.shape(got)}.")
    require(
        not _same(got, exact),
        f"These are the slopes themselves, not the differences for h = {h}: use the h that you are given.",
    )
    require(not _same(got, 2 * expected), "You divided by h: between w − h and w + h lie 2h.")
    require(not _same(got, -expected), "The sign: f(w + h) − f(w − h), not the other way round.")
    for s in (h, -h):
        one_sided = exact + s * (1 + 3 * a * w) + a * h**2
        require(
            not _same(got, one_sided),
            "That is a one-sided difference, whose error is proportional to h: nudge to both sides.",
        )
    together = np.full(w.shape, expected.sum())
    require(not _same(got, together), "You nudged all weights together; the slope in one weight needs it nudged alone.")
    earlier = np.arange(w.size).reshape(w.shape)  # weights nudged before this one
    for s in (h, -h):
        require(
            not _same(got, expected + 2 * s * earlier),
            "The weights nudged earlier are not at their places any more: put each back before the next.",
        )
    wrong = f"expected {expected.round(3).tolist()}, got {np.asarray(got).round(3).tolist()}"
    require(_same(got, expected), f"Wrong differences for h = {h}: {wrong}.")
    _verdicts(student, rng, a, w)


def _verdicts(student, rng, a, w):
    """Require the right verdict on right and wrong claims, large and small."""
    exact = 3 * a * w**2  # of the f below

    def ask(scale, claim, free=False):
        def f(w):
            return float(scale * (a * (w[0] if free else w) ** 3).sum())

        got = student(f, np.stack([w, w]) if free else w, claim)[1]
        require(isinstance(got, bool | np.bool_), f"The verdict is True or False, got {got!r}.")
        return bool(got)

    slightly = exact * (1 + 0.01 * rng.choice([-1, 1], size=w.shape))
    require(ask(1, exact) or not ask(1, slightly), "Your verdicts are the wrong way round: True means that they agree.")
    require(ask(1, exact), "You reject a right gradient: its relative error with h = 1e-5 is below 1e-6.")
    require(not ask(1, slightly), "You accept a gradient that is wrong by 1 %.")
    require(
        not ask(1, exact[::-1, ::-1]),
        "You compared the norms only: a gradient with its numbers in wrong places has the same norm.",
    )
    little = exact * (1 + 1e-5 * rng.choice([-1, 1], size=w.shape))
    require(
        not ask(1, little),
        "You accept a gradient that is wrong by one part in 100,000: its relative error is about 5e-6, above 1e-6.",
    )
    require(
        ask(1e6, 1e6 * exact) and not ask(1e-9, 0.5e-9 * exact),
        "Your verdict changes with the unit of the loss: compare the relative error, not the absolute one.",
    )
    free = np.stack([exact, np.zeros(w.shape)])
    with np.errstate(all="ignore"):
        both = ask(1, free, free=True), ask(0, 0 * exact)
    require(
        all(both),
        "You reject a right gradient with zeros in it. Divide norms of whole arrays, not number by number, and let "
        "0 agree with 0.",
    )
    _whole_norm(student, rng)


def _whole_norm(student, rng):
    """Require the root of the sum of squares: one number of 400 is off, by little and then by more."""
    a, w = rng.uniform(1, 2, size=(20, 20)), rng.uniform(1, 2, size=(20, 20))
    exact = 3 * a * w**2
    place, size = tuple(rng.integers(20, size=2)), np.sqrt((exact**2).mean())
    for off, right in ((2e-5, True), (1e-4, False)):  # relative errors of about 5e-7 and 2.5e-6
        claim = exact.copy()
        claim[place] += off * size
        got = student(lambda w: float((a * w**3).sum()), w, claim)[1]
        require(
            bool(got) == right,
            f"One of 400 numbers is off by {off:g} of the usual size, so the relative error is {off / 40:.1e}, and "
            f"your verdict is {bool(got)}. The norm is the root of the sum of squares: not the largest number, not the "
            "sum of sizes.",
        )


@tasks.add(points=3, minutes=20)
def product_backward(student, rng):
    """The gradient of a product with broadcasting."""
    cases = [((5, 3), (5, 3)), ((5, 3), (3,)), ((3,), (5, 3)), ((5, 1), (5, 3)), ((5, 1), (1, 3)), ((2, 5, 3), (5, 1))]
    for one, two in [*cases, ((2, 5, 3), ()), ((3, 3), (3, 1))]:
        A, B = rng.normal(size=one), rng.normal(size=two)
        G = rng.normal(size=np.broadcast_shapes(one, two))
        got = _pair(student(A, B, G), "the gradient by A", "the gradient by B")
        expected = tuple(_summed(G * other, shape) for other, shape in ((B, one), (A, two)))
        if one == two:
            swapped = _same(got[0], expected[1]) and _same(got[1], expected[0])
            require(not swapped, "Exchanged: the slope of A · B in A is B, so the gradient by A is G · B.")
            require(
                not (_same(got[0], B) and _same(got[1], A)),
                "You left out G, what arrives from behind: multiply it with the local slope.",
            )
            require(not _same(got[0], G), "That is the gradient of a sum; a product's local slope is the other factor.")
        for gradient, right, name, shape in zip(got, expected, "AB", (one, two), strict=True):
            case = f"For shapes {one} and {two} the gradient by {name}"
            if np.shape(gradient) != shape:
                require(
                    np.shape(gradient) != G.shape,
                    f"{case} has the shape of the product: where numbers were repeated, sum what comes back.",
                )
                require(
                    np.shape(gradient) != (),
                    f"{case} is summed over everything: sum only over the axes that were repeated.",
                )
                require(False, f"{case} has the shape {np.shape(gradient)}, it must be {shape}. Keep axes of length 1.")
            count = G.size / max(1, int(np.prod(shape)))
            require(
                count == 1 or not _same(gradient, right / count),
                f"{case} is a mean: a number that was used several times gets the sum of what comes back.",
            )
            require(
                _same(gradient, right), f"{case} is wrong. Is the sum over the axes that were repeated, and no other?"
            )


def _summed(gradient, shape):
    """Sum a gradient to the shape of an operand."""
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
    return gradient.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)


class _Readings:
    """How often the parts of a graph were read."""

    def __init__(self):
        self.number = 0

    def add(self):
        """Count a reading, and stop whoever reads too often."""
        self.number += 1
        if self.number > 200_000:
            raise CheckFailed("You walk along every path, of which there are millions: visit each node once.")


class _Graph(dict):
    """A graph that is its own copy, so that it can count how often it is read."""

    def __init__(self, readings, **edges):
        super().__init__(edges)
        self.readings = readings

    def __deepcopy__(self, memo):
        return self

    def __getitem__(self, name):
        self.readings.add()
        return super().__getitem__(name)


class _Counted(list):
    """A list of edges that counts how often it is read, as a whole or by index."""

    def __init__(self, readings, edges=()):
        super().__init__(edges)
        self.readings = readings

    def __iter__(self):
        self.readings.add()
        return super().__iter__()

    def __getitem__(self, index):
        self.readings.add()
        return super().__getitem__(index)


@tasks.add(points=3, minutes=30)
def backpropagate(student, rng):
    """Backpropagation through a graph of single numbers."""
    a, b, c, d, e = (float(q) for q in rng.uniform(1.5, 3, size=5).round(2))

    def ask(edges, loss, expected, message):
        got = student(edges, loss)
        require(isinstance(got, dict), f"Return a dictionary from names to gradients, got {type(got).__name__}.")
        missing = sorted(set(expected) - set(got))
        require(not missing, f"The gradient by {missing} is missing: return one for every name, 0.0 if there is none.")
        for name in reversed(list(expected)):
            require(
                np.isclose(got[name], expected[name]),
                f"{message} In {dict(edges)} the gradient of {loss!r} by {name!r} is {expected[name]:.4f}, "
                f"got {got[name]}.",
            )

    chain = {"x": [], "h": [("x", a)], "L": [("h", b)]}
    got = student(chain, "L")
    if isinstance(got, dict):
        require(got.get("L") == 1, f"The gradient of the loss by itself is 1, got {got.get('L')}.")
        require(not np.isclose(got.get("x", 0), a + b), "You added the slopes along a path: multiply them.")
        require(
            not np.isclose(got.get("x", 0), a), "You returned local slopes: multiply with what arrives from behind."
        )
    ask(chain, "L", {"x": a * b, "h": b, "L": 1.0}, "A chain of two slopes.")
    fork = {"x": [], "p": [("x", a)], "q": [("x", b)], "L": [("p", c), ("q", d)]}
    right = {"x": a * c + b * d, "p": c, "q": d, "L": 1.0}
    ask(fork, "L", right, "Two paths lead back to x: their contributions add up.")
    square = {"x": [], "L": [("x", a), ("x", a)]}
    ask(square, "L", {"x": 2 * a, "L": 1.0}, "L = x · x lists x twice, and both count.")
    skip = {"w": [], "x": [("w", a)], "g": [("x", b)], "h": [("g", c)], "L": [("x", d), ("h", e)]}
    right = {"w": a * (d + e * c * b), "x": d + e * c * b, "g": c * e, "h": e, "L": 1.0}
    early = "You passed on what had reached x before everything had arrived: results first, then their operands."
    ask(skip, "L", right, early)
    skip["L"] = skip["L"][::-1]
    ask(skip, "L", right, early)
    names = [str(name) for name in rng.permutation(list(skip))]
    if names == list(skip):
        names = names[::-1]
    for order in (names, list(skip)[::-1], sorted(skip)):
        ask({name: skip[name] for name in order}, "L", right, "Do not rely on the order of the dictionary.")
    more = {**skip, "other": [("w", b)], "later": [("L", c), ("x", a)]}
    ask(more, "L", {**right, "other": 0.0, "later": 0.0}, "Not everything in the graph leads to the loss.")
    readings = _Readings()
    ladder = _Graph(readings, n0=_Counted(readings))
    for i in range(1, 41):
        ladder[f"n{i}"] = _Counted(readings, [(f"n{i - 1}", 0.5), (f"n{i - 1}", 0.25)])
    ask(ladder, "n40", {f"n{i}": 0.75 ** (40 - i) for i in range(41)}, "A chain of 40 doubled edges.")


@tasks.add(points=2, minutes=10)
def he_weights(student, rng):
    """He's starting weights from the fan-in."""
    sizes = [int(n) for n in rng.permutation([200, 350, 500])]
    sizes.append(300)
    got = student(sizes, rng)
    require(
        isinstance(got, list | tuple) and len(got) == 3,
        "Return a list with one matrix per layer, one fewer than there are sizes.",
    )
    for k, (W, n, m) in enumerate(zip(got, sizes[:-1], sizes[1:], strict=True)):
        W = np.asarray(W, dtype=float)
        require(
            W.shape != (n, m), f"Matrix {k} has the shape (in, out) = {W.shape}: its rows are the neurons, (out, in)."
        )
        require(W.shape == (m, n), f"Matrix {k} should have the shape {(m, n)}, got {W.shape}.")
        variance, he = W.var(), 2 / n
        require(np.ptp(W) > 0, "All weights are equal, and so will the neurons stay.")
        require(abs(W.mean()) < 0.05 * W.std(), f"The mean of matrix {k} is {W.mean():.4f}; it should be zero.")
        for wrong, message in (
            (he**2, "You used the variance as the standard deviation: take its square root."),
            (2 / m, "You took the fan-out, the rows: what matters forward is how many inputs a neuron adds up."),
            (2 / (n + m), "That is Xavier's rule; a ReLU halves the mean square, so He's is 2 / fan-in."),
            (1 / n, "The 2 is missing: a ReLU halves the mean square."),
            (
                he / 3,
                "Uniform numbers between −s and s have the variance s² / 3, not s²; and normal ones were asked for.",
            ),
            (1.0, "You did not scale the weights."),
        ):
            require(not np.isclose(variance, wrong, rtol=0.04), message)
        require(
            np.isclose(variance, he, rtol=0.04), f"The variance of matrix {k} should be {he:.5f}, is {variance:.5f}."
        )
        alike = max(W.mean(axis=axis).var() * W.shape[axis] / variance for axis in (0, 1))  # 1 for independent numbers
        require(
            alike < 1.6,
            f"The numbers of matrix {k} are not independent: rows or columns repeat, and neurons with equal weights "
            "stay equal. Draw every weight by itself.",
        )
        kurtosis = (W**4).mean() / variance**2  # 3 for normal numbers, 1.8 for uniform ones
        require(kurtosis > 2.5, "The variance is right, but the numbers are not normal; uniform ones have no tails.")
    again = student(sizes, rng)
    require(
        not np.allclose(got[0], again[0]),
        "Two calls give the same weights: draw from the rng given, with no seed of your own.",
    )
    seed = int(rng.integers(2**32))
    one, two = (student([7, 5], np.random.default_rng(seed)) for _ in range(2))
    require(
        np.allclose(one[0], two[0]),
        "Two generators with the same seed give different weights: draw everything from the rng that you are given.",
    )
    small = student([7, 7, 7], rng)
    require(not np.allclose(small[0], small[1]), "Two layers of the same size start with the same weights.")
