"""Linear systems, inverses and determinants.

A is [*, n, n] and B [*, n, k]; the batches are broadcast. The rules are those of Giles 2008, "Collected matrix derivative
results for forward and reverse mode".
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import kernels_of
from disttorch.ops.define import expect_tensor, operator
from disttorch.ops.eigen import pinv_grad
from disttorch.ops.factor import (
    check_floating,
    check_info,
    check_matrix,
    check_square,
    inverse_order,
    permutation,
)
from disttorch.ops.registry import raw, traced
from disttorch.ops.shape import expand, permute, reshape, wrap_dim
from disttorch.ops.write import type_label, with_out

__all__ = [
    "det", "inv", "inv_ex", "lstsq", "lu_solve", "slogdet", "solve", "solve_ex", "solve_triangular", "tensorinv",
    "tensorsolve",
]  # fmt: skip

_SINGULAR_INVERSE = (
    "linalg.inv: {place}The diagonal element {info} is zero, the inversion could not be completed because the input matrix is "
    "singular."
)
_SINGULAR_SYSTEM = "torch.linalg.solve: {place}The solver failed because the input matrix is singular."


def _zero_pivots(xp: Any, x: Any) -> Any:
    """Return for each matrix the position, from 1, of the first zero on the diagonal of U, or 0."""
    return kernels_of(x).lu_factor(x)[2]


# -- inverse ------------------------------------------------------------------------------------------------------


class InvExResult(NamedTuple):
    inverse: Tensor
    info: Tensor


@operator(1, name="inv", grad_name="LinalgInvExBackward0", differentiable=1)
def _inv(xp, x):
    try:
        with kernels_of(x).linalg_errors(x):
            return xp.linalg.inv(x), xp.zeros(x.shape[:-2], np.int32)
    except np.linalg.LinAlgError:
        info = _zero_pivots(xp, x)
    whole = info[..., None, None] == 0
    inverse = xp.linalg.inv(xp.where(whole, x, xp.eye(x.shape[-1], dtype=x.dtype)))
    return xp.where(whole, inverse, xp.nan).astype(x.dtype), info


@_inv.vjp
def _(F, g, out0):
    adjoint = F.mH(out0)
    return -F.matmul(adjoint, F.matmul(g[0], adjoint))


def _checked_inverse(function: str, x: Tensor, check_errors: bool) -> InvExResult:
    check_floating(function, x)
    check_square(function, x)
    result = InvExResult(*_inv(x))
    if check_errors:
        check_info(result.info, _SINGULAR_INVERSE)
    return result


@with_out
def inv_ex(A: Tensor, *, check_errors: bool = False) -> InvExResult:
    """Return (inverse, info); info says where U of the LU factors has a zero, or 0. Of a singular matrix: no inverse."""
    return _checked_inverse("linalg.inv_ex", A, check_errors)


@with_out
def inv(A: Tensor) -> Tensor:
    """Return the inverses of square matrices; LinAlgError for a singular one."""
    return _checked_inverse("linalg.inv", A, True).inverse


traced.inverse = inv
raw.inverse = lambda x: raw.inv(x)[0]


# -- systems ------------------------------------------------------------------------------------------------------


class SolveExResult(NamedTuple):
    result: Tensor
    info: Tensor


@operator(2, name="solve", grad_name="LinalgSolveExBackward0", differentiable=1)
def _solve(xp, a, b):
    """Return A^-1 B, and for each A where U has a zero, or 0."""
    try:
        with kernels_of(a).linalg_errors(a):
            return _solution(xp, a, b), xp.zeros(a.shape[:-2], np.int32)
    except np.linalg.LinAlgError:
        info = _zero_pivots(xp, a)
    whole = info[..., None, None] == 0
    found = _solution(xp, xp.where(whole, a, xp.eye(a.shape[-1], dtype=a.dtype)), b)
    return xp.where(whole, found, xp.nan).astype(b.dtype), info


def _solution(xp, a, b):
    """Return A^-1 B of two stacks of matrices, which CuPy does not broadcast."""
    if a.shape[:-2] != b.shape[:-2]:
        stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        a, b = (xp.broadcast_to(x, stack + x.shape[-2:]) for x in (a, b))
    return xp.linalg.solve(a, b)


@_solve.vjp
def _(F, g, a, out0, needs):
    g_b = F.solve(F.mH(a), g[0])[0]
    return (-F.matmul(g_b, F.mH(out0)) if needs[0] else None), g_b


def is_vector_system(a: Tensor, b: Tensor) -> bool:
    """Whether B holds vectors, one for each matrix of A, rather than matrices."""
    return b._a.ndim == 1 or (a._a.ndim - 1 == b._a.ndim and b._a.shape == a._a.shape[:-1])


def check_system(function: str, a: Tensor, b: Tensor, left: bool) -> None:
    check_square(function, a)
    check_matrix(function, b, "B")
    if a._a.dtype != b._a.dtype:
        raise RuntimeError(
            f"{function}: Expected A and B to have the same dtype, but found A of type {type_label(a._a.dtype)} and B of type "
            f"{type_label(b._a.dtype)} instead"
        )
    if a._a.shape[-1] != b._a.shape[-2 if left else -1]:
        (m, n), (p, q) = a._a.shape[-2:], b._a.shape[-2:]
        equation = "AX = B" if left else "XA = B"
        raise RuntimeError(
            f"{function}: Incompatible shapes of A and B for the equation {equation} ({m}x{n} and {p}x{q})"
        )
    broadcast_batches(function, a, b)


def broadcast_batches(function: str, a: Tensor, b: Tensor) -> tuple[int, ...]:
    """Return the shape of the broadcast batches of two stacks of matrices."""
    try:
        return np.broadcast_shapes(a._a.shape[:-2], b._a.shape[:-2])
    except ValueError:
        raise RuntimeError(
            f"{function}: the batches of A {list(a._a.shape)} and B {list(b._a.shape)} do not broadcast"
        ) from None


def _checked_solve(function: str, a: Tensor, b: Tensor, left: bool, check_errors: bool) -> SolveExResult:
    check_floating(function, a)
    check_square(function, a)
    expect_tensor(b, function, "B")
    vector = is_vector_system(a, b)
    if vector and not left:
        raise RuntimeError(
            f"{function}: Vector broadcasting of the left hand side is not supported for left=False. In this case linalg.solve is "
            "equivalent to B / A.squeeze(-1)"
        )
    matrix = traced.unsqueeze(b, b._a.ndim) if vector else b
    check_system(function, a, matrix, left)
    x, info = _solve(a, matrix) if left else _solve(traced.mT(a), traced.mT(matrix))
    if check_errors:
        check_info(info, _SINGULAR_SYSTEM)
    if vector:
        x = traced.squeeze(x, (x._a.ndim - 1,))
    return SolveExResult(x if left else traced.clone(traced.mT(x), True), info)


@with_out
def solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> SolveExResult:
    """Return (X, info) with A X = B (X A = B with left=False); info says where U has a zero, or 0."""
    return _checked_solve("linalg.solve", A, B, left, check_errors)


@with_out
def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """Return X with A X = B (X A = B with left=False); B may hold vectors [*, n]. LinAlgError for a singular A."""
    return _checked_solve("linalg.solve", A, B, left, True).result


@operator(2, name="solve_triangular", grad_name="LinalgSolveTriangularBackward0")
def _solve_triangular(xp, a, b, upper, unitriangular):
    return kernels_of(a).solve_triangular(a, b, upper, unitriangular)


@_solve_triangular.vjp
def _(F, g, a, out, upper, unitriangular, needs):
    g_b = F.solve_triangular(F.mH(a), g, not upper, unitriangular)
    if not needs[0]:
        return None, g_b
    whole = -F.matmul(g_b, F.mH(out))
    edge = 1 if unitriangular else 0
    return (F.triu(whole, edge) if upper else F.tril(whole, -edge)), g_b


@with_out
def solve_triangular(
    A: Tensor,
    B: Tensor,
    *,
    upper: bool,
    left: bool = True,
    unitriangular: bool = False,
) -> Tensor:
    """Return X with A X = B (X A = B with left=False) for triangular A; its other triangle is not read."""
    check_floating("linalg.solve_triangular", A)
    check_system("linalg.solve_triangular", A, B, left)
    if left:
        return _solve_triangular(A, B, upper, unitriangular)
    return traced.clone(traced.mT(_solve_triangular(traced.mT(A), traced.mT(B), not upper, unitriangular)), True)


def solve_factored(factors: Tensor, pivots: Tensor, b: Tensor, adjoint: bool) -> Tensor:
    """Return A^-1 B, or A^-H B, from what `lu_factor` returned for A."""
    batch = broadcast_batches("linalg.lu_solve", factors, b)
    b = expand(b, (*batch, *b._a.shape[-2:]))
    order = permutation(pivots._a, factors._a.shape[-1])
    if not adjoint:
        half = _solve_triangular(factors, traced.permute_rows(b, order), False, True)
        return _solve_triangular(factors, half, True, False)
    turned = traced.mH(factors)
    half = _solve_triangular(turned, b, False, False)
    return traced.permute_rows(_solve_triangular(turned, half, True, True), inverse_order(order))


@with_out
def lu_solve(
    LU: Tensor,
    pivots: Tensor,
    B: Tensor,
    *,
    left: bool = True,
    adjoint: bool = False,
) -> Tensor:
    """Return X with A X = B (X A = B with left=False; A^H with `adjoint`) from what `lu_factor` returned for A."""
    function = "linalg.lu_solve"
    check_floating(function, LU)
    if pivots._a.dtype != np.int32:
        raise RuntimeError(f"{function}: pivots should be a Tensor of scalar type torch.int32")
    check_square(function, LU, "LU")
    check_system(function, LU, B, left)
    if pivots._a.shape != LU._a.shape[:-1]:
        raise RuntimeError(
            f"{function}: Number of pivots per batch should be same as the dimension of the matrix: expected "
            f"{list(LU._a.shape[:-1])}, got {list(pivots._a.shape)}"
        )
    if left:
        return traced.contiguous(solve_factored(LU, pivots, B, adjoint))
    return traced.contiguous(traced.mH(solve_factored(LU, pivots, traced.mH(B), not adjoint)))


traced.contiguous = lambda x: x if x._a.flags.c_contiguous else traced.clone(x, True)


# -- least squares ------------------------------------------------------------------------------------------------


class LstsqResult(NamedTuple):
    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


@operator(2, name="lstsq", grad_name="LinalgLstsqBackward0", differentiable=2)
def _lstsq(xp, a, b, rcond, driver):
    m, n = a.shape[-2:]
    solution, rank, values = kernels_of(a).lstsq(a, b, rcond, "gelsy" if driver == "gels" else driver)
    residuals = xp.zeros(0, a.real.dtype)
    if m > n and driver != "gelsy" and (rank == n).all():
        residuals = (xp.absolute(a @ solution - b) ** 2).sum(-2)
    return solution, residuals, rank, values


@_lstsq.vjp
def _(F, g, a, b, out0, out1, rcond, driver):
    inverse, g_a, g_b = F.pinv(a, None, rcond, False), 0.0, 0.0
    if g[0] is not None:
        g_a, g_b = pinv_grad(F, F.matmul(g[0], F.mH(b)), a, inverse), F.matmul(F.mH(inverse), g[0])
    has_residuals = tuple(out1.shape) != (0,)
    if g[1] is not None and has_residuals:
        error = (b - F.matmul(a, out0)) * (F.unsqueeze(g[1], g[1].ndim - 1) * 2)
        g_a, g_b = g_a - F.matmul(error, F.mH(out0)), g_b + error
    return (g_a, g_b) if g[0] is not None or has_residuals else (None, None)


@with_out
def lstsq(A: Tensor, B: Tensor, rcond: float | None = None, *, driver: str | None = None) -> LstsqResult:
    """Return (solution, residuals, rank, singular values): X of least norm among those that minimise ||A X - B||.

    Residuals are there for A of full rank with more rows than columns; ranks not for the driver gels, singular values
    for gelss and gelsd only.
    """
    function = "torch.linalg.lstsq"
    if A._a.ndim < 2:
        raise RuntimeError(f"{function}: input must have at least 2 dimensions.")
    check_floating(function, A)
    if B._a.ndim < 1:
        raise RuntimeError(f"{function}: other must have at least 1 dimension.")
    if A._a.dtype != B._a.dtype:
        raise RuntimeError(
            f"{function}: Expected input and other to have the same dtype, got {A.dtype!r} and {B.dtype!r}"
        )
    if driver not in (None, "gels", "gelsy", "gelsd", "gelss"):
        raise RuntimeError(f"{function}: parameter `driver` should be one of (gels, gelsy, gelsd, gelss)")
    vector = is_vector_system(A, B)
    b = traced.unsqueeze(B, B._a.ndim) if vector else B
    if b._a.shape[-2] != A._a.shape[-2]:
        where = "-1" if vector else "-2"
        raise RuntimeError(f"{function}: input.size(-2) should match other.size({where})")
    batch = broadcast_batches(function, A, b)
    a, b = (expand(x, (*batch, *x._a.shape[-2:])) for x in (A, b))
    return _least_squares(a, b, rcond, driver or "gelsy", vector)


def _least_squares(a: Tensor, b: Tensor, rcond: float | None, driver: str, vector: bool) -> LstsqResult:
    if rcond is None:
        rcond = float(np.finfo(a._a.dtype).eps) * max(a._a.shape[-2:])
    solution, residuals, rank, values = _lstsq(a, b, rcond, driver)
    if driver == "gels":
        rank = wrap(np.zeros(0, np.int64))
    if driver not in ("gelss", "gelsd"):
        values = wrap(np.zeros(0, values._a.dtype))
    if vector:
        solution = traced.squeeze(solution, (solution._a.ndim - 1,))
    return LstsqResult(solution, residuals, rank, values)


# -- determinants -------------------------------------------------------------------------------------------------


@operator(1, name="det", grad_name="LinalgDetBackward0")
def _det(xp, x):
    return xp.asarray(xp.linalg.det(x), x.dtype)


@_det.vjp
def _(F, g, x, out):
    values = getattr(out, "_a", out)
    spread = F.unsqueeze(F.unsqueeze(g, g.ndim), g.ndim + 1)
    if values.size and (values == 0).any():
        return spread * F.cofactors(x)
    scale = F.unsqueeze(F.unsqueeze(F.conj(out), out.ndim), out.ndim + 1)
    return (spread * scale) * F.mH(F.inverse(x))


def _cofactors(F: Any, x: Any) -> Any:
    """Return the conjugate cofactors, the derivative of det also where it is 0: by X = U S V^H, det(U V^H) U S' V^H, where
    each element of S' is the product of the other singular values."""
    u, s, vh = F.svd(x, False)
    others = F.product_of_others(s, (s.ndim - 1,))
    phase = F.conj(F.det(u) * F.det(vh))
    scaled = u * F.unsqueeze(others, others.ndim - 1)
    return F.matmul(scaled, vh) * F.unsqueeze(F.unsqueeze(phase, phase.ndim), phase.ndim + 1)


