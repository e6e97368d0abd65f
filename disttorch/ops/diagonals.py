"""Diagonals, triangles and blocks of matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.core.promotion import result_dtype
from disttorch.ops.creation import creator, empty
from disttorch.ops.define import expect_tensor, operator, view_operator
from disttorch.ops.join import cat
from disttorch.ops.reduce import sum as sum_of
from disttorch.ops.registry import traced
from disttorch.ops.shape import atleast_2d, reshape, wrap_dim
from disttorch.ops.strided import scattered
from disttorch.ops.write import with_out

__all__ = [
    "block_diag", "diag", "diag_embed", "diagflat", "diagonal", "diagonal_scatter", "trace", "tril", "tril_indices",
    "triu", "triu_indices",
]  # fmt: skip
METHODS = """
    diag diag_embed diagflat diagonal diagonal_scatter trace tril triu
"""
INPLACE = """
    tril triu
"""


# -- diagonals ----------------------------------------------------------------------------------------------------


@view_operator(name="diagonal")
def _diagonal(xp, x, offset, dim1, dim2):
    found = x.diagonal(offset, dim1, dim2)
    if xp is np:  # NumPy's own is read-only
        found.flags.writeable = x.flags.writeable
    return found


@_diagonal.vjp
def _(F, g, x_shape, offset, dim1, dim2):
    return F.view_scatter(F.zeros_from(g, x_shape), g, ((traced.diagonal.op, 0, (offset, dim1, dim2)),))


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """Return a view of the diagonals of the planes (dim1, dim2), as the last dimension."""
    ndim = input._a.ndim
    first, second = wrap_dim(dim1, ndim), wrap_dim(dim2, ndim)
    if first == second:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    return _diagonal(input, offset, first, second)


def _link(ndim: int, offset: int, dim1: int, dim2: int) -> Any:
    return traced.diagonal.op, 0, (offset, wrap_dim(dim1, ndim), wrap_dim(dim2, ndim))


def diagonal_scatter(input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """Return a copy of `input` with `src` in the place of the diagonals that `diagonal` returns."""
    expect_tensor(src, "diagonal_scatter", "src")
    return scattered(input, src, _link(input._a.ndim, offset, dim1, dim2))


def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Return zeros with the last dimension of `input` on the diagonals of the planes (dim1, dim2)."""
    ndim = input._a.ndim + 1
    first, second = wrap_dim(dim1, ndim), wrap_dim(dim2, ndim)
    if first == second:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    shape = list(input._a.shape[:-1])
    for dim in sorted((first, second)):
        shape.insert(dim, input._a.shape[-1] + abs(offset))
    return scattered(traced.zeros_from(input, tuple(shape)), input, _link(ndim, offset, first, second))


@with_out
def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """Return a matrix with a vector on its diagonal, or a copy of the diagonal of a matrix."""
    if input._a.ndim == 1:
        return diag_embed(input, diagonal)
    if input._a.ndim != 2:
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {input._a.ndim}D")
    return traced.clone(_diagonal(input, diagonal, 0, 1), True)


def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """Return a matrix with the elements of `input` on its diagonal."""
    return diag_embed(reshape(input, -1), offset)


def trace(input: Tensor) -> Tensor:
    """Return the sum of the diagonal of a matrix."""
    if input._a.ndim != 2:
        raise RuntimeError(f"trace: expected a matrix, but got tensor with dim {input._a.ndim}")
    return sum_of(_diagonal(input, 0, 0, 1))


def block_diag(*tensors: Tensor) -> Tensor:
    """Return a matrix with matrices along its diagonal; a vector counts as a row."""
    if not tensors:
        return empty(1, 0)
    target = result_dtype([expect_tensor(x, "block_diag", "tensors")._a for x in tensors]).numpy
    for k, x in enumerate(tensors):
        if x._a.ndim > 2:
            raise RuntimeError(
                f"torch.block_diag: Input tensors must have 2 or fewer dimensions. Input {k} has {x._a.ndim} dimensions"
            )
    blocks = [traced.cast(x, target) if x._a.dtype != target else x for x in map(atleast_2d, tensors)]
    width, begin, rows = sum(x._a.shape[1] for x in blocks), 0, []
    for x in blocks:
        m, n = x._a.shape
        left, right = (traced.zeros_from(x, (m, k)) for k in (begin, width - begin - n))
        rows.append(cat((left, x, right), 1))
        begin += n
    return cat(rows, 0)


# -- triangles ----------------------------------------------------------------------------------------------------


@operator(1, name="triu")
def _triu(xp, x, diagonal):
    return xp.triu(x, diagonal)


@_triu.vjp
def _(F, g, diagonal):
    return F.triu(g, diagonal)


@operator(1, name="tril")
def _tril(xp, x, diagonal):
    return xp.tril(x, diagonal)


@_tril.vjp
def _(F, g, diagonal):
    return F.tril(g, diagonal)


def _check_matrices(input: Tensor, function: str) -> None:
    if expect_tensor(input, function)._a.ndim < 2:
        raise RuntimeError(f"{function}: input tensor must have at least 2 dimensions")


@with_out
def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """Return the upper triangle of the last two dimensions, zeros below `diagonal`."""
    _check_matrices(input, "triu")
    return _triu(input, diagonal)


@with_out
def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """Return the lower triangle of the last two dimensions, zeros above `diagonal`."""
    _check_matrices(input, "tril")
    return _tril(input, diagonal)


def _indices(name: str, mask: Any, doc: str) -> Any:
    def make(row: int, col: int, offset: int = 0, *, dtype: Any = None) -> Any:
        if row < 0 or col < 0:
            raise RuntimeError(f"{'row' if row < 0 else 'col'} must be non-negative, got{min(row, col)}")
        return np.stack(mask(row, offset, col)).astype(dtype or np.int64)

    make.__name__, make.__qualname__, make.__doc__ = name, name, doc
    return creator(make)


tril_indices = _indices(
    "tril_indices", np.tril_indices, "Return the positions [2, n] of the lower triangle of a matrix [row, col]."
)
triu_indices = _indices(
    "triu_indices", np.triu_indices, "Return the positions [2, n] of the upper triangle of a matrix [row, col]."
)
