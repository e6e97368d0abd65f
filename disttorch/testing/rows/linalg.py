"""Samples of `disttorch.ops.linalg`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.testing.sample import A, Sample, functional, method, one

_BOTH: dict[str, Any] = {"complex": True}

# (left shape, right shape, the operator that computes it)
_PRODUCTS = (
    ((2, 3), (3, 4), "mm"), ((2, 3), (3,), "mv"), ((3,), (3, 2), "mm"), ((3,), (3,), "dot"), ((2, 2, 3), (3, 2), "bmm"),
    ((2, 2, 3), (2, 3, 2), "bmm"), ((2, 1, 2, 3), (2, 3, 1), "bmm"), ((2, 3), (2, 3, 2), "bmm"),
    ((2, 2, 3), (3,), "bmm"), ((3,), (2, 3, 2), "bmm"), ((0, 3), (3, 2), "mm"), ((2, 0), (0, 2), "mm"),
)  # fmt: skip


def samples() -> Iterator[Sample]:
    """Yield the samples."""
    for left, right, covers in _PRODUCTS:
        yield from method(
            "matmul", lambda t, x, y: t.matmul(x, y), A(*left), A(*right), covers=covers, expected=np.matmul, **_BOTH
        )
    yield from one(
        "matmul",
        lambda t, x, y: x @ y,
        A(2, 3, layout="transposed"),
        A(3, 2, layout="strided"),
        covers="mm",
        expected=np.matmul,
    )
    yield from one("mm", lambda t, x, y: t.mm(x, y), A(2, 3), A(3, 2), expected=np.matmul)
    yield from one("mm", lambda t, x: t.mm(x, x), A(2, 2), expected=lambda x: x @ x)
    yield from one("mv", lambda t, x, y: t.mv(x, y), A(2, 3), A(3), expected=np.matmul)
    yield from one("dot", lambda t, x, y: t.dot(x, y), A(4), A(4), expected=np.dot)
    yield from one("bmm", lambda t, x, y: t.bmm(x, y), A(2, 2, 3), A(2, 3, 1), expected=np.matmul)
    yield from one("outer", lambda t, x, y: t.outer(x, y), A(2), A(3), covers="mul", expected=np.outer)
    yield from _affine()


def _affine() -> Iterator[Sample]:
    def call(t: Any, *operands: Any) -> Any:
        return functional(t).linear(*operands)

    def expected(x: Any, w: Any, b: Any = 0) -> Any:
        return x @ w.T + b

    for shape in ((2, 3), (3,), (2, 2, 3), (0, 3)):
        yield from method("linear", call, A(*shape), A(4, 3), A(4), expected=expected, **_BOTH)
        yield from one("linear", call, A(*shape), A(4, 3), expected=expected, **_BOTH)
