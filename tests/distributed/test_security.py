"""Attacks on a running job: what another user, a process without the key and a madman at the port can do to it.

Every attack meets a job that runs collectives, uses its store and renews its group; after it the
job must still go on, and in the end it must finish with the right results.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import resource
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from disttorch.distributed import wire

VICTIM = """
import json, os, subprocess, sys, time
import numpy as np
import disttorch.distributed as dist
from disttorch.distributed import agent_link
rank = int(os.environ["RANK"])
welcome = agent_link.connect().welcome
secrets = [value.hex() for value in welcome.values() if isinstance(value, bytes)]
child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
about = {"pid": os.getpid(), "child": child.pid, "secrets": secrets, "store": welcome["store"],
         "key": welcome["store_key"].hex()}
progress = os.open(f"progress{rank}", os.O_CREAT | os.O_RDWR, 0o600)
os.pwrite(progress, bytes(16), 0)
dist.init_process_group()
dist.barrier()
with open(f"about{rank}.tmp", "w") as file:
    json.dump(about, file)
os.rename(f"about{rank}.tmp", f"about{rank}")
steps = groups = 0
while True:
    command = np.zeros(1)
    if rank == 0:
        command[0] = 2 if os.path.exists("stop") else 1 if os.path.exists("renew") else 0
    dist.broadcast(command, 0)
    size = (10, 3000, 300_000)[steps % 3]
    sent = np.arange(float(size)) * (rank + 1)
    dist.all_reduce(sent)
    assert np.array_equal(sent, np.arange(float(size)) * 3), "a wrong sum"
    steps += 1
    if steps % 5 == 0:
        count = dist.default_store().add(f"count{rank}", 1)
        assert count == steps // 5, (count, steps)
    if command[0] == 2:
        break
    if command[0] == 1:
        dist.barrier()
        if rank == 0:
            os.unlink("renew")
        dist.destroy_process_group()
        dist.init_process_group()
        groups += 1
    os.pwrite(progress, steps.to_bytes(8, "little") + groups.to_bytes(8, "little"), 0)
    time.sleep(0.002)
child.communicate(b"")
if rank == 1 and len(sys.argv) > 1:
    raise RuntimeError("raised on purpose")
print("finished", rank, flush=True)
"""
NOBODY = 65534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


class Victim:
    """A job with two ranks, and what its attackers need to know."""

    def __init__(self, folder: Path, shm: str, *options: str, arguments: tuple[str, ...] = (), files: int = 0) -> None:
        self.folder = folder
        script = folder / "train.py"
        script.write_text(VICTIM)
        command = [sys.executable, "-m", "disttorch_run", "--nproc-per-node", "2", "--oversubscribe", *options]
        self.output = (folder / "output").open("wb+")

        def limit() -> None:
            if files:
                resource.setrlimit(resource.RLIMIT_NOFILE, (files, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

        self.process = subprocess.Popen(
            [*command, script, *arguments],
            env={**os.environ, "DISTTORCH_SHM": shm},
            stdout=self.output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            preexec_fn=limit,
        )
        try:
            self.wait_for(lambda: all((folder / f"about{rank}").exists() for rank in (0, 1)), "the start")
        except BaseException:
            self.close()
            raise
        about = [json.loads((folder / f"about{rank}").read_text()) for rank in (0, 1)]
        self.pids = [self.process.pid, *(one["pid"] for one in about), *(one["child"] for one in about)]
        self.workers = [one["pid"] for one in about]
        self.secrets = {bytes.fromhex(text) for one in about for text in one["secrets"]}
        self.store, self.key = about[0]["store"], bytes.fromhex(about[0]["key"])
        self.port = int(self.store.rpartition(":")[2])

    def wait_for(self, condition: Any, what: str, seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"the job has ended: {self.said()}"
            assert time.monotonic() < until, f"{what} did not happen within {seconds} s: {self.said()}"
            time.sleep(0.01)

    def said(self) -> str:
        return (self.folder / "output").read_text(errors="replace")

    def progress(self) -> list[tuple[int, int]]:
        return [struct.unpack("<QQ", (self.folder / f"progress{rank}").read_bytes()) for rank in (0, 1)]

    def goes_on(self, steps: int = 12) -> None:
        """Fail unless both ranks take some more steps: the store answers and the sums are right."""
        before = self.progress()
        self.wait_for(
            lambda: all(now[0] >= then[0] + steps for now, then in zip(self.progress(), before, strict=True)),
            f"{steps} more steps",
        )

    def renews(self) -> None:
        """Fail unless the ranks can leave their group and make a new one."""
        before = self.progress()
        (self.folder / "renew").touch()
        self.wait_for(
            lambda: all(now[1] > then[1] for now, then in zip(self.progress(), before, strict=True)), "a new group"
        )
        self.goes_on()

    def finish(self) -> int:
        (self.folder / "stop").touch()
        return self.process.wait(60)

    def abstract_sockets(self) -> list[str]:
        """Return the names of all abstract Unix sockets that look like this project's: anybody can list them."""
        names = (line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines())
        return sorted({name[1:] for name in names if name.startswith("@") and "disttorch" in name})

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.output.close()


