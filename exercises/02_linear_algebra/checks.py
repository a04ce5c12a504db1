"""Checks of the exercises on linear algebra; the inputs are drawn anew from each seed."""

from unittest import mock

import numpy as np

from lmcore.checking import CheckFailed, Tasks, require

tasks = Tasks()
check = tasks.check


def _same(got, expected):
    """Whether an answer has the expected shape and numbers."""
    got = np.asarray(got, dtype=float)
    return got.shape == np.shape(expected) and np.allclose(got, expected, rtol=1e-6, atol=1e-9)


def _pair(got, first, second):
    """Require that an answer is a pair."""
    require(isinstance(got, tuple) and len(got) == 2, f"Return two things, {first} and {second}, separated by a comma.")
    return got


def _orthogonal(rng, n):
    """A random orthogonal matrix."""
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


@tasks.add(points=1, minutes=5)
def cosine(student, rng):
    """Cosine of two count vectors."""
    x, y = rng.integers(1, 20, size=(2, 7))
    expected = x @ y / np.sqrt((x @ x) * (y @ y))
    got = student(x, y)
    require(not _same(got, x @ y), "That is the dot product; longer documents get more of it. Divide by both norms.")
    require(
        not _same(got, x @ y / ((x @ x) * (y @ y))),
        "You divided by the squared norms: the norm is the square root of x · x.",
    )
    one_norm = _same(got, x @ y / np.sqrt(x @ x)) or _same(got, x @ y / np.sqrt(y @ y))
    require(not one_norm, "You divided by one norm only, so the other document's length still counts.")
    require(_same(got, expected), f"Expected {expected:.4f} for {x} and {y}, got {got}.")
    with np.errstate(all="ignore"):
        got = student(x, np.zeros(7))
    require(_same(got, 0.0), f"A document with no counted word must give 0.0, got {got}: look out for 0/0.")


@tasks.add(points=1, minutes=5)
def center_rows(student, rng):
    """Centring of rows, for every shape."""
    X = rng.normal(3, 2, size=(5, 7))
    expected = X - X.mean(axis=1)[:, None]
    got = student(X)
    require(not _same(got, X - X.mean()), "You subtracted the mean of all numbers; each row has a mean of its own.")
    require(
        not _same(got, X - X.mean(axis=0)),
        "You subtracted the columns' means: axis=0 averages over rows, axis=1 averages over columns.",
    )
    require(_same(got, expected), f"The rows should sum to zero, but sum to {np.asarray(got).sum(axis=-1).round(2)}.")
    square = rng.normal(3, 2, size=(5, 5))
    got = student(square)
    require(
        not _same(got, square - square.mean(axis=1)),
        "For a square matrix a broadcasting bug shows: from the number (i, j) you subtracted the mean of row j. "
        "Keep the means as a column, (m, 1).",
    )
    require(_same(got, square - square.mean(axis=1)[:, None]), "Right for a 5 × 7 matrix, but wrong for a square one.")


@tasks.add(points=4, minutes=25)
def solve(student, rng):
    """Gaussian elimination with partial pivoting."""
    message = "np.linalg may check your answer, but not give it: eliminate yourself."
    banned = mock.Mock(side_effect=CheckFailed(message))

    def answer(A, b):
        with mock.patch.multiple(np.linalg, solve=banned, inv=banned, lstsq=banned), np.errstate(all="ignore"):
            return student(A, b)

    A, b = rng.normal(size=(5, 5)) + 9 * np.eye(5), rng.normal(size=5)
    expected = np.linalg.solve(A, b)
    got = answer(A, b)
    require(
        _same(got, expected),
        "Wrong although no rows need exchanging here. Does b get the same subtractions as A, "
        f"and does back-substitution begin with the last unknown? Expected {expected.round(4)}, got {got}.",
    )
    u, v, w = rng.uniform(1, 2, size=3)
    b = rng.uniform(1, 2, size=2)
    got = answer(np.array([[0, u], [v, w]]), b)
    require(np.isfinite(got).all(), f"You divided by a pivot that is zero: exchange rows first. Got {got}.")
    y = b[1] / u
    only_A = [(b[0] - w * y) / v, y]
    require(not _same(got, only_A), "You exchanged rows of A but not the same numbers of b.")
    y = b[0] / u
    require(_same(got, [(b[1] - w * y) / v, y]), f"Wrong when the first pivot is zero, got {got}.")
    for sign, advice in (
        (1, "A pivot that is merely tiny ruins the result too: always take the largest number of the column."),
        (-1, "Compare absolute values: a large negative number is a good pivot."),
    ):
        A = np.array([[1e-20, u], [sign * v, w]])
        expected = np.linalg.solve(A, b)
        got = answer(A, b)
        require(_same(got, expected), f"{advice} Expected {expected.round(4)}, got {got}.")
    # Later pivots are small and the numbers above them large, so a search from the top finds a finished row.
    A = np.array([[8 * u, 4, 4], [4, 0.1, v], [4, w, 0.1]])
    b = rng.normal(size=3)
    expected = np.linalg.solve(A, b)
    require(
        _same(answer(A, b), expected),
        "Wrong in the second column: look for the pivot from its own row downwards, and leave the finished rows alone.",
    )
    n = int(rng.integers(5, 9))
    A, b = rng.normal(size=(n, n)), rng.normal(size=n)
    expected = np.linalg.solve(A, b)
    got = answer(A, b)
    require(_same(got, expected), f"Wrong for a random {n} × {n} system: expected {expected.round(4)}, got {got}.")


