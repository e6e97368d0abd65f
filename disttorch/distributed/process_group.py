"""A process group: numbered collectives, run one after another by the caller or by the communication thread."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from disttorch.distributed import progress
from disttorch.distributed.agent_link import AgentLink
from disttorch.distributed.call import Call
from disttorch.distributed.errors import CollectiveTimeout, DistError
from disttorch.distributed.members import Members
from disttorch.distributed.store import seconds
from disttorch.distributed.transport import Transport

Body = Callable[[Transport], None]


class Work:
    """A collective under way, as `torch.distributed.Work`."""

    __slots__ = ("_body", "_call", "_done", "_error", "_followers", "_lock", "_result", "_sequence")

    def __init__(self, call: Call, sequence: int, body: Body, result: list[Any]) -> None:
        self._call, self._sequence, self._body, self._result = call, sequence, body, result
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._followers: list[Callable[[], None]] = []

    def wait(self, timeout: float | timedelta | None = None) -> bool:
        """Wait until the result is there and return True; raise what the collective raised.

        timeout: seconds or a timedelta; CollectiveTimeout when they pass first (the collective itself goes on).
        """
        limit = None if timeout is None else seconds(timeout)
        if not self._done.is_set() and not self._wait(limit):
            raise CollectiveTimeout(f"{self._call.describe(self._sequence)} did not finish within {limit:g} s")
        if self._error is not None:
            raise self._error
        return True

    def _wait(self, limit: float | None) -> bool:
        start = time.perf_counter()
        try:
            return self._done.wait(limit)
        finally:
            progress.waited(time.perf_counter() - start)

    def is_completed(self) -> bool:
        """Say whether the collective is over, well or not."""
        return self._done.is_set()

    def is_success(self) -> bool:
        """Say whether the collective is over and went well."""
        return self._done.is_set() and self._error is None

    def exception(self) -> BaseException | None:
        """Return what the collective raised, or None."""
        return self._error

    def result(self) -> list[Any]:
        """Wait and return the list of tensors that the collective has filled."""
        self.wait()
        return self._result

    def source_rank(self) -> int:
        """Return the rank that sent what a receive got; ValueError for other collectives."""
        if self._call.op != "send":
            raise ValueError(f"source_rank is the sender of a receive, and this is {self._call.op}")
        return self._call.root

    def get_future(self) -> Any:
        """Return a `disttorch.futures.Future` of the list of tensors that the collective fills."""
        from disttorch.futures import Future

        future: Any = Future()

        def settle() -> None:
            if self._error is None:
                future.set_result(self._result)
            else:
                future.set_exception(self._error)

        self.add_done_callback(settle)
        return future

    def add_done_callback(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the collective is over, well or not; at once if it is."""
        with self._lock:
            if not self._done.is_set():
                self._followers.append(callback)
                return
        callback()

    def fail(self, error: BaseException | None) -> None:
        """End it without running it."""
        self._finish(error)

    def run(self, transport: Transport, timeout: float, patient: bool) -> None:
        """Do it in the calling thread."""
        progress.collective(self._call.op, self._sequence)
        error: BaseException | None = None
        try:
            transport.begin(self._call, self._sequence, timeout, patient)
            self._body(transport)
            transport.end()
        except BaseException as caught:
            error = caught
            raise
        finally:
            self._finish(error)

    def _finish(self, error: BaseException | None) -> None:
        with self._lock:
            self._error = error
            self._done.set()
            followers, self._followers = self._followers, []
        for callback in followers:
            callback()


