"""Waiting for a word of shared memory to change (Linux futex), with the GIL released."""

from __future__ import annotations

import ctypes
import platform
import sys
import threading

_SYSCALL_NUMBER = {
    "x86_64": 202,
    "aarch64": 98,
    "riscv64": 98,
    "loongarch64": 98,
    "ppc64le": 221,
    "s390x": 238,
}
_FUTEX_WAIT = 0
_FUTEX_WAKE = 1
_EVERYBODY = 0x7FFFFFFF


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


# A waiter looks up at least this often, so that a peer's failure is noticed even if nobody wakes
# it.
SLICE_SECONDS = 0.05
_SLICE = ctypes.byref(_Timespec(0, int(SLICE_SECONDS * 1e9)))

_machine = platform.machine()
_number = _SYSCALL_NUMBER.get(_machine)
_syscall = ctypes.CDLL(None).syscall if sys.platform == "linux" else None
_zero = ctypes.c_void_p(None)


def available() -> bool:
    """Say whether this platform has a futex that we know the system call number of."""
    return _number is not None and _syscall is not None


def wait(address: int, value: int) -> None:
    """Sleep while the 32-bit word at `address` is `value`, at most `SLICE_SECONDS`; may return early."""
    assert _syscall is not None
    _syscall(_number, ctypes.c_void_p(address), _FUTEX_WAIT, ctypes.c_uint32(value), _SLICE, _zero, 0)


def wake(address: int) -> None:
    """Wake everybody who waits on the word at `address`."""
    assert _syscall is not None
    _syscall(_number, ctypes.c_void_p(address), _FUTEX_WAKE, _EVERYBODY, _zero, _zero, 0)


_lock = threading.Lock()
_strong_memory_order = _machine in ("x86_64", "AMD64")


def fence() -> None:
    """Keep memory accesses before this call before those after it, on processors that would reorder them.

    x86 keeps stores in order and loads in order, which is all that a published flag needs;
    elsewhere taking and releasing a lock is the fence that plain Python has.
    """
    if not _strong_memory_order:
        with _lock:
            pass
