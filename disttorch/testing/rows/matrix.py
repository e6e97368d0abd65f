"""Samples of `disttorch.ops.matrix`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.linalg

from disttorch.testing.rows.factor import positive, positive_array
from disttorch.testing.rows.solve import regular, regular_array
from disttorch.testing.sample import A, Sample, one

_BOTH: dict[str, Any] = {"complex": True}


def samples() -> Iterator[Sample]:
    """Yield the samples."""
    x = A(2, 2)
    yield from one("cholesky", lambda t, x: t.cholesky(positive(t, x)), x, **_BOTH)
    for upper in (False, True):
        yield from one(
            "cholesky_solve",
            lambda t, b, x, u=upper: t.cholesky_solve(b, t.cholesky(positive(t, x), u), u), A(2, 3), A(2, 2),
            expected=lambda b, x: np.linalg.inv(positive_array(x)) @ b, **_BOTH,
        )  # fmt: skip
    yield from one("cholesky_inverse", lambda t, x: t.cholesky_inverse(t.cholesky(positive(t, x))), x, covers="cholesky",
                   expected=lambda x: np.linalg.inv(positive_array(x)), **_BOTH)  # fmt: skip
    yield from one("inverse", lambda t, x: t.inverse(regular(t, x)), x, covers="inv")
    yield from one("pinverse", lambda t, x: t.pinverse(x), A(3, 2), covers="pinv", expected=np.linalg.pinv)
    for name in ("det", "slogdet"):
        yield from one(name, lambda t, x, n=name: getattr(t, n)(regular(t, x)), x)
    yield from one("logdet", lambda t, x: t.logdet(positive(t, x)), x, covers="slogdet",
                   expected=lambda x: np.linalg.slogdet(positive_array(x))[1])  # fmt: skip
    yield from one("matrix_exp", lambda t, x: t.linalg.inv(t.matrix_exp(x)), x, expected=lambda x: scipy.linalg.expm(-x),
                   **_BOTH)  # fmt: skip
    yield from _triangles()
    yield from _reflectors()


def _triangles() -> Iterator[Sample]:
    yield from one("svd", lambda t, x: tuple(abs(y) for y in t.svd(x)), A(3, 2), **_BOTH)
    yield from one("svd", lambda t, x: t.svd(x, compute_uv=False).S, A(3, 2), **_BOTH)
    yield from one("qr", lambda t, x: tuple(t.qr(x)), A(3, 2))
    yield from one("lu", lambda t, x: t.lu(x), A(2, 2), covers="lu_factor")
    yield from one("lu_solve", lambda t, b, x: t.lu_solve(b, *t.linalg.lu_factor(regular(t, x))), A(2, 1), A(2, 2),
                   covers="lu_factor", expected=lambda b, x: np.linalg.solve(regular_array(x), b))  # fmt: skip
    yield from one("lu_unpack", lambda t, x: tuple(t.lu_unpack(*t.linalg.lu_factor(x))), A(3, 2), covers="lu_factor",
                   expected=scipy.linalg.lu)  # fmt: skip
    yield from one(
        "triangular_solve", lambda t, b, a: tuple(t.triangular_solve(b, regular(t, a), transpose=True)), A(2, 1), A(2, 2),
        covers="solve_triangular", expected=lambda b, a: np.linalg.inv(np.triu(regular_array(a)).T) @ b,
    )  # fmt: skip


def _reflectors() -> Iterator[Sample]:
    yield from one("geqrf", lambda t, x: tuple(t.geqrf(x)), A(3, 2), covers="", differentiable=False, **_BOTH)
    yield from one("orgqr", lambda t, x: t.orgqr(*t.geqrf(x)), A(3, 2), covers="", differentiable=False,
                   expected=lambda x: np.linalg.qr(x).Q, **_BOTH)  # fmt: skip
    for left, transpose in ((True, False), (False, True)):
        yield from one(
            "ormqr", lambda t, x, tau, y, s=left, c=transpose: t.ormqr(x, tau, y, s, c), A(2, 2), A(2), A(2, 2), covers="",
            **_BOTH,
        )  # fmt: skip
