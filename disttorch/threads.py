"""How many threads compute."""

from __future__ import annotations

import os
from typing import Any

_limits: Any = None


def set_num_threads(n: int) -> None:
    """Let BLAS compute with `n` threads in this process; our own kernels use one."""
    global _limits
    if not isinstance(n, int) or isinstance(n, bool):
        raise TypeError(f"set_num_threads expects an int, but got {type(n).__name__}")
    if n <= 0:
        raise RuntimeError("set_num_threads expects a positive integer")
    import threadpoolctl

    _limits = threadpoolctl.threadpool_limits(n)


def get_num_threads() -> int:
    """Return how many threads BLAS computes with."""
    import threadpoolctl

    counts = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    return max(counts, default=len(os.sched_getaffinity(0)))
