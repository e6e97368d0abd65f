"""Telling the data loaders which part of the data belongs to this rank."""

from __future__ import annotations

import numpy as np

from disttorch.distributed.collectives import broadcast
from disttorch.distributed.process_group import ProcessGroup


class GroupWorld:
    """The ranks of a process group, as `disttorch.utils.data.sharding` asks about them."""

    def __init__(self, group: ProcessGroup) -> None:
        self.rank = group.rank()
        self.world_size = group.size()

    def agree(self, value: int) -> int:
        """Return the value, an integer in [0, 2**63), that rank 0 passed; every rank calls."""
        agreed = np.array([value], np.int64)
        broadcast(agreed, 0)
        return int(agreed[0])
