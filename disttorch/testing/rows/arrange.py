"""Samples of `disttorch.ops.arrange`: stacking, splitting, tiling, rolling, rotating, meshes, combinations."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.testing.sample import A, Index, Sample, method, one

_BOTH: dict[str, Any] = {"complex": True}


def samples() -> Iterator[Sample]:
    """Yield the samples."""
    yield from _stacks()
    yield from _splits()
    yield from _repeats()
    yield from _orders()
    yield from _meshes()
    yield from _paddings()


def _stacks() -> Iterator[Sample]:
    for name in ("hstack", "vstack", "row_stack", "dstack", "column_stack"):
        formula = getattr(np, "vstack" if name == "row_stack" else name)
        for shape in ((3,), (2, 3), (2, 1, 2)):
            yield from one(
                name, lambda t, *xs, n=name: getattr(t, n)(xs), A(*shape), A(*shape), covers="cat",
                expected=lambda *xs, f=formula: f(xs), **_BOTH,
            )  # fmt: skip
    yield from one(
        "hstack", lambda t, x, y: t.hstack((x, y)), A(), A(2), covers="cat", expected=lambda *xs: np.hstack(xs)
    )


def _splits() -> Iterator[Sample]:
    for where in (3, (1, 3), (2, 1)):
        yield from method(
            "tensor_split",
            lambda t, x, w=where: t.tensor_split(x, w, 1),
            A(2, 5),
            covers="split_with_sizes" if where == 3 else "slice",
            expected=lambda x, w=where: tuple(np.array_split(x, w, 1)),
        )
    for name, shape in (("hsplit", (2, 4)), ("hsplit", (4,)), ("vsplit", (4, 2)), ("dsplit", (1, 2, 4))):
        for where in (2, [1]):
            yield from one(
                name, lambda t, x, n=name, w=where: getattr(t, n)(x, w), A(*shape), covers="",
                expected=lambda x, n=name, w=where: tuple(getattr(np, n)(x, w)),
            )  # fmt: skip


def _repeats() -> Iterator[Sample]:
    for times in ((2, 3), (2,), (2, 1, 2)):
        yield from one(
            "tile",
            lambda t, x, n=times: t.tile(x, n),
            A(2, 3),
            covers="expand",
            expected=lambda x, n=times: np.tile(x, n),
        )
    for dim in (None, 0, -1):
        yield from method(
            "repeat_interleave", lambda t, x, d=dim: t.repeat_interleave(x, 2, d), A(2, 3), covers="index",
            expected=lambda x, d=dim: np.repeat(x, 2, d),
        )  # fmt: skip
    yield from one(
        "repeat_interleave", lambda t, x: x.repeat_interleave(t.tensor([2, 0, 1]), 1), A(2, 3), covers="index",
        expected=lambda x: np.repeat(x, [2, 0, 1], 1),
    )  # fmt: skip
    yield from one(
        "repeat_interleave", lambda t, x: t.repeat_interleave(x), Index(3, 4), covers="", differentiable=False,
        expected=lambda x: np.repeat(np.arange(4), x),
    )  # fmt: skip


def _orders() -> Iterator[Sample]:
    for shifts, dims in ((2, 0), (-1, 1), ((1, 2), (0, 1)), (4, None)):
        yield from method(
            "roll",
            lambda t, x, s=shifts, d=dims: t.roll(x, s, d),
            A(3, 4),
            expected=lambda x, s=shifts, d=dims: np.roll(x, s, d),
            **_BOTH,
        )
    for k in (-1, 0, 1, 2, 3):
        yield from method(
            "rot90", lambda t, x, k=k: t.rot90(x, k), A(2, 3), covers="flip" if k else "clone",
            expected=lambda x, k=k: np.rot90(x, k),
        )  # fmt: skip
    for name in ("fliplr", "flipud"):
        yield from one(
            name, lambda t, x, n=name: getattr(t, n)(x), A(2, 3), covers="flip",
            expected=lambda x, n=name: getattr(np, n)(x),
        )  # fmt: skip


def _meshes() -> Iterator[Sample]:
    for indexing in ("ij", "xy"):
        yield from one(
            "meshgrid", lambda t, *xs, i=indexing: t.meshgrid(*xs, indexing=i), A(2), A(3), A(1), covers="expand",
            expected=lambda *xs, i=indexing: tuple(np.meshgrid(*xs, indexing=i)),
        )  # fmt: skip
    yield from one(
        "cartesian_prod", lambda t, *xs: t.cartesian_prod(*xs), A(2), A(3), covers="stack",
        expected=lambda *xs: np.array(list(itertools.product(*xs))),
    )  # fmt: skip
    for again in (False, True):
        choose = itertools.combinations_with_replacement if again else itertools.combinations
        yield from one(
            "combinations", lambda t, x, a=again: t.combinations(x, 2, a), A(4), covers="index",
            expected=lambda x, c=choose: np.array(list(c(x, 2))),
        )  # fmt: skip
    yield from one(
        "unravel_index", lambda t, x: t.unravel_index(x, (2, 3, 2)), Index(12, 2, 3), covers="", differentiable=False,
        expected=lambda x: np.unravel_index(x, (2, 3, 2)),
    )  # fmt: skip


def _paddings() -> Iterator[Sample]:
    for pad in ((1, 2), (0, 1, 2, 0), (-1, 1)):
        yield from method("constant_pad_nd", lambda t, x, p=pad: t.constant_pad_nd(x, p, 2.5), A(2, 3), **_BOTH)
