"""Plausible wrong answers, and what must be said to each."""

import numpy as np

from lmcore.checking import mutant


@mutant("cosine", rejected_with="That is the dot product")
def forgets_the_lengths(x, y):
    return float(x @ y)


@mutant("cosine", rejected_with="squared norms")
def forgets_the_root(x, y):
    norms = (x @ x) * (y @ y)
    return x @ y / norms if norms else 0.0


@mutant("cosine", rejected_with="one norm only")
def divides_by_one_norm(x, y):
    return x @ y / np.linalg.norm(x)


@mutant("cosine", rejected_with="divided by the sums")
def divides_by_the_sums(x, y):
    return x @ y / (x.sum() * y.sum())


@mutant("cosine", rejected_with="That is 1 − cosine")
def returns_a_distance(x, y):
    return 1 - x @ y / (np.linalg.norm(x) * np.linalg.norm(y))


@mutant("cosine", rejected_with="look out for 0/0")
def has_no_empty_document(x, y):
    return x @ y / (np.linalg.norm(x) * np.linalg.norm(y))


@mutant("cosine", rejected_with="look out for 0/0")
def expects_only_the_second_to_be_empty(x, y):
    return x @ y / (np.linalg.norm(x) * np.linalg.norm(y)) if y.any() else 0.0


@mutant("center_rows", rejected_with="mean of all numbers")
def one_mean_for_all(X):
    return X - X.mean()


@mutant("center_rows", rejected_with="axis=0 averages over rows")
def centres_the_columns(X):
    return X - X.mean(axis=0)


@mutant("center_rows", rejected_with="For a square matrix a broadcasting bug shows")
def broadcasts_a_flat_mean(X):
    return X - X.mean(axis=1)


@mutant("center_rows", rejected_with="For a square matrix a broadcasting bug shows")
def adds_the_axis_only_when_numpy_complains(X):
    try:
        return X - X.mean(axis=1)
    except ValueError:
        return X - X.mean(axis=1)[:, None]


@mutant("center_rows", rejected_with="divided by the rows' means")
def divides_by_the_means(X):
    return X / X.mean(axis=1, keepdims=True)


def _largest(A, k):
    """Row of the right pivot."""
    return k + np.argmax(np.abs(A[k:, k]))


def _swap(A, k, p):
    """The right exchange of two rows."""
    A[[k, p]] = A[[p, k]]


def _copy(A):
    """The right copy."""
    return A.astype(float)


def _eliminate(A, B, pivot=_largest, swap=_swap, copy=_copy, exchange_b=True, update_b=True):
    """The right algorithm with switches for the wrong ones; X, the pivots, and the rows that were exchanged."""
    A, B = copy(A), copy(B)
    n, exchanges = len(A), []
    for k in range(n - 1):
        p = pivot(A, k)
        exchanges.append((k, p))
        if p != k:
            swap(A, k, p)
            if exchange_b:
                swap(B, k, p)
        for i in range(k + 1, n):
            factor = A[i, k] / A[k, k]
            A[i, k:] -= factor * A[k, k:]
            if update_b:
                B[i] -= factor * B[k]
    X = np.zeros(B.shape)
    for i in reversed(range(n)):
        X[i] = (B[i] - A[i, i + 1 :] @ X[i + 1 :]) / A[i, i]
    return X, np.diag(A), exchanges


def _answer(A, B, **switches):
    """X and the determinant, with switches."""
    X, pivots, exchanges = _eliminate(A, B, **switches)
    return X, np.prod(pivots) * (-1) ** sum(k != p for k, p in exchanges)


@mutant("solve_all", rejected_with="pivot that is zero")
def never_exchanges(A, B):
    return _answer(A, B, pivot=lambda A, k: k)


@mutant("solve_all", rejected_with="merely tiny")
def exchanges_only_at_zero(A, B):
    return _answer(A, B, pivot=lambda A, k: _largest(A, k) if A[k, k] == 0 else k)


