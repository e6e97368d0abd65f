"""Training on several ranks gives what training on the whole batch in one process gives."""

from __future__ import annotations

import numpy as np
import pytest

import disttorch as torch
import disttorch.distributed as dist
from disttorch import nn
from disttorch.nn.parallel import DistributedDataParallel
from disttorch.testing.distributed import run

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


def train(parts: list[tuple[int, int, bool]], distributed: bool) -> dict[str, np.ndarray]:
    """Do some steps of plain gradient descent on these rows of each batch; return the parameters."""
    torch.manual_seed(3 if not distributed or dist.get_rank() == 0 else 4)
    model = Branches()
    step_model = DistributedDataParallel(model) if distributed else model
    for step in range(STEPS):
        x, y = map(torch.from_numpy, data(step))
        losses = [((step_model(x[a:b], other) - y[a:b]) ** 2).sum() * (1 / BATCH) for a, b, other in parts]
        total = sum(losses[1:], start=losses[0])
        (total * dist.get_world_size() if distributed else total).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
                parameter.grad = None
    return {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}


def train_part(split: int) -> dict[str, np.ndarray]:
    return train([(0, split, False) if dist.get_rank() == 0 else (split, BATCH, True)], True)


@pytest.mark.parametrize("shm", ["1", "0"])
def test_two_ranks_train_as_one_process_on_the_whole_batch(shm: str) -> None:
    ranks = run(train_part, 2, environment={"DISTTORCH_SHM": shm}, split=10)
    whole = train([(0, 10, False), (10, BATCH, True)], False)
    for name, value in whole.items():
        np.testing.assert_array_equal(ranks[0][name], ranks[1][name], err_msg=name)
        np.testing.assert_allclose(ranks[0][name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def accumulate_without_sync() -> list[float]:
    model = DistributedDataParallel(nn.Linear(1, 1, bias=False))
    value = torch.full((1, 1), float(dist.get_rank() + 1))
    with model.no_sync():
        model(value).sum().backward()
    alone = model.module.weight.grad.item()
    model(value).sum().backward()
    return [alone, model.module.weight.grad.item()]


def test_no_sync_accumulates_alone_and_the_next_backward_averages_the_sum() -> None:
    assert run(accumulate_without_sync, 2) == [[1, 3], [2, 3]]
