"""Samples of `disttorch.ops.strided`: views by stride, windows, writing into a copy through a view."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.ops.registry import traced
from disttorch.testing.sample import A, Sample, method, one

_BOTH: dict[str, Any] = {"complex": True}


def samples() -> Iterator[Sample]:
    """Yield the samples."""
    yield from _strides()
    yield from _windows()
    yield from _scatters()
    yield from one(
        "resize_as_", lambda t, x, y: t.resize_as_(x.clone(), y), A(2, 3), A(3, 2), covers="", differentiable=False,
        expected=lambda x, y: x.reshape(3, 2),
    )  # fmt: skip


def _strides() -> Iterator[Sample]:
    for size, stride, offset in (((2, 2), (1, 2), 1), ((3, 3), (2, 1), None), ((2,), (0,), 3), ((), (), 2)):
        yield from method(
            "as_strided",
            lambda t, x, a=(size, stride, offset): t.as_strided(x, *a),
            A(3, 4),
            **_BOTH,
        )
    yield from one(
        "as_strided", lambda t, x: t.as_strided(x, (2, 2), (2, 1)), A(4),
        expected=lambda x: x[:4].reshape(2, 2),
    )  # fmt: skip
    yield from one(
        "as_strided_", lambda t, x: t.as_strided_(x * 1, (2, 2), (1, 2)), A(4), covers="as_strided",
        expected=lambda x: x.reshape(2, 2).T,
    )  # fmt: skip
    # PyTorch's gradient of the first operand has the hole and the rest exchanged, so this one is compared with NumPy only
    yield from one(
        "as_strided_scatter", lambda t, x, y: traced.as_strided_scatter(x, y, (2, 2), (1, 2), 1), A(6), A(2, 2),
        expected=lambda x, y: np.concatenate([x[:1], y.T.ravel(), x[5:]]), internal=True, **_BOTH,
    )  # fmt: skip


def _windows() -> Iterator[Sample]:
    for dim, size, step in ((0, 2, 1), (1, 2, 2), (-1, 3, 1)):
        yield from method("unfold", lambda t, x, a=(dim, size, step): x.unfold(*a), A(3, 4), **_BOTH)
    yield from one("unfold", lambda t, x: x.unfold(0, 1, 1), A(), expected=lambda x: x.reshape(1))


def _scatters() -> Iterator[Sample]:
    yield from method(
        "select_scatter", lambda t, x, y: t.select_scatter(x, y, 1, -1), A(2, 3), A(2), covers="view_scatter",
        expected=lambda x, y: np.concatenate([x[:, :2], y[:, None]], 1),
    )  # fmt: skip
    yield from method(
        "slice_scatter", lambda t, x, y: t.slice_scatter(x, y, 1, 1, None, 2), A(2, 4), A(2, 2), covers="view_scatter",
        expected=lambda x, y: np.stack([x[:, 0], y[:, 0], x[:, 2], y[:, 1]], 1),
    )  # fmt: skip