@mutant("solve_all", rejected_with="Compare absolute values")
def forgets_the_absolute_value(A, B):
    return _answer(A, B, pivot=lambda A, k: k + np.argmax(A[k:, k]))


@mutant("solve_all", rejected_with="exchanged rows of A but not")
def exchanges_only_the_matrix(A, B):
    return _answer(A, B, exchange_b=False)


@mutant("solve_all", rejected_with="left B alone")
def leaves_the_right_sides_alone(A, B):
    return _answer(A, B, update_b=False)


@mutant("solve_all", rejected_with="so add k")
def forgets_to_add_k(A, B):
    return _answer(A, B, pivot=lambda A, k: np.argmax(np.abs(A[k:, k])) if k else _largest(A, k))


@mutant("solve_all", rejected_with="so add k")
def forgets_to_add_k_and_exchanges_what_it_finds(A, B):
    return _answer(A, B, pivot=lambda A, k: np.argmax(np.abs(A[k:, k])))


@mutant("solve_all", rejected_with="Every column needs its own search")
def pivots_in_the_first_column_only(A, B):
    return _answer(A, B, pivot=lambda A, k: k if k else _largest(A, k))


@mutant("solve_all", rejected_with="from its own row downwards")
def searches_the_whole_column(A, B):
    return _answer(A, B, pivot=lambda A, k: np.argmax(np.abs(A[:, k])))


@mutant("solve_all", rejected_with="writes through views")
def exchanges_through_views(A, B):
    def swap(A, k, p):
        A[k], A[p] = A[p], A[k]

    return _answer(A, B, swap=swap)


@mutant("solve_all", rejected_with="lose their fractions or fail")
def copies_without_floats(A, B):
    return _answer(A, B, copy=np.copy)


@mutant("solve_all", rejected_with="lose their fractions or fail")
def works_in_the_given_type(A, B):
    X, det = _answer(A, B)
    return (X.astype(int) if A.dtype == int else X), det


@mutant("solve_all", rejected_with="changed the caller's A or B")
def copies_only_whole_numbers(A, B):
    return _answer(A, B, copy=lambda A: A.astype(float, copy=False))


@mutant("solve_all", rejected_with="must not flip the sign")
def flips_the_sign_at_every_column(A, B):
    X, pivots, exchanges = _eliminate(A, B)
    return X, np.prod(pivots) * (-1) ** len(exchanges)


@mutant("solve_all", rejected_with="Each exchange of two different rows flips it")
def forgets_the_sign(A, B):
    X, pivots, _ = _eliminate(A, B)
    return X, np.prod(pivots)


@mutant("solve_all", rejected_with="flips it once more")
def flips_the_sign_once_and_for_all(A, B):
    X, pivots, exchanges = _eliminate(A, B)
    return X, -np.prod(pivots) if any(k != p for k, p in exchanges) else np.prod(pivots)


@mutant("solve_all", rejected_with="lacks the last pivot")
def multiplies_while_it_eliminates(A, B):
    X, pivots, exchanges = _eliminate(A, B)
    return X, np.prod(pivots[:-1]) * (-1) ** sum(k != p for k, p in exchanges)


@mutant("solve_all", rejected_with="eliminate yourself")
def asks_numpy(A, B):
    return np.linalg.solve(A, B), 1.0


@mutant("solve_all", rejected_with="back-substitution begin with the last")
def only_divides_by_the_diagonal(A, B):
    return B / np.diag(A)[:, None], _answer(A, B)[1]


def _radius(A, omega):
    """The right spectral radius."""
    return np.abs(np.linalg.eigvals(np.eye(len(A)) - omega * A / np.diag(A)[:, None])).max()


def _guess(A, b, omega, steps):
    """The right guess."""
    x = np.zeros(len(b))
    for _ in range(steps):
        x = x + omega * (b - A @ x) / np.diag(A)
    return x


