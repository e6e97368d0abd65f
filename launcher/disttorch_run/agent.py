"""The agent: runs the workers of one host, again after a failure if it may, and leaves nothing behind.

One thread, one poll over everything that can happen: a worker's message, its end (a pidfd), its
output, a request to the store, a browser's, a signal.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
from pathlib import Path

from disttorch_run.attempt import Attempt
from disttorch_run.dashboard import Dashboard
from disttorch_run.events import Loop
from disttorch_run.failure import Failure
from disttorch_run.guard import Guard
from disttorch_run.options import Options
from disttorch_run.status import Board
from disttorch_run.terminal import BottomLine, PlainLine, is_capable

__all__ = ["Agent", "Options"]

_TERMINAL = 2
_TICK_SECONDS = 1.0


class Agent:
    """Runs what `options` say. `run` returns the exit code; `failure`, `results` ... tell about the last attempt."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.restarts = 0
        self.failure: Failure | None = None
        self.results: dict[int, bytes] = {}
        self.stacks = ""
        self.folder: Path | None = None
        self.board = Board()
        self._attempt: Attempt | None = None
        self._line: BottomLine | PlainLine | None = None

    def run(self) -> int:
        """Start the workers, wait for their end, leave nothing behind; return the exit code."""
        options = self.options
        with contextlib.ExitStack() as stack:
            self._loop = Loop()
            if options.logs.writes_files:
                self.folder = options.logs.create_folder(options.label)
                if options.logs.folder is None:
                    options.say(f"disttorch-run: logs in {self.folder}")
            self._prepare_status(stack)
            stack.enter_context(self._loop.signals(self._caught(), self._interrupted))
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
        with Attempt(self.options, self._loop, self._guard, self.board, self.restarts, self.folder) as attempt:
            self._attempt = attempt
            while not attempt.done:
                attempt.step()
        self.failure, self.results, self.stacks = attempt.failure, attempt.results, attempt.stacks
        return attempt

    def _may_restart(self, attempt: Attempt) -> bool:
        failed = attempt.failure is not None and attempt.stopped_by is None and not attempt.timed_out
        return failed and self.restarts < self.options.max_restarts

    def _time_out(self) -> None:
        if self._attempt is not None:
            self._attempt.time_out()

    # Status

    def _prepare_status(self, stack: contextlib.ExitStack) -> None:
        """Start the guard, and what shows how far the ranks are."""
        options = self.options
        bottom = options.status is not False and is_capable(_TERMINAL)
        self._guard = Guard(_TERMINAL if bottom else subprocess.DEVNULL)
        stack.callback(self._guard.close)
        if bottom:
            self._line = BottomLine(_TERMINAL, self._guard.leave_word)
        elif options.status:
            self._line = PlainLine(options.say)
        if self._line is not None:
            stack.callback(self._line.close)
            self._show_line(_TICK_SECONDS if bottom else options.status_seconds)
        if options.dashboard is not None:
            dashboard = Dashboard(self._loop, self.board, options.dashboard)
            stack.callback(dashboard.close)
            options.say(f"disttorch-run: dashboard at {dashboard.url}")
            self._sample()

    def _show_line(self, seconds: float) -> None:
        text = self.board.summary()
        if text and self._line is not None:
            self._line.show(text)
        self._loop.call_later(seconds, lambda: self._show_line(seconds))

    def _sample(self) -> None:
        self.board.sample()
        self._loop.call_later(_TICK_SECONDS, self._sample)

    # Signals

    def _caught(self) -> list[signal.Signals]:
        """Return the signals to hear: those to pass on (but no SIGHUP that `nohup` wants to be ignored), and Ctrl-Z."""
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        passed = [n for n in self.options.signals if not (n == signal.SIGHUP and ignored)]
        return [*passed, signal.SIGTSTP] if isinstance(self._line, BottomLine) else passed

    def _interrupted(self, number: signal.Signals) -> None:
        if number == signal.SIGTSTP and isinstance(self._line, BottomLine):
            self._line.stop()
        elif self._attempt is not None:
            self._attempt.interrupt(number)
