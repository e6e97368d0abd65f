"""Samples of `disttorch.ops.scatter`: reading and writing along a dimension."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.ops.registry import traced
from disttorch.testing.sample import A, Index, Input, Sample, method, one

_BOTH: dict[str, Any] = {"complex": True}


def samples() -> Iterator[Sample]:
    """Yield the samples."""
    yield from _along_a_dimension()
    yield from _adding()
    yield from _reducing()
    yield from _rows()


def _along_a_dimension() -> Iterator[Sample]:
    for dim, shape in ((0, (2, 4)), (1, (3, 2)), (1, (2, 5)), (-1, (0, 2))):
        n = 3 if dim == 0 else 4
        yield from method("gather", lambda t, x, i, d=dim: t.gather(x, d, i), A(3, 4), Index(n, *shape), **_BOTH)
        yield from method(
            "scatter_add",
            lambda t, x, i, y, d=dim: t.scatter_add(x, d, i, y),
            A(3, 4),
            Index(n, *shape),
            A(3, 5),
            **_BOTH,
        )
    yield from one("gather", lambda t, x, i: t.gather(x, 0, i), A(), Index(1))
    yield from one("gather", lambda t, x, i: t.gather(x, 0, i), A(3), Index(3, 5))

    def distinct(t: Any, x: Any, y: Any) -> Any:
        return t.scatter(x, 1, t.tensor([[0, 3], [2, 1], [3, 0]]), y)

    yield from method("scatter", distinct, A(3, 4), A(3, 2), **_BOTH)
    yield from one("scatter", distinct, A(3, 4), A(3, 3), **_BOTH)
    yield from one("scatter", lambda t, x, i: t.scatter(x, 0, i, 1.5), A(3, 2), Index(3, 1, 2), **_BOTH)
    yield from one("scatter", lambda t, x, i: x.scatter(1, i, value=2.0), A(3, 2), Index(2, 3, 1))
    yield from method("index_select", lambda t, x, i: t.index_select(x, 1, i), A(2, 3), Index(3, 4), covers="index")
    yield from one("index_select", lambda t, x, i: t.index_select(x, 0, i), A(3), Index(3), covers="index")
    yield from one(
        "take", lambda t, x, i: traced.take(x, i), A(1, 2, 4), Index(4, 1, 2, 3), internal=True,
        expected=lambda x, i: np.take_along_axis(x, i, 2),
    )  # fmt: skip


def _adding() -> Iterator[Sample]:
    yield from method(
        "index_add",
        lambda t, x, i, y: t.index_add(x, 0, i, y),
        A(3, 2),
        Index(3, 4),
        A(4, 2),
        covers="index_put",
        **_BOTH,
    )
    yield from one(
        "index_add",
        lambda t, x, i, y: t.index_add(x, 1, i, y, alpha=2),
        A(3, 2),
        Index(2, 4),
        A(3, 4),
        covers="index_put",
    )


def _reducing() -> Iterator[Sample]:
    ways: dict[str, Any] = {"sum": "index_put", "mean": "index_put", "prod": "reduce_at", "amax": "reduce_at"}
    for reduce, covers in (*ways.items(), ("amin", "reduce_at")):
        for include in (True, False):
            yield from one(
                "scatter_reduce",
                lambda t, x, i, y, r=reduce, k=include: t.scatter_reduce(x, 1, i, y, r, include_self=k),
                A(2, 3), Index(3, 2, 4), A(2, 5), covers=covers,
            )  # fmt: skip
            if reduce != "sum":
                yield from one(
                    "index_reduce",
                    lambda t, x, i, y, r=reduce, k=include: t.index_reduce(x, 0, i, y, r, include_self=k),
                    A(4, 2), Index(3, 3), A(3, 2), covers=covers,
                )  # fmt: skip
    with_zeros = Input((4,), "zeros")
    yield from one("scatter_reduce", lambda t, x, i, y: t.scatter_reduce(x, 0, i, y, "prod"), A(3), Index(3, 4),
                   with_zeros, covers="reduce_at", order=1)  # fmt: skip
    yield from one("scatter", lambda t, x, i: t.scatter(x, 0, i, 1.5, reduce="add"), A(3, 2), Index(3, 1, 2),
                   covers="index_put")  # fmt: skip


def _rows() -> Iterator[Sample]:
    """Yield samples of writes and reads by a list of positions."""
    yield from method("index_copy", lambda t, x, y: t.index_copy(x, 1, t.tensor([2, 0]), y), A(2, 3), A(2, 2),
                      covers="index_put", **_BOTH)  # fmt: skip
    yield from one("index_copy", lambda t, x, y: t.index_copy(x, 0, t.tensor(0), y), A(), A(), covers="index_put")
    yield from method("index_fill", lambda t, x, i, v: t.index_fill(x, 0, i, v), A(3, 2), Index(3, 4), A(),
                      covers="index_put", **_BOTH)  # fmt: skip
    yield from one("index_fill", lambda t, x, i: t.index_fill(x, 1, i, 2.0), A(3, 2), Index(2, 1), covers="index_put")
    for add in (False, True):
        yield from method("put", lambda t, x, y, a=add: t.put(x, t.tensor([[5, -6], [1, 2]]), y, a), A(3, 2), A(4),
                          covers="index_put", **_BOTH)  # fmt: skip
    yield from method("take", lambda t, x, i: t.take(x, i), A(3, 2), Index(6, 2, 2), covers="index",
                      expected=np.take, **_BOTH)  # fmt: skip
    yield from one("take_along_dim", lambda t, x, i: t.take_along_dim(x, i, 1), A(3, 4), Index(4, 1, 2),
                   covers="gather", expected=lambda x, i: np.take_along_axis(x, i, 1))  # fmt: skip
    yield from one("take_along_dim", lambda t, x, i: t.take_along_dim(x, i), A(3, 4), Index(12, 2, 2), covers="gather")
