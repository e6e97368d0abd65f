"""Matrix factorizations: Cholesky, QR, LU, LDL; and the checks and errors of all of `torch.linalg`.

Shapes are [*, n, n] or [*, m, n], k is min(m, n), X^H the conjugate transpose. Derivatives: Giles 2008, "Collected matrix
derivative results for forward and reverse mode"; Walter & Lehmann 2018, "Algorithmic differentiation of linear algebra
functions"; Seeger et al. 2017, "Auto-differentiating linear algebra".
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of, kernels_of
from disttorch.ops.define import expect_tensor, for_both, operator
from disttorch.ops.linalg import matmul
from disttorch.ops.registry import traced
from disttorch.ops.write import type_label, with_out

__all__ = [
    "LinAlgError", "cholesky", "cholesky_ex", "householder_product", "ldl_factor", "ldl_factor_ex", "ldl_solve", "lu",
    "lu_factor", "lu_factor_ex", "qr",
]  # fmt: skip


class LinAlgError(RuntimeError):
    """A matrix is singular, not positive definite, or an algorithm did not converge on it."""


# -- checks -------------------------------------------------------------------------------------------------------


def check_floating(function: str, *tensors: Tensor) -> None:
    """Raise PyTorch's error unless all are float32, float64 or complex tensors."""
    for x in tensors:
        d = expect_tensor(x, function, "A")._a.dtype
        if d.kind in "biu":
            raise RuntimeError(f"{function}: Expected a floating point or complex tensor as input. Got {type_label(d)}")
        if d.itemsize == 2:
            raise RuntimeError(f"{function}: Low precision dtypes not supported. Got {type_label(d)}")


def check_matrix(function: str, x: Tensor, argument: str = "A") -> None:
    """Raise PyTorch's error unless `x` is a matrix or a stack of them."""
    if expect_tensor(x, function, argument)._a.ndim < 2:
        raise RuntimeError(f"{function}: The input tensor {argument} must have at least 2 dimensions.")


def check_square(function: str, x: Tensor, argument: str = "A") -> None:
    """Raise PyTorch's error unless `x` is a square matrix or a stack of them."""
    check_matrix(function, x, argument)
    m, n = x._a.shape[-2:]
    if m != n:
        raise RuntimeError(
            f"{function}: {argument} must be batches of square matrices, but they are {m} by {n} matrices"
        )


def check_info(info: Tensor, sentence: str, error: type[RuntimeError] = LinAlgError) -> None:
    """Raise `error` for the first matrix whose `info` is not 0; `sentence` has `{place}` and `{info}`."""
    bad = info._a != 0
    if not bad.any():
        return
    first = int(bad.reshape(-1).argmax())
    place = f"(Batch element {first}): " if info._a.ndim else ""
    raise error(sentence.format(place=place, info=int(info._a.reshape(-1)[first])))


@for_both("mH")
def _mH(F, x: Any) -> Any:  # noqa: N802
    """Return the conjugate transpose."""
    return F.conj(F.mT(x))


@for_both("eye_of")
def _eye_of(F, x: Any) -> Any:
    """Return the identity matrix with the size of the last dimension of `x`."""
    a = getattr(x, "_a", x)
    return F.constant(x, np.eye(a.shape[-1], dtype=a.real.dtype))


def _identity_like(x: Tensor) -> Tensor:
    """Return matrices of the shape of `x` with ones on the diagonal; in the graph, with a derivative of 0."""
    return traced.where(wrap(np.zeros((), bool)), x, traced.constant(x, np.eye(*x._a.shape[-2:], dtype=x._a.dtype)))


traced.identity_like = _identity_like


@for_both("diagonal_matrix")
def _diagonal_matrix(F, values: Any, like: Any) -> Any:
    """Return matrices with `values` on the diagonal, of the type of `like`."""
    eye = np.eye(values.shape[-1], dtype=getattr(like, "_a", like).dtype)
    return F.unsqueeze(values, values.ndim) * F.constant(like, eye)


@for_both("diagonal_of")
def _diagonal_of(F, x: Any) -> Any:
    """Return the diagonals of matrices."""
    return F.diagonal(x, 0, x.ndim - 2, x.ndim - 1)


