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


@mutant("cosine", rejected_with="look out for 0/0")
def has_no_empty_document(x, y):
    return x @ y / (np.linalg.norm(x) * np.linalg.norm(y))


@mutant("center_rows", rejected_with="mean of all numbers")
def one_mean_for_all(X):
    return X - X.mean()


@mutant("center_rows", rejected_with="axis=0 averages over rows")
def centres_the_columns(X):
    return X - X.mean(axis=0)


@mutant("center_rows", rejected_with="could not be broadcast")
def broadcasts_a_flat_mean(X):
    return X - X.mean(axis=1)


@mutant("center_rows", rejected_with="For a square matrix a broadcasting bug shows")
def adds_the_axis_only_when_numpy_complains(X):
    try:
        return X - X.mean(axis=1)
    except ValueError:
        return X - X.mean(axis=1)[:, None]


def _eliminate(A, b, pivot, exchange_b=True, update_b=True):
    """The right algorithm with switches for the wrong ones."""
    A, b = A.astype(float), b.astype(float)
    n = len(b)
    for k in range(n - 1):
        p = pivot(A, k)
        A[[k, p]] = A[[p, k]]
        if exchange_b:
            b[[k, p]] = b[[p, k]]
        for i in range(k + 1, n):
            factor = A[i, k] / A[k, k]
            A[i, k:] -= factor * A[k, k:]
            if update_b:
                b[i] -= factor * b[k]
    x = np.zeros(n)
    for i in reversed(range(n)):
        x[i] = (b[i] - A[i, i + 1 :] @ x[i + 1 :]) / A[i, i]
    return x


def _largest(A, k):
    """Row of the right pivot."""
    return k + np.argmax(np.abs(A[k:, k]))


@mutant("solve", rejected_with="pivot that is zero")
def never_exchanges(A, b):
    return _eliminate(A, b, lambda A, k: k)


@mutant("solve", rejected_with="merely tiny")
def exchanges_only_at_zero(A, b):
    return _eliminate(A, b, lambda A, k: _largest(A, k) if A[k, k] == 0 else k)


@mutant("solve", rejected_with="Compare absolute values")
def forgets_the_absolute_value(A, b):
    return _eliminate(A, b, lambda A, k: k + np.argmax(A[k:, k]))


@mutant("solve", rejected_with="exchanged rows of A but not")
def exchanges_only_the_matrix(A, b):
    return _eliminate(A, b, _largest, exchange_b=False)


@mutant("solve", rejected_with="Does b get the same subtractions")
def leaves_b_alone(A, b):
    return _eliminate(A, b, _largest, update_b=False)


@mutant("solve", rejected_with="from its own row downwards")
def searches_the_whole_column(A, b):
    return _eliminate(A, b, lambda A, k: np.argmax(np.abs(A[:, k])))


@mutant("solve", rejected_with="eliminate yourself")
def asks_numpy(A, b):
    return np.linalg.solve(A, b)


@mutant("solve", rejected_with="back-substitution begin with the last")
def only_divides_by_the_diagonal(A, b):
    return b / np.diag(A)


def _radius(A):
    """The right spectral radius."""
    return np.abs(np.linalg.eigvals(np.eye(len(A)) - A / np.diag(A)[:, None])).max()


def _guess(A, b, steps):
    """The right guess."""
    x = np.zeros(len(b))
    for _ in range(steps):
        x = x + (b - A @ x) / np.diag(A)
    return x


@mutant("jacobi", rejected_with="That is Gauss–Seidel")
def uses_new_values_at_once(A, b, steps):
    x = np.zeros(len(b))
    for _ in range(steps):
        for i in range(len(b)):
            x[i] += (b[i] - A[i] @ x) / A[i, i]
    return x, _radius(A)


@mutant("jacobi", rejected_with="One step too many or too few")
def starts_with_a_step_for_free(A, b, steps):
    return _guess(A, b, steps + 1), _radius(A)


@mutant("jacobi", rejected_with="After 4 steps from zero expected")
def forgets_the_diagonal(A, b, steps):
    x = np.zeros(len(b))
    for _ in range(steps):
        x = b - (A - np.diag(np.diag(A))) @ x
    return x, _radius(A)


@mutant("jacobi", rejected_with="eigenvalues of A itself")
def radius_of_the_matrix(A, b, steps):
    return _guess(A, b, steps), np.abs(np.linalg.eigvals(A)).max()


@mutant("jacobi", rejected_with="forgot to subtract it from I")
def radius_without_the_identity(A, b, steps):
    return _guess(A, b, steps), np.abs(np.linalg.eigvals(A / np.diag(A)[:, None])).max()


