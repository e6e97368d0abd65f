"""Combining values into positions that may occur more than once: what NumPy's `ufunc.at` is for."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from disttorch.backends.numpy._compiled import compiled, is_float

_SMALL = 2048  # elements: below, compiled code is not worth loading
_COMBINE = {"sum": np.add, "prod": np.multiply, "amin": np.minimum, "amax": np.maximum}


def reduce_at(target: np.ndarray, index: tuple[Any, ...], values: np.ndarray, reduce: str = "sum") -> None:
    """Combine `values` into target[index], in place, once for every time that a position occurs in the index.

    `target` lies in row-major order; `index` has arrays and `:`. `reduce` is "sum", "prod", "amin" or "amax".
    """
    combine = _COMBINE[reduce]
    if not any([isinstance(i, np.ndarray) and i.dtype != bool for i in index]):  # a mask names a position only once
        target[index] = combine(target[index], values)
        return
    if target.dtype.itemsize == 2 and target.dtype.kind not in "iu":
        wide = target.astype(np.float32)
        reduce_at(wide, index, values.astype(np.float32), reduce)
        target[...] = wide
        return
    if reduce == "sum" and _names_rows(target, index, values):
        rows = np.ascontiguousarray(index[0], np.int64).reshape(-1)
        if not compiled("scatter").add_rows(
            target.reshape(target.shape[0], -1), rows, np.ascontiguousarray(values).reshape(rows.size, -1)
        ):
            raise IndexError(f"index out of range for dimension 0 of size {target.shape[0]}")
        return
    positions = _positions(target.shape, index)
    if values.shape != positions.shape:
        values = np.broadcast_to(values, positions.shape)
    combine.at(target.reshape(-1), positions.reshape(-1), values.reshape(-1))


def _names_rows(target: np.ndarray, index: tuple[Any, ...], values: np.ndarray) -> bool:
    """Return whether `index` is one array of row numbers, `values` has a row for each, and compiled code can add them."""
    first, *rest = index
    return (
        is_float(target.dtype)
        and values.dtype == target.dtype
        and values.size >= _SMALL
        and isinstance(first, np.ndarray)
        and first.dtype.kind in "iu"
        and all([item == slice(None) for item in rest])
        and values.shape == (*first.shape, *target.shape[1:])
    )


def _positions(shape: tuple[int, ...], index: tuple[Any, ...]) -> np.ndarray:
    """Return where in row-major memory the elements of x[index] lie: `ufunc.at` is quick in one dimension only."""
    items: list[Any] = []
    for item in index:
        items += np.nonzero(item) if isinstance(item, np.ndarray) and item.dtype == bool and item.ndim else [item]
    items += [slice(None)] * (len(shape) - len(items))
    steps = [prod(shape[k + 1 :]) for k in range(len(shape))]
    indexed = [k for k, item in enumerate(items) if isinstance(item, np.ndarray)]
    chosen: Any = sum([np.where(items[k] < 0, items[k] + shape[k], items[k]) * steps[k] for k in indexed])
    together = indexed[-1] - indexed[0] == len(indexed) - 1
    front = indexed[0] if together else 0
    kept = [k for k in range(len(shape)) if k not in indexed]
    grids = np.ix_(*[np.arange(shape[k]) * steps[k] for k in kept])
    ndim = np.ndim(chosen)
    total = np.reshape(chosen, (1,) * front + np.shape(chosen) + (1,) * (len(kept) - front))
    for grid in grids:
        total = total + grid.reshape(*grid.shape[:front], *(1,) * ndim, *grid.shape[front:])
    return total
