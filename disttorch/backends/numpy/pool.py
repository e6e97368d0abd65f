"""Max and average pooling with their gradients over 1 to 3 spatial dimensions, on NumPy arrays.

`x` is [N, C, *S]; `kernel`, `stride`, `padding` and `dilation` are tuples of one integer per
spatial dimension.
"""

from __future__ import annotations

from math import prod

import numpy as np

from disttorch.backends.numpy._compiled import compiled, is_float
from disttorch.backends.numpy._window import Sizes, compute_dtype, pad_spatial, taps


def output_size(
    spatial: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil_mode: bool
) -> Sizes:
    """Spatial size of a pooling's output.

    With `ceil_mode` a last window may hang over the right edge, but must start inside the input or
    its left padding. RuntimeError where the output would be empty.
    """
    sizes = []
    for s, k, t, p, d in zip(spatial, kernel, stride, padding, dilation, strict=True):
        last_start = s + 2 * p - d * (k - 1) - 1
        size = (last_start + (t - 1 if ceil_mode else 0)) // t + 1
        if ceil_mode and (size - 1) * t >= s + p:
            size -= 1
        sizes.append(size)
    if min(sizes) < 1:
        raise RuntimeError(
            f"Given input size: {tuple(spatial)}. Calculated output size: {tuple(sizes)}. Output size is too small"
        )
    return tuple(sizes)


