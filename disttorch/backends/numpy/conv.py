"""Convolution (cross-correlation, as in deep learning) and its two gradients, on NumPy arrays.

Shapes: `x` [N, C, *S], `weight` [O, C/groups, *K], output [N, O, *out] with
`out = floor((S + 2 * padding - dilation * (K - 1) - 1) / stride) + 1` in each of 1 to 3 spatial
dimensions. `stride`, `padding` and `dilation` are tuples of one integer per spatial dimension.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from disttorch.backends.numpy import _conv_general
from disttorch.backends.numpy._compiled import compiled
from disttorch.backends.numpy._window import Sizes


def output_size(spatial: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> Sizes:
    """Spatial size of a convolution's output; RuntimeError for a kernel that exceeds the input."""
    sizes = tuple(
        (s + 2 * p - d * (k - 1) - 1) // t + 1
        for s, k, t, p, d in zip(spatial, kernel, stride, padding, dilation, strict=True)
    )
    if min(sizes) < 1:
        padded = tuple(s + 2 * p for s, p in zip(spatial, padding, strict=True))
        extent = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
        raise RuntimeError(
            f"Calculated padded input size per channel: {padded}. Kernel size: {extent}. "
            "Kernel size can't be greater than actual input size"
        )
    return sizes


def convolution(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> np.ndarray:
    """Convolve `x` [N, C, *S] with `weight` [O, C/groups, *K], add `bias` [O]: [N, O, *out]."""
    size = output_size(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    if _direct(x, weight, groups):
        return _forward_direct(x, weight, bias, size, stride, padding, dilation)
    y = _conv_general.forward(x, weight, size, stride, padding, dilation, groups)
    if bias is not None:
        y += bias.reshape(-1, *(1 for _ in size))
    return y


def convolution_input_grad(
    g: np.ndarray,
    weight: np.ndarray,
    input_shape: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> np.ndarray:
    """Gradient of the input, of shape `input_shape`, for the output gradient `g` [N, O, *out]."""
    if _direct(g, weight, groups):
        return _input_grad_direct(g, weight, input_shape, stride, padding, dilation)
    return _conv_general.input_grad(g, weight, input_shape, stride, padding, dilation, groups)


def convolution_weight_grad(
    g: np.ndarray,
    x: np.ndarray,
    weight_shape: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
    into: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of the weight, of shape `weight_shape`, for the output gradient `g` [N, O, *out].

    into: contiguous memory of that shape that the compiled kernel writes to; it is returned then.
    """
    if _direct(g, x, groups):
        if into is None or into.dtype != g.dtype:
            into = np.empty(weight_shape, dtype=g.dtype)
        return _weight_grad_direct(g, x, into, stride, padding, dilation)
    return _conv_general.weight_grad(g, x, weight_shape, stride, padding, dilation, groups)


class _Plan(NamedTuple):
    """What the compiled kernel needs to know of one convolution.

    `sources` [taps]: where each tap's weight lies, added to `channel * row_stride`.
    `offsets` [taps]: where each tap reads, relative to the output position.
    `phases` [n, 2]: the (row, column) residues of the source, modulo its steps, that any tap reads.
    `places`: packed positions of all outputs of a full buffer, padded to whole tiles.
    `starts`: packed positions at which vectors of LANES cover every output position.
    `geometry`: row and column step of the source, row and column padding, width and additional rows
    of a packed plane, images per group, output rows per band, output rows and columns, first row,
    first column, row step and column step of the target, and lengths of the runs of neighbours in
    which places and offsets come.
    """

    row_stride: int
    sources: np.ndarray
    offsets: np.ndarray
    phases: np.ndarray
    places: np.ndarray
    starts: np.ndarray
    geometry: np.ndarray


_BUFFER_FLOATS = 1 << 16
_POSITIONS = 2048


def _direct(x: np.ndarray, other: np.ndarray, groups: int) -> bool:
    """Whether the compiled kernels apply; the general path takes all else, and empty arrays."""
    return (
        groups == 1
        and x.ndim in (3, 4)
        and x.dtype == np.float32
        and other.dtype == np.float32
        and x.size > 0
        and other.size > 0
    )


def _image(a: np.ndarray) -> np.ndarray:
    """[N, C, L] as [N, C, 1, L], contiguous; [N, C, H, W] contiguous."""
    a = np.ascontiguousarray(a)
    return a if a.ndim == 4 else a[:, :, None]


def _pair(sizes: Sizes, fill: int) -> Sizes:
    return sizes if len(sizes) == 2 else (fill, *sizes)


def _forward_direct(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    size: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
) -> np.ndarray:
    y = np.empty((x.shape[0], weight.shape[0], *size), dtype=x.dtype)
    plan = _forward_plan(
        x.shape[:2],
        _pair(weight.shape[2:], 1),
        _pair(size, 1),
        _pair(stride, 1),
        _pair(padding, 0),
        _pair(dilation, 1),
    )
    kernels = compiled("conv")
    kernels.convolve(
        _image(x),
        np.ascontiguousarray(weight).reshape(-1),
        plan.row_stride,
        plan.sources,
        plan.offsets,
        weight[:0].reshape(-1) if bias is None else np.ascontiguousarray(bias),
        plan.phases,
        plan.places,
        plan.starts,
        plan.geometry,
        _image(y),
    )
    return y


def _weight_grad_direct(
    g: np.ndarray,
    x: np.ndarray,
    into: np.ndarray,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
) -> np.ndarray:
    plan = _forward_plan(
        x.shape[:2],
        _pair(into.shape[2:], 1),
        _pair(g.shape[2:], 1),
        _pair(stride, 1),
        _pair(padding, 0),
        _pair(dilation, 1),
    )
    compiled("conv").weight_gradient(
        _image(g),
        _image(x),
        plan.offsets,
        plan.phases,
        plan.places,
        plan.starts,
        plan.geometry,
        into.reshape(-1),
    )
    return into


def _input_grad_direct(
    g: np.ndarray,
    weight: np.ndarray,
    input_shape: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
) -> np.ndarray:
    plans = _input_grad_plans(
        g.shape[:2],
        input_shape[1],
        _pair(weight.shape[2:], 1),
        _pair(input_shape[2:], 1),
        _pair(stride, 1),
        _pair(padding, 0),
        _pair(dilation, 1),
    )
    covered = len(plans) == prod(stride) == 1
    grad = (np.empty if covered else np.zeros)(input_shape, dtype=g.dtype)
    source, flat, target = _image(g), np.ascontiguousarray(weight).reshape(-1), _image(grad)
    for plan in plans:
        compiled("conv").convolve(
            source,
            flat,
            plan.row_stride,
            plan.sources,
            plan.offsets,
            flat[:0],
            plan.phases,
            plan.places,
            plan.starts,
            plan.geometry,
            target,
        )
    return grad


@lru_cache(maxsize=512)
def _forward_plan(source: Sizes, kernel: Sizes, size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> _Plan:
    """The plan of a convolution with output `size`; its weight's gradient reads the same taps."""
    reads = [np.arange(k) * d for k, d in zip(kernel, dilation, strict=True)]
    weights = np.arange(source[1] * prod(kernel), dtype=np.int64)
    return _plan(source, reads, weights.size, weights, size, stride, padding, (0, 0), (1, 1))


@lru_cache(maxsize=512)
def _input_grad_plans(
    source: Sizes,
    inputs: int,
    kernel: Sizes,
    size: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
) -> list[_Plan]:
    """One plan for each residue of the input's positions modulo the stride that any tap reaches.

    Input position i is read by the outputs (i + padding - dilation * k) / stride, where that is
    whole: a convolution of the output gradient with the taps k of one residue, in reverse.
    """
    axes = [_residues(*a) for a in zip(kernel, size, stride, padding, dilation, strict=True)]
    plans = []
    for rows in axes[0]:
        for columns in axes[1]:
            taps = (rows.taps[:, None] * kernel[1] + columns.taps).reshape(-1)
            starts = np.arange(source[1]) * inputs * prod(kernel)
            plans.append(
                _plan(
                    source,
                    [rows.reads, columns.reads],
                    prod(kernel),
                    (starts[:, None] + taps).reshape(-1),
                    (rows.size, columns.size),
                    (1, 1),
                    (rows.padding, columns.padding),
                    (rows.first, columns.first),
                    stride,
                )
            )
    return plans


class _Residue(NamedTuple):
    """Along one axis: the taps of one residue, what they read, and the input positions."""

    taps: np.ndarray
    reads: np.ndarray
    padding: int
    first: int
    size: int


def _residues(kernel: int, size: int, stride: int, padding: int, dilation: int) -> list[_Residue]:
    result = []
    for residue in range(stride):
        first = (residue - padding) % stride
        taps = np.array([k for k in range(kernel) if (dilation * k) % stride == residue], dtype=np.int64)
        if taps.size and first < size:
            back = (dilation * taps - residue) // stride
            output = (first + padding - residue) // stride
            count = (size - first - 1) // stride + 1
            result.append(_Residue(taps, back.max() - back, int(back.max()) - output, first, count))
    return result


def _plan(
    source: Sizes,
    reads: list[np.ndarray],
    row_stride: int,
    weights: np.ndarray,
    size: Sizes,
    stride: Sizes,
    padding: Sizes,
    first: Sizes,
    step: Sizes,
) -> _Plan:
    """Lay out the packed planes of `source` = (N, C) for taps that read at `reads`."""
    images, channels = source
    rows, columns = reads
    phases = [
        (a, b) for a in sorted(set((rows % stride[0]).tolist())) for b in sorted(set((columns % stride[1]).tolist()))
    ]
    number = {phase: index for index, phase in enumerate(phases)}
    span = int(rows.max()) // stride[0]
    width = size[1] + int(columns.max()) // stride[1]
    room = max(1, min(_POSITIONS, _BUFFER_FLOATS // (channels * len(phases))))
    band = _share(size[0], max(1, room // width - span))
    plane = (band + span) * width
    group = _share(images, max(1, room // plane)) if band == size[0] else 1
    within = np.array(
        [
            (number[r % stride[0], c % stride[1]] * channels * group * plane)
            + (r // stride[0]) * width
            + c // stride[1]
            for r in rows.tolist()
            for c in columns.tolist()
        ],
        dtype=np.int64,
    )
    offsets = (np.arange(channels)[:, None] * (group * plane) + within).reshape(-1)
    places = _places(group, plane, band, width, size[1])
    runs = run_length(places), run_length(offsets)
    geometry = [*stride, *padding, width, span, group, band, *size, *first, *step, *runs]
    return _Plan(
        row_stride,
        weights,
        offsets,
        np.array(phases, dtype=np.int64),
        np.pad(places, (0, -places.size % compiled("conv").PLACES)),
        _cover(group, plane, band, width, size[1]),
        np.array(geometry, dtype=np.int64),
    )


def _places(group: int, plane: int, band: int, width: int, columns: int) -> np.ndarray:
    """Positions of all columns of all rows of all planes."""
    rows = np.arange(group)[:, None, None] * plane + np.arange(band)[:, None] * width
    return (rows + np.arange(columns)).reshape(-1)


def run_length(positions: np.ndarray) -> int:
    """The longest of the lengths that are compiled in whose runs all `positions` are neighbours."""
    for run in (8, 4, 3, 2):
        if compiled("conv").PLACES % run == 0 and positions.size % run == 0:
            runs = positions.reshape(-1, run)
            if (runs == runs[:, :1] + np.arange(run)).all():
                return run
    return 1


def _cover(group: int, plane: int, band: int, width: int, columns: int) -> np.ndarray:
    """Starts of the fewest runs of LANES positions that cover all rows of all planes."""
    lanes = compiled("conv").LANES
    starts: list[int] = []
    end = 0
    for image in range(group):
        for row in range(band):
            first = image * plane + row * width
            starts += range(max(first, end), first + columns, lanes)
            end = max(end, starts[-1] + lanes)
    return np.array(starts, dtype=np.int64)


def _share(total: int, most: int) -> int:
    """The size of equal shares of `total`, none larger than `most`."""
    return -(-total // -(-total // most))
