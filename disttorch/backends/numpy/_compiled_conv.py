"""Direct 2-D convolution of float32 in registers (imports Numba: load lazily).

A few images are copied once into a cache-resident buffer of zero-padded planes, laid out flat, so
that every kernel position ("tap") reads the same run of positions at another offset:

    output[o, p] = bias[o] + sum over taps t of weight[o, t] * buffer[p + offset[t]]

A tap is one (input channel, kernel row, kernel column). With stride s the buffer holds the s * s
phases of the input one after the other, so that strided and dilated convolutions differ in `offset`
only, and so does the gradient of the input. The gradient of the weight is the same product summed
over p instead of t.

A tile of the result stays in registers over the whole sum (`_compiled_tiles.py`). There are two
kinds of tile, and the cheaper one is taken:

* lanes are channels: one vector of LANES channels at PLACES positions each. Nothing is computed in
  vain when the channels are a multiple of LANES; results are transposed on the way out. There is one
  for each length of the runs of neighbours in which the positions come.
* lanes are positions: ROWS channels by COLUMNS vectors of LANES positions each, for few channels.
  Positions between two rows of the image are computed too and left out.
"""

from __future__ import annotations

import numpy as np

from disttorch.backends.numpy._compiled_tiles import (
    COLUMNS,
    LANES,
    PLACES,
    ROWS,
    eights,
    few_positions,
    fours,
    gradient_tile,
    many_positions,
    move_4,
    move_many,
    pairs,
    single_places,
    transpose_tile,
    triples,
)
from disttorch.backends.numpy._njit import njit

# What transposing one value costs, in multiply-adds of a lane.
_TRANSPOSE_COST = 10


@njit(nogil=True)
def _copy(source: np.ndarray, source_at: int, target: np.ndarray, target_at: int, count: int) -> None:
    """Copy a short run of floats; the last vector may overlap the one before."""
    if count >= LANES:
        last = count - LANES
        for k in range(0, last, LANES):
            move_many(source, source_at + k, target, target_at + k)
        move_many(source, source_at + last, target, target_at + last)
    elif count >= 4:
        for k in range(0, count - 4, 4):
            move_4(source, source_at + k, target, target_at + k)
        move_4(source, source_at + count - 4, target, target_at + count - 4)
    else:
        for k in range(count):
            target[target_at + k] = source[source_at + k]


@njit(nogil=True)
def _round_up(value: int, multiple: int) -> int:
    return (value + multiple - 1) // multiple * multiple


@njit(nogil=True)
def _before(starts: np.ndarray, end: int) -> int:
    """How many of the ascending `starts` are below `end`."""
    count = starts.size
    while count > 0 and starts[count - 1] >= end:
        count -= 1
    return count


