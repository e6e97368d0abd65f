"""Fuzzed frames into everything that reads what another process has sent.

What comes in is either read as what it says or refused with the error that its reader documents;
nothing else is raised, nothing hangs, and memory does not grow. The frames are made from valid
ones with seeded random numbers; `DISTTORCH_FUZZ=20` tries twenty times as many.
"""

from __future__ import annotations

import gc
import itertools
import math
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from disttorch.distributed import objects, wire
from disttorch.distributed.agent_link import AgentLink, send_descriptor
from disttorch.distributed.errors import ProtocolError
from disttorch.distributed.headers import HEADER, Header
from disttorch.distributed.store_table import StoreServer, StoreTable
from disttorch_run.attempt import Attempt, Run
from disttorch_run.events import Loop
from disttorch_run.options import Options
from disttorch_run.placement import Placement
from disttorch_run.process import Worker
from disttorch_run.segments import SegmentServer
from disttorch_run.status import Board

TIMES = float(os.environ.get("DISTTORCH_FUZZ", "1"))
RANKS = 3
HOSTILE: list[Any] = [
    None, True, 0, -1, 1, 2, RANKS, 255, 2**31, -(2**31), 2**32, 2**63 - 1, -(2**63), 2**64 - 1,
    0.0, 1.0, -1.5, 1e18, 1e300, math.inf, -math.inf, math.nan,
    "", "x", "\0", "\x1b[2J", "../../etc/passwd", "ü" * 300, "k" * 60_000, b"", b"\xff" * 9, bytes(60_000),
    [], [[]], [0], [1.0], [True], [-1], [2**63], ["a", 1], [None] * 3000, list(range(3000)), {}, {"a": 1}, [{}],
    msgpack.Timestamp(1, 2), msgpack.ExtType(5, b"x"),
]  # fmt: skip
# Beginnings that promise much: lists, maps, texts and extensions of 2**32 - 1 elements, never-used codes.
PROMISES = [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
            b"\xc9\xff\xff\xff\xff\x01", b"\xc1", b"\xdc\xff\xff", b"\xc7\x00\xff", b"\xd7\xff" + b"\xff" * 8]  # fmt: skip

FIELDS: dict[str, Any] = {"store_request": {"op": "set", "keys": ["k"], "timeout": 0.01, "amount": 2}}
BY_TYPE: dict[type, Any] = {str: "text", int: 1, bytes: b"bytes", bool: False, list: [1, 2], float: 1.5}


def valid_messages() -> list[dict[str, Any]]:
    """Return one message of every type."""
    return [
        {"type": kind, **{name: BY_TYPE[types[-1]] for name, types in schema.items()}, **FIELDS.get(kind, {})}
        for kind, schema in wire.SCHEMAS.items()
    ]


def store_messages() -> list[dict[str, Any]]:
    base = next(m for m in valid_messages() if m["type"] == "store_request")
    operations = "set get add wait check compare_set delete count list append push pop take length nonsense".split()
    return [{**base, "op": op, "id": number} for number, op in enumerate(operations)]


def damage(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """Return `data` with one kind of damage."""
    at, end = sorted((chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)))
    kind = chance.randrange(8)
    if kind == 0:
        return data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data + chance.randbytes(chance.randrange(1, 40))
    if kind == 3:
        return data[:end] + data[at:]
    if kind == 4:
        return data[:at] + data[end:]
    if kind == 5:
        return data[:at] + chance.choice(PROMISES) + data[at:]
    if kind == 6:
        return data[:at] + other[at:]
    return data[:at] + chance.choice(PROMISES) * chance.choice([1, 2, 300, 3000]) + data[at:]


def disguise(chance: random.Random, message: dict[str, Any]) -> bytes:
    """Return a message with hostile values in one or two of its fields, or with fields too many or too few."""
    changed = dict(message)
    for _ in range(chance.choice([1, 1, 2])):
        changed[chance.choice(list(changed))] = chance.choice(HOSTILE)
    if chance.random() < 0.1:
        changed[chance.choice(["type", "more", ""])] = chance.choice(HOSTILE)
    if chance.random() < 0.1:
        changed.pop(chance.choice(list(changed)), None)
    return bytes(msgpack.packb(changed))


