"""Samples of `disttorch.ops.order`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from disttorch.testing.sample import A, Index, Mask, Sample, method, one


def samples() -> Iterator[Sample]:
    for descending in (False, True):
        yield from method("sort", lambda t, x, d=descending: tuple(t.sort(x, 0, d)), A(3, 4), covers="gather")
        yield from method(
            "argsort", lambda t, x, d=descending: t.argsort(x, 0, d), A(3, 4), covers="", differentiable=False
        )
        yield from method("topk", lambda t, x, d=descending: tuple(t.topk(x, 2, 1, d)), A(3, 4), covers="gather")
    yield from one("sort", lambda t, x: tuple(t.sort(x)), A(), covers="")
    yield from one("topk", lambda t, x: tuple(t.topk(x, 0)), A(3), covers="")
    yield from method("msort", lambda t, x: t.msort(x), A(3, 4), covers="gather", expected=lambda x: np.sort(x, 0))
    yield from _chosen()
    yield from _searches()
    yield from _distinct()


def _chosen() -> Iterator[Sample]:
    # Which of equal elements is taken is open: where a type makes elements equal, only values are compared.
    x = A(3, 4)
    yield from method("kthvalue", lambda t, x: t.kthvalue(x, 2, 0)[0], x, covers="gather",
                      expected=lambda x: np.sort(x, 0)[1])  # fmt: skip
    yield from one("kthvalue", lambda t, x: tuple(t.kthvalue(x, 1)), A(), covers="")
    for name in ("median", "nanmedian"):
        yield from one(name, lambda t, x, n=name: getattr(t, n)(x), A(3, 3), covers="median",
                       expected=getattr(np, name))  # fmt: skip
        yield from method(name, lambda t, x, n=name: getattr(t, n)(x, 1, True)[0], x, covers="gather")
        yield from one(name, lambda t, x, n=name: tuple(getattr(t, n)(x, 0)), A(1, 3), covers="gather")
    yield from one("nanmedian", lambda t, x, m: t.nanmedian(t.where(m, t.nan, x), 0)[0], A(4, 5), Mask(4, 5),
                   covers="gather")  # fmt: skip
    yield from one("mode", lambda t, x: tuple(t.mode(x, 1)), Index(3, 4, 6), covers="", differentiable=False)
    yield from one("mode", lambda t, x: t.mode(x, 0, True)[0], A(1, 3), covers="gather", expected=lambda x: x)


def _searches() -> Iterator[Sample]:
    for right in (False, True):
        side = "right" if right else "left"
        yield from one(
            "searchsorted", lambda t, x, y, r=right: t.searchsorted(t.sort(x)[0], y, right=r), A(5), A(2, 3), covers="",
            expected=lambda x, y, s=side: np.searchsorted(np.sort(x), y, s), differentiable=False,
        )  # fmt: skip
        yield from one(
            "searchsorted", lambda t, x, y, s=side: t.searchsorted(x, y, side=s, sorter=t.argsort(x), out_int32=True),
            Index(4, 2, 5), Index(4, 2, 3), covers="", differentiable=False,
        )  # fmt: skip
        yield from one("bucketize", lambda t, x, y, r=right: t.bucketize(x, t.sort(y)[0], right=r), Index(6, 2, 3),
                       Index(6, 4), covers="", expected=lambda x, y, s=side: np.searchsorted(np.sort(y), x, s),
                       differentiable=False)  # fmt: skip
    yield from one("isin", lambda t, x, y: t.isin(x, y, invert=True), Index(5, 2, 3), Index(5, 2), covers="",
                   expected=lambda x, y: ~np.isin(x, y), differentiable=False)  # fmt: skip


def _distinct() -> Iterator[Sample]:
    x = Index(3, 4, 3)
    for dim in (None, 0, 1):
        yield from one(
            "unique", lambda t, x, d=dim: t.unique(x, True, True, True, d), x, covers="", differentiable=False
        )
        yield from one("unique_consecutive", lambda t, x, d=dim: t.unique_consecutive(x, True, True, d), x, covers="",
                       differentiable=False)  # fmt: skip
    yield from one("unique", lambda t, x: t.unique(x), x, covers="", expected=np.unique, differentiable=False)
