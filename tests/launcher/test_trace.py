"""`disttorch-run --trace`: one file with what all ranks did, also when the run fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from disttorch_run.trace import TraceFile

SCRIPT = """
import os, signal, subprocess, sys, time
import numpy as np
import disttorch.distributed as dist
dist.init_process_group()
rank = dist.get_rank()
dist.barrier()
if rank == 1:
    with dist.trace.span("be late"):
        time.sleep(0.2)
dist.all_reduce(np.ones(1000, np.float32))
dist.broadcast(np.ones(3), 0, async_op=True).wait()
"""


def run(folder: Path, *options: str, script: str = "", environment: dict[str, str] | None = None) -> tuple[int, str]:
    (folder / "train.py").write_text(SCRIPT + script)
    command = [sys.executable, "-m", "disttorch_run", "--nproc-per-node", "2", "--oversubscribe", *options, "train.py"]
    variables = {**os.environ, **(environment or {})}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, env=variables)
    return done.returncode, done.stderr


def events_of(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["traceEvents"]  # type: ignore[no-any-return]


def spans(events: list[dict[str, Any]], name: str) -> dict[int, dict[str, Any]]:
    return {event["pid"]: event for event in events if event["ph"] == "X" and event["name"] == name}


def test_all_ranks_are_in_one_file_which_says_who_waited_for_whom(tmp_path: Path) -> None:
    code, said = run(tmp_path, "--trace", "trace.json")
    assert (code, said.count("the trace of all ranks is in")) == (0, 1)
    events = events_of(tmp_path / "trace.json")
    names = {e["pid"]: e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "process_name"}
    assert names == {0: "rank 0", 1: "rank 1"}
    sides, late = spans(events, "zmq:all_reduce"), spans(events, "be late")[1]
    for side in sides.values():
        assert side["cat"] == "communication"
        assert (side["args"]["bytes"], side["args"]["collective_seq_id"], side["args"]["last_rank"]) == (4000, 1, 1)
    assert sides[1]["args"]["waiting_us"] == 0
    assert 20_000 < sides[0]["args"]["waiting_us"] <= sides[0]["dur"]
    assert sides[0]["args"]["waiting_us"] == pytest.approx(sides[1]["ts"] - sides[0]["ts"], abs=0.01)
    assert sides[0]["ts"] < late["ts"] + late["dur"] <= sides[1]["ts"]  # one clock for all ranks
    flows = [e for e in events if e["ph"] in "sf" and e["ts"] == sides[1]["ts"]]
    assert [(e["ph"], e["pid"]) for e in flows] == [("s", 1), ("f", 0)]
    assert flows[0]["id"] == flows[1]["id"]
    threads = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    sent = spans(events, "zmq:broadcast")[0]
    assert threads[0, sent["tid"]] == "disttorch-communication"
    assert threads[0, sides[0]["tid"]] == "MainThread"


KILLED = """
subprocess.run([sys.executable, "-c", "import disttorch"], check=True)
if rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
dist.barrier()
"""


def test_a_killed_rank_is_in_the_file_and_the_variable_does_the_same(tmp_path: Path) -> None:
    code, _ = run(tmp_path, script=KILLED, environment={"DISTTORCH_TRACE": "trace.json"})
    assert code == 137
    events = events_of(tmp_path / "trace.json")
    assert spans(events, "zmq:broadcast").keys() == {0, 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trace.json", "train.py"]


AGAIN = """
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and rank == 1:
    raise ValueError("once")
dist.barrier()
"""


def test_a_run_that_was_started_again_is_in_the_file_with_all_its_attempts(tmp_path: Path) -> None:
    code, said = run(tmp_path, "--trace", "trace.json", "--max-restarts", "1", script=AGAIN)
    assert (code, said.count("the trace of all ranks is in")) == (0, 1)
    late = [event for event in events_of(tmp_path / "trace.json") if event["name"] == "be late"]
    assert len({event["tid"] for event in late}) == 2


@pytest.mark.parametrize("path", ["missing/trace.json", "."])
def test_a_file_that_cannot_be_written_is_refused_before_anything_starts(tmp_path: Path, path: str) -> None:
    code, said = run(tmp_path, "--trace", path)
    assert (code, len(said.splitlines())) == (2, 1)
    assert said.startswith(f"disttorch-run: --trace {path}: ")


def test_attempts_follow_each_other_in_one_file(tmp_path: Path) -> None:
    from disttorch.distributed import trace
    from disttorch.distributed.ring import Ring

    file = TraceFile(tmp_path / "trace.json")
    for attempt in range(2):
        descriptors = {rank: trace.LAYOUT.create() for rank in range(2)}
        for rank, fd in descriptors.items():
            os.environ[trace.FD_VARIABLE] = str(os.dup(fd))
            tracer = trace.Tracer(Ring.open(trace.LAYOUT, trace.FD_VARIABLE))
            begun = 1_000_000 * attempt + 1000 * rank
            tracer.write("zmq:barrier", trace.COMMUNICATION, begun, begun + 2000 * (attempt + 1), {}, 0, 7)
        file.keep(descriptors)
        for fd in descriptors.values():
            os.close(fd)
    assert str(tmp_path / "trace.json") in file.write()
    calls = [event for event in events_of(tmp_path / "trace.json") if event["ph"] == "X"]
    assert [(c["pid"], c["ts"], c["args"]["waiting_us"], c["args"]["last_rank"]) for c in calls] == [
        (0, 0.0, 1.0, 1),
        (0, 1000.0, 1.0, 1),
        (1, 1.0, 0.0, 1),
        (1, 1001.0, 0.0, 1),
    ]
