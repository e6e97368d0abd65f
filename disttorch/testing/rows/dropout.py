"""Samples of `disttorch.ops.dropout`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from disttorch.testing.sample import A, Sample, functional, one


def samples() -> Iterator[Sample]:
    """Yield the samples of dropout."""
    for name, shape in (
        ("dropout", (3, 4)),
        ("alpha_dropout", (3, 4)),
        ("feature_alpha_dropout", (2, 3, 2)),
        ("dropout1d", (3, 2)),
        ("dropout2d", (2, 3, 1, 2)),
        ("dropout3d", (3, 1, 2, 2)),
    ):
        yield from one(name, _seeded(name), A(*shape), covers="scale_by")
        yield from one(name, _seeded(name, p=1.0), A(*shape), covers="scale_by", expected=lambda x: 0 * x)


def _seeded(name: str, p: float = 0.4) -> Any:
    def call(t: Any, x: Any) -> Any:
        t.manual_seed(4)
        return getattr(functional(t), name)(x, p, True)

    return call
