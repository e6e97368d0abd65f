"""Resizing images, and rearranging their channels and pixels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.ops import taps
from disttorch.ops.define import expect_tensor, operator
from disttorch.ops.registry import traced

__all__ = [
    "channel_shuffle", "interpolate", "pixel_shuffle", "pixel_unshuffle", "upsample", "upsample_bilinear",
    "upsample_nearest",
]  # fmt: skip


@operator(1)
def resample(xp, x, plan):
    """Return x with every dimension `dim` of `plan`, pairs (dim, table), resampled by its table."""
    if x.dtype == np.uint8:
        for dim, table in reversed(plan):
            x = table.apply_to_bytes(xp, x, dim)
        return x
    wide = x
    if any(table.weights is not None for _, table in plan):
        wide = x.astype(np.float32) if x.dtype.itemsize < 4 else x
    for dim, table in plan:
        wide = table.apply(xp, wide, dim)
    return wide.astype(x.dtype, copy=False)


@resample.vjp
def _(F, g, plan):
    return F.resample(g, tuple((dim, table.transposed) for dim, table in reversed(plan)))


# -- interpolation ------------------------------------------------------------------------------------------------

_MODES_OF = {
    3: ("nearest", "nearest-exact", "area", "linear"),
    4: ("nearest", "nearest-exact", "area", "bilinear", "bicubic", "lanczos"),
    5: ("nearest", "nearest-exact", "area", "trilinear"),
}
_DIMENSIONS = {"linear": 3, "bilinear": 4, "trilinear": 5}


def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Resize input [N, C, *S] to the spatial `size`, or by `scale_factor`.

    `mode`: "nearest", "nearest-exact", "linear" (3-D input), "bilinear" or "bicubic" (4-D), "trilinear" (5-D), "area"
    (adaptive averages). `align_corners` makes the outermost elements of input and result coincide; `antialias` widens
    the filter when a 4-D input is made smaller. Raises ValueError for arguments that exclude each other.
    """
    shape = expect_tensor(input, "interpolate")._a.shape
    if align_corners is not None and mode in ("nearest", "nearest-exact", "area"):
        raise ValueError(
            "align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic | trilinear"
        )
    sizes, scales = _target_size(shape, size, scale_factor, mode, bool(recompute_scale_factor), size is not None)
    if antialias and (mode not in ("bilinear", "bicubic", "lanczos") or len(shape) != 4):
        raise ValueError(
            "Anti-alias option is restricted to bilinear, bicubic, and lanczos modes and requires a 4-D tensor as input"
        )
    _check_mode(mode, len(shape), bool(align_corners), antialias)
    if min(sizes, default=1) <= 0 or min(shape[1:], default=1) <= 0:
        raise RuntimeError(
            f"Input and output sizes should be greater than 0, but got input of size {list(shape)} and output size {list(sizes)}"
        )
    real = np.float64 if input._a.dtype == np.float64 else np.float32
    plan = []
    for k, (n, out, scale) in enumerate(zip(shape[2:], sizes, scales, strict=True)):
        plan.append((k + 2, _table(mode, n, out, bool(align_corners), scale, real, antialias)))
    return resample(input, tuple(plan))


def _target_size(
    shape: tuple[int, ...], size: Any, scale_factor: Any, mode: str, recompute: bool, has_size: bool
) -> tuple[list[int], list[float | None]]:
    n = len(shape) - 2
    if has_size and scale_factor is not None:
        raise ValueError("only one of size or scale_factor should be defined")
    if not has_size and scale_factor is None:
        raise ValueError("either size or scale_factor should be defined")
    if has_size and recompute:
        raise ValueError("recompute_scale_factor is not meaningful with an explicit size.")
    given = size if has_size else scale_factor
    listed = list(given) if isinstance(given, (list, tuple)) else [given] * n
    if len(listed) != n:
        what = "output size" if has_size else "scale_factor"
        raise ValueError(
            f"Input and {what} must have the same number of spatial dimensions, but got input with spatial dimensions of "
            f"{list(shape[2:])} and {what} of {given}"
        )
    if has_size:
        if not all(isinstance(s, (int, np.integer)) for s in listed):
            raise TypeError(f"expected size to be one or several ints, but got {[type(s) for s in listed]}")
        return [int(s) for s in listed], [None] * n
    sizes = [taps.output_length(s, f) for s, f in zip(shape[2:], listed)]
    return sizes, [None] * n if recompute or mode == "area" else [float(f) for f in listed]


