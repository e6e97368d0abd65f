"""What went wrong with a worker, in words."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from disttorch_run.process import Worker

_STACK_SECONDS = 1.0
_OWN_THREAD = 'agent_link.py"'


@dataclass
class Failure:
    """The first failure of a run: which rank, one sentence, its traceback or "", its exit code if it has ended."""

    rank: int
    reason: str
    traceback: str = ""
    code: int | None = None

    def text(self, pid: int, attempt: str = "", collectives: str = "") -> str:
        """Return what the launcher prints: the traceback, where the ranks were, the culprit and which attempt this was."""
        reason, *more = self.reason.splitlines() or ["failed"]
        who = f"rank {self.rank} (pid {pid})"
        summary = f"disttorch-run: {who} {reason.rstrip(':')}; the other ranks are stopped{attempt}"
        if more and not self.traceback:
            summary = "\n".join([summary, *more])
        parts = [self.traceback and self.traceback + "\n", collectives and collectives + "\n", summary]
        return "".join(parts)


def describe_exit(code: int, kills_before: int) -> str:
    """Say how a process ended. code: as `subprocess` gives it; kills_before: `out_of_memory_kills` at the start."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    reason = f"was killed by signal {-code} ({name})"
    if -code == signal.SIGKILL and out_of_memory_kills() > kills_before:
        reason += ": the kernel ran out of memory"
    return reason


def out_of_memory_kills() -> int:
    """Return how many processes of this control group the kernel has killed for memory; 0 where it does not say."""
    try:
        entries = Path("/proc/self/cgroup").read_text().splitlines()
        group = next(line[3:] for line in entries if line.startswith("0::"))
        events = Path(f"/sys/fs/cgroup{group}/memory.events").read_text().split()
        return int(events[events.index("oom_kill") + 1])
    except (OSError, StopIteration, ValueError, IndexError):
        return 0


def stacks_of(workers: Sequence[Worker]) -> str:
    """Return the Python stacks of all workers that can give them, and what the others are doing."""
    asked = [worker for worker in workers if worker.ask_for_stacks()]
    until = time.monotonic() + _STACK_SECONDS
    while time.monotonic() < until and not all(worker.stacks() for worker in asked):
        time.sleep(0.02)
    time.sleep(0.05)  # a stack is written line by line
    parts = []
    for worker in workers:
        stack = _without_own_threads(worker.stacks()) if worker in asked else ""
        head = f"rank {worker.rank} (pid {worker.pid}, {worker.state()})"
        parts.append(f"{head}:\n{stack}" if stack else f"{head}: no stack")
    return "\n\n".join(parts)


def _without_own_threads(stacks: str) -> str:
    """Leave out the thread that watches the agent; the user's threads are what matters."""
    threads = stacks.split("\n\n")
    return "\n\n".join(thread for thread in threads if _OWN_THREAD not in thread) or stacks
