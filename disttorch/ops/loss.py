"""Losses."""

from __future__ import annotations

import warnings
from math import prod
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of, kernels_of
from disttorch.ops.activation import like, wide
from disttorch.ops.arithmetic import not_for
from disttorch.ops.creation import full_like
from disttorch.ops.define import broadcast_error, expect_tensor, operator
from disttorch.ops.reduce import sum
from disttorch.ops.reduction import REDUCTIONS, accepts_legacy, check_reduction, reduced
from disttorch.ops.registry import traced
from disttorch.ops.similarity import raised
from disttorch.ops.softmax import log_softmax
from disttorch.ops.write import type_label

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "gaussian_nll_loss", "huber_loss",
    "kl_div", "l1_loss", "mse_loss", "nll_loss", "poisson_nll_loss", "smooth_l1_loss",
]  # fmt: skip

# -- regression ---------------------------------------------------------------------------------------------------


@operator(2, name="mse_loss")
def _mse_loss(xp, x, y, divisor):
    d = x - y
    flat = d.reshape(-1)
    return xp.dot(flat, flat) / divisor if d.dtype.kind == "f" and d.dtype.itemsize > 2 else (d * d).sum() / divisor


@_mse_loss.vjp("x")
def _(F, g, x, y, divisor):
    return (x - y) * (g * (2 / divisor))


@_mse_loss.vjp("y")
def _(F, g, x, y, divisor):
    return (y - x) * (g * (2 / divisor))


def _warn_if_broadcast(name: str, input: Tensor, target: Tensor, stacklevel: int = 4) -> None:
    if input._a.shape != target._a.shape:
        warnings.warn(
            f"Using a target size ({target.shape}) that is different to the input size ({input.shape}). This will likely lead "
            "to incorrect results due to broadcasting. Please ensure they have the same size.",
            UserWarning,
            stacklevel=stacklevel,
        )
        try:
            np.broadcast_shapes(input._a.shape, target._a.shape)
        except ValueError:
            raise broadcast_error(input._a, target._a) from None


@accepts_legacy
def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """Return the squared distance to the target: its mean over all elements, its sum, or each element's.

    A `weight` for each element scales its distance, and the mean is over the summed weights.
    """
    expect_tensor(target, "mse_loss", "target")
    check_reduction(reduction)
    _warn_if_broadcast("mse_loss", input, target)
    if weight is not None:
        return _weighted(traced.square(input - target), input, weight, reduction, True)
    _refuse_integers("mse", input, target)
    if reduction == "none" or input._a.dtype != target._a.dtype or input._a.dtype.kind not in "f" or not input._a.size:
        return reduced(traced.square(input - target), reduction)
    same = input._a.shape == target._a.shape
    count = input._a.size if same else prod(np.broadcast_shapes(input._a.shape, target._a.shape))
    return _mse_loss(input, target, count if reduction == "mean" else 1)


def _refuse_integers(name: str, input: Tensor, target: Tensor) -> None:
    if target._a.dtype.kind in "biu":
        not_for(f"{name}_cpu", input._a, "biu")


def _weighted(each: Tensor, input: Tensor, weight: Tensor, reduction: str, over_weights: bool) -> Tensor:
    """Return the loss with a weight for each element; "mean" is over the summed weights or over the elements."""
    if weight._a.shape != input._a.shape:
        raise ValueError("Weights and input must have the same size.")
    if reduction == "mean" and over_weights:
        return sum(each * weight) / sum(weight)
    return reduced(each * weight, reduction)


@accepts_legacy
def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """Return the absolute distance to the target: its mean over all elements, its sum, or each element's.

    A `weight` for each element scales its distance, and the mean is over the summed weights.
    """
    _warn_if_broadcast("l1_loss", input, target)
    each = traced.abs(input - target)
    return reduced(each, reduction) if weight is None else _weighted(each, input, weight, reduction, True)