def frames(seed: int, valid: list[bytes], count: int, messages: list[dict[str, Any]] | None = None) -> Iterator[bytes]:
    """Yield `count` frames: damaged ones, disguised ones if there are `messages`, random bytes, and some valid ones."""
    chance = random.Random(seed)
    for _ in range(int(count * TIMES)):
        kind = chance.random()
        if kind < 0.1:
            yield chance.randbytes(chance.choice([0, 1, 2, 8, 63, 64, 65, 500]))
        elif kind < 0.15:
            yield chance.choice(valid)
        elif kind < 0.6 and messages:
            yield disguise(chance, chance.choice(messages))
        else:
            data = chance.choice(valid)
            for _ in range(chance.choice([1, 1, 2, 4])):
                data = damage(chance, data, chance.choice(valid))
            yield data


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(autouse=True)
def memory_stays() -> Iterator[None]:
    before = resident_bytes()
    yield
    grown = resident_bytes() - before
    assert grown < 48 << 20, f"{grown >> 20} MiB more than before"


def survives(read: Callable[[bytes], object], given: Iterator[bytes], allowed: type[BaseException]) -> int:
    """Read every frame; return how many were refused. AssertionError, with the frame, for anything but `allowed`."""
    refused = slowest = 0
    for frame in given:
        started = time.perf_counter()
        try:
            read(frame)
        except allowed:
            refused += 1
        except BaseException as error:
            raise AssertionError(f"{type(error).__name__}: {error} for {frame[:200]!r}, {len(frame)} bytes") from error
        slowest = max(slowest, time.perf_counter() - started)
    assert slowest < 1, f"a frame took {slowest:.1f} s"
    return refused


def packed(messages: list[dict[str, Any]]) -> list[bytes]:
    return [msgpack.packb(message) for message in messages]


def test_control_messages() -> None:
    messages = valid_messages()
    refused = survives(wire.decode, frames(1, packed(messages), 40_000, messages), ProtocolError)
    assert 25_000 * TIMES < refused < 39_000 * TIMES


@pytest.mark.parametrize("nesting", [10, 500, 1000, 12_000])
@pytest.mark.parametrize("limit", [wire.MAX_MESSAGE, wire.MAX_STORE_MESSAGE])
def test_lists_that_promise_more_than_they_hold(nesting: int, limit: int) -> None:
    size = min(limit, 2 << 20)
    bomb = (b"\xdd" + (size - 5 * nesting).to_bytes(4, "big")) * nesting
    bomb += b"\xc0" * (size - len(bomb))
    before = resident_bytes()
    survives(lambda data: wire.decode(data, limit), iter([bomb]), ProtocolError)
    survives(objects.loads, iter([bomb]), ValueError)
    assert resident_bytes() - before < 16 << 20


def test_payload_headers() -> None:
    valid = [Header(op, 1, 2, 3, 4, 5, 6, 7, 8, 9, 2**64 - 1, 1).pack() for op in range(4)]
    refused = survives(Header.unpack, frames(2, valid, 20_000), ProtocolError)
    assert 10_000 * TIMES < refused < 19_000 * TIMES
    assert all(len(Header.unpack(data).pack()) == HEADER.size for data in valid)


