"""Shared memory without names: `memfd_create` segments that travel as file descriptors.

Nothing appears in /dev/shm, so nothing can be stale, collide or be left behind: the kernel frees a
segment when the last process that maps it is gone.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import weakref
from typing import Any

import numpy as np

PAGE = mmap.PAGESIZE
_ADD_SEALS = 1033
_SEAL_SEAL, _SEAL_SHRINK, _SEAL_GROW = 1, 2, 4


def round_up(size: int, to: int) -> int:
    """Return the smallest multiple of `to` that is not below `size`."""
    return -(-size // to) * to


def create(name: str, size: int) -> int:
    """Return the descriptor of a new segment of `size` bytes that can never change its size again.

    No memory is taken yet: each rank takes its own rows' (`Segment.reserve`), near the cores that
    it runs on.
    """
    fd = os.memfd_create(f"disttorch-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, _ADD_SEALS, _SEAL_SHRINK | _SEAL_GROW | _SEAL_SEAL)
    except OSError:
        os.close(fd)
        raise
    return fd


class Segment:
    """A mapped segment: `bytes` is its memory as a uint8 array. Closes the descriptor it was made from."""

    def __init__(self, fd: int, size: int) -> None:
        try:
            if os.fstat(fd).st_size != size:
                raise ValueError(f"expected a segment of {size} bytes, got one of {os.fstat(fd).st_size}")
            self._fd = fd
            self.bytes = _map(fd, size)
        except BaseException:
            os.close(fd)
            raise

    def reserve(self, offset: int, length: int) -> None:
        """Take the memory of a range now: a MemoryError instead of a SIGBUS at a later write."""
        try:
            os.posix_fallocate(self._fd, offset, length)
        except OSError as error:
            raise MemoryError(
                f"no {length} bytes of shared memory for gradients and messages: {error.strerror}"
            ) from None

    def __enter__(self) -> Segment:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the descriptor; the mapping stays until its arrays are gone."""
        os.close(self._fd)


def _map(fd: int, size: int) -> np.ndarray:
    """Map a segment; Python's own `mmap` would keep a descriptor for as long as the mapping lives."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_ssize_t]
    address = libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), f"cannot map {size} bytes of shared memory")
    memory = (ctypes.c_uint8 * size).from_address(address)
    weakref.finalize(memory, _unmap, libc, address, size).atexit = False
    return np.ctypeslib.as_array(memory)


def _unmap(libc: Any, address: int, size: int) -> None:
    libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size))
