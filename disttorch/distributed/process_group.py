"""A process group: numbered collectives, run one after another by the caller or by the communication thread."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from disttorch.distributed import flight
from disttorch.distributed.agent_link import AgentLink
from disttorch.distributed.call import Call
from disttorch.distributed.errors import DistError
from disttorch.distributed.members import Members
from disttorch.distributed.transport import Transport
from disttorch.distributed.work import THREAD_NAME, Body, Work

# How many channels for messages a group has at most.
MOST_CHANNELS = 1024
# How long the end of a group waits for its communication thread when a rank has failed: it notices that by itself.
_FAILED_SECONDS = 0.5


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
        flight.recorder().add_group(self.members.number, self.members.name, self.members.ranks)
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
        self.any_source: Any = None  # what receives from any rank, once somebody has asked for that
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

    def collective(
        self,
        call: Call,
        body: Body,
        async_op: bool = False,
        result: Any = (),
        source: int = -1,
        timeout: float | None = None,
    ) -> Work | None:
        """Run `body` as the next collective; return its Work if `async_op`, else None when it is done.

        result: the tensors that it fills, for `Work.result`; source: the sender, for `Work.source_rank`; timeout: seconds,
        in place of the group's.
        """
        with self._lock:
            self._check_usable()
            inline = not async_op and self._unfinished == 0
            limit = timeout or self.timeout
            work = Work(call, self._sequence, body, result, source, limit, self.members.number, background=not inline)
            self._sequence += 1
            self._unfinished += 1
            if inline:
                self._turn.acquire()  # while `_lock` is held: what is called later must not come first
            else:
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
                if len(self._channels) >= MOST_CHANNELS:
                    raise DistError(
                        f"this rank has exchanged messages with more than {MOST_CHANNELS} combinations of partner, "
                        "direction and tag, each of which keeps memory; use the same tags again"
                    )
                members = self.members.subset(f"{source}-{target}-{tag}", [source, target])
                found = ProcessGroup(self.link, open_channel(members), self.timeout)
                self._channels[source, target, tag] = found
            return found

    def has_come(self, peer: int) -> bool:
        """Say, while nothing is under way here, whether rank `peer` has come to the next collective."""
        with self._turn:
            return self._unfinished == 0 and self.transport.pending(peer)

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
            self._thread = threading.Thread(target=self._serve, name=THREAD_NAME, daemon=True)
            self._thread.start()
        self._queue.append(work)
        self._arrived.notify()

    def _run(self, work: Work, patient: bool) -> None:
        """Run a collective and give back the turn, which this thread has taken."""
        try:
            try:
                if self._broken is not None:
                    work.end(self._broken)
                    raise self._broken
                work.run(self.transport, patient)
            finally:
                self._turn.release()
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
            self._turn.acquire()
            try:
                self._run(work, patient=True)
            except BaseException:
                self._fail_queued()
            del work  # and what it refers to, rather than keep it until there is another one

    def _fail_queued(self) -> None:
        """After a failure nothing more can run: hand the same error to everything that waits."""
        with self._lock:
            waiting, self._unfinished = list(self._queue), self._unfinished - len(self._queue)
            self._queue.clear()
        for work in waiting:
            work.end(self._broken)

    def close(self) -> None:
        """Finish what is queued, unless a rank has failed, and let go of the transport."""
        failed = self._broken is not None or (self.link is not None and self.link.failure is not None)
        timeout = _FAILED_SECONDS if failed else self.timeout
        with self._lock:
            self._closing = True
            self._arrived.notify_all()
            channels = list(self._channels.values())
        for channel in channels:
            channel.close()
        if self._thread is not None:
            self._thread.join(timeout)
        if self._turn.acquire(timeout=timeout):
            self.transport.close(orderly=self._broken is None)
            self._turn.release()
