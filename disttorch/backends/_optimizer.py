"""The formulas of the optimizers' in-place updates, in PyTorch's order, on arrays of any library (`xp`).

NumPy falls back to them where its compiled updates do not apply; CuPy uses them as they are.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np


def sgd(
    xp: Any,
    param: Any,
    grad: Any,
    momentum_buffer: Any,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
    first: bool,
) -> None:
    """Stochastic gradient descent, optionally with (Nesterov) momentum."""
    grad = _directed(param, grad, weight_decay, maximize)
    if momentum_buffer is not None and momentum != 0:
        if first:
            momentum_buffer[...] = grad
        else:
            momentum_buffer *= _scalar(param, momentum)
            momentum_buffer += _scalar(param, 1 - dampening) * grad
        grad = grad + _scalar(param, momentum) * momentum_buffer if nesterov else momentum_buffer
    param -= _scalar(param, lr) * grad


def adam(
    xp: Any,
    param: Any,
    grad: Any,
    exp_avg: Any,
    exp_avg_sq: Any,
    max_exp_avg_sq: Any,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> None:
    """Adam, AMSGrad where `max_exp_avg_sq` is given, AdamW where `decoupled`; `step` counts from 1."""
    if decoupled:
        grad = _directed(param, grad, 0.0, maximize)
        param *= _scalar(param, 1 - lr * weight_decay)
    else:
        grad = _directed(param, grad, weight_decay, maximize)
    exp_avg += _scalar(param, 1 - beta1) * (grad - exp_avg)
    exp_avg_sq *= _scalar(param, beta2)
    exp_avg_sq += _scalar(param, 1 - beta2) * grad * grad
    second = exp_avg_sq
    if max_exp_avg_sq is not None:
        max_exp_avg_sq[...] = xp.maximum(max_exp_avg_sq, exp_avg_sq)
        second = max_exp_avg_sq
    denominator = xp.sqrt(second) / _scalar(param, sqrt(1 - beta2**step)) + _scalar(param, eps)
    param -= _scalar(param, lr / (1 - beta1**step)) * (exp_avg / denominator)


def rmsprop(
    xp: Any,
    param: Any,
    grad: Any,
    square_avg: Any,
    grad_avg: Any,
    momentum_buffer: Any,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    centered: bool,
    maximize: bool,
) -> None:
    """RMSprop; `grad_avg` is needed where `centered`, `momentum_buffer` where `momentum` is not 0."""
    grad = _directed(param, grad, weight_decay, maximize)
    square_avg *= _scalar(param, alpha)
    square_avg += _scalar(param, 1 - alpha) * grad * grad
    variance = square_avg
    if centered:
        grad_avg += _scalar(param, 1 - alpha) * (grad - grad_avg)
        variance = square_avg - grad_avg * grad_avg
    step = grad / (xp.sqrt(variance) + _scalar(param, eps))
    if momentum_buffer is not None and momentum != 0:
        momentum_buffer *= _scalar(param, momentum)
        momentum_buffer += step
        step = momentum_buffer
    param -= _scalar(param, lr) * step


def _scalar(param: Any, value: float) -> Any:
    """Return `value` in the type to compute in: the parameter's, float32 for 16-bit types."""
    return np.float32(value) if param.dtype.itemsize == 2 else param.dtype.type(value)


def _directed(param: Any, grad: Any, weight_decay: float, maximize: bool) -> Any:
    """Return the gradient to descend along: negated to maximize, with weight decay added."""
    if maximize:
        grad = -grad
    return grad + _scalar(param, weight_decay) * param if weight_decay != 0 else grad
