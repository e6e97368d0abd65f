"""Initial values: shapes, bounds, moments and exact patterns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import special

import disttorch as torch
from disttorch import nn
from disttorch.nn import init


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def filled(name: str, *shape: int, **options: Any) -> np.ndarray:
    tensor = nn.Parameter(torch.empty(*shape))
    before = tensor._version
    assert getattr(init, name)(tensor, **options) is tensor
    assert tensor.is_leaf
    assert tensor.requires_grad
    assert tensor._version > before, "the change is not counted"
    return tensor.detach().numpy()


def test_constants() -> None:
    assert (filled("zeros_", 2, 3) == 0).all()
    assert (filled("ones_", 2, 3) == 1).all()
    assert (filled("constant_", 2, 3, val=0.5) == 0.5).all()
    np.testing.assert_array_equal(filled("eye_", 2, 3), np.eye(2, 3))


def test_dirac_keeps_the_channels() -> None:
    layer = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
    init.dirac_(layer.weight, groups=2)
    x = torch.randn(1, 4, 5, 5)
    np.testing.assert_array_equal(layer(x).detach().numpy(), x.numpy())


FANS = {"fan_in": 60 * 5, "fan_out": 40 * 5}


@pytest.mark.parametrize("mode", FANS)
@pytest.mark.parametrize("kind", ["uniform_", "normal_"])
def test_kaiming(kind: str, mode: str) -> None:
    values = filled("kaiming_" + kind, 40, 60, 5, mode=mode, nonlinearity="relu")
    std = math.sqrt(2 / FANS[mode])
    assert values.std() == pytest.approx(std, rel=0.03)
    if kind == "uniform_":
        assert np.abs(values).max() <= std * math.sqrt(3)


@pytest.mark.parametrize("kind", ["uniform_", "normal_"])
def test_xavier(kind: str) -> None:
    values = filled("xavier_" + kind, 40, 60, 5, gain=2.0)
    assert values.std() == pytest.approx(2 * math.sqrt(2 / (FANS["fan_in"] + FANS["fan_out"])), rel=0.03)


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"), [(0.0, 1.0, -2.0, 2.0), (0.0, 1.0, 0.5, 0.75), (1.0, 0.1, 0.9, 1.3)]
)
def test_truncated_normal(mean: float, std: float, a: float, b: float) -> None:
    values = filled("trunc_normal_", 5000, mean=mean, std=std, a=a, b=b)
    assert a <= values.min() <= values.max() <= b
    low, high = (a - mean) / std, (b - mean) / std
    density = np.exp(-(np.array([low, high]) ** 2) / 2) / math.sqrt(2 * math.pi)
    expected = mean + std * (density[0] - density[1]) / (special.ndtr(high) - special.ndtr(low))
    assert values.mean() == pytest.approx(expected, abs=4 * std / math.sqrt(5000))
    with pytest.warns(UserWarning, match="more than 2 std from"):
        init.trunc_normal_(torch.empty(2), mean=5.0, std=1.0, a=-1.0, b=1.0)


def test_sparse() -> None:
    values = filled("sparse_", 10, 7, sparsity=0.25)
    assert ((values == 0).sum(0) == 3).all()


def test_a_generator_leaves_the_global_stream_alone() -> None:
    expected = torch.rand(2).tolist()
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    first = filled("normal_", 20, generator=generator)
    assert torch.rand(2).tolist() == expected
    np.testing.assert_array_equal(first, filled("normal_", 20, generator=generator.manual_seed(1)))


def test_default_values_of_layers() -> None:
    layer = nn.Linear(100, 50)
    for parameter in layer.parameters():
        assert 0.09 < parameter.abs().max().item() <= 0.1
    layer.reset_parameters()
    conv = nn.Conv2d(4, 50, 5)
    assert conv.weight.abs().max().item() <= 0.1
    with pytest.warns(UserWarning, match="zero-element tensors is a no-op"):
        assert nn.Linear(0, 3)(torch.zeros(2, 0)).tolist() == [[0.0] * 3] * 2


def test_errors() -> None:
    with pytest.raises(ValueError, match="fewer than 2 dimensions"):
        init.xavier_uniform_(torch.empty(3))
    with pytest.raises(ValueError, match="Mode fan_mid not supported"):
        init.kaiming_uniform_(torch.empty(3, 3), mode="fan_mid")
    with pytest.raises(ValueError, match="Unsupported nonlinearity swish"):
        init.calculate_gain("swish")
    with pytest.raises(ValueError, match="negative_slope True not a valid number"):
        init.calculate_gain("leaky_relu", True)
    with pytest.raises(ValueError, match="Only tensors with 3, 4, or 5 dimensions"):
        init.dirac_(torch.empty(3, 3))
    with pytest.raises(ValueError, match="Only tensors with 2 dimensions"):
        init.sparse_(torch.empty(3), 0.5)
    with pytest.raises(ValueError, match="dim 0 must be divisible by groups"):
        init.dirac_(torch.empty(3, 3, 3), 2)


def test_gains() -> None:
    assert init.calculate_gain("tanh") == pytest.approx(5 / 3)
    assert init.calculate_gain("leaky_relu", 1) == 1.0
    assert init.calculate_gain("leaky_relu") == pytest.approx(math.sqrt(2 / 1.0001))
    assert init.calculate_gain("conv_transpose2d") == 1.0
