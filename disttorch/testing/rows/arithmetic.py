"""Samples of `disttorch.ops.arithmetic`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from disttorch.testing.sample import A, Index, P, Sample, method, one, pairwise, pointwise

_UNARY = {
    "neg": (np.negative, "any"), "reciprocal": (np.reciprocal, "positive"), "square": (np.square, "any"),
    "conj_physical": (np.conj, "any"),
}  # fmt: skip


def samples() -> Iterator[Sample]:
    for name, (expected, values) in _UNARY.items():
        yield from pointwise(name, expected, values, complex=True)
    yield from pointwise("conj", np.conj, complex=True, covers="")
    yield from pointwise("positive", lambda x: x, complex=True, covers="")
    yield from one("negative", lambda t, x: t.negative(x), A(2, 3), covers="neg", expected=np.negative)
    yield from _binary_samples()
    yield from _ternary_samples()


def _binary_samples() -> Iterator[Sample]:
    positive = ("any", "positive")
    yield from pairwise("add", np.add, complex=True)
    yield from pairwise("sub", np.subtract, complex=True)
    yield from pairwise("mul", np.multiply, complex=True)
    yield from pairwise("true_divide", np.true_divide, positive, complex=True)
    yield from pairwise("floor_divide", np.floor_divide, positive)
    yield from pairwise("remainder", np.remainder, positive)
    yield from pairwise("fmod", np.fmod, positive)
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
    for name, covers, expected in (
        ("subtract", "sub", np.subtract), ("multiply", "mul", np.multiply), ("divide", "true_divide", np.true_divide)
    ):  # fmt: skip
        yield from one(
            name, lambda t, x, y, n=name: getattr(t, n)(x, y), A(2, 3), P(3), covers=covers, expected=expected
        )
    for name in ("gcd", "lcm"):
        yield from one(
            name, lambda t, x, y, n=name: getattr(t, n)(x, y), Index(30, 3, 4), Index(30, 4), expected=getattr(np, name),
            differentiable=False,
        )  # fmt: skip


def _ternary_samples() -> Iterator[Sample]:
    yield from method("lerp", lambda t, x, y: t.lerp(x, y, 0.3), A(3, 2), A(3, 2), covers="", complex=True)
    yield from one(
        "lerp", lambda t, x, y, w: t.lerp(x, y, w), A(3, 2), A(2), A(3, 1), covers="",
        expected=lambda x, y, w: x + w * (y - x),
    )  # fmt: skip
    yield from one("addcmul", lambda t, x, y, z: t.addcmul(x, y, z, value=2), A(3, 2), A(2), A(3, 1), covers="",
                   expected=lambda x, y, z: x + 2 * y * z, complex=True)  # fmt: skip
    yield from one("addcdiv", lambda t, x, y, z: t.addcdiv(x, y, z, value=2), A(3, 2), A(2), P(3, 1), covers="",
                   expected=lambda x, y, z: x + 2 * y / z, complex=True)  # fmt: skip
