"""How far this process is: counters for the launcher's status line and dashboard.

Whoever trains or waits adds to them; the monitor thread sends them to the agent once a second when
they have changed. All functions may be called from any thread and cost well under a microsecond.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

_MAX_NAME = 200


class Progress(NamedTuple):
    """What this process has done since it began.

    steps, samples: as counted; waited: seconds spent waiting for other ranks in collectives;
    phase: what it is doing ("forward", ...; "" when nobody has said); collective: the last
    collective it has entered, such as "all_reduce 12", or "".
    """

    steps: int = 0
    samples: int = 0
    waited: float = 0.0
    phase: str = ""
    collective: str = ""


_lock = threading.Lock()
_steps = 0
_samples = 0
_waited = 0.0
_phase = ""
_collective: tuple[str, int] | None = None


def step(samples: int = 0) -> None:
    """Count one optimisation step, on `samples` samples of this rank."""
    global _steps, _samples
    with _lock:
        _steps += 1
        _samples += int(samples)


def add_samples(count: int) -> None:
    """Count samples apart from a step, as when gradients are accumulated over several batches."""
    global _samples
    with _lock:
        _samples += int(count)


def waited(seconds: float) -> None:
    """Count seconds in which this rank waited for others; a long wait is best counted piece by piece."""
    global _waited
    with _lock:
        _waited += float(seconds)


def phase(name: str) -> None:
    """Say what this rank begins to do, in a word or two."""
    global _phase
    _phase = name


def collective(name: str, sequence: int) -> None:
    """Say which collective this rank enters: its name and its number in the group."""
    global _collective
    _collective = name, sequence


def read() -> Progress:
    """Return the counters as they are now."""
    entered = _collective
    with _lock:
        counts = _steps, _samples, _waited
    text = "" if entered is None else f"{entered[0]} {entered[1]}"
    return Progress(*counts, _phase[:_MAX_NAME], text[:_MAX_NAME])
