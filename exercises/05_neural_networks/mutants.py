"""Plausible wrong answers, and what must be said to each."""

import numpy as np

from lmcore.checking import mutant


def _relu(z):
    return np.maximum(z, 0)


@mutant("mlp_logits", rejected_with="applied the ReLU to the logits")
def activates_the_last_layer(X, weights, biases):
    for W, b in zip(weights, biases, strict=True):
        X = _relu(X @ W.T + b)
    return X


@mutant("mlp_logits", rejected_with="no activation in it")
def has_no_activation(X, weights, biases):
    for W, b in zip(weights, biases, strict=True):
        X = X @ W.T + b
    return X


@mutant("mlp_logits", rejected_with="need X @ W.T")
def forgets_to_transpose(X, weights, biases):
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        X = _relu(X @ W + b)
    return X @ weights[-1] + biases[-1]


@mutant("mlp_logits", rejected_with="left out the biases")
def forgets_the_biases(X, weights, biases):
    for W in weights[:-1]:
        X = _relu(X @ W.T)
    return X @ weights[-1].T


@mutant("mlp_logits", rejected_with="left out the bias of the last layer")
def forgets_the_last_bias(X, weights, biases):
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        X = _relu(X @ W.T + b)
    return X @ weights[-1].T


@mutant("mlp_logits", rejected_with="belongs inside the ReLU")
def adds_the_bias_too_late(X, weights, biases):
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        X = _relu(X @ W.T) + b
    return X @ weights[-1].T + biases[-1]


@mutant("mlp_logits", rejected_with="That is tanh")
def uses_another_activation(X, weights, biases):
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        X = np.tanh(X @ W.T + b)
    return X @ weights[-1].T + biases[-1]


@mutant("mlp_logits", rejected_with="Wrong logits with 3 layers")
def knows_two_layers_only(X, weights, biases):
    return _relu(X @ weights[0].T + biases[0]) @ weights[-1].T + biases[-1]


@mutant("mlp_logits", rejected_with="Wrong logits with 3 layers")
def stops_after_two_layers(X, weights, biases):
    return _relu(X @ weights[0].T + biases[0]) @ weights[1].T + biases[1]


def _each(z, y):
    """The right loss of every label."""
    return y * np.logaddexp(0, -z) + (1 - y) * np.logaddexp(0, z)


def _sigmoid(z):
    return 1 / (1 + np.exp(-z))


@mutant("bce_with_logits", rejected_with="went out of bounds")
def computes_probabilities(logits, targets):
    p = _sigmoid(logits)
    return -np.mean(targets * np.log(p) + (1 - targets) * np.log(1 - p))


@mutant("bce_with_logits", rejected_with="went out of bounds")
def takes_the_exponential_of_large_logits(logits, targets):
    return np.mean(np.log(1 + np.exp(logits)) - targets * logits)


@mutant("bce_with_logits", rejected_with="you clipped the loss")
def clips_probabilities(logits, targets):
    p = np.clip(_sigmoid(logits), 1e-12, 1 - 1e-12)
    return -np.mean(targets * np.log(p) + (1 - targets) * np.log(1 - p))


@mutant("bce_with_logits", rejected_with="you clipped the loss")
def clips_logits(logits, targets):
    return np.mean(_each(np.clip(logits, -30, 30), targets))


@mutant("bce_with_logits", rejected_with="You summed; the loss is the mean")
def sums_everything(logits, targets):
    return np.sum(_each(logits, targets))


@mutant("bce_with_logits", rejected_with="average over both")
def sums_over_the_labels(logits, targets):
    return np.mean(np.sum(_each(logits, targets), axis=1))


@mutant("bce_with_logits", rejected_with="1 − y is missing")
def forgets_the_zeros(logits, targets):
    return np.mean(targets * np.logaddexp(0, -logits))


@mutant("bce_with_logits", rejected_with="That is a softmax")
def lets_labels_compete(logits, targets):
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -np.mean(np.sum(targets * log_p, axis=1))


