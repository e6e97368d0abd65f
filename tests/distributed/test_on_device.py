"""Data-parallel training of models on a GPU, for which the strict double of CuPy stands: the same bits as on the CPU."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest
import strict

import disttorch as torch
import disttorch.distributed as dist
from disttorch import backends, cuda, nn
from disttorch.backends import cupy as kernels
from disttorch.distributed.algorithms.ddp_comm_hooks import default_hooks
from disttorch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook
from disttorch.distributed.errors import DistError
from disttorch.distributed.optim import ZeroRedundancyOptimizer
from disttorch.distributed.reducer import Reducer
from disttorch.nn.parallel import DistributedDataParallel
from disttorch.testing.distributed import launch, run

DOUBLE = Path(__file__).parents[1] / "strict_cupy"
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(filter(None, [str(DOUBLE), os.environ.get("PYTHONPATH")]))}
STEPS = 3
Result = dict[str, np.ndarray]


def use_double() -> None:
    """Make the double the only CUDA device of this process."""
    backends.register(strict.ndarray, strict.cupy, kernels, strict.cupyx)
    backends._cupy = lambda: strict.cupy
    backends.cuda_device_count = cuda.cuda_device_count = lambda: 1


class Branches(nn.Module):
    """Layers of two types; one is used only when asked for, one never."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.second = nn.Linear(8, 1).double()
        self.other = nn.Linear(8, 1)
        self.never = nn.Linear(2, 2)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: torch.Tensor, use_other: bool) -> torch.Tensor:
        self.steps += len(x) * (1 + dist.get_rank())
        hidden = torch.relu(self.first(x))
        if use_other:
            return self.other(hidden.to(self.other.weight.device))
        return self.second(hidden.to(self.second.weight.device, torch.float64))


def exact(model: nn.Module) -> nn.Module:
    """Round the weights to eighths: with small whole numbers as inputs, no order of additions rounds differently."""
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(8).round_().mul_(0.125)
    return model


