"""Norms, and distances between points."""

from __future__ import annotations

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.ops.define import operator
from disttorch.ops.reduce import Dims, reduced_dims, spread
from disttorch.ops.registry import raw
from disttorch.ops.shape import row_major

__all__ = ["dist", "norm"]
METHODS = """
    dist norm
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


def norm(input: Tensor, p: float | str | None = "fro", dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Return the p-norm of the elements (the Euclidean norm by default), over all of them or over `dim`."""
    order = 2.0 if p in ("fro", None) else p
    if not isinstance(order, (int, float)):
        raise RuntimeError(f"norm(): expected p to be a number or 'fro', got {p!r}")
    if input._a.dtype.kind in "biu":
        raise RuntimeError(
            f"linalg.vector_norm: Expected a floating point or complex tensor as input. Got {_name(input)}"
        )
    return _vector_norm(input, float(order), reduced_dims(dim, input._a.ndim), keepdim)


def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """Return the p-norm of input - other."""
    return norm(input - other, p)