@mutant("bce_with_logits", rejected_with="sigmoid twice")
def applies_the_sigmoid_twice(logits, targets):
    return np.mean(_each(_sigmoid(logits), targets))


@mutant("bce_with_logits", rejected_with="exchanged yes and no")
def exchanges_yes_and_no(logits, targets):
    return np.mean(_each(-logits, targets))


@mutant("bce_with_logits", rejected_with="a loss is positive")
def forgets_the_minus(logits, targets):
    return -np.mean(_each(logits, targets))


@mutant("bce_with_logits", rejected_with="Return one number")
def returns_one_loss_per_example(logits, targets):
    return np.mean(_each(logits, targets), axis=1)


def _probabilities(logits, axis=1):
    """The right softmax."""
    powers = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def _minus_truth(p, targets):
    """Probability minus truth."""
    p = p.copy()
    p[np.arange(len(targets)), targets] -= 1
    return p


@mutant("cross_entropy_gradient", rejected_with="slopes of the sum")
def forgets_the_mean(logits, targets):
    return _minus_truth(_probabilities(logits), targets)


@mutant("cross_entropy_gradient", rejected_with="divided by N · V")
def averages_over_all_numbers(logits, targets):
    return _minus_truth(_probabilities(logits), targets) / logits.size


@mutant("cross_entropy_gradient", rejected_with="divided by the number of classes")
def averages_over_the_classes(logits, targets):
    return _minus_truth(_probabilities(logits), targets) / logits.shape[1]


@mutant("cross_entropy_gradient", rejected_with="The sign")
def subtracts_the_wrong_way_round(logits, targets):
    return -_minus_truth(_probabilities(logits), targets) / len(targets)


@mutant("cross_entropy_gradient", rejected_with="did not subtract 1")
def returns_probabilities(logits, targets):
    return _probabilities(logits) / len(targets)


@mutant("cross_entropy_gradient", rejected_with="Only the right class")
def moves_the_right_class_only(logits, targets):
    gradient, rows = np.zeros(logits.shape), np.arange(len(targets))
    gradient[rows, targets] = _probabilities(logits)[rows, targets] - 1
    return gradient / len(targets)


@mutant("cross_entropy_gradient", rejected_with="over the examples (axis 0)")
def normalises_the_columns(logits, targets):
    return _minus_truth(_probabilities(logits, axis=0), targets) / len(targets)


@mutant("cross_entropy_gradient", rejected_with="does not belong here")
def multiplies_by_the_slope_of_the_sigmoid(logits, targets):
    p = _probabilities(logits)
    return _minus_truth(p, targets) * p * (1 - p) / len(targets)


@mutant("cross_entropy_gradient", rejected_with="subtract each row's maximum")
def overflows(logits, targets):
    powers = np.exp(logits)
    return _minus_truth(powers / powers.sum(axis=1, keepdims=True), targets) / len(targets)


@mutant("cross_entropy_gradient", rejected_with="subtract each row's maximum")
def subtracts_one_maximum_for_all(logits, targets):
    powers = np.exp(logits - logits.max())
    return _minus_truth(powers / powers.sum(axis=1, keepdims=True), targets) / len(targets)


@mutant("cross_entropy_gradient", rejected_with="the row's own")
def hides_the_overflow(logits, targets):
    powers = np.exp(np.clip(logits, -50, 50))
    return _minus_truth(powers / powers.sum(axis=1, keepdims=True), targets) / len(targets)


def _differences(f, w, h, both=True, width=None):
    """Differences with one weight nudged at a time."""
    slopes = np.zeros(w.shape)
    for place in np.ndindex(w.shape):
        nudge = np.zeros(w.shape)
        nudge[place] = h
        low = f(w - nudge) if both else f(w)
        slopes[place] = (f(w + nudge) - low) / (width or (2 * h if both else h))
    return slopes


