"""Sums over ranks in one canonical order.

The order is the binary tree over ranks, split at the largest power of two: four ranks give `(r0 +
r1) + (r2 + r3)`, three give `(r0 + r1) + r2`. It depends on nothing else, so every rank gets the
same bits whatever the timing, the bucket size or the transport. float16 and bfloat16 accumulate in
float32 and round once; AVG divides once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

# Elements of one block are summed over all ranks before the next block is touched, so they stay in
# cache.
BLOCK_BYTES = 128 * 1024

_COMBINE: dict[str, Callable[..., np.ndarray]] = {
    "SUM": np.add,
    "AVG": np.add,
    "PRODUCT": np.multiply,
    "MIN": np.minimum,
    "MAX": np.maximum,
}


def check_reducible(op: str, dtype: np.dtype) -> None:
    """Raise TypeError when `op` is not defined for `dtype`."""
    kind = "f" if dtype.name == "bfloat16" else dtype.kind
    if op == "AVG" and kind not in "fc":
        raise TypeError(f"ReduceOp.AVG needs a floating-point or complex tensor, got {dtype.name}; use ReduceOp.SUM")
    if op in ("MIN", "MAX") and kind == "c":
        raise TypeError(f"ReduceOp.{op} is not defined for {dtype.name}: complex numbers have no order")


def split_point(count: int) -> int:
    """Return the largest power of two below `count` (`count` >= 2)."""
    return 1 << ((count - 1).bit_length() - 1)


class Summation:
    """Reduces equally long rows, one per rank, into one or more outputs.

    op: "SUM", "AVG", "PRODUCT", "MIN" or "MAX"; dtype: the rows'; count: how many rows.
    """

    def __init__(self, op: str, dtype: np.dtype, count: int) -> None:
        self.op = op
        self.combine = _COMBINE[op]
        self.count = count
        self.block = max(1, BLOCK_BYTES // dtype.itemsize)
        narrow = dtype.itemsize == 2 and (dtype.kind == "f" or dtype.name == "bfloat16")
        self.wide = np.dtype(np.float32) if narrow and op not in ("MIN", "MAX") else None
        depth = max(1, (count - 1).bit_length())
        self._scratch = [np.empty(self.block, self.wide or dtype) for _ in range(depth + 1)]

    def into(self, outputs: Sequence[np.ndarray], rows: Sequence[np.ndarray]) -> None:
        """Write the reduction of `rows` (1-D, contiguous) to every one of `outputs`, which may be the rows."""
        length = rows[0].size
        with np.errstate(all="ignore"):  # inf and nan are values here, as in every other tensor operation
            for start in range(0, length, self.block):
                part = slice(start, min(start + self.block, length))
                self._block([out[part] for out in outputs], [row[part] for row in rows])

    def _block(self, outputs: list[np.ndarray], rows: list[np.ndarray]) -> None:
        first = outputs[0]
        total = self._tree(rows, 0, first if self.wide is None else self._scratch[0][: first.size])
        if self.op == "AVG" and self.count > 1:
            np.divide(total, self.count, out=total)
        for out in outputs:
            if out is not total:
                np.copyto(out, total, casting="unsafe")

    def _tree(self, rows: list[np.ndarray], depth: int, out: np.ndarray) -> np.ndarray:
        """Reduce `rows` to `out`, which may be `rows[0]` itself: the left branch is always finished first."""
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
