"""Serves shared-memory segments to the workers of one host: the same one to every rank that asks for a key."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from disttorch.distributed import segment
from disttorch_run.process import Worker


class SegmentServer:
    """Creates a segment at the first request and forgets it when all the ranks that share it have it."""

    def __init__(self) -> None:
        self._open: dict[str, _Segment] = {}

    def answer(self, worker: Worker, key: str, size: int, users: int) -> None:
        """Send `worker` the segment `key`, which `users` ranks share, or why there is none."""
        try:
            found = self._open.get(key) or _Segment(segment.create(key, size), size, users)
        except (OSError, ValueError, OverflowError) as reason:
            self._refuse(worker, key, f"no {size} bytes of shared memory: {reason}")
            return
        self._open[key] = found
        if (found.size, found.users) != (size, users):
            self._refuse(
                worker,
                key,
                f"rank {worker.rank} asked for {size} bytes of shared memory {key} for {users} ranks, another rank for "
                f"{found.size} for {found.users}; build the same model and the same groups on every rank",
            )
            return
        worker.send("segment", found.fd, key=key, size=size, error="")
        found.served.add(worker.rank)
        if len(found.served) >= users:
            os.close(found.fd)
            del self._open[key]

    @staticmethod
    def _refuse(worker: Worker, key: str, error: str) -> None:
        worker.send("segment", key=key, size=0, error=error)

    def close(self) -> None:
        """Close the segments that not every rank has fetched."""
        for found in self._open.values():
            os.close(found.fd)
        self._open.clear()


@dataclass
class _Segment:
    fd: int
    size: int
    users: int
    served: set[int] = field(default_factory=set)
