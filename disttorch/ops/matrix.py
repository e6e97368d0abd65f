"""Factorizations, inverses and solutions under the names that `torch` itself has for them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of, kernels_of
from disttorch.core.dtypes import float32
from disttorch.ops.define import operator
from disttorch.ops.eigen import pinv, svdvals
from disttorch.ops.eigen import svd as _linalg_svd
from disttorch.ops.factor import (
    LUResult,
    QRResult,
    check_floating,
    check_matrix,
    check_reflectors,
    check_square,
    householder_product,
    lu_factor_checked,
    permutation_matrix,
    reflect_all,
    unpack_lower,
    unpack_upper,
)
from disttorch.ops.factor import cholesky as _linalg_cholesky
from disttorch.ops.factor import qr as _linalg_qr
from disttorch.ops.registry import raw, traced
from disttorch.ops.solve import check_system, det, inv, slogdet, solve_triangular
from disttorch.ops.solve import lu_solve as _linalg_lu_solve
from disttorch.ops.write import type_label, with_out

__all__ = [
    "cholesky", "cholesky_inverse", "cholesky_solve", "det", "geqrf", "inverse", "logdet", "lu", "lu_solve", "lu_unpack",
    "matrix_exp", "orgqr", "ormqr", "pinverse", "qr", "slogdet", "svd", "triangular_solve",
]  # fmt: skip
METHODS = """
    cholesky cholesky_inverse cholesky_solve det geqrf inverse logdet lu lu_solve matrix_exp orgqr ormqr pinverse qr
    slogdet svd triangular_solve
