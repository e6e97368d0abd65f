"""The seed's four networks give PyTorch's losses from the same seed: initial weights, shuffles, steps."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import disttorch

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

STEPS = 50


def models(library: ModuleType) -> dict[str, Callable[[], Any]]:
    """The seed's networks, built on `library`, whose names are PyTorch's."""
    nn, F = library.nn, library.nn.functional

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 6, 5)
            self.conv2 = nn.Conv2d(6, 16, 5)
            self.fc1 = nn.Linear(16 * 5 * 5, 120)
            self.fc2 = nn.Linear(120, 84)
            self.fc3 = nn.Linear(84, 10)

        def forward(self, x: Any) -> Any:
            x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
            x = F.max_pool2d(F.relu(self.conv2(x)), 2)
            x = x.view(-1, self.num_flat_features(x))
            x = F.relu(self.fc1(x))
            x = F.relu(self.fc2(x))
            return self.fc3(x)

        def num_flat_features(self, x: Any) -> int:
            num_features = 1
            for s in x.size()[1:]:
                num_features *= s
            return num_features

    class CNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Sequential(
                nn.Conv2d(in_channels=1, out_channels=16, kernel_size=5, stride=1, padding=2),
                nn.ReLU(),
                nn.MaxPool2d(kernel_size=2),
            )
            self.conv2 = nn.Sequential(nn.Conv2d(16, 32, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(2))
            self.out = nn.Linear(32 * 7 * 7, 10)

        def forward(self, x: Any) -> Any:
            x = self.conv2(self.conv1(x))
            return self.out(x.view(x.size(0), -1))

    class RNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(input_size=28, hidden_size=64, num_layers=1, batch_first=True)
            self.out = nn.Linear(64, 10)

        def forward(self, x: Any) -> Any:
            r_out, _ = self.rnn(x.view(-1, 28, 28), None)
            return self.out(r_out[:, -1, :])

    def mlp() -> Any:
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(784, 512),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(512, 256),
            nn.ReLU(),
            nn.Linear(256, 10),
        )

    return {"lenet": Net, "cnn": CNN, "lstm": RNN, "mlp": mlp}


# Adam on the CNN is no comparison: PyTorch with and without oneDNN is already 4e-4 apart after 50 steps, since a
# gradient that is all rounding still moves its weight by a whole step.
OPTIMIZERS: dict[str, Callable[[Any, Any], Any]] = {
    "lenet": lambda optim, p: optim.SGD(p, lr=0.02, momentum=0.8, nesterov=True),
    "cnn": lambda optim, p: optim.SGD(p, lr=0.01, momentum=0.8),
    "lstm": lambda optim, p: optim.Adam(p, lr=0.002),
    "mlp": lambda optim, p: optim.RMSprop(p, lr=0.0005, alpha=0.9),
}


def real_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return 3,200 of the example's MNIST images, float32 [N, 1, 28, 28], and their labels, int64."""
    path = Path(__file__).parents[2] / "examples" / "mnist_data.py"
    spec = importlib.util.spec_from_file_location("mnist_data", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    train, _ = module.load_digits(None)
    images = (train.images[:3200, None].astype(np.float32) - np.float32(33)) / np.float32(78)
    return images, train.labels[:3200].astype(np.int64)


IMAGES, LABELS = real_digits()


def losses(library: ModuleType, name: str) -> list[float]:
    """Train for `STEPS` steps and return the loss before each."""
    library.manual_seed(11)
    images = np.pad(IMAGES, ((0, 0), (0, 0), (2, 2), (2, 2))) if name == "lenet" else IMAGES
    data = library.utils.data
    set_ = data.TensorDataset(library.from_numpy(images), library.from_numpy(LABELS))
    model = models(library)[name]()
    optimizer = OPTIMIZERS[name](library.optim, model.parameters())
    criterion = library.nn.CrossEntropyLoss()
    found: list[float] = []
    while True:
        for x, y in data.DataLoader(set_, batch_size=64, shuffle=True):
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            found.append(loss.item())
            if len(found) == STEPS:
                return found


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Compute with one thread on both sides: two libraries' thread pools on the same cores starve each other."""
    before = torch.get_num_threads(), disttorch.get_num_threads()
    torch.set_num_threads(1)
    disttorch.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    disttorch.set_num_threads(before[1])


@pytest.mark.parametrize("name", ["lenet", "cnn", "lstm", "mlp"])
def test_first_losses_equal_pytorchs(name: str) -> None:
    importlib.import_module("torch.utils.data")
    ours, theirs = losses(disttorch, name), losses(torch, name)
    assert theirs[-1] < theirs[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, err_msg=f"losses of {name}")


def test_models_print_as_in_pytorch() -> None:
    ours, theirs = models(disttorch), models(torch)
    for name, build in ours.items():
        assert repr(build()) == repr(theirs[name]()), name
