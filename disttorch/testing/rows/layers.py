"""Samples of `disttorch.ops.activation`, `conv`, `pool`, `loss` and `rnn`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.ops.registry import traced
from disttorch.testing.sample import A, Index, Input, Sample, functional, method, one, pointwise


def samples() -> Iterator[Sample]:
    """Yield the samples."""
    yield from _activations()
    yield from _softmax()
    yield from _convolutions()
    yield from _pools()
    yield from _losses()
    yield from _class_losses()
    yield from _recurrent()


def F(name: str, *extra: Any, **named: Any) -> Any:  # noqa: N802
    """Return a call of a function of `torch.nn.functional` with further arguments."""
    return lambda t, *xs: getattr(functional(t), name)(*xs, *extra, **named)


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _erf(x: Any) -> Any:
    import scipy.special

    return scipy.special.erf(x)


def _gelu(x: Any) -> Any:
    import scipy.special

    return x * scipy.special.ndtr(x)


# -- activations --------------------------------------------------------------------------------------------------


def _activations() -> Iterator[Sample]:
    yield from pointwise("sigmoid", _sigmoid, complex=True)
    yield from pointwise("erf", _erf)
    for name, expected in (
        ("relu", lambda x: np.maximum(x, 0)),
        ("logsigmoid", lambda x: np.log(_sigmoid(x))),
        ("softplus", lambda x: np.log1p(np.exp(x))),
        ("leaky_relu", lambda x: np.where(x > 0, x, 0.01 * x)),
        ("elu", lambda x: np.where(x > 0, x, np.expm1(x))),
        ("silu", lambda x: x * _sigmoid(x)),
    ):
        yield from pointwise(name, expected)
    yield from pointwise("relu6", lambda x: np.clip(x, 0, 6), covers="clamp_min clamp_max")
    yield from pointwise("hardtanh", lambda x: np.clip(x, -1, 1), covers="clamp_min clamp_max")
    yield from pointwise("gelu", _gelu, covers="erf")
    yield from one("gelu", F("gelu", approximate="tanh"), A(3, 4), covers="tanh")
    yield from one("softplus", F("softplus", 2.0, 1.0), A(3, 4))
    yield from one("leaky_relu", F("leaky_relu", 0.2), A(3, 4))
    yield from one("elu", F("elu", 0.5), A(3, 4))
    yield from one("relu_grad", lambda t, g, y: traced.relu_grad(g, y), A(3, 4), A(3, 4), internal=True)


def _softmax() -> Iterator[Sample]:
    def soft(x: Any, d: int) -> Any:
        e = np.exp(x - x.max(d, keepdims=True))
        return e / e.sum(d, keepdims=True)

    for dim in (0, 1, -1):
        yield from method("softmax", lambda t, x, d=dim: t.softmax(x, d), A(3, 4), expected=lambda x, d=dim: soft(x, d))
        yield from method(
            "log_softmax",
            lambda t, x, d=dim: t.log_softmax(x, d),
            A(3, 4),
            expected=lambda x, d=dim: np.log(soft(x, d)),
        )
    for name in ("softmax", "log_softmax"):
        yield from one(name, lambda t, x, n=name: getattr(t, n)(x, 1), A(2, 3, 2))
        yield from one(name, lambda t, x, n=name: getattr(t, n)(x, 0), A())
        yield from one(name, lambda t, x, n=name: getattr(t, n)(x, 1), A(0, 3))
        yield from one(
            name + "_grad",
            lambda t, g, y, n=name: getattr(traced, n + "_grad")(g, y, 1),
            A(2, 3),
            A(2, 3),
            internal=True,
        )


# -- convolution and pooling --------------------------------------------------------------------------------------

# (input, weight, whether there is a bias, further arguments)
_CONVOLUTIONS: tuple[tuple[tuple[int, ...], tuple[int, ...], bool, dict[str, Any]], ...] = (
    ((1, 2, 4, 4), (2, 2, 3, 3), True, {}),
    ((2, 1, 4, 4), (2, 1, 2, 2), False, {"stride": 2}),
    ((1, 2, 5, 4), (4, 1, 3, 2), True, {"padding": 1, "groups": 2}),
    ((1, 1, 5, 5), (1, 1, 2, 2), False, {"dilation": 2, "padding": (1, 0)}),
    ((1, 1, 4, 4), (1, 1, 3, 2), True, {"padding": "same"}),
    ((1, 4, 4), (2, 1, 3, 3), True, {"padding": 1}),
    ((1, 2, 5), (2, 2, 3), True, {"stride": 2, "padding": 1}),
    ((2, 6), (2, 1, 2), False, {"dilation": 2, "groups": 2}),
    ((1, 1, 3, 3, 3), (2, 1, 2, 2, 2), True, {"padding": 1, "stride": 2}),
)


def _convolutions() -> Iterator[Sample]:
    every = "convolution convolution_input_grad convolution_weight_grad"
    for x, w, bias, named in _CONVOLUTIONS:
        operands = (A(*x), A(*w), *((A(w[0]),) if bias else ()))
        name = f"conv{len(w) - 2}d"
        yield from one(name, F(name, **named), *operands, covers=every)
    yield from one(
        "conv2d", F("conv2d"), A(1, 2, 3, 3, layout="transposed"), A(1, 2, 2, 2, layout="transposed"), covers=every
    )
    plain = ((1, 1), (0, 0), (1, 1), 1)
    yield from one(
        "convolution_input_grad", lambda t, g, w: traced.convolution_input_grad(g, w, (1, 1, 4, 4), *plain),
        A(1, 2, 3, 3), A(2, 1, 2, 2), covers=every, internal=True,
    )  # fmt: skip
    yield from one(
        "convolution_weight_grad", lambda t, g, x: traced.convolution_weight_grad(g, x, (2, 1, 2, 2), *plain),
        A(1, 2, 3, 3), A(1, 1, 4, 4), covers=every, internal=True,
    )  # fmt: skip


def _pools() -> Iterator[Sample]:
    largest, mean = "max_pool max_pool_grad", "avg_pool avg_pool_grad"
    for x, kernel, named in (
        ((1, 2, 4, 4), 2, {}),
        ((1, 1, 5, 4), 3, {"stride": 1, "padding": 1}),
        ((1, 1, 5, 5), 2, {"ceil_mode": True}),
        ((1, 4, 4), (2, 1), {}),
        ((1, 2, 6), 3, {"stride": 2, "padding": 1}),
        ((1, 1, 3, 3, 3), 2, {"stride": 1}),
    ):
        n = len(x) - (1 if len(x) == 3 and kernel == (2, 1) else 2)
        yield from one(f"max_pool{n}d", F(f"max_pool{n}d", kernel, **named), A(*x), covers=largest)
        yield from one(f"avg_pool{n}d", F(f"avg_pool{n}d", kernel, **named), A(*x), covers=mean)
    yield from one("max_pool2d", F("max_pool2d", 2, return_indices=True), A(1, 2, 4, 4), covers=largest)
    yield from one("max_pool2d", F("max_pool2d", 2, dilation=2, stride=1), A(1, 1, 4, 5), covers=largest)
    yield from one("max_pool2d", F("max_pool2d", 2), A(2, 1, 4, 4, layout="transposed"), covers=largest)
    yield from one("avg_pool2d", F("avg_pool2d", 3, 2, 1, False, False), A(1, 1, 5, 5), covers=mean)
    yield from one("avg_pool2d", F("avg_pool2d", 2, divisor_override=3), A(1, 1, 4, 4), covers=mean)
    yield from one(
        "take",
        lambda t, x, i: traced.take(x, i),
        A(1, 1, 4),
        Index(4, 1, 1, 3),
        covers="take max_pool_grad",
        internal=True,
    )


# -- losses -------------------------------------------------------------------------------------------------------

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
            "binary_cross_entropy", F("binary_cross_entropy", **named), share, share, covers="",
            expected=lambda x, y, r=reduced: r(-(y * np.log(x) + (1 - y) * np.log(1 - x))),
        )  # fmt: skip
        yield from one(
            "binary_cross_entropy_with_logits", F("binary_cross_entropy_with_logits", **named), A(3, 2), share,
            covers="logsigmoid",
            expected=lambda x, y, r=reduced: r(-(y * np.log(_sigmoid(x)) + (1 - y) * np.log(1 - _sigmoid(x)))),
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


# -- recurrent ----------------------------------------------------------------------------------------------------


def _recurrent() -> Iterator[Sample]:
    for reverse in (False, True):
        for bias in (True, False):
            yield from one(
                "lstm_layer",
                lambda t, x, h, c, w, u, *b, r=reverse: traced.lstm_layer(x, h, c, w, u, *(b or (None,)), r)[:3],
                A(2, 1, 2), A(1, 1), A(1, 1), A(4, 2), A(4, 1), *((A(4),) if bias else ()), internal=True,
            )  # fmt: skip