class Victims:
    """One job for each transport, started when it is needed; a new one where an attack has ended the last."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self.factory = factory
        self.running: dict[str, Victim] = {}

    def get(self, shm: str) -> Victim:
        if shm not in self.running:
            self.running[shm] = Victim(self.factory.mktemp("victim"), shm)
        return self.running[shm]

    def drop(self, shm: str) -> None:
        if self.running[shm].process.poll() is not None:
            self.running.pop(shm).close()


@pytest.fixture(scope="module")
def victims(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victims]:
    victims = Victims(tmp_path_factory)
    yield victims
    try:
        for victim in victims.running.values():
            assert victim.finish() == 0, victim.said()
            assert {line[-10:] for line in victim.said().splitlines()} >= {"finished 0", "finished 1"}
    finally:
        for victim in victims.running.values():
            victim.close()


@pytest.fixture(params=["1"], ids=["shared-memory"])
def victim(request: pytest.FixtureRequest, victims: Victims) -> Iterator[Victim]:
    victim = victims.get(request.param)
    try:
        victim.goes_on()
        yield victim
        victim.goes_on()
    finally:
        victims.drop(request.param)


over_both = pytest.mark.parametrize("victim", ["1", "0"], ids=["shared-memory", "messages"], indirect=True)


# Another user

SPY = """
import ctypes, json, os, signal, socket, sys
import zmq
asked = json.loads(sys.argv[1])
os.setgroups([]); os.setgid(asked["uid"]); os.setuid(asked["uid"])
libc = ctypes.CDLL(None, use_errno=True)
done = []
def attempt(what, action):
    try:
        got = action()
    except OSError:
        return
    if got not in (-1, b"", None):
        done.append(f"{what}: {str(got)[:60]}")
class Span(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))
for pid in asked["pids"]:
    for name in ("environ", "mem", "maps", "auxv", "io"):
        attempt(f"{pid}/{name}", lambda: open(f"/proc/{pid}/{name}", "rb").read(16))
    for name in ("fd", "map_files", "cwd"):
        attempt(f"{pid}/{name}", lambda: os.listdir(f"/proc/{pid}/{name}"))
    for fd in range(40):
        attempt(f"{pid}/fd/{fd}", lambda: os.open(f"/proc/{pid}/fd/{fd}", os.O_RDONLY))
    for number in (0, signal.SIGSTOP, signal.SIGTERM, signal.SIGRTMIN + 4, signal.SIGRTMIN + 5):
        attempt(f"kill {pid} {number}", lambda: os.kill(pid, number) or "sent")
    attempt(f"setaffinity {pid}", lambda: os.sched_setaffinity(pid, os.sched_getaffinity(0)) or "set")
    attempt(f"renice {pid}", lambda: os.setpriority(os.PRIO_PROCESS, pid, 19) or "set")
    attempt(f"ptrace {pid}", lambda: libc.ptrace(16, pid, None, None))
    pidfd = os.pidfd_open(pid)
    for fd in range(40):
        attempt(f"pidfd_getfd {pid} {fd}", lambda: libc.syscall(438, pidfd, fd, 0))
    buffer = ctypes.create_string_buffer(16)
    here, there = Span(ctypes.addressof(buffer), 16), Span(asked["address"], 16)
    attempt(f"read memory of {pid}", lambda: libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0))
