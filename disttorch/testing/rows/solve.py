"""Samples of `disttorch.ops.solve`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.ops.registry import traced
from disttorch.testing.sample import A, Input, Sample, one

_BOTH: dict[str, Any] = {"complex": True}


def regular(t: Any, x: Any) -> Any:
    """Return a matrix far from a singular one."""
    return x + 4 * t.eye(x.shape[-1], dtype=x.dtype)


def regular_array(x: Any) -> Any:
    """Return the same as an array."""
    return x + 4 * np.eye(x.shape[-1])


def samples() -> Iterator[Sample]:
    """Yield the samples."""
    for name, formula in (("inv", np.linalg.inv), ("det", np.linalg.det)):
        for x in (A(2, 2), A(2, 3, 3)):
            yield from one(
                name, lambda t, x, n=name: getattr(t.linalg, n)(regular(t, x)), x,
                expected=lambda x, f=formula: f(regular_array(x)), **_BOTH,
            )  # fmt: skip
    # Some of these are singular: PyTorch's derivative is then 0, which is not the limit.
    yield from one("det", lambda t, x: traced.det(x), Input((5, 2, 2), "zeros"), expected=np.linalg.det, internal=True)
    yield from one("inv_ex", lambda t, x: tuple(t.linalg.inv_ex(regular(t, x))), A(2, 2), covers="inv")
    yield from one("slogdet", lambda t, x: tuple(t.linalg.slogdet(regular(t, x))), A(2, 2, 2), **_BOTH,
                   expected=lambda x: tuple(np.linalg.slogdet(regular_array(x))))  # fmt: skip
    yield from _systems()
    yield from _least_squares()
    yield from _tensors()


def _systems() -> Iterator[Sample]:
    for a, b in ((A(2, 2), A(2, 3)), (A(2, 2, 2), A(2, 1)), (A(2, 2), A(2))):
        yield from one(
            "solve", lambda t, a, b: t.linalg.solve(regular(t, a), b), a, b,
            expected=lambda a, b: np.linalg.solve(regular_array(a), b), **_BOTH,
        )  # fmt: skip
    yield from one("solve", lambda t, a, b: t.linalg.solve(regular(t, a), b, left=False), A(2, 2), A(3, 2),
                   expected=lambda a, b: b @ np.linalg.inv(regular_array(a)))  # fmt: skip
    yield from one(
        "solve_ex", lambda t, a, b: tuple(t.linalg.solve_ex(regular(t, a), b)), A(2, 2), A(2, 1), covers="solve"
    )
    for upper, left, unit in ((True, True, False), (False, False, False), (False, True, True)):
        yield from one(
            "solve_triangular",
            lambda t, a, b, u=upper, s=left, d=unit: t.linalg.solve_triangular(
                regular(t, a), b, upper=u, left=s, unitriangular=d
            ),
            A(2, 2), A(2, 2, 2), expected=lambda a, b, u=upper, s=left, d=unit: _triangular(regular_array(a), b, u, s, d),
            **_BOTH,
        )  # fmt: skip
    for left, adjoint in ((True, False), (True, True), (False, False)):
        yield from one(
            "lu_solve",
            lambda t, a, b, s=left, c=adjoint: t.linalg.lu_solve(*t.linalg.lu_factor(a), b, left=s, adjoint=c),
            A(2, 2), A(2, 2), covers="lu_factor solve_triangular",
            expected=lambda a, b, s=left, c=adjoint: _solved(a.conj().mT if c else a, b, s), **_BOTH,
        )  # fmt: skip


def _solved(a: Any, b: Any, left: bool) -> Any:
    return np.linalg.inv(a) @ b if left else b @ np.linalg.inv(a)


def _triangular(a: Any, b: Any, upper: bool, left: bool, unit: bool) -> Any:
    a = np.triu(a) if upper else np.tril(a)
    if unit:
        a = a - np.diag(np.diag(a)) + np.eye(len(a))
    return _solved(a, b, left)


def _least_squares() -> Iterator[Sample]:
    for m in (2, 3, 4):
        yield from one(
            "lstsq", lambda t, a, b: tuple(t.linalg.lstsq(a, b, driver="gelsd"))[:2], A(m, 3), A(m, 2),
            expected=lambda a, b: np.linalg.lstsq(a, b)[:2], **_BOTH,
        )  # fmt: skip


def _tensors() -> Iterator[Sample]:
    def full(t: Any, x: Any) -> Any:
        return regular(t, x.reshape(4, 4)).reshape(2, 2, 4)

    yield from one("tensorinv", lambda t, x: t.linalg.tensorinv(full(t, x)), A(2, 2, 4), covers="inv",
                   expected=lambda x: np.linalg.tensorinv(regular_array(x.reshape(4, 4)).reshape(2, 2, 4)))  # fmt: skip
    yield from one("tensorsolve", lambda t, x, b: t.linalg.tensorsolve(full(t, x), b), A(2, 2, 4), A(2, 2), covers="solve",
                   expected=lambda x, b: np.linalg.tensorsolve(regular_array(x.reshape(4, 4)).reshape(2, 2, 4), b))  # fmt: skip
