"""Adding rows at positions that may occur more than once (imports Numba: load lazily)."""

from __future__ import annotations

import numpy as np

from disttorch.backends.numpy._njit import njit


@njit(nogil=True, cache=True)
def add_rows(target: np.ndarray, rows: np.ndarray, values: np.ndarray) -> bool:
    """Add each row of `values` [n, D] to the row of `target` [K, D] that `rows` names; False for one out of range."""
    count = target.shape[0]
    for i in range(rows.size):
        if not -count <= rows[i] < count:
            return False
        row, value = target[rows[i] % count], values[i]
        for j in range(row.size):
            row[j] += value[j]
    return True