@accepts_legacy
def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """Return d^2 / (2 beta) where |d| < beta and |d| - beta / 2 elsewhere, for d = input - target."""
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    if beta == 0:
        return l1_loss(input, target, reduction=reduction)
    _warn_if_broadcast("smooth_l1_loss", input, target)
    _refuse_integers("smooth_l1", input, target)
    size = traced.abs(input - target)
    return reduced(traced.where(size < beta, traced.square(size) * (0.5 / beta), size - 0.5 * beta), reduction)


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """Return d^2 / 2 where |d| <= delta and delta * (|d| - delta / 2) elsewhere, for d = input - target."""
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    _warn_if_broadcast("huber_loss", input, target, 3)
    _refuse_integers("huber", input, target)
    size = traced.abs(input - target)
    each = traced.where(size <= delta, traced.square(size) * 0.5, (size - 0.5 * delta) * delta)
    return reduced(each, reduction) if weight is None else _weighted(each, input, weight, reduction, False)


# -- likelihoods --------------------------------------------------------------------------------------------------

_LOG_2_PI = 1.8378770664093453


@accepts_legacy
def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """Return y (log y - input), the Kullback-Leibler divergence of log-probabilities `input` from probabilities y.

    With `log_target` the target holds log y. "batchmean" is the sum divided by the length of the first dimension.
    """
    if reduction == "mean":
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size.'batchmean' divides only "
            "by the batch size, and aligns with the KL div math definition.'mean' will be changed to behave the same as "
            "'batchmean' in the next major release.",
            UserWarning,
            stacklevel=3,
        )
    if input._a.dtype.kind in "biu" or target._a.dtype.kind in "biu":
        raise RuntimeError(f"kl_div: Integral inputs not supported, got {input.dtype!r} and {target.dtype!r}")
    if log_target:
        each = traced.exp(target) * (target - input)
    else:
        each = target * traced.log(traced.where(traced.eq(target, 0), 1.0, target)) - target * input
    if reduction != "batchmean":
        return reduced(each, reduction)
    return sum(each) / input._a.shape[0] if input._a.ndim else sum(each)


@accepts_legacy
def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: Any = None,
    eps: float = 1e-8,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """Return rate - target * log(rate), the negative log-likelihood of Poisson's distribution without a constant.

    `input` is log(rate), or with `log_input=False` the rate, to which `eps` is added in the logarithm. `full` adds
    Stirling's approximation of log(target!) where target > 1.
    """
    check_reduction(reduction)
    if log_input:
        each = traced.exp(input) - target * input
    else:
        each = input - target * traced.log(input + eps)
    if full:
        stirling = target * traced.log(target) - target + 0.5 * (traced.log(target) + _LOG_2_PI)
        each = each + traced.where(traced.le(target, 1), 0.0, stirling)
    return reduced(each, reduction)


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """Return (log v + (input - target)^2 / v) / 2 for v = max(var, eps); `full` adds log(2 pi) / 2.

    `var` has the input's shape, or without or with length 1 in the last dimension, or is a number.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"{reduction} is not valid")
    v = raised(_variance(input, var), eps)
    each = (traced.log(v) + traced.square(input - target) / v) * 0.5
    return reduced(each + 0.5 * _LOG_2_PI if full else each, reduction)


def _variance(input: Tensor, var: Tensor | float) -> Tensor:
    if not isinstance(var, Tensor):
        var = full_like(input, var)
    if (var._a < 0).any():
        raise ValueError("var has negative entry/entries")
    have, want = var._a.shape, input._a.shape
    if have == want:
        return var
    if have == want[:-1]:
        return traced.unsqueeze(var, -1)
    if len(have) != len(want) or [m for m, n in zip(have, want) if m != n] != [1]:
        raise ValueError(f"var is of incorrect size: {list(have)} for an input of size {list(want)}")
    return var


# -- classification -----------------------------------------------------------------------------------------------


@operator(1, name="nll_loss", differentiable=1)
def _nll_loss(xp, x, target, weight, ignore_index, reduction):
    return kernels_of(x).nll_loss(x, target, weight, ignore_index, reduction)


@_nll_loss.vjp
def _(F, g, x_shape, out1, target, weight, ignore_index, reduction):
    return F.nll_loss_grad(g[0], out1, target, weight, ignore_index, reduction, x_shape)


@operator(2)
def nll_loss_grad(xp, g, total_weight, target, weight, ignore_index, reduction, shape):
    """Return the gradient of `nll_loss`'s input, of shape `shape`."""
    return kernels_of(g).nll_loss_grad(g, target, weight, ignore_index, reduction, total_weight, shape)