@for_both("leading")
def _leading(F, x: Any, rows: int | None, columns: int | None) -> Any:
    """Return the upper left part of matrices, of so many rows and columns (None: all)."""
    return F.slice(x, (..., slice(rows), slice(columns)))


@for_both("join")
def _join(F, x: Any, y: Any, dim: int) -> Any:
    """Return two stacks of matrices side by side (dim -1) or one above the other (dim -2)."""
    d = x.ndim + dim
    return F.cat([x, y], d, (x.shape[d], y.shape[d]))


# -- Cholesky -----------------------------------------------------------------------------------------------------


class CholeskyExResult(NamedTuple):
    L: Tensor
    info: Tensor


@operator(1, name="cholesky", grad_name="LinalgCholeskyExBackward0", differentiable=1)
def _cholesky(xp, x, upper):
    lower = x.conj().swapaxes(-1, -2) if upper else x
    try:
        with kernels_of(x).linalg_errors(x):
            factor = xp.linalg.cholesky(lower)
        info = xp.zeros(x.shape[:-2], np.int32)
    except np.linalg.LinAlgError:
        factor, info = kernels_of(x).cholesky_info(lower)
    return (xp.ascontiguousarray(factor.conj().swapaxes(-1, -2)) if upper else factor), info


@_cholesky.vjp
def _(F, g, out0, upper):
    g = g[0]
    lower = F.mH(out0) if upper else out0
    inner = F.tril(F.matmul(F.mH(lower), F.mH(g) if upper else g), 0)
    half = (inner + F.mH(F.tril(inner, -1))) * 0.5
    left = F.solve_triangular(F.mH(lower), half, True, False)
    return F.mH(F.solve_triangular(F.mH(lower), F.mH(left), True, False))


@with_out
def cholesky_ex(A: Tensor, *, upper: bool = False, check_errors: bool = False) -> CholeskyExResult:
    """Return (L, info): A = L L^H, and for each matrix the order of the leading minor that is not positive, or 0."""
    return _checked_cholesky("linalg.cholesky_ex", A, upper, check_errors)


@with_out
def cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """Return the lower L of positive definite A = L L^H, or the upper U of A = U^H U."""
    return _checked_cholesky("linalg.cholesky", A, upper, True).L


def _checked_cholesky(function: str, x: Tensor, upper: bool, check_errors: bool) -> CholeskyExResult:
    check_floating(function, x)
    check_square(function, x)
    factor, info = _cholesky(x, upper)
    if check_errors:
        check_info(
            info,
            function
            + ": {place}The factorization could not be completed because the input is not positive-definite (the "
            "leading minor of order {info} is not positive-definite).",
        )
    return CholeskyExResult(factor, info)


# -- QR -----------------------------------------------------------------------------------------------------------


class QRResult(NamedTuple):
    Q: Tensor
    R: Tensor


@operator(1, name="qr", grad_name="LinalgQrBackward0")
def _qr(xp, x, mode):
    if mode == "r":
        return xp.zeros(0, x.dtype), xp.ascontiguousarray(xp.linalg.qr(x, "r"))
    q, r = xp.linalg.qr(x, mode)
    return xp.ascontiguousarray(q), xp.ascontiguousarray(r)


@_qr.vjp
def _(F, g, x_shape, out0, out1, mode):
    q, r, (gq, gr) = out0, out1, g
    m, n = x_shape[-2:]
    if mode == "r":
        raise RuntimeError(
            "The derivative of linalg.qr depends on Q, which is not computed when mode='r'. Please use linalg.qr(A, "
            "mode='reduced') if you are going to require gradients"
        )
    if mode == "complete" and m > n:
        raise RuntimeError("The QR decomposition is not differentiable when mode='complete' and nrows > ncols.")
    if m >= n:
        return _qr_grad(F, gq, gr, q, r)
    # X = [X1 X2] = Q [R1 R2]: X1 = Q R1 is square, and R2 = Q^H X2.
    first, rest = F.leading(r, None, m), F.slice(r, (..., slice(None), slice(m, None)))
    if gr is None:
        return F.join(_qr_grad(F, gq, None, q, first), F.zeros_from(gq, (*x_shape[:-1], n - m)), -1)
    g1, g2 = F.leading(gr, None, m), F.slice(gr, (..., slice(None), slice(m, None)))
    through = F.matmul(q, F.matmul(rest, F.mH(g2)))
    return F.join(_qr_grad(F, through if gq is None else gq + through, g1, q, first), F.matmul(q, g2), -1)


