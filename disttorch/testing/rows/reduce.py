"""Samples of `disttorch.ops.reduce`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

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
    for name, function in (("var", np.var), ("std", np.std)):
        yield from one(
            name, lambda t, x, n=name: getattr(t, n)(x, arguments[0] if arguments else None, keepdim=keep), x, covers="",
            expected=lambda x, f=function: f(x, axis=axis, keepdims=keep, ddof=1), complex=True,
        )  # fmt: skip
    if not arguments:
        return
    if axis is not None:
        yield from one("amax", call("amax"), x, covers="extreme", expected=apply(np.max))
        yield from one("amin", call("amin"), x, covers="extreme", expected=apply(np.min))
        yield from one("logsumexp", call("logsumexp"), x,
                       expected=lambda x: np.log(np.sum(np.exp(x), axis=axis, keepdims=keep)))  # fmt: skip
    for p in (2, 1, 3, 0.5, 0, float("inf"), float("-inf")):
        yield from one(
            "norm", lambda t, x, p=p: t.norm(x, p, *arguments), x, covers="vector_norm",
            expected=lambda x, p=p: _norm(x, p, axis, keep), order=1 if p == 0 else 2,
            complex=p in (2, 1, 3),
        )  # fmt: skip


def _norm(x: Any, p: float, axis: Any, keep: bool) -> Any:
    size = np.abs(x)
    if p == 0:
        return np.sum(size != 0, axis=axis, keepdims=keep).astype(size.dtype)
    if np.isinf(p):
        return (np.max if p > 0 else np.min)(size, axis=axis, keepdims=keep)
    return np.sum(size**p, axis=axis, keepdims=keep) ** (1 / p)


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
    for dim in (0, 1):
        yield from method(
            "cumsum",
            lambda t, x, d=dim: t.cumsum(x, d),
            A(3, 4),
            expected=lambda x, d=dim: np.cumsum(x, d),
            complex=True,
        )
    yield from one("cumsum", lambda t, x: t.cumsum(x, 0), A())
    yield from one("var", lambda t, x: t.var(x, unbiased=False), A(3, 2), covers="", expected=np.var)
    yield from one("var", lambda t, x: t.var(x, 0, correction=0), A(3, 2), covers="", expected=lambda x: np.var(x, 0))
    yield from one("dist", lambda t, x, y: t.dist(x, y, 3), A(3), A(2, 3), covers="")
    yield from one("norm", lambda t, x: t.norm(x), A(3, 2), covers="vector_norm", expected=np.linalg.norm, complex=True)
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
    for descending in (False, True):
        yield from method("sort", lambda t, x, d=descending: tuple(t.sort(x, 0, d)), A(3, 4), covers="gather")
        yield from method(
            "argsort", lambda t, x, d=descending: t.argsort(x, 0, d), A(3, 4), covers="", differentiable=False
        )
        yield from method("topk", lambda t, x, d=descending: tuple(t.topk(x, 2, 1, d)), A(3, 4), covers="gather")
    yield from one("sort", lambda t, x: tuple(t.sort(x)), A(), covers="")
    yield from one("topk", lambda t, x: tuple(t.topk(x, 0)), A(3), covers="")
