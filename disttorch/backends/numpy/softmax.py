"""Softmax, log-softmax and the negative log-likelihood with their gradients, on NumPy arrays."""

from __future__ import annotations

from math import prod

import numpy as np

from disttorch.backends.numpy._compiled import compiled
from disttorch.backends.numpy._window import compute_dtype


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    """`exp(x - max) / sum(exp(x - max))` along `axis`; same shape and dtype as `x`."""
    if _has_float32_rows(x, axis):
        y = np.empty_like(x)
        compiled("softmax").softmax(_rows(x), _rows(y))
        return y
    y = x.astype(compute_dtype(x.dtype), copy=False)
    if y.size == 0:
        return np.empty_like(x)
    y = y - y.max(axis=axis, keepdims=True)
    np.exp(y, out=y)
    y /= y.sum(axis=axis, keepdims=True)
    return y.astype(x.dtype, copy=False)


def softmax_grad(g: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    """Gradient of `softmax`'s input: `y * (g - sum(g * y))`, `g` being the output's."""
    if _has_float32_rows(g, axis) and _has_float32_rows(y, axis):
        grad = np.empty_like(y)
        compiled("softmax").softmax_grad(_rows(g), _rows(y), _rows(grad))
        return grad
    dtype = compute_dtype(y.dtype)
    g, out = g.astype(dtype, copy=False), y.astype(dtype, copy=False)
    grad = g * out
    grad -= out * grad.sum(axis=axis, keepdims=True)
    return grad.astype(y.dtype, copy=False)


def log_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    """`x - max - log(sum(exp(x - max)))` along `axis`; same shape and dtype as `x`."""
    if _has_float32_rows(x, axis):
        y = np.empty_like(x)
        compiled("softmax").log_softmax(_rows(x), _rows(y))
        return y
    y = x.astype(compute_dtype(x.dtype), copy=False)
    if y.size == 0:
        return np.empty_like(x)
    y = y - y.max(axis=axis, keepdims=True)
    y -= np.log(np.exp(y).sum(axis=axis, keepdims=True))
    return y.astype(x.dtype, copy=False)


def log_softmax_grad(g: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    """Gradient of `log_softmax`'s input: `g - exp(y) * sum(g)`, `g` being the output's."""
    if _has_float32_rows(g, axis) and _has_float32_rows(y, axis):
        grad = np.empty_like(y)
        compiled("softmax").log_softmax_grad(_rows(g), _rows(y), _rows(grad))
        return grad
    dtype = compute_dtype(y.dtype)
    g = g.astype(dtype, copy=False)
    grad = np.exp(y.astype(dtype, copy=False))
    grad *= g.sum(axis=axis, keepdims=True)
    return np.subtract(g, grad, out=grad).astype(y.dtype, copy=False)


def nll_loss(
    log_prob: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None,
    ignore_index: int,
    reduction: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Negative log-likelihood of the classes `target` [N, ...] under `log_prob` [N, C, ...].

    `weight` [C] scales each class; targets equal to `ignore_index` count nothing. `reduction` is
    "none", "sum" or "mean" (divided by the summed weights). Returns `(loss, total_weight)`;
    `total_weight` is 0-d.

    Raises IndexError for a target outside [0, C).
    """
    shape = (*log_prob.shape[:2], prod(log_prob.shape[2:]))
    values = np.ascontiguousarray(log_prob, dtype=compute_dtype(log_prob.dtype)).reshape(shape)
    classes = _classes(target, shape)
    losses = np.empty(classes.shape if reduction == "none" else (0, 0), dtype=values.dtype)
    scales = values[:0, 0, 0] if weight is None else weight.astype(values.dtype, copy=False)
    summed, total, wrong, c = compiled("softmax").nll(values, classes, scales, ignore_index, losses)
    if wrong:
        raise IndexError(f"Target {c} is out of bounds.")
    dtype = log_prob.dtype
    if reduction == "none":
        return losses.reshape(target.shape).astype(dtype, copy=False), np.zeros((), dtype=dtype)
    if reduction == "mean":
        summed = summed / total if total != 0 else np.nan
    return np.array(summed, dtype=dtype), np.array(total, dtype=dtype)


def nll_loss_grad(
    g: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None,
    ignore_index: int,
    reduction: str,
    total_weight: np.ndarray,
    shape: tuple[int, ...],
) -> np.ndarray:
    """Gradient of `nll_loss`'s `log_prob`, of `shape` [N, C, ...], for the loss gradient `g`."""
    dtype = compute_dtype(g.dtype)
    grad = np.zeros((shape[0], shape[1], prod(shape[2:])), dtype=dtype)
    classes = _classes(target, grad.shape)
    divisor = 1.0
    if reduction == "mean":
        divisor = float(total_weight) or 1.0
    scales = grad[:0, 0, 0] if weight is None else weight.astype(dtype, copy=False)
    each = np.ascontiguousarray(g, dtype=dtype).reshape(classes.shape if g.ndim else (1, 1))
    wrong, c = compiled("softmax").nll_grad(each, divisor, classes, scales, ignore_index, grad)
    if wrong:
        raise IndexError(f"Target {c} is out of bounds.")
    return grad.reshape(shape).astype(g.dtype, copy=False)


def _classes(target: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`target` as contiguous int64 [N, inner], for log-probabilities of `shape` [N, C, inner]."""
    return np.ascontiguousarray(target, dtype=np.int64).reshape(shape[0], shape[2])


def _has_float32_rows(x: np.ndarray, axis: int) -> bool:
    """Whether `axis` is the last of a contiguous, non-empty float32 array."""
    return x.dtype == np.float32 and (axis == -1 or axis == x.ndim - 1) and x.size > 0 and x.flags.c_contiguous


def _rows(x: np.ndarray) -> np.ndarray:
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
