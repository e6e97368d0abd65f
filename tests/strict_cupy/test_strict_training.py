"""Training on the strict double of CuPy: the same weights as on NumPy, and never a NumPy array in between."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import strict

import disttorch as torch
from disttorch import nn


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 5, batch_first=True)
        self.out = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.lstm(x.reshape(len(x), 6, 6))[0][:, -1])


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.0), nn.Flatten(), nn.Linear(36, 3)
    )


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True, momentum=0.5),
}


def train(make: Callable[[], nn.Module], optimizer: str, device: str) -> list[np.ndarray]:
    torch.manual_seed(3)
    model = make().double()
    x, y = torch.randn(8, 1, 6, 6, dtype=torch.float64), torch.randint(3, (8,))
    model, x, y = model.to(device), x.to(device), y.to(device)
    stepper = OPTIMIZERS[optimizer](model.parameters())
    for _ in range(3):
        stepper.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        stepper.step()
    kinds = {type(p._a) for p in model.parameters()} | {type(p.grad._a) for p in model.parameters()}
    assert kinds == {np.ndarray if device == "cpu" else strict.ndarray}
    return [p.detach().cpu().numpy() for p in model.parameters()]


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("make", [convolutional, Recurrent])
def test_training_is_that_of_the_cpu(make: Callable[[], nn.Module], optimizer: str) -> None:
    for ours, expected in zip(train(make, optimizer, "cuda"), train(make, optimizer, "cpu")):
        np.testing.assert_allclose(ours, expected, rtol=1e-8, atol=1e-11)


def test_devices_do_not_mix() -> None:
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        torch.ones(2) + torch.ones(2, device="cuda")


def test_gradients_cross_devices() -> None:
    x = torch.ones(3, requires_grad=True)
    (x.to("cuda") * 2).sum().backward()
    assert isinstance(x.grad._a, np.ndarray)
    assert x.grad.tolist() == [2.0, 2.0, 2.0]
