"""Samples of `disttorch.ops.eigen`; of singular and eigenvectors, whose phase is free, the absolute values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.testing.rows.factor import positive, positive_array
from disttorch.testing.sample import A, Sample, one

_BOTH: dict[str, Any] = {"complex": True}


def samples() -> Iterator[Sample]:
    """Yield the samples."""
    for shape in ((2, 2), (3, 2), (2, 2, 3)):
        x = A(*shape)
        yield from one("svd", lambda t, x: tuple(abs(y) for y in t.linalg.svd(x, False)), x,
                       expected=lambda x: tuple(abs(y) for y in np.linalg.svd(x, False)), **_BOTH)  # fmt: skip
        yield from one("svdvals", lambda t, x: t.linalg.svdvals(x), x, covers="svd",
                       expected=lambda x: np.linalg.svd(x, compute_uv=False), **_BOTH)  # fmt: skip
        yield from one("pinv", lambda t, x: t.linalg.pinv(x), x, expected=np.linalg.pinv, **_BOTH)
        yield from one("matrix_rank", lambda t, x: t.linalg.matrix_rank(x), x, covers="", differentiable=False,
                       expected=np.linalg.matrix_rank, **_BOTH)  # fmt: skip
    yield from one("pinv", lambda t, x: t.linalg.pinv(positive(t, x), hermitian=True), A(2, 2), **_BOTH,
                   expected=lambda x: np.linalg.inv(positive_array(x)))  # fmt: skip
    yield from _eigenvalues()


def _eigenvalues() -> Iterator[Sample]:
    for x in (A(2, 2), A(2, 3, 3)):
        yield from one("eigh", lambda t, x: _sizes(t.linalg.eigh(positive(t, x))), x,
                       expected=lambda x: _sizes(np.linalg.eigh(positive_array(x))), **_BOTH)  # fmt: skip
        yield from one("eigvalsh", lambda t, x: t.linalg.eigvalsh(positive(t, x)), x, covers="eigh",
                       expected=lambda x: np.linalg.eigvalsh(positive_array(x)), **_BOTH)  # fmt: skip
        yield from one("eig", lambda t, x: _sizes(t.linalg.eig(x)), x,
                       expected=lambda x: _sizes(np.linalg.eig(x)), **_BOTH)  # fmt: skip
        yield from one("eigvals", lambda t, x: t.linalg.eigvals(x), x, covers="eig",
                       expected=np.linalg.eigvals, **_BOTH)  # fmt: skip


def _sizes(result: Any) -> Any:
    return (result[0], abs(result[1]))
