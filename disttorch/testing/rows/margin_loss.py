"""Samples of `disttorch.ops.margin_loss`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.testing.rows.activation import F
from disttorch.testing.sample import A, Index, Mask, Sample, functional, one


def samples() -> Iterator[Sample]:
    yield from _pairs()
    yield from _triplets()
    yield from _classes()


def _signed(name: str, **named: Any) -> Any:
    """Return a call of a loss whose last operand, bools, stands for a target of 1 and -1."""
    return lambda t, *xs: getattr(functional(t), name)(*xs[:-1], xs[-1].to(xs[0].dtype) * 2 - 1, **named)


def _positive(x: Any) -> Any:
    return np.maximum(x, 0)


def _cosine(x: Any, y: Any) -> Any:
    return np.sum(x * y, -1) / np.sqrt(np.sum(x * x, -1) * np.sum(y * y, -1))


def _pairs() -> Iterator[Sample]:
    for name, named, inputs, expected in (
        ("margin_ranking_loss", {"margin": 0.5}, (A(4), A(4), Mask(4)),
         lambda x, y, m: np.mean(_positive(np.where(m, y - x, x - y) + 0.5))),
        ("margin_ranking_loss", {"reduction": "none"}, (A(3), A(3), Mask(3)),
         lambda x, y, m: _positive(np.where(m, y - x, x - y))),
        ("hinge_embedding_loss", {}, (A(5), Mask(5)), lambda x, m: np.mean(np.where(m, x, _positive(1 - x)))),
        ("hinge_embedding_loss", {"margin": 2.0, "reduction": "sum"}, (A(2, 2), Mask(2, 2)),
         lambda x, m: np.sum(np.where(m, x, _positive(2 - x)))),
        ("soft_margin_loss", {}, (A(4), Mask(4)), lambda x, m: np.mean(np.log1p(np.exp(np.where(m, -x, x))))),
        ("cosine_embedding_loss", {"margin": 0.1}, (A(4, 3), A(4, 3), Mask(4)),
         lambda x, y, m: np.mean(np.where(m, 1 - _cosine(x, y), _positive(_cosine(x, y) - 0.1)))),
        ("cosine_embedding_loss", {"reduction": "none"}, (A(3), A(3), Mask()), lambda x, y, m: np.where(
            m, 1 - _cosine(x, y), _positive(_cosine(x, y)))),
    ):  # fmt: skip
        yield from one(name, _signed(name, **named), *inputs, covers="", expected=expected)


def _triplets() -> Iterator[Sample]:
    def loss(a: Any, p: Any, n: Any) -> Any:
        near, far = (np.sqrt(np.sum((a - x + 1e-6) ** 2, -1)) for x in (p, n))
        return _positive(near - far + 2)

    triplet = (A(3, 2), A(3, 2), A(3, 2))
    yield from one("triplet_margin_loss", F("triplet_margin_loss", 2.0, reduction="none"), *triplet, covers="",
                   expected=loss)  # fmt: skip
    yield from one("triplet_margin_loss", F("triplet_margin_loss", 3.0, 1, swap=True), *triplet, covers="minimum")
    name = "triplet_margin_with_distance_loss"
    yield from one(name, F(name, margin=2.0), *triplet, covers="", expected=lambda a, p, n: np.mean(loss(a, p, n)))

    def with_distance(t: Any, *xs: Any) -> Any:
        return functional(t).triplet_margin_with_distance_loss(
            *xs, distance_function=lambda x, y: (x - y).abs().sum(-1)
        )

    yield from one(name, with_distance, *triplet, covers="")


def _classes() -> Iterator[Sample]:
    def multi(x: Any, y: Any) -> Any:
        rows = np.arange(len(y))
        above = _positive(1 - x[rows, y][:, None] + x)
        above[rows, y] = 0
        return np.sum(above, 1) / x.shape[1]

    name = "multi_margin_loss"
    yield from one(name, F(name, reduction="none"), A(3, 4), Index(4, 3), covers="gather", expected=multi)
    yield from one(name, F(name, 2, 0.5), A(3, 2), Index(2, 3), covers="gather")
    yield from one(name, lambda t, x, y: functional(t).multi_margin_loss(x, y, weight=t.tensor([1, 2.0]).to(x.dtype)),
                   A(3, 2), Index(2, 3), covers="gather")  # fmt: skip
    yield from one(name, F(name), A(3), Index(3), covers="gather")

    def until_last(t: Any, x: Any, y: Any) -> Any:
        y = y.clone()
        y[..., -1] = -1
        return functional(t).multilabel_margin_loss(x, y)

    name = "multilabel_margin_loss"
    yield from one(name, until_last, A(2, 4), Index(4, 2, 4), covers="gather")
    yield from one(name, F(name, reduction="none"), A(3, 3), Index(3, 3, 3), covers="gather")
    yield from one(name, until_last, A(3), Index(3, 3), covers="gather")
    name = "multilabel_soft_margin_loss"
    yield from one(
        name, lambda t, x, m: functional(t).multilabel_soft_margin_loss(x, m.to(x.dtype)), A(2, 3), Mask(2, 3),
        covers="logsigmoid", expected=lambda x, m: np.mean(np.log1p(np.exp(np.where(m, -x, x)))),
    )  # fmt: skip
    yield from one(name, lambda t, x, y, w: functional(t).multilabel_soft_margin_loss(x, y, w, reduction="none"),
                   A(2, 3), A(2, 3), A(3), covers="logsigmoid")  # fmt: skip
