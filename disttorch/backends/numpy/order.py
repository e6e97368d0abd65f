"""Searching in sorted rows and distinct rows, on NumPy arrays."""

from __future__ import annotations

from typing import Literal

import numpy as np

from disttorch.backends.numpy._window import compute_dtype

Distinct = tuple[np.ndarray, np.ndarray, np.ndarray]


def searchsorted(rows: np.ndarray, values: np.ndarray, right: bool) -> np.ndarray:
    """Where the `values` [..., m] go into the sorted `rows` [..., n], or values of any shape into one row [n]."""
    side: Literal["left", "right"] = "right" if right else "left"
    rows, values = (x.astype(compute_dtype(x.dtype), copy=False) for x in (rows, values))
    if rows.ndim == 1:
        return np.asarray(np.searchsorted(rows, values, side))
    found = np.empty(values.shape, np.int64)
    for k in np.ndindex(rows.shape[:-1]):
        found[k] = np.searchsorted(rows[k], values[k], side)
    return found


def unique(rows: np.ndarray) -> Distinct:
    """The distinct `rows` [n, m] in lexicographic order, where in them each row is, and how often each occurs."""
    order = np.lexsort(rows.T[::-1]) if rows.shape[1] > 1 else np.argsort(rows[:, 0], kind="stable")
    distinct, places, counts = unique_consecutive(rows[order])
    inverse = np.empty_like(places)
    inverse[order] = places
    return distinct, inverse, counts


def unique_consecutive(rows: np.ndarray) -> Distinct:
    """The `rows` [n, m] without those that equal their predecessor; places and counts as of `unique`."""
    begins = np.ones(len(rows), bool)
    begins[1:] = (rows[1:] != rows[:-1]).any(1)
    starts = np.flatnonzero(begins)
    return rows[begins], np.cumsum(begins) - 1, np.diff(starts, append=len(rows))
