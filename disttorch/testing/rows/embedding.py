"""Samples of `disttorch.ops.embedding`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.ops.registry import traced
from disttorch.testing.rows.conv import layer
from disttorch.testing.sample import A, Index, Sample, functional, one


def samples() -> Iterator[Sample]:
    """Yield the samples of tables of rows."""
    yield from one("embedding", layer("embedding"), Index(3, 2, 2), A(3, 2), covers="index", expected=lambda i, w: w[i])
    yield from one("embedding", lambda t, w: functional(t).embedding(t.tensor([2, 0]), w, scale_grad_by_freq=True), A(3, 2),
                   covers="index")  # fmt: skip
    yield from one("scale_gradient", lambda t, x: traced.scale_gradient(x, np.ones((2, 1))), A(2, 3), internal=True)
    for mode in ("sum", "mean", "max"):
        yield from one("embedding_bag", _bag(mode), A(3, 2), covers="index")
    yield from one(
        "embedding_bag",
        lambda t, i, w, f: functional(t).embedding_bag(i, w, mode="sum", per_sample_weights=f, padding_idx=1),
        Index(3, 2, 3), A(3, 2), A(2, 3), covers="scatter_add",
    )  # fmt: skip
    yield from one("one_hot", layer("one_hot", 4), Index(4, 2, 3), covers="", expected=lambda i: np.eye(4, dtype=int)[i],
                   differentiable=False)  # fmt: skip


def _bag(mode: str) -> Any:
    def call(t: Any, weight: Any) -> Any:
        return functional(t).embedding_bag(t.tensor([2, 0, 1, 0]), weight, t.tensor([0, 3, 3]), mode=mode)

    return call
