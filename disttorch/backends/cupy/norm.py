"""Standardization over some dimensions, batch and layer normalization, and their gradients."""

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


def batch_norm(x: Any, weight: Any, bias: Any, eps: float) -> tuple[Any, Any, Any]:
    """Standardized x [N, C, *] times `weight` plus `bias` [C], and the mean and the biased variance of each channel [C]."""
    shape = (-1, *(1 for _ in x.shape[2:]))
    y, mean, var = standardize(x, (0, *range(2, x.ndim)), eps)
    y = y if weight is None else y * weight.reshape(shape)
    return y if bias is None else y + bias.reshape(shape), mean.reshape(-1), var.reshape(-1)


def batch_norm_grad(g: Any, x: Any, weight: Any, mean: Any, var: Any, eps: float) -> tuple[Any, Any, Any]:
    """Gradients of x, weight and bias of `batch_norm`, whose statistics were `mean` and `var`."""
    dims, shape = (0, *range(2, x.ndim)), (-1, *(1 for _ in x.shape[2:]))
    var = var.reshape(shape)
    y = (x - mean.reshape(shape)) / library(x).sqrt(var + var.dtype.type(eps))
    scaled = g if weight is None else g * weight.reshape(shape)
    return standardize_grad(scaled, y, var[None], dims, eps), (g * y).sum(dims), g.sum(dims)


def layer_norm(x: Any, weight: Any, bias: Any, dim: int, eps: float) -> tuple[Any, Any, Any]:
    """x standardized over the dimensions from `dim` on, times `weight` plus `bias`; mean and biased variance."""
    y, mean, var = standardize(x, tuple(range(dim, x.ndim)), eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias, mean, var


def layer_norm_grad(g: Any, x: Any, weight: Any, mean: Any, var: Any, dim: int, eps: float) -> tuple[Any, Any, Any]:
    """Gradients of x, weight and bias of `layer_norm`, whose statistics were `mean` and `var`."""
    y = (x - mean) / library(x).sqrt(var + var.dtype.type(eps))
    scaled = g if weight is None else g * weight
    rows = tuple(range(dim))
    return standardize_grad(scaled, y, var, tuple(range(dim, x.ndim)), eps), (g * y).sum(rows), g.sum(rows)