@njit(nogil=True)
def _pack(
    source: np.ndarray,
    image: int,
    images: int,
    first_row: int,
    rows: int,
    phases: np.ndarray,
    geometry: np.ndarray,
    buffer: np.ndarray,
) -> None:
    """Copy some rows of some images, split into phases, into `buffer`; rows outside of the image are zero.

    The columns that pad a row are not written: they are zero from the beginning.
    """
    row_step, column_step, row_pad, column_pad = geometry[0], geometry[1], geometry[2], geometry[3]
    width, span, group, band = geometry[4], geometry[5], geometry[6], geometry[7]
    _, channels, height, columns = source.shape
    flat = source.reshape(-1)
    for phase in range(phases.shape[0]):
        shift = phases[phase, 1] - column_pad
        low = max(0, -(shift // column_step))
        high = max(low, min(width, (columns - 1 - shift) // column_step + 1))
        for c in range(channels):
            for n in range(images):
                plane = ((phase * channels + c) * group + n) * (band + span)
                line = ((image + n) * channels + c) * height
                for r in range(rows):
                    at = (plane + r) * width
                    row = (first_row + r) * row_step + phases[phase, 0] - row_pad
                    if row < 0 or row >= height:
                        for j in range(low, high):
                            buffer[at + j] = 0
                        continue
                    start = (line + row) * columns + shift
                    if column_step == 1:
                        _copy(flat, start + low, buffer, at + low, high - low)
                    else:
                        for j in range(low, high):
                            buffer[at + j] = flat[start + j * column_step]


@njit(nogil=True)
def _pack_weight(weight: np.ndarray, row_stride: int, sources: np.ndarray, channels: int, block: int) -> np.ndarray:
    """Weights in the order in which tiles read them: [blocks of channels, taps, `block`]."""
    taps = sources.size
    packed = np.zeros(_round_up(channels, block) * taps, dtype=weight.dtype)
    for o in range(channels):
        at = o // block * taps * block + o % block
        for t in range(taps):
            packed[at + t * block] = weight[o * row_stride + sources[t]]
    return packed


@njit(nogil=True)
def _unpack(
    out: np.ndarray,
    start: int,
    pitch: int,
    step: int,
    rows: int,
    columns: int,
    target: np.ndarray,
    to: int,
    to_pitch: int,
    to_step: int,
) -> None:
    """Copy `rows` by `columns` values from `pitch` and `step` apart to `to_...` apart."""
    if step == LANES and to_step == 1 and pitch == columns * LANES and to_pitch == columns:
        rows, columns = 1, rows * columns
    for r in range(rows):
        at, line = start + r * pitch, to + r * to_pitch
        if to_step > 1:
            for j in range(columns):
                target[line + j * to_step] = out[at + j * step]
        elif step == 1:
            _copy(out, at, target, line, columns)
        else:
            for j in range(columns):
                target[line + j] = out[at + j * LANES]


@njit(nogil=True)
def _transpose(
    source: np.ndarray,
    source_at: int,
    source_step: int,
    target: np.ndarray,
    target_at: int,
    target_step: int,
    count: int,
    to_rows: bool,
) -> None:
    """Transpose LANES channels at `count` >= LANES positions, to rows of positions or of channels.

    The last tile may overlap the one before.
    """
    last = count - LANES
    for p in range(0, last + LANES, LANES):
        k = min(p, last)
        x = source_at + (k * LANES if to_rows else k)
        y = target_at + (k if to_rows else k * LANES)
        transpose_tile(source, x, source_step, target, y, target_step)


@njit(nogil=True)
def _by_channels(
    buffer: np.ndarray,
    places: np.ndarray,
    run: int,
    count: int,
    offsets: np.ndarray,
    terms: int,
    weight: np.ndarray,
    w_at: int,
    start: np.ndarray,
    s_at: int,
    s_step: int,
    out: np.ndarray,
    out_at: int,
) -> None:
    """One block of LANES channels at the first `count` places, in runs of `run`: `out` [places, LANES]."""
    for p in range(0, count, PLACES):
        s, to = s_at + p * s_step, out_at + p * LANES
        if run == 8:
            eights(buffer, places, p, offsets, terms, weight, w_at, start, s, s_step, out, to)
        elif run == 4:
            fours(buffer, places, p, offsets, terms, weight, w_at, start, s, s_step, out, to)
        elif run == 3:
            triples(buffer, places, p, offsets, terms, weight, w_at, start, s, s_step, out, to)
        elif run == 2:
            pairs(buffer, places, p, offsets, terms, weight, w_at, start, s, s_step, out, to)
        else:
            single_places(buffer, places, p, offsets, terms, weight, w_at, start, s, s_step, out, to)


@njit(nogil=True)
def _by_positions(
    buffer: np.ndarray,
    starts: np.ndarray,
    count: int,
    offsets: np.ndarray,
    weight: np.ndarray,
    w_at: int,
    bias: np.ndarray,
    b_at: int,
    out: np.ndarray,
    out_step: int,
) -> None:
    """One block of ROWS channels at `count` runs of positions: `out` [ROWS, positions]."""
    whole = count // COLUMNS * COLUMNS
    for v in range(0, whole, COLUMNS):
        many_positions(buffer, starts, v, offsets, weight, w_at, bias, b_at, out, out_step)
    for v in range(whole, count):
        few_positions(buffer, starts, v, offsets, weight, w_at, bias, b_at, out, out_step)


@njit(nogil=True)
def _unpack_block(
    out: np.ndarray,
    by_channels: bool,
    length: int,
    image: int,
    images: int,
    first_row: int,
    rows: int,
    channel: int,
    geometry: np.ndarray,
    target: np.ndarray,
) -> None:
    """Copy one block of channels from `out` to `target`: some rows of some images."""
    width, plane = geometry[4], (geometry[7] + geometry[5]) * geometry[4]
    out_w, row_step, column_step = geometry[9], geometry[12], geometry[13]
    _, channels, height, columns = target.shape
    flat, inside = target.reshape(-1), rows * out_w
    left = min(LANES if by_channels else ROWS, channels - channel)
    dense = out_w == columns and row_step == column_step == 1
    if by_channels and left == LANES and dense and inside >= LANES:
        for n in range(images):
            start, line = n * inside * LANES, ((image + n) * channels + channel) * height
            to = (line + first_row) * columns
            _transpose(out, start, LANES, flat, to, height * columns, inside, True)
        return
    pitch, step = (out_w * LANES, LANES) if by_channels else (width, 1)
    for o in range(left):
        for n in range(images):
            start = n * inside * LANES + o if by_channels else o * length + n * plane
            line = ((image + n) * channels + channel + o) * height
            to = (line + first_row * row_step + geometry[10]) * columns + geometry[11]
            to_pitch = row_step * columns
            _unpack(out, start, pitch, step, rows, out_w, flat, to, to_pitch, column_step)


@njit(nogil=True, cache=True)
def convolve(
    source: np.ndarray,
    weight: np.ndarray,
    row_stride: int,
    sources: np.ndarray,
    offsets: np.ndarray,
    bias: np.ndarray,
    phases: np.ndarray,
    places: np.ndarray,
    starts: np.ndarray,
    geometry: np.ndarray,
    target: np.ndarray,
) -> None:
    """Convolve `source` [N, C, H, W] into `target` [N, O, H, W], or some rows and columns of it.

    Tap t of channel o has the weight `weight[o * row_stride + sources[t]]` and reads the packed
    planes at `offsets[t]`; `bias` may be empty. See `_Plan` in conv.py for the rest.
    """
    width, span, group, band = geometry[4], geometry[5], geometry[6], geometry[7]
    out_h, out_w = geometry[8], geometry[9]
    images, channels, _, _ = target.shape
    plane = (band + span) * width
    length = group * plane + LANES
    taps = sources.size
    channel_cost = _round_up(channels, LANES) * places.size * (taps + _TRANSPOSE_COST)
    by_channels = channel_cost <= _round_up(channels, ROWS) * starts.size * LANES * taps
    block = LANES if by_channels else ROWS
    packed = _pack_weight(weight, row_stride, sources, channels, block)
    biases = np.zeros(_round_up(channels, block), dtype=weight.dtype)
    for o in range(bias.size):
        biases[o] = bias[o]
    buffer = np.zeros(phases.shape[0] * source.shape[1] * group * plane + LANES, weight.dtype)
    out = np.empty(places.size * LANES if by_channels else ROWS * length, dtype=weight.dtype)
    for n0 in range(0, images, group):
        count = min(group, images - n0)
        for r0 in range(0, out_h, band):
            rows = min(band, out_h - r0)
            _pack(source, n0, count, r0, rows + span, phases, geometry, buffer)
            runs = _before(starts, (count - 1) * plane + (rows - 1) * width + out_w)
            for o0 in range(0, channels, block):
                at = o0 * taps
                if by_channels:
                    _by_channels(
                        buffer, places, geometry[14], count * rows * out_w, offsets, taps,
                        packed, at, biases, o0, 0, out, 0,
                    )  # fmt: skip
                else:
                    _by_positions(buffer, starts, runs, offsets, packed, at, biases, o0, out, length)
                _unpack_block(out, by_channels, length, n0, count, r0, rows, o0, geometry, target)


@njit(nogil=True)
def _pack_gradient(
    g: np.ndarray,
    image: int,
    images: int,
    first_row: int,
    rows: int,
    block: int,
    out: np.ndarray,
    strides: tuple[int, int, int, int, int],
) -> None:
    """Copy some rows of `g` [N, O, H, W] to `out`.

    `strides` are those of the channel block, the channel within it, the image, the row and the
    column.
    """
    _, channels, height, width = g.shape
    flat = g.reshape(-1)
    whole = 0
    if block == LANES and rows * width >= LANES:
        whole = channels // LANES * LANES
    for o in range(0, whole, LANES):
        for n in range(images):
            at = o // block * strides[0] + n * strides[2]
            line = ((image + n) * channels + o) * height + first_row
            plane = height * width
            _transpose(flat, line * width, plane, out, at, LANES, rows * width, False)
    for o in range(whole, channels):
        for n in range(images):
            at = o // block * strides[0] + o % block * strides[1] + n * strides[2]
            line = (((image + n) * channels + o) * height + first_row) * width
            for r in range(rows):
                if strides[4] == 1:
                    _copy(flat, line + r * width, out, at + r * strides[3], width)
                else:
                    for j in range(width):
                        out[at + r * strides[3] + j * LANES] = flat[line + r * width + j]


@njit(nogil=True, cache=True)
def weight_gradient(
    g: np.ndarray,
    source: np.ndarray,
    offsets: np.ndarray,
    phases: np.ndarray,
    places: np.ndarray,
    starts: np.ndarray,
    geometry: np.ndarray,
    target: np.ndarray,
) -> None:
    """Fill `target` [O * taps] with the weight's gradient for `g` [N, O, H, W], the output's."""
    width, span, group, band = geometry[4], geometry[5], geometry[6], geometry[7]
    images, channels, out_h, out_w = g.shape
    taps, plane = offsets.size, (band + span) * width
    channel_cost = _round_up(channels, LANES) * (_round_up(taps, PLACES) + _TRANSPOSE_COST)
    channel_cost *= group * band * out_w
    position_cost = _round_up(channels, ROWS) * _round_up(taps, COLUMNS) * starts.size * LANES
    by_channels = channel_cost <= position_cost
    block = LANES if by_channels else ROWS
    across = _round_up(taps, PLACES if by_channels else COLUMNS)
    length = group * band * out_w if by_channels else group * plane + LANES
    buffer = np.zeros(phases.shape[0] * source.shape[1] * group * plane + LANES, g.dtype)
    gradient = np.zeros(_round_up(channels, block) * length, g.dtype)
    sums = np.zeros(_round_up(channels, block) * across, g.dtype)
    reads = np.zeros(across, np.int64)
    for t in range(taps):
        reads[t] = offsets[t]
    for n0 in range(0, images, group):
        count = min(group, images - n0)
        for r0 in range(0, out_h, band):
            rows = min(band, out_h - r0)
            _pack(source, n0, count, r0, rows + span, phases, geometry, buffer)
            if by_channels:
                strides = (length * LANES, 1, rows * out_w * LANES, out_w * LANES, LANES)
            else:
                strides = (length * ROWS, length, plane, width, 1)
                if rows < band or count < group:
                    for j in range(gradient.size):
                        gradient[j] = 0
            _pack_gradient(g, n0, count, r0, rows, block, gradient, strides)
            runs = _before(starts, (count - 1) * plane + (rows - 1) * width + out_w)
            for o0 in range(0, channels, block):
                at = o0 * across
                if by_channels:
                    _by_channels(
                        buffer, reads, geometry[15], across, places, count * rows * out_w,
                        gradient, o0 * length, sums, at, LANES, sums, at,
                    )  # fmt: skip
                else:
                    for t in range(0, across, COLUMNS):
                        gradient_tile(
                            gradient, o0 * length, length, buffer, reads, t,
                            starts, runs, sums, at + t, across,
                        )  # fmt: skip
    for o in range(channels):
        for t in range(taps):
            at = t * LANES + o % LANES if by_channels else o % ROWS * across + t
            target[o * taps + t] = sums[o // block * block * across + at]
