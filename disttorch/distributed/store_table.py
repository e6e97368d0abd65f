"""The store's table and its server, which the agent or a `TCPStore` runs."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from typing import Any

from disttorch.distributed.errors import ProtocolError

MAX_KEYS = 128 * 1024
MAX_BYTES = 512 * 1024 * 1024
# A value travels in one message, of which this much is kept for everything else in it.
MESSAGE_OVERHEAD = 64 * 1024
_LONGEST_KEY = MESSAGE_OVERHEAD // 8
MAX_WAITING = 4096
# What a key costs besides its text and its value.
_BYTES_PER_KEY = 256
# Messages of one connection that the server holds, in each direction; a client has one request at a time.
_HELD_MESSAGES = 8
_REQUESTS_PER_TURN = 64
_HANDSHAKE_MILLISECONDS = 5000
_LONGEST_SLEEP = 3600.0
_FULL = "the store is full: it holds at most {} {}; delete keys that are no longer needed"
_WAITING_OPS = ("get", "wait", "pop")
_KEYLESS_OPS = ("count", "list", "wait", "check")


def _reply(value: bytes = b"", amount: int = 0, error: str = "") -> dict[str, Any]:
    return {"value": value, "amount": amount, "error": error}


class StoreTable:
    """Keys and values, queues, and what each request does to them.

    `version` changes with every change. What would take more than `max_keys` keys or `max_bytes` bytes is refused.
    """

    def __init__(self, max_keys: int = MAX_KEYS, max_bytes: int = MAX_BYTES) -> None:
        self.values: dict[str, bytes] = {}
        self.queues: dict[str, deque[bytes]] = {}
        self.version = 0
        self._max_keys, self._max_bytes = max_keys, max_bytes
        self._used = 0

    def answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Do what a request says and return the reply; None while it has to wait for a key."""
        op, keys = request["op"], request["keys"]
        if op in _WAITING_OPS:
            return self._look_up(op, keys)
        if op == "check":
            return _reply(amount=int(all(self._has(key) for key in keys)))
        if op == "count":
            return _reply(amount=len(self.values) + len(self.queues))
        if op == "list":
            return self._list()
        if op == "length":
            return _reply(amount=len(self.queues.get(keys[0], ())))
        return self._change(op, keys[0], request)

    def _has(self, key: str) -> bool:
        return key in self.values or key in self.queues

    def _look_up(self, op: str, keys: list[str]) -> dict[str, Any] | None:
        if op == "pop":
            return self._pop(keys[0]) if keys[0] in self.queues else None
        if op == "get":
            value = self.values.get(keys[0])
            return None if value is None else _reply(value)
        return _reply() if all(self._has(key) for key in keys) else None

    def _list(self) -> dict[str, Any]:
        import msgpack

        from disttorch.distributed.wire import MAX_STORE_MESSAGE

        packed = msgpack.packb([*self.values, *self.queues])
        if len(packed) > MAX_STORE_MESSAGE - MESSAGE_OVERHEAD:
            return _reply(error="the keys are too many for one message")
        return _reply(packed)

    def _change(self, op: str, key: str, request: dict[str, Any]) -> dict[str, Any]:
        value = request["value"]
        if op == "set":
            return self._store(key, value)
        if op == "append":
            return self._store(key, self.values.get(key, b"") + value)
        if op == "delete":
            return self._delete(key)
        if op == "add":
            return self._add(key, request["amount"])
        if op == "compare_set":
            if self.values.get(key, b"") != request["expected"]:
                return _reply(self.values.get(key, request["expected"]))
            return self._store(key, value, _reply(value))
        if op == "push":
            return self._push(key, value)
        if op == "take":
            return self._pop(key) if key in self.queues else _reply(error="empty")
        return _reply(error=f"unknown operation {op[:64]!r}")

    def _store(self, key: str, value: bytes, done: dict[str, Any] | None = None) -> dict[str, Any]:
        old = self.values.get(key)
        refused = self._claim(key, len(value), old is None, 0 if old is None else len(old))
        if refused is not None:
            return refused
        self.values[key] = value
        return done or _reply()

    def _delete(self, key: str) -> dict[str, Any]:
        value, queue = self.values.pop(key, None), self.queues.pop(key, None)
        if value is not None:
            self._release(key, len(value))
        if queue is not None:
            self._release(key, sum(len(item) + _BYTES_PER_KEY for item in queue))
        return _reply(amount=int(value is not None or queue is not None))

    def _add(self, key: str, amount: int) -> dict[str, Any]:
        text = self.values.get(key, b"0")
        try:
            if len(text) > 20:  # 64 bits have no more digits
                raise ValueError
            total = int(text) + amount
        except ValueError:
            return _reply(error="the value of this key is not a number")
        if not -(2**63) <= total < 2**63:
            return _reply(error="the counter would leave 64 bits")
        return self._store(key, str(total).encode(), _reply(amount=total))

    def _push(self, key: str, value: bytes) -> dict[str, Any]:
        refused = self._claim(key, len(value) + _BYTES_PER_KEY, key not in self.queues)
        if refused is not None:
            return refused
        self.queues.setdefault(key, deque()).append(value)
        return _reply()

    def _pop(self, key: str) -> dict[str, Any]:
        queue = self.queues[key]
        value = queue.popleft()
        self._used -= len(value) + _BYTES_PER_KEY
        if not queue:
            del self.queues[key]
            self._release(key, 0)
        self.version += 1
        return _reply(value)

    def _claim(self, key: str, length: int, new: bool, replaced: int = 0) -> dict[str, Any] | None:
        """Count the memory of a value; return a refusal if there is no room for it."""
        from disttorch.distributed.wire import MAX_STORE_MESSAGE

        limit = MAX_STORE_MESSAGE - MESSAGE_OVERHEAD
        if length > limit or len(key) > _LONGEST_KEY:
            return _reply(error=f"a value may hold {limit} bytes and a key {_LONGEST_KEY} characters")
        if new and len(self.values) + len(self.queues) >= self._max_keys:
            return _reply(error=_FULL.format(self._max_keys, "keys"))
        more = length - replaced + (4 * len(key) + _BYTES_PER_KEY if new else 0)
        if more > 0 and self._used + more > self._max_bytes:
            return _reply(error=_FULL.format(self._max_bytes, "bytes"))
        self._used += more
        self.version += 1
        return None

    def _release(self, key: str, length: int) -> None:
        self._used -= length + 4 * len(key) + _BYTES_PER_KEY
        self.version += 1


