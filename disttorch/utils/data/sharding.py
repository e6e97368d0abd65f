"""Which part of the data this process loads.

`disttorch.distributed` tells this module the process group (`set_world`); without one there is a single rank.
"""

from __future__ import annotations

import sys
from typing import Protocol


class World(Protocol):
    """The ranks that train together, as seen from one of them."""

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""

    @property
    def world_size(self) -> int:
        """The number of ranks."""

    def agree(self, value: int) -> int:
        """Return the value that rank 0 passed, an integer in [0, 2**63); every rank must call."""


class Alone:
    """The world of a process without a process group."""

    rank = 0
    world_size = 1

    def agree(self, value: int) -> int:
        """Return `value`."""
        return value


_alone: World = Alone()
_world: World = _alone
_announced = False


def set_world(provider: World | None) -> None:
    """Make loaders divide their data among the ranks of `provider`; None: there is no process group any more."""
    global _world
    _world = _alone if provider is None else provider


def world() -> World:
    """Return the ranks that divide the data now."""
    return _world


def has_group() -> bool:
    """Whether a process group has been set."""
    return _world is not _alone


def announce(world_size: int) -> None:
    """Say on rank 0, once per process, that a loader divides its data by itself."""
    global _announced
    if _announced or _world.rank != 0:
        return
    _announced = True
    print(
        f"disttorch: DataLoader divides its samples among the {world_size} ranks, since it shuffles and was given no "
        "sampler; DataLoader(..., shard=False) gives every rank all samples",
        file=sys.stderr,
    )
