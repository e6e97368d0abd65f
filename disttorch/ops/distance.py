"""Norms, and distances between points."""

from __future__ import annotations

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.backends import backend_of
from disttorch.core import dtypes
from disttorch.ops.define import operator
from disttorch.ops.join import contiguous
from disttorch.ops.linalg import matmul
from disttorch.ops.reduce import Dims, reduced_dims, spread, sum
from disttorch.ops.registry import raw, traced
from disttorch.ops.rounding import clamp_min
from disttorch.ops.shape import movedim, row_major, unsqueeze, wrap_dim
from disttorch.ops.write import type_label, with_out

__all__ = ["cdist", "dist", "norm", "pdist", "renorm"]
METHODS = """
    dist norm renorm
"""
INPLACE = """
    renorm
"""


@operator(1, name="vector_norm", grad_name="LinalgVectorNormBackward0")
def _vector_norm(xp, x, p, dims, keepdim):
    size = row_major(xp.absolute(x))
    if x.dtype.itemsize == 2:
        return raw.vector_norm(size.astype(np.float32), p, dims, keepdim).astype(x.dtype)
    if p == 2:
        return xp.sqrt((size * size).sum(dims, keepdims=keepdim))
    if p == float("inf"):
        return size.max(dims, keepdims=keepdim)
    if p == float("-inf"):
        return size.min(dims, keepdims=keepdim)
    if p == 0:
        return (size != 0).sum(dims, keepdims=keepdim).astype(size.dtype)
    return (size**p).sum(dims, keepdims=keepdim) ** (1 / p)


@_vector_norm.vjp
def _(F, g, x, out, p, dims, keepdim):
    g, norm = spread(F, g, dims, keepdim), spread(F, out, dims, keepdim)
    if p == 0:
        return None
    if p in (float("inf"), float("-inf")):
        largest = (F.abs(x) == norm) * 1.0
        return F.sgn(x) * (g * largest / F.sum(largest, dims, True))
    if p == 1:
        return F.sgn(x) * g
    if p == 2:
        return F.where(norm == 0, 0.0, x * (g / F.where(norm == 0, 1.0, norm)))
    size = F.abs(x)
    safe = F.where(norm == 0, 1.0, norm)
    scaled = F.where(size == 0, 0.0, F.pow(F.where(size == 0, 1.0, size) / safe, p - 1))
    return F.where(norm == 0, 0.0, F.sgn(x) * scaled * g)


def _check_there_are_elements(input: Tensor, p: float, dims: tuple[int, ...]) -> None:
    """Raise PyTorch's error for an extremum of nothing."""
    if (p < 0 or p == float("inf")) and not input._a.size and 0 in [input._a.shape[d] for d in dims]:
        raise RuntimeError(
            f"linalg.vector_norm cannot compute the {p} norm on an empty tensor: there is no extremum of nothing"
        )


def _check_floating(function: str, input: Tensor) -> None:
    if input._a.dtype.kind in "biu":
        raise RuntimeError(
            f"{function}: Expected a floating point or complex tensor as input. Got {type_label(input._a.dtype)}"
        )


@with_out
def norm(
    input: Tensor,
    p: float | str | None = "fro",
    dim: Dims = None,
    keepdim: bool = False,
    *,
    dtype: dtypes.dtype | None = None,
) -> Tensor:
    """Return the p-norm of the elements (the Euclidean norm by default), over all of them or over `dim`.

    "nuc" is the nuclear norm of a matrix, the sum of its singular values; `dim` then names its two dimensions.
    """
    _check_floating("linalg.vector_norm", input)
    input = input if dtype is None else input.to(dtype)
    if p == "nuc":
        return _nuclear_norm(input, dim, keepdim)
    order = 2.0 if p in ("fro", None) else p
    if not isinstance(order, (int, float)):
        raise RuntimeError(f"norm(): expected p to be a number, 'fro' or 'nuc', got {p!r}")
    dims = reduced_dims(dim, input._a.ndim)
    _check_there_are_elements(input, order, dims)
    return _vector_norm(input, float(order), dims, keepdim)