def on_host(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy()


def state_of(model: nn.Module) -> Result:
    found = {name: on_host(tensor) for name, tensor in model.state_dict().items()}
    grads = {f"{name}.grad": on_host(p.grad) for name, p in model.named_parameters() if p.grad is not None}
    return {**found, **grads}


def train(device: str, zero: bool | None = None, hook: Any = None, split: bool = False, **options: Any) -> Result:
    """Train some steps in two passes each, in one of them with uneven use; return parameters, buffers and gradients.

    zero: with ZeroRedundancyOptimizer, and its `parameters_as_bucket_view`.
    """
    rank = dist.get_rank()
    torch.manual_seed(3 + rank)
    model = exact(Branches()).to(device)
    if split:
        model.second.cpu()
        model.other.cpu()
    ids = None if split or device == "cpu" else [0]
    parallel = DistributedDataParallel(model, ids, bucket_cap_mb=0.0002, **options)
    if hook is not None:
        parallel.register_comm_hook(None, hook)
    if zero is None:
        optimizer: Any = torch.optim.SGD(model.parameters(), 0.125, 0.5)
    else:
        optimizer = ZeroRedundancyOptimizer(
            model.parameters(), torch.optim.SGD, parameters_as_bucket_view=zero, lr=0.125, momentum=0.5
        )
    for step in range(STEPS):
        x = torch.from_numpy(np.random.default_rng([rank, step]).integers(-2, 3, (4, 6)).astype(np.float32))
        optimizer.zero_grad(set_to_none=step != 1)
        x = x.to(device) if split else x
        with parallel.no_sync():
            parallel(x, False).sum().backward()
        parallel(x * 2, step == 1 and rank == 1).sum().backward()
        optimizer.step()
    assert model.first.weight.grad.device.type == device
    assert model.second.weight.grad.device.type == ("cpu" if split else device)
    if zero is not None:
        optimizer.consolidate_state_dict()
    return state_of(model)


def check_alike(ours: Result, expected: Result) -> None:
    assert ours.keys() == expected.keys()
    for name in expected:
        assert ours[name].dtype == expected[name].dtype
        assert ours[name].tobytes() == expected[name].tobytes(), (name, ours[name], expected[name])


def check_training(double: bool) -> Result:
    if double:
        use_double()
    expected = train("cpu")
    assert "never.weight.grad" not in expected
    for options in ({}, {"gradient_as_bucket_view": True}, {"split": True}, {"zero": False}, {"zero": True}):
        check_alike(train("cuda", **options), expected)
    for hook in (default_hooks.allreduce_hook, default_hooks.fp16_compress_hook, default_hooks.bf16_compress_hook):
        check_alike(train("cuda", hook=hook), train("cpu", hook=hook))
    return expected


def compressed(device: str) -> Result:
    """Train with gradients compressed to matrices of rank 1."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)).double().to(device)
    parallel = DistributedDataParallel(model)
    parallel.register_comm_hook(PowerSGDState(None, 1, 2, min_compression_rate=1), powerSGD_hook)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(4):
        x = torch.from_numpy(np.random.default_rng([dist.get_rank(), step]).standard_normal((5, 6))).to(device)
        optimizer.zero_grad()
        (parallel(x) ** 2).mean().backward()
        optimizer.step()
    return state_of(model)


def check_compression() -> None:
    ours, expected = compressed("cuda"), compressed("cpu")
    for name, value in expected.items():
        np.testing.assert_allclose(ours[name], value, 1e-8, 1e-11, err_msg=name)


NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="CuPy is not installed or finds no CUDA device")


@pytest.mark.parametrize("double", [True, pytest.param(False, marks=[pytest.mark.gpu, NO_GPU])])
def test_training_is_that_of_the_cpu(double: bool) -> None:
    first, second = run(check_training, 2, timeout=60, environment=ENVIRONMENT, double=double)
    check_alike(first, second)
    assert first["steps"] == 4 * 2 * STEPS


# -- parts --------------------------------------------------------------------------------------------------------


def reduced(place: Any, weighted: bool) -> list[np.ndarray]:
    """Average random gradients of several types and shapes, one of which is missing on rank 0."""
    dtypes = [np.float32, np.float16, ml_dtypes.bfloat16, np.float64, np.complex64, np.float32, np.float32]
    shapes = [(40, 300), (7,), (3, 5), (), (2, 2), (0, 3), (9,)]
    generator = np.random.default_rng(dist.get_rank())
    grads = [place(generator.standard_normal(shape).astype(dtype)) for shape, dtype in zip(shapes, dtypes)]
    reducer = Reducer([str(i) for i in range(len(grads))], grads, 40_000, 64, weighted=weighted)
    for _ in range(2):
        if weighted:
            reducer.set_weight(3 + dist.get_rank())
        for index in reversed(range(len(grads))):
            if index or dist.get_rank():
                reducer.mark_ready(index, grads[index])
        assert reducer.finalize() == [True] * len(grads)
    views = [reducer.view(index) for index in range(len(grads))]
    return [view if isinstance(view, np.ndarray) else view.get() for view in views]


def check_reducer() -> None:
    before = dict(strict.runtime.registered)
    for weighted in (False, True):
        for ours, expected in zip(reduced(strict.asarray, weighted), reduced(np.asarray, weighted), strict=True):
            assert (ours.dtype, ours.tobytes()) == (expected.dtype, expected.tobytes())
    gc.collect()
    assert strict.runtime.registered == before


def check_memory_that_is_kept() -> None:
    """Old gradients that the program holds keep their values; so does what is made of them."""
    for options in ({}, {"gradient_as_bucket_view": True}):
        model = DistributedDataParallel(nn.Linear(3, 1).to("cuda"), **options)
        weight, bias = model.module.parameters()
        model(torch.full((2, 3), 5.0, device="cuda")).sum().backward()
        assert len(strict.runtime.registered) >= 1
        old, parts = weight.grad, [weight.grad[0, 1:], bias.grad.reshape(1, 1)]
        assert old._a is model.reducer.view(0)
        weight.grad = bias.grad = None
        model(torch.full((3, 3), 2.0, device="cuda")).sum().backward()
        expected = [[[6.0] * 3], [6.0] * 2, [[3.0]]] if options else [[[10.0] * 3], [10.0] * 2, [[2.0]]]
        assert [kept.tolist() for kept in (old, *parts)] == expected
        assert (weight.grad.tolist(), bias.grad.tolist()) == ([[6.0] * 3], [3.0])
        assert all(isinstance(part._a, strict.ndarray) for part in parts)


def normalized(device: str, sync: bool) -> Result:
    """Train with batch normalization, rank 1 with one batch less."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1)).double()
    if sync:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    parallel = DistributedDataParallel(model.to(device), [0] if device == "cuda" else None)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with parallel.join(enable=not sync, divide_by_initial_world_size=False):
        for step in range(STEPS - (0 if sync else dist.get_rank())):
            x = torch.from_numpy(np.random.default_rng([dist.get_rank(), step]).standard_normal((5, 3)))
            optimizer.zero_grad()
            (parallel(x) ** 2).sum().backward()
            optimizer.step()
    return {name: on_host(tensor) for name, tensor in model.state_dict().items()}


def check_normalization() -> None:
    for sync in (False, True):
        ours, expected = normalized("cuda", sync), normalized("cpu", sync)
        for name, value in expected.items():
            np.testing.assert_allclose(ours[name], value, 1e-8, 1e-11, err_msg=name)


class Named(NamedTuple):
    x: torch.Tensor
    y: int


class Everything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, named: Named, *, more: dict[str, list[torch.Tensor]]) -> torch.Tensor:
        assert (type(named), named.y, named.x.device.type) == (Named, 3, "cuda")
        return self.weight * named.x + more["z"][0]


