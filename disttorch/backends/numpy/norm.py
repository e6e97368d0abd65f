"""Standardization over some dimensions, batch and layer normalization, and their gradients, on NumPy arrays."""

from __future__ import annotations

from math import prod
from typing import Any

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


# -- batch and layer normalization --------------------------------------------------------------------------------

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def batch_norm(x: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None, eps: float) -> Arrays:
    """Standardized x [N, C, *] times `weight` plus `bias` [C], and the mean and the biased variance of each channel [C]."""
    groups = _of_channels(x)
    if groups is None:
        shape = (-1, *(1 for _ in x.shape[2:]))
        y, mean, var = standardize(x, (0, *range(2, x.ndim)), eps)
        y = y if weight is None else y * weight.reshape(shape)
        return y if bias is None else y + bias.reshape(shape), mean.reshape(-1), var.reshape(-1)
    y, mean, var = (np.empty(shape, x.dtype) for shape in (x.shape, x.shape[1], x.shape[1]))
    name, shape = groups
    kernel = getattr(compiled("norm"), name)
    kernel(_seen_as(x, shape), _or(1, weight, x), _or(0, bias, x), eps, y.reshape(shape), mean, var)
    return y, mean, var


def batch_norm_grad(
    g: np.ndarray, x: np.ndarray, weight: np.ndarray | None, mean: np.ndarray, var: np.ndarray, eps: float
) -> Arrays:
    """Gradients of x, weight and bias of `batch_norm`, whose statistics were `mean` and `var`."""
    groups = _of_channels(x)
    if groups is None or g.dtype != x.dtype:
        return _grad_of_channels(g, x, weight, mean, var, eps)
    name, shape = groups
    of_x, of_weight, of_bias = np.empty(x.shape, x.dtype), np.empty_like(mean), np.empty_like(mean)
    kernel = getattr(compiled("norm"), f"{name}_grad")
    kernel(
        _seen_as(g, shape), _seen_as(x, shape), _or(1, weight, x), mean, var, eps, of_x.reshape(shape), of_weight, of_bias
    )  # fmt: skip
    return of_x, of_weight, of_bias


def _of_channels(x: np.ndarray) -> tuple[str, tuple[int, ...]] | None:
    """The compiled kernel for x [N, C, *] and the shape that it takes; None where there is none."""
    length = prod(x.shape[2:])
    if not is_float(x.dtype) or not x.size or 1 < length < _SHORT:
        return None
    return ("batch_norm_of_rows", x.shape[:2]) if length == 1 else ("batch_norm", (*x.shape[:2], length))


def _grad_of_channels(
    g: np.ndarray, x: np.ndarray, weight: np.ndarray | None, mean: np.ndarray, var: np.ndarray, eps: float
) -> Arrays:
    dims, shape = (0, *range(2, x.ndim)), (-1, *(1 for _ in x.shape[2:]))
    var = var.reshape(shape)
    y = (x - mean.reshape(shape)) / np.sqrt(var + var.dtype.type(eps))
    scaled = g if weight is None else g * weight.reshape(shape)
    return standardize_grad(scaled, y, var[None], dims, eps), (g * y).sum(dims), g.sum(dims)


def layer_norm(x: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None, dim: int, eps: float) -> Arrays:
    """x standardized over the dimensions from `dim` on, times `weight` plus `bias`; mean and biased variance."""
    kept = (*x.shape[:dim], *(1 for _ in x.shape[dim:]))
    n = prod(x.shape[dim:])
    if not is_float(x.dtype) or not x.size:
        y, mean, var = standardize(x, tuple(range(dim, x.ndim)), eps)
        y = y if weight is None else y * weight
        return y if bias is None else y + bias, mean, var
    y, mean, var = np.empty(x.shape, x.dtype), np.empty(kept, x.dtype), np.empty(kept, x.dtype)
    compiled("norm").layer_norm(
        _seen_as(x, (-1, n)), _or(1, weight, x, n), _or(0, bias, x, n), eps, y.reshape(-1, n), mean.reshape(-1), var.reshape(-1)
    )  # fmt: skip
    return y, mean, var


def layer_norm_grad(
    g: np.ndarray, x: np.ndarray, weight: np.ndarray | None, mean: np.ndarray, var: np.ndarray, dim: int, eps: float
) -> Arrays:
    """Gradients of x, weight and bias of `layer_norm`, whose statistics were `mean` and `var`."""
    shape, n = x.shape[dim:], prod(x.shape[dim:])
    if not is_float(x.dtype) or not x.size or g.dtype != x.dtype:
        y = (x - mean) / np.sqrt(var + var.dtype.type(eps))
        scaled = g if weight is None else g * weight
        of_x = standardize_grad(scaled, y, var, tuple(range(dim, x.ndim)), eps)
        rows = tuple(range(dim))
        return of_x, (g * y).sum(rows), g.sum(rows)
    of_x, of_weight, of_bias = np.empty(x.shape, x.dtype), np.empty(n), np.empty(n)
    compiled("norm").layer_norm_grad(
        _seen_as(g, (-1, n)), _seen_as(x, (-1, n)), _or(1, weight, x, n), mean.reshape(-1), var.reshape(-1), eps,
        of_x.reshape(-1, n), of_weight, of_bias,
    )  # fmt: skip
    return of_x, of_weight.astype(x.dtype).reshape(shape), of_bias.astype(x.dtype).reshape(shape)


def _seen_as(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.ascontiguousarray(x).reshape(shape)


def _or(value: float, given: np.ndarray | None, x: np.ndarray, n: int | None = None) -> Any:
    """The elements of a weight or bias in row-major order, or so many times `value`."""
    n = x.shape[1] if n is None else n
    return np.full(n, value, x.dtype) if given is None else np.ascontiguousarray(given).reshape(-1)
