"""Normalization layers beside plain NumPy in float64, their running statistics and their checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import disttorch as torch
from disttorch import nn

Make = Callable[[], Any]


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return 2 + 3 * np.random.default_rng(seed).standard_normal(shape)


def with_random_parameters(layer: Any) -> Any:
    for k, (_, p) in enumerate(layer.double().named_parameters()):
        p.data.copy_(torch.from_numpy(numbers(*p.shape, seed=10 + k)))
    return layer


def normalized(x: np.ndarray, dims: tuple[int, ...], eps: float = 1e-5) -> np.ndarray:
    return (x - x.mean(dims, keepdims=True)) / np.sqrt(x.var(dims, keepdims=True) + eps)


def affine(layer: Any, y: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    for name, p in layer.named_parameters():
        array = p.detach().numpy().reshape(shape)
        y = y * array if name == "weight" else y + array
    return y


def group_normalized(x: np.ndarray) -> np.ndarray:
    return normalized(x.reshape(2, 2, 3, 5), (2, 3)).reshape(x.shape)


def locally_normalized(x: np.ndarray) -> np.ndarray:
    square = np.pad(x**2, ((0, 0), (1, 1), (0, 0)))
    mean = (square[:, :-2] + square[:, 1:-1] + square[:, 2:]) / 3
    return x / (2 + 0.1 * mean) ** 0.5


CASES: dict[str, tuple[Make, tuple[int, ...], Callable[[np.ndarray], np.ndarray], tuple[int, ...]]] = {
    "BatchNorm1d": (lambda: nn.BatchNorm1d(3), (4, 3), lambda x: normalized(x, (0,)), (3,)),
    "BatchNorm1d of series": (lambda: nn.BatchNorm1d(3), (4, 3, 5), lambda x: normalized(x, (0, 2)), (3, 1)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(3, eps=0.1), (2, 3, 2, 3), lambda x: normalized(x, (0, 2, 3), 0.1), (3, 1, 1)),
    "BatchNorm2d without bias": (
        lambda: nn.BatchNorm2d(3, bias=False), (2, 3, 2, 3), lambda x: normalized(x, (0, 2, 3)), (3, 1, 1),
    ),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(2), (2, 2, 2, 1, 3), lambda x: normalized(x, (0, 2, 3, 4)), (2, 1, 1, 1)),
    "InstanceNorm1d": (lambda: nn.InstanceNorm1d(3, affine=True), (2, 3, 5), lambda x: normalized(x, (2,)), (3, 1)),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(3), (2, 3, 2, 3), lambda x: normalized(x, (2, 3)), ()),
    "InstanceNorm2d of one": (lambda: nn.InstanceNorm2d(3), (3, 5, 4), lambda x: normalized(x, (1, 2)), ()),
    "InstanceNorm3d": (lambda: nn.InstanceNorm3d(2), (2, 2, 2, 1, 3), lambda x: normalized(x, (2, 3, 4)), ()),
    "LayerNorm": (lambda: nn.LayerNorm(5), (2, 3, 5), lambda x: normalized(x, (2,)), (5,)),
    "LayerNorm of two": (lambda: nn.LayerNorm([3, 5], bias=False), (2, 3, 5), lambda x: normalized(x, (1, 2)), (3, 5)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 6), (2, 6, 5), group_normalized, (6, 1)),
    "RMSNorm": (
        lambda: nn.RMSNorm(5, eps=0.1), (2, 5), lambda x: x / np.sqrt((x * x).mean(-1, keepdims=True) + 0.1), (5,),
    ),
    "LocalResponseNorm": (lambda: nn.LocalResponseNorm(3, 0.1, 0.5, 2.0), (2, 4, 3), locally_normalized, ()),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_values(name: str) -> None:
    make, shape, expected, along = CASES[name]
    layer = with_random_parameters(make())
    x = numbers(*shape)
    np.testing.assert_allclose(
        layer(torch.from_numpy(x)).detach().numpy(), affine(layer, expected(x), along), rtol=1e-12
    )


@pytest.mark.parametrize("name", CASES)
def test_gradients(name: str) -> None:
    make, shape, _, _ = CASES[name]
    layer = with_random_parameters(make())
    names = [name for name, _ in layer.named_parameters()]

    def function(x: Any, *values: Any) -> Any:
        return torch.func.functional_call(layer, dict(zip(names, values)), x)

    inputs = (torch.from_numpy(numbers(*shape)).requires_grad_(), *layer.parameters())
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("momentum", [0.3, None])
def test_running_statistics_of_a_batch_norm(momentum: float | None) -> None:
    layer = nn.BatchNorm2d(3, momentum=momentum).double()
    mean, var = np.zeros(3), np.ones(3)
    for step in range(3):
        x = numbers(2, 3, 4, 4, seed=step)
        layer(torch.from_numpy(x))
        share = momentum or 1 / (step + 1)
        mean = (1 - share) * mean + share * x.mean((0, 2, 3))
        var = (1 - share) * var + share * x.var((0, 2, 3), ddof=1)
    np.testing.assert_allclose(layer.running_mean.numpy(), mean, rtol=1e-12)
    np.testing.assert_allclose(layer.running_var.numpy(), var, rtol=1e-12)
    assert layer.num_batches_tracked.item() == 3
    expected = (x - mean.reshape(3, 1, 1)) / np.sqrt(var.reshape(3, 1, 1) + 1e-5)
    np.testing.assert_allclose(layer.eval()(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-12)
    assert layer.num_batches_tracked.item() == 3
    layer.reset_running_stats()
    assert (layer.running_mean.tolist(), layer.running_var.tolist(), layer.num_batches_tracked.item()) == (
        [0] * 3, [1] * 3, 0,
    )  # fmt: skip


def test_running_statistics_of_an_instance_norm() -> None:
    layer = nn.InstanceNorm1d(3, momentum=0.5, track_running_stats=True).double()
    x = numbers(2, 3, 5)
    layer(torch.from_numpy(x))
    mean, var = 0.5 * x.mean(2).mean(0), 0.5 + 0.5 * x.var(2, ddof=1).mean(0)
    np.testing.assert_allclose(layer.running_mean.numpy(), mean, rtol=1e-12)
    np.testing.assert_allclose(layer.running_var.numpy(), var, rtol=1e-12)
    expected = (x - mean[:, None]) / np.sqrt(var[:, None] + 1e-5)
    np.testing.assert_allclose(layer.eval()(torch.from_numpy(x)).numpy(), expected, rtol=1e-12)


def test_without_running_statistics_the_batch_counts_in_evaluation_too() -> None:
    layer = nn.BatchNorm1d(3, affine=False, track_running_stats=False).double().eval()
    assert list(layer.state_dict()) == []
    x = numbers(4, 3)
    np.testing.assert_allclose(layer(torch.from_numpy(x)).numpy(), normalized(x, (0,)), rtol=1e-12)


def test_statistics_that_are_there_stay_as_they_are_when_they_are_not_tracked() -> None:
    layer = nn.BatchNorm1d(3)
    layer.track_running_stats = False
    layer(torch.randn(4, 3))
    assert layer.running_mean.tolist() == [0, 0, 0]
    assert layer.num_batches_tracked.item() == 0


def test_state() -> None:
    assert list(nn.BatchNorm2d(2).state_dict()) == [
        "weight", "bias", "running_mean", "running_var", "num_batches_tracked",
    ]  # fmt: skip
    assert nn.BatchNorm2d(2).state_dict()._metadata[""] == {"version": 2}
    assert list(nn.LayerNorm(2).state_dict()) == ["weight", "bias"]
    assert list(nn.RMSNorm(2).state_dict()) == ["weight"]
    assert nn.BatchNorm1d(2, dtype=torch.float64).num_batches_tracked.dtype is torch.int64
    assert nn.BatchNorm1d(2, dtype=torch.float64).running_var.dtype is torch.float64


def test_a_checkpoint_without_the_number_of_batches_loads() -> None:
    state = nn.BatchNorm1d(2).state_dict()
    del state["num_batches_tracked"]
    state._metadata[""]["version"] = 1
    layer = nn.BatchNorm1d(2)
    layer(torch.randn(3, 2))
    layer.load_state_dict(state)
    assert layer.num_batches_tracked.item() == 1
    state._metadata[""]["version"] = 2
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "num_batches_tracked"'):
        layer.load_state_dict(state)


def test_an_old_instance_norm_with_statistics_is_refused_by_one_without() -> None:
    state = dict(nn.InstanceNorm1d(2, track_running_stats=True).state_dict())
    del state["num_batches_tracked"]
    with pytest.raises(
        RuntimeError, match=r'"0\.running_mean" and "0\.running_var" for InstanceNorm1d with track_running'
    ):
        nn.Sequential(nn.InstanceNorm1d(2)).load_state_dict({f"0.{k}": v for k, v in state.items()})


def test_a_number_of_channels_that_does_not_matter_is_a_warning() -> None:
    with pytest.warns(UserWarning, match="input's size at dim=1 does not match num_features") as caught:
        nn.InstanceNorm1d(5)(torch.randn(2, 3, 4))
    assert caught[0].filename == __file__


def test_float16_is_normalized_in_float32() -> None:
    layer = nn.BatchNorm1d(2).half()
    x = 300 + torch.arange(8.0).reshape(4, 2).half()
    np.testing.assert_allclose(layer(x).detach().float().numpy(), normalized(x.float().numpy(), (0,)), atol=2e-3)


def test_sync_batch_norm_alone_is_a_batch_norm() -> None:
    x = torch.from_numpy(numbers(4, 3, 2))
    plain, synced = nn.BatchNorm1d(3).double(), nn.SyncBatchNorm(3).double()
    np.testing.assert_array_equal(synced(x).detach().numpy(), plain(x).detach().numpy())
    assert {k: v.tolist() for k, v in synced.state_dict().items()} == {
        k: v.tolist() for k, v in plain.state_dict().items()
    }


def test_convert_sync_batchnorm() -> None:
    net = nn.Sequential(
        nn.Linear(3, 2), nn.BatchNorm1d(2, 0.1, None), nn.ModuleDict({"a": nn.BatchNorm2d(2, bias=False)})
    )
    net[2]["a"].eval()
    state = dict(net.state_dict(keep_vars=True))
    assert nn.SyncBatchNorm.convert_sync_batchnorm(net, "group") is net
    assert all(net.state_dict(keep_vars=True)[name] is tensor for name, tensor in state.items())
    assert [type(m).__name__ for m in net.modules()] == [
        "Sequential", "Linear", "SyncBatchNorm", "ModuleDict", "SyncBatchNorm",
    ]  # fmt: skip
    assert (net[1].eps, net[1].momentum, net[1].process_group, net[1].training) == (0.1, None, "group", True)
    assert (net[2]["a"].bias, net[2]["a"].training) == (None, False)
    assert isinstance(nn.SyncBatchNorm.convert_sync_batchnorm(nn.BatchNorm3d(1, affine=False)), nn.SyncBatchNorm)
