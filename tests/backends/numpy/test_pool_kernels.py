"""Pooling against loops over windows, its gradients against finite differences."""

from __future__ import annotations

from itertools import product
from math import prod

import ml_dtypes
import numpy as np
import pytest

from disttorch.backends import numpy as kernels

# (spatial, kernel, stride, padding, dilation, ceil_mode)
CASES = [
    ((8, 8), (2, 2), (2, 2), (0, 0), (1, 1), False),
    ((9, 11), (2, 2), (2, 2), (0, 0), (1, 1), True),
    ((9, 7), (3, 3), (2, 2), (1, 1), (1, 1), False),
    ((9, 7), (3, 2), (2, 3), (1, 1), (1, 1), True),
    ((11, 12), (3, 3), (1, 2), (1, 1), (2, 3), False),
    ((40, 70), (2, 2), (2, 2), (0, 0), (1, 1), False),
    ((11,), (3,), (2,), (1,), (2,), True),
    ((5, 6, 7), (2, 3, 2), (2, 2, 1), (1, 1, 0), (1, 1, 2), True),
]
DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int32]


def windows(size: tuple, spatial: tuple, kernel: tuple, stride: tuple, padding: tuple, step: tuple):
    """Each output position with the input positions of its window, padding left out."""
    for out in product(*(range(o) for o in size)):
        axes = [
            [i * s - p + k * d for k in range(n)]
            for i, s, p, n, d in zip(out, stride, padding, kernel, step, strict=True)
        ]
        kept = [[i for i in a if 0 <= i < s] for a, s in zip(axes, spatial, strict=True)]
        yield out, list(product(*kept))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_max_pool_finds_the_first_maximum(case: tuple, dtype: type) -> None:
    spatial, *how, ceil_mode = case
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, (2, 3, *spatial)).astype(dtype)
    y, indices = kernels.max_pool(x, *how, ceil_mode)
    assert y.dtype == dtype
    assert indices.dtype == np.int64
    for out, inside in windows(y.shape[2:], spatial, *how):
        for n, c in product(range(2), range(3)):
            values = [x[(n, c, *i)] for i in inside]
            first = inside[int(np.argmax(values))]
            assert y[(n, c, *out)] == max(values), f"window {out} of plane {(n, c)}"
            assert indices[(n, c, *out)] == np.ravel_multi_index(first, spatial)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("kernel", [(2, 2), (1, 3)])
def test_max_pool_prefers_the_last_nan(kernel: tuple, dtype: type) -> None:
    x = np.arange(24, dtype=dtype).reshape(1, 1, 4, 6)
    x[0, 0, 0, 0] = x[0, 0, 0, 1] = x[0, 0, 2, 3] = np.nan
    y, indices = kernels.max_pool(x, kernel, kernel, (0, 0), (1, 1), False)
    assert np.isnan(y[0, 0, 0, 0])
    assert indices[0, 0, 0, 0] == 1
    assert np.isnan(y).sum() == 2


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_max_pool_of_nothing_but_minus_infinity_points_inside(dtype: type) -> None:
    x = np.full((1, 1, 2, 2), -np.inf, dtype)
    y, indices = kernels.max_pool(x, (2, 2), (2, 2), (1, 1), (1, 1), False)
    np.testing.assert_array_equal(indices.ravel(), [0, 1, 2, 3])
    assert np.isneginf(y).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_max_pool_grad_adds_where_windows_overlap(dtype: type) -> None:
    x = np.zeros((2, 1, 3, 3), dtype)
    x[:, 0, 1, 1] = 5
    y, indices = kernels.max_pool(x, (2, 2), (1, 1), (0, 0), (1, 1), False)
    grad = kernels.max_pool_grad(np.ones_like(y), indices, x.shape)
    assert grad.dtype == dtype
    np.testing.assert_array_equal(grad, np.where(x == 5, 4, 0).astype(dtype))


@pytest.mark.parametrize("shape", [(0, 3, 6, 6), (0, 3, 6)])
def test_empty_batch(shape: tuple) -> None:
    ones = (1,) * (len(shape) - 2)
    twos, zeros = (2,) * len(ones), (0,) * len(ones)
    x = np.empty(shape, np.float32)
    y, indices = kernels.max_pool(x, twos, twos, zeros, ones, False)
    assert y.shape == indices.shape == (0, 3, *(3 for _ in ones))
    assert kernels.max_pool_grad(y, indices, x.shape).shape == shape
    mean = kernels.avg_pool(x, twos, twos, zeros, False, True, None)
    assert kernels.avg_pool_grad(mean, shape, twos, twos, zeros, True, None).shape == shape


def test_non_contiguous_input() -> None:
    x = np.random.default_rng(1).standard_normal((8, 6, 3, 4)).astype(np.float32)
    view = x.transpose(3, 2, 1, 0)[::2, :, :, ::-1]
    how = ((2, 2), (2, 2), (0, 0), (1, 1), False)
    for actual, expected in zip(kernels.max_pool(view, *how), kernels.max_pool(view.copy(), *how), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_window_that_does_not_fit_is_refused() -> None:
    x = np.zeros((1, 1, 2, 2), np.float32)
    with pytest.raises(RuntimeError, match="Output size is too small"):
        kernels.max_pool(x, (3, 3), (1, 1), (0, 0), (1, 1), False)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("divisor", [None, 3])
@pytest.mark.parametrize("case", [c for c in CASES if max(c[4]) == 1], ids=str)
def test_avg_pool(case: tuple, divisor: int | None, include: bool, dtype: type) -> None:
    spatial, kernel, stride, padding, ones, ceil_mode = case
    rng = np.random.default_rng(2)
    x = (rng.integers(-3, 4, (2, 3, *spatial)) * 12).astype(dtype)
    y = kernels.avg_pool(x, kernel, stride, padding, ceil_mode, include, divisor)
    assert y.dtype == dtype
    tolerance = {np.float16: 1e-3, ml_dtypes.bfloat16: 1e-2}.get(dtype, 1e-6)
    for out, inside in windows(y.shape[2:], spatial, kernel, stride, padding, ones):
        count = divisor or (_padded(out, case) if include else len(inside))
        total = sum(x[(slice(None), slice(None), *i)].astype(np.float64) for i in inside)
        actual = y[(slice(None), slice(None), *out)].astype(np.float64)
        expected = np.trunc(total / count) if dtype is np.int32 else total / count
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def _padded(out: tuple, case: tuple) -> int:
    """Size of a window, counting the padding but not what lies beyond it."""
    spatial, kernel, stride, padding, _, _ = case
    return prod(
        min(i * s - p + k, size + p) - (i * s - p)
        for i, s, p, k, size in zip(out, stride, padding, kernel, spatial, strict=True)
    )


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("case", [*CASES[:3], ((4, 5), (4, 5), (4, 5), (0, 0), (1, 1), False)], ids=str)
def test_avg_pool_grad(case: tuple, include: bool) -> None:
    spatial, kernel, stride, padding, _, ceil_mode = case
    how = (kernel, stride, padding)
    rng = np.random.default_rng(3)
    x, other = rng.standard_normal((2, 2, 3, *spatial))
    y = kernels.avg_pool(x, *how, ceil_mode, include, None)
    g = rng.standard_normal(y.shape)
    grad = kernels.avg_pool_grad(g, x.shape, *how, include, None)
    # Pooling is linear, so <g, pool(other)> is exactly <grad, other>.
    along = (kernels.avg_pool(other, *how, ceil_mode, include, None) * g).sum()
    np.testing.assert_allclose((grad * other).sum(), along, rtol=1e-12)
