"""Samples of `disttorch.ops.padding`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.testing.rows.conv import layer
from disttorch.testing.sample import A, Sample, one

_NUMPY = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def samples() -> Iterator[Sample]:
    """Yield the samples of padding."""
    for mode in _NUMPY:
        yield from one("pad", layer("pad", (1, 2), mode), A(1, 2, 3), covers="", expected=_padded(mode), complex=True)
    yield from one("pad", layer("pad", (-1, 1, 0, -1), value=2.0), A(3, 2), covers="slice view_scatter")


def _padded(mode: str) -> Any:
    numpy_mode: Any = _NUMPY[mode]
    return lambda x: np.pad(x, ((0, 0), (0, 0), (1, 2)), mode=numpy_mode)
