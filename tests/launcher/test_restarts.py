"""--max-restarts: all workers start again after a failure, apart from everything that was before."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SCRIPT = """
import json, os, pathlib, signal, sys, time
import numpy as np
import disttorch.distributed as dist
from disttorch.distributed import agent_link, runtime
rank, attempt = int(os.environ["RANK"]), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
here = pathlib.Path(__file__).parent
dist.init_process_group()
store = runtime.default_store()
seen = store.check(["left over"])
dist.barrier()
store.set("left over", "x")
x = np.full(1000, rank + 1.0)
dist.all_reduce(x)
fact = {"sum": x[0], "seen": seen, "run": agent_link.connect().welcome["run"], "key": agent_link.connect().welcome["store_key"].hex(),
        "allowed": os.environ["TORCHELASTIC_MAX_RESTARTS"], "id": os.environ["TORCHELASTIC_RUN_ID"], "time": time.time()}
(here / f"fact-{attempt}-{rank}").write_text(json.dumps(fact))
print("attempt", attempt, flush=True)
dist.barrier()
"""


def start(folder: Path, ending: str, *options: str) -> subprocess.Popen[str]:
    (folder / "train.py").write_text(SCRIPT + ending)
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "disttorch_run",
            "--nproc-per-node",
            "2",
            "--oversubscribe",
            *options,
            folder / "train.py",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def facts(folder: Path) -> dict[str, dict]:
    return {path.name[5:]: json.loads(path.read_text()) for path in sorted(folder.glob("fact-*"))}


def test_after_a_failure_all_ranks_start_again_apart_from_what_was(tmp_path: Path) -> None:
    process = start(
        tmp_path,
        "if attempt < 2 and rank == attempt: os.kill(os.getpid(), signal.SIGKILL) if rank else sys.exit(3)\n"
        "if attempt < 2: dist.barrier()\n",
        "--max-restarts",
        "3",
        "--log-dir",
        str(tmp_path / "logs"),
        "--trace",
        str(tmp_path / "trace.json"),
    )
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    found = facts(tmp_path)
    assert list(found) == ["0-0", "0-1", "1-0", "1-1", "2-0", "2-1"]
    assert {fact["sum"] for fact in found.values()} == {3.0}
    assert not any(fact["seen"] for fact in found.values())
    assert {fact["allowed"] for fact in found.values()} == {"3"}
    assert len({fact["id"] for fact in found.values()}) == 1
    assert len({fact["run"] for fact in found.values()}) == len({fact["key"] for fact in found.values()}) == 3
    assert "exited with code 3; the other ranks are stopped (attempt 1 of 4)" in err
    assert "was killed by signal 9 (SIGKILL); the other ranks are stopped (attempt 2 of 4)" in err
    assert "disttorch-run: starting all ranks again, restart 1 of 3\n" in err
    assert "disttorch-run: starting all ranks again, restart 2 of 3\n" in err
    assert err.count("the trace of all ranks is in") == 1
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    reductions = [event for event in events if event.get("ph") == "X" and "all_reduce" in event["name"]]
    assert len(reductions) == 6  # two ranks, three attempts
    [logs] = (tmp_path / "logs").iterdir()
    for attempt in range(3):
        assert (logs / f"attempt_{attempt}" / "0" / "stdout.log").read_text() == f"attempt {attempt}\n"


def test_the_last_failure_decides_and_a_given_port_is_kept(tmp_path: Path) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = start(
        tmp_path,
        f"assert os.environ['MASTER_PORT'] == '{port}'\nif rank == 1: sys.exit(5 + attempt)\ndist.barrier()\n",
        "--max-restarts=1",
        f"--master-port={port}",
    )
    _, err = process.communicate(timeout=60)
    assert process.returncode == 6
    assert len(facts(tmp_path)) == 4
    assert "exited with code 6; the other ranks are stopped (attempt 2 of 2)" in err.splitlines()[-1]


def test_ctrl_c_ends_a_run_without_a_restart(tmp_path: Path) -> None:
    process = start(tmp_path, "time.sleep(60)\n", "--max-restarts", "3")
    until = time.monotonic() + 40
    while len(list(tmp_path.glob("fact-*"))) < 2:
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert "starting all ranks again" not in err
    assert len(facts(tmp_path)) == 2


def test_ctrl_c_while_the_ranks_of_a_failed_attempt_end(tmp_path: Path) -> None:
    process = start(
        tmp_path,
        """
if rank == 1:
    sys.exit(3)
try:
    dist.barrier()
except dist.PeerFailed:
    (here / "saving").touch()
    time.sleep(60)
""",
        "--max-restarts",
        "3",
    )
    until = time.monotonic() + 40
    while not (tmp_path / "saving").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert "starting all ranks again" not in err


def test_signals_of_ones_own_choice_are_passed_on(tmp_path: Path) -> None:
    process = start(
        tmp_path,
        """
signal.signal(signal.SIGUSR1, lambda *_: ((here / f"told-{rank}").touch(), os._exit(0)))
(here / f"ready-{rank}").touch()
time.sleep(60)
""",
        "--signals-to-handle",
        "SIGTERM,SIGUSR1",
    )
    until = time.monotonic() + 40
    while len(list(tmp_path.glob("ready-*"))) < 2:
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGUSR1)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGUSR1
    assert len(list(tmp_path.glob("told-*"))) == 2
