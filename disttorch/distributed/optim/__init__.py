"""Optimizers over several ranks, as `torch.distributed.optim`."""

from disttorch.distributed.optim.zero_redundancy_optimizer import ZeroRedundancyOptimizer

__all__ = ["ZeroRedundancyOptimizer"]
