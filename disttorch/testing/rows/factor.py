"""Samples of `disttorch.ops.factor`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.linalg

from disttorch.testing.sample import A, Sample, one

_BOTH: dict[str, Any] = {"complex": True}


def positive(t: Any, x: Any) -> Any:
    """Return a positive definite matrix made of a square one."""
    return x @ t.conj(x).mT + 2 * t.eye(x.shape[-1], dtype=x.dtype)


def positive_array(x: Any) -> Any:
    """Return the same as an array."""
    return x @ x.conj().mT + 2 * np.eye(x.shape[-1])


def samples() -> Iterator[Sample]:
    """Yield the samples."""
    yield from _cholesky()
    yield from _qr()
    yield from _lu()
    yield from _ldl()


def _cholesky() -> Iterator[Sample]:
    for x in (A(2, 2), A(2, 3, 3)):
        yield from one(
            "cholesky", lambda t, x: t.linalg.cholesky(positive(t, x)), x,
            expected=lambda x: np.linalg.cholesky(positive_array(x)), **_BOTH,
        )  # fmt: skip
    yield from one("cholesky", lambda t, x: t.linalg.cholesky(positive(t, x), upper=True), A(2, 2),
                   expected=lambda x: np.linalg.cholesky(positive_array(x)).conj().mT, **_BOTH)  # fmt: skip
    yield from one("cholesky_ex", lambda t, x: tuple(t.linalg.cholesky_ex(positive(t, x))), A(2, 2), covers="cholesky")
    yield from one("cholesky_ex", lambda t, x: t.linalg.cholesky_ex(-positive(t, x)).info, A(2, 2, 2), covers="",
                   expected=lambda x: np.ones(2, np.int32), differentiable=False)  # fmt: skip


def _qr() -> Iterator[Sample]:
    for shape in ((3, 2), (2, 2), (2, 3), (2, 2, 2)):
        yield from one("qr", lambda t, x: tuple(t.linalg.qr(x)), A(*shape), expected=np.linalg.qr, **_BOTH)
    yield from one("qr", lambda t, x: tuple(t.linalg.qr(x, "complete")), A(3, 2), differentiable=False,
                   expected=lambda x: np.linalg.qr(x, "complete"))  # fmt: skip
    yield from one("qr", lambda t, x: t.linalg.qr(x, "r").R, A(3, 2), differentiable=False,
                   expected=lambda x: np.linalg.qr(x, "r"))  # fmt: skip
    yield from one(
        "householder_product", lambda t, x, tau: t.linalg.householder_product(x, tau), A(3, 2), A(2), covers="", **_BOTH
    )


def _lu() -> Iterator[Sample]:
    for shape in ((2, 2), (2, 3), (3, 2), (2, 2, 2)):
        x = A(*shape)
        yield from one("lu_factor", lambda t, x: tuple(t.linalg.lu_factor(x)), x, **_BOTH)
        yield from one(
            "lu", lambda t, x: tuple(t.linalg.lu(x)), x, covers="lu_factor", expected=scipy.linalg.lu, **_BOTH
        )
    yield from one("lu_factor_ex", lambda t, x: tuple(t.linalg.lu_factor_ex(x)), A(2, 2), covers="lu_factor")


def _ldl() -> Iterator[Sample]:
    hermitian: dict[str, Any] = {"covers": "", "differentiable": False, "complex": True}
    for name in ("ldl_factor", "ldl_factor_ex"):
        yield from one(
            name,
            lambda t, x, n=name: tuple(getattr(t.linalg, n)(positive(t, x), hermitian=True)),
            A(2, 2, 2),
            **hermitian,
        )

    def solve(t: Any, x: Any, b: Any) -> Any:
        return t.linalg.ldl_solve(
            *t.linalg.ldl_factor(positive(t, x) - 4 * t.eye(3, dtype=x.dtype), hermitian=True), b, hermitian=True
        )

    yield from one("ldl_solve", solve, A(3, 3), A(3, 2),
                   expected=lambda x, b: np.linalg.solve(positive_array(x) - 4 * np.eye(3), b), **hermitian)  # fmt: skip
