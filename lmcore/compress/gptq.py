"""GPTQ: round a matrix column after column, and let the columns that are still free make up for each rounding.

What matters is not how near the rounded weights Q are to W, but how near their products with the inputs are: the
squared error ‖(W − Q) X‖², the sum over rows of (w − q) H (w − q)ᵀ with H = X Xᵀ, the Gram matrix of the inputs. Inputs
that go up and down together can stand in for each other. If column j of W is rounded down and its input resembles that
of column k, a slightly larger column k gives most of it back. The best such correction has a closed form: with H⁻¹
restricted to the columns that are still free,

    w ← w − (w_j − q_j) / [H⁻¹]_jj · [H⁻¹]_j,:          and then column j leaves H⁻¹.
"""

from dataclasses import replace

import torch
from torch import Tensor

from lmcore.compress.affine import Grid, Quantized, Scheme, find_grid
from lmcore.sizes import check_sizes

ORDERS = ("given", "activation")


def output_error(weight: Tensor, approximation: Tensor, gram: Tensor) -> float:
    """Squared error of the products with the inputs, as a share of the squares of the products themselves.

    Args:
        weight, approximation: (R, C).   gram: (C, C), the sum of x xᵀ over the inputs x; it is computed in its dtype.
    Returns:
        ‖(W − Q) X‖² / ‖W X‖²: 0 for a perfect copy, 1 for zeros.

    >>> output_error(torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 2.0]]), torch.ones(2, 2))   # all inputs alike
    0.0
    """
    right, wrong = weight.to(gram.dtype), (weight - approximation).to(gram.dtype)
    errors, squares = ((x @ gram * x).sum() for x in (wrong, right))
    return float(errors.clamp_min(0) / squares)  # rounding can leave a little less than 0 of a perfect copy


class _Grids:
    """The grids of a matrix's columns: made when their group's turn comes, or, if fixed, all at once beforehand."""

    def __init__(self, weight: Tensor, scheme: Scheme, *, fixed: bool):
        self.scheme, self.size = scheme, scheme.group_size or weight.shape[1]
        self._row = replace(scheme, per="row", group_size=None) if scheme.per == "group" else scheme
        starts = range(0, weight.shape[1], self.size) if fixed else ()
        self._grids = [self._find(weight, start) for start in starts]

    def _find(self, weight: Tensor, start: int) -> Grid:
        """The grid of the group that begins here."""
        return find_grid(weight[:, start : start + self.size].float(), self._row)

    def of(self, column: int, weight: Tensor) -> Grid:
        """The grid of a column; weight is what the matrix has become by now."""
        group = column // self.size
        if group == len(self._grids):
            self._grids.append(self._find(weight, group * self.size))
        return self._grids[group]

    def together(self) -> Grid:
        """All of them as one grid of the scheme."""
        if self.scheme.per != "group":
            return self._grids[0]
        parts = {name: [getattr(grid, name) for grid in self._grids] for name in ("scale", "zero_point", "minimum")}
        joined = {name: None if some[0] is None else torch.stack(some, dim=1) for name, some in parts.items()}
        return Grid(scheme=self.scheme, **joined)  # (R, groups, 1)


def _check(weight: Tensor, gram: Tensor, scheme: Scheme, damping: float) -> None:
    """Refuse what does not fit together."""
    if weight.ndim != 2:
        raise ValueError(f"weight has shape {tuple(weight.shape)}, must be (rows, columns)")
    columns = weight.shape[1]
    if gram.shape != (columns, columns):
        raise ValueError(f"gram has shape {tuple(gram.shape)}, must be {(columns, columns)}: one row per column of W")
    if columns % (scheme.group_size or 1):
        raise ValueError(f"group_size = {scheme.group_size} does not divide the {columns} columns of weight")
    if not damping >= 0:
        raise ValueError(f"damping must be at least 0, got {damping}")
    if not gram.isfinite().all():
        raise ValueError(f"gram holds {int((~gram.isfinite()).sum())} numbers that are not finite")


def _damped_inverse(gram: Tensor, damping: float) -> Tensor:
    """(H + damping · mean of H's diagonal · I)⁻¹ in float64, in which the elimination below loses nothing visible."""
    damped = gram.double().clone()
    damped.diagonal().add_(damping * damped.diagonal().mean())
    root, failed = torch.linalg.cholesky_ex(damped)
    if failed:
        raise ValueError(
            f"gram is singular with damping = {damping}: there are fewer inputs than columns, or inputs that never "
            "vary; use more of them, or a larger damping"
        )
    return torch.cholesky_inverse(root)