def _verdict(a, b):
    """The right verdict."""
    off = np.linalg.norm(a - b)
    return bool(off == 0 or off / (np.linalg.norm(a) + np.linalg.norm(b)) < 1e-6)


@mutant("gradient_check", rejected_with="one-sided difference")
def nudges_to_one_side(f, w, gradient, h=1e-5):
    slopes = _differences(f, w, h, both=False)
    return slopes, _verdict(gradient, slopes)


@mutant("gradient_check", rejected_with="You divided by h")
def divides_by_h(f, w, gradient, h=1e-5):
    slopes = _differences(f, w, h, width=h)
    return slopes, _verdict(gradient, slopes)


@mutant("gradient_check", rejected_with="nudged all weights together")
def nudges_all_together(f, w, gradient, h=1e-5):
    slopes = np.full(w.shape, (f(w + h) - f(w - h)) / (2 * h))
    return slopes, _verdict(gradient, slopes)


@mutant("gradient_check", rejected_with="put each back")
def leaves_the_weights_where_they_are(f, w, gradient, h=1e-5):
    slopes = np.zeros(w.shape)
    for place in np.ndindex(w.shape):
        w[place] += h
        high = f(w)
        w[place] -= 2 * h
        slopes[place] = (high - f(w)) / (2 * h)
    return slopes, _verdict(gradient, slopes)


@mutant("gradient_check", rejected_with="One difference per weight")
def returns_a_flat_list(f, w, gradient, h=1e-5):
    slopes = _differences(f, w, h)
    return slopes.ravel(), _verdict(gradient, slopes)


@mutant("gradient_check", rejected_with="wrong way round: True")
def turns_the_verdict_round(f, w, gradient, h=1e-5):
    slopes = _differences(f, w, h)
    return slopes, not _verdict(gradient, slopes)


@mutant("gradient_check", rejected_with="changes with the unit of the loss")
def compares_absolute_errors(f, w, gradient, h=1e-5):
    slopes = _differences(f, w, h)
    return slopes, bool(np.linalg.norm(gradient - slopes) < 1e-6)


@mutant("gradient_check", rejected_with="compared the norms only")
def compares_lengths(f, w, gradient, h=1e-5):
    slopes = _differences(f, w, h)
    a, b = np.linalg.norm(gradient), np.linalg.norm(slopes)
    return slopes, bool(abs(a - b) <= 1e-6 * (a + b))


@mutant("gradient_check", rejected_with="right gradient with zeros")
def divides_number_by_number(f, w, gradient, h=1e-5):
    slopes = _differences(f, w, h)
    return slopes, bool(np.max(np.abs(gradient - slopes) / (np.abs(gradient) + np.abs(slopes))) < 1e-6)


@mutant("gradient_check", rejected_with="wrong by 1 %")
def is_too_generous(f, w, gradient, h=1e-5):
    slopes = _differences(f, w, h)
    return slopes, bool(np.allclose(gradient, slopes, rtol=0.1))


def _by_norm(norm, bound):
    """A verdict with another norm or another bound."""

    def answer(f, w, gradient, h=1e-5):
        slopes = _differences(f, w, h)
        off = norm(gradient - slopes)
        return slopes, bool(off == 0 or off / (norm(gradient) + norm(slopes)) < bound)

    return answer


@mutant("gradient_check", rejected_with="one part in 100,000")
def takes_a_bound_of_a_thousandth(f, w, gradient, h=1e-5):
    return _by_norm(np.linalg.norm, 1e-3)(f, w, gradient, h)


@mutant("gradient_check", rejected_with="one part in 100,000")
def takes_a_bound_of_1e_5(f, w, gradient, h=1e-5):
    return _by_norm(np.linalg.norm, 1e-5)(f, w, gradient, h)


@mutant("gradient_check", rejected_with="not the largest number")
def takes_the_largest_number(f, w, gradient, h=1e-5):
    return _by_norm(lambda q: np.abs(q).max(), 1e-6)(f, w, gradient, h)


