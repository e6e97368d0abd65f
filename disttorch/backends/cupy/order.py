"""Searching in sorted rows and distinct rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from disttorch.backends.cupy._library import compute_dtype, library


def searchsorted(rows: Any, values: Any, right: bool) -> Any:
    """Where the `values` [..., m] go into the sorted `rows` [..., n], or values of any shape into one row [n]."""
    xp = library(rows)
    rows, values = (x.astype(compute_dtype(x.dtype), copy=False) for x in (rows, values))
    if rows.ndim == 1:
        return xp.searchsorted(rows, values, "right" if right else "left").astype(np.int64, copy=False)
    size = rows.shape[-1]
    low, high = xp.zeros(values.shape, np.int64), xp.full(values.shape, size, np.int64)
    for _ in range(size.bit_length()):  # bisection, of all values at once
        middle = (low + high) // 2
        found = xp.take_along_axis(rows, xp.minimum(middle, size - 1), -1)
        later = (low < high) & (~_less(values, found) if right else _less(found, values))
        low, high = xp.where(later, middle + 1, low), xp.where(later, high, middle)
    return low


def _less(a: Any, b: Any) -> Any:
    """Whether a comes before b, NaN being the largest."""
    return (a < b) | ((a == a) & (b != b))


def unique(rows: Any) -> tuple[Any, Any, Any]:
    """The distinct `rows` [n, m] in lexicographic order, where in them each row is, and how often each occurs."""
    xp = library(rows)
    order = xp.lexsort(xp.ascontiguousarray(rows.astype(compute_dtype(rows.dtype), copy=False).T[::-1]))
    distinct, places, counts = unique_consecutive(rows[order])
    inverse = xp.empty_like(places)
    inverse[order] = places
    return distinct, inverse, counts


def unique_consecutive(rows: Any) -> tuple[Any, Any, Any]:
    """The `rows` [n, m] without those that equal their predecessor; places and counts as of `unique`."""
    xp = library(rows)
    begins = xp.ones(len(rows), bool)
    begins[1:] = (rows[1:] != rows[:-1]).any(1)
    starts = xp.flatnonzero(begins)
    return rows[begins], xp.cumsum(begins) - 1, xp.diff(starts, append=len(rows))
