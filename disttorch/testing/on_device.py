"""Samples on another device: the same values, types and derivatives as on the CPU."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np

import disttorch
from disttorch.autograd.engine import grad
from disttorch.autograd.tensor import Tensor, wrap
from disttorch.core.device import device
from disttorch.ops import creation
from disttorch.testing import gradients
from disttorch.testing.sample import Sample


def check_sample(sample: Sample, target: device) -> None:
    """Run a sample on the CPU and on `target`; AssertionError where results or gradients differ or are elsewhere."""
    on_cpu = gradients.operands(sample, leaves=sample.differentiable)
    moved = [_moved(x, target) for x in on_cpu]
    expected = gradients.outputs(gradients.call(sample, on_cpu))
    with mock.patch.object(creation, "place", return_value=target):  # also what a sample makes by itself
        found = gradients.outputs(gradients.call(sample, moved))
    assert len(found) == len(expected)
    for y, z in zip(found, expected):
        if moved:  # else made of numbers only
            assert y.device.type == target.type, f"the result is on {y.device}"
        assert y.dtype == z.dtype
        np.testing.assert_allclose(_host(y), _host(z), rtol=1e-9, atol=1e-12)
    if sample.differentiable:
        _check_gradients(on_cpu, moved, expected, found)


def _check_gradients(on_cpu: list[Tensor], moved: list[Tensor], expected: list[Tensor], found: list[Tensor]) -> None:
    results = []
    for leaves, outputs in ((on_cpu, expected), (moved, found)):
        ys = [y for y in outputs if y.requires_grad]
        seeds = [_moved(_seed(y), y.device) for y in ys]
        results.append(grad(ys, [x for x in leaves if x.requires_grad], seeds, allow_unused=True))
    for h, g, x in zip(*results, [x for x in moved if x.requires_grad]):
        assert (g is None) == (h is None)
        if g is not None and h is not None:
            assert g.device == x.device, f"the gradient is on {g.device}"
            np.testing.assert_allclose(_host(g), _host(h), rtol=1e-8, atol=1e-11)


def _moved(x: Tensor, target: device) -> Tensor:
    return x.detach().to(target).requires_grad_(x.requires_grad)


def _seed(y: Tensor) -> Tensor:
    values = np.cos(np.arange(y._a.size, dtype=float)).reshape(y._a.shape)
    return wrap(values.astype(y._a.dtype))


def _host(tensor: Any) -> np.ndarray:
    with disttorch.no_grad():
        return tensor.detach().cpu()._a