@mutant("gradient_check", rejected_with="not the sum of sizes")
def adds_up_the_sizes(f, w, gradient, h=1e-5):
    return _by_norm(lambda q: np.abs(q).sum(), 1e-6)(f, w, gradient, h)


@mutant("gradient_check", rejected_with="use the h that you are given")
def ignores_h(f, w, gradient, h=1e-5):
    slopes = _differences(f, w, 1e-5)
    return slopes, _verdict(gradient, slopes)


@mutant("gradient_check", rejected_with="The verdict is True or False")
def returns_the_error(f, w, gradient, h=1e-5):
    slopes = _differences(f, w, h)
    return slopes, np.linalg.norm(gradient - slopes) / (np.linalg.norm(gradient) + np.linalg.norm(slopes))


@mutant("gradient_check", rejected_with="Return two things")
def returns_the_verdict_only(f, w, gradient, h=1e-5):
    return _verdict(gradient, _differences(f, w, h))


def _summed(gradient, shape, keepdims=True, mean=False):
    """Sum, or average, a gradient to the shape of an operand."""
    if gradient.ndim > len(shape):
        axes = tuple(range(gradient.ndim - len(shape)))
        gradient = gradient.mean(axis=axes) if mean else gradient.sum(axis=axes)
    axes = tuple(i for i, n in enumerate(shape) if n == 1)
    return gradient.mean(axis=axes, keepdims=keepdims) if mean else gradient.sum(axis=axes, keepdims=keepdims)


@mutant("product_backward", rejected_with="has the shape of the product")
def forgets_the_broadcasting(A, B, G):
    return G * B, G * A


@mutant("product_backward", rejected_with="Exchanged")
def exchanges_the_factors(A, B, G):
    return _summed(G * A, A.shape), _summed(G * B, B.shape)


@mutant("product_backward", rejected_with="You left out G")
def returns_local_slopes(A, B, G):
    ones = np.ones(G.shape)
    return _summed(ones * B, A.shape), _summed(ones * A, B.shape)


@mutant("product_backward", rejected_with="gradient of a sum")
def treats_it_as_a_sum(A, B, G):
    return _summed(G, A.shape), _summed(G, B.shape)


@mutant("product_backward", rejected_with="is a mean")
def averages_what_comes_back(A, B, G):
    return _summed(G * B, A.shape, mean=True), _summed(G * A, B.shape, mean=True)


@mutant("product_backward", rejected_with="Keep axes of length 1")
def loses_axes_of_length_one(A, B, G):
    return _summed(G * B, A.shape, keepdims=False), _summed(G * A, B.shape, keepdims=False)


@mutant("product_backward", rejected_with="has the shape of the product")
def sums_only_added_axes(A, B, G):
    def summed(gradient, shape):
        return gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))

    return summed(G * B, A.shape), summed(G * A, B.shape)


@mutant("product_backward", rejected_with="summed over everything")
def sums_over_everything(A, B, G):
    by_A, by_B = G * B, G * A
    return (by_A if by_A.shape == A.shape else by_A.sum()), (by_B if by_B.shape == B.shape else by_B.sum())


@mutant("product_backward", rejected_with="and no other?")
def picks_one_of_the_repeated(A, B, G):
    def picked(gradient, shape):
        while gradient.ndim > len(shape):
            gradient = gradient[0]
        return gradient[tuple(slice(n) for n in shape)]

    return picked(G * B, A.shape), picked(G * A, B.shape)


def _order(edges, loss):
    """A topological order, operands first."""
    order, seen = [], set()

    def visit(name):
        if name not in seen:
            seen.add(name)
            for operand, _ in edges[name]:
                visit(operand)
            order.append(name)

    visit(loss)
    return order


