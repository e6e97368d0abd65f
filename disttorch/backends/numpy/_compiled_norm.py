"""Standardization and its gradient, a few passes over each group (imports Numba: load lazily).

Arrays are [A, B, C], contiguous; a group is everything with one place in B. Rows are summed in their own type, which
makes vector code, and rows together in float64.
"""

from __future__ import annotations

import numpy as np
from numba import njit

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