print(json.dumps(done))
"""


def run_as(uid: int, code: str, **asked: Any) -> Any:
    asked["uid"] = uid
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, json.dumps(asked)], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@over_both
@as_root
def test_another_user_reads_nothing_and_stops_nothing(victim: Victim) -> None:
    address = int(Path(f"/proc/{victim.workers[0]}/maps").read_text().split("-")[0], 16)
    assert run_as(NOBODY, SPY, pids=victim.pids, address=address) == []
    # The same attempts succeed as root, so they are attempts.
    child = victim.pids[-1]
    assert len(run_as(0, SPY.replace("signal.SIGSTOP, signal.SIGTERM, ", ""), pids=[child], address=0)) > 5


@over_both
@as_root
def test_segments_and_sockets_have_no_names_in_any_folder(victim: Victim) -> None:
    files = [path for pid in victim.pids for path in Path(f"/proc/{pid}/fd").iterdir()]
    targets = [os.readlink(path) for path in files if path.is_symlink()]
    named = {t for t in targets if t.startswith("/") and not t.startswith(("/dev/", "/proc/", "/memfd:"))}
    assert all(Path(name).is_relative_to(victim.folder) or not Path(name).is_socket() for name in named)
    assert not [path for path in Path("/dev/shm").iterdir() if "disttorch" in path.name]


INTRUDER = """
import json, os, socket, sys, time
import zmq
asked = json.loads(sys.argv[1])
os.setgroups([]); os.setgid(asked["uid"]); os.setuid(asked["uid"])
context = zmq.Context()
sockets = []
def talk(address, kind, **options):
    peer = context.socket(kind)
    peer.linger = 0
    for name, value in options.items():
        setattr(peer, name, value)
    peer.connect(address)
    sockets.append(peer)
    for frames in asked["frames"]:
        try:
            peer.send_multipart([bytes.fromhex(frame) for frame in frames], zmq.NOBLOCK)
        except zmq.Again:  # the other side has refused it by now
            return
public, secret = zmq.curve_keypair()
keys = {"curve_publickey": public, "curve_secretkey": secret}
for address in [asked["store"], *("ipc://@" + name for name in asked["names"])]:
    talk(address, zmq.DEALER)
    talk(address, zmq.DEALER, plain_username=b"root", plain_password=b"root")
    talk(address, zmq.DEALER, curve_serverkey=public, **keys)
    talk(address, zmq.ROUTER)
time.sleep(0.3)
got = []
poller = zmq.Poller()
for peer in sockets:
    poller.register(peer, zmq.POLLIN)
for peer, _ in poller.poll(300):
    got.append(repr(peer.recv())[:80])