def test_objects() -> None:
    arrays = [np.arange(6.0).reshape(2, 3), np.float32(2), np.array(["ab", "c"]), np.array(["2020-01-01"], "M8[D]")]
    values: list[Any] = [None, 3, 2**90, 1 - 2j, "text", b"bytes", [1, [2.5]], (1, (2, "x")), {"a": {3}, (1,): None}]
    valid = [objects.dumps(value) for value in [*values, *arrays, [values, tuple(arrays)]]]
    strange = [
        msgpack.packb(msgpack.ExtType(code, inner))
        for code in (1, 2, 3, 4, 5, 6, 7, 127)
        for inner in [b"", b"\xff" * 9, objects.dumps((1,)), *(array_like(d, s) for d in DTYPES for s in SHAPES)]
    ]
    refused = survives(objects.loads, iter(strange), ValueError)
    assert refused > len(strange) / 2
    refused = survives(objects.loads, frames(3, valid, 40_000), ValueError)
    assert 15_000 * TIMES < refused < 38_000 * TIMES


DTYPES: list[Any] = [
    "<f8", "O", "|O8", "f4,O", "<U999999999", "<U0", "|S0", "V8", "|V2147483647", "(2,f4", "a", "<f3", "<M8[25s]", "<M8[??]",
    "<m8[0s]", "bfloat16", "float64", "", "\0", 3, None, ["f4"], {"names": ["a"], "formats": ["O"]}, "<c16", "|b1", ">i2",
]  # fmt: skip
SHAPES: list[Any] = [
    [],
    [1],
    [2, 4],
    [-1],
    [0],
    [0, 2**62],
    [2**63],
    [2**32, 2**32],
    [1] * 70,
    ["1"],
    None,
    8,
    [True],
    [1.0],
]


def array_like(dtype: Any, shape: Any, scalar: bool = False) -> bytes:
    head = msgpack.packb([dtype, shape, scalar])
    return bytes(len(head).to_bytes(4, "little") + head + bytes(64))


@pytest.mark.parametrize("wrapping", [lambda v: (v,), lambda v: [v], lambda v: {"k": v}, lambda v: frozenset([v])])
def test_deep_objects_come_back_or_are_refused(wrapping: Callable[[Any], Any]) -> None:
    value: Any = 1
    for depth in range(1, 3001):
        value = wrapping(value)
        if depth in (5, 150):
            again = objects.loads(objects.dumps(value))
            assert again == value
            del again
    with pytest.raises(ValueError, match="cannot send this object"):
        objects.dumps(value)
    while isinstance(value, (list, tuple)):  # a deep tuple's own end recurses
        [value] = value


def test_the_store_serves_on_after_a_mad_client() -> None:
    server = StoreServer("127.0.0.1")
    server.table = StoreTable(max_bytes=8 << 20)
    mad, sane = (store_client(server) for _ in range(2))
    messages = store_messages()
    given = frames(4, packed(messages), 15_000, messages)
    started = time.monotonic()
    while some := [*itertools.islice(given, 500)]:
        for frame in some:
            mad.send_multipart([frame] if len(frame) % 13 else [frame, b"", frame])
        assert ask_store(server, sane, op="count")["error"] == ""
        ask_store(server, mad, op="count")  # by then it has read all that came before
        due = server.next_deadline()
        assert due is None or not math.isnan(due)
    assert time.monotonic() - started < 10 * TIMES
    ask_store(server, sane, op="set", keys=["fine"], value=b"yes")
    assert ask_store(server, sane, op="get", keys=["fine"])["value"] == b"yes"
    assert all(type(key) is str and type(value) is bytes for key, value in server.table.values.items())
    for client in (mad, sane):
        client.close(0)
    server.close()


def store_client(server: StoreServer) -> Any:
    """Return a socket that has the run's key."""
    import zmq

    client = server.context.socket(zmq.DEALER)
    client.setsockopt(zmq.LINGER, 0)
    client.setsockopt(zmq.SNDHWM, 0)
    client.curve_serverkey = server.key
    client.curve_publickey, client.curve_secretkey = zmq.curve_keypair()
    client.connect(server.address)
    return client


_numbers = itertools.count(2**40)


