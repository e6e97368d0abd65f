"""How ranks meet (see `phases`) as machine code: without the interpreter and its lock."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from disttorch.backends.numpy._njit import njit
from disttorch.distributed._compiled_reduction import row

# What code that meets others returns when it is done, when it has looked long enough for the others and Python has to
# wait for them, when Python has to wake one that sleeps, and when the ranks are not in the same collective.
DONE, LATE, SLEEPER, DIFFERENT = 0, 1, 2, 3
# Where `state` holds the phase, how often and for how many nanoseconds to look for the others, how far behind the phase they
# may be, and what else the code keeps.
PHASE, SPINS, LIMIT, BEHIND, MORE = 0, 1, 2, 3, 4
_HEADER_WORDS = 8  # of 8 bytes

_sched_yield = types.ExternalFunction("sched_yield", types.int32())
_clock_gettime = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.intp))
_CLOCK_MONOTONIC = 1


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


@intrinsic
def _pause(_typing: Any) -> Any:
    """Tell the processor that this is a loop that waits, so that it leaves the core to its other thread."""

    def generate(_context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        if platform.machine() in ("x86_64", "AMD64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return _context.get_dummy_value()

    return types.none(), generate


@njit(nogil=True, cache=True)
def announce(words: np.ndarray, sleepers: np.ndarray, rank: int, phase: int) -> bool:
    """Say that this rank has come to the meeting `phase`; return whether another one sleeps.

    words, sleepers: the addresses of every rank's phase and of what says that it sleeps, int64.
    """
    _store(words[rank], np.uint32(phase))  # type: ignore[call-arg]
    asleep = 0
    for r in range(words.size):
        if r != rank:
            asleep += _load(sleepers[r])
    return asleep != 0


@njit(nogil=True, cache=True)
def announce_next(state: np.ndarray, words: np.ndarray, sleepers: np.ndarray, rank: int) -> bool:
    """Count the phase up and say that this rank has come to it; return whether another one sleeps."""
    state[PHASE] = (state[PHASE] + 1) & 0xFFFFFFFF
    return announce(words, sleepers, rank, state[PHASE])


@njit(nogil=True, cache=True)
def same_headers(pages: np.ndarray, rank: int, at: int) -> bool:
    """Say whether all ranks have the same header; pages: the addresses of their pages, `at`: where in them it is."""
    mine = row(pages[rank] + at, _HEADER_WORDS, pages)
    for r in range(pages.size):
        other = row(pages[r] + at, _HEADER_WORDS, pages)
        for i in range(_HEADER_WORDS):
            if mine[i] != other[i]:
                return False
    return True


@njit(nogil=True, cache=True)
def _nanoseconds() -> int:
    time = np.empty(2, np.int64)
    _clock_gettime(_CLOCK_MONOTONIC, time.ctypes.data)  # type: ignore[call-overload]
    return time[0] * 1_000_000_000 + time[1]


@njit(nogil=True, cache=True)
def all_have_come(words: np.ndarray, rank: int, phase: int, spins: int, limit: int) -> bool:
    """Say whether every rank has come to the meeting `phase`; look `spins` times for each.

    limit: nanoseconds for which to go on looking, and to give the core to another thread that is ready in between.
    """
    until = np.int64(0)
    for r in range(words.size):
        if r == rank:
            continue
        left = spins
        while ((np.int64(_load(words[r])) - phase) & 0xFFFFFFFF) >= 0x80000000:  # type: ignore[call-arg]
            if left > 0:
                left -= 1
                _pause()
                continue
            if limit <= 0:
                return False
            now = _nanoseconds()
            if until == 0:
                until = now + limit
            if now > until:
                return False
            _sched_yield()
            left = spins
    return True


@njit(nogil=True, cache=True)
def have_come(state: np.ndarray, words: np.ndarray, rank: int, behind: int) -> bool:
    """Say whether every rank has come to the meeting, or to the one that is `behind` before it."""
    state[BEHIND] = behind
    return all_have_come(words, rank, state[PHASE] - behind, state[SPINS], state[LIMIT])
