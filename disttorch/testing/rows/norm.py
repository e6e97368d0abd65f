"""Samples of `disttorch.ops.norm`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.ops.registry import traced
from disttorch.testing.rows.conv import layer
from disttorch.testing.sample import A, P, Sample, functional, one


def samples() -> Iterator[Sample]:
    """Yield the samples of the normalizations."""
    yield from one("layer_norm", layer("layer_norm", (3,)), A(2, 3), covers="standardize", expected=_layer_norm)
    yield from one("layer_norm", lambda t, x, w, b: functional(t).layer_norm(x, (2, 3), w, b, 0.1), A(2, 2, 3), A(2, 3),
                   A(2, 3), covers="standardize")  # fmt: skip
    yield from one("rms_norm", lambda t, x, w: functional(t).rms_norm(x, (3,), w, 0.1), A(2, 3), A(3),
                   covers="scale_to_unit", expected=_rms_norm)  # fmt: skip
    yield from one("group_norm", lambda t, x, w, b: functional(t).group_norm(x, 2, w, b), A(2, 4, 2), A(4), A(4),
                   covers="standardize")  # fmt: skip
    for training in (True, False):
        covers = "standardize" if training else ""
        yield from one("batch_norm", _with_statistics("batch_norm", training), A(3, 2, 2), A(2), A(2), covers=covers)
        yield from one(
            "instance_norm", _with_statistics("instance_norm", training), A(2, 2, 3), A(2), A(2), covers=covers
        )
    for x in (A(1, 4, 3), A(1, 3, 2, 2)):
        yield from one("local_response_norm", layer("local_response_norm", 3, 0.5), x, covers="avg_pool")
    for name in ("standardize", "scale_to_unit"):
        yield from one(name, lambda t, x, n=name: getattr(traced, n)(x, (0, 2), 0.1), P(2, 2, 3), internal=True)
    for dims in ((0, 2), (2,)):  # rows long enough for the compiled kernels
        yield from one("standardize", lambda t, x, d=dims: traced.standardize(x, d, 0.1), P(2, 2, 8), internal=True)


def _layer_norm(x: Any) -> Any:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def _rms_norm(x: Any, w: Any) -> Any:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 0.1) * w


def _with_statistics(name: str, training: bool) -> Any:
    """Return a call with running statistics, which returns them too."""

    def call(t: Any, x: Any, weight: Any, bias: Any) -> Any:
        mean, var = t.tensor([0.5, -1.0], dtype=x.dtype), t.tensor([2.0, 0.5], dtype=x.dtype)
        y = getattr(functional(t), name)(x, mean, var, weight, bias, training, 0.25)
        return (y, mean, var)

    return call
