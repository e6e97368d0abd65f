"""Standardization, batch and layer normalization and their gradients (imports Numba: load lazily).

Arrays are contiguous. Those of `standardize*` and `batch_norm*` are [A, B, C], and a group is everything with one place
in B; those of `layer_norm*` are [rows, n]. Rows are summed in their own type, which makes vector code, and rows together
in float64.
"""

from __future__ import annotations

import numpy as np

from disttorch.backends.numpy._njit import njit

_SUM = {"reassoc", "contract", "nsz"}


@njit(nogil=True, fastmath=_SUM)
def _sum(row: np.ndarray) -> float:
    total = row.dtype.type(0)
    for j in range(row.size):
        total += row[j]
    return total


@njit(nogil=True, fastmath=_SUM)
def _sum_of_squares(row: np.ndarray, mean: float) -> float:
    total = row.dtype.type(0)
    for j in range(row.size):
        total += (row[j] - mean) * (row[j] - mean)
    return total


@njit(nogil=True, fastmath=_SUM)
def _sum_of_products(left: np.ndarray, right: np.ndarray) -> float:
    total = left.dtype.type(0)
    for j in range(left.size):
        total += left[j] * right[j]
    return total


@njit(nogil=True, fastmath=_SUM)
def _sum_of_covariances(left: np.ndarray, right: np.ndarray, mean: float) -> float:
    total = left.dtype.type(0)
    for j in range(left.size):
        total += left[j] * (right[j] - mean)
    return total


@njit(nogil=True, cache=True, error_model="numpy")
def standardize(x: np.ndarray, eps: float, y: np.ndarray, mean: np.ndarray, var: np.ndarray) -> None:
    """Write (x - mean) / sqrt(var + eps) into `y`, and the groups' statistics into `mean` and `var` [B]."""
    count = x.shape[0] * x.shape[2]
    for b in range(x.shape[1]):
        total = 0.0
        for a in range(x.shape[0]):
            total += _sum(x[a, b])
        mean[b] = total / count
        center = mean[b]
        total = 0.0
        for a in range(x.shape[0]):
            total += _sum_of_squares(x[a, b], center)
        var[b] = total / count
        step = x.dtype.type(1 / np.sqrt(var[b] + eps))
        for a in range(x.shape[0]):
            row, out = x[a, b], y[a, b]
            for j in range(row.size):
                out[j] = (row[j] - center) * step


@njit(nogil=True, cache=True, error_model="numpy")
def standardize_grad(g: np.ndarray, y: np.ndarray, var: np.ndarray, eps: float, out: np.ndarray) -> None:
    """Write the gradient of the input of `standardize`, whose results were `y` and `var`, into `out`."""
    count = g.shape[0] * g.shape[2]
    for b in range(g.shape[1]):
        total, along = 0.0, 0.0
        for a in range(g.shape[0]):
            total += _sum(g[a, b])
            along += _sum_of_products(g[a, b], y[a, b])
        step = g.dtype.type(1 / np.sqrt(var[b] + eps))
        mean, slope = g.dtype.type(total / count), g.dtype.type(along / count)
        for a in range(g.shape[0]):
            grad, row, to = g[a, b], y[a, b], out[a, b]
            for j in range(grad.size):
                to[j] = (grad[j] - mean - row[j] * slope) * step


# -- batch normalization ------------------------------------------------------------------------------------------


@njit(nogil=True, cache=True, error_model="numpy")
def batch_norm(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float, y: np.ndarray, mean: np.ndarray, var: np.ndarray
) -> None:
    """Write the standardized `x` times `weight` plus `bias` [B] into `y`, and the statistics into `mean` and `var` [B]."""
    count = x.shape[0] * x.shape[2]
    for b in range(x.shape[1]):
        total = 0.0
        for a in range(x.shape[0]):
            total += _sum(x[a, b])
        mean[b] = total / count
        center = mean[b]
        total = 0.0
        for a in range(x.shape[0]):
            total += _sum_of_squares(x[a, b], center)
        var[b] = total / count
        scale, shift = x.dtype.type(weight[b] / np.sqrt(var[b] + eps)), bias[b]
        for a in range(x.shape[0]):
            row, out = x[a, b], y[a, b]
            for j in range(row.size):
                out[j] = (row[j] - center) * scale + shift


@njit(nogil=True, cache=True, error_model="numpy")
def batch_norm_grad(
    g: np.ndarray, x: np.ndarray, weight: np.ndarray, mean: np.ndarray, var: np.ndarray, eps: float,
    of_x: np.ndarray, of_weight: np.ndarray, of_bias: np.ndarray,
) -> None:  # fmt: skip
    """Write the gradients of the inputs of `batch_norm` into `of_x`, `of_weight` and `of_bias`."""
    count = g.shape[0] * g.shape[2]
    for b in range(g.shape[1]):
        center = mean[b]
        total, along = 0.0, 0.0
        for a in range(g.shape[0]):
            total += _sum(g[a, b])
            along += _sum_of_covariances(g[a, b], x[a, b], center)
        step = 1 / np.sqrt(var[b] + eps)
        of_weight[b], of_bias[b] = along * step, total
        shift, slope = g.dtype.type(total / count), g.dtype.type(along / count * step * step)
        scale = g.dtype.type(step * weight[b])
        for a in range(g.shape[0]):
            grad, row, out = g[a, b], x[a, b], of_x[a, b]
            for j in range(grad.size):
                out[j] = (grad[j] - shift - (row[j] - center) * slope) * scale


