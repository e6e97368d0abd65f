"""Ranks that no launcher has started meet, and learn of each other's end."""

from __future__ import annotations

import ast
import os
import secrets
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import disttorch.distributed as dist
from disttorch.distributed.rendezvous import is_alone

# One process imports and forks the ranks, which is quicker than n that import.
FORK = """
import atexit, os, signal, sys, time
import disttorch as torch
import disttorch.distributed as dist

def be(rank, place):
{body}

n, place, reports = int(sys.argv[1]), sys.argv[2], []
pids = []
for rank in range(n):
    mine, ranks = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(ranks, 1)
        os.dup2(ranks, 2)
        os.environ["RANK"] = str(rank)
        try:
            be(rank, place)
            code = 0
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
            code = 1
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(code)
    os.close(ranks)
    pids.append(pid)
    reports.append(mine)
print(*pids, flush=True)
for pid, mine in zip(pids, reports):
    with open(mine) as said:
        text = said.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(repr((code, text)), flush=True)
"""
SUM = """
x = torch.ones(2) * (rank + 1)
dist.all_reduce(x)
print(rank, x.tolist(), dist.get_rank(), dist.get_world_size(), flush=True)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Ranks:
    """`n` ranks, each of which runs the body of a function of `rank` and `place`."""

    def __init__(self, body: str, n: int, place: object, **variables: str) -> None:
        text = FORK.replace("{body}", textwrap.indent(textwrap.dedent(body), "    "))
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", text, str(n), str(place)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **variables},
        )
        assert self._process.stdout is not None
        self.pids = [int(pid) for pid in self._process.stdout.readline().split()]

    def ends(self) -> list[tuple[int, str]]:
        """Wait for the ranks; return the exit code and the output of each."""
        out, _ = self._process.communicate(timeout=60)
        return [ast.literal_eval(line) for line in out.splitlines()]


def hosts() -> set[str]:
    """Return the command lines of the processes that connect ranks."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"disttorch_run.meeting" in path.read_bytes():
                found.add(path.parent.name)
        except OSError:
            continue
    return found


def parent(pid: str) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def check_sums(ends: list[tuple[int, str]]) -> None:
    n = len(ends)
    total = float(n * (n + 1) // 2)
    assert ends == [(0, f"{rank} [{total}, {total}] {rank} {n}\n") for rank in range(n)]


def tcp(tmp_path: Path) -> tuple[str, dict[str, str]]:
    return f"tcp://localhost:{free_port()}", {}


def file(tmp_path: Path) -> tuple[str, dict[str, str]]:
    return f"file://{tmp_path}/meet", {}


def env(tmp_path: Path) -> tuple[str, dict[str, str]]:
    return "env://", {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}


@pytest.mark.parametrize("method", [tcp, file, env])
def test_ranks_meet(method: Callable[..., tuple[str, dict[str, str]]], tmp_path: Path) -> None:
    place, variables = method(tmp_path)
    before = hosts()
    check_sums(
        Ranks("dist.init_process_group('gloo', place, rank=rank, world_size=2)" + SUM, 2, place, **variables).ends()
    )
    assert list(tmp_path.iterdir()) == []
    until = time.monotonic() + 10
    while hosts() - before and time.monotonic() < until:
        time.sleep(0.05)
    assert not hosts() - before


PROCESS = f"""
import os
import disttorch as torch, disttorch.distributed as dist
dist.init_process_group()
rank = dist.get_rank()
{SUM}
if rank == 1:
    dist.barrier()
    raise ValueError("as asked")
try:
    dist.barrier()
    dist.barrier()
except dist.PeerFailed as error:
    print(error.rank, error.reason)
"""


def test_processes_meet_as_the_environment_says() -> None:
    variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port())}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROCESS],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **variables, "RANK": str(rank)},
        )
        for rank in range(2)
    ]
    (first, nothing), (second, trace) = (process.communicate(timeout=60) for process in processes)
    assert (first, nothing) == ("0 [3.0, 3.0] 0 2\n1 raised ValueError: as asked\n", "")
    assert second == "1 [3.0, 3.0] 1 2\n"
    assert trace.endswith("ValueError: as asked\n")


