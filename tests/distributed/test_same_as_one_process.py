"""Two workers with batch 32 give the loss curve of one process with batch 64, through loader, wrapper and optimizer."""

from __future__ import annotations

import numpy as np

import disttorch as torch
import disttorch.distributed as dist
from disttorch import nn
from disttorch.nn import functional as F
from disttorch.testing.distributed import run
from disttorch.utils.data import DataLoader, TensorDataset

SAMPLES, GLOBAL_BATCH, EPOCHS = 352, 64, 3


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 7 * 7, 5)
    )


def curve(workers: int) -> tuple[list[float], list[np.ndarray]]:
    """Train and return the loss over the global batch at every step, and the final weights."""
    torch.manual_seed(5)
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 5, SAMPLES)
    images = generator.standard_normal((SAMPLES, 1, 14, 14)) * 0.5 + generator.standard_normal((5, 1, 14, 14))[labels]
    data = TensorDataset(torch.from_numpy(images.astype(np.float32)), torch.from_numpy(labels))
    loader = DataLoader(data, batch_size=GLOBAL_BATCH // workers, shuffle=True)
    model = nn.DataParallel(network())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.8)
    losses = []
    for _ in range(EPOCHS):
        for x, y in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            shown = loss.detach().clone()
            if workers > 1:
                dist.all_reduce(shown, dist.ReduceOp.AVG)
            losses.append(shown.item())
    return losses, [p.detach().numpy().copy() for p in model.parameters()]


def curve_of_a_worker() -> tuple[list[float], list[np.ndarray]]:
    return curve(2)


def test_two_workers_give_the_curve_of_one_process() -> None:
    alone, weights = curve(1)
    assert alone[-1] < 0.7 * alone[0]
    (first, first_weights), (second, second_weights) = run(curve_of_a_worker, 2, timeout=60)
    assert first == second
    np.testing.assert_allclose(first, alone, rtol=1e-4)
    for one, a, b in zip(weights, first_weights, second_weights, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, one, rtol=1e-3, atol=1e-5)