@nll_loss_grad.vjp("g")
def _(F, u, target, weight, ignore_index, reduction):
    return F.nll_loss(u, target, weight, ignore_index, reduction)[0]


@accepts_legacy
def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """Return -input[n, target[n]], the negative log-likelihood of classes.

    input [N, C] or [N, C, d1, ...] holds log-probabilities, target [N] or [N, d1, ...] class numbers (int64). `weight`
    [C] scales each class, targets equal to `ignore_index` count nothing, and "mean" divides by the summed weights.
    """
    check_reduction(reduction)
    x, t = expect_tensor(input, "nll_loss")._a, expect_tensor(target, "nll_loss", "target")._a
    _check_classes(x, t, weight)
    if x.ndim == 1:
        result = _nll_loss(traced.unsqueeze(input, 0), t.reshape(1), _weights(weight), ignore_index, reduction)[0]
        return traced.reshape(result, ()) if reduction == "none" else result
    return _nll_loss(input, t, _weights(weight), ignore_index, reduction)[0]


def _weights(weight: Tensor | None) -> Any:
    return None if weight is None else weight._a


def _check_classes(x: Any, target: Any, weight: Tensor | None) -> None:
    if not x.ndim:
        raise ValueError("Expected 1 or more dimensions (got 0): class scores are [C], [N, C] or [N, C, d1, ...]")
    expected = x.shape[:1] + x.shape[2:] if x.ndim > 1 else ()
    if x.ndim > 1 and (not target.ndim or target.shape[0] != x.shape[0]):
        given = target.shape[0] if target.ndim else 1
        raise ValueError(f"Expected input batch_size ({x.shape[0]}) to match target batch_size ({given}).")
    if target.shape != expected and not (x.ndim == 1 and target.shape == (1,)):
        raise RuntimeError(
            f"Expected target size {list(expected)}, got {list(target.shape)}"
            if target.ndim == x.ndim - 1
            else "0D or 1D target tensor expected, multi-target not supported"
        )
    if target.dtype not in ("int64", "uint8"):
        found = type_label(target.dtype)
        raise RuntimeError(f"expected target dtype to be Long or Byte, but got {found}: class numbers are integers")
    classes = x.shape[1] if x.ndim > 1 else x.shape[0]
    if weight is not None and weight._a.shape != (classes,):
        raise RuntimeError(
            f"weight tensor should be defined either for all {classes} classes or no classes but got weight tensor of shape: "
            f"{list(weight._a.shape)}"
        )
    if weight is not None and weight._a.dtype != x.dtype:
        raise RuntimeError(
            f"expected scalar type {type_label(x.dtype)} but found {type_label(weight._a.dtype)}: weight has to have the "
            "input's type"
        )