class StoreServer:
    """Answers requests on a ROUTER socket with CURVE: who lacks the server's key is refused.

    Listens on `host` at `port` (0: one that the kernel picks) and keeps it, or on the listening TCP socket `listener`;
    OSError if the port is taken. What one client can make it hold is bounded: `MAX_KEYS`, `MAX_BYTES`, and
    `MAX_WAITING` requests that wait for at most `MAX_KEYS` keys together.
    """

    def __init__(self, host: str, port: int = 0, listener: int | None = None) -> None:
        import zmq

        from disttorch.distributed.wire import MAX_STORE_MESSAGE

        self.refused = 0
        self._monitor: Any = None
        self.key, secret = zmq.curve_keypair()
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.CURVE_SERVER, 1),
            (zmq.ROUTER_HANDOVER, 0),
            (zmq.MAXMSGSIZE, MAX_STORE_MESSAGE),
            (zmq.RCVHWM, _HELD_MESSAGES),
            (zmq.SNDHWM, _HELD_MESSAGES),
            (zmq.HANDSHAKE_IVL, _HANDSHAKE_MILLISECONDS),
        ):
            self.socket.setsockopt(option, value)
        self.socket.setsockopt(zmq.CURVE_SECRETKEY, secret)
        if listener is not None:
            self.socket.setsockopt(zmq.USE_FD, listener)
        try:
            self.socket.bind(f"tcp://{host}:{port or '*'}")
        except zmq.ZMQError as error:
            self.close()
            raise OSError(f"cannot listen on {host}:{port}: {error.strerror}; use port 0 for any free one") from None
        endpoint = self.socket.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(endpoint, bytes)
        self.address = endpoint.rstrip(b"\0").decode()
        self.table = StoreTable()
        self._waiting: list[tuple[bytes, float, dict[str, Any]]] = []
        self._waited_keys = 0
        self._seen = self.table.version

    @property
    def port(self) -> int:
        """The port that the store listens on."""
        return int(self.address.rpartition(":")[2])

    def serve(self) -> None:
        """Answer what has arrived (a share of it, if it is much), and whoever waited for what it brought."""
        import zmq

        for _ in range(_REQUESTS_PER_TURN):
            if not self.socket.poll(0, zmq.POLLIN):
                break
            frames = self.socket.recv_multipart(zmq.NOBLOCK)
            if len(frames) == 2:
                self._receive(*frames)
        self.expire()

    def watch_refused(self) -> Any:
        """Begin to count in `refused` who comes without the key; return a socket.

        Whenever that can be read `count_refused` must be called: ZeroMQ stops serving when nobody reads it.
        """
        import zmq

        kinds = (
            zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
            zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
            zmq.EVENT_HANDSHAKE_FAILED_AUTH,
        )
        self._monitor = self.socket.get_monitor_socket(sum(kinds))
        return self._monitor

    def count_refused(self) -> None:
        """Count those who have been refused since the last call."""
        import zmq

        for _ in range(_REQUESTS_PER_TURN):
            if not self._monitor.poll(0, zmq.POLLIN):
                return
            self._monitor.recv_multipart(zmq.NOBLOCK)
            self.refused += 1

    def expire(self) -> None:
        """Answer those who wait for keys that came or whose time is over."""
        now = time.monotonic()
        if self._seen == self.table.version and all(deadline > now for _, deadline, _ in self._waiting):
            return
        self._seen = self.table.version
        still = []
        for client, deadline, request in self._waiting:
            reply = self.table.answer(request)
            if reply is None and now >= deadline:
                reply = _reply(error="timeout")
            if reply is None:
                still.append((client, deadline, request))
            else:
                self._waited_keys -= len(request["keys"])
                self._send(client, request["id"], reply)
        self._waiting = still

    def next_deadline(self) -> float | None:
        """Return the monotonic time at which `expire` is next needed."""
        soonest = min((deadline for _, deadline, _ in self._waiting), default=None)
        return None if soonest is None else min(soonest, time.monotonic() + _LONGEST_SLEEP)

    def _receive(self, client: bytes, data: bytes) -> None:
        from disttorch.distributed import wire

        try:
            request = wire.decode(data, wire.MAX_STORE_MESSAGE)
            if request["type"] != "store_request" or not all(isinstance(key, str) for key in request["keys"]):
                return
            if not request["keys"] and request["op"] not in _KEYLESS_OPS:
                return
        except ProtocolError:
            return
        if not (0 <= request["timeout"] <= threading.TIMEOUT_MAX and math.isfinite(request["timeout"])):
            reply: dict[str, Any] | None = _reply(error="the time-out must be a number of seconds from 0")
        else:
            reply = self.table.answer(request)
        if reply is None:
            reply = self._let_wait(client, request)
        if reply is not None:
            self._send(client, request["id"], reply)

    def _let_wait(self, client: bytes, request: dict[str, Any]) -> dict[str, Any] | None:
        """Keep a request that waits for keys; return a refusal if too much waits already."""
        keys = len(request["keys"])
        if any(len(key) > _LONGEST_KEY for key in request["keys"]):  # nobody can set it
            return _reply(error=f"a key may hold {_LONGEST_KEY} characters")
        if len(self._waiting) >= MAX_WAITING or self._waited_keys + keys > MAX_KEYS:
            return _reply(error=f"too many wait already: {len(self._waiting)} requests for {self._waited_keys} keys")
        kept = {name: request[name] for name in ("id", "op", "keys")}  # not the rest, which may be long
        self._waited_keys += keys
        self._waiting.append((client, time.monotonic() + request["timeout"], kept))
        return None

    def _send(self, client: bytes, number: int, reply: dict[str, Any]) -> None:
        from disttorch.distributed import wire

        self.socket.send_multipart([client, wire.encode("store_reply", wire.MAX_STORE_MESSAGE, id=number, **reply)])

    def close(self) -> None:
        """Close the socket; its port is free again."""
        if self._monitor is not None:
            self.socket.disable_monitor()
            self._monitor.close(linger=0)
        self.socket.close(linger=0)
        self.context.term()