class ProcessGroup:
    """The ranks that take part in collectives together.

    A synchronous collective runs in the caller's thread if nothing is queued (handing it over
    costs two thread switches); everything else runs in the communication thread, in the order of
    the calls.
    """

    def __init__(
        self, link: AgentLink | None, transport: Transport, timeout: float, description: str | None = None
    ) -> None:
        self.link, self.transport, self.timeout = link, transport, timeout
        self.members: Members = transport.members
        self.group_desc = description or ("default_pg" if self.members.number == 0 else "undefined")
        self.buckets = 0
        self._pid = os.getpid()
        self._sequence = 0
        self._queue: deque[Work] = deque()
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._unfinished = 0
        self._broken: BaseException | None = None
        self._closing = False
        self._thread: threading.Thread | None = None
        self._channels: dict[tuple[int, int, int], ProcessGroup] = {}

    def rank(self) -> int:
        """Return this process's number in the group."""
        return self.members.rank

    def size(self) -> int:
        """Return how many ranks the group has."""
        return self.members.size

    def name(self) -> str:
        """Return the backend's name."""
        return "zmq"

    @property
    def group_name(self) -> str:
        """The name that this group alone has, the same on every rank."""
        return self.members.name

    def __repr__(self) -> str:
        return f"ProcessGroup(name={self.members.name!r}, ranks={list(self.members.ranks)}, rank={self.members.rank})"

    def collective(self, call: Call, body: Body, async_op: bool = False, result: Any = ()) -> Work | None:
        """Run `body` as the next collective; return its Work if `async_op`, else None when it is done.

        result: the tensors that it fills, for `Work.result`.
        """
        with self._lock:
            self._check_usable()
            work = Work(call, self._sequence, body, list(result))
            self._sequence += 1
            inline = not async_op and self._unfinished == 0
            self._unfinished += 1
            if not inline:
                self._enqueue(work)
        if inline:
            self._run(work, patient=False)
        elif not async_op:
            work.wait()
        return work if async_op else None

    def channel(self, source: int, target: int, tag: int, open_channel: Callable[[Members], Transport]) -> ProcessGroup:
        """Return the group of two ranks in which messages with `tag` go from `source` to `target`."""
        with self._lock:
            self._check_usable()
            found = self._channels.get((source, target, tag))
            if found is None:
                members = self.members.subset(f"{source}-{target}-{tag}", [source, target])
                found = ProcessGroup(self.link, open_channel(members), self.timeout)
                self._channels[source, target, tag] = found
            return found

    def has_come(self, peer: int) -> bool:
        """Say, while nothing is under way here, whether rank `peer` has come to the next collective."""
        with self._turn:
            return self.transport.pending(peer)

    def _check_usable(self) -> None:
        if self._closing:
            raise DistError("this process group was destroyed; call init_process_group again")
        if self._broken is not None:
            if isinstance(self._broken, DistError):
                raise self._broken
            raise DistError(f"an earlier collective of this group was interrupted by {self._broken!r}")
        if os.getpid() != self._pid:
            raise DistError("a forked process is no rank of the group; call collectives in the worker itself")
        if self.link is not None:
            self.link.check()

    def _enqueue(self, work: Work) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="disttorch-communication", daemon=True)
            self._thread.start()
        self._queue.append(work)
        self._arrived.notify()

    def _run(self, work: Work, patient: bool) -> None:
        try:
            with self._turn:
                work.run(self.transport, self.timeout, patient)
        except BaseException as error:
            with self._lock:
                self._broken = self._broken or error
            raise
        finally:
            with self._lock:
                self._unfinished -= 1

    def _serve(self) -> None:
        while True:
            with self._arrived:
                self._arrived.wait_for(lambda: self._queue or self._closing)
                if not self._queue:
                    break
                work = self._queue.popleft()
            try:
                self._run(work, patient=True)
            except BaseException:
                self._fail_queued()

    def _fail_queued(self) -> None:
        """After a failure nothing more can run: hand the same error to everything that waits."""
        with self._lock:
            waiting, self._unfinished = list(self._queue), self._unfinished - len(self._queue)
            self._queue.clear()
        for work in waiting:
            work.fail(self._broken)

    def close(self, timeout: float = 5.0) -> None:
        """Finish what is queued and let go of the transport."""
        for channel in self._channels.values():
            channel.close(timeout)
        with self._lock:
            self._closing = True
            self._arrived.notify_all()
        if self._thread is not None:
            self._thread.join(timeout)
        if self._turn.acquire(timeout=timeout):
            self.transport.close(orderly=self._broken is None)
            self._turn.release()
