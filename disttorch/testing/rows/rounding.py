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
    yield from pairwise("maximum", np.maximum, number=None)
    yield from pairwise("minimum", np.minimum, number=None)
    yield from _limit_samples()


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
