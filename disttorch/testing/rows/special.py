"""Samples of `disttorch.ops.special`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import special

from disttorch.testing.sample import A, Input, P, Sample, one, pairwise

_UNARY = {
    "erfc": (special.erfc, "any"), "erfinv": (special.erfinv, "unit"), "lgamma": (special.gammaln, "positive"),
    "logit": (special.logit, "probability"), "i0": (special.i0, "any"),
}  # fmt: skip
_OF_SPECIAL = {
    "erfcx": (special.erfcx, "any"), "ndtr": (special.ndtr, "any"), "ndtri": (special.ndtri, "probability"),
    "log_ndtr": (special.log_ndtr, "any"), "entr": (special.entr, "positive"),
}  # fmt: skip


def samples() -> Iterator[Sample]:
    for name, (expected, values) in _UNARY.items():
        yield from one(name, lambda t, x, n=name: getattr(t, n)(x), Input((2, 3), values), expected=expected)
    for name, (expected, values) in _OF_SPECIAL.items():
        yield from one(name, lambda t, x, n=name: getattr(t.special, n)(x), Input((2, 3), values),
                       covers="special_" + name, expected=expected)  # fmt: skip
    yield from one("sinc", lambda t, x: t.sinc(x), A(2, 3), expected=np.sinc, complex=True)
    yield from one("logit", lambda t, x: t.logit(x, 0.3), Input((2, 3), "probability"), covers="logit clamp_min",
                   expected=lambda x: special.logit(np.clip(x, 0.3, 0.7)))  # fmt: skip
    yield from _gamma_samples()
    yield from _logarithm_samples()


def _gamma_samples() -> Iterator[Sample]:
    trigamma = {"internal": True}  # PyTorch's has nine digits
    yield from one("digamma", lambda t, x: t.digamma(x), P(2, 3), expected=special.digamma, **trigamma)
    yield from one("polygamma", lambda t, x: t.polygamma(0, x), P(2, 3), expected=special.digamma, **trigamma)
    yield from one("polygamma", lambda t, x: t.polygamma(2, x), P(2, 3), expected=lambda x: special.polygamma(2, x))
    yield from one("mvlgamma", lambda t, x: t.mvlgamma(x + 1, 3), P(2, 3), covers="lgamma",
                   expected=lambda x: np.vectorize(special.multigammaln)(x + 1, 3))  # fmt: skip
    for name, expected in (("igamma", special.gammainc), ("igammac", special.gammaincc)):
        yield from one(name, lambda t, x, n=name: getattr(t, n)(x.detach() * 0 + 2, x), P(2, 3),
                       expected=lambda x, f=expected: f(2.0, x))  # fmt: skip
    yield from one("zeta", lambda t, x: t.special.zeta(2.5, x), P(2, 3), covers="special_zeta",
                   expected=lambda x: special.zeta(2.5, x))  # fmt: skip


def _logarithm_samples() -> Iterator[Sample]:
    yield from pairwise("xlogy", special.xlogy, ("any", "positive"))
    yield from one("xlogy", lambda t, x, y: t.xlogy(x, y), Input((9,), "zeros"), P(9), expected=special.xlogy)
    yield from one("xlogy", lambda t, x: t.xlogy(2.5, x), P(3), expected=lambda x: special.xlogy(2.5, x))
    yield from one("xlog1py", lambda t, x, y: t.special.xlog1py(x, y), A(2, 3), P(3), covers="special_xlog1py",
                   expected=special.xlog1py)  # fmt: skip