def _nuclear_norm(input: Tensor, dim: Dims, keepdim: bool) -> Tensor:
    from disttorch.ops.eigen import svdvals

    dims = reduced_dims(dim, input._a.ndim)
    if len(dims) != 2:
        raise RuntimeError(f"norm(): the nuclear norm is one of matrices, expected two dimensions, got {len(dims)}")
    total = sum(svdvals(movedim(input, dims, (-2, -1))), -1)
    return unsqueeze(unsqueeze(total, dims[0]), dims[1]) if keepdim else total


def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """Return the p-norm of input - other."""
    return norm(input - other, p)


@with_out
def renorm(input: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """Return the slices of `dim` with p-norms of at most `maxnorm`: larger ones are scaled."""
    if input._a.ndim < 2:
        raise RuntimeError(f"renorm: input needs at least 2 dimensions, got {input._a.ndim} dimensions")
    if p <= 0 or maxnorm < 0:
        raise RuntimeError(f"renorm: expected a positive norm and a maximum of at least 0, got {p} and {maxnorm}")
    kept = wrap_dim(dim, input._a.ndim)
    sizes = norm(input, p, [d for d in range(input._a.ndim) if d != kept], True)
    return contiguous(input) * traced.where(sizes > maxnorm, maxnorm / (sizes + 1e-7), 1.0)


# -- distances between points -------------------------------------------------------------------------------------

_MANY_POINTS = 25


def _check_points(function: str, p: float, *points: Tensor) -> None:
    if p < 0:
        raise RuntimeError(f"{function} only supports non-negative p values")
    for x in points:
        if x._a.dtype.kind not in "fV":
            raise RuntimeError(f"{function} only supports floating-point dtypes, got {x.dtype!r}")


def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str = "use_mm_for_euclid_dist_if_necessary") -> Tensor:
    """Return the p-norm distances of each of the points x1 [..., n, d] from each of x2 [..., m, d], as [..., n, m].

    Euclidean distances between many points are computed by a matrix product, faster and less exact for near points,
    unless `compute_mode` is "donot_use_mm_for_euclid_dist".
    """
    _check_points("cdist", p, x1, x2)
    for x, name in ((x1, "X1"), (x2, "X2")):
        if x._a.ndim < 2:
            raise RuntimeError(f"cdist only supports at least 2D tensors, {name} got: {x._a.ndim}D")
    if x1._a.shape[-1] != x2._a.shape[-1]:
        raise RuntimeError(
            f"X1 and X2 must have the same number of columns. X1: {x1._a.shape[-1]} X2: {x2._a.shape[-1]}"
        )
    many = max(x1._a.shape[-2], x2._a.shape[-2]) > _MANY_POINTS
    if p == 2 and many and compute_mode != "donot_use_mm_for_euclid_dist":
        return _distances_by_product(x1, x2)
    between = unsqueeze(x1, -2) - unsqueeze(x2, -3)
    if not between._a.shape[-1]:
        return sum(between, -1)
    return _vector_norm(between, float(p), (between._a.ndim - 1,), False)


def _distances_by_product(x1: Tensor, x2: Tensor) -> Tensor:
    products = matmul(x1, x2.mT)
    squares = sum(x1 * x1, -1, True) + unsqueeze(sum(x2 * x2, -1), -2) - products * 2
    return traced.sqrt(clamp_min(squares, 1e-30))


def pdist(input: Tensor, p: float = 2) -> Tensor:
    """Return the p-norm distances of all pairs of the points `input` [n, d], in the order (0, 1), (0, 2), ..., (1, 2), ..."""
    _check_points("pdist", p, input)
    if input._a.ndim != 2:
        raise RuntimeError(f"pdist only supports 2D tensors, got: {input._a.ndim}D")
    first, second = backend_of(input._a).namespace.triu_indices(input._a.shape[0], 1)
    between = traced.index(input, (first,)) - traced.index(input, (second,))
    return _vector_norm(between, float(p), (1,), False) if input._a.shape[1] else sum(between, 1)
