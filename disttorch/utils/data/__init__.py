"""Datasets, samplers and the loader that turns them into batches, as `torch.utils.data`."""

from disttorch.utils.data._utils.collate import default_collate, default_convert
from disttorch.utils.data._utils.sample_rng import sample_rng
from disttorch.utils.data._utils.worker_info import get_worker_info
from disttorch.utils.data.dataloader import DataLoader
from disttorch.utils.data.dataset import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from disttorch.utils.data.distributed import DistributedSampler
from disttorch.utils.data.sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

__all__ = [
    "BatchSampler",
    "ChainDataset",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "DistributedSampler",
    "IterableDataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "StackDataset",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "WeightedRandomSampler",
    "default_collate",
    "default_convert",
    "get_worker_info",
    "random_split",
    "sample_rng",
]
