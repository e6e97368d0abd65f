"""Losses as modules beside their formulas in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import special

import disttorch as torch
from disttorch import nn

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((3, 4)), RNG.standard_normal((3, 4))
P, T = RNG.random((3, 4)), RNG.random((3, 4))
REDUCE = {"mean": np.mean, "sum": np.sum, "none": lambda a: a}


def value(loss: Any, *arrays: np.ndarray) -> np.ndarray:
    return loss(*(torch.tensor(a) for a in arrays)).numpy()


@pytest.mark.parametrize("reduction", REDUCE)
def test_regression(reduction: str) -> None:
    d = X - Y
    small = np.abs(d) < 0.5
    cases = {
        nn.MSELoss(reduction=reduction): d**2,
        nn.L1Loss(reduction=reduction): np.abs(d),
        nn.SmoothL1Loss(reduction=reduction, beta=0.5): np.where(small, d**2, np.abs(d) - 0.25),
        nn.HuberLoss(reduction, 0.5): np.where(small, d**2 / 2, 0.5 * (np.abs(d) - 0.25)),
    }
    for loss, each in cases.items():
        expected = REDUCE[reduction](each)
        np.testing.assert_allclose(value(loss, X, Y), expected, rtol=1e-12, err_msg=repr(loss))


@pytest.mark.parametrize("reduction", REDUCE)
def test_binary(reduction: str) -> None:
    each = -(T * np.log(P) + (1 - T) * np.log(1 - P))
    loss = nn.BCELoss(reduction=reduction)
    np.testing.assert_allclose(value(loss, P, T), REDUCE[reduction](each), rtol=1e-12)
    weight = np.arange(1.0, 5.0)
    logits = nn.BCEWithLogitsLoss(torch.tensor(weight), reduction=reduction)
    expected = REDUCE[reduction](each * weight)
    np.testing.assert_allclose(value(logits, special.logit(P), T), expected, rtol=1e-10)


def test_cross_entropy_is_stable_and_weighted() -> None:
    scores = np.array([[1000.0, 0.0, -1000.0], [0.1, 0.2, 0.3]])
    classes = np.array([1, 2])
    each = -special.log_softmax(scores, 1)[[0, 1], classes]
    np.testing.assert_allclose(value(nn.CrossEntropyLoss(), scores, classes), each.mean())
    weight = np.array([1.0, 2.0, 3.0])
    weighted = nn.CrossEntropyLoss(torch.tensor(weight))
    expected = (each * weight[classes]).sum() / weight[classes].sum()
    np.testing.assert_allclose(value(weighted, scores, classes), expected)
    ignoring = nn.CrossEntropyLoss(ignore_index=1)
    np.testing.assert_allclose(value(ignoring, scores, classes), each[1])
    likelihood = nn.NLLLoss(reduction="none")
    log_probabilities = special.log_softmax(scores, 1)
    np.testing.assert_allclose(value(likelihood, log_probabilities, classes), each)


def test_label_smoothing_mixes_in_the_uniform_distribution() -> None:
    classes = np.array([0, 3, 1])
    target = 0.9 * np.eye(4)[classes] + 0.1 / 4
    expected = -(target * special.log_softmax(X, 1)).sum(1).mean()
    hard = nn.CrossEntropyLoss(label_smoothing=0.1)
    np.testing.assert_allclose(value(hard, X, classes), expected, rtol=1e-12)
    soft = nn.CrossEntropyLoss()
    np.testing.assert_allclose(value(soft, X, target), expected, rtol=1e-12)


def test_weights_are_buffers() -> None:
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.ones(3))
    assert list(loss.state_dict()) == ["pos_weight"]
    assert loss.double().pos_weight.dtype is torch.float64
    assert loss.weight is None


def test_old_arguments_warn_and_work() -> None:
    with pytest.warns(UserWarning, match="please use reduction='sum' instead"):
        assert nn.MSELoss(size_average=False).reduction == "sum"
    with pytest.warns(UserWarning, match="reduction='none'"):
        assert nn.NLLLoss(reduce=False).reduction == "none"
    F = nn.functional
    x, y = torch.tensor(X), torch.tensor(Y)
    with pytest.warns(UserWarning, match="reduction='sum'"):
        assert F.mse_loss(x, y, size_average=False).item() == pytest.approx(((X - Y) ** 2).sum())
    with pytest.warns(UserWarning, match="reduction='none'"):
        assert F.l1_loss(x, y, None, False).shape == (3, 4)
    with pytest.raises(ValueError, match="some is not a valid value for reduction"):
        nn.MSELoss(reduction="some")(x, y)
