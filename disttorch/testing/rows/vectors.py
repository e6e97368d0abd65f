"""Samples of `disttorch.ops.vectors`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.testing.sample import A, Sample, one

_BOTH: dict[str, Any] = {"complex": True}
_MATRIX_NORMS: tuple[Any, ...] = ("fro", "nuc", 1, -1, 2, -2, float("inf"), float("-inf"))


def samples() -> Iterator[Sample]:
    """Yield the samples."""
    for ord in _MATRIX_NORMS:
        yield from one(
            "matrix_norm", lambda t, x, o=ord: t.linalg.matrix_norm(x, o, (0, 2), True), A(2, 2, 3), covers="",
            expected=lambda x, o=ord: np.linalg.norm(x, o, (0, 2), True), **_BOTH,
        )  # fmt: skip
    for arguments in ((), (3.5, 0), (1, (0, 1)), (2, None, True)):
        yield from one("norm", lambda t, x, a=arguments: t.linalg.norm(x, *a), A(2, 3), covers="",
                       expected=lambda x, a=arguments: np.linalg.norm(x, *a))  # fmt: skip
    yield from one("vector_norm", lambda t, x: t.linalg.vector_norm(x, 3, 1), A(2, 3),
                   expected=lambda x: np.linalg.norm(x, 3, 1), **_BOTH)  # fmt: skip
    for p in (None, -2, "fro", 1):
        yield from one("cond", lambda t, x, p=p: t.linalg.cond(x, p), A(2, 2), covers="",
                       expected=lambda x, p=p: np.linalg.cond(x, p), **_BOTH)  # fmt: skip
    yield from _products()


def _products() -> Iterator[Sample]:
    yield from one("vecdot", lambda t, x, y: t.linalg.vecdot(x, y, dim=0), A(3, 2), A(3, 1), covers="mul",
                   expected=lambda x, y: (x.conj() * y).sum(0), **_BOTH)  # fmt: skip
    yield from one("multi_dot", lambda t, *xs: t.linalg.multi_dot(xs), A(2), A(2, 3), A(3, 2), covers="mm",
                   expected=lambda *xs: np.linalg.multi_dot(xs), **_BOTH)  # fmt: skip
    yield from one("diagonal", lambda t, x: t.linalg.diagonal(x, offset=1), A(2, 3, 3),
                   expected=lambda x: np.diagonal(x, 1, 1, 2))  # fmt: skip
    yield from one("vander", lambda t, x: t.linalg.vander(x, N=4), A(2, 3), covers="", **_BOTH,
                   expected=lambda x: x[..., None] ** np.arange(4))  # fmt: skip
