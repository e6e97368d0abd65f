"""What the agent makes of the workers' flight recorders when something has gone wrong.

A summary for the terminal: how far all ranks have come, and where each one is. And, with a folder
for logs, all records of every rank as JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from disttorch.distributed import flight
from disttorch.distributed.flight import FAILED, QUEUED, RUNNING, Group, Record, Recording

_HEAD = "disttorch-run: where the ranks were in their collectives:"
_OPEN = (QUEUED, RUNNING)
_MOST_GROUPS = 4


class FlightReport:
    """Reads the recorders of a run's workers; `text` is for the first thing that goes wrong, and "" afterwards."""

    def __init__(self, log_dir: Path | None = None) -> None:
        self._log_dir = log_dir
        self._given = False

    def text(self, descriptors: Mapping[int, int], waited: float = 0.0) -> str:
        """Return the summary and write the files; "" if no rank has called a collective.

        descriptors: each rank's, made by `flight.LAYOUT.create`. waited: only if a rank has been in its collective for so
        many seconds.
        """
        if self._given:
            return ""
        recordings, now = read(descriptors), time.monotonic_ns()
        if not any(held.records for held in recordings.values()) or longest_wait(recordings, now) < waited:
            return ""
        self._given = True
        lines = [_HEAD, *summary(recordings, now)]
        if self._log_dir is not None:
            lines.append(save(recordings, self._log_dir))
        return "\n".join(lines)


def read(descriptors: Mapping[int, int]) -> dict[int, Recording]:
    """Return what each rank has recorded so far; the workers may be running, stopped or gone."""
    copies = {rank: flight.LAYOUT.read(fd) for rank, fd in descriptors.items()}
    return {rank: flight.parse(data) for rank, data in copies.items()}


def longest_wait(recordings: Mapping[int, Recording], now: int) -> float:
    """Return for how many seconds the rank that has waited longest has been in its collective; 0 if none is in one."""
    begun = [r.started for recording in recordings.values() for r in recording.records if r.state == RUNNING]
    return max((now - start for start in begun), default=0) / 1e9


def save(recordings: Mapping[int, Recording], folder: Path) -> str:
    """Write `flight.rankR.json` for every rank, in the form of torch's flight recorder; return a line that says so."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for rank, recording in recordings.items():
            content = {"rank": rank, "world_size": len(recordings), **recording.as_dict()}
            (folder / f"flight.rank{rank}.json").write_text(json.dumps(content, indent=1) + "\n")
    except OSError as error:
        return f"  the records could not be written to {folder}: {error.strerror}"
    return f"  the last {flight.RECORDS} collectives of each rank are in {folder}/flight.rank*.json"


def summary(recordings: Mapping[int, Recording], now: int) -> list[str]:
    """Return the lines of the summary: what all ranks have finished, then each rank or ranks alike.

    now: of the monotonic clock, in nanoseconds.
    """
    view = _View(recordings)
    said: dict[tuple[str, str], list[int]] = {}
    times: dict[tuple[str, str], int] = {}
    for rank in sorted(recordings):
        text, begun, after = view.of_rank(rank)
        said.setdefault((text, after), []).append(rank)
        times[text, after] = min(begun, times.get((text, after), begun))
    lines = [line for number in view.groups[:_MOST_GROUPS] if (line := view.progress(number))]
    for (text, after), ranks in said.items():
        passed = f"{max(0, now - times[text, after]) / 1e9:.1f} s" if times[text, after] else ""
        lines.append(f"{_ranks(ranks)}: {text}{passed}{after}")
    return [f"  {line}" for line in lines]


class _View:
    """The recordings, with questions about them answered."""

    def __init__(self, recordings: Mapping[int, Recording]) -> None:
        self._recordings = recordings
        self._known: dict[int, Group] = {}
        for recording in recordings.values():
            self._known.update(recording.groups)
        latest: dict[int, int] = {}
        for recording in recordings.values():
            for record in recording.records:
                latest[record.group] = max(latest.get(record.group, 0), record.created)
        self.groups = sorted(latest, key=lambda number: -latest[number])

    def progress(self, number: int) -> str:
        """Say which was the last collective of a group that all its ranks have finished."""
        ranks = [rank for rank in self._members(number) if rank in self._recordings]
        last = [self._last(rank, number, lambda r: r.state == flight.DONE and not r.is_p2p) for rank in ranks]
        finished = [record for record in last if record is not None]
        if len(finished) < max(2, len(ranks)):
            return ""
        first = min(finished, key=lambda record: record.sequence)
        who = "all ranks" if len(ranks) == len(self._recordings) else _ranks(ranks)
        return f"{who} have finished {self._name(first)}"

    def of_rank(self, rank: int) -> tuple[str, int, str]:
        """Say where one rank is: a text, a time in nanoseconds since which it is so (0: none), and what follows it."""
        records = self._recordings[rank].records
        running = [r for r in records if r.state == RUNNING]
        queued = [r for r in records if r.state == QUEUED]
        others = len(running[1:]) + len(queued)
        more = f", {others} more under way or queued" if others else ""
        if running:
            missing = running[0].waiting or self._missing(rank, running[0])
            doing = f"waiting for {_ranks(missing)} in" if missing else "in"
            return f"{doing} {self._name(running[0])}, for ", running[0].started, more
        if records and records[-1].state == FAILED:
            return f"failed in {self._name(records[-1])}: {records[-1].error}", 0, ""
        if queued:
            return f"asked for {self._name(queued[0])}, which has not begun after ", queued[0].created, more
        if records:
            last = max(records, key=lambda r: (r.ended, r.serial))
            return f"in no collective since the end of {self._name(last)}, ", last.ended, " ago"
        return "no collective yet", 0, ""

    def _missing(self, rank: int, record: Record) -> Sequence[int]:
        """Return the ranks of this host that have not begun a collective which another rank is in."""
        missing = []
        for other in self._members(record.group):
            if other != rank and other in self._recordings:
                begun = self._last(other, record.group, lambda r: r.state != QUEUED)
                if begun is None or begun.sequence < record.sequence:
                    missing.append(other)
        return missing

    def _members(self, number: int) -> Sequence[int]:
        """Return a group's ranks: as noted, else those that have used it, and all for the group of all ranks."""
        known = self._known.get(number)
        if known is not None and known.ranks:
            return known.ranks
        if number == 0:
            return sorted(self._recordings)
        return [rank for rank, held in self._recordings.items() if any(r.group == number for r in held.records)]

    def _last(self, rank: int, number: int, wanted: Callable[[Record], bool]) -> Record | None:
        found = [r for r in self._recordings[rank].records if r.group == number and wanted(r)]
        return found[-1] if found else None

    def _name(self, record: Record) -> str:
        """Return a collective's number and description; its group, too, if there are several."""
        known = self._known.get(record.group)
        group = (known.name if known is not None else "") or f"group {record.group}"
        where = f" of {group}" if len(self.groups) > 1 else ""
        return f"#{record.sequence}{where}, {record.describe()}"


def _ranks(ranks: Sequence[int]) -> str:
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))}"
