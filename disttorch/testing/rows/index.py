"""Samples of `disttorch.ops.index`: reading and writing by index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.testing.sample import A, Index, Mask, Sample, method, one

_BOTH: dict[str, Any] = {"complex": True}


def samples() -> Iterator[Sample]:
    """Yield the samples."""
    yield from _reading()
    yield from _putting()
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


def _putting() -> Iterator[Sample]:
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
    yield from one("index_put_", lambda t, x, i, y: t.index_put_(x.clone(), (i, i), y, True), A(3, 2, 3),
                   Index(2, 2, 2), A(3), covers="index_put")  # fmt: skip


def _masks() -> Iterator[Sample]:
    yield from method("masked_select", lambda t, x, m: t.masked_select(x, m), A(3, 4), Mask(4), covers="index", **_BOTH)
    yield from one("masked_select", lambda t, x, m: t.masked_select(x, m), A(3, 1), Mask(3, 4), covers="index")
    yield from method("masked_fill", lambda t, x, m: t.masked_fill(x, m, 2.5), A(3, 4), Mask(3, 4), covers="select_by")
    yield from one(
        "masked_fill", lambda t, x, m: t.masked_fill(x, m, -1.0), A(3, 4), Mask(3, 1), covers="select_by", **_BOTH
    )
    yield from one("masked_fill", lambda t, x, m, v: t.masked_fill(x, m, v), A(3, 4), Mask(4), A(), covers="select_by")
    yield from one("masked_scatter", lambda t, x, y: t.masked_scatter(x, t.tensor([True, False, True]), y), A(2, 3), A(5),
                   covers="index_put", **_BOTH)  # fmt: skip
    yield from one("argwhere", lambda t, m: t.argwhere(m), Mask(3, 4), covers="", expected=np.argwhere,
                   differentiable=False)  # fmt: skip
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
    yield from one("fill", lambda t, x: t.fill(x, 2.5), A(3), covers="", expected=lambda x: np.full_like(x, 2.5))
    yield from one("fill", lambda t, x, v: t.fill(x, v), A(3), A(), covers="copy", **_BOTH)
    yield from one("fill_", writing(lambda t, y: y.fill_(1.5)), A(3, 2), covers="fill", **_BOTH)
    yield from one("zero_", writing(lambda t, y: y.zero_()), A(3, 2), covers="fill")
    yield from one("mul_", writing(lambda t, y, v: y.mul_(v)), A(3, 2), A(2), covers="mul")
    yield from one("add_", writing(lambda t, y, v: y.add_(v, alpha=2)), A(3, 2), A(2), covers="add")
    yield from one("exp_", writing(lambda t, y: y[0].exp_()), A(3, 2), covers="exp view_scatter")
    yield from one("relu_", writing(lambda t, y: y.t().relu_()), A(3, 2), covers="relu view_scatter")
