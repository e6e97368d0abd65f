"""Sums over ranks in one canonical order.

The order is the binary tree over ranks, split at the largest power of two: four ranks give `(r0 +
r1) + (r2 + r3)`, three give `(r0 + r1) + r2`. It depends on nothing else, so every rank gets the
same bits whatever the timing, the bucket size, the transport or the layout of ranks on hosts.
float16 and bfloat16 accumulate in float32 and round once; AVG divides once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from functools import cache, cached_property
from importlib import import_module
from typing import Any

import numpy as np

# Elements of one block are summed over all ranks before the next block is touched, so they stay in
# cache.
BLOCK_BYTES = 128 * 1024
# From here on, a compiled sum is worth its fixed cost.
COMPILED_BYTES = 64 * 1024
COMPILED_BLOCK_BYTES = 4096

_COMBINE: dict[str, Callable[..., np.ndarray]] = {
    "SUM": np.add,
    "AVG": np.add,
    "PRODUCT": np.multiply,
    "MIN": np.minimum,
    "MAX": np.maximum,
    "BAND": np.bitwise_and,
    "BOR": np.bitwise_or,
    "BXOR": np.bitwise_xor,
}


@cache
def check_reducible(op: str, dtype: np.dtype) -> None:
    """Raise TypeError when `op` is not defined for `dtype`."""
    kind = "f" if dtype.name == "bfloat16" else dtype.kind
    if op == "AVG" and kind not in "fc":
        raise TypeError(f"ReduceOp.AVG needs a floating-point or complex tensor, got {dtype.name}; use ReduceOp.SUM")
    if op in ("MIN", "MAX") and kind == "c":
        raise TypeError(f"ReduceOp.{op} is not defined for {dtype.name}: complex numbers have no order")
    if op in ("BAND", "BOR", "BXOR") and kind not in "biu":
        raise TypeError(f"ReduceOp.{op} works on the bits of integers and booleans, got {dtype.name}")


def split_point(count: int) -> int:
    """Return the largest power of two below `count` (`count` >= 2)."""
    return 1 << ((count - 1).bit_length() - 1)


def subtrees(low: int, high: int, held: Collection[int]) -> list[tuple[int, int]]:
    """Return the largest subtrees of the tree over ranks `low` to `high` - 1 whose ranks are all in `held`."""
    inside = sum(rank in held for rank in range(low, high))
    if inside == 0:
        return []
    if inside == high - low:
        return [(low, high)]
    middle = low + split_point(high - low)
    return subtrees(low, middle, held) + subtrees(middle, high, held)


def accumulation_dtype(op: str, dtype: np.dtype) -> np.dtype:
    """Return the type in which `dtype` is reduced: float32 for float16 and bfloat16, else itself."""
    narrow = dtype.itemsize == 2 and (dtype.kind == "f" or dtype.name == "bfloat16")
    return np.dtype(np.float32) if narrow and op not in ("MIN", "MAX") else dtype


@cache
def _compiled() -> Any:
    """The compiled sums, imported at their first use: Numba takes a moment to load."""
    return import_module("disttorch.distributed._compiled_reduction")


class _Workspace(threading.local):
    """Scratch memory that all reductions of a thread share: one at a time uses it."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def arrays(self, count: int, length: int, dtype: np.dtype) -> list[np.ndarray]:
        """Return `count` arrays of `length` elements, which hold anything."""
        width = -(-length * dtype.itemsize // 64) * 64
        if self._memory.size < count * width:
            self._memory = np.empty(count * width, np.uint8)
        used = length * dtype.itemsize
        return [self._memory[i * width : i * width + used].view(dtype) for i in range(count)]


_workspace = _Workspace()


class Reduction:
    """Reduces equally long rows, one per rank, into one or more outputs.

    op: the name of a ReduceOp; dtype: the rows'; count: how many rows. One thread at a time may use it.
    """

    def __init__(self, op: str, dtype: np.dtype, count: int) -> None:
        self.op = op
        self.combine = _COMBINE[op]
        self.dtype = dtype
        self.count = count
        self.block = max(1, BLOCK_BYTES // dtype.itemsize)
        wide = accumulation_dtype(op, dtype)
        self.wide = wide if wide != dtype else None
        # An output may be any of the rows, which a tree of more than two would overwrite before it is read.
        self._direct = self.wide is None and count <= 2
        self._scratch: list[np.ndarray] = []  # of this call
        self.compilable = dtype.char in "fd" and op in ("SUM", "AVG") and count > 1
        self.divisor = dtype.type(count if op == "AVG" else 1)

    def into(self, outputs: Sequence[np.ndarray], rows: Sequence[np.ndarray]) -> None:
        """Write the reduction of `rows` (1-D, contiguous) to every one of `outputs`, which may be the rows."""
        length = rows[0].size
        if self.compilable and rows[0].nbytes >= COMPILED_BYTES:
            self._run_compiled(outputs, rows)
            return
        if not self._direct:
            depth = max(1, (self.count - 1).bit_length())
            self._scratch = _workspace.arrays(depth + 1, min(length, self.block), self.wide or self.dtype)
        with np.errstate(all="ignore"):  # inf and nan are values here, as in every other tensor operation
            for start in range(0, length, self.block):
                part = slice(start, min(start + self.block, length))
                self._block([out[part] for out in outputs], [row[part] for row in rows])

    def warm_up(self, nbytes: int) -> None:
        """Load the compiled code now rather than in the first step, if rows of up to `nbytes` bytes will need it."""
        if self.compilable and nbytes >= COMPILED_BYTES:
            rows = [np.zeros(COMPILED_BYTES // self.dtype.itemsize, self.dtype) for _ in range(self.count)]
            self.into(rows, rows)

    @cached_property
    def scratch(self) -> np.ndarray:
        """What the compiled sum needs for a block."""
        return np.empty(((self.count + 1) // 2, COMPILED_BLOCK_BYTES // self.dtype.itemsize), self.dtype)

    def _run_compiled(self, outputs: Sequence[np.ndarray], rows: Sequence[np.ndarray]) -> None:
        addresses = [np.array([row.ctypes.data for row in group], np.int64) for group in (rows, outputs)]
        if {id(row) for row in rows} == {id(output) for output in outputs}:
            _compiled().sum_in_place(addresses[0], rows[0].size, self.divisor, self.scratch)
        else:
            _compiled().tree(*addresses, rows[0].size, self.divisor, self.scratch)

    def _block(self, outputs: list[np.ndarray], rows: list[np.ndarray]) -> None:
        first = outputs[0]
        total = self._tree(rows, 0, first if self._direct else self._scratch[0][: first.size])
        if self.op == "AVG" and self.count > 1:
            np.divide(total, self.count, out=total)
        for out in outputs:
            if out is not total:
                np.copyto(out, total, casting="unsafe")

    def _tree(self, rows: list[np.ndarray], depth: int, out: np.ndarray) -> np.ndarray:
        """Reduce `rows` to `out`."""
        if len(rows) == 1:
            np.copyto(out, rows[0])
            return out
        if len(rows) == 2 and self.wide is None:
            return self.combine(rows[0], rows[1], out=out)
        split = split_point(len(rows))
        self._tree(rows[:split], depth, out)
        if len(rows) - split == 1 and self.wide is None:
            return self.combine(out, rows[split], out=out)
        right = self._tree(rows[split:], depth + 1, self._scratch[depth + 1][: out.size])
        return self.combine(out, right, out=out)


def combine_subtrees(op: str, count: int, parts: dict[tuple[int, int], np.ndarray], out: np.ndarray) -> None:
    """Finish a reduction over `count` ranks of which subtrees have been reduced elsewhere.

    parts: (low, high) -> the reduction of those ranks, in the type of `accumulation_dtype`, without
    the division of AVG; together they cover all ranks. out: 1-D, of the rows' own type.
    """
    with np.errstate(all="ignore"):
        total = _combine_range(_COMBINE[op], 0, count, parts)
        if op == "AVG" and count > 1:
            total = total / count
        np.copyto(out, total, casting="unsafe")


def _combine_range(
    combine: Callable[..., np.ndarray], low: int, high: int, parts: dict[tuple[int, int], np.ndarray]
) -> np.ndarray:
    found = parts.get((low, high))
    if found is not None:
        return found
    middle = low + split_point(high - low)
    return combine(_combine_range(combine, low, middle, parts), _combine_range(combine, middle, high, parts))
