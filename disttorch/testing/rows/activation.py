"""Samples of `disttorch.ops.activation`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.ops.registry import traced
from disttorch.testing.sample import A, Input, Sample, functional, method, one, pointwise


def samples() -> Iterator[Sample]:
    yield from _plain()
    yield from _with_arguments()
    yield from _rectifiers()
    yield from _in_place()


def F(name: str, *extra: Any, **named: Any) -> Any:  # noqa: N802
    """Return a call of a function of `torch.nn.functional` with further arguments."""
    return lambda t, *xs: getattr(functional(t), name)(*xs, *extra, **named)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _erf(x: Any) -> Any:
    import scipy.special

    return scipy.special.erf(x)


def _gelu(x: Any) -> Any:
    return x * (1 + _erf(x / np.sqrt(2))) / 2


def _elu(x: Any, alpha: float = 1.0) -> Any:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _plain() -> Iterator[Sample]:
    yield from pointwise("sigmoid", sigmoid, complex=True)
    for name, expected in (
        ("erf", _erf),
        ("relu", lambda x: np.maximum(x, 0)),
        ("logsigmoid", lambda x: np.log(sigmoid(x))),
        ("softplus", lambda x: np.log1p(np.exp(x))),
        ("leaky_relu", lambda x: np.where(x > 0, x, 0.01 * x)),
        ("elu", _elu),
        ("gelu", _gelu),
        ("hardtanh", lambda x: np.clip(x, -1, 1)),
    ):
        yield from pointwise(name, expected)
    yield from method("silu", F("silu"), A(3, 4), expected=lambda x: x * sigmoid(x))
    for name, covers, expected in (
        ("relu6", "hardtanh", lambda x: np.clip(x, 0, 6)),
        ("selu", "elu", lambda x: 1.0507009873554805 * _elu(x, 1.6732632423543772)),
        ("celu", "elu", _elu),
        ("mish", "mish", lambda x: x * np.tanh(np.log1p(np.exp(x)))),
        ("hardsigmoid", "hardsigmoid", lambda x: np.clip(x / 6 + 0.5, 0, 1)),
        ("hardswish", "hardswish", lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
        ("hardshrink", "hardshrink", lambda x: np.where(np.abs(x) > 0.5, x, 0)),
        ("softshrink", "softshrink", lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0)),
        ("tanhshrink", "tanh", lambda x: x - np.tanh(x)),
        ("softsign", "abs", lambda x: x / (1 + np.abs(x))),
    ):
        yield from method(name, F(name), Input((3, 4), "unit" if name.endswith("shrink") else "any"), covers=covers,
                          expected=expected)  # fmt: skip


def _with_arguments() -> Iterator[Sample]:
    for name, arguments, covers, expected in (
        ("softplus", (2.0, 1.0), "softplus", None),
        ("leaky_relu", (0.2,), "leaky_relu", None),
        ("elu", (0.5,), "elu", lambda x: _elu(x, 0.5)),
        ("celu", (0.5,), "elu", lambda x: np.where(x > 0, x, 0.5 * np.expm1(x / 0.5))),
        ("hardshrink", (1.5,), "hardshrink", lambda x: np.where(np.abs(x) > 1.5, x, 0)),
        ("softshrink", (1.5,), "softshrink", lambda x: np.sign(x) * np.maximum(np.abs(x) - 1.5, 0)),
        ("hardtanh", (-2, 0.5), "hardtanh", lambda x: np.clip(x, -2, 0.5)),
        ("threshold", (0.5, 3.0), "threshold", lambda x: np.where(x > 0.5, x, 3)),
    ):
        yield from one(name, F(name, *arguments), A(3, 4), covers=covers, expected=expected)
    yield from one("gelu", F("gelu", approximate="tanh"), A(3, 4), covers="gelu gelu_grad")
    for kind in ("none", "tanh"):
        yield from one("gelu_grad", lambda t, g, x, k=kind: traced.gelu_grad(g, x, k), A(3), A(3), internal=True)
    yield from method("glu", F("glu"), A(3, 4), covers="sigmoid", expected=lambda x: x[:, :2] * sigmoid(x[:, 2:]))
    yield from one("glu", F("glu", 0), A(4, 1), covers="sigmoid", expected=lambda x: x[:2] * sigmoid(x[2:]))


def _rectifiers() -> Iterator[Sample]:
    yield from one("relu_grad", lambda t, g, y: traced.relu_grad(g, y), A(3, 4), A(3, 4), internal=True)
    for x, weight in ((A(2, 3, 2), A(3)), (A(2, 2), A(1)), (A(), A()), (A(3), A(1))):
        yield from one("prelu", F("prelu"), x, weight,
                       expected=lambda x, w: np.where(x > 0, x, x * w.reshape((-1, 1) if w.size > 1 else ())))  # fmt: skip
    yield from method("rrelu", F("rrelu", 0.1, 0.3), A(2, 3), covers="leaky_relu",
                      expected=lambda x: np.where(x > 0, x, 0.2 * x))  # fmt: skip

    def drawn(t: Any, x: Any) -> Any:
        t.manual_seed(3)
        return t.rrelu(x, 0.1, 0.3, True)

    yield from method("rrelu", drawn, A(2, 3), covers="mul")


def _in_place() -> Iterator[Sample]:
    for name, *arguments in (
        ("relu_",), ("selu_",), ("celu_", 0.5), ("elu_", 0.5), ("leaky_relu_", 0.2), ("hardtanh_", -1, 1),
        ("threshold_", 0.5, 3.0), ("rrelu_", 0.1, 0.3),
    ):  # fmt: skip
        yield from one(name, lambda t, x, n=name, a=arguments: getattr(functional(t), n)(x * 1, *a), A(3, 2), covers="")
    for name in (
        "relu",
        "relu6",
        "selu",
        "silu",
        "mish",
        "hardsigmoid",
        "hardswish",
        "elu",
        "celu",
        "leaky_relu",
        "rrelu",
    ):
        yield from one(name, lambda t, x, n=name: getattr(functional(t), n)(x * 1, inplace=True), A(3, 2), covers="")