@mutant("damped_jacobi", rejected_with="You use new values at once")
def uses_new_values_at_once(A, b, omega, steps):
    x = np.zeros(len(b))
    for _ in range(steps):
        for i in range(len(b)):
            x[i] += omega * (b[i] - A[i] @ x) / A[i, i]
    return x, _radius(A, omega)


@mutant("damped_jacobi", rejected_with="ω is missing")
def forgets_to_damp(A, b, omega, steps):
    return _guess(A, b, 1, steps), _radius(A, 1)


@mutant("damped_jacobi", rejected_with="share 1 − ω of the old guess stays")
def forgets_the_old_guess(A, b, omega, steps):
    x = np.zeros(len(b))
    for _ in range(steps):
        x = omega * (x + (b - A @ x) / np.diag(A))
    return x, _radius(A, omega)


@mutant("damped_jacobi", rejected_with="ω belongs to the new part")
def mixes_the_wrong_way_round(A, b, omega, steps):
    x = np.zeros(len(b))
    for _ in range(steps):
        x = omega * x + (1 - omega) * (x + (b - A @ x) / np.diag(A))
    return x, _radius(A, omega)


@mutant("damped_jacobi", rejected_with="The sign: what is added")
def walks_away(A, b, omega, steps):
    x = np.zeros(len(b))
    for _ in range(steps):
        x = x + omega * (A @ x - b) / np.diag(A)
    return x, _radius(A, omega)


@mutant("damped_jacobi", rejected_with="One step too many")
def starts_with_a_step_for_free(A, b, omega, steps):
    return _guess(A, b, omega, steps + 1), _radius(A, omega)


@mutant("damped_jacobi", rejected_with="One step too few")
def counts_the_start_as_a_step(A, b, omega, steps):
    return _guess(A, b, omega, steps - 1), _radius(A, omega)


@mutant("damped_jacobi", rejected_with="After 4 steps from zero expected")
def forgets_the_diagonal(A, b, omega, steps):
    x = np.zeros(len(b))
    for _ in range(steps):
        x = x + omega * (b - A @ x)
    return x, _radius(A, omega)


@mutant("damped_jacobi", rejected_with="eigenvalues of A itself")
def radius_of_the_matrix(A, b, omega, steps):
    return _guess(A, b, omega, steps), np.abs(np.linalg.eigvals(A)).max()


@mutant("damped_jacobi", rejected_with="spectral radius without damping")
def radius_without_damping(A, b, omega, steps):
    return _guess(A, b, omega, steps), _radius(A, 1)


@mutant("damped_jacobi", rejected_with="forgot to subtract it from I")
def radius_without_the_identity(A, b, omega, steps):
    return _guess(A, b, omega, steps), np.abs(np.linalg.eigvals(omega * A / np.diag(A)[:, None])).max()


@mutant("damped_jacobi", rejected_with="D⁻¹ is missing")
def radius_without_the_diagonal(A, b, omega, steps):
    return _guess(A, b, omega, steps), np.abs(np.linalg.eigvals(np.eye(len(A)) - omega * A)).max()


@mutant("damped_jacobi", rejected_with="largest absolute value")
def largest_real_eigenvalue(A, b, omega, steps):
    M = np.eye(len(A)) - omega * A / np.diag(A)[:, None]
    return _guess(A, b, omega, steps), np.linalg.eigvals(M).real.max()


@mutant("damped_jacobi", rejected_with="a norm of M")
def a_norm_for_the_radius(A, b, omega, steps):
    return _guess(A, b, omega, steps), np.linalg.norm(np.eye(len(A)) - omega * A / np.diag(A)[:, None], 2)


@mutant("damped_jacobi", rejected_with="Return two things")
def returns_the_guess_only(A, b, omega, steps):
    return _guess(A, b, omega, steps)


def _power(A, v, steps):
    """The right power iteration."""
    for _ in range(steps):
        v = A @ v
        v = v / np.linalg.norm(v)
    return v @ A @ v, v


@mutant("second_eigenpair", rejected_with="dominant eigenvector again")
def returns_the_first(A, v, steps):
    return _power(A, v, steps)


