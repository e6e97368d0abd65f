"""Samples of `disttorch.ops.loss`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.testing.rows.activation import F, sigmoid
from disttorch.testing.sample import A, Index, Input, P, Sample, functional, method, one


def samples() -> Iterator[Sample]:
    yield from _losses()
    yield from _likelihoods()
    yield from _class_losses()


_REDUCED = {"none": lambda x: x, "mean": np.mean, "sum": np.sum}


def _losses() -> Iterator[Sample]:
    for reduction, reduced in _REDUCED.items():
        named = {"reduction": reduction}
        for name, formula in (
            ("mse_loss", lambda x, y: (x - y) ** 2),
            ("l1_loss", lambda x, y: np.abs(x - y)),
            ("smooth_l1_loss", lambda x, y: np.where(np.abs(x - y) < 1, (x - y) ** 2 / 2, np.abs(x - y) - 0.5)),
            ("huber_loss", lambda x, y: np.where(np.abs(x - y) < 1, (x - y) ** 2 / 2, np.abs(x - y) - 0.5)),
        ):
            covers = "mse_loss" if name == "mse_loss" and reduction != "none" else ""
            yield from method(
                name,
                F(name, **named),
                A(3, 2),
                A(3, 2),
                covers=covers,
                expected=lambda x, y, f=formula, r=reduced: r(f(x, y)),
            )
        share = Input((3, 2), "probability")
        yield from one(
            "binary_cross_entropy", F("binary_cross_entropy", **named), share, share,
            expected=lambda x, y, r=reduced: r(-(y * np.log(x) + (1 - y) * np.log(1 - x))),
        )  # fmt: skip
        yield from one(
            "binary_cross_entropy_with_logits", F("binary_cross_entropy_with_logits", **named), A(3, 2), share,
            covers="logsigmoid",
            expected=lambda x, y, r=reduced: r(-(y * np.log(sigmoid(x)) + (1 - y) * np.log(1 - sigmoid(x)))),
        )  # fmt: skip
        yield from one(
            "binary_cross_entropy_with_logits",
            lambda t, x, y, r=reduction: functional(t).binary_cross_entropy_with_logits(
                x, y, t.tensor([0.5, 2.0], dtype=x.dtype), reduction=r, pos_weight=t.tensor([3.0, 1.0], dtype=x.dtype)
            ),
            A(3, 2), share, covers="logsigmoid",
        )  # fmt: skip
    yield from one("smooth_l1_loss", F("smooth_l1_loss", beta=0.5), A(4), A(4), covers="")
    yield from one("huber_loss", F("huber_loss", delta=0.5), A(4), A(4), covers="")


def _likelihoods() -> Iterator[Sample]:
    share, positive = Input((3, 2), "probability"), P(3, 2)
    for name, named, inputs, expected in (
        ("kl_div", {"reduction": "batchmean"}, (A(3, 2), share), lambda x, y: np.sum(y * (np.log(y) - x)) / 3),
        ("kl_div", {"reduction": "none", "log_target": True}, (A(3, 2), A(3, 2)), lambda x, y: np.exp(y) * (y - x)),
        ("poisson_nll_loss", {}, (A(3, 2), positive), lambda x, y: np.mean(np.exp(x) - y * x)),
        ("poisson_nll_loss", {"log_input": False, "full": True, "reduction": "sum"}, (positive, positive), _poisson),
        ("gaussian_nll_loss", {"reduction": "none"}, (A(3, 2), A(3, 2), positive), _gaussian),
        ("gaussian_nll_loss", {"full": True, "reduction": "sum"}, (A(3, 2), A(3, 2), P(3)),
         lambda x, y, v: np.sum(_gaussian(x, y, v[:, None])) + 3 * np.log(2 * np.pi)),
        ("gaussian_nll_loss", {}, (A(3, 2), A(2), P(3, 1)), lambda x, y, v: np.mean(_gaussian(x, y, v))),
    ):  # fmt: skip
        yield from one(name, F(name, **named), *inputs, covers="", expected=expected)
    for name, formula in (("mse_loss", np.square), ("l1_loss", np.abs)):
        yield from one(name, lambda t, x, y, w, n=name: getattr(functional(t), n)(x, y, weight=w), A(3), A(3), P(3),
                       covers="", expected=lambda x, y, w, f=formula: np.sum(f(x - y) * w) / np.sum(w))  # fmt: skip


def _poisson(x: Any, y: Any) -> Any:
    stirling = y * np.log(y) - y + 0.5 * np.log(2 * np.pi * y)
    return np.sum(x - y * np.log(x + 1e-8) + np.where(y > 1, stirling, 0))


def _gaussian(x: Any, y: Any, v: Any) -> Any:
    return 0.5 * (np.log(v) + (x - y) ** 2 / v)


def _class_losses() -> Iterator[Sample]:
    def classes(name: str, ignore: bool = False, weighted: bool = False, **named: Any) -> Any:
        def call(t: Any, x: Any, target: Any) -> Any:
            if ignore:
                target = target.clone()
                target[0] = -100
            weight = t.tensor([0.5, 1.0, 2.0], dtype=x.dtype) if weighted else None
            return getattr(functional(t), name)(x, target, weight, **named)

        return call

    for reduction in _REDUCED:
        for ignore in (False, True):
            named = {"reduction": reduction, "ignore": ignore}
            yield from one(
                "nll_loss", classes("nll_loss", **named), A(4, 3), Index(3, 4), covers="nll_loss nll_loss_grad"
            )
            yield from one(
                "cross_entropy",
                classes("cross_entropy", weighted=True, **named),
                A(4, 3),
                Index(3, 4),
                covers="nll_loss",
            )
            yield from one(
                "cross_entropy",
                classes("cross_entropy", label_smoothing=0.1, weighted=True, **named),
                A(3, 3),
                Index(3, 3),
                covers="nll_loss",
            )
        yield from one(
            "cross_entropy",
            classes("cross_entropy", reduction=reduction),
            A(2, 3, 2),
            Index(3, 2, 2),
            covers="nll_loss",
        )
        yield from one(
            "cross_entropy", F("cross_entropy", reduction=reduction), A(2, 3), Input((2, 3), "probability"), covers=""
        )
    yield from one("cross_entropy", classes("cross_entropy"), A(3), Index(3), covers="nll_loss")
    yield from one("nll_loss", classes("nll_loss"), A(2, 3, 2, 1), Index(3, 2, 2, 1))
