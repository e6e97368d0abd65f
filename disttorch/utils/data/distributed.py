"""The sampler that gives each rank its share of a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sized

from disttorch.core.stream import Stream
from disttorch.utils.data import sharding
from disttorch.utils.data.sampler import Sampler


class DistributedSampler(Sampler[int]):
    """Every rank's equal share of a dataset, in PyTorch's order.

    The shuffled order (seed + epoch) is padded with its first indices until it divides evenly, or cut if `drop_last`;
    rank r takes every `num_replicas`-th index from the r-th on. Without `set_epoch(epoch)` each epoch has the same order.
    `num_replicas` and `rank` are those of the process group unless given; ValueError if there is none.

    >>> list(DistributedSampler(range(5), num_replicas=2, rank=1, shuffle=False))
    [1, 3, 0]
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        if (num_replicas is None or rank is None) and not sharding.has_group():
            raise ValueError(
                "Default process group has not been initialized, please make sure to call init_process_group, "
                "or give DistributedSampler both num_replicas and rank."
            )
        self.num_replicas = sharding.world().world_size if num_replicas is None else num_replicas
        self.rank = sharding.world().rank if rank is None else rank
        if not 0 <= self.rank < self.num_replicas:
            raise ValueError(f"Invalid rank {self.rank}, rank should be in the interval [0, {self.num_replicas - 1}]")
        self.dataset = dataset
        self.epoch = 0
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        n, ranks = len(dataset), self.num_replicas
        self.num_samples = n // ranks if drop_last else -(-n // ranks)
        self.total_size = self.num_samples * ranks

    def __iter__(self) -> Iterator[int]:
        n = len(self.dataset)
        order = Stream(self.seed + self.epoch).randperm(n).tolist() if self.shuffle else list(range(n))
        if order and len(order) < self.total_size:
            order *= -(-self.total_size // n)
        return iter(order[self.rank : self.total_size : self.num_replicas])

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration; without a call all epochs have the same."""
        self.epoch = epoch
