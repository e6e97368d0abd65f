"""The worker processes of one loader, and the wait for what they send."""

from __future__ import annotations

import atexit
import contextlib
import os
import selectors
import signal
import time
import weakref
from collections.abc import Sequence

from disttorch.utils.data._utils.channel import LoaderEnd, channel_pair
from disttorch.utils.data._utils.launch import Process, Start

# How long workers may take to finish what they are doing before they are told to stop, and then before they are killed.
FINISH_SECONDS = 1.0
TERMINATE_SECONDS = 1.0

_exiting = False


def _note_exit() -> None:
    global _exiting
    _exiting = True


class WorkerDiedError(RuntimeError):
    """A worker process ended by itself. `worker` is its number."""

    def __init__(self, worker: int, pid: int | None, exitcode: int | None) -> None:
        super().__init__(f"DataLoader worker {worker} (pid {pid}) {_how_it_ended(exitcode)}")
        self.worker = worker


def _how_it_ended(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"exited unexpectedly with exit code {exitcode}"
    name = signal.Signals(-exitcode).name if -exitcode in set(signal.Signals) else f"signal {-exitcode}"
    hint = {
        signal.SIGKILL: "; the system kills processes when memory runs out: use fewer workers or smaller batches",
        signal.SIGBUS: "; shared memory may have run out: use fewer workers or smaller batches",
    }.get(signal.Signals(-exitcode) if -exitcode in set(signal.Signals) else signal.SIGTERM, "")
    return f"is killed by signal: {name}{hint}"


class Pool:
    """Running workers; `close` ends them, and so does the end of this object or of the process."""

    def __init__(self, start: Start, count: int) -> None:
        self._workers = Workers(start)
        _pools.add(self._workers)
        self.close = weakref.finalize(self, self._workers.close)
        _register_exit()
        try:
            for k in range(count):
                self._workers.add(k)
        except BaseException:
            self.close()
            raise

    def post(self, worker: int, payload: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send a message to one worker, as soon as it has room."""
        self._workers.post(worker, payload, descriptors)

    def wait(self, timeout: float | None) -> list[tuple[int, bytes]]:
        """Return what workers have sent, (worker, message) each; wait for it at most `timeout` seconds.

        Raises WorkerDiedError for a worker that has ended, after everything that it had sent was returned.
        """
        return self._workers.wait(timeout)

    def pids(self) -> list[int | None]:
        """Return the process ids of the workers."""
        return [process.pid for process in self._workers.processes]


class Workers:
    """The processes and channels of a pool, which outlive it until they are closed."""

    def __init__(self, start: Start) -> None:
        self.start = start  # also keeps the server of these workers, if they have one
        self.processes: list[Process] = []
        self.ends: list[LoaderEnd] = []
        self.selector = selectors.DefaultSelector()
        self.owner = os.getpid()

    def add(self, number: int) -> None:
        """Start one more worker."""
        end, sock = channel_pair()
        self.ends.append(end)
        try:
            process = self.start(sock, number)
        finally:
            sock.close()
        self.processes.append(process)
        self.selector.register(end, selectors.EVENT_READ, number)
        self.selector.register(process.sentinel, selectors.EVENT_READ, number)

    def wait(self, timeout: float | None) -> list[tuple[int, bytes]]:
        """Wait for messages; see `Pool.wait`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            messages: list[tuple[int, bytes]] = []
            dead = None
            for key, events in self.selector.select(left):
                number = key.data
                if key.fd == self.processes[number].sentinel:
                    dead = number
                messages += self._serve(number, events)
            if messages:
                return messages
            if dead is not None:
                process = self.processes[dead]
                process.join(TERMINATE_SECONDS)
                raise WorkerDiedError(dead, process.pid, process.exitcode)
            if deadline is not None and time.monotonic() >= deadline:
                return []

    def post(self, number: int, payload: bytes, descriptors: Sequence[int]) -> None:
        """Send a message; see `Pool.post`."""
        end = self.ends[number]
        end.post(payload, descriptors)
        if end.pending and not end.ended:
            self.selector.modify(end, selectors.EVENT_READ | selectors.EVENT_WRITE, number)

    def _serve(self, number: int, events: int) -> list[tuple[int, bytes]]:
        end = self.ends[number]
        if end.ended:
            return []
        if events & selectors.EVENT_WRITE:
            end.flush()
            if not end.pending:
                self.selector.modify(end, selectors.EVENT_READ, number)
        messages = [(number, message) for message in end.read()]
        if end.ended:
            self.selector.unregister(end)
        return messages

    def close(self) -> None:
        """End all workers: let them finish their batch, then SIGTERM, then SIGKILL.

        One that is stopped goes on: it finds its channel closed, and ends.
        """
        if self.owner != os.getpid():
            return
        _pools.discard(self)
        for end in self.ends:
            end.close()
        self._join(0.0)  # notices who has ended: their numbers may be other processes' by now
        for process in self._running():
            if process.pid is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(process.pid, signal.SIGCONT)
        try:
            self._join(0.0 if _exiting else FINISH_SECONDS)
            for process in self._running():
                process.terminate()
            self._join(TERMINATE_SECONDS)
        finally:
            for process in self._running():
                process.kill()
            self._join(TERMINATE_SECONDS)
            self._forget()

    def _running(self) -> list[Process]:
        return [process for process in self.processes if process.exitcode is None]

    def _join(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))

    def _forget(self) -> None:
        for process in self.processes:
            if process.exitcode is not None:
                process.close()
        self.selector.close()

    def disown(self) -> None:
        """In a fork: close what belongs to the parent."""
        for end in self.ends:
            end.close()


_pools: set[Workers] = set()
_exit_registered = False


def _register_exit() -> None:
    # After the first `finalize` has registered its own hook, so that ours comes before it: hooks run last in, first out.
    global _exit_registered
    if not _exit_registered:
        _exit_registered = True
        atexit.register(_note_exit)


def close_inherited() -> None:
    """In a worker that is a fork: close the channels of all pools, so that their workers see the loader's end close."""
    for workers in list(_pools):
        workers.disown()
