"""Samples of `disttorch.ops.adaptive_pool`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.ops.registry import traced
from disttorch.testing.rows.conv import layer
from disttorch.testing.sample import A, Sample, functional, one

_PLACES = np.array([[0, 1, 2], [1, 2, 3]])


def samples() -> Iterator[Sample]:
    """Yield the samples of adaptive and fractional pooling, and of max unpooling."""
    for n, x, size in ((1, (1, 2, 5), 3), (2, (2, 4, 3), (3, None)), (3, (1, 1, 3, 2, 3), 2)):
        yield from one(f"adaptive_avg_pool{n}d", layer(f"adaptive_avg_pool{n}d", size), A(*x), covers="resample")
        yield from one(
            f"adaptive_max_pool{n}d", layer(f"adaptive_max_pool{n}d", size, return_indices=True), A(*x),
            covers="max_of_places max_pool_grad",
        )  # fmt: skip
        yield from one(f"max_unpool{n}d", _unpooled(n), A(1, 2, *(4 for _ in range(n))), covers="scatter max_pool")
    yield from one("adaptive_avg_pool2d", layer("adaptive_avg_pool2d", 2), A(1, 1, 4, 2), covers="avg_pool")
    for n, x in ((2, (1, 2, 5, 4)), (3, (1, 4, 4, 4))):
        yield from one(f"fractional_max_pool{n}d", _fractional(n), A(*x), covers="max_of_places max_pool_grad")
    yield from one(
        "max_of_places", lambda t, x: traced.max_of_places(x, _PLACES, (2,)), A(1, 2, 4), internal=True,
        covers="max_of_places max_pool_grad",
    )  # fmt: skip


def _unpooled(n: int) -> Any:
    def call(t: Any, x: Any) -> Any:
        pooled, places = getattr(functional(t), f"max_pool{n}d")(x, 2, return_indices=True)
        return getattr(functional(t), f"max_unpool{n}d")(pooled, places, 2)

    return call


def _fractional(n: int) -> Any:
    def call(t: Any, x: Any) -> Any:
        t.manual_seed(1)
        return getattr(functional(t), f"fractional_max_pool{n}d")(x, 2, output_size=2)

    return call
