"""Communication hooks of DistributedDataParallel, and the futures that they return."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

import disttorch as torch
import disttorch.distributed as dist
from disttorch import nn
from disttorch.distributed.algorithms.ddp_comm_hooks import default_hooks
from disttorch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook
from disttorch.futures import Future, collect_all, wait_all
from disttorch.nn.parallel import DistributedDataParallel
from disttorch.testing.distributed import run


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 2)
        self.last = nn.Linear(2, 2)
        self.only_rank_1 = nn.Parameter(torch.ones(4))
        self.never = nn.Parameter(torch.ones(4))
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += dist.get_rank() + 1
        out = self.last(torch.tanh(self.first(x))).sum()
        return out + self.only_rank_1.sum() if dist.get_rank() == 1 else out


def gradients(hook: Any = None, state: Any = None, builtin: Any = None, passes: int = 2) -> dict[str, np.ndarray]:
    torch.manual_seed(1)
    model = DistributedDataParallel(Model(), bucket_cap_mb=1e-5)
    if hook is not None:
        model.register_comm_hook(state, hook)
    if builtin is not None:
        model._register_builtin_comm_hook(builtin)
    generator = np.random.default_rng(dist.get_rank())
    for _ in range(passes):
        model.zero_grad()
        model(torch.from_numpy(generator.standard_normal((5, 3)).astype(np.float32))).backward()
    assert model.module.count.item() == passes
    assert model.module.never.grad is None
    return {name: p.grad.numpy().copy() for name, p in model.named_parameters() if p.grad is not None}


def check_default_hooks() -> list[dict[str, np.ndarray]]:
    def by_hand(state: Any, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        work = dist.all_reduce(bucket.buffer(), async_op=True)
        return work.get_future().then(lambda done: done.value()[0] / dist.get_world_size())

    plain = gradients()
    exact = [
        gradients(default_hooks.allreduce_hook),
        gradients(builtin=dist.BuiltinCommHookType.ALLREDUCE),
        gradients(by_hand),
    ]
    half = [
        gradients(default_hooks.fp16_compress_hook),
        gradients(default_hooks.fp16_compress_wrapper(default_hooks.allreduce_hook)),
        gradients(builtin=dist.BuiltinCommHookType.FP16_COMPRESS),
    ]
    brain = [
        gradients(default_hooks.bf16_compress_hook),
        gradients(default_hooks.bf16_compress_wrapper(default_hooks.allreduce_hook)),
    ]
    for name, value in plain.items():
        for other in exact:
            np.testing.assert_array_equal(other[name], value)
        for tolerance, others in ((2e-3, half), (2e-2, brain)):
            for other in others:
                np.testing.assert_allclose(other[name], value, rtol=tolerance, atol=tolerance)
                np.testing.assert_array_equal(other[name], others[0][name])
    assert any((half[0][name] != plain[name]).any() for name in plain), "nothing was compressed"
    assert plain["module.only_rank_1"].tolist() == [0.5] * 4
    return [plain, half[0], brain[0]]


def check_buckets() -> None:
    seen: list[Any] = []

    def noop(state: list[Any], bucket: dist.GradBucket) -> Future[torch.Tensor]:
        state.append((bucket.index(), bucket.is_last(), bucket.buffer().numel(), len(bucket.parameters())))
        assert [g.shape for g in bucket.gradients()] == [p.shape for p in bucket.parameters()]
        assert sum(g.numel() for g in bucket.gradients()) == bucket.buffer().numel()
        bucket.gradients()[0].fill_(7)
        with pytest.raises(ValueError, match="expected a tensor of"):
            bucket.set_buffer(torch.zeros(9))
        future: Future[torch.Tensor] = Future()
        future.set_result(bucket.buffer() + dist.get_rank())
        return future

    model = DistributedDataParallel(nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1)), bucket_cap_mb=1e-6)
    model.register_comm_hook(seen, noop)
    model(torch.ones(1, 2)).sum().backward()
    assert seen == [(0, False, 1, 1), (1, False, 2, 1), (2, True, 4, 1)]
    assert model.module[1].bias.grad.item() == 7 + dist.get_rank(), "what the hook returns, on this rank"
    with pytest.raises(RuntimeError, match="can only be called once"):
        model.register_comm_hook(None, noop)


def check_refusals() -> None:
    def wrong_bucket(state: Any, bucket: int) -> Any: ...
    def wrong_result(state: Any, bucket: Any) -> int: ...

    wrong_bucket.__annotations__["bucket"] = int
    wrong_result.__annotations__["return"] = int
    wrong_bucket.__annotations__.pop("return")
    model = DistributedDataParallel(nn.Linear(1, 1))
    with pytest.raises(TypeError, match="must be callable"):
        model.register_comm_hook(None, 3)
    with pytest.raises(ValueError, match="bucket annotation should be"):
        model.register_comm_hook(None, wrong_bucket)
    with pytest.raises(ValueError, match="return annotation should be"):
        model.register_comm_hook(None, wrong_result)
    with pytest.raises(ValueError, match="BuiltinCommHookType"):
        model._register_builtin_comm_hook("ALLREDUCE")

    model.register_comm_hook(None, lambda state, bucket: bucket.buffer())
    with pytest.raises(TypeError, match=r"must return a torch.futures.Future, got Tensor"):
        model(torch.ones(1, 1)).sum().backward()


def low_rank(rank: int, step: int) -> np.ndarray:
    generator = np.random.default_rng([rank, step])
    return generator.standard_normal((12, 2)) @ generator.standard_normal((2, 16))


def check_power_sgd() -> list[np.ndarray]:
    """Gradients of rank 2 on each rank, so of rank 4 on average: rank 4 loses nothing, rank 1 feeds its error back."""
    rank, size = dist.get_rank(), dist.get_world_size()
    results = []
    for approximation in (4, 1):
        model = nn.Module()
        model.matrix, model.bias = (nn.Parameter(torch.zeros(*s, dtype=torch.float64)) for s in ((12, 4, 4), (5,)))
        model.forward = lambda g, b, model=model: (model.matrix * g).sum() + (model.bias * b).sum()
        wrapped = DistributedDataParallel(model)
        feedback, epsilon = (False, 0) if approximation == 4 else (True, 1e-12)
        state = PowerSGDState(None, approximation, 2, 1.1, feedback, feedback, epsilon)
        wrapped.register_comm_hook(state, powerSGD_hook)
        sums = np.zeros((2, 12, 16))
        for step in range(60):
            kind = step if approximation == 4 else 0
            mine = torch.from_numpy(low_rank(rank, kind).reshape(12, 4, 4))
            wrapped.zero_grad()
            wrapped(mine, torch.full((5,), rank + 1.0, dtype=torch.float64)).backward()
            got, want = model.matrix.grad.numpy().reshape(12, 16), sum(low_rank(r, kind) for r in range(size)) / size
            np.testing.assert_allclose(model.bias.grad.numpy(), 1.5)
            if step < 2:
                np.testing.assert_allclose(got, want, rtol=1e-12)
            elif approximation == 4:
                np.testing.assert_allclose(got, want, atol=1e-8)
            elif approximation == 1:
                assert np.linalg.matrix_rank(got) == 1
                sums += [got, want]
            results.append(got.copy())
        if approximation == 1:
            assert np.abs(sums[0] - sums[1]).max() < 0.2 * np.abs(sums[1]).max(), "what is lost comes later"
            assert state.compression_stats()[0] == pytest.approx((192 + 5) / (28 + 5))
    with pytest.raises(ValueError, match="start_powerSGD_iter"):
        PowerSGDState(None, start_powerSGD_iter=1)
    return [results[-1], results[59]]


def check_waiting_in_a_callback() -> None:
    def chained(done: Future[Any]) -> Any:
        return dist.all_reduce(torch.ones(1), async_op=True).get_future().wait()

    dist.all_reduce(torch.ones(1), async_op=True).wait()
    future = dist.all_reduce(torch.ones(1 << 20), async_op=True).get_future().then(chained)
    try:
        future.wait()
    except dist.DistError as error:
        assert "cannot wait for another collective" in str(error)  # noqa: PT017
    dist.barrier()


def check_all() -> list[Any]:
    result: list[Any] = check_default_hooks()
    result.append({str(i): value for i, value in enumerate(check_power_sgd())})
    check_buckets()
    check_refusals()
    check_waiting_in_a_callback()
    return result


def test_hooks_on_two_ranks() -> None:
    first, second = run(check_all, 2, timeout=60)
    for one, other in zip(first, second, strict=True):
        for name, value in one.items():
            np.testing.assert_array_equal(value, other[name])


def test_a_hook_in_a_group_of_one() -> None:
    dist.init_process_group(rank=0, world_size=1)
    try:
        model = DistributedDataParallel(nn.Linear(1, 1, bias=False))
        model(torch.ones(1, 1)).sum().backward()

        def double(state: Any, bucket: Any) -> Any:
            future: Future[Any] = Future()
            future.set_result(2 * bucket.buffer())
            return future

        model.register_comm_hook(None, double)
        model(torch.ones(1, 1)).sum().backward()
        assert model.module.weight.grad.item() == 4, "(1 + 1) * 2"
    finally:
        dist.destroy_process_group()


# -- futures ------------------------------------------------------------------------------------------


def test_a_future_gives_its_value_to_callbacks_and_waiters() -> None:
    future: Future[int] = Future()
    order: list[Any] = []
    future.add_done_callback(lambda done: order.append(done.value()))
    chain = future.then(lambda done: done.value() + 1).then(lambda done: done.value() * 10)
    assert not future.done()
    with pytest.raises(RuntimeError, match="no value yet"):
        future.value()
    threading.Thread(target=lambda: (time.sleep(0.02), future.set_result(4))).start()
    assert future.wait() == 4
    assert chain.wait() == 50
    assert order == [4]
    assert future.then(lambda done: done.wait() + 2).value() == 6, "a callback of a future that is done runs at once"
    with pytest.raises(RuntimeError, match="only once"):
        future.set_result(5)


def test_an_exception_goes_along_the_chain() -> None:
    future: Future[int] = Future()
    chain = future.then(lambda done: done.value() + 1)

    def handle(done: Future[int]) -> str:
        with pytest.raises(KeyError):
            done.value()
        return "handled"

    handled = chain.then(handle)
    with pytest.raises(AssertionError, match="expected an exception"):
        future.set_exception("no exception")
    future.set_exception(KeyError("x"))
    assert future.done()
    assert chain.done()
    for failed in (future, chain):
        with pytest.raises(KeyError):
            failed.wait()
    assert handled.value() == "handled"


def test_collecting_futures() -> None:
    futures: list[Future[int]] = [Future() for _ in range(3)]
    collected = collect_all(futures)
    for number in (2, 0, 1):
        assert not collected.done()
        futures[number].set_result(number)
    assert [future.value() for future in collected.wait()] == [0, 1, 2]
    assert wait_all(futures) == [0, 1, 2]
    assert collect_all([]).wait() == []
    failed: Future[int] = Future()
    failed.set_exception(ValueError("x"))
    with pytest.raises(ValueError, match="x"):
        wait_all([futures[0], failed])
