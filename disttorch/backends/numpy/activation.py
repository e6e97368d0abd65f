"""Activations that NumPy lacks or does slowly."""

from __future__ import annotations

import numpy as np

from disttorch.backends.numpy._compiled import compiled, is_float
from disttorch.backends.numpy._window import compute_dtype

_SMALL = 2048


def relu(x: np.ndarray) -> np.ndarray:
    """`max(x, 0)` elementwise; NaN stays NaN."""
    if x.size < _SMALL or not is_float(x.dtype) or not x.flags.c_contiguous:
        return np.maximum(x, x.dtype.type(0))
    y = np.empty_like(x)
    compiled("activation").relu(x.reshape(-1), y.reshape(-1))
    return y


def relu_grad(g: np.ndarray, y: np.ndarray) -> np.ndarray:
    """`g` where `relu`'s output (or input) `y` is positive or NaN, else 0."""
    if (
        g.size < _SMALL
        or g.dtype != y.dtype
        or not is_float(g.dtype)
        or not (g.flags.c_contiguous and y.flags.c_contiguous)
    ):
        return np.where(y <= 0, g.dtype.type(0), g)
    out = np.empty_like(g)
    compiled("activation").relu_grad(g.reshape(-1), y.reshape(-1), out.reshape(-1))
    return out


def sigmoid(x: np.ndarray) -> np.ndarray:
    """`1 / (1 + exp(-x))` elementwise, without overflow."""
    if x.dtype == np.float32 and x.flags.c_contiguous:
        out = np.empty_like(x)
        compiled("activation").sigmoid(x.reshape(-1), out.reshape(-1))
        return out
    y = x.astype(compute_dtype(x.dtype), copy=False) * 0.5
    y = np.tanh(y, out=y if y.ndim else None)
    y *= 0.5
    y += 0.5
    return np.asarray(y, dtype=x.dtype)
