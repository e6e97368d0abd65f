"""Kills what the workers left behind when the launcher itself is killed.

Runs as a process of its own, with nothing but the standard library. Standard input is a pipe from
the launcher with lines `+PID` and `-PID`: a worker (and its process group) has begun, has ended.
When the pipe closes, the launcher is gone, and every group that is still listed is killed: the
workers' own children too, which no parent-death signal reaches. A line `=HEX` holds what to write
to standard error then, so that the terminal is as it was before the status line.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys


class Guard:
    """The launcher's handle of its guard process."""

    def __init__(self, terminal: int = subprocess.DEVNULL) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=terminal,
            start_new_session=True,
        )

    def add(self, pid: int) -> None:
        """Watch over the process group `pid`."""
        self._tell(f"+{pid}\n")

    def remove(self, pid: int) -> None:
        """Forget the process group `pid`."""
        self._tell(f"-{pid}\n")

    def leave_word(self, text: str) -> None:
        """Write `text` to the terminal should the launcher die."""
        self._tell(f"={text.encode().hex()}\n")

    def close(self) -> None:
        """End the guard; groups that it still knows are killed."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        """Send a line; nothing happens when the guard has been killed: the run goes on without one."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()


def watch() -> None:
    """Be the guard."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    word = b""
    for line in sys.stdin:
        if line[0] == "=":
            word = bytes.fromhex(line[1:])
        else:
            (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for pid in groups:
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.write(2, word)


if __name__ == "__main__":
    watch()
