"""Four small networks for 28x28 pictures in 10 classes; all take float32 [N, 1, 28, 28]."""

from __future__ import annotations

from collections.abc import Callable

import disttorch as torch
from disttorch import nn
from disttorch.nn import functional as F


class Net(nn.Module):
    """LeNet-5 with ReLU and max-pooling, for pictures of 32x32 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [N, 1, 32, 32] to [N, 10]."""
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))  # [N, 6, 14, 14]
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)  # [N, 16, 5, 5]
        x = x.view(-1, 16 * 5 * 5)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class CNN(nn.Module):
    """Two blocks of convolution, ReLU and pooling that keep the size, then one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv2d(in_channels=1, out_channels=16, kernel_size=5, stride=1, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=2),
        )
        self.conv2 = nn.Sequential(
            nn.Conv2d(in_channels=16, out_channels=32, kernel_size=5, stride=1, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=2),
        )
        self.out = nn.Linear(32 * 7 * 7, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [N, 1, 28, 28] to [N, 10]."""
        x = self.conv1(x)  # [N, 16, 14, 14]
        x = self.conv2(x)  # [N, 32, 7, 7]
        return self.out(x.view(x.size(0), -1))


class RNN(nn.Module):
    """An LSTM that reads a picture row by row and classifies it after the last row."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(input_size=28, hidden_size=64, num_layers=1, batch_first=True)
        self.out = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [N, 1, 28, 28] to [N, 10]."""
        outputs, _ = self.rnn(x.squeeze(1))  # [N, 28 rows, 64]
        return self.out(outputs[:, -1, :])


def build_mlp() -> nn.Module:
    """Return three linear layers, 784-512-256-10, with ReLU between them."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(28 * 28, 512),
        nn.ReLU(),
        nn.Linear(512, 256),
        nn.ReLU(),
        nn.Linear(256, 10),
    )


def build_lenet() -> nn.Module:
    """Return LeNet-5 behind a frame of two zero pixels, which makes 28x28 pictures 32x32."""
    return nn.Sequential(nn.ZeroPad2d(2), Net())


MODELS: dict[str, Callable[[], nn.Module]] = {
    "cnn": CNN,
    "lenet": build_lenet,
    "lstm": RNN,
    "mlp": build_mlp,
}
