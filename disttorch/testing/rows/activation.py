"""Samples of `disttorch.ops.activation`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.ops.registry import traced
from disttorch.testing.sample import A, Sample, functional, method, one, pointwise


def samples() -> Iterator[Sample]:
    yield from _activations()
    yield from _softmax()


def F(name: str, *extra: Any, **named: Any) -> Any:  # noqa: N802
    """Return a call of a function of `torch.nn.functional` with further arguments."""
    return lambda t, *xs: getattr(functional(t), name)(*xs, *extra, **named)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _erf(x: Any) -> Any:
    import scipy.special

    return scipy.special.erf(x)


def _gelu(x: Any) -> Any:
    import scipy.special

    return x * scipy.special.ndtr(x)


def _activations() -> Iterator[Sample]:
    yield from pointwise("sigmoid", sigmoid, complex=True)
    yield from pointwise("erf", _erf)
    for name, expected in (
        ("relu", lambda x: np.maximum(x, 0)),
        ("logsigmoid", lambda x: np.log(sigmoid(x))),
        ("softplus", lambda x: np.log1p(np.exp(x))),
        ("leaky_relu", lambda x: np.where(x > 0, x, 0.01 * x)),
        ("elu", lambda x: np.where(x > 0, x, np.expm1(x))),
        ("silu", lambda x: x * sigmoid(x)),
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
