"""Training on several ranks gives what training on the whole batch in one process gives."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import time
from typing import Any

import numpy as np
import pytest

import disttorch as torch
import disttorch.distributed as dist
from disttorch import nn
from disttorch.distributed import buffer_sync
from disttorch.distributed.algorithms.ddp_comm_hooks import default_hooks
from disttorch.distributed.algorithms.join import Join
from disttorch.distributed.flight import flight_records
from disttorch.distributed.optim import ZeroRedundancyOptimizer
from disttorch.nn.parallel import DistributedDataParallel
from disttorch.nn.parallel.distributed import DistributedDataParallel as SameClass
from disttorch.testing.distributed import launch, run

FEATURES, BATCH, STEPS = 12, 24, 4


class Branches(nn.Module):
    """Two layers, of which the second is used only when asked for, and a third that never is."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(FEATURES, 8)
        self.second = nn.Linear(8, 1)
        self.other = nn.Linear(8, 1)
        self.never = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor, use_other: bool) -> torch.Tensor:
        hidden = torch.tanh(self.first(x))
        return self.other(hidden) if use_other else self.second(hidden)


def data(step: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(step)
    x = generator.standard_normal((BATCH, FEATURES)).astype(np.float32)
    return x, np.sin(x.sum(axis=1, keepdims=True))


def train(parts: list[tuple[int, int, bool]], distributed: bool, **options: Any) -> dict[str, np.ndarray]:
    """Do some steps of plain gradient descent on these rows of each batch; return the parameters."""
    torch.manual_seed(3 if not distributed or dist.get_rank() == 0 else 4)
    model = Branches()
    step_model = DistributedDataParallel(model, **options) if distributed else model
    for step in range(STEPS):
        x, y = map(torch.from_numpy, data(step))
        losses = [((step_model(x[a:b], other) - y[a:b]) ** 2).sum() * (1 / BATCH) for a, b, other in parts]
        total = sum(losses[1:], start=losses[0])
        (total * dist.get_world_size() if distributed else total).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
                if step % 2:
                    parameter.grad = None
                elif parameter.grad is not None:
                    parameter.grad.zero_()
    return {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}


def train_part(split: int) -> list[dict[str, np.ndarray]]:
    part = [(0, split, False) if dist.get_rank() == 0 else (split, BATCH, True)]
    return [
        train(part, True),
        train(part, True, gradient_as_bucket_view=True, bucket_cap_mb=1e-4),
        train(part, True, find_unused_parameters=True, bucket_cap_mb=1e-6),
    ]


@pytest.mark.parametrize("shm", ["1", "0"])
def test_two_ranks_train_as_one_process_on_the_whole_batch(shm: str) -> None:
    ranks = run(train_part, 2, environment={"DISTTORCH_SHM": shm}, timeout=60, split=10)
    whole = train([(0, 10, False), (10, BATCH, True)], False)
    for name, value in whole.items():
        for result in [*ranks[0], *ranks[1]]:
            np.testing.assert_array_equal(result[name], ranks[0][0][name], err_msg=name)
        np.testing.assert_allclose(ranks[0][0][name], value, rtol=1e-4, atol=1e-6, err_msg=name)


# -- parameters of all kinds --------------------------------------------------------------------------


class Several(nn.Module):
    """A used weight, a shared one, a frozen one, a float64 one and a float16 one, in a dataclass of results."""

    @dataclasses.dataclass
    class Output:
        loss: torch.Tensor
        extra: dict[str, tuple[torch.Tensor, ...]]

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.ones(3))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.wide = nn.Parameter(torch.ones(2, dtype=torch.float64))
        self.narrow = nn.Parameter(torch.ones(2, dtype=torch.float16))
        self.scalar = nn.Parameter(torch.tensor(1.0))
        self.empty = nn.Parameter(torch.ones(0, 3))
        self.again = self.shared

    def forward(self, *, x: torch.Tensor) -> Several.Output:
        total = (self.shared * self.frozen * x).sum() + (self.again * x).sum() * self.scalar
        return self.Output(total, {"wide": (self.wide.sum() * x[0], self.narrow.sum() * x[0]), "none": ()})


