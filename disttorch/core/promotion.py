"""PyTorch's type promotion: which type an operation on mixed types computes in.

Operands fall into three buckets: tensors with dimensions, zero-dimensional tensors, and Python numbers.
Within a bucket the smallest type that holds all wins; a lower bucket only matters when its category
(bool < integer < floating < complex) is higher than the category of the buckets above it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np

from disttorch.core import dtypes
from disttorch.core.dtypes import dtype

_CATEGORY = {"bool": 0, "integer": 1, "floating": 2, "complex": 3}
_SIGNED_OF_BITS = {8: dtypes.int8, 16: dtypes.int16, 32: dtypes.int32, 64: dtypes.int64}


@cache
def promote_types(a: dtype, b: dtype) -> dtype:
    """Return the smallest type to which both can be converted.

    >>> promote_types(dtypes.uint8, dtypes.int8)
    torch.int16
    >>> promote_types(dtypes.float16, dtypes.bfloat16)
    torch.float32
    """
    if a is b:
        return a
    low, high = sorted((a, b), key=lambda d: _CATEGORY[d.kind])
    if low.kind != high.kind:
        if high.kind == "complex" and low is dtypes.float64:
            return dtypes.complex128
        return high
    if low.kind == "integer":
        wide, narrow = (a, b) if a.itemsize >= b.itemsize else (b, a)
        if dtypes.uint8 not in (wide, narrow) or (wide.is_signed and wide.itemsize > narrow.itemsize):
            return wide
        return _SIGNED_OF_BITS[16 * narrow.itemsize]
    if a.itemsize == b.itemsize:  # float16 with bfloat16: neither holds the other
        return dtypes.float32
    return a if a.itemsize > b.itemsize else b


@cache
def _combine(high: dtype | None, low: dtype | None) -> dtype | None:
    if high is None or low is None:
        return high or low
    if _CATEGORY[low.kind] <= _CATEGORY[high.kind]:
        return high
    if high.kind == "floating":  # only complex ranks above it: keep the precision
        return high.to_complex()
    return promote_types(high, low)


def result_dtype(operands: Iterable[object]) -> dtype:
    """Return the type in which an operation on arrays and Python numbers computes."""
    buckets: list[dtype | None] = [None, None, None]
    for operand in operands:
        if isinstance(operand, (bool, int, float, complex)):
            bucket, d = 2, dtypes.of_number(operand)
        else:
            bucket = 0 if operand.ndim else 1  # type: ignore[attr-defined]
            d = dtypes.from_numpy_dtype(operand.dtype)  # type: ignore[attr-defined]
        seen = buckets[bucket]
        buckets[bucket] = d if seen is None else promote_types(seen, d)
    result = _combine(_combine(buckets[0], buckets[1]), buckets[2])
    assert result is not None, "promotion of no operands"
    return result


def can_cast(from_: dtype, to: dtype) -> bool:
    """Whether a result of type `from_` may be stored into a tensor of type `to`."""
    return _CATEGORY[from_.kind] <= _CATEGORY[to.kind]


def to_common(arrays: Iterable[object], d: dtype) -> list[np.ndarray]:
    """Return the operands as arrays of type `d` (Python numbers become zero-dimensional)."""
    target = d.numpy
    return [
        np.asarray(a).astype(target) if isinstance(a, (bool, int, float, complex)) else a.astype(target, copy=False)  # type: ignore[attr-defined]
        for a in arrays
    ]
