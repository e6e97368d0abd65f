"""The store's table and its server, which the agent runs."""

from __future__ import annotations

import time
from typing import Any

from disttorch.distributed.errors import ProtocolError


def _reply(value: bytes = b"", amount: int = 0, error: str = "") -> dict[str, Any]:
    return {"value": value, "amount": amount, "error": error}


class StoreTable:
    """Keys and values, and what each request does to them."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Do what a request says and return the reply; None while it has to wait for a key."""
        op, keys = request["op"], request["keys"]
        if op in ("get", "wait"):
            if not all(key in self.values for key in keys):
                return None
            return _reply(self.values[keys[0]] if op == "get" else b"")
        if op == "check":
            return _reply(amount=int(all(key in self.values for key in keys)))
        if op == "count":
            return _reply(amount=len(self.values))
        return self._change(op, keys[0], request)

    def _change(self, op: str, key: str, request: dict[str, Any]) -> dict[str, Any]:
        if op == "set":
            self.values[key] = request["value"]
            return _reply()
        if op == "delete":
            return _reply(amount=int(self.values.pop(key, None) is not None))
        if op == "add":
            return self._add(key, request["amount"])
        if op == "compare_set":
            if self.values.get(key, b"") == request["expected"]:
                self.values[key] = request["value"]
            return _reply(self.values.get(key, request["expected"]))
        return _reply(error=f"unknown operation {op[:64]!r}")

    def _add(self, key: str, amount: int) -> dict[str, Any]:
        try:
            total = int(self.values.get(key, b"0")) + amount
        except ValueError:
            return _reply(error="the value of this key is not a number")
        if not -(2**63) <= total < 2**63:
            return _reply(error="the counter would leave 64 bits")
        self.values[key] = str(total).encode()
        return _reply(amount=total)


class StoreServer:
    """Answers the workers' requests on a ROUTER socket with CURVE: who lacks the run's key is refused.

    Listens on `host` at `port` (0: one that the kernel picks) and keeps it; OSError if that port
    is taken.
    """

    def __init__(self, host: str, port: int = 0) -> None:
        import zmq

        self.key, secret = zmq.curve_keypair()
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.CURVE_SERVER, 1)
        self.socket.setsockopt(zmq.CURVE_SECRETKEY, secret)
        self.socket.setsockopt(zmq.ROUTER_HANDOVER, 0)
        from disttorch.distributed.wire import MAX_STORE_MESSAGE

        self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_STORE_MESSAGE)
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

    @property
    def port(self) -> int:
        """The port that the store listens on."""
        return int(self.address.rpartition(":")[2])

    def serve(self) -> None:
        """Answer everything that has arrived, and whoever waited for what it brought."""
        import zmq

        while self.socket.poll(0, zmq.POLLIN):
            frames = self.socket.recv_multipart(zmq.NOBLOCK)
            if len(frames) == 2:
                self._receive(*frames)
        self.expire()

    def expire(self) -> None:
        """Answer those who wait for keys that came or whose time is over."""
        now = time.monotonic()
        still = []
        for client, deadline, request in self._waiting:
            reply = self.table.answer(request)
            if reply is None and now >= deadline:
                reply = _reply(error="timeout")
            if reply is None:
                still.append((client, deadline, request))
            else:
                self._send(client, request["id"], reply)
        self._waiting = still

    def next_deadline(self) -> float | None:
        """Return the monotonic time at which `expire` is next needed."""
        return min((deadline for _, deadline, _ in self._waiting), default=None)

    def _receive(self, client: bytes, data: bytes) -> None:
        from disttorch.distributed import wire

        try:
            request = wire.decode(data, wire.MAX_STORE_MESSAGE)
            if request["type"] != "store_request" or not all(isinstance(key, str) for key in request["keys"]):
                return
            if not request["keys"] and request["op"] not in ("count", "wait", "check"):
                return
        except ProtocolError:
            return
        reply = self.table.answer(request)
        if reply is None:
            self._waiting.append((client, time.monotonic() + request["timeout"], request))
        else:
            self._send(client, request["id"], reply)

    def _send(self, client: bytes, number: int, reply: dict[str, Any]) -> None:
        from disttorch.distributed import wire

        self.socket.send_multipart([client, wire.encode("store_reply", wire.MAX_STORE_MESSAGE, id=number, **reply)])

    def close(self) -> None:
        """Close the socket; its port is free again."""
        self.socket.close(linger=0)
        self.context.term()
