"""Standardization over some dimensions and its gradient."""

from __future__ import annotations

from typing import Any

from disttorch.backends.cupy._library import library


def standardize(x: Any, dims: tuple[int, ...], eps: float) -> tuple[Any, Any, Any]:
    """`(x - mean) / sqrt(var + eps)`, `mean` and the biased `var` over `dims`, which stay with size 1."""
    mean = x.mean(dims, keepdims=True)
    centered = x - mean
    var = (centered * centered).mean(dims, keepdims=True)
    return centered / library(x).sqrt(var + x.dtype.type(eps)), mean, var


def standardize_grad(g: Any, y: Any, var: Any, dims: tuple[int, ...], eps: float) -> Any:
    """Gradient of the input of `standardize`, whose results were `y` and `var`, for the gradient `g` of `y`."""
    along = y * (g * y).mean(dims, keepdims=True)
    return (g - g.mean(dims, keepdims=True) - along) / library(g).sqrt(var + var.dtype.type(eps))
