"""Six networks with a batch, a loss and an optimizer each: what the training benchmarks train.

The library is called disttorch in here; `benchmarks.worker.stand_in_for_disttorch` puts PyTorch in its place, so that
both sides run one code. How to train one of them:

    network = networks(torch)["ResNet-20"]
    torch.manual_seed(0)
    step = network.step(wrap(network.build()), network.size)  # wrap: DistributedDataParallel, or nothing
    loss = step()
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import disttorch as torch
from disttorch import nn
from disttorch.nn import functional as F


class Network(NamedTuple):
    """How to build a network and what to train it with; everything random comes from the library's own generator."""

    build: Callable[[], Any]  # () -> a module
    batch: Callable[[int], tuple[Any, Any]]  # how many samples -> inputs [N, *], targets
    loss: Callable[[Any, Any], Any]  # the module's outputs, targets -> a tensor of no dimension, the mean
    optimizer: Callable[[Any], Any]  # the parameters -> an optimizer
    size: int  # how many samples a batch has in the benchmarks

    def step(self, module: Any, size: int) -> Callable[[], Any]:
        """Return a function that trains `module` once on one fixed batch of `size` samples and returns the loss."""
        inputs, targets = self.batch(size)
        optimizer = self.optimizer(module.parameters())

        def step() -> Any:
            optimizer.zero_grad()
            loss = self.loss(module(inputs), targets)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step


def networks(library: ModuleType) -> dict[str, Network]:
    """Return the networks by name; `library` is disttorch, or PyTorch where it stands in for it."""
    assert library is torch, "this file was imported with the other library"
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
    mnist = importlib.import_module("mnist_models")
    return {
        "LeNet": Network(mnist.Net, pictures(1, 32), F.cross_entropy, plain_sgd, 64),
        "CNN": Network(mnist.CNN, pictures(1, 28), F.cross_entropy, adam, 64),
        "MLP": Network(mnist.build_mlp, pictures(1, 28), F.cross_entropy, adam, 64),
        "LSTM": Network(mnist.RNN, pictures(1, 28), F.cross_entropy, adam, 64),
        "ResNet-20": Network(ResNet20, pictures(3, 32), F.cross_entropy, sgd_of_resnet, 32),
        "GPT": Network(GPT, texts(256, 64), next_token_loss, adam_of_gpt, 8),
    }


# -- batches, losses, optimizers ------------------------------------------------------------------


def pictures(channels: int, side: int) -> Callable[[int], tuple[Any, Any]]:
    """Return what draws float32 pictures [N, channels, side, side] and their classes, int64 [N], of 10."""
    return lambda size: (torch.randn(size, channels, side, side), torch.randint(0, 10, (size,)))


def texts(vocabulary: int, length: int) -> Callable[[int], tuple[Any, Any]]:
    """Return what draws int64 tokens [N, length] and the token after each of them."""

    def batch(size: int) -> tuple[Any, Any]:
        tokens = torch.randint(0, vocabulary, (size, length + 1))
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    return batch


def next_token_loss(scores: Any, tokens: Any) -> Any:
    """Return the mean cross entropy of scores [N, T, vocabulary] for tokens [N, T]."""
    return F.cross_entropy(scores.view(-1, scores.size(-1)), tokens.view(-1))


def plain_sgd(parameters: Any) -> Any:
    """Return SGD as for LeNet."""
    return torch.optim.SGD(parameters, lr=0.01)


def adam(parameters: Any) -> Any:
    """Return Adam with its usual step."""
    return torch.optim.Adam(parameters, lr=0.001)


def sgd_of_resnet(parameters: Any) -> Any:
    """Return SGD as in section 4.2 of the ResNet paper."""
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.0001)


def adam_of_gpt(parameters: Any) -> Any:
    """Return AdamW as small GPTs are trained with."""
    return torch.optim.AdamW(parameters, lr=0.001, betas=(0.9, 0.95), weight_decay=0.1)


# -- ResNet-20 ------------------------------------------------------------------------------------


class Block(nn.Module):
    """Two convolutions and a way around them, which has no parameters (option A)."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.added = channels - before

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [N, before, H, W] to [N, channels, H / stride, W / stride]."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.added:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.added // 2, self.added // 2))
        return F.relu(y + x)


class ResNet20(nn.Module):
    """The 20-layer network for CIFAR-10 of He et al., arXiv:1512.03385, section 4.2: 269,722 parameters."""

    def __init__(self, blocks: int = 3, channels: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.layer1 = nn.Sequential(*(Block(channels, channels, 1) for _ in range(blocks)))
        self.layer2 = self._stage(blocks, channels, 2 * channels)
        self.layer3 = self._stage(blocks, 2 * channels, 4 * channels)
        self.fc = nn.Linear(4 * channels, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def _stage(blocks: int, before: int, channels: int) -> nn.Sequential:
        return nn.Sequential(
            Block(before, channels, 2),
            *(Block(channels, channels, 1) for _ in range(blocks - 1)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [N, 3, 32, 32] to [N, 10]."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))  # [N, 64, 8, 8]
        return self.fc(x.mean((2, 3)))


# -- GPT ------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Each position looks at itself and those before it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [N, T, width] to [N, T, width]."""
        batch, length, width = x.shape
        split = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each [N, heads, T, width / heads]
        y = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(batch, length, width))


class Layer(nn.Module):
    """Attention and a two-layer perceptron, each normalized before and added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.ln2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [N, T, width] to [N, T, width]."""
        x = x + self.attention(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    """A decoder-only transformer (GPT-2's arrangement of layers): 867,072 parameters as it is.

    `tied` takes the table of embeddings for the last layer's weight as well.
    """

    def __init__(
        self,
        vocabulary: int = 256,
        context: int = 64,
        layers: int = 4,
        width: int = 128,
        heads: int = 4,
        tied: bool = False,
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(context, width)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.ln = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                last = name.endswith(("attention.out.weight", "mlp.2.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if last else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        if tied:
            self.head.weight = self.token.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map int64 tokens [N, T], T up to `context`, to scores [N, T, vocabulary] for the next ones."""
        x = self.token(tokens) + self.position(torch.arange(tokens.size(1)))
        for layer in self.layers:
            x = layer(x)
        return self.head(self.ln(x))