def check_several() -> None:
    model = DistributedDataParallel(Several(), bucket_cap_mb=1e-6)
    out = model(x=torch.full((3,), float(dist.get_rank() + 1)))
    (out.loss + out.extra["wide"][0] + out.extra["wide"][1]).backward()
    module = model.module
    assert module.shared.grad.tolist() == [3, 3, 3]
    assert module.wide.grad.tolist() == [1.5, 1.5]
    assert module.wide.grad.dtype == torch.float64
    assert module.narrow.grad.tolist() == [1.5, 1.5]
    assert module.scalar.grad.item() == 4.5
    assert module.frozen.grad is None
    assert module.empty.grad is None
    assert len(model.reducer.buckets) == 4


def check_unused() -> None:
    model = DistributedDataParallel(Branches())
    never = model.module.never.weight
    never.grad = torch.full((3, 3), 1 / 3 + dist.get_rank())
    other = dist.get_rank() == 1
    x = torch.ones(1, FEATURES)
    model(x, other).sum().backward()
    assert never.grad.tolist() == torch.full((3, 3), 1 / 3 + dist.get_rank()).tolist(), "no rank used it"
    assert model.module.never.bias.grad is None
    both = model.module.second.bias, model.module.other.bias
    assert [bias.grad.item() for bias in both] == [0.5, 0.5]
    for _ in range(3):
        model(x, False).sum().backward()
    assert [bias.grad.item() for bias in both] == [3.5, 0.5], "unused ones keep what they have"
    model.zero_grad()
    with model.no_sync():
        model(x, other).sum().backward()
    model(x, False).sum().backward()
    assert [bias.grad.item() for bias in both] == [1.5, 0.5], "what no_sync has left counts as used"


def check_models() -> None:
    check_several()
    check_unused()


def test_types_shared_and_unused_parameters() -> None:
    run(check_models, 2, timeout=60)


# -- buffers ------------------------------------------------------------------------------------------


