"""`nn.SyncBatchNorm` on several ranks gives what a batch normalization gives on the whole batch in one process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import disttorch as torch
import disttorch.distributed as dist
from disttorch import nn
from disttorch.nn.parallel import DistributedDataParallel
from disttorch.testing.distributed import distributed, run

CHANNELS = 3
SIZES = {2: (1, 4), 3: (2, 0, 3)}  # how many samples each rank has: of one, too, and of none


def numbers(*shape: int, seed: int) -> np.ndarray:
    return 2 + 3 * np.random.default_rng(seed).standard_normal(shape)


def own_part(batch: np.ndarray, sizes: tuple[int, ...], rank: int | None) -> Any:
    start = 0 if rank is None else sum(sizes[:rank])
    part = batch if rank is None else batch[start : start + sizes[rank]]
    return torch.from_numpy(part.copy())


def plain(momentum: float | None, affine: bool) -> Any:
    layer = nn.BatchNorm2d(CHANNELS, momentum=momentum, affine=affine).double()
    with torch.no_grad():
        for k, p in enumerate(layer.parameters()):
            p.copy_(torch.from_numpy(numbers(CHANNELS, seed=k)))
    return layer


def steps(layer: Any, sizes: tuple[int, ...], rank: int | None) -> dict[str, np.ndarray]:
    """Do two training steps on one rank's part of each batch, or on all; return all that comes of the second."""
    for step in range(2):
        shape = (sum(sizes), CHANNELS, 2, 3)
        x = own_part(numbers(*shape, seed=10 + step), sizes, rank).requires_grad_()
        factor = own_part(numbers(*shape, seed=20 + step), sizes, rank)
        y = layer(x)
        gradients = torch.autograd.grad((y**3 * factor).sum(), [x, *layer.parameters()], create_graph=True)
        second = torch.autograd.grad((gradients[0] ** 2 * factor).sum(), [x, *layer.parameters()], allow_unused=True)
    found = {"y": y, **{f"first {k}": g for k, g in enumerate(gradients)}, **dict(layer.named_buffers())}
    found |= {f"second {k}": g for k, g in enumerate(second) if g is not None}
    return {name: value.detach().numpy() for name, value in found.items()}


def steps_on_a_rank(momentum: float | None, affine: bool) -> dict[str, np.ndarray]:
    sizes = SIZES[dist.get_world_size()]
    layer = nn.SyncBatchNorm.convert_sync_batchnorm(plain(momentum, affine))
    return steps(layer, sizes, dist.get_rank())


@pytest.mark.parametrize(("n", "momentum", "affine"), [(2, 0.3, True), (3, None, True), (2, 0.1, False)])
def test_several_ranks_compute_what_one_does(n: int, momentum: float | None, affine: bool) -> None:
    ranks = run(steps_on_a_rank, n, momentum=momentum, affine=affine)
    whole = steps(plain(momentum, affine), SIZES[n], None)
    assert {"running_mean", "running_var", "num_batches_tracked", "second 0"} <= whole.keys()
    for name, expected in whole.items():
        found = [rank[name] for rank in ranks]
        if name in ("y", "first 0", "second 0"):  # has the shape of the rank's own input
            together = np.concatenate(found)
        elif name.startswith(("first", "second")):  # of a parameter: a sum over the samples
            together = np.sum(found, axis=0)
        else:
            np.testing.assert_array_equal(found[0], found[-1])
            together = found[0]
        np.testing.assert_allclose(together, expected, rtol=1e-9, atol=1e-9, err_msg=name)


def float32_on_a_rank() -> dict[str, np.ndarray]:
    layer = nn.SyncBatchNorm(CHANNELS)
    x = numbers(6, CHANNELS, 5, seed=1).astype(np.float32)
    part = torch.from_numpy(x[:2] if dist.get_rank() == 0 else x[2:])
    return {"y": layer(part).detach().numpy(), "var": layer.running_var.numpy()}


def test_float32() -> None:
    ranks = run(float32_on_a_rank, 2)
    layer = nn.BatchNorm1d(CHANNELS)
    y = layer(torch.from_numpy(numbers(6, CHANNELS, 5, seed=1).astype(np.float32)))
    np.testing.assert_allclose(np.concatenate([r["y"] for r in ranks]), y.detach().numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ranks[1]["var"], layer.running_var.numpy(), rtol=1e-6)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 1)).double()


def trained(net: nn.Module, model: nn.Module, x: Any, factor: float) -> dict[str, np.ndarray]:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        ((model(x) - x.sum(1, keepdim=True)) ** 2).sum().mul(factor).backward()
        optimizer.step()
    return {name: value.numpy() for name, value in net.state_dict().items()}


def trained_on_a_rank() -> dict[str, np.ndarray]:
    net = nn.SyncBatchNorm.convert_sync_batchnorm(network())
    x = numbers(7, 4, seed=3)
    part = torch.from_numpy(x[:2] if dist.get_rank() == 0 else x[2:])
    return trained(net, DistributedDataParallel(net), part, 2 / 7)  # two ranks are averaged


def test_data_parallel_training_with_uneven_batches_follows_one_process() -> None:
    ranks = run(trained_on_a_rank, 2)
    net = network()
    whole = trained(net, net, torch.from_numpy(numbers(7, 4, seed=3)), 1 / 7)
    for name, expected in whole.items():
        np.testing.assert_array_equal(ranks[0][name], ranks[1][name], err_msg=name)
        np.testing.assert_allclose(ranks[0][name], expected, rtol=1e-9, atol=1e-12, err_msg=name)


@distributed(n=2)
def test_evaluation_edge_cases_and_errors() -> None:
    rank = dist.get_rank()
    layer = nn.SyncBatchNorm(2, track_running_stats=False).eval()
    x = torch.tensor([[1.0, 5.0], [3.0, 9.0]]) * (1 + rank)
    np.testing.assert_allclose(layer(x).detach().numpy(), [[-1, -1], [1, 1]], rtol=1e-4)  # its own statistics
    layer = nn.SyncBatchNorm(2).eval()
    np.testing.assert_allclose(layer(x).detach().numpy(), x.numpy(), rtol=1e-4)
    assert layer.num_batches_tracked.item() == 0
    layer.train()
    nothing = layer(torch.zeros(0, 2, requires_grad=True))  # on both ranks
    nothing.sum().backward()
    assert nothing.shape == (0, 2)
    assert layer.weight.grad.tolist() == [0, 0]
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        layer(torch.ones(1 - rank, 2))
    with pytest.raises(ValueError, match=r"expected at least 2D input \(got 1D input\)"):
        layer(torch.ones(2))
    with pytest.raises(RuntimeError, match="running_mean should contain 3 elements not 2"):
        layer(torch.ones(4, 3))


@distributed(n=3)
def test_a_group_of_some_ranks_and_one_outside_it() -> None:
    rank = dist.get_rank()
    layer = nn.SyncBatchNorm(CHANNELS, process_group=dist.new_group([0, 2])).double()
    batch = numbers(5, CHANNELS, seed=4)
    part = {0: batch[:2], 1: batch, 2: batch[2:]}[rank]
    expected = nn.BatchNorm1d(CHANNELS).double()(torch.from_numpy(batch)).detach().numpy()
    found = layer(torch.from_numpy(part)).detach().numpy()
    np.testing.assert_allclose(found, {0: expected[:2], 1: expected, 2: expected[2:]}[rank], rtol=1e-10)