raw.cofactors = lambda x: _cofactors(raw, x)
traced.cofactors = lambda x: _cofactors(traced, x)


@with_out
def det(A: Tensor) -> Tensor:
    """Return the determinants of square matrices."""
    check_floating("linalg.det", A)
    check_square("linalg.det", A)
    return _det(A)


class SlogdetResult(NamedTuple):
    sign: Tensor
    logabsdet: Tensor


@operator(1, name="slogdet", grad_name="LinalgSlogdetBackward0")
def _slogdet(xp, x):
    sign, size = xp.linalg.slogdet(x)
    return xp.asarray(sign, x.dtype), xp.asarray(size, x.real.dtype)


@_slogdet.vjp
def _(F, g, x, out0):
    scale = 0.0 if g[1] is None else g[1]
    if g[0] is not None and F.is_complex(out0):
        turned = F.imag(g[0] * F.conj(out0))
        scale = scale + turned * F.constant(out0, np.asarray(1j, getattr(out0, "_a", out0).dtype))
    elif g[1] is None:
        return F.zeros_from(x, x.shape)
    return F.unsqueeze(F.unsqueeze(scale, scale.ndim), scale.ndim + 1) * F.mH(F.inverse(x))


@with_out
def slogdet(A: Tensor) -> SlogdetResult:
    """Return (sign, logabsdet), det = sign * exp(logabsdet), without overflow."""
    check_floating("linalg.slogdet", A)
    check_square("linalg.slogdet", A)
    return SlogdetResult(*_slogdet(A))


