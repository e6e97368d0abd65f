"""Point-to-point messages, groups and collectives, and gradients averaged by hand, in processes of multiprocessing."""

import os
import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


def blocking(rank, size):
    tensor = torch.zeros(1)
    if rank == 0:
        tensor += 1
        dist.send(tensor=tensor, dst=1)
    elif rank == 1:
        dist.recv(tensor=tensor, src=0)
    return tensor.tolist()


def non_blocking(rank, size):
    tensor = torch.zeros(2)
    req = None
    if rank == 0:
        tensor += 3
        req = dist.isend(tensor=tensor, dst=1)
    elif rank == 1:
        req = dist.irecv(tensor=tensor, src=0)
    if req is not None:
        req.wait()
    return tensor.tolist()


def collectives(rank, size):
    group = dist.new_group([0, 1])
    tensor = torch.ones(1) * (rank + 1)
    dist.all_reduce(tensor, op=dist.ReduceOp.SUM, group=group)
    product = torch.tensor([rank + 2.0])
    dist.all_reduce(product, op=dist.ReduceOp.PRODUCT)
    gathered = [torch.zeros(2) for _ in range(size)]
    dist.all_gather(gathered, torch.full((2,), float(rank)))
    reduced = torch.tensor([rank + 1.0, 2.0])
    dist.reduce(reduced, dst=0, op=dist.ReduceOp.MAX)
    scattered = torch.zeros(1)
    dist.scatter(scattered, [torch.tensor([10.0 * r]) for r in range(size)] if rank == 0 else None, src=0)
    collected = [torch.zeros(1) for _ in range(size)] if rank == 0 else None
    dist.gather(scattered + rank, collected, dst=0)
    head = torch.arange(3.0) if rank == 0 else torch.zeros(3)
    dist.broadcast(head, src=0)
    return [
        tensor.item(),
        product.item(),
        [t.tolist() for t in gathered],
        reduced.tolist() if rank == 0 else None,
        scattered.item(),
        [t.item() for t in collected] if collected else None,
        head.tolist(),
    ]


def ring_all_reduce(rank, size):
    """The sum of all ranks' tensors, with neighbours only."""
    send = torch.arange(4.0) + rank
    total = send.clone()
    received = torch.zeros(4)
    for _ in range(size - 1):
        req = dist.isend(send, (rank + 1) % size)
        dist.recv(received, (rank - 1) % size)
        total += received
        req.wait()
        send = received.clone()
    return total.tolist()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(4 * 6 * 6, 3)

    def forward(self, x):
        x = F.relu(self.conv(x))
        return F.log_softmax(self.fc(x.flatten(1)), dim=1)


def average_gradients(model):
    size = float(dist.get_world_size())
    for param in model.parameters():
        dist.all_reduce(param.grad.data, op=dist.ReduceOp.SUM)
        param.grad.data /= size


def training(rank, size):
    torch.manual_seed(1234)
    images, labels = torch.randn(32, 1, 8, 8), torch.randint(0, 3, (32,))
    part = slice(rank * 16, rank * 16 + 16)
    model = Net()
    loader = DataLoader(TensorDataset(images[part], labels[part]), batch_size=8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    losses = []
    for _ in range(3):
        epoch_loss = 0.0
        for data, target in loader:
            optimizer.zero_grad()
            loss = F.nll_loss(model(data), target)
            epoch_loss += loss.item()
            loss.backward()
            average_gradients(model)
            optimizer.step()
        losses.append(epoch_loss / len(loader))
    return losses


def init_process(rank, size, port, answers, backend="gloo"):
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    os.environ["MASTER_PORT"] = port
    dist.init_process_group(backend, rank=rank, world_size=size)
    for fn in (blocking, non_blocking, collectives, ring_all_reduce, training):
        answers.put((fn.__name__, rank, fn(rank, size)))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    size = 2
    mp.set_start_method("fork")
    answers = mp.SimpleQueue()
    processes = []
    for rank in range(size):
        p = mp.Process(target=init_process, args=(rank, size, sys.argv[1], answers))
        p.start()
        processes.append(p)
    for answer in sorted(answers.get() for _ in range(5 * size)):
        print(*answer)
    for p in processes:
        p.join()
    print([p.exitcode for p in processes])
