"""Softmax, log-softmax and the negative log-likelihood with their gradients."""

from __future__ import annotations

from typing import Any

from disttorch.backends.cupy._library import compute_dtype, library


def softmax(x: Any, axis: int) -> Any:
    """`exp(x - max) / sum(exp(x - max))` along `axis`; same shape and dtype as `x`."""
    if not x.size:
        return x.copy()
    y = x.astype(compute_dtype(x.dtype), copy=False)
    y = library(x).exp(y - y.max(axis=axis, keepdims=True))
    return (y / y.sum(axis=axis, keepdims=True)).astype(x.dtype, copy=False)


def softmax_grad(g: Any, y: Any, axis: int) -> Any:
    """Gradient of `softmax`'s input: `y * (g - sum(g * y))`, `g` being the output's."""
    dtype = compute_dtype(y.dtype)
    g, out = g.astype(dtype, copy=False), y.astype(dtype, copy=False)
    return (out * (g - (g * out).sum(axis=axis, keepdims=True))).astype(y.dtype, copy=False)


def log_softmax(x: Any, axis: int) -> Any:
    """`x - max - log(sum(exp(x - max)))` along `axis`; same shape and dtype as `x`."""
    if not x.size:
        return x.copy()
    xp = library(x)
    y = x.astype(compute_dtype(x.dtype), copy=False)
    y = y - y.max(axis=axis, keepdims=True)
    return (y - xp.log(xp.exp(y).sum(axis=axis, keepdims=True))).astype(x.dtype, copy=False)


def log_softmax_grad(g: Any, y: Any, axis: int) -> Any:
    """Gradient of `log_softmax`'s input: `g - exp(y) * sum(g)`, `g` being the output's."""
    dtype = compute_dtype(y.dtype)
    g = g.astype(dtype, copy=False)
    grown = library(y).exp(y.astype(dtype, copy=False))
    return (g - grown * g.sum(axis=axis, keepdims=True)).astype(y.dtype, copy=False)


def nll_loss(log_prob: Any, target: Any, weight: Any, ignore_index: int, reduction: str) -> tuple[Any, Any]:
    """Negative log-likelihood of the classes `target` [N, ...] under `log_prob` [N, C, ...].

    `weight` [C] scales each class; targets equal to `ignore_index` count nothing. `reduction` is "none", "sum" or
    "mean" (divided by the summed weights). Returns `(loss, total_weight)`; `total_weight` is 0-d.

    Raises IndexError for a target outside [0, C): CuPy would wrap it around.
    """
    xp, dtype = library(log_prob), compute_dtype(log_prob.dtype)
    classes, scales = _scaled_classes(log_prob.shape[1], target, weight, ignore_index, dtype)
    picked = xp.take_along_axis(log_prob.astype(dtype, copy=False), xp.expand_dims(classes, 1), 1)
    losses = -picked.squeeze(1) * scales
    if reduction == "none":
        return losses.astype(log_prob.dtype, copy=False), xp.zeros((), log_prob.dtype)
    loss, total = losses.sum(), scales.sum()
    if reduction == "mean":
        loss = loss / total
    return loss.astype(log_prob.dtype, copy=False), total.astype(log_prob.dtype, copy=False)


def nll_loss_grad(
    g: Any, target: Any, weight: Any, ignore_index: int, reduction: str, total_weight: Any, shape: tuple[int, ...]
) -> Any:
    """Gradient of `nll_loss`'s `log_prob`, of `shape` [N, C, ...], for the loss gradient `g`."""
    xp, dtype = library(g), compute_dtype(g.dtype)
    classes, scales = _scaled_classes(shape[1], target, weight, ignore_index, dtype)
    each = -(g.astype(dtype, copy=False) * scales)
    if reduction == "mean":
        each = each / xp.where(total_weight == 0, 1, total_weight).astype(dtype)
    grad = xp.zeros(shape, dtype)
    hot = xp.arange(shape[1]).reshape(1, -1, *(1,) * (len(shape) - 2)) == xp.expand_dims(classes, 1)
    grad = xp.where(hot, xp.expand_dims(xp.broadcast_to(each, classes.shape), 1), grad)
    return grad.astype(g.dtype, copy=False)


def _scaled_classes(count: int, target: Any, weight: Any, ignore_index: int, dtype: Any) -> tuple[Any, Any]:
    """Return the classes, 0 where they are ignored, and what each counts."""
    xp = library(target)
    counted = target != ignore_index
    wrong = counted & ((target < 0) | (target >= count))
    if wrong.any():
        raise IndexError(f"Target {int(target[wrong][0])} is out of bounds.")
    classes = xp.where(counted, target, 0).astype(xp.int64)
    scales = counted.astype(dtype)
    return classes, scales if weight is None else scales * weight.astype(dtype, copy=False)[classes]
