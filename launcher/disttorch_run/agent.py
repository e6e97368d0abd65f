"""The agent: starts the workers of one host, serves their store and segments, and ends them together.

One thread, one poll over everything that can happen: a worker's message, its end (a pidfd), its
output, a request to the store, a signal.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from disttorch.distributed.errors import ProtocolError
from disttorch.distributed.progress import Progress
from disttorch.distributed.store_table import StoreServer
from disttorch_run.failure import Failure, describe_exit, out_of_memory_kills, stacks_of
from disttorch_run.guard import Guard
from disttorch_run.output import Stream
from disttorch_run.placement import Placement
from disttorch_run.process import STDERR, STDOUT, Worker, environment_for
from disttorch_run.segments import SegmentServer

# How long a worker has to raise PeerFailed before it is killed; it sits in code that no exception
# can interrupt.
UNWIND_SECONDS = 1.0
_LOOPBACK = "127.0.0.1"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Options:
    """What to run: `command` as `disttorch_run.worker` takes it, and one placement per worker.

    port: the store's (0: any); label: the run's name; run: its random identity; grace: seconds
    that workers have to end after a signal or a failure; timeout: of a collective; tee, redirect:
    which streams (STDOUT, STDERR) of each rank go to a file in `log_dir` and to the terminal, or
    to the file only; limit: seconds after which the run is ended (None: never).
    """

    command: list[str]
    placements: list[Placement]
    port: int = 0
    label: str = ""
    run: str = field(default_factory=lambda: secrets.token_hex(16))
    grace: float = 30.0
    timeout: float = 600.0
    oversubscribed: bool = False
    log_dir: Path | None = None
    tee: dict[int, int] = field(default_factory=dict)
    redirect: dict[int, int] = field(default_factory=dict)
    limit: float | None = None
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)


class Agent:
    """Runs the workers once. `run` returns the exit code; `failure` and `results` tell more."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.failure: Failure | None = None
        self.results: dict[int, bytes] = {}
        self.stacks = ""
        self.timed_out = False
        self._workers: list[Worker] = []
        self._stopped_by: signal.Signals | None = None
        self._kill_at: dict[int, float] = {}
        self._warned: set[tuple[int, ...]] = set()
        self._out_of_memory = 0

    def run(self) -> int:
        """Start the workers, wait for their end, leave nothing behind; return the exit code."""
        import zmq

        self._poller = zmq.Poller()
        self._handlers: dict[Any, Callable[[], None]] = {}
        self._out_of_memory = out_of_memory_kills()
        with contextlib.ExitStack() as stack:
            self._store = StoreServer(_LOOPBACK, self.options.port)
            stack.callback(self._store.close)
            self._watch(self._store.socket, self._store.serve)
            self._segments = SegmentServer(len(self.options.placements))
            stack.callback(self._segments.close)
            self._guard = Guard()
            stack.callback(self._guard.close)
            stack.enter_context(self._signals())
            stack.callback(self._end_all)
            self._limit = time.monotonic() + (self.options.limit or float("inf"))
            for rank in range(len(self.options.placements)):
                self._start(rank)
            while any(worker.code is None for worker in self._workers):
                self._step()
        return self._exit_code()

    def _start(self, rank: int) -> None:
        options, size = self.options, len(self.options.placements)
        place = options.placements[rank]
        worker = Worker(rank)
        self._workers.append(worker)
        environment = environment_for(options.environment, rank, size, self._store.port, options.label or "none", place)
        outputs = {which: self._stream(rank, which) for which in (STDOUT, STDERR)}
        if outputs[STDOUT] is not None:
            environment.setdefault("PYTHONUNBUFFERED", "1")
        worker.send(
            "welcome",
            run=options.run,
            rank=rank,
            world_size=size,
            local_rank=rank,
            local_world_size=size,
            store=self._store.address,
            store_key=self._store.key,
            timeout=options.timeout,
            oversubscribed=options.oversubscribed,
        )
        worker.start(options.command, environment, outputs)
        self._guard.add(worker.pid)
        self._watch(worker.pidfd, lambda: self._ended(worker))
        self._watch(worker.socket, lambda: self._listen(worker))
        for stream in worker.streams:
            self._watch(stream.fd, partial(self._pump, stream))

    def _stream(self, rank: int, which: int) -> Stream | None:
        """Return how a stream of a worker is shown; None: the worker writes to the terminal itself."""
        tee, redirect = (m.get(rank, 0) & which for m in (self.options.tee, self.options.redirect))
        if not (tee or redirect):
            return None if rank == 0 else Stream(f"[rank{rank}] ", which, None)
        assert self.options.log_dir is not None
        folder = self.options.log_dir / f"rank{rank}"
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / ("stdout.log" if which == STDOUT else "stderr.log")
        return Stream("" if rank == 0 else f"[rank{rank}] ", which if tee else -1, log)

    # What can happen

    def _step(self) -> None:
        """Wait for something to happen, deal with it, then with what is due."""
        for source, _ in self._poller.poll(self._milliseconds_to_next()):
            handler = self._handlers.get(source)
            if handler is not None:
                handler()
        now = time.monotonic()
        self._store.expire()
        for rank, at in list(self._kill_at.items()):
            if now >= at:
                del self._kill_at[rank]
                self._workers[rank].kill()
        if now >= self._limit:
            self._limit = float("inf")
            self.timed_out = True
            self.stacks = stacks_of(self._workers)
            self._kill_all()

    def _milliseconds_to_next(self) -> int | None:
        store = self._store.next_deadline()
        dates = [*self._kill_at.values(), self._limit, *([store] if store is not None else [])]
        soonest = min(dates)
        if soonest == float("inf"):
            return None
        return max(0, int((soonest - time.monotonic()) * 1000) + 1)

    def _watch(self, source: Any, handler: Callable[[], None]) -> None:
        import zmq

        self._poller.register(source, zmq.POLLIN)
        key = source.fileno() if isinstance(source, socket.socket) else source
        self._handlers[key] = handler

    def _pump(self, stream: Stream) -> None:
        if not stream.pump():
            self._forget(stream.fd)

    def _forget(self, source: Any) -> None:
        with contextlib.suppress(KeyError):
            self._poller.unregister(source)
            self._handlers.pop(source.fileno() if isinstance(source, socket.socket) else source, None)

    def _listen(self, worker: Worker) -> None:
        """Deal with the messages of a worker."""
        try:
            while (message := worker.receive()) is not None:
                self._handle(worker, message)
        except ProtocolError as error:
            worker.kill()
            self._fail(Failure(worker.rank, f"sent the launcher something malformed: {error}"))

    def _handle(self, worker: Worker, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "ready":
            worker.attached = True
            self._tell_failure(worker)
        elif kind == "unwinding":
            worker.unwinding = True
            self._kill_later(worker, self.options.grace)
        elif kind == "segment_request":
            self._segments.answer(worker, message["key"], message["size"])
        elif kind == "waiting":
            self._note_waiting(worker, message)
        elif kind == "progress":
            worker.progress = Progress(*(message[name] for name in Progress._fields))
        elif kind == "result":
            self.results[worker.rank] = message["data"]
        elif kind == "failed":
            worker.reported = True
            if message["cause"] < 0 or self.failure is None:
                self._fail(Failure(worker.rank, message["reason"], message["traceback"]))

    def _ended(self, worker: Worker) -> None:
        """A worker's process has ended: kill what it left running, then collect it.

        In this order: until it is collected its number cannot become another process's.
        """
        self._listen(worker)
        worker.kill()
        for source in (worker.pidfd, worker.socket, *(stream.fd for stream in worker.streams)):
            self._forget(source)
        code = worker.reap()
        self._guard.remove(worker.pid)
        self._kill_at.pop(worker.rank, None)
        for stream in worker.streams:
            stream.pump()
        if code != 0 and not worker.reported and self._stopped_by is None and not self.timed_out:
            reason = describe_exit(code, self._out_of_memory)
            self._fail(Failure(worker.rank, reason, code=worker.code))
        for other in self._workers:
            if other is not worker:
                other.send("left", rank=worker.rank)

    def _fail(self, failure: Failure) -> None:
        """A rank has failed: print why, tell the other ranks, and see that they end."""
        if self.failure is not None or self._stopped_by is not None or self.timed_out:
            return
        self.failure = failure
        self.options.say(failure.text(self._workers[failure.rank].pid))
        for worker in self._workers:
            if worker.code is None:
                self._tell_failure(worker)

    def _tell_failure(self, worker: Worker) -> None:
        """Make one worker stop because another has failed."""
        failure = self.failure
        if failure is None:
            return
        if worker.rank == failure.rank:
            self._kill_later(worker, self.options.grace)
        elif worker.attached:
            worker.send("abort", rank=failure.rank, reason=failure.reason, traceback=failure.traceback)
            self._kill_later(worker, UNWIND_SECONDS)
        else:
            worker.signal(signal.SIGTERM)
            self._kill_later(worker, UNWIND_SECONDS)

    def _note_waiting(self, worker: Worker, message: dict[str, Any]) -> None:
        """A worker waits for others in a collective: say who is missing, and at the time-out where everybody is."""
        missing = tuple(rank for rank in message["missing"] if rank in range(len(self._workers)))
        if not message["final"] and missing in self._warned:
            return
        self._warned.add(missing)
        states = ", ".join(f"rank {r} (pid {self._workers[r].pid}, {self._workers[r].state()})" for r in missing)
        self.options.say(
            f"disttorch-run: rank {worker.rank} has waited {message['seconds']:.0f} s in {message['what']} for {states}"
        )
        if message["final"] and not self.stacks:
            self.stacks = stacks_of(self._workers)
            self.options.say(self.stacks)

    # Ending

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Have SIGINT, SIGTERM and SIGHUP arrive in the poll; outside of the main thread leave them alone."""
        try:
            caught = [n for n in _SIGNALS if not _is_ignored_hangup(n)]
            previous = {number: signal.signal(number, lambda *_: None) for number in caught}
        except ValueError:
            yield
            return
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        old = signal.set_wakeup_fd(far.fileno(), warn_on_full_buffer=False)
        self._watch(near, lambda: self._interrupted(near.recv(64)))
        try:
            yield
        finally:
            signal.set_wakeup_fd(old)
            for number, handler in previous.items():
                signal.signal(number, handler)
            near.close()
            far.close()

    def _interrupted(self, arrived: bytes) -> None:
        """Pass a signal on and give the workers time to end; at the second one kill them."""
        for number in set(map(signal.Signals, arrived)).intersection(_SIGNALS):
            if self._stopped_by is not None:
                self._kill_all()
            else:
                self._pass_on(number)

    def _pass_on(self, number: signal.Signals) -> None:
        self._stopped_by = number
        self.options.say(
            f"disttorch-run: {number.name}; the workers have {self.options.grace:g} s to end, "
            "a second signal kills them"
        )
        for worker in self._workers:
            worker.signal(number)
            self._kill_later(worker, self.options.grace)

    def _kill_later(self, worker: Worker, seconds: float) -> None:
        if worker.code is None:
            self._kill_at[worker.rank] = time.monotonic() + seconds

    def _kill_all(self) -> None:
        for worker in self._workers:
            if worker.code is None:
                worker.kill()

    def _end_all(self) -> None:
        """Kill what is left of every worker and its children, then close everything."""
        for worker in self._workers:
            if worker.code is None and worker.pidfd >= 0:
                worker.kill()
                worker.reap()
                self._guard.remove(worker.pid)
            worker.close()

    def _exit_code(self) -> int:
        if self._stopped_by is not None:
            return 128 + self._stopped_by
        if self.timed_out:
            return 124
        if self.failure is None:
            return 0
        return self._workers[self.failure.rank].code or 1


def _is_ignored_hangup(number: signal.Signals) -> bool:
    """Say whether this is the SIGHUP that `nohup` wants to be ignored."""
    return number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN
