"""Checks of the exercises on linear algebra; the inputs are drawn anew from each seed."""

from functools import partial
from unittest import mock

import numpy as np

from lmcore.checking import CheckFailed, Tasks, require, same

tasks = Tasks()
check = tasks.check
_same = partial(same, rtol=1e-6, atol=1e-9)

# The harness hands over deep copies; an array that is its own deep copy shows whether the student wrote into it.
_Shared = type("array", (np.ndarray,), {"__deepcopy__": lambda self, memo: self})


def _pair(got, first, second):
    """Require that an answer is a pair."""
    require(isinstance(got, tuple) and len(got) == 2, f"Return two things, {first} and {second}, separated by a comma.")
    return got


def _orthogonal(rng, n):
    """A random orthogonal matrix."""
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


def _without(names, message):
    """Let functions of np.linalg tell the student to do without them."""
    banned = mock.Mock(side_effect=CheckFailed(message))
    return mock.patch.multiple(np.linalg, **dict.fromkeys(names.split(), banned))


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
    require(
        not _same(got, x @ y / (x.sum() * y.sum())),
        "You divided by the sums of the counts: the norm is the square root of the sum of their squares.",
    )
    require(not _same(got, 1 - expected), "That is 1 − cosine, a distance: it is 0, not 1, for the same direction.")
    one_norm = _same(got, x @ y / np.sqrt(x @ x)) or _same(got, x @ y / np.sqrt(y @ y))
    require(not one_norm, "You divided by one norm only, so the other document's length still counts.")
    require(_same(got, expected), f"Expected {expected:.4f} for {x} and {y}, got {got}.")
    for pair in ((x, np.zeros(7)), (np.zeros(7), y)):
        with np.errstate(all="ignore"):
            got = student(*pair)
        require(_same(got, 0.0), f"A document with no counted word must give 0.0, got {got}: look out for 0/0.")


@tasks.add(points=1, minutes=5)
def center_rows(student, rng):
    """Centring of rows, for every shape."""
    for shape in ((5, 5), (5, 7), (7, 5)):  # the square first: there the mistakes are silent
        X = rng.normal(3, 2, size=shape)
        got = student(X)
        require(not _same(got, X - X.mean()), "You subtracted the mean of all numbers; each row has a mean of its own.")
        require(
            not _same(got, X - X.mean(axis=0)),
            "You subtracted the columns' means: axis=0 averages over rows, axis=1 averages over columns.",
        )
        require(
            not (shape == (5, 5) and _same(got, X - X.mean(axis=1))),
            "For a square matrix a broadcasting bug shows: from the number (i, j) you subtracted the mean of row j. "
            "Keep the means as a column, (m, 1).",
        )
        require(not _same(got, X / X.mean(axis=1)[:, None]), "You divided by the rows' means: centring subtracts them.")
        require(np.shape(got) == shape, f"The result should have X's shape, {shape}, got {np.shape(got)}.")
        require(
            _same(got, X - X.mean(axis=1)[:, None]),
            f"Each row should sum to zero, but for shape {shape} they sum to {np.asarray(got).sum(axis=1).round(2)}.",
        )


