"""Softmax over rows and the negative log-likelihood, one pass each (imports Numba: load lazily)."""

from __future__ import annotations

from math import log

import numpy as np

from disttorch.backends.numpy._compiled_math import exp, larger
from disttorch.backends.numpy._compiled_vectors import wide_vectors
from disttorch.backends.numpy._njit import njit

_SUM = {"reassoc", "contract", "nsz"}


@njit(nogil=True, fastmath=_SUM)
def _largest(row: np.ndarray) -> float:
    """Maximum of a row; a NaN may be missed, as it makes the row's sum NaN anyway."""
    largest = row[0]
    for j in range(1, row.size):
        largest = larger(row[j], largest)
    return largest


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_SUM)
def softmax(x: np.ndarray, y: np.ndarray) -> None:
    """Softmax of each row of `x` into `y`."""
    wide_vectors()
    for i in range(x.shape[0]):
        row, out = x[i], y[i]
        largest = _largest(row)
        total = np.float32(0)
        for j in range(row.size):
            value = exp(row[j] - largest)
            out[j] = value
            total += value
        scale = np.float32(1) / total
        for j in range(row.size):
            out[j] *= scale


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_SUM)
def softmax_grad(g: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    """Input gradient of each row of `softmax` into `out`."""
    wide_vectors()
    for i in range(g.shape[0]):
        grad, row, to = g[i], y[i], out[i]
        total = np.float32(0)
        for j in range(row.size):
            total += grad[j] * row[j]
        for j in range(row.size):
            to[j] = row[j] * (grad[j] - total)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_SUM)
def log_softmax(x: np.ndarray, y: np.ndarray) -> None:
    """Log-softmax of each row of `x` into `y`."""
    wide_vectors()
    for i in range(x.shape[0]):
        row, out = x[i], y[i]
        largest = _largest(row)
        total = np.float32(0)
        for j in range(row.size):
            total += exp(row[j] - largest)
        shift = np.float32(log(total))
        for j in range(row.size):
            out[j] = (row[j] - largest) - shift


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_SUM)
def log_softmax_grad(g: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    """Input gradient of each row of `log_softmax` into `out`."""
    wide_vectors()
    for i in range(g.shape[0]):
        grad, row, to = g[i], y[i], out[i]
        total = np.float32(0)
        for j in range(row.size):
            total += grad[j]
        for j in range(row.size):
            to[j] = grad[j] - exp(row[j]) * total


@njit(nogil=True, cache=True, error_model="numpy")
def nll(
    log_prob: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray,
    ignore_index: int,
    losses: np.ndarray,
) -> tuple[float, float, bool, int]:
    """Summed loss, summed weights, whether a target is out of range, and that target.

    `log_prob` is [N, C, inner], `target` [N, inner]; `weight` [C] may be empty. Each loss goes to
    `losses` [N, inner] unless that is empty.
    """
    summed, total = 0.0, 0.0
    classes = log_prob.shape[1]
    for n in range(target.shape[0]):
        for k in range(target.shape[1]):
            c = target[n, k]
            value, scale = 0.0, 0.0
            if c != ignore_index:
                if c < 0 or c >= classes:
                    return summed, total, True, c
                scale = float(weight[c]) if weight.size else 1.0
                value = -float(log_prob[n, c, k]) * scale
            summed += value
            total += scale
            if losses.size:
                losses[n, k] = value
    return summed, total, False, 0


@njit(nogil=True, cache=True, error_model="numpy")
def nll_grad(
    g: np.ndarray,
    divisor: float,
    target: np.ndarray,
    weight: np.ndarray,
    ignore_index: int,
    out: np.ndarray,
) -> tuple[bool, int]:
    """Scatter the gradient of each loss into zeroed `out` [N, C, inner].

    `g` is [N, inner], or [1, 1] for all. Returns whether a target is out of range, and that target.
    """
    classes = out.shape[1]
    for n in range(target.shape[0]):
        for k in range(target.shape[1]):
            c = target[n, k]
            if c != ignore_index:
                if c < 0 or c >= classes:
                    return True, c
                scale = float(weight[c]) if weight.size else 1.0
                grad = g[n, k] if g.size > 1 else g[0, 0]
                out[n, c, k] = -float(grad) * scale / divisor
    return False, 0
