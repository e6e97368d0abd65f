"""One training step of each network of `examples/`: forward, loss, backward, update."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.timing import Case

READING_SECONDS = 0.2
BATCH = 64


def cases(torch: ModuleType) -> dict[str, Case]:
    """Return the cases, built with `torch` or with disttorch in its place."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
    networks = importlib.import_module("mnist_models")

    def adam(weights: Any) -> Any:
        return torch.optim.Adam(weights, lr=0.001)

    def sgd(weights: Any) -> Any:
        return torch.optim.SGD(weights, lr=0.01)

    def case(build: Callable[[], Any], side: int, optimizer: Callable[[Any], Any]) -> Case:
        torch.manual_seed(0)
        return Case("step()", {"step": training_step(torch, build(), side, optimizer)})

    return {
        f"LeNet, 1x32x32, batch {BATCH}, SGD": case(networks.Net, 32, sgd),
        f"CNN, 1x28x28, batch {BATCH}, Adam": case(networks.CNN, 28, adam),
        f"MLP 784-512-256-10, batch {BATCH}, Adam": case(networks.build_mlp, 28, adam),
        f"LSTM, 28x28, hidden 64, batch {BATCH}, Adam": case(networks.RNN, 28, adam),
    }


def training_step(torch: ModuleType, net: Any, side: int, build_optimizer: Callable[[Any], Any]) -> Callable[[], None]:
    """Return a function that trains `net` on one fixed batch of random pictures."""
    images = torch.randn(BATCH, 1, side, side)
    labels = torch.randint(0, 10, (BATCH,))
    optimizer = build_optimizer(net.parameters())
    loss_function = torch.nn.CrossEntropyLoss()

    def step() -> None:
        optimizer.zero_grad()
        loss_function(net(images), labels).backward()
        optimizer.step()

    return step
