"""Sampling images at the places of a grid, and affine grids (spatial transformers, arXiv:1506.02025)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of
from disttorch.ops.define import expect_tensor
from disttorch.ops.registry import traced
from disttorch.ops.taps import cubic_weights

__all__ = ["affine_grid", "grid_sample"]

_MODES = ("bilinear", "nearest", "bicubic")
_PADDING = ("zeros", "border", "reflection")


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """Return input [N, C, H, W] at the places (x, y) of grid [N, h, w, 2], from -1 to 1: [N, C, h, w].

    Or [N, C, D, H, W] at the places (x, y, z) of [N, d, h, w, 3]. `mode` is "bilinear", "nearest" or "bicubic" (images only).
    Outside are "zeros", the nearest element ("border") or the mirrored input ("reflection"). With `align_corners`, -1 and 1
    are the centers of the outermost elements, otherwise their outer edges.
    """
    if mode not in _MODES:
        raise ValueError(f"nn.functional.grid_sample(): expected mode to be one of {_MODES}, but got: '{mode}'")
    if padding_mode not in _PADDING:
        raise ValueError(
            f"nn.functional.grid_sample(): expected padding_mode to be one of {_PADDING}, but got: '{padding_mode}'"
        )
    if align_corners is None:
        _warn_of_corners()
    return _sampled(input, grid, mode, padding_mode, bool(align_corners))


def grid_sampler_2d(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """Return `grid_sample` of images, with modes as numbers: 0, 1, 2 for the names in the order of its documentation."""
    return _by_number(4, input, grid, interpolation_mode, padding_mode, align_corners)


def grid_sampler_3d(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """Return `grid_sample` of volumes, with modes as numbers: 0, 1, 2 for the names in the order of its documentation."""
    return _by_number(5, input, grid, interpolation_mode, padding_mode, align_corners)


def _by_number(ndim: int, input: Tensor, grid: Tensor, mode: int, padding: int, align_corners: bool) -> Tensor:
    if input._a.ndim != ndim:
        raise RuntimeError(f"grid_sampler(): expected {ndim}D input, but got input with sizes {list(input._a.shape)}")
    if mode not in (0, 1, 2) or padding not in (0, 1, 2):
        raise RuntimeError(
            f"grid_sampler(): expected modes 0, 1 or 2, but got interpolation {mode} and padding {padding}"
        )
    return _sampled(input, grid, _MODES[mode], _PADDING[padding], align_corners)


def _warn_of_corners() -> None:
    warnings.warn(
        "Default grid_sample and affine_grid behavior has changed to align_corners=False since 1.3.0. Please specify "
        "align_corners=True if the old behavior is desired.",
        UserWarning,
        stacklevel=3,
    )


def _check(input: Tensor, grid: Tensor, mode: str) -> None:
    x, places = expect_tensor(input, "grid_sampler")._a, expect_tensor(grid, "grid_sampler", "grid")._a
    shapes = f"but got input with sizes {list(x.shape)} and grid with sizes {list(places.shape)}"
    if x.dtype != places.dtype:
        raise RuntimeError(
            f"grid_sampler(): expected input and grid to have same dtype, but input has {input.dtype!r} and grid has {grid.dtype!r}"
        )
    if x.ndim not in (4, 5) or places.ndim != x.ndim:
        raise RuntimeError(f"grid_sampler(): expected 4D or 5D input and grid with same number of dimensions, {shapes}")
    if x.shape[0] != places.shape[0]:
        raise RuntimeError(f"grid_sampler(): expected grid and input to have same batch size, {shapes}")
    if places.shape[-1] != x.ndim - 2:
        raise RuntimeError(f"grid_sampler(): expected grid to have size {x.ndim - 2} in last dimension, {shapes}")
    if 0 in x.shape[2:]:
        raise RuntimeError(f"grid_sampler(): expected input to have non-empty spatial dimensions, {shapes}")
    if mode == "bicubic" and x.ndim == 5:
        raise RuntimeError("grid_sampler(): bicubic interpolation only supports 4D input")


class _Neighbour(NamedTuple):
    """One element along a dimension for each place: where, whether it is inside, its weight (None: 1)."""

    index: np.ndarray
    inside: np.ndarray
    weight: Tensor | None


def _sampled(input: Tensor, grid: Tensor, mode: str, padding: str, align_corners: bool) -> Tensor:
    _check(input, grid, mode)
    dtype = input._a.dtype
    x, grid = (traced.cast(t, np.dtype(np.float32)) if dtype.itemsize == 2 else t for t in (input, grid))
    n, channels, *spatial = x._a.shape
    flat = traced.reshape(x, (n, channels, prod(spatial)))
    columns = traced.reshape(grid, (n, 1, prod(grid._a.shape[1:-1]), len(spatial)))
    axes = []
    for size, place in zip(spatial, reversed(traced.unbind(columns, 3))):
        axes.append(_neighbours(place, size, mode, padding, align_corners))
    xp = backend_of(columns._a).namespace
    start = xp.zeros((n, 1, columns._a.shape[2]), np.int64)
    total = _gathered(flat, spatial, axes, start, xp.ones(start.shape, bool))
    out = traced.reshape(total, (n, channels, *grid._a.shape[1:-1]))
    return out if out._a.dtype == dtype else traced.cast(out, dtype)


def _gathered(
    flat: Tensor, sizes: Sequence[int], axes: list[list[_Neighbour]], index: np.ndarray, inside: np.ndarray
) -> Tensor:
    """Return the sum over all combinations of neighbours along the dimensions that are left."""
    if not axes:
        n, channels, _ = flat._a.shape
        xp = backend_of(index).namespace
        places = xp.broadcast_to(xp.where(inside, index, 0), (n, channels, index.shape[2]))
        found = traced.take(flat, wrap(places))
        return found if inside.all() else traced.where(wrap(inside), found, traced.zeros_from(found, ()))
    total = None
    for neighbour in axes[0]:
        at = index * sizes[0] + neighbour.index
        part = _gathered(flat, sizes[1:], axes[1:], at, inside & neighbour.inside)
        part = part if neighbour.weight is None else part * neighbour.weight
        total = part if total is None else total + part
    return total


def _neighbours(place: Tensor, size: int, mode: str, padding: str, align_corners: bool) -> list[_Neighbour]:
    at = (place + 1) * ((size - 1) / 2) if align_corners else ((place + 1) * size - 1) * 0.5
    xp = backend_of(place._a).namespace
    if mode == "bicubic":
        whole = xp.floor(at._a)
        weights = cubic_weights(at - wrap(whole))
        return [
            _neighbour(_returned(whole + k, size, padding, align_corners)[0], size, weight)
            for k, weight in zip((-1, 0, 1, 2), weights)
        ]
    at = _inside(at, size, padding, align_corners)
    if mode == "nearest":
        return [_neighbour(xp.rint(at._a), size, None)]
    whole = xp.floor(at._a)
    share = at - wrap(whole)
    return [_neighbour(whole, size, 1 - share), _neighbour(whole + 1, size, share)]


def _neighbour(place: np.ndarray, size: int, weight: Tensor | None) -> _Neighbour:
    inside = (place >= 0) & (place < size)
    return _Neighbour(backend_of(place).namespace.where(inside, place, 0).astype(np.int64), inside, weight)


def _inside(at: Tensor, size: int, padding: str, align_corners: bool) -> Tensor:
    """Return positions brought back into the input; where they stop at an end they pass no gradient on."""
    if padding == "zeros":
        return at
    values, slope = _returned(at._a, size, padding, align_corners)
    moving, xp = slope != 0, backend_of(slope).namespace
    kept = at if padding == "border" else at * wrap(slope) + wrap(xp.where(moving, values - slope * at._a, 0))
    return traced.where(wrap(moving), kept, wrap(values))


def _returned(at: np.ndarray, size: int, padding: str, align_corners: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return positions brought back into the input, and by which factor they move with the given ones: -1, 0 or 1."""
    xp = backend_of(at).namespace
    slope = xp.ones_like(at)
    if padding == "zeros":
        return at, slope
    if padding == "reflection":
        at, slope = _reflected(at, *((0, size - 1) if align_corners else (-0.5, size - 0.5)))
    slope = xp.where((at > 0) & (at < size - 1), slope, 0).astype(at.dtype)
    return xp.nan_to_num(at).clip(0, size - 1).astype(at.dtype), slope


