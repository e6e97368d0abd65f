"""Learning rates over time, two groups of parameters, a frozen layer, and gradients per sample."""

import torch
from torch import nn, optim
from torch.func import functional_call, grad, vmap
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset, random_split

torch.manual_seed(6)
x = torch.randn(60, 4)
y = (x @ torch.tensor([1.0, -2.0, 0.5, 0.0]) > 0).float().unsqueeze(1)
train, held_out = random_split(TensorDataset(x, y), [48, 12], generator=torch.Generator().manual_seed(6))

model = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(0.1), nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 1))
for p in model[2].parameters():
    p.requires_grad = False
optimizer = optim.SGD(
    [{"params": model[0].parameters()}, {"params": model[4].parameters(), "lr": 0.2}],
    lr=0.1,
    momentum=0.5,
    nesterov=True,
)
schedules = [
    lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.9**epoch),
    lr_scheduler.MultiStepLR(optimizer, milestones=[2, 3], gamma=0.5),
]
criterion = nn.BCEWithLogitsLoss()
for epoch in range(4):
    total = 0.0
    for inputs, targets in DataLoader(train, batch_size=8, shuffle=True, drop_last=True):
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(model(inputs), targets)
        loss.backward()
        optimizer.step()
        total += loss.item()
    for schedule in schedules:
        schedule.step()
    rates = ", ".join(f"{group['lr']:.5f}" for group in optimizer.param_groups)
    print(f"epoch {epoch} loss {total / 6:.5f} rates {rates}")

inputs, targets = next(iter(DataLoader(held_out, batch_size=12)))
parameters = {name: p.detach() for name, p in model.named_parameters()}


def loss_of_one(parameters, x, y):
    return criterion(functional_call(model, parameters, (x,)), y)


per_sample = vmap(grad(loss_of_one), in_dims=(None, 0, 0))(parameters, inputs, targets)
print({name: tuple(g.shape) for name, g in per_sample.items()})
print(f"largest {per_sample['0.weight'].flatten(1).norm(dim=1).max().item():.5f}")
