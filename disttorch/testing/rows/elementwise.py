"""Samples of `disttorch.ops.elementwise`, and of the activation functions that take complex numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.ops.registry import traced
from disttorch.testing.sample import A, Input, P, Sample, method, one, pairwise, pointwise

_UNARY_COMPLEX = {
    "neg": (np.negative, "any"), "reciprocal": (np.reciprocal, "positive"), "square": (np.square, "any"),
    "sqrt": (np.sqrt, "positive"), "rsqrt": (lambda x: 1 / np.sqrt(x), "positive"), "exp": (np.exp, "any"),
    "log": (np.log, "positive"), "log2": (np.log2, "positive"), "log10": (np.log10, "positive"),
    "log1p": (np.log1p, "positive"), "expm1": (np.expm1, "any"), "sin": (np.sin, "any"), "cos": (np.cos, "any"),
    "tan": (np.tan, "unit"), "asin": (np.arcsin, "unit"), "acos": (np.arccos, "unit"), "atan": (np.arctan, "unit"),
    "sinh": (np.sinh, "any"), "cosh": (np.cosh, "any"), "tanh": (np.tanh, "any"), "abs": (np.abs, "any"),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), "any"), "exp2": (np.exp2, "any"),
}  # fmt: skip


def _erf(x: Any) -> Any:
    import scipy.special

    return scipy.special.erf(x)


def samples() -> Iterator[Sample]:
    for name, (expected, values) in _UNARY_COMPLEX.items():
        yield from pointwise(name, expected, values, complex=name not in ("exp2",))
    yield from pointwise("sgn", lambda x: x / np.abs(x), complex=True)
    for name, expected in (
        ("sign", np.sign),
        ("floor", np.floor),
        ("ceil", np.ceil),
        ("trunc", np.trunc),
        ("round", np.rint),
        ("frac", lambda x: x - np.trunc(x)),
        ("erf", _erf),
    ):
        yield from pointwise(name, expected)
    yield from pointwise("conj", np.conj, complex=True, covers="")
    yield from one(
        "conj_physical", lambda t, x: traced.conj_physical(x), A(2, 3), expected=np.conj, complex=True, internal=True
    )
    yield from one("round", lambda t, x: t.round(x, decimals=1), A(3, 4))
    yield from _binary_samples()
    yield from _power_samples()
    yield from _limit_samples()


def _binary_samples() -> Iterator[Sample]:
    positive = ("any", "positive")
    yield from pairwise("add", np.add, complex=True)
    yield from pairwise("sub", np.subtract, complex=True)
    yield from pairwise("mul", np.multiply, complex=True)
    yield from pairwise("true_divide", np.true_divide, positive, complex=True)
    yield from pairwise("floor_divide", np.floor_divide, positive)
    yield from pairwise("remainder", np.remainder, positive)
    yield from pairwise("fmod", np.fmod, positive)
    yield from pairwise("maximum", np.maximum, number=None)
    yield from pairwise("minimum", np.minimum, number=None)
    yield from pairwise("atan2", np.arctan2, number=None)
    yield from one("rsub", lambda t, x, y: t.rsub(x, y), A(3), A(2, 3), covers="sub")
    yield from one("rsub", lambda t, x: 1.5 - x, A(3), covers="sub", expected=lambda x: 1.5 - x)
    yield from one("div", lambda t, x: 1.5 / x, P(3), covers="true_divide", complex=True)
    yield from one("add", lambda t, x, y: t.add(x, y, alpha=3), A(2, 3), A(3), expected=lambda x, y: x + 3 * y)
    yield from one("sub", lambda t, x, y: t.sub(x, y, alpha=3), A(2, 3), A(3), expected=lambda x, y: x - 3 * y)
    for mode, covers in (("trunc", "trunc_divide"), ("floor", "floor_divide")):
        yield from one(
            "div",
            lambda t, x, y, mode=mode: t.div(x, y, rounding_mode=mode),
            A(3, 4),
            P(4),
            covers=covers,
            expected=(lambda x, y: np.trunc(x / y)) if mode == "trunc" else np.floor_divide,
        )
    yield from method("lerp", lambda t, x, y: t.lerp(x, y, 0.3), A(3, 2), A(3, 2), covers="", complex=True)
    yield from one(
        "lerp", lambda t, x, y, w: t.lerp(x, y, w), A(3, 2), A(2), A(3, 1), covers="",
        expected=lambda x, y, w: x + w * (y - x),
    )  # fmt: skip


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
