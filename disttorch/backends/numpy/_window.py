"""Sliding-window arithmetic shared by convolution and pooling."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

Sizes = tuple[int, ...]


def compute_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype in which sums over `dtype` are accumulated: float32 for 16-bit floats."""
    if dtype.itemsize == 2 and dtype.kind not in "iu":
        return np.dtype(np.float32)
    return dtype


def pad_spatial(x: np.ndarray, before: Sizes, after: Sizes, value: object = 0) -> np.ndarray:
    """`x` [N, C, *S] with its spatial axes extended by `value`; `x` itself where nothing is added.

    A negative amount in `after` drops elements: the last window may end before the input does.
    """
    if not any(before) and not any(after):
        return x
    spatial = x.shape[2:]
    sizes = [b + s + a for b, s, a in zip(before, spatial, after, strict=True)]
    out = np.full((*x.shape[:2], *sizes), value, dtype=x.dtype)
    inner = [slice(b, min(b + s, t)) for b, s, t in zip(before, spatial, sizes, strict=True)]
    kept = [slice(0, i.stop - i.start) for i in inner]
    whole = (slice(None), slice(None))
    out[whole + tuple(inner)] = x[whole + tuple(kept)]
    return out


def taps(kernel: Sizes, out_size: Sizes, stride: Sizes, dilation: Sizes) -> Iterator[tuple[Sizes, tuple[slice, ...]]]:
    """Each kernel position with the strided spatial slices that it reads from the padded input."""
    for offset in product(*(range(k) for k in kernel)):
        slices = tuple(
            slice(k * d, k * d + (o - 1) * s + 1, s)
            for k, o, s, d in zip(offset, out_size, stride, dilation, strict=True)
        )
        yield offset, (slice(None), slice(None), *slices)
