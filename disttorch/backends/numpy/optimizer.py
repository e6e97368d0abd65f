"""In-place optimizer updates of one parameter array, PyTorch's formulas in PyTorch's order.

All arrays of a call have the parameter's shape and dtype. Nothing is returned: parameter and state
are updated in place.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from disttorch.backends import _optimizer
from disttorch.backends.numpy._compiled import compiled, is_float


def sgd(
    param: np.ndarray,
    grad: np.ndarray,
    momentum_buffer: np.ndarray | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
    first: bool,
) -> None:
    """Stochastic gradient descent, optionally with (Nesterov) momentum (Sutskever et al., 2013).

    `momentum_buffer` is needed where `momentum` is not 0; `first` says that it holds nothing yet,
    so that the gradient is copied into it undampened.
    """
    heavy = momentum_buffer is not None and momentum != 0
    arrays = _flat(param, grad, momentum_buffer if heavy else None)
    sign = -1.0 if maximize else 1.0
    if arrays is not None and not heavy:
        compiled("optimizer").sgd(*arrays[:2], lr, weight_decay, sign)
        return
    if arrays is not None and not first:
        fresh = 1 - dampening
        compiled("optimizer").sgd_momentum(*arrays, lr, momentum, fresh, weight_decay, nesterov, sign)
        return
    _optimizer.sgd(np, param, grad, momentum_buffer, lr, momentum, dampening, weight_decay, nesterov, maximize, first)


def adam(
    param: np.ndarray,
    grad: np.ndarray,
    exp_avg: np.ndarray,
    exp_avg_sq: np.ndarray,
    max_exp_avg_sq: np.ndarray | None,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> None:
    """Adam (Kingma and Ba, 2015), AMSGrad where `max_exp_avg_sq` is given, AdamW where `decoupled`.

    `step` counts from 1: the number of this update.
    """
    root, rate = sqrt(1 - beta2**step), lr / (1 - beta1**step)
    arrays = _flat(param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq)
    if arrays is not None:
        keep, decay = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
        sign = -1.0 if maximize else 1.0
        kernels = compiled("optimizer")
        update = kernels.adam if max_exp_avg_sq is None else kernels.amsgrad
        if max_exp_avg_sq is None:
            arrays.pop()
        update(*arrays, rate, beta1, beta2, root, eps, decay, keep, sign)
        return
    _optimizer.adam(
        np,
        param,
        grad,
        exp_avg,
        exp_avg_sq,
        max_exp_avg_sq,
        step,
        lr,
        beta1,
        beta2,
        eps,
        weight_decay,
        decoupled,
        maximize,
    )


def rmsprop(
    param: np.ndarray,
    grad: np.ndarray,
    square_avg: np.ndarray,
    grad_avg: np.ndarray | None,
    momentum_buffer: np.ndarray | None,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    centered: bool,
    maximize: bool,
) -> None:
    """RMSprop (Hinton, Coursera lecture 6), centered as in Graves, 2013.

    `grad_avg` is needed where `centered`, `momentum_buffer` where `momentum` is not 0.
    """
    average = grad_avg if centered else None
    buffer = momentum_buffer if momentum != 0 else None
    arrays = _flat(param, grad, square_avg, average, buffer)
    if arrays is not None:
        sign = -1.0 if maximize else 1.0
        compiled("optimizer").rmsprop(*arrays, lr, alpha, eps, weight_decay, momentum, sign)
        return
    _optimizer.rmsprop(
        np,
        param,
        grad,
        square_avg,
        grad_avg,
        momentum_buffer,
        lr,
        alpha,
        eps,
        weight_decay,
        momentum,
        centered,
        maximize,
    )


def _flat(param: np.ndarray, *others: np.ndarray | None) -> list[np.ndarray] | None:
    """All arrays as 1-D views, empty for None; or None where the compiled update does not apply."""
    dtype = param.dtype
    if not is_float(dtype):
        return None
    views: list[np.ndarray] = []
    arrays: tuple[np.ndarray | None, ...] = (param, *others)
    for a in arrays:
        if a is None:
            views.append(_EMPTY[dtype.char])
        elif a.dtype == dtype and a.flags.c_contiguous:
            views.append(a if a.ndim == 1 else a.reshape(-1))
        else:
            return None
    return views


_EMPTY: dict[str, np.ndarray] = {kind: np.empty(0, dtype=kind) for kind in "fd"}
