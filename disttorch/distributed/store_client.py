"""Stores that another process serves, over ZeroMQ with CURVE encryption: the agent's, and `TCPStore`."""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from datetime import timedelta
from typing import Any, NoReturn
from urllib.parse import urlsplit

from disttorch.distributed import addresses, agent_link, store_host, store_key
from disttorch.distributed.agent_link import AgentLink
from disttorch.distributed.errors import DistNetworkError, ProtocolError, StoreTimeout
from disttorch.distributed.store import Store, seconds

_SLICE_MILLISECONDS = 50
_MARGIN_SECONDS = 5.0
# How long a server may take to answer the first request before its key is looked up anew.
_GREETING_SECONDS = 1.0


# One for each process, since none survives a fork; never ended, since that can hang.
_contexts: dict[int, Any] = {}
_contexts_lock = threading.Lock()


def _context() -> Any:
    import zmq

    with _contexts_lock:
        if os.getpid() not in _contexts:
            _contexts[os.getpid()] = zmq.Context()
        return _contexts[os.getpid()]


class _Line:
    """One connection to a server, for one thread: ZeroMQ sockets are not thread-safe."""

    def __init__(self, context: Any, address: str, server_key: bytes) -> None:
        import zmq

        public, secret = zmq.curve_keypair()
        self._pid = os.getpid()
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.CURVE_SERVERKEY, server_key)
        self.socket.setsockopt(zmq.CURVE_PUBLICKEY, public)
        self.socket.setsockopt(zmq.CURVE_SECRETKEY, secret)
        self._news = self.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self.socket.connect(address)

    def is_cut(self) -> bool:
        """Say whether the connection was there and is not any more."""
        return bool(self._news.poll(0))

    def close(self) -> None:
        """Close the connection."""
        if self._pid == os.getpid() and not self.socket.closed:
            self.socket.disable_monitor()
            self._news.close(linger=0)
            self.socket.close(linger=0)

    def __del__(self) -> None:
        self.close()