@tasks.add(points=5, minutes=30)
def solve_all(student, rng):
    """Elimination with partial pivoting for many right sides, and the determinant."""

    def ask(A, B, advice):
        told = "np.linalg may check your answer, but not give it: eliminate yourself."
        with _without("solve inv lstsq pinv det slogdet", told), np.errstate(all="ignore"):
            X, det = _pair(student(A, B), "X", "the determinant")
        require(np.shape(X) == B.shape, f"X should have B's shape, {B.shape}, got {np.shape(X)}. {advice}")
        return np.asarray(X, dtype=float), det

    def same_det(A, det, advice=""):
        right = np.linalg.det(A)
        require(not _same(det, -right), f"The determinant has the wrong sign. {advice}")
        require(not _same(det, right / U), "The determinant lacks the last pivot: there are n of them, not n − 1.")
        require(_same(det, right), f"The determinant should be {right:.4f}, the product of all pivots; got {det}.")

    # No rows need exchanging: the mistakes of elimination itself.
    a, c, d, f = (int(number) for number in rng.integers(2, 9, size=4))
    A, B = np.array([[9.0 * a, c], [d, 9.0 * f]]), rng.normal(size=(2, 3))
    U = 9 * f - d * c / (9 * a)  # the second pivot
    advice = "Does B get the same subtractions as A, and does back-substitution begin with the last unknown?"
    X, det = ask(A, B, advice)
    require(
        not _same(X, np.linalg.solve([[9 * a, c], [0, U]], B)),
        "You eliminated in A but left B alone: every subtraction is one of whole equations.",
    )
    wrong = f"Wrong although no rows need exchanging here. {advice} Expected {np.linalg.solve(A, B).round(4)}, got {X}."
    require(_same(X, np.linalg.solve(A, B)), wrong)
    same_det(A, det, "Here no rows change places; a row exchanged with itself must not flip the sign.")

    # A mild exchange: going without it would do no harm, doing it badly does.
    u, v, w = rng.uniform(1, 2, size=3)
    A = np.array([[u, 5 * w], [3 * v, w]])
    U = 5 * w - u * w / (3 * v)
    X, det = ask(A, B, advice)
    require(
        np.isfinite(X).all(),
        "After your exchange both rows are the same: A[k], A[p] = A[p], A[k] writes through views. "
        "A[[k, p]] = A[[p, k]] copies first.",
    )
    require(
        not _same(X, np.linalg.solve(A[::-1], B)), "You exchanged rows of A but not the same rows of B (or vice versa)."
    )
    require(_same(X, np.linalg.solve(A, B)), f"Wrong for A = {A.round(2)}, where one exchange is due; got {X}.")
    same_det(A, det, "Each exchange of two different rows flips it.")

    # Zero, tiny and negative pivots in the first column.
    A = np.array([[0, u], [v, w]])
    X, det = ask(A, B, advice)
    require(np.isfinite(X).all(), f"You divided by a pivot that is zero: exchange rows first. Got {X}.")
    require(_same(X, np.linalg.solve(A, B)), f"Wrong when the first pivot is zero, got {X}.")
    for sign, advice in (
        (1, "A pivot that is merely tiny ruins the result too: always take the largest number of the column."),
        (-1, "Compare absolute values: a large negative number is a good pivot."),
    ):
        A = np.array([[1e-20, u], [sign * v, w]])
        expected = np.linalg.solve(A, B)
        X, _ = ask(A, B, advice)
        require(_same(X, expected), f"{advice} Expected {expected.round(4)}, got {X}.")

    # The second pivot is zero after the first step, and its only replacement stands below it.
    A = np.array([[a, u, 0], [a, u, v], [0, 5 * w, w]])
    B = rng.normal(size=(3, 3))
    X, det = ask(A, B, "")
    require(
        np.isfinite(X).all() and _same(X, np.linalg.solve(A, B)),
        "The pivot of the second column is zero here and you kept it. Every column needs its own search; and argmax on "
        "the slice A[k:, k] counts from row k, so add k to what it says.",
    )
    # Later pivots are small and the numbers above them large, so a search from the top finds a finished row.
    A = np.array([[8 * u, 4, 4], [4, 0.1, v], [4, w, 0.1]])
    X, det = ask(A, B, "")
    require(
        _same(X, np.linalg.solve(A, B)),
        "Wrong in the second column: look for the pivot from its own row downwards, and leave the finished rows alone.",
    )

    # Whole numbers, and the caller's arrays.
    A, B = np.array([[2, 1, c], [4, 3, d], [1, 2, 9 + f]]), rng.integers(1, 9, size=(3, 2))
    floats = "With whole numbers your subtractions lose their fractions or fail: make copies with astype(float)."
    try:
        X, _ = ask(A, B, "")
    except TypeError as error:  # NumPy's own words for writing a fraction into an array of integers
        raise CheckFailed(f"{floats} ({error})") from error
    require(_same(X, np.linalg.solve(A, B)), floats)
    A, B = rng.normal(size=(4, 4)), rng.normal(size=(4, 2))
    A_shared, B_shared = A.copy().view(_Shared), B.copy().view(_Shared)
    ask(A_shared, B_shared, "")
    kept = np.array_equal(A, A_shared) and np.array_equal(B, B_shared)
    require(kept, "You changed the caller's A or B: work on copies, also when they are floats already.")

    # A cycle of five rows takes four exchanges, the random matrices some number of them.
    matrices = [np.roll(20 * np.eye(5) + rng.normal(size=(5, 5)), 1, axis=0)]
    matrices += [rng.normal(size=(n, n)) for n in rng.integers(5, 9, size=2)]
    for A in matrices:
        n, B = len(A), rng.normal(size=(len(A), 3))
        X, det = ask(A, B, "")
        expected = np.linalg.solve(A, B)
        wrong = f"Wrong for a random {n} × {n} matrix: expected {expected.round(4)}, got {X}."
        require(np.allclose(X, expected, rtol=1e-5, atol=1e-7), wrong)
        require(
            np.isclose(abs(det), abs(np.linalg.det(A))), f"Its determinant is {np.linalg.det(A):.4f}, you got {det}."
        )
        same_sign = np.sign(det) == np.sign(np.linalg.det(A))
        require(same_sign, "The determinant has the wrong sign for a larger matrix: every exchange flips it once more.")


