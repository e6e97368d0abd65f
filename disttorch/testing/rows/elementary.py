"""Samples of `disttorch.ops.elementary`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from disttorch.testing.sample import A, P, Sample, one, pairwise, pointwise

_UNARY = {
    "sqrt": (np.sqrt, "positive"), "rsqrt": (lambda x: 1 / np.sqrt(x), "positive"), "exp": (np.exp, "any"),
    "log": (np.log, "positive"), "log2": (np.log2, "positive"), "log10": (np.log10, "positive"), "log1p":
    (np.log1p, "positive"), "expm1": (np.expm1, "any"), "sin": (np.sin, "any"), "cos": (np.cos, "any"), "tan":
    (np.tan, "unit"), "asin": (np.arcsin, "unit"), "acos": (np.arccos, "unit"), "atan": (np.arctan, "unit"),
    "sinh": (np.sinh, "any"), "cosh": (np.cosh, "any"), "tanh": (np.tanh, "any"), "exp2": (np.exp2, "any"),
}  # fmt: skip


def samples() -> Iterator[Sample]:
    for name, (expected, values) in _UNARY.items():
        yield from pointwise(name, expected, values, complex=name != "exp2")
    yield from pairwise("atan2", np.arctan2, number=None)
    yield from _power_samples()


def _power_samples() -> Iterator[Sample]:
    yield from pairwise("pow", np.power, ("positive", "any"), complex=True)
    for exponent in (0, 1, 2, 3, -1, 0.5, -1.5):
        yield from one(
            "pow", lambda t, x, k=exponent: x**k, P(2, 3), expected=lambda x, k=exponent: x**k, complex=True
        )  # fmt: skip
    for exponent in (0, 2, 3):
        yield from one("pow", lambda t, x, k=exponent: t.pow(x, k), A(2, 3), complex=True)
    yield from one("pow", lambda t, x: 2**x, A(2, 3), expected=lambda x: 2**x, complex=True)
    yield from one("pow", lambda t, x: t.pow(2.5, x), A(2, 3), expected=lambda x: 2.5**x)
