"""Modules print character for character as in PyTorch."""

from __future__ import annotations

from collections import OrderedDict

import disttorch as torch
from disttorch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)


def test_net() -> None:
    assert repr(Net()) == (
        "Net(\n"
        "  (conv1): Conv2d(1, 6, kernel_size=(5, 5), stride=(1, 1))\n"
        "  (conv2): Conv2d(6, 16, kernel_size=(5, 5), stride=(1, 1))\n"
        "  (fc1): Linear(in_features=400, out_features=120, bias=True)\n"
        "  (fc2): Linear(in_features=120, out_features=84, bias=True)\n"
        "  (fc3): Linear(in_features=84, out_features=10, bias=True)\n"
        ")"
    )


def test_nested_sequential() -> None:
    class CNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Sequential(
                nn.Conv2d(in_channels=1, out_channels=16, kernel_size=5, stride=1, padding=2),
                nn.ReLU(),
                nn.MaxPool2d(kernel_size=2),
            )
            self.out = nn.Linear(16 * 14 * 14, 10, bias=False)

    assert str(CNN()) == (
        "CNN(\n"
        "  (conv1): Sequential(\n"
        "    (0): Conv2d(1, 16, kernel_size=(5, 5), stride=(1, 1), padding=(2, 2))\n"
        "    (1): ReLU()\n"
        "    (2): MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)\n"
        "  )\n"
        "  (out): Linear(in_features=3136, out_features=10, bias=False)\n"
        ")"
    )


def test_lstm() -> None:
    class RNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(input_size=28, hidden_size=64, num_layers=1, batch_first=True)
            self.out = nn.Linear(64, 10)

    assert repr(RNN()) == (
        "RNN(\n  (rnn): LSTM(28, 64, batch_first=True)\n  (out): Linear(in_features=64, out_features=10, bias=True)\n)"
    )
    big = nn.LSTM(3, 4, num_layers=2, bias=False, dropout=0.5, bidirectional=True)
    assert repr(big) == "LSTM(3, 4, num_layers=2, bias=False, dropout=0.5, bidirectional=True)"


def test_empty_and_named() -> None:
    assert repr(nn.Sequential()) == "Sequential()"
    named = nn.Sequential(OrderedDict([("first", nn.Tanh()), ("second", nn.Softmax(dim=1))]))
    assert repr(named) == "Sequential(\n  (first): Tanh()\n  (second): Softmax(dim=1)\n)"


def test_lists_join_what_prints_alike() -> None:
    layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU()])
    assert repr(layers) == (
        "ModuleList(\n  (0-1): 2 x Linear(in_features=2, out_features=2, bias=True)\n  (2): ReLU()\n)"
    )
    assert repr(nn.ModuleList()) == "ModuleList()"


def test_parameter_containers() -> None:
    listed = nn.ParameterList([torch.ones(2, 3), 3])
    assert repr(listed) == (
        "ParameterList(\n    (0): Parameter containing: [torch.float32 of size 2x3]\n    (1): Object of type: int\n)"
    )
    named = nn.ParameterDict({"w": torch.ones(2)})
    assert repr(named) == ("ParameterDict(  (w): Parameter containing: [torch.FloatTensor of size 2])")


def test_several_lines_of_extra_text() -> None:
    class Wordy(nn.Module):
        def extra_repr(self) -> str:
            return "one=1\ntwo=2"

    net = Wordy()
    assert repr(net) == "Wordy(\n  one=1\n  two=2\n)"
    net.child = nn.Sequential(nn.ReLU())
    assert repr(net) == ("Wordy(\n  one=1\n  two=2\n  (child): Sequential(\n    (0): ReLU()\n  )\n)")


def test_a_missing_child_prints_none() -> None:
    net = nn.Module()
    net.register_module("later", None)
    assert repr(net) == "Module(\n  (later): None\n)"