class ServedStore(Store):
    """The client's side. Each thread has a connection of its own: one that waits for a key holds up no other.

    A forked process opens connections of its own, too.
    """

    def __init__(self, timeout: float | timedelta, address: str, server_key: bytes) -> None:
        super().__init__(timeout)
        self._address, self._key = address, server_key
        self._ids = itertools.count()
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._local = threading.local()
        self._lines: weakref.WeakSet[_Line] = weakref.WeakSet()

    def _request(self, request: dict[str, Any]) -> dict[str, Any]:
        line = self._line()
        number = next(self._ids)
        self._send(line, number, request)
        reply = self._receive(line, number, request["timeout"] + _MARGIN_SECONDS)
        if reply is None:
            raise StoreTimeout(f"the store at {self._address} did not answer within {_MARGIN_SECONDS:g} s")
        return reply

    def _send(self, line: _Line, number: int, request: dict[str, Any]) -> None:
        """Send a request.

        ZeroMQ gives a connection up, and would wait for ever, where something else than a store has taken the port over and
        answers in no known protocol.
        """
        import zmq

        from disttorch.distributed import wire

        try:
            line.socket.send(wire.encode("store_request", wire.MAX_STORE_MESSAGE, id=number, **request), zmq.NOBLOCK)
        except zmq.Again:
            self._drop(line)

    def _receive(self, line: _Line, number: int, limit: float) -> dict[str, Any] | None:
        """Return the reply to request `number`; None if there is none within `limit` seconds."""
        from disttorch.distributed import wire

        deadline = time.monotonic() + limit
        while True:
            if line.socket.poll(_SLICE_MILLISECONDS):
                reply = wire.decode(line.socket.recv(), wire.MAX_STORE_MESSAGE)
                if reply["type"] != "store_reply":
                    raise ProtocolError(f"the store at {self._address} answered with a '{reply['type']}' message")
                if reply["id"] == number:
                    return reply
                continue
            self._check(line)
            if time.monotonic() > deadline:
                return None

    def _check(self, line: _Line) -> None:
        if line.is_cut():
            self._drop(line)

    def _drop(self, line: _Line) -> NoReturn:
        line.close()
        raise DistNetworkError(
            f"the store at {self._address} is gone: its process has ended, or has closed it"
        ) from None

    def _line(self) -> _Line:
        if os.getpid() != self._pid:
            self._begin()
        line: _Line | None = getattr(self._local, "line", None)
        if line is None or line.socket.closed:
            line = self._local.line = self._open()
        return line

    def _open(self) -> _Line:
        with self._lock:
            line = _Line(_context(), self._address, self._key)
            self._lines.add(line)
        return line

    def close(self) -> None:
        """Close the connections of all threads; the next use opens new ones."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            for line in list(self._lines):
                line.close()


class AgentStore(ServedStore):
    """The store that the agent serves; its key came over the socket to the agent."""

    def __init__(self, link: AgentLink, timeout: float | timedelta = 300.0) -> None:
        super().__init__(timeout, link.welcome["store"], link.welcome["store_key"])
        self._link = link

    def _check(self, line: _Line) -> None:
        if os.getpid() == self._link.pid:
            self._link.check()
        super()._check(line)


class TCPStore(ServedStore):
    """A store that one process serves (`is_master=True`) and others of this user on this host reach at its port.

    host_name: a name or address of this host; the server listens on the loopback interface only. port: 0 lets the server
    pick one, see `port`. world_size: how many clients, the server's own among them, the server waits for, unless
    `wait_for_workers=False`; None: for none. timeout: seconds or a timedelta, for that, for reaching the server and for
    the keys. multi_tenant: whether several masters in this process may share one server. master_listen_fd: a listening
    TCP socket for the server. use_libuv: accepted and of no effect.

    Clients find the server's key in a file that only this user can read (see `disttorch.distributed.store_key`), and
    without that key nobody is let in. In a worker of `disttorch-run`, MASTER_ADDR and MASTER_PORT lead to the run's own
    store, whose key the worker has inherited. OSError if the port is taken, DistNetworkError if no server is reached.
    """

    def __init__(
        self,
        host_name: str,
        port: int,
        world_size: int | None = None,
        is_master: bool = False,
        timeout: float | timedelta = timedelta(seconds=300),
        wait_for_workers: bool = True,
        multi_tenant: bool = False,
        master_listen_fd: int | None = None,
        use_libuv: bool = True,
    ) -> None:
        if not 0 <= port < 2**16:
            raise ValueError(f"port must be a number from 0 to 65535, got {port}")
        self._host = host_name
        self._server: store_host.StoreHost | None = None
        deadline = time.monotonic() + seconds(timeout)
        own = None if is_master else _run_store(host_name, port)
        if own is not None:
            super().__init__(timeout, *own)
        else:
            addresses.check_local(host_name)
            if is_master:
                self._server = store_host.serve(port, multi_tenant, master_listen_fd)
                port = self._server.port
            super().__init__(timeout, f"tcp://127.0.0.1:{port}", b"")
        self._port = port
        try:
            self._reach(deadline)
            if world_size and wait_for_workers:
                self._assemble(world_size, deadline)
        except BaseException:
            self.close()
            raise

    @property
    def host(self) -> str:
        """The name of the host, as given."""
        return self._host

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self._port

    @property
    def libuvBackend(self) -> bool:  # noqa: N802 - PyTorch's name
        """Whether the server uses libuv: never."""
        return False

    def clone(self) -> TCPStore:
        """Return another client of the same server."""
        return TCPStore(self._host, self._port, timeout=self.timeout)

    def close(self) -> None:
        """Close the connections, and the server if this is the last master that uses it."""
        super().close()
        server, self._server = self._server, None
        if server is not None:
            server.release()

    def __del__(self) -> None:
        if getattr(self, "_local", None) is not None:
            self.close()

    def _reach(self, deadline: float) -> None:
        """Find the server's key and get a first answer. An old key, of a server that is gone, gets none."""
        known = bool(self._key)
        while True:
            if not known:
                self._key = store_key.find(self._port) or b""
            if self._key and self._greet(min(_GREETING_SECONDS, max(0.05, deadline - time.monotonic()))):
                return
            if time.monotonic() >= deadline:
                raise DistNetworkError(
                    f"no store of this user answers at {self._host}:{self._port} within {self._timeout:g} s; "
                    "start the master, TCPStore(..., is_master=True), on this host"
                )
            time.sleep(0.02)

    def _greet(self, limit: float) -> bool:
        line, number = self._line(), next(self._ids)
        request: dict[str, Any] = {
            "op": "check",
            "keys": [],
            "value": b"",
            "expected": b"",
            "amount": 0,
            "timeout": 0.0,
        }
        try:
            self._send(line, number, request)
            if self._receive(line, number, limit) is not None:
                return True
        except DistNetworkError:
            pass
        line.close()
        return False

    def _assemble(self, world_size: int, deadline: float) -> None:
        """Say that this client is there; the master waits for all of them."""
        here = self.add("init/", 1)
        while self._server is not None and here < world_size:
            if time.monotonic() > deadline:
                raise StoreTimeout(
                    f"{here} of {world_size} clients have come to the store at {self._host}:{self._port} "
                    f"within {self._timeout:g} s"
                )
            time.sleep(0.01)
            here = self.add("init/", 0)


def _run_store(host: str, port: int) -> tuple[str, bytes] | None:
    """Return the address and the key of the store of this run of `disttorch-run`, if that is what is asked for."""
    if not agent_link.has_agent():
        return None
    welcome = agent_link.connect().welcome
    own = urlsplit(welcome["store"])
    if port != own.port or not (host == own.hostname or addresses.is_local(host)):
        return None
    return welcome["store"], welcome["store_key"]
