"""Samples of `disttorch.ops.statistics`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from disttorch.testing.sample import A, Index, Input, Mask, P, Sample, method, one

_METHODS = ("linear", "lower", "higher", "midpoint", "nearest")


def samples() -> Iterator[Sample]:
    yield from _variances()
    yield from _quantiles()
    yield from _correlations()
    yield from _counts()


def _variances() -> Iterator[Sample]:
    for name, function, covers in (("var", np.var, ""), ("std", np.std, "root_of_variance")):
        for dim in (0, (0, 2), None):
            for keep in (False, True):
                x = A(2, 3, 2, layout="transposed" if keep else "plain")
                yield from one(
                    name, lambda t, x, n=name, d=dim, k=keep: getattr(t, n)(x, d, keepdim=k), x, covers=covers,
                    expected=lambda x, f=function, d=dim, k=keep: f(x, axis=d, keepdims=k, ddof=1), complex=True,
                )  # fmt: skip
        yield from one(name + "_mean", lambda t, x, n=name: getattr(t, n + "_mean")(x, 1), A(3, 4), covers=covers,
                       expected=lambda x, f=function: (f(x, 1, ddof=1), x.mean(1)), complex=True)  # fmt: skip
    yield from one("var", lambda t, x: t.var(x, unbiased=False), A(3, 2), covers="", expected=np.var)
    yield from one("var", lambda t, x: t.var(x, 0, correction=0), A(3, 2), covers="", expected=lambda x: np.var(x, 0))


def _quantiles() -> Iterator[Sample]:
    for how in _METHODS:
        yield from one("quantile", lambda t, x, h=how: t.quantile(x, 0.4, 1, interpolation=h), A(3, 4), covers="gather",
                       expected=lambda x, h=how: np.quantile(x, 0.4, 1, method=h))  # fmt: skip
    yield from one("quantile", lambda t, x, q: t.quantile(x, q), A(3, 4), Input((2,), "probability"), covers="gather",
                   expected=lambda x, q: np.quantile(x, q), order=1)  # fmt: skip
    yield from one("nanquantile", lambda t, x, m: t.nanquantile(t.where(m, t.nan, x), 0.3, 0, True), A(4, 5), Mask(4, 5),
                   covers="gather",
                   expected=lambda x, m: np.nanquantile(np.where(m, np.nan, x), 0.3, 0, keepdims=True))  # fmt: skip


def _correlations() -> Iterator[Sample]:
    yield from method("cov", lambda t, x: t.cov(x), A(3, 4), covers="", expected=np.cov, complex=True)
    yield from one("cov", lambda t, x, f, a: t.cov(x, correction=0, fweights=f + 1, aweights=a), A(2, 4), Index(3, 4), P(4),
                   covers="", expected=lambda x, f, a: np.cov(x, ddof=0, fweights=f + 1, aweights=a))  # fmt: skip
    yield from one("cov", lambda t, x: t.cov(x), A(4), covers="", expected=np.cov)
    yield from one("corrcoef", lambda t, x: t.corrcoef(x) * (1 - t.eye(3)), A(3, 4), covers="", complex=True,
                   expected=lambda x: np.corrcoef(x) * (1 - np.eye(3)))  # fmt: skip


def _counts() -> Iterator[Sample]:
    x, w = Index(4, 6), P(6)
    yield from one("bincount", lambda t, x: t.bincount(x, minlength=6), x, covers="", differentiable=False,
                   expected=lambda x: np.bincount(x, minlength=6))  # fmt: skip
    yield from one("bincount", lambda t, x, w: t.bincount(x, w), x, w, covers="", expected=np.bincount,
                   differentiable=False)  # fmt: skip
    yield from one("histc", lambda t, x: t.histc(x, 4), A(3, 4), covers="", differentiable=False,
                   expected=lambda x: np.histogram(x, 4)[0])  # fmt: skip
    yield from one("histc", lambda t, x: t.histc(x, 4, -1, 2), A(3, 4), covers="", differentiable=False,
                   expected=lambda x: np.histogram(x, 4, (-1, 2))[0])  # fmt: skip
    yield from one("histogram", lambda t, x, w: tuple(t.histogram(x, 3, weight=w, density=True)), A(6), w, covers="",
                   expected=lambda x, w: np.histogram(x, 3, weights=w, density=True), differentiable=False)  # fmt: skip
    yield from one("histogram", lambda t, x, e: tuple(t.histogram(x, t.sort(e)[0])), A(6), A(4), covers="",
                   expected=lambda x, e: np.histogram(x, np.sort(e)), differentiable=False)  # fmt: skip
    yield from one("histogramdd", lambda t, x: t.histogramdd(x, [2, 3], range=[-2.0, 2.0, -1.0, 3.0])[0], A(5, 2), covers="",
                   expected=lambda x: np.histogramdd(x, [2, 3], [(-2, 2), (-1, 3)])[0], differentiable=False)  # fmt: skip
