"""A key-value store that all ranks share, as `torch.distributed.Store`: for finding each other and small facts."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from disttorch.distributed.agent_link import AgentLink
from disttorch.distributed.errors import DistError, StoreTimeout
from disttorch.distributed.store_table import StoreTable

_SLICE_MILLISECONDS = 50
_MARGIN_SECONDS = 5.0


def seconds(timeout: float | timedelta) -> float:
    """Return a time-out in seconds; ValueError unless it is positive."""
    value = timeout.total_seconds() if isinstance(timeout, timedelta) else float(timeout)
    if not value > 0:
        raise ValueError(f"a time-out must be a positive number of seconds or a timedelta, got {timeout!r}")
    return value


class Store:
    """The store of this run. Keys are strings, values bytes; waiting ends with StoreTimeout after `timeout` seconds."""

    def __init__(self, timeout: float | timedelta = 300.0) -> None:
        self._timeout = seconds(timeout)
        self._table = StoreTable()
        self._changed = threading.Condition()

    @property
    def timeout(self) -> timedelta:
        """How long `get` and `wait` wait unless told."""
        return timedelta(seconds=self._timeout)

    def set_timeout(self, timeout: float | timedelta) -> None:
        """Set how long `get` and `wait` wait unless told."""
        self._timeout = seconds(timeout)

    def set(self, key: str, value: str | bytes) -> None:
        """Store `value` under `key`."""
        self._ask("set", [key], value=_as_bytes(value))

    def get(self, key: str) -> bytes:
        """Return the value of `key`, waiting until somebody sets it."""
        value: bytes = self._ask("get", [key], timeout=self._timeout)["value"]
        return value

    def add(self, key: str, amount: int) -> int:
        """Add `amount` to the counter `key`, which begins at 0, and return its new value."""
        total: int = self._ask("add", [key], amount=int(amount))["amount"]
        return total

    def wait(self, keys: Sequence[str], timeout: float | timedelta | None = None) -> None:
        """Wait until all `keys` are set."""
        limit = self._timeout if timeout is None else seconds(timeout)
        self._ask("wait", list(keys), timeout=limit)

    def check(self, keys: Sequence[str]) -> bool:
        """Say whether all `keys` are set."""
        return bool(self._ask("check", list(keys))["amount"])

    def compare_set(self, key: str, expected_value: str | bytes, desired_value: str | bytes) -> bytes:
        """Set `key` if its value is `expected_value`, or if it has none and that is empty; return its value now."""
        expected, desired = _as_bytes(expected_value), _as_bytes(desired_value)
        value: bytes = self._ask("compare_set", [key], value=desired, expected=expected)["value"]
        return value

    def delete_key(self, key: str) -> bool:
        """Remove `key` and say whether it was there."""
        return bool(self._ask("delete", [key])["amount"])

    def num_keys(self) -> int:
        """Return the number of keys."""
        count: int = self._ask("count", [])["amount"]
        return count

    def _ask(self, op: str, keys: list[str], **details: Any) -> dict[str, Any]:
        for key in keys:
            if not isinstance(key, str):
                raise TypeError(f"store keys are strings, got {type(key).__name__}")
        request = {
            "op": op,
            "keys": keys,
            "value": b"",
            "expected": b"",
            "amount": 0,
            "timeout": 0.0,
            **details,
        }
        reply = self._request(request)
        if reply["error"] == "timeout":
            raise StoreTimeout(f"store.{op}({', '.join(keys)}): not set within {request['timeout']:g} s")
        if reply["error"]:
            raise DistError(f"store.{op}({', '.join(keys)}): {reply['error']}")
        return reply

    def _request(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer from a table in this process: the store of a group of one."""
        found: list[dict[str, Any]] = []

        def answered() -> bool:
            reply = self._table.answer(request)
            if reply is not None:
                found.append(reply)
            return reply is not None

        with self._changed:
            if not self._changed.wait_for(answered, request["timeout"]):
                return {"value": b"", "amount": 0, "error": "timeout"}
            self._changed.notify_all()
        return found[0]


class AgentStore(Store):
    """The store that the agent serves, over ZeroMQ with CURVE encryption.

    ZeroMQ sockets are not thread-safe, so each thread that uses the store has one of its own; a
    thread that waits for a key does not hold up the others.
    """

    def __init__(self, link: AgentLink, timeout: float | timedelta = 300.0) -> None:
        super().__init__(timeout)
        self._link = link
        self._local = threading.local()
        self._ids = itertools.count()
        self._sockets: list[Any] = []
        self._context: Any = None
        self._lock = threading.Lock()

    def _request(self, request: dict[str, Any]) -> dict[str, Any]:
        from disttorch.distributed import wire

        socket = self._socket()
        number = next(self._ids)
        socket.send(wire.encode("store_request", wire.MAX_STORE_MESSAGE, id=number, **request))
        deadline = time.monotonic() + request["timeout"] + _MARGIN_SECONDS
        while True:
            if socket.poll(_SLICE_MILLISECONDS):
                reply = wire.decode(socket.recv(), wire.MAX_STORE_MESSAGE)
                if reply["id"] == number:
                    return reply
            self._link.check()
            if time.monotonic() > deadline:
                raise DistError(f"the store of this run did not answer within {_MARGIN_SECONDS:g} s")

    def _socket(self) -> Any:
        if os.getpid() != self._link.pid:
            raise DistError("the store cannot be used in a forked process; use it in the worker itself")
        socket = getattr(self._local, "socket", None)
        if socket is None or socket.closed:
            socket = self._local.socket = self._open()
        return socket

    def _open(self) -> Any:
        import zmq

        public, secret = zmq.curve_keypair()
        with self._lock:
            if self._context is None:
                self._context = zmq.Context()
            socket = self._context.socket(zmq.DEALER)
            self._sockets.append(socket)
        socket.setsockopt(zmq.LINGER, 1000)
        socket.setsockopt(zmq.CURVE_SERVERKEY, self._link.welcome["store_key"])
        socket.setsockopt(zmq.CURVE_PUBLICKEY, public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, secret)
        socket.connect(self._link.welcome["store"])
        return socket

    def close(self) -> None:
        """Close the sockets of all threads; the next use opens new ones."""
        with self._lock:
            for socket in self._sockets:
                socket.close(linger=0)
            self._sockets.clear()


def _as_bytes(value: str | bytes) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"store values are str or bytes, got {type(value).__name__}")
