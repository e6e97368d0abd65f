"""Samples of `disttorch.ops.diagonals`: diagonals, triangles and blocks of matrices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.testing.sample import A, Sample, method, one

_BOTH: dict[str, Any] = {"complex": True}


def samples() -> Iterator[Sample]:
    """Yield the samples."""
    yield from _diagonals()
    yield from _matrices()
    yield from _triangles()


def _diagonals() -> Iterator[Sample]:
    for offset in (0, 1, -1):
        yield from method(
            "diagonal",
            lambda t, x, k=offset: t.diagonal(x, k),
            A(3, 4),
            expected=lambda x, k=offset: np.diagonal(x, k),
            **_BOTH,
        )
        yield from method(
            "diagonal_scatter",
            lambda t, x, y, k=offset: t.diagonal_scatter(x, y, k),
            A(3, 3),
            A(3 - abs(offset)),
            covers="view_scatter",
            expected=lambda x, y, k=offset: np.where(np.eye(3, k=k), np.diag(y, k), x),
        )
        yield from one(
            "diag", lambda t, x, k=offset: t.diag(x, k), A(3), covers="view_scatter",
            expected=lambda x, k=offset: np.diag(x, k), **_BOTH,
        )  # fmt: skip
        yield from method(
            "diag", lambda t, x, k=offset: t.diag(x, k), A(3, 4), covers="diagonal",
            expected=lambda x, k=offset: np.diag(x, k),
        )  # fmt: skip
    yield from one(
        "diagonal", lambda t, x: t.diagonal(x, 0, 1, 2), A(2, 3, 3), expected=lambda x: np.diagonal(x, 0, 1, 2)
    )


def _matrices() -> Iterator[Sample]:
    yield from one(
        "diag_embed", lambda t, x: t.diag_embed(x, 1), A(2, 2), covers="view_scatter",
        expected=lambda x: np.stack([np.diag(row, 1) for row in x]),
    )  # fmt: skip
    yield from one("diag_embed", lambda t, x: t.diag_embed(x, -1, 0, 2), A(2, 2), covers="view_scatter")
    yield from method(
        "diagflat", lambda t, x: t.diagflat(x, 1), A(2, 2), covers="view_scatter", expected=lambda x: np.diagflat(x, 1)
    )
    yield from method("trace", lambda t, x: t.trace(x), A(2, 3), covers="sum", expected=np.trace, **_BOTH)
    yield from one("block_diag", lambda t, *xs: t.block_diag(*xs), A(2, 3), A(2), A(), covers="cat", expected=_blocks)


def _blocks(x: Any, y: Any, z: Any) -> Any:
    result = np.zeros((4, 6), x.dtype)
    result[:2, :3], result[2, 3:5], result[3, 5] = x, y, z
    return result


def _triangles() -> Iterator[Sample]:
    for name, function in (("triu", np.triu), ("tril", np.tril)):
        for k in (0, 1, -1):
            yield from method(
                name,
                lambda t, x, n=name, k=k: getattr(t, n)(x, k),
                A(3, 4),
                expected=lambda x, f=function, k=k: f(x, k),
                **_BOTH,
            )
        yield from one(name, lambda t, x, n=name: getattr(t, n)(x), A(2, 3, 3), expected=function)
        yield from one(
            f"{name}_indices", lambda t, x, n=name: getattr(t, n + "_indices")(3, 4, 1), A(1), covers="",
            differentiable=False, expected=lambda x, n=name: np.stack(getattr(np, n + "_indices")(3, 1, 4)),
        )  # fmt: skip
