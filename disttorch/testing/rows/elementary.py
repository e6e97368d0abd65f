"""Samples of `disttorch.ops.elementary`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from disttorch.testing.sample import A, Index, Input, P, Sample, one, pairwise, pointwise

_UNARY = {
    "sqrt": (np.sqrt, "positive"), "rsqrt": (lambda x: 1 / np.sqrt(x), "positive"), "exp": (np.exp, "any"),
    "log": (np.log, "positive"), "log2": (np.log2, "positive"), "log10": (np.log10, "positive"), "log1p":
    (np.log1p, "positive"), "expm1": (np.expm1, "any"), "sin": (np.sin, "any"), "cos": (np.cos, "any"), "tan":
    (np.tan, "unit"), "asin": (np.arcsin, "unit"), "acos": (np.arccos, "unit"), "atan": (np.arctan, "unit"),
    "asinh": (np.arcsinh, "any"), "atanh": (np.arctanh, "unit"), "sinh": (np.sinh, "any"), "cosh": (np.cosh, "any"), "tanh": (np.tanh, "any"), "exp2":
    (lambda x: np.exp(x * np.log(2)), "any"),
}  # fmt: skip
_ALIASES = {
    "arccos": "acos", "arcsin": "asin", "arctan": "atan", "arcsinh": "asinh", "arctanh": "atanh",
}  # fmt: skip


def samples() -> Iterator[Sample]:
    for name, (expected, values) in _UNARY.items():
        yield from pointwise(name, expected, values, complex=True)
    for alias, name in _ALIASES.items():
        expected = getattr(np, alias)
        yield from one(
            alias, lambda t, x, n=alias: getattr(t, n)(x), Input((3,), "unit"), covers=name, expected=expected
        )
    for name in ("acosh", "arccosh"):
        yield from one(name, lambda t, x, n=name: getattr(t, n)(x + 1), P(2, 3), covers="acosh", complex=True,
                       expected=lambda x: np.arccosh(x + 1))  # fmt: skip
    for name in ("deg2rad", "rad2deg"):
        yield from one(name, lambda t, x, n=name: getattr(t, n)(x), A(2, 3), expected=getattr(np, name))
    yield from pairwise("atan2", np.arctan2, number=None)
    yield from one("arctan2", lambda t, x, y: t.arctan2(x, y), A(3), A(2, 3), covers="atan2", expected=np.arctan2)
    for name in ("hypot", "logaddexp", "logaddexp2"):
        expected = getattr(np, name) if name != "logaddexp" else lambda x, y: np.log(np.exp(x) + np.exp(y))
        yield from pairwise(name, expected, number=None, complex=name == "logaddexp")
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
    yield from one("float_power", lambda t, x, y: t.float_power(x, y), P(2, 3), A(3), covers="pow",
                   expected=lambda x, y: x**y, complex=True)  # fmt: skip
    yield from one("ldexp", lambda t, x, n: t.ldexp(x, n), A(2, 3), Index(4, 3), covers="mul", expected=np.ldexp)
