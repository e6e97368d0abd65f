"""Max and average pooling with their gradients over 1 to 3 spatial dimensions.

`x` is [N, C, *S]; `kernel`, `stride`, `padding` and `dilation` are tuples of one integer per spatial dimension.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from disttorch.backends.cupy._library import Sizes, compute_dtype, library, pad_spatial, taps
from disttorch.backends.numpy.pool import output_size


def max_pool(x: Any, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil_mode: bool) -> tuple[Any, Any]:
    """Maximum of each window of `x` [N, C, *S], and where it is.

    Returns `(y, indices)`, both [N, C, *out]; `indices` is int64, flat over the input's spatial plane. Of equal values
    the first in row-major order counts; the last NaN wins over everything, as in PyTorch.
    """
    xp = library(x)
    size = output_size(tuple(x.shape[2:]), kernel, stride, padding, dilation, ceil_mode)
    after = _after(x.shape[2:], kernel, size, stride, padding, dilation)
    lowest = -np.inf if x.dtype.kind not in "iu" else np.iinfo(x.dtype).min
    padded = pad_spatial(x, padding, after, lowest)
    places = pad_spatial(
        xp.arange(prod(x.shape[2:]), dtype=np.int64).reshape(1, 1, *x.shape[2:]), padding, after, -1
    )  # fmt: skip
    best: Any = None
    indices: Any = None
    for _, window in taps(kernel, size, stride, dilation):
        values, where = padded[window], xp.broadcast_to(places[window], (*x.shape[:2], *size))
        if best is None:
            best, indices = values.copy(), where.copy()
            continue
        better = ((values > best) | (values != values) | (indices < 0)) & (where >= 0)
        best, indices = xp.where(better, values, best), xp.where(better, where, indices)
    return best, indices


def max_pool_grad(g: Any, indices: Any, input_shape: Sizes) -> Any:
    """Gradient of `max_pool`'s input, of shape `input_shape`: each `g` is added at its index."""
    xp, dtype = library(g), compute_dtype(g.dtype)
    planes, plane = prod(input_shape[:2]), prod(input_shape[2:])
    grad = xp.zeros(planes * plane, dtype)
    offsets = xp.arange(planes, dtype=np.int64).reshape(-1, 1) * plane
    places = (indices.reshape(planes, prod(g.shape[2:])) + offsets).ravel()
    xp.add.at(grad, places, g.astype(dtype, copy=False).ravel())
    return grad.reshape(tuple(input_shape)).astype(g.dtype, copy=False)


def avg_pool(
    x: Any,
    kernel: Sizes,
    stride: Sizes,
    padding: Sizes,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Any:
    """Mean of each window of `x` [N, C, *S]: [N, C, *out]; see the CPU's kernel for the divisor."""
    dilation = (1,) * len(kernel)
    size = output_size(tuple(x.shape[2:]), kernel, stride, padding, dilation, ceil_mode)
    dtype = compute_dtype(x.dtype)
    padded = pad_spatial(
        x.astype(dtype, copy=False), padding, _after(x.shape[2:], kernel, size, stride, padding, dilation)
    )
    total = library(x).zeros((*x.shape[:2], *size), dtype)
    for _, window in taps(kernel, size, stride, dilation):
        total += padded[window]
    counts = _counts(x, kernel, size, stride, padding, count_include_pad, divisor_override)
    if dtype.kind in "iu":
        return total // counts
    return (total / counts.astype(dtype)).astype(x.dtype, copy=False)


def avg_pool_grad(
    g: Any,
    input_shape: Sizes,
    kernel: Sizes,
    stride: Sizes,
    padding: Sizes,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Any:
    """Gradient of `avg_pool`'s input, of shape `input_shape`."""
    xp, dtype = library(g), compute_dtype(g.dtype)
    dilation = (1,) * len(kernel)
    size, spatial = g.shape[2:], input_shape[2:]
    after = _after(spatial, kernel, size, stride, padding, dilation)
    padded = xp.zeros((*input_shape[:2], *(b + s + a for b, s, a in zip(padding, spatial, after, strict=True))), dtype)
    counts = _counts(xp.empty(tuple(input_shape), dtype), kernel, size, stride, padding, count_include_pad,
                     divisor_override)  # fmt: skip
    share = g.astype(dtype, copy=False) / counts.astype(dtype)
    for _, window in taps(kernel, size, stride, dilation):
        padded[window] += share
    inside = (..., *(slice(p, p + s) for p, s in zip(padding, spatial, strict=True)))
    return xp.ascontiguousarray(padded[inside]).astype(g.dtype, copy=False)


def _after(spatial: Sizes, kernel: Sizes, size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> Sizes:
    """Return how much padding the last window needs on the right."""
    ends = [(n - 1) * t + d * (k - 1) + 1 for n, t, k, d in zip(size, stride, kernel, dilation, strict=True)]
    return tuple(max(end - s - p, p) for end, s, p in zip(ends, spatial, padding, strict=True))


def _counts(
    x: Any, kernel: Sizes, size: Sizes, stride: Sizes, padding: Sizes, include_pad: bool, override: int | None
) -> Any:
    """Return what each window is divided by, [*out]."""
    xp = library(x)
    if override:
        return xp.full(tuple(size), override, np.int64)
    counts = xp.ones((), np.int64)
    for s, k, n, t, p in zip(x.shape[2:], kernel, size, stride, padding, strict=True):
        starts = xp.arange(n, dtype=np.int64) * t - p
        low, high = (-p, s + p) if include_pad else (0, s)
        along = xp.minimum(starts + k, high) - xp.maximum(starts, low)
        counts = counts[..., None] * along
    return counts
