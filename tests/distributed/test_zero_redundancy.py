"""The optimizer whose state is shared out gives the plain optimizer's result, bit for bit."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import disttorch as torch
import disttorch.distributed as dist
from disttorch import nn
from disttorch.distributed.optim import ZeroRedundancyOptimizer
from disttorch.nn.parallel import DistributedDataParallel
from disttorch.testing.distributed import run


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4), nn.Linear(4, 1))
    model[3].double()
    return model


def step(model: nn.Module, optimizer: Any, number: int, closure: bool = False) -> None:
    x = torch.from_numpy(np.random.default_rng([dist.get_rank(), number]).standard_normal((3, 6)).astype(np.float32))
    layers = model.module if isinstance(model, DistributedDataParallel) else model

    def evaluate() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(x).sum() if not isinstance(layers, nn.Sequential) else None
        assert loss is not None
        loss.backward()
        return loss

    if closure:
        assert optimizer.step(evaluate) is not None
    else:
        evaluate()
        optimizer.step()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = network()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[:3]:
            x = layer(x)
        return self.layers[3](x.double()) ** 2


def groups(model: nn.Module) -> list[dict[str, Any]]:
    layers = model.module.layers
    return [{"params": layers[0].parameters(), "lr": 0.02}, {"params": layers[2].parameters(), "weight_decay": 0.1}]


def check_same(as_view: bool, optimizer_class: Any, options: dict[str, Any]) -> None:
    plain_model, zero_model = DistributedDataParallel(Net()), DistributedDataParallel(Net())
    plain = optimizer_class(groups(plain_model), **options)
    zero = ZeroRedundancyOptimizer(groups(zero_model), optimizer_class, parameters_as_bucket_view=as_view, **options)
    schedulers = [torch.optim.lr_scheduler.StepLR(optimizer, 2) for optimizer in (plain, zero)]
    for number in range(5):
        if number == 2:
            plain.add_param_group({"params": plain_model.module.layers[3].parameters()})
            zero.add_param_group({"params": zero_model.module.layers[3].parameters()})
        if number == 3 and as_view:
            moved = zero_model.module.layers[0].weight
            moved.data = moved.data.clone()
        for model, optimizer in ((plain_model, plain), (zero_model, zero)):
            step(model, optimizer, number, closure=number == 1)
        for scheduler in schedulers:
            scheduler.step()
        for one, other in zip(plain_model.parameters(), zero_model.parameters(), strict=True):
            np.testing.assert_array_equal(one.detach().numpy(), other.detach().numpy())
    check_state(plain, zero)
    check_loading(zero_model, zero, as_view, optimizer_class, options)


def check_state(plain: Any, zero: ZeroRedundancyOptimizer) -> None:
    rank, size = dist.get_rank(), dist.get_world_size()
    held = [None] * size
    dist.all_gather_object(held, len(zero.optim.state))
    assert sum(held) == len(plain.state), "every state is held once"
    assert max(held) < len(plain.state)
    with pytest.raises(RuntimeError, match=f"consolidate_state_dict\\(to={rank}\\)"):
        zero.state_dict()
    zero.consolidate_state_dict(to=size - 1)
    if rank != size - 1:
        with pytest.raises(RuntimeError, match="has not been consolidated on this rank"):
            zero.state_dict()
        return
    want, got = plain.state_dict(), zero.state_dict()
    assert got["param_groups"] == want["param_groups"]
    assert list(got["state"]) == list(want["state"])
    for number, state in want["state"].items():
        for name, value in state.items():
            np.testing.assert_array_equal(np.asarray(got["state"][number][name]), np.asarray(value))


def check_loading(model: Any, zero: Any, as_view: bool, optimizer_class: Any, options: dict[str, Any]) -> None:
    rank, size = dist.get_rank(), dist.get_world_size()
    sent = [zero.state_dict() if rank == size - 1 else None]
    dist.broadcast_object_list(sent, size - 1)
    again = DistributedDataParallel(copy.deepcopy(model.module))
    three = [*groups(again), {"params": again.module.layers[3].parameters()}]
    resumed = ZeroRedundancyOptimizer(three, optimizer_class, parameters_as_bucket_view=as_view, lr=9.0)
    resumed.load_state_dict(sent[0])
    assert len(resumed.optim.state) == len(zero.optim.state)
    for wrapped, optimizer in ((model, zero), (again, resumed)):
        step(wrapped, optimizer, 7)
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        np.testing.assert_array_equal(one.detach().numpy(), other.detach().numpy())


def check_all() -> None:
    check_same(False, torch.optim.Adam, {"lr": 0.01})
    check_same(True, torch.optim.SGD, {"lr": 0.01, "momentum": 0.9})
    with pytest.raises(NotImplementedError, match="overlap_with_ddp"):
        ZeroRedundancyOptimizer([torch.ones(1)], torch.optim.SGD, overlap_with_ddp=True)
    with pytest.raises(TypeError, match="must be a class of optimizers"):
        ZeroRedundancyOptimizer([torch.ones(1)], torch.ones)
    with pytest.raises(ValueError, match="empty parameter list"):
        ZeroRedundancyOptimizer([], torch.optim.SGD, lr=1.0)
    only = nn.Parameter(torch.ones(2))
    tiny = ZeroRedundancyOptimizer([("w", only)], torch.optim.SGD, lr=1.0)
    only.grad = torch.ones(2)
    tiny.step()
    assert only.tolist() == [0, 0]
    assert tiny.param_groups[0]["param_names"] == ["w"]
    assert tiny.optim.param_groups[0]["param_names"] == (["w"] if dist.get_rank() == 0 else [])


@pytest.mark.parametrize("n", [2, 3])
def test_the_result_is_that_of_the_plain_optimizer(n: int) -> None:
    run(check_all, n, timeout=60)
