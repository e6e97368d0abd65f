"""Which backward passes DistributedDataParallel averages, and what `.grad` is afterwards."""

from __future__ import annotations

import os
import warnings
from typing import Any

import pytest

import disttorch as torch
import disttorch.distributed as dist
from disttorch import nn
from disttorch.nn.parallel import DistributedDataParallel
from disttorch.testing.distributed import run

CORES = pytest.mark.parametrize("cores", [1, 2])


def pretend(cores: int) -> None:
    """Let ranks take it that they have so many cores: with more than one, reductions overlap with backward."""
    os.sched_getaffinity = lambda process: set(range(cores))


def one_weight() -> tuple[DistributedDataParallel, torch.Tensor, nn.Parameter]:
    """Return a model with one weight 1, and an input that is the rank + 1: the gradient of the weight."""
    model = DistributedDataParallel(nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        model.module.weight.fill_(1)
    return model, torch.full((1, 1), float(dist.get_rank() + 1)), model.module.weight


def check_passes(cores: int) -> None:
    pretend(cores)
    model, x, weight = one_weight()
    mine = x.item()

    def grad() -> float:
        value = weight.grad.item()
        weight.grad = None
        return value

    with model.no_sync():
        model(x).sum().backward()
    assert weight.grad.item() == mine
    model(x).sum().backward()
    assert grad() == 3, "the sum of both is averaged"

    with model.no_sync():
        out = model(x).sum()
    out.backward()
    assert grad() == mine, "forward under no_sync"
    out = model(x).sum()
    with model.no_sync():
        out.backward()
    assert grad() == 1.5, "only backward under no_sync"

    (model(x) + model(2 * x)).sum().backward()
    assert grad() == 4.5, "two forward passes, one backward pass"
    first, second = model(x).sum(), model(2 * x).sum()
    first.backward()
    assert grad() == 1.5
    second.backward()
    assert grad() == 3, "two forward passes, then two backward passes"
    many = [model(x).sum() for _ in range(40)]
    for out in reversed(many[20:]):
        out.backward()
    assert grad() == 30, "many forward passes, then backward passes of some"
    for out in many[:20]:
        out.backward()
    assert grad() == 30, "and of the others"
    out = model(x).sum()
    out.backward(retain_graph=True)
    out.backward()
    assert grad() == 3, "two backward passes through one graph"
    (model.module(x).sum()).backward()
    assert grad() == mine, "the module itself is not averaged"
    with torch.no_grad():
        model(x)
    model.module(x).sum().backward()
    assert grad() == mine

    model(x).sum().backward(inputs=[weight])
    assert grad() == 1.5, "backward(inputs=...)"
    given = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(given).sum(), given, create_graph=True)
    assert weight.grad is None
    (mine * slope * slope).sum().backward()
    assert grad() == 3, "double backward: 2 w x"

    out = model(x)
    out.register_hook(lambda gradient: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        out.sum().backward()
    model(x).sum().backward()
    assert grad() == 1.5, "after a backward pass that failed"


@CORES
def test_which_backward_passes_are_averaged(cores: int) -> None:
    run(check_passes, 2, timeout=60, cores=cores)


# -- what .grad is ------------------------------------------------------------------------------------


def check_grad_memory(cores: int) -> None:
    pretend(cores)
    model, x, weight = one_weight()

    def step() -> None:
        model(x).sum().backward()

    step()
    kept = weight.grad
    detached, element, transposed = kept.detach(), kept[0, 0], kept.t()
    weight.grad = None
    with model.no_sync():
        model(10 * x).sum().backward()
    step()
    assert weight.grad.item() == 16.5
    assert [t.item() for t in (kept, detached, element, transposed)] == [1.5] * 4, "old gradients keep their values"

    weight.grad *= 2
    weight.grad.zero_()
    same = weight.grad
    step()
    assert weight.grad is same
    assert weight.grad.item() == 1.5

    flat = torch.zeros(4)
    weight.grad = flat[2:3].view(1, 1)
    step()
    step()
    assert flat.tolist() == [0, 0, 3, 0], "memory of the program's own"
    assert weight.grad.data_ptr() == flat[2:].data_ptr()

    weight.grad = None
    step()
    array = weight.grad.numpy()
    weight.grad = None
    with pytest.warns(UserWarning, match="NumPy array that was taken of the gradient of weight changes"):
        step()
    weight.grad = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step()
    assert array[0, 0] == 1.5

    weight.grad = None
    with pytest.warns(UserWarning, match="create_graph"):
        (model(x) ** 2).sum().backward(create_graph=True)
    assert weight.grad.item() == 5
    assert weight.grad.requires_grad
    weight.grad = None

    viewing = DistributedDataParallel(model.module, gradient_as_bucket_view=True)
    weight.grad = torch.ones(1, 1)
    viewing(x).sum().backward()
    assert weight.grad.item() == 2.5
    assert weight.grad._a is viewing.reducer.view(0)


def check_no_copy(cores: int) -> None:
    pretend(cores)
    net, first = nn.Linear(3, 2), []
    net.weight.register_post_accumulate_grad_hook(lambda weight: first.append(weight.grad._a))
    model = DistributedDataParallel(net)
    for _ in range(2):
        net.zero_grad()
        model(torch.full((1, 3), float(dist.get_rank() + 1))).sum().backward()
        assert net.weight.grad.tolist() == [[1.5] * 3] * 2
    assert all(array is model.reducer.view(0) for array in first), "copied to the bucket"
    model.reducer.view(0).fill(7)
    with model.no_sync():
        net.zero_grad()
        model(torch.ones(1, 3)).sum().backward()
    assert first[-1] is not model.reducer.view(0)
    assert (model.reducer.view(0) == 7).all(), "a pass that is not averaged has nothing to do with the bucket"


@CORES
def test_the_gradient_of_a_weight_is_computed_in_its_bucket(cores: int) -> None:
    run(check_no_copy, 2, timeout=60, cores=cores)


@CORES
def test_grad_may_be_kept_changed_and_replaced(cores: int) -> None:
    run(check_grad_memory, 2, timeout=60, cores=cores)


def check_meddling(cores: int) -> None:
    pretend(cores)
    mine = dist.get_rank() + 1.0
    net = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(1)
    model = DistributedDataParallel(net, bucket_cap_mb=5e-6)
    assert model.reducer.waits == (cores == 1)
    assert len(model.reducer.buckets) == 2
    first, last = net[0].weight, net[1].bias
    seen: dict[str, Any] = {}
    handle = first.register_hook(
        lambda gradient: seen.update(
            grad=last.grad, alias=last.grad.detach(), element=last.grad[0], view=last.grad.view(1, 1)
        )
    )
    (mine * model(torch.ones(1, 1))).sum().backward()
    assert [p.grad.item() for p in net.parameters()] == [1.5, 1.5, 3, 1.5]
    assert last.grad is seen["grad"]
    shares = [seen[name].item() for name in ("alias", "element", "view")]
    assert shares == [1.5] * 3, "what shares a gradient's memory during backward has the average too"
    handle.remove()

    net.zero_grad()
    handle = last.register_post_accumulate_grad_hook(lambda bias: setattr(bias, "grad", None))
    (mine * model(torch.ones(1, 1))).sum().backward()
    assert last.grad is None
    assert model.reducer.view(3).item() == 1.5, "a hook took the gradient away, but it counts"
    handle.remove()

    net.zero_grad()
    first.register_hook(lambda gradient: setattr(last, "grad", None))
    if cores == 1:
        with pytest.raises(
            dist.DistError, match=r"gradient of parameter 1.bias was taken away .* before it was averaged"
        ):
            model(torch.ones(1, 1)).sum().backward()
    else:
        (mine * model(torch.ones(1, 1))).sum().backward()
        assert model.reducer.view(3).item() == 1.5, "it was in the bucket already"


@CORES
def test_a_gradient_may_be_shared_and_taken_away_during_backward(cores: int) -> None:
    run(check_meddling, 2, timeout=60, cores=cores)


class Scaled(nn.Module):
    """A large factor, whose gradient no rule computes in its bucket, after a small one."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(100, 200))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.small * x * self.large).sum()


def check_large_gradients(cores: int) -> None:
    pretend(cores)
    model = DistributedDataParallel(Scaled())
    small, large = model.module.small, model.module.large
    moved = []
    small.register_hook(lambda gradient: moved.append(large.grad._a is model.reducer.view(1)))
    model(torch.full((1,), dist.get_rank() + 1.0)).backward()
    assert moved == [True], "it is not twice in memory until the end of backward"
    assert small.grad.item() == 30_000
    assert (large.grad == 1.5).all()


@CORES
def test_a_large_gradient_is_moved_to_its_bucket_at_once(cores: int) -> None:
    run(check_large_gradients, 2, timeout=60, cores=cores)


# -- backward in backward ------------------------------------------------------------------------------


class Twice(torch.autograd.Function):
    """Runs a module again in backward, and backward in it: checkpointing."""

    @staticmethod
    def forward(ctx: Any, module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        ctx.module, ctx.x = module, x
        with torch.no_grad():
            return module(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        x = ctx.x.detach().requires_grad_()
        with torch.enable_grad():
            out = ctx.module(x)
        out.backward(gradient)
        return None, x.grad


class Checkpointed(nn.Module):
    def __init__(self, times: int) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1, bias=False)
        self.last = nn.Linear(1, 1, bias=False)
        self.times = times

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.times):
            x = Twice.apply(self.layer, x)
        return self.last(x)


def check_checkpointing(cores: int) -> None:
    pretend(cores)
    for times, static in ((1, False), (2, True)):
        model = DistributedDataParallel(Checkpointed(times), static_graph=static, bucket_cap_mb=1e-6)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(1)
        for _ in range(3):
            model.zero_grad()
            model(torch.full((1, 1), dist.get_rank() + 1.0).requires_grad_()).sum().backward()
            assert model.module.layer.weight.grad.item() == 1.5 * times
            assert model.module.last.weight.grad.item() == 1.5
    module, arrays = Checkpointed(1), []
    module.layer.weight.register_post_accumulate_grad_hook(lambda weight: arrays.append(weight.grad._a))
    model = DistributedDataParallel(module)
    model(torch.ones(1, 1).requires_grad_()).sum().backward()
    assert arrays[0] is model.reducer.view(0), (
        "computed in its bucket, though the last layer's gradient is there already"
    )
    module = Checkpointed(2)
    module.add_module("behind", nn.Linear(1, 1))
    module._modules["layer"] = module._modules.pop("layer")
    model = DistributedDataParallel(module, bucket_cap_mb=1e-6)
    with pytest.raises(dist.DistError, match=r"layer.weight was finished twice .* static_graph=True"):
        model(torch.ones(1, 1).requires_grad_()).sum().backward()


@CORES
def test_checkpointing(cores: int) -> None:
    run(check_checkpointing, 2, timeout=60, cores=cores)