STORE = """
store = dist.TCPStore("localhost", int(place), 2, rank == 0)
for _ in range(2):
    dist.init_process_group("gloo", store=dist.PrefixStore("mine", store), rank=rank, world_size=2)
    x = torch.ones(2) * (rank + 1)
    dist.all_reduce(x)
    dist.destroy_process_group()
print(rank, x.tolist(), rank, 2)
store.add("done", 1)
while rank == 0 and store.add("done", 0) < 2: time.sleep(0.01)
"""


def test_ranks_meet_twice_in_a_store_of_theirs() -> None:
    check_sums(Ranks(STORE, 2, free_port()).ends())


AGAIN = """
for _ in range(2):
    dist.init_process_group("gloo", place, rank=rank, world_size=2)
    x = torch.ones(2) * (rank + 1)
    dist.all_reduce(x)
    if rank == 0: time.sleep(0.2)
    dist.destroy_process_group()
print(rank, x.tolist(), rank, 2)
"""


def test_ranks_meet_again_at_the_same_port() -> None:
    check_sums(Ranks(AGAIN, 2, f"tcp://localhost:{free_port()}").ends())


FAILING = """
dist.init_process_group("gloo", place, rank=rank, world_size=2)
if rank == {culprit}:
    dist.barrier()
    {end}
begin = time.monotonic()
try:
    dist.barrier()
    time.sleep(30)
except dist.PeerFailed as error:
    print(error.rank, error.reason, time.monotonic() - begin < 10, "as asked" in error.traceback)
"""


@pytest.mark.parametrize("culprit", [0, 1])
@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("raise ValueError('as asked')", "raised ValueError: as asked True True"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by signal 9 (SIGKILL) True False"),
    ],
)
def test_the_end_of_a_rank_is_an_error_for_the_others(culprit: int, end: str, reason: str) -> None:
    ranks = Ranks(FAILING.format(culprit=culprit, end=end), 2, f"tcp://localhost:{free_port()}")
    assert ranks.ends()[1 - culprit] == (0, f"{culprit} {reason}\n")


def test_a_rank_that_only_finishes_is_named_where_it_is_waited_for() -> None:
    body = FAILING.format(culprit=1, end="return").replace("time.sleep(30)", "dist.barrier()")
    code, said = Ranks(body, 2, f"tcp://localhost:{free_port()}").ends()[0]
    assert code == 0
    assert said.startswith("1 finished while rank 0 waits for it in barrier")


WAITING = """
store = dist.TCPStore("localhost", int(place))
dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
try:
    store.set(f"met {rank}", "")
    time.sleep(30)
except dist.DistNetworkError as error:
    print(error)
"""


def test_the_end_of_the_host_ends_the_waiting() -> None:
    store = dist.TCPStore("localhost", 0, is_master=True)
    ranks = Ranks(WAITING, 2, store.port)
    store.wait(["met 0", "met 1"], 60)
    [host] = [pid for pid in hosts() if parent(pid) == ranks.pids[0]]
    os.kill(int(host), signal.SIGKILL)
    assert ranks.ends() == [(0, "the process that connects the ranks is gone\n")] * 2


def test_a_rank_that_does_not_come_is_named() -> None:
    text = """
    try:
        dist.init_process_group("gloo", place, timeout=2, rank=rank, world_size=4)
    except (dist.StoreTimeout, dist.DistNetworkError) as error:
        print(type(error).__name__, error)
    """
    (code, first), (other_code, other) = Ranks(text, 2, f"tcp://localhost:{free_port()}").ends()
    assert (code, other_code) == (0, 0)
    assert other.startswith(("StoreTimeout", "DistNetworkError"))
    assert first.endswith("have not called init_process_group within 2 s\n")


