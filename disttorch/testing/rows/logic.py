"""Samples of `disttorch.ops.logic`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from disttorch.testing.sample import A, Index, Input, Mask, Sample, one, pointwise


def samples() -> Iterator[Sample]:
    off = {"differentiable": False}
    for name, expected in (
        ("eq", np.equal), ("ne", np.not_equal), ("lt", np.less), ("le", np.less_equal), ("gt", np.greater),
        ("ge", np.greater_equal), ("logical_and", np.logical_and), ("logical_or", np.logical_or),
        ("logical_xor", np.logical_xor),
    ):  # fmt: skip
        for x, y in ((A(3, 4), A(3, 4)), (A(2, 3, layout="transposed"), A(3)), (A(), A(2)), (A(0, 2), A(2))):
            yield from one(name, lambda t, x, y, n=name: getattr(t, n)(x, y), x, y, expected=expected, **off)
        yield from one(
            name, lambda t, x, y, n=name: getattr(t, n)(x, y), Input((9,), "zeros"), Input((9,), "zeros"),
            expected=expected, **off,
        )  # fmt: skip
    for name, expected in (
        ("logical_not", np.logical_not), ("isnan", np.isnan), ("isinf", np.isinf), ("isfinite", np.isfinite),
        ("isposinf", np.isposinf), ("isneginf", np.isneginf),
    ):  # fmt: skip
        yield from pointwise(name, expected, "zeros", **off)
    for name, expected in (
        ("bitwise_and", np.bitwise_and), ("bitwise_or", np.bitwise_or), ("bitwise_xor", np.bitwise_xor)
    ):  # fmt: skip
        for x, y in ((Index(9, 3, 4), Index(9, 4)), (Mask(3, 4), Mask(3, 4))):
            yield from one(name, lambda t, x, y, n=name: getattr(t, n)(x, y), x, y, expected=expected, **off)
    for name, expected in (("bitwise_left_shift", np.left_shift), ("bitwise_right_shift", np.right_shift)):
        yield from one(name, lambda t, x, y, n=name: getattr(t, n)(x, y), Index(99, 3, 4), Index(70, 4),
                       expected=expected, **off)  # fmt: skip
    for alias, name in (
        ("greater", "gt"), ("greater_equal", "ge"), ("less", "lt"), ("less_equal", "le"), ("not_equal", "ne")
    ):  # fmt: skip
        yield from one(alias, lambda t, x, y, n=alias: getattr(t, n)(x, y), A(3), A(3), covers=name,
                       expected=getattr(np, alias), **off)  # fmt: skip
    yield from one("isreal", lambda t, x: t.isreal(x), A(3), covers="", expected=np.isreal, complex=True, **off)
    for x in (Index(9, 3, 4), Mask(3)):
        yield from one("bitwise_not", lambda t, x: t.bitwise_not(x), x, expected=np.invert, **off)
    yield from one("where", lambda t, c: t.where(c), Mask(3, 4), covers="", **off)
    yield from one("where", lambda t, c, x, y: t.where(c, x, y), Mask(3, 1), A(3, 4), A(4), covers="select_by",
                   expected=np.where, complex=True)  # fmt: skip
    yield from one("where", lambda t, c, x: t.where(c, x, 0.5), Mask(3), A(2, 3), covers="select_by")
    yield from one("isclose", lambda t, x, y: t.isclose(x, y, 0.5, 0.5), A(9), A(9), covers="", **off)
    yield from one("allclose", lambda t, x, y: t.allclose(x, y, 9.0, 9.0), A(9), A(9), covers="", **off)
    yield from one("equal", lambda t, x, y: t.equal(x, x), A(9), A(9), covers="", **off)
