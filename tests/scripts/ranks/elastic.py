"""Training as torchrun starts it: a DistributedSampler, metrics of all ranks, a checkpoint written by the first one."""

import os
import sys
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.nn as nn
from torch.distributed.elastic.multiprocessing.errors import record
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler


class Points(Dataset):
    def __init__(self, length):
        generator = torch.Generator().manual_seed(3)
        self.x = torch.randn(length, 4, generator=generator)
        self.y = (self.x.sum(1) > 0).long()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return index, self.x[index], self.y[index]


def evaluate(model, dataset):
    right = 0
    with torch.no_grad():
        for _, x, y in DataLoader(dataset, batch_size=len(dataset)):
            right += (model(x).argmax(1) == y).sum().item()
    return right / len(dataset)


@record
def main():
    dist.init_process_group(backend="gloo", timeout=timedelta(seconds=60))
    rank, local_rank, world_size = dist.get_rank(), int(os.environ["LOCAL_RANK"]), dist.get_world_size()
    assert rank == int(os.environ["RANK"])
    assert world_size == int(os.environ["WORLD_SIZE"])
    assert dist.is_torchelastic_launched()
    assert dist.is_initialized()
    torch.manual_seed(42)
    dataset = Points(37)
    sampler = DistributedSampler(dataset, num_replicas=world_size, rank=rank, shuffle=True)
    loader = DataLoader(dataset, batch_size=5, sampler=sampler)
    model = DDP(nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.BatchNorm1d(16), nn.Linear(16, 2)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(3):
        sampler.set_epoch(epoch)
        model.train()
        seen, total = [], 0.0
        for index, x, y in loader:
            seen += index.tolist()
            optimizer.zero_grad(set_to_none=True)
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item()
        scheduler.step()
        metrics = [None] * world_size
        dist.all_gather_object(metrics, {"rank": rank, "loss": total / len(loader), "seen": seen})
        model.eval()
        mean = torch.tensor([total, float(len(loader))])
        dist.all_reduce(mean, op=dist.ReduceOp.SUM)
        if rank == 0:
            print(
                epoch,
                evaluate(model.module, dataset),
                (mean[0] / mean[1]).item(),
                [m["loss"] for m in metrics],
                [m["seen"] for m in metrics],
            )
    dist.monitored_barrier(timeout=timedelta(seconds=30))
    path = sys.argv[1]
    if rank == 0:
        torch.save({"model": model.module.state_dict(), "epoch": epoch}, path)
    dist.barrier()
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    flat = torch.cat([p.flatten().float() for p in checkpoint["model"].values()])
    sums = [None] * world_size
    dist.all_gather_object(sums, flat.sum().item())
    names = [{"name": "tensor"}] if rank == 0 else [None]
    dist.broadcast_object_list(names, src=0)
    if rank == world_size - 1:
        print("checkpoint", sums, names, local_rank)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
