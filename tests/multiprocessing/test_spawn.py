"""`multiprocessing.spawn` and what it says about processes that fail."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import disttorch as torch
import disttorch.distributed as dist
import disttorch.multiprocessing as mp

ROOT = Path(torch.__file__).parents[1]


def forked(fn: Any, args: tuple[Any, ...] = (), nprocs: int = 2, **details: Any) -> Any:
    """Fork, which is quicker than what `spawn` does and lets the functions be those of this file."""
    return mp.start_processes(fn, args, nprocs, start_method="fork", **details)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def put(rank: int, queue: Any, text: str) -> None:
    queue.put((rank, text, os.getpid(), mp.current_process().name != "MainProcess", torch.arange(3) + rank))


def test_processes_get_their_number_and_the_arguments() -> None:
    queue = mp.get_context("fork").SimpleQueue()
    assert forked(put, (queue, "x"), 3) is None
    found = sorted((queue.get() for _ in range(3)), key=lambda row: row[0])
    assert [row[:2] for row in found] == [(rank, "x") for rank in range(3)]
    assert len({row[2] for row in found} | {os.getpid()}) == 4
    assert all(row[3] for row in found)
    assert [row[4].tolist() for row in found] == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]


def fail(rank: int, how: str) -> None:
    if rank == 1:
        if how == "raise":
            raise ValueError("as asked")
        if how == "exit":
            sys.exit(3)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


@pytest.mark.parametrize(
    ("how", "kind", "text", "code", "name"),
    [
        ("raise", mp.ProcessRaisedException, "ValueError: as asked\n", None, None),
        ("exit", mp.ProcessExitedException, "process 1 terminated with exit code 3", 3, None),
        ("kill", mp.ProcessExitedException, "process 1 terminated with signal SIGKILL", -9, "SIGKILL"),
    ],
)
def test_a_failure_ends_the_others_and_is_told(
    how: str, kind: type[mp.ProcessException], text: str, code: int | None, name: str | None
) -> None:
    begin = time.monotonic()
    context = forked(fail, (how,), 3, join=False)
    with pytest.raises(kind) as caught:
        context.join()
    assert time.monotonic() - begin < 20
    error = caught.value
    assert str(error).endswith(text)
    assert (error.error_index, error.error_pid) == (1, context.pids()[1])
    assert (getattr(error, "exit_code", None), getattr(error, "signal_name", None)) == (code, name)
    assert not any(process.is_alive() for process in context.processes)
    if how == "raise":
        assert "-- Process 1 terminated with the following error:\nTraceback" in str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.__dict__) == (type(error), error.__dict__)
    assert context.join()


def wait_for(rank: int, event: Any) -> None:
    event.wait(60)


def test_join_with_a_time_out() -> None:
    event = mp.get_context("fork").Event()
    context = forked(wait_for, (event,), 2, join=False, daemon=True)
    assert context.processes[0].daemon
    assert not context.join(timeout=0.05)
    event.set()
    while not context.join(timeout=10):
        pass
    assert [process.exitcode for process in context.processes] == [0, 0]


def stubborn(rank: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if rank == 0:
        time.sleep(0.3)
        raise ValueError
    time.sleep(60)


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    context = forked(stubborn, (), 2, join=False)
    with pytest.raises(mp.ProcessRaisedException):
        context.join(grace_period=0.2)
    assert context.processes[1].exitcode == -signal.SIGKILL


def train(rank: int, size: int, port: str, queue: Any, culprit: int) -> None:
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "localhost", port
    dist.init_process_group("gloo", rank=rank, world_size=size)
    x = torch.ones(2) * (rank + 1)
    dist.all_reduce(x)
    assert not dist.is_torchelastic_launched()
    if rank == culprit:
        raise ValueError("as asked")
    dist.barrier()
    queue.put((rank, dist.get_rank(), dist.get_world_size(), x.tolist()))
    dist.destroy_process_group()


def test_the_processes_are_ranks() -> None:
    queue = mp.get_context("fork").SimpleQueue()
    forked(train, (2, free_port(), queue, -1))
    assert sorted(queue.get() for _ in range(2)) == [(0, 0, 2, [3.0, 3.0]), (1, 1, 2, [3.0, 3.0])]


@pytest.mark.parametrize("culprit", [0, 1])
def test_the_rank_that_failed_first_is_named(culprit: int) -> None:
    queue = mp.get_context("fork").SimpleQueue()
    with pytest.raises(mp.ProcessRaisedException, match="ValueError: as asked") as caught:
        forked(train, (2, free_port(), queue, culprit))
    assert caught.value.error_index == culprit
    assert "PeerFailed" not in str(caught.value)


SCRIPT = """
import os, sys
import torch
import torch.multiprocessing as mp
from torch.multiprocessing import Process, Queue, spawn

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))

def run(rank, model, queue, threads):
    assert torch.__name__ == "disttorch"
    queue.put((rank, sys.argv[1], model.weight.tolist(), __name__, os.environ["OMP_NUM_THREADS"] == threads))

if __name__ == "__main__":
    queue = mp.get_context("spawn").SimpleQueue()
    threads = str(max(1, len(os.sched_getaffinity(0)) // 2))
    mp.spawn(run, args=(Model(), queue, threads), nprocs=2)
    print(sorted(queue.get() for _ in range(2)), "OMP_NUM_THREADS" in os.environ)
"""


def test_spawn_in_a_script_for_torch(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "disttorch", "script.py", "argument"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "launcher")])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    row = ("argument", [1.0, 1.0, 1.0], "__mp_main__", True)
    assert done.stdout == f"{[(rank, *row) for rank in range(2)]} False\n"
    assert done.stderr == ""


def test_names_of_multiprocessing() -> None:
    import multiprocessing

    for name in multiprocessing.__all__:
        if name != "context":
            assert getattr(mp, name) is getattr(multiprocessing, name)
    assert torch.multiprocessing is mp
    mp.set_sharing_strategy("file_system")
    assert mp.get_sharing_strategy() in mp.get_all_sharing_strategies()
    with pytest.raises(AssertionError, match="a sharing strategy among"):
        mp.set_sharing_strategy("telepathy")
    with pytest.warns(UserWarning, match="renamed"):
        mp.SpawnContext([], [])
    with pytest.warns(FutureWarning, match="start_processes"):
        mp.spawn(fail, ("",), 0, start_method="fork")
