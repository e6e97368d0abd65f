"""What samples do not show: limits of domains, memory, and refusals of activations and losses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import disttorch as torch
from disttorch.nn import functional as F

inf, nan = float("inf"), float("nan")


@pytest.mark.parametrize(
    "name",
    "relu relu6 elu selu celu leaky_relu rrelu hardtanh silu mish hardsigmoid hardswish".split(),
)
def test_inplace_writes_into_the_input(name: str) -> None:
    x = torch.tensor([-2.0, 0.5, 7.0])
    expected = getattr(F, name)(x)
    assert getattr(F, name)(x, inplace=True) is x
    assert x.tolist() == expected.tolist()


@pytest.mark.parametrize(("name", "limits"), [("relu6", (0, 6)), ("hardtanh", (-1, 1)), ("hardsigmoid", (-3, 3))])
def test_the_derivative_at_the_limits_is_zero(name: str, limits: tuple[float, float]) -> None:
    x = torch.tensor(limits, dtype=torch.float64, requires_grad=True)
    getattr(F, name)(x).sum().backward()
    assert x.grad.tolist() == [0, 0]


@pytest.mark.parametrize("name", "relu relu6 elu gelu hardtanh leaky_relu mish silu softplus softshrink".split())
def test_activations_keep_nan(name: str) -> None:
    assert np.isnan(getattr(F, name)(torch.tensor([nan, 1.0])).numpy()).tolist() == [True, False]


def test_elu_does_not_overflow() -> None:
    x = torch.tensor([1e4, -1e4, inf, -inf], requires_grad=True)
    y = F.elu(x, 2.0)
    y.sum().backward()
    assert y.tolist() == [1e4, -2, inf, -2]
    assert x.grad.tolist() == [1, 0, 1, 0]


def test_gumbel_softmax_is_one_hot_and_passes_gradients_on() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 4, requires_grad=True)
    y = F.gumbel_softmax(x, hard=True)
    assert sorted(set(np.round(y.detach().numpy().ravel(), 6).tolist())) == [0, 1]
    assert np.allclose(y.detach().numpy().sum(1), 1)
    (y * torch.arange(4.0)).sum().backward()
    assert (x.grad != 0).any()


def test_binary_cross_entropy_of_certain_probabilities_has_finite_gradients() -> None:
    x = torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=torch.float64, requires_grad=True)
    loss = F.binary_cross_entropy(x, torch.tensor([0.0, 1, 1, 0], dtype=torch.float64), reduction="none")
    loss.sum().backward()
    assert loss.tolist() == [0, 0, 100, 100]
    np.testing.assert_allclose(x.grad.numpy(), [0, 0, -1e12, 1e12])


def _ctc(**named: Any) -> tuple[Any, Any]:
    x = torch.zeros(2, 1, 3, dtype=torch.float64, requires_grad=True)
    loss = F.ctc_loss(F.log_softmax(x, 2), torch.tensor([[1, 1]]), torch.tensor([2]), torch.tensor([2]), **named)
    loss.backward()
    return loss.item(), x.grad.numpy()


def test_ctc_loss_of_inputs_that_are_too_short() -> None:
    assert _ctc()[0] == inf
    loss, grad = _ctc(zero_infinity=True)
    assert loss == 0
    assert not grad.any()


@pytest.mark.parametrize("old", [{"size_average": False}, {"reduce": True, "size_average": False}])
def test_torch_and_functional_losses_take_the_old_arguments(old: Any) -> None:
    x, y = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.25])
    for function in (F.kl_div, torch.kl_div):
        with pytest.warns(UserWarning, match="reduction='sum'"):
            loss = function(x, y, **old)
        assert loss.item() == pytest.approx(float((y * y.log() - y * x).sum()))


def test_softmax_takes_a_type_by_position_and_refuses_integers() -> None:
    x = torch.tensor([1, 2])
    assert torch.softmax(x, 0, torch.float64).dtype == torch.float64
    assert x.log_softmax(0, torch.float32).dtype == torch.float32
    with pytest.raises(NotImplementedError, match="int64"):
        torch.softmax(x, 0)


X = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.glu(X, 1), RuntimeError, "must be even"),
        (lambda: F.celu(X, 0), RuntimeError, "alpha cannot be 0"),
        (lambda: F.rrelu(X, 0.5, 0.1), RuntimeError, "lower 0.5 and upper 0.1"),
        (lambda: F.prelu(X, torch.zeros(2)), RuntimeError, "channel size = 3"),
        (lambda: F.relu(X > 0), RuntimeError, "Boolean inputs not supported"),
        (lambda: F.elu(torch.tensor([1])), NotImplementedError, "int64"),
        (lambda: F.kl_div(X, X.long(), reduction="sum"), RuntimeError, "Integral inputs"),
        (lambda: F.nll_loss(X, torch.zeros(2, dtype=torch.int32)), RuntimeError, "Long or Byte, but got Int"),
        (lambda: F.binary_cross_entropy(X, X.double()), RuntimeError, "Found dtype Double but expected Float"),
        (lambda: F.multi_margin_loss(X, torch.tensor([0, 3])), RuntimeError, "out of range"),
        (lambda: F.mse_loss(X, X, weight=torch.ones(3)), ValueError, "same size"),
        (lambda: F.gaussian_nll_loss(X, X, -1.0), ValueError, "negative"),
        (lambda: F.ctc_loss(X, [1], [2], [1]), TypeError, "must be Tensor"),
        (lambda: F.ctc_loss(X, torch.tensor([3]), [2], [1]), RuntimeError, r"labels in \[0, 3\)"),
        (lambda: F.ctc_loss(X, torch.tensor([1]), [3], [1]), RuntimeError, "at most 2, but got value 3"),
        (lambda: F.cosine_similarity(X.long(), X.long()), RuntimeError, "floating point"),
        (lambda: F.bilinear(X, X, torch.zeros(2, 3, 4)), RuntimeError, "weight"),
    ],
)
def test_refusals(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
