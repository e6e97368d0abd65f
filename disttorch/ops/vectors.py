"""The rest of `torch.linalg`: norms and condition numbers, products of vectors, diagonals, Vandermonde matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.core import dtypes
from disttorch.ops.eigen import svdvals
from disttorch.ops.factor import check_matrix, check_square
from disttorch.ops.products import cross_along, multiply_chain
from disttorch.ops.reduce import amax, amin, reduced_dims
from disttorch.ops.registry import traced
from disttorch.ops.shape import permute, wrap_dim
from disttorch.ops.solve import inv_ex
from disttorch.ops.write import type_label, with_out

__all__ = [
    "cond", "cross", "diagonal", "matrix_norm", "multi_dot", "norm", "vander", "vecdot", "vector_norm",
]  # fmt: skip

Dims = int | Sequence[int] | None


# -- norms --------------------------------------------------------------------------------------------------------


def _with_dtype(function: str, x: Tensor, dtype: dtypes.dtype | None) -> Tensor:
    """Return the tensor in the type that a norm is computed in."""
    if x._a.dtype.kind in "biu":
        raise RuntimeError(
            f"{function}: Expected a floating point or complex tensor as input. Got {type_label(x._a.dtype)}"
        )
    if dtype is None:
        return x
    if dtype.numpy.kind in "biu":
        raise RuntimeError(f"{function}: dtype should be floating point or complex, but got {dtype!r}")
    if (dtype.numpy.kind == "c") != (x._a.dtype.kind == "c"):
        raise RuntimeError(
            f"{function}: dtype should be {'complex' if x._a.dtype.kind == 'c' else 'real'} for "
            f"{'complex' if x._a.dtype.kind == 'c' else 'real'} inputs, but got {dtype!r}"
        )
    if np.promote_types(x._a.dtype, dtype.numpy) != dtype.numpy:
        raise RuntimeError(
            f"{function}: the dtype of the input ({x.dtype!r}) should be convertible without narrowing to {dtype!r}"
        )
    return x.to(dtype)


@with_out
def vector_norm(
    x: Tensor, ord: Any = 2, dim: Dims = None, keepdim: bool = False, *, dtype: dtypes.dtype | None = None
) -> Tensor:
    """Return the `ord`-norm of the elements over `dim`, (sum |x|^ord)^(1/ord); inf, -inf and 0 are the limits."""
    if not isinstance(ord, (int, float)):
        raise RuntimeError(f"linalg.vector_norm: Expected a real number for ord, got {ord!r}")
    x = _with_dtype("linalg.vector_norm", x, dtype)
    dims = reduced_dims(dim, x._a.ndim)
    if (ord < 0 or ord == float("inf")) and any(not x._a.shape[d] for d in dims):
        raise RuntimeError(
            f"linalg.vector_norm cannot compute the {ord} norm on an empty tensor because the operation does not have an identity"
        )
    return traced.vector_norm(x, float(ord), dims, keepdim)


def _matrix_dims(dim: Any, ndim: int) -> tuple[int, int]:
    if isinstance(dim, int) or len(dim) != 2:
        raise RuntimeError(f"linalg.matrix_norm: dim must be a 2-tuple. Got {dim}")
    first, second = (wrap_dim(d, ndim) for d in dim)
    if first == second:
        raise RuntimeError(f"linalg.matrix_norm: dims must be different. Got ({dim[0]}, {dim[1]})")
    return first, second


def _spectral(x: Tensor, ord: Any, dims: tuple[int, int], keepdim: bool) -> Tensor:
    rest = tuple(d for d in range(x._a.ndim) if d not in dims)
    values = svdvals(permute(x, (*rest, *dims)))
    if ord == "nuc":
        found = traced.sum(values, (values._a.ndim - 1,), False)
    else:
        found = (amax if ord > 0 else amin)(values, -1)
    for d in sorted(dims) if keepdim else ():
        found = traced.unsqueeze(found, d)
    return found


@with_out
def matrix_norm(
    A: Tensor,
    ord: Any = "fro",
    dim: tuple[int, int] = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: dtypes.dtype | None = None,
) -> Tensor:
    """Return the norm of matrices: "fro", "nuc" (of the singular values the sum), 2 (the largest), -2 (the smallest),
    1 and -1 (the largest and smallest column sum of absolute values), inf and -inf (row sum)."""
    check_matrix("linalg.matrix_norm", A)
    x = _with_dtype("linalg.matrix_norm", A, dtype)
    dims = _matrix_dims(dim, x._a.ndim)
    if ord == "fro":
        return vector_norm(x, 2, dims, keepdim)
    if ord in ("nuc", 2, -2):
        return _spectral(x, ord, dims, keepdim)
    if isinstance(ord, str) or abs(ord) not in (1, float("inf")):
        raise RuntimeError(f"linalg.matrix_norm: Order {ord} not supported.")
    rows, columns = dims if abs(ord) == 1 else dims[::-1]
    sums = vector_norm(x, 1, rows, True)
    found = (amax if ord > 0 else amin)(sums, columns, True)
    return found if keepdim else traced.squeeze(found, tuple(sorted(dims)))


@with_out
def norm(
    A: Tensor,
    ord: Any = None,
    dim: Dims = None,
    keepdim: bool = False,
    *,
    dtype: dtypes.dtype | None = None,
) -> Tensor:
    """Return a vector norm (of all elements, or over one `dim`) or, for two dimensions and an `ord`, a matrix norm."""
    count = None if dim is None else 1 if isinstance(dim, int) else len(dim)
    if ord is None:
        return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    if count is None and A._a.ndim not in (1, 2):
        raise RuntimeError(
            "linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got " + f"{A._a.ndim}D."
        )
    if count not in (None, 1, 2):
        raise RuntimeError(f"linalg.norm: If dim is specified, it must be of length 1 or 2. Got {list(dim)}")  # type: ignore[arg-type]
    if (count or A._a.ndim) == 2:
        return matrix_norm(A, ord, (0, 1) if dim is None else tuple(dim), keepdim, dtype=dtype)  # type: ignore[arg-type]
    if isinstance(ord, str):
        raise RuntimeError(f"linalg.norm: Order {ord} not supported for vectors.")
    return vector_norm(A, ord, dim, keepdim, dtype=dtype)


@with_out
def cond(A: Tensor, p: Any = None) -> Tensor:
    """Return the condition numbers ||A|| ||A^-1|| in the matrix norm `p` (2 unless given); inf for a singular matrix."""
    check_matrix("linalg.cond", A)
    if p in (None, 2, -2):
        values = svdvals(A)
        if not values._a.shape[-1]:
            return traced.zeros_from(values, values._a.shape[:-1])
        first, last = (traced.slice(values, (..., k)) for k in (0, values._a.shape[-1] - 1))
        return last / first if p == -2 else first / last
    check_square("linalg.cond", A)
    inverse, info = inv_ex(A)
    singular = wrap(info._a != 0)
    return traced.where(singular, float("inf"), matrix_norm(A, p) * matrix_norm(inverse, p))


# -- vectors and matrices -----------------------------------------------------------------------------------------


@with_out
def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """Return the sums of conj(x) * y along `dim`; the other dimensions are broadcast."""
    if x._a.dtype != y._a.dtype:
        raise RuntimeError(
            f"linalg.vecdot: Expected x and y to have the same dtype, but found x of type {type_label(x._a.dtype)} and y of type "
            f"{type_label(y._a.dtype)} instead"
        )
    product = traced.conj(x) * y
    return traced.sum(product, (wrap_dim(dim, product._a.ndim),), False)


@with_out
def cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """Return the vector product along `dim`, of length 3 in both; the other dimensions are broadcast."""
    return cross_along(input, other, dim)


def diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Return a view of the diagonals of matrices, as the last dimension."""
    first, second = wrap_dim(dim1, A._a.ndim), wrap_dim(dim2, A._a.ndim)
    if first == second:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    return traced.diagonal(A, offset, first, second)


