"""The NumPy kernels against PyTorch's own operators, values and gradients."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

from disttorch.backends import numpy as kernels  # noqa: E402

F = torch.nn.functional
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-11, np.float16: 4e-3}


def close(actual: np.ndarray, expected: Any, dtype: type = np.float32) -> None:
    expected = expected.detach().numpy()
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    scale = max(1.0, float(np.nanmax(np.abs(expected), initial=1)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE[dtype] * scale)


def leaf(a: np.ndarray) -> Any:
    return torch.from_numpy(a.copy()).requires_grad_()


# (N, C, O, spatial, kernel, stride, padding, dilation, groups)
CONVOLUTIONS = [
    (4, 1, 6, (32, 32), (5, 5), (1, 1), (0, 0), (1, 1), 1),
    (4, 6, 16, (14, 14), (5, 5), (1, 1), (0, 0), (1, 1), 1),
    (3, 1, 16, (28, 28), (5, 5), (1, 1), (2, 2), (1, 1), 1),
    (3, 16, 32, (14, 14), (5, 5), (1, 1), (2, 2), (1, 1), 1),
    (2, 16, 32, (32, 32), (3, 3), (2, 2), (1, 1), (1, 1), 1),
    (2, 64, 64, (8, 8), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (2, 5, 7, (9, 11), (1, 1), (2, 2), (0, 0), (1, 1), 1),
    (2, 4, 6, (9, 11), (3, 2), (2, 3), (2, 1), (2, 1), 2),
    (2, 6, 6, (10, 10), (3, 3), (1, 1), (1, 1), (1, 1), 6),
    (1, 3, 2, (4, 4), (4, 4), (1, 1), (0, 0), (1, 1), 1),
    (3, 4, 5, (20,), (5,), (1,), (2,), (1,), 1),
    (3, 4, 6, (21,), (4,), (3,), (1,), (2,), 2),
    (2, 3, 4, (5, 6, 7), (3, 2, 3), (1, 2, 2), (1, 0, 2), (1, 1, 2), 1),
    (0, 3, 4, (8, 8), (3, 3), (1, 1), (1, 1), (1, 1), 1),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolution(case: tuple, dtype: type) -> None:
    n, c, o, spatial, kernel, stride, padding, dilation, groups = case
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, c, *spatial)).astype(dtype)
    w = (rng.standard_normal((o, c // groups, *kernel)) / np.sqrt(c * np.prod(kernel))).astype(dtype)
    b = rng.standard_normal(o).astype(dtype)
    tx, tw, tb = leaf(x), leaf(w), leaf(b)
    function = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(spatial)]
    expected = function(tx, tw, tb, stride, padding, dilation, groups)
    how = (stride, padding, dilation, groups)
    close(kernels.convolution(x, w, b, *how), expected, dtype)
    g = rng.standard_normal(expected.shape).astype(dtype)
    expected.backward(torch.from_numpy(g))
    close(kernels.convolution_input_grad(g, w, x.shape, *how), tx.grad, dtype)
    close(kernels.convolution_weight_grad(g, x, w.shape, *how), tw.grad, dtype)


# (spatial, kernel, stride, padding, dilation, ceil_mode)
MAX_POOLS = [
    ((8, 8), (2, 2), (2, 2), (0, 0), (1, 1), False),
    ((9, 7), (3, 3), (2, 2), (1, 1), (1, 1), False),
    ((9, 7), (3, 2), (2, 3), (1, 1), (1, 1), True),
    ((11, 12), (3, 3), (1, 2), (1, 1), (2, 3), False),
    ((11,), (3,), (2,), (1,), (2,), True),
    ((6, 7, 8), (2, 3, 2), (2, 2, 1), (1, 1, 0), (1, 1, 2), True),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("case", MAX_POOLS, ids=str)
def test_max_pool(case: tuple, dtype: type) -> None:
    spatial, *how = case
    rng = np.random.default_rng(1)
    x = rng.integers(-4, 4, (2, 3, *spatial)).astype(dtype)
    if dtype is not np.int64:
        x.ravel()[rng.integers(0, x.size, 12)] = np.nan
        x.ravel()[rng.integers(0, x.size, 12)] = -np.inf
    if dtype is np.int64 and len(spatial) == 3:
        pytest.skip("PyTorch has no integer max_pool3d")
    function = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[len(spatial)]
    tx = torch.from_numpy(x.copy())
    if dtype is not np.int64:
        tx.requires_grad_()
    expected, where = function(tx, *how, return_indices=True)
    y, indices = kernels.max_pool(x, *how)
    np.testing.assert_array_equal(y, expected.detach().numpy())
    np.testing.assert_array_equal(indices, where.numpy())
    if dtype is not np.int64:
        g = rng.standard_normal(y.shape).astype(dtype)
        expected.backward(torch.from_numpy(g))
        close(kernels.max_pool_grad(g, indices, x.shape), tx.grad, dtype)


# (spatial, kernel, stride, padding, ceil_mode, count_include_pad, divisor)
AVG_POOLS = [
    ((8, 8), (2, 2), (2, 2), (0, 0), False, True, None),
    ((8, 8), (8, 8), (8, 8), (0, 0), False, True, None),
    ((9, 7), (3, 3), (2, 2), (1, 1), False, True, None),
    ((9, 7), (3, 3), (2, 2), (1, 1), True, False, None),
    ((10, 7), (3, 2), (3, 2), (1, 1), True, True, None),
    ((9, 7), (3, 3), (1, 2), (1, 0), True, True, 5),
    ((11,), (3,), (2,), (1,), True, True, None),
    ((6, 7, 8), (2, 3, 2), (2, 2, 2), (1, 1, 0), True, False, None),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", AVG_POOLS, ids=str)
def test_avg_pool(case: tuple, dtype: type) -> None:
    spatial, kernel, stride, padding, ceil_mode, include, divisor = case
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 3, *spatial)).astype(dtype)
    tx = leaf(x)
    function = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[len(spatial)]
    extra = () if len(spatial) == 1 else (divisor,)
    expected = function(tx, kernel, stride, padding, ceil_mode, include, *extra)
    close(kernels.avg_pool(x, kernel, stride, padding, ceil_mode, include, divisor), expected, dtype)
    g = rng.standard_normal(expected.shape).astype(dtype)
    expected.backward(torch.from_numpy(g))
    close(kernels.avg_pool_grad(g, x.shape, kernel, stride, padding, include, divisor), tx.grad, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize(("shape", "axis"), [((64, 10), 1), ((3, 5, 7), 1), ((300,), 0), ((2, 9), 0)])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(name: str, shape: tuple, axis: int, dtype: type) -> None:
    rng = np.random.default_rng(3)
    x = (rng.standard_normal(shape) * 5).astype(dtype)
    tx = leaf(x)
    expected = getattr(F, name)(tx, axis)
    y = getattr(kernels, name)(x, axis)
    close(y, expected, dtype)
    g = rng.standard_normal(shape).astype(dtype)
    expected.backward(torch.from_numpy(g))
    close(getattr(kernels, f"{name}_grad")(g, y, axis), tx.grad, dtype)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(16, 5), (4, 5, 3, 2)])
def test_nll_loss(shape: tuple, reduction: str, weighted: bool) -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal(shape).astype(np.float32)
    target = rng.integers(0, 5, (shape[0], *shape[2:]))
    target.ravel()[:3] = -100
    weight = rng.random(5).astype(np.float32) if weighted else None
    tx = leaf(x)
    expected = F.nll_loss(
        tx,
        torch.from_numpy(target),
        None if weight is None else torch.from_numpy(weight),
        reduction=reduction,
    )
    loss, total = kernels.nll_loss(x, target, weight, -100, reduction)
    close(loss, expected)
    g = rng.standard_normal(loss.shape).astype(np.float32)
    expected.backward(torch.from_numpy(np.asarray(g)))
    grad = kernels.nll_loss_grad(np.asarray(g), target, weight, -100, reduction, total, shape)
    close(grad, tx.grad)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reverse", [False, True])
def test_lstm_layer(reverse: bool, bias: bool, dtype: type) -> None:
    rng = np.random.default_rng(5)
    steps, batch, inputs, hidden = 7, 5, 4, 6
    lstm = torch.nn.LSTM(inputs, hidden, bias=bias).to(torch.from_numpy(np.empty(0, dtype)).dtype)
    x, h0, c0 = (
        rng.standard_normal(s).astype(dtype) for s in [(steps, batch, inputs), (batch, hidden), (batch, hidden)]
    )
    tx, th, tc = leaf(x), leaf(h0), leaf(c0)
    seen = tx.flip(0) if reverse else tx
    out, (hn, cn) = lstm(seen, (th[None], tc[None]))
    out = out.flip(0) if reverse else out
    weights = [p.detach().numpy() for p in lstm.parameters()] + ([] if bias else [None, None])
    y, h, c, reserve = kernels.lstm_layer(x, h0, c0, *weights, reverse=reverse)
    for actual, expected in [(y, out), (h, hn[0]), (c, cn[0])]:
        close(actual, expected, dtype)
    gy, gh, gc = (rng.standard_normal(a.shape).astype(dtype) for a in (y, h, c))
    total = sum((t * torch.from_numpy(g)).sum() for t, g in [(out, gy), (hn[0], gh), (cn[0], gc)])
    total.backward()
    grads = kernels.lstm_layer_grad(gy, gh, gc, x, h0, c0, weights[0], weights[1], reserve, reverse)
    expected_grads = [tx.grad, th.grad, tc.grad, *(p.grad for p in lstm.parameters())]
    for actual, expected in zip(grads, expected_grads, strict=False):
        close(actual, expected, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_at_special_values(dtype: type) -> None:
    x = np.array([-np.inf, -1000, -2, -0.0, 0, 3, 1000, np.inf, np.nan], dtype)
    tx = leaf(x)
    expected = torch.relu(tx)
    y = kernels.relu(x)
    np.testing.assert_array_equal(y, expected.detach().numpy())
    g = np.arange(1, 10).astype(dtype)
    expected.backward(torch.from_numpy(g))
    np.testing.assert_array_equal(kernels.relu_grad(g, y), tx.grad.numpy())
    close(kernels.sigmoid(x)[:-1], torch.sigmoid(torch.from_numpy(x))[:-1], dtype)


OPTIMIZERS = [
    ("SGD", {}),
    ("SGD", {"weight_decay": 0.1, "maximize": True}),
    ("SGD", {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "weight_decay": 0.1, "maximize": True}),
    ("AdamW", {"weight_decay": 0.1}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.9, "weight_decay": 0.1}),
    ("RMSprop", {"centered": True, "maximize": True}),
    ("RMSprop", {"centered": True, "momentum": 0.5}),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [3, 5000])
@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=str)
def test_optimizer_steps(name: str, options: dict, size: int, dtype: type) -> None:
    rng = np.random.default_rng(6)
    start = rng.standard_normal(size).astype(dtype)
    tp = leaf(start)
    reference = getattr(torch.optim, name)([tp], lr=0.02, foreach=False, **options)
    defaults = copy.copy(reference.param_groups[0])
    param = start.copy()
    state = [np.zeros(size, dtype) for _ in range(3)]
    for step in range(1, 6):
        grad = rng.standard_normal(size).astype(dtype)
        tp.grad = torch.from_numpy(grad.copy())
        reference.step()
        _update(name, defaults, param, grad, state, step)
    close(param, tp, dtype)


def _update(name: str, o: dict, param: np.ndarray, grad: np.ndarray, state: list[np.ndarray], step: int) -> None:
    if name == "SGD":
        buffer = state[0] if o["momentum"] else None
        kernels.sgd(
            param, grad, buffer, o["lr"], o["momentum"], o["dampening"], o["weight_decay"],
            o["nesterov"], o["maximize"], step == 1,
        )  # fmt: skip
    elif name == "RMSprop":
        average = state[1] if o["centered"] else None
        buffer = state[2] if o["momentum"] else None
        kernels.rmsprop(
            param, grad, state[0], average, buffer, o["lr"], o["alpha"], o["eps"],
            o["weight_decay"], o["momentum"], o["centered"], o["maximize"],
        )  # fmt: skip
    else:
        largest = state[2] if o["amsgrad"] else None
        kernels.adam(
            param, grad, state[0], state[1], largest, step, o["lr"], *o["betas"], o["eps"],
            o["weight_decay"], name == "AdamW", o["maximize"],
        )  # fmt: skip
