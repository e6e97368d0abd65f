"""Sums over ranks as machine code: one pass over memory, without the interpreter's lock.

The loops follow the tree of `reduction`, element by element, so they give its bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic


@intrinsic
def _as_pointer(_typing: Any, _address: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


@njit(nogil=True, cache=True)
def row(address: int, count: int, like: np.ndarray) -> np.ndarray:
    """Return the array of `count` elements at an address, of the type of `like`."""
    return carray(_as_pointer(address), count, like.dtype)  # type: ignore[call-arg]


@njit(nogil=True, cache=True, error_model="numpy")
def pair_in_place(first: np.ndarray, second: np.ndarray, factor: np.floating) -> None:
    """Put `(first + second) * factor` into both."""
    for i in range(first.size):
        total = (first[i] + second[i]) * factor
        first[i] = total
        second[i] = total


@njit(nogil=True, cache=True, error_model="numpy")
def tree(rows: np.ndarray, outputs: np.ndarray, count: int, divisor: np.floating, scratch: np.ndarray) -> None:
    """Sum `count` elements of at least two rows, divide by `divisor`, write the result to every output.

    rows, outputs: addresses, int64; they may be the same. scratch: (half the rows, elements of one block).
    """
    width = (rows.size + 1) // 2
    total = scratch[0]
    for begin in range(0, count, scratch.shape[1]):
        length = min(scratch.shape[1], count - begin)
        skip = begin * scratch.itemsize
        for j in range(rows.size // 2):
            first = row(rows[2 * j] + skip, length, scratch)
            second = row(rows[2 * j + 1] + skip, length, scratch)
            into = scratch[j]
            for i in range(length):
                into[i] = first[i] + second[i]
        if rows.size % 2:
            last = row(rows[rows.size - 1] + skip, length, scratch)
            into = scratch[width - 1]
            for i in range(length):
                into[i] = last[i]
        distance = 1
        while distance < width:
            for j in range(0, width - distance, 2 * distance):
                left, right = scratch[j], scratch[j + distance]
                for i in range(length):
                    left[i] += right[i]
            distance *= 2
        if divisor != 1:
            for i in range(length):
                total[i] /= divisor
        for k in range(outputs.size):
            out = row(outputs[k] + skip, length, scratch)
            for i in range(length):
                out[i] = total[i]
