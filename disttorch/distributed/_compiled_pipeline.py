"""The loop of `pipeline` as machine code, for sums of float32 and float64: without the interpreter and its lock.

It runs from meeting to meeting as long as the other ranks are in time, and returns to Python when it has to sleep, or when
another rank sleeps and must be woken.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from disttorch.distributed._compiled_reduction import tree

DONE, LATE, SLEEPER = 0, 1, 2
# Where `state` holds what: the step, whether its meeting has been announced, the phase, how many spins a rank may look.
STEP, STAGE, PHASE, SPINS = 0, 1, 2, 3
ANNOUNCE, MEET, WORK = 0, 1, 2
_LINE_BYTES = 64


@intrinsic
def _load(_typing: Any, _address: Any) -> Any:
    """Read a 32-bit word that another process writes; nothing after it is read before it."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.IntType(32).as_pointer())
        return builder.load_atomic(pointer, "seq_cst", 4)

    return types.uint32(types.int64), generate


@intrinsic
def _store(_typing: Any, _address: Any, _value: Any) -> Any:
    """Write a 32-bit word that other processes read; everything before it is written before it, nothing after is read."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.IntType(32).as_pointer())
        builder.store_atomic(args[1], pointer, "seq_cst", 4)
        return _context.get_dummy_value()

    return types.none(types.int64, types.uint32), generate


@njit(nogil=True, cache=True)
def _bound(count: int, line: int, r: int, size: int) -> int:
    """The border of slice `r`, as in `transport.slice_bounds`."""
    lines = (count + line - 1) // line
    return min(count, line * (lines * r // size))


@njit(nogil=True, cache=True)
def _announce(words: np.ndarray, sleepers: np.ndarray, rank: int, phase: int) -> bool:
    """Say that this rank has come to the meeting `phase`; return whether another one sleeps."""
    _store(words[rank], np.uint32(phase))  # type: ignore[call-arg]
    asleep = 0
    for r in range(words.size):
        if r != rank:
            asleep += _load(sleepers[r])
    return asleep != 0


@njit(nogil=True, cache=True)
def _all_have_come(words: np.ndarray, rank: int, phase: int, spins: int) -> bool:
    for r in range(words.size):
        if r == rank:
            continue
        left = spins
        while ((np.int64(_load(words[r])) - phase) & 0xFFFFFFFF) >= 0x80000000:  # type: ignore[call-arg]
            if left <= 0:
                return False
            left -= 1
    return True


@njit(nogil=True, cache=True)
def _copy(source: np.ndarray, target: np.ndarray) -> None:
    for i in range(source.size):
        target[i] = source[i]


@njit(nogil=True, cache=True, error_model="numpy")
def _reduce(
    own: np.ndarray,
    staging: np.ndarray,
    cells: np.ndarray,
    rank: int,
    divisor: np.floating,
    factor: np.floating,
    scratch: np.ndarray,
) -> None:
    """Sum the own slice and the cells that the others hold for it, into all of them; cells: where they begin.

    factor: 1 / divisor, which is exact for two ranks.
    """
    if cells.size == 1:
        cell = staging[cells[0] : cells[0] + own.size]
        for i in range(own.size):
            total = (own[i] + cell[i]) * factor
            own[i] = total
            cell[i] = total
        return
    rows = np.empty(cells.size + 1, np.int64)
    for i in range(cells.size):
        rows[i if i < rank else i + 1] = staging.ctypes.data + cells[i] * staging.itemsize
    rows[rank] = own.ctypes.data
    tree(rows, rows, own.size, divisor, scratch)


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
    factor: np.floating,
    scratch: np.ndarray,
) -> int:
    """Go on with the reduction of `tensor` from where `state` says; return DONE, LATE or SLEEPER.

    staging: the staging memory of all ranks, `stride` elements each; offsets: where in it the four buffers begin;
    cell: elements of a cell; words, sleepers: addresses of the ranks' phases and of what says that they sleep.
    """
    size = words.size
    line = _LINE_BYTES // tensor.itemsize
    step = cell * size
    count = (tensor.size + step - 1) // step
    cells = np.empty(size - 1, np.int64)
    while True:
        k = state[STEP]
        if state[STAGE] == ANNOUNCE:
            state[PHASE] = (state[PHASE] + 1) & 0xFFFFFFFF
            state[STAGE] = MEET
            if _announce(words, sleepers, rank, state[PHASE]):
                return SLEEPER
        if state[STAGE] == MEET and not _all_have_come(words, rank, state[PHASE], state[SPINS]):
            return LATE
        state[STAGE] = ANNOUNCE
        state[STEP] = k + 1
        for what in range(3):  # reduce this chunk, copy the last one out, copy the next one in
            j = k + (0, -1, 1)[what]
            if j < 0 or j >= count:
                continue
            begin = j * step
            length = min(step, tensor.size - begin)
            at = offsets[j % offsets.size]
            own = _bound(length, line, rank, size), _bound(length, line, rank + 1, size)
            for r in range(size):
                if r == rank:
                    continue
                if what == 0:
                    cells[r if r < rank else r - 1] = r * stride + at + (rank - 1 if rank > r else rank) * cell
                    continue
                first, last = _bound(length, line, r, size), _bound(length, line, r + 1, size)
                start = rank * stride + at + (r - 1 if r > rank else r) * cell
                held = staging[start : start + last - first]
                piece = tensor[begin + first : begin + last]
                if what == 1:
                    _copy(held, piece)
                else:
                    _copy(piece, held)
            if what == 0:
                _reduce(tensor[begin + own[0] : begin + own[1]], staging, cells, rank, divisor, factor, scratch)
        if k == count:
            return DONE
