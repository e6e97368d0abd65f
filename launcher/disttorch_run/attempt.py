"""One attempt: all workers, from their start to the end of the last, with a store and segments of their own."""

from __future__ import annotations

import contextlib
import secrets
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from disttorch.distributed.errors import ProtocolError
from disttorch.distributed.progress import Progress
from disttorch.distributed.store_table import StoreServer
from disttorch_run import layout
from disttorch_run.events import Loop, Timer
from disttorch_run.failure import Failure, describe_exit, out_of_memory_kills, stacks_of
from disttorch_run.flight import FlightReport
from disttorch_run.guard import Guard
from disttorch_run.options import Options
from disttorch_run.output import STDERR, STDOUT, Outputs, Stream, Terminal
from disttorch_run.process import Worker, environment_for
from disttorch_run.segments import SegmentServer
from disttorch_run.status import Board
from disttorch_run.trace import TraceFile

# How long a worker has to raise PeerFailed before it is killed; it sits in code that no exception
# can interrupt.
UNWIND_SECONDS = 1.0
# At a signal the flight recorders are shown if a rank has been in its collective for so long.
STUCK_SECONDS = 5.0
# How long a worker may take to end after its socket is closed.
_EXIT_SECONDS = 0.5
_CHECK_SECONDS = 1.0
_MESSAGES_AT_ONCE, _MESSAGES_AT_THE_END = 64, 10_000
_LOOPBACK = "127.0.0.1"


@dataclass
class Run:
    """What the attempts of one run share.

    terminals: the launcher's own STDOUT and STDERR; folder: where this run's logs go, or None;
    trace: collects what the workers record, or None.
    """

    options: Options
    loop: Loop
    guard: Guard
    board: Board
    terminals: Mapping[int, Terminal]
    folder: Path | None = None
    trace: TraceFile | None = None


