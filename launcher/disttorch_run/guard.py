"""Kills what the workers left behind when the launcher itself is killed.

Runs as a process of its own, with nothing but the standard library. Standard input is a pipe from
the launcher with lines `+PID` and `-PID`: a worker (and its process group) has begun, has ended.
When the pipe closes, the launcher is gone, and every group that is still listed is killed: the
workers' own children too, which no parent-death signal reaches.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys


class Guard:
    """The launcher's handle of its guard process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def add(self, pid: int) -> None:
        """Watch over the process group `pid`."""
        self._tell(f"+{pid}\n")

    def remove(self, pid: int) -> None:
        """Forget the process group `pid`."""
        self._tell(f"-{pid}\n")

    def close(self) -> None:
        """End the guard; groups that it still knows are killed."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()


def watch() -> None:
    """Be the guard."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        pid = int(line[1:])
        (groups.add if line[0] == "+" else groups.discard)(pid)
    for pid in groups:
        try:
            os.killpg(pid, signal.SIGKILL)
        except OSError:
            continue


if __name__ == "__main__":
    watch()
