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
        return np.where(y.astype(compute_dtype(y.dtype), copy=False) <= 0, g.dtype.type(0), g)
    out = np.empty_like(g)
    compiled("activation").relu_grad(g.reshape(-1), y.reshape(-1), out.reshape(-1))
    return out


def sigmoid(x: np.ndarray) -> np.ndarray:
    """`1 / (1 + exp(-x))` elementwise, without overflow."""
    source = np.ascontiguousarray(x, dtype=compute_dtype(x.dtype))
    y = np.empty(x.shape, dtype=source.dtype)
    kernels = compiled("activation")
    function = kernels.sigmoid if source.dtype == np.float32 else kernels.sigmoid_double
    function(source.reshape(-1), y.reshape(-1))
    return y.astype(x.dtype, copy=False)


def gelu(x: np.ndarray) -> np.ndarray:
    """`x` times the normal distribution function of `x`, elementwise."""
    if x.dtype == np.float32 and x.size >= _SMALL and x.flags.c_contiguous:
        y = np.empty_like(x)
        compiled("activation").gelu(x.reshape(-1), y.reshape(-1))
        return y
    return (x * _normal_cdf(x)).astype(x.dtype, copy=False)


def gelu_grad(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    """`g` times the derivative of `gelu` at `x`."""
    if (
        x.dtype == g.dtype == np.float32
        and x.size >= _SMALL
        and x.shape == g.shape
        and x.flags.c_contiguous
        and g.flags.c_contiguous
    ):
        out = np.empty_like(x)
        compiled("activation").gelu_grad(g.reshape(-1), x.reshape(-1), out.reshape(-1))
        return out
    wide = x.astype(compute_dtype(x.dtype), copy=False)
    density = np.exp(wide * wide * wide.dtype.type(-0.5)) * wide.dtype.type(0.3989422804014327)
    return (g * (_normal_cdf(x) + wide * density)).astype(g.dtype, copy=False)


def _normal_cdf(x: np.ndarray) -> np.ndarray:
    from scipy import special

    return special.ndtr(x.astype(compute_dtype(x.dtype), copy=False))