@with_out
def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """Return the product of two or more matrices in the order that costs least; the first and last may be vectors."""
    matrices = list(tensors)
    if len(matrices) < 2:
        raise RuntimeError(f"multi_dot(): expected at least 2 tensors but got {len(matrices)}")
    row, column = matrices[0]._a.ndim == 1, matrices[-1]._a.ndim == 1
    if row:
        matrices[0] = traced.unsqueeze(matrices[0], 0)
    if column:
        matrices[-1] = traced.unsqueeze(matrices[-1], 1)
    for k, m in enumerate(matrices):
        if m._a.ndim != 2:
            raise RuntimeError(f"multi_dot(): tensor {k} must be 2D but got {m._a.ndim}D")
    product = multiply_chain(matrices)
    return traced.squeeze(product, (0,) * row + (1,) * column) if row or column else product


def vander(x: Tensor, *, N: int | None = None) -> Tensor:
    """Return [*, n, N] with the powers 0 to N - 1 of each element of x [*, n]; N is n unless given."""
    if x._a.dtype == bool:
        raise RuntimeError("linalg.vander supports floating point, complex, and integer tensors, but got Bool")
    column = traced.unsqueeze(x, x._a.ndim) if x._a.ndim else traced.reshape(x, (1, 1))
    count = column._a.shape[-2] if N is None else N
    if count <= 1:
        raise RuntimeError("N must be greater than 1.")
    if x._a.dtype.kind in "iu" and x._a.dtype != np.int64:
        column = column.to(dtypes.int64)
    powers = [traced.add(traced.mul(column, 0), 1)]
    for _ in range(count - 1):
        powers.append(powers[-1] * column)
    return traced.cat(powers, column._a.ndim - 1, (1,) * count)