context.destroy(linger=0)
print(json.dumps(got))
"""


def well_formed_frames() -> list[list[str]]:
    """Return what a rank or a client of the store would send, had it joined."""
    from disttorch.distributed.headers import Header

    fields = {"value": b"9", "expected": b"", "amount": 1000, "timeout": 0.0}
    requests = [
        wire.encode("store_request", id=1, op=op, keys=["count0"], **fields) for op in ("set", "add", "delete", "get")
    ]
    payloads = [[Header(op, 10, 1, 1, 0, 5, 0, 0, 0, 80, 7, 0).pack(), bytes(80)] for op in range(3)]
    explained = wire.encode("explain", rank=1, sequence=5, text="x")
    return [
        [frame.hex() for frame in frames] for frames in [*([r] for r in requests), *payloads, [explained], [b"x"] * 5]
    ]


@over_both
@as_root
def test_another_user_cannot_join(victim: Victim) -> None:
    got = run_as(NOBODY, INTRUDER, store=victim.store, names=victim.abstract_sockets(), frames=well_formed_frames())
    assert got == []


@over_both
def test_the_same_user_without_the_key_cannot_join(victim: Victim) -> None:
    got = run_as(
        os.getuid(), INTRUDER, store=victim.store, names=victim.abstract_sockets(), frames=well_formed_frames()
    )
    assert got == []
    victim.goes_on(60)


SQUATTER = """
import json, os, re, socket, sys, time
asked = json.loads(sys.argv[1])
os.setgroups([]); os.setgid(asked["uid"]); os.setuid(asked["uid"])
held = []
for name in asked["names"]:
    for match in re.finditer(r"(?<![0-9a-f])[0-9]{1,3}(?![0-9a-f])", name):
        for other in range(int(match[0]) + 1, int(match[0]) + 4):
            guess = name[: match.start()] + str(other) + name[match.end() :]
            peer = socket.socket(socket.AF_UNIX)
            try:
                peer.bind("\\0" + guess)
            except OSError:
                continue
            peer.listen()
            held.append(peer)
print(json.dumps(len(held)), flush=True)
sys.stdin.read()
"""


@over_both
@as_root
def test_another_user_cannot_take_the_names_of_sockets_to_come(victim: Victim) -> None:
    asked = json.dumps({"uid": NOBODY, "names": victim.abstract_sockets()})
    squatter = subprocess.Popen(
        [sys.executable, "-c", SQUATTER, asked], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert squatter.stdout is not None
    assert squatter.stdout.readline().strip().isdecimal()
    try:
        for _ in range(2):
            victim.renews()
    finally:
        squatter.communicate("", timeout=10)


# A madman at the port


def greeting(mechanism: bytes, as_server: int = 0, version: bytes = b"\x03\x01") -> bytes:
    """Return the 64 bytes with which ZMTP begins."""
    return b"\xff\0\0\0\0\0\0\0\1\x7f" + version + mechanism.ljust(20, b"\0") + bytes([as_server]) + bytes(31)


def command(name: bytes, body: bytes, flags: int = 4) -> bytes:
    data = bytes([len(name)]) + name + body
    return (
        bytes([flags, len(data)]) + data
        if len(data) < 256
        else bytes([flags | 2]) + len(data).to_bytes(8, "big") + data
    )


def hello(chance: random.Random) -> bytes:
    return command(b"HELLO", b"\x01\x00" + bytes(72) + chance.randbytes(32 + 8 + 80))


def openings(chance: random.Random) -> list[bytes]:
    """Return byte streams that begin like ZMTP and go wrong, or do not."""
    curve = greeting(b"CURVE")
    ready = command(b"READY", b"\x0bSocket-Type\0\0\0\6DEALER\x08Identity\0\0\0\0")
    message = b"\0\x05hello"
    return [
        chance.randbytes(chance.randrange(1, 300)),
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(300),
        greeting(b"NULL") + ready + message * 20,
        greeting(b"NULL", 1) + message,
        greeting(b"PLAIN") + command(b"HELLO", b"\4root\4root") + message,
        greeting(b"GSSAPI") + chance.randbytes(90),
        greeting(chance.randbytes(20)) + message,
        greeting(b"CURVE", version=b"\x02\x00"),
        greeting(b"CURVE", version=bytes([chance.randrange(256), chance.randrange(256)])) + hello(chance),
        b"\x01\x00" + message * 30,
        b"\xff" * 200,
        curve[: chance.randrange(1, 64)],
        curve + hello(chance),
        curve + hello(chance)[: chance.randrange(2, 200)],
        curve + command(b"HELLO", chance.randbytes(chance.randrange(250))),
        curve + command(b"INITIATE", chance.randbytes(chance.randrange(113, 600))),
        curve + command(b"MESSAGE", chance.randbytes(90)),
        curve + command(b"HELLO" * 50, b""),
        curve + bytes([6]) + (2**63 + 5).to_bytes(8, "big") + bytes(500),
        curve + bytes([2]) + (2**40).to_bytes(8, "big") + bytes(500),
        curve + bytes([chance.randrange(256)]) + chance.randbytes(90),
        greeting(b"CURVE", 1) + hello(chance),
        curve + hello(chance) + command(b"INITIATE", chance.randbytes(300)),
        curve + hello(chance) * 3,
    ]


def test_garbage_at_the_port(victim: Victim) -> None:
    chance = random.Random(8)
    started = time.monotonic()
    attacks = 0
    while attacks < 3000 and time.monotonic() - started < 4:
        for data in openings(chance):
            attacks += 1
            with socket.create_connection(("127.0.0.1", victim.port), timeout=5) as peer, contextlib.suppress(OSError):
                half = chance.randrange(len(data) + 1) if chance.random() < 0.2 else len(data)
                peer.sendall(data[:half])
                peer.sendall(data[half:])
                if chance.random() < 0.3:
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                elif chance.random() < 0.1:
                    peer.settimeout(0.02)
                    assert b"count" not in peer.recv(4096)
    assert attacks > 500


def test_refused_connections_are_counted(tmp_path: Path) -> None:
    victim = Victim(tmp_path, "1")
    try:
        for data in (
            greeting(b"NULL"),
            greeting(b"PLAIN"),
            greeting(b"CURVE") + command(b"HELLO", bytes(194)),
        ):
            with socket.create_connection(("127.0.0.1", victim.port), timeout=5) as peer:
                peer.sendall(data)
                with contextlib.suppress(OSError):
                    while peer.recv(4096):  # until the server hangs up
                        continue
        assert victim.finish() == 0
    finally:
        victim.close()
    assert "disttorch-run: refused 3 connections to its store by processes without this run's key" in victim.said()


def test_thousands_of_slow_connections(tmp_path: Path) -> None:
    """Connections that say a byte now and then take neither the agent's descriptors nor its time."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = min(2500, hard - 500)
    if many < 400:
        pytest.skip(f"this process may have {hard} descriptors only")
    victim = Victim(tmp_path, "1", files=256)
    peers: list[socket.socket] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, many + 300), hard))
        data = greeting(b"CURVE")
        for number in range(many):
            peer = socket.socket()
            peers.append(peer)
            peer.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                peer.connect(("127.0.0.1", victim.port))
            if number % 100 == 0:
                time.sleep(0.005)
        for position in range(3):
            for peer in peers:
                with contextlib.suppress(OSError):
                    peer.send(data[position : position + 1])
            victim.goes_on()
        victim.renews()
        assert victim.finish() == 0, victim.said()
    finally:
        for peer in peers:
            peer.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        victim.close()


