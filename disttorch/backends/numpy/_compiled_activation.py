"""Elementwise activations in one pass (imports Numba: load lazily)."""

from __future__ import annotations

from math import exp as exp_double

import numpy as np
from numba import njit

from disttorch.backends.numpy._compiled_math import exp


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
    one = np.float32(1)
    for i in range(x.size):
        y[i] = one / (one + exp(-x[i]))


@njit(nogil=True, cache=True, error_model="numpy")
def sigmoid_double(x: np.ndarray, y: np.ndarray) -> None:
    """`1 / (1 + exp(-x))` of float64 into `y`; an infinite exp gives 0."""
    for i in range(x.size):
        y[i] = 1.0 / (1.0 + exp_double(-x[i]))
