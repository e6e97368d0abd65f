"""Shared memory without names: `memfd_create` segments that travel as file descriptors.

Nothing appears in /dev/shm, so nothing can be stale, collide or be left behind: the kernel frees a
segment when the last process that maps it is gone.
"""

from __future__ import annotations

import fcntl
import mmap
import os

import numpy as np

PAGE = mmap.PAGESIZE
CACHE_LINE = 64
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
            self._map = mmap.mmap(fd, size, mmap.MAP_SHARED)
            self._fd = fd
        except BaseException:
            os.close(fd)
            raise
        self.bytes = np.frombuffer(self._map, np.uint8)

    def reserve(self, offset: int, length: int) -> None:
        """Take the memory of a range now: a MemoryError instead of a SIGBUS at a later write."""
        try:
            os.posix_fallocate(self._fd, offset, length)
        except OSError as error:
            raise MemoryError(
                f"no {length} bytes of shared memory for gradients and messages: {error.strerror}"
            ) from None

    def seal(self) -> None:
        """Close the descriptor; the mapping stays until its arrays are gone."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def address(self) -> int:
        """The address of the first byte in this process."""
        return int(self.bytes.ctypes.data)
