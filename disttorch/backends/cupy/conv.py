"""Convolution and its two gradients, as one matrix product over the unfolded input."""

from __future__ import annotations

from math import prod
from typing import Any

from disttorch.backends.cupy._library import Sizes, compute_dtype, library, pad_spatial, taps


def convolution(x: Any, weight: Any, bias: Any, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int) -> Any:
    """Cross-correlation of `x` [N, C, *S] with `weight` [O, C / groups, *K], plus `bias` [O]: [N, O, *out]."""
    dtype = compute_dtype(x.dtype)
    size = _output_size(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    columns = _columns(x.astype(dtype, copy=False), weight.shape[2:], size, stride, padding, dilation, groups)
    out = _grouped(weight.astype(dtype, copy=False), groups) @ columns
    out = out.reshape(x.shape[0], weight.shape[0], *size)
    if bias is not None:
        out += bias.astype(dtype, copy=False).reshape(-1, *(1,) * len(size))
    return out.astype(x.dtype, copy=False)


def convolution_input_grad(
    g: Any, weight: Any, shape: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
) -> Any:
    """Gradient of `convolution`'s `x`, of `shape`, for the output's gradient `g` [N, O, *out]."""
    xp, dtype = library(g), compute_dtype(g.dtype)
    size = g.shape[2:]
    matrices = _grouped(weight.astype(dtype, copy=False), groups).swapaxes(1, 2)
    columns = matrices @ _by_group(g.astype(dtype, copy=False), groups)
    kernel = weight.shape[2:]
    columns = columns.reshape(shape[0], shape[1], prod(kernel), *size)
    padded = xp.zeros((*shape[:2], *(s + 2 * p for s, p in zip(shape[2:], padding, strict=True))), dtype)
    for k, (_, window) in enumerate(taps(kernel, size, stride, dilation)):
        padded[window] += columns[:, :, k]
    inside = (..., *(slice(p, p + s) for p, s in zip(padding, shape[2:], strict=True)))
    return xp.ascontiguousarray(padded[inside]).astype(g.dtype, copy=False)


def convolution_weight_grad(
    g: Any, x: Any, shape: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
) -> Any:
    """Gradient of `convolution`'s `weight`, of `shape`, for the output's gradient `g` [N, O, *out]."""
    dtype = compute_dtype(g.dtype)
    columns = _columns(x.astype(dtype, copy=False), shape[2:], g.shape[2:], stride, padding, dilation, groups)
    grad = (_by_group(g.astype(dtype, copy=False), groups) @ columns.swapaxes(2, 3)).sum(axis=0)
    return grad.reshape(tuple(shape)).astype(g.dtype, copy=False)


def _output_size(spatial: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> tuple[int, ...]:
    spans = zip(spatial, kernel, stride, padding, dilation, strict=True)
    return tuple((s + 2 * p - d * (k - 1) - 1) // t + 1 for s, k, t, p, d in spans)


def _columns(x: Any, kernel: Sizes, size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int) -> Any:
    """Return the windows of x as columns: [N, groups, C / groups * K, out]."""
    padded = pad_spatial(x, padding, padding)
    columns = library(x).empty((*x.shape[:2], prod(kernel), *size), x.dtype)
    for k, (_, window) in enumerate(taps(kernel, size, stride, dilation)):
        columns[:, :, k] = padded[window]
    return columns.reshape(x.shape[0], groups, x.shape[1] // groups * prod(kernel), prod(size))


def _grouped(weight: Any, groups: int) -> Any:
    return weight.reshape(groups, weight.shape[0] // groups, prod(weight.shape[1:]))


def _by_group(g: Any, groups: int) -> Any:
    return g.reshape(g.shape[0], groups, g.shape[1] // groups, prod(g.shape[2:]))
