"""The store, in one process and served by the agent."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading

import pytest

import disttorch.distributed as dist
from disttorch.distributed.messages import accept_only_this_user
from disttorch.distributed.store_table import StoreServer
from disttorch.testing.distributed import run


def check_operations(store: dist.Store) -> None:
    store.set("a", "1")
    assert store.get("a") == b"1"
    assert store.add("a", 4) == 5
    assert store.get("a") == b"5"
    assert store.add("fresh", -3) == -3
    assert store.check(["a", "fresh"])
    assert not store.check(["a", "none"])
    assert store.compare_set("a", "6", "7") == b"5"
    assert store.compare_set("a", "5", "7") == b"7"
    assert store.compare_set("new", "", "first") == b"first"
    assert store.num_keys() == 3
    assert store.delete_key("new")
    assert not store.delete_key("new")
    store.set("big", bytes(2_000_000))
    assert len(store.get("big")) == 2_000_000
    with pytest.raises(dist.StoreTimeout, match=r"store.wait\(a, never\): not set within 0.1 s"):
        store.wait(["a", "never"], 0.1)
    store.set_timeout(0.05)
    with pytest.raises(dist.StoreTimeout):
        store.get("never")
    with pytest.raises(dist.DistError, match="not a number"):
        store.add("big", 1)
    with pytest.raises(TypeError, match="str or bytes"):
        store.set("a", 1)
    with pytest.raises(TypeError, match="keys are strings"):
        store.get(3)
    with pytest.raises(ValueError, match="positive"):
        store.set_timeout(0)


def test_a_store_in_one_process() -> None:
    check_operations(dist.Store())


def test_one_thread_waits_while_another_sets() -> None:
    store = dist.Store()
    timer = threading.Timer(0.1, lambda: store.set("late", "x"))
    timer.start()
    assert store.get("late") == b"x"
    timer.join()


def check_shared() -> None:
    rank, size = dist.get_rank(), dist.get_world_size()
    store = dist.default_store()
    if rank == 0:
        check_operations(store)
        store.set_timeout(10)
        store.set("ready", "")
    store.wait(["ready"])
    got = []
    thread = threading.Thread(target=lambda: got.append(store.get("from thread")))
    thread.start()
    total = store.add("counter", rank + 1)
    assert total <= sum(range(size + 1))
    if rank == 0:
        store.set("from thread", b"\0\xff")
    thread.join(5)
    assert got == [b"\0\xff"]
    dist.barrier()
    assert store.add("counter", 0) == sum(range(size + 1))
    with pytest.raises(dist.StoreTimeout):
        store.wait(["never"], 0.1)


def test_the_agents_store() -> None:
    run(check_shared, 2)


def test_the_server_ignores_what_is_no_request_and_refuses_strangers() -> None:
    import zmq

    server = StoreServer("127.0.0.1")
    stranger = server.context.socket(zmq.DEALER)
    stranger.setsockopt(zmq.LINGER, 0)
    stranger.connect(server.address)
    public, secret = zmq.curve_keypair()
    known = server.context.socket(zmq.DEALER)
    known.setsockopt(zmq.LINGER, 0)
    known.curve_serverkey, known.curve_publickey, known.curve_secretkey = server.key, public, secret
    known.connect(server.address)
    from disttorch.distributed import wire

    fields = {"keys": ["k"], "value": b"v", "expected": b"", "amount": 0, "timeout": 0.0}
    stranger.send(wire.encode("store_request", id=1, op="set", **fields))
    for junk in (
        b"",
        b"\xc1",
        b"\x93\x01\x02\x03",
        wire.encode("ready"),
        b"\x81\xa4type\xadstore_request",
    ):
        known.send(junk)
    known.send(wire.encode("store_request", id=2, op="check", **fields))
    for _ in range(200):
        server.socket.poll(10)
        server.serve()
        if known.poll(0):
            break
    reply = wire.decode(known.recv(zmq.NOBLOCK))
    assert reply == {"type": "store_reply", "id": 2, "value": b"", "amount": 0, "error": ""}
    assert server.table.values == {}
    stranger.close()
    known.close()
    server.close()


def test_a_busy_port_is_an_error_that_names_it() -> None:
    server = StoreServer("127.0.0.1")
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{server.port}"):
        StoreServer("127.0.0.1", server.port)
    server.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_users_connection_to_the_payload_sockets_is_refused() -> None:
    import zmq

    address = f"ipc://@disttorch-test-{secrets.token_hex(8)}"
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    accept_only_this_user(socket)
    socket.bind(address)
    send = (
        "import os, sys, zmq; os.setuid(int(sys.argv[2])); socket = zmq.Context().socket(zmq.DEALER);"
        "socket.connect(sys.argv[1]); socket.send(b'x'); socket.close(300)"
    )
    for uid, arrives in ((65534, False), (0, True)):
        subprocess.run([sys.executable, "-c", send, address, str(uid)], check=True, timeout=20)
        assert bool(socket.poll(500)) is arrives
    socket.close(0)
    context.term()
