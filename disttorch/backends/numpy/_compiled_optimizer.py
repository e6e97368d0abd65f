"""Optimizer updates in one pass over memory (imports Numba: load lazily).

Factors come as Python floats and are taken to the parameter's dtype; `sign` is -1 to maximize, else
1.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from disttorch.backends.numpy._njit import njit

_CONTRACT = {"contract"}


@njit(nogil=True, cache=True, fastmath=_CONTRACT, error_model="numpy")
def sgd(
    param: np.ndarray,
    grad: np.ndarray,
    lr: float,
    decay: float,
    sign: float,
) -> None:
    """`param -= lr * (sign * grad + decay * param)`."""
    kind = param.dtype.type
    lr, decay, sign = kind(lr), kind(decay), kind(sign)
    for i in range(param.size):
        param[i] -= lr * (sign * grad[i] + decay * param[i])


@njit(nogil=True, cache=True, fastmath=_CONTRACT, error_model="numpy")
def sgd_momentum(
    param: np.ndarray,
    grad: np.ndarray,
    buffer: np.ndarray,
    lr: float,
    momentum: float,
    fresh: float,
    decay: float,
    nesterov: bool,
    sign: float,
) -> None:
    """SGD with `buffer = momentum * buffer + fresh * gradient`."""
    kind = param.dtype.type
    lr, momentum, fresh, decay, sign = (
        kind(lr),
        kind(momentum),
        kind(fresh),
        kind(decay),
        kind(sign),
    )
    ahead, now = (momentum, kind(1)) if nesterov else (kind(1), kind(0))
    for i in range(param.size):
        g = sign * grad[i] + decay * param[i]
        b = momentum * buffer[i] + fresh * g
        buffer[i] = b
        param[i] -= lr * (now * g + ahead * b)


@njit(nogil=True, cache=True, fastmath=_CONTRACT, error_model="numpy")
def adam(
    param: np.ndarray,
    grad: np.ndarray,
    average: np.ndarray,
    square: np.ndarray,
    lr: float,
    beta1: float,
    beta2: float,
    root: float,
    eps: float,
    decay: float,
    keep: float,
    sign: float,
) -> None:
    """Adam; `root` is the square root of the second bias correction, `keep` multiplies `param`."""
    kind = param.dtype.type
    lr, eps, decay, keep, sign = kind(lr), kind(eps), kind(decay), kind(keep), kind(sign)
    fresh1, beta2, fresh2, scale = kind(1 - beta1), kind(beta2), kind(1 - beta2), kind(1 / root)
    for i in range(param.size):
        p = param[i] * keep
        g = sign * grad[i] + decay * p
        m = average[i] + fresh1 * (g - average[i])
        v = beta2 * square[i] + fresh2 * g * g
        average[i], square[i] = m, v
        param[i] = p - lr * (m / (sqrt(v) * scale + eps))


@njit(nogil=True, cache=True, fastmath=_CONTRACT, error_model="numpy")
def amsgrad(
    param: np.ndarray,
    grad: np.ndarray,
    average: np.ndarray,
    square: np.ndarray,
    largest: np.ndarray,
    lr: float,
    beta1: float,
    beta2: float,
    root: float,
    eps: float,
    decay: float,
    keep: float,
    sign: float,
) -> None:
    """Adam with the largest second moment so far in the denominator."""
    kind = param.dtype.type
    lr, eps, decay, keep, sign = kind(lr), kind(eps), kind(decay), kind(keep), kind(sign)
    fresh1, beta2, fresh2, scale = kind(1 - beta1), kind(beta2), kind(1 - beta2), kind(1 / root)
    for i in range(param.size):
        p = param[i] * keep
        g = sign * grad[i] + decay * p
        m = average[i] + fresh1 * (g - average[i])
        v = beta2 * square[i] + fresh2 * g * g
        average[i], square[i] = m, v
        v = largest[i] if largest[i] > v else v
        largest[i] = v
        param[i] = p - lr * (m / (sqrt(v) * scale + eps))


@njit(nogil=True, cache=True, fastmath=_CONTRACT, error_model="numpy")
def rmsprop(
    param: np.ndarray,
    grad: np.ndarray,
    square: np.ndarray,
    average: np.ndarray,
    buffer: np.ndarray,
    lr: float,
    alpha: float,
    eps: float,
    decay: float,
    momentum: float,
    sign: float,
) -> None:
    """RMSprop; `average` (centered) and `buffer` (momentum) are empty where unused."""
    kind = param.dtype.type
    lr, eps, decay, sign, momentum = kind(lr), kind(eps), kind(decay), kind(sign), kind(momentum)
    alpha, fresh = kind(alpha), kind(1 - alpha)
    centered, heavy = average.size > 0, buffer.size > 0
    for i in range(param.size):
        g = sign * grad[i] + decay * param[i]
        v = alpha * square[i] + fresh * g * g
        square[i] = v
        if centered:
            a = average[i] + fresh * (g - average[i])
            average[i] = a
            v -= a * a
        step = g / (sqrt(v) + eps)
        if heavy:
            step += momentum * buffer[i]
            buffer[i] = step
        param[i] -= lr * step
