"""The server of a `TCPStore`: a thread of the process that is its master."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing.util
import os
import threading
import time

from disttorch.distributed import store_key
from disttorch.distributed.store_table import StoreServer

_JOIN_SECONDS = 5.0

_hosts: dict[tuple[int, int], StoreHost] = {}
_lock = threading.Lock()


class StoreHost:
    """A server at one port, with its thread, for one master or several."""

    def __init__(self, port: int, listener: int | None = None) -> None:
        self._server = StoreServer("127.0.0.1", port, listener)
        self.port = self._server.port
        self._pid = os.getpid()
        self.users = 1
        self._ended = False
        self._stop, self._stopper = os.pipe()
        try:
            store_key.publish(self.port, self._server.key)
        except BaseException:
            self._server.close()
            self._close_pipe()
            raise
        self._thread = threading.Thread(target=self._serve, name="disttorch-store", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """One master less; the last one ends the server. In a forked process nothing happens: the server is the parent's."""
        if os.getpid() != self._pid:
            return
        with _lock:
            self.users -= 1
            if self.users > 0:
                return
            _hosts.pop((self._pid, self.port), None)
        self.end()

    def end(self) -> None:
        """End the server and remove its key."""
        if self._ended:
            return
        self._ended = True
        store_key.withdraw(self.port, self._server.key)
        with contextlib.suppress(OSError):
            os.write(self._stopper, b"\0")
        self._thread.join(_JOIN_SECONDS)

    def _serve(self) -> None:
        import zmq

        poller = zmq.Poller()
        poller.register(self._server.socket, zmq.POLLIN)
        poller.register(self._stop, zmq.POLLIN)
        while True:
            deadline = self._server.next_deadline()
            wait = None if deadline is None else max(0, int((deadline - time.monotonic()) * 1000) + 1)
            if any(source == self._stop for source, _ in poller.poll(wait)):
                break
            self._server.serve()
        self._server.close()
        self._close_pipe()

    def _close_pipe(self) -> None:
        for fd in (self._stop, self._stopper):
            os.close(fd)


def serve(port: int, shared: bool, listener: int | None = None) -> StoreHost:
    """Return a server at `port` (0: any), if `shared` the one that this process has there already."""
    with _lock:
        found = _hosts.get((os.getpid(), port)) if shared else None
        if found is not None:
            found.users += 1
            return found
        host = StoreHost(port, listener)
        _hosts[os.getpid(), host.port] = host
        # A process of multiprocessing calls these at its end, and may leave out what atexit knows.
        multiprocessing.util.Finalize(None, _end_all, exitpriority=0)
        return host


@atexit.register
def _end_all() -> None:
    """Leave no keys of servers that are gone."""
    for (pid, _), host in list(_hosts.items()):
        if pid == os.getpid():
            host.end()
