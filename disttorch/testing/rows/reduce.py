"""Samples of `disttorch.ops.reduce`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import special

from disttorch.testing.sample import A, Input, Mask, Sample, method, one

_DIMS: tuple[Any, ...] = (0, -1, (0, 2), (1,), None)


def samples() -> Iterator[Sample]:
    for dim in _DIMS:
        axis = tuple(dim) if isinstance(dim, tuple) else dim
        for keep in (False, True):
            arguments = () if dim is None and not keep else (dim, keep)
            yield from _reductions_over(arguments, axis, keep)
    yield from _whole_reductions()
    yield from _extremes()


def _reductions_over(arguments: Any, axis: Any, keep: bool) -> Iterator[Sample]:
    def call(name: str) -> Any:
        return lambda t, x: getattr(t, name)(x, *arguments)

    def apply(function: Any) -> Any:
        return lambda x: function(x, axis=axis, keepdims=keep)

    layout = "transposed" if keep else "plain"
    x = A(2, 3, 2, layout=layout)
    yield from one("sum", call("sum"), x, expected=apply(np.sum), complex=True)
    yield from one("mean", call("mean"), x, expected=apply(np.mean), complex=True)
    if not arguments:
        return
    if axis is not None:
        yield from one("amax", call("amax"), x, covers="extreme", expected=apply(np.max))
        yield from one("amin", call("amin"), x, covers="extreme", expected=apply(np.min))
        yield from one("logsumexp", call("logsumexp"), x,
                       expected=lambda x: special.logsumexp(x, axis=axis, keepdims=keep), complex=True)  # fmt: skip
        yield from one("nansum", call("nansum"), x, covers="sum", expected=apply(np.sum))
        yield from one("nanmean", call("nanmean"), x, covers="sum", expected=apply(np.mean))


def _whole_reductions() -> Iterator[Sample]:
    for name, x in (("sum", A()), ("mean", A()), ("sum", A(0)), ("sum", A(2, 0)), ("prod", A()), ("prod", A(0))):
        yield from one(name, lambda t, x, n=name: getattr(t, n)(x), x, complex=True)
    yield from one("sum", lambda t, x: t.sum(x, 0), A(), expected=lambda x: x)
    yield from one("sum", lambda t, x: t.sum(x, 1), A(3, 0), expected=lambda x: np.sum(x, 1))
    for x in (A(2, 3), Input((2, 3), "zeros"), Input((1, 7), "zeros")):
        yield from one(
            "prod", lambda t, x: t.prod(x), x, expected=np.prod, covers="prod product_of_others", complex=True
        )
        yield from one(
            "prod",
            lambda t, x: t.prod(x, 1),
            x,
            covers="prod product_of_others",
            expected=lambda x: np.prod(x, 1),
            complex=True,
        )
        yield from one("prod", lambda t, x: t.prod(x, 0, True), x, expected=lambda x: np.prod(x, 0, keepdims=True))
    for name, function in (("all", np.all), ("any", np.any)):
        for x in (Mask(3, 4), Input((4,), "zeros")):
            yield from one(
                name, lambda t, x, n=name: getattr(t, n)(x), x, covers="", expected=function, differentiable=False
            )
            yield from one(name, lambda t, x, n=name: getattr(t, n)(x, 0, True), x, covers="",
                           expected=lambda x, f=function: f(x, 0, keepdims=True), differentiable=False)  # fmt: skip


def _extremes() -> Iterator[Sample]:
    for name in ("max", "min"):
        function = getattr(np, name)
        yield from method(name, lambda t, x, n=name: getattr(t, n)(x), A(3, 4), covers="extreme", expected=function)
        yield from method(name, lambda t, x, n=name: tuple(getattr(t, n)(x, 1)), A(3, 4), covers="gather")
        yield from one(name, lambda t, x, n=name: getattr(t, n)(x, 0, True)[0], A(3, 4), covers="gather")
        yield from one(name, lambda t, x, n=name: tuple(getattr(t, n)(x, 0)), A(), covers="")
        yield from one(name, lambda t, x, y, n=name: getattr(t, n)(x, y), A(3, 4), A(4), covers=name + "imum")
        yield from method("arg" + name, lambda t, x, n=name: getattr(t, "arg" + n)(x, 1, True), A(3, 4), covers="",
                          differentiable=False)  # fmt: skip
        yield from method("arg" + name, lambda t, x, n=name: getattr(t, "arg" + n)(x), A(3, 4), covers="",
                          expected=getattr(np, "arg" + name), differentiable=False)  # fmt: skip
    yield from one("aminmax", lambda t, x: tuple(t.aminmax(x, dim=1)), A(3, 4), covers="extreme",
                   expected=lambda x: (x.min(1), x.max(1)))  # fmt: skip
    yield from one("aminmax", lambda t, x: tuple(t.aminmax(x)), A(), covers="")
    x = Input((3, 4), "zeros")
    yield from one("count_nonzero", lambda t, x: t.count_nonzero(x), x, covers="", expected=np.count_nonzero,
                   differentiable=False)  # fmt: skip
    yield from one("count_nonzero", lambda t, x: t.count_nonzero(x, 1), x, covers="", differentiable=False)
    for name in ("nansum", "nanmean"):
        yield from one(
            name, lambda t, x, m, n=name: getattr(t, n)(t.where(m, t.nan, x), 1), A(3, 4), Mask(3, 4), covers="sum"
        )
