"""Combining values into positions that may occur more than once."""

from __future__ import annotations

from typing import Any

import numpy as np

from disttorch.backends.cupy._library import compute_dtype, library

_COMBINE = {"sum": "add", "prod": "multiply", "amin": "minimum", "amax": "maximum"}


def reduce_at(target: Any, index: tuple[Any, ...], values: Any, reduce: str = "sum") -> None:
    """Combine `values` into target[index], in place, once for every time that a position occurs in the index.

    `target` lies in row-major order; `index` has arrays and `:`. `reduce` is "sum", "prod", "amin" or "amax".
    """
    combine = getattr(library(target), _COMBINE[reduce])
    if not any(hasattr(i, "dtype") and i.dtype != bool for i in index):  # a mask names a position only once
        target[index] = combine(target[index], values)
    elif reduce == "sum":
        _add_at(target, index, values)
    else:
        _combine_at(combine, target, index, values)


def _add_at(target: Any, index: tuple[Any, ...], values: Any) -> None:
    """Add by atomic operations, in a type that they know."""
    dtype, wide = target.dtype, compute_dtype(target.dtype)
    if dtype.kind in "biu" and dtype.itemsize < 4:
        wide = np.dtype(np.int32)
    values, total = values.astype(wide, copy=False), target.astype(wide, copy=False)
    if wide == np.int64:  # the same bits as of unsigned sums
        values, total = values.view(np.uint64), total.view(np.uint64)
    library(target).add.at(total, index, values)
    if wide != dtype:
        target[...] = total.astype(dtype)


def _combine_at(combine: Any, target: Any, index: tuple[Any, ...], values: Any) -> None:
    """Sort by position, combine neighbours of one position in log2(n) steps, and write the last of each position."""
    xp, flat = library(target), target.reshape(-1)
    places = xp.arange(target.size).reshape(target.shape)[index]
    if not places.size:
        return
    values = xp.broadcast_to(values, places.shape).reshape(-1).astype(target.dtype, copy=False)
    places = places.reshape(-1)
    order = xp.argsort(places, kind="stable")
    places, values, reach = places[order], values[order], 1
    while reach < places.size:
        same = places[reach:] == places[:-reach]
        values[reach:] = xp.where(same, combine(values[:-reach], values[reach:]), values[reach:])
        reach *= 2
    last = xp.ones(places.shape, bool)
    last[:-1] = places[1:] != places[:-1]
    places = places[last]
    flat[places] = combine(flat[places], values[last])
