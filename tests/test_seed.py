"""The seed document's snippets, as it writes them, on disttorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import disttorch as torch
import disttorch.nn as nn
import disttorch.nn.functional as F
import disttorch.optim as optim
import disttorch.utils.data as Data


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()  # noqa: UP008 - as the seed has it
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(-1, self.num_flat_features(x))
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)

    def num_flat_features(self, x):
        size = x.size()[1:]
        num_features = 1
        for s in size:
            num_features *= s
        return num_features


PRINTED = """\
Net(
  (conv1): Conv2d(1, 6, kernel_size=(5, 5), stride=(1, 1))
  (conv2): Conv2d(6, 16, kernel_size=(5, 5), stride=(1, 1))
  (fc1): Linear(in_features=400, out_features=120, bias=True)
  (fc2): Linear(in_features=120, out_features=84, bias=True)
  (fc3): Linear(in_features=84, out_features=10, bias=True)
)"""


def test_tensor_and_numpy():
    a = torch.tensor([12.0, 11], requires_grad=True)
    b = a * 2
    np.testing.assert_array_equal(b.data.numpy(), np.float32([24, 22]))


def test_requires_grad_in_place():
    a = torch.randn(2, 2)
    a.requires_grad_(True)
    assert a.requires_grad
    x = torch.ones(2, 2, requires_grad=True)
    (x * x).sum().backward()
    x.grad.data.zero_()
    assert x.grad.abs().sum().item() == 0
    with torch.no_grad():
        assert not (x * 2).requires_grad
    assert not (x * 2).detach().requires_grad


def test_net_prints_trains_and_updates_by_hand():
    torch.manual_seed(0)
    net = Net()
    assert repr(net) == PRINTED
    params = list(net.parameters())
    assert [tuple(p.shape) for p in params[:2]] == [(6, 1, 5, 5), (6,)]
    input = torch.randn(1, 1, 32, 32)
    out = net(input)
    assert tuple(out.shape) == (1, 10)
    net.zero_grad()
    out.backward(torch.randn(1, 10))
    before = [p.detach().clone() for p in params]
    learning_rate = 0.01
    for f in net.parameters():
        f.data.sub_(f.grad.data * learning_rate)
    for p, old in zip(params, before, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), old.numpy() - p.grad.numpy() * np.float32(0.01))


def test_loss_and_optimizer_loop():
    torch.manual_seed(0)
    net, input, target = Net(), torch.randn(4, 1, 32, 32), torch.randn(4, 10)
    criterion = nn.MSELoss()
    optimizer = optim.SGD(net.parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = criterion(net(input), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", ["SGD", "Momentum", "RMSprop", "Adam"])
def test_the_four_optimizers_fit_a_curve(name):
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(1, 20), nn.ReLU(), nn.Linear(20, 1))
    LR = 0.01
    optimizer = {
        "SGD": lambda p: torch.optim.SGD(p, lr=LR),
        "Momentum": lambda p: torch.optim.SGD(p, lr=LR, momentum=0.8),
        "RMSprop": lambda p: torch.optim.RMSprop(p, lr=LR, alpha=0.9),
        "Adam": lambda p: torch.optim.Adam(p, lr=LR, betas=(0.9, 0.99)),
    }[name](net.parameters())
    x = torch.unsqueeze(torch.linspace(-1, 1, 1000), dim=1)
    y = x.pow(2) + 0.1 * torch.normal(torch.zeros(*x.size()))
    loader = Data.DataLoader(dataset=Data.TensorDataset(x, y), batch_size=32, shuffle=True)
    loss_func = nn.MSELoss()
    before = loss_func(net(x), y).item()
    for _ in range(12):
        for b_x, b_y in loader:
            loss = loss_func(net(b_x), b_y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    after = loss_func(net(x), y).item()
    assert after < 0.3 * before, (before, after)


def test_batches_from_worker_processes():
    BATCH_SIZE = 5
    x = torch.linspace(1, 10, 10)
    y = torch.linspace(10, 1, 10)
    torch_dataset = Data.TensorDataset(x, y)
    loader = Data.DataLoader(dataset=torch_dataset, batch_size=BATCH_SIZE, shuffle=True, num_workers=2)
    batches = list(loader)
    assert [len(b_x) for b_x, _ in batches] == [5, 5]
    for b_x, b_y in batches:
        np.testing.assert_allclose((b_x + b_y).numpy(), 11)
    assert sorted(torch.cat([b_x for b_x, _ in batches]).tolist()) == list(range(1, 11))


def test_whole_net_and_parameters_are_saved(tmp_path: Path):
    torch.manual_seed(0)
    net1 = Net()
    torch.save(net1, tmp_path / "net.pkl")
    torch.save(net1.state_dict(), tmp_path / "net_params.pkl")
    net2 = torch.load(tmp_path / "net.pkl", weights_only=False)
    net3 = Net()
    net3.load_state_dict(torch.load(tmp_path / "net_params.pkl"))
    input = torch.randn(2, 1, 32, 32)
    for net in (net2, net3):
        np.testing.assert_array_equal(net(input).detach().numpy(), net1(input).detach().numpy())


def test_device_lines():
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    model = nn.DataParallel(Net()).to(device)
    mytensor = torch.randn(2, 1, 32, 32).to(device)
    assert tuple(model(mytensor).shape) == (2, 10)
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="device 'cuda:0' was asked for"):
            model.to(torch.device("cuda:0"))


def test_lstm():
    rnn = nn.LSTM(input_size=28, hidden_size=64, num_layers=1, batch_first=True)
    assert repr(rnn) == "LSTM(28, 64, batch_first=True)"
    output, (h_n, c_n) = rnn(torch.randn(3, 28, 28), None)
    assert (tuple(output.shape), tuple(h_n.shape), tuple(c_n.shape)) == ((3, 28, 64), (1, 3, 64), (1, 3, 64))
    np.testing.assert_array_equal(output[:, -1, :].detach().numpy(), h_n[0].detach().numpy())
