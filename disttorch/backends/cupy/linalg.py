"""Linear algebra on stacks of matrices that `cupy.linalg` lacks, or has for one matrix at a time.

`info` is LAPACK's: 0, or the number of the diagonal element (from 1) at which a factorization failed.
"""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from disttorch.backends import numpy as host
from disttorch.backends.cupy._library import extension, library, on_host


def linalg_errors(a: Any) -> AbstractContextManager[Any]:
    """Return a context in which `linalg` of the array's library raises LinAlgError; else CuPy returns undefined numbers."""
    return extension(a).errstate(linalg="raise")


def _matrices(a: Any) -> Any:
    """Return the indices of the matrices of a stack; none if they are empty."""
    return np.ndindex(a.shape[:-2]) if a.size else ()


def cholesky_info(a: Any) -> tuple[Any, Any]:
    """Return the lower Cholesky factors and, for each matrix, the order of the minor that is not positive."""
    return on_host(host.cholesky_info, a)


def lu_factor(a: Any) -> tuple[Any, Any, Any]:
    """Return L and U in one matrix, the row exchanged with each row (from 1), and `info`."""
    xp, count = library(a), min(a.shape[-2:])
    factors, pivots = xp.zeros(a.shape, a.dtype), xp.zeros((*a.shape[:-2], count), np.int32)
    for i in _matrices(a):
        with warnings.catch_warnings():  # a zero on the diagonal is what `info` says
            warnings.simplefilter("ignore")
            factors[i], pivots[i] = extension(a).scipy.linalg.lu_factor(a[i], check_finite=False)
    zero = xp.diagonal(factors, 0, -2, -1) == 0
    if not count:
        return factors, pivots, xp.zeros(a.shape[:-2], np.int32)
    return factors, pivots + 1, xp.where(zero.any(-1), zero.argmax(-1) + 1, 0).astype(np.int32)


def lu_permutation(pivots: Any, rows: int) -> Any:
    """Return the order of rows that a list of row exchanges amounts to: row k of P^T A is row order[k] of A."""
    return on_host(host.lu_permutation, pivots, rows)


def ldl_factor(a: Any, hermitian: bool) -> tuple[Any, Any, Any]:
    """Return L and D in one matrix (Bunch-Kaufman, of the lower triangle), the row exchanges, and `info`."""
    return on_host(host.ldl_factor, a, hermitian)


def ldl_solve(factors: Any, pivots: Any, b: Any, hermitian: bool) -> Any:
    """Return A^-1 B from the factors and exchanges of `ldl_factor`."""
    return on_host(host.ldl_solve, factors, pivots, b, hermitian)


def solve_triangular(a: Any, b: Any, upper: bool, unitriangular: bool) -> Any:
    """Return A^-1 B for triangular A; what lies in the other triangle is not read."""
    xp, batch = library(a), np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = (xp.broadcast_to(x, batch + x.shape[-2:]) for x in (a, b))
    if not b.size:
        return b.copy()
    solve = extension(a).scipy.linalg.solve_triangular
    return xp.ascontiguousarray(solve(a, b, lower=not upper, unit_diagonal=unitriangular))


def lstsq(a: Any, b: Any, rcond: float, driver: str) -> tuple[Any, Any, Any]:
    """Return the least-squares solution of least norm, the ranks and the singular values; all drivers by the SVD."""
    xp = library(a)
    u, s, vh = xp.linalg.svd(a, full_matrices=False)
    limit = xp.finfo(s.dtype).eps if rcond < 0 else rcond
    kept = s > limit * s[..., :1]
    inverse = (xp.where(kept, 1 / xp.where(kept, s, 1), 0)).astype(s.dtype, copy=False)
    solution = vh.conj().swapaxes(-1, -2) @ (inverse[..., None] * (u.conj().swapaxes(-1, -2) @ b))
    return solution, kept.sum(-1), s


def matrix_exp(a: Any) -> Any:
    """Return the exponentials of square matrices."""
    result = library(a).empty(a.shape, a.dtype)
    for i in _matrices(a):
        result[i] = extension(a).scipy.linalg.expm(a[i])
    return result
