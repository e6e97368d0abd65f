"""Communication hooks for DistributedDataParallel, as `torch.distributed.algorithms.ddp_comm_hooks`."""