class Counting(nn.Module):
    """Keeps a running mean and a count, of two types, and a buffer that never changes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mask", torch.full((3,), float(dist.get_rank())), persistent=False)
        self.register_buffer("nothing", None)

    def forward(self, x: torch.Tensor, replace: bool = False) -> torch.Tensor:
        if replace:
            self.mean = self.mean + x
        else:
            self.mean += x
        self.count += 1
        return self.weight * x


def check_buffers() -> None:
    rank = dist.get_rank()
    model = DistributedDataParallel(Counting())
    module = model.module
    x = torch.full((1,), rank + 1.0)
    assert module.mask.tolist() == [0, 0, 0], "rank 0's at the beginning"
    for replace in (False, True):
        with model.no_sync():
            model(x, replace).sum().backward()
        model(x, replace).sum().backward()
    assert module.mean.tolist() == [4, 4]
    assert module.count.item() == 4
    sent = []
    original = model._buffer_sync.copy_from
    model._buffer_sync.copy_from = lambda *given: (sent.append(1), original(*given))
    plain = module.forward
    module.forward = lambda x: module.weight * x
    model(x).sum().backward()
    assert not sent, "nothing has changed"
    if rank == 1:
        module.mask[1] = 9
    model(x).sum().backward()
    assert module.mask.tolist() == [0, 0, 0]
    assert len(sent) == 1
    module.forward = plain

    for options in ({"broadcast_buffers": False}, {"forward_sync_buffers": False}):
        own = DistributedDataParallel(Counting(), **options)
        assert own.module.mask[0].item() == (rank if "broadcast_buffers" in options else 0)
        own(x).sum().backward()
        assert own.module.mean[0].item() == rank + 1
        assert not own.will_sync_module_buffers()
    norm = DistributedDataParallel(nn.Sequential(nn.BatchNorm1d(1)))
    for step in (1, 2):
        norm(torch.tensor([[rank + 1.0], [rank + 3.0 * step]])).sum().backward()
    assert norm.module[0].running_mean.item() == pytest.approx(0.9 * 0.1 * 2 + 0.1 * 3.5), "of rank 0's batches"
    assert norm.module[0].num_batches_tracked.item() == 2

    apart = nn.Linear(1, 1)
    with torch.no_grad():
        apart.weight.fill_(rank)
    DistributedDataParallel(apart, init_sync=False)
    assert apart.weight.item() == rank


@pytest.mark.parametrize("shm", ["1", "0"])
def test_buffers_are_those_of_rank_0(shm: str) -> None:
    run(check_buffers, 2, environment={"DISTTORCH_SHM": shm}, timeout=60)


class Running(nn.Module):
    """A weight and buffers which every forward pass changes; many contiguous ones are copied by machine code."""

    def __init__(self, buffers: list[torch.Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        for number, buffer in enumerate(buffers):
            self.register_buffer(f"b{number}", buffer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for buffer in self.buffers():
            buffer += 1 + 2 * dist.get_rank()
        return self.weight * x


def check_buffers_ride_along() -> None:
    rank = dist.get_rank()
    if rank == 1:  # rank 0 is at the end of the next pass long before this one has taken its buffers
        take = buffer_sync._Shelf.take
        buffer_sync._Shelf.take = lambda self, arrays: (time.sleep(0.01), take(self, arrays))
    few = [torch.zeros(2, 5).t(), torch.zeros(0), torch.zeros(3, dtype=torch.uint8)]
    many = [torch.zeros(size, dtype=dtype) for size in ((), 3, 40) for dtype in (torch.uint8, torch.int64) * 3]
    for buffers in (few, many):
        model = DistributedDataParallel(Running(buffers))
        x = torch.ones(1)
        for step in range(1, 20):
            model(x).sum().backward()
            assert all((b == step).all() for b in model.buffers()), f"{len(buffers)} buffers, {step=}, {rank=}"
        ops = {record["profiling_name"].split(":")[1] for record in flight_records()[-19:]}
        assert ops == {"bucket"}, "gradients and buffers in one collective"


def test_buffers_come_with_the_gradients() -> None:
    run(check_buffers_ride_along, 2, timeout=60)


def check_replaced_buffers() -> None:
    rank, x = dist.get_rank(), torch.ones(1)
    model = DistributedDataParallel(Running([torch.zeros(3)]))
    for size in (2, 3, 1000):
        model.module.b0 = torch.zeros(size, dtype=torch.float64)
        for step in (1, 2):
            model(x).sum().backward()
            assert model.module.b0.tolist() == [step] * size, "replaced by other ones on all ranks"

    own = DistributedDataParallel(Running([torch.zeros(3)]), forward_sync_buffers=False)
    own.module.b0 = torch.zeros(3 + rank)
    own.double()
    own(x.double()).sum().backward()
    assert own.module.b0.tolist() == [1 + 2 * rank] * (3 + rank), "each rank has its own, also in new buckets"
    assert own.module.weight.grad.item() == 1

    model.module.b0 = torch.zeros(3 + rank)
    with pytest.raises(
        dist.DistError, match=r"rank 0 has buffer number 0 float32\[3\] where rank 1 has buffer number 0 float32\[4\]"
    ):
        model(x).sum().backward()


@pytest.mark.parametrize("shm", ["1", "0"])
def test_buffers_may_be_replaced_by_the_same_on_every_rank(shm: str) -> None:
    run(check_replaced_buffers, 2, environment={"DISTTORCH_SHM": shm}, timeout=60)


# -- the wrapper itself -------------------------------------------------------------------------------


def check_wrapper() -> None:
    rank = dist.get_rank()
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model = DistributedDataParallel(module)
    assert isinstance(model, SameClass)
    assert list(model.state_dict()) == ["module." + name for name in module.state_dict()]
    assert (model.module, model.device_ids, model.output_device) == (module, None, None)
    x = torch.full((1, 2), rank + 1.0)

    copied = copy.deepcopy(model)
    if rank == 0:
        unused = copy.deepcopy(model)
        unused.eval()
        with torch.no_grad():
            unused(x)
    copied(x).sum().backward()
    assert copied.module[1].bias.grad.item() == 1
    assert copied.module[0].bias.grad.tolist() == module[1].weight[0].tolist()
    assert module[0].bias.grad is None
    assert copy.deepcopy(module)[0].bias.grad is None
    assert pickle.loads(pickle.dumps(model.__getstate__()))["static_graph"] is False

    with pytest.raises(ValueError, match="only work with GPU modules"):
        DistributedDataParallel(module, device_ids=[0])
    with pytest.raises(NotImplementedError, match=r"mixed_precision=\.\.\.\) is not in disttorch"):
        DistributedDataParallel(module, mixed_precision=object())
    with pytest.raises(RuntimeError, match="doesn't have any parameter that requires a gradient"):
        DistributedDataParallel(nn.Flatten())

    module.double()
    with pytest.raises(dist.DistError, match=r"1.\w+ is float64.* on the CPU, but the parameter was float32"):
        model(x.double()).sum().backward()
    module.float()
    model.zero_grad()
    model(x).sum().backward()
    module[0].weight = nn.Parameter(torch.ones(2, 2))
    with pytest.raises(RuntimeError, match=r"parameter 0.weight was not in the module when it was wrapped"):
        model(x)
    frozen = nn.Linear(2, 1)
    frozen.bias.requires_grad_(False)
    model = DistributedDataParallel(frozen)
    model(x).sum().backward()
    frozen.bias.requires_grad_(True)
    with pytest.raises(RuntimeError, match="bias requires a gradient now but did not"):
        model(x)

    ignoring = Branches()
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(ignoring, ["first.weight"])
    model = DistributedDataParallel(ignoring)
    model(torch.full((1, FEATURES), rank + 1.0), False).sum().backward()
    grads = [torch.zeros(8, FEATURES), torch.zeros(8, FEATURES)]
    dist.all_gather(grads, ignoring.first.weight.grad)
    assert (grads[0] != grads[1]).any()
    alone = nn.Linear(1, 1)
    wrapped = DistributedDataParallel(alone)
    hooks = alone.weight._own_hooks().accumulated
    assert len(hooks) == 1
    del wrapped, model, copied
    assert not hooks, "no hook is left behind"


def test_the_wrapper() -> None:
    run(check_wrapper, 2, timeout=60)


def check_group() -> None:
    rank = dist.get_rank()
    group = dist.new_group([2, 0])
    if rank == 1:
        with pytest.raises(ValueError, match="group"):
            DistributedDataParallel(Counting(), process_group=group)
        return
    model = DistributedDataParallel(Counting(), process_group=group)
    assert dist.get_rank(group) == rank // 2
    model.register_comm_hook(group, default_hooks.allreduce_hook)
    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.SGD, process_group=group, lr=1.0)
    with Join([model, optimizer]):
        for step in range(1 + rank):
            optimizer.zero_grad()
            model(torch.full((1,), rank + step + 1.0)).sum().backward()
            optimizer.step()
    # rank 0 gives 1; rank 2 gives 3, 4, 5; every sum is divided by 2
    assert model.module.weight.item() == 1 - (1 + 3 + 4 + 5) / 2
    assert model.module.mean.tolist() == [1 + 4 + 5] * 2, "rank 0's as long as it has data, then rank 2's"
    with pytest.raises(RuntimeError, match="of a group of its own cannot be copied"):
        copy.deepcopy(model)


def test_a_group_of_some_ranks() -> None:
    run(check_group, 3, timeout=60)


def wrap_different(kind: str) -> None:
    rank = dist.get_rank()
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1, bias=not (rank == 1 and kind == "missing")))
    module.register_buffer("state", torch.zeros(2 + (rank == 1 and kind == "buffer")))
    if rank == 1 and kind == "frozen":
        module[0].bias.requires_grad_(False)
    DistributedDataParallel(module, forward_sync_buffers=not (rank == 1 and kind == "option"))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("missing", "rank 0 has parameter 1.bias float32[1] where rank 1 has buffer state float32[2]"),
        ("buffer", "rank 0 has buffer state float32[2] where rank 1 has buffer state float32[3]"),
        (
            "frozen",
            "rank 0 has parameter 0.bias float32[3] where rank 1 has parameter 0.bias float32[3] without gradient",
        ),
        ("option", "rank 0 has forward_sync_buffers=True, rank 1 has forward_sync_buffers=False"),
    ],
)
def test_different_models_are_refused(kind: str, text: str) -> None:
    outcome = launch(wrap_different, 2, timeout=60, kind=kind)
    assert outcome.code == 1
    assert text in outcome.said
