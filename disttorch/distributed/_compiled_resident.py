"""The sum of a bucket in shared memory as machine code, for float32 and float64.

It is one call from the first meeting to the second where all ranks are in time: between two long computations the
interpreter's own data are not in the cache any more, and the same few steps in Python take several times as long as in a loop.
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

STAGE, STATE_SIZE = MORE, MORE + 1  # where `state` holds how far this rank is
BEGIN, _MEET, _END, LAST = 0, 1, 2, 3


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
    if state[STAGE] == BEGIN:
        state[STAGE] = _MEET
        if announce_next(state, pages, sleepers, rank):
            return SLEEPER
    if state[STAGE] == _MEET:
        if not have_come(state, pages, rank, 0):
            return LATE
        if header_at and not same_headers(pages, rank, header_at):
            return DIFFERENT
        sum_in_place(rows, count, divisor, scratch)
        state[STAGE] = _END
    if state[STAGE] == _END:
        state[STAGE] = LAST
        if announce_next(state, pages, sleepers, rank):
            return SLEEPER
    return DONE if have_come(state, pages, rank, 0) else LATE
