"""All-reduce of a large tensor through the staging memory of shared segments.

The tensor is cut into chunks and each chunk into one slice per rank. A rank copies the other ranks' slices of its chunk into
cells of its staging memory; each rank then sums its own slice, in its tensor and in the cells that the others hold for it, so
that the result is where they need it; each copies the results out of its own cells. Between two meetings of the ranks
the three are done for one chunk each, the next, the present and the one before (in compiled code, two before and two after the
present), and everything stays in cache.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np

from disttorch.distributed.phases import Phases
from disttorch.distributed.reduction import Reduction
from disttorch.distributed.transport import CACHE_LINE, slice_bounds

_BUFFERS = 4
# How many chunks compiled code copies in before the present one is reduced, and out after it.
_AHEAD = _BUFFERS // 2
# Bytes of a buffer's cells where the loop is compiled: it meets quickly, so it takes no more at a time than stays in the
# cache of a core, of two ranks that share one, too.
_COMPILED_BYTES = 64 * 1024
_SMALLEST_CELL = 4096


@cache
def _compiled() -> Any:
    """The compiled loop, imported at its first use."""
    return import_module("disttorch.distributed._compiled_pipeline")


class Pipeline:
    """Reduces tensors over the ranks of one segment.

    staging: each rank's staging memory, two halves of equal size, uint8 [ranks, bytes]; rank: this one; phases: how it
    meets the others; meet: does so, and at the first time compares what the ranks are about to do; disagree: called if
    compiled code has found that to be different, raises.
    """

    def __init__(
        self,
        staging: np.ndarray,
        rank: int,
        phases: Phases,
        meet: Callable[[], None],
        disagree: Callable[[], None],
    ) -> None:
        self._staging, self._rank, self._phases, self._meet, self._disagree = staging, rank, phases, meet, disagree
        self._size = len(staging)
        self._peers = [r for r in range(self._size) if r != rank]
        self._half = staging.shape[1] // 2
        largest = self._half // 2 // (self._size - 1)
        compiled = min(largest, max(_COMPILED_BYTES // (self._size - 1), _SMALLEST_CELL))
        self._cells = [size // CACHE_LINE * CACHE_LINE for size in (largest, compiled)]
        # In bytes, for the reduction at hand: where the buffers begin, and a cell's size.
        self._offsets, self._cell = [0] * _BUFFERS, 0
        self._operands: dict[tuple[int, str], tuple[Any, ...]] = {}

    def all_reduce(self, flat: np.ndarray, reduction: Reduction, header_at: int) -> None:
        """Reduce `flat` (1-D, contiguous) in place; header_at: where the ranks' headers are, 0 if they were compared."""
        half = (self._phases.phase + 1) & 1  # nobody reads it any more
        if reduction.compilable:
            self._run_compiled(flat, reduction, header_at, half)
            return
        self._offsets, self._cell = self._buffers(half), self._cells[False]
        step = self._cell * self._size // flat.itemsize
        self._run([self._slices(flat[start : start + step]) for start in range(0, flat.size, step)], reduction)

    def _buffers(self, half: int) -> list[int]:
        """Where the buffers begin, first those in `half`."""
        first, second, quarter = half * self._half, (1 - half) * self._half, self._half // 2
        return [first, first + quarter, second, second + quarter]

    def _run(self, chunks: list[list[np.ndarray]], reduction: Reduction) -> None:
        last = len(chunks) - 1
        self._copy_in(0, chunks[0])
        self._meet()
        for k, slices in enumerate(chunks):
            self._reduce(k, slices[self._rank], reduction)
            if k > 0:
                self._copy_out(k - 1, chunks[k - 1])
            if k < last:
                self._copy_in(k + 1, chunks[k + 1])
            self._meet()
        self._copy_out(last, chunks[last])

    def _run_compiled(self, flat: np.ndarray, reduction: Reduction, header_at: int, half: int) -> None:
        key = half, flat.dtype.char
        new = key not in self._operands
        if new:  # the code may take seconds to load or compile, and the others are to know of a difference before
            self._begin(flat, half)
            header_at = 0
            self._operands[key] = self._compiled_operands(flat.dtype, half)
        code, phases = _compiled(), self._phases
        state, staging, *layout = self._operands[key]
        state[code.STEP], state[code.STAGE] = 0, code.MEET if new else code.BEGIN

        def run() -> Any:
            return code.run(
                state, flat, staging, phases.words, phases.sleepers, self._rank, header_at, *layout, reduction.divisor,
                reduction.scratch,
            )  # fmt: skip

        phases.complete(run, state, self._disagree)

    def _begin(self, flat: np.ndarray, half: int) -> None:
        """Do what compiled code does up to the first meeting, and meet."""
        self._offsets, self._cell = self._buffers(half), self._cells[True]
        step = self._cell * self._size // flat.itemsize
        for k in range(_AHEAD):
            self._copy_in(k, self._slices(flat[k * step : (k + 1) * step]))
        self._meet()

    def _compiled_operands(self, dtype: np.dtype, half: int) -> tuple[Any, ...]:
        """A state, the staging memory and its layout in elements, for `dtype` and for the half to begin with."""
        staging = self._staging.reshape(-1).view(dtype)
        offsets = np.array(self._buffers(half), np.int64) // dtype.itemsize
        sizes = self._staging.shape[1] // dtype.itemsize, self._cells[True] // dtype.itemsize
        return np.zeros(_compiled().STATE_SIZE, np.int64), staging, offsets, *sizes

    def _slices(self, chunk: np.ndarray) -> list[np.ndarray]:
        return [chunk[start:stop] for start, stop in pairwise(slice_bounds(chunk.size, chunk.itemsize, self._size))]

    def _cell_of(self, k: int, holder: int, owner: int, like: np.ndarray) -> np.ndarray:
        """Return the memory where `holder` keeps the slice `like` of chunk `k` for `owner`."""
        position = owner - (owner > holder)
        start = self._offsets[k % _BUFFERS] + position * self._cell
        return self._staging[holder][start : start + like.nbytes].view(like.dtype)

    def _copy_in(self, k: int, slices: list[np.ndarray]) -> None:
        for peer in self._peers:
            np.copyto(self._cell_of(k, self._rank, peer, slices[peer]), slices[peer])

    def _reduce(self, k: int, own: np.ndarray, reduction: Reduction) -> None:
        cells = [self._cell_of(k, peer, self._rank, own) for peer in self._peers]
        rows = [*cells[: self._rank], own, *cells[self._rank :]]
        reduction.into([own, *cells], rows)

    def _copy_out(self, k: int, slices: list[np.ndarray]) -> None:
        for peer in self._peers:
            np.copyto(slices[peer], self._cell_of(k, self._rank, peer, slices[peer]))