@tasks.add(points=3, minutes=20)
def damped_jacobi(student, rng):
    """Jacobi's method with shorter steps, and its spectral radius."""
    A, b, omega = rng.normal(size=(5, 5)), rng.normal(size=5), rng.uniform(0.55, 0.8)
    A[np.diag_indices(5)] = -rng.uniform(6, 9, size=5)  # negative, so that a forgotten sign shows
    D, eye = np.diag(np.diag(A)), np.eye(5)

    def after(M, steps, weight=omega):
        """The guess of an iteration x ← M x + weight · D⁻¹ b that starts at zero."""
        x = np.zeros(5)
        for _ in range(steps):
            x = M @ x + weight * np.linalg.solve(D, b)
        return x

    J = eye - np.linalg.solve(D, A)  # Jacobi's own matrix
    M = eye - omega * (eye - J)
    S = D / omega + np.tril(A, -1)
    in_place = np.zeros(5)
    for _ in range(4):
        in_place = in_place + np.linalg.solve(S, b - A @ in_place)
    x, radius = _pair(student(A, b, omega, 4), "the guess", "the spectral radius")
    for wrong, message in (
        (in_place, "You use new values at once, as Gauss–Seidel does. Jacobi takes all from the old guess."),
        (after(J, 4, 1.0), "That is Jacobi without damping: ω is missing."),
        (after(omega * J, 4), "You damped the whole new guess: the share 1 − ω of the old guess stays."),
        (
            after(eye - (1 - omega) * (eye - J), 4, 1 - omega),
            "You go the fraction 1 − ω of the way: ω belongs to the new part.",
        ),
        (after(eye + omega * (eye - J), 4, -omega), "The sign: what is added is b − A x, not A x − b."),
        (after(M, 5), "One step too many: the first step starts at zero."),
        (after(M, 3), "One step too few: the first step starts at zero."),
    ):
        require(not _same(x, wrong), message)
    expected = after(M, 4)
    require(_same(x, expected), f"After 4 steps from zero expected {expected.round(4)}, got {x}. Divide by a_ii only.")

    swap = rng.uniform(2.1, 2.9)  # M's eigenvalues are 1 − ω ± i·ω·swap: none is real
    for C in (A, np.array([[2.0, 2 * swap], [-2 * swap, 2.0]]), np.full((3, 3), 1.4) + 0.6 * np.eye(3)):
        scaled = C / np.diag(C)[:, None]
        M = np.eye(len(C)) - omega * scaled
        largest = lambda matrix: np.abs(np.linalg.eigvals(matrix)).max()  # noqa: E731
        expected = largest(M)
        _, radius = student(C, np.ones(len(C)), omega, 1)
        for wrong, advice in (
            (largest(C), "You took the eigenvalues of A itself; take those of what multiplies the error."),
            (largest(np.eye(len(C)) - scaled), "That is the spectral radius without damping: M has an ω in it."),
            (largest(omega * scaled), "You took the eigenvalues of ωD⁻¹A and forgot to subtract it from I."),
            (largest(np.eye(len(C)) - omega * C), "You took I − ωA; D⁻¹ is missing: divide each row by its a_ii."),
            (
                np.linalg.eigvals(M).real.max(),
                "You took the largest eigenvalue; the spectral radius is the largest absolute value, also of negative "
                "and complex ones.",
            ),
            (np.linalg.norm(M, 2), "You took a norm of M, which can exceed its spectral radius."),
        ):
            # Some matrices do not tell the mistake from the answer; the others will.
            require(_same(wrong, expected) or not _same(np.real(radius), wrong), advice)
        require(_same(radius, expected), f"The spectral radius should be {expected:.4f}, got {radius}.")


