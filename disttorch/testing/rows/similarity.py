"""Samples of `disttorch.ops.similarity`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.testing.rows.activation import F
from disttorch.testing.sample import A, Sample, method, one


def samples() -> Iterator[Sample]:
    def norm(x: Any, p: float, axis: int = -1) -> Any:
        return np.linalg.norm(x, p, axis, keepdims=True)

    def cosine(x: Any, y: Any) -> Any:
        return np.sum(x * y, 1) / (norm(x, 2) * norm(y, 2))[:, 0]

    yield from method("cosine_similarity", F("cosine_similarity"), A(2, 3), A(2, 3), covers="", expected=cosine)
    yield from one("cosine_similarity", F("cosine_similarity"), A(2, 3), A(1, 3), covers="", expected=cosine)
    for p in (2, 1):
        yield from one(
            "pairwise_distance", F("pairwise_distance", p, keepdim=True), A(2, 3), A(3), covers="",
            expected=lambda x, y, p=p: norm(x - y + 1e-6, p),
        )  # fmt: skip
    for p, dim in ((2, 1), (3, 0)):
        yield from one("normalize", F("normalize", p, dim), A(2, 3), covers="clamp_min",
                       expected=lambda x, p=p, d=dim: x / norm(x, p, d), complex=True)  # fmt: skip
    yield from one("bilinear", F("bilinear"), A(3, 2), A(3, 2), A(2, 2, 2), A(2), covers="",
                   expected=lambda x, y, w, b: np.einsum("ni,kij,nj->nk", x, w, y) + b)  # fmt: skip
    yield from one("bilinear", F("bilinear"), A(2, 1, 2), A(2, 1, 3), A(1, 2, 3), covers="",
                   expected=lambda x, y, w: np.einsum("...i,kij,...j->...k", x, w, y))  # fmt: skip
