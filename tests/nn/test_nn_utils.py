"""`nn.utils`: limits on gradients, parameters as a vector."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import disttorch as torch
from disttorch import nn
from disttorch.nn import utils

GRADS = [np.array([3.0, -4.0], np.float32), np.array([[12.0]], np.float32)]


def parameters() -> list[Any]:
    made = [nn.Parameter(torch.zeros(*g.shape)) for g in GRADS]
    for parameter, grad in zip(made, GRADS, strict=True):
        parameter.grad = torch.tensor(grad)
    return [*made, nn.Parameter(torch.zeros(1))]


def flat(made: list[Any]) -> np.ndarray:
    return np.concatenate([p.grad.numpy().ravel() for p in made if p.grad is not None])


@pytest.mark.parametrize(("order", "total"), [(2.0, 13.0), (1, 19.0), (math.inf, 12.0)])
def test_clipping_by_norm(order: float, total: float) -> None:
    made = parameters()
    held = made[0].grad
    assert utils.clip_grad_norm_(made, 6.5, order).item() == pytest.approx(total)
    expected = np.array([3.0, -4.0, 12.0]) * 6.5 / total
    np.testing.assert_allclose(flat(made), expected, rtol=1e-6)
    assert made[0].grad is held, "the gradient has to be changed in place"
    assert utils.clip_grad_norm_(made, 100.0, order).item() == pytest.approx(6.5, rel=1e-5)
    np.testing.assert_allclose(flat(made), expected, rtol=1e-6)


def test_clipping_one_tensor_or_an_iterator() -> None:
    first = parameters()[0]
    assert utils.clip_grad_norm_(first, 1.0).item() == 5.0
    assert utils.clip_grad_norm_(iter(parameters()), 1.0).item() == 13.0
    assert utils.get_total_norm([]).item() == 0.0
    with pytest.warns(UserWarning, match="is an empty generator"):
        utils.clip_grad_norm_((p for p in []), 1.0)


def test_a_norm_that_is_not_finite() -> None:
    made = parameters()
    made[0].grad.fill_(math.nan)
    with pytest.raises(RuntimeError, match=r"The total norm of order 2\.0 for gradients"):
        utils.clip_grad_norm_(made, 1.0, error_if_nonfinite=True)
    assert math.isnan(utils.clip_grad_norm_(made, 1.0).item())


def test_clipping_by_value() -> None:
    made = parameters()
    utils.clip_grad_value_(made, 3.5)
    assert flat(made).tolist() == [3.0, -3.5, 3.5]


def test_vector_of_parameters() -> None:
    layer = nn.Linear(2, 3)
    vector = utils.parameters_to_vector(layer.parameters())
    assert vector.shape == (9,)
    vector.sum().backward()
    assert layer.weight.grad.tolist() == [[1.0, 1.0]] * 3
    weight = layer.weight
    utils.vector_to_parameters(torch.arange(9.0), layer.parameters())
    assert layer.weight is weight
    assert layer.weight.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    assert layer.bias.tolist() == [6.0, 7.0, 8.0]
    with pytest.raises(TypeError, match=r"expected torch\.Tensor, but got: list"):
        utils.vector_to_parameters([1.0], layer.parameters())  # type: ignore[arg-type]