@njit(nogil=True, cache=True, error_model="numpy")
def batch_norm_of_rows(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float, y: np.ndarray, mean: np.ndarray, var: np.ndarray
) -> None:
    """Do what `batch_norm` does where C is 1: `x` is [A, B]."""
    count, n = x.shape
    total = np.zeros(n)
    for a in range(count):
        for b in range(n):
            total[b] += x[a, b]
    for b in range(n):
        mean[b] = total[b] / count
        total[b] = 0
    for a in range(count):
        for b in range(n):
            d = x[a, b] - mean[b]
            total[b] += d * d
    scale = np.empty(n, x.dtype)
    for b in range(n):
        var[b] = total[b] / count
        scale[b] = weight[b] / np.sqrt(var[b] + eps)
    for a in range(count):
        for b in range(n):
            y[a, b] = (x[a, b] - mean[b]) * scale[b] + bias[b]


@njit(nogil=True, cache=True, error_model="numpy")
def batch_norm_of_rows_grad(
    g: np.ndarray, x: np.ndarray, weight: np.ndarray, mean: np.ndarray, var: np.ndarray, eps: float,
    of_x: np.ndarray, of_weight: np.ndarray, of_bias: np.ndarray,
) -> None:  # fmt: skip
    """Do what `batch_norm_grad` does where C is 1."""
    count, n = g.shape
    total, along = np.zeros(n), np.zeros(n)
    for a in range(count):
        for b in range(n):
            total[b] += g[a, b]
            along[b] += g[a, b] * (x[a, b] - mean[b])
    shift, slope, scale = np.empty(n, g.dtype), np.empty(n, g.dtype), np.empty(n, g.dtype)
    for b in range(n):
        step = 1 / np.sqrt(var[b] + eps)
        of_weight[b], of_bias[b] = along[b] * step, total[b]
        shift[b], slope[b], scale[b] = total[b] / count, along[b] / count * step * step, step * weight[b]
    for a in range(count):
        for b in range(n):
            of_x[a, b] = (g[a, b] - shift[b] - (x[a, b] - mean[b]) * slope[b]) * scale[b]


# -- layer normalization ------------------------------------------------------------------------------------------

_BLOCK = 32
"""So many rows' gradients of weight and bias are added up in their own type, these sums in float64."""


@njit(nogil=True, cache=True, error_model="numpy")
def layer_norm(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float, y: np.ndarray, mean: np.ndarray, var: np.ndarray
) -> None:
    """Write each standardized row times `weight` plus `bias` [n] into `y`, and the statistics into `mean` and `var`."""
    for r in range(x.shape[0]):
        row, out = x[r], y[r]
        mean[r] = _sum(row) / row.size
        center = mean[r]
        var[r] = _sum_of_squares(row, center) / row.size
        step = x.dtype.type(1 / np.sqrt(var[r] + eps))
        for j in range(row.size):
            out[j] = (row[j] - center) * step * weight[j] + bias[j]


@njit(nogil=True, fastmath=_SUM)
def _sums_of_row(grad: np.ndarray, row: np.ndarray, weight: np.ndarray, center: float) -> tuple[float, float]:
    total, along = grad.dtype.type(0), grad.dtype.type(0)
    for j in range(grad.size):
        scaled = grad[j] * weight[j]
        total += scaled
        along += scaled * (row[j] - center)
    return total, along


@njit(nogil=True, cache=True, error_model="numpy")
def layer_norm_grad(
    g: np.ndarray, x: np.ndarray, weight: np.ndarray, mean: np.ndarray, var: np.ndarray, eps: float,
    of_x: np.ndarray, of_weight: np.ndarray, of_bias: np.ndarray,
) -> None:  # fmt: skip
    """Write the gradients of the inputs of `layer_norm` into `of_x` and, in float64, into `of_weight` and `of_bias`."""
    n = g.shape[1]
    block_weight, block_bias = np.zeros(n, g.dtype), np.zeros(n, g.dtype)
    of_weight[:], of_bias[:] = 0, 0
    for r in range(g.shape[0]):
        grad, row, out = g[r], x[r], of_x[r]
        center, step = mean[r], g.dtype.type(1 / np.sqrt(var[r] + eps))
        total, along = _sums_of_row(grad, row, weight, center)
        shift, slope = g.dtype.type(total / n), g.dtype.type(along / n) * step * step
        for j in range(n):
            out[j] = (grad[j] * weight[j] - shift - (row[j] - center) * slope) * step
        for j in range(n):
            block_weight[j] += grad[j] * ((row[j] - center) * step)
            block_bias[j] += grad[j]
        if r % _BLOCK == _BLOCK - 1 or r == g.shape[0] - 1:
            for j in range(n):
                of_weight[j] += block_weight[j]
                of_bias[j] += block_bias[j]
                block_weight[j] = 0
                block_bias[j] = 0