@accepts_legacy
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return -log(softmax(input)) at the target class, for unnormalised scores input [N, C] or [N, C, d1, ...].

    `target` holds class numbers [N, ...], or probabilities of the shape of the input. `label_smoothing` mixes the target
    with the uniform distribution (arXiv:1512.00567).
    """
    expect_tensor(target, "cross_entropy_loss", "target")
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    check_reduction(reduction)
    classes_at = 0 if input._a.ndim == 1 else 1
    log_probabilities = log_softmax(input, classes_at)
    if target._a.shape == input._a.shape and target._a.dtype.kind not in "biu":
        if ignore_index >= 0:
            raise RuntimeError(
                f"ignore_index is not supported for floating point target, got {ignore_index}: leave it out, or pass class "
                "numbers"
            )
        return _soft_cross_entropy(log_probabilities, target, weight, reduction, label_smoothing, classes_at)
    loss = nll_loss(log_probabilities, target, weight, None, ignore_index, None, reduction)
    if not label_smoothing:
        return loss
    smooth = _smooth_loss(log_probabilities, target, weight, ignore_index, reduction, classes_at)
    return loss * (1 - label_smoothing) + smooth * (label_smoothing / input._a.shape[classes_at])


def _class_weights(weight: Tensor, ndim: int, classes_at: int) -> Tensor:
    return traced.reshape(weight, (1,) * classes_at + (-1,) + (1,) * (ndim - 1 - classes_at))


def _smooth_loss(
    log_probabilities: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, classes_at: int
) -> Tensor:
    """Return the loss against the uniform distribution, counted over the targets that are not ignored."""
    each = log_probabilities
    if weight is not None:
        each = each * _class_weights(weight, each._a.ndim, classes_at)
    each = -sum(each, classes_at)
    ignored = target._a == ignore_index
    xp = backend_of(target._a).namespace
    each = traced.where(wrap(xp.asarray(ignored)), 0.0, each)
    if reduction != "mean":
        return reduced(each, reduction)
    if weight is None:
        return sum(each) / float((~ignored).sum())
    kept = xp.where(ignored, 0, target._a)
    return sum(each) / float(xp.where(ignored, 0, weight._a[kept]).sum())


def _soft_cross_entropy(
    log_probabilities: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float, classes_at: int
) -> Tensor:
    if smoothing:
        target = target * (1 - smoothing) + smoothing / target._a.shape[classes_at]
    each = log_probabilities * target
    if weight is not None:
        each = each * _class_weights(weight, each._a.ndim, classes_at)
    loss = -sum(each, classes_at)
    if reduction != "mean":
        return reduced(loss, reduction)
    return sum(loss) / max(loss._a.size, 1)


@operator(2, name="binary_cross_entropy")
def _binary_cross_entropy(xp, x, y):
    p, q = wide(x), wide(y)
    return like(-(q * xp.maximum(xp.log(p), -100) + (1 - q) * xp.maximum(xp.log1p(-p), -100)), x)


@_binary_cross_entropy.vjp("x")
def _(F, g, x, y):
    return g * (x - y) / F.clamp_min(x * (1 - x), 1e-12)


@_binary_cross_entropy.vjp("y")
def _(F, g, x):
    return g * (F.log1p(-x) - F.log(x))


@accepts_legacy
def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """Return -(y log x + (1 - y) log(1 - x)) for probabilities x; each logarithm is at least -100."""
    if target._a.shape != input._a.shape:
        raise ValueError(
            f"Using a target size ({target.shape}) that is different to the input size ({input.shape}) is deprecated. Please "
            "ensure they have the same size."
        )
    if input._a.size and not (input._a.min() >= 0 and input._a.max() <= 1):
        raise RuntimeError("all elements of input should be between 0 and 1")
    _refuse_integers("binary_cross_entropy", input, target)
    if target._a.dtype != input._a.dtype:
        raise RuntimeError(f"Found dtype {type_label(target._a.dtype)} but expected {type_label(input._a.dtype)}")
    each = _binary_cross_entropy(input, target)
    return reduced(each if weight is None else each * weight, reduction)


@accepts_legacy
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Return the binary cross-entropy of sigmoid(input), without overflow; `pos_weight` scales the positive part."""
    if target._a.shape != input._a.shape:
        raise ValueError(f"Target size ({target.shape}) must be the same as input size ({input.shape})")
    if pos_weight is None:
        each = (1 - target) * input - traced.logsigmoid(input)
    else:
        each = (1 - target) * input - (1 + (pos_weight - 1) * target) * traced.logsigmoid(input)
    return reduced(each if weight is None else each * weight, reduction)