@tasks.add(points=3, minutes=15)
def jacobi(student, rng):
    """Jacobi's method and its spectral radius."""
    A, b = rng.normal(size=(5, 5)), rng.normal(size=5)
    A[np.diag_indices(5)] = -rng.uniform(6, 9, size=5)  # negative, so that a forgotten sign shows
    D, off = np.diag(A), A - np.diag(np.diag(A))
    guesses = [np.zeros(5)]
    for _ in range(5):
        guesses.append((b - off @ guesses[-1]) / D)
    seidel = np.zeros(5)
    for _ in range(4):
        for i in range(5):
            seidel[i] = (b[i] - off[i] @ seidel) / D[i]
    x, radius = _pair(student(A, b, 4), "the guess", "the spectral radius")
    require(
        not _same(x, seidel), "That is Gauss–Seidel: you use new values at once. Jacobi takes all from the old guess."
    )
    require(
        not _same(x, guesses[5]) and not _same(x, guesses[3]),
        "One step too many or too few: the first step starts at zero.",
    )
    require(
        _same(x, guesses[4]), f"After 4 steps from zero expected {guesses[4].round(4)}, got {x}. Divide by a_ii only."
    )
    swap = rng.uniform(1.1, 1.9)  # M has the eigenvalues ± i·swap: no real one at all
    for C in (A, np.array([[1.0, swap], [-swap, 1.0]]), np.full((3, 3), 0.7) + 0.3 * np.eye(3)):
        M = np.eye(len(C)) - C / np.diag(C)[:, None]
        eigenvalues = np.linalg.eigvals(M)
        expected = np.abs(eigenvalues).max()
        _, radius = student(C, np.ones(len(C)), 1)
        for wrong, advice in (
            (
                np.abs(np.linalg.eigvals(C)).max(),
                "You took the eigenvalues of A itself; the matrix to take is I − D⁻¹A.",
            ),
            (np.abs(1 - eigenvalues).max(), "You took the eigenvalues of D⁻¹A and forgot to subtract it from I."),
            (
                eigenvalues.real.max(),
                "You took the largest eigenvalue; the spectral radius is the largest absolute value, also of negative "
                "and complex ones.",
            ),
            (np.linalg.norm(M, 2), "You took a norm of M, which can exceed its spectral radius."),
        ):
            # Some matrices do not tell the mistake from the answer; the others will.
            require(_same(wrong, expected) or not _same(np.real(radius), wrong), advice)
        require(_same(radius, expected), f"The spectral radius should be {expected:.4f}, got {radius}.")