def _backward(edges, loss, order, add=lambda old, new: old + new, chain=lambda g, slope: g * slope, twice=True):
    """Backpropagation in a given order, with the pieces that may be wrong as arguments."""
    gradient = dict.fromkeys(edges, 0.0)
    gradient[loss] = 1.0
    for name in order:
        for operand, slope in edges[name] if twice else dict(edges[name]).items():
            gradient[operand] = add(gradient[operand], chain(gradient[name], slope))
    return gradient


@mutant("backpropagate", rejected_with="You walk along every path")
def walks_every_path(edges, loss):
    gradient = dict.fromkeys(edges, 0.0)

    def walk(name, arriving):
        gradient[name] += arriving
        for operand, slope in edges[name]:
            walk(operand, arriving * slope)

    walk(loss, 1.0)
    return gradient


@mutant("backpropagate", rejected_with="You walk along every path")
def walks_every_path_by_index(edges, loss):
    gradient = dict.fromkeys(edges, 0.0)

    def walk(name, arriving):
        gradient[name] += arriving
        here = edges.get(name)
        for k in range(len(here)):
            walk(here[k][0], arriving * here[k][1])

    walk(loss, 1.0)
    return gradient


@mutant("backpropagate", rejected_with="their contributions add up")
def overwrites(edges, loss):
    return _backward(edges, loss, _order(edges, loss)[::-1], add=lambda old, new: new)


@mutant("backpropagate", rejected_with="You added the slopes along a path")
def adds_along_a_path(edges, loss):
    def chain(arriving, slope):
        return slope + (arriving if arriving != 1 else 0)

    return _backward(edges, loss, _order(edges, loss)[::-1], chain=chain)


@mutant("backpropagate", rejected_with="You returned local slopes")
def forgets_what_arrives(edges, loss):
    return _backward(edges, loss, _order(edges, loss)[::-1], chain=lambda arriving, slope: slope)


@mutant("backpropagate", rejected_with="before everything had arrived")
def goes_breadth_first(edges, loss):
    order, queue = [], [loss]
    while queue:
        name = queue.pop(0)
        if name not in order:
            order.append(name)
            queue += [operand for operand, _ in edges[name]]
    return _backward(edges, loss, order)


@mutant("backpropagate", rejected_with="before everything had arrived")
def goes_depth_first(edges, loss):
    order, stack = [], [loss]
    while stack:
        name = stack.pop()
        if name not in order:
            order.append(name)
            stack += [operand for operand, _ in edges[name]]
    return _backward(edges, loss, order)


@mutant("backpropagate", rejected_with="rely on the order of the dictionary")
def trusts_the_dictionary(edges, loss):
    return _backward(edges, loss, list(edges)[::-1])


@mutant("backpropagate", rejected_with="lists x twice")
def makes_the_edges_a_dictionary(edges, loss):
    return _backward(edges, loss, _order(edges, loss)[::-1], twice=False)


@mutant("backpropagate", rejected_with="return one for every name")
def returns_only_what_it_visited(edges, loss):
    order = _order(edges, loss)[::-1]
    gradient = _backward(edges, loss, order)
    return {name: gradient[name] for name in order}


@mutant("backpropagate", rejected_with="by itself is 1")
def forgets_the_loss_itself(edges, loss):
    return {**_backward(edges, loss, _order(edges, loss)[::-1]), loss: 0.0}


@mutant("backpropagate", rejected_with="Not everything in the graph leads to the loss")
def begins_at_everything(edges, loss):
    results = {name for pairs in edges.values() for name, _ in pairs}
    order = []
    for top in [name for name in edges if name not in results]:
        order += [name for name in _order(edges, top) if name not in order]
    gradient = dict.fromkeys(edges, 0.0)
    for name in edges:
        gradient[name] = 1.0 if name not in results else 0.0
    for name in order[::-1]:
        for operand, slope in edges[name]:
            gradient[operand] += gradient[name] * slope
    return gradient


def _drawn(sizes, rng, spread):
    """Normal weights of some standard deviation, given (in, out)."""
    return [rng.normal(0, spread(n, m), size=(m, n)) for n, m in zip(sizes[:-1], sizes[1:], strict=True)]


