"""The store, in one process and served by the agent."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import disttorch.distributed as dist
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
    assert store.compare_set("absent", "x", "y") == b"x"
    assert store.num_keys() == 3
    assert sorted(store.list_keys()) == ["a", "fresh", "new"]
    assert store.delete_key("new")
    assert not store.delete_key("new")
    store.append("text", "ab")
    store.append("text", b"c")
    store.multi_set(["u", "v"], ["1", b"\xff"])
    assert store.multi_get(["text", "u", "v"]) == [b"abc", b"1", b"\xff"]
    store.queue_push("q", "first")
    store.queue_push("q", "second")
    assert store.queue_len("q") == 2
    assert store.check(["q"])
    assert store.queue_pop("q") == b"first"
    assert store.queue_pop("q", block=False) == b"second"
    assert store.queue_len("q") == 0
    assert store.has_extended_api()
    assert store.clone().get("u") == b"1"
    store.barrier("alone", 1)
    store.set("big", bytes(2_000_000))
    assert len(store.get("big")) == 2_000_000
    check_errors(store)


def check_errors(store: dist.Store) -> None:
    with pytest.raises(dist.QueueEmptyError, match="'q' is empty"):
        store.queue_pop("q", block=False)
    with pytest.raises(dist.StoreTimeout, match=r"store.wait\(a, never\): not set within 0.1 s"):
        store.wait(["a", "never"], timedelta(seconds=0.1))
    store.set_timeout(timedelta(milliseconds=50))
    assert store.timeout == timedelta(milliseconds=50)
    for wait in (store.get, store.queue_pop):
        with pytest.raises(dist.StoreTimeout):
            wait("never")
    with pytest.raises(dist.DistStoreError, match="not a number"):
        store.add("big", 1)
    with pytest.raises(dist.DistStoreError, match="64 bits"):
        store.add("u", 2**63 - 1)
    with pytest.raises(TypeError, match="str or bytes"):
        store.set("a", 1)
    with pytest.raises(TypeError, match="keys are strings"):
        store.get(3)
    with pytest.raises(TypeError, match="a list of keys"):
        store.wait("abc")
    with pytest.raises(TypeError, match="an integer"):
        store.add("u", 1.0)
    with pytest.raises(ValueError, match="as many values"):
        store.multi_set(["u"], [])
    for absurd in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="positive"):
            store.set_timeout(absurd)
    store.set_timeout(timedelta.max)


@pytest.fixture(params=["hash", "file", "tcp", "prefix"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dist.Store]:
    made = {
        "hash": dist.HashStore,
        "file": lambda: dist.FileStore(str(tmp_path / "store"), 1),
        "tcp": lambda: dist.TCPStore("localhost", 0, is_master=True),
        "prefix": lambda: dist.PrefixStore("p", dist.HashStore()),
    }[request.param]()
    yield made
    if request.param in ("file", "tcp"):
        made.close()
    assert not (tmp_path / "store").exists()


def test_what_stores_do(store: dist.Store) -> None:
    check_operations(store)


def test_stores_with_different_prefixes_do_not_meet() -> None:
    base = dist.HashStore()
    one, two = dist.PrefixStore("one", base), dist.PrefixStore("two", dist.PrefixStore("deep", base))
    one.set("k", "1")
    two.set("k", "2")
    assert (one.get("k"), two.get("k"), base.get("deep/two/k")) == (b"1", b"2", b"2")
    assert (one.num_keys(), one.list_keys(), two.list_keys()) == (2, ["k"], ["k"])
    assert one.underlying_store is base
    two.set_timeout(2)
    assert base.timeout == timedelta(seconds=2)
    with pytest.raises(TypeError, match="needs a store"):
        dist.PrefixStore("x", {})


def test_the_base_class_holds_nothing() -> None:
    with pytest.raises(NotImplementedError, match="use HashStore"):
        dist.Store().set("a", "b")


def test_one_thread_waits_while_another_sets() -> None:
    store = dist.HashStore()
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
    with contextlib.suppress(zmq.Again):  # it may have been refused by now
        stranger.send(wire.encode("store_request", id=1, op="set", **fields), zmq.NOBLOCK)
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