# -- tensors as matrices ------------------------------------------------------------------------------------------


@with_out
def tensorinv(A: Tensor, ind: int = 2) -> Tensor:
    """Return the inverse of A seen as a matrix, its first `ind` dimensions being the rows; shape[ind:] + shape[:ind]."""
    if ind <= 0:
        raise RuntimeError("Expected a strictly positive integer for 'ind'")
    rows, columns = A._a.shape[:ind], A._a.shape[ind:]
    if prod(rows) != prod(columns):
        raise RuntimeError(
            "Expected self to satisfy the requirement prod(self.shape[ind:]) == prod(self.shape[:ind]), but got "
            f"{prod(columns)} != {prod(rows)}"
        )
    return reshape(inv(reshape(A, (prod(rows), prod(columns)))), (*columns, *rows))


@with_out
def tensorsolve(A: Tensor, B: Tensor, dims: Any = None) -> Tensor:
    """Return X with tensordot(A, X, X.ndim) = B; `dims` of A are moved to the end first."""
    if dims is not None:
        moved = [wrap_dim(d, A._a.ndim) for d in dims]
        A = permute(A, tuple(d for d in range(A._a.ndim) if d not in moved) + tuple(moved))
    rest, first = A._a.shape[B._a.ndim :], A._a.shape[: B._a.ndim]
    if prod(rest) != prod(first):
        raise RuntimeError(
            "Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == prod(self.shape[:other.ndim]), but got "
            f"{prod(rest)} != {prod(first)}"
        )
    return reshape(solve(reshape(A, (-1 if 0 not in first else 0, prod(rest))), reshape(B, -1)), rest)