def check_wrapper() -> None:
    model = Everything().to("cuda")
    inputs = {"named": Named(torch.ones(2), 3), "more": {"z": [torch.ones(2)]}}
    for wrapped in (
        DistributedDataParallel(model, device_ids=[0], output_device=0),
        DistributedDataParallel(model, device_ids=[torch.device("cuda")]),
        nn.DataParallel(model, device_ids=[0, 1]),
    ):
        assert (wrapped.device_ids, wrapped.output_device) == ([0], 0)
        with torch.no_grad():
            assert wrapped(**inputs).tolist() == [2.0, 2.0]
    assert DistributedDataParallel(model).device_ids is None
    with pytest.raises(ValueError, match="single element"):
        DistributedDataParallel(model, device_ids=[0, 1])
    with pytest.raises(ValueError, match="only work with GPU modules"):
        DistributedDataParallel(nn.Sequential(model, nn.Linear(2, 2)), device_ids=[0])


def check_moves() -> None:
    """A wrapped module may still be moved and converted; inputs follow it."""
    torch.manual_seed(dist.get_rank())
    model = nn.DataParallel(nn.Linear(2, 1))
    x = torch.full((1, 2), 1.0 + dist.get_rank())
    for move in (lambda m: m.to("cuda"), lambda m: m.double(), lambda m: m.cpu()):
        assert move(model) is model
        model.zero_grad()
        model(x.to(model.module.weight.dtype)).sum().backward()
        grad = model.module.weight.grad
        assert (type(grad._a), grad.dtype) == (type(model.module.weight._a), model.module.weight.dtype)
        assert grad.tolist() == [[1.5, 1.5]]
    module = model.module.to("cuda")
    with pytest.raises(DistError, match=r"on the GPU, but the parameter was float64\[1, 2\] on the CPU"):
        model(x.double().to("cuda")).sum().backward()
    assert module.weight.device.type == "cuda"


def check_parts() -> None:
    use_double()
    check_reducer()
    check_memory_that_is_kept()
    check_normalization()
    check_wrapper()
    check_moves()
    check_compression()


def test_parts() -> None:
    run(check_parts, 2, timeout=60, environment=ENVIRONMENT)


def wrap_on_different_devices() -> None:
    use_double()
    DistributedDataParallel(nn.Linear(2, 1).to("cuda" if dist.get_rank() else "cpu"))


def test_models_on_different_devices_are_refused() -> None:
    outcome = launch(wrap_on_different_devices, 2, timeout=60, environment=ENVIRONMENT)
    assert outcome.code == 1
    expected = "rank 0 has parameter weight float32[1, 2] on the CPU where rank 1 has parameter weight float32[1, 2] on the GPU"
    assert expected in outcome.said
