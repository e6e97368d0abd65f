"""Running extrema and running log-sum-exp: in log2(n) steps, each over the whole array (Hillis and Steele, 1986)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from disttorch.backends.cupy._library import compute_dtype, library


def _running(combine: Callable[[Any, Any], Any], x: Any, axis: int) -> Any:
    """Combine all elements up to each place along `axis` by an associative function."""
    y, reach = library(x).moveaxis(x.copy(), axis, 0), 1
    while reach < len(y):
        y[reach:] = combine(y[:-reach], y[reach:])
        reach *= 2
    return library(x).moveaxis(y, 0, axis)


def running_extreme(x: Any, axis: int, largest: bool) -> Any:
    """The largest (or smallest) element up to each place along `axis`; NaN from the first NaN on."""
    return _running(library(x).maximum if largest else library(x).minimum, x, axis)


def running_logsumexp(x: Any, axis: int) -> Any:
    """`log(cumsum(exp(x)))` along `axis`, without overflow."""
    wide = x.astype(compute_dtype(x.dtype), copy=False)
    return _running(_logaddexp if x.dtype.kind == "c" else library(x).logaddexp, wide, axis).astype(x.dtype, copy=False)


def _logaddexp(before: Any, x: Any) -> Any:
    """The logarithm of exp(before) + exp(x) of complex numbers, with an angle near that of the larger exponential."""
    xp, later = library(x), x.real >= before.real
    high, low = xp.where(later, x, before), xp.where(later, before, x)
    total = high + xp.log1p(xp.exp(low - high))
    return xp.where(xp.isinf(low.real) & (low.real == high.real), high, total)
