"""What all ranks are doing, from the counters that they report: rates, waiting, the slowest."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from disttorch.distributed.progress import Progress
from disttorch_run.process import Worker

_WINDOW_SECONDS = 10.0
# Reports come once a second while anything changes; after this long without one a rank has stopped.
_SILENCE_SECONDS = 2.5
_HISTORY = 600
_NOTABLE_DIFFERENCE = 0.05
_MAX_TEXT = 200


@dataclass(frozen=True)
class RankStatus:
    """One rank: its last report, and over the last ten seconds its rates per second and share of time waiting.

    The rates are None until there are two reports.
    """

    rank: int
    pid: int
    state: str
    progress: Progress
    steps_per_second: float | None
    samples_per_second: float | None
    waiting: float | None


class Board:
    """Keeps the reports of the ranks of the current attempt; `history` is (seconds since the start, samples/s)."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.history: deque[tuple[float, float]] = deque(maxlen=_HISTORY)
        self.workers: Sequence[Worker] = ()
        self._reports: dict[int, deque[tuple[float, Progress]]] = {}

    def begin(self, workers: Sequence[Worker]) -> None:
        """Show these workers, of a new attempt."""
        self.workers = workers
        self._reports = {}

    def note(self, rank: int, progress: Progress) -> None:
        """Take a report; one that cannot be true is left out."""
        if min(progress.steps, progress.samples) < 0 or not 0 <= progress.waited < math.inf:
            return
        clipped = progress._replace(phase=progress.phase[:_MAX_TEXT], collective=progress.collective[:_MAX_TEXT])
        reports = self._reports.setdefault(rank, deque())
        now = time.monotonic()
        reports.append((now, clipped))
        while len(reports) > 2 and reports[1][0] < now - _WINDOW_SECONDS:
            reports.popleft()
        # Starting up is no part of the speed: count from the last report before the first step.
        while len(reports) > 1 and not reports[1][1].steps and not reports[1][1].samples:
            reports.popleft()

    def sample(self) -> None:
        """Add the present speed to the history; called about once a second."""
        if self._reports:
            rate = sum(one.samples_per_second or 0.0 for one in self.ranks())
            self.history.append((round(time.monotonic() - self.started, 1), round(rate, 2)))

    def ranks(self) -> list[RankStatus]:
        """Return what each rank does."""
        return [self._rank(worker) for worker in self.workers]

    def _rank(self, worker: Worker) -> RankStatus:
        state = worker.state() if worker.attached or worker.code is not None else "starting"
        reports = self._reports.get(worker.rank)
        if not reports:
            return RankStatus(worker.rank, worker.pid, state, Progress(), None, None, None)
        (began, first), (ended, last) = reports[0], reports[-1]
        now = time.monotonic()
        if now - ended > _SILENCE_SECONDS:
            ended = now
        seconds = ended - began
        rates: list[float | None] = [None, None, None]
        if seconds > 0:
            gains = (last.steps - first.steps, last.samples - first.samples, last.waited - first.waited)
            rates = [max(0.0, gain) / seconds for gain in gains]
        waiting = None if rates[2] is None else min(1.0, rates[2])
        return RankStatus(worker.rank, worker.pid, state, last, rates[0], rates[1], waiting)

    def summary(self) -> str:
        """Return one line about all ranks; "" before any has done a step."""
        ranks = self.ranks()
        return summarize(ranks) if any(one.progress.steps or one.progress.samples for one in ranks) else ""

    def as_json(self) -> dict[str, Any]:
        """Return everything that the dashboard shows, as plain values."""
        ranks = self.ranks()
        return {
            "seconds": round(time.monotonic() - self.started, 1),
            "summary": self.summary() or "no rank has done a step yet",
            "slowest": slowest(ranks),
            "history": list(self.history),
            "ranks": [
                {
                    "rank": one.rank,
                    "pid": one.pid,
                    "state": one.state,
                    "steps": one.progress.steps,
                    "samples": one.progress.samples,
                    "samples_per_second": _rounded(one.samples_per_second),
                    "waiting": _rounded(one.waiting),
                    "phase": one.progress.phase,
                    "collective": one.progress.collective,
                }
                for one in ranks
            ],
        }


def summarize(ranks: Sequence[RankStatus]) -> str:
    """Say in one line how far the ranks are, how fast, how much they wait and for whom."""
    # Ranks report at different moments; the least is what all have done.
    parts = [f"step {min((one.progress.steps for one in ranks if one.progress.steps), default=0):,}"]
    known = [one for one in ranks if one.waiting is not None]
    if known:
        rate = sum(one.samples_per_second or 0.0 for one in known)
        if any(one.progress.samples for one in ranks):
            parts.append(f"{_figure(rate)} samples/s")
        else:
            parts.append(f"{_figure(min(one.steps_per_second or 0.0 for one in known))} steps/s")
        parts.append(f"waiting {sum(one.waiting or 0.0 for one in known) / len(known):.0%}")
    behind = slowest(ranks)
    if behind is not None:
        parts.append(f"slowest rank {behind}")
    return " | ".join(parts)


def slowest(ranks: Sequence[RankStatus]) -> int | None:
    """Return the rank that the others wait for: it waits least; None if all wait about as long."""
    known = sorted((one.waiting, one.rank) for one in ranks if one.waiting is not None)
    if len(known) < 2 or known[-1][0] - known[0][0] < _NOTABLE_DIFFERENCE:
        return None
    return known[0][1]


def _figure(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)