@tasks.add(points=2, minutes=10)
def power_iteration(student, rng):
    """Power iteration for the dominant eigenvector."""
    Q = _orthogonal(rng, 5)
    for sign in (1, -1):
        values = np.array([sign * rng.uniform(10, 20), 5, -3, 2, 1])
        A, start = (Q * values) @ Q.T, Q.sum(axis=1)
        with np.errstate(all="ignore"):
            value, v = _pair(student(A, start, 400), "the eigenvalue", "the eigenvector")
        finite = np.isfinite(value) and np.isfinite(v).all()
        require(finite, "Numbers overflowed in 400 steps: divide by the norm after every step, not at the end.")
        require(np.shape(v) == (5,), f"The eigenvector should have the shape (5,), got {np.shape(v)}.")
        require(
            np.isclose(np.linalg.norm(v), 1),
            f"The eigenvector must have norm 1, yours has {np.linalg.norm(v):.4f}: divide by the norm, "
            "not by the largest component or the sum.",
        )
        require(
            not (sign < 0 and np.isclose(value, -values[0])),
            "The eigenvalue is negative: the vector is turned round at each step. The norm of A v cannot see the sign; "
            "v · A v can.",
        )
        require(
            np.isclose(abs(v @ Q[:, 0]), 1),
            f"The vector is not the dominant eigenvector: A v differs from λ v by "
            f"{np.linalg.norm(A @ v - values[0] * v):.2g}. Is A applied in every step?",
        )
        require(np.isclose(value, values[0]), f"The eigenvalue should be {values[0]:.4f}, got {value}.")
    x = rng.normal(size=5)
    value, v = student(A, x, 1)
    require(np.isclose(abs(v @ (A @ x)), np.linalg.norm(A @ x)), "With steps = 1, A must be applied exactly once.")


@tasks.add(points=2, minutes=12)
def best_rank_k(student, rng):
    """The closest matrix of rank k."""
    for shape in ((7, 7), (11, 5)):
        A, k = rng.normal(size=shape), int(rng.integers(2, 4))
        U, sigma, Vt = np.linalg.svd(A, full_matrices=False)
        expected, tail = (U[:, :k] * sigma[:k]) @ Vt[:k], sigma[k:]
        got, error = _pair(student(A, k), "the matrix", "the distance")
        require(np.shape(got) == shape, f"The matrix should have A's shape, {shape}, got {np.shape(got)}.")
        require(
            not _same(got, (U[:, -k:] * sigma[-k:]) @ Vt[-k:]),
            "You kept the smallest singular values: numpy sorts them downwards, so keep the first k.",
        )
        require(
            not (shape == (7, 7) and _same(got, (U[:, :k] * sigma[:k]) @ Vt[:, :k].T)),
            "svd returns Vᵀ already: take its first k rows, not the transpose of its first k columns.",
        )
        require(
            _same(got, expected),
            f"Your matrix is {np.linalg.norm(A - got):.4f} away from A, the best one of rank {k} "
            f"{np.linalg.norm(tail):.4f}; the rank of yours is {np.linalg.matrix_rank(got)}.",
        )
        require(not _same(error, tail.sum()), "You summed the discarded singular values; sum their squares.")
        require(not _same(error, (tail**2).sum()), "You forgot the square root of the sum of squares.")
        require(
            not _same(error, tail[0]), "That is the largest discarded singular value; the Frobenius norm has them all."
        )
        require(_same(error, np.linalg.norm(tail)), f"The distance should be {np.linalg.norm(tail):.4f}, got {error}.")


@tasks.add(points=3, minutes=12)
def merge_lora(student, rng):
    """A LoRA update, merged and counted."""
    for m, n in ((7, 7), (11, 5)):
        r, alpha = int(rng.integers(2, 5)), int(rng.integers(17, 30))
        W, B, A = rng.normal(size=(m, n)), rng.normal(size=(m, r)), rng.normal(size=(r, n))
        merged, factor = _pair(student(W, B, A, alpha), "the matrix", "the factor")
        update = alpha / r * (B @ A)
        require(
            np.shape(merged) == (m, n), f"The merged matrix should have W's shape, {(m, n)}, got {np.shape(merged)}."
        )
        require(not _same(merged, update), "That is the update alone: add it to W.")
        require(not _same(merged, W + B @ A), "You left out the scale α/r.")
        require(not _same(merged, W + alpha * (B @ A)), "You scaled by α; the scale is α/r.")
        require(
            not (m == n and _same(merged, W + update.T)),
            "Your update is transposed: B has the rows of W, so it stands on the left.",
        )
        require(_same(merged, W + update), "The merged layer must give W x + (α/r) B (A x) for every x, and does not.")
        require(
            not np.isclose(factor, m * n / (r * m * n)) and not np.isclose(factor, m * n / (r * r)),
            "B has m·r numbers and A has r·n: add them.",
        )
        require(
            not np.isclose(factor, r * (m + n) / (m * n)),
            "Your factor is upside down: the numbers of W divided by the trained ones.",
        )
        expected = m * n / (r * (m + n))
        require(
            np.isclose(factor, expected), f"Expected the factor {expected:.4f} for {m} × {n}, r = {r}, got {factor}."
        )
