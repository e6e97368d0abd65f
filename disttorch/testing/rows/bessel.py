"""Samples of `disttorch.ops.bessel`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import special

from disttorch.testing.sample import Input, Sample, one

_DIFFERENTIABLE = {"i0e": special.i0e, "i1": special.i1, "i1e": special.i1e}
_OTHERS = {
    "airy_ai": (lambda x: special.airy(x)[0], "any"), "bessel_j0": (special.j0, "any"), "bessel_j1": (special.j1, "any"),
    "bessel_y0": (special.y0, "positive"), "bessel_y1": (special.y1, "positive"),
    "modified_bessel_i0": (special.i0, "any"), "modified_bessel_i1": (special.i1, "any"),
    "modified_bessel_k0": (special.k0, "positive"), "modified_bessel_k1": (special.k1, "positive"),
    "scaled_modified_bessel_k0": (special.k0e, "positive"), "scaled_modified_bessel_k1": (special.k1e, "positive"),
    "spherical_bessel_j0": (lambda x: np.sinc(x / np.pi), "zeros"),
}  # fmt: skip


def samples() -> Iterator[Sample]:
    for name, expected in _DIFFERENTIABLE.items():
        yield from _sample(name, Input((2, 3)), expected)
    for name, (expected, values) in _OTHERS.items():
        # PyTorch's Airy function has five digits around -2.
        yield from _sample(name, Input((2, 3), values), expected, differentiable=False, internal=name == "airy_ai")


def _sample(name: str, x: Input, expected: Any, **options: Any) -> Iterator[Sample]:
    def call(t: Any, x: Any) -> Any:
        return getattr(t.special, name)(x)

    yield from one(name, call, x, covers="special_" + name, expected=expected, **options)
