"""Which array library a kernel's arrays belong to: CuPy, or the double of it that the tests use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np

from disttorch.backends import backend_of

Sizes = tuple[int, ...]


def library(a: Any) -> Any:
    """Return the array library (`cupy`) of an array."""
    return backend_of(a).namespace


def extension(a: Any) -> Any:
    """Return what CuPy has beyond NumPy (`cupyx`) for an array."""
    return backend_of(a).extension


def compute_dtype(dtype: np.dtype) -> np.dtype:
    """Return the type to compute in: float32 for the 16-bit floating-point types."""
    return np.dtype(np.float32) if dtype.itemsize == 2 and dtype.kind not in "iu" else dtype


def pad_spatial(x: Any, before: Sizes, after: Sizes, value: Any = 0) -> Any:
    """Return x [N, C, *S] with `value` around its spatial dimensions."""
    if not any(before) and not any(after):
        return x
    sizes = [b + s + a for b, s, a in zip(before, x.shape[2:], after, strict=True)]
    padded = library(x).full((*x.shape[:2], *sizes), value, x.dtype)
    inside = (..., *(slice(b, b + s) for b, s in zip(before, x.shape[2:], strict=True)))
    padded[inside] = x
    return padded


def taps(kernel: Sizes, size: Sizes, stride: Sizes, dilation: Sizes) -> Iterator[tuple[Sizes, tuple[Any, ...]]]:
    """Yield each position in a window, and the index of the elements at that position in all windows."""
    for tap in product(*map(range, kernel)):
        starts = [k * d for k, d in zip(tap, dilation, strict=True)]
        index = tuple(slice(b, b + (n - 1) * s + 1, s) for b, n, s in zip(starts, size, stride, strict=True))
        yield tap, (..., *index)


def on_host(kernel: Callable[..., Any], *operands: Any) -> Any:
    """Call a kernel of the NumPy backend on copies of the operands, and move its results back.

    For the few functions that CuPy lacks and no short formula gives: each call waits for the GPU and copies twice.
    """
    arrays = [x for x in operands if hasattr(x, "dtype")]
    copies = [x.get() if hasattr(x, "dtype") else x for x in operands]
    result, xp = kernel(*copies), library(arrays[0])
    return tuple(map(xp.asarray, result)) if isinstance(result, tuple) else xp.asarray(result)
