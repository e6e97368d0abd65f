"""Convolution by unfolding and matrix product: any dtype, any number of spatial dimensions.

`x` is unfolded to columns [N, groups, C/groups * prod(K), prod(out)], so that forward, input
gradient and weight gradient are each one stacked matrix product. Images are taken a few at a time,
which keeps the columns in cache. Gradients are linear in both operands: a caller conjugates complex ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from disttorch.backends.numpy._window import Sizes, compute_dtype, pad_spatial, taps

_COLUMN_BYTES = 1 << 20


def forward(
    x: np.ndarray,
    weight: np.ndarray,
    out_size: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> np.ndarray:
    """Cross-correlation [N, O, *out_size] of `x` [N, C, *S] with `weight` [O, C/groups, *K]."""
    dtype = compute_dtype(x.dtype)
    rows = _grouped(weight, groups).astype(dtype, copy=False)
    y = np.empty((x.shape[0], groups, rows.shape[1], prod(out_size)), dtype=x.dtype)
    for part, columns in _columns(
        x.astype(dtype, copy=False), weight.shape[2:], out_size, stride, padding, dilation, groups
    ):
        y[part] = rows @ columns
    return y.reshape(x.shape[0], weight.shape[0], *out_size)


def input_grad(
    g: np.ndarray,
    weight: np.ndarray,
    input_shape: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> np.ndarray:
    """Gradient [N, C, *S] of the input for the output gradient `g` [N, O, *out]."""
    dtype = compute_dtype(g.dtype)
    out_size, kernel = g.shape[2:], weight.shape[2:]
    rows = _grouped(weight, groups).astype(dtype, copy=False).swapaxes(1, 2)
    flat = g.astype(dtype, copy=False).reshape(g.shape[0], groups, g.shape[1] // groups, prod(out_size))
    padded = tuple(s + 2 * p for s, p in zip(input_shape[2:], padding, strict=True))
    inner = tuple(slice(p, p + s) for s, p in zip(input_shape[2:], padding, strict=True))
    result = np.empty(input_shape, dtype=g.dtype)
    whole = (slice(None), slice(None))
    for part in _parts(input_shape[0], rows.shape[0] * rows.shape[1] * prod(out_size), dtype):
        images = flat[part]
        columns = (rows @ images).reshape(len(images), input_shape[1], *kernel, *out_size)
        total = np.zeros((len(images), input_shape[1], *padded), dtype=dtype)
        for offset, window in taps(kernel, out_size, stride, dilation):
            total[window] += columns[whole + tuple(offset)]
        result[part] = total[whole + tuple(inner)]
    return result


def weight_grad(
    g: np.ndarray,
    x: np.ndarray,
    weight_shape: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> np.ndarray:
    """Gradient [O, C/groups, *K] of the weight for the output gradient `g` [N, O, *out]."""
    dtype = compute_dtype(g.dtype)
    out_size = g.shape[2:]
    flat = g.astype(dtype, copy=False).reshape(g.shape[0], groups, g.shape[1] // groups, prod(out_size))
    total = np.zeros((groups, weight_shape[0] // groups, prod(weight_shape[1:])), dtype=dtype)
    for part, columns in _columns(
        x.astype(dtype, copy=False), weight_shape[2:], out_size, stride, padding, dilation, groups
    ):
        total += (flat[part] @ columns.swapaxes(2, 3)).sum(axis=0)
    return total.reshape(weight_shape).astype(g.dtype, copy=False)


def _grouped(weight: np.ndarray, groups: int) -> np.ndarray:
    """`weight` [O, C/groups, *K] as one matrix [O/groups, C/groups * prod(K)] for each group."""
    return weight.reshape(groups, weight.shape[0] // groups, prod(weight.shape[1:]))


def _parts(images: int, values_per_image: int, dtype: np.dtype) -> Iterator[slice]:
    """Runs of images whose columns together take about `_COLUMN_BYTES`."""
    step = max(1, _COLUMN_BYTES // max(1, values_per_image * dtype.itemsize))
    return (slice(start, min(start + step, images)) for start in range(0, images, step))


def _columns(
    x: np.ndarray,
    kernel: Sizes,
    out_size: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> Iterator[tuple[slice, np.ndarray]]:
    """Runs of images, each with its unfolded columns [n, groups, C/groups * prod(K), prod(out)]."""
    channels = x.shape[1]
    depth, positions = channels // groups * prod(kernel), prod(out_size)
    for part in _parts(x.shape[0], groups * depth * positions, x.dtype):
        images = pad_spatial(x[part], padding, padding)
        columns = np.empty((len(images), channels, *kernel, *out_size), dtype=x.dtype)
        for offset, window in taps(kernel, out_size, stride, dilation):
            spot: tuple[Any, ...] = (slice(None), slice(None), *offset)
            columns[spot] = images[window]
        yield part, columns.reshape(len(images), groups, depth, positions)
