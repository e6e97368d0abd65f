"""Data-parallel training in processes that the script starts itself, with a checkpoint on the way."""

import os
import sys
import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn as nn
import torch.optim as optim
from torch.nn.parallel import DistributedDataParallel as DDP


def setup(rank, world_size):
    os.environ["MASTER_ADDR"] = "localhost"
    os.environ["MASTER_PORT"] = sys.argv[1]
    dist.init_process_group("gloo", rank=rank, world_size=world_size)


def cleanup():
    dist.destroy_process_group()


class ToyModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.net1 = nn.Linear(10, 10)
        self.relu = nn.ReLU()
        self.net2 = nn.Linear(10, 5)

    def forward(self, x):
        return self.net2(self.relu(self.net1(x)))


def train(model, rank, steps):
    loss_fn = nn.MSELoss()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(rank)
    losses = []
    for _ in range(steps):
        inputs, labels = torch.randn(20, 10, generator=generator), torch.randn(20, 5, generator=generator)
        optimizer.zero_grad()
        loss = loss_fn(model(inputs), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def demo_basic(rank):
    torch.manual_seed(rank)  # DDP gives every rank the first one's parameters
    model = DDP(ToyModel())
    return train(model, rank, 5), model.module.net1.weight.sum().item()


def demo_checkpoint(rank):
    torch.manual_seed(0)
    ddp_model = DDP(ToyModel())
    path = os.path.join(tempfile.gettempdir(), f"model-{sys.argv[1]}.checkpoint")
    if rank == 0:
        train(ddp_model.module, 7, 2)
        torch.save(ddp_model.state_dict(), path)
    dist.barrier()
    map_location = {"cuda:0": f"cuda:{rank}"}
    ddp_model.load_state_dict(torch.load(path, map_location=map_location, weights_only=True))
    losses = train(ddp_model, rank, 3)
    dist.barrier()
    if rank == 0:
        os.remove(path)
    return losses, sorted(ddp_model.state_dict())


def main(rank, world_size, results):
    setup(rank, world_size)
    results.put((rank, "basic", *demo_basic(rank)))
    results.put((rank, "checkpoint", *demo_checkpoint(rank)))
    cleanup()


if __name__ == "__main__":
    world_size = 2
    results = mp.get_context("spawn").SimpleQueue()
    mp.spawn(main, args=(world_size, results), nprocs=world_size, join=True)
    for result in sorted(results.get() for _ in range(2 * world_size)):
        print(*result)
