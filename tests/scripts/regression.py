"""A line through noisy points: a perceptron of two layers, Adam, a learning rate that falls in steps."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.optim.lr_scheduler import StepLR


class Perceptron(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.hidden = nn.Linear(1, hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x):
        return self.out(F.relu(self.hidden(x)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=16)
    args = parser.parse_args()

    torch.manual_seed(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    x = torch.unsqueeze(torch.linspace(-1, 1, 64), dim=1).to(device)
    y = x.pow(3) + 0.1 * torch.randn(x.size(), device=device)

    model = Perceptron(args.hidden).to(device)
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    schedule = StepLR(optimizer, step_size=5, gamma=0.5)
    criterion = nn.MSELoss()
    for epoch in range(args.epochs):
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        schedule.step()
        print(f"epoch {epoch} loss {loss.item():.6f} lr {optimizer.param_groups[0]['lr']:.4f}")

    model.eval()
    with torch.no_grad():
        print("at 0.5:", round(model(torch.tensor([[0.5]], device=device)).item(), 4))


if __name__ == "__main__":
    main()
