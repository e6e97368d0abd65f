"""Stores that processes share without a launcher, and what their servers refuse."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import disttorch.distributed as dist
from disttorch.distributed import addresses, store_key, store_table, wire
from disttorch.distributed.store_table import StoreServer, StoreTable
from disttorch.testing.distributed import run

CLIENT = """
import sys
import disttorch.distributed as dist
store = {}
print(store.get("question").decode(), flush=True)
store.set("answer", sys.argv[2])
store.wait(["bye"], 10)
"""


def client(make: str, where: object) -> subprocess.Popen[str]:
    code = CLIENT.format(make)
    return subprocess.Popen([sys.executable, "-c", code, str(where), "42"], stdout=subprocess.PIPE, text=True)


def converse(store: dist.Store, process: subprocess.Popen[str]) -> None:
    store.set_timeout(20)
    store.set("question", "why")
    assert store.get("answer") == b"42"
    store.set("bye", "")
    out, _ = process.communicate(timeout=20)
    assert (out, process.returncode) == ("why\n", 0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# -- a file -----------------------------------------------------------------------------------------------------------


def test_processes_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "store"
    store = dist.FileStore(str(path), 2)
    converse(store, client("dist.FileStore(sys.argv[1], 2)", path))
    assert path.exists()
    assert path.stat().st_mode & 0o077 == 0
    del store
    assert not path.exists()


def test_a_file_without_a_world_size_stays(tmp_path: Path) -> None:
    store = dist.FileStore(str(tmp_path / "store"))
    store.set("a", "1")
    store.close()
    again = dist.FileStore(str(tmp_path / "store"))
    assert again.get("a") == b"1"
    with pytest.raises(dist.DistStoreError, match="was closed"):
        store.get("a")


def test_half_a_record_is_cut_off_and_damage_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "store"
    store = dist.FileStore(str(path))
    store.set("a", "1")
    whole = path.read_bytes()
    path.write_bytes(whole + b"\x40\0\0\0\1\2\3\4half")
    fresh = dist.FileStore(str(path))
    fresh.set("b", "2")
    assert (fresh.get("a"), store.get("b")) == (b"1", b"2")
    path.write_bytes(whole[:-3] + b"\0" + whole[-2:])
    with pytest.raises(dist.DistStoreError, match="damaged"):
        dist.FileStore(str(path))
    path.write_text("some text of the user")
    with pytest.raises(dist.DistStoreError, match="not the file of a store"):
        dist.FileStore(str(path))
    assert path.read_text() == "some text of the user"


def test_a_lock_that_is_never_given_back_is_a_time_out(tmp_path: Path) -> None:
    import fcntl

    store = dist.FileStore(str(tmp_path / "store"))
    store.set_timeout(0.1)
    with open(tmp_path / "store") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(dist.StoreTimeout, match="held the lock"):
            store.set("a", "1")
    store.set("a", "2")
    assert store.get("a") == b"2"


# -- a port -----------------------------------------------------------------------------------------------------------


def test_processes_share_a_port() -> None:
    port = free_port()
    process = client("dist.TCPStore('localhost', int(sys.argv[1]), 2, timeout=20)", port)
    store = dist.TCPStore(socket.gethostname(), port, 2, is_master=True, timeout=20)
    assert store.port == port
    key = store_key.run_directory() / f"store-{port}"
    assert key.stat().st_mode & 0o077 == 0
    assert key.parent.stat().st_mode & 0o077 == 0
    converse(store, process)
    store.close()
    assert not key.exists()


def test_a_master_that_dies_ends_the_waiting() -> None:
    port = free_port()
    code = (
        "import disttorch.distributed as dist, sys, time;"
        "store = dist.TCPStore('127.0.0.1', int(sys.argv[1]), is_master=True); time.sleep(60)"
    )
    master = subprocess.Popen([sys.executable, "-c", code, str(port)])
    store = dist.TCPStore("127.0.0.1", port, timeout=20)
    threading.Timer(0.2, lambda: master.send_signal(signal.SIGKILL)).start()
    start = time.monotonic()
    with pytest.raises(dist.DistNetworkError, match=f"127.0.0.1:{port} is gone"):
        store.get("never")
    assert time.monotonic() - start < 5
    master.wait(10)
    successor = dist.TCPStore("127.0.0.1", port, is_master=True)  # the dead one's key is still there
    dist.TCPStore("127.0.0.1", port, timeout=10).set("a", "1")
    assert successor.get("a") == b"1"
    successor.close()


def test_a_master_whose_port_something_else_takes_is_gone() -> None:
    import zmq

    master = dist.TCPStore("127.0.0.1", 0, is_master=True)
    connected, taken = threading.Event(), threading.Event()
    said: list[str] = []

    def use() -> None:
        store = dist.TCPStore("127.0.0.1", master.port)
        store.set("key", "value")
        connected.set()
        taken.wait(20)
        while store._line().socket.poll(0, zmq.POLLOUT):  # until ZeroMQ has given the connection up
            time.sleep(0.01)
        try:
            store.set("key", "other")
        except dist.DistNetworkError as error:
            said.append(str(error))
        store.close()

    user = threading.Thread(target=use, daemon=True)
    user.start()
    assert connected.wait(20)
    master.close()
    with socket.create_server(("127.0.0.1", master.port)) as server:
        server.settimeout(10)
        stranger, _ = server.accept()
        with stranger:
            stranger.settimeout(10)
            stranger.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3)
            with contextlib.suppress(ConnectionResetError):
                while stranger.recv(64):  # until the client hangs up
                    pass
    taken.set()
    user.join(5)
    assert said == [f"the store at tcp://127.0.0.1:{master.port} is gone: its process has ended, or has closed it"]


def test_a_store_can_be_used_after_a_fork() -> None:
    store = dist.TCPStore("localhost", 0, is_master=True)
    store.set("a", "1")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            store.set("b", store.get("a"))
            store.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert store.get("b") == b"1"
    store.close()


def test_masters_of_one_process_can_share_a_server() -> None:
    first = dist.TCPStore("localhost", 0, is_master=True, multi_tenant=True)
    second = dist.TCPStore("localhost", first.port, is_master=True, multi_tenant=True)
    second.set("a", "1")
    first.close()
    assert second.get("a") == b"1"
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{second.port}"):
        dist.TCPStore("localhost", second.port, is_master=True)
    second.close()


def test_a_server_on_a_socket_that_listens_already() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        store = dist.TCPStore("localhost", port, is_master=True, master_listen_fd=os.dup(listener.fileno()))
        assert store.port == port
        store.set("a", "1")
        assert dist.TCPStore("localhost", port).get("a") == b"1"
        store.close()


def test_what_tcp_store_refuses() -> None:
    with pytest.raises(dist.DistNetworkError, match=r"no store of this user answers at localhost:1 within 0.2 s"):
        dist.TCPStore("localhost", 1, timeout=0.2)
    with pytest.raises(dist.StoreTimeout, match="1 of 3 clients"):
        dist.TCPStore("localhost", 0, 3, is_master=True, timeout=0.2)
    with pytest.raises(ValueError, match=r"'192.0.2.1' is not this host"):
        dist.TCPStore("192.0.2.1", 1234)
    with pytest.raises(ValueError, match="from 0 to 65535"):
        dist.TCPStore("localhost", 70000)
    with pytest.raises(ValueError, match="positive"):
        dist.TCPStore("localhost", 1234, timeout=float("nan"))


def test_names_of_this_host() -> None:
    assert addresses.is_local("localhost")
    assert addresses.is_local("127.0.0.1")
    assert addresses.is_local(socket.gethostname())
    assert not addresses.is_local("192.0.2.1")
    assert not addresses.is_local("0.0.0.0")
    assert not addresses.is_local("no.such.host.invalid")


def check_the_runs_store() -> None:
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(host, port, dist.get_world_size(), is_master=False, timeout=10)
    store.set(f"from {dist.get_rank()}", "x")
    store.wait(["from 0", "from 1"])
    assert dist.default_store().check(["from 0", "from 1"])
    assert store_key.find(port) is None


def test_under_the_launcher_the_masters_address_is_the_runs_store() -> None:
    run(check_the_runs_store, 2)


# -- the key ----------------------------------------------------------------------------------------------------------


def test_the_directory_of_the_keys_must_be_this_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    own = tmp_path / f"disttorch-{os.geteuid()}"
    tmp_path.chmod(0o755)
    assert store_key.run_directory() == own
    own.chmod(0o750)
    with pytest.raises(dist.DistError, match="mode 0700"):
        dist.TCPStore("localhost", 0, is_master=True)
    own.rmdir()
    (tmp_path / "elsewhere").mkdir(0o700)
    own.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(dist.DistError, match="mode 0700"):
        store_key.find(1)
    tmp_path.chmod(0o700)
    assert store_key.run_directory() == tmp_path / "disttorch"


def test_a_key_is_withdrawn_by_its_owner_only() -> None:
    port = free_port()
    store_key.publish(port, b"a" * 40)
    store_key.withdraw(port, b"b" * 40)
    assert store_key.find(port) == b"a" * 40
    store_key.withdraw(port, b"a" * 40)
    assert store_key.find(port) is None


def test_keys_of_stores_that_were_killed_go_when_the_next_one_starts() -> None:
    port = free_port()
    kept = dist.TCPStore("localhost", 0, is_master=True)
    store_key.publish(port, b"a" * 40)
    store = dist.TCPStore("localhost", 0, is_master=True)
    assert store_key.find(port) is None
    assert store_key.find(kept.port) is not None
    for each in (store, kept):
        each.close()


# -- what a server refuses --------------------------------------------------------------------------------------------


class Talk:
    """A server and a client that says what it likes."""

    def __init__(self) -> None:
        import zmq

        self.server = StoreServer("127.0.0.1")
        self.client = self.server.context.socket(zmq.DEALER)
        self.client.setsockopt(zmq.LINGER, 0)
        public, secret = zmq.curve_keypair()
        self.client.curve_serverkey, self.client.curve_publickey = self.server.key, public
        self.client.curve_secretkey = secret
        self.client.connect(self.server.address)

    def send(self, op: str, *keys: str, **details: Any) -> None:
        fields = {"id": 1, "keys": list(keys), "value": b"", "expected": b"", "amount": 0, "timeout": 0.0}
        self.client.send(wire.encode("store_request", wire.MAX_STORE_MESSAGE, op=op, **{**fields, **details}))

    def ask(self, op: str, *keys: str, **details: Any) -> dict[str, Any]:
        self.send(op, *keys, **details)
        for _ in range(500):
            self.server.socket.poll(10)
            self.server.serve()
            if self.client.poll(0):
                return wire.decode(self.client.recv(), wire.MAX_STORE_MESSAGE)
        raise AssertionError("no answer")


@pytest.fixture
def talk() -> Iterator[Talk]:
    made = Talk()
    yield made
    made.client.close()
    made.server.close()


@pytest.mark.parametrize("timeout", [math.inf, -math.inf, -1, -0.001, 1e300, 2**63 - 1])
def test_absurd_time_outs_are_refused(talk: Talk, timeout: float) -> None:
    assert "time-out" in talk.ask("get", "k", timeout=timeout)["error"]
    assert talk.server.next_deadline() is None


def test_waiting_is_bounded(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_table, "MAX_WAITING", 3)
    monkeypatch.setattr(store_table, "MAX_KEYS", 10)
    for _ in range(3):
        talk.send("wait", "a", "b", timeout=9e9)
    assert "too many wait" in talk.ask("get", "k", timeout=5.0)["error"]
    deadline = talk.server.next_deadline()
    assert deadline is not None
    assert deadline <= time.monotonic() + 3600
    talk.ask("set", "a")
    replies = [talk.ask("set", "b"), *(wire.decode(talk.client.recv()) for _ in range(3))]
    assert [reply["error"] for reply in replies] == [""] * 4
    assert "too many wait" in talk.ask("wait", *map(str, range(11)), timeout=5.0)["error"]


def test_a_flood_does_not_keep_the_server_from_other_work(talk: Talk) -> None:
    for _ in range(1000):
        talk.send("set", "k")
    time.sleep(0.05)
    start = time.monotonic()
    talk.server.serve()
    assert time.monotonic() - start < 1
    assert talk.server.socket.poll(100)


def test_a_table_is_bounded() -> None:
    table = StoreTable(max_keys=3, max_bytes=4000)

    def ask(op: str, key: str, value: bytes = b"") -> str:
        request = {"op": op, "keys": [key], "value": value, "expected": b"", "amount": 1, "timeout": 0.0}
        reply = table.answer(request)
        assert reply is not None
        return str(reply["error"])

    assert ask("set", "a", bytes(1000)) == ask("push", "q", b"x") == ask("add", "n") == ""
    for op in ("set", "append", "push", "add", "compare_set"):
        assert "at most 3 keys" in ask(op, "new")
    assert "at most 4000 bytes" in ask("set", "a", bytes(4000))
    assert "at most 4000 bytes" in ask("append", "a", bytes(3000))
    assert "at most 4000 bytes" in ask("push", "q", bytes(3000))
    for _ in range(100):
        assert ask("set", "a", bytes(1500)) == ask("push", "q", b"x") == ask("take", "q") == ""
    assert ask("delete", "a") == ask("delete", "q") == ask("delete", "n") == ""
    assert table._used == 0
    assert ask("set", "a", bytes(3000)) == ""


def test_a_value_that_no_message_can_carry_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_STORE_MESSAGE", 100_000)
    store = dist.HashStore()
    store.set("a", bytes(30_000))
    with pytest.raises(dist.DistStoreError, match="a value may hold"):
        store.append("a", bytes(10_000))
    with pytest.raises(dist.DistStoreError, match="a value may hold"):
        store.set("k" * 10_000, "")
    for i in range(8):
        store.set(str(i) * 8000, "")
    with pytest.raises(dist.DistStoreError, match="too many for one message"):
        store.list_keys()