def _qr_grad(F: Any, gq: Any, gr: Any, q: Any, r: Any) -> Any:
    """Return the gradient of X = Q R of full column rank (Walter & Lehmann 2018, equation 26)."""
    inner = 0.0
    if gr is not None:
        inner = F.matmul(gr, F.mH(r))
    if gq is not None:
        inner = inner - F.matmul(F.mH(q), gq)
    upper = F.triu(inner, 1)
    total = F.matmul(q, upper + F.mH(upper) + F.diagonal_matrix(F.real(F.diagonal_of(inner)), q))
    if gq is not None:
        total = total + gq
    return F.mH(F.solve_triangular(r, F.mH(total), True, False))


@with_out
def qr(A: Tensor, mode: str = "reduced") -> QRResult:
    """Return (Q, R), A = Q R: Q [*, m, k] ("reduced"), [*, m, m] ("complete"), or empty ("r")."""
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(
            f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), 'r', or 'complete'"
        )
    check_floating("linalg.qr", A)
    check_matrix("linalg.qr", A)
    return QRResult(*_qr(A, mode))


def _reflect(x: Tensor, tau: Tensor, k: int, target: Tensor, adjoint: bool) -> Tensor:
    """Return (1 - tau_k v v^H) target for the k-th reflector v, below the diagonal of column k and 1 on it."""
    rows = x._a.shape[-2]
    column = traced.slice(x, (..., slice(None), slice(k, k + 1)))
    below, unit = (np.arange(rows)[:, None] > k), (np.arange(rows)[:, None] == k).astype(x._a.dtype)
    v = traced.where(traced.constant(x, below), column, 0) + traced.constant(x, unit)
    scale = traced.unsqueeze(traced.slice(tau, (..., slice(k, k + 1))), tau._a.ndim)
    return target - matmul(v * (traced.conj(scale) if adjoint else scale), matmul(traced.mH(v), target))


def reflect_all(x: Tensor, tau: Tensor, target: Tensor, adjoint: bool) -> Tensor:
    """Return Q target, or Q^H target, for the product Q of reflectors as `geqrf` leaves them."""
    count = tau._a.shape[-1]
    for k in range(count) if adjoint else reversed(range(count)):
        target = _reflect(x, tau, k, target, adjoint)
    return target


@with_out
def householder_product(A: Tensor, tau: Tensor) -> Tensor:
    """Return the first n columns of the product of the reflectors below the diagonal of A [*, m, n] with scales tau."""
    function = "torch.linalg.householder_product"
    check_reflectors(function, A, tau)
    if A._a.shape[-2] < A._a.shape[-1]:
        raise RuntimeError(f"{function}: input.shape[-2] must be greater than or equal to input.shape[-1]")
    return reflect_all(A, tau, traced.identity_like(A), False)


def check_reflectors(function: str, x: Tensor, tau: Tensor) -> None:
    check_floating(function, x)
    if x._a.ndim < 2:
        raise RuntimeError(f"{function}: input must have at least 2 dimensions.")
    if tau._a.ndim != x._a.ndim - 1:
        raise RuntimeError(
            f"{function}: Expected tau to have one dimension less than input, but got tau.ndim equal to {tau._a.ndim} and "
            f"input.ndim is equal to {x._a.ndim}"
        )
    if x._a.shape[-1] < tau._a.shape[-1]:
        raise RuntimeError(f"{function}: input.shape[-1] must be greater than or equal to tau.shape[-1]")
    if x._a.shape[:-2] != tau._a.shape[:-1]:
        raise RuntimeError(
            f"{function}: Expected batch dimensions of tau to be equal to input.shape[:-2], but got {list(tau._a.shape[:-1])}"
        )
    if x._a.dtype != tau._a.dtype:
        raise RuntimeError(f"{function}: tau dtype {tau.dtype!r} does not match input dtype {x.dtype!r}")


