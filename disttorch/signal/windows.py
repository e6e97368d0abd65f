"""Window functions: `torch.signal.windows`.

A window has M elements, n = 0, ..., M - 1. With `sym` it is symmetric, as filters want it: the formulas have N = M - 1.
Without, it is one period of a window that repeats, as spectra want it: N = M.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.core import dtypes
from disttorch.ops.creation import DeviceLike, finish
from disttorch.ops.spectral import bartlett_values, cosine_sum_values, kaiser_values, window_array

__all__ = [
    "bartlett", "blackman", "cosine", "exponential", "gaussian", "general_cosine", "general_hamming", "hamming", "hann",
    "kaiser", "nuttall",
]  # fmt: skip


def _window(
    name: str,
    M: int,
    sym: bool,
    values: Callable[[Any, float], Any],
    dtype: dtypes.dtype | None = None,
    layout: Any = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    if M < 0:
        raise ValueError(f"{name} requires non-negative window length, got M={M}")
    if layout is not None and "strided" not in str(layout):
        raise ValueError(f"{name} is implemented for strided tensors only, got: {layout}")
    d = dtype or dtypes.get_default_dtype()
    if d not in (dtypes.float32, dtypes.float64):
        raise ValueError(f"{name} expects float32 or float64 dtypes, got: {d!r}")
    return finish(window_array(M, not sym, values, d), device, requires_grad)


def exponential(
    M: int,
    *,
    center: float | None = None,
    tau: float = 1.0,
    sym: bool = True,
    **options: Any,
) -> Tensor:
    """Return exp(-|n - center| / tau); the centre is N / 2 unless given, which only a periodic window may be."""
    if tau <= 0:
        raise ValueError(f"Tau must be positive, got: {tau} instead.")
    if sym and center is not None:
        raise ValueError("Center must be None for symmetric windows")

    def values(n: Any, span: float) -> Any:
        return np.exp(-np.abs(n - (span / 2 if center is None else center)) / tau)

    return _window("exponential", M, sym, values, **options)


def cosine(M: int, *, sym: bool = True, **options: Any) -> Tensor:
    """Return sin(pi (n + 1/2) / (N + 1))."""
    return _window("cosine", M, sym, lambda n, span: np.sin(np.pi * (n + 0.5) / (span + 1)), **options)


def gaussian(M: int, *, std: float = 1.0, sym: bool = True, **options: Any) -> Tensor:
    """Return exp(-((n - N / 2) / std)^2 / 2)."""
    if std <= 0:
        raise ValueError(f"Standard deviation must be positive, got: {std} instead.")
    return _window("gaussian", M, sym, lambda n, span: np.exp(-(((n - span / 2) / std) ** 2) / 2), **options)


def kaiser(M: int, *, beta: float = 12.0, sym: bool = True, **options: Any) -> Tensor:
    """Return I0(beta sqrt(1 - (2n / N - 1)^2)) / I0(beta), with the modified Bessel function I0."""
    if beta < 0:
        raise ValueError(f"beta must be non-negative, got: {beta} instead.")
    return _window("kaiser", M, sym, kaiser_values(beta), **options)


def bartlett(M: int, *, sym: bool = True, **options: Any) -> Tensor:
    """Return 1 - |2n / N - 1|."""
    return _window("bartlett", M, sym, bartlett_values, **options)


def general_cosine(M: int, *, a: Iterable[float], sym: bool = True, **options: Any) -> Tensor:
    """Return the sum over i of (-1)^i a[i] cos(2 pi i n / N)."""
    return _cosine_sum("general_cosine", M, a, sym, options)


def _cosine_sum(name: str, M: int, a: Any, sym: bool, options: dict[str, Any]) -> Tensor:
    if not isinstance(a, Iterable):
        raise TypeError(f"Coefficients must be a list/tuple, got {type(a).__name__}")
    coefficients = list(a)
    if not coefficients:
        raise ValueError("Coefficients cannot be empty")
    return _window(name, M, sym, cosine_sum_values(coefficients), **options)


def general_hamming(M: int, *, alpha: float = 0.54, sym: bool = True, **options: Any) -> Tensor:
    """Return alpha - (1 - alpha) cos(2 pi n / N)."""
    return _cosine_sum("general_hamming", M, [alpha, 1.0 - alpha], sym, options)


def hamming(M: int, *, sym: bool = True, **options: Any) -> Tensor:
    """Return 0.54 - 0.46 cos(2 pi n / N)."""
    return _cosine_sum("hamming", M, [0.54, 0.46], sym, options)


def hann(M: int, *, sym: bool = True, **options: Any) -> Tensor:
    """Return (1 - cos(2 pi n / N)) / 2."""
    return _cosine_sum("hann", M, [0.5, 0.5], sym, options)


def blackman(M: int, *, sym: bool = True, **options: Any) -> Tensor:
    """Return 0.42 - 0.5 cos(2 pi n / N) + 0.08 cos(4 pi n / N)."""
    return _cosine_sum("blackman", M, [0.42, 0.5, 0.08], sym, options)


def nuttall(M: int, *, sym: bool = True, **options: Any) -> Tensor:
    """Return the sum of four cosines whose side lobes are least (Nuttall 1981, minimum 4-term)."""
    return _cosine_sum("nuttall", M, [0.3635819, 0.4891775, 0.1365995, 0.0106411], sym, options)
