"""Samples of `disttorch.ops.pool`."""

from __future__ import annotations

from collections.abc import Iterator

from disttorch.testing.rows.conv import layer
from disttorch.testing.sample import A, P, Sample, one


def samples() -> Iterator[Sample]:
    """Yield the samples of p-norm pooling."""
    for n, sizes in ((1, (5,)), (2, (3, 4)), (3, (2, 2, 2))):
        name = f"lp_pool{n}d"
        yield from one(name, layer(name, 3, 2), P(1, 2, *sizes), covers="avg_pool")
    yield from one("lp_pool1d", layer("lp_pool1d", float("inf"), 2), A(2, 5), covers="max_pool")
