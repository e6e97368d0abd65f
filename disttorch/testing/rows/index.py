"""Samples of `disttorch.ops.index`: reading and writing by index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.ops.registry import traced
from disttorch.testing.sample import A, Index, Mask, Sample, method, one

_BOTH: dict[str, Any] = {"complex": True}


def samples() -> Iterator[Sample]:
    """Yield the samples."""
    yield from _reading()
    yield from _along_a_dimension()
    yield from _adding()
    yield from _masks()
    yield from _in_place()


def _reading() -> Iterator[Sample]:
    read = {"covers": "index", **_BOTH}
    for rows in ([0, 2, 0], [-1], [[0, 1], [2, 2]], []):
        yield from method("getitem", lambda t, x, r=rows: x[r], A(3, 4), **read)
        yield from one("getitem", lambda t, x, r=rows: x[:, r], A(2, 3), **read)
    yield from method("getitem", lambda t, x, i: x[i], A(3, 4), Index(3, 2, 2), **read)
    yield from method("getitem", lambda t, x, i, j: x[i, j], A(3, 4), Index(3, 3), Index(4, 3), **read)
    yield from method("getitem", lambda t, x, i, j: x[i, :, j], A(3, 2, 4), Index(3, 2), Index(4, 2), **read)
    yield from one("getitem", lambda t, x, i, j: x[:, i, j], A(2, 3, 4), Index(3, 2, 1), Index(4, 3), **read)
    yield from one("getitem", lambda t, x, i: x[0, :, i], A(2, 3, 4), Index(4, 2), **read)
    yield from one("getitem", lambda t, x, i: x[i, 1:, None, 0], A(3, 3, 4), Index(3, 2), **read)
    yield from method("getitem", lambda t, x, m: x[m], A(3, 4), Mask(3, 4), **read)
    yield from one("getitem", lambda t, x, m: x[m], A(3, 4), Mask(3), **read)
    yield from one("getitem", lambda t, x, m: x[:, m, 1:], A(2, 3, 2), Mask(3), **read)
    yield from one("getitem", lambda t, x: x[x > 0], A(3, 4), covers="index")


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
    for add in (False, True):
        yield from method(
            "index_put",
            lambda t, x, y, a=add: t.index_put(x, (t.tensor([0, 2]), t.tensor([1, 1])), y, a),
            A(3, 2),
            A(2),
            **_BOTH,
        )
        yield from one("index_put", lambda t, x, y, a=add: t.index_put(x, (t.tensor([0, 2]),), y, a), A(3, 2), A(2))
    yield from one("index_put", lambda t, x, i, y: t.index_put(x, (i,), y, True), A(3, 2), Index(3, 5), A(5, 1))


def _masks() -> Iterator[Sample]:
    yield from method("masked_select", lambda t, x, m: t.masked_select(x, m), A(3, 4), Mask(4), covers="index", **_BOTH)
    yield from one("masked_select", lambda t, x, m: t.masked_select(x, m), A(3, 1), Mask(3, 4), covers="index")
    yield from method("masked_fill", lambda t, x, m: t.masked_fill(x, m, 2.5), A(3, 4), Mask(3, 4), covers="select_by")
    yield from one(
        "masked_fill", lambda t, x, m: t.masked_fill(x, m, -1.0), A(3, 4), Mask(3, 1), covers="select_by", **_BOTH
    )
    yield from one("masked_fill", lambda t, x, m, v: t.masked_fill(x, m, v), A(3, 4), Mask(4), A(), covers="select_by")
    yield from one("nonzero", lambda t, m: t.nonzero(m), Mask(3, 4), covers="", differentiable=False)
    yield from one("nonzero", lambda t, m: t.nonzero(m, as_tuple=True), Mask(3, 4), covers="", differentiable=False)


def _in_place() -> Iterator[Sample]:
    """Yield writes into a copy, so that the derivative goes through the operators that write."""

    def writing(change: Any) -> Any:
        def call(t: Any, x: Any, *rest: Any) -> Any:
            y = x.clone()
            change(t, y, *rest)
            return y

        return call

    def set_rows(t: Any, y: Any, v: Any) -> None:
        y[1:] = v

    def set_mask(t: Any, y: Any, m: Any, v: Any) -> None:
        y[m] = v

    def set_number(t: Any, y: Any) -> None:
        y[:, 0] = 2.0

    def add_rows(t: Any, y: Any, v: Any) -> None:
        y[[0, 2]] += v

    yield from method("setitem", writing(set_rows), A(3, 2), A(2), covers="view_scatter copy", **_BOTH)
    yield from method("setitem", writing(set_number), A(3, 2), covers="view_scatter", **_BOTH)
    yield from one("setitem", writing(set_mask), A(3, 2), Mask(3, 2), A(), covers="index_put", **_BOTH)
    yield from one("setitem", writing(add_rows), A(3, 2), A(2), covers="index_put", **_BOTH)
    yield from one("copy_", writing(lambda t, y, v: y.copy_(v)), A(3, 2), A(2), covers="copy", **_BOTH)
    yield from one("fill_", writing(lambda t, y: y.fill_(1.5)), A(3, 2), covers="fill", **_BOTH)
    yield from one("zero_", writing(lambda t, y: y.zero_()), A(3, 2), covers="fill")
    yield from one("mul_", writing(lambda t, y, v: y.mul_(v)), A(3, 2), A(2), covers="mul")
    yield from one("add_", writing(lambda t, y, v: y.add_(v, alpha=2)), A(3, 2), A(2), covers="add")
    yield from one("exp_", writing(lambda t, y: y[0].exp_()), A(3, 2), covers="exp view_scatter")
    yield from one("relu_", writing(lambda t, y: y.t().relu_()), A(3, 2), covers="relu view_scatter")