@tasks.add(points=3, minutes=15)
def second_eigenpair(student, rng):
    """The second eigenvalue, by deflation."""
    told = "NumPy may check your answer, but not give it: use power iteration."
    for sign_1, sign_2 in ((1, 1), (1, -1), (-1, 1)):
        Q = _orthogonal(rng, 5)
        values = np.array([sign_1 * rng.uniform(15, 20), sign_2 * rng.uniform(8, 11), 3, -2, 1])
        A, start = (Q * values) @ Q.T, Q.sum(axis=1)
        with _without("eig eigh eigvals eigvalsh svd", told), np.errstate(all="ignore"):
            value, v = _pair(student(A, start, 400), "the eigenvalue", "the eigenvector")
        finite = np.isfinite(value) and np.isfinite(v).all()
        require(finite, "Numbers overflowed in 400 steps: divide by the norm after every step, not at the end.")
        require(np.shape(v) == (5,), f"The eigenvector should have the shape (5,), got {np.shape(v)}.")
        require(
            np.isclose(np.linalg.norm(v), 1),
            f"The eigenvector must have norm 1, yours has {np.linalg.norm(v):.4f}: divide by the norm, not by the "
            "largest component or the sum.",
        )
        if np.isclose(abs(v @ Q[:, 0]), 1):
            require(
                not np.isclose(value, values[0] - 1),
                "You subtracted v vᵀ without the factor λ, which lowers the eigenvalue by 1 only.",
            )
            require(
                not np.isclose(value, 2 * values[0]),
                "Your first eigenvalue has the wrong sign, so that deflation doubled it: the norm of A v cannot see "
                "the sign; v · A v can.",
            )
            require(
                False,
                "That is the dominant eigenvector again. Run the second power iteration with A − λ v vᵀ; to remove v "
                "from the start alone is not enough, since rounding brings it back.",
            )
        require(
            np.isclose(abs(v @ Q[:, 1]), 1),
            f"The vector is not the second eigenvector: A v differs from λ v by "
            f"{np.linalg.norm(A @ v - values[1] * v):.2g}. Are the matrices applied in every step, and is v vᵀ the "
            "outer product, of shape (n, n)?",
        )
        require(
            not (sign_2 < 0 and np.isclose(value, -values[1])),
            "The second eigenvalue is negative here: the norm of A v cannot see the sign; v · A v can.",
        )
        require(not np.isclose(value, values[0]), "The vector is right, but the eigenvalue beside it is the first one.")
        require(np.isclose(value, values[1]), f"The eigenvalue should be {values[1]:.4f}, got {value}.")


def _ranks(sigma, tolerance):
    """The right rank, and those that mistaken notions of accuracy give."""
    tails = [sigma[k:] for k in range(len(sigma) + 1)]
    size = np.linalg.norm(sigma)
    smallest = lambda errors, limit: int(np.argmax(np.array(errors) <= limit))  # noqa: E731
    right = smallest([np.linalg.norm(tail) for tail in tails], tolerance * size)
    squares = smallest([(tail**2).sum() for tail in tails], tolerance * size**2)
    sums = smallest([tail.sum() for tail in tails], tolerance * sigma.sum())
    largest = smallest([tail.max(initial=0) for tail in tails], tolerance * sigma[0])
    absolute = smallest([np.linalg.norm(tail) for tail in tails], tolerance)
    kept = smallest([-np.linalg.norm(sigma[:k]) for k in range(len(tails))], -(1 - tolerance) * size)
    return {"right": right, "squares": squares, "sums": sums, "largest": largest, "absolute": absolute, "kept": kept}


