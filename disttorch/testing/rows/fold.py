"""Samples of `disttorch.ops.fold`."""

from __future__ import annotations

from collections.abc import Iterator

from disttorch.testing.rows.conv import layer
from disttorch.testing.sample import A, Sample, one


def samples() -> Iterator[Sample]:
    """Yield the samples of blocks as columns."""
    both = "im2col col2im"
    yield from one("unfold", layer("unfold", 2, padding=1, stride=2), A(1, 2, 3, 2), covers=both, complex=True)
    yield from one("unfold", layer("unfold", (1, 2), dilation=2), A(1, 2, 3), covers=both)
    yield from one("fold", layer("fold", (3, 2), (2, 1)), A(1, 2, 4), covers=both, complex=True)
    yield from one("fold", layer("fold", 3, 2, 2, 1), A(4, 9), covers=both)
