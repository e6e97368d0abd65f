"""Samples of `disttorch.ops.rounding`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from disttorch.testing.sample import A, Input, P, Sample, method, one, pairwise, pointwise


def samples() -> Iterator[Sample]:
    for name in ("sign", "floor", "ceil", "trunc"):
        yield from pointwise(name, getattr(np, name))
    yield from pointwise("round", np.rint)
    yield from pointwise("frac", lambda x: x - np.trunc(x))
    yield from pointwise("abs", np.abs, complex=True)
    yield from pointwise("sgn", lambda x: x / np.abs(x), complex=True)
    yield from one("round", lambda t, x: t.round(x, decimals=1), A(3, 4))
    for name in ("maximum", "minimum", "fmax", "fmin"):
        yield from pairwise(name, getattr(np, name), number=None)
    for alias, name in (("absolute", "abs"), ("fix", "trunc")):
        yield from one(alias, lambda t, x, n=alias: getattr(t, n)(x), A(2, 3), covers=name, expected=getattr(np, name))
    yield from _limit_samples()
    yield from _sign_samples()
    yield from _representation_samples()


def _limit_samples() -> Iterator[Sample]:
    both = "clamp_min clamp_max"
    yield from method(
        "clamp", lambda t, x: t.clamp(x, -0.7, 1.3), A(3, 4), covers=both, expected=lambda x: np.clip(x, -0.7, 1.3)
    )  # fmt: skip
    yield from one(
        "clamp", lambda t, x, a, b: t.clamp(x, a, b), A(3, 4), Input((4,), "unit"), P(3, 1), covers=both,
        expected=np.clip,
    )  # fmt: skip
    yield from one("clamp_min", lambda t, x: t.clamp_min(x, 0.5), A(3, 4))
    yield from one("clamp_max", lambda t, x: t.clamp_max(x, 0.5), A(3, 4))
    yield from one("clip", lambda t, x: t.clip(x, max=0.5), A(3, 4), covers="clamp_max",
                   expected=lambda x: np.minimum(x, 0.5))  # fmt: skip


def _sign_samples() -> Iterator[Sample]:
    yield from pairwise("copysign", np.copysign, number=-1.5)
    yield from pointwise("signbit", np.signbit, differentiable=False)
    yield from one("heaviside", lambda t, x, y: t.heaviside(x, y), Input((3, 4), "zeros"), A(4), expected=np.heaviside,
                   differentiable=False)  # fmt: skip


def _representation_samples() -> Iterator[Sample]:
    yield from one("nextafter", lambda t, x, y: t.nextafter(x, y), A(2, 3), A(3), expected=np.nextafter)
    yield from method("frexp", lambda t, x: tuple(t.frexp(x)), A(3, 4), expected=lambda x: tuple(np.frexp(x)))
    yield from one("nan_to_num", lambda t, x: t.nan_to_num(x), A(2, 3), expected=np.nan_to_num)
    yield from one(
        "nan_to_num", lambda t, x: t.nan_to_num(t.log(x), 1.0, 2.0, 3.0), Input((2, 6), "zeros"), covers="",
        expected=lambda x: np.nan_to_num(np.log(x), nan=1.0, posinf=2.0, neginf=3.0), differentiable=False, complex=True,
    )  # fmt: skip
