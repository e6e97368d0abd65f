"""Standardization over some dimensions and its gradient, on NumPy arrays."""

from __future__ import annotations

from math import prod

import numpy as np

from disttorch.backends.numpy._compiled import compiled, is_float

_SHORT = 8
"""Rows shorter than this are left to NumPy, which goes along the other dimensions."""


def standardize(x: np.ndarray, dims: tuple[int, ...], eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`(x - mean) / sqrt(var + eps)`, `mean` and the biased `var` over `dims`, which stay with size 1."""
    groups = _groups(x, dims)
    if groups is None:
        mean = x.mean(dims, keepdims=True)
        centered = x - mean
        var = (centered * centered).mean(dims, keepdims=True)
        centered *= 1 / np.sqrt(var + x.dtype.type(eps))
        return centered, mean, var
    x, y = np.ascontiguousarray(x), np.empty(x.shape, x.dtype)
    kept = tuple(1 if d in dims else n for d, n in enumerate(x.shape))
    mean, var = np.empty(kept, x.dtype), np.empty(kept, x.dtype)
    compiled("norm").standardize(x.reshape(groups), eps, y.reshape(groups), mean.reshape(-1), var.reshape(-1))
    return y, mean, var


def standardize_grad(g: np.ndarray, y: np.ndarray, var: np.ndarray, dims: tuple[int, ...], eps: float) -> np.ndarray:
    """Gradient of the input of `standardize`, whose results were `y` and `var`, for the gradient `g` of `y`."""
    groups = _groups(y, dims)
    if groups is None or g.dtype != y.dtype:
        along = y * (g * y).mean(dims, keepdims=True)
        return (g - g.mean(dims, keepdims=True) - along) / np.sqrt(var + var.dtype.type(eps))
    out = np.empty(y.shape, y.dtype)
    arrays = (np.ascontiguousarray(a).reshape(groups) for a in (g, y))
    compiled("norm").standardize_grad(*arrays, var.reshape(-1), eps, out.reshape(groups))
    return out


def _groups(x: np.ndarray, dims: tuple[int, ...]) -> tuple[int, int, int] | None:
    """The shape [A, B, C] in which the dimensions `dims` are A and C; None where the compiled kernels do not apply."""
    first = next((d for d in range(x.ndim) if d not in dims), x.ndim)
    last = next((d + 1 for d in reversed(range(x.ndim)) if d not in dims), first)
    shape = x.shape
    groups = prod(shape[:first]), prod(shape[first:last]), prod(shape[last:])
    alike = len(dims) == first + x.ndim - last
    return groups if alike and is_float(x.dtype) and groups[2] >= _SHORT and 0 not in groups else None
