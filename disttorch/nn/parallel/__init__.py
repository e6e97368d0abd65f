"""Data-parallel wrappers of modules: the names under which PyTorch has them."""

from disttorch.distributed.data_parallel import DataParallel, DistributedDataParallel

__all__ = ["DataParallel", "DistributedDataParallel"]
