"""Samples of `disttorch.ops.join`, `convert` and `random`: copies and rearrangements into new memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.ops.registry import traced
from disttorch.testing.sample import A, Sample, method, one

_BOTH: dict[str, Any] = {"complex": True}


def samples() -> Iterator[Sample]:
    """Yield the samples."""
    for name in ("clone", "contiguous"):
        yield from method(name, lambda t, x, n=name: getattr(x, n)() * 1, A(2, 3), covers="", expected=np.copy, **_BOTH)
    yield from one("clone", lambda t, x: t.clone(x), A(2, 3, layout="transposed"), expected=np.copy, **_BOTH)
    yield from one("clone", lambda t, x: t.clone(x), A(2, 3, layout="strided"), expected=np.copy)
    for name in ("clone", "contiguous"):
        yield from one(
            name,
            lambda t, x, n=name: getattr(x, n)(memory_format=t.channels_last),
            A(2, 3, 1, 2),
            covers="clone",
            expected=np.copy,
        )
    yield from one("cast", lambda t, x: x.to(t.float64) * 1.0 if x.dtype != t.float64 else x.to(t.complex128), A(2, 3))
    yield from _joins()
    yield from _repeats()
    yield from _drawn()
    yield from one(
        "scale_by",
        lambda t, x: traced.scale_by(x, np.asarray([0.0, 2.0, 2.0], x._a.dtype)),
        A(2, 3),
        internal=True,
        **_BOTH,
    )


def _joins() -> Iterator[Sample]:
    def join(name: str, dim: int) -> Any:
        return lambda t, *xs: getattr(t, name)(xs, dim)

    for dim in (0, 1, -1):
        yield from method(
            "cat", join("cat", dim), A(2, 3), A(2, 3), expected=lambda *xs, d=dim: np.concatenate(xs, d), **_BOTH
        )
        yield from method(
            "stack", join("stack", dim), A(2, 3), A(2, 3), expected=lambda *xs, d=dim: np.stack(xs, d), **_BOTH
        )
    for name in ("concat", "concatenate"):
        yield from one(name, join(name, 1), A(2, 3), A(2, 1), covers="cat", expected=lambda *xs: np.concatenate(xs, 1))
    yield from one("cat", join("cat", 1), A(2, 3), A(2, 0), A(2, 1), expected=lambda *xs: np.concatenate(xs, 1))
    yield from one("cat", join("cat", 0), A(2, 3), A(0))
    yield from one("cat", lambda t, x: t.cat([x, x, x]), A(2, 3), expected=lambda x: np.concatenate([x] * 3))
    yield from one("stack", join("stack", 0), A(), A())


def _repeats() -> Iterator[Sample]:
    for times in ((2, 3), (2, 1, 2), (1, 1), (0, 2)):
        yield from method(
            "repeat",
            lambda t, x, n=times: x.repeat(n),
            A(2, 3),
            covers="expand",
            expected=lambda x, n=times: np.tile(x, n),
        )
    yield from one("repeat", lambda t, x: x.repeat(3), A(), covers="expand")
    for dims in ((0,), (1,), (0, 1), (-1,)):
        yield from method(
            "flip", lambda t, x, d=dims: t.flip(x, d), A(2, 3), expected=lambda x, d=dims: np.flip(x, d), **_BOTH
        )
    yield from one("sum_to_size", lambda t, x: x.sum_to_size(1, 3), A(2, 2, 3), covers="sum")


def _drawn() -> Iterator[Sample]:
    """Random numbers do not depend on the parameters that they were drawn with: their derivatives are zero."""
    for name, operands in (("bernoulli", 1), ("normal", 2)):
        yield from one(
            name,
            lambda t, *xs, n=name: getattr(traced, n)(*xs, np.ones((2, 3), xs[0]._a.dtype)) * 2,
            *[A(2, 3)] * operands,
            internal=True,
        )
