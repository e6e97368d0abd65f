"""Softmax, log-softmax and negative log-likelihood in double precision, with special values."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from scipy import special

from disttorch.backends import numpy as kernels

TOLERANCE = {np.float32: 1e-6, np.float64: 1e-14, np.float16: 2e-3, ml_dtypes.bfloat16: 2e-2}


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("shape", [(5, 10), (3, 67, 4), (1, 1)])
def test_values(shape: tuple, axis: int, dtype: type) -> None:
    x = (np.random.default_rng(0).standard_normal(shape) * 6).astype(dtype)
    wide = x.astype(np.float64)
    for name in ("softmax", "log_softmax"):
        y = getattr(kernels, name)(x, axis)
        assert y.dtype == dtype
        expected = getattr(special, name)(wide, axis)
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(y.astype(np.float64), expected, rtol=0, atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "axis"), [((5, 10), 1), ((4, 33, 2), 1), ((6, 20), 0)])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_gradients_by_finite_differences(name: str, shape: tuple, axis: int, dtype: type) -> None:
    rng = np.random.default_rng(1)
    x, g, along = rng.standard_normal((3, *shape))
    y = getattr(special, name)(x, axis)
    grad = getattr(kernels, f"{name}_grad")(g.astype(dtype), y.astype(dtype), axis)
    assert grad.dtype == dtype
    step = 1e-5 * along
    upper, lower = (getattr(special, name)(x + s, axis) for s in (step, -step))
    expected = (g * (upper - lower)).sum() / 2e-5
    np.testing.assert_allclose((grad * along).sum(), expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [3, 40])
def test_special_values(width: int, dtype: type) -> None:
    rows = np.zeros((5, width), dtype)
    rows[0, 1], rows[1, 1], rows[2, 1] = np.nan, 1e4, -np.inf
    rows[3] = -200
    rows[4, 0] = 200
    y, z = kernels.softmax(rows, 1), kernels.log_softmax(rows, 1)
    assert np.isnan(y[0]).all()
    assert np.isnan(z[0]).all()
    np.testing.assert_array_equal(y[1], np.arange(width) == 1)
    assert z[1, 0] == -1e4
    assert y[2, 1] == 0
    assert z[2, 1] == -np.inf
    np.testing.assert_allclose(y[3], 1 / width, rtol=1e-6)
    assert y[4, 0] == 1
    assert z[4, 1] == -200


def test_views_and_empty_arrays() -> None:
    x = np.random.default_rng(2).standard_normal((6, 8)).astype(np.float32)
    for function in (kernels.softmax, kernels.log_softmax):
        np.testing.assert_allclose(function(x[::2, ::-1], 1), function(x[::2, ::-1].copy(), 1), rtol=1e-6)
        assert function(np.empty((0, 8), np.float32), 1).shape == (0, 8)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("shape", [(7, 4), (3, 4, 2, 5)])
def test_nll_loss_and_gradient(shape: tuple, reduction: str, weighted: bool, dtype: type) -> None:
    rng = np.random.default_rng(3)
    log_prob = rng.standard_normal(shape).astype(dtype)
    target = rng.integers(0, 4, (shape[0], *shape[2:]))
    target.flat[1] = -100
    weight = np.array([0.5, 2, 1, 0.25], dtype) if weighted else None
    scale = np.where(target < 0, 0, (np.ones(4) if weight is None else weight)[target % 4])
    scale = scale.astype(np.float64)
    one_hot = np.moveaxis(np.eye(4)[target % 4], -1, 1) * np.expand_dims(scale, 1)
    loss = -(one_hot * log_prob.astype(np.float64)).sum(1)
    g = np.asarray(rng.standard_normal(loss.shape if reduction == "none" else ()), dtype)
    expected_grad = -one_hot * (np.expand_dims(g, 1) if g.ndim else g).astype(np.float64)
    if reduction != "none":
        loss = loss.sum()
    if reduction == "mean":
        loss, expected_grad = loss / scale.sum(), expected_grad / scale.sum()
    actual, total = kernels.nll_loss(log_prob, target, weight, -100, reduction)
    grad = kernels.nll_loss_grad(g, target, weight, -100, reduction, total, shape)
    assert isinstance(actual, np.ndarray)
    assert actual.dtype == grad.dtype == total.dtype == dtype
    tolerance = 10 * TOLERANCE[dtype]
    np.testing.assert_allclose(actual.astype(np.float64), loss, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(grad.astype(np.float64), expected_grad, rtol=tolerance, atol=tolerance)


def test_nll_loss_where_every_target_is_ignored() -> None:
    log_prob, target = np.zeros((3, 2), np.float32), np.full(3, -100)
    loss, total = kernels.nll_loss(log_prob, target, None, -100, "mean")
    assert np.isnan(loss)
    assert total == 0
    one = np.ones((), np.float32)
    grad = kernels.nll_loss_grad(one, target, None, -100, "mean", total, (3, 2))
    np.testing.assert_array_equal(grad, 0)


@pytest.mark.parametrize("wrong", [11, -1])
def test_nll_loss_refuses_targets_out_of_range(wrong: int) -> None:
    log_prob, target = np.zeros((3, 5), np.float32), np.array([0, wrong, 2])
    with pytest.raises(IndexError, match=f"Target {wrong} is out of bounds"):
        kernels.nll_loss(log_prob, target, None, -100, "mean")
