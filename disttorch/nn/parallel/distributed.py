"""`torch.nn.parallel.distributed`: where PyTorch has DistributedDataParallel."""

from disttorch.nn.parallel import DistributedDataParallel

__all__ = ["DistributedDataParallel"]