def _check_mode(mode: str, ndim: int, align_corners: bool, antialias: bool) -> None:
    if mode in _MODES_OF.get(ndim, ()):
        if mode == "lanczos" and (align_corners or not antialias):
            raise ValueError("Lanczos mode requires antialias=True and does not support align_corners=True")
        return
    if mode in _DIMENSIONS and ndim in (3, 4, 5):
        raise NotImplementedError(f"Got {ndim}D input, but {mode} mode needs {_DIMENSIONS[mode]}D input")
    raise NotImplementedError(
        f"Input Error: Only 3D, 4D and 5D input Tensors supported (got {ndim}D) for the modes: nearest | linear | bilinear | "
        f"bicubic | trilinear | lanczos | area | nearest-exact (got {mode})"
    )


def _table(
    mode: str, size: int, out: int, align_corners: bool, scale: float | None, real: Any, antialias: bool
) -> taps.Taps:
    if mode in ("nearest", "nearest-exact"):
        return taps.nearest(size, out, scale, mode == "nearest-exact")
    if mode == "area":
        return taps.average(size, out)
    if antialias:
        return taps.antialiased(mode, size, out, align_corners, scale, real)
    if mode == "bicubic":
        return taps.cubic(size, out, align_corners, scale, real)
    return taps.linear(size, out, align_corners, scale, real)


def upsample(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """Resize `input`; deprecated in favor of `interpolate`."""
    _deprecated("upsample")
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """Resize `input` by nearest elements; deprecated in favor of `interpolate`."""
    _deprecated("upsample_nearest")
    return interpolate(input, size, scale_factor, mode="nearest")


def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """Resize `input` [N, C, H, W] linearly with aligned corners; deprecated in favor of `interpolate`."""
    _deprecated("upsample_bilinear")
    return interpolate(input, size, scale_factor, mode="bilinear", align_corners=True)


def _deprecated(name: str) -> None:
    warnings.warn(
        f"`nn.functional.{name}` is deprecated. Use `nn.functional.interpolate` instead.", UserWarning, stacklevel=3
    )


# -- channels and pixels ------------------------------------------------------------------------------------------


def _image(function: str, input: Tensor, least: int = 3) -> tuple[int, ...]:
    shape = expect_tensor(input, function)._a.shape
    if len(shape) < least:
        raise RuntimeError(
            f"{function} expects input to have at least {least} dimensions, but got input with {len(shape)} dimension(s)"
        )
    return shape


def _rearranged(input: Tensor, split: Sequence[int], order: Sequence[int], shape: Sequence[int]) -> Tensor:
    moved = traced.permute(traced.reshape(input, tuple(split)), tuple(order))
    return traced.reshape(traced.clone(moved, True), tuple(shape))


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Rearrange input [*, C r^2, H, W] to [*, C, H r, W r], r being `upscale_factor` (arXiv:1609.05158)."""
    shape, r = _image("pixel_shuffle", input), upscale_factor
    if r <= 0:
        raise RuntimeError(f"pixel_shuffle expects a positive upscale_factor, but got {r}")
    *lead, c, h, w = shape
    if c % (r * r):
        raise RuntimeError(
            f"pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of upscale_factor, but "
            f"input.size(-3)={c} is not divisible by {r * r}"
        )
    n = len(lead)
    order = (*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return _rearranged(input, (*lead, c // (r * r), r, r, h, w), order, (*lead, c // (r * r), h * r, w * r))


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """Rearrange input [*, C, H r, W r] to [*, C r^2, H, W], r being `downscale_factor`: undo `pixel_shuffle`."""
    shape, r = _image("pixel_unshuffle", input), downscale_factor
    if r <= 0:
        raise RuntimeError(f"pixel_unshuffle expects a positive downscale_factor, but got {r}")
    *lead, c, h, w = shape
    if h % r or w % r:
        raise RuntimeError(
            f"pixel_unshuffle expects height and width to be divisible by downscale_factor, but {h} or {w} is not divisible "
            f"by {r}"
        )
    n = len(lead)
    order = (*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return _rearranged(input, (*lead, c, h // r, r, w // r, r), order, (*lead, c * r * r, h // r, w // r))


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Reorder channels of input [N, C, *] from [groups, C / groups] to [C / groups, groups] (arXiv:1707.01083)."""
    shape = _image("channel_shuffle", input)
    if groups <= 0:
        raise RuntimeError(f"Number of groups to divide channels in must be positive. Value of groups:{groups}")
    n, c, *rest = shape
    if c % groups:
        raise RuntimeError(f"Number of channels must be divisible by groups. Got {c} channels and {groups} groups.")
    return _rearranged(input, (n, groups, c // groups, *rest), (0, 2, 1, *range(3, len(rest) + 3)), shape)
