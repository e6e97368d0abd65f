"""Ranks with different numbers of batches: the result is that of the same sums in one process, and nothing hangs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import disttorch as torch
import disttorch.distributed as dist
from disttorch import nn
from disttorch.distributed.algorithms.join import Join, Joinable, JoinHook
from disttorch.distributed.optim import ZeroRedundancyOptimizer
from disttorch.nn.parallel import DistributedDataParallel
from disttorch.testing.distributed import launch, run

BATCHES = [3, 5, 0]
LR = 0.1


def batch(rank: int, step: int) -> np.ndarray:
    return np.random.default_rng([rank, step]).standard_normal((4, 2))


class Model(nn.Module):
    """Its loss is the mean of (w . x - 1)^2; it counts its batches in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, -0.5], dtype=torch.float64))
        self.unused = nn.Parameter(torch.ones(1, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        return ((x @ self.weight - 1) ** 2).mean()


def by_hand(divide_by_initial: bool, accumulate: bool) -> np.ndarray:
    """Do what the ranks do together in one process."""
    weight = np.array([0.5, -0.5])
    held = np.zeros(2)
    for step in range(max(BATCHES)):
        active = [rank for rank, count in enumerate(BATCHES) if step < count]
        for rank in active:
            x = batch(rank, step)
            held += (2 * (x @ weight - 1) @ x / 4) / (len(BATCHES) if divide_by_initial else len(active))
        if not accumulate or step % 2 or step == max(BATCHES) - 1:
            weight = weight - LR * held
            held[:] = 0
    return weight


def train(kind: str, divide_by_initial: bool = True) -> list[Any]:
    rank = dist.get_rank()
    model = DistributedDataParallel(Model())
    if kind == "zero":
        optimizer: Any = ZeroRedundancyOptimizer(model.parameters(), torch.optim.SGD, lr=LR)
        joined = Join([model, optimizer], divide_by_initial_world_size=divide_by_initial)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=LR)
        joined = model.join(divide_by_initial_world_size=divide_by_initial)
    with joined:
        for step in range(BATCHES[rank]):
            x = torch.from_numpy(batch(rank, step))
            if kind == "accumulate" and not step % 2 and step != max(BATCHES) - 1:
                with model.no_sync():
                    model(x).backward()
            else:
                model(x).backward()
                optimizer.step()
                optimizer.zero_grad()
    assert not model._join_config.enable
    model(torch.from_numpy(batch(0, 9))).backward()
    after = model.module.weight.grad.numpy().copy()
    return [model.module.weight.detach().numpy().copy(), model.module.count.item(), after]


def check_training() -> list[Any]:
    return [train("plain"), train("plain", False), train("accumulate"), train("zero")]


def test_uneven_inputs_give_the_result_of_one_process() -> None:
    ranks = run(check_training, 3, timeout=60)
    for number, (divide, accumulate) in enumerate([(True, False), (False, False), (True, True), (True, False)]):
        want = by_hand(divide, accumulate)
        for weight, count, after in (results[number] for results in ranks):
            np.testing.assert_allclose(weight, want, rtol=1e-12)
            np.testing.assert_array_equal(weight, ranks[0][number][0])
            np.testing.assert_array_equal(after, ranks[0][number][2])
            assert count == max(BATCHES) + 1, "the buffers are those of a rank that went on to the last"


def check_early_end() -> str:
    rank = dist.get_rank()
    model = DistributedDataParallel(Model())
    steps = []

    def train_until_somebody_stops() -> None:
        with model.join(throw_on_early_termination=True):
            for step in range(2 + 2 * rank):
                model(torch.from_numpy(batch(rank, step))).backward()
                steps.append(step)

    with pytest.raises(RuntimeError) as caught:
        train_until_somebody_stops()
    dist.barrier()
    return f"{len(steps)} {caught.value}"


class Counter(Joinable):
    """Sums a number over the ranks once an iteration."""

    class Hook(JoinHook):
        def __init__(self, counter: Counter, extra: int) -> None:
            self.counter, self.extra = counter, extra

        def main_hook(self) -> None:
            self.counter.reduce(self.extra)

        def post_hook(self, is_last_joiner: bool) -> None:
            self.counter.last = is_last_joiner

    def __init__(self) -> None:
        super().__init__()
        self.sums: list[int] = []
        self.last = False

    def __call__(self) -> None:
        work = Join.notify_join_context(self)
        if work is not None:
            work.wait()
        self.reduce(1)

    def reduce(self, value: int) -> None:
        total = torch.tensor([value])
        dist.all_reduce(total)
        self.sums.append(total.item())

    def join_hook(self, **kwargs: Any) -> JoinHook:
        return self.Hook(self, kwargs.get("extra", 0))

    @property
    def join_device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def join_process_group(self) -> Any:
        return None


def check_own_joinable() -> None:
    rank = dist.get_rank()
    counter = Counter()
    with Join([counter], extra=10):
        for _ in range(1 + 2 * rank):
            counter()
    assert counter.sums == [2, 11, 11]
    assert counter.last == (rank == 1)
    even = Counter()
    with Join([even], enable=False):
        even()
    assert even.sums == [2]
    with pytest.raises(ValueError, match="at least one joinable"):
        Join([])
    with pytest.raises(ValueError, match="multiple process groups"):
        Join([counter, DistributedDataParallel(Model())])
    with pytest.raises(ZeroDivisionError), Join([counter]):
        1 / 0


def check_joining() -> str:
    check_own_joinable()
    return check_early_end()


def test_own_joinables_and_an_early_end() -> None:
    assert run(check_joining, 2, timeout=40) == [
        "2 Rank 0 exhausted all inputs.",
        "2 Detected at least one rank that exhausted inputs. Throwing across all ranks.",
    ]


def disagree() -> None:
    model = DistributedDataParallel(Model())
    with model.join():
        model.require_backward_grad_sync = dist.get_rank() == 0
        model(torch.from_numpy(batch(0, 0))).backward()


def test_ranks_that_disagree_about_no_sync_are_told() -> None:
    outcome = launch(disagree, 2, timeout=60)
    assert outcome.code == 1
    assert "1 of 2 ranks that have data average the gradients" in outcome.said
