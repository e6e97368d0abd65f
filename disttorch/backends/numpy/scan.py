"""Running extrema and running log-sum-exp, on NumPy arrays."""

from __future__ import annotations

import numpy as np

from disttorch.backends.numpy._window import compute_dtype


def running_extreme(x: np.ndarray, axis: int, largest: bool) -> np.ndarray:
    """The largest (or smallest) element up to each place along `axis`; NaN from the first NaN on."""
    return (np.maximum if largest else np.minimum).accumulate(x, axis)


def running_logsumexp(x: np.ndarray, axis: int) -> np.ndarray:
    """`log(cumsum(exp(x)))` along `axis`, without overflow."""
    if x.dtype.kind != "c":
        return np.logaddexp.accumulate(x.astype(compute_dtype(x.dtype), copy=False), axis).astype(x.dtype, copy=False)
    result = np.moveaxis(x.copy(), axis, 0)
    for k in range(1, len(result)):
        result[k] = _logaddexp(result[k - 1], result[k])
    return np.moveaxis(result, 0, axis)


def _logaddexp(before: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The logarithm of exp(before) + exp(x) of complex numbers, with an angle near that of the larger exponential."""
    later = x.real >= before.real
    high, low = np.where(later, x, before), np.where(later, before, x)
    total = high + np.log1p(np.exp(low - high))
    return np.where(np.isinf(low.real) & (low.real == high.real), high, total)
