"""One poll over everything that can happen in the agent, and the times at which something is due."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_MAX_WAIT_SECONDS = 3600.0


class Timer:
    """Something due at a time; `cancel` makes it not happen."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Do nothing when the time comes."""
        self._action = None

    def run(self) -> None:
        """Do it now, once."""
        action, self._action = self._action, None
        if action is not None:
            action()

    @property
    def pending(self) -> bool:
        """Whether it has neither happened nor been cancelled."""
        return self._action is not None


class Loop:
    """Calls a handler for each source that is ready and for each timer that is due.

    A source is a descriptor, a socket or a ZeroMQ socket.
    """

    def __init__(self) -> None:
        import zmq

        self._poller = zmq.Poller()
        self._handlers: dict[Any, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def watch(self, source: Any, handler: Callable[[], None], writable: bool = False) -> None:
        """Call `handler` whenever `source` can be read (or written); a second call replaces the first."""
        import zmq

        self._poller.register(source, zmq.POLLOUT if writable else zmq.POLLIN)
        self._handlers[_key(source)] = handler

    def forget(self, source: Any) -> None:
        """Watch `source` no longer, if it was watched; call this before it is closed."""
        with contextlib.suppress(KeyError):
            self._poller.unregister(source)
        self._handlers.pop(_key(source), None)

    def call_later(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Call `action` once, in `seconds` (infinity: never)."""
        timer = Timer(action)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    def step(self, until: float | None = None) -> None:
        """Wait for something to happen, but not beyond the monotonic time `until`; deal with it, then with what is due."""
        for source, _ in self._poller.poll(self._milliseconds(until)):
            handler = self._handlers.get(source)
            if handler is not None:
                handler()
        now = time.monotonic()
        while self._timers and (self._timers[0][0] <= now or not self._timers[0][2].pending):
            heapq.heappop(self._timers)[2].run()

    def _milliseconds(self, until: float | None) -> int:
        soonest = time.monotonic() + _MAX_WAIT_SECONDS if until is None else until
        if self._timers:
            soonest = min(soonest, self._timers[0][0])
        return max(0, int((soonest - time.monotonic()) * 1000) + 1)

    @contextlib.contextmanager
    def signals(self, numbers: Iterable[signal.Signals], handler: Callable[[signal.Signals], None]) -> Iterator[None]:
        """Have signals arrive in this loop; outside of the main thread leave them alone."""
        try:
            previous = {number: signal.signal(number, lambda *_: None) for number in numbers}
        except ValueError:
            yield
            return
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        old = signal.set_wakeup_fd(far.fileno(), warn_on_full_buffer=False)

        def arrived() -> None:
            for number in dict.fromkeys(near.recv(64)):
                if number in previous:
                    handler(signal.Signals(number))

        self.watch(near, arrived)
        try:
            yield
        finally:
            signal.set_wakeup_fd(old)
            for number, before in previous.items():
                signal.signal(number, before)
            self.forget(near)
            near.close()
            far.close()


def _key(source: Any) -> Any:
    return source.fileno() if isinstance(source, socket.socket) else source
