"""Linear algebra that SciPy has and NumPy lacks, on stacks of matrices: one call of LAPACK for each matrix.

`info` is LAPACK's: 0, or the number of the diagonal element (from 1) at which a factorization failed.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

_AS_IT_IS = nullcontext()


def linalg_errors(a: Any) -> AbstractContextManager[Any]:
    """Return a context in which `linalg` of the array's library raises LinAlgError: NumPy's always does."""
    return _AS_IT_IS


def _lapack(names: str, a: Any) -> Any:
    from scipy.linalg import get_lapack_funcs

    return get_lapack_funcs(tuple(names.split()), (a,))


def _matrices(a: Any) -> Any:
    """Return the indices of the matrices of a stack; none if they are empty."""
    return np.ndindex(a.shape[:-2]) if a.size else ()


def cholesky_info(a: Any) -> tuple[Any, Any]:
    """Return the lower Cholesky factors and, for each matrix, the order of the minor that is not positive."""
    (potrf,) = _lapack("potrf", a)
    factor, info = np.zeros_like(a, order="C"), np.zeros(a.shape[:-2], np.int32)
    for i in _matrices(a):
        factor[i], info[i] = potrf(a[i], lower=True, clean=True)
    return factor, info


def lu_factor(a: Any) -> tuple[Any, Any, Any]:
    """Return L and U in one matrix, the row exchanged with each row (from 1), and `info`."""
    (getrf,) = _lapack("getrf", a)
    factors = np.zeros_like(a, order="C")
    pivots = np.zeros((*a.shape[:-2], min(a.shape[-2:])), np.int32)
    info = np.zeros(a.shape[:-2], np.int32)
    for i in _matrices(a):
        factors[i], pivots[i], info[i] = getrf(a[i])
    return factors, pivots + (1 if pivots.size else 0), info


def lu_permutation(pivots: Any, rows: int) -> Any:
    """Return the order of rows that a list of row exchanges amounts to: row k of P^T A is row order[k] of A."""
    order = np.broadcast_to(np.arange(rows), (*pivots.shape[:-1], rows)).copy()
    for k in range(pivots.shape[-1]):
        other = pivots[..., k, None].astype(np.int64) - 1
        moved = np.take_along_axis(order, other, -1)
        np.put_along_axis(order, other, order[..., k, None].copy(), -1)
        order[..., k, None] = moved
    return order


def ldl_factor(a: Any, hermitian: bool) -> tuple[Any, Any, Any]:
    """Return L and D in one matrix (Bunch-Kaufman, of the lower triangle), the row exchanges, and `info`."""
    (sytrf,) = _lapack("hetrf" if hermitian and a.dtype.kind == "c" else "sytrf", a)
    factors = np.zeros_like(a, order="C")
    pivots, info = np.zeros(a.shape[:-1], np.int32), np.zeros(a.shape[:-2], np.int32)
    for i in _matrices(a):
        factors[i], pivots[i], info[i] = sytrf(np.tril(a[i]), lower=True)
    return factors, pivots, info


def ldl_solve(factors: Any, pivots: Any, b: Any, hermitian: bool) -> Any:
    """Return A^-1 B from the factors and exchanges of `ldl_factor`."""
    (sytrs,) = _lapack("hetrs" if hermitian and factors.dtype.kind == "c" else "sytrs", factors)
    batch = np.broadcast_shapes(factors.shape[:-2], b.shape[:-2])
    factors, pivots = (np.broadcast_to(x, batch + x.shape[k:]) for x, k in ((factors, -2), (pivots, -1)))
    result = np.broadcast_to(b, batch + b.shape[-2:]).copy()
    for i in _matrices(result):
        result[i] = sytrs(factors[i], pivots[i], result[i], lower=True)[0]
    return result


def solve_triangular(a: Any, b: Any, upper: bool, unitriangular: bool) -> Any:
    """Return A^-1 B for triangular A; what lies in the other triangle is not read."""
    from scipy.linalg import get_blas_funcs

    trsm = get_blas_funcs("trsm", (a, b))
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a = np.broadcast_to(a, batch + a.shape[-2:])
    result = np.broadcast_to(b, batch + b.shape[-2:]).copy()
    for i in _matrices(result):
        result[i] = trsm(1.0, a[i], result[i], lower=not upper, diag=unitriangular)
    return result


def lstsq(a: Any, b: Any, rcond: float, driver: str) -> tuple[Any, Any, Any]:
    """Return the least-squares solution of least norm, the ranks and (of gelss and gelsd) the singular values."""
    from scipy.linalg import lstsq as solve

    *batch, m, n = a.shape
    solution = np.zeros((*batch, n, b.shape[-1]), b.dtype)
    rank = np.zeros(batch, np.int64)
    values = np.zeros((*batch, min(m, n)), a.real.dtype)
    for i in _matrices(a):
        solution[i], _, rank[i], found = solve(a[i], b[i], rcond, lapack_driver=driver, check_finite=False)
        values[i] = 0 if found is None else found
    return solution, rank, values


def matrix_exp(a: Any) -> Any:
    """Return the exponentials of square matrices."""
    from scipy.linalg import expm

    return np.ascontiguousarray(expm(a), a.dtype)