def gptq_in_steps(weight: Tensor, gram: Tensor, scheme: Scheme, *, damping: float = 0.01) -> Quantized:
    """What `gptq` computes in the given order, one column after another, with H⁻¹ kept up to date.

    Args, returns, raises: as `gptq`.
    Cost: O(C²) for each column to take it out of H⁻¹, O(C³) in all, all of it memory traffic.
    Source: Frantar et al. 2023, eq. 2 and 3.
    """
    _check(weight, gram, scheme, damping)
    w, inverse = weight.detach().double().clone(), _damped_inverse(gram, damping)
    grids, codes = _Grids(w, scheme, fixed=False), torch.empty_like(weight, dtype=scheme.dtype)
    for j in range(weight.shape[1]):
        grid = grids.of(j, w)
        codes[:, [j]] = grid.encode(w[:, [j]])
        error = (w[:, [j]] - grid.decode(codes[:, [j]])) / inverse[j, j]  # (R, 1)
        w[:, j:] -= error * inverse[j, j:]  # afterwards column j is on the grid
        inverse = inverse - torch.outer(inverse[:, j], inverse[j]) / inverse[j, j]  # row and column j become 0
    return Quantized(codes=codes, grid=grids.together())


def _blocks(columns: int, group: int, block: int) -> list[tuple[int, int]]:
    """Where blocks begin and end: at most so long, and each group begins one, so that its grid sees all updates."""
    starts = [start for first in range(0, columns, group) for start in range(first, min(first + group, columns), block)]
    return list(zip(starts, [*starts[1:], columns], strict=True))


def gptq(
    weight: Tensor, gram: Tensor, scheme: Scheme, *, damping: float = 0.01, order: str = "given", block: int = 128
) -> Quantized:
    """Quantise a matrix so that its products with the inputs change little.

    All the numbers that `gptq_in_steps` takes from its ever smaller inverses stand in the rows of one matrix, the upper
    Cholesky factor of H⁻¹: row j of it is row j of the inverse left by then, divided by the root of its entry j. It is
    computed once, with no elimination. And the columns behind the present block get the corrections of the whole block
    at once, in one product of matrices.

    Args:
        weight: (R, C), R outputs and C inputs.   gram: (C, C), Σ x xᵀ over the inputs x that calibration has seen.
        scheme: of the grids. Those of a group are made when its first column's turn comes, from weights that make up
            for all columns before.
        damping: share of the mean of H's diagonal that is added to the diagonal. It keeps corrections small that only
            a few inputs speak for, and makes an H of too few inputs invertible.
        order: "given", or "activation", columns with large inputs first, while there are still many that can make up
            for them; grids are then made beforehand.
        block: how many columns are corrected one by one before the others follow; the result does not change.
    Returns:
        `Quantized`, codes in the order of weight's columns. With a diagonal H nothing can make up for anything, and it
        is what rounding to nearest gives.
    Raises:
        ValueError: shapes that do not fit, a negative damping, another order, a block below 1, or a singular H.
    Cost: O(C³ + R C²), of which R C² / 2 · (1 − block / C) multiplications in products of matrices.
    Source: Frantar et al. 2023, algorithm 1; the order by activations is from their code.   Differs: there an input
        that was always 0 gets the weight 0; here such a weight is rounded to nearest, for another text may use it.

    >>> w, alike = torch.tensor([[1.4, 1.4, 3.0]]), torch.tensor([[1.0, 1, 0], [1, 1, 0], [0, 0, 1]])
    >>> scheme = Scheme(bits=3)                       # steps of 1 from −3 to 3
    >>> gptq(w, alike, scheme).codes.tolist()         # 1.4 + 1.4 is nearer to 1 + 2 than to 1 + 1
    [[1, 2, 3]]
    """
    _check(weight, gram, scheme, damping)
    check_sizes(block=block)
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}, got {order!r}")
    by_size, columns = order == "activation", weight.shape[1]
    turn = gram.diagonal().argsort(descending=True, stable=True) if by_size else torch.arange(columns)
    grids = _Grids(weight.detach(), scheme, fixed=by_size)
    w = weight.detach().double()[:, turn]
    root = torch.linalg.cholesky(_damped_inverse(gram[turn][:, turn], damping), upper=True)
    codes, place = torch.empty_like(weight, dtype=scheme.dtype), turn.tolist()
    for start, end in _blocks(columns, columns if by_size else grids.size, block):
        errors = w.new_empty(len(w), end - start)
        for j in range(start, end):
            grid, now = grids.of(place[j], w), w[:, j : j + 1]
            code = grid.encode(now)
            errors[:, j - start : j - start + 1] = error = (now - grid.decode(code)) / root[j, j]
            w[:, j:end] -= error * root[j, j:end]
            codes[:, place[j]] = code[:, 0]
        w[:, end:] -= errors @ root[start:end, end:]
    return Quantized(codes=codes, grid=grids.together())
