"""Copying many small arrays as machine code: each of them costs Python more than its bytes."""

from __future__ import annotations

import numpy as np

from disttorch.backends.numpy._njit import njit
from disttorch.distributed._compiled_reduction import row


@njit(nogil=True, cache=True)
def copy_pieces(targets: np.ndarray, sources: np.ndarray, sizes: np.ndarray, like: np.ndarray) -> None:
    """Copy `sizes[i]` bytes from the address `sources[i]` to `targets[i]`, all int64; like: any array of uint8."""
    for i in range(sizes.size):
        target, source = row(targets[i], sizes[i], like), row(sources[i], sizes[i], like)
        for k in range(sizes[i]):
            target[k] = source[k]
