"""The agent: runs the workers of one host, again after a failure if it may, and leaves nothing behind.

One thread, one poll over everything that can happen: a worker's message, its end (a pidfd), its
output, a request to the store, a signal.
"""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

from disttorch_run.attempt import Attempt
from disttorch_run.events import Loop
from disttorch_run.failure import Failure
from disttorch_run.guard import Guard
from disttorch_run.options import Options

__all__ = ["Agent", "Options"]


class Agent:
    """Runs what `options` say. `run` returns the exit code; `failure`, `results` ... tell about the last attempt."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.restarts = 0
        self.failure: Failure | None = None
        self.results: dict[int, bytes] = {}
        self.stacks = ""
        self.folder: Path | None = None
        self._attempt: Attempt | None = None

    def run(self) -> int:
        """Start the workers, wait for their end, leave nothing behind; return the exit code."""
        options = self.options
        with contextlib.ExitStack() as stack:
            self._loop = Loop()
            if options.logs.writes_files:
                self.folder = options.logs.create_folder(options.label)
                if options.logs.folder is None:
                    options.say(f"disttorch-run: logs in {self.folder}")
            self._guard = Guard()
            stack.callback(self._guard.close)
            stack.enter_context(self._loop.signals(_caught(options.signals), self._interrupted))
            if options.limit is not None:
                self._loop.call_later(options.limit, self._time_out)
            while True:
                attempt = self._run_attempt()
                if not self._may_restart(attempt):
                    return attempt.exit_code
                self.restarts += 1
                options.say(
                    f"disttorch-run: starting all ranks again, restart {self.restarts} of {options.max_restarts}"
                )

    def _run_attempt(self) -> Attempt:
        with Attempt(self.options, self._loop, self._guard, self.restarts, self.folder) as attempt:
            self._attempt = attempt
            while not attempt.done:
                attempt.step()
        self.failure, self.results, self.stacks = attempt.failure, attempt.results, attempt.stacks
        return attempt

    def _may_restart(self, attempt: Attempt) -> bool:
        failed = attempt.failure is not None and attempt.stopped_by is None and not attempt.timed_out
        return failed and self.restarts < self.options.max_restarts

    def _interrupted(self, number: signal.Signals) -> None:
        if self._attempt is not None:
            self._attempt.interrupt(number)

    def _time_out(self) -> None:
        if self._attempt is not None:
            self._attempt.time_out()


def _caught(numbers: tuple[signal.Signals, ...]) -> list[signal.Signals]:
    """Return the signals to pass on: all of `numbers`, but no SIGHUP that `nohup` wants to be ignored."""
    return [n for n in numbers if not (n == signal.SIGHUP and signal.getsignal(n) is signal.SIG_IGN)]
