"""The loop of `pipeline` as machine code, for sums of float32 and float64: without the interpreter and its lock.

It copies two chunks ahead and two behind, half as many as there are buffers, instead of one, so that at a meeting it is enough that the others have come to the
one before: ranks that share a core change places less often, and a rank that is held up for a moment does not stop the others.
Only the first meeting, in which the headers are compared, and the last are for all. It returns to Python when it has to sleep,
or when another rank sleeps and must be woken.
"""

from __future__ import annotations

import numpy as np

from disttorch.backends.numpy._compiled_vectors import wide_vectors
from disttorch.backends.numpy._njit import njit
from disttorch.distributed._compiled_meeting import (
    DIFFERENT,
    DONE,
    LATE,
    MORE,
    SLEEPER,
    announce_next,
    have_come,
    same_headers,
)
from disttorch.distributed._compiled_reduction import sum_in_place

# Where `state` holds the chunk at hand, 0 to begin with, and what comes next: BEGIN, or MEET if the first meeting was announced.
STEP, STAGE, STATE_SIZE = MORE, MORE + 1, MORE + 2
BEGIN, _ANNOUNCE, MEET = 0, 1, 2
_LINE_BYTES = 64


@njit(nogil=True, cache=True)
def _bound(count: int, line: int, r: int, size: int) -> int:
    """The border of slice `r`, as in `transport.slice_bounds`."""
    lines = (count + line - 1) // line
    return min(count, line * (lines * r // size))


@njit(nogil=True, cache=True)
def _borders(tensor: np.ndarray, k: int, r: int, cell: int, size: int) -> tuple[int, int]:
    """Where in the tensor slice `r` of chunk `k` begins and ends."""
    begin = k * cell * size
    length = min(cell * size, tensor.size - begin)
    line = _LINE_BYTES // tensor.itemsize
    return begin + _bound(length, line, r, size), begin + _bound(length, line, r + 1, size)


@njit(nogil=True, cache=True)
def _cell_of(k: int, holder: int, owner: int, offsets: np.ndarray, stride: int, cell: int) -> int:
    """Where in the staging memory `holder` keeps the slice of chunk `k` for `owner`."""
    return holder * stride + offsets[k % offsets.size] + (owner - 1 if owner > holder else owner) * cell


@njit(nogil=True, cache=True)
def _copy_slices(
    tensor: np.ndarray,
    k: int,
    staging: np.ndarray,
    offsets: np.ndarray,
    stride: int,
    cell: int,
    rank: int,
    size: int,
    into_cells: bool,
) -> None:
    """Copy the other ranks' slices of chunk `k` to the own cells, or back."""
    wide_vectors()
    for r in range(size):
        if r == rank:
            continue
        first, last = _borders(tensor, k, r, cell, size)
        length = last - first
        at = _cell_of(k, rank, r, offsets, stride, cell)
        held, piece = staging[at : at + length], tensor[first:last]
        if into_cells:
            for i in range(length):
                held[i] = piece[i]
        else:
            for i in range(length):
                piece[i] = held[i]


@njit(nogil=True, cache=True, error_model="numpy")
def _reduce_slice(
    tensor: np.ndarray,
    k: int,
    staging: np.ndarray,
    offsets: np.ndarray,
    stride: int,
    cell: int,
    rank: int,
    size: int,
    divisor: np.floating,
    scratch: np.ndarray,
) -> None:
    """Sum the own slice of chunk `k` and the cells that the others hold for it, into all of them."""
    wide_vectors()
    first, last = _borders(tensor, k, rank, cell, size)
    own = tensor[first:last]
    rows = np.empty(size, np.int64)
    for r in range(size):
        at = _cell_of(k, r, rank, offsets, stride, cell)
        rows[r] = own.ctypes.data if r == rank else staging.ctypes.data + at * staging.itemsize
    sum_in_place(rows, own.size, divisor, scratch)


@njit(nogil=True, cache=True, error_model="numpy")
def run(
    state: np.ndarray,
    tensor: np.ndarray,
    staging: np.ndarray,
    pages: np.ndarray,
    sleepers: np.ndarray,
    rank: int,
    header_at: int,
    offsets: np.ndarray,
    stride: int,
    cell: int,
    divisor: np.floating,
    scratch: np.ndarray,
) -> int:
    """Go on with the reduction of `tensor` from where `state` says; return DONE, LATE, SLEEPER or DIFFERENT.

    staging: the staging memory of all ranks, `stride` elements each; pages, sleepers, header_at: as in `_compiled_resident`;
    offsets: where in the staging memory the buffers begin; cell: elements of a cell.
    """
    wide_vectors()
    size, ahead = pages.size, offsets.size // 2
    count = (tensor.size + cell * size - 1) // (cell * size)
    if state[STAGE] == BEGIN:
        for k in range(min(ahead, count)):
            _copy_slices(tensor, k, staging, offsets, stride, cell, rank, size, True)
        state[STAGE] = _ANNOUNCE
    while True:
        k = state[STEP]
        if state[STAGE] == _ANNOUNCE:
            state[STAGE] = MEET
            if announce_next(state, pages, sleepers, rank):
                return SLEEPER
        if not have_come(state, pages, rank, ahead - 1 if 0 < k < count else 0):
            return LATE
        if k == 0 and header_at and not same_headers(pages, rank, header_at):
            return DIFFERENT
        state[STEP], state[STAGE] = k + 1, _ANNOUNCE
        if k < count:
            _reduce_slice(tensor, k, staging, offsets, stride, cell, rank, size, divisor, scratch)
        if k >= ahead:
            _copy_slices(tensor, k - ahead, staging, offsets, stride, cell, rank, size, False)
        if k + ahead < count:
            _copy_slices(tensor, k + ahead, staging, offsets, stride, cell, rank, size, True)
        if k == count:
            for left in range(max(0, count - ahead + 1), count):
                _copy_slices(tensor, left, staging, offsets, stride, cell, rank, size, False)
            return DONE
