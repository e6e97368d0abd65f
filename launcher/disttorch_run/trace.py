"""The traces of all ranks as one file, with what only a look at all of them tells: who waited for whom."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from disttorch.distributed import trace
from disttorch.distributed.trace import COMMUNICATION, Event, Part


class TraceFile:
    """Collects what workers have recorded and writes it at the end. OSError at once if the file cannot be written."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        if self.path.is_dir():
            raise IsADirectoryError(f"--trace {path}: this is a folder, give a file")
        if not os.access(self.path.parent, os.W_OK):
            raise PermissionError(f"--trace {path}: there is no folder {self.path.parent} that can be written to")
        self._parts: dict[int, Part] = {}
        self._late: list[_Late] = []

    def keep(self, descriptors: Mapping[int, int]) -> None:
        """Take over what the workers of one attempt have recorded; their descriptors from `trace.LAYOUT.create`."""
        parts = {rank: trace.parse(trace.LAYOUT.read(fd)) for rank, fd in descriptors.items()}
        self._late += _note_waiting(parts)
        for rank, part in parts.items():
            held = self._parts.setdefault(rank, Part([], {}))
            held.events += part.events
            held.threads |= part.threads
            held.dropped += part.dropped

    def write(self) -> str:
        """Write the file and return a line that says where it is, or why it is not there."""
        base = trace.first_time(self._parts)
        numbers = itertools.count(1)
        arrows = (event for late in self._late for event in late.arrows(numbers, base))
        try:
            trace.write_file(self.path, self._parts, arrows)
        except OSError as error:
            return f"disttorch-run: the trace could not be written to {self.path}: {error.strerror}"
        return f"disttorch-run: the trace of all ranks is in {self.path}; open it in ui.perfetto.dev"


class _Late:
    """One collective: the rank that came last and those that waited for it."""

    def __init__(self, rank: int, event: Event, waiting: dict[int, Event]) -> None:
        self._rank, self._event, self._waiting = rank, event, waiting

    def arrows(self, numbers: Iterator[int], base: int) -> list[dict[str, Any]]:
        """Return flow events from the last rank to the others, at the time when it came."""
        shown = {"name": "last to arrive", "cat": COMMUNICATION, "ts": (self._event.start - base) / 1000}
        events = []
        for rank, event in self._waiting.items():
            flow = {**shown, "id": next(numbers)}
            events.append({"ph": "s", **flow, "pid": self._rank, "tid": self._event.thread})
            events.append({"ph": "f", "bp": "e", **flow, "pid": rank, "tid": event.thread})
        return events


def _note_waiting(parts: Mapping[int, Part]) -> list[_Late]:
    """Add to every collective how long its rank waited until the last one came (µs), and which one that was."""
    calls: dict[tuple[int, int, int], dict[int, Event]] = {}
    for rank, part in parts.items():
        seen: Counter[tuple[int, int]] = Counter()  # numbers begin again with a process group that is made again
        for event in part.events:
            if event.category == COMMUNICATION and event.sequence >= 0:
                call = event.group, event.sequence
                calls.setdefault((*call, seen[call]), {})[rank] = event
                seen[call] += 1
    found = []
    for sides in calls.values():
        last = max(sides, key=lambda rank: sides[rank].start)
        arrived = sides[last].start
        if len(sides) < 2 or any(event.end < arrived for event in sides.values()):
            continue  # the ranks did not meet in it: a broadcast goes on when the data is sent
        for event in sides.values():
            event.args = {**event.args, "waiting_us": (arrived - event.start) / 1000, "last_rank": last}
        waiting = {rank: event for rank, event in sides.items() if rank != last}
        found.append(_Late(last, sides[last], waiting))
    return found
