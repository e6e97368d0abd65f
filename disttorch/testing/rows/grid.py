"""Samples of `disttorch.ops.grid`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from disttorch.testing.rows.conv import layer
from disttorch.testing.sample import A, Input, Sample, functional, one


def samples() -> Iterator[Sample]:
    """Yield the samples of sampling at grids."""
    image, volume = A(1, 2, 3, 2), A(1, 1, 2, 2, 3)
    places, wide = Input((1, 1, 3, 2), "unit"), A(1, 1, 2, 2)
    for grid, mode, padding, align in (
        (places, "bilinear", "zeros", False),
        (wide, "bilinear", "border", True),
        (wide, "bilinear", "reflection", False),
        (places, "nearest", "zeros", False),
        (places, "bicubic", "reflection", True),
    ):
        yield from one("grid_sample", layer("grid_sample", mode, padding, align), image, grid, covers="take")
    yield from one(
        "grid_sample", layer("grid_sample", align_corners=True), volume, Input((1, 1, 1, 2, 3), "unit"), covers="take"
    )
    for n, size in ((2, (1, 1, 2, 3)), (3, (1, 1, 1, 2, 2))):
        yield from one("affine_grid", _affine(size), A(1, n, n + 1), covers="bmm")


def _affine(size: Any) -> Any:
    return lambda t, theta: functional(t).affine_grid(theta * 1.0, size, align_corners=False)
