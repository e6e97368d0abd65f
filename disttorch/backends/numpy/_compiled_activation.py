"""Elementwise activations in one pass (imports Numba: load lazily)."""

from __future__ import annotations

from math import exp as exp_double
from typing import Any

import numpy as np

from disttorch.backends.numpy._compiled_math import exp
from disttorch.backends.numpy._compiled_vectors import wide_vectors
from disttorch.backends.numpy._njit import njit


@njit(nogil=True, cache=True)
def relu(x: np.ndarray, y: np.ndarray) -> None:
    """`max(x, 0)` into `y`; NaN stays NaN."""
    zero = x.dtype.type(0)
    for i in range(x.size):
        y[i] = zero if x[i] <= zero else x[i]


@njit(nogil=True, cache=True)
def relu_grad(g: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    """`g` where `y` is positive or NaN, else 0, into `out`."""
    zero = g.dtype.type(0)
    for i in range(g.size):
        value = g[i]
        out[i] = zero if y[i] <= zero else value


@njit(nogil=True, cache=True, error_model="numpy")
def sigmoid(x: np.ndarray, y: np.ndarray) -> None:
    """`1 / (1 + exp(-x))` of float32 into `y`; exp saturates, so nothing overflows."""
    wide_vectors()
    one = np.float32(1)
    for i in range(x.size):
        y[i] = one / (one + exp(-x[i]))


@njit(nogil=True, cache=True, error_model="numpy")
def sigmoid_double(x: np.ndarray, y: np.ndarray) -> None:
    """`1 / (1 + exp(-x))` of float64 into `y`; an infinite exp gives 0."""
    for i in range(x.size):
        y[i] = 1.0 / (1.0 + exp_double(-x[i]))


@njit(nogil=True, fastmath={"contract"}, error_model="numpy")
def _normal_cdf(x: Any, decay: Any) -> Any:
    """The normal distribution function of a float32 `x` within 2e-7, `decay` being exp(-x^2 / 2).

    Near zero a polynomial that interpolates erf(u) / u in u^2, farther out Abramowitz and Stegun's 7.1.26.
    """
    half, one = np.float32(0.5), np.float32(1)
    u = abs(x) * np.float32(0.7071067811865476)
    t = one / (one + np.float32(0.3275911) * u)
    p = np.float32(1.061405429) * t - np.float32(1.453152027)
    p = p * t + np.float32(1.421413741)
    p = p * t - np.float32(0.284496736)
    p = p * t + np.float32(0.254829592)
    tail = half * p * t * decay
    z = u * u
    q = np.float32(7.875875089064428e-05) * z - np.float32(8.016864295261377e-04)
    q = q * z + np.float32(5.189087424372068e-03)
    q = q * z - np.float32(2.6854212011131424e-02)
    q = q * z + np.float32(1.1283594715172587e-01)
    q = q * z - np.float32(3.761262666672145e-01)
    q = q * z + np.float32(1.1283791658483513)
    outside = tail if x < 0 else one - tail
    return half + x * np.float32(0.3535533905932738) * q if u < one else outside


@njit(nogil=True, cache=True, error_model="numpy")
def gelu(x: np.ndarray, y: np.ndarray) -> None:
    """`x` times the normal distribution function of `x`, of float32, into `y`."""
    wide_vectors()
    for i in range(x.size):
        value = x[i]
        y[i] = value * _normal_cdf(value, exp(np.float32(-0.5) * value * value))


@njit(nogil=True, cache=True, error_model="numpy")
def gelu_grad(g: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """`g` times the derivative of `gelu` at `x`, of float32, into `out`."""
    wide_vectors()
    for i in range(x.size):
        value = x[i]
        decay = exp(np.float32(-0.5) * value * value)
        out[i] = g[i] * (_normal_cdf(value, decay) + value * decay * np.float32(0.3989422804014327))