@mutant("second_eigenpair", rejected_with="rounding brings it back")
def cleans_the_start_only(A, v, steps):
    _, first = _power(A, v, steps)
    return _power(A, v - (v @ first) * first, steps)


@mutant("second_eigenpair", rejected_with="without the factor λ")
def deflates_without_the_eigenvalue(A, v, steps):
    _, first = _power(A, v, steps)
    return _power(A - np.outer(first, first), v, steps)


@mutant("second_eigenpair", rejected_with="deflation doubled it")
def deflates_with_the_norm(A, v, steps):
    _, first = _power(A, v, steps)
    return _power(A - np.linalg.norm(A @ first) * np.outer(first, first), v, steps)


@mutant("second_eigenpair", rejected_with="second eigenvalue is negative here")
def takes_the_norm_for_the_eigenvalue(A, v, steps):
    value, first = _power(A, v, steps)
    _, second = _power(A - value * np.outer(first, first), v, steps)
    return np.linalg.norm(A @ second), second


@mutant("second_eigenpair", rejected_with="overflowed")
def normalises_at_the_end(A, v, steps):
    for _ in range(steps):
        v = A @ v
    v = v / np.linalg.norm(v)
    return _power(A - v @ A @ v * np.outer(v, v), v, steps)


@mutant("second_eigenpair", rejected_with="outer product, of shape (n, n)")
def multiplies_number_by_number(A, v, steps):
    value, first = _power(A, v, steps)
    return _power(A - value * first * first, v, steps)


@mutant("second_eigenpair", rejected_with="not by the largest component")
def divides_by_the_largest_component(A, v, steps):
    value, first = _power(A, v, steps)
    A = A - value * np.outer(first, first)
    for _ in range(steps):
        v = A @ v
        v = v / np.abs(v).max()
    return v @ A @ v / (v @ v), v


@mutant("second_eigenpair", rejected_with="the eigenvalue beside it is the first")
def keeps_the_first_eigenvalue(A, v, steps):
    value, first = _power(A, v, steps)
    return value, _power(A - value * np.outer(first, first), v, steps)[1]


@mutant("second_eigenpair", rejected_with="use power iteration")
def asks_numpy_for_the_eigenvalues(A, v, steps):
    values, vectors = np.linalg.eigh(A)
    second = np.argsort(-np.abs(values))[1]
    return values[second], vectors[:, second]


def _rank(A, error, limit):
    """The smallest rank whose error, of the discarded singular values, is within a limit; and the approximation."""
    U, sigma, Vt = np.linalg.svd(A, full_matrices=False)
    k = next(k for k in range(len(sigma) + 1) if error(sigma[k:]) <= limit(sigma))
    return k, U[:, :k] * sigma[:k] @ Vt[:k]


def _right(A, tolerance):
    """The right rank and the singular value decomposition."""
    k, _ = _rank(A, np.linalg.norm, lambda sigma: tolerance * np.linalg.norm(sigma))
    return k, *np.linalg.svd(A, full_matrices=False)


@mutant("smallest_rank", rejected_with="take the square root of the share")
def compares_squares(A, tolerance):
    return _rank(A, lambda tail: (tail**2).sum(), lambda sigma: tolerance * (sigma**2).sum())


@mutant("smallest_rank", rejected_with="You summed the singular values")
def sums_the_singular_values(A, tolerance):
    return _rank(A, np.sum, lambda sigma: tolerance * sigma.sum())


@mutant("smallest_rank", rejected_with="first discarded singular value only")
def looks_at_one_singular_value(A, tolerance):
    return _rank(A, lambda tail: tail.max(initial=0), lambda sigma: tolerance * sigma[0])


@mutant("smallest_rank", rejected_with="divide it by the norm of A")
def forgets_that_the_error_is_relative(A, tolerance):
    return _rank(A, np.linalg.norm, lambda sigma: tolerance)


