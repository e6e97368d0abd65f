"""The sum of a bucket in shared memory as machine code, for float32 and float64.

It is one call from the first meeting to the second where all ranks are in time: between two long computations the
interpreter's own data are not in the cache any more, and the same few steps in Python take several times as long as in a loop.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from disttorch.backends.numpy._compiled_vectors import wide_vectors
from disttorch.distributed._compiled_meeting import DONE, LATE, SLEEPER, all_have_come, announce
from disttorch.distributed._compiled_reduction import row, sum_in_place

DIFFERENT = 3  # what is returned when the ranks are not in the same collective
# Where `state` holds what: how far this rank is, the phase, how often and for how many nanoseconds to look
# for the others.
STAGE, PHASE, SPINS, LIMIT = 0, 1, 2, 3
BEGIN, _MEET, _END, LAST = 0, 1, 2, 3
_HEADER_WORDS = 8  # of 8 bytes


@njit(nogil=True, cache=True)
def _same_headers(pages: np.ndarray, rank: int, at: int) -> bool:
    mine = row(pages[rank] + at, _HEADER_WORDS, pages)
    for r in range(pages.size):
        other = row(pages[r] + at, _HEADER_WORDS, pages)
        for i in range(_HEADER_WORDS):
            if mine[i] != other[i]:
                return False
    return True


@njit(nogil=True, cache=True)
def _announce_next(state: np.ndarray, pages: np.ndarray, sleepers: np.ndarray, rank: int, stage: int) -> bool:
    state[PHASE] = (state[PHASE] + 1) & 0xFFFFFFFF
    state[STAGE] = stage
    return announce(pages, sleepers, rank, state[PHASE])


@njit(nogil=True, cache=True, error_model="numpy")
def run(
    state: np.ndarray,
    pages: np.ndarray,
    sleepers: np.ndarray,
    rank: int,
    header_at: int,
    rows: np.ndarray,
    count: int,
    divisor: np.floating,
    scratch: np.ndarray,
) -> int:
    """Meet all ranks, sum this rank's slice of all rows into all of them, and meet again, going on from where `state` says.

    pages, sleepers: addresses of the ranks' pages, which begin with their phases, and of what says that they sleep;
    header_at: where in the pages the headers are that must be equal, 0 if they are known to be; rows: the addresses of the
    slice, `count` elements. Returns DONE, LATE, SLEEPER or DIFFERENT.
    """
    wide_vectors()
    if state[STAGE] == BEGIN and _announce_next(state, pages, sleepers, rank, _MEET):
        return SLEEPER
    if state[STAGE] == _MEET:
        if not all_have_come(pages, rank, state[PHASE], state[SPINS], state[LIMIT]):
            return LATE
        if header_at and not _same_headers(pages, rank, header_at):
            return DIFFERENT
        sum_in_place(rows, count, divisor, scratch)
        state[STAGE] = _END
    if state[STAGE] == _END and _announce_next(state, pages, sleepers, rank, LAST):
        return SLEEPER
    return DONE if all_have_come(pages, rank, state[PHASE], state[SPINS], state[LIMIT]) else LATE
