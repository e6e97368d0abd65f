"""Letting the C library keep the memory of arrays that are freed, for the next ones.

A training step frees and allocates the same sizes over and over. As glibc comes, it gives memory at the top of the heap back
to the system at every step, and the kernel clears the same pages again: a fifth of a step of a small convolutional network.
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's numbers for M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
_TRIM_BYTES = 1 << 30
_MMAP_BYTES = 32 << 20  # the most that glibc accepts; larger arrays are still given back when they are freed
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Let up to 1 GiB of freed memory stay with this process; False where the user has set that or there is no glibc."""
    if any(name in os.environ for name in _SETTINGS):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _MMAP_BYTES)) and bool(mallopt(_TRIM_THRESHOLD, _TRIM_BYTES))
