"""Samples of `disttorch.ops.products`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.testing.sample import A, Sample, one

_BOTH: dict[str, Any] = {"complex": True}

# (name, shapes of the operands, the formula for beta 1 and alpha 1)
_ADDED = (
    ("addmm", ((4,), (2, 3), (3, 4)), lambda c, x, y: c + x @ y),
    ("addmv", ((2,), (2, 3), (3,)), lambda c, x, y: c + x @ y),
    ("addr", ((2, 3), (2,), (3,)), lambda c, x, y: c + np.outer(x, y)),
    ("addbmm", ((2, 2), (2, 2, 3), (2, 3, 2)), lambda c, x, y: c + (x @ y).sum(0)),
    ("baddbmm", ((2, 1), (2, 2, 3), (2, 3, 2)), lambda c, x, y: c + x @ y),
)

_EQUATIONS = (
    ("i->", ((3,),)), ("ij,jk->ik", ((2, 3), (3, 2))), ("ij,kj->i", ((2, 3), (2, 3))), ("ii->i", ((3, 3),)),
    ("bij,bjk", ((2, 2, 3), (2, 3, 1))), ("...i,i", ((2, 3), (3,))), ("ij,jk,kl->il", ((2, 2), (2, 3), (3, 2))),
    ("ij->ji", ((2, 3),)), ("i,j", ((2,), (3,))), ("ab,cb->ac", ((2, 1), (2, 3))),
)  # fmt: skip


def samples() -> Iterator[Sample]:
    """Yield the samples."""
    for name, shapes, formula in _ADDED:
        inputs = [A(*shape) for shape in shapes]
        yield from one(name, lambda t, *xs, n=name: getattr(t, n)(*xs), *inputs, covers="", expected=formula, **_BOTH)
        yield from one(
            name, lambda t, *xs, n=name: getattr(t, n)(*xs, beta=3, alpha=2), *inputs, covers="",
            expected=lambda c, x, y, f=formula: f(3 * c, 2 * x, y),
        )  # fmt: skip
    for equation, shapes in _EQUATIONS:
        yield from one(
            "einsum", lambda t, *xs, e=equation: t.einsum(e, *xs), *[A(*shape) for shape in shapes], covers="",
            expected=lambda *xs, e=equation: np.einsum(e, *xs), **_BOTH,
        )  # fmt: skip
    yield from one("einsum", lambda t, x, y: t.einsum(x, [0, 1], y, [1, 2], [2, 0]), A(2, 3), A(3, 2), covers="",
                   expected=lambda x, y: (x @ y).T)  # fmt: skip
    yield from _products()
    yield from _chains()


def _products() -> Iterator[Sample]:
    yield from one("vdot", lambda t, x, y: t.vdot(x, y), A(3), A(3), covers="dot", expected=np.vdot, **_BOTH)
    yield from one("inner", lambda t, x, y: t.inner(x, y), A(2, 3), A(3), covers="", expected=np.inner, **_BOTH)
    yield from one("inner", lambda t, x, y: t.inner(x, y), A(), A(2), covers="mul", expected=np.inner)
    yield from one("kron", lambda t, x, y: t.kron(x, y), A(2, 3), A(2), covers="mul", expected=np.kron, **_BOTH)
    yield from one(
        "tensordot", lambda t, x, y: t.tensordot(x, y), A(2, 3, 2), A(3, 2), covers="mm", expected=np.tensordot
    )
    yield from one(
        "tensordot", lambda t, x, y: t.tensordot(x, y, ([0, 1], [2, 0])), A(2, 3, 2), A(3, 2, 2), covers="mm",
        expected=lambda x, y: np.tensordot(x, y, ([0, 1], [2, 0])), **_BOTH,
    )  # fmt: skip
    yield from one("cross", lambda t, x, y: t.cross(x, y, 0), A(3, 2), A(3, 2),
                   expected=lambda x, y: np.cross(x, y, axis=0), **_BOTH)  # fmt: skip
    yield from one("cross", lambda t, x, y: t.linalg.cross(x, y), A(2, 3), A(1, 3), expected=np.cross)


def _chains() -> Iterator[Sample]:
    yield from one("chain_matmul", lambda t, *xs: t.chain_matmul(*xs), A(2, 3), A(3, 1), A(1, 2), covers="mm",
                   expected=lambda x, y, z: x @ y @ z)  # fmt: skip
    for n in (0, 1, 3, -2):
        yield from one(
            "matrix_power", lambda t, x, n=n: t.matrix_power(x + 3 * t.eye(2, dtype=x.dtype), n), A(2, 2), covers="",
            expected=lambda x, n=n: np.linalg.matrix_power(x + 3 * np.eye(2), n), **_BOTH,
        )  # fmt: skip