@mutant("jacobi", rejected_with="largest absolute value")
def largest_real_eigenvalue(A, b, steps):
    return _guess(A, b, steps), np.linalg.eigvals(np.eye(len(A)) - A / np.diag(A)[:, None]).real.max()


@mutant("jacobi", rejected_with="a norm of M")
def a_norm_for_the_radius(A, b, steps):
    return _guess(A, b, steps), np.linalg.norm(np.eye(len(A)) - A / np.diag(A)[:, None], 2)


@mutant("jacobi", rejected_with="Return two things")
def returns_the_guess_only(A, b, steps):
    return _guess(A, b, steps)


@mutant("power_iteration", rejected_with="overflowed")
def normalises_at_the_end(A, v, steps):
    for _ in range(steps):
        v = A @ v
    v = v / np.linalg.norm(v)
    return v @ A @ v, v


@mutant("power_iteration", rejected_with="cannot see the sign")
def takes_the_norm_for_the_eigenvalue(A, v, steps):
    for _ in range(steps):
        v = A @ v / np.linalg.norm(A @ v)
    return np.linalg.norm(A @ v), v


@mutant("power_iteration", rejected_with="not by the largest component")
def divides_by_the_largest_component(A, v, steps):
    for _ in range(steps):
        v = A @ v
        v = v / np.abs(v).max()
    return v @ A @ v / (v @ v), v


@mutant("power_iteration", rejected_with="Is A applied in every step")
def applies_it_once(A, v, steps):
    v = A @ v
    v = v / np.linalg.norm(v)
    return v @ A @ v, v


@mutant("power_iteration", rejected_with="exactly once")
def takes_a_step_too_many(A, v, steps):
    for _ in range(steps + 1):
        v = A @ v
        v = v / np.linalg.norm(v)
    return v @ A @ v, v


def _parts(A, k):
    """The right matrix, and the discarded singular values."""
    U, sigma, Vt = np.linalg.svd(A, full_matrices=False)
    return U[:, :k] * sigma[:k] @ Vt[:k], sigma[k:]


@mutant("best_rank_k", rejected_with="kept the smallest")
def keeps_the_last(A, k):
    U, sigma, Vt = np.linalg.svd(A, full_matrices=False)
    return U[:, -k:] * sigma[-k:] @ Vt[-k:], np.linalg.norm(sigma[:-k])


@mutant("best_rank_k", rejected_with="svd returns Vᵀ already")
def transposes_twice(A, k):
    U, sigma, V = np.linalg.svd(A, full_matrices=False)
    return U[:, :k] * sigma[:k] @ V[:, :k].T, np.linalg.norm(sigma[k:])


@mutant("best_rank_k", rejected_with="away from A, the best one of rank")
def keeps_columns_of_the_matrix(A, k):
    kept = np.zeros_like(A)
    kept[:, :k] = A[:, :k]
    return kept, np.linalg.norm(A - kept)


@mutant("best_rank_k", rejected_with="sum their squares")
def sums_the_singular_values(A, k):
    best, tail = _parts(A, k)
    return best, tail.sum()


@mutant("best_rank_k", rejected_with="square root")
def forgets_the_square_root(A, k):
    best, tail = _parts(A, k)
    return best, (tail**2).sum()


@mutant("best_rank_k", rejected_with="largest discarded singular value")
def takes_the_spectral_norm(A, k):
    best, tail = _parts(A, k)
    return best, tail[0]


@mutant("merge_lora", rejected_with="left out the scale")
def forgets_the_scale(W, B, A, alpha):
    return W + B @ A, W.size / (B.size + A.size)


@mutant("merge_lora", rejected_with="the scale is α/r")
def scales_by_alpha(W, B, A, alpha):
    return W + alpha * B @ A, W.size / (B.size + A.size)


@mutant("merge_lora", rejected_with="update alone")
def forgets_the_frozen_matrix(W, B, A, alpha):
    return alpha / len(A) * B @ A, W.size / (B.size + A.size)


@mutant("merge_lora", rejected_with="transposed")
def swaps_the_factors(W, B, A, alpha):
    return W + alpha / len(A) * (A.T @ B.T), W.size / (B.size + A.size)


@mutant("merge_lora", rejected_with="add them")
def multiplies_the_counts(W, B, A, alpha):
    m, n = W.shape
    return W + alpha / len(A) * B @ A, m * n / (len(A) * m * n)


@mutant("merge_lora", rejected_with="upside down")
def inverts_the_factor(W, B, A, alpha):
    return W + alpha / len(A) * B @ A, (B.size + A.size) / W.size
