"""Which memory the tensors of a checkpoint cover, so that what they share stays shared."""

from __future__ import annotations

from typing import Any

import numpy as np

from disttorch.backends import backend_of, device_of
from disttorch.core.dtypes import dtype, from_numpy_dtype


class Placement:
    """Where a tensor is: `offset` elements into storage `key`, which has `count` elements.

    Those three are known after `Memory.settle`. `strides` count elements, `low` and `high` are
    addresses.
    """

    __slots__ = ("array", "count", "dtype", "high", "key", "location", "low", "offset", "strides")

    def __init__(self, array: Any) -> None:
        self.array = array
        self.dtype: dtype = from_numpy_dtype(array.dtype)
        self.location = str(device_of(array))
        self.strides = _element_strides(array)
        self.low, self.high = _extent(array)
        self.key = ""
        self.offset = self.count = 0


class Memory:
    """The arrays of a checkpoint, and the storages they end up in.

    A storage is a stretch of memory that overlapping arrays cover together. Where PyTorch saves all
    of the memory that a view was cut from, this saves what the saved tensors can see of it.
    """

    def __init__(self) -> None:
        self._placements: list[Placement] = []

    def place(self, array: Any) -> Placement:
        """Take note of an array, which must stay as it is until the checkpoint is written."""
        if any(step < 0 or step % array.itemsize for step in array.strides):
            array = array.copy()  # such a layout cannot be written as strides of a storage
        placement = Placement(array)
        self._placements.append(placement)
        return placement

    def settle(self) -> list[memoryview]:
        """Number the storages in the order of their first tensors; return the bytes of each.

        Raises RuntimeError if tensors of different types share memory, as PyTorch does.
        """
        groups: dict[int, list[Placement]] = {}
        group_of = self._overlapping_groups()
        for placement in self._placements:
            groups.setdefault(group_of[id(placement)], []).append(placement)
        return [_settle_group(str(key), group) for key, group in enumerate(groups.values())]

    def _overlapping_groups(self) -> dict[int, int]:
        """Return, by `id`, a group number that placements share if they overlap."""
        filled = [p for p in self._placements if p.array.size]
        group_of: dict[int, int] = {}
        group, end, location = 0, -1, ""
        for placement in sorted(filled, key=lambda p: (p.location, p.low)):
            if placement.low >= end or placement.location != location:
                group += 1
                end, location = placement.high, placement.location
            group_of[id(placement)] = group
            end = max(end, placement.high)
        for placement in self._placements:  # each empty tensor is a storage of its own
            group_of.setdefault(id(placement), -id(placement))
        return group_of


def _settle_group(key: str, group: list[Placement]) -> memoryview:
    first = min(group, key=lambda p: p.low)
    itemsize = first.array.itemsize
    count = (max(p.high for p in group) - first.low) // itemsize
    for placement in group:
        distance = placement.low - first.low
        if placement.dtype is not first.dtype or distance % itemsize:
            raise RuntimeError(
                "Cannot save multiple tensors or storages that view the same data as different "
                f"types: {first.dtype!r} and {placement.dtype!r}; save a clone() of one of them"
            )
        placement.key, placement.count, placement.offset = key, count, distance // itemsize
    return _bytes_from(first.array, count)


def _element_strides(array: Any) -> tuple[int, ...]:
    """Return the strides in elements; those of an empty array as PyTorch has them."""
    if array.size:
        return tuple(step // array.itemsize for step in array.strides)
    strides, step = [], 1
    for n in reversed(array.shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def _extent(array: Any) -> tuple[int, int]:
    """Return the addresses of an array's first byte and of the byte behind its last."""
    if isinstance(array, np.ndarray):
        low = array.__array_interface__["data"][0]
    else:
        low = array.data.ptr
    if not array.size:
        return low, low
    last = sum((n - 1) * step for n, step in zip(array.shape, array.strides, strict=True))
    return low, low + last + array.itemsize


def _bytes_from(array: Any, count: int) -> memoryview:
    """Return the bytes of `count` elements from an array's first on; no copy on the CPU."""
    if not count:
        return memoryview(b"")
    if array.size == count and array.flags.c_contiguous:
        stretch = array.reshape(-1).view(np.uint8)
    else:
        stretch = _stretch_from(array, count)
    return stretch.data if isinstance(stretch, np.ndarray) else stretch.get().data


def _stretch_from(array: Any, count: int) -> Any:
    """Return the memory from an array's first element on, gaps between its elements included, as bytes."""
    tricks = backend_of(array).namespace.lib.stride_tricks
    return tricks.as_strided(array, (count,), (array.itemsize,)).view(np.uint8)