@mutant("smallest_rank", rejected_with="add up in squares")
def keeps_a_share_of_the_norm(A, tolerance):
    U, sigma, Vt = np.linalg.svd(A, full_matrices=False)
    k = int(np.argmax(np.sqrt(np.cumsum(sigma**2)) >= (1 - tolerance) * np.linalg.norm(sigma))) + 1
    return k, U[:, :k] * sigma[:k] @ Vt[:k]


@mutant("smallest_rank", rejected_with="One rank too few")
def forgets_that_indices_start_at_zero(A, tolerance):
    k, U, sigma, Vt = _right(A, tolerance)
    return k - 1, U[:, : k - 1] * sigma[: k - 1] @ Vt[: k - 1]


@mutant("smallest_rank", rejected_with="One rank too many")
def keeps_one_more(A, tolerance):
    k, U, sigma, Vt = _right(A, tolerance)
    return k + 1, U[:, : k + 1] * sigma[: k + 1] @ Vt[: k + 1]


@mutant("smallest_rank", rejected_with="kept the smallest")
def keeps_the_last(A, tolerance):
    k, U, sigma, Vt = _right(A, tolerance)
    return k, U[:, -k:] * sigma[-k:] @ Vt[-k:]


@mutant("smallest_rank", rejected_with="svd returns Vᵀ already")
def transposes_twice(A, tolerance):
    k, U, sigma, V = _right(A, tolerance)
    return k, U[:, :k] * sigma[:k] @ V[:, :k].T


@mutant("smallest_rank", rejected_with="away from A, the best one of rank")
def keeps_columns_of_the_matrix(A, tolerance):
    k, *_ = _right(A, tolerance)
    return k, np.where(np.arange(A.shape[1]) < k, A, 0)


@mutant("smallest_rank", rejected_with="zeros are good enough")
def keeps_at_least_one(A, tolerance):
    k, U, sigma, Vt = _right(A, tolerance)
    k = max(k, 1)
    return k, U[:, :k] * sigma[:k] @ Vt[:k]


def _factor(W, B, A):
    """The right factor."""
    return W.size / (B.size + A.size)


@mutant("merge_lora", rejected_with="left out the scale")
def forgets_the_scale(W, B, A, alpha):
    return W + B @ A, _factor(W, B, A)


@mutant("merge_lora", rejected_with="forgot the division")
def scales_by_alpha(W, B, A, alpha):
    return W + alpha * B @ A, _factor(W, B, A)


@mutant("merge_lora", rejected_with="Your scale is a whole number")
def rounds_the_scale_down(W, B, A, alpha):
    return W + alpha // len(A) * (B @ A), _factor(W, B, A)


@mutant("merge_lora", rejected_with="Wrong axis")
def takes_the_rows_of_the_left_factor(W, B, A, alpha):
    return W + alpha / len(B) * B @ A, _factor(W, B, A)


@mutant("merge_lora", rejected_with="Wrong axis")
def takes_the_columns_of_the_right_factor(W, B, A, alpha):
    return W + alpha / A.shape[1] * B @ A, _factor(W, B, A)


@mutant("merge_lora", rejected_with="update alone")
def forgets_the_frozen_matrix(W, B, A, alpha):
    return alpha / len(A) * B @ A, _factor(W, B, A)


@mutant("merge_lora", rejected_with="transposed")
def swaps_the_factors(W, B, A, alpha):
    return W + alpha / len(A) * (A.T @ B.T), _factor(W, B, A)


@mutant("merge_lora", rejected_with="add them")
def multiplies_the_counts(W, B, A, alpha):
    m, n = W.shape
    return W + alpha / len(A) * B @ A, m * n / (len(A) * m * n)


@mutant("merge_lora", rejected_with="upside down")
def inverts_the_factor(W, B, A, alpha):
    return W + alpha / len(A) * B @ A, 1 / _factor(W, B, A)


@mutant("merge_lora", rejected_with="Your factor is a whole number")
def rounds_the_factor_down(W, B, A, alpha):
    return W + alpha / len(A) * B @ A, W.size // (B.size + A.size)
