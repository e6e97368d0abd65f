"""Serves shared-memory segments to the workers of one host: the same one to every rank that asks for a key."""

from __future__ import annotations

import os

from disttorch.distributed import segment
from disttorch_run.process import Worker


class SegmentServer:
    """Creates a segment at the first request and forgets it when all `ranks` have it."""

    def __init__(self, ranks: int) -> None:
        self._ranks = ranks
        self._open: dict[str, tuple[int, int, set[int]]] = {}

    def answer(self, worker: Worker, key: str, size: int) -> None:
        """Send `worker` the segment `key`, or why there is none."""
        try:
            fd, existing, served = self._open.get(key) or (segment.create(key, size), size, set())
        except (OSError, ValueError, OverflowError) as reason:
            error = f"no {size} bytes of shared memory: {reason}"
            worker.send("segment", key=key, size=size, error=error)
            return
        self._open[key] = fd, existing, served
        if existing != size:
            error = (
                f"rank {worker.rank} asked for {size} bytes of shared memory {key}, "
                f"another rank for {existing}; build the same model on every rank"
            )
            worker.send("segment", key=key, size=size, error=error)
            return
        worker.send("segment", fd, key=key, size=size, error="")
        served.add(worker.rank)
        if len(served) == self._ranks:
            os.close(fd)
            del self._open[key]

    def close(self) -> None:
        """Close the segments that not every rank has fetched."""
        for fd, _, _ in self._open.values():
            os.close(fd)
        self._open.clear()
