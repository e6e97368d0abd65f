"""What a worker process knows about itself."""

from __future__ import annotations

from typing import Any, NamedTuple


class WorkerInfo(NamedTuple):
    """What `get_worker_info` tells: `id`, `num_workers`, the `seed` of this worker and its copy of the `dataset`."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


current: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """Return what a worker process of a loader knows about itself; None in any other process."""
    return current