@tasks.add(points=3, minutes=15)
def smallest_rank(student, rng):
    """The smallest rank that is accurate enough."""
    for m, n in ((17, 17), (23, 17), (17, 23)):
        told_apart = False
        while not told_apart:  # draw until every misconception leads to another rank
            sigma = np.sort(rng.uniform(3, 6) * np.exp(-rng.uniform(0, 4, size=17)))[::-1]
            ranks = _ranks(sigma, tolerance := round(rng.uniform(0.1, 0.4), 2))
            others = {ranks["right"] - 1, ranks["right"] + 1}
            told_apart = len(set(ranks.values()) | others) == len(ranks) + 2
        U, V = _orthogonal(rng, m)[:, :17], _orthogonal(rng, n)[:, :17]
        A, right = (U * sigma) @ V.T, ranks["right"]
        k, got = _pair(student(A, tolerance), "the rank", "the matrix")
        for name, message in (
            ("squares", "You compared squares with the tolerance: take the square root of the share."),
            ("sums", "You summed the singular values; the Frobenius norm is the root of the sum of their squares."),
            (
                "largest",
                "You looked at the first discarded singular value only; the Frobenius norm counts all of them.",
            ),
            ("absolute", "You compared the error itself with the tolerance; divide it by the norm of A."),
            (
                "kept",
                "You asked that the kept part has the norm (1 − tolerance) ‖A‖. The parts add up in squares, not in "
                "norms: use what is discarded.",
            ),
        ):
            require(k != ranks[name], message)
        require(
            k != right - 1, "One rank too few: is the error still above the tolerance? sigma[k:] is what A_k discards."
        )
        require(k != right + 1, "One rank too many: a smaller one is accurate enough. sigma[k:] is what A_k discards.")
        require(k == right, f"The rank should be {right} for the tolerance {tolerance}, got {k}.")
        require(np.shape(got) == (m, n), f"The matrix should have A's shape, {(m, n)}, got {np.shape(got)}.")
        u, s, vt = np.linalg.svd(A, full_matrices=False)
        require(
            not _same(got, (u[:, -k:] * s[-k:]) @ vt[-k:]),
            "You kept the smallest singular values: numpy sorts them downwards, so keep the first k.",
        )
        require(
            not (n == 17 and _same(got, (u[:, :k] * s[:k]) @ vt[:, :k].T)),
            "svd returns Vᵀ already: take its first k rows, not the transpose of its first k columns.",
        )
        require(
            _same(got, (U[:, :k] * sigma[:k]) @ V[:, :k].T),
            f"Your matrix is {np.linalg.norm(A - got):.4f} away from A, the best one of rank {k} "
            f"{np.linalg.norm(sigma[k:]):.4f}; the rank of yours is {np.linalg.matrix_rank(got)}.",
        )
    k, got = student(A, 1.5)
    require(k == 0 and _same(got, np.zeros_like(A)), f"For the tolerance 1.5 zeros are good enough: rank 0, not {k}.")


@tasks.add(points=2, minutes=10)
def merge_lora(student, rng):
    """A LoRA update, merged and counted."""
    for m, n in ((23, 23), (31, 29)):
        r = int(rng.integers(3, 6))
        alpha = r * int(rng.integers(2, 4)) + int(rng.integers(1, r))  # no multiple of r
        W, B, A = rng.normal(size=(m, n)), rng.normal(size=(m, r)), rng.normal(size=(r, n))
        merged, factor = _pair(student(W, B, A, alpha), "the matrix", "the factor")
        update = alpha / r * (B @ A)
        require(
            np.shape(merged) == (m, n), f"The merged matrix should have W's shape, {(m, n)}, got {np.shape(merged)}."
        )
        for wrong, message in (
            (update, "That is the update alone: add it to W."),
            (W + B @ A, "You left out the scale α/r."),
            (W + alpha * (B @ A), "You scaled by α and forgot the division: the scale is α/r."),
            (W + alpha // r * (B @ A), "Your scale is a whole number: // rounds down. Divide with /."),
            (W + alpha / m * (B @ A), "Wrong axis: r is the number of rows of A (or columns of B), you took m or n."),
            (W + alpha / n * (B @ A), "Wrong axis: r is the number of rows of A (or columns of B), you took m or n."),
            (W + update.T if m == n else update, "Your update is transposed: B has the rows of W, so it stands left."),
        ):
            require(not _same(merged, wrong), message)
        require(_same(merged, W + update), "The merged matrix must give W x + (α/r) B (A x) for every x, and does not.")
        expected = m * n / (r * (m + n))
        for wrong, message in (
            (1 / r, "B has m·r numbers and A has r·n: add them."),
            (m * n / (r * r), "B has m·r numbers and A has r·n: add them."),
            (1 / expected, "Your factor is upside down: the numbers of W divided by the trained ones."),
            (m * n // (r * (m + n)), "Your factor is a whole number: // rounds down. Divide with /."),
        ):
            require(not np.isclose(factor, wrong), message)
        require(
            np.isclose(factor, expected), f"Expected the factor {expected:.4f} for {m} × {n}, r = {r}, got {factor}."
        )