@mutant("he_weights", rejected_with="variance as the standard deviation")
def forgets_the_root(sizes, rng):
    return _drawn(sizes, rng, lambda n, m: 2 / n)


@mutant("he_weights", rejected_with="You took the fan-out")
def takes_the_outputs(sizes, rng):
    return _drawn(sizes, rng, lambda n, m: np.sqrt(2 / m))


@mutant("he_weights", rejected_with="Xavier's rule")
def takes_xavier(sizes, rng):
    return _drawn(sizes, rng, lambda n, m: np.sqrt(2 / (n + m)))


@mutant("he_weights", rejected_with="The 2 is missing")
def forgets_the_relu(sizes, rng):
    return _drawn(sizes, rng, lambda n, m: np.sqrt(1 / n))


@mutant("he_weights", rejected_with="You did not scale")
def does_not_scale(sizes, rng):
    return _drawn(sizes, rng, lambda n, m: 1)


@mutant("he_weights", rejected_with="have the variance s² / 3")
def draws_uniform_numbers(sizes, rng):
    pairs = zip(sizes[:-1], sizes[1:], strict=True)
    return [rng.uniform(-np.sqrt(2 / n), np.sqrt(2 / n), size=(m, n)) for n, m in pairs]


@mutant("he_weights", rejected_with="the numbers are not normal")
def draws_wider_uniform_numbers(sizes, rng):
    pairs = zip(sizes[:-1], sizes[1:], strict=True)
    return [rng.uniform(-np.sqrt(6 / n), np.sqrt(6 / n), size=(m, n)) for n, m in pairs]


@mutant("he_weights", rejected_with="its rows are the neurons")
def transposes(sizes, rng):
    return [W.T for W in _drawn(sizes, rng, lambda n, m: np.sqrt(2 / n))]


@mutant("he_weights", rejected_with="All weights are equal")
def sets_all_weights_equal(sizes, rng):
    return [np.full((m, n), np.sqrt(2 / n)) for n, m in zip(sizes[:-1], sizes[1:], strict=True)]


@mutant("he_weights", rejected_with="Two calls give the same weights")
def brings_its_own_seed(sizes, rng):
    return _drawn(sizes, np.random.default_rng(0), lambda n, m: np.sqrt(2 / n))


@mutant("he_weights", rejected_with="Two layers of the same size")
def seeds_from_the_sizes(sizes, rng):
    seed = rng.integers(2**32)
    pairs = zip(sizes[:-1], sizes[1:], strict=True)
    return [np.random.default_rng(seed).normal(0, np.sqrt(2 / n), size=(m, n)) for n, m in pairs]


@mutant("he_weights", rejected_with="one fewer than there are sizes")
def makes_a_matrix_per_size(sizes, rng):
    return [rng.normal(0, np.sqrt(2 / n), size=(n, n)) for n in sizes]


def _repeated(sizes, rng, axis):
    """One row or column, of exactly the right mean and variance, again and again."""
    result = []
    for n, m in zip(sizes[:-1], sizes[1:], strict=True):
        one = rng.normal(size=(1, n) if axis == 0 else (m, 1))
        one = (one - one.mean()) / one.std() * np.sqrt(2 / n)
        result.append(np.broadcast_to(one, (m, n)).copy())
    return result


@mutant("he_weights", rejected_with="rows or columns repeat")
def repeats_one_neuron(sizes, rng):
    return _repeated(sizes, rng, axis=0)


@mutant("he_weights", rejected_with="rows or columns repeat")
def repeats_one_weight_per_neuron(sizes, rng):
    return _repeated(sizes, rng, axis=1)


@mutant("he_weights", rejected_with="Two generators with the same seed")
def ignores_the_generator(sizes, rng):
    return _drawn(sizes, np.random.default_rng(), lambda n, m: np.sqrt(2 / n))
