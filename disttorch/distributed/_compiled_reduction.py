"""Sums over ranks as machine code: one pass over memory, without the interpreter's lock.

The loops follow the tree of `reduction`, element by element, so they give its bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from disttorch.backends.numpy._compiled_vectors import wide_vectors
from disttorch.backends.numpy._njit import njit


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
def _two_in_place(rows: np.ndarray, count: int, factor: np.floating, like: np.ndarray) -> None:
    wide_vectors()
    a, b = row(rows[0], count, like), row(rows[1], count, like)
    for i in range(count):
        total = (a[i] + b[i]) * factor
        a[i] = total
        b[i] = total


@njit(nogil=True, cache=True, error_model="numpy")
def _four_in_place(rows: np.ndarray, count: int, factor: np.floating, like: np.ndarray) -> None:
    wide_vectors()
    a, b = row(rows[0], count, like), row(rows[1], count, like)
    c, d = row(rows[2], count, like), row(rows[3], count, like)
    for i in range(count):
        total = ((a[i] + b[i]) + (c[i] + d[i])) * factor
        a[i] = total
        b[i] = total
        c[i] = total
        d[i] = total


@njit(nogil=True, cache=True, error_model="numpy")
def sum_in_place(rows: np.ndarray, count: int, divisor: np.floating, scratch: np.ndarray) -> None:
    """Sum `count` elements of at least two rows, divide by `divisor`, write the result to all of them; see `tree`.

    divisor: 1 or the number of rows. Two and four rows, the most common numbers, are summed in one pass; as their divisor is
    a power of two, a product with its reciprocal gives the same bits.
    """
    wide_vectors()
    factor = divisor / (divisor * divisor)  # stays in the divisor's type, which 1 / divisor does not
    if rows.size == 2:
        _two_in_place(rows, count, factor, scratch)
    elif rows.size == 4:
        _four_in_place(rows, count, factor, scratch)
    else:
        tree(rows, rows, count, divisor, scratch)


@njit(nogil=True, cache=True, error_model="numpy")
def tree(rows: np.ndarray, outputs: np.ndarray, count: int, divisor: np.floating, scratch: np.ndarray) -> None:
    """Sum `count` elements of at least two rows, divide by `divisor`, write the result to every output.

    rows, outputs: addresses, int64; they may be the same. scratch: (half the rows, elements of one block).
    """
    wide_vectors()
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
