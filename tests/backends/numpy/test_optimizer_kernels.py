"""Optimizer updates: the compiled path against the formulas, and against the NumPy path."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from disttorch.backends import numpy as kernels


def sgd(p, g, state, k, *, momentum=0.0, dampening=0.0, decay=0.0, nesterov=False, maximize=False):
    g = (-g if maximize else g) + decay * p
    if momentum:
        state[0] = g if k == 1 else momentum * state[0] + (1 - dampening) * g
        g = g + momentum * state[0] if nesterov else state[0]
    return p - 0.1 * g


def adam(p, g, state, k, *, decay=0.0, decoupled=False, amsgrad=False, maximize=False):
    g = -g if maximize else g
    p, g = (p * (1 - 0.1 * decay), g) if decoupled else (p, g + decay * p)
    state[0] = 0.9 * state[0] + 0.1 * g
    state[1] = 0.99 * state[1] + 0.01 * g * g
    state[2] = np.maximum(state[2], state[1])
    second = state[2] if amsgrad else state[1]
    return p - 0.1 * (state[0] / (1 - 0.9**k)) / (np.sqrt(second / (1 - 0.99**k)) + 1e-8)


def rmsprop(p, g, state, k, *, decay=0.0, momentum=0.0, centered=False, maximize=False):
    g = (-g if maximize else g) + decay * p
    state[0] = 0.9 * state[0] + 0.1 * g * g
    state[1] = 0.9 * state[1] + 0.1 * g
    second = state[0] - state[1] ** 2 if centered else state[0]
    state[2] = momentum * state[2] + g / (np.sqrt(second) + 1e-8)
    return p - 0.1 * state[2]


def call_sgd(p, g, s, k, *, momentum=0.0, dampening=0.0, decay=0.0, nesterov=False, maximize=False):
    buffer = s[0] if momentum else None
    kernels.sgd(p, g, buffer, 0.1, momentum, dampening, decay, nesterov, maximize, k == 1)


def call_adam(p, g, s, k, *, decay=0.0, decoupled=False, amsgrad=False, maximize=False):
    largest = s[2] if amsgrad else None
    kernels.adam(p, g, s[0], s[1], largest, k, 0.1, 0.9, 0.99, 1e-8, decay, decoupled, maximize)


def call_rmsprop(p, g, s, k, *, decay=0.0, momentum=0.0, centered=False, maximize=False):
    average, buffer = s[1] if centered else None, s[2] if momentum else None
    kernels.rmsprop(p, g, s[0], average, buffer, 0.1, 0.9, 1e-8, decay, momentum, centered, maximize)


CASES = [
    (call_sgd, sgd, {}),
    (call_sgd, sgd, {"decay": 0.3, "maximize": True}),
    (call_sgd, sgd, {"momentum": 0.9, "dampening": 0.2, "decay": 0.3}),
    (call_sgd, sgd, {"momentum": 0.9, "nesterov": True, "maximize": True}),
    (call_adam, adam, {}),
    (call_adam, adam, {"decay": 0.3, "maximize": True}),
    (call_adam, adam, {"decay": 0.3, "decoupled": True, "amsgrad": True}),
    (call_rmsprop, rmsprop, {}),
    (call_rmsprop, rmsprop, {"decay": 0.3, "momentum": 0.9, "maximize": True}),
    (call_rmsprop, rmsprop, {"centered": True, "momentum": 0.5}),
]


@pytest.mark.parametrize("layout", ["contiguous", "strided"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 3e-5), (np.float64, 1e-12), (np.float16, 0.05)])
@pytest.mark.parametrize(("call", "formula", "options"), CASES)
def test_five_steps(
    call: Callable, formula: Callable, options: dict, dtype: type, tolerance: float, layout: str
) -> None:
    rng = np.random.default_rng(0)
    step = 1 if layout == "contiguous" else 2
    arrays = [np.zeros((6, 7 * step), dtype)[:, ::step] for _ in range(4)]
    param, state = arrays[0], arrays[1:]
    param[...] = rng.standard_normal(param.shape)
    expected = param.astype(np.float64)
    expected_state = [np.zeros(param.shape) for _ in range(3)]
    for k in range(1, 6):
        grad = (rng.standard_normal(param.shape) + 2).astype(dtype)
        before = grad.copy()
        call(param, grad, state, k, **options)
        expected = formula(expected, grad.astype(np.float64), expected_state, k, **options)
        np.testing.assert_array_equal(grad, before, err_msg="the gradient was modified")
    np.testing.assert_allclose(param, expected, rtol=tolerance, atol=tolerance)


def test_the_first_momentum_is_a_copy_of_the_gradient() -> None:
    param, grad = np.ones(3, np.float32), np.ones(3, np.float32)
    buffer = np.full(3, np.nan, np.float32)
    kernels.sgd(param, grad, buffer, 0.1, 0.9, 0.5, 0.0, False, False, True)
    np.testing.assert_array_equal(buffer, grad)
    grad[:] = 0
    assert (buffer == 1).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_empty_and_zero_dimensional_parameters(dtype: type) -> None:
    empty, scalar = np.empty((0, 3), dtype), np.array(1, dtype)
    kernels.sgd(empty, empty, None, 0.1, 0.0, 0.0, 0.0, False, False, False)
    kernels.sgd(scalar, np.array(2, dtype), None, 0.25, 0.0, 0.0, 0.0, False, False, False)
    assert scalar == 0.5
