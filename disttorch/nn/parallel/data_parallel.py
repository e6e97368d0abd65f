"""`torch.nn.parallel.data_parallel`: where PyTorch has DataParallel."""

from disttorch.nn.parallel import DataParallel

__all__ = ["DataParallel"]
