"""The agent: runs the workers of one host, again after a failure if it may, and leaves nothing behind.

One thread, one poll over everything that can happen: a worker's message, its end (a pidfd), its
output, a request to the store, a browser's, a signal.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import subprocess
import time
from pathlib import Path

from disttorch_run.attempt import Attempt, Run
from disttorch_run.dashboard import Dashboard
from disttorch_run.events import Loop
from disttorch_run.failure import Failure
from disttorch_run.guard import Guard
from disttorch_run.options import Options, say
from disttorch_run.output import STDERR, STDOUT, Terminal
from disttorch_run.status import Board
from disttorch_run.terminal import BottomLine, PlainLine, is_capable
from disttorch_run.trace import TraceFile

__all__ = ["Agent", "Options"]

_TERMINAL = 2
_TICK_SECONDS = 1.0
_LAST_LINES_SECONDS = 1.0
_MOST_DESCRIPTORS = 1 << 20


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
        self._stopped = False
        self._line: BottomLine | PlainLine | None = None

    def run(self) -> int:
        """Start the workers, wait for their end, leave nothing behind; return the exit code."""
        options = self.options
        with contextlib.ExitStack() as stack:
            run = self._prepare(stack)
            while True:
                attempt = self._run_attempt(run)
                if not self._may_restart(attempt):
                    self._finish_output()
                    return attempt.exit_code
                self.restarts += 1
                options.say(
                    f"disttorch-run: starting all ranks again, restart {self.restarts} of {options.max_restarts}"
                )

    def _prepare(self, stack: contextlib.ExitStack) -> Run:
        """Make everything that lasts longer than an attempt, and have `stack` take it apart again."""
        options = self.options
        _allow_descriptors()
        trace = TraceFile(options.trace) if options.trace is not None else None
        if options.logs.writes_files:
            self.folder = options.logs.create_folder(options.label)
            if options.logs.folder is None:
                options.say(f"disttorch-run: logs in {self.folder}")
        self._loop = Loop()
        self._terminals = {which: Terminal(which, self._loop) for which in (STDOUT, STDERR)}
        for terminal in self._terminals.values():
            stack.callback(terminal.close)
        if options.say is say:
            options.say = self._say
        guard = self._prepare_status(stack)
        stack.enter_context(self._loop.signals(self._caught(), self._interrupted))
        if options.limit is not None:
            self._loop.call_later(options.limit, self._time_out)
        if trace is not None:
            stack.callback(lambda: options.say(trace.write()))
        return Run(options, self._loop, guard, self.board, self._terminals, self.folder, trace)

    def _run_attempt(self, run: Run) -> Attempt:
        with Attempt(run, self.restarts) as attempt:
            self._attempt = attempt
            while not attempt.done:
                attempt.step()
        self.failure, self.results, self.stacks = attempt.failure, attempt.results, attempt.stacks
        return attempt

    def _say(self, text: str) -> None:
        """Write a message without waiting for who reads it."""
        self._terminals[STDERR].write(f"{text}\n".encode(errors="replace"))

    def _may_restart(self, attempt: Attempt) -> bool:
        failed = attempt.failure is not None and attempt.stopped_by is None and not attempt.timed_out
        return failed and self.restarts < self.options.max_restarts

    def _finish_output(self) -> None:
        """Wait until somebody has read the last lines; after a signal only for a moment."""
        until = time.monotonic() + _LAST_LINES_SECONDS
        while any(terminal.pending for terminal in self._terminals.values()):
            if self._stopped and time.monotonic() >= until:
                return
            self._loop.step(until if self._stopped else None)

    def _time_out(self) -> None:
        if self._attempt is not None:
            self._attempt.time_out()

    # Status

    def _prepare_status(self, stack: contextlib.ExitStack) -> Guard:
        """Start the guard, and what shows how far the ranks are."""
        options = self.options
        bottom = options.status is not False and is_capable(_TERMINAL)
        guard = Guard(_TERMINAL if bottom else subprocess.DEVNULL)
        stack.callback(guard.close)
        if bottom:
            self._line = BottomLine(_TERMINAL, guard.leave_word)
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
        return guard

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
            self._stopped = True
            self._attempt.interrupt(number)


def _allow_descriptors() -> None:
    """Let this process open as many files as it may: who connects to the store without its key takes some, for a while."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