class Attempt:
    """The workers of one attempt; a context manager, at whose end nothing of it is left.

    number: 0 for the first. Its identity, its store and its keys are new, so nothing that an
    earlier attempt has left can talk to it.

    Attributes: `workers`; `failure`, the first one, or None; `stopped_by`, the signal that ended
    it, or None; `timed_out`; `results` of the workers by rank; `stacks` of a hang, or "".
    """

    def __init__(self, run: Run, number: int) -> None:
        self.options = run.options
        self.number = number
        self._identity = secrets.token_hex(16)
        self._secret = secrets.token_bytes(32)
        self._layout = layout.plan(run.options.environment, len(run.options.placements))
        self.workers: list[Worker] = []
        self.failure: Failure | None = None
        self.stopped_by: signal.Signals | None = None
        self.timed_out = False
        self.results: dict[int, bytes] = {}
        self.stacks = ""
        self._loop = run.loop
        self._guard = run.guard
        self._board = run.board
        self._trace = run.trace
        folder = None if run.folder is None else run.folder / f"attempt_{number}"
        self._outputs = Outputs(run.options.logs, folder, run.terminals)
        self._flight = FlightReport(folder)
        self._kills: dict[int, Timer] = {}
        self._stopped_since: dict[int, float] = {}
        self._watching = Timer(lambda: None)
        self._warned: set[tuple[int, ...]] = set()
        self._out_of_memory = out_of_memory_kills()
        self._stack = contextlib.ExitStack()
        self._messages: dict[str, Callable[[Worker, dict[str, Any]], None]] = {
            "ready": self._note_ready,
            "unwinding": self._note_unwinding,
            "segment_request": lambda worker, m: self._segments.answer(worker, m["key"], m["size"], m["users"]),
            "waiting": self._note_waiting,
            "progress": self._note_progress,
            "result": lambda worker, m: self.results.update({worker.rank: m["data"]}),
            "failed": self._note_failed,
        }

    def __enter__(self) -> Attempt:
        with self._stack:
            self._store = StoreServer(_LOOPBACK, self.options.port)
            self._stack.callback(self._store.close)
            self._loop.watch(self._store.socket, self._store.serve)
            self._stack.callback(self._loop.forget, self._store.socket)
            monitor = self._store.watch_refused()
            self._loop.watch(monitor, self._store.count_refused)
            self._stack.callback(self._loop.forget, monitor)
            self._stack.callback(self._tell_refused)
            self._segments = SegmentServer()
            self._stack.callback(self._segments.close)
            self._stack.callback(self._outputs.close)
            self._stack.callback(self._end_all)
            self._stack.callback(self._keep_trace)
            self._board.begin(self.workers)
            for rank in range(len(self.options.placements)):
                self._start(rank)
            self._check_stopped()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def step(self) -> None:
        """Wait for something to happen and deal with it."""
        self._loop.step(self._store.next_deadline())
        self._store.expire()

    @property
    def done(self) -> bool:
        """Whether all workers have ended."""
        return all(worker.code is not None for worker in self.workers)

    @property
    def exit_code(self) -> int:
        """What the launcher exits with if this was the last attempt."""
        if self.stopped_by is not None:
            return 128 + self.stopped_by
        if self.timed_out:
            return 124
        if self.failure is None:
            return 0
        return self.workers[self.failure.rank].code or 1

    def _start(self, rank: int) -> None:
        options, size = self.options, len(self.options.placements)
        worker = Worker(rank, traced=self._trace is not None)
        self.workers.append(worker)
        environment = environment_for(options, rank, self._store.port, self.number)
        outputs = {which: self._outputs.stream(rank, which) for which in (STDOUT, STDERR)}
        if isinstance(outputs[STDOUT], Stream):
            environment.setdefault("PYTHONUNBUFFERED", "1")
        worker.send(
            "welcome",
            run=self._identity,
            secret=self._secret,
            transport=self._layout.transport,
            hosts=list(self._layout.hosts),
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
        self._loop.watch(worker.pidfd, lambda: self._ended(worker))
        self._loop.watch(worker.socket, lambda: self._listen(worker))
        for stream in worker.streams:
            self._loop.watch(stream.fd, partial(self._pump, stream))

    # What a worker does

    def _pump(self, stream: Stream) -> None:
        """Pass on output; while nobody reads the launcher's, leave it with the worker."""
        if not stream.pump():
            self._loop.forget(stream.fd)
        elif stream.blocked:
            self._loop.forget(stream.fd)
            stream.when_unblocked(lambda: self._loop.watch(stream.fd, partial(self._pump, stream)))

    def _listen(self, worker: Worker, most: int = _MESSAGES_AT_ONCE) -> None:
        """Deal with the messages of a worker, a share of them if they are many: others want to be heard, too."""
        try:
            for _ in range(most):
                message = worker.receive()
                if message is None:
                    return
                handler = self._messages.get(message["type"])
                if handler is None:
                    raise ProtocolError(f"a worker does not send '{message['type']}'")
                handler(worker, message)
        except EOFError:
            self._loop.forget(worker.socket)
            if worker.attached and worker.code is None:
                self._loop.call_later(_EXIT_SECONDS, lambda: self._check_gone(worker))
        except ProtocolError as error:
            worker.kill()
            self._fail(Failure(worker.rank, f"sent the launcher something malformed: {error}"))

    def _check_gone(self, worker: Worker) -> None:
        """A worker has closed its socket: that is its end, or else nobody can reach it any more."""
        if worker.code is None:
            self._fail(Failure(worker.rank, "closed its connection to the launcher"))
            worker.kill()

    def _check_stopped(self) -> None:
        """See that no worker is stopped for longer than a collective may take: maybe no other rank waits for it."""
        now = time.monotonic()
        for worker in self.workers:
            if worker.code is not None or worker.state() != "stopped":
                self._stopped_since.pop(worker.rank, None)
            elif now - self._stopped_since.setdefault(worker.rank, now) > self.options.timeout:
                self._fail(Failure(worker.rank, f"has been stopped for {self.options.timeout:g} s"))
                worker.kill()
        self._watching = self._loop.call_later(_CHECK_SECONDS, self._check_stopped)

    def _note_ready(self, worker: Worker, _: dict[str, Any]) -> None:
        worker.attached = True
        self._tell_failure(worker)

    def _note_unwinding(self, worker: Worker, _: dict[str, Any]) -> None:
        worker.unwinding = True
        self._kill_later(worker, self.options.grace)

    def _note_progress(self, worker: Worker, message: dict[str, Any]) -> None:
        self._board.note(worker.rank, Progress(*(message[name] for name in Progress._fields)))

    def _note_failed(self, worker: Worker, message: dict[str, Any]) -> None:
        worker.reported = True
        if message["cause"] < 0 or self.failure is None:
            self._fail(Failure(worker.rank, message["reason"], message["traceback"]))

    def _note_waiting(self, worker: Worker, message: dict[str, Any]) -> None:
        """A worker waits for others in a collective: say who is missing, and at the time-out where everybody is."""
        known = range(len(self.workers))
        missing = tuple(sorted({rank for rank in message["missing"] if type(rank) is int and rank in known}))
        if not missing or (not message["final"] and missing in self._warned):
            return
        self._warned.add(missing)
        states = ", ".join(f"rank {r} (pid {self.workers[r].pid}, {self.workers[r].state()})" for r in missing)
        self.options.say(
            f"disttorch-run: rank {worker.rank} has waited {message['seconds']:.0f} s in {message['what']} for {states}"
        )
        if message["final"] and not self.stacks:
            self.stacks = stacks_of(self.workers)
            self.options.say("\n".join(filter(None, [self.stacks, self._collectives()])))

    def _ended(self, worker: Worker) -> None:
        """A worker's process has ended: kill what it left running, then collect it.

        In this order: until it is collected its number cannot become another process's.
        """
        self._listen(worker, _MESSAGES_AT_THE_END)
        worker.kill()
        for source in (worker.pidfd, worker.socket, *(stream.fd for stream in worker.streams)):
            self._loop.forget(source)
        code = worker.reap()
        self._guard.remove(worker.pid)
        self._spare(worker)
        for stream in worker.streams:
            stream.pump()
        if code != 0 and not worker.reported and self.stopped_by is None and not self.timed_out:
            reason = describe_exit(code, self._out_of_memory)
            self._fail(Failure(worker.rank, reason, code=worker.code))
        for other in self.workers:
            if other is not worker:
                other.send("left", rank=worker.rank)

    def _collectives(self, waited: float = 0.0) -> str:
        """Return where the ranks are in their collectives; "" if that has been said."""
        return self._flight.text({worker.rank: worker.flight for worker in self.workers}, waited)

    def _tell_refused(self) -> None:
        self._store.count_refused()
        if refused := self._store.refused:
            times = "a connection" if refused == 1 else f"{refused} connections"
            self.options.say(f"disttorch-run: refused {times} to its store by processes without this run's key")

    def _keep_trace(self) -> None:
        if self._trace is not None:
            self._trace.keep({worker.rank: worker.trace for worker in self.workers})

    # When one has failed

    def _fail(self, failure: Failure) -> None:
        """A rank has failed: print why, tell the other ranks, and see that they end."""
        if self.failure is not None or self.stopped_by is not None or self.timed_out:
            return
        self.failure = failure
        where = self._collectives()
        for worker in self.workers:
            if worker.code is None:
                self._tell_failure(worker)
        self.options.say(failure.text(self.workers[failure.rank].pid, self._which_attempt(), where))

    def _which_attempt(self) -> str:
        if not self.options.max_restarts:
            return ""
        return f" (attempt {self.number + 1} of {self.options.max_restarts + 1})"

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

    # Ending

    def interrupt(self, number: signal.Signals) -> None:
        """Pass a signal on and give the workers time to end; at the second one kill them."""
        if self.stopped_by is not None:
            self._kill_all()
            return
        self.stopped_by = number
        text = f"disttorch-run: {number.name}; the workers have {self.options.grace:g} s to end, a second signal kills them"
        where = self._collectives(STUCK_SECONDS)
        for worker in self.workers:
            worker.signal(number)
            self._kill_later(worker, self.options.grace)
        self.options.say("\n".join(filter(None, [where, text])))

    def time_out(self) -> None:
        """Take the stacks of all workers and kill them."""
        self.timed_out = True
        self.stacks = stacks_of(self.workers)
        if where := self._collectives():
            self.options.say(where)
        self._kill_all()

    def _kill_later(self, worker: Worker, seconds: float) -> None:
        self._spare(worker)
        if worker.code is None:
            self._kills[worker.rank] = self._loop.call_later(seconds, worker.kill)

    def _spare(self, worker: Worker) -> None:
        timer = self._kills.pop(worker.rank, None)
        if timer is not None:
            timer.cancel()

    def _kill_all(self) -> None:
        for worker in self.workers:
            if worker.code is None:
                worker.kill()

    def _end_all(self) -> None:
        """Kill what is left of every worker and its children, then close everything."""
        self._watching.cancel()
        for worker in self.workers:
            self._spare(worker)
            if worker.code is None and worker.pidfd >= 0:
                for source in (worker.pidfd, worker.socket, *(stream.fd for stream in worker.streams)):
                    self._loop.forget(source)
                worker.kill()
                worker.reap()
                self._guard.remove(worker.pid)
            worker.close()
