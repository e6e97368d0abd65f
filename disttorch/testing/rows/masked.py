"""Samples of `disttorch.ops.masked`, against NumPy's masked arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.testing.sample import A, Mask, Sample, one

_REDUCTIONS: dict[str, Any] = {
    "sum": lambda x: x.sum(1),
    "prod": lambda x: x.prod(1),
    "amax": lambda x: x.max(1),
    "amin": lambda x: x.min(1),
    "mean": lambda x: x.mean(1),
    "var": lambda x: x.var(1, ddof=1),
    "std": lambda x: x.std(1, ddof=1),
    "norm": lambda x: np.sqrt((x * x).sum(1)),
    "logsumexp": lambda x: np.log(np.exp(x).sum(1)),
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True),
    "softmin": lambda x: np.exp(-x) / np.exp(-x).sum(1, keepdims=True),
    "normalize": lambda x: x / np.sqrt((x * x).sum(1, keepdims=True)),
}
_ARGUMENTS: dict[str, tuple[Any, ...]] = {"norm": (2, 1), "normalize": (2, 1)}


def samples() -> Iterator[Sample]:
    for name, formula in _REDUCTIONS.items():
        yield from _masked(name, _on_masked(formula))
    yield from _masked("median", None)
    yield from _masked("log_softmax", None)
    yield from _masked("cumsum", lambda x, m: np.where(m, x, 0).cumsum(1))
    yield from _masked("cumprod", lambda x, m: np.where(m, x, 1).cumprod(1))
    for name in ("argmax", "argmin"):
        yield from _masked(name, _on_masked(lambda x, n=name: getattr(x, n)(1)), differentiable=False)
    yield from one(
        "logaddexp", lambda t, x, y, m: t.masked.logaddexp(x, y, input_mask=m), A(3, 4), A(3, 4), Mask(3, 4), covers="",
        expected=lambda x, y, m: np.where(m, np.logaddexp(x, y), y), order=1,  # at minus infinity PyTorch gives NaN, too
    )  # fmt: skip


def _masked(name: str, expected: Any, **options: Any) -> Iterator[Sample]:
    arguments = _ARGUMENTS.get(name, (1,))

    def call(t: Any, x: Any, mask: Any) -> Any:
        result = getattr(t.masked, name)(x * 1.0 if name == "mean" else x, *arguments, mask=mask)
        return t.where(mask, result, 0) if name == "log_softmax" else result

    yield from one(name, call, A(3, 4), Mask(3, 4), covers="", expected=expected, **options)


def _on_masked(formula: Any) -> Any:
    return lambda x, mask: np.ma.filled(formula(np.ma.array(x, mask=~mask)), 0)
