"""relu, sigmoid and gelu, on both sides of the size at which the compiled form takes over."""

from __future__ import annotations

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from scipy.special import expit, ndtr

from disttorch.backends import numpy as kernels

SIZES = [1, 50, 5000]
SPECIAL = [-np.inf, -1e4, -0.0, 0.0, 1e4, np.inf, np.nan]


def sample(size: int, dtype: type) -> np.ndarray:
    x = (np.random.default_rng(0).standard_normal(size) * 8).astype(dtype)
    return np.concatenate([x, np.array(SPECIAL, dtype)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("size", SIZES)
def test_relu_and_its_gradient(size: int, dtype: type) -> None:
    x = sample(size, dtype)
    y = kernels.relu(x)
    assert y.dtype == dtype
    wide = x.astype(np.float64)
    expected = np.where(wide <= 0, 0, wide)
    np.testing.assert_array_equal(y.astype(np.float64), expected)
    g = np.arange(1, x.size + 1).astype(dtype)
    grad = kernels.relu_grad(g, y)
    assert grad.dtype == dtype
    np.testing.assert_array_equal(grad, np.where(wide <= 0, dtype(0), g))


def test_relu_of_integers_views_and_zero_dimensions() -> None:
    np.testing.assert_array_equal(kernels.relu(np.array([-2, 0, 3])), [0, 0, 3])
    x = np.random.default_rng(1).standard_normal((80, 90)).astype(np.float32).T
    np.testing.assert_array_equal(kernels.relu(x), np.maximum(x, 0))
    np.testing.assert_array_equal(kernels.relu_grad(x, x), np.maximum(x, 0))
    assert kernels.relu(np.array(-1.0, np.float32)) == 0
    assert kernels.relu(np.empty((0, 3), np.float32)).shape == (0, 3)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(np.float32, 2e-7), (np.float64, 5e-16), (np.float16, 1e-3), (ml_dtypes.bfloat16, 8e-3)],
)
@pytest.mark.parametrize("size", SIZES)
def test_sigmoid(size: int, dtype: type, tolerance: float) -> None:
    x = sample(size, dtype)
    y = kernels.sigmoid(x)
    assert y.dtype == dtype
    expected = expit(x.astype(np.float64))
    np.testing.assert_allclose(y.astype(np.float64), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_keeps_shape_and_arrayness(dtype: type) -> None:
    zero_dimensional = kernels.sigmoid(np.array(0, dtype))
    assert isinstance(zero_dimensional, np.ndarray)
    assert zero_dimensional == 0.5
    x = np.random.default_rng(2).standard_normal((4, 6)).astype(dtype).T[::2]
    np.testing.assert_allclose(kernels.sigmoid(x), expit(x), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_is_exact_for_very_negative_numbers(dtype: type) -> None:
    x = np.array([-80, -40, -20], dtype)
    np.testing.assert_allclose(kernels.sigmoid(x), expit(x.astype(np.float64)), rtol=1e-6)


def test_kernels_are_imported_without_numba() -> None:
    code = "import disttorch.backends.numpy, sys; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(np.float32, 1e-6), (np.float64, 1e-14), (np.float16, 4e-3), (ml_dtypes.bfloat16, 3e-2)],
)
@pytest.mark.parametrize("size", SIZES)
def test_gelu_and_its_gradient(size: int, dtype: type, tolerance: float) -> None:
    x = np.concatenate([sample(size, dtype)[:size], np.linspace(-6, 6, 101).astype(dtype)])
    wide = x.astype(np.float64)
    g = np.linspace(-1, 1, x.size).astype(dtype)
    y, grad = kernels.gelu(x), kernels.gelu_grad(g, x)
    assert y.dtype == grad.dtype == dtype
    close = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(y.astype(np.float64), wide * ndtr(wide), **close)
    slope = ndtr(wide) + wide * np.exp(-wide * wide / 2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(grad.astype(np.float64), g.astype(np.float64) * slope, **close)
