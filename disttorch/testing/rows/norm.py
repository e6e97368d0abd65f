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
    yield from one("layer_norm", layer("layer_norm", (3,)), A(2, 3), covers="native_layer_norm", expected=_layer_norm)
    yield from one("layer_norm", lambda t, x, w, b: functional(t).layer_norm(x, (2, 3), w, b, 0.1), A(2, 2, 3), A(2, 3),
                   A(2, 3), covers="native_layer_norm")  # fmt: skip
    yield from one("rms_norm", lambda t, x, w: functional(t).rms_norm(x, (3,), w, 0.1), A(2, 3), A(3),
                   covers="scale_to_unit", expected=_rms_norm)  # fmt: skip
    yield from one("group_norm", lambda t, x, w, b: functional(t).group_norm(x, 2, w, b), A(2, 4, 2), A(4), A(4),
                   covers="standardize")  # fmt: skip
    for training in (True, False):
        for shape in (
            (3, 2, 2),
            (4, 2),
            (2, 2, 8),
        ):  # of short rows, of single values, of rows long enough for compiled code
            covers = "native_batch_norm" if training else ""
            call = _with_statistics("batch_norm", training)
            yield from one("batch_norm", call, A(*shape), A(2), A(2), covers=covers)
        covers = "standardize" if training else ""
        yield from one(
            "instance_norm", _with_statistics("instance_norm", training), A(2, 2, 3), A(2), A(2), covers=covers
        )
    for x in (A(1, 4, 3), A(1, 3, 2, 2)):
        yield from one("local_response_norm", layer("local_response_norm", 3, 0.5), x, covers="avg_pool")
    for weight, bias in ((True, False), (False, True), (False, False)):
        yield from one("native_batch_norm", _native("native_batch_norm", weight, bias, 0.1), P(2, 2, 2), A(2), A(2),
                       internal=True)  # fmt: skip
        yield from one("native_layer_norm", _native("native_layer_norm", weight, bias, 1, 0.1), P(2, 3), A(3), A(3),
                       internal=True)  # fmt: skip
    for name in ("standardize", "scale_to_unit"):
        yield from one(name, lambda t, x, n=name: getattr(traced, n)(x, (0, 2), 0.1), P(2, 2, 3), internal=True)
    for dims in ((0, 2), (2,)):  # rows long enough for the compiled kernels
        yield from one("standardize", lambda t, x, d=dims: traced.standardize(x, d, 0.1), P(2, 2, 8), internal=True)


def _native(name: str, with_weight: bool, with_bias: bool, *options: Any) -> Any:
    """Return a call with or without weight and bias, which returns the statistics too."""

    def call(t: Any, x: Any, weight: Any, bias: Any) -> Any:
        return getattr(traced, name)(x, weight if with_weight else None, bias if with_bias else None, *options)

    return call


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