class Proxy:
    """A TCP proxy that keeps the bytes of the first connection, and may send what the client says twice."""

    def __init__(self, port: int, double: bool = False) -> None:
        self.port, self.double, self.sent = port, double, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"
        self.closed = False
        self.thread = threading.Thread(target=self._work)
        self.thread.start()

    def _work(self) -> None:
        client, _ = self.listener.accept()
        with client, socket.create_connection(("127.0.0.1", self.port)) as server:
            while not self.closed:
                for ready in select.select([client, server], [], [], 0.05)[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    if ready is client:
                        self.sent.append(data)
                        server.sendall(data * 2 if self.double and len(self.sent) > 4 else data)
                    else:
                        client.sendall(data)

    def close(self) -> None:
        self.closed = True
        self.thread.join(5)
        self.listener.close()


@contextlib.contextmanager
def client_of(address: str, key: bytes) -> Iterator[Any]:
    import zmq

    context = zmq.Context()
    client = context.socket(zmq.DEALER)
    client.linger = 0
    client.sndtimeo = 300
    client.reconnect_ivl = -1
    client.curve_serverkey = key
    client.curve_publickey, client.curve_secretkey = zmq.curve_keypair()
    client.connect(address)
    try:
        yield client
    finally:
        context.destroy(linger=0)


def add(client: Any, amount: int, key: str = "replayed") -> int:
    """Add to a counter of the job's store; -1 if there is no answer."""
    fields = {"value": b"", "expected": b"", "timeout": 0.0}
    client.send(wire.encode("store_request", id=1, op="add", keys=[key], amount=amount, **fields))
    return int(wire.decode(client.recv())["amount"]) if client.poll(2000) else -1


def test_replayed_bytes_change_nothing(victim: Victim) -> None:
    proxy = Proxy(victim.port)
    with client_of(proxy.address, victim.key) as client:
        before = [add(client, 1) for _ in range(3)]
        assert before[2] == before[0] + 2 > 0
    proxy.close()
    recorded = b"".join(proxy.sent)
    assert b"replayed" not in recorded
    for pieces in ([recorded], proxy.sent, proxy.sent[-1:], [*proxy.sent, *proxy.sent[-2:]]):
        with socket.create_connection(("127.0.0.1", victim.port)) as peer, contextlib.suppress(OSError):
            for piece in pieces:
                peer.sendall(piece)
                time.sleep(0.03)
    with client_of(victim.store, victim.key) as client:
        assert add(client, 0) == before[2]


def test_doubled_messages_count_once(victim: Victim) -> None:
    proxy = Proxy(victim.port, double=True)
    with client_of(proxy.address, victim.key) as client:
        sent = sum(add_quickly(client) for _ in range(4))
    proxy.close()
    assert len(proxy.sent) > 4, "nothing was doubled"
    with client_of(victim.store, victim.key) as client:
        assert add(client, 0, "doubled") <= sent


def add_quickly(client: Any) -> bool:
    """Add 1 to a counter without waiting long for the reply; say whether it was sent."""
    import zmq

    fields = {"value": b"", "expected": b"", "timeout": 0.0}
    try:
        client.send(wire.encode("store_request", id=1, op="add", keys=["doubled"], amount=1, **fields))
    except zmq.ZMQError:  # the server has ended the connection
        return False
    if client.poll(300):
        client.recv()
    return True


# Keys stay where they are


def forms(secret: bytes) -> list[bytes]:
    """Return how a key could appear in a text or a file."""
    import zmq.utils.z85 as z85

    raw = [secret, secret[: len(secret) // 2], secret[len(secret) // 2 :]]
    if len(secret) == 40:  # Z85 already
        raw.append(z85.decode(secret))
    found = list(raw)
    for data in raw:
        found += [data.hex().encode(), data.hex().upper().encode(), repr(data)[2:-1].encode()]
        found += [base64.b64encode(data).rstrip(b"=")[:-1], base64.urlsafe_b64encode(data).rstrip(b"=")[:-1]]
        if len(data) % 4 == 0:
            found.append(z85.encode(data))
    return found


def test_keys_appear_nowhere(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    victim = Victim(tmp_path, "0", "--log-dir", str(logs), arguments=("raise",))
    try:
        assert victim.secrets
        assert all(len(secret) >= 16 for secret in victim.secrets)
        needles = [form for secret in victim.secrets for form in forms(secret)]
        texts = {}
        for pid in victim.pids:
            for name in ("cmdline", "environ", "comm"):
                texts[f"{pid}/{name}"] = Path(f"/proc/{pid}/{name}").read_bytes()
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    texts[f"{pid}/{link.name}"] = os.readlink(link).encode()
        texts["sockets"] = Path("/proc/net/unix").read_bytes()
        assert victim.finish() == 1
    finally:
        victim.close()
    assert "raised on purpose" in victim.said()
    for path in tmp_path.rglob("*"):
        if path.is_file() and not path.name.startswith("about"):
            texts[str(path)] = path.read_bytes()
    assert any("rank1" in name for name in texts)
    found = [name for name, text in texts.items() for needle in needles if needle in text]
    assert found == []
    about = (tmp_path / "about0").read_bytes()
    assert any(needle in about for needle in needles), "the search finds nothing even where the keys are"
