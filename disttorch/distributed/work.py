"""A collective that has been called: what `async_op=True` returns."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from disttorch.distributed import flight, progress, trace
from disttorch.distributed.call import Call
from disttorch.distributed.errors import CollectiveTimeout, DistError
from disttorch.distributed.store import seconds
from disttorch.distributed.transport import Transport
from disttorch.futures import Future

Body = Callable[[Transport], None]
THREAD_NAME = "disttorch-communication"
_settling = threading.Lock()


def _check_may_wait(done: threading.Event) -> None:
    """Refuse to wait in the thread that would have to do what is waited for."""
    if not done.is_set() and threading.current_thread().name == THREAD_NAME:
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

    __slots__ = (
        "_body",
        "_call",
        "_done",
        "_error",
        "_future",
        "_over",
        "_sequence",
        "_settled",
        "_slot",
        "_source",
        "_tensors",
        "_timeout",
    )  # fmt: skip

    def __init__(
        self,
        call: Call,
        sequence: int,
        body: Body,
        tensors: Sequence[Any],
        source: int = -1,
        timeout: float = 0.0,
        group: int = 0,
        background: bool = True,
    ) -> None:
        self._call, self._sequence, self._body, self._tensors = call, sequence, body, list(tensors)
        self._timeout = timeout
        self._slot = flight.recorder().begin(call, sequence, group)
        self._over = False
        self._done = threading.Event() if background else None
        self._error: BaseException | None = None
        self._future: Future[list[Any]] | None = None
        self._settled = False
        self._source = source

    def wait(self, timeout: float | timedelta | None = None) -> bool:
        """Wait until the result is there and return True; raise what the collective raised.

        timeout: seconds or a timedelta; CollectiveTimeout when they pass first (the collective itself goes on).
        """
        limit = None if timeout is None else seconds(timeout)
        if not self._over and not self._wait(limit):
            raise CollectiveTimeout(f"{self._call.describe(self._sequence)} did not finish within {limit:g} s")
        if self._error is not None:
            raise self._error
        return True

    def _wait(self, limit: float | None) -> bool:
        assert self._done is not None
        _check_may_wait(self._done)
        start = time.monotonic_ns()
        try:
            return self._done.wait(limit)
        finally:
            end = time.monotonic_ns()
            progress.waited((end - start) / 1e9)
            trace.record("wait", start, end, "communication")

    def synchronize(self) -> None:
        """Wait until the result is there."""
        self.wait()

    def is_completed(self) -> bool:
        """Say whether the collective is over, well or not."""
        return self._over

    def is_success(self) -> bool:
        """Say whether the collective is over and went well."""
        return self._over and self._error is None

    def exception(self) -> BaseException | None:
        """Return what the collective raised, or None."""
        return self._error

    def source_rank(self) -> int:
        """Return the rank of the world that sent what a receive has got."""
        if self._source < 0:
            raise ValueError(f"source_rank is the sender of what irecv got; this is {self._call.op}")
        return self._source

    def result(self) -> list[Any]:
        """Return the tensors that hold the result; they do when the collective is over."""
        return self._tensors

    def get_future(self) -> Future[list[Any]]:
        """Return a Future of `result()`, whose callbacks run as soon as the collective is over."""
        if self._future is None:
            self._future = _CollectiveFuture()
            if self._over:
                self._settle()
        return self._future

    def came_from(self, rank: int) -> None:
        """Note who has sent what a receive from any rank has got."""
        self._source = rank

    def run(self, transport: Transport, patient: bool) -> None:
        """Do it in the calling thread."""
        progress.collective(self._call.op, self._sequence)
        flight.recorder().start(self._slot)
        error: BaseException | None = None
        try:
            transport.slot = self._slot
            transport.begin(self._call, self._sequence, self._timeout, patient)
            self._body(transport)
            transport.end()
        except BaseException as caught:
            error = caught
            raise
        finally:
            self.end(error)

    def end(self, error: BaseException | None = None) -> None:
        """Count it as over, having raised `error` or, with None, done."""
        flight.recorder().end(self._slot, error)
        self._error = error
        self._over = True
        if self._done is not None:
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