# -- LU -----------------------------------------------------------------------------------------------------------


class LUFactorResult(NamedTuple):
    LU: Tensor
    pivots: Tensor


class LUFactorExResult(NamedTuple):
    LU: Tensor
    pivots: Tensor
    info: Tensor


class LUResult(NamedTuple):
    P: Tensor
    L: Tensor
    U: Tensor


def permutation(pivots: Any, rows: int) -> Any:
    """Return the order of rows of P^T A that an array of LAPACK's row exchanges amounts to."""
    return kernels_of(pivots).lu_permutation(pivots, rows)


@for_both("permute_rows")
def _permute_rows(F, x: Any, order: Any) -> Any:
    """Return matrices with row order[k] at k."""
    shape = getattr(x, "_a", x).shape
    index = backend_of(order).namespace.broadcast_to(order[..., None], shape)
    return F.gather(x, len(shape) - 2, index)


def inverse_order(order: Any) -> Any:
    """Return the permutation that undoes another."""
    return order.argsort(-1)


@operator(1, name="lu_factor", grad_name="LinalgLuFactorExBackward0", differentiable=1)
def _lu_factor(xp, x):
    return kernels_of(x).lu_factor(x)


@_lu_factor.vjp
def _(F, g, x_shape, out0, out1):
    # P^T X = [X11 X12; X21 X22]: X11 = L1 U1, X12 = L1 U2, X21 = L2 U1. One of X12 and X21 is empty.
    g = g[0]
    m, n = x_shape[-2:]
    k = min(m, n)
    lower, upper = F.leading(out0, k, k), F.triu(F.leading(out0, k, k), 0)
    g1 = F.leading(g, k, k)
    g_lower, g_upper, beside, below = F.tril(g1, -1), F.triu(g1, 0), None, None
    if n > k:
        right = (..., slice(None), slice(k, None))
        beside = F.solve_triangular(F.mH(lower), F.slice(g, right), True, True)
        g_lower = g_lower - F.tril(F.matmul(beside, F.mH(F.slice(out0, right))), -1)
    if m > k:
        under = (..., slice(k, None), slice(None))
        below = F.mH(F.solve_triangular(upper, F.mH(F.slice(g, under)), True, False))
        g_upper = g_upper - F.triu(F.matmul(F.mH(F.slice(out0, under)), below), 0)
    strict = F.tril(lower, -1)
    inner = F.tril(g_lower + F.matmul(F.mH(strict), g_lower), -1) + F.triu(F.matmul(g_upper, F.mH(upper)), 0)
    half = F.solve_triangular(F.mH(lower), inner, True, True)
    found = F.mH(F.solve_triangular(upper, F.mH(half), True, False))
    if beside is not None:
        found = F.join(found, beside, -1)
    if below is not None:
        found = F.join(found, below, -2)
    return F.permute_rows(found, inverse_order(permutation(getattr(out1, "_a", out1), m)))


def lu_factor_checked(function: str, x: Tensor, pivot: bool, check_errors: bool) -> LUFactorExResult:
    """Return the factors, exchanges and info of `x`, with PyTorch's checks."""
    check_matrix(function, x)
    if x._a.dtype.kind in "biu" or x._a.dtype.itemsize == 2:
        raise NotImplementedError(f"\"lu_cpu\" not implemented for '{type_label(x._a.dtype)}'")
    if not pivot:
        raise RuntimeError("linalg.lu_factor: LU without pivoting is not implemented on the CPU")
    result = LUFactorExResult(*_lu_factor(x))
    if check_errors:
        check_info(
            result.info,
            function
            + ": {place}U[{info},{info}] is zero and using it on lu_solve would result in a division by zero. If you "
            "still want to perform the factorization, consider calling linalg.lu(A, pivot) or linalg.lu_factor_ex(A, pivot)",
            RuntimeError,
        )
    return result


@with_out
def lu_factor_ex(A: Tensor, *, pivot: bool = True, check_errors: bool = False) -> LUFactorExResult:
    """Return (LU, pivots, info): both factors in one matrix, the exchange of each row, and where U has a zero, or 0."""
    return lu_factor_checked("torch.linalg.lu_factor_ex", A, pivot, check_errors)