def _reflected(at: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    xp = backend_of(at).namespace
    if low == high:
        return xp.zeros_like(at), xp.zeros_like(at)
    real = at.dtype.type
    offset, span = at - real(low), real(high - low)
    rest, turns = xp.fmod(xp.absolute(offset), span), xp.floor(xp.absolute(offset) / span)
    even = turns % 2 == 0
    slope = xp.where(offset < 0, -1, 1) * xp.where(even, 1, -1)
    return xp.where(even, rest + real(low), span - rest + real(low)), slope.astype(at.dtype)


def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """Return the grid [N, H, W, 2] of places theta @ (x, y, 1) for theta [N, 2, 3] and an output of `size` [N, C, H, W].

    For theta [N, 3, 4] and [N, C, D, H, W] it is [N, D, H, W, 3]. `align_corners` is as in `grid_sample`.
    """
    if align_corners is None:
        _warn_of_corners()
    if expect_tensor(theta, "affine_grid", "theta")._a.dtype.kind in "biuc":
        raise ValueError(f"Expected theta to have floating point type, but got {theta.dtype!r}")
    n = len(size) - 2
    if n not in (2, 3):
        raise NotImplementedError(
            f"affine_grid only supports 4D and 5D sizes, for 2D and 3D affine transforms. Got size {size}."
        )
    if theta._a.ndim != 3 or theta._a.shape[1:] != (n, n + 1):
        raise ValueError(
            f"Expected a batch of {n}D affine matrices of shape Nx{n}x{n + 1} for size {size}. Got {theta._a.shape}."
        )
    if min(size) <= 0:
        raise ValueError(f"Expected non-zero, positive output size. Got {size}")
    axes = [_places(s, bool(align_corners)) for s in size[2:]]
    base = np.stack([*reversed(np.meshgrid(*axes, indexing="ij")), np.ones(size[2:])], -1).reshape(-1, n + 1)
    points = traced.expand(traced.constant(theta, base.astype(theta._a.dtype)), (size[0], *base.shape))
    return traced.reshape(traced.bmm(points, traced.mT(theta)), (size[0], *size[2:], n))


def _places(size: int, align_corners: bool) -> np.ndarray:
    places = np.linspace(-1, 1, size) if size > 1 else np.zeros(size)
    return places if align_corners else places * ((size - 1) / size)
