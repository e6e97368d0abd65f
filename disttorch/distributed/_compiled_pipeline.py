"""The loop of `pipeline` as machine code, for sums of float32 and float64: without the interpreter and its lock.

It copies two chunks ahead and two behind instead of one, so that at a meeting it is enough that the others have come to the
one before: ranks that share a core change places less often, and a rank that is held up for a moment does not stop the others.
It returns to Python when it has to sleep, or when another rank sleeps and must be woken.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from disttorch.backends.numpy._compiled_vectors import wide_vectors
from disttorch.distributed._compiled_meeting import DONE, LATE, SLEEPER, all_have_come, announce
from disttorch.distributed._compiled_reduction import sum_in_place

# Where `state` holds what: the step, whether its meeting has been announced, the phase, how often and
# for how many nanoseconds to look for the others.
STEP, STAGE, PHASE, SPINS, LIMIT = 0, 1, 2, 3, 4
ANNOUNCE, MEET, WORK = 0, 1, 2
AHEAD = 2  # chunks that are copied into cells before the present one is reduced
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
    words: np.ndarray,
    sleepers: np.ndarray,
    rank: int,
    offsets: np.ndarray,
    stride: int,
    cell: int,
    divisor: np.floating,
    scratch: np.ndarray,
) -> int:
    """Go on with the reduction of `tensor` from where `state` says; return DONE, LATE or SLEEPER.

    staging: the staging memory of all ranks, `stride` elements each; offsets: where in it the four buffers begin;
    cell: elements of a cell; words, sleepers: addresses of the ranks' phases and of what says that they sleep.
    """
    wide_vectors()
    size = words.size
    count = (tensor.size + cell * size - 1) // (cell * size)
    while True:
        k = state[STEP]
        if state[STAGE] == ANNOUNCE:
            state[PHASE] = (state[PHASE] + 1) & 0xFFFFFFFF
            state[STAGE] = MEET
            if announce(words, sleepers, rank, state[PHASE]):
                return SLEEPER
        come_to = state[PHASE] - 1 if k < count else state[PHASE]
        if state[STAGE] == MEET and not all_have_come(words, rank, come_to, state[SPINS], state[LIMIT]):
            return LATE
        state[STAGE] = ANNOUNCE
        state[STEP] = k + 1
        if k < count:
            _reduce_slice(tensor, k, staging, offsets, stride, cell, rank, size, divisor, scratch)
        if k >= AHEAD:
            _copy_slices(tensor, k - AHEAD, staging, offsets, stride, cell, rank, size, False)
        if k + AHEAD < count:
            _copy_slices(tensor, k + AHEAD, staging, offsets, stride, cell, rank, size, True)
        if k == count:
            _copy_slices(tensor, k - 1, staging, offsets, stride, cell, rank, size, False)
            return DONE
