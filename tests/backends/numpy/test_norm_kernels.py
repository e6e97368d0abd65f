"""The normalization kernels, compiled and not, beside their formulas in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from disttorch.backends import numpy as kernels

EPS = 1e-3
# the last two have rows too short for compiled code, and nothing
BATCHES = [(4, 3, 5, 5), (2, 8, 40), (300, 70), (5, 1), (3, 2, 2, 2), (0, 3, 4)]
LAYERS = [((4, 7, 16), 2), ((70, 300), 1), ((3, 4, 5), 1), ((6,), 0), ((2, 1), 1), ((0, 3), 1)]


def numbers(*shape: int, seed: int, dtype: Any = np.float32) -> np.ndarray:
    return (1 + 2 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def expected(
    x: np.ndarray, g: np.ndarray, weight: Any, bias: Any, dims: tuple[int, ...], others: tuple[int, ...]
) -> list[Any]:
    """Return y, mean, var, and the gradients of x, weight and bias; weight and bias broadcast to x."""
    x, g = x.astype(float), g.astype(float)
    weight, bias = (0.0 + default if p is None else p.astype(float) for p, default in ((weight, 1), (bias, 0)))
    mean, var = x.mean(dims, keepdims=True), x.var(dims, keepdims=True)
    root = np.sqrt(var + EPS)
    y, scaled = (x - mean) / root, g * weight
    of_x = (scaled - scaled.mean(dims, keepdims=True) - y * (scaled * y).mean(dims, keepdims=True)) / root
    return [y * weight + bias, mean, var, of_x, (g * y).sum(others), g.sum(others)]


def check(found: Any, wanted: list[Any], dtype: Any) -> None:
    for k, (a, b) in enumerate(zip(found, wanted, strict=True)):
        assert a.dtype == dtype
        assert a.size == b.size
        scale = max(1.0, float(np.abs(b).max(initial=0)))
        tolerance = (1e-12 if dtype == np.float64 else 3e-6) * scale
        np.testing.assert_allclose(a.reshape(-1), b.reshape(-1), rtol=0, atol=tolerance, err_msg=str(k))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", BATCHES, ids=str)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the mean of nothing
def test_batch_norm(shape: tuple[int, ...], affine: bool, dtype: Any) -> None:
    x, g = numbers(*shape, seed=0, dtype=dtype), numbers(*shape, seed=1, dtype=dtype)
    weight, bias = (numbers(shape[1], seed=s, dtype=dtype) if affine else None for s in (2, 3))
    y, mean, var = kernels.batch_norm(x, weight, bias, EPS)
    found = y, mean, var, *kernels.batch_norm_grad(g, x, weight, mean, var, EPS)
    dims, along = (0, *range(2, x.ndim)), (-1, *(1 for _ in shape[2:]))
    spread = [None if p is None else p.reshape(along) for p in (weight, bias)]
    check(found, expected(x, g, *spread, dims, dims), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("shape", "dim"), LAYERS, ids=str)
def test_layer_norm(shape: tuple[int, ...], dim: int, affine: bool, dtype: Any) -> None:
    x, g = numbers(*shape, seed=0, dtype=dtype), numbers(*shape, seed=1, dtype=dtype)
    weight, bias = (numbers(*shape[dim:], seed=s, dtype=dtype) if affine else None for s in (2, 3))
    y, mean, var = kernels.layer_norm(x, weight, bias, dim, EPS)
    found = y, mean, var, *kernels.layer_norm_grad(g, x, weight, mean, var, dim, EPS)
    check(found, expected(x, g, weight, bias, tuple(range(dim, x.ndim)), tuple(range(dim))), dtype)


def test_operands_in_any_layout() -> None:
    x, g = numbers(5, 9, 12, seed=0).transpose(1, 2, 0), np.broadcast_to(numbers(9, 1, 5, seed=1), (9, 12, 5))
    weight = numbers(24, seed=2)[::2]
    y, mean, var = kernels.batch_norm(x, weight, None, EPS)
    found = y, mean, var, *kernels.batch_norm_grad(g, x, weight, mean, var, EPS)
    check(found, expected(x, g, weight.reshape(-1, 1), None, (0, 2), (0, 2)), np.float32)
    weight = numbers(5, 12, seed=2).T
    y, mean, var = kernels.layer_norm(x, weight, None, 1, EPS)
    found = y, mean, var, *kernels.layer_norm_grad(g, x, weight, mean, var, 1, EPS)
    check(found, expected(x, g, weight, None, (1, 2), (0,)), np.float32)


def test_a_variance_far_below_the_mean_is_not_lost() -> None:
    x = (1000 + 0.01 * np.random.default_rng(0).standard_normal((64, 4, 32))).astype(np.float32)
    _, _, var = kernels.batch_norm(x, None, None, EPS)
    np.testing.assert_allclose(var, x.astype(float).var((0, 2)), rtol=1e-2)
    _, _, var = kernels.layer_norm(x, None, None, 1, EPS)
    np.testing.assert_allclose(var, x.astype(float).var((1, 2), keepdims=True), rtol=2e-2)