def max_pool(
    x: np.ndarray,
    kernel: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    ceil_mode: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Maximum of each window of `x` [N, C, *S], and where it is.

    Returns `(y, indices)`, both [N, C, *out]; `indices` is int64, flat over the input's spatial
    plane. Of equal values the first in row-major order counts; the last NaN wins over everything,
    as in PyTorch.
    """
    size = output_size(x.shape[2:], kernel, stride, padding, dilation, ceil_mode)
    if len(size) > 2 or not is_float(x.dtype):
        return _max_pool_general(x, kernel, size, stride, padding, dilation)
    y = np.empty((*x.shape[:2], *size), dtype=x.dtype)
    indices = np.empty(y.shape, dtype=np.int64)
    planes = _planes(np.ascontiguousarray(x)), _planes(y), _planes(indices)
    if len(size) == 1:
        kernel, stride, padding, dilation = (
            (1, *kernel),
            (1, *stride),
            (0, *padding),
            (1, *dilation),
        )
    if kernel == stride == (2, 2) and padding == (0, 0) and dilation == (1, 1) and not ceil_mode:
        compiled("pool").max_pool_2x2(*planes)
    else:
        source, *results = planes
        compiled("pool").max_pool(source, kernel, stride, padding, dilation, *results)
    return y, indices


def max_pool_grad(g: np.ndarray, indices: np.ndarray, input_shape: Sizes) -> np.ndarray:
    """Gradient of `max_pool`'s input, of shape `input_shape`: each `g` is added at its index."""
    dtype = compute_dtype(g.dtype)
    planes = prod(input_shape[:2])
    grad = np.zeros((planes, prod(input_shape[2:])), dtype=dtype)
    per_plane = prod(g.shape[2:])
    compiled("pool").scatter(
        np.ascontiguousarray(g, dtype=dtype).reshape(planes, per_plane),
        np.ascontiguousarray(indices).reshape(planes, per_plane),
        grad,
    )
    return grad.reshape(input_shape).astype(g.dtype, copy=False)


def avg_pool(
    x: np.ndarray,
    kernel: Sizes,
    stride: Sizes,
    padding: Sizes,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> np.ndarray:
    """Mean of each window of `x` [N, C, *S]: [N, C, *out].

    The divisor is `divisor_override` where given, else the window's size, counting the padding if
    `count_include_pad` and never counting what `ceil_mode` adds beyond it.
    """
    dilation = (1,) * len(kernel)
    size = output_size(x.shape[2:], kernel, stride, padding, dilation, ceil_mode)
    dtype = compute_dtype(x.dtype)
    if _is_global(x.shape, kernel, padding):
        total = x.reshape(*x.shape[:2], -1).sum(axis=2, dtype=dtype).reshape(*x.shape[:2], *size)
        count = np.array(divisor_override or prod(kernel), dtype=np.int64)
        return _divide(total, count).astype(x.dtype, copy=False)
    after = _pad_after(x.shape[2:], kernel, size, stride, padding, dilation)
    padded = pad_spatial(x.astype(dtype, copy=False), padding, after)
    total = np.zeros((*x.shape[:2], *size), dtype=dtype)
    for _, window in taps(kernel, size, stride, dilation):
        total += padded[window]
    count = _window_counts(x.shape[2:], kernel, size, stride, padding, count_include_pad, divisor_override)
    return _divide(total, count).astype(x.dtype, copy=False)


def avg_pool_grad(
    g: np.ndarray,
    input_shape: Sizes,
    kernel: Sizes,
    stride: Sizes,
    padding: Sizes,
    count_include_pad: bool,
    divisor_override: int | None,
) -> np.ndarray:
    """Gradient of `avg_pool`'s input, of shape `input_shape`, for the gradient `g` [N, C, *out]."""
    spatial, size, dilation = input_shape[2:], g.shape[2:], (1,) * len(kernel)
    dtype = compute_dtype(g.dtype)
    count = _window_counts(spatial, kernel, size, stride, padding, count_include_pad, divisor_override)
    share = _divide(g.astype(dtype, copy=False), count)
    if _is_global(input_shape, kernel, padding):
        grad = np.empty(input_shape, dtype=g.dtype)
        grad[...] = share
        return grad
    extent = tuple(
        max((o - 1) * t + k, s + p) for o, t, k, s, p in zip(size, stride, kernel, spatial, padding, strict=True)
    )
    grad = np.zeros((*input_shape[:2], *extent), dtype=dtype)
    for _, window in taps(kernel, size, stride, dilation):
        grad[window] += share
    inner = tuple(slice(p, p + s) for s, p in zip(spatial, padding, strict=True))
    kept = grad[(slice(None), slice(None)) + tuple(inner)]
    return np.ascontiguousarray(kept.astype(g.dtype, copy=False))


def _is_global(shape: Sizes, kernel: Sizes, padding: Sizes) -> bool:
    """Whether one window is the whole input."""
    return tuple(shape[2:]) == tuple(kernel) and not any(padding)


def _max_pool_general(
    x: np.ndarray, kernel: Sizes, size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes
) -> tuple[np.ndarray, np.ndarray]:
    """`max_pool` for any dtype, one kernel position at a time."""
    dtype, spatial = x.dtype, x.shape[2:]
    x = x.astype(compute_dtype(dtype), copy=False)
    after = _pad_after(spatial, kernel, size, stride, padding, dilation)
    lowest = _lowest(x.dtype)
    padded = pad_spatial(x, padding, after, lowest)
    starts = [np.arange(o) * t - p for o, t, p in zip(size, stride, padding, strict=True)]
    y = np.full((*x.shape[:2], *size), lowest, dtype=x.dtype)
    first = [s + -(np.minimum(s, 0) // d) * d for s, d in zip(starts, dilation, strict=True)]
    indices = np.broadcast_to(_flat_index(first, spatial), y.shape).copy()
    for offset, window in taps(kernel, size, stride, dilation):
        value = padded[window]
        here = [s + k * d for s, k, d in zip(starts, offset, dilation, strict=True)]
        inside = _inside(here, spatial)
        better = ((value > y) | (value != value)) & inside
        np.copyto(y, value, where=better)
        np.copyto(indices, _flat_index(here, spatial), where=better)
    return y.astype(dtype, copy=False), indices


def _lowest(dtype: np.dtype) -> object:
    """The value that no maximum is below."""
    return np.iinfo(dtype).min if dtype.kind in "iu" else dtype.type(-np.inf)


def _flat_index(coordinates: list[np.ndarray], spatial: Sizes) -> np.ndarray:
    """Row-major index into `spatial` for the grid of the per-axis `coordinates`."""
    index = np.zeros((), dtype=np.int64)
    for axis, c in enumerate(coordinates):
        index = index[..., None] * spatial[axis] + c
    return index


def _inside(coordinates: list[np.ndarray], spatial: Sizes) -> np.ndarray:
    """Where the grid of the per-axis `coordinates` lies within `spatial`."""
    inside = np.ones((), dtype=bool)
    for c, s in zip(coordinates, spatial, strict=True):
        inside = inside[..., None] & ((c >= 0) & (c < s))
    return inside


def _pad_after(spatial: Sizes, kernel: Sizes, size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> Sizes:
    """What to add after the input (negative: leave out) for the last window to end there."""
    return tuple(
        (o - 1) * t + d * (k - 1) + 1 - p - s
        for s, k, o, t, p, d in zip(spatial, kernel, size, stride, padding, dilation, strict=True)
    )


def _window_counts(
    spatial: Sizes,
    kernel: Sizes,
    size: Sizes,
    stride: Sizes,
    padding: Sizes,
    count_include_pad: bool,
    divisor_override: int | None,
) -> np.ndarray:
    """Divisor of each window: a scalar array, or an int64 array of shape `size`."""
    if divisor_override is not None:
        return np.array(divisor_override, dtype=np.int64)
    count: np.ndarray = np.ones((), dtype=np.int64)
    for s, k, o, t, p in zip(spatial, kernel, size, stride, padding, strict=True):
        start = np.arange(o) * t - p
        stop = np.minimum(start + k, s + p)
        if not count_include_pad:
            start, stop = np.maximum(start, 0), np.minimum(stop, s)
        count = count[..., None] * (stop - start)
    return count


def _divide(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """`total / count` in `total`'s dtype; integers are divided towards zero."""
    if total.dtype.kind in "iu":
        return (np.sign(total) * np.sign(count) * (np.abs(total) // np.abs(count))).astype(total.dtype)
    return total / count.astype(total.dtype)


def _planes(a: np.ndarray) -> np.ndarray:
    """Contiguous [N, C, L] or [N, C, H, W] as planes [N * C, H, W], H being 1 for the former."""
    height = a.shape[2] if a.ndim == 4 else 1
    return a.reshape(a.shape[0] * a.shape[1], height, a.shape[-1])