"""

inverse = inv
orgqr = householder_product


@with_out
def cholesky(input: Tensor, upper: bool = False) -> Tensor:
    """Return the lower L of positive definite input = L L^H, or the upper U of input = U^H U."""
    return _linalg_cholesky(input, upper=upper)


@operator(2, name="cholesky_solve")
def _cholesky_solve(xp, b, factor, upper):
    adjoint = raw.mH(factor)
    first, second = (adjoint, factor) if upper else (factor, adjoint)
    return raw.solve_triangular(second, raw.solve_triangular(first, b, False, False), True, False)


@_cholesky_solve.vjp
def _(F, g, factor, out, upper):
    g_b = F.cholesky_solve(g, factor, upper)
    inner = F.matmul(g_b, F.mH(out))
    both = inner + F.mH(inner)
    return g_b, -(F.matmul(factor, both) if upper else F.matmul(both, factor))


@with_out
def cholesky_solve(input: Tensor, input2: Tensor, upper: bool = False) -> Tensor:
    """Return A^-1 input for A = L L^H with the Cholesky factor L (`upper`: A = U^H U) `input2`."""
    check_floating("cholesky_solve", input2)
    for x, name in ((input, "b"), (input2, "u")):
        if x._a.ndim < 2:
            raise RuntimeError(f"{name} should have at least 2 dimensions, but has {x._a.ndim} dimensions instead")
    check_square("cholesky_solve", input2, "input2")
    check_system("cholesky_solve", input2, input, True)
    return _cholesky_solve(input, input2, upper)


@with_out
def cholesky_inverse(input: Tensor, upper: bool = False) -> Tensor:
    """Return A^-1 for A = L L^H with the Cholesky factor L (`upper`: A = U^H U) `input`."""
    check_floating("cholesky_inverse", input)
    check_square("cholesky_inverse", input)
    eye = np.broadcast_to(np.eye(input._a.shape[-1], dtype=input._a.dtype), input._a.shape)
    return cholesky_solve(traced.constant(input, eye.copy()), input, upper)


@with_out
def qr(input: Tensor, some: bool = True) -> QRResult:
    """Return (Q, R), input = Q R with Q [*, m, k], or [*, m, m] with some=False."""
    return _linalg_qr(input, "reduced" if some else "complete")


class GeqrfResult(NamedTuple):
    a: Tensor
    tau: Tensor


@with_out
def geqrf(input: Tensor) -> GeqrfResult:
    """Return (a, tau) of the QR factors: R on and above the diagonal of a, reflectors below it, their scales tau."""
    if input._a.dtype.kind in "biu" or input._a.dtype.itemsize == 2:
        raise NotImplementedError(f"\"geqrf_cpu\" not implemented for '{type_label(input._a.dtype)}'")
    check_matrix("torch.geqrf", input, "input")
    xp = backend_of(input._a).namespace
    turned, tau = xp.linalg.qr(input._a, "raw")
    return GeqrfResult(wrap(xp.ascontiguousarray(turned.swapaxes(-1, -2))), wrap(tau))


@with_out
def ormqr(input: Tensor, tau: Tensor, other: Tensor, left: bool = True, transpose: bool = False) -> Tensor:
    """Return Q other (other Q with left=False; Q^H with `transpose`) for the product Q of reflectors `geqrf` returned."""
    function = "torch.ormqr"
    check_reflectors(function, input, tau)
    if other._a.ndim < 2:
        raise RuntimeError(f"{function}: other must have at least 2 dimensions.")
    side = -2 if left else -1
    if other._a.shape[side] != input._a.shape[-2]:
        raise RuntimeError(f"{function}: other.shape[{side}] must be equal to input.shape[-2]")
    if other._a.shape[side] < tau._a.shape[-1]:
        raise RuntimeError(f"{function}: other.shape[{side}] must be greater than or equal to tau.shape[-1]")
    if not tau._a.shape[-1]:
        return traced.clone(other, True)
    if left:
        return reflect_all(input, tau, other, transpose)
    return traced.contiguous(traced.mH(reflect_all(input, tau, traced.mH(other), not transpose)))


class SVDResult(NamedTuple):
    U: Tensor
    S: Tensor
    V: Tensor


@with_out
def svd(input: Tensor, some: bool = True, compute_uv: bool = True) -> SVDResult:
    """Return (U, S, V), input = U diag(S) V^H; all columns with some=False, zeros for U and V without `compute_uv`."""
    if compute_uv:
        u, s, vh = _linalg_svd(input, not some)
        return SVDResult(u, s, traced.contiguous(traced.mH(vh)))
    m, n = input._a.shape[-2:]
    empty = [traced.zeros_from(input, (*input._a.shape[:-2], size, size)) for size in (m, n)]
    return SVDResult(empty[0], svdvals(input), empty[1])


@with_out
def pinverse(input: Tensor, rcond: float = 1e-15) -> Tensor:
    """Return the Moore-Penrose inverses; singular values up to rcond * the largest count as zero."""
    return pinv(input, rcond)


def logdet(input: Tensor) -> Tensor:
    """Return the logarithms of determinants: NaN where one is negative, -inf where it is 0."""
    check_floating("logdet", input)
    check_square("logdet", input)
    sign, size = slogdet(input)
    return traced.log(sign) + size


@with_out
def lu(input: Tensor, pivot: bool = True, get_infos: bool = False) -> tuple[Tensor, ...]:
    """Return (LU, pivots) as `linalg.lu_factor` does, with `get_infos` also where U has a zero, or 0."""
    factors, pivots, info = lu_factor_checked("torch.linalg.lu_factor", input, pivot, False)
    return (factors, pivots, info) if get_infos else (factors, pivots)


@with_out
def lu_solve(input: Tensor, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
    """Return A^-1 input from what `linalg.lu_factor` returned for A."""
    return _linalg_lu_solve(LU_data, LU_pivots, input)


@with_out
def lu_unpack(
    LU_data: Tensor,
    LU_pivots: Tensor,
    unpack_data: bool = True,
    unpack_pivots: bool = True,
) -> LUResult:
    """Return (P, L, U) from what `linalg.lu_factor` returned; what is not unpacked is empty."""
    if unpack_pivots and LU_pivots._a.dtype != np.int32:
        raise RuntimeError(
            "torch.lu_unpack: LU_pivots is expected to be a contiguous tensor of torch.int32 dtype.\nNote: this function is "
            "intended to be used with the output produced by torch.linalg.lu_factor"
        )
    d = LU_data._a.dtype
    nothing = [traced.zeros_from(LU_data, (0,)) for _ in range(3)]
    lower, upper = (unpack_lower(LU_data), unpack_upper(LU_data)) if unpack_data else nothing[:2]
    matrix = permutation_matrix(LU_pivots._a, LU_data._a.shape[-2], d) if unpack_pivots else nothing[2]
    return LUResult(matrix, lower, upper)


class TriangularSolveResult(NamedTuple):
    solution: Tensor
    cloned_coefficient: Tensor


@with_out
def triangular_solve(
    input: Tensor,
    A: Tensor,
    upper: bool = True,
    transpose: bool = False,
    unitriangular: bool = False,
) -> TriangularSolveResult:
    """Return (X, a copy of A) with A X = input, or A^T X = input with `transpose`, for triangular A."""
    matrix = traced.mT(A) if transpose else A
    solution = solve_triangular(matrix, input, upper=upper != transpose, unitriangular=unitriangular)
    return TriangularSolveResult(solution, traced.clone(A, True))


@operator(1, name="matrix_exp", grad_name="LinalgMatrixExpBackward0")
def _matrix_exp(xp, x):
    return kernels_of(x).matrix_exp(x)


@_matrix_exp.vjp
def _(F, g, x):
    # exp [X^H G; 0 X^H] = [exp X^H, D; 0, exp X^H] with the derivative D in the direction G (Mathias 1996).
    n = x.shape[-1]
    adjoint = F.mH(x)
    upper = F.join(adjoint, g, -1)
    lower = F.join(F.zeros_from(adjoint, adjoint.shape), adjoint, -1)
    return F.slice(F.matrix_exp(F.join(upper, lower, -2)), (..., slice(n), slice(n, None)))


def matrix_exp(input: Tensor) -> Tensor:
    """Return the exponentials of square matrices, the sums of their powers over factorials."""
    if input._a.dtype.itemsize == 2 and input._a.dtype.kind not in "iu":
        return matrix_exp(input.to(float32)).to(input.dtype)
    check_floating("linalg.matrix_exp", input)
    check_square("linalg.matrix_exp", input)
    return _matrix_exp(input)
