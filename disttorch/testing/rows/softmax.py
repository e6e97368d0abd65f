"""Samples of `disttorch.ops.softmax`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.ops.registry import traced
from disttorch.testing.rows.activation import F
from disttorch.testing.sample import A, Sample, functional, method, one


def samples() -> Iterator[Sample]:
    def soft(x: Any, d: int) -> Any:
        e = np.exp(x - x.max(d, keepdims=True))
        return e / e.sum(d, keepdims=True)

    for dim in (0, 1, -1):
        yield from method("softmax", lambda t, x, d=dim: t.softmax(x, d), A(3, 4), expected=lambda x, d=dim: soft(x, d))
        yield from method(
            "log_softmax",
            lambda t, x, d=dim: t.log_softmax(x, d),
            A(3, 4),
            expected=lambda x, d=dim: np.log(soft(x, d)),
        )
    for name in ("softmax", "log_softmax"):
        yield from one(name, lambda t, x, n=name: getattr(t, n)(x, 1), A(2, 3, 2))
        yield from one(name, lambda t, x, n=name: getattr(t, n)(x, 0), A())
        yield from one(name, lambda t, x, n=name: getattr(t, n)(x, 1), A(0, 3))
        yield from one(
            name + "_grad",
            lambda t, g, y, n=name: getattr(traced, n + "_grad")(g, y, 1),
            A(2, 3),
            A(2, 3),
            internal=True,
        )
    yield from one("softmin", F("softmin", 1), A(2, 3), covers="softmax", expected=lambda x: soft(-x, 1))
    for hard in (False, True):

        def drawn(t: Any, x: Any, hard: bool = hard) -> Any:
            t.manual_seed(3)
            return functional(t).gumbel_softmax(x, 0.7, hard)

        yield from one("gumbel_softmax", drawn, A(2, 3), covers="softmax", differentiable=not hard)