def ask_store(server: StoreServer, client: Any, **fields: Any) -> dict[str, Any]:
    """Send a request, let the server work, return the reply; AssertionError if there is none within 5 s."""
    number = next(_numbers)
    request = {"id": number, "keys": [], "value": b"", "expected": b"", "amount": 0, "timeout": 0.0, **fields}
    client.send(wire.encode("store_request", wire.MAX_STORE_MESSAGE, **request))
    until = time.monotonic() + 5
    while True:
        server.socket.poll(1)
        server.serve()
        while client.poll(0):
            reply = wire.decode(client.recv(), wire.MAX_STORE_MESSAGE)
            if reply["id"] == number:
                return reply
        assert time.monotonic() < until, "the store does not answer any more"


class Desk:
    """An attempt with workers that have no process, only their end of the socket."""

    def __init__(self) -> None:
        self.said: list[str] = []
        places = [Placement((), 1, None)] * RANKS
        self.loop, self.board = Loop(), Board()
        options = Options(command=[], placements=places, say=self.said.append)
        self.attempt = Attempt(Run(options, self.loop, None, self.board, {}), 0)
        self.attempt._segments = SegmentServer()
        self.attempt.workers = [Worker(rank) for rank in range(RANKS)]
        self.board.begin(self.attempt.workers)

    def deliver(self, frame: bytes) -> None:
        """Let worker 1 send a frame, and the agent deal with it as if nothing had failed before."""
        worker = self.attempt.workers[1]
        worker._far.send(frame)
        self.attempt.failure = None
        self.attempt._listen(worker)
        self.board.summary()
        failure = self.attempt.failure
        if failure is not None and "malformed" in failure.reason:
            raise ProtocolError(failure.reason)

    def close(self) -> None:
        for worker in self.attempt.workers:
            worker.close()
        self.attempt._segments.close()


def test_the_agent_and_a_mad_worker() -> None:
    desk = Desk()
    ends = [worker._far for worker in desk.attempt.workers]
    for end in ends:
        end.setblocking(False)
    messages = [m for m in valid_messages() if not m["type"].startswith("store_")]
    descriptors = len(os.listdir("/proc/self/fd"))

    def deliver(frame: bytes) -> None:
        try:
            desk.deliver(frame[: wire.MAX_MESSAGE + 5000] or b"\0")
        finally:
            for end in ends:
                drain(end)

    refused = survives(deliver, frames(5, packed(messages), 15_000, messages), ProtocolError)
    assert 5_000 * TIMES < refused < 15_000 * TIMES
    assert len(desk.attempt._warned) < 2**RANKS
    assert len(os.listdir("/proc/self/fd")) - descriptors < 400
    desk.close()


def drain(end: socket.socket) -> None:
    """Read what has arrived at a worker's end, and close the descriptors that came with it."""
    while True:
        try:
            data, descriptors, _, _ = socket.recv_fds(end, wire.MAX_MESSAGE, 4)
        except BlockingIOError:
            return
        for fd in descriptors:
            os.close(fd)
        assert wire.decode(data)["type"] in ("segment", "abort", "left")


def test_a_worker_and_a_mad_agent() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    messages = [m for m in valid_messages() if m["type"] in ("welcome", "segment", "abort", "left", "ready")]
    near.send(packed(messages)[0])
    link = AgentLink(far.detach())
    memory = os.memfd_create("fuzz")
    chance = random.Random(6)

    def deliver(frame: bytes) -> None:
        fd = memory if chance.random() < 0.2 else -1
        send_descriptor(near, frame[: wire.MAX_MESSAGE + 5000] or b"\0", fd)
        message, got = link._receive()
        if message["type"] == "abort":
            link._main_knows = True  # no signal to this test's main thread
        link._handle(message, got)

    descriptors = len(os.listdir("/proc/self/fd"))
    refused = survives(deliver, frames(6, packed(messages), 10_000, messages), ProtocolError)
    assert 5_000 * TIMES < refused < 10_000 * TIMES
    for _, fd in link._segments.values():
        if fd >= 0:
            os.close(fd)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    near.close()
    link._socket.close()
    os.close(memory)
