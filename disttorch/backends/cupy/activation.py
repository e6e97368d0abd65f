"""Activations."""

from __future__ import annotations

from typing import Any

from disttorch.backends.cupy._library import compute_dtype, extension, library


def relu(x: Any) -> Any:
    """`max(x, 0)`; NaN stays NaN."""
    return library(x).maximum(x, x.dtype.type(0))


def relu_grad(g: Any, y: Any) -> Any:
    """`g` where `relu`'s output (or input) `y` is positive or NaN, else 0."""
    return library(g).where(y <= 0, g.dtype.type(0), g)


def sigmoid(x: Any) -> Any:
    """`1 / (1 + exp(-x))`, without overflow."""
    computed = x.astype(compute_dtype(x.dtype), copy=False)
    return extension(x).scipy.special.expit(computed).astype(x.dtype, copy=False)


def gelu(x: Any) -> Any:
    """`x` times the normal distribution function of `x`."""
    wide = x.astype(compute_dtype(x.dtype), copy=False)
    return (wide * extension(x).scipy.special.ndtr(wide)).astype(x.dtype, copy=False)


def gelu_grad(g: Any, x: Any) -> Any:
    """`g` times the derivative of `gelu` at `x`."""
    wide = x.astype(compute_dtype(x.dtype), copy=False)
    density = library(x).exp(wide * wide * -0.5) * 0.3989422804014327
    return (g * (extension(x).scipy.special.ndtr(wide) + wide * density)).astype(g.dtype, copy=False)
