"""Samples of `disttorch.ops.distance`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.spatial import distance

from disttorch.testing.sample import A, Sample, method, one

_INFINITY = float("inf")


def samples() -> Iterator[Sample]:
    for dim in (0, -1, (0, 2), None):
        for keep in (False, True):
            yield from _norms((dim, keep), A(2, 3, 2, layout="transposed" if keep else "plain"))
    yield from one("norm", lambda t, x: t.norm(x), A(3, 2), covers="vector_norm", expected=np.linalg.norm, complex=True)
    yield from one("dist", lambda t, x, y: t.dist(x, y, 3), A(3), A(2, 3), covers="")
    for p in (2, 1, _INFINITY):
        yield from method(
            "renorm", lambda t, x, p=p: t.renorm(x, p, 0, 0.9), A(3, 4), covers="vector_norm", complex=p == 2
        )
    yield from _between_points()


def _norms(arguments: Any, x: Any) -> Iterator[Sample]:
    for p in (2, 1, 3, 0.5, 0, _INFINITY, -_INFINITY):
        yield from one(
            "norm", lambda t, x, p=p: t.norm(x, p, *arguments), x, covers="vector_norm",
            expected=lambda x, p=p: _norm(x, p, *arguments), order=1 if p == 0 else 2, complex=p in (2, 1, 3),
        )  # fmt: skip


def _norm(x: Any, p: float, axis: Any, keep: bool) -> Any:
    size = np.abs(x)
    if p == 0:
        return np.sum(size != 0, axis=axis, keepdims=keep).astype(size.dtype)
    if np.isinf(p):
        return (np.max if p > 0 else np.min)(size, axis=axis, keepdims=keep)
    return np.sum(size**p, axis=axis, keepdims=keep) ** (1 / p)


def _between_points() -> Iterator[Sample]:
    for p in (1, 2, 2.5, _INFINITY):
        yield from one("cdist", lambda t, x, y, p=p: t.cdist(x, y, p), A(3, 2), A(4, 2), covers="vector_norm",
                       expected=lambda x, y, p=p: distance.cdist(x, y, "minkowski", p=p), order=1)  # fmt: skip
        yield from one("pdist", lambda t, x, p=p: t.pdist(x, p), A(4, 3), covers="vector_norm",
                       expected=lambda x, p=p: distance.pdist(x, "minkowski", p=p), order=1)  # fmt: skip
    yield from one("cdist", lambda t, x, y: t.cdist(x, y), A(26, 2), A(1, 2), covers="sqrt", expected=distance.cdist,
                   order=1)  # fmt: skip
    yield from one("cdist", lambda t, x, y: t.cdist(x, y), A(2, 2, 3), A(2, 3), covers="vector_norm", order=1)