def test_rank_0_that_does_not_come_is_named(tmp_path: Path) -> None:
    with pytest.raises(dist.StoreTimeout, match="rank 0 has not called init_process_group"):
        dist.init_process_group("gloo", f"file://{tmp_path}/meet", timeout=0.2, rank=1, world_size=2)
    with pytest.raises(dist.DistNetworkError, match="no store of this user answers"):
        dist.init_process_group("gloo", "tcp://localhost:1", timeout=0.2, rank=1, world_size=2)
    assert not dist.is_initialized()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([(0, 2), (1, 2), (1, 3)], "rank 1 says that there are 3 ranks, rank 0 says 2"),
        ([(0, 2), (1, 2), (1, 2)], "there is a rank 1 already; give every process a rank of its own"),
    ],
)
def test_ranks_that_disagree_are_told_so(sizes: list[tuple[int, int]], message: str) -> None:
    text = f"""
    given, size = {sizes}[rank]
    port = int(place.rpartition(":")[2])
    if rank == 2:
        dist.TCPStore("localhost", port, timeout=60).wait(["met"])
    try:
        dist.init_process_group("gloo", place, timeout=1 if rank == 2 else 60, rank=given, world_size=size)
        if rank == 0:
            dist.default_store().set("met", "")
            dist.default_store().wait(["told"])
        dist.barrier()
    except dist.DistError as error:
        print(error)
        dist.TCPStore("localhost", port).set("told", "")
    """
    said = [said.strip() for _, said in Ranks(text, 3, f"tcp://localhost:{free_port()}").ends()]
    assert said.count("") == 2
    assert message in "".join(said)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"init_method": "tcp://localhost", "rank": 0, "world_size": 2}, "expected tcp://HOST:PORT"),
        ({"init_method": "tcp://localhost:1", "rank": 0}, "world_size missing"),
        ({"init_method": "tcp://192.0.2.1:1", "rank": 1, "world_size": 2}, "is not this host"),
        ({"init_method": "file://", "rank": 0, "world_size": 2}, "expected file:///PATH"),
        ({"init_method": "file:///tmp/x"}, "rank and world_size missing"),
        ({"init_method": "tcp://localhost:1", "rank": 2, "world_size": 2}, "from 0 to world_size - 1"),
        ({"rank": 0, "world_size": 2}, "MASTER_PORT is not set. Start the script with `disttorch-run"),
        ({}, "RANK is not set. Start the script with `disttorch-run"),
        ({"store": dist.HashStore()}, "with a store needs rank and world_size"),
    ],
)
def test_what_cannot_be(arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=message):
        dist.init_process_group("gloo", timeout=1, **arguments)
    assert not dist.is_initialized()


def test_rendezvous_handlers(tmp_path: Path) -> None:
    scheme = f"own{secrets.token_hex(4)}"
    store = dist.HashStore()

    def handler(url: str, **options: Any) -> Any:
        assert url == f"{scheme}://there?rank=1&world_size=3"
        yield store, 1, 3

    dist.register_rendezvous_handler(scheme, handler)
    assert next(dist.rendezvous(f"{scheme}://there", 1, 3)) == (store, 1, 3)
    with pytest.raises(RuntimeError, match="already"):
        dist.register_rendezvous_handler(scheme, handler)
    with pytest.raises(RuntimeError, match="No rendezvous handler for gopher://"):
        dist.rendezvous("gopher://x")
    with pytest.raises(ValueError, match="give one of them"):
        dist.rendezvous("tcp://localhost:1?rank=0", 0, 2)
    with pytest.raises(RuntimeError, match="is a string"):
        dist.rendezvous(3)  # type: ignore[arg-type]
    made, rank, size = next(dist.rendezvous(f"file://{tmp_path}/store?rank=0&world_size=1"))
    assert (rank, size) == (0, 1)
    made.set("a", "b")
    made.close()


def test_a_group_of_one_needs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_alone(0, 1)
    assert is_alone(-1, 1)
    assert not is_alone(0, 2)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert is_alone(-1, -1)
    dist.init_process_group("gloo")
    assert dist.get_world_size() == 1
    dist.destroy_process_group()
