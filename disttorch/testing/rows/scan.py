"""Samples of `disttorch.ops.scan`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.testing.sample import A, Input, P, Sample, method, one

_TOTALS: dict[str, tuple[Any, str]] = {
    "cumsum": (np.cumsum, "cumsum"),
    "cumprod": (np.cumprod, "cumprod recurrence delay"),
    "logcumsumexp": (lambda x, d: np.log(np.cumsum(np.exp(x), d)), "logcumsumexp recurrence delay"),
}


def samples() -> Iterator[Sample]:
    for name, (function, covers) in _TOTALS.items():
        for dim in (0, 1):
            yield from method(
                name, lambda t, x, n=name, d=dim: getattr(t, n)(x, d), A(3, 4), covers=covers, complex=True,
                expected=lambda x, f=function, d=dim: f(x, d),
            )  # fmt: skip
        yield from one(name, lambda t, x, n=name: getattr(t, n)(x, 0), A(), covers=covers.split()[0])
    zeros = Input((3, 5), "zeros")
    yield from one("cumprod", lambda t, x: t.cumprod(x, 1), zeros, covers=_TOTALS["cumprod"][1], complex=True)
    for name, function in (("cummax", np.maximum), ("cummin", np.minimum)):
        yield from one(
            name, lambda t, x, n=name: getattr(t, n)(x, 0)[0], A(4, 3), covers="gather",
            expected=lambda x, f=function: f.accumulate(x, 0),
        )  # fmt: skip
        yield from one(name, lambda t, x, n=name: tuple(getattr(t, n)(x, 1)), A(2, 5, layout="transposed"), covers="")
        yield from one(name, lambda t, x, n=name: tuple(getattr(t, n)(x, 0)), A(), covers="")
    yield from _differences()
    yield from _integrals()


def _differences() -> Iterator[Sample]:
    for n in (0, 1, 2):
        yield from method("diff", lambda t, x, n=n: t.diff(x, n, 0), A(3, 4), covers="", complex=True,
                          expected=lambda x, n=n: np.diff(x, n, 0))  # fmt: skip
    yield from one("diff", lambda t, x, a, b: t.diff(x, prepend=a, append=b), A(2, 3), A(2, 1), A(2, 2), covers="cat",
                   expected=lambda x, a, b: np.diff(x, prepend=a, append=b))  # fmt: skip
    for edge in (1, 2):
        yield from one("gradient", lambda t, x, e=edge: t.gradient(x, spacing=0.5, edge_order=e), A(3, 4), covers="cat",
                       expected=lambda x, e=edge: tuple(np.gradient(x, 0.5, edge_order=e)), complex=True)  # fmt: skip
        yield from one("gradient", lambda t, x, p, e=edge: t.gradient(x, spacing=(p.cumsum(0),), dim=1, edge_order=e),
                       A(2, 4), P(4), covers="cat",
                       expected=lambda x, p, e=edge: (np.gradient(x, np.cumsum(p), axis=1, edge_order=e),))  # fmt: skip


def _integrals() -> Iterator[Sample]:
    for name in ("trapezoid", "trapz"):
        yield from one(name, lambda t, x, n=name: getattr(t, n)(x, dx=0.5, dim=0), A(3, 4), covers="sum",
                       expected=lambda x: np.trapezoid(x, dx=0.5, axis=0), complex=True)  # fmt: skip
        yield from one(name, lambda t, x, y, n=name: getattr(t, n)(y, x), A(4), A(3, 4), covers="sum",
                       expected=lambda x, y: np.trapezoid(y, x))  # fmt: skip
        yield from one(name, lambda t, x, y, n=name: getattr(t, n)(y, x), A(3, 4), A(3, 4), covers="sum",
                       expected=lambda x, y: np.trapezoid(y, x))  # fmt: skip
    yield from one("cumulative_trapezoid", lambda t, x, y: t.cumulative_trapezoid(y, x, dim=0), A(3), A(3, 2), covers="cumsum",
                   expected=lambda x, y: np.cumsum(np.diff(x)[:, None] * (y[1:] + y[:-1]) / 2, 0))  # fmt: skip
    yield from one("cumulative_trapezoid", lambda t, x: t.cumulative_trapezoid(x), A(3, 4), covers="cumsum")
