"""A process group: numbered collectives, run one after another by the caller or by the communication thread."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from disttorch.distributed.agent_link import AgentLink
from disttorch.distributed.call import Call
from disttorch.distributed.errors import CollectiveTimeout, DistError
from disttorch.distributed.store import seconds
from disttorch.distributed.transport import Transport
from disttorch.futures import Future

Body = Callable[[Transport], None]

_THREAD_NAME = "disttorch-communication"
_settling = threading.Lock()


def _check_may_wait(done: threading.Event) -> None:
    """Refuse to wait in the thread that would have to do what is waited for."""
    if not done.is_set() and threading.current_thread().name == _THREAD_NAME:
        raise DistError(
            "a callback of a collective's future cannot wait for another collective, which comes after it in the same "
            "thread; wait for the first one and then call the second"
        )


class _CollectiveFuture(Future[Any]):
    """The future of a collective, or of what follows from one."""

    def wait(self) -> Any:
        _check_may_wait(self._event)
        return super().wait()


class Work:
    """A collective under way, as `torch.distributed.Work`."""

    __slots__ = ("_body", "_call", "_done", "_error", "_future", "_sequence", "_settled", "_tensors")

    def __init__(self, call: Call, sequence: int, body: Body) -> None:
        self._call, self._sequence, self._body = call, sequence, body
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._future: Future[list[Any]] | None = None
        self._settled = False
        self._tensors: list[Any] = []

    def wait(self, timeout: float | timedelta | None = None) -> bool:
        """Wait until the result is there and return True; raise what the collective raised.

        timeout: seconds or a timedelta; CollectiveTimeout when they pass first (the collective itself goes on).
        """
        limit = None if timeout is None else seconds(timeout)
        _check_may_wait(self._done)
        if not self._done.wait(limit):
            raise CollectiveTimeout(f"{self._call.describe(self._sequence)} did not finish within {limit:g} s")
        if self._error is not None:
            raise self._error
        return True

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
        """Return the tensors that hold the result; they do when the collective is over."""
        return self._tensors

    def get_future(self) -> Future[list[Any]]:
        """Return a Future of `result()`, whose callbacks run as soon as the collective is over."""
        if self._future is None:
            self._future = _CollectiveFuture()
            if self._done.is_set():
                self._settle()
        return self._future

    def fail(self, error: BaseException | None) -> None:
        """End it without running it."""
        self._error = error
        self._end()

    def _end(self) -> None:
        self._done.set()
        if self._future is not None:
            self._settle()

    def _settle(self) -> None:
        """Complete the future, once: two threads may have seen both it and the end."""
        with _settling:
            future, self._settled = None if self._settled else self._future, True
        if future is None:
            return
        if self._error is None:
            future.set_result(self._tensors)
        else:
            future.set_exception(self._error)

    def run(self, transport: Transport, timeout: float, patient: bool) -> None:
        """Do it in the calling thread."""
        try:
            transport.begin(self._call, self._sequence, timeout, patient)
            self._body(transport)
        except BaseException as error:
            self._error = error
            raise
        finally:
            self._end()


class ProcessGroup:
    """The ranks that take part in collectives together.

    A synchronous collective runs in the caller's thread if nothing is queued (handing it over
    costs two thread switches); everything else runs in the communication thread, in the order of
    the calls.
    """

    def __init__(self, link: AgentLink | None, transport: Transport, timeout: float, epoch: int) -> None:
        self.link, self.transport, self.timeout, self.epoch = link, transport, timeout, epoch
        self.rank, self.size = transport.rank, transport.size
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

    def collective(self, call: Call, body: Body, async_op: bool = False) -> Work | None:
        """Run `body` as the next collective; return its Work if `async_op`, else None when it is done."""
        with self._lock:
            self._check_usable()
            work = Work(call, self._sequence, body)
            self._sequence += 1
            inline = not async_op and self.transport.inline and self._unfinished == 0
            self._unfinished += 1
            if not inline:
                self._enqueue(work)
        if inline:
            self._run(work, patient=False)
        elif not async_op:
            work.wait()
        return work if async_op else None

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
            self._thread = threading.Thread(target=self._serve, name=_THREAD_NAME, daemon=True)
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
        self.transport.close(orderly=self._broken is None)

    def _fail_queued(self) -> None:
        """After a failure nothing more can run: hand the same error to everything that waits."""
        with self._lock:
            waiting, self._unfinished = list(self._queue), self._unfinished - len(self._queue)
            self._queue.clear()
        for work in waiting:
            work.fail(self._broken)

    def close(self, timeout: float = 5.0) -> None:
        """Finish what is queued and let go of the transport."""
        with self._lock:
            self._closing = True
            self._arrived.notify_all()
        if self._thread is not None:
            self._thread.join(timeout)
        else:
            self.transport.close(orderly=self._broken is None)