@with_out
def lu_factor(A: Tensor, *, pivot: bool = True) -> LUFactorResult:
    """Return (LU, pivots) of P^T A = L U: both factors in one matrix, and the row exchanged with each row, from 1."""
    return LUFactorResult(*lu_factor_checked("torch.linalg.lu_factor", A, pivot, True)[:2])


def unpack_lower(factors: Tensor) -> Tensor:
    """Return L [*, m, k], with ones on its diagonal."""
    m, n = factors._a.shape[-2:]
    part = traced.leading(factors, None, min(m, n))
    return traced.tril(part, -1) + traced.constant(factors, np.eye(m, min(m, n), dtype=factors._a.dtype))


def unpack_upper(factors: Tensor) -> Tensor:
    """Return U [*, k, n]."""
    return traced.triu(traced.leading(factors, min(factors._a.shape[-2:]), None), 0)


def permutation_matrix(pivots: Any, rows: int, dtype: Any) -> Tensor:
    """Return P as a matrix."""
    order = permutation(pivots, rows)
    xp = backend_of(order).namespace
    return wrap(xp.ascontiguousarray((order[..., None, :] == xp.arange(rows)[:, None]).astype(dtype)))


@with_out
def lu(A: Tensor, *, pivot: bool = True) -> LUResult:
    """Return (P, L, U), A = P L U: [*, m, m], [*, m, k] and [*, k, n]."""
    factors, pivots, _ = lu_factor_checked("linalg.lu", A, pivot, False)
    matrix = permutation_matrix(pivots._a, A._a.shape[-2], A._a.dtype)
    return LUResult(matrix, unpack_lower(factors), unpack_upper(factors))


# -- LDL ----------------------------------------------------------------------------------------------------------


class LDLFactorResult(NamedTuple):
    LD: Tensor
    pivots: Tensor


class LDLFactorExResult(NamedTuple):
    LD: Tensor
    pivots: Tensor
    info: Tensor


def _ldl(function: str, x: Tensor, hermitian: bool) -> LDLFactorExResult:
    check_floating(function, x)
    check_square(function, x)
    return LDLFactorExResult(*map(wrap, kernels_of(x._a).ldl_factor(x._a, hermitian)))


@with_out
def ldl_factor_ex(A: Tensor, *, hermitian: bool = False, check_errors: bool = False) -> LDLFactorExResult:
    """Return (LD, pivots, info) of a symmetric or Hermitian A = L D L^T or L D L^H, by its lower triangle."""
    result = _ldl("torch.linalg.ldl_factor_ex", A, hermitian)
    if check_errors:
        check_info(result.info, "torch.linalg.ldl_factor_ex: {place}D[{info},{info}] is zero: A is singular")
    return result


@with_out
def ldl_factor(A: Tensor, *, hermitian: bool = False) -> LDLFactorResult:
    """Return (LD, pivots) of a symmetric or Hermitian A: L and D in one matrix, and LAPACK's row exchanges."""
    result = _ldl("torch.linalg.ldl_factor", A, hermitian)
    check_info(result.info, "torch.linalg.ldl_factor: {place}D[{info},{info}] is zero: A is singular")
    return LDLFactorResult(*result[:2])


@with_out
def ldl_solve(LD: Tensor, pivots: Tensor, B: Tensor, *, hermitian: bool = False) -> Tensor:
    """Return A^-1 B from what `ldl_factor` returned."""
    check_square("torch.linalg.ldl_solve", LD, "LD")
    check_matrix("torch.linalg.ldl_solve", B, "B")
    if B._a.dtype != LD._a.dtype:
        raise RuntimeError(f"torch.linalg.ldl_solve: LD has dtype {LD.dtype!r} but B has dtype {B.dtype!r}")
    if pivots._a.dtype.kind != "i":
        raise RuntimeError(f"torch.linalg.ldl_solve: Expected pivots to be integers. Got {pivots.dtype!r}")
    return wrap(kernels_of(LD._a).ldl_solve(LD._a, pivots._a, B._a, hermitian))
